//! The plan: what will be done, in which order, guarded by what, and why not where not.
//!
//! Its JSON form is the product's (`format_version` 1): additions keep the version, changes raise it.

mod gpu;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::binding::Bind;
use super::closed::closed_list;
use super::geometry::Placement;
use super::identity::{Digest, Revision, Source};
use super::observed::{DeviceFiles, Gap, MigStrategy, Suspension};
use super::policy::ClientRef;
use super::profile::{ComputeName, ProfileName};

pub use gpu::{GpuPlan, ModeChangePlan, PlanCompute, PlanInstance};

/// The version of the JSON form.
pub const FORMAT_VERSION: &str = "1";

/// Plans for the nodes that were asked for, and for what belongs to no node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT_VERSION`].
    pub format_version: String,
    /// Which tree.
    pub desired: Revision,
    /// What belongs to no node.
    pub cluster: ClusterPlan,
    /// By node, ascending by name.
    pub nodes: Vec<NodePlan>,
    /// Counts over all nodes.
    pub summary: Summary,
}

/// Steps of scope cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// In order.
    pub steps: Vec<Step>,
    /// Every Kubernetes binding and how it stands.
    pub bindings: Vec<BindingReport>,
    /// What can't be done until somebody acts.
    pub blocked: Vec<Block>,
    /// Sentences for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How a binding stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingReport {
    /// The binding's name.
    pub name: String,
    /// What it is about: `Deployment inference/llama-chat`, `unit embedder.service`.
    pub target: String,
    /// Instances of this profile.
    pub profile: ProfileName,
    /// Instances the layouts of the covered nodes provide.
    pub provided: u32,
    /// Instances bound: replicas times `per_replica`, where the number of replicas is known.
    pub bound: Option<u32>,
    /// Whether the workload asks for what the binding says.
    pub matches: bool,
    /// Whether Sectile sets it.
    pub manage: bool,
    /// The `[[workload]]` entry.
    pub source: Source,
}

/// Counts over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Nodes planned.
    pub nodes: u32,
    /// Nodes with steps.
    pub changed: u32,
    /// Instances kept.
    pub keep: u32,
    /// Instances destroyed.
    pub destroy: u32,
    /// Instances created.
    pub create: u32,
    /// Pods, units, commands and processes disturbed.
    pub disrupt: u32,
    /// Blocks.
    pub blocked: u32,
}

/// The plan of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node's name.
    pub name: String,
    /// How it stands.
    pub state: NodeState,
    /// Who suspended reconciling it, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspended: Option<Suspension>,
    /// Over desired state, policy and what the steps depend on; no time, pids or resource versions.
    pub fingerprint: Digest,
    /// RFC 3339, when the observation was made.
    pub observed_at: String,
    /// Seconds that it was old when the plan was made; absent: it was made for the plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_s: Option<u64>,
    /// How its MIG devices are named as resources.
    #[serde(skip_serializing_if = "MigStrategy::is_mixed", default)]
    pub strategy: MigStrategy,
    /// The layout that holds.
    pub source: Option<Source>,
    /// Less specific layouts that match too.
    pub shadows: Vec<Source>,
    /// By GPU, ascending by index.
    pub gpus: Vec<GpuPlan>,
    /// Who is disturbed, and the verdict on each.
    pub disruptions: Vec<Disruption>,
    /// In an order that is legal at every prefix.
    pub steps: Vec<Step>,
    /// Ids of steps that may run together: each wave needs only the waves before it.
    pub waves: Vec<Vec<u32>>,
    /// What can't be done until somebody acts.
    pub blocked: Vec<Block>,
    /// What waits by itself: for a window or a budget.
    pub waiting: Vec<Block>,
    /// What could not be observed.
    pub gaps: Vec<Gap>,
    /// Sentences for people.
    pub warnings: Vec<String>,
    /// Seconds that the steps are expected to take.
    pub estimate_s: u64,
    /// The plan's cost (integers; `plan/cost.rs` tells the weights).
    pub cost: u64,
    /// No plan to the same target costs less.
    pub lower_bound: u64,
    /// Whether the two are equal and the search was exhaustive.
    pub optimal: bool,
}

