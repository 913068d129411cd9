//! Who runs on a device.

use sectile::ports::{Device, Driver as _, Nvml, NvmlCode, ProcessInfo};

use super::handles::DeviceToken;
use super::library::Library;
use super::nvml;
use super::place::{Out, Versioned};
use super::structs::{Process1, Process2, ProcessDetail, ProcessDetails};

/// `NVML_VALUE_NOT_AVAILABLE`.
const UNKNOWN: u64 = u64::MAX;
/// What stands where a process is on no instance.
const NONE: u32 = u32::MAX;

/// With which sort of context.
#[derive(Clone, Copy)]
enum Context {
    Compute,
    Graphics,
    Mps,
}

impl Context {
    fn ask(self, it: &Library, device: Device) -> Nvml<Vec<ProcessInfo>> {
        match self {
            Context::Compute => it.call("compute_processes", |driver| driver.compute_processes(device)),
            Context::Graphics => it.call("graphics_processes", |driver| driver.graphics_processes(device)),
            Context::Mps => it.call("mps_processes", |driver| driver.mps_processes(device)),
        }
    }

    /// All of them, if there is room; how many there are in any case.
    fn list<T: Copy + From<ProcessInfo>>(
        self,
        it: &Library,
        device: DeviceToken,
        count: Out<u32>,
        places: Out<T>,
    ) -> Nvml<()> {
        let (device, count) = (device.real()?, count.place()?);
        let room = count.get() as usize;
        if places.is_null() && room > 0 {
            return Err(NvmlCode::InvalidArgument);
        }
        let found = self.ask(it, device)?;
        count.set(found.len() as u32);
        match found.len() {
            0 => Ok(()),
            n if n > room => Err(NvmlCode::InsufficientSize),
            _ => {
                places.place()?.fill(found.into_iter().map(T::from));
                Ok(())
            }
        }
    }
}

impl From<ProcessInfo> for Process1 {
    fn from(info: ProcessInfo) -> Self {
        Process1 { pid: info.pid, used: info.used_memory.unwrap_or(UNKNOWN) }
    }
}

impl From<ProcessInfo> for Process2 {
    fn from(info: ProcessInfo) -> Self {
        let ProcessInfo { pid, used_memory, gpu_instance_id, compute_instance_id } = info;
        let (gi, ci) = (gpu_instance_id.unwrap_or(NONE), compute_instance_id.unwrap_or(NONE));
        Process2 { pid, used: used_memory.unwrap_or(UNKNOWN), gi, ci }
    }
}

impl From<ProcessInfo> for ProcessDetail {
    fn from(info: ProcessInfo) -> Self {
        let Process2 { pid, used, gi, ci } = info.into();
        ProcessDetail { pid, used, gi, ci, protected: UNKNOWN }
    }
}

fn details(it: &Library, device: DeviceToken, list: &Versioned) -> Nvml<()> {
    let place = list.is::<ProcessDetails>(1)?.ok_or(NvmlCode::InvalidArgument)?;
    let device = device.real()?;
    let ProcessDetails { version, mode, count, processes } = place.get();
    let asked = match mode {
        0 => vec![Context::Compute],
        1 => vec![Context::Graphics],
        2 => vec![Context::Mps],
        3 => vec![Context::Compute, Context::Graphics, Context::Mps],
        _ => return Err(NvmlCode::InvalidArgument),
    };
    let found: Nvml<Vec<_>> = asked.into_iter().map(|context| context.ask(it, device)).collect();
    let found = found?.concat();
    place.set(ProcessDetails { version, mode, count: found.len() as u32, processes });
    match found.len() {
        0 => Ok(()),
        n if n > count as usize => Err(NvmlCode::InsufficientSize),
        _ => {
            Out::new(processes).place()?.fill(found.into_iter().map(ProcessDetail::from));
            Ok(())
        }
    }
}

macro_rules! running {
    ($($name:ident: $context:ident, $process:ty;)*) => {
        nvml! {$(
            fn $name(device: DeviceToken, count: Out<u32>, places: Out<$process>) = |it| {
                Context::$context.list(it, device, count, places)
            };
        )*}
    };
}

running! {
    nvmlDeviceGetComputeRunningProcesses: Compute, Process1;
    nvmlDeviceGetComputeRunningProcesses_v2: Compute, Process2;
    nvmlDeviceGetComputeRunningProcesses_v3: Compute, Process2;
    nvmlDeviceGetGraphicsRunningProcesses: Graphics, Process1;
    nvmlDeviceGetGraphicsRunningProcesses_v2: Graphics, Process2;
    nvmlDeviceGetGraphicsRunningProcesses_v3: Graphics, Process2;
    nvmlDeviceGetMPSComputeRunningProcesses: Mps, Process1;
    nvmlDeviceGetMPSComputeRunningProcesses_v2: Mps, Process2;
    nvmlDeviceGetMPSComputeRunningProcesses_v3: Mps, Process2;
}

nvml! {
    fn nvmlDeviceGetRunningProcessDetailList(device: DeviceToken, list: Versioned) = |it| details(it, device, &list);
}
