//! Carries a plan out.
//!
//! [`machine`] decides what comes next and never touches the outside: events in, effects out. [`mod@drive`] performs the
//! effects on the ports, whatever their world; [`at_once`] runs it where no future waits, as in the simulator.
//! [`journal`] is what survives a crash; [`observe`] joins what the ports report into the model.

pub mod drive;
pub mod journal;
pub mod machine;
pub mod observe;
pub mod protocol;

pub use drive::{Ports, at_once, drive};
pub use machine::Machine;
pub use protocol::{News, Outcome};
