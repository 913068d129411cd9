//! What a command works on: the nodes of a simulated fleet, or this one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::execute::{observe, within};
use crate::gpu::Gpus;
use crate::model::memory::TakenUp;
use crate::model::{Gap, Known, Memory, Observed, ObservedCluster};
use crate::plan::places::{self, Nodes, Watch};
use crate::ports::{Clock as _, Cluster as _, Port, PortError, foremost};

use super::args::{self, Global, SimFleet};
use super::error::Error;
use super::outside::Outside;
use super::simulated::Simulated;
use super::this_node::ThisNode;
use crate::nvml::{Library, Watched};
use crate::sim::state::door::Door;

/// How often what may pass is asked for again, and for how many seconds each time.
const TRIES: u32 = 5;
const ANSWER_S: i64 = 60;

/// Nodes, and what they have in common.
#[derive(Debug)]
pub(super) struct Fleet<O: Outside> {
    /// Where they are.
    pub(super) outside: O,
    /// All the nodes.
    pub(super) nodes: BTreeMap<String, Node<O>>,
    /// The nodes that were asked for; absent: every one.
    pub(super) only: Option<BTreeSet<String>>,
    /// Their cluster, if they are in one.
    pub(super) cluster: Option<O::Cluster>,
    /// Their clock.
    pub(super) clock: O::Clock,
    /// What somebody accepted for this command.
    pub(super) accepted: Accepted,
    /// What was seen of others with whom budgets are shared.
    pub(super) watch: RefCell<Watch>,
}

/// What differs from what is remembered, and is right all the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accepted {
    /// A tree that lost most of itself.
    pub(super) removal: bool,
    /// The GPUs of the nodes; only those that were asked for are remembered so.
    pub(super) inventory: bool,
}

/// One node of it.
#[derive(Debug)]
pub(super) struct Node<O: Outside> {
    /// Its GPUs.
    pub(super) gpus: Gpus<O::Driver>,
    /// Its host.
    pub(super) host: O::Host,
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Opened {
    /// A simulated fleet.
    Simulated(Fleet<Simulated>),
    /// This node.
    Here(Box<Fleet<ThisNode<Watched<Library>>>>),
    /// This program's node, of a real cluster or of none, with simulated GPUs.
    Joined(Box<Fleet<ThisNode<Door>>>),
}

/// What a fleet is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To look at it.
    Look,
    /// To change it: whoever does has it alone.
    Change,
    /// The same, before anybody is given anything: its cluster is not there yet.
    Boot,
    /// To change what is remembered of it, for which its GPUs need not work.
    Remember,
}

/// Does the same on whichever fleet was opened.
macro_rules! on {
    ($opened:expr, $fleet:ident => $body:expr) => {
        match $opened {
            $crate::cli::fleet::Opened::Simulated($fleet) => $body,
            $crate::cli::fleet::Opened::Here(boxed) => {
                let $fleet = *boxed;
                $body
            }
            $crate::cli::fleet::Opened::Joined(boxed) => {
                let $fleet = *boxed;
                $body
            }
        }
    };
}
pub(super) use on;

/// Whether the cluster is a real one, and so may be seen from afar.
pub(super) fn is_real_cluster(global: &Global) -> bool {
    match global.cluster {
        Some(cluster) => cluster == args::Cluster::Kube,
        None => global.sim.is_none(),
    }
}

/// Whether the GPUs are those of this node, and where its cluster is, if somebody told.
fn sides(global: &Global) -> (bool, Option<args::Cluster>) {
    let real = match (global.gpus, &global.sim) {
        (Some(args::Gpus::Nvml | args::Gpus::Auto), _) | (None, None) => true,
        (Some(args::Gpus::Sim), _) | (None, Some(_)) => false,
    };
    // A program on the simulated driver finds the fleet in its settings, and is on a machine of its own all the same.
    let alone = real && global.sim_node.is_some();
    (real, global.cluster.or(global.sim.as_ref().filter(|_| !alone).map(|_| args::Cluster::Sim)))
}

/// Whether nothing of this node is meant.
pub(super) fn is_simulated(global: &Global) -> bool {
    matches!(sides(global), (false, Some(args::Cluster::Sim) | None))
}

/// Opens what the options ask for.
pub(super) fn open(global: &Global, purpose: Purpose) -> Result<Opened, Error> {
    match sides(global) {
        (true, Some(args::Cluster::Sim)) => {
            Err(Error::failed("this version can't join real GPUs to a simulated cluster")
                .hint("--cluster none leaves the cluster out"))
        }
        (true, _) => ThisNode::open(global, purpose).map(Box::new).map(Opened::Here),
        (false, Some(args::Cluster::Kube | args::Cluster::None)) => {
            ThisNode::join(global, purpose).map(Box::new).map(Opened::Joined)
        }
        (false, _) => Simulated::open(global, global.sim.as_ref().unwrap_or(&SimFleet::Builtin)).map(Opened::Simulated),
    }
}

