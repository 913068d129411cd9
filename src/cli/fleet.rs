//! The outside that a command works on. Today that is the simulated fleet alone: NVML and Kubernetes are not linked
//! into this version, and asking for them is an error that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::execute::{at_once, observe, within};
use crate::gpu::Gpus;
use crate::model::memory::TakenUp;
use crate::model::{Known, Memory, Observed};
use crate::ports::{Clock as _, Cluster as _, Port, PortError};
use crate::sim::clock::SimClock;
use crate::sim::cluster::SimCluster;
use crate::sim::driver::SimDriver;
use crate::sim::fault::Faulty;
use crate::sim::host::SimHost;
use crate::sim::state::{StateError, StateFile};
use crate::sim::{Shared, fleet, lock};

use super::args::{self, Global, SimFleet};
use super::error::{Context as _, Error};
use super::input;
use super::output;
use super::trouble;

/// How often what may pass is asked for again, and for how many seconds each time.
const TRIES: u32 = 5;
const ANSWER_S: i64 = 60;

/// A simulated fleet, its state locked until it is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    state: Arc<StateFile>,
    /// Where the state is kept; journals lie beside it.
    pub(super) path: PathBuf,
    /// All its nodes.
    pub(super) nodes: BTreeMap<String, Node>,
    /// The nodes that were asked for; absent: every one.
    pub(super) only: Option<BTreeSet<String>>,
    /// Its cluster.
    pub(super) cluster: Faulty<SimCluster>,
    /// Its clock.
    pub(super) clock: Faulty<SimClock>,
    /// What somebody accepted for this command.
    pub(super) accepted: Accepted,
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
pub(super) struct Node {
    /// Its GPUs.
    pub(super) gpus: Gpus<Faulty<SimDriver>>,
    /// Its host.
    pub(super) host: Faulty<SimHost>,
}

impl Fleet {
    /// Opens the fleet that the options ask for.
    pub(super) fn open(global: &Global) -> Result<Fleet, Error> {
        let asked = sim(global)?;
        let (name, text) = match asked {
            SimFleet::Builtin => (fleet::BUILTIN_NAME.to_owned(), fleet::BUILTIN.to_owned()),
            SimFleet::File(path) => (path.display().to_string(), read(path)?),
        };
        let path = match &global.sim_state {
            Some(path) => path.clone(),
            None => default_state(&name, asked)?,
        };
        let opened = StateFile::open(&path, &text, &name, global.sim_fresh, false);
        let state = opened.map_err(|error| {
            if let StateError::Fleet(errors) = &error {
                output::tell(&format!("{}\n\n", errors.render(true)));
                let number = errors.errors.len();
                let errors = if number == 1 { "1 error".to_owned() } else { format!("{number} errors") };
                return Error::failed(format!("{name} has {errors}"));
            }
            let hint = error.hint();
            let wrapped = Error::failed("the simulated fleet can't be opened").caused_by(error);
            hint.into_iter().fold(wrapped, Error::hint)
        })?;
        let world = state.shared();
        let names: Vec<String> = lock(&world).nodes.keys().cloned().collect();
        if let Some(wanted) = global.node.as_ref().filter(|wanted| !names.contains(wanted)) {
            let distance = |name: &str| strsim::damerau_levenshtein(name, wanted);
            // What differs in more than a third of its letters was not meant.
            let near = names.iter().filter(|name| distance(name) * 3 <= name.len());
            let nearest = near.min_by_key(|name| distance(name));
            let error = Error::usage(format!("{name} has no node {wanted}"));
            let known = format!("it has {}", names.join(", "));
            let did = nearest.map(|nearest| format!("did you mean {nearest}?"));
            return Err(did.into_iter().chain([known]).fold(error, Error::hint));
        }
        let nodes = names.into_iter().map(|name| {
            let meddler = || Shared::clone(&world);
            let gpus = Gpus::new(Faulty::new(SimDriver::new(Shared::clone(&world), &name), meddler()));
            let host = SimHost { world: Shared::clone(&world), node: name.clone() };
            (name, Node { gpus, host: Faulty::new(host, meddler()) })
        });
        let nodes = nodes.collect();
        let cluster = Faulty::new(SimCluster { world: Shared::clone(&world) }, Shared::clone(&world));
        let clock = Faulty::new(SimClock { world: Shared::clone(&world) }, world);
        let only = global.node.clone().map(|name| BTreeSet::from([name]));
        let accepted = Accepted::default();
        let fleet = Fleet { state: Arc::new(state), path, nodes, only, cluster, clock, accepted };
        if fleet.state.begun() {
            trouble::forget(&fleet)?;
        }
        Ok(fleet)
    }

    /// Observes every node and the cluster: what one node may do depends on the others, too. What is remembered of the
    /// nodes is told beside.
    pub(super) fn observe(&self, units: &BTreeSet<String>) -> Result<Observed, Error> {
        let cluster = self.patiently(async || self.cluster.observe().await)?;
        let pods = observe::pods_by_node(&cluster);
        let mut nodes = BTreeMap::new();
        for (name, node) in &self.nodes {
            // A bare-metal node's labels come from its own settings; in a fleet file, those are its labels.
            let own = lock(&self.clock.meddler).nodes.get(name).map(|n| n.labels.clone()).unwrap_or_default();
            let own = Known::Known(own);
            let pods = pods.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let (cluster, host) = (Some(&self.cluster), &node.host);
            let look = async || observe::node_of(name, &node.gpus, cluster, Some(pods), host, units, &own).await;
            let mut seen = self.patiently(look).map_err(|error| error.hint(format!("node {name}")))?;
            lock(&self.clock.meddler).memory.recall(&mut seen);
            if self.accepted.inventory {
                seen.inventory.clear();
            }
            nodes.insert(name.clone(), seen);
        }
        Ok(Observed { nodes, cluster })
    }

