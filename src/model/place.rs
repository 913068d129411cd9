//! Places: what each holder has taken of the budgets that nodes share, as all of them see it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::closed::closed_list;
use super::observed::Known;

/// A renewal is due after a third of it; a second of a third may get lost.
pub const LEASE_S: u64 = 60;

/// Instances by node and resource.
pub type Reserved = BTreeMap<String, BTreeMap<String, u32>>;

/// The places by holder. One that can't be read is unknown, and counts as one that is held.
pub type Places = BTreeMap<String, Known<Place>>;

/// What a holder has taken of the budgets. Holders are nodes; a name that begins with `_` is no node's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The run of the program that took it: another one begins to count renewals anew.
    pub run: String,
    /// How often it was renewed. Who sees neither change for the length of the lease takes the holder for gone.
    pub renewals: u64,
    /// The length of the lease in seconds.
    pub lease_s: u64,
    /// Whether it still ends by itself.
    pub state: PlaceState,
    /// The policy files that govern the holder, by their paths: it counts in the budgets of each.
    pub over: BTreeSet<String>,
    /// Nodes that change: 1, or 0 of a holder that is no node.
    pub nodes: u32,
    /// The most pods that it takes down at once.
    pub pods: u32,
    /// Free instances that its pods move to, and those of its own node: nobody else may count on them.
    pub reserved: Reserved,
    /// Which tree the holder had.
    pub revision: String,
    /// When it was taken, RFC 3339. For people: nobody compares clocks.
    pub since: String,
}

closed_list! {
    /// How a place ends.
    PlaceState {
        /// The holder gives it back, or renews it no more.
        Held = "held",
        /// A step failed for good, and somebody must see to it: it is kept until then.
        Failed = "failed",
    }
}