impl<O: Outside> Fleet<O> {
    /// Observes every node and the cluster: what one node may do depends on the others, too. What is remembered of the
    /// nodes is told beside.
    pub(super) fn observe(&self, units: &BTreeSet<String>) -> Result<Observed, Error> {
        let cluster = match &self.cluster {
            Some(cluster) => {
                let seen = self.patiently(async || cluster.observe().await)?;
                if O::SIMULATED { seen } else { self.share(cluster, seen) }
            }
            None => Default::default(),
        };
        let pods = observe::pods_by_node(&cluster);
        let unseen = cluster.gaps.clone();
        let mut nodes = BTreeMap::new();
        for (name, node) in &self.nodes {
            let own = self.outside.labels(name);
            let pods = pods.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let (cluster, host) = (self.cluster.as_ref(), &node.host);
            let look = async || observe::node_of(name, &node.gpus, cluster, Some(pods), host, units, &own).await;
            let hangs =
                || self.outside.hangs(&node.gpus).map(|call| format!("the driver does not come back from {call}"));
            let mut seen = self.patiently(look).map_err(|error| {
                let error = hangs().into_iter().fold(error, Error::hint);
                error.hint(format!("node {name}"))
            })?;
            seen.gaps.extend(hangs().map(|message| Gap { object: "driver".to_owned(), message }));
            seen.gaps.extend(seen.cluster.iter().flat_map(|_| unseen.iter().cloned()));
            self.outside.memory(|memory| memory.recall(&mut seen));
            let told = match self.cluster.as_ref().filter(|_| seen.cluster.is_some()) {
                Some(cluster) => self.again(async || cluster.stopped(name).await),
                None => Ok(None),
            };
            let unknown = told.as_ref().err().map(ToString::to_string);
            seen.gaps.extend(unknown.map(|message| Gap { object: "suspension".to_owned(), message }));
            seen.suspended = foremost([told.ok().flatten(), seen.suspended], self.time());
            if self.accepted.inventory {
                seen.accept();
            }
            nodes.insert(name.clone(), seen);
        }
        Ok(Observed { nodes, cluster })
    }

    /// Whether somebody needs a node's service to let go of the driver, as far as that is known without the driver.
    pub(super) fn released(&self) -> Result<bool, PortError> {
        let memory = self.memory();
        for name in self.nodes.keys() {
            let remembered = memory.nodes.get(name).and_then(|node| node.suspended.clone());
            let told = self.cluster.as_ref().and_then(|cluster| self.outside.wait(cluster.stopped(name)));
            let told = told.unwrap_or(Ok(None));
            let known = foremost([told.clone().ok().flatten(), remembered], self.time());
            if known.is_some_and(|known| known.release) {
                return Ok(true);
            }
            told?;
        }
        Ok(false)
    }

    /// The cluster with what others have taken of budgets. Where that can't be read a plan is shown all the same: it is read
    /// again before it is begun.
    fn share(&self, cluster: &O::Cluster, mut seen: ObservedCluster) -> ObservedCluster {
        if let Some(Ok((_, places))) = self.outside.wait(cluster.places()) {
            let now = self.clock.elapsed();
            let mut watch = self.watch.borrow_mut();
            watch.see(&places, now);
            seen.places = Known::Known(places);
            let nodes: Nodes = seen.peers.iter().map(|(name, peer)| (name.clone(), Some(peer.is_going()))).collect();
            let counts = |holder: &str, place: &_| places::counts(holder, place, &watch, now, &nodes);
            for own in self.nodes.keys() {
                places::set_aside(&mut seen, own, &counts);
            }
        }
        seen
    }

    /// The result of a call to the outside, which may be made again where that may help.
    pub(super) fn patiently<T>(&self, call: impl AsyncFn() -> Port<T>) -> Result<T, Error> {
        self.again(call).map_err(|error| {
            let advice = O::advice(&error);
            let told = Error::failed(format!("{} could not be asked", O::WORDS)).caused_by(error);
            advice.into_iter().fold(told, Error::hint)
        })
    }

    /// The same, for who knows better what was asked for.
    pub(super) fn again<T>(&self, call: impl AsyncFn() -> Port<T>) -> Port<T> {
        let later = |seconds| self.time().saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let hangs = || PortError {
            transient: true,
            code: format!("no answer for {ANSWER_S} s"),
            message: format!("asking {}", O::WORDS),
        };
        let mut tries = 0;
        loop {
            let answer = self.outside.wait(within(call(), self.clock.sleep_until(later(ANSWER_S))));
            match answer.flatten().unwrap_or_else(|| Err(hangs())) {
                Err(error) if error.transient && tries < TRIES => {
                    tries += 1;
                    self.outside.wait(self.clock.sleep_until(later(1 << tries)));
                }
                answer => {
                    if answer.is_err() {
                        // Most commands end with this, and a call that went wrong once must not do so for ever.
                        let _ = self.outside.save();
                    }
                    return answer;
                }
            }
        }
    }

    /// The tree that was last taken up, unless it does not matter.
    pub(super) fn taken_up(&self) -> Option<TakenUp> {
        self.outside.memory(|memory| memory.tree.clone()).filter(|_| !self.accepted.removal)
    }

    /// What is remembered.
    pub(super) fn memory(&self) -> Memory {
        self.outside.memory(|memory| memory.clone())
    }

    /// Changes what is remembered; kept by [`Fleet::save`].
    pub(super) fn remember(&self, change: impl FnOnce(&mut Memory)) {
        self.outside.memory(change);
    }

    /// Keeps what is remembered.
    pub(super) fn save(&self) -> Result<(), Error> {
        self.outside.save()
    }

    /// The time.
    pub(super) fn time(&self) -> Timestamp {
        self.clock.now()
    }
}
