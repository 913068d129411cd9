//! A node as the API server tells it, and what changes it: the taint, the pause, what is shown.
//!
//! Every patch bears the resourceVersion of what it was made from, since a list of taints is replaced as a whole. What was
//! there before, and for which plan it was changed, stands in an annotation that the same patch writes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{
    DEPLOY, DISCOVERED, GPU_RESOURCE, HAMI, HAMI_MIG, MARK, MESSAGE, MIG_RESOURCE, NOT_READY, OBSERVED, PAUSED,
    REVISION, RUNS, SLICER, STATE, STRATEGY, SUSPENDED, TAINT, UPGRADE,
};
use super::suspension;
use crate::model::observed::{ForeignWriter, MigStrategy, Peer, Scope, Suspension};
use crate::model::{Digest, NodeState};
use crate::ports::{Shown, foremost};

/// What is needed of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeItem {
    pub(super) name: String,
    pub(super) uid: String,
    version: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    /// Those that matter here.
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
    pub(super) cordoned: bool,
    pub(super) ready: bool,
    /// Of GPUs and MIG devices.
    pub(super) allocatable: BTreeMap<String, u32>,
    /// Whether the dynamic accelerator slicer offers some.
    sliced: bool,
}

/// How a node says that it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// A state of the closed list, as the node's agent wrote it.
    pub state: Option<String>,
    /// Which tree it was compared with.
    pub revision: Option<String>,
    /// Why it does not go on.
    pub message: Option<String>,
}

/// What stands in the annotation [`MARK`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The plan that the node is changed by.
    plan: Digest,
    /// Since when, RFC 3339.
    since: String,
    /// The node's deploy labels before its clients were paused; `None`: they are not paused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    paused: Option<BTreeMap<String, String>>,
}

