//! The entries of a fleet file: its form, not yet its sense.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::read::{At, Problems, Section, Span, nearest, suggestion};
use crate::model::observed::{DeviceFiles, ForeignWriter, MigStrategy};
use crate::model::{ComputeName, ProfileName};
use crate::sim::fault::{CALLS, Fate, Fault, port_of};
use crate::sim::world::{SimBudget, SimWorkload};

/// Kinds of workloads that the simulated cluster has controllers for.
const KINDS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Job"];

/// More GPUs than any node has, so that a slip of the finger does not fill the memory.
const MAX_GPUS: u32 = 64;
/// The same for pods.
const MAX_REPLICAS: u32 = 1_000_000;
/// Of a pod that the file does not tell of.
const START_S: u64 = 20;
/// Kubernetes' default.
const GRACE_S: u64 = 30;

/// A fleet file.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) workloads: Vec<At<SimWorkload>>,
    pub(super) budgets: Vec<At<SimBudget>>,
    pub(super) latency: BTreeMap<String, u64>,
    pub(super) faults: Vec<Fault>,
}

/// `[[node]]`.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) name: At<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) in_cluster: bool,
    pub(super) device_files: Vec<DeviceFiles>,
    pub(super) strategy: MigStrategy,
    pub(super) writers: Vec<ForeignWriter>,
    pub(super) gpus: Vec<GpuEntry>,
}

/// `[[node.gpu]]`.
#[derive(Debug)]
pub(super) struct GpuEntry {
    pub(super) model: At<String>,
    pub(super) mig: bool,
    pub(super) count: u32,
    pub(super) half_swapped: bool,
    pub(super) instances: Vec<InstanceEntry>,
    pub(super) processes: Vec<At<UserEntry>>,
}

/// `{ profile = "3g.40gb", start = 4 }`.
#[derive(Debug)]
pub(super) struct InstanceEntry {
    pub(super) span: Span,
    pub(super) profile: ProfileName,
    pub(super) start: Option<u32>,
    pub(super) compute: Option<Vec<ComputeName>>,
    pub(super) users: Vec<At<UserEntry>>,
}

/// Who uses a device; a process may leave its id to the simulator.
#[derive(Clone, Debug)]
pub(super) enum UserEntry {
    Known(crate::model::User),
    Process(String),
}

/// Reads the whole document.
pub(super) fn read<'a>(document: &'a Spanned<DeTable<'a>>, out: &mut Problems) -> Entries {
    let known = ["node", "workload", "budget", "fault"];
    let top = Section::new("a fleet file", document.get_ref(), document.span(), &known, out);
    let fault = top.get("fault").and_then(|value| Section::of("[fault]", value, &["latency", "call"], out));
    let late = fault.as_ref().and_then(|fault| fault.get("latency").map(|value| latency(value, out)));
    let calls = fault.as_ref().map(|fault| fault.array("call", out)).unwrap_or_default();
    Entries {
        nodes: top.array("node", out).iter().filter_map(|value| node(value, out)).collect(),
        workloads: top.array("workload", out).iter().filter_map(|value| workload(value, out)).collect(),
        budgets: top.array("budget", out).iter().filter_map(|value| budget(value, out)).collect(),
        latency: late.unwrap_or_default(),
        faults: calls.iter().filter_map(|value| call(value, out)).collect(),
    }
}

/// `[fault.latency]`: what takes another time than usual, in seconds.
fn latency<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> BTreeMap<String, u64> {
    const WHAT: [&str; 3] = ["clients", "unit", "drain"];
    let Some(section) = Section::of("[fault.latency]", value, &WHAT, out) else { return BTreeMap::new() };
    WHAT.into_iter().filter_map(|what| Some((what.to_owned(), section.seconds(what, out)?))).collect()
}

