//! What changed between a saved plan and today's: a unified difference of their steps.

use similar::TextDiff;

use super::paint::{CREATE, DESTROY, FAINT, paint};
use super::step::{Names, step};
use crate::model::plan::Scope;
use crate::model::{Plan, Step, StepKind};

/// The steps of a saved plan beside those of now, as a unified difference; empty if all steps are the same.
pub fn plans(saved: &Plan, now: &Plan) -> String {
    let (mut before, mut after) = (sentences(saved), sentences(now));
    if before == after {
        // What the sentences leave out differs: order, guards, time-outs. Then every field is shown.
        (before, after) = (fields(saved), fields(now));
    }
    let diff = TextDiff::from_lines(&before, &after);
    let diff = diff.unified_diff().context_radius(2).header("saved plan", "plan now").to_string();
    let lines = diff.lines().map(|line| {
        let style = match line.get(..1) {
            Some("+") => CREATE,
            Some("-") => DESTROY,
            Some("@") => FAINT,
            _ => super::paint::PLAIN,
        };
        format!("{}\n", paint(style, line))
    });
    lines.collect()
}

/// Every step of a plan with whose it is and what people call its GPUs.
fn steps(plan: &Plan) -> impl Iterator<Item = (&str, Names, &Step)> {
    let cluster = plan.cluster.steps.iter().map(|step| (Scope::Cluster.word(), Names::default(), step));
    let nodes = plan.nodes.iter().flat_map(|node| {
        let names = Names::of(node);
        node.steps.iter().map(move |step| (node.name.as_str(), names.clone(), step))
    });
    cluster.chain(nodes)
}

/// A line for each step, without ids: those shift with every step that comes before.
fn sentences(plan: &Plan) -> String {
    let lines = steps(plan).map(|(whose, names, Step { kind, .. })| {
        let exactly = match kind {
            StepKind::EvictPod { uid, .. } => format!(" (uid {uid})"),
            StepKind::TerminateProcess { .. }
            | StepKind::StandDown
            | StepKind::Taint
            | StepKind::Untaint
            | StepKind::PauseClients { .. }
            | StepKind::ResumeClients { .. }
            | StepKind::RefreshClients
            | StepKind::RefreshDevices { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitReady { .. }
            | StepKind::StopUnit { .. }
            | StepKind::StartUnit { .. }
            | StepKind::DrainCommand { .. }
            | StepKind::ResumeCommand { .. }
            | StepKind::DestroyInstance { .. }
            | StepKind::CreateInstance { .. }
            | StepKind::SetMigMode { .. }
            | StepKind::ResetGpu { .. }
            | StepKind::BindWorkload { .. }
            | StepKind::UnbindWorkload { .. } => String::new(),
        };
        format!("{whose}: {}{exactly}\n", step(kind, &names))
    });
    lines.collect()
}

/// A line for each step with all its fields.
fn fields(plan: &Plan) -> String {
    steps(plan).map(|(whose, _, step)| format!("{whose}: {}\n", serde_json::json!(step))).collect()
}
