//! The real host: its units by a private D-Bus with a stand-in for systemd, and its commands.
//!
//! It needs `dbus-daemon` (Debian's package dbus-daemon, or dbus).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod commands;
mod daemon;
mod program;
mod stand_in;
mod units;
