//! The real host: its commands and processes, its clock, and what is kept on its disk.

pub mod clock;
pub mod journal;
pub mod memory;
pub mod plain;
