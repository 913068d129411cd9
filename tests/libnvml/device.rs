//! GPUs and MIG devices: how to get at them, and what they are.

use std::ffi::c_char;

use sectile::model::catalogue::Board;
use sectile::ports::{Device, Driver as _, Nvml, NvmlCode};

use super::handles::DeviceToken;
use super::library::Library;
use super::nvml;
use super::place::{Out, Place, Text, Versioned, fixed, version_of};
use super::structs::{Attributes1, Attributes2, FieldValue, Memory1, Memory2, Pci1, Pci2, Pci3, PciExt, Uuid};

/// NVIDIA's, the lower half of a device id.
const VENDOR: u32 = 0x10de;
/// A 3D controller, as data centre GPUs are.
const CLASS: [u32; 2] = [3, 2];
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED: u32 = 1;
/// `NVML_UUID_TYPE_ASCII` and `_BINARY`.
const ASCII: u32 = 1;
const BINARY: u32 = 2;

fn by_index(it: &Library, index: u32) -> Nvml<DeviceToken> {
    it.call("device_by_index", |driver| driver.device_by_index(index)).map(DeviceToken::of)
}

fn by_uuid(it: &Library, uuid: &str) -> Nvml<DeviceToken> {
    it.call("device_by_uuid", |driver| driver.device_by_uuid(uuid)).map(DeviceToken::of)
}

/// As `nvidia-smi` and `lspci` write it: `00000000:17:00.0`, `0000:17:00.0`, `17:00.0`.
fn by_pci(it: &Library, bus_id: &str) -> Nvml<DeviceToken> {
    let whole = Pci::read(bus_id).ok_or(NvmlCode::InvalidArgument)?.bus_id();
    it.call("device_by_pci", |driver| driver.device_by_pci(&whole)).map(DeviceToken::of)
}

/// A struct's UUID as text; its bytes may be a GPU's or a MIG device's.
fn uuids(uuid: &Uuid) -> Nvml<Vec<String>> {
    match uuid.kind {
        ASCII => {
            let text = uuid.value.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(vec![std::str::from_utf8(text).map_err(|_| NvmlCode::InvalidArgument)?.to_owned()])
        }
        BINARY => {
            let hex: String = uuid.value.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
            let groups: Vec<&str> = groups.into_iter().filter_map(|group| hex.get(group)).collect();
            Ok(["GPU", "MIG"].iter().map(|kind| format!("{kind}-{}", groups.join("-"))).collect())
        }
        _ => Err(NvmlCode::InvalidArgument),
    }
}

/// Where a GPU is on the bus.
struct Pci {
    domain: u32,
    bus: u32,
    device: u32,
}

impl Pci {
    fn read(text: &str) -> Option<Self> {
        let (rest, function) = text.split_once('.').unwrap_or((text, "0"));
        let mut parts = rest.rsplit(':').map(|part| u32::from_str_radix(part, 16).ok());
        let (device, bus, domain) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
        (function.chars().all(|c| c == '0') && parts.next().is_none()).then_some(Pci { domain, bus, device })
    }

    fn of(it: &Library, device: Device) -> Nvml<Self> {
        let text = it.call("pci_bus_id", |driver| driver.pci_bus_id(device))?;
        Pci::read(&text).ok_or(NvmlCode::Unknown)
    }

