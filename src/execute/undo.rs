//! What takes a step back if the plan stops behind it, and what settles that. The layout is not taken back here: that
//! is a plan of its own.

use crate::model::plan::SlotRef;
use crate::model::{NodePlan, Step, StepKind, User};

/// What must be taken back once a step was begun: it may have taken effect, or half of it, and what takes it back does
/// no harm.
pub(super) fn owes(plan: &NodePlan, kind: &StepKind) -> Option<StepKind> {
    Some(match kind {
        StepKind::Taint => StepKind::Untaint,
        StepKind::PauseClients { units, commands } => {
            StepKind::ResumeClients { units: units.clone(), commands: commands.clone() }
        }
        // Where a reset must follow, the mode may be pending until then.
        StepKind::SetMigMode { gpu, enabled } if resets(plan, gpu) => {
            StepKind::SetMigMode { gpu: gpu.clone(), enabled: !enabled }
        }
        // Where the plan stops behind it, the host still tells of what was there before.
        StepKind::DestroyInstance { .. }
        | StepKind::CreateInstance { .. }
        | StepKind::SetMigMode { .. }
        | StepKind::ResetGpu { .. } => {
            let refreshes = |step: &&Step| matches!(step.kind, StepKind::RefreshDevices { .. });
            plan.steps.iter().find(refreshes)?.kind.clone()
        }
        // What the plan does not start again is not to run.
        StepKind::StopUnit { unit } => {
            let env = plan.steps.iter().find_map(|s| match &s.kind {
                StepKind::StartUnit { unit: u, env, .. } if u == unit => Some(env.clone()),
                _ => None,
            })?;
            StepKind::StartUnit { unit: unit.clone(), env, slots: held(plan, &User::Unit(unit.clone())) }
        }
        StepKind::DrainCommand { workload } => {
            let resumes = |s: &Step| matches!(&s.kind, StepKind::ResumeCommand { workload: w, .. } if w == workload);
            plan.steps.iter().any(resumes).then(|| StepKind::ResumeCommand {
                workload: workload.clone(),
                slots: held(plan, &User::Command(workload.clone())),
            })?
        }
        _ => return None,
    })
}

/// Whether a step that is done leaves nothing to be taken back of this.
pub(super) fn settles(done: &StepKind, undo: &StepKind) -> bool {
    match (done, undo) {
        (StepKind::Untaint, StepKind::Untaint) => true,
        (StepKind::RefreshDevices { files }, StepKind::RefreshDevices { files: kept }) => files == kept,
        (StepKind::ResumeClients { units, commands }, StepKind::ResumeClients { units: stopped, commands: paused }) => {
            stopped.iter().all(|unit| units.contains(unit)) && paused.iter().all(|name| commands.contains(name))
        }
        (StepKind::ResetGpu { gpu }, StepKind::SetMigMode { gpu: g, .. }) => g == gpu,
        (StepKind::StartUnit { unit, .. }, StepKind::StartUnit { unit: u, .. }) => u == unit,
        (StepKind::ResumeCommand { workload, .. }, StepKind::ResumeCommand { workload: w, .. }) => w == workload,
        // What lay on the instance can't go back there.
        (
            StepKind::DestroyInstance { slot },
            StepKind::StartUnit { slots, .. } | StepKind::ResumeCommand { slots, .. },
        ) => slots.contains(slot),
        _ => false,
    }
}

fn resets(plan: &NodePlan, gpu: &str) -> bool {
    plan.steps.iter().any(|s| matches!(&s.kind, StepKind::ResetGpu { gpu: g } if g == gpu))
}

/// The instances that a user held when the plan was made.
fn held(plan: &NodePlan, user: &User) -> Vec<SlotRef> {
    let all = plan.gpus.iter().flat_map(|gpu| gpu.keep.iter().chain(&gpu.destroy).map(move |i| (gpu, i)));
    all.filter(|(_, i)| i.users.as_ref().is_some_and(|users| users.contains(user)))
        .map(|(gpu, i)| SlotRef { gpu: gpu.uuid.clone(), profile: i.profile, placement: i.placement() })
        .collect()
}
