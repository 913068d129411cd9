//! The simulated outside: driver, cluster, host, clock and journal over one [`world::World`], behind the same traits
//! as the real ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod bind;
pub mod clock;
pub mod cluster;
mod controllers;
mod devices;
pub mod driver;
pub mod fault;
pub mod fleet;
pub mod host;
pub mod journal;
mod settle;
pub mod state;
pub mod world;

/// The world, as everything simulated shares it.
pub type Shared = Arc<Mutex<world::World>>;

/// Takes the world. A test that panicked while it held it leaves a world that is still whole, so poison is ignored.
pub fn lock(shared: &Shared) -> MutexGuard<'_, world::World> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
