//! This node as the outside of commands: its GPUs through NVML, or simulated ones in their place, its cluster, its units
//! and its commands.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;

use crate::cluster::{Access, KubeCluster};
use crate::gpu::Gpus;
use crate::host::clock::SystemClock;
use crate::host::given::Given;
use crate::host::journal::FileJournal;
use crate::host::memory::{MemoryFile, Use};
use crate::host::node::NodeHost;
use crate::host::plain::PlainHost;
use crate::host::systemd::{SETTLE, Systemd};
use crate::model::{Allowed, Known, Memory};
use crate::nvml::{self, Library, Trouble, Watched};
use crate::ports::{Driver, NvmlCode, PortError};
use crate::sim::state::door::Door;

use super::args::{self, Global, SimFleet};
use super::error::{Context as _, Error};
use super::fleet::{Accepted, Fleet, Node, Purpose};
use super::outside::Outside;
use super::{settings, simulated};

/// For so many seconds a node that starts waits for its driver.
const LOADED: u32 = 60;
/// Where Linux tells the node's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// Where kubectl finds its configuration.
const KUBECONFIG: &str = "KUBECONFIG";

/// This node, with that driver.
#[derive(Debug)]
pub(super) struct ThisNode<D> {
    memory: MemoryFile,
    runtime: Runtime,
    allowed: Allowed,
    labels: Known<BTreeMap<String, String>>,
    watch: Watch<D>,
}

/// What a driver tells beside its answers.
#[derive(Debug)]
struct Watch<D> {
    /// The call that it does not come back from.
    hangs: fn(&D) -> Option<&'static str>,
    /// Lets go of it.
    release: fn(&D),
}

impl<D: Driver + Debug> Outside for ThisNode<D> {
    type Driver = D;
    type Cluster = KubeCluster;
    type Host = NodeHost;
    type Clock = SystemClock;
    type Journal = FileJournal;
    const WORDS: &'static str = "this node";
    const SIMULATED: bool = false;

    /// Those of the settings.
    fn labels(&self, _node: &str) -> Known<BTreeMap<String, String>> {
        self.labels.clone()
    }

    fn allowed(&self) -> Option<&Allowed> {
        Some(&self.allowed)
    }

    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        self.memory.with(with)
    }

    fn save(&self) -> Result<(), Error> {
        self.memory.save().context(|| "what is remembered could not be kept".to_owned())
    }

    fn leave(&self) {
        self.memory.leave();
    }

    fn take_again(&self) -> Result<(), Error> {
        self.memory.take_again().context(|| "what is remembered of this node can't be used".to_owned())
    }

    fn is_asked(&self) -> bool {
        self.memory.is_asked()
    }

    fn last_words(&self) -> Box<dyn Fn() + Send> {
        Box::new(|| {})
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.block_on(future))
    }

    /// One node has no more than one.
    fn wait_all<T>(&self, futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Option<Vec<T>> {
        futures.into_iter().map(|future| self.wait(future)).collect()
    }

    fn journal_path(&self, name: &str) -> PathBuf {
        self.memory.folder().join(format!("node{name}"))
    }

    fn journal(&self, file: FileJournal) -> FileJournal {
        file
    }

    fn stamp(&self) -> Option<SystemTime> {
        self.memory.stamp()
    }

    fn changes(cluster: &KubeCluster) -> u64 {
        cluster.changes()
    }

    fn advice(error: &PortError) -> Option<&'static str> {
        NvmlCode::ERRORS.iter().find(|code| code.words() == error.code).and_then(|code| code.advice())
    }

    fn hangs(&self, gpus: &Gpus<D>) -> Option<&'static str> {
        (self.watch.hangs)(gpus.driver())
    }

    fn release(&self, gpus: &Gpus<D>) {
        (self.watch.release)(gpus.driver());
    }
}

