//! One GPU of a plan: a heading, two drawings that line up, and a line for what stays, goes and comes.

use anstyle::Style as Colour;

use super::Style;
use super::drawing;
use super::paint::{CHANGE, CREATE, DESTROY, FAINT, PLAIN, pad, paint, width};
use super::words;
use crate::model::NodePlan;
use crate::model::plan::{Disruption, DisruptionKind, GpuPlan, PlanInstance, SlotRef, Verdict};

/// One line below the drawings; its details stand in a column of their own.
struct Line {
    sign: &'static str,
    verb: &'static str,
    colour: Colour,
    what: String,
    details: Vec<String>,
}

/// `GPU 0  H100 80GB HBM3  GPU-1b3c…`.
pub(super) fn heading(index: u32, model: &str, uuid: &str, style: Style) -> String {
    let uuid = if style.wide { uuid.to_owned() } else { words::uuid(uuid) };
    format!("GPU {index}  {model}  {}", paint(FAINT, &uuid))
}

/// Whether anything on the GPU changes.
pub(super) fn changes(gpu: &GpuPlan) -> bool {
    !gpu.destroy.is_empty() || !gpu.create.is_empty() || gpu.mig.now != gpu.mig.then
}

/// A GPU with its lines, indented below its node.
pub(super) fn gpu(node: &NodePlan, gpu: &GpuPlan, style: Style) -> String {
    let mut text = format!("  {}", heading(gpu.index, &gpu.model, &gpu.uuid, style));
    if gpu.managed && (style.wide || !gpu.shadows.is_empty()) {
        text.push_str(&format!("  {}", words::source(gpu.source.as_ref(), &gpu.shadows)));
    }
    if style.wide {
        text.push_str(&format!("  {}", paint(FAINT, &gpu.pci)));
    }
    if !gpu.managed {
        return format!("{text}  unmanaged: {}\n", everything(gpu));
    }
    let changes = changes(gpu);
    if !changes && !style.wide {
        return format!("{text}  unchanged: {}\n", everything(gpu));
    }
    text.push('\n');
    if let (Some(now), Some(then)) = (drawing::now(gpu), drawing::then(gpu)) {
        text.push_str(&format!("    now   {now}\n"));
        if changes {
            text.push_str(&format!("    then  {then}\n"));
        }
    }
    text.push_str(&print(&lines(node, gpu)));
    text
}

