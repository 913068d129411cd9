//! The traits of the outside: driver, cluster, host, journal and clock.
//!
//! The driver is synchronous, as NVML is; cluster, host and clock are asynchronous. The simulator's futures never
//! wait (its clock jumps), so that one executor serves both the real and the simulated world.
#![expect(async_fn_in_trait, reason = "everything runs on tokio's current_thread; no future must be Send")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::model::closed::closed_list;
use crate::model::observed::{DeviceFiles, MigStrategy, NodeInCluster, UnitState};
use crate::model::{Digest, NodeState, ObservedCluster, Placement, Pod, ProfileName, StepKind};

/// NVML's return codes (nvml.h 13.5), as far as MIG management meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum NvmlCode {
    Success = 0,
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    NotFound = 6,
    InsufficientSize = 7,
    DriverNotLoaded = 9,
    Timeout = 10,
    LibraryNotFound = 12,
    FunctionNotFound = 13,
    GpuIsLost = 15,
    ResetRequired = 16,
    LibRmVersionMismatch = 18,
    InUse = 19,
    InsufficientResources = 23,
    ArgumentVersionMismatch = 25,
    InvalidState = 29,
    ResetTypeNotSupported = 30,
    Unknown = 999,
}

impl NvmlCode {
    /// Every code but success.
    pub const ERRORS: &'static [NvmlCode] = &[
        NvmlCode::Uninitialized,
        NvmlCode::InvalidArgument,
        NvmlCode::NotSupported,
        NvmlCode::NoPermission,
        NvmlCode::NotFound,
        NvmlCode::InsufficientSize,
        NvmlCode::DriverNotLoaded,
        NvmlCode::Timeout,
        NvmlCode::LibraryNotFound,
        NvmlCode::FunctionNotFound,
        NvmlCode::GpuIsLost,
        NvmlCode::ResetRequired,
        NvmlCode::LibRmVersionMismatch,
        NvmlCode::InUse,
        NvmlCode::InsufficientResources,
        NvmlCode::ArgumentVersionMismatch,
        NvmlCode::InvalidState,
        NvmlCode::ResetTypeNotSupported,
        NvmlCode::Unknown,
    ];

    /// Its name in nvml.h behind `NVML_ERROR_`: `IN_USE`.
    pub fn constant(self) -> String {
        let camel = format!("{self:?}");
        let bar = |(at, letter): (usize, char)| {
            let bar = (at > 0 && letter.is_ascii_uppercase()).then_some('_');
            bar.into_iter().chain([letter.to_ascii_uppercase()])
        };
        camel.char_indices().flat_map(bar).collect()
    }

    /// Whether it may pass by itself, so that trying again may help.
    pub fn passes(self) -> bool {
        matches!(self, NvmlCode::InUse | NvmlCode::Timeout)
    }

    /// What to do about it, where that is somebody's.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            NvmlCode::NoPermission => Some(
                "run it as root: instances take CAP_SYS_ADMIN or the capability mig/config \
                 (/dev/nvidia-caps/nvidia-cap1), a change of MIG mode the former, and in a vGPU guest nothing helps",
            ),
            NvmlCode::Uninitialized | NvmlCode::DriverNotLoaded => {
                Some("the driver is not loaded, or was reloaded meanwhile: see whether `nvidia-smi` works here")
            }
            NvmlCode::LibRmVersionMismatch => {
                Some("the driver was upgraded while the old one is loaded: reload it, or reboot the node")
            }
            NvmlCode::GpuIsLost => {
                Some("a GPU fell off the bus: see `dmesg` for an Xid, and reset it or reboot the node")
            }
            NvmlCode::ResetRequired => Some("a GPU must be reset before it can be used: `nvidia-smi --gpu-reset`"),
            NvmlCode::FunctionNotFound => Some("the driver is too old for MIG: upgrade it"),
            _ => None,
        }
    }

    /// The words that nvidia-smi prints for it.
    pub fn words(self) -> &'static str {
        use NvmlCode::*;
        match self {
            Success => "Success",
            Uninitialized => "Uninitialized",
            InvalidArgument => "Invalid Argument",
            NotSupported => "Not Supported",
            NoPermission => "Insufficient Permissions",
            NotFound => "Not Found",
            InsufficientSize => "Insufficient Size",
            DriverNotLoaded => "Driver Not Loaded",
            Timeout => "Timeout",
            LibraryNotFound => "Library Not Found",
            FunctionNotFound => "Function Not Found",
            GpuIsLost => "GPU is lost",
            ResetRequired => "GPU requires reset",
            LibRmVersionMismatch => "Driver/library version mismatch",
            InUse => "In use by another client",
            InsufficientResources => "Insufficient Resources",
            ArgumentVersionMismatch => "Argument version mismatch",
            InvalidState => "Invalid State",
            ResetTypeNotSupported => "Reset type not supported",
            Unknown => "Unknown Error",
        }
    }
}

