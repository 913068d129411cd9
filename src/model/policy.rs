//! How changes may be carried out: the merged policy of a node. Durations are whole seconds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::identity::{Digest, Source};

/// The merged policy of a node; every key that no file sets has the default documented in `packaging/doc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// The files that matched, most specific first.
    pub sources: Vec<Source>,
    /// `[apply] mode`.
    pub mode: ApplyMode,
    /// `[drain]`.
    pub drain: Drain,
    /// `[budget]`.
    pub budget: NodeBudget,
    /// `[window]`; `None`: always open.
    pub window: Option<Window>,
    /// `[protect]`.
    pub protect: Protect,
    /// `[gpu]`.
    pub gpu: GpuRules,
    /// `[clients]`.
    pub clients: Clients,
    /// `[writers] mig_manager`.
    pub mig_manager: WriterRule,
    /// `[failure]`.
    pub failure: Failure,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? } default $default:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),* }
        impl $name {
            /// The words that the tree may use.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
            /// The value of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
            /// The word of the value.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl Default for $name { fn default() -> Self { Self::$default } }
    };
}

words! {
    /// What may be done without being asked.
    ApplyMode {
        /// Everything that the guards allow.
        Auto = "auto",
        /// Only what disturbs nobody.
        Undisruptive = "undisruptive",
        /// Nothing: plan only.
        Manual = "manual",
    } default Auto
}
words! {
    /// What to do about a DaemonSet's pod on an instance that goes.
    DaemonSets { /// Block.
        Refuse = "refuse", /// Delete it; it comes back by itself.
        Delete = "delete" } default Refuse
}
words! {
    /// What to do about GPU processes that no binding explains.
    Processes { /// Block.
        Refuse = "refuse", /// Wait until they end.
        Wait = "wait", /// Send SIGTERM, then SIGKILL.
        Terminate = "terminate" } default Refuse
}
words! {
    /// When the MIG mode of a GPU may be changed.
    ModeChange { /// Never.
        Refuse = "refuse", /// When nobody is on that GPU.
        Idle = "idle", /// Drain it.
        Allow = "allow" } default Idle
}
words! {
    /// When a GPU may be reset, where a mode change needs it.
    ResetRule { /// Never.
        Refuse = "refuse", /// When nobody is on that GPU.
        Idle = "idle" } default Idle
}
words! {
    /// Whether a node may be rebooted.
    RebootRule { /// Never.
        Refuse = "refuse", /// Say so and wait.
        Request = "request", /// Drain the node and reboot it once.
        Allow = "allow" } default Refuse
}
words! {
    /// How instances reach pods.
    Allocation { /// By NVIDIA's device plugin.
        DevicePlugin = "device-plugin", /// By dynamic resource allocation.
        Dra = "dra", /// Whichever is there.
        Auto = "auto" } default Auto
}
words! {
    /// What to do about another tool that writes MIG state.
    WriterRule { /// Block.
        Refuse = "refuse", /// Stand it down first.
        TakeOver = "take_over" } default Refuse
}

/// `[drain]`, in the words of kubectl drain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Drain {
    /// Seconds until an eviction that does not succeed is given up.
    pub timeout_s: u64,
    /// Seconds of grace; `None`: each pod's own.
    pub grace_period_s: Option<u64>,
    /// Whether pods without a controller may be evicted.
    pub force: bool,
    /// Whether pods with emptyDir volumes may be evicted.
    pub delete_emptydir_data: bool,
    /// Pods of DaemonSets.
    pub daemonsets: DaemonSets,
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            timeout_s: 15 * 60,
            grace_period_s: None,
            force: false,
            delete_emptydir_data: false,
            daemonsets: DaemonSets::Refuse,
        }
    }
}

/// A number of nodes, or a share of them in percent (at least 1 node).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many percent, 1 to 100.
    Percent(u32),
}

/// A limit that nodes share: those that the policy file matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shared<T> {
    /// The limit.
    pub limit: T,
    /// The file that sets it: one of the policy's sources.
    pub over: Source,
}

/// `[budget]`: over the nodes that the file matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeBudget {
    /// Nodes changing at once; `None`: no limit.
    pub max_nodes: Option<Shared<Amount>>,
    /// Nodes that converge first.
    pub canary: Option<Shared<u32>>,
    /// Pods down at once; `None`: no limit beyond the disruption budgets.
    pub max_pods: Option<Shared<u32>>,
    /// Nodes with no cluster to coordinate by.
    pub uncoordinated: Uncoordinated,
}

