//! The simulated world as data: everything that the simulators behind the ports share, and that a state file keeps. What
//! is unknown in a file is an error, so that no program writes back less than it read: a new field raises the version of
//! the [state](super::state).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::model::observed::{DeviceFiles, ForeignWriter, MigStrategy, Owner, PodPhase};
use crate::model::{Affinity, Bind, Digest, Memory, NodeState, Place, Placement, ProfileName, User};
use crate::ports::Reason;

/// A fleet of simulated nodes with their cluster, at one instant of the virtual clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Of the fleet file that it began as.
    pub fleet: Digest,
    /// The virtual clock: milliseconds since the Unix epoch.
    pub clock_ms: i64,
    /// The next serial number: of handles, pods' UIDs, process ids.
    pub next_serial: u64,
    /// By name.
    pub nodes: BTreeMap<String, SimNode>,
    /// By `namespace/name`.
    pub pods: BTreeMap<String, SimPod>,
    /// Workloads of the cluster, in the fleet file's order.
    pub workloads: Vec<SimWorkload>,
    /// Disruption budgets.
    pub budgets: Vec<SimBudget>,
    /// Every destroy call on an instance that somebody held, successful or not. Sectile's own care keeps it empty.
    pub ledger: Vec<LedgerEntry>,
    /// The fleet file's `[fault.latency]`: what takes another time than usual, in seconds.
    #[serde(default)]
    pub latency: BTreeMap<String, u64>,
    /// What Sectile remembers, which nodes would keep on their disks.
    #[serde(default)]
    pub memory: Memory,
    /// The fleet file's `[[fault.call]]`: which calls go wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Events of its objects, the oldest first.
    #[serde(default)]
    pub events: Vec<SimEvent>,
    /// What nodes have taken of the budgets that they share, by holder.
    #[serde(default)]
    pub places: BTreeMap<String, Place>,
    /// How often those were changed.
    #[serde(default)]
    pub places_version: u64,
    /// Bindings that were carried out.
    #[serde(default)]
    pub bound: Vec<SimBound>,
    /// Revisions of the tree that changed workloads, in the order in which they were taken up.
    #[serde(default)]
    pub revisions: Vec<String>,
    /// Combined with the serials of instances into their handles: a program that saw an earlier world has others.
    #[serde(skip)]
    pub salt: u64,
    /// When those wake that run side by side and sleep; `None`: nobody runs beside whoever does, and the clock jumps.
    #[serde(skip)]
    pub sleepers: Option<BTreeSet<i64>>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimNode {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is a node of the simulated cluster (otherwise bare metal).
    pub in_cluster: bool,
    /// How its device plugin names MIG devices.
    #[serde(default)]
    pub strategy: MigStrategy,
    /// Other tools that write its MIG state, and that their objects betray.
    #[serde(default)]
    pub writers: BTreeSet<ForeignWriter>,
    /// Whether our taint is on it.
    pub tainted: bool,
    /// Whether what advertises its GPUs is paused.
    pub clients_paused: bool,
    /// Devices advertised when the clients last started: UUID and resource name.
    pub advertised: BTreeMap<String, String>,
    /// What the host keeps of its MIG devices, and which of them that names: UUIDs.
    #[serde(default)]
    pub device_files: BTreeMap<DeviceFiles, BTreeSet<String>>,
    /// In PCI order.
    pub gpus: Vec<SimGpu>,
    /// systemd units, by name.
    pub units: BTreeMap<String, SimUnit>,
    /// Workloads that commands drain and resume, by binding name.
    pub commands: BTreeMap<String, SimCommand>,
    /// How it stands, as it was shown last.
    #[serde(default)]
    pub shown: Option<SimShown>,
}

/// How a node stands, as the cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimShown {
    /// The label `sectile.dev/state`.
    pub state: NodeState,
    /// The annotation `sectile.dev/revision`.
    pub revision: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimEvent {
    /// When, in the virtual clock's milliseconds.
    pub at_ms: i64,
    /// The node.
    pub node: String,
    /// The pod that it is about, `namespace/name`; `None`: the node.
    pub pod: Option<String>,
    /// Why it is told.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimGpu {
    /// `GPU-…`.
    pub uuid: String,
    /// `00000000:17:00.0`.
    pub pci: String,
    /// The catalogue's id of the board.
    pub board: String,
    /// Whether logical starts are physical starts XOR half the GPU (constant per physical GPU).
    pub half_swapped: bool,
    /// MIG mode in force.
    pub mode: bool,
    /// MIG mode after the next reset.
    pub pending: bool,
    /// GPU instances, in order of creation.
    pub instances: Vec<SimGi>,
    /// Processes on the GPU as a whole.
    pub processes: Vec<SimProcess>,
    /// Whether it fell off the bus.
    pub lost: bool,
    /// How often its MIG configuration changed: an event each.
    #[serde(default)]
    pub changes: u64,
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimGi {
    /// Of the handle; never used twice.
    pub serial: u64,
    /// The driver's id: a function of size and physical start.
    pub id: u32,
    /// `NVML_GPU_INSTANCE_PROFILE_*`.
    pub profile_index: u32,
    /// In memory slices, logical.
    pub placement: Placement,
    /// Compute instances, in order of creation.
    pub compute: Vec<SimCi>,
}

/// A compute instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimCi {
    /// Of the handle; never used twice.
    pub serial: u64,
    /// The lowest that was free in the GPU instance.
    pub id: u32,
    /// `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    pub profile_index: u32,
    /// In compute slices of the GPU instance.
    pub placement: Placement,
    /// `MIG-…`: the same for the same place, whatever the profile.
    pub uuid: String,
    /// Processes on it.
    pub processes: Vec<SimProcess>,
}

