//! A plan as text: the shape that the manual explains line by line.

use super::Style;
use super::gpu;
use super::paint::{CHANGE, FAINT, STRONG, pad, paint, width};
use super::step::{self, Names};
use super::words;
use crate::model::plan::{BindingReport, BlockCode, ClusterPlan, Disruption, DisruptionKind};
use crate::model::plan::{NodeState, Summary, Verdict};
use crate::model::{Block, NodePlan, Plan, Revision, StepKind};
use crate::plan::cost;

/// A plan as text, with colours.
pub fn plan(plan: &Plan, style: Style) -> String {
    let Plan { format_version: _, desired, cluster: shared, nodes, summary: _ } = plan;
    let widest = nodes.iter().map(|n| width(&n.name)).max().unwrap_or(0);
    let mut text = cluster(shared, style);
    for node in nodes {
        // Nodes of a line each stand together; what has more to say stands apart.
        let block = self::node(node, desired, &shared.blocked, widest, style);
        let long = block.lines().nth(1).is_some();
        if long && !text.is_empty() && !text.ends_with("\n\n") {
            text.push('\n');
        }
        text.push_str(&block);
        if long {
            text.push('\n');
        }
    }
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    text.push_str(&totals(plan));
    text
}

fn node(node: &NodePlan, desired: &Revision, shared: &[Block], widest: usize, style: Style) -> String {
    let mut text = header(node, desired, widest);
    let quiet = node.blocked.is_empty() && node.waiting.is_empty() && node.steps.is_empty();
    let still = matches!(node.state, NodeState::Converged | NodeState::Unmanaged) && quiet;
    if still && !style.wide {
        let kept = node.gpus.iter().filter(|gpu| gpu.managed).map(|gpu| gpu.keep.len()).sum();
        if kept > 0 {
            text.push_str(&format!(" · {}", words::count(kept, "instance", "instances")));
        }
        let unmanaged = node.gpus.iter().filter(|gpu| !gpu.managed).count();
        if unmanaged > 0 {
            text.push_str(&format!(" · {} unmanaged", words::count(unmanaged, "GPU", "GPUs")));
        }
        text.push('\n');
        text.push_str(&words::remarks(2, &node.gaps, &node.warnings));
        return text;
    }
    text.push('\n');
    text.push_str(&words::suspended(node));
    for gpu in &node.gpus {
        text.push_str(&gpu::gpu(node, gpu, style));
    }
    for disruption in node.disruptions.iter().filter(|d| !is_told(node, d)) {
        text.push_str(&format!("  {}  {}\n", paint(CHANGE, "disturbs"), gpu::disruption(disruption)));
    }
    text.push_str(&words::blocks(2, &Names::of(node), &node.waiting, &words::own(node, shared)));
    text.push_str(&words::remarks(2, &node.gaps, &node.warnings));
    if style.wide && !node.steps.is_empty() {
        let about =
            format!("Steps, in {}, about {} s:", words::count(node.waves.len(), "wave", "waves"), node.estimate_s);
        text.push_str(&format!("  {}\n", paint(STRONG, &about)));
        text.push_str(&step::table(4, &node.steps, &Names::of(node)));
        let NodePlan { cost, lower_bound, fingerprint, .. } = node;
        let proof = format!("cost {cost}, no plan costs less than {lower_bound} · fingerprint {}", fingerprint.short());
        text.push_str(&format!("  {}\n", paint(FAINT, &proof)));
    }
    text
}

/// `gpu-a-01   changing · main@sha1:1eabc9a · layouts/inference.toml:4`, without the end of the line.
pub(super) fn header(node: &NodePlan, desired: &Revision, widest: usize) -> String {
    let source = words::source(node.source.as_ref(), &node.shadows);
    let name = paint(STRONG, &pad(&node.name, widest));
    let seen = node.age_s.map(|age_s| format!(" · seen {} ago", words::age(age_s))).unwrap_or_default();
    format!("{name}   {} · {desired} · {source}{seen}", words::state(node.state))
}