/// What nodes without a cluster do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncoordinated {
    /// No disruptive change where a budget would have to be shared.
    #[default]
    Refuse,
    /// Each at its own time within so many seconds.
    Splay(u64),
}

/// `[window]`: when disruptive plans may start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The spans; each begins on its days and may end on the next.
    pub open: Vec<Span>,
    /// An IANA zone name.
    pub timezone: String,
}

/// One span of a window: `Mon-Fri 22:00-06:00`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Days on which it begins, Monday first.
    pub days: [bool; 7],
    /// Minutes after midnight, 0 to 1439.
    pub from: u32,
    /// Minutes after midnight, 1 to 1440; not after `from` means: on the next day.
    pub to: u32,
}

/// Annotations by which a pod asks not to be disturbed, with the value that asks it (Karpenter, cluster-autoscaler).
pub const DO_NOT_DISRUPT: [(&str, &str); 3] = [
    ("sectile.dev/do-not-disrupt", "true"),
    ("karpenter.sh/do-not-disrupt", "true"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
];

/// `[protect]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protect {
    /// Pods that are never moved; adds up over the policy files.
    pub pods: Vec<PodSelector>,
    /// Whether the do-not-disrupt annotations count.
    pub annotations: bool,
    /// GPU processes that no binding explains.
    pub processes: Processes,
}

impl Default for Protect {
    fn default() -> Self {
        Protect { pods: Vec::new(), annotations: true, processes: Processes::Refuse }
    }
}

/// Selects pods: every part that is there must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodSelector {
    /// A shell glob over the namespace (`*`, `?`); `None`: any.
    pub namespace: Option<String>,
    /// Labels that the pod must bear.
    pub labels: BTreeMap<String, String>,
    /// The entry.
    pub source: Source,
}

/// `[gpu]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuRules {
    /// Mode changes.
    pub mode_change: ModeChange,
    /// Resets.
    pub reset: ResetRule,
    /// Reboots.
    pub reboot: RebootRule,
}

/// `[clients]`: what holds or advertises the GPUs, paused around a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clients {
    /// How instances reach pods.
    pub allocation: Allocation,
    /// Units to stop and start.
    pub systemd: Vec<String>,
    /// Commands to pause and resume.
    pub commands: Vec<ClientCommand>,
    /// Where the commands stand.
    pub commands_at: Option<Source>,
}

impl Clients {
    /// How steps name the commands, in order.
    pub fn names(&self) -> Vec<ClientRef> {
        let all = self.commands_at.iter().flat_map(|source| (1..).map(move |number| (source, number)));
        let all = all.zip(&self.commands);
        all.map(|((source, number), command)| ClientRef { source: source.clone(), number, digest: command.digest() })
            .collect()
    }

    /// The command of that name, if the policy still has it, wherever it stands now.
    pub fn command(&self, name: &ClientRef) -> Option<&ClientCommand> {
        self.commands.iter().find(|command| command.digest() == name.digest)
    }
}

/// Names one of `clients.commands`: commands come from the tree, never from a plan file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientRef {
    /// Where the list stands.
    pub source: Source,
    /// Its place in it, from 1.
    pub number: u32,
    /// Of what it runs: what was paused is resumed by the same command, also where the tree was edited meanwhile.
    pub digest: Digest,
}

impl fmt::Display for ClientRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.source, self.number)
    }
}

/// A client that commands pause and resume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientCommand {
    /// Begins the pause.
    pub pause: Vec<String>,
    /// Polled until it exits 0; empty: no wait.
    pub paused: Vec<String>,
    /// Ends it.
    pub resume: Vec<String>,
}

impl ClientCommand {
    fn digest(&self) -> Digest {
        let ClientCommand { pause, paused, resume } = self;
        let list = |list: &Vec<String>| format!("{list:?}");
        Digest::of([pause, paused, resume].map(list).iter().map(String::as_bytes))
    }
}

/// `[failure]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// Whether the old layout is put back when a step fails for good.
    pub rollback: bool,
    /// How often a failed step is tried again.
    pub retries: u32,
}

impl Default for Failure {
    fn default() -> Self {
        Failure { rollback: true, retries: 5 }
    }
}
