//! Suspensions in the cluster: what stands in an annotation of a node, or of the ConfigMap that all nodes share.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt as _;
use kube::core::ObjectList;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kubernetes::{About, KubeCluster};
use super::names::{BUDGETS, NAMESPACE, SUSPENDED};
use super::requests;
use crate::model::observed::{Scope, Suspension};
use crate::ports::{Port, PortError, Reason};

/// The annotation as we write it.
#[derive(Serialize, Deserialize)]
struct Told {
    reason: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    release: bool,
}

/// States of the operator's upgrade of the driver in which it leaves the node alone: it is not concerned, waits for its turn,
/// or is done (k8s-operator-libs, pkg/upgrade/consts.go).
const NO_UPGRADE: [&str; 3] = ["", "upgrade-required", "upgrade-done"];

/// What the GPU operator's label tells of a node: whoever unloads the driver can't while we have it open.
pub(super) fn upgrade(state: &str) -> Option<Suspension> {
    let reason = format!("the GPU operator upgrades the driver: {state}").replace(char::is_control, " ");
    let release = !NO_UPGRADE.contains(&state);
    release.then(|| Suspension { reason, scope: Scope::Operator, release, ..Suspension::default() })
}

/// What an annotation tells. Whoever writes one by hand means it, whatever he writes.
pub(super) fn read(text: &str, scope: Scope) -> Suspension {
    let Told { reason, since, by, until, release } = serde_json::from_str(text).unwrap_or_else(|_| {
        let reason = if text.trim().is_empty() { "no reason was given" } else { text };
        Told { reason: reason.to_owned(), since: String::new(), by: None, until: None, release: false }
    });
    // It is told within a line, to terminals, too.
    let plain = |text: String| text.replace(char::is_control, " ");
    let (by, until) = (by.map(plain), until.map(plain));
    Suspension { reason: plain(reason), since: plain(since), by, scope, until, release }
}

fn write(suspension: &Suspension) -> String {
    let Suspension { reason, since, by, scope: _, until, release } = suspension.clone();
    // It has strings and a bool alone.
    serde_json::to_string(&Told { reason, since, by, until, release }).unwrap_or_default()
}

fn annotation(becomes: Option<&Suspension>) -> Value {
    json!({ "metadata": { "annotations": { SUSPENDED: becomes.map(write) } } })
}

impl KubeCluster {
    /// Who suspended which node in the cluster, of all nodes: asked once, without a watch.
    ///
    /// # Errors
    ///
    /// Where the nodes may not be listed, or the API server does not answer.
    pub async fn suspensions(&self) -> Port<BTreeMap<String, Option<Suspension>>> {
        let listed: ObjectList<Node> = self.ask(requests::nodes_all(), "nodes").await?.read()?;
        let of = |node: &Node| node.annotations().get(SUSPENDED).map(|text| read(text, Scope::Node));
        Ok(listed.items.iter().map(|node| (node.name_any(), of(node))).collect())
    }

    /// Who suspended the whole fleet.
    ///
    /// # Errors
    ///
    /// As [`KubeCluster::suspensions`], and where what all nodes share is not there.
    pub async fn fleet_suspension(&self) -> Port<Option<Suspension>> {
        let map: ConfigMap = self.ask(requests::budgets(), BUDGETS).await?.read().map_err(not_installed)?;
        Ok(map.annotations().get(SUSPENDED).map(|text| read(text, Scope::Fleet)))
    }

    /// Suspends a node, or resumes it.
    ///
    /// # Errors
    ///
    /// Where it may not be changed, is gone, or the API server does not answer.
    pub async fn suspend_node(&self, node: &str, becomes: Option<&Suspension>) -> Port<()> {
        self.ask(requests::patch_node(node, &annotation(becomes)), node).await?.done()
    }

    /// Suspends every node, or resumes those that were suspended so.
    ///
    /// # Errors
    ///
    /// As [`KubeCluster::fleet_suspension`].
    pub async fn suspend_fleet(&self, becomes: Option<&Suspension>) -> Port<()> {
        let changed = self.ask(requests::patch_budgets(&annotation(becomes)), BUDGETS).await?;
        changed.done().map_err(not_installed)
    }

    /// Records who suspended or resumed what, and why.
    ///
    /// # Errors
    ///
    /// Where events may not be made, or the API server does not answer.
    pub async fn tell_suspension(&self, node: Option<&str>, reason: Reason, message: &str) -> Port<()> {
        let about = match node {
            Some(name) => About { kind: "Node", namespace: None, name, uid: None },
            None => About { kind: "ConfigMap", namespace: Some(NAMESPACE), name: BUDGETS, uid: None },
        };
        // An agent may report under its node's name alone.
        self.tell(about, reason, message, node.unwrap_or(BUDGETS)).await
    }
}

fn not_installed(error: PortError) -> PortError {
    if !error.code.starts_with("404") {
        return error;
    }
    let message = format!("ConfigMap {NAMESPACE}/{BUDGETS} is not there: install packaging/kubernetes first");
    PortError { message, ..error }
}