closed_list! {
    /// How a node stands; one list everywhere (JSON, label, metrics).
    NodeState {
        /// Observed equals desired.
        Converged = "converged",
        /// Changes are known and wait for somebody to say apply.
        Pending = "pending",
        /// Changes wait for a window or a budget.
        Waiting = "waiting",
        /// Changes are being made, or would be made now.
        Changing = "changing",
        /// Something can't be done until somebody acts.
        Blocked = "blocked",
        /// A step failed for good.
        Failed = "failed",
        /// Reconciling was suspended.
        Suspended = "suspended",
        /// No layout speaks of this node.
        Unmanaged = "unmanaged",
        /// It could not be observed.
        Unknown = "unknown",
    }
}

closed_list! {
    /// Why something is not done. Those that wait open by themselves, or when the policy's mode or whoever suspended
    /// the node lets them; all others are blocked until somebody acts.
    BlockCode {
        /// Outside the policy's window, or the plan would not end in it (waiting).
        Window = "window",
        /// A disruption budget allows no eviction now, or other nodes of the policy's budget come first (waiting).
        Budget = "budget",
        /// `processes = "wait"` and one still runs (waiting).
        ProcessWait = "process-wait",
        /// `apply.mode = "manual"`: plan only (waiting).
        ManualMode = "manual-mode",
        /// `apply.mode = "undisruptive"` and somebody would be disturbed (waiting).
        UndisruptiveMode = "undisruptive-mode",
        /// The workload of a pod that has to move is to ask for other instances first (waiting).
        Rebind = "rebind",
        /// Somebody suspended reconciling the node (waiting).
        Suspended = "suspended",
        /// No policy matches the node, and somebody would be disturbed.
        NoPolicy = "no-policy",
        /// A protected pod holds an instance that would go.
        Protected = "protected",
        /// An annotation says do not disrupt.
        Annotated = "annotated",
        /// A pod without a controller (`drain.force`).
        UnmanagedPod = "unmanaged-pod",
        /// A pod with emptyDir data (`drain.delete_emptydir_data`).
        EmptyDir = "emptydir",
        /// A DaemonSet's pod (`drain.daemonsets`).
        DaemonSetPod = "daemonset-pod",
        /// A static pod's mirror.
        MirrorPod = "mirror-pod",
        /// A pod whose instance other pods share by a ResourceClaim.
        SharedClaim = "shared-claim",
        /// A process that no binding explains (`protect.processes`).
        Process = "process",
        /// A unit or command that holds an instance and that no binding names.
        UnboundUser = "unbound-user",
        /// Several disruption budgets cover a pod.
        TwoBudgets = "two-budgets",
        /// The pod template of a Job that has begun can't be changed.
        Immutable = "immutable",
        /// Nowhere for an evicted pod to run.
        NoCapacity = "no-capacity",
        /// Who uses an instance could not be observed; unknown means in use.
        UnknownUsers = "unknown-users",
        /// The wanted instances can't lie on this GPU together.
        DoesNotFit = "does-not-fit",
        /// The board offers no such profile.
        UnknownProfile = "unknown-profile",
        /// Neither the driver nor the catalogue tells what this GPU can be cut into.
        UnknownGeometry = "unknown-geometry",
        /// The board can't MIG.
        NotCapable = "not-mig-capable",
        /// The policy refuses to change the MIG mode.
        ModeChange = "mode-change",
        /// Somebody uses the GPU whose MIG mode must change.
        GpuInUse = "gpu-in-use",
        /// A mode change needs a reset that the policy refuses.
        Reset = "reset",
        /// Fewer GPUs are left than an entry's `count`.
        TooFewGpus = "too-few-gpus",
        /// The tree names a GPU that the node hasn't got.
        NoSuchGpu = "no-such-gpu",
        /// Labels that select could not be known.
        Undecided = "undecided",
        /// Another tool writes the node's MIG state (`writers.mig_manager`).
        ForeignWriter = "foreign-writer",
        /// Instances reach the node's pods in another way than `clients.allocation` says.
        Allocation = "allocation-unsupported",
        /// A budget that nodes share, and the node is in no cluster to share it by (`budget.uncoordinated`).
        Uncoordinated = "uncoordinated",
        /// What the device plugin would not start with in its strategy `single`.
        StrategySingle = "strategy-single",
        /// MIG devices, which the device plugin hands out to nobody in its strategy `none`.
        StrategyNone = "strategy-none",
        /// Compute instances under the device plugin.
        ComputeSplit = "compute-split-unsupported",
        /// More instances are bound than the layouts provide.
        OverBound = "over-bound",
        /// A binding names something that is not there.
        NoSuchTarget = "no-such-target",
        /// A unit or command that the node's own settings don't allow to be touched (`[host]`).
        NotAllowed = "not-allowed",
        /// A unit with which systemd would stop others, of which the tree does not speak.
        StopsOthers = "stops-others",
        /// The node, or a binding's workload, could not be observed.
        Unobserved = "unobserved",
        /// The node's GPUs are not those that were accepted, and the entry may mean another one than it did.
        InventoryChanged = "inventory-changed",
        /// The tree lost all its layouts or most of its bindings at once.
        MassRemoval = "mass-removal",
        /// It failed for good, and nothing that it depends on has changed since.
        Failed = "failed",
    }
}