impl NodeItem {
    /// What is needed of a node.
    pub(super) fn of(node: &Node) -> Self {
        let ours = |key: &&String| [MARK, MESSAGE, REVISION, OBSERVED, SUSPENDED, HAMI].contains(&key.as_str());
        let annotations = node.annotations().iter().filter(|(key, _)| ours(key));
        let status = node.status.clone().unwrap_or_default();
        let spec = node.spec.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let gpus = |resource: &str| resource.starts_with(GPU_RESOURCE) || resource.starts_with(MIG_RESOURCE);
        let allocatable = status.allocatable.iter().flatten().filter(|(resource, _)| gpus(resource));
        NodeItem {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            version: node.resource_version(),
            labels: node.labels().clone(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
            taints: spec.taints.unwrap_or_default(),
            cordoned: spec.unschedulable.unwrap_or(false),
            ready,
            allocatable: allocatable.map(|(resource, n)| (resource.clone(), count(n))).collect(),
            sliced: status.allocatable.iter().flatten().any(|(resource, _)| resource.starts_with(SLICER)),
        }
    }

    /// What it has published of itself, and how it says that it stands.
    pub(super) fn published(&self) -> (Option<String>, Published) {
        let told = |key: &str| self.annotations.get(key).cloned();
        let state = self.labels.get(STATE).cloned();
        (told(OBSERVED), Published { state, revision: told(REVISION), message: told(MESSAGE) })
    }

    /// The node as it shows itself to the others. A state that this version does not know is none.
    pub(super) fn peer(&self) -> Peer {
        let state = self.labels.get(STATE).and_then(|word| NodeState::ALL.iter().find(|state| state.word() == word));
        Peer {
            labels: self.labels.clone(),
            state: state.copied(),
            revision: self.annotations.get(REVISION).cloned(),
            tainted: self.is_tainted(),
            clients_paused: self.is_paused(),
        }
    }

    /// Who told in the cluster that it is to be left alone.
    pub(super) fn suspended(&self, now: Timestamp) -> Option<Suspension> {
        let told = self.annotations.get(SUSPENDED).map(|text| suspension::read(text, Scope::Node));
        let upgrade = self.labels.get(UPGRADE).and_then(|state| suspension::upgrade(state));
        foremost([told, upgrade], now)
    }

    pub(super) fn is_tainted(&self) -> bool {
        self.taints.iter().any(|taint| taint.key == TAINT)
    }

    /// What stands in the annotation, as far as it can be read.
    fn mark(&self) -> Option<Mark> {
        self.annotations.get(MARK).and_then(|text| serde_json::from_str(text).ok())
    }

    /// What the deploy labels of paused clients were; `None`: they are not paused. Of a mark that can't be read the labels
    /// tell: nobody but us leaves it.
    fn before(&self) -> Option<BTreeMap<String, String>> {
        if let Some(mark) = self.mark() {
            return mark.paused;
        }
        self.annotations.get(MARK)?;
        let paused = |key: &&&str| self.labels.get(**key).is_some_and(|value| value == PAUSED);
        let before: BTreeMap<String, String> =
            DEPLOY.iter().filter(paused).map(|key| ((*key).to_owned(), RUNS.to_owned())).collect();
        (!before.is_empty()).then_some(before)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.before().is_some()
    }

    /// How the device plugin names MIG devices. GPU feature discovery leaves the label out where the strategy is `none`;
    /// where nobody else writes its labels either, the strategy is the usual one.
    pub(super) fn strategy(&self) -> MigStrategy {
        let offers = || self.allocatable.keys().any(|resource| resource.starts_with(MIG_RESOURCE));
        match self.labels.get(STRATEGY).map(String::as_str) {
            Some("single") => MigStrategy::Single,
            // Somebody has written it.
            Some("none") => MigStrategy::None,
            None if self.labels.contains_key(DISCOVERED) && !offers() => MigStrategy::None,
            _ => MigStrategy::Mixed,
        }
    }

    /// Other tools that write the node's MIG state, as far as the node itself tells; mig-manager and nos are told by labels.
    pub(super) fn writers(&self) -> BTreeSet<ForeignWriter> {
        let hami = self.annotations.get(HAMI).is_some_and(|told| HAMI_MIG.iter().any(|mig| told.contains(mig)));
        let hami = hami.then_some(ForeignWriter::Hami);
        hami.into_iter().chain(self.sliced.then_some(ForeignWriter::AcceleratorSlicer)).collect()
    }

    /// The deploy labels of clients that run, so that they are to be paused. Another value than `true` pauses a client
    /// already: for somebody else, or (`false`) for good.
    fn deployed(&self) -> BTreeMap<String, String> {
        let runs = |key: &&&str| self.labels.get(**key).is_some_and(|value| value == RUNS);
        DEPLOY.iter().filter(runs).map(|key| ((*key).to_owned(), RUNS.to_owned())).collect()
    }

    /// Whether a node label deploys the device plugin here, as NVIDIA's operator does, or would if it were not paused.
    pub(super) fn is_operated(&self) -> bool {
        DEPLOY.first().and_then(|key| self.labels.get(*key)).is_some_and(|value| value != "false")
    }

    /// The patch that puts our taint on for a plan; `None`: it is on.
    pub(super) fn taint(&self, plan: &Digest, now: &str) -> Option<Value> {
        if self.is_tainted() && self.annotations.contains_key(MARK) {
            return None;
        }
        let mark = self.marked(plan, now);
        let mut taints: Vec<Taint> = self.taints.iter().filter(|taint| taint.key != TAINT).cloned().collect();
        taints.push(Taint { key: TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() });
        Some(self.patch(json!({ MARK: text(&mark) }), json!({}), Some(&taints)))
    }

    /// The patch that takes our taint off; `None`: it is off.
    pub(super) fn untaint(&self) -> Option<Value> {
        let paused = self.is_paused();
        if !self.is_tainted() && (paused || !self.annotations.contains_key(MARK)) {
            return None;
        }
        let taints: Vec<Taint> = self.taints.iter().filter(|taint| taint.key != TAINT).cloned().collect();
        let annotations = if paused { json!({}) } else { json!({ MARK: null }) };
        Some(self.patch(annotations, json!({}), Some(&taints)))
    }

    /// The patch that pauses the clients for a plan; `None`: they are.
    pub(super) fn pause(&self, plan: &Digest, now: &str) -> Option<Value> {
        if self.is_paused() {
            return None;
        }
        let before = self.deployed();
        let labels: Value = before.keys().map(|key| (key.clone(), Value::from(PAUSED))).collect();
        let mark = Mark { paused: Some(before), ..self.marked(plan, now) };
        Some(self.patch(json!({ MARK: text(&mark) }), labels, None))
    }

    /// The patch that resumes the clients; `None`: they run.
    pub(super) fn resume(&self) -> Option<Value> {
        let before = self.before()?;
        // What somebody has changed meanwhile is theirs.
        let still = |key: &&String| self.labels.get(*key).is_some_and(|value| value == PAUSED);
        let labels: Value = before
            .iter()
            .filter(|(key, _)| still(key))
            .map(|(key, was)| (key.clone(), Value::from(was.clone())))
            .collect();
        let mark = self.mark().filter(|_| self.is_tainted());
        let annotation = mark.map_or(Value::Null, |mark| Value::from(text(&Mark { paused: None, ..mark })));
        Some(self.patch(json!({ MARK: annotation }), labels, None))
    }

    /// The patch that shows how it stands; `None`: it does.
    pub(super) fn show(&self, shown: &Shown<'_>) -> Option<Value> {
        let Shown { state, revision, message, view } = *shown;
        let mut annotations = BTreeMap::from([(REVISION, Some(revision)), (MESSAGE, message)]);
        annotations.extend(view.map(|view| (OBSERVED, Some(view))));
        annotations.retain(|key, value| self.annotations.get(*key).map(String::as_str) != *value);
        let labels = match self.labels.get(STATE) {
            Some(shown) if shown == state.word() => json!({}),
            _ => json!({ STATE: state.word() }),
        };
        // Autoscaled nodes come with it, so that nothing lands on them before they are cut.
        let new = state == NodeState::Converged && self.taints.iter().any(|taint| taint.key == NOT_READY);
        let taints: Vec<Taint> = self.taints.iter().filter(|taint| taint.key != NOT_READY).cloned().collect();
        if annotations.is_empty() && labels == json!({}) && !new {
            return None;
        }
        Some(self.patch(json!(annotations), labels, new.then_some(&taints)))
    }

    /// The patch that sets a label; `None`: it is set.
    pub(super) fn label(&self, key: &str, value: &str) -> Option<Value> {
        let set = self.labels.get(key).is_some_and(|now| now == value);
        (!set).then(|| self.patch(json!({}), json!({ key: value }), None))
    }

    fn marked(&self, plan: &Digest, now: &str) -> Mark {
        let paused = self.before();
        Mark { plan: plan.clone(), since: now.to_owned(), paused }
    }

    fn patch(&self, annotations: Value, labels: Value, taints: Option<&[Taint]>) -> Value {
        let full = |value: &Value| value.as_object().is_some_and(|object| !object.is_empty());
        let mut metadata = serde_json::Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(self.version));
        for (key, value) in [("annotations", annotations), ("labels", labels)].into_iter().filter(|(_, v)| full(v)) {
            metadata.insert(key.to_owned(), value);
        }
        match taints {
            Some(taints) => json!({ "metadata": metadata, "spec": { "taints": taints } }),
            None => json!({ "metadata": metadata }),
        }
    }
}

fn text(mark: &Mark) -> String {
    // It has strings alone.
    serde_json::to_string(mark).unwrap_or_default()
}

/// A number of devices. A quantity may be written with a suffix (`1k`), though no kubelet does so for devices.
pub(super) fn count(quantity: &Quantity) -> u32 {
    let text = quantity.0.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text.get(digits.len()..) {
        Some("k") => 1000,
        Some("M") => 1_000_000,
        _ => 1,
    };
    digits.parse::<u32>().unwrap_or(0).saturating_mul(factor)
}
