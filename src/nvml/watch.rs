//! A driver on a thread of its own, whose calls have a deadline: a driver that hangs must not take Sectile with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::Placement;
use crate::ports::{Ci, CiInfo, CiProfileInfo, Device, Driver, Gi, GiInfo, GiProfileInfo, Nvml, NvmlCode, ProcessInfo};

/// A call that was asked for: it runs on the driver's thread.
type Call<D> = Box<dyn FnOnce(&mut Option<D>) + Send>;

/// A driver that is left alone once it does not answer: a call past its deadline is a time-out, and so is every other
/// one until the driver comes back, at once and without being passed on, since what waits in a queue would strike when
/// nobody counts on it any more.
#[derive(Debug)]
pub struct Watched<D> {
    inner: Arc<Inner<D>>,
}

#[derive(Debug)]
struct Inner<D> {
    calls: Mutex<Sender<Call<D>>>,
    limit: Duration,
    /// How many calls were passed on, and how many of them came back.
    asked: AtomicU64,
    finished: Arc<AtomicU64>,
    /// The call that passed its deadline, and its number.
    late: Mutex<Option<(&'static str, u64)>>,
}

/// Why there is no driver.
#[derive(Debug)]
pub enum NotOpened<E> {
    /// It can't be opened.
    Failed(E),
    /// It does not come back from being opened.
    Hangs,
}

impl<D> Clone for Watched<D> {
    fn clone(&self) -> Self {
        Watched { inner: Arc::clone(&self.inner) }
    }
}

impl<D: 'static> Watched<D> {
    /// Opens a driver on a thread of its own. `limit` is the deadline of each call, and of the opening.
    ///
    /// # Errors
    ///
    /// What opening it tells, or that it does not come back.
    pub fn open<E: Send + 'static>(
        limit: Duration,
        mut open: impl FnMut() -> Result<D, E> + Send + 'static,
    ) -> Result<Self, NotOpened<E>> {
        let (opened, answer) = mpsc::channel();
        let begin = move || {
            let (driver, failed) = match open() {
                Ok(driver) => (Some(driver), None),
                Err(error) => (None, Some(error)),
            };
            // Whoever asked may have given up.
            let _ = opened.send(failed.map_or(Ok(()), Err));
            (driver, open)
        };
        let watched = Watched::begin(limit, begin);
        match answer.recv_timeout(limit) {
            Ok(Ok(())) => Ok(watched),
            Ok(Err(error)) => Err(NotOpened::Failed(error)),
            Err(_) => Err(NotOpened::Hangs),
        }
    }

    /// A driver that is not opened before its first call.
    pub fn closed<E: 'static>(limit: Duration, open: impl FnMut() -> Result<D, E> + Send + 'static) -> Self {
        Watched::begin(limit, move || (None, open))
    }

    /// Begins the driver's thread with a driver, if it is open, and what opens it.
    fn begin<E, O: FnMut() -> Result<D, E>>(
        limit: Duration,
        begin: impl FnOnce() -> (Option<D>, O) + Send + 'static,
    ) -> Self {
        let (calls, inbox) = mpsc::channel::<Call<D>>();
        let finished = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&finished);
        std::thread::spawn(move || {
            let (mut driver, mut open) = begin();
            for call in inbox {
                driver = driver.or_else(|| open().ok());
                call(&mut driver);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (calls, asked, late) = (Mutex::new(calls), AtomicU64::new(0), Mutex::new(None));
        Watched { inner: Arc::new(Inner { calls, limit, asked, finished, late }) }
    }

    /// The call that does not come back, by NVML's name.
    pub fn hangs(&self) -> Option<&'static str> {
        let late = *locked(&self.inner.late);
        late.filter(|(_, number)| self.inner.finished.load(Ordering::SeqCst) < *number).map(|(call, _)| call)
    }

    /// Lets go of the driver, and of its handles. The next call opens it again.
    pub fn release(&self) {
        // Where it hangs there is nothing that could let go.
        let _ = self.pass("nvmlShutdown", |driver| {
            *driver = None;
            Ok(())
        });
    }

    /// Runs something on the driver's thread, within the deadline. `call` is what is told where it hangs.
    pub fn ask<T: Send + 'static>(
        &self,
        call: &'static str,
        run: impl FnOnce(&D) -> Nvml<T> + Send + 'static,
    ) -> Nvml<T> {
        self.pass(call, move |driver| run(driver.as_ref().ok_or(NvmlCode::Uninitialized)?))
    }

    fn pass<T: Send + 'static>(
        &self,
        call: &'static str,
        run: impl FnOnce(&mut Option<D>) -> Nvml<T> + Send + 'static,
    ) -> Nvml<T> {
        let sender = locked(&self.inner.calls);
        if self.hangs().is_some() {
            return Err(NvmlCode::Timeout);
        }
        let (done, answer) = mpsc::channel();
        let number = self.inner.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let boxed: Call<D> = Box::new(move |driver| {
            // Whoever asked may have given up.
            let _ = done.send(run(driver));
        });
        if sender.send(boxed).is_err() {
            return Err(NvmlCode::Uninitialized);
        }
        match answer.recv_timeout(self.inner.limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                *locked(&self.inner.late) = Some((call, number));
                Err(NvmlCode::Timeout)
            }
            Err(RecvTimeoutError::Disconnected) => Err(NvmlCode::Uninitialized),
        }
    }
}