impl BlockCode {
    /// Whether it opens by itself, without anybody acting.
    pub fn waits(self) -> bool {
        use BlockCode::*;
        matches!(self, Window | Budget | ProcessWait | ManualMode | UndisruptiveMode | Rebind | Suspended)
    }
}

/// What is not done, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Of the closed list.
    pub code: BlockCode,
    /// A sentence.
    pub message: String,
    /// The GPU, pod, unit or file it is about.
    pub object: String,
    /// What to do.
    pub hint: String,
}

closed_list! {
    /// What is disturbed.
    DisruptionKind { /// A pod.
        Pod = "pod", /// A systemd unit.
        Unit = "unit", /// A workload that commands drain.
        Command = "command", /// A process.
        Process = "process" }
}

closed_list! {
    /// What is said of a disturbance.
    Verdict {
        /// It will be done.
        Move = "move",
        /// It waits by itself.
        Wait = "wait",
        /// It is refused; the block of the same object tells the key that overrides.
        Refuse = "refuse",
    }
}

/// Somebody who is disturbed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// What.
    pub kind: DisruptionKind,
    /// Of pods.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// The pod's, unit's or binding's name, or the process id.
    pub name: String,
    /// Of pods.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<String>,
    /// What is said of it.
    pub verdict: Verdict,
    /// Why: a sentence.
    pub reason: String,
    /// Seconds that it is expected to be down.
    pub downtime_s: u64,
    /// Where it goes: `GPU 0`, `gpu-a-02`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moves_to: Option<String>,
    /// The instances that it loses: GPU UUID and start.
    pub loses: Vec<SlotRef>,
}

/// A place on a GPU: the identity of an instance across time, together with its profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotRef {
    /// The GPU's UUID.
    pub gpu: String,
    /// The profile.
    pub profile: ProfileName,
    /// The placement.
    #[serde(flatten)]
    pub placement: Placement,
}

closed_list! {
    /// What is checked again right before a step.
    Guard {
        /// Nobody uses the instance.
        Unused = "unused",
        /// The policy's window is open and the rest is expected to end in it.
        Window = "window",
        /// The disruption budgets allow it.
        Budget = "budget",
        /// There is a place for what is moved.
        Capacity = "capacity",
    }
}

closed_list! {
    /// What a step is about.
    Scope { /// One node: its agent's.
        Node = "node", /// No node: the controller's.
        Cluster = "cluster" }
}

