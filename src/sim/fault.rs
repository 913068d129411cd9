//! Faults: any call of any port can be made to fail, to lose its answer, to be late or never to answer.
//!
//! [`Faulty`] stands before a port and asks a [`Meddler`] about each call. The world is one: it does what the fleet
//! file's `[[fault.call]]` tells. Whoever sweeps over all that can go wrong brings another.

mod calls;

use serde::{Deserialize, Serialize};

pub use self::calls::{Faulty, Meddler};
use super::world::World;
use crate::ports::{NvmlCode, PortError};

/// How much later a call without a deadline of its own gives up, on the virtual clock.
const HANG_MS: i64 = 60_000;

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// What it asks for.
    Passes,
    /// It fails with this code, and nothing was done.
    Fails(String),
    /// It takes effect, and then fails with this code.
    Loses(String),
    /// It takes so many seconds more.
    Takes(u64),
    /// It never answers, and nothing was done.
    Hangs,
    /// It takes effect, and never answers.
    Swallows,
    /// Whoever called really waits for so many seconds.
    Stalls(u64),
}

/// A call that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The call's name, of [`CALLS`].
    pub call: String,
    /// Which call of that name is the first to go wrong, from 1.
    pub nth: u32,
    /// How many in a row.
    pub times: u32,
    /// How.
    pub fate: Fate,
    /// Calls of that name so far.
    pub seen: u32,
}

impl World {
    /// What becomes of the next call of that name.
    pub fn fate(&mut self, call: &str) -> Fate {
        let mut fate = Fate::Passes;
        for fault in self.faults.iter_mut().filter(|fault| fault.call == call) {
            fault.seen = fault.seen.saturating_add(1);
            let due = fault.seen.checked_sub(fault.nth).is_some_and(|behind| behind < fault.times);
            if due && fate == Fate::Passes {
                fate = fault.fate.clone();
            }
        }
        fate
    }
}

/// The ports whose calls can fail, by the codes that they fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortKind {
    /// NVML's.
    Driver,
    /// The API server's.
    Cluster,
    /// systemd's, over D-Bus.
    Host,
    /// The file system's.
    Journal,
    /// None: it can only be late.
    Clock,
}

/// Every call of every port that can go wrong.
pub const CALLS: &[(PortKind, &[&str])] = &[
    (PortKind::Driver, calls::DRIVER),
    (PortKind::Cluster, calls::CLUSTER),
    (PortKind::Host, calls::HOST),
    (PortKind::Journal, calls::JOURNAL),
    (PortKind::Clock, calls::CLOCK),
];

/// The port of a call.
pub fn port_of(call: &str) -> Option<PortKind> {
    CALLS.iter().find(|(_, calls)| calls.contains(&call)).map(|(port, _)| *port)
}

/// HTTP statuses of the API server, and whether trying again may help.
const STATUSES: &[(&str, bool)] = &[
    ("400", false),
    ("401", false),
    ("403", false),
    ("404", false),
    ("409", true),
    ("422", false),
    ("429", true),
    ("500", true),
    ("502", true),
    ("503", true),
    ("504", true),
    ("connection-lost", true),
];
/// Errors of D-Bus and systemd.
const BUS: &[(&str, bool)] = &[
    ("org.freedesktop.DBus.Error.AccessDenied", false),
    ("org.freedesktop.DBus.Error.NoReply", true),
    ("org.freedesktop.DBus.Error.Timeout", true),
    ("org.freedesktop.systemd1.JobFailed", false),
    ("org.freedesktop.systemd1.NoSuchUnit", false),
    ("org.freedesktop.systemd1.TransactionIsDestructive", true),
    ("org.freedesktop.systemd1.UnitMasked", false),
];
/// Kinds of I/O errors.
const DISK: &[(&str, bool)] =
    &[("storage-full", true), ("timed-out", true), ("read-only", false), ("permission-denied", false), ("io", false)];

impl PortKind {
    /// The codes that a call of it can fail with, and whether trying again may help.
    pub fn codes(self) -> Vec<(String, bool)> {
        let listed = |list: &[(&str, bool)]| list.iter().map(|(code, again)| ((*code).to_owned(), *again)).collect();
        match self {
            PortKind::Driver => NvmlCode::ERRORS.iter().map(|code| (code.constant(), code.passes())).collect(),
            PortKind::Cluster => listed(STATUSES),
            PortKind::Host => listed(BUS),
            PortKind::Journal => listed(DISK),
            PortKind::Clock => Vec::new(),
        }
    }
}

fn nvml(code: &str) -> NvmlCode {
    NvmlCode::ERRORS.iter().copied().find(|known| known.constant() == code).unwrap_or(NvmlCode::Unknown)
}

fn port_error(call: &str, code: &str) -> PortError {
    let codes = port_of(call).map(PortKind::codes).unwrap_or_default();
    let transient = codes.iter().any(|(known, again)| known == code && *again);
    PortError { transient, code: code.to_owned(), message: format!("the call `{call}`") }
}
