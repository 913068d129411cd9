//! Steps as sentences: for progress, errors, wide plans and differences.

use std::collections::BTreeMap;

use super::paint::{FAINT, pad, paint, width};
use super::words;
use crate::model::observed::DeviceFiles;
use crate::model::plan::SlotRef;
use crate::model::policy::{Allocation, ClientRef};
use crate::model::{Affinity, Bind, ComputeName, NodePlan, Step, StepKind};

/// What people call the GPUs of a node: `GPU 1` for a UUID. The default knows no names and shows UUIDs.
#[derive(Clone, Debug, Default)]
pub struct Names {
    node: Option<String>,
    gpus: BTreeMap<String, u32>,
}

impl Names {
    /// The names on a plan's node.
    pub fn of(node: &NodePlan) -> Self {
        let gpus = node.gpus.iter().map(|gpu| (gpu.uuid.clone(), gpu.index)).collect();
        Names { node: Some(node.name.clone()), gpus }
    }

    /// `GPU 1`, or the beginning of a UUID that is not on the node.
    pub fn gpu(&self, uuid: &str) -> String {
        match self.gpus.get(uuid) {
            Some(index) => format!("GPU {index}"),
            None => words::uuid(uuid),
        }
    }

    /// What a block or a gap is about, in the words of people: a GPU of the node by its index, all else as it is.
    pub(super) fn object(&self, object: &str) -> String {
        if self.gpus.contains_key(object) { self.gpu(object) } else { object.to_owned() }
    }

    fn node(&self) -> &str {
        self.node.as_deref().unwrap_or("the node")
    }

    fn slot(&self, SlotRef { gpu, profile, placement }: &SlotRef) -> String {
        format!("{} on {}", words::at(*profile, placement.start), self.gpu(gpu))
    }

    fn slots(&self, slots: &[SlotRef]) -> String {
        slots.iter().map(|slot| self.slot(slot)).collect::<Vec<_>>().join(", ")
    }
}

/// A step as a sentence without its full stop: `evict inference/embed-0`, `destroy 2g.20gb at 0 on GPU 1`.
pub fn step(kind: &StepKind, names: &Names) -> String {
    match kind {
        StepKind::StandDown => format!("stand mig-manager down on {}, for good", names.node()),
        StepKind::Taint => format!("taint {}, so that nothing new lands there", names.node()),
        StepKind::Untaint => format!("take the taint off {}", names.node()),
        StepKind::PauseClients { units, commands } => {
            format!("pause what holds or advertises the GPUs{}", listed(units, commands))
        }
        StepKind::ResumeClients { units, commands } => {
            format!("resume what holds or advertises the GPUs{}", listed(units, commands))
        }
        StepKind::RefreshClients => "advertise the new instances".to_owned(),
        StepKind::RefreshDevices { files } => {
            let kept = files.iter().map(|files| match files {
                DeviceFiles::DeviceNodes => "device nodes",
                DeviceFiles::Cdi => "the CDI specification",
            });
            format!("make {} anew on {}", kept.collect::<Vec<_>>().join(" and "), names.node())
        }
        StepKind::EvictPod { namespace, pod, uid: _, grace_period_s, delete } => {
            let verb = if *delete { "delete" } else { "evict" };
            let grace = grace_period_s.map_or(String::new(), |s| format!(" with {s} s of grace"));
            format!("{verb} {namespace}/{pod}{grace}")
        }
        StepKind::AwaitGone { pods, timeout_s: _ } => {
            let names: Vec<&str> = pods.keys().map(String::as_str).collect();
            format!("wait until {} {} gone", names.join(", "), is(names.len()))
        }
        StepKind::AwaitReady { workloads, timeout_s: _ } => {
            let names: Vec<&str> = workloads.keys().map(String::as_str).collect();
            format!("wait until {} {} ready again", names.join(", "), is(names.len()))
        }
        StepKind::StopUnit { unit } => format!("stop {unit}"),
        StepKind::StartUnit { unit, env: _, slots } => format!("start {unit} with {}", names.slots(slots)),
        StepKind::DrainCommand { workload } => format!("drain {workload}"),
        StepKind::ResumeCommand { workload, slots } => format!("resume {workload} with {}", names.slots(slots)),
        StepKind::TerminateProcess { pid, name } if name.is_empty() => format!("terminate process {pid}"),
        StepKind::TerminateProcess { pid, name } => format!("terminate process {pid} ({name})"),
        StepKind::DestroyInstance { slot } => format!("destroy {}", names.slot(slot)),
        StepKind::CreateInstance { slot, compute } => {
            let fills = matches!(compute.as_slice(), [one] if one.slices == slot.profile.slices);
            let cut = if fills { String::new() } else { format!(", {}", cut(compute)) };
            format!("create {}{cut}", names.slot(slot))
        }
        StepKind::SetMigMode { gpu, enabled } => {
            format!("switch MIG mode of {} {}", names.gpu(gpu), if *enabled { "on" } else { "off" })
        }
        StepKind::ResetGpu { gpu } => format!("reset {}", names.gpu(gpu)),
        StepKind::BindWorkload { bind, timeout_s: _ } => {
            let Bind { binding: _, object, container, profile, per_replica, strategy: _, allocation, affinity } =
                &**bind;
            let container = container.as_ref().map(|name| format!(", container {name}")).unwrap_or_default();
            let by = if *allocation == Allocation::Dra { " by a claim" } else { "" };
            let each = each(*per_replica, profile);
            format!("bind {object}{container} to {each}{by}{}", on(affinity))
        }
        StepKind::UnbindWorkload { bind, timeout_s: _ } => {
            format!("take {} back from {}", each(bind.per_replica, bind.profile), bind.object)
        }
    }
}