/// A step. Its kind says everything: whoever carries it out has no choice left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in its plan, ascending.
    pub id: u32,
    /// Steps that must be done before.
    pub after: Vec<u32>,
    /// Checked again right before.
    pub guards: Vec<Guard>,
    /// Whose.
    pub scope: Scope,
    /// Whether somebody is disturbed by it or by what it prepares.
    pub disruptive: bool,
    /// Why it is not carried out now (of the waiting codes); nothing that comes after it is either.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits: Option<BlockCode>,
    /// Seconds that it is expected to take.
    pub estimate_s: u64,
    /// What it does.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// What a step does; the closed list of kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepKind {
    /// Stands mig-manager down: its node label says no, for good. Done when its pod is gone.
    StandDown,
    /// Puts `sectile.dev/repartitioning:NoSchedule` on the node, so that nothing new lands on what goes.
    Taint,
    /// Takes it off.
    Untaint,
    /// Stops what holds or advertises the GPUs (device plugin, the policy's units and commands).
    PauseClients {
        /// Units of the policy's `clients.systemd` to stop.
        units: Vec<String>,
        /// Those of its `clients.commands` whose `pause` is run, and whose `paused` is polled.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        commands: Vec<ClientRef>,
    },
    /// Starts them again, so that what is there now is advertised.
    ResumeClients {
        /// Units to start again.
        units: Vec<String>,
        /// Those of `clients.commands` whose `resume` is run.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        commands: Vec<ClientRef>,
    },
    /// Restarts what advertises, without anything going: new instances become allocatable.
    RefreshClients,
    /// Makes what the host keeps of its MIG devices anew: it names some that are gone, and lacks new ones.
    RefreshDevices {
        /// Which of it, ascending.
        files: Vec<DeviceFiles>,
    },
    /// Asks the API server to evict a pod.
    EvictPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Its UID: another pod of that name is not meant.
        uid: String,
        /// Seconds of grace; absent: its own.
        grace_period_s: Option<u64>,
        /// Deleted instead of evicted (a DaemonSet's).
        delete: bool,
    },
    /// Waits until the pods are gone (404 or another UID).
    AwaitGone {
        /// `namespace/name` and UID of each.
        pods: BTreeMap<String, String>,
        /// Gives up after so many seconds.
        timeout_s: u64,
    },
    /// Waits until the workloads of what was moved are ready again, or as ready as before.
    AwaitReady {
        /// `kind namespace/name` and how many pods were ready before.
        workloads: BTreeMap<String, u32>,
        /// Gives up after so many seconds.
        timeout_s: u64,
    },
    /// Stops a unit.
    StopUnit {
        /// Its name.
        unit: String,
    },
    /// Gives a unit its MIG UUIDs and starts it; done when it is active.
    StartUnit {
        /// Its name.
        unit: String,
        /// The variable that takes the UUIDs.
        env: String,
        /// The instances whose UUIDs it gets.
        slots: Vec<SlotRef>,
    },
    /// Runs a binding's `drain` command and polls `drained`.
    DrainCommand {
        /// The binding's name; the commands come from the tree, never from a plan file.
        workload: String,
    },
    /// Runs a binding's `resume` command and polls `ready`.
    ResumeCommand {
        /// The binding's name.
        workload: String,
        /// The instances whose UUIDs it gets.
        slots: Vec<SlotRef>,
    },
    /// Ends a process that the policy allows to end.
    TerminateProcess {
        /// Its id.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// Destroys the compute instances of a GPU instance, and then the instance.
    DestroyInstance {
        /// Which.
        #[serde(flatten)]
        slot: SlotRef,
    },
    /// Creates a GPU instance at its placement, and then its compute instances.
    CreateInstance {
        /// Where.
        #[serde(flatten)]
        slot: SlotRef,
        /// Its compute instances, in order.
        compute: Vec<ComputeName>,
    },
    /// Switches a GPU's MIG mode.
    SetMigMode {
        /// The GPU.
        gpu: String,
        /// On or off.
        enabled: bool,
    },
    /// Resets a GPU whose pending mode must come into force; nothing where it is in force.
    ResetGpu {
        /// The GPU.
        gpu: String,
    },
    /// Sets a workload's resource request and affinity, and waits until its pods are ready again (scope cluster).
    BindWorkload {
        /// What its pods are to ask for.
        #[serde(flatten)]
        bind: Box<Bind>,
        /// Gives up waiting after so many seconds.
        #[serde(default)]
        timeout_s: u64,
    },
    /// Takes back what a binding that the tree has no more set at a workload (scope cluster).
    UnbindWorkload {
        /// What is recorded of it.
        #[serde(flatten)]
        bind: Box<Bind>,
        /// Gives up waiting after so many seconds.
        #[serde(default)]
        timeout_s: u64,
    },
}

impl StepKind {
    /// The word of the closed list, as in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            StepKind::StandDown => "stand_down",
            StepKind::Taint => "taint",
            StepKind::Untaint => "untaint",
            StepKind::PauseClients { .. } => "pause_clients",
            StepKind::ResumeClients { .. } => "resume_clients",
            StepKind::RefreshClients => "refresh_clients",
            StepKind::RefreshDevices { .. } => "refresh_devices",
            StepKind::EvictPod { .. } => "evict_pod",
            StepKind::AwaitGone { .. } => "await_gone",
            StepKind::AwaitReady { .. } => "await_ready",
            StepKind::StopUnit { .. } => "stop_unit",
            StepKind::StartUnit { .. } => "start_unit",
            StepKind::DrainCommand { .. } => "drain_command",
            StepKind::ResumeCommand { .. } => "resume_command",
            StepKind::TerminateProcess { .. } => "terminate_process",
            StepKind::DestroyInstance { .. } => "destroy_instance",
            StepKind::CreateInstance { .. } => "create_instance",
            StepKind::SetMigMode { .. } => "set_mig_mode",
            StepKind::ResetGpu { .. } => "reset_gpu",
            StepKind::BindWorkload { .. } => "bind_workload",
            StepKind::UnbindWorkload { .. } => "unbind_workload",
        }
    }
}
