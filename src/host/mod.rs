//! The real host: its commands and processes, what it keeps of its devices, its clock, and what is kept on its disk.

pub mod clock;
pub mod devices;
pub mod journal;
pub mod memory;
pub mod plain;
