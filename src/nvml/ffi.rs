//! NVML's functions behind the driver's trait: the only file that holds what the compiler can't check.
//!
//! nvml-wrapper loads and starts the library; the rest is called by its symbols, since the wrapper has no calls for
//! instances. Handles leave this file as numbers, and only those come back to NVML that it gave itself.
#![expect(unsafe_code, reason = "NVML is a C library")]

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, c_char, c_uint};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings::*;

use super::convert::{self, code, text};
use super::process;
use crate::model::Placement;
use crate::ports::{Ci, CiInfo, CiProfileInfo, Device, Driver, Gi, GiInfo, GiProfileInfo, Nvml, NvmlCode, ProcessInfo};

/// More than any GPU has instances or any profile placements: the kernel's table of them ends at 15 GPU instances with
/// 8 compute instances each, and NVML writes as many as a profile can have at most.
const MOST: usize = 64;
/// How often a list that grows while it is read is asked for anew.
const TRIES: usize = 5;
/// Longer than any of NVML's texts: the longest that nvml.h defines takes 96 bytes, a process's name what it likes.
const TEXT: usize = 1024;
/// Where an enumeration of profiles is given up (nvml.h 13.5 has 18).
const MOST_PROFILES: u32 = 64;
/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`.
const SHARED_ENGINES: c_uint = 0;

/// NVML in this process: initialised when it is opened, shut down when it is dropped.
#[derive(Debug)]
pub struct Library {
    nvml: nvml_wrapper::Nvml,
    devices: Handles,
    gis: Handles,
    cis: Handles,
    /// The version of the profile structures that the driver takes; 0: not known yet.
    gi_version: AtomicU32,
    ci_version: AtomicU32,
    calls: AtomicU64,
    /// Where processes are looked up: `/proc`.
    proc: PathBuf,
}

/// Handles of one kind that NVML gave and that were not destroyed here.
#[derive(Debug, Default)]
struct Handles(Mutex<BTreeSet<usize>>);

impl Handles {
    fn all(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give<T>(&self, handle: *mut T) -> u64 {
        let address = handle.expose_provenance();
        self.all().insert(address);
        address as u64
    }

    fn take<T>(&self, token: u64) -> Nvml<*mut T> {
        let address = usize::try_from(token).ok().filter(|address| self.all().contains(address));
        address.map(std::ptr::with_exposed_provenance_mut).ok_or(NvmlCode::InvalidArgument)
    }

    fn forget(&self, token: u64) {
        self.all().retain(|address| *address as u64 != token);
    }
}

/// Calls a function of NVML by its symbol.
macro_rules! call {
    ($self:ident.$name:ident($($argument:expr),* $(,)?)) => {{
        $self.calls.fetch_add(1, Relaxed);
        match &$self.nvml.lib().$name {
            // SAFETY: the symbol has the type that nvml.h gives it, and the library is initialised as long as `self`
            // lives. Every pointer among the arguments is to a variable or a buffer of the caller that outlives the
            // call, with the length that is told or that NVML demands; handles come from `Handles`.
            Ok(function) => code(unsafe { function($($argument),*) }),
            Err(_) => Err(NvmlCode::FunctionNotFound),
        }
    }};
}

/// Lists processes on a device by the third version of the call, or else by the second: both write the same structure, but
/// for the third of 535.43 to 535.86, which writes more than there is room for. What came when that was mended (535.98)
/// tells which it is, and some libraries since have no third version.
macro_rules! running {
    ($self:ident, $device:ident, $third:ident, $second:ident) => {{
        let device = $self.device($device)?;
        let mended = $self.nvml.lib().nvmlDeviceGetRunningProcessDetailList.is_ok();
        $self.processes(|count, list| match mended.then(|| call!($self.$third(device, count, list))) {
            None | Some(Err(NvmlCode::FunctionNotFound)) => call!($self.$second(device, count, list)),
            Some(told) => told,
        })
    }};
}

/// A structure of NVML for it to fill in.
macro_rules! blank {
    // SAFETY: a C structure of numbers, arrays of numbers and pointers that nobody here follows: zero is a value of it.
    ($type:ty) => {
        unsafe { std::mem::zeroed::<$type>() }
    };
}

/// A structure that tells NVML its version.
macro_rules! versioned {
    ($type:ty, $version:literal) => {{
        let mut info = blank!($type);
        info.version = size_of::<$type>() as c_uint | ($version << 24);
        info
    }};
}

impl Library {
    /// Loads the library at that path, or the system's, and initialises it.
    ///
    /// # Errors
    ///
    /// As nvml-wrapper tells it; [`super::Trouble`] says what to do.
    pub fn open(path: Option<&OsStr>) -> Result<Library, NvmlError> {
        let mut builder = nvml_wrapper::Nvml::builder();
        if let Some(path) = path {
            builder.lib_path(path);
        }
        Ok(Library {
            nvml: builder.init()?,
            devices: Handles::default(),
            gis: Handles::default(),
            cis: Handles::default(),
            gi_version: AtomicU32::new(0),
            ci_version: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            proc: PathBuf::from("/proc"),
        })
    }

    /// The same, where processes are looked up elsewhere.
    #[must_use]
    pub fn with_proc(self, proc: PathBuf) -> Library {
        Library { proc, ..self }
    }

    /// How many calls of NVML were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    fn device(&self, device: Device) -> Nvml<nvmlDevice_t> {
        self.devices.take(device.0)
    }

    fn gi(&self, gi: Gi) -> Nvml<nvmlGpuInstance_t> {
        self.gis.take(gi.0)
    }

    fn found(&self, ask: impl FnOnce(*mut nvmlDevice_t) -> Nvml<()>) -> Nvml<Device> {
        let mut device = std::ptr::null_mut();
        ask(&mut device)?;
        Ok(Device(self.devices.give(device)))
    }

    fn made_gi(&self, ask: impl FnOnce(*mut nvmlGpuInstance_t) -> Nvml<()>) -> Nvml<Gi> {
        let mut gi = std::ptr::null_mut();
        ask(&mut gi)?;
        Ok(Gi(self.gis.give(gi)))
    }

    fn made_ci(&self, ask: impl FnOnce(*mut nvmlComputeInstance_t) -> Nvml<()>) -> Nvml<Ci> {
        let mut ci = std::ptr::null_mut();
        ask(&mut ci)?;
        Ok(Ci(self.cis.give(ci)))
    }

    /// Asks with the newest version of a structure that the driver takes, once that is known; else with each, from the
    /// newest on. A driver that is older than a version says so in one of three ways.
    fn newest<T>(&self, known: &AtomicU32, ask: impl Fn(u32) -> Nvml<T>) -> Nvml<T> {
        use NvmlCode::{ArgumentVersionMismatch, FunctionNotFound, InvalidArgument};
        let versions = match known.load(Relaxed) {
            0 => 1..=3,
            version => version..=version,
        };
        let mut last = Err(FunctionNotFound);
        for version in versions.rev() {
            last = ask(version);
            match last {
                Ok(_) => known.store(version, Relaxed),
                Err(ArgumentVersionMismatch | FunctionNotFound | InvalidArgument) => continue,
                Err(_) => {}
            }
            break;
        }
        last
    }

    fn gi_profile_at(&self, device: nvmlDevice_t, index: u32, version: u32) -> Nvml<GiProfileInfo> {
        match version {
            3 => {
                let mut info = versioned!(nvmlGpuInstanceProfileInfo_v3_t, 3);
                call!(self.nvmlDeviceGetGpuInstanceProfileInfoV(device, index, (&raw mut info).cast()))?;
                Ok(convert::gi_profile_v3(&info))
            }
            2 => {
                let mut info = versioned!(nvmlGpuInstanceProfileInfo_v2_t, 2);
                call!(self.nvmlDeviceGetGpuInstanceProfileInfoV(device, index, &mut info))?;
                Ok(convert::gi_profile_v2(&info))
            }
            _ => {
                let mut info = blank!(nvmlGpuInstanceProfileInfo_t);
                call!(self.nvmlDeviceGetGpuInstanceProfileInfo(device, index, &mut info))?;
                let mut memory = blank!(nvmlMemory_t);
                call!(self.nvmlDeviceGetMemoryInfo(device, &mut memory))?;
                Ok(convert::gi_profile_v1(&info, index, memory.total))
            }
        }
    }

    fn gi_profile_of(&self, device: nvmlDevice_t, id: u32, version: u32) -> Nvml<GiProfileInfo> {
        match version {
            3 => {
                let mut info = versioned!(nvmlGpuInstanceProfileInfo_v3_t, 3);
                call!(self.nvmlDeviceGetGpuInstanceProfileInfoByIdV(device, id, (&raw mut info).cast()))?;
                Ok(convert::gi_profile_v3(&info))
            }
            2 => {
                let mut info = versioned!(nvmlGpuInstanceProfileInfo_v2_t, 2);
                call!(self.nvmlDeviceGetGpuInstanceProfileInfoByIdV(device, id, &mut info))?;
                Ok(convert::gi_profile_v2(&info))
            }
            // The first version can't be asked by id.
            _ => {
                for index in 0..MOST_PROFILES {
                    match self.gi_profile_at(device, index, 1) {
                        Ok(info) if info.id == id => return Ok(info),
                        Err(NvmlCode::InvalidArgument) => break,
                        Ok(_) | Err(NvmlCode::NotSupported) => {}
                        Err(code) => return Err(code),
                    }
                }
                Err(NvmlCode::NotSupported)
            }
        }
    }

    fn ci_profile_at(&self, gi: nvmlGpuInstance_t, index: u32, version: u32) -> Nvml<CiProfileInfo> {
        let engines = SHARED_ENGINES;
        match version {
            3 => {
                let mut info = versioned!(nvmlComputeInstanceProfileInfo_v3_t, 3);
                let into = (&raw mut info).cast();
                call!(self.nvmlGpuInstanceGetComputeInstanceProfileInfoV(gi, index, engines, into))?;
                Ok(convert::ci_profile_v3(&info))
            }
            2 => {
                let mut info = versioned!(nvmlComputeInstanceProfileInfo_v2_t, 2);
                call!(self.nvmlGpuInstanceGetComputeInstanceProfileInfoV(gi, index, engines, &mut info))?;
                Ok(convert::ci_profile_v2(&info))
            }
            _ => {
                let mut info = blank!(nvmlComputeInstanceProfileInfo_t);
                call!(self.nvmlGpuInstanceGetComputeInstanceProfileInfo(gi, index, engines, &mut info))?;
                Ok(convert::ci_profile_v1(&info))
            }
        }
    }

    /// A list whose length NVML tells when it is asked without room for it.
    fn list<T: Copy>(&self, empty: T, ask: impl Fn(*mut T, *mut c_uint) -> Nvml<()>) -> Nvml<Vec<T>> {
        let mut count = 0;
        ask(std::ptr::null_mut(), &mut count)?;
        let mut list = vec![empty; MOST.max(count as usize)];
        ask(list.as_mut_ptr(), &mut count)?;
        list.truncate(count as usize);
        Ok(list)
    }

    /// A list with room for as many as there can ever be; NVML only tells how many there are.
    fn instances<T>(&self, ask: impl FnOnce(*mut *mut T, *mut c_uint) -> Nvml<()>) -> Nvml<Vec<*mut T>> {
        let (mut list, mut count) = ([std::ptr::null_mut(); MOST], MOST as c_uint);
        ask(list.as_mut_ptr(), &mut count)?;
        Ok(list.into_iter().take(count as usize).collect())
    }

    /// Processes, as many as there are by the time that there is room for them.
    fn processes(&self, ask: impl Fn(*mut c_uint, *mut nvmlProcessInfo_t) -> Nvml<()>) -> Nvml<Vec<ProcessInfo>> {
        let mut room = MOST;
        for _ in 0..TRIES {
            let mut list = vec![blank!(nvmlProcessInfo_t); room];
            let mut count = room as c_uint;
            match ask(&mut count, list.as_mut_ptr()) {
                Err(NvmlCode::InsufficientSize) => room = (count as usize).max(room).saturating_mul(2),
                Err(code) => return Err(code),
                Ok(()) => return Ok(list.iter().take(count as usize).map(convert::process).collect()),
            }
        }
        Err(NvmlCode::InsufficientSize)
    }

    fn text(&self, ask: impl FnOnce(*mut c_char, c_uint) -> Nvml<()>) -> Nvml<String> {
        let mut buffer = [0; TEXT];
        ask(buffer.as_mut_ptr(), TEXT as c_uint)?;
        Ok(text(&buffer))
    }

    fn number(&self, ask: impl FnOnce(*mut c_uint) -> Nvml<()>) -> Nvml<u32> {
        let mut number = 0;
        ask(&mut number)?;
        Ok(number)
    }
}

fn c_string(text: &str) -> Nvml<CString> {
    CString::new(text).map_err(|_| NvmlCode::InvalidArgument)
}

impl Driver for Library {
    fn driver_version(&self) -> Nvml<String> {
        self.text(|text, length| call!(self.nvmlSystemGetDriverVersion(text, length)))
    }

    fn device_count(&self) -> Nvml<u32> {
        self.number(|count| call!(self.nvmlDeviceGetCount_v2(count)))
    }

    fn device_by_index(&self, index: u32) -> Nvml<Device> {
        self.found(|device| call!(self.nvmlDeviceGetHandleByIndex_v2(index, device)))
    }

    fn device_by_uuid(&self, uuid: &str) -> Nvml<Device> {
        let uuid = c_string(uuid)?;
        self.found(|device| call!(self.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), device)))
    }

    fn device_by_pci(&self, bus_id: &str) -> Nvml<Device> {
        let bus_id = c_string(bus_id)?;
        self.found(|device| call!(self.nvmlDeviceGetHandleByPciBusId_v2(bus_id.as_ptr(), device)))
    }

    fn uuid(&self, device: Device) -> Nvml<String> {
        let device = self.device(device)?;
        self.text(|text, length| call!(self.nvmlDeviceGetUUID(device, text, length)))
    }

    fn name(&self, device: Device) -> Nvml<String> {
        let device = self.device(device)?;
        self.text(|text, length| call!(self.nvmlDeviceGetName(device, text, length)))
    }

    fn index(&self, device: Device) -> Nvml<u32> {
        let device = self.device(device)?;
        self.number(|index| call!(self.nvmlDeviceGetIndex(device, index)))
    }

    fn minor_number(&self, device: Device) -> Nvml<u32> {
        let device = self.device(device)?;
        self.number(|minor| call!(self.nvmlDeviceGetMinorNumber(device, minor)))
    }

    fn pci_bus_id(&self, device: Device) -> Nvml<String> {
        let device = self.device(device)?;
        let mut info = blank!(nvmlPciInfo_t);
        call!(self.nvmlDeviceGetPciInfo_v3(device, &mut info))?;
        Ok(text(&info.busId))
    }

    fn memory_total(&self, device: Device) -> Nvml<u64> {
        let device = self.device(device)?;
        let mut memory = blank!(nvmlMemory_t);
        call!(self.nvmlDeviceGetMemoryInfo(device, &mut memory))?;
        Ok(memory.total)
    }

    fn field_value(&self, device: Device, field: u32) -> Nvml<u64> {
        let device = self.device(device)?;
        let mut value = blank!(nvmlFieldValue_t);
        value.fieldId = field;
        call!(self.nvmlDeviceGetFieldValues(device, 1, &mut value))?;
        code(value.nvmlReturn)?;
        // SAFETY: a union of numbers, of which any bits are a value; it began as zeroes.
        let wide = unsafe { value.value.ullVal };
        convert::field(value.valueType, wide)
    }

    fn mig_mode(&self, device: Device) -> Nvml<(bool, bool)> {
        let device = self.device(device)?;
        let (mut current, mut pending) = (0, 0);
        call!(self.nvmlDeviceGetMigMode(device, &mut current, &mut pending))?;
        Ok((current == NVML_DEVICE_MIG_ENABLE, pending == NVML_DEVICE_MIG_ENABLE))
    }

    fn set_mig_mode(&self, device: Device, enabled: bool) -> Nvml<NvmlCode> {
        let device = self.device(device)?;
        let mut activation = 0;
        call!(self.nvmlDeviceSetMigMode(device, c_uint::from(enabled), &mut activation))?;
        // Instances do not outlive the mode, and the driver may have reset the GPU.
        self.gis.all().clear();
        self.cis.all().clear();
        Ok(code(activation).err().unwrap_or(NvmlCode::Success))
    }

    fn max_mig_device_count(&self, device: Device) -> Nvml<u32> {
        let device = self.device(device)?;
        self.number(|count| call!(self.nvmlDeviceGetMaxMigDeviceCount(device, count)))
    }

    fn mig_device_by_index(&self, device: Device, index: u32) -> Nvml<Device> {
        let device = self.device(device)?;
        self.found(|mig| call!(self.nvmlDeviceGetMigDeviceHandleByIndex(device, index, mig)))
    }

    fn is_mig_device(&self, device: Device) -> Nvml<bool> {
        let device = self.device(device)?;
        self.number(|is| call!(self.nvmlDeviceIsMigDeviceHandle(device, is))).map(|is| is != 0)
    }

    fn parent_of_mig_device(&self, mig: Device) -> Nvml<Device> {
        let mig = self.device(mig)?;
        self.found(|device| call!(self.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig, device)))
    }

    fn gpu_instance_id(&self, mig: Device) -> Nvml<u32> {
        let mig = self.device(mig)?;
        self.number(|id| call!(self.nvmlDeviceGetGpuInstanceId(mig, id)))
    }

    fn compute_instance_id(&self, mig: Device) -> Nvml<u32> {
        let mig = self.device(mig)?;
        self.number(|id| call!(self.nvmlDeviceGetComputeInstanceId(mig, id)))
    }

    fn gi_profile(&self, device: Device, index: u32) -> Nvml<GiProfileInfo> {
        let device = self.device(device)?;
        self.newest(&self.gi_version, |version| self.gi_profile_at(device, index, version))
    }

    fn gi_profile_by_id(&self, device: Device, profile_id: u32) -> Nvml<GiProfileInfo> {
        let device = self.device(device)?;
        self.newest(&self.gi_version, |version| self.gi_profile_of(device, profile_id, version))
    }

    fn gi_possible_placements(&self, device: Device, profile_id: u32) -> Nvml<Vec<Placement>> {
        let device = self.device(device)?;
        let list = self.list(blank!(nvmlGpuInstancePlacement_t), |list, count| {
            call!(self.nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile_id, list, count))
        })?;
        Ok(list.iter().map(convert::gi_placement).collect())
    }

    fn gi_remaining_capacity(&self, device: Device, profile_id: u32) -> Nvml<u32> {
        let device = self.device(device)?;
        self.number(|count| call!(self.nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile_id, count)))
    }

    fn create_gi(&self, device: Device, profile_id: u32) -> Nvml<Gi> {
        let device = self.device(device)?;
        self.made_gi(|gi| call!(self.nvmlDeviceCreateGpuInstance(device, profile_id, gi)))
    }

    fn create_gi_at(&self, device: Device, profile_id: u32, placement: Placement) -> Nvml<Gi> {
        let device = self.device(device)?;
        let at = nvmlGpuInstancePlacement_t { start: placement.start, size: placement.size };
        self.made_gi(|gi| call!(self.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile_id, &at, gi)))
    }

    fn destroy_gi(&self, gi: Gi) -> Nvml<()> {
        let handle = self.gi(gi)?;
        call!(self.nvmlGpuInstanceDestroy(handle))?;
        self.gis.forget(gi.0);
        Ok(())
    }

    fn gpu_instances(&self, device: Device, profile_id: u32) -> Nvml<Vec<Gi>> {
        let device = self.device(device)?;
        let ask = |list, count| call!(self.nvmlDeviceGetGpuInstances(device, profile_id, list, count));
        Ok(self.instances(ask)?.into_iter().map(|gi| Gi(self.gis.give(gi))).collect())
    }

    fn gi_by_id(&self, device: Device, id: u32) -> Nvml<Gi> {
        let device = self.device(device)?;
        self.made_gi(|gi| call!(self.nvmlDeviceGetGpuInstanceById(device, id, gi)))
    }

    fn gi_info(&self, gi: Gi) -> Nvml<GiInfo> {
        let gi = self.gi(gi)?;
        let mut info = blank!(nvmlGpuInstanceInfo_t);
        call!(self.nvmlGpuInstanceGetInfo(gi, &mut info))?;
        let device = Device(self.devices.give(info.device));
        let placement = convert::gi_placement(&info.placement);
        Ok(GiInfo { device, id: info.id, profile_id: info.profileId, placement })
    }

    fn ci_profile(&self, gi: Gi, index: u32) -> Nvml<CiProfileInfo> {
        let gi = self.gi(gi)?;
        self.newest(&self.ci_version, |version| self.ci_profile_at(gi, index, version))
    }

    fn ci_possible_placements(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Placement>> {
        let gi = self.gi(gi)?;
        let list = self.list(blank!(nvmlComputeInstancePlacement_t), |list, count| {
            call!(self.nvmlGpuInstanceGetComputeInstancePossiblePlacements(gi, profile_id, list, count))
        })?;
        Ok(list.iter().map(convert::ci_placement).collect())
    }

    fn ci_remaining_capacity(&self, gi: Gi, profile_id: u32) -> Nvml<u32> {
        let gi = self.gi(gi)?;
        self.number(|n| call!(self.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(gi, profile_id, n)))
    }

    fn create_ci(&self, gi: Gi, profile_id: u32) -> Nvml<Ci> {
        let gi = self.gi(gi)?;
        self.made_ci(|ci| call!(self.nvmlGpuInstanceCreateComputeInstance(gi, profile_id, ci)))
    }

    fn create_ci_at(&self, gi: Gi, profile_id: u32, placement: Placement) -> Nvml<Ci> {
        let gi = self.gi(gi)?;
        let at = nvmlComputeInstancePlacement_t { start: placement.start, size: placement.size };
        self.made_ci(|ci| call!(self.nvmlGpuInstanceCreateComputeInstanceWithPlacement(gi, profile_id, &at, ci)))
    }

    fn destroy_ci(&self, ci: Ci) -> Nvml<()> {
        let handle = self.cis.take(ci.0)?;
        call!(self.nvmlComputeInstanceDestroy(handle))?;
        self.cis.forget(ci.0);
        Ok(())
    }

    fn compute_instances(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Ci>> {
        let gi = self.gi(gi)?;
        let ask = |list, count| call!(self.nvmlGpuInstanceGetComputeInstances(gi, profile_id, list, count));
        Ok(self.instances(ask)?.into_iter().map(|ci| Ci(self.cis.give(ci))).collect())
    }

    fn ci_by_id(&self, gi: Gi, id: u32) -> Nvml<Ci> {
        let gi = self.gi(gi)?;
        self.made_ci(|ci| call!(self.nvmlGpuInstanceGetComputeInstanceById(gi, id, ci)))
    }

    fn ci_info(&self, ci: Ci) -> Nvml<CiInfo> {
        let ci = self.cis.take(ci.0)?;
        let mut info = blank!(nvmlComputeInstanceInfo_t);
        call!(self.nvmlComputeInstanceGetInfo_v2(ci, &mut info))?;
        let (device, gpu_instance) = (Device(self.devices.give(info.device)), Gi(self.gis.give(info.gpuInstance)));
        let placement = convert::ci_placement(&info.placement);
        Ok(CiInfo { device, gpu_instance, id: info.id, profile_id: info.profileId, placement })
    }

    fn compute_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        running!(self, device, nvmlDeviceGetComputeRunningProcesses_v3, nvmlDeviceGetComputeRunningProcesses_v2)
    }

    fn graphics_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        running!(self, device, nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlDeviceGetGraphicsRunningProcesses_v2)
    }

    fn mps_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        running!(self, device, nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlDeviceGetMPSComputeRunningProcesses_v2)
    }

    fn process_name(&self, pid: u32) -> Nvml<String> {
        let told = self.text(|text, length| call!(self.nvmlSystemGetProcessName(pid, text, length)));
        process::describe(&self.proc, pid, told)
    }
}