impl fmt::Display for NvmlCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (NVML {})", self.words(), *self as u32)
    }
}

impl std::error::Error for NvmlCode {}

/// What an NVML call returns.
pub type Nvml<T> = Result<T, NvmlCode>;

/// A device: a GPU, or a MIG device of one. Opaque; of one driver and one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub u64);

/// A GPU instance; invalid after it was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gi(pub u64);

/// A compute instance; invalid after it was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ci(pub u64);

/// `nvmlGpuInstanceProfileInfo_v3_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiProfileInfo {
    pub id: u32,
    pub slice_count: u32,
    pub instance_count: u32,
    pub multiprocessor_count: u32,
    pub copy_engine_count: u32,
    pub decoder_count: u32,
    pub encoder_count: u32,
    pub jpeg_count: u32,
    pub ofa_count: u32,
    pub memory_size_mib: u64,
    /// With or without `MIG ` before it, as the driver prints.
    pub name: String,
    /// Bit 0: P2P, bit 1: graphics.
    pub capabilities: u32,
}

/// `nvmlGpuInstanceInfo_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiInfo {
    pub device: Device,
    pub id: u32,
    pub profile_id: u32,
    pub placement: Placement,
}

/// `nvmlComputeInstanceProfileInfo_v3_t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiProfileInfo {
    pub id: u32,
    pub slice_count: u32,
    pub instance_count: u32,
    pub multiprocessor_count: u32,
    pub shared_copy_engine_count: u32,
    pub shared_decoder_count: u32,
    pub shared_encoder_count: u32,
    pub shared_jpeg_count: u32,
    pub shared_ofa_count: u32,
    pub name: String,
    pub capabilities: u32,
}

/// `nvmlComputeInstanceInfo_t`; `device` is the MIG device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiInfo {
    pub device: Device,
    pub gpu_instance: Gi,
    pub id: u32,
    pub profile_id: u32,
    pub placement: Placement,
}

/// `nvmlProcessInfo_t`; ids are absent where NVML says 0xFFFFFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    pub used_memory: Option<u64>,
    pub gpu_instance_id: Option<u32>,
    pub compute_instance_id: Option<u32>,
}

/// `NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED`.
pub const FIELD_RESETLESS_MIG: u32 = 184;
/// `NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE`: profiles and placements can be asked with MIG mode off.
pub const FIELD_MODE_INDEPENDENT_QUERY: u32 = 199;

/// A driver, at NVML's level: a method a call, its return codes, nothing smoothed over. What each call does, which
/// codes it gives and who may call it is NVML's documentation (nvml.h 13.5, the MIG user guide).
pub trait Driver {
    fn driver_version(&self) -> Nvml<String>;
    fn device_count(&self) -> Nvml<u32>;
    fn device_by_index(&self, index: u32) -> Nvml<Device>;
    /// Accepts `GPU-…` and `MIG-…`.
    fn device_by_uuid(&self, uuid: &str) -> Nvml<Device>;
    fn device_by_pci(&self, bus_id: &str) -> Nvml<Device>;

    fn uuid(&self, device: Device) -> Nvml<String>;
    fn name(&self, device: Device) -> Nvml<String>;
    fn index(&self, device: Device) -> Nvml<u32>;
    fn minor_number(&self, device: Device) -> Nvml<u32>;
    fn pci_bus_id(&self, device: Device) -> Nvml<String>;
    /// Total memory in bytes.
    fn memory_total(&self, device: Device) -> Nvml<u64>;
    fn field_value(&self, device: Device, field: u32) -> Nvml<u64>;

    /// Current and pending mode. `NotSupported`: the board can't MIG.
    fn mig_mode(&self, device: Device) -> Nvml<(bool, bool)>;
    /// `Ok` carries the activation status, which must be looked at: `Success`, `ResetRequired`, `InUse`, `Timeout`.
    fn set_mig_mode(&self, device: Device, enabled: bool) -> Nvml<NvmlCode>;
    fn max_mig_device_count(&self, device: Device) -> Nvml<u32>;
    /// `NotFound` where the index has a hole.
    fn mig_device_by_index(&self, device: Device, index: u32) -> Nvml<Device>;
    fn is_mig_device(&self, device: Device) -> Nvml<bool>;
    fn parent_of_mig_device(&self, mig: Device) -> Nvml<Device>;
    fn gpu_instance_id(&self, mig: Device) -> Nvml<u32>;
    fn compute_instance_id(&self, mig: Device) -> Nvml<u32>;

