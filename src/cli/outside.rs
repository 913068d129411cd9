//! What commands need of the outside, be it simulated or real.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::SystemTime;

use crate::gpu::Gpus;
use crate::host::journal::FileJournal;
use crate::model::{Allowed, Known, Memory};
use crate::ports::{Clock, Cluster, Driver, Host, Journal, PortError};

use super::error::Error;

/// Where the nodes of a command are.
pub(super) trait Outside: Sized {
    /// The driver of a node.
    type Driver: Driver + Debug;
    /// The cluster.
    type Cluster: Cluster + Debug;
    /// The host of a node.
    type Host: Host + Debug;
    /// Time.
    type Clock: Clock + Debug;
    /// Where it is written what is about to be done.
    type Journal: Journal;
    /// What messages call it.
    const WORDS: &'static str;
    /// Whether nothing real can come to harm, so that nobody is asked.
    const SIMULATED: bool;

    /// A node's labels, where no cluster tells them.
    fn labels(&self, node: &str) -> Known<BTreeMap<String, String>>;
    /// Works with what is remembered.
    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T;
    /// Keeps what is remembered.
    fn save(&self) -> Result<(), Error>;
    /// What is still to be done where everything ends at once.
    fn last_words(&self) -> Box<dyn Fn() + Send>;
    /// Waits for a future; `None`: it would wait where nothing may.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T>;
    /// Waits for several futures, which run side by side; `None`: as of one.
    fn wait_all<T>(&self, futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Option<Vec<T>>;
    /// Where a journal is kept, whose name ends with `name`.
    fn journal_path(&self, name: &str) -> PathBuf;
    /// A journal, of a file.
    fn journal(&self, file: FileJournal) -> Self::Journal;

    /// Lets other commands change what is remembered, as a service does between its passes.
    fn leave(&self) {}

    /// Whether another command waits for a service to stop before its next step.
    fn is_asked(&self) -> bool {
        false
    }

    /// Takes it for oneself again.
    fn take_again(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Another one than before: another command has changed what is remembered, as `sectile resume` does.
    fn stamp(&self) -> Option<SystemTime> {
        None
    }

    /// Another number than before: what the cluster tells may have changed.
    fn changes(cluster: &Self::Cluster) -> u64 {
        let _ = cluster;
        0
    }

    /// How many destroy calls hit an instance that somebody held, where that is counted. Sectile's own care keeps it
    /// at zero.
    fn ledger(&self) -> usize {
        0
    }

    /// What the tree may touch of the host of a node; `None`: everything.
    fn allowed(&self) -> Option<&Allowed> {
        None
    }

    /// What to do about a call that failed.
    fn advice(error: &PortError) -> Option<&'static str> {
        let _ = error;
        None
    }

    /// Lets go of a node's driver; the next call opens it again.
    fn release(&self, gpus: &Gpus<Self::Driver>) {
        let _ = gpus;
    }

    /// The call that the driver of a node does not come back from.
    fn hangs(&self, gpus: &Gpus<Self::Driver>) -> Option<&'static str> {
        let _ = gpus;
        None
    }
}