/// A process on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimProcess {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimUnit {
    /// Whether it is active.
    pub active: bool,
    /// UUIDs of the devices that it was given.
    pub devices: Vec<String>,
}

/// A workload that commands drain and resume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimCommand {
    /// UUIDs of the devices that it holds.
    pub devices: Vec<String>,
    /// When its drain is through, in the virtual clock's milliseconds.
    pub drained_at_ms: Option<i64>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimPod {
    /// Its UID.
    pub uid: String,
    /// Its controller.
    pub owner: Option<Owner>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The resource that it asks for and how many of it.
    pub requests: BTreeMap<String, u32>,
    /// Where it may run beyond what its workload's selector says.
    #[serde(default)]
    pub affinity: Affinity,
    /// The node it is bound to.
    pub node: Option<String>,
    /// UUIDs of the devices that it holds.
    pub devices: BTreeSet<String>,
    /// What it is doing.
    pub phase: PodPhase,
    /// When the phase ends by itself: a starting pod runs, a terminating one is gone.
    pub until_ms: Option<i64>,
    /// Its own grace, in seconds.
    pub grace_period_s: u64,
    /// Whether it has emptyDir volumes.
    pub empty_dir: bool,
    /// Whether it is a static pod's mirror.
    pub mirror: bool,
}

/// A workload with a pod template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimWorkload {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Wanted pods.
    pub replicas: u32,
    /// Each pod asks for instances of this profile; `None`: for none.
    pub profile: Option<ProfileName>,
    /// So many of it.
    pub per_replica: u32,
    /// What they are called, where that is not after the profile.
    #[serde(default)]
    pub resource: Option<String>,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Labels of the nodes that it may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Where its pods may run beyond that: what a binding says.
    #[serde(default)]
    pub affinity: Affinity,
    /// Seconds from binding to ready.
    pub start_s: u64,
    /// Seconds of grace.
    pub grace_period_s: u64,
}

/// A binding that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimBound {
    /// What was done.
    pub bind: Bind,
    /// By which revision of the tree.
    pub revision: String,
    /// What the workload's pods were made by before.
    pub before: SimTemplate,
}

/// What a workload's pods are made by, as far as a binding sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimTemplate {
    /// As of the workload.
    pub profile: Option<ProfileName>,
    /// As of the workload.
    pub per_replica: u32,
    /// As of the workload.
    pub resource: Option<String>,
    /// As of the workload.
    pub affinity: Affinity,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimBudget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The workload whose pods it covers.
    pub workload: String,
    /// How many of its pods may be unavailable.
    pub max_unavailable: u32,
}

/// A destroy call on an instance that somebody held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// When, in the virtual clock's milliseconds.
    pub at_ms: i64,
    /// On which node.
    pub node: String,
    /// On which GPU.
    pub gpu: String,
    /// The call: `nvmlGpuInstanceDestroy`, `nvmlComputeInstanceDestroy`, a reset…
    pub call: String,
    /// Who held it.
    pub holders: Vec<User>,
}

impl SimNode {
    /// UUIDs of its MIG devices.
    pub fn devices(&self) -> impl Iterator<Item = &String> {
        self.gpus.iter().flat_map(|gpu| &gpu.instances).flat_map(|gi| &gi.compute).map(|ci| &ci.uuid)
    }
}

impl World {
    /// A number that was never given before.
    pub fn serial(&mut self) -> u64 {
        serial(&mut self.next_serial)
    }

    /// The handle of the instance with that serial, and the serial of the instance with that handle.
    pub(super) fn handle(&self, serial: u64) -> u64 {
        serial ^ self.salt
    }

    /// How long something takes, in milliseconds.
    pub fn latency_ms(&self, what: &str, default_ms: i64) -> i64 {
        let told = self.latency.get(what).and_then(|&s| i64::try_from(s).ok());
        told.map_or(default_ms, |s| s.saturating_mul(1000))
    }
}

/// The next number that was never given before.
pub(super) fn serial(next: &mut u64) -> u64 {
    let serial = *next;
    // Only a state file that was tampered with comes to the end of the numbers.
    *next = next.wrapping_add(1);
    serial
}
