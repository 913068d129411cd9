//! The simulated outside: driver, cluster, host, clock and journal over one [`world::World`], behind the same traits
//! as the real ones.

pub mod world;