/// What becomes of a node, in a sentence.
pub fn sum(node: &NodePlan) -> String {
    let number = |of: fn(&crate::model::plan::GpuPlan) -> usize| node.gpus.iter().map(of).sum::<usize>();
    let parts = [
        (number(|gpu| gpu.destroy.len()), "to destroy"),
        (number(|gpu| gpu.create.len()), "to create"),
        (number(|gpu| usize::from(gpu.managed) * gpu.keep.len()), "kept"),
        (node.disruptions.len(), "to disturb"),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    parts.join(", ")
}

/// Whether a GPU's own lines tell of it: it loses an instance that goes.
fn is_told(node: &NodePlan, disruption: &Disruption) -> bool {
    disruption.loses.iter().any(|lost| {
        let destroyed = node.gpus.iter().filter(|gpu| gpu.uuid == lost.gpu).flat_map(|gpu| &gpu.destroy);
        let mut destroyed = destroyed.map(|i| (i.profile, i.placement()));
        destroyed.any(|place| place == (lost.profile, lost.placement))
    })
}

/// What belongs to no node: bindings that change or don't hold, and what is blocked.
fn cluster(cluster: &ClusterPlan, style: Style) -> String {
    let ClusterPlan { steps, bindings, blocked, warnings } = cluster;
    let mut text = String::new();
    for step in steps {
        let sentence = step::step(&step.kind, &Names::default());
        text.push_str(&format!("  {}  {sentence}\n", paint(CHANGE, "~")));
    }
    for binding in bindings {
        let BindingReport { name, target, profile, provided, bound, matches, manage, source } = binding;
        if !style.wide && (*matches || *manage) {
            continue;
        }
        let sign = if *matches { "=" } else { "!" };
        let verdict = if *matches { "asks for" } else { "does not ask for" };
        let bound = bound.map_or("an unknown number".to_owned(), |bound| bound.to_string());
        let hands = if *manage { "" } else { ", only checked" };
        text.push_str(&format!(
            "  {sign}  {target} {verdict} {profile} (binding {name}, {source}; {bound} bound of {provided}{hands})\n"
        ));
    }
    text.push_str(&words::blocks(2, &Names::default(), &[], blocked));
    text.push_str(&words::remarks(2, &[], warnings));
    if text.is_empty() { text } else { format!("{}\n{text}\n", paint(STRONG, "cluster")) }
}

/// `Plan: 2 to create, 1 to destroy, 4 kept, 1 pod to move, nothing blocked. No plan moves fewer.`
fn totals(plan: &Plan) -> String {
    let Summary { nodes: _, changed: _, keep, destroy, create, disrupt: _, blocked } = plan.summary;
    let steps = || plan.nodes.iter().flat_map(|node| &node.steps).chain(&plan.cluster.steps);
    let switched = plan.nodes.iter().flat_map(|node| &node.gpus).filter(|gpu| gpu.mig.now != gpu.mig.then).count();
    let bound = steps().filter(|step| matches!(step.kind, StepKind::BindWorkload { .. })).count();
    let unbound = steps().filter(|step| matches!(step.kind, StepKind::UnbindWorkload { .. })).count();
    let waiting: usize = plan.nodes.iter().map(|node| node.waiting.len()).sum();
    let idle = create == 0 && destroy == 0 && switched == 0 && steps().next().is_none();

    let mut parts = Vec::new();
    if idle {
        parts.push("nothing to change".to_owned());
    } else {
        parts.push(format!("{create} to create"));
        parts.push(format!("{destroy} to destroy"));
    }
    if switched > 0 {
        parts.push(format!("MIG mode of {} to switch", words::count(switched, "GPU", "GPUs")));
    }
    if bound > 0 {
        parts.push(format!("{} to bind", words::count(bound, "workload", "workloads")));
    }
    if unbound > 0 {
        parts.push(format!("{} to take back from", words::count(unbound, "workload", "workloads")));
    }
    parts.push(format!("{keep} kept"));
    let moves = moves(plan);
    if !idle && moves.is_empty() {
        parts.push("nobody disturbed".to_owned());
    }
    parts.extend(moves);
    if waiting > 0 {
        parts.push(format!("{waiting} waiting"));
    }
    parts.push(if blocked == 0 { "nothing blocked".to_owned() } else { format!("{blocked} blocked") });
    let told = !idle && blocked == 0 && !plan.nodes.is_empty();
    let least: u64 = plan.nodes.iter().map(|node| node.lower_bound / cost::USER).sum();
    let proof = match plan.nodes.iter().all(|node| node.optimal) {
        true if told => " No plan moves fewer.".to_owned(),
        false if told && least > 0 => format!(" No plan moves fewer than {least}."),
        _ => String::new(),
    };
    format!("{} {}.{proof}\n", paint(STRONG, "Plan:"), parts.join(", "))
}

/// How many of each kind are disturbed; not those who are refused, which is a block, or left to end by themselves.
fn moves(plan: &Plan) -> Vec<String> {
    let mut parts = Vec::new();
    for kind in DisruptionKind::ALL {
        let (one, many, fate) = match kind {
            DisruptionKind::Pod => ("pod", "pods", "move"),
            DisruptionKind::Unit => ("unit", "units", "restart"),
            DisruptionKind::Command => ("workload", "workloads", "drain"),
            DisruptionKind::Process => ("process", "processes", "terminate"),
        };
        let of = |node: &NodePlan| {
            let ends = |d: &Disruption| {
                node.waiting.iter().any(|block| block.code == BlockCode::ProcessWait && block.message == d.reason)
            };
            let all = node.disruptions.iter().filter(|d| d.kind == *kind && d.verdict != Verdict::Refuse);
            all.filter(|d| !ends(d)).count()
        };
        let number: usize = plan.nodes.iter().map(of).sum();
        if number > 0 {
            parts.push(format!("{} to {fate}", words::count(number, one, many)));
        }
    }
    parts
}