/// Whoever panicked while holding it left it whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! watched {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $call:literal;)*) => {
        impl<D: Driver + 'static> Driver for Watched<D> {
            fn device_by_uuid(&self, uuid: &str) -> Nvml<Device> {
                let uuid = uuid.to_owned();
                self.ask("nvmlDeviceGetHandleByUUID", move |driver| driver.device_by_uuid(&uuid))
            }

            fn device_by_pci(&self, bus_id: &str) -> Nvml<Device> {
                let bus_id = bus_id.to_owned();
                self.ask("nvmlDeviceGetHandleByPciBusId", move |driver| driver.device_by_pci(&bus_id))
            }

            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                self.ask($call, move |driver| driver.$name($($arg),*))
            })*
        }
    };
}

watched! {
    fn driver_version() -> String = "nvmlSystemGetDriverVersion";
    fn device_count() -> u32 = "nvmlDeviceGetCount";
    fn device_by_index(index: u32) -> Device = "nvmlDeviceGetHandleByIndex";
    fn uuid(device: Device) -> String = "nvmlDeviceGetUUID";
    fn name(device: Device) -> String = "nvmlDeviceGetName";
    fn index(device: Device) -> u32 = "nvmlDeviceGetIndex";
    fn minor_number(device: Device) -> u32 = "nvmlDeviceGetMinorNumber";
    fn pci_bus_id(device: Device) -> String = "nvmlDeviceGetPciInfo";
    fn memory_total(device: Device) -> u64 = "nvmlDeviceGetMemoryInfo";
    fn field_value(device: Device, field: u32) -> u64 = "nvmlDeviceGetFieldValues";
    fn mig_mode(device: Device) -> (bool, bool) = "nvmlDeviceGetMigMode";
    fn set_mig_mode(device: Device, enabled: bool) -> NvmlCode = "nvmlDeviceSetMigMode";
    fn max_mig_device_count(device: Device) -> u32 = "nvmlDeviceGetMaxMigDeviceCount";
    fn mig_device_by_index(device: Device, index: u32) -> Device = "nvmlDeviceGetMigDeviceHandleByIndex";
    fn is_mig_device(device: Device) -> bool = "nvmlDeviceIsMigDeviceHandle";
    fn parent_of_mig_device(mig: Device) -> Device = "nvmlDeviceGetDeviceHandleFromMigDeviceHandle";
    fn gpu_instance_id(mig: Device) -> u32 = "nvmlDeviceGetGpuInstanceId";
    fn compute_instance_id(mig: Device) -> u32 = "nvmlDeviceGetComputeInstanceId";
    fn gi_profile(device: Device, index: u32) -> GiProfileInfo = "nvmlDeviceGetGpuInstanceProfileInfo";
    fn gi_profile_by_id(device: Device, profile_id: u32) -> GiProfileInfo = "nvmlDeviceGetGpuInstanceProfileInfoById";
    fn gi_possible_placements(device: Device, profile_id: u32) -> Vec<Placement>
        = "nvmlDeviceGetGpuInstancePossiblePlacements";
    fn gi_remaining_capacity(device: Device, profile_id: u32) -> u32 = "nvmlDeviceGetGpuInstanceRemainingCapacity";
    fn create_gi(device: Device, profile_id: u32) -> Gi = "nvmlDeviceCreateGpuInstance";
    fn create_gi_at(device: Device, profile_id: u32, placement: Placement) -> Gi
        = "nvmlDeviceCreateGpuInstanceWithPlacement";
    fn destroy_gi(gi: Gi) -> () = "nvmlGpuInstanceDestroy";
    fn gpu_instances(device: Device, profile_id: u32) -> Vec<Gi> = "nvmlDeviceGetGpuInstances";
    fn gi_by_id(device: Device, id: u32) -> Gi = "nvmlDeviceGetGpuInstanceById";
    fn gi_info(gi: Gi) -> GiInfo = "nvmlGpuInstanceGetInfo";
    fn ci_profile(gi: Gi, index: u32) -> CiProfileInfo = "nvmlGpuInstanceGetComputeInstanceProfileInfo";
    fn ci_possible_placements(gi: Gi, profile_id: u32) -> Vec<Placement>
        = "nvmlGpuInstanceGetComputeInstancePossiblePlacements";
    fn ci_remaining_capacity(gi: Gi, profile_id: u32) -> u32 = "nvmlGpuInstanceGetComputeInstanceRemainingCapacity";
    fn create_ci(gi: Gi, profile_id: u32) -> Ci = "nvmlGpuInstanceCreateComputeInstance";
    fn create_ci_at(gi: Gi, profile_id: u32, placement: Placement) -> Ci
        = "nvmlGpuInstanceCreateComputeInstanceWithPlacement";
    fn destroy_ci(ci: Ci) -> () = "nvmlComputeInstanceDestroy";
    fn compute_instances(gi: Gi, profile_id: u32) -> Vec<Ci> = "nvmlGpuInstanceGetComputeInstances";
    fn ci_by_id(gi: Gi, id: u32) -> Ci = "nvmlGpuInstanceGetComputeInstanceById";
    fn ci_info(ci: Ci) -> CiInfo = "nvmlComputeInstanceGetInfo";
    fn compute_processes(device: Device) -> Vec<ProcessInfo> = "nvmlDeviceGetComputeRunningProcesses";
    fn graphics_processes(device: Device) -> Vec<ProcessInfo> = "nvmlDeviceGetGraphicsRunningProcesses";
    fn mps_processes(device: Device) -> Vec<ProcessInfo> = "nvmlDeviceGetMPSComputeRunningProcesses";
    fn process_name(pid: u32) -> String = "nvmlSystemGetProcessName";
}
