//! NVML's structures as the ports have them.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::*;

use crate::model::Placement;
use crate::ports::{CiProfileInfo, GiProfileInfo, Nvml, NvmlCode, ProcessInfo};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What NVML says where it has no value, in 32 and in 64 bits.
const NO_ID: c_uint = c_uint::MAX;
const NO_VALUE: u64 = u64::MAX;

/// NVML's return code. A number that this version does not know is told in the log, since it can only be passed on as
/// unknown.
pub(super) fn code(number: nvmlReturn_t) -> Nvml<()> {
    if number == NvmlCode::Success as u32 {
        return Ok(());
    }
    let known = NvmlCode::ERRORS.iter().copied().find(|known| *known as u32 == number);
    Err(known.unwrap_or_else(|| {
        tracing::warn!("NVML answered {number}, which nvml.h names and this version does not know");
        NvmlCode::Unknown
    }))
}

/// A text that ends where NVML says, or with the buffer.
pub(super) fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().take_while(|letter| **letter != 0).map(|letter| *letter as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A field's value by its type, of the eight bytes that hold it, which began as zeroes.
#[expect(non_upper_case_globals, reason = "nvml.h's names")]
pub(super) fn field(kind: nvmlValueType_t, wide: u64) -> Nvml<u64> {
    match kind {
        nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => Err(NvmlCode::NotSupported),
        nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT | nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT => {
            Ok(wide & u64::from(u32::MAX))
        }
        nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT => Ok(wide & u64::from(u16::MAX)),
        _ => Ok(wide),
    }
}

pub(super) fn gi_placement(at: &nvmlGpuInstancePlacement_t) -> Placement {
    Placement { start: at.start, size: at.size }
}

pub(super) fn ci_placement(at: &nvmlComputeInstancePlacement_t) -> Placement {
    Placement { start: at.start, size: at.size }
}

pub(super) fn process(info: &nvmlProcessInfo_t) -> ProcessInfo {
    let id = |id: c_uint| (id != NO_ID).then_some(id);
    ProcessInfo {
        pid: info.pid,
        used_memory: (info.usedGpuMemory != NO_VALUE).then_some(info.usedGpuMemory),
        gpu_instance_id: id(info.gpuInstanceId),
        compute_instance_id: id(info.computeInstanceId),
    }
}

macro_rules! gi_profile {
    ($info:expr, $name:expr, $capabilities:expr) => {
        GiProfileInfo {
            id: $info.id,
            slice_count: $info.sliceCount,
            instance_count: $info.instanceCount,
            multiprocessor_count: $info.multiprocessorCount,
            copy_engine_count: $info.copyEngineCount,
            decoder_count: $info.decoderCount,
            encoder_count: $info.encoderCount,
            jpeg_count: $info.jpegCount,
            ofa_count: $info.ofaCount,
            memory_size_mib: $info.memorySizeMB,
            name: $name,
            capabilities: $capabilities,
        }
    };
}

pub(super) fn gi_profile_v3(info: &nvmlGpuInstanceProfileInfo_v3_t) -> GiProfileInfo {
    gi_profile!(info, text(&info.name), info.capabilities)
}

/// Before capabilities there was only P2P, their lowest bit.
pub(super) fn gi_profile_v2(info: &nvmlGpuInstanceProfileInfo_v2_t) -> GiProfileInfo {
    gi_profile!(info, text(&info.name), u32::from(info.isP2pSupported != 0))
}

/// The first version has no name, and there the driver's own tools made it up.
pub(super) fn gi_profile_v1(info: &nvmlGpuInstanceProfileInfo_t, index: u32, total: u64) -> GiProfileInfo {
    let name = made_up_name(info.sliceCount, index, info.memorySizeMB, total);
    gi_profile!(info, name, u32::from(info.isP2pSupported != 0))
}

/// The name of a profile whose driver does not tell it, as NVIDIA's go-nvlib makes it up: the memory in eighths of the
/// whole, the attribute by the profile's place in `NVML_GPU_INSTANCE_PROFILE_*`.
fn made_up_name(slices: u32, index: u32, memory_mib: u64, total: u64) -> String {
    let eighths = memory_mib.saturating_mul(MIB * 8).div_ceil(total.max(1));
    let gb = (eighths.saturating_mul(total.div_ceil(GIB)).saturating_add(4)) / 8;
    let attribute = match index {
        7 | 8 => "+me",
        10..=12 | 17 => "+gfx",
        13 | 14 => "-me",
        15 | 16 => "+me.all",
        _ => "",
    };
    format!("{slices}g.{gb}gb{attribute}")
}

macro_rules! ci_profile {
    ($info:expr, $name:expr, $capabilities:expr) => {
        CiProfileInfo {
            id: $info.id,
            slice_count: $info.sliceCount,
            instance_count: $info.instanceCount,
            multiprocessor_count: $info.multiprocessorCount,
            shared_copy_engine_count: $info.sharedCopyEngineCount,
            shared_decoder_count: $info.sharedDecoderCount,
            shared_encoder_count: $info.sharedEncoderCount,
            shared_jpeg_count: $info.sharedJpegCount,
            shared_ofa_count: $info.sharedOfaCount,
            name: $name,
            capabilities: $capabilities,
        }
    };
}

pub(super) fn ci_profile_v3(info: &nvmlComputeInstanceProfileInfo_v3_t) -> CiProfileInfo {
    ci_profile!(info, text(&info.name), info.capabilities)
}

pub(super) fn ci_profile_v2(info: &nvmlComputeInstanceProfileInfo_v2_t) -> CiProfileInfo {
    ci_profile!(info, text(&info.name), 0)
}

/// Without a name: compute instances are known by their slices.
pub(super) fn ci_profile_v1(info: &nvmlComputeInstanceProfileInfo_t) -> CiProfileInfo {
    ci_profile!(info, String::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalogue;

    #[test]
    fn every_number_is_a_code_and_success_is_none() {
        assert_eq!(code(0), Ok(()));
        assert_eq!(code(23), Err(NvmlCode::InsufficientResources));
        assert_eq!(code(25), Err(NvmlCode::ArgumentVersionMismatch));
        assert_eq!((code(21), code(4711)), (Err(NvmlCode::Unknown), Err(NvmlCode::Unknown)));
        for known in NvmlCode::ERRORS {
            assert_eq!(code(*known as u32), Err(*known));
        }
    }

    #[test]
    fn a_text_ends_at_its_nul_or_with_the_buffer() {
        let buffer = |text: &str| text.bytes().map(|byte| byte as c_char).collect::<Vec<_>>();
        assert_eq!(text(&buffer("MIG 1g.5gb\0rest")), "MIG 1g.5gb");
        assert_eq!(text(&buffer("whole")), "whole");
        assert_eq!(text(&[-1, 0]), "\u{fffd}");
    }

    #[test]
    fn a_field_is_as_wide_as_its_type() {
        let wide = 0xaaaa_bbbb_cccc_0001;
        assert_eq!(field(nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT, wide), Ok(0xcccc_0001));
        assert_eq!(field(nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT, wide), Ok(1));
        assert_eq!(field(nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, wide), Ok(wide));
        assert_eq!(field(nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE, wide), Err(NvmlCode::NotSupported));
    }

    #[test]
    fn what_no_process_is_on_is_absent() {
        let info = nvmlProcessInfo_t { pid: 7, usedGpuMemory: NO_VALUE, gpuInstanceId: 2, computeInstanceId: NO_ID };
        let there = ProcessInfo { pid: 7, used_memory: None, gpu_instance_id: Some(2), compute_instance_id: None };
        assert_eq!(process(&info), there);
    }

    /// The boards of the time when drivers told no names, by the memory that the catalogue has of them.
    #[test]
    fn made_up_names_are_those_that_the_drivers_of_the_time_printed() {
        for (board, total_mib) in [("a100-40gb", 40960), ("a100-80gb", 81920), ("a30-24gb", 24576)] {
            let board = catalogue::by_id(board).unwrap();
            for profile in board.profiles.iter().filter(|p| p.memory_mib.value.is_some()) {
                let memory = profile.memory_mib.value.unwrap();
                assert_eq!(made_up_name(profile.slices, profile.index, memory, total_mib * MIB), profile.name);
            }
        }
    }
}
