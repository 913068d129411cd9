//! Desired beside observed: for many nodes a table with a line each, then GPU by GPU who uses what and what waits.

use std::collections::BTreeSet;

use super::gpu;
use super::paint::{HINT, paint, table};
use super::step::{self, Names};
use super::words;
use super::{Style, text};
use crate::model::desired::{DesiredNode, Goal, Wanted};
use crate::model::observed::{ObservedGpu, ObservedNode};
use crate::model::plan::{GpuPlan, NodeState, PlanInstance};
use crate::model::{Desired, GpuInstance, NodePlan, Observed, Placement, Plan, ProfileName};

/// More nodes than this are not shown GPU by GPU unless asked for by `-o wide` or `--node`.
const DETAILED: usize = 8;

/// What is there now beside what is wanted, with colours.
pub fn status(desired: &Desired, observed: &Observed, plan: &Plan, style: Style) -> String {
    let mut text = String::new();
    let several = plan.nodes.len() > 1;
    if several {
        text.push_str(&overview(observed, plan));
    }
    // Beside a table, nodes that are as they should be need no more words.
    let worth = |node: &&NodePlan| style.wide || !several || node.state != NodeState::Converged;
    let nodes: Vec<&NodePlan> = plan.nodes.iter().filter(worth).collect();
    let left_out = if style.wide { 0 } else { nodes.len().saturating_sub(DETAILED) };
    for node in nodes.iter().take(nodes.len() - left_out) {
        if !text.is_empty() {
            text.push('\n');
        }
        let (wanted, seen) = (desired.nodes.get(&node.name), observed.nodes.get(&node.name));
        text.push_str(&self::node(node, wanted, seen, plan, style));
    }
    if left_out > 0 {
        let more = words::count(left_out, "more node is", "more nodes are");
        text.push_str(&format!("\n{more} not as wanted; --node NAME or -o wide shows them.\n"));
    }
    text.push_str(&words::blocks(0, &Names::default(), &[], &plan.cluster.blocked));
    text.push_str(&hint(plan));
    text
}