    /// By enumeration index. `NotSupported`: skip; `InvalidArgument`: past the end.
    fn gi_profile(&self, device: Device, index: u32) -> Nvml<GiProfileInfo>;
    fn gi_profile_by_id(&self, device: Device, profile_id: u32) -> Nvml<GiProfileInfo>;
    /// All legal placements, not only the free ones.
    fn gi_possible_placements(&self, device: Device, profile_id: u32) -> Nvml<Vec<Placement>>;
    fn gi_remaining_capacity(&self, device: Device, profile_id: u32) -> Nvml<u32>;
    fn create_gi(&self, device: Device, profile_id: u32) -> Nvml<Gi>;
    fn create_gi_at(&self, device: Device, profile_id: u32, placement: Placement) -> Nvml<Gi>;
    fn destroy_gi(&self, gi: Gi) -> Nvml<()>;
    fn gpu_instances(&self, device: Device, profile_id: u32) -> Nvml<Vec<Gi>>;
    fn gi_by_id(&self, device: Device, id: u32) -> Nvml<Gi>;
    fn gi_info(&self, gi: Gi) -> Nvml<GiInfo>;

    /// By enumeration index, with the shared engine profile.
    fn ci_profile(&self, gi: Gi, index: u32) -> Nvml<CiProfileInfo>;
    fn ci_possible_placements(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Placement>>;
    fn ci_remaining_capacity(&self, gi: Gi, profile_id: u32) -> Nvml<u32>;
    fn create_ci(&self, gi: Gi, profile_id: u32) -> Nvml<Ci>;
    fn create_ci_at(&self, gi: Gi, profile_id: u32, placement: Placement) -> Nvml<Ci>;
    fn destroy_ci(&self, ci: Ci) -> Nvml<()>;
    fn compute_instances(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Ci>>;
    fn ci_by_id(&self, gi: Gi, id: u32) -> Nvml<Ci>;
    fn ci_info(&self, ci: Ci) -> Nvml<CiInfo>;

    fn compute_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>>;
    fn graphics_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>>;
    fn mps_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>>;
    fn process_name(&self, pid: u32) -> Nvml<String>;
}

/// Every call of [`Driver`], for a macro that does the same with each; the caller has the types in scope.
#[macro_export]
macro_rules! driver_calls {
    ($each:ident) => {
        $each! {
            fn driver_version() -> String;
            fn device_count() -> u32;
            fn device_by_index(index: u32) -> Device;
            fn device_by_uuid(uuid: &str) -> Device;
            fn device_by_pci(bus_id: &str) -> Device;
            fn uuid(device: Device) -> String;
            fn name(device: Device) -> String;
            fn index(device: Device) -> u32;
            fn minor_number(device: Device) -> u32;
            fn pci_bus_id(device: Device) -> String;
            fn memory_total(device: Device) -> u64;
            fn field_value(device: Device, field: u32) -> u64;
            fn mig_mode(device: Device) -> (bool, bool);
            fn set_mig_mode(device: Device, enabled: bool) -> NvmlCode;
            fn max_mig_device_count(device: Device) -> u32;
            fn mig_device_by_index(device: Device, index: u32) -> Device;
            fn is_mig_device(device: Device) -> bool;
            fn parent_of_mig_device(mig: Device) -> Device;
            fn gpu_instance_id(mig: Device) -> u32;
            fn compute_instance_id(mig: Device) -> u32;
            fn gi_profile(device: Device, index: u32) -> GiProfileInfo;
            fn gi_profile_by_id(device: Device, profile_id: u32) -> GiProfileInfo;
            fn gi_possible_placements(device: Device, profile_id: u32) -> Vec<Placement>;
            fn gi_remaining_capacity(device: Device, profile_id: u32) -> u32;
            fn create_gi(device: Device, profile_id: u32) -> Gi;
            fn create_gi_at(device: Device, profile_id: u32, placement: Placement) -> Gi;
            fn destroy_gi(gi: Gi) -> ();
            fn gpu_instances(device: Device, profile_id: u32) -> Vec<Gi>;
            fn gi_by_id(device: Device, id: u32) -> Gi;
            fn gi_info(gi: Gi) -> GiInfo;
            fn ci_profile(gi: Gi, index: u32) -> CiProfileInfo;
            fn ci_possible_placements(gi: Gi, profile_id: u32) -> Vec<Placement>;
            fn ci_remaining_capacity(gi: Gi, profile_id: u32) -> u32;
            fn create_ci(gi: Gi, profile_id: u32) -> Ci;
            fn create_ci_at(gi: Gi, profile_id: u32, placement: Placement) -> Ci;
            fn destroy_ci(ci: Ci) -> ();
            fn compute_instances(gi: Gi, profile_id: u32) -> Vec<Ci>;
            fn ci_by_id(gi: Gi, id: u32) -> Ci;
            fn ci_info(ci: Ci) -> CiInfo;
            fn compute_processes(device: Device) -> Vec<ProcessInfo>;
            fn graphics_processes(device: Device) -> Vec<ProcessInfo>;
            fn mps_processes(device: Device) -> Vec<ProcessInfo>;
            fn process_name(pid: u32) -> String;
        }
    };
}

#[doc(inline)]
pub use driver_calls;

/// Why a call to the outside failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    /// Whether trying again may help.
    pub transient: bool,
    /// The code of the port: an NVML code's words, an HTTP status, a D-Bus error's name, an exit status.
    pub code: String,
    /// What was called and on what, a sentence.
    pub message: String,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.code)
    }
}

