//! The traits of the outside: driver, cluster, host, journal and clock.
//!
//! The driver is synchronous, as NVML is; cluster, host and clock are asynchronous. The simulator's futures never
//! wait (its clock jumps), so that one executor serves both the real and the simulated world.
#![expect(async_fn_in_trait, reason = "everything runs on tokio's current_thread; no future must be Send")]

mod driver;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::closed::closed_list;
use crate::model::observed::{DeviceFiles, NodeInCluster, Suspension, UnitState, WorkloadState};
use crate::model::{Bind, Digest, NodeState, Object, ObservedCluster, Place, Places, Pod};

pub use driver::*;

/// Why a call to the outside failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    /// Whether trying again may help.
    pub transient: bool,
    /// The code of the port: an NVML code's words, an HTTP status, a D-Bus error's name, an exit status.
    pub code: String,
    /// What was called and on what, a sentence.
    pub message: String,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.code)
    }
}

impl std::error::Error for PortError {}

/// What a call to the outside returns.
pub type Port<T> = Result<T, PortError>;

/// What became of an eviction that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The pod terminates.
    Accepted,
    /// It was gone already, or is another pod now.
    Gone,
    /// A disruption budget forbids it (429); seconds after which to ask again, where the server said so.
    TooMany {
        /// Retry-After.
        retry_after_s: Option<u64>,
    },
}

/// How to remove a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Seconds of grace; `None`: the pod's own.
    pub grace_period_s: Option<u64>,
    /// Delete instead of evict.
    pub delete: bool,
    /// Only ask whether it would be done.
    pub dry_run: bool,
}

/// The cluster, as one node's agent and the controller need it.
pub trait Cluster {
    /// Pods, budgets, workloads and free instances.
    async fn observe(&self) -> Port<ObservedCluster>;
    /// The cluster's view of a node; `None`: it knows no such node.
    async fn node(&self, node: &str) -> Port<Option<NodeInCluster>>;
    /// A node's labels; `None`: it knows no such node.
    async fn labels(&self, node: &str) -> Port<Option<BTreeMap<String, String>>>;
    /// Pods on a node that hold devices, asked anew of whoever gives them out.
    async fn holders(&self, node: &str) -> Port<Vec<Pod>>;
    /// One pod; `None`: 404.
    async fn pod(&self, namespace: &str, name: &str) -> Port<Option<Pod>>;
    /// Our taint on, for this plan, or (`None`) off.
    async fn set_taint(&self, node: &str, plan: Option<&Digest>) -> Port<()>;
    /// Pauses what advertises the node's GPUs for this plan, or (`None`) resumes it: what is there then is advertised.
    async fn set_clients_paused(&self, node: &str, plan: Option<&Digest>) -> Port<()>;
    /// Restarts what advertises the node's GPUs, without a pause: what is there then is advertised.
    async fn restart_clients(&self, node: &str) -> Port<()>;
    /// Removes a pod, if it still has that UID.
    async fn remove_pod(&self, namespace: &str, name: &str, uid: &str, how: Removal) -> Port<Eviction>;
    /// Pods of NVIDIA's mig-manager that are still on a node, `namespace/name`; none: it writes no more.
    async fn writer_gone(&self, node: &str) -> Port<Vec<String>>;
    /// Sets a label of a node.
    async fn set_label(&self, node: &str, key: &str, value: &str) -> Port<()>;
    /// Whether a node is tainted or paused by us, asked anew of the API server; `None`: there is no such node.
    async fn is_going(&self, node: &str) -> Port<Option<bool>>;
    /// All places, asked anew, and the version to change them by.
    async fn places(&self) -> Port<(Version, Places)>;
    /// Sets a holder's place, or (`None`) takes it out, unless somebody changed any since that version: then `false`.
    async fn set_place(&self, version: &Version, holder: &str, place: Option<&Place>) -> Port<bool>;
    /// Who told in the cluster that this node, or every node, is to be left alone. What is asked for before each step
    /// costs no request: where the API server does not answer, what it told last holds.
    async fn stopped(&self, node: &str) -> Port<Option<Suspension>>;
    /// A workload as its own object tells it; `None`: there is none.
    async fn workload(&self, object: &Object) -> Port<Option<WorkloadState>>;
    /// Sets a workload's resource request and affinity, records that first, and shows by which revision of the tree. An older
    /// revision than the last is refused, and so is what somebody else has set. `dry_run`: only asks whether it would be done.
    async fn bind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()>;
    /// Takes back what a binding has set, and forgets it; the same of revisions.
    async fn unbind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()>;
    /// Shows at the node how it stands.
    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()>;
    /// Tells what has happened, where `kubectl describe` shows it.
    async fn event(&self, event: &ClusterEvent<'_>) -> Port<()>;
}

/// Which places were read; `None`: there are none, nor the object that they would stand in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version(pub Option<String>);

/// How a node stands, as it is shown in the cluster: a label and annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// How it stands.
    pub state: NodeState,
    /// Which tree: `main@sha1:1eabc9a`.
    pub revision: &'a str,
    /// Why it does not go on, a sentence; `None`: nothing keeps it.
    pub message: Option<&'a str>,
    /// What was seen of it, and when; `None`: what is shown already is as good.
    pub view: Option<&'a str>,
}

