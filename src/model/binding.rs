//! What a binding makes of a workload of the cluster, and what is recorded of it there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::identity::Digest;
use super::observed::MigStrategy;
use super::policy::Allocation;
use super::profile::ProfileName;

/// An object with a pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// `apps/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `Deployment`…
    #[serde(rename = "workload_kind")]
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where its pod template is: keys with dots between them.
    #[serde(default)]
    pub path: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The kinds whose API version and pod template Sectile knows.
const KNOWN: [(&str, &str, &str); 6] = [
    ("Deployment", "apps/v1", "spec.template"),
    ("StatefulSet", "apps/v1", "spec.template"),
    ("DaemonSet", "apps/v1", "spec.template"),
    ("ReplicaSet", "apps/v1", "spec.template"),
    ("Job", "batch/v1", "spec.template"),
    ("CronJob", "batch/v1", "spec.jobTemplate.spec.template"),
];

impl Object {
    /// The names of the known kinds.
    pub fn kinds() -> [&'static str; 6] {
        KNOWN.map(|(kind, ..)| kind)
    }

    /// The API version of a known kind, and where its pod template is.
    pub fn known(kind: &str) -> Option<(&'static str, &'static str)> {
        KNOWN.iter().find(|(known, ..)| *known == kind).map(|(_, version, path)| (*version, *path))
    }

    /// Whether it is the same object, wherever its pod template is looked for.
    pub fn is(&self, other: &Object) -> bool {
        let Object { api_version, kind, namespace, name, path: _ } = self;
        (api_version, kind, namespace, name) == (&other.api_version, &other.kind, &other.namespace, &other.name)
    }

    /// Whether it is of the kind that this word means without an API version.
    pub fn is_known(&self) -> bool {
        Object::known(&self.kind).is_some_and(|(version, _)| version == self.api_version)
    }
}

/// Where the pods of a binding may run: where it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Affinity {
    /// On nodes with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// On one of these nodes; empty: on whichever.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
}

impl Affinity {
    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.names.is_empty()
    }

    /// Whether a node may be one of them.
    pub fn admits(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let named = self.names.is_empty() || self.names.contains(name);
        named && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it lets pods run nowhere else than another does.
    pub fn is_within(&self, other: &Affinity) -> bool {
        let labels = other.labels.iter().all(|(key, value)| self.labels.get(key) == Some(value));
        let names = !self.names.is_empty() && self.names.is_subset(&other.names);
        labels && (other.names.is_empty() || names)
    }
}

/// What the names of our ResourceClaimTemplates begin with.
const OURS: &str = "sectile-";

/// What a workload's pods are to ask for. It says everything: whoever carries it out has no choice left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bind {
    /// The binding's name.
    pub binding: String,
    /// The workload.
    #[serde(flatten)]
    pub object: Object,
    /// The container that asks, where the binding names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// The profile that each pod asks for, as the driver names it.
    pub profile: ProfileName,
    /// How many of it.
    pub per_replica: u32,
    /// How the nodes that its pods may run on name MIG devices.
    #[serde(skip_serializing_if = "MigStrategy::is_mixed", default)]
    pub strategy: MigStrategy,
    /// How instances reach pods there: `dra` by ResourceClaims, else as a resource of the container.
    #[serde(default)]
    pub allocation: Allocation,
    /// Where its pods may run.
    #[serde(default)]
    pub affinity: Affinity,
}

impl Bind {
    /// The resource that a container asks for. What nobody advertises is called after the profile all the same.
    pub fn resource(&self) -> String {
        self.strategy.resource(self.profile).unwrap_or_else(|| self.profile.resource())
    }

    /// What its pods ask for: resources and numbers; nothing where instances come by claims.
    pub fn requests(&self) -> BTreeMap<String, u32> {
        match self.claim_template() {
            Some(_) => BTreeMap::new(),
            None => BTreeMap::from([(self.resource(), self.per_replica)]),
        }
    }

    /// The ResourceClaimTemplate that its pods name; `None`: they ask for a resource. Its spec can't be changed, so its name
    /// follows from what it says; and from the binding, so that no other uses it.
    pub fn claim_template(&self) -> Option<String> {
        let (profile, number) = (self.profile.to_string(), self.per_replica.to_string());
        let parts = [self.binding.as_bytes(), profile.as_bytes(), number.as_bytes()];
        (self.allocation == Allocation::Dra).then(|| format!("{OURS}{}", Digest::of(parts).short()))
    }

    /// Whether a pod template that asks for this, names these claim templates and lets its pods run there is what the
    /// binding says.
    pub fn is_met(
        &self,
        requests: &BTreeMap<String, u32>,
        claims: &BTreeSet<String>,
        affinity: Option<&Affinity>,
    ) -> bool {
        let claimed = match self.claim_template() {
            Some(template) => claims.contains(&template),
            None => !claims.iter().any(|claim| claim.starts_with(OURS)),
        };
        let there = self.affinity.is_empty() || affinity.is_some_and(|affinity| affinity.is_within(&self.affinity));
        *requests == self.requests() && claimed && there
    }
}

/// A binding that was carried out, as the cluster records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// What was done.
    #[serde(flatten)]
    pub bind: Bind,
    /// By which revision of the tree.
    pub revision: String,
}

/// The newest of the revisions that were taken up in this order, where ours was taken up before it.
pub fn newer<'a>(taken_up: &'a [String], ours: &str) -> Option<&'a str> {
    let newest = taken_up.last()?;
    (newest != ours && taken_up.iter().any(|revision| revision == ours)).then_some(newest)
}