    /// The result of a call to the simulated outside, which may be made again where that may help.
    pub(super) fn patiently<T>(&self, call: impl AsyncFn() -> Port<T>) -> Result<T, Error> {
        self.again(call).context(|| "the simulated fleet could not be asked".to_owned())
    }

    /// The same, for who knows better what was asked for.
    pub(super) fn again<T>(&self, call: impl AsyncFn() -> Port<T>) -> Port<T> {
        let later = |seconds| self.time().saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        let hangs = || PortError {
            transient: true,
            code: format!("no answer for {ANSWER_S} s"),
            message: "asking the simulated fleet".to_owned(),
        };
        let mut tries = 0;
        loop {
            let answer = at_once(within(call(), self.clock.sleep_until(later(ANSWER_S))));
            match answer.flatten().unwrap_or_else(|| Err(hangs())) {
                Err(error) if error.transient && tries < TRIES => {
                    tries += 1;
                    at_once(self.clock.sleep_until(later(1 << tries)));
                }
                answer => {
                    if answer.is_err() {
                        // Most commands end with this, and a call that went wrong once must not do so for ever.
                        let _ = self.state.save();
                    }
                    return answer;
                }
            }
        }
    }

    /// Who decides what goes wrong: the simulated world.
    pub(super) fn meddler(&self) -> Shared {
        Shared::clone(&self.clock.meddler)
    }

    /// The state, for whoever must keep it when everything ends at once.
    pub(super) fn state(&self) -> Arc<StateFile> {
        Arc::clone(&self.state)
    }

    /// The tree that was last taken up, unless it does not matter.
    pub(super) fn taken_up(&self) -> Option<TakenUp> {
        lock(&self.clock.meddler).memory.tree.clone().filter(|_| !self.accepted.removal)
    }

    /// What is remembered.
    pub(super) fn memory(&self) -> Memory {
        lock(&self.clock.meddler).memory.clone()
    }

    /// Changes what is remembered; kept with the state.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut lock(&self.clock.meddler).memory);
    }

    /// Keeps the state.
    pub(super) fn save(&self) -> Result<(), Error> {
        self.state.save().context(|| format!("the state in {} could not be kept", self.path.display()))
    }

    /// The virtual time.
    pub(super) fn time(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many destroy calls hit an instance that somebody held. Sectile's own care keeps it at zero.
    pub(super) fn ledger(&self) -> usize {
        lock(&self.clock.meddler).ledger.len()
    }
}

/// Which simulated fleet is asked for, or why none can be had.
fn sim(global: &Global) -> Result<&SimFleet, Error> {
    let builtin = &SimFleet::Builtin;
    let sim = "--sim works on simulated GPUs and a simulated cluster";
    let missing = |what: &str| Error::failed(format!("this version can't reach {what}"));
    match (global.gpus, global.cluster, &global.sim) {
        (Some(args::Gpus::Nvml | args::Gpus::Auto), ..) | (None, _, None) => {
            Err(missing("real GPUs: it comes without NVML").hint(sim))
        }
        (_, Some(args::Cluster::Kube), _) => {
            Err(missing("a real cluster: it comes without Kubernetes' client").hint(sim))
        }
        (_, Some(args::Cluster::None), _) => {
            Err(Error::failed("this version can't simulate GPUs without their cluster")
                .hint("leave --cluster out; a node of a fleet file with `cluster = false` is in no cluster"))
        }
        (.., Some(fleet)) => Ok(fleet),
        (Some(args::Gpus::Sim), _, None) => Ok(builtin),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    if path.is_dir() {
        let error = Error::usage(format!("{} is a directory, and --sim takes a fleet file", path.display()));
        return Err(error.hint("put the tree before it: `sectile plan TREE --sim`"));
    }
    input::text(path, "the fleet file")
}

/// In the user's state folder, one file for each fleet file.
#[expect(clippy::disallowed_methods, reason = "the state folder is the environment's word, and no setting of ours")]
fn default_state(name: &str, fleet: &SimFleet) -> Result<PathBuf, Error> {
    let of = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")));
    let folder = folder.ok_or_else(|| {
        Error::usage("neither XDG_STATE_HOME nor HOME says where state is kept").hint("say --sim-state FILE")
    })?;
    let file = match fleet {
        SimFleet::Builtin => "sim-builtin.json".to_owned(),
        SimFleet::File(path) => {
            let whole = path.canonicalize().context(|| format!("the fleet file {name} can't be found"))?;
            let digest = crate::model::Digest::of([whole.as_os_str().as_encoded_bytes()]);
            format!("sim-{}.json", digest.short())
        }
    };
    Ok(folder.join("sectile").join(file))
}