closed_list! {
    /// Why an event is told.
    Reason {
        /// Somebody was disturbed or an instance changed: a plan is carried out.
        Repartitioning = "MigRepartitioning",
        /// The layout is what the tree says.
        Repartitioned = "MigRepartitioned",
        /// It stops until somebody acts.
        Blocked = "MigRepartitionBlocked",
        /// A step failed for good.
        Failed = "MigRepartitionFailed",
        /// The pod is evicted, since its instance goes.
        Evicted = "MigInstanceGoes",
        /// Somebody told that a node, or every node, is to be left alone.
        Suspended = "MigSuspended",
        /// Somebody let it go on.
        Resumed = "MigResumed",
    }
}

/// Something that has happened to a node, or to a pod on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent<'a> {
    /// The node.
    pub node: &'a str,
    /// Its pod that it is about: namespace, name and UID.
    pub pod: Option<(&'a str, &'a str, &'a str)>,
    /// Why it is told.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
}

impl Reason {
    /// Whether somebody should look into it.
    pub fn warns(self) -> bool {
        matches!(self, Reason::Blocked | Reason::Failed)
    }
}

/// Which of a binding's commands, or of a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandPhase {
    /// Begins to free the instances.
    Drain,
    /// Asks whether they are free.
    Drained,
    /// Gives them back.
    Resume,
    /// Asks whether it is up.
    Ready,
    /// Begins a client's pause.
    Pause,
    /// Asks whether it is paused.
    Paused,
    /// Ends it.
    Unpause,
}

/// A command to run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandCall<'a> {
    /// The binding's name, or the client's.
    pub workload: &'a str,
    /// Which of its commands.
    pub phase: CommandPhase,
    /// Program and arguments.
    pub argv: &'a [String],
    /// For `SECTILE_MIG_UUIDS`.
    pub uuids: &'a [String],
}

/// The host: its units, its commands, and what only the host can do to a GPU.
pub trait Host {
    /// States of these units, and of every unit that holds a device; a unit that does not exist is left out.
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>>;
    /// Workloads that commands drain and resume, with the UUIDs that each was given and still holds.
    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>>;
    /// Stops a unit and waits until it is inactive. It is refused where others than these would be stopped with it.
    async fn stop_unit(&self, unit: &str, with: &[String]) -> Port<()>;
    /// Gives a unit its UUIDs (`env=uuid,uuid`), starts it and waits until it is active. Without UUIDs what it was given is
    /// taken from it, without `env` nothing is.
    async fn start_unit(&self, unit: &str, env: &str, uuids: &[String]) -> Port<()>;
    /// Runs a command; its exit status.
    async fn run(&self, call: CommandCall<'_>) -> Port<i32>;
    /// Resets exactly this GPU.
    async fn reset_gpu(&self, pci: &str) -> Port<()>;
    /// What it keeps of its MIG devices beside the driver.
    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>>;
    /// Makes these anew, from what the driver has now.
    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()>;
    /// Ends a process: SIGTERM, then SIGKILL.
    async fn terminate(&self, pid: u32) -> Port<()>;
}

/// Time. The simulator's clock jumps when somebody sleeps.
pub trait Clock {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Since some instant, however anybody sets the clock; also while the machine sleeps. Between two machines, or two
    /// starts of one, it can't be compared.
    fn elapsed(&self) -> Duration;
    /// Waits until then.
    async fn sleep_until(&self, then: Timestamp);
}

/// Where records of what is about to be done, and was done, are kept: lines that survive a crash.
pub trait Journal {
    /// Appends a line and returns when it is on stable storage.
    fn append(&mut self, line: &str) -> Port<()>;
    /// Every line, oldest first; a torn last one included.
    fn lines(&self) -> Port<Vec<String>>;
    /// Forgets everything: the plan that it told of is over.
    fn clear(&mut self) -> Port<()>;
}

/// The suspension that counts of those of a node that have not ended by themselves: of whoever needs it without its driver,
/// else the first. A time that can't be read has not come.
pub fn foremost(all: impl IntoIterator<Item = Option<Suspension>>, now: Timestamp) -> Option<Suspension> {
    let until = |told: &Suspension| told.until.as_ref()?.parse::<Timestamp>().ok();
    let lasting: Vec<Suspension> =
        all.into_iter().flatten().filter(|told| until(told).is_none_or(|until| now < until)).collect();
    lasting.iter().find(|told| told.release).or(lasting.first()).cloned()
}