/// `[[fault.call]]`: a call that goes wrong, in one way.
fn call<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<Fault> {
    const WAYS: [&str; 5] = ["fails", "loses", "hangs", "takes", "stalls"];
    let known = ["name", "nth", "times", "fails", "loses", "hangs", "takes", "stalls"];
    let entry = Section::of("a [[fault.call]]", value, &known, out)?;
    let name = entry.must("name", out);
    let port = name.as_ref().and_then(|name| {
        let port = port_of(&name.value);
        if port.is_none() {
            let calls = CALLS.iter().flat_map(|(_, calls)| calls.iter().copied());
            let near = nearest(&name.value, calls).map(|near| format!("did you mean `{near}`?"));
            let hint = near.unwrap_or_else(|| "the manual of the simulator lists them".to_owned());
            out.add_with(name.span.clone(), format!("no port has a call `{}`", name.value), hint);
        }
        port
    });
    let nth = entry.number("nth", 1..=u32::MAX, out).unwrap_or(1);
    let times = entry.number("times", 1..=u32::MAX, out).unwrap_or(1);
    let mut code = |key: &str| {
        let At { value, span } = entry.text(key, out)?;
        let codes = port?.codes();
        let codes = codes.iter().map(|(code, _)| code.as_str());
        if !codes.clone().any(|code| code == value) {
            let message = format!("`{value}` is no code that this call fails with");
            out.add_with(span, message, suggestion(&value, codes));
            return None;
        }
        Some(value)
    };
    let (fails, loses) = (code("fails"), code("loses"));
    let hangs = entry.text("hangs", out).and_then(|At { value, span }| match value.as_str() {
        "before" => Some(Fate::Hangs),
        "after" => Some(Fate::Swallows),
        _ => {
            out.add(span, format!("a call hangs \"before\" or \"after\" it took effect, not {value:?}"));
            None
        }
    });
    let takes = entry.seconds("takes", out).map(Fate::Takes);
    let stalls = entry.seconds("stalls", out).map(Fate::Stalls);
    if WAYS.iter().filter(|way| entry.get(way).is_some()).count() != 1 {
        out.add(value.span(), format!("a [[fault.call]] goes wrong in one way: one of `{}`", WAYS.join("`, `")));
    }
    let fate = fails.map(Fate::Fails).or(loses.map(Fate::Loses)).or(hangs).or(takes).or(stalls);
    Some(Fault { call: name?.value, nth, times, fate: fate?, seen: 0 })
}

fn node<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<NodeEntry> {
    let known = ["name", "labels", "cluster", "strategy", "writers", "device_files", "gpu"];
    let entry = Section::of("a [[node]]", value, &known, out)?;
    // Everything is read before anything that is missing ends it, so that all errors are told.
    let name = entry.must("name", out);
    let labels = entry.labels("labels", out);
    let in_cluster = entry.flag("cluster", out).unwrap_or(true);
    let strategy =
        entry.text("strategy", out).and_then(|text| of_list(text, MigStrategy::ALL, "no strategy of MIG devices", out));
    let writers = entry.texts("writers", out).into_iter();
    let writers =
        writers.filter_map(|text| of_list(text, ForeignWriter::ALL, "no tool that writes MIG state", out)).collect();
    let files = entry.texts("device_files", out).into_iter();
    let device_files = files
        .filter_map(|text| of_list(text, DeviceFiles::ALL, "nothing that a host keeps of its devices", out))
        .collect();
    let gpus = entry.array("gpu", out).iter().filter_map(|value| gpu(value, out)).collect();
    let strategy = strategy.unwrap_or_default();
    Some(NodeEntry { name: name?, labels, in_cluster, device_files, strategy, writers, gpus })
}

/// The word's place in a closed list.
fn of_list<T: Copy + std::fmt::Display>(
    At { value, span }: At<String>,
    list: &[T],
    what: &str,
    out: &mut Problems,
) -> Option<T> {
    let found = list.iter().find(|known| known.to_string() == value).copied();
    if found.is_none() {
        let words: Vec<String> = list.iter().map(ToString::to_string).collect();
        out.add_with(span, format!("`{value}` is {what}"), suggestion(&value, words.iter().map(String::as_str)));
    }
    found
}

fn gpu<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<GpuEntry> {
    let known = ["model", "mig", "count", "half_swapped", "instances", "processes"];
    let entry = Section::of("a [[node.gpu]]", value, &known, out)?;
    let model = entry.must("model", out);
    let instances: Vec<_> = entry.array("instances", out).iter().map(|value| instance(value, out)).collect();
    let wanted_mig = entry.flag("mig", out);
    if let (Some(false), Some(value)) = (wanted_mig, entry.get("instances").filter(|_| !instances.is_empty())) {
        out.add_with(value.span(), "a GPU with MIG mode off has no instances", "write `mig = true`");
    }
    let count = entry.number("count", 1..=MAX_GPUS, out).unwrap_or(1);
    let half_swapped = entry.flag("half_swapped", out).unwrap_or(false);
    let processes = users(&entry, "processes", out);
    let mig = wanted_mig.unwrap_or(!instances.is_empty());
    // What was just called senseless is not asked of the driver, too.
    let instances = instances.into_iter().flatten().filter(|_| mig).collect();
    Some(GpuEntry { model: model?, mig, count, half_swapped, instances, processes })
}

