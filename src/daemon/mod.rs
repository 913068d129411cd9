//! What a service has that a command has not: what wakes it, and whom it tells how it stands.

pub mod agenda;
pub mod board;
pub mod metrics;
pub mod serve;
pub mod systemd;
pub mod wakes;
pub mod watch;