impl std::error::Error for PortError {}

/// What a call to the outside returns.
pub type Port<T> = Result<T, PortError>;

/// What became of an eviction that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The pod terminates.
    Accepted,
    /// It was gone already, or is another pod now.
    Gone,
    /// A disruption budget forbids it (429); seconds after which to ask again, where the server said so.
    TooMany {
        /// Retry-After.
        retry_after_s: Option<u64>,
    },
}

/// How to remove a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Seconds of grace; `None`: the pod's own.
    pub grace_period_s: Option<u64>,
    /// Delete instead of evict.
    pub delete: bool,
    /// Only ask whether it would be done.
    pub dry_run: bool,
}

/// What the pods of a workload are to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `Deployment`…
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The container that asks, where there are several.
    pub container: Option<&'a str>,
    /// Instances of this profile, as the driver names it.
    pub profile: ProfileName,
    /// So many for each pod.
    pub per_replica: u32,
    /// How the nodes that they may run on name MIG devices.
    pub strategy: MigStrategy,
}

impl<'a> Request<'a> {
    /// What a `bind_workload` step asks for; `None` for any other step.
    pub fn of(step: &'a StepKind) -> Option<Self> {
        match step {
            StepKind::BindWorkload {
                binding: _,
                workload_kind,
                namespace,
                name,
                container,
                profile,
                per_replica,
                strategy,
            } => {
                let (profile, per_replica, strategy) = (*profile, *per_replica, *strategy);
                Some(Request {
                    kind: workload_kind,
                    namespace,
                    name,
                    container: container.as_deref(),
                    profile,
                    per_replica,
                    strategy,
                })
            }
            _ => None,
        }
    }
}

