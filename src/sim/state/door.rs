//! The simulated driver for other programs: processes share a state file, and each call finds the world as the last
//! change of any of them left it.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Begun, Held, StateError, StateFile, load, read, take, whole, write};
use crate::model::Placement;
use crate::ports::{Ci, CiInfo, CiProfileInfo, Device, Driver, Gi, GiInfo, GiProfileInfo, Nvml, NvmlCode, ProcessInfo};
use crate::sim::driver::{Latency, SimDriver};
use crate::sim::fault::{Fate, Faulty, Meddler};
use crate::sim::lock;
use crate::sim::world::World;

/// The calls of a driver that change something; all others only read, and wait for nobody.
const CHANGES: &[&str] =
    &["set_mig_mode", "create_gi", "create_gi_at", "destroy_gi", "create_ci", "create_ci_at", "destroy_ci"];

/// A node's driver, over a state file that others use at the same time.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    fleet_text: String,
    fleet_name: String,
    /// Who calls, and on which node; of its world only the last one seen is kept.
    driver: SimDriver,
    /// How much of the time that a call takes is really waited for: 0 for none, 1 for all of it.
    pace: f64,
    seen: Mutex<Seen>,
}

/// What the world was read from.
#[derive(Debug, Default)]
struct Seen {
    /// While it is open nothing else can be mistaken for it.
    file: Option<File>,
    begun: Begun,
}

impl Door {
    /// The driver of a node, or of the first one, whose fleet's state lies at `path` and begins there if there is none.
    /// `Ok(None)`: the fleet has no such node.
    pub fn open(
        path: &Path,
        fleet_text: &str,
        fleet_name: &str,
        node: Option<&str>,
        privileged: bool,
        pace: f64,
    ) -> Result<Option<Door>, StateError> {
        let begun = read(path)?.is_some();
        if !begun {
            StateFile::open(path, fleet_text, fleet_name, false, true)?.save()?;
        }
        let text = read(path)?.unwrap_or_default();
        let world = load(path, &text, fleet_text, fleet_name)?;
        let mut names = world.nodes.keys();
        let Some(node) = names.find(|name| node.is_none_or(|node| node == *name)).cloned() else { return Ok(None) };
        let world = Arc::new(Mutex::new(world));
        Ok(Some(Door {
            path: path.to_owned(),
            fleet_text: fleet_text.to_owned(),
            fleet_name: fleet_name.to_owned(),
            driver: SimDriver { world, node, privileged, latency: Latency::default() },
            pace,
            seen: Mutex::default(),
        }))
    }

    /// Makes a call of that name; the fleet's faults strike it.
    pub fn call<T>(&self, name: &'static str, call: impl FnOnce(&SimDriver) -> Nvml<T>) -> Nvml<T> {
        Faulty::new((), self).nvml(name, || match CHANGES.contains(&name) {
            true => self.change(call),
            false => self.look(call),
        })
    }

    /// Asks what is no call of the driver's.
    pub fn look<T>(&self, ask: impl FnOnce(&SimDriver) -> Nvml<T>) -> Nvml<T> {
        let _seen = self.refreshed()?;
        ask(&self.driver)
    }

    /// Changes the world, with the state for itself, and then takes the time that it takes.
    fn change<T>(&self, change: impl FnOnce(&SimDriver) -> Nvml<T>) -> Nvml<T> {
        let held: Held = take(&self.path, true).map_err(|_| NvmlCode::Unknown)?;
        let mut seen = self.refreshed()?;
        let before: World = lock(&self.driver.world).clone();
        let done = change(&self.driver);
        let world = lock(&self.driver.world);
        let passed_ms = world.clock_ms.saturating_sub(before.clock_ms);
        if *world != before {
            // Whatever happens to the file, what is in memory alone is forgotten.
            seen.file = None;
            write(&self.path, seen.begun, &world, false).map_err(|_| NvmlCode::Unknown)?;
            seen.file = File::open(&self.path).ok();
        }
        drop((world, seen, held));
        self.wait(passed_ms);
        done
    }

    /// The world as the file has it now, until what is returned is dropped.
    fn refreshed(&self) -> Nvml<MutexGuard<'_, Seen>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match std::fs::metadata(&self.path) {
            Ok(there) => there,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(NvmlCode::DriverNotLoaded),
            Err(_) => return Err(NvmlCode::Unknown),
        };
        let known = seen.file.as_ref().and_then(|file| file.metadata().ok());
        if known.is_none_or(|known| (known.dev(), known.ino()) != (there.dev(), there.ino())) {
            seen.file = None;
            // Opened before it is read: what replaces it in between is read next time.
            let file = File::open(&self.path).map_err(|_| NvmlCode::DriverNotLoaded)?;
            let text = std::io::read_to_string(&file).map_err(|_| NvmlCode::Unknown)?;
            let whole = whole(&self.path, &text, &self.fleet_text, &self.fleet_name);
            let (begun, world) = whole.map_err(|_| NvmlCode::Unknown)?;
            *lock(&self.driver.world) = World { salt: begun.number, ..world };
            *seen = Seen { file: Some(file), begun };
        }
        Ok(seen)
    }

    fn wait(&self, ms: i64) {
        if let Ok(ms) = u64::try_from(ms) {
            let wait = Duration::try_from_secs_f64(Duration::from_millis(ms).as_secs_f64() * self.pace);
            std::thread::sleep(wait.unwrap_or_default());
        }
    }
}

macro_rules! driver {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Driver for Door {
            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                self.call(stringify!($name), |driver| driver.$name($($arg),*))
            })*
        }
    };
}

crate::ports::driver_calls!(driver);

impl Meddler for &Door {
    fn fate(&self, call: &'static str) -> Fate {
        let struck = |driver: &SimDriver| Ok(lock(&driver.world).faults.iter().any(|fault| fault.call == call));
        let fate = |driver: &SimDriver| Ok(lock(&driver.world).fate(call));
        // Without a fault for it nothing is counted, and nobody need wait.
        let fate = self.look(struck).and_then(|struck| if struck { self.change(fate) } else { Ok(Fate::Passes) });
        // What is wrong with the file the call itself tells.
        fate.unwrap_or(Fate::Passes)
    }

    fn pass(&self, ms: i64) {
        let pass = |driver: &SimDriver| {
            lock(&driver.world).pass(ms);
            Ok(())
        };
        let _ = self.change(pass);
    }
}
