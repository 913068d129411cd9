//! What the tree wants, resolved for nodes: precedence is settled, hardware is not yet asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::binding::{Affinity, Object};
use super::identity::{Revision, Source};
use super::plan::Block;
use super::policy::Policy;
use super::profile::{ComputeName, ProfileName};

/// What the tree wants of the nodes that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which tree.
    pub revision: Revision,
    /// By node name.
    pub nodes: BTreeMap<String, DesiredNode>,
    /// Every binding of the tree, in path and line order.
    pub bindings: Vec<Arc<Binding>>,
    /// What it wants of other nodes of the cluster, which are not planned: budgets are shared with them.
    #[serde(skip)]
    pub peers: BTreeMap<String, DesiredNode>,
    /// What holds back the whole tree, also what belongs to no node; each node tells it too.
    #[serde(default)]
    pub blocked: Vec<Block>,
}

/// What the tree wants of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredNode {
    /// The node's name.
    pub node: String,
    /// Where the layout that holds for the node is selected; `None`: no layout file, all GPUs unmanaged.
    pub layout: Option<Source>,
    /// Less specific layout files that match too.
    pub shadows: Vec<Source>,
    /// GPUs claimed by an entry without `count`, by UUID. A GPU in neither `gpus` nor `shared` is unmanaged.
    pub gpus: BTreeMap<String, GpuGoal>,
    /// Entries with `count`: they share the GPUs that are left.
    pub shared: Vec<SharedGoal>,
    /// Bindings that may hold on this node (the node matches their file and their own selectors).
    pub bindings: Vec<Arc<Binding>>,
    /// Merged from all policy files that match; `None`: no policy, and then only what disturbs nobody is done.
    pub policy: Option<Arc<Policy>>,
    /// Entries that may mean other GPUs than they did, by their place: theirs are left alone.
    #[serde(default)]
    pub held: BTreeMap<Source, Block>,
    /// What does not fit this node, so that nothing on it is changed: a count that is not to be had, an index that
    /// the node lacks, undecided labels.
    pub blocked: Vec<Block>,
}

/// What one entry wants of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuGoal {
    /// What to make of it.
    pub goal: Goal,
    /// The `[[gpu]]` entry.
    pub source: Source,
    /// Less specific entries that match this GPU too.
    pub shadows: Vec<Source>,
}

/// An entry with `count`: on so many of the eligible GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SharedGoal {
    /// What to make of each.
    pub goal: Goal,
    /// On how many.
    pub count: u32,
    /// UUIDs of the GPUs that are left and that the entry's selectors match.
    pub eligible: BTreeSet<String>,
    /// The `[[gpu]]` entry.
    pub source: Source,
}

/// What to make of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// `managed = false`: hands off.
    HandsOff,
    /// `mig = false`: MIG mode off.
    MigOff,
    /// MIG mode on with exactly these instances (none: an empty MIG GPU).
    Instances(Vec<Wanted>),
}

/// One wanted instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// As the tree names it; resolved against what the board offers.
    pub profile: ProfileName,
    /// A fixed placement's start; `None`: anywhere.
    pub start: Option<u32>,
    /// Compute instances: `None` for one that fills the GPU instance, empty for none.
    pub compute: Option<Vec<ComputeName>>,
}

/// What a layout says of a GPU so that the GPU stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsIs {
    /// `GPU-…`.
    pub uuid: String,
    /// The index in PCI order.
    pub index: u32,
    /// NVML's name without the leading `NVIDIA `.
    pub model: String,
    /// `None`: it has no MIG, and a layout need not speak of it.
    pub goal: Option<Goal>,
    /// Why a layout can't tell what is on it; empty where it does.
    pub note: String,
}

/// A `[[workload]]`: who gets which instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// Unique in the tree.
    pub name: String,
    /// What gets them.
    pub target: Target,
    /// Instances of this profile.
    pub profile: ProfileName,
    /// Instances for each pod, or for the unit or command. A tree never says 0; what is put back where a plan failed does, of
    /// a unit or command that held nothing before.
    pub per_replica: u32,
    /// Whether Sectile sets the workload's resource request and affinity; otherwise it checks and reports.
    pub manage: bool,
    /// Where it holds, as far as a scheduler can be told: the affinity of a managed workload.
    #[serde(default)]
    pub affinity: Affinity,
    /// The `[[workload]]` entry.
    pub source: Source,
}

/// What a binding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A Kubernetes object with a pod template.
    Kubernetes {
        /// Which.
        object: Object,
        /// The container that gets the instances, where there are several.
        container: Option<String>,
    },
    /// A systemd unit: stopped, given its MIG UUIDs in `env`, started.
    Systemd {
        /// `embedder.service`.
        unit: String,
        /// The environment variable that takes the UUIDs, joined by commas.
        env: String,
    },
    /// Anything else, by commands: absolute paths, no shell.
    Command {
        /// Begins to free the instances.
        drain: Vec<String>,
        /// Polled until it exits 0.
        drained: Vec<String>,
        /// Gives the instances back.
        resume: Vec<String>,
        /// Polled until it exits 0.
        ready: Vec<String>,
    },
}
