//! What is there now, as NVML, the cluster and the host report it. What could not be seen is a type.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::closed::closed_list;
use super::geometry::{Geometry, Placement};
use super::policy::Allocation;
use super::profile::{ComputeName, ProfileName, serde_as_text};

pub use cluster::{Budget, ObservedCluster, Owner, Peer, Pod, PodPhase, WorkloadState};

/// Something that was seen, or that could not be; never an empty list in place of the latter.
/// In JSON the unknown is `null`, and a [`Gap`] tells why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Known<T> {
    /// It was seen.
    Known(T),
    /// It could not be seen.
    #[default]
    Unknown,
}

impl<T> Known<T> {
    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Known::Known(value) => Some(value),
            Known::Unknown => None,
        }
    }
}

/// What could not be observed, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What: `users of GPU-1b3c… 2g.20gb at 0`, `labels of gpu-a-01`.
    pub object: String,
    /// Why, a sentence.
    pub message: String,
}

/// Who uses an instance or a GPU: `pod:inference/llama-chat-7d9f`, `unit:embedder.service`, `command:desktop-vm-7`,
/// `process:4711/python3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// A pod that was given the device, whether or not a process runs.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A systemd unit that was given the device.
    Unit(String),
    /// A workload that commands drain and resume, by its binding's name.
    Command(String),
    /// A process that nothing else explains.
    Process {
        /// Its id.
        pid: u32,
        /// Its name, where `/proc` tells; else empty.
        name: String,
    },
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Pod { namespace, name } => write!(f, "pod:{namespace}/{name}"),
            User::Unit(unit) => write!(f, "unit:{unit}"),
            User::Command(name) => write!(f, "command:{name}"),
            User::Process { pid, name } if name.is_empty() => write!(f, "process:{pid}"),
            User::Process { pid, name } => write!(f, "process:{pid}/{name}"),
        }
    }
}

impl std::str::FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail =
            || format!("`{text}` names no user: write pod:NAMESPACE/NAME, unit:NAME, command:NAME or process:PID/NAME");
        let (kind, rest) = text.split_once(':').ok_or_else(fail)?;
        let user = match kind {
            "pod" => {
                let (namespace, name) = rest.split_once('/').ok_or_else(fail)?;
                User::Pod { namespace: namespace.to_owned(), name: name.to_owned() }
            }
            "unit" => User::Unit(rest.to_owned()),
            "command" => User::Command(rest.to_owned()),
            "process" => {
                let (pid, name) = rest.split_once('/').unwrap_or((rest, ""));
                User::Process { pid: pid.parse().map_err(|_| fail())?, name: name.to_owned() }
            }
            _ => return Err(fail()),
        };
        let empty = match &user {
            User::Pod { namespace, name } => namespace.is_empty() || name.is_empty(),
            User::Unit(name) | User::Command(name) => name.is_empty(),
            User::Process { .. } => false,
        };
        if empty { Err(fail()) } else { Ok(user) }
    }
}

serde_as_text!(User);

/// Everything seen of the nodes that were asked for, and of their cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// By name. A node that was asked for and is missing here could not be observed.
    pub nodes: BTreeMap<String, ObservedNode>,
    /// What belongs to no node; empty where there is no cluster.
    pub cluster: ObservedCluster,
}

/// Everything seen of one node. GPUs are ascending by index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedNode {
    /// Its name.
    pub name: String,
    /// Its Kubernetes labels, or those of its own settings.
    pub labels: Known<BTreeMap<String, String>>,
    /// Its GPUs, ascending by index.
    pub gpus: Vec<ObservedGpu>,
    /// Indices of those that the driver counts and that are lost, also of those that do not even tell who they are.
    #[serde(default)]
    pub lost: BTreeSet<u32>,
    /// Units of the host that the tree binds or that hold GPUs, by name.
    pub units: BTreeMap<String, UnitState>,
    /// What the cluster says of this node; `None`: the node is in no cluster.
    pub cluster: Option<NodeInCluster>,
    /// What the host keeps of its MIG devices, and must be made anew where they change.
    #[serde(default)]
    pub device_files: BTreeSet<DeviceFiles>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// The GPUs that it had when they were last accepted; empty: none are remembered, and what is there is accepted,
    /// unless some are lost.
    #[serde(default)]
    pub inventory: Vec<Seated>,
    /// Whether somebody suspended reconciling it.
    #[serde(default)]
    pub suspended: Option<Suspension>,
}

impl ObservedNode {
    /// Where its GPUs sit now, but for those that are lost.
    pub fn seated(&self) -> Vec<Seated> {
        self.gpus.iter().filter(|gpu| !self.lost.contains(&gpu.index)).map(Seated::of).collect()
    }

    /// How its MIG devices are named as resources; in no cluster by their profiles.
    pub fn strategy(&self) -> MigStrategy {
        self.cluster.as_ref().map(|cluster| cluster.strategy).unwrap_or_default()
    }