impl ThisNode<Watched<Library>> {
    /// Opens this node.
    pub(super) fn open(global: &Global, purpose: Purpose) -> Result<Fleet<Self>, Error> {
        let name = match &global.node {
            // A cluster may call it otherwise, and in a pod the host's name is the pod's.
            Some(name) if names_itself(global) => name.clone(),
            asked => {
                let name = own_name(global)?;
                if let Some(other) = asked.as_ref().filter(|other| **other != name) {
                    let error = Error::usage(format!("this node is {name}, and {other} can't be reached from here"));
                    return Err(error.hint("leave --node out, or add --sim for a node of a simulated fleet"));
                }
                name
            }
        };
        let library = global.nvml_library.clone().map(PathBuf::into_os_string);
        let driver = opened(library, purpose).map_err(|trouble| {
            let hint = trouble.hint();
            let error = Error::failed("the GPUs of this node can't be reached").caused_by(trouble).hint(hint);
            error.hint("--sim works on simulated GPUs and a simulated cluster")
        })?;
        let released = driver.clone();
        let (reset, refresh) = (global.gpu_reset.clone(), global.device_refresh.clone());
        let host = PlainHost::new(reset, refresh, move || released.release());
        fleet(global, purpose, name, (driver, Watch { hangs: Watched::hangs, release: Watched::release }), host)
    }
}