/// A line a node, as `kubectl get` prints them.
fn overview(observed: &Observed, plan: &Plan) -> String {
    let rows = plan.nodes.iter().map(|node| {
        let seen = observed.nodes.get(&node.name);
        let instances = seen.map(|n| n.gpus.iter().flat_map(|g| &g.instances).collect::<Vec<_>>());
        let number = |value: Option<usize>| value.map_or("?".to_owned(), |value| value.to_string());
        let changes: usize = node.gpus.iter().map(|g| g.create.len() + g.destroy.len()).sum();
        vec![
            node.name.clone(),
            node.state.word().to_owned(),
            number(seen.map(|n| n.gpus.len())),
            number(instances.as_ref().map(Vec::len)),
            number(instances.as_ref().map(|all| all.iter().filter(|i| i.in_use()).count())),
            changes.to_string(),
            node.source.as_ref().map_or("-".to_owned(), |source| source.to_string()),
            reason(node),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut heading = vec!["NODE", "STATE", "GPUS", "INSTANCES", "USED", "CHANGES", "LAYOUT"];
    // A column that says nothing of any node only makes lines wrap.
    if rows.iter().any(|row| row.last().is_some_and(|reason| !reason.is_empty())) {
        heading.push("REASON");
    }
    table(0, &heading, &rows)
}

/// The codes of what a node waits for or is blocked by, without repeats.
fn reason(node: &NodePlan) -> String {
    let mut codes: Vec<&str> = Vec::new();
    for block in node.blocked.iter().chain(&node.waiting) {
        if !codes.contains(&block.code.word()) {
            codes.push(block.code.word());
        }
    }
    codes.join(",")
}

fn node(
    node: &NodePlan,
    wanted: Option<&DesiredNode>,
    seen: Option<&ObservedNode>,
    plan: &Plan,
    style: Style,
) -> String {
    let mut text = format!("{}\n{}", text::header(node, &plan.desired, 0), words::suspended(node));
    let blocked = words::own(node, &plan.cluster.blocked);
    let Some(seen) = seen else {
        text.push_str("  It could not be observed.\n");
        text.push_str(&words::blocks(2, &Names::of(node), &node.waiting, &blocked));
        return text;
    };
    for gpu in &seen.gpus {
        let planned = node.gpus.iter().find(|planned| planned.uuid == gpu.uuid);
        text.push_str(&self::gpu(gpu, planned, wanted, style));
    }
    for (name, unit) in &seen.units {
        let state = if unit.active { "active" } else { "inactive" };
        let devices = words::count(unit.devices.len(), "device", "devices");
        text.push_str(&format!("  unit {name}: {state}, {devices}\n"));
    }
    for resource in remainders(node, seen) {
        let why = "a remainder of a profile that is gone; it does no harm";
        text.push_str(&format!("  {resource} is still listed with 0, {why}\n"));
    }
    text.push_str(&words::blocks(2, &Names::of(node), &node.waiting, &blocked));
    text.push_str(&words::remarks(2, &node.gaps, &node.warnings));
    if !node.steps.is_empty() {
        let names = Names::of(node);
        let next = node.steps.iter().find(|step| step.waits.is_none());
        let next = next.map_or("all wait".to_owned(), |next| format!("first: {}", step::step(&next.kind, &names)));
        text.push_str(&format!("  {} to do, {next}\n", words::count(node.steps.len(), "step", "steps")));
    }
    text
}

/// Resources of which the node has none, now or then: the kubelet lists them until it is started anew
/// (kubelet, nodestatus/setters.go).
fn remainders<'a>(node: &NodePlan, seen: &'a ObservedNode) -> Vec<&'a String> {
    let now = seen.gpus.iter().flat_map(|gpu| &gpu.instances).map(|instance| instance.profile);
    let then = node.gpus.iter().flat_map(|gpu| gpu.keep.iter().chain(&gpu.create)).map(|instance| instance.profile);
    let there: BTreeSet<String> = now.chain(then).filter_map(|profile| seen.strategy().resource(profile)).collect();
    let listed = seen.cluster.iter().flat_map(|cluster| &cluster.allocatable);
    let gone = listed.filter(|(name, n)| **n == 0 && name.starts_with("nvidia.com/mig-") && !there.contains(*name));
    gone.map(|(name, _)| name).collect()
}

fn gpu(gpu: &ObservedGpu, planned: Option<&GpuPlan>, wanted: Option<&DesiredNode>, style: Style) -> String {
    let mut text = format!("  {}  {}", gpu::heading(gpu.index, &gpu.model, &gpu.uuid, style), mode(gpu));
    let managed = planned.is_some_and(|planned| planned.managed);
    match goal(gpu, planned, wanted) {
        Some(goal) => text.push_str(&format!("  wanted: {goal}")),
        None if managed => {}
        None => text.push_str("  unmanaged"),
    }
    text.push('\n');
    let users = words::users(gpu.users.known().map(Vec::as_slice));
    if !users.is_empty() {
        text.push_str(&format!("    whole GPU: {users}\n"));
    }
    let rows = rows(gpu, planned);
    if !rows.is_empty() {
        text.push_str(&table(4, &["OBSERVED", "DESIRED", "USED BY"], &rows));
    }
    text
}

fn mode(gpu: &ObservedGpu) -> String {
    let mode = match (gpu.mig.capable, gpu.mig.current) {
        (false, _) => "can't MIG",
        (true, true) => "MIG on",
        (true, false) => "MIG off",
    };
    let pending = match (gpu.mig.current == gpu.mig.pending, gpu.mig.pending) {
        (true, _) => "",
        (false, true) => " (on after a reset)",
        (false, false) => " (off after a reset)",
    };
    format!("{mode}{pending}")
}

/// What the tree says of a GPU, and where; `None` where it says nothing.
fn goal(gpu: &ObservedGpu, planned: Option<&GpuPlan>, wanted: Option<&DesiredNode>) -> Option<String> {
    let wanted = wanted?;
    let own = wanted.gpus.get(&gpu.uuid).map(|own| (&own.goal, &own.source));
    let entry = planned.and_then(|planned| planned.source.as_ref());
    // The planner decides which GPUs an entry with `count` falls on.
    let shared = || wanted.shared.iter().find(|shared| Some(&shared.source) == entry).map(|s| (&s.goal, &s.source));
    let (goal, source) = own.or_else(shared)?;
    let goal = match goal {
        Goal::HandsOff => "hands off".to_owned(),
        Goal::MigOff => "MIG off".to_owned(),
        Goal::Instances(instances) if instances.is_empty() => "no instances".to_owned(),
        Goal::Instances(instances) => counted(instances),
    };
    Some(format!("{goal} ({source})"))
}

/// `3g.40gb at 4, 2 × 1g.10gb`: those that are alike are counted.
fn counted(instances: &[Wanted]) -> String {
    let mut groups: Vec<(&Wanted, u32)> = Vec::new();
    for wanted in instances {
        match groups.iter_mut().find(|(like, _)| *like == wanted) {
            Some((_, number)) => *number += 1,
            None => groups.push((wanted, 1)),
        }
    }
    let texts = groups.iter().map(|(Wanted { profile, start, compute: _ }, number)| {
        let start = start.map_or(String::new(), |start| format!(" at {start}"));
        format!("{}{start}", step::each(*number, profile))
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Observed beside desired, ascending by place: what is there and stays, what goes, what is missing.
fn rows(gpu: &ObservedGpu, planned: Option<&GpuPlan>) -> Vec<Vec<String>> {
    type Place = (Placement, ProfileName);
    let here = |i: &GpuInstance| -> Place { (i.placement, i.profile) };
    let then: Vec<Place> = planned.map_or(vec![], |planned| {
        let stay: Vec<&PlanInstance> = planned.keep.iter().chain(&planned.create).collect();
        stay.iter().map(|i| (i.placement(), i.profile)).collect()
    });
    let managed = planned.is_some_and(|planned| planned.managed);
    let name = |place: Place| words::at(place.1, place.0.start);
    let mut rows: Vec<(Place, Vec<String>)> = Vec::new();
    for instance in &gpu.instances {
        let place = here(instance);
        let desired = match (managed, then.contains(&place)) {
            (true, true) => name(place),
            (true, false) => "·".to_owned(),
            (false, _) => "unmanaged".to_owned(),
        };
        let users = instance.all_users();
        let users = words::users(users.known().map(Vec::as_slice));
        let users = if users.is_empty() { "-".to_owned() } else { users };
        rows.push((place, vec![name(place), desired, users]));
    }
    for place in then {
        if !gpu.instances.iter().any(|i| here(i) == place) {
            rows.push((place, vec!["·".to_owned(), name(place), String::new()]));
        }
    }
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// What to do next, if anything.
fn hint(plan: &Plan) -> String {
    let any = |state: NodeState| plan.nodes.iter().any(|node| node.state == state);
    let advice = if any(NodeState::Pending) || any(NodeState::Changing) {
        "`sectile plan` shows what would change, `sectile apply` does it"
    } else if any(NodeState::Blocked) {
        "what is blocked stays so until somebody acts; each block above says how"
    } else if any(NodeState::Suspended) {
        "`sectile resume` lets suspended nodes go on"
    } else if any(NodeState::Waiting) {
        "what waits is done as soon as it may be"
    } else {
        return String::new();
    };
    format!("\n{} {advice}\n", paint(HINT, "hint:"))
}
