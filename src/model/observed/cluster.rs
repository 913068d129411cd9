//! What belongs to no node: pods, budgets and workloads of the whole cluster, as it tells them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::binding::{Affinity, Bound};
use super::super::place::Places;
use super::super::plan::NodeState;
use super::{Gap, Known};

/// What belongs to no node: pods, budgets and workloads of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedCluster {
    /// Pods that hold or want GPU resources, by namespace and name.
    pub pods: Vec<Pod>,
    /// Disruption budgets.
    pub budgets: Vec<Budget>,
    /// Workloads that bindings name, or that own GPU pods.
    pub workloads: Vec<WorkloadState>,
    /// Bindings that were carried out; unknown where nobody looked, or may.
    #[serde(default)]
    pub bound: Known<Vec<Bound>>,
    /// Free advertised instances by node and resource: allocatable less what bound pods ask for. Tainted nodes too.
    pub free: BTreeMap<String, BTreeMap<String, u32>>,
    /// Pods that only a kubelet knows, with the devices that it gave them: whose they are nobody tells.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub strangers: Vec<Pod>,
    /// What could not be seen of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gaps: Vec<Gap>,
    /// How its nodes stand, by name; documents tell of their own nodes alone.
    #[serde(skip)]
    pub peers: BTreeMap<String, Peer>,
    /// What is taken of the budgets that nodes share; unknown where nobody looked.
    #[serde(skip)]
    pub places: Known<Places>,
}

/// A node of the cluster, as it shows itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How it stands, as it was shown last.
    pub state: Option<NodeState>,
    /// Which tree that is about.
    pub revision: Option<String>,
    /// Whether our taint is on it.
    pub tainted: bool,
    /// Whether we paused what advertises its GPUs.
    pub clients_paused: bool,
}

impl Peer {
    /// Whether it is under way: somebody tainted or paused it for a plan, and it counts until that is taken back.
    pub fn is_going(&self) -> bool {
        self.tainted || self.clients_paused
    }
}

/// A pod that holds or wants GPU resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: the same name with another UID is another pod.
    pub uid: String,
    /// The node it is bound to.
    pub node: Option<String>,
    /// What it is doing.
    pub phase: PodPhase,
    /// Its controller, `None` for a pod without one.
    pub owner: Option<Owner>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// GPU resources that it asks for: name and number.
    pub requests: BTreeMap<String, u32>,
    /// Labels of the nodes that it may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Nodes that bear those labels and on which it may not run all the same: affinity, taints but ours, a cordon. Also
    /// its own, where it would not be put there again.
    #[serde(default)]
    pub barred: BTreeSet<String>,
    /// UUIDs of the devices that it holds; unknown where the kubelet would not tell.
    pub devices: Known<BTreeSet<String>>,
    /// Whether it has emptyDir volumes.
    pub empty_dir: bool,
    /// Whether the kubelet's own manifest made it (a mirror pod).
    pub mirror: bool,
    /// Its own grace, in seconds.
    pub grace_period_s: u64,
    /// The disruption budgets that count its eviction, `namespace/name`.
    #[serde(default)]
    pub budgets: BTreeSet<String>,
    /// Whether the kubelet has admitted or rejected it, once it is bound to a node.
    #[serde(default)]
    pub admitted: bool,
    /// Why the scheduler finds no node for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unschedulable: Option<String>,
    /// ResourceClaims that other pods hold, too.
    #[serde(default)]
    pub shared_claims: BTreeSet<String>,
}

/// What a pod is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodPhase {
    /// Not running yet.
    Pending,
    /// Running and ready.
    Running,
    /// Deleted, its grace running.
    Terminating,
    /// It ended by itself, or was rejected.
    Ended,
}

/// A pod's controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// `Deployment` (through its ReplicaSet), `StatefulSet`, `DaemonSet`, `Job`…
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A PodDisruptionBudget. Each pod tells which cover it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many evictions it allows now.
    pub allowed: u32,
}

/// A workload of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadState {
    /// `Deployment`…
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Wanted pods.
    pub replicas: u32,
    /// Ready pods.
    pub ready: u32,
    /// GPU resources in its pod template: name and number.
    pub requests: BTreeMap<String, u32>,
    /// ResourceClaimTemplates that its pod template names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub claims: BTreeSet<String>,
    /// Where its pod template lets its pods run; `None`: it says so in another way than a binding can.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// Whether its pod template can't be changed any more: a Job that has begun.
    #[serde(default)]
    pub fixed: bool,
    /// So many of its pods a new template takes down at once.
    #[serde(default)]
    pub down: u32,
    /// Whether no new template is being rolled out: every pod that is made anew by itself has been.
    #[serde(default)]
    pub settled: bool,
    /// The revision that it bears, where a binding has set it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
}

impl WorkloadState {
    /// Whether it is the workload of that kind, namespace and name.
    pub fn is(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.kind == kind && self.namespace == namespace && self.name == name
    }
}

impl ObservedCluster {
    /// The workload of that kind, namespace and name.
    pub fn workload(&self, kind: &str, namespace: &str, name: &str) -> Option<&WorkloadState> {
        self.workloads.iter().find(|workload| workload.is(kind, namespace, name))
    }

    /// What whoever takes a pod's place will ask for: what the pod template of its workload says by now, where it is known.
    pub fn successor<'a>(&'a self, pod: &'a Pod) -> &'a BTreeMap<String, u32> {
        let owner = pod.owner.as_ref();
        let workload = owner.and_then(|owner| self.workload(&owner.kind, &pod.namespace, &owner.name));
        workload.map(|workload| &workload.requests).filter(|requests| !requests.is_empty()).unwrap_or(&pod.requests)
    }
}

impl Pod {
    /// `namespace/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