/// The driver. While the node starts its modules are loaded by others, and are waited for.
fn opened(library: Option<OsString>, purpose: Purpose) -> Result<Watched<Library>, Trouble> {
    if purpose == Purpose::Remember {
        return Ok(nvml::closed(library));
    }
    let mut more = if purpose == Purpose::Boot { LOADED } else { 0 };
    loop {
        match nvml::open(library.clone()) {
            Err(Trouble::NoDriver) if more > 0 => more -= 1,
            opened => return opened,
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl ThisNode<Door> {
    /// Opens this program's node, of a real cluster or of none, with the GPUs of a node of a simulated fleet in the place
    /// of its own.
    pub(super) fn join(global: &Global, purpose: Purpose) -> Result<Fleet<Self>, Error> {
        let asked = global.sim.as_ref().unwrap_or(&SimFleet::Builtin);
        let (fleet_name, text, state) = simulated::found(global, asked)?;
        let name = global.node.clone().map_or_else(|| own_name(global), Ok)?;
        let door = Door::open(&state, &text, &fleet_name, Some(&name), true, 0.0);
        let door = door.context(|| "the simulated GPUs can't be opened".to_owned())?.ok_or_else(|| {
            Error::usage(format!("{fleet_name} has no node {name}")).hint("say which of its nodes this is with --node")
        })?;
        let host = PlainHost::new(global.gpu_reset.clone(), global.device_refresh.clone(), || {});
        fleet(global, purpose, name, (door, Watch { hangs: |_| None, release: |_| () }), host)
    }
}

/// This node as a fleet of one.
fn fleet<D: Driver + Debug>(
    global: &Global,
    purpose: Purpose,
    name: String,
    (driver, watch): (D, Watch<D>),
    plain: PlainHost,
) -> Result<Fleet<ThisNode<D>>, Error> {
    let change = purpose != Purpose::Look;
    let unusable = || "what is remembered of this node can't be used".to_owned();
    let what_for = match purpose {
        Purpose::Look => Use::Look,
        Purpose::Change | Purpose::Boot => Use::Change,
        Purpose::Remember => Use::Stop,
    };
    let memory = MemoryFile::open(global.state(), what_for).context(unusable)?;
    let given = Given::open(global.state(), change).context(unusable)?;
    let allowed = settings::allowed(global);
    let systemd = Systemd::new(None, &global.systemd, SETTLE);
    let host = NodeHost { node: name.clone(), allowed: allowed.clone(), plain, systemd, given };
    let runtime = runtime()?;
    if purpose == Purpose::Change {
        let left = runtime.block_on(host.end_left());
        left.context(|| "whether a command of an earlier run still runs is not known".to_owned())?;
    }
    let cluster = match purpose {
        Purpose::Remember => None,
        Purpose::Boot => unserved(global)?,
        Purpose::Look | Purpose::Change => cluster(global, &runtime, &name, purpose)?,
    };
    let nodes = BTreeMap::from([(name.clone(), Node { gpus: Gpus::new(driver), host })]);
    // What belongs to no node of a cluster is not this node's to do.
    let only = (global.node.is_some() || cluster.is_some()).then(|| BTreeSet::from([name]));
    let (clock, accepted) = (SystemClock, Accepted::default());
    let labels = global.own.labels.clone().map_or(Known::Unknown, Known::Known);
    let outside = ThisNode { memory, runtime, allowed, labels, watch };
    Ok(Fleet { outside, nodes, only, cluster, clock, accepted, watch: RefCell::default() })
}

/// What its settings call it, else what Linux does.
fn own_name(global: &Global) -> Result<String, Error> {
    if let Some(name) = &global.own.name {
        return Ok(name.clone());
    }
    let name = fs::read_to_string(HOSTNAME).context(|| "the node's name can't be read".to_owned())?;
    Ok(name.trim().to_owned())
}

/// What waits for the network.
pub(super) fn runtime() -> Result<Runtime, Error> {
    // One thread of its own, so that watches are told of what happens also while nobody waits for them.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context(|| "nothing can be waited for".to_owned())
}

/// Whether somebody said how the API server is reached.
fn is_told(global: &Global) -> bool {
    let set = std::env::var_os(KUBECONFIG).is_some_and(|path| !path.is_empty());
    global.kubeconfig.is_some() || global.context.is_some() || set || settings::in_pod()
}

/// Whether the node is known by what its cluster calls it.
pub(super) fn names_itself(global: &Global) -> bool {
    match global.cluster {
        Some(cluster) => cluster == args::Cluster::Kube,
        None => is_told(global),
    }
}

/// The cluster that the node is in, if it is in one. Where a kubelet runs it is in some: its pods hold instances, whether
/// or not anybody told where the API server is.
fn cluster(global: &Global, runtime: &Runtime, node: &str, purpose: Purpose) -> Result<Option<KubeCluster>, Error> {
    let kubelet = global.pod_resources.exists();
    match global.cluster {
        Some(args::Cluster::Kube) => {}
        Some(args::Cluster::None) if kubelet && purpose == Purpose::Change => {
            let socket = global.pod_resources.display();
            let error =
                Error::failed(format!("a kubelet runs here ({socket}), whose pods may hold what would be changed"));
            return Err(error.hint("say --kubeconfig FILE; --cluster none only looks where a kubelet runs"));
        }
        Some(args::Cluster::None | args::Cluster::Sim) => return Ok(None),
        None if is_told(global) => {}
        None if kubelet => {
            let socket = global.pod_resources.display();
            let error = Error::failed(format!("a kubelet runs here ({socket}), and nobody told where its cluster is"));
            return Err(error.hint("say --kubeconfig FILE; with --cluster none its pods are not seen"));
        }
        None => return Ok(None),
    }
    let client = client(global, runtime)?;
    Ok(Some(KubeCluster::new(client, Some((node, &global.pod_resources)))))
}

/// No cluster, where no kubelet has given anything out since the node was started.
///
/// # Errors
///
/// Where one runs. Its socket outlasts it, and a reboot.
fn unserved(global: &Global) -> Result<Option<KubeCluster>, Error> {
    match UnixStream::connect(&global.pod_resources) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        _ => {
            let socket = global.pod_resources.display();
            let error = Error::failed(format!("the kubelet runs already ({socket}), and may have given out the GPUs"));
            Err(error.hint("`sectile apply` and `sectile run` ask it before they change anything"))
        }
    }
}

/// A client of the cluster that the options mean.
pub(super) fn client(global: &Global, runtime: &Runtime) -> Result<kube::Client, Error> {
    let access = Access { kubeconfig: global.kubeconfig.as_deref(), context: global.context.as_deref() };
    let client = runtime.block_on(access.client());
    client.map_err(|error| {
        let error = Error::failed("the cluster can't be reached").caused_by(error);
        error.hint("say --kubeconfig FILE and --context NAME, as for kubectl")
    })
}
