//! The driver's trait: NVML's calls with NVML's return codes.

use std::fmt;

use crate::model::Placement;

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
