//! Carries a plan out.
//!
//! [`machine`] decides what comes next and never touches the outside: events in, effects out. [`mod@drive`] performs the
//! effects on the ports, whatever their world; [`at_once`] runs it where no future waits, as in the simulator.
//! [`mod@carry`] answers for a whole plan: what an earlier run left, and what becomes of the layout when a step fails for
//! good. [`election`] says which of several controllers acts. [`journal`] is what survives a crash; [`observe`] joins what the ports report into the model.

mod awaited;
pub mod bind;
pub mod carry;
mod crowds;
pub mod drive;
pub mod election;
pub mod journal;
pub mod machine;
pub mod observe;
mod offers;
mod phase;
pub mod protocol;
mod room;
pub mod turn;
mod undo;

pub use carry::{InTurn, Picture, carry, carry_in_turn};
pub use drive::{Ports, at_once, drive, within};
pub use machine::Machine;
pub use protocol::{News, Outcome, Rollback};
pub use turn::Turn;
