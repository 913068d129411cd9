//! The one adapter from a driver to the model: observing, who uses what, creating, destroying and undoing. NVML and
//! the simulator stand below it alike.
//!
//! What is remembered between calls is what a GPU can be cut into, which does not change while a driver is loaded, and by
//! which handles things were found: before such a handle is used, it is asked again what it stands for.

mod change;
mod find;
mod observe;
mod profiles;
mod users;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::change::Mode;
use self::find::Looked;
use self::profiles::Profiles;
use crate::model::{Gap, ObservedGpu};
use crate::ports::{CiProfileInfo, Device, Driver, NvmlCode, PortError};

/// By a GPU's UUID and the id of a profile of its GPU instances.
type ComputeProfiles = BTreeMap<(String, u32), Arc<[CiProfileInfo]>>;

/// The GPUs of one driver.
#[derive(Debug)]
pub struct Gpus<D: Driver> {
    driver: D,
    /// What each GPU can be cut into, by UUID, once the driver told.
    profiles: Mutex<BTreeMap<String, Profiles>>,
    /// What its instances can be cut into, by UUID and profile, those with the most slices first.
    compute: Mutex<ComputeProfiles>,
    /// Who each GPU is, by index, since a GPU that is lost no longer tells.
    seen: Mutex<BTreeMap<u32, ObservedGpu>>,
    /// By which handle each GPU was last found, by UUID.
    devices: Mutex<BTreeMap<String, Device>>,
    /// The instance that was last looked at.
    looked: Mutex<Option<Looked>>,
}

impl<D: Driver> Gpus<D> {
    /// An adapter over that driver.
    pub fn new(driver: D) -> Self {
        let (profiles, compute, seen, devices, looked) = Default::default();
        Gpus { driver, profiles, compute, seen, devices, looked }
    }

    /// What a GPU is known by, whether it is in MIG mode, and its MIG devices; cheaply, without rights, and without who uses
    /// what: another answer than before, and something has changed. What can't be asked is part of the answer.
    pub fn glance(&self) -> Vec<(String, String)> {
        let driver = &self.driver;
        let Ok(count) = driver.device_count() else { return Vec::new() };
        let of = |index| {
            let device = driver.device_by_index(index).map_err(|code| (String::new(), code.to_string()))?;
            let uuid = driver.uuid(device).unwrap_or_else(|code| code.to_string());
            let mut text = match driver.mig_mode(device) {
                Ok((current, pending)) => format!("{current} {pending}"),
                Err(code) => code.to_string(),
            };
            for index in 0..driver.max_mig_device_count(device).unwrap_or(0) {
                let device = driver.mig_device_by_index(device, index).and_then(|device| driver.uuid(device));
                text.extend(device.ok().into_iter().flat_map(|uuid| [" ".to_owned(), uuid]));
            }
            Ok((uuid, text))
        };
        (0..count).map(|index| of(index).unwrap_or_else(|lost| lost)).collect()
    }

    /// The driver below.
    pub fn driver(&self) -> &D {
        &self.driver
    }
}

/// A call that failed: only what may pass by itself is worth trying again.
fn failed(code: NvmlCode, message: impl Into<String>) -> PortError {
    PortError { transient: code.passes(), code: code.words().to_owned(), message: message.into() }
}

fn gap(object: impl Into<String>, what: &str, code: NvmlCode) -> Gap {
    Gap { object: object.into(), message: format!("{what}: {code}.") }
}

/// Whoever panicked while holding it left whole entries only, so the lock is taken as it is.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