    /// The profile that a name means on this node: names without memory, or drifted ones, are those of the first GPU that
    /// offers a match.
    pub fn meant(&self, profile: ProfileName) -> ProfileName {
        let geometries = self.gpus.iter().filter_map(|gpu| gpu.geometry.as_ref());
        geometries.filter_map(|g| g.resolve(profile)).map(|(p, _)| p.name).next().unwrap_or(profile)
    }

    /// Takes the GPUs that are there now for the right ones.
    pub fn accept(&mut self) {
        self.inventory = self.seated();
    }
}

closed_list! {
    /// What a host keeps of its MIG devices beside the driver.
    DeviceFiles {
        /// Device nodes of the instances' capabilities, below `/dev/nvidia-caps`.
        DeviceNodes = "device-nodes",
        /// A specification of the Container Device Interface.
        Cdi = "cdi",
    }
}

/// The cluster's view of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInCluster {
    /// Whether our taint `sectile.dev/repartitioning` is on it.
    pub tainted: bool,
    /// Whether we paused what advertises its GPUs.
    pub clients_paused: bool,
    /// Allocatable instances by resource name (`nvidia.com/mig-1g.10gb`), used ones included.
    pub allocatable: BTreeMap<String, u32>,
    /// UUIDs of the MIG devices that are advertised now; unknown where the kubelet would not tell.
    pub advertised: Known<BTreeSet<String>>,
    /// How the device plugin names MIG devices.
    #[serde(default)]
    pub strategy: MigStrategy,
    /// How its instances reach pods; `Auto`: nothing tells.
    #[serde(default)]
    pub allocation: Allocation,
    /// Other tools that write its MIG state, as far as something else than its labels tells of them.
    #[serde(default)]
    pub writers: BTreeSet<ForeignWriter>,
}

closed_list! {
    /// NVIDIA's `mig.strategy`: what MIG devices are called as resources (k8s-device-plugin, README).
    MigStrategy {
        /// Each profile has a resource of its own, `nvidia.com/mig-1g.10gb`.
        Mixed = "mixed",
        /// All MIG devices of a node are alike, and called `nvidia.com/gpu`.
        Single = "single",
        /// MIG devices are not advertised.
        None = "none",
    }
}

/// The resource of a GPU without MIG, and in the strategy `single` of every MIG device (k8s-device-plugin, README).
pub const WHOLE_GPU: &str = "nvidia.com/gpu";

impl MigStrategy {
    /// The resource that an instance of that profile is; `None`: it is not advertised.
    pub fn resource(self, profile: ProfileName) -> Option<String> {
        match self {
            MigStrategy::Mixed => Some(profile.resource()),
            MigStrategy::Single => Some(WHOLE_GPU.to_owned()),
            MigStrategy::None => None,
        }
    }

    /// Whether it is the usual one, which goes without saying.
    pub fn is_mixed(&self) -> bool {
        *self == MigStrategy::Mixed
    }
}

impl Default for MigStrategy {
    /// What NVIDIA's operator sets.
    fn default() -> Self {
        MigStrategy::Mixed
    }
}

closed_list! {
    /// A tool that writes MIG state and that its objects in the cluster betray.
    ForeignWriter {
        /// NVIDIA's driver for dynamic resource allocation, where it makes MIG devices by itself.
        DynamicMig = "dynamic-mig",
        /// HAMi, where it has registered the node's GPUs in its mode `mig`.
        Hami = "hami",
        /// The dynamic accelerator slicer (InstaSlice).
        AcceleratorSlicer = "accelerator-slicer",
    }
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// Whether it is active.
    pub active: bool,
    /// UUIDs of the MIG devices that it was given.
    pub devices: Vec<String>,
    /// Whether it was started before it was given the last of them, so that it may hold others than it should.
    #[serde(default)]
    pub stale: bool,
    /// Units that run, and that systemd stops with it.
    #[serde(default)]
    pub takes: BTreeSet<String>,
    /// Its processes, so that those on a GPU are known for its own; only until who uses what is told.
    #[serde(skip)]
    pub processes: BTreeSet<u32>,
}

/// A GPU's MIG mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MigMode {
    /// Whether the board can MIG at all.
    pub capable: bool,
    /// The mode in force.
    pub current: bool,
    /// The mode after the next reset.
    pub pending: bool,
    /// Whether a switch needs no reset (NVML field 184).
    pub resetless: bool,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedGpu {
    /// `GPU-…`.
    pub uuid: String,
    /// The index in PCI order.
    pub index: u32,
    /// The PCI bus id, `00000000:17:00.0`.
    pub pci: String,
    /// NVML's name without the leading `NVIDIA `.
    pub model: String,
    /// The catalogue's id of the board, where it is known there.
    pub board: Option<String>,
    /// The MIG mode.
    pub mig: MigMode,
    /// What it can be cut into: the driver's word, or the catalogue's while the driver won't tell; `None`: unknown.
    pub geometry: Option<Arc<Geometry>>,
    /// Its GPU instances, ascending by start.
    pub instances: Vec<GpuInstance>,
    /// Where instances lay when the node last converged.
    #[serde(default)]
    pub recorded: Vec<Recorded>,
    /// Who uses the whole GPU (MIG mode off, or at work beside the instances).
    pub users: Known<Vec<User>>,
}