/// Where pods may run.
fn on(Affinity { labels, names }: &Affinity) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match (labels.join(", "), names.join(", ")) {
        (labels, names) if names.is_empty() && labels.is_empty() => String::new(),
        (labels, names) if names.is_empty() => format!(" on nodes with {labels}"),
        (labels, names) if labels.is_empty() => format!(" on {names}"),
        (labels, names) => format!(" on {names} with {labels}"),
    }
}

/// Steps as a table with what each comes after and what is checked again right before it.
pub(super) fn table(indent: usize, steps: &[Step], names: &Names) -> String {
    let sentences: Vec<String> = steps.iter().map(|s| step(&s.kind, names)).collect();
    let widest = sentences.iter().map(|s| width(s)).max().unwrap_or(0);
    let digits = steps.iter().map(|s| s.id.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (Step { id, after, guards, scope: _, disruptive, waits, estimate_s, kind: _ }, sentence) in
        steps.iter().zip(&sentences)
    {
        let mut notes = Vec::new();
        if !after.is_empty() {
            let after: Vec<String> = after.iter().map(u32::to_string).collect();
            notes.push(format!("after {}", after.join(", ")));
        }
        if !guards.is_empty() {
            let guards: Vec<&str> = guards.iter().map(|guard| guard.word()).collect();
            notes.push(format!("if {}", guards.join(", ")));
        }
        if *disruptive {
            notes.push("disruptive".to_owned());
        }
        if let Some(code) = waits {
            notes.push(format!("waits ({code})"));
        }
        if *estimate_s > 0 {
            notes.push(format!("about {estimate_s} s"));
        }
        let sentence = if notes.is_empty() { sentence.clone() } else { pad(sentence, widest) };
        let notes = if notes.is_empty() { String::new() } else { format!("   {}", paint(FAINT, &notes.join(" · "))) };
        text.push_str(&format!("{}{id:>digits$}  {sentence}{notes}\n", " ".repeat(indent)));
    }
    text
}

/// `3g.40gb`, or `2 × 3g.40gb`.
pub(super) fn each(number: u32, profile: impl std::fmt::Display) -> String {
    if number == 1 { profile.to_string() } else { format!("{number} × {profile}") }
}

fn cut(compute: &[ComputeName]) -> String {
    if compute.is_empty() {
        return "without compute instances".to_owned();
    }
    let names: Vec<String> = compute.iter().map(ComputeName::to_string).collect();
    format!("cut into {}", names.join(", "))
}

fn listed(units: &[String], commands: &[ClientRef]) -> String {
    let all: Vec<String> = units.iter().cloned().chain(commands.iter().map(ToString::to_string)).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

fn is(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}
