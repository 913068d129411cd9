//! The structs of nvml.h 13.5, for 64-bit machines.

use std::ffi::c_char;

use sectile::model;

use super::handles::{DeviceToken, GiToken};

/// Declares structs as C lays them out, each with the size that gcc measures of it.
macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

structs! {
    /// `nvmlGpuInstancePlacement_t` and `nvmlComputeInstancePlacement_t`.
    Placement, 8 { start: u32, size: u32 }
    /// `nvmlGpuInstanceProfileInfo_t`.
    GiProfile1, 48 { id: u32, p2p: u32, slices: u32, instances: u32, counts: [u32; 6], memory_mib: u64 }
    /// `nvmlGpuInstanceProfileInfo_v2_t`; `counts`: multiprocessors, copy, decoder, encoder, JPEG, OFA.
    GiProfile2, 152 {
        version: u32, id: u32, p2p: u32, slices: u32, instances: u32, counts: [u32; 6], memory_mib: u64,
        name: [c_char; 96],
    }
    /// `nvmlGpuInstanceProfileInfo_v3_t`.
    GiProfile3, 152 {
        version: u32, id: u32, slices: u32, instances: u32, counts: [u32; 6], memory_mib: u64, name: [c_char; 96],
        capabilities: u32,
    }
    /// `nvmlGpuInstanceInfo_t`.
    GiInfo, 24 { device: DeviceToken, id: u32, profile_id: u32, placement: Placement }
    /// `nvmlComputeInstanceProfileInfo_t`; `counts`: multiprocessors, and shared copy, decoder, encoder, JPEG, OFA.
    CiProfile1, 36 { id: u32, slices: u32, instances: u32, counts: [u32; 6] }
    /// `nvmlComputeInstanceProfileInfo_v2_t`.
    CiProfile2, 136 { version: u32, id: u32, slices: u32, instances: u32, counts: [u32; 6], name: [c_char; 96] }
    /// `nvmlComputeInstanceProfileInfo_v3_t`.
    CiProfile3, 140 {
        version: u32, id: u32, slices: u32, instances: u32, counts: [u32; 6], name: [c_char; 96], capabilities: u32,
    }
    /// `nvmlComputeInstanceInfo_t` as `nvmlComputeInstanceGetInfo` of old had it.
    CiInfo1, 24 { device: DeviceToken, gpu_instance: GiToken, id: u32, profile_id: u32 }
    /// `nvmlComputeInstanceInfo_t`.
    CiInfo2, 32 { device: DeviceToken, gpu_instance: GiToken, id: u32, profile_id: u32, placement: Placement }
    /// `nvmlProcessInfo_v1_t`.
    Process1, 16 { pid: u32, used: u64 }
    /// `nvmlProcessInfo_v2_t`, and that of the v3 functions.
    Process2, 24 { pid: u32, used: u64, gi: u32, ci: u32 }
    /// `nvmlProcessDetail_v1_t`.
    ProcessDetail, 32 { pid: u32, used: u64, gi: u32, ci: u32, protected: u64 }
    /// `nvmlProcessDetailList_v1_t`.
    ProcessDetails, 24 { version: u32, mode: u32, count: u32, processes: *mut ProcessDetail }
    /// `nvmlDeviceAttributes_t` as `nvmlDeviceGetAttributes` of old had it; `counts`: multiprocessors, and shared copy,
    /// decoder, encoder, JPEG, OFA.
    Attributes1, 24 { counts: [u32; 6] }
    /// `nvmlDeviceAttributes_t`.
    Attributes2, 40 { first: Attributes1, gi_slices: u32, ci_slices: u32, memory_mib: u64 }
    /// `nvmlMemory_t` and `nvmlBAR1Memory_t`.
    Memory1, 24 { total: u64, free: u64, used: u64 }
    /// `nvmlMemory_v2_t`.
    Memory2, 40 { version: u32, total: u64, reserved: u64, free: u64, used: u64 }
    /// `nvmlPciInfo_t` as `nvmlDeviceGetPciInfo` and `_v2` had it, as far as they wrote it.
    Pci1, 32 { legacy: [c_char; 16], domain: u32, bus: u32, device: u32, id: u32 }
    /// The same with what version 2 added.
    Pci2, 36 { first: Pci1, subsystem: u32 }
    /// `nvmlPciInfo_t`.
    Pci3, 68 { first: Pci2, bus_id: [c_char; 32] }
    /// `nvmlPciInfoExt_v1_t`; `class`: base and sub.
    PciExt, 64 {
        version: u32, domain: u32, bus: u32, device: u32, id: u32, subsystem: u32, class: [u32; 2],
        bus_id: [c_char; 32],
    }
    /// `nvmlUUID_v1_t`; `value`: the text, or its 16 bytes.
    Uuid, 52 { version: u32, kind: u32, value: [u8; 44] }
    /// `nvmlFieldValue_t`.
    FieldValue, 40 { field: u32, scope: u32, timestamp: i64, latency_us: i64, kind: u32, code: u32, value: u64 }
    /// `nvmlEventData_t` as `nvmlEventSetWait` of old had it.
    Event1, 24 { device: DeviceToken, kind: u64, data: u64 }
    /// `nvmlEventData_t`.
    Event2, 32 { first: Event1, gi: u32, ci: u32 }
}

impl From<model::Placement> for Placement {
    fn from(placement: model::Placement) -> Self {
        let model::Placement { start, size } = placement;
        Placement { start, size }
    }
}

impl From<Placement> for model::Placement {
    fn from(placement: Placement) -> Self {
        let Placement { start, size } = placement;
        model::Placement { start, size }
    }
}