/// The cluster, as one node's agent and the controller need it.
pub trait Cluster {
    /// Pods, budgets, workloads and free instances.
    async fn observe(&self) -> Port<ObservedCluster>;
    /// The cluster's view of a node; `None`: it knows no such node.
    async fn node(&self, node: &str) -> Port<Option<NodeInCluster>>;
    /// A node's labels; `None`: it knows no such node.
    async fn labels(&self, node: &str) -> Port<Option<BTreeMap<String, String>>>;
    /// Pods on a node that hold devices, asked anew of whoever gives them out.
    async fn holders(&self, node: &str) -> Port<Vec<Pod>>;
    /// One pod; `None`: 404.
    async fn pod(&self, namespace: &str, name: &str) -> Port<Option<Pod>>;
    /// Our taint on, for this plan, or (`None`) off.
    async fn set_taint(&self, node: &str, plan: Option<&Digest>) -> Port<()>;
    /// Pauses what advertises the node's GPUs for this plan, or (`None`) resumes it: what is there then is advertised.
    async fn set_clients_paused(&self, node: &str, plan: Option<&Digest>) -> Port<()>;
    /// Restarts what advertises the node's GPUs, without a pause: what is there then is advertised.
    async fn restart_clients(&self, node: &str) -> Port<()>;
    /// Removes a pod, if it still has that UID.
    async fn remove_pod(&self, namespace: &str, name: &str, uid: &str, how: Removal) -> Port<Eviction>;
    /// Pods of NVIDIA's mig-manager that are still on a node, `namespace/name`; none: it writes no more.
    async fn writer_gone(&self, node: &str) -> Port<Vec<String>>;
    /// Sets a label of a node.
    async fn set_label(&self, node: &str, key: &str, value: &str) -> Port<()>;
    /// Sets a workload's resource request and affinity.
    async fn bind(&self, request: &Request<'_>) -> Port<()>;
    /// Shows at the node how it stands.
    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()>;
    /// Tells what has happened, where `kubectl describe` shows it.
    async fn event(&self, event: &ClusterEvent<'_>) -> Port<()>;
}

/// How a node stands, as it is shown in the cluster: a label and annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// How it stands.
    pub state: NodeState,
    /// Which tree: `main@sha1:1eabc9a`.
    pub revision: &'a str,
    /// What was seen of it, and when; `None`: what is shown already is as good.
    pub view: Option<&'a str>,
}

closed_list! {
    /// Why an event is told.
    Reason {
        /// Somebody was disturbed or an instance changed: a plan is carried out.
        Repartitioning = "MigRepartitioning",
        /// The layout is what the tree says.
        Repartitioned = "MigRepartitioned",
        /// It stops until somebody acts.
        Blocked = "MigRepartitionBlocked",
        /// A step failed for good.
        Failed = "MigRepartitionFailed",
        /// The pod is evicted, since its instance goes.
        Evicted = "MigInstanceGoes",
    }
}

/// Something that has happened to a node, or to a pod on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent<'a> {
    /// The node.
    pub node: &'a str,
    /// Its pod that it is about: namespace, name and UID.
    pub pod: Option<(&'a str, &'a str, &'a str)>,
    /// Why it is told.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
}

impl Reason {
    /// Whether somebody should look into it.
    pub fn warns(self) -> bool {
        matches!(self, Reason::Blocked | Reason::Failed)
    }
}

/// Which of a binding's commands, or of a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandPhase {
    /// Begins to free the instances.
    Drain,
    /// Asks whether they are free.
    Drained,
    /// Gives them back.
    Resume,
    /// Asks whether it is up.
    Ready,
    /// Begins a client's pause.
    Pause,
    /// Asks whether it is paused.
    Paused,
    /// Ends it.
    Unpause,
}

/// A command to run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandCall<'a> {
    /// The binding's name, or the client's.
    pub workload: &'a str,
    /// Which of its commands.
    pub phase: CommandPhase,
    /// Program and arguments.
    pub argv: &'a [String],
    /// For `SECTILE_MIG_UUIDS`.
    pub uuids: &'a [String],
}

/// The host: its units, its commands, and what only the host can do to a GPU.
pub trait Host {
    /// States of these units, and of every unit that holds a device; a unit that does not exist is left out.
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>>;
    /// Workloads that commands drain and resume, with the UUIDs that each was given and still holds.
    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>>;
    /// Stops a unit and waits until it is inactive.
    async fn stop_unit(&self, unit: &str) -> Port<()>;
    /// Gives a unit its UUIDs (`env=uuid,uuid`), starts it and waits until it is active.
    async fn start_unit(&self, unit: &str, env: &str, uuids: &[String]) -> Port<()>;
    /// Runs a command; its exit status.
    async fn run(&self, call: CommandCall<'_>) -> Port<i32>;
    /// Resets exactly this GPU.
    async fn reset_gpu(&self, pci: &str) -> Port<()>;
    /// What it keeps of its MIG devices beside the driver.
    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>>;
    /// Makes these anew, from what the driver has now.
    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()>;
    /// Ends a process: SIGTERM, then SIGKILL.
    async fn terminate(&self, pid: u32) -> Port<()>;
}

/// Time. The simulator's clock jumps when somebody sleeps.
pub trait Clock {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Waits until then.
    async fn sleep_until(&self, then: Timestamp);
}

/// Where records of what is about to be done, and was done, are kept: lines that survive a crash.
pub trait Journal {
    /// Appends a line and returns when it is on stable storage.
    fn append(&mut self, line: &str) -> Port<()>;
    /// Every line, oldest first; a torn last one included.
    fn lines(&self) -> Port<Vec<String>>;
    /// Forgets everything: the plan that it told of is over.
    fn clear(&mut self) -> Port<()>;
}