/// A GPU instance. Its identity across time is `profile` and `placement`, never an id or a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// Its profile, as the driver names it.
    pub profile: ProfileName,
    /// Where it lies, in memory slices.
    pub placement: Placement,
    /// The driver's id of the moment.
    pub gi_id: u32,
    /// Its compute instances, ascending by id.
    pub compute: Vec<ComputeInstance>,
    /// Processes on the GPU instance that belong to no compute instance's users, or that could not be asked for.
    pub users: Known<Vec<User>>,
}

/// A GPU and where it sits. What `index` means hangs on the whole list of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seated {
    /// The index in PCI order.
    pub index: u32,
    /// The PCI bus id.
    pub pci: String,
    /// `GPU-…`.
    pub uuid: String,
}

impl Seated {
    /// Where a GPU sits now.
    pub fn of(gpu: &ObservedGpu) -> Seated {
        Seated { index: gpu.index, pci: gpu.pci.clone(), uuid: gpu.uuid.clone() }
    }
}

/// Somebody stopped reconciling a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// RFC 3339; empty where it is not known.
    pub since: String,
    /// Who, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// Where it was said, and so where it is taken back.
    #[serde(skip_serializing_if = "Scope::is_here", default)]
    pub scope: Scope,
    /// When it ends by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<String>,
    /// Whether the node's service lets go of the driver meanwhile, as for an upgrade of it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub release: bool,
}

closed_list! {
    /// Where a node was suspended.
    #[derive(Default)]
    Scope {
        /// On the node itself.
        #[default]
        Here = "here",
        /// In the cluster, this node.
        Node = "node",
        /// In the cluster, every node.
        Fleet = "fleet",
        /// In the cluster, this node, by the GPU operator while it upgrades the driver.
        Operator = "operator",
    }
}

impl Scope {
    fn is_here(&self) -> bool {
        *self == Scope::Here
    }
}

impl fmt::Display for Suspension {
    /// `since 2026-01-01T00:00:00Z by ann: moving racks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Suspension { reason, since, by, scope, until, release } = self;
        let scope = (*scope == Scope::Fleet).then(|| "with the whole fleet".to_owned());
        let since = (!since.is_empty()).then(|| format!("since {since}"));
        let until = until.as_ref().map(|until| format!("until {until}"));
        let without = release.then(|| "without the driver".to_owned());
        let by = by.as_ref().map(|by| format!("by {by}"));
        let parts: Vec<String> = [scope, without, since, until, by].into_iter().flatten().collect();
        let colon = if parts.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{reason}", parts.join(" "))
    }
}

/// Where an instance lay when the node last converged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recorded {
    /// Its profile, as the driver named it.
    pub profile: ProfileName,
    /// Its first memory slice.
    pub start: u32,
    /// Its compute instances; `None` for one that fills it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compute: Option<Vec<ComputeName>>,
}

/// A compute instance: what CUDA sees as a MIG device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// Its profile.
    pub profile: ComputeName,
    /// The driver's id of the moment, unique in its GPU instance.
    pub ci_id: u32,
    /// `MIG-…`.
    pub uuid: String,
    /// Who uses it.
    pub users: Known<Vec<User>>,
}

impl GpuInstance {
    /// Its compute instances as a layout says them: `None` for one that fills it.
    pub fn cut(&self) -> Option<Vec<ComputeName>> {
        let compute: Vec<ComputeName> = self.compute.iter().map(|compute| compute.profile).collect();
        (compute != [ComputeName::filling(self.profile)]).then_some(compute)
    }

    /// All users of the instance and of its compute instances, without repeats; unknown if any part is.
    pub fn all_users(&self) -> Known<Vec<User>> {
        let mut all = Vec::new();
        for part in self.parts() {
            match part {
                Known::Known(users) => all.extend(users.iter().cloned()),
                Known::Unknown => return Known::Unknown,
            }
        }
        all.sort();
        all.dedup();
        Known::Known(all)
    }

    fn parts(&self) -> impl Iterator<Item = &Known<Vec<User>>> {
        self.compute.iter().map(|c| &c.users).chain([&self.users])
    }

    /// Whether somebody uses it; unknown means in use.
    pub fn in_use(&self) -> bool {
        self.parts().any(|users| users.known().is_none_or(|users| !users.is_empty()))
    }
}
