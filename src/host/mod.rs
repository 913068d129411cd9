//! The real host: what is kept on its disk.

pub mod journal;
