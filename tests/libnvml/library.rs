//! The library in its process: initialized so many times, or not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sectile::ports::{Nvml, NvmlCode};
use sectile::sim::driver::SimDriver;
use sectile::sim::state::door::Door;

use super::events::Sets;
use super::settings;

/// What is there between the first `nvmlInit` and the last `nvmlShutdown`.
pub(crate) struct Library {
    door: Door,
    pub(crate) sets: Sets,
}

struct Loaded {
    times: u32,
    library: Option<Arc<Library>>,
}

static LOADED: Mutex<Loaded> = Mutex::new(Loaded { times: 0, library: None });

/// Whatever panicked left what it guards whole: it is replaced at once or not at all.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Library {
    /// Makes a call of the driver, by its name in `[[fault.call]]`.
    pub(crate) fn call<T>(&self, name: &'static str, call: impl FnOnce(&SimDriver) -> Nvml<T>) -> Nvml<T> {
        self.door.call(name, call)
    }

    /// Asks the simulation what no call of Sectile's asks a driver.
    pub(crate) fn look<T>(&self, ask: impl FnOnce(&SimDriver) -> Nvml<T>) -> Nvml<T> {
        self.door.look(ask)
    }
}

/// Initializes once more.
#[expect(clippy::print_stderr, reason = "NVML's code can't tell what is wrong with the simulation")]
pub(crate) fn init() -> u32 {
    let done = catch_unwind(|| {
        let mut loaded = locked(&LOADED);
        if loaded.library.is_none() {
            let driver = settings::driver().inspect_err(|why| eprintln!("sectile's libnvidia-ml.so.1: {why}"));
            let door = driver.map_err(|_| NvmlCode::DriverNotLoaded)?;
            loaded.library = Some(Arc::new(Library { door, sets: Sets::default() }));
        }
        loaded.times = loaded.times.saturating_add(1);
        Ok(())
    });
    code(done.unwrap_or(Err(NvmlCode::Unknown)))
}

/// Takes one initialization back.
pub(crate) fn shutdown() -> u32 {
    let mut loaded = locked(&LOADED);
    match loaded.times {
        0 => return NvmlCode::Uninitialized as u32,
        1 => loaded.library = None,
        _ => {}
    }
    loaded.times -= 1;
    NvmlCode::Success as u32
}

/// Runs a function of the library's: no panic crosses into C.
pub(crate) fn guarded(run: impl FnOnce(&Library) -> Nvml<()>) -> u32 {
    let library = locked(&LOADED).library.clone();
    let run = || run(&*library.ok_or(NvmlCode::Uninitialized)?);
    code(catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(NvmlCode::Unknown)))
}

fn code(done: Nvml<()>) -> u32 {
    done.map_or_else(|code| code, |()| NvmlCode::Success) as u32
}
