//! What each step comes after, directly or not: steps that are not tied may run together, so whatever must not happen
//! in another order must be tied, wherever the list has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::observed::{ObservedNode, User};
use crate::model::plan::{SlotRef, Step, StepKind};

use super::{Findings, Invariant};

/// Every pair of steps whose order matters is tied.
pub(super) fn check(seen: &ObservedNode, steps: &[Step], found: &mut Findings) {
    let mut before: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        let mut all: BTreeSet<u32> = step.after.iter().copied().collect();
        for id in &step.after {
            all.extend(before.get(id).into_iter().flatten());
        }
        for earlier in steps.iter().take(at) {
            if !all.contains(&earlier.id) && matters(seen, &earlier.kind, &step.kind) {
                let message = format!("it may run beside step {}, and must come after it", earlier.id);
                found.add(Invariant::Order, Some(step.id), message);
            }
        }
        before.insert(step.id, all);
    }
}

/// Whether the second step may not run beside the first, which stands before it.
fn matters(seen: &ObservedNode, first: &StepKind, second: &StepKind) -> bool {
    if brackets(first) || brackets(second) {
        return true;
    }
    match (first, second) {
        (StepKind::EvictPod { namespace, pod, .. }, StepKind::AwaitGone { pods, .. }) => {
            pods.contains_key(&format!("{namespace}/{pod}"))
        }
        (StepKind::DestroyInstance { slot }, StepKind::CreateInstance { slot: new, .. }) => {
            slot.gpu == new.gpu && slot.placement.overlaps(new.placement)
        }
        (StepKind::DestroyInstance { slot }, StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu }) => {
            slot.gpu == *gpu
        }
        (
            StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu },
            StepKind::CreateInstance { slot, .. } | StepKind::DestroyInstance { slot },
        ) => slot.gpu == *gpu,
        (StepKind::SetMigMode { gpu, .. }, StepKind::ResetGpu { gpu: other }) => gpu == other,
        (_, StepKind::DestroyInstance { slot }) => leaves(first).any(|user| uses(seen, &user, slot)),
        (_, StepKind::SetMigMode { gpu, .. }) => leaves(first).any(|user| uses_gpu(seen, &user, gpu)),
        (_, StepKind::StartUnit { slots, .. } | StepKind::ResumeCommand { slots, .. }) => match first {
            StepKind::CreateInstance { slot, .. } => slots.contains(slot),
            _ => leaves(first).any(|user| slots.iter().any(|slot| uses(seen, &user, slot))),
        },
        _ => false,
    }
}

/// Steps that stand around all that others do.
fn brackets(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::Taint
            | StepKind::Untaint
            | StepKind::PauseClients { .. }
            | StepKind::ResumeClients { .. }
            | StepKind::RefreshClients
            | StepKind::RefreshDevices { .. }
    )
}

/// Who is gone once a step is done.
fn leaves(kind: &StepKind) -> impl Iterator<Item = User> {
    let users: Vec<User> = match kind {
        StepKind::StopUnit { unit } => vec![User::Unit(unit.clone())],
        StepKind::DrainCommand { workload } => vec![User::Command(workload.clone())],
        StepKind::TerminateProcess { pid, name } => vec![User::Process { pid: *pid, name: name.clone() }],
        StepKind::AwaitGone { pods, .. } => pods
            .keys()
            .filter_map(|id| id.split_once('/'))
            .map(|(namespace, name)| User::Pod { namespace: namespace.to_owned(), name: name.to_owned() })
            .collect(),
        _ => Vec::new(),
    };
    users.into_iter()
}

fn uses(seen: &ObservedNode, user: &User, slot: &SlotRef) -> bool {
    let gpus = seen.gpus.iter().filter(|gpu| gpu.uuid == slot.gpu);
    let mut instances = gpus.flat_map(|gpu| &gpu.instances).filter(|i| i.placement == slot.placement);
    instances.any(|i| i.all_users().known().is_some_and(|users| users.contains(user)))
}

fn uses_gpu(seen: &ObservedNode, user: &User, gpu: &str) -> bool {
    let mut gpus = seen.gpus.iter().filter(|g| g.uuid == gpu);
    gpus.any(|g| g.users.known().is_some_and(|users| users.contains(user)))
}
