//! The simulated fleet as the outside of commands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::gpu::Gpus;
use crate::host::journal::FileJournal;
use crate::model::{Known, Memory};
use crate::sim::clock::{SimClock, together};
use crate::sim::cluster::SimCluster;
use crate::sim::driver::SimDriver;
use crate::sim::fault::Faulty;
use crate::sim::host::SimHost;
use crate::sim::state::{StateError, StateFile};
use crate::sim::{Shared, fleet, lock};

use super::args::{Global, SimFleet};
use super::error::{Context as _, Error};
use super::fleet::{Accepted, Fleet, Node};
use super::input;
use super::output;
use super::outside::Outside;
use super::trouble;

/// A simulated fleet, its state locked until it is dropped.
#[derive(Debug)]
pub(super) struct Simulated {
    state: Arc<StateFile>,
    /// Where the state is kept; journals lie beside it.
    path: PathBuf,
}

impl Outside for Simulated {
    type Driver = Faulty<SimDriver>;
    type Cluster = Faulty<SimCluster>;
    type Host = Faulty<SimHost>;
    type Clock = Faulty<SimClock>;
    type Journal = Faulty<FileJournal>;
    const WORDS: &'static str = "the simulated fleet";
    const SIMULATED: bool = true;

    /// A bare-metal node's labels come from its own settings; in a fleet file, those are its labels.
    fn labels(&self, node: &str) -> Known<BTreeMap<String, String>> {
        let world = self.state.shared();
        let labels = lock(&world).nodes.get(node).map(|node| node.labels.clone());
        Known::Known(labels.unwrap_or_default())
    }

    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut lock(&self.state.shared()).memory)
    }

    fn save(&self) -> Result<(), Error> {
        self.state.save().context(|| format!("the state in {} could not be kept", self.path.display()))
    }

    /// What is simulated stays as it is then, as real GPUs would, and the next start recovers from that.
    fn last_words(&self) -> Box<dyn Fn() + Send> {
        let state = Arc::clone(&self.state);
        Box::new(move || {
            let _ = state.save();
        })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.wait_all(vec![Box::pin(future)])?.pop()
    }

    fn wait_all<T>(&self, futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Option<Vec<T>> {
        together(&self.state.shared(), futures)
    }

    fn journal_path(&self, name: &str) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(name);
        PathBuf::from(path)
    }

    fn journal(&self, file: FileJournal) -> Self::Journal {
        Faulty::new(file, self.state.shared())
    }

    fn ledger(&self) -> usize {
        lock(&self.state.shared()).ledger.len()
    }
}

impl Simulated {
    /// Where the state is kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a simulated fleet.
    pub(super) fn open(global: &Global, asked: &SimFleet) -> Result<Fleet<Simulated>, Error> {
        let (name, text, path) = found(global, asked)?;
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
        let cluster = Some(Faulty::new(SimCluster { world: Shared::clone(&world) }, Shared::clone(&world)));
        let clock = Faulty::new(SimClock { world: Shared::clone(&world) }, world);
        let only = global.node.clone().map(|name| BTreeSet::from([name]));
        let accepted = Accepted::default();
        let outside = Simulated { state: Arc::new(state), path };
        let watch = Default::default();
        let fleet = Fleet { outside, nodes, only, cluster, clock, accepted, watch };
        if fleet.outside.state.fresh() {
            trouble::forget(&fleet)?;
            fleet.outside.state.settle();
        }
        Ok(fleet)
    }
}

/// A fleet's name, its text, and where its state is kept.
pub(super) fn found(global: &Global, asked: &SimFleet) -> Result<(String, String, PathBuf), Error> {
    let (name, text) = match asked {
        SimFleet::Builtin => (fleet::BUILTIN_NAME.to_owned(), fleet::BUILTIN.to_owned()),
        SimFleet::File(path) => (path.display().to_string(), read(path)?),
    };
    let path = match &global.sim_state {
        Some(path) => path.clone(),
        None => default_state(&name, asked)?,
    };
    Ok((name, text, path))
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