/// Everything on a GPU that stays as it is, in a line.
fn everything(gpu: &GpuPlan) -> String {
    if !gpu.mig.now {
        return "MIG off".to_owned();
    }
    if gpu.keep.is_empty() {
        return "no instances".to_owned();
    }
    let mut kept: Vec<&PlanInstance> = gpu.keep.iter().collect();
    kept.sort_by_key(|i| i.start);
    let texts = kept.iter().map(|i| match words::users(i.users.as_deref()) {
        users if users.is_empty() => words::instance(i),
        users => format!("{} ({users})", words::instance(i)),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn lines(node: &NodePlan, gpu: &GpuPlan) -> Vec<Line> {
    let GpuPlan { uuid, mig, keep, destroy, create, .. } = gpu;
    let holders = |i: &PlanInstance| Some(words::users(i.users.as_deref())).filter(|users| !users.is_empty());
    let goes = |i: &PlanInstance| disturbed(node, uuid, i);

    let mut lines = Vec::new();
    if mig.now != mig.then {
        let what = format!("MIG mode {}", if mig.then { "on" } else { "off" });
        lines.push(Line { sign: "~", verb: "switch", colour: CHANGE, what, details: vec![] });
    }
    group(&mut lines, ("=", "keep", PLAIN), keep.iter().collect(), |i| holders(i).into_iter().collect());
    group(&mut lines, ("-", "destroy", DESTROY), destroy.iter().collect(), goes);
    group(&mut lines, ("+", "create", CREATE), create.iter().collect(), |_| vec![]);
    lines
}

/// Instances about which there is nothing to say share a line; each of the others has its own.
fn group(
    lines: &mut Vec<Line>,
    (sign, verb, colour): (&'static str, &'static str, Colour),
    mut instances: Vec<&PlanInstance>,
    details: impl Fn(&PlanInstance) -> Vec<String>,
) {
    instances.sort_by_key(|i| i.start);
    let (mut plain, mut own) = (Vec::new(), Vec::new());
    for instance in instances {
        let (what, details) = (words::instance(instance), details(instance));
        if details.is_empty() {
            plain.push(what);
        } else {
            own.push(Line { sign, verb, colour, what, details });
        }
    }
    if !plain.is_empty() {
        lines.push(Line { sign, verb, colour, what: plain.join(", "), details: vec![] });
    }
    lines.extend(own);
}

fn print(lines: &[Line]) -> String {
    let detailed = lines.iter().filter(|line| !line.details.is_empty());
    let widest = detailed.map(|line| width(&line.what)).max().unwrap_or(0);
    let mut text = String::new();
    for Line { sign, verb, colour, what, details } in lines {
        let verb = paint(*colour, &format!("{sign} {verb:<7}"));
        let mut first = true;
        for detail in details {
            let (verb, what) = if first { (verb.as_str(), what.as_str()) } else { ("         ", "") };
            text.push_str(&format!("    {verb}  {}   {detail}\n", pad(what, widest)));
            first = false;
        }
        if details.is_empty() {
            text.push_str(&format!("    {verb}  {what}\n"));
        }
    }
    text
}

fn is_here(slot: &SlotRef, gpu: &str, instance: &PlanInstance) -> bool {
    slot.gpu == gpu && slot.profile == instance.profile && slot.placement == instance.placement()
}

/// What happens to each user of an instance that goes; users that no disruption tells of are named all the same.
fn disturbed(node: &NodePlan, gpu: &str, instance: &PlanInstance) -> Vec<String> {
    let of_this = |d: &&Disruption| d.loses.iter().any(|slot| is_here(slot, gpu, instance));
    let told: Vec<String> = node.disruptions.iter().filter(of_this).map(|d| format!("its {}", disruption(d))).collect();
    let users = words::users(instance.users.as_deref());
    if told.is_empty() && !users.is_empty() {
        return vec![users];
    }
    told
}

/// What happens to somebody who is disturbed: `pod inference/embed-0 moves to GPU 0 first (…)`.
pub(super) fn disruption(disruption: &Disruption) -> String {
    let Disruption { kind, namespace, name, uid: _, verdict, reason, downtime_s, moves_to, loses: _ } = disruption;
    let name = namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"));
    let to = moves_to.as_deref();
    let fate = match (verdict, kind, to) {
        (Verdict::Wait, ..) => "waits".to_owned(),
        (Verdict::Refuse, ..) => "can't be moved".to_owned(),
        (Verdict::Move, DisruptionKind::Pod, Some(to)) => format!("moves to {to} first"),
        (Verdict::Move, DisruptionKind::Pod, None) => "is evicted first".to_owned(),
        (Verdict::Move, DisruptionKind::Unit, Some(to)) => format!("stops first and starts again on {to}"),
        (Verdict::Move, DisruptionKind::Unit, None) => "stops first".to_owned(),
        (Verdict::Move, DisruptionKind::Command, Some(to)) => format!("is drained first and resumes on {to}"),
        (Verdict::Move, DisruptionKind::Command, None) => "is drained first".to_owned(),
        (Verdict::Move, DisruptionKind::Process, _) => "is terminated first".to_owned(),
    };
    let mut why = Vec::new();
    if !reason.is_empty() {
        why.push(words::clause(reason).to_owned());
    }
    if *verdict == Verdict::Move && *downtime_s > 0 {
        why.push(format!("down about {downtime_s} s"));
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
    let kind = if *kind == DisruptionKind::Command { "workload" } else { kind.word() };
    format!("{kind} {name} {fate}{why}")
}
