//! This node as the outside of commands: its GPUs through NVML. Of its cluster and its units nothing is known yet, and
//! whatever would need them says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::gpu::Gpus;
use crate::host::clock::SystemClock;
use crate::host::journal::FileJournal;
use crate::host::memory::MemoryFile;
use crate::host::plain::PlainHost;
use crate::model::observed::NodeInCluster;
use crate::model::{Digest, Known, Memory, ObservedCluster, Pod};
use crate::nvml::{self, Library, Watched};
use crate::ports::{Cluster, ClusterEvent, Eviction, NvmlCode, Port, PortError, Removal, Request, Shown};

use super::args::Global;
use super::error::{Context as _, Error};
use super::fleet::{Accepted, Fleet, Node, Purpose};
use super::outside::Outside;

/// Where Linux tells the node's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// This node.
#[derive(Debug)]
pub(super) struct ThisNode {
    memory: MemoryFile,
    runtime: Runtime,
}

impl Outside for ThisNode {
    type Driver = Watched<Library>;
    type Cluster = NoCluster;
    type Host = PlainHost;
    type Clock = SystemClock;
    type Journal = FileJournal;
    const WORDS: &'static str = "this node";
    const SIMULATED: bool = false;

    /// No cluster tells them, and no settings.
    fn labels(&self, _node: &str) -> Known<BTreeMap<String, String>> {
        Known::Unknown
    }

    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        self.memory.with(with)
    }

    fn save(&self) -> Result<(), Error> {
        self.memory.save().context(|| "what is remembered could not be kept".to_owned())
    }

    fn last_words(&self) -> Box<dyn Fn() + Send> {
        Box::new(|| {})
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.block_on(future))
    }

    fn journal_path(&self, name: &str) -> PathBuf {
        self.memory.folder().join(format!("node{name}"))
    }

    fn journal(&self, file: FileJournal) -> FileJournal {
        file
    }

    fn advice(error: &PortError) -> Option<&'static str> {
        NvmlCode::ERRORS.iter().find(|code| code.words() == error.code).and_then(|code| code.advice())
    }

    fn hangs(gpus: &Gpus<Watched<Library>>) -> Option<&'static str> {
        gpus.driver().hangs()
    }
}

impl ThisNode {
    /// Opens this node.
    pub(super) fn open(global: &Global, purpose: Purpose) -> Result<Fleet<ThisNode>, Error> {
        let name = fs::read_to_string(HOSTNAME).context(|| "the node's name can't be read".to_owned())?;
        let name = name.trim().to_owned();
        if let Some(other) = global.node.as_ref().filter(|other| **other != name) {
            let error = Error::usage(format!("this node is {name}, and {other} can't be reached from here"));
            return Err(error.hint("leave --node out, or add --sim for a node of a simulated fleet"));
        }
        let library = global.nvml_library.clone().map(PathBuf::into_os_string);
        let driver = if purpose == Purpose::Remember { Ok(nvml::closed(library)) } else { nvml::open(library) };
        let driver = driver.map_err(|trouble| {
            let hint = trouble.hint();
            let error = Error::failed("the GPUs of this node can't be reached").caused_by(trouble).hint(hint);
            error.hint("--sim works on simulated GPUs and a simulated cluster")
        })?;
        let memory = MemoryFile::open(&global.state, purpose != Purpose::Look);
        let memory = memory.context(|| "what is remembered of this node can't be used".to_owned())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "nothing can be waited for".to_owned())?;
        let released = driver.clone();
        let host = PlainHost::new(global.gpu_reset.clone(), global.device_refresh.clone(), move || released.release());
        let nodes = BTreeMap::from([(name, Node { gpus: Gpus::new(driver), host })]);
        let only = global.node.clone().map(|name| BTreeSet::from([name]));
        let (clock, accepted) = (SystemClock, Accepted::default());
        Ok(Fleet { outside: ThisNode { memory, runtime }, nodes, only, cluster: None, clock, accepted })
    }
}

/// The cluster of a node that is in none.
#[derive(Debug)]
pub(super) enum NoCluster {}

impl Cluster for NoCluster {
    async fn observe(&self) -> Port<ObservedCluster> {
        match *self {}
    }
    async fn node(&self, _: &str) -> Port<Option<NodeInCluster>> {
        match *self {}
    }
    async fn labels(&self, _: &str) -> Port<Option<BTreeMap<String, String>>> {
        match *self {}
    }
    async fn holders(&self, _: &str) -> Port<Vec<Pod>> {
        match *self {}
    }
    async fn pod(&self, _: &str, _: &str) -> Port<Option<Pod>> {
        match *self {}
    }
    async fn writer_gone(&self, _: &str) -> Port<Vec<String>> {
        match *self {}
    }
    async fn set_taint(&self, _: &str, _: Option<&Digest>) -> Port<()> {
        match *self {}
    }
    async fn set_clients_paused(&self, _: &str, _: Option<&Digest>) -> Port<()> {
        match *self {}
    }
    async fn remove_pod(&self, _: &str, _: &str, _: &str, _: Removal) -> Port<Eviction> {
        match *self {}
    }
    async fn set_label(&self, _: &str, _: &str, _: &str) -> Port<()> {
        match *self {}
    }
    async fn bind(&self, _: &Request<'_>) -> Port<()> {
        match *self {}
    }
    async fn publish(&self, _: &str, _: &Shown<'_>) -> Port<()> {
        match *self {}
    }
    async fn event(&self, _: &ClusterEvent<'_>) -> Port<()> {
        match *self {}
    }
}