fn instance<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<InstanceEntry> {
    let entry = Section::of("an instance", value, &["profile", "start", "users", "compute"], out)?;
    if entry.get("profile").is_none() {
        out.add(value.span(), "an instance needs `profile`");
    }
    let profile = entry.parsed("profile", out).map(|profile| profile.value);
    let start = entry.number("start", 0..=63, out);
    let compute = entry.get("compute").map(|_| {
        let names = entry.texts("compute", out);
        names.into_iter().filter_map(|name| out.ok(&name.span, name.value.parse::<ComputeName>())).collect()
    });
    let users = users(&entry, "users", out);
    Some(InstanceEntry { span: value.span(), profile: profile?, start, compute, users })
}

/// Users as the tree names them; `process:NAME` and, for a whole GPU's processes, a bare name leave out the id.
fn users(entry: &Section<'_>, key: &str, out: &mut Problems) -> Vec<At<UserEntry>> {
    let mut users = Vec::new();
    for At { value, span } in entry.texts(key, out) {
        let user = match (value.parse(), value.strip_prefix("process:")) {
            (Ok(user), _) => UserEntry::Known(user),
            (Err(_), Some(name)) if !name.is_empty() && !name.contains('/') => UserEntry::Process(name.to_owned()),
            (Err(_), None) if key == "processes" && !value.is_empty() && !value.contains(':') => {
                UserEntry::Process(value)
            }
            (Err(error), _) => {
                out.add(span, error);
                continue;
            }
        };
        users.push(At { value: user, span });
    }
    users
}

fn workload<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<At<SimWorkload>> {
    let known = [
        "kind",
        "namespace",
        "name",
        "replicas",
        "profile",
        "per_replica",
        "resource",
        "labels",
        "node_selector",
        "start",
        "grace",
    ];
    let entry = Section::of("a [[workload]]", value, &known, out)?;
    let kind = entry.must("kind", out);
    if let Some(kind) = kind.as_ref().filter(|kind| !KINDS.contains(&kind.value.as_str())) {
        let message = format!("the simulated cluster has no controller for `{}`", kind.value);
        out.add_with(kind.span.clone(), message, suggestion(&kind.value, KINDS));
    }
    let namespace = entry.must("namespace", out);
    let name = entry.must("name", out);
    let profile = entry.parsed::<ProfileName>("profile", out);
    if let Some(bare) = profile.as_ref().filter(|profile| profile.value.memory_gb.is_none()) {
        let message = format!("`{}` names no resource of a cluster", bare.value);
        out.add_with(bare.span.clone(), message, "write the memory too, as in 3g.40gb");
    }
    let resource = entry.text("resource", out).map(|resource| resource.value);
    let replicas = entry.number("replicas", 0..=MAX_REPLICAS, out).unwrap_or(1);
    let per_replica = entry.number("per_replica", 1..=1024, out).unwrap_or(1);
    let labels = entry.labels("labels", out);
    let node_selector = entry.labels("node_selector", out);
    let start_s = entry.seconds("start", out).unwrap_or(START_S);
    let grace_period_s = entry.seconds("grace", out).unwrap_or(GRACE_S);
    let workload = SimWorkload {
        kind: kind?.value,
        namespace: namespace?.value,
        name: name.as_ref()?.value.clone(),
        replicas,
        profile: profile.map(|profile| profile.value),
        per_replica,
        resource,
        labels,
        node_selector,
        affinity: Default::default(),
        start_s,
        grace_period_s,
    };
    Some(At { value: workload, span: name?.span })
}

fn budget<'a>(value: &'a Spanned<DeValue<'a>>, out: &mut Problems) -> Option<At<SimBudget>> {
    let entry = Section::of("a [[budget]]", value, &["namespace", "name", "workload", "max_unavailable"], out)?;
    let namespace = entry.must("namespace", out);
    let name = entry.must("name", out);
    let workload = entry.must("workload", out);
    if entry.get("max_unavailable").is_none() {
        out.add(entry.span.clone(), "a [[budget]] needs `max_unavailable`");
    }
    let max_unavailable = entry.number("max_unavailable", 0..=MAX_REPLICAS, out).unwrap_or(0);
    let workload = workload?;
    let span = workload.span;
    let (namespace, name, workload) = (namespace?.value, name?.value, workload.value);
    Some(At { value: SimBudget { namespace, name, workload, max_unavailable }, span })
}