    /// `NVML_DEVICE_PCI_BUS_ID_FMT`.
    fn bus_id(&self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

fn pci(it: &Library, device: DeviceToken) -> Nvml<Pci3> {
    let device = device.real()?;
    let place = Pci::of(it, device)?;
    let Pci { domain, bus, device: at } = place;
    let legacy = fixed(&format!("{domain:04X}:{bus:02X}:{at:02X}.0"));
    let first = Pci1 { legacy, domain, bus, device: at, id: pci_id(it, device)? };
    Ok(Pci3 { first: Pci2 { first, subsystem: 0 }, bus_id: fixed(&place.bus_id()) })
}

fn pci_id(it: &Library, device: Device) -> Nvml<u32> {
    let board = it.look(|driver| driver.board(device))?;
    Ok(u32::from(board.pci_device_ids.first().copied().unwrap_or_default()) << 16 | VENDOR)
}

fn pci_ext(it: &Library, device: DeviceToken) -> Nvml<PciExt> {
    let Pci3 { first: Pci2 { first, subsystem }, bus_id } = pci(it, device)?;
    let Pci1 { legacy: _, domain, bus, device, id } = first;
    Ok(PciExt { version: version_of::<PciExt>(1), domain, bus, device, id, subsystem, class: CLASS, bus_id })
}

fn memory(it: &Library, device: DeviceToken) -> Nvml<u64> {
    let device = device.real()?;
    it.call("memory_total", |driver| driver.memory_total(device))
}

fn board(it: &Library, device: DeviceToken) -> Nvml<&'static Board> {
    let device = device.real()?;
    it.look(|driver| driver.board(device))
}

/// `NVML_DEVICE_ARCH_*`.
fn architecture(board: &Board) -> u32 {
    match board.architecture {
        "Ampere" => 7,
        "Hopper" => 9,
        "Blackwell" => 10,
        _ => u32::MAX,
    }
}

/// CUDA's compute capability.
fn capability(board: &Board) -> (i32, i32) {
    match (board.architecture, board.id) {
        ("Ampere", _) => (8, 0),
        ("Hopper", _) => (9, 0),
        (_, id) if id.starts_with("rtx") => (12, 0),
        (_, id) if id.contains("b300") => (10, 3),
        _ => (10, 0),
    }
}

/// `NVML_BRAND_NVIDIA_RTX`, `NVML_BRAND_NVIDIA`.
fn brand(board: &Board) -> u32 {
    if board.id.starts_with("rtx") { 13 } else { 14 }
}

fn attributes(it: &Library, device: DeviceToken) -> Nvml<Attributes2> {
    let device = device.real()?;
    let (gi, ci) = it.look(|driver| driver.mig_profiles(device))?;
    let counts = [
        ci.multiprocessor_count,
        ci.shared_copy_engine_count,
        ci.shared_decoder_count,
        ci.shared_encoder_count,
        ci.shared_jpeg_count,
        ci.shared_ofa_count,
    ];
    let (gi_slices, ci_slices, memory_mib) = (gi.slice_count, ci.slice_count, gi.memory_size_mib);
    Ok(Attributes2 { first: Attributes1 { counts }, gi_slices, ci_slices, memory_mib })
}

/// Each value has its own code.
fn fields(it: &Library, device: DeviceToken, count: i32, values: Out<FieldValue>) -> Nvml<()> {
    let (device, values) = (device.real()?, values.place()?);
    let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(NvmlCode::InvalidArgument)?;
    it.look(|driver| driver.uuid(device))?;
    for value in (0..count).map(|n| values.nth(n)) {
        let FieldValue { field, scope, .. } = value.get();
        let read = it.call("field_value", |driver| driver.field_value(device, field));
        let code = read.err().unwrap_or(NvmlCode::Success) as u32;
        let empty = FieldValue { field, scope, timestamp: 0, latency_us: 0, kind: UNSIGNED, code, value: 0 };
        value.set(FieldValue { value: read.unwrap_or_default(), ..empty });
    }
    Ok(())
}

fn versioned<T: Copy>(place: &Versioned, version: u32) -> Nvml<Place<T>> {
    place.is(version)?.ok_or(NvmlCode::ArgumentVersionMismatch)
}

nvml! {
    fn nvmlDeviceGetHandleByIndex(index: u32, device: Out<DeviceToken>) = |it| device.take(|| by_index(it, index));
    fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: Out<DeviceToken>) = |it| device.take(|| by_index(it, index));
    fn nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<DeviceToken>) = |it| {
        device.take(|| by_uuid(it, &uuid.read()?))
    };
    fn nvmlDeviceGetHandleByUUIDV(uuid: Versioned, device: Out<DeviceToken>) = |it| device.take(|| {
        let found = uuids(&versioned(&uuid, 1)?.get())?;
        let mut tried = found.iter().map(|uuid| by_uuid(it, uuid));
        tried.find(|found| !matches!(found, Err(NvmlCode::NotFound))).unwrap_or(Err(NvmlCode::NotFound))
    });
    fn nvmlDeviceGetHandleByPciBusId(bus_id: Text, device: Out<DeviceToken>) = |it| {
        device.take(|| by_pci(it, &bus_id.read()?))
    };
    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: Text, device: Out<DeviceToken>) = |it| {
        device.take(|| by_pci(it, &bus_id.read()?))
    };
    fn nvmlDeviceGetName(device: DeviceToken, name: Out<c_char>, length: u32) = |it| {
        let device = device.real()?;
        name.text(length, || it.call("name", |driver| driver.name(device)))
    };
    fn nvmlDeviceGetUUID(device: DeviceToken, uuid: Out<c_char>, length: u32) = |it| {
        let device = device.real()?;
        uuid.text(length, || it.call("uuid", |driver| driver.uuid(device)))
    };
    fn nvmlDeviceGetIndex(device: DeviceToken, index: Out<u32>) = |it| {
        let device = device.real()?;
        index.take(|| it.call("index", |driver| driver.index(device)))
    };
    fn nvmlDeviceGetMinorNumber(device: DeviceToken, minor: Out<u32>) = |it| {
        let device = device.real()?;
        minor.take(|| it.call("minor_number", |driver| driver.minor_number(device)))
    };
    fn nvmlDeviceGetPciInfo(device: DeviceToken, info: Out<Pci1>) = |it| info.take(|| Ok(pci(it, device)?.first.first));
    fn nvmlDeviceGetPciInfo_v2(device: DeviceToken, info: Out<Pci2>) = |it| info.take(|| Ok(pci(it, device)?.first));
    fn nvmlDeviceGetPciInfo_v3(device: DeviceToken, info: Out<Pci3>) = |it| info.take(|| pci(it, device));
    fn nvmlDeviceGetPciInfoExt(device: DeviceToken, info: Versioned) = |it| {
        let place = versioned(&info, 1)?;
        place.set(pci_ext(it, device)?);
        Ok(())
    };
    /// Nobody uses any of it.
    fn nvmlDeviceGetMemoryInfo(device: DeviceToken, info: Out<Memory1>) = |it| info.take(|| {
        let total = memory(it, device)?;
        Ok(Memory1 { total, free: total, used: 0 })
    });
    fn nvmlDeviceGetMemoryInfo_v2(device: DeviceToken, info: Versioned) = |it| {
        let place = versioned(&info, 2)?;
        let total = memory(it, device)?;
        place.set(Memory2 { version: version_of::<Memory2>(2), total, reserved: 0, free: total, used: 0 });
        Ok(())
    };
    /// Made up as real ones are: the next power of two.
    fn nvmlDeviceGetBAR1MemoryInfo(device: DeviceToken, info: Out<Memory1>) = |it| info.take(|| {
        let total = memory(it, device)?.next_power_of_two();
        Ok(Memory1 { total, free: total, used: 0 })
    });
    fn nvmlDeviceGetArchitecture(device: DeviceToken, kind: Out<u32>) = |it| {
        kind.take(|| Ok(architecture(board(it, device)?)))
    };
    fn nvmlDeviceGetBrand(device: DeviceToken, kind: Out<u32>) = |it| kind.take(|| Ok(brand(board(it, device)?)));
    fn nvmlDeviceGetCudaComputeCapability(device: DeviceToken, major: Out<i32>, minor: Out<i32>) = |it| {
        let (major, minor) = (major.place()?, minor.place()?);
        let capability = capability(board(it, device)?);
        major.set(capability.0);
        minor.set(capability.1);
        Ok(())
    };
    fn nvmlDeviceGetAttributes(device: DeviceToken, found: Out<Attributes1>) = |it| {
        found.take(|| Ok(attributes(it, device)?.first))
    };
    fn nvmlDeviceGetAttributes_v2(device: DeviceToken, found: Out<Attributes2>) = |it| {
        found.take(|| attributes(it, device))
    };
    fn nvmlDeviceGetFieldValues(device: DeviceToken, count: i32, values: Out<FieldValue>) = |it| {
        fields(it, device, count, values)
    };
    /// `NVML_COMPUTEMODE_DEFAULT`.
    fn nvmlDeviceGetComputeMode(device: DeviceToken, mode: Out<u32>) = |it| mode.take(|| board(it, device).map(|_| 0));
    /// `NVML_GPU_VIRTUALIZATION_MODE_NONE`.
    fn nvmlDeviceGetVirtualizationMode(device: DeviceToken, mode: Out<u32>) = |it| {
        mode.take(|| board(it, device).map(|_| 0))
    };
}
