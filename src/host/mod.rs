//! The real host: its units, its commands and processes, what it keeps of its devices, its clock, and what is kept on its
//! disk.

mod bus;
pub mod clock;
mod command;
pub mod devices;
mod dropin;
pub mod given;
pub mod journal;
pub mod memory;
pub mod node;
pub mod plain;
pub mod systemd;
pub mod trust;
