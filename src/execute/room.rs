//! Whether there still is a place for what a step moves, as its guard asks right before.

use std::collections::BTreeMap;

use crate::model::observed::{ObservedCluster, Pod, PodPhase, User};
use crate::model::plan::{Guard, SlotRef};
use crate::model::{NodePlan, Policy, Step, StepKind};
use crate::plan::drain::{self, Ruling};

/// The instances that a unit or command is to be given, but for those that a step from `at` on has still to make.
pub(super) fn places(plan: &NodePlan, at: usize, kind: &StepKind) -> Vec<SlotRef> {
    let rest = || plan.steps.iter().skip(at).map(|s| &s.kind);
    let slots = rest().find_map(|later| match (kind, later) {
        (StepKind::StopUnit { unit }, StepKind::StartUnit { unit: u, slots, .. }) if u == unit => Some(slots),
        (StepKind::DrainCommand { workload }, StepKind::ResumeCommand { workload: w, slots }) if w == workload => {
            Some(slots)
        }
        _ => None,
    });
    let coming = |slot: &&SlotRef| rest().any(|k| matches!(k, StepKind::CreateInstance { slot: s, .. } if s == *slot));
    slots.into_iter().flatten().filter(|slot| !coming(slot)).cloned().collect()
}

/// The instances that the steps before `at` have made.
pub(super) fn made(plan: &NodePlan, at: usize) -> Vec<SlotRef> {
    let of = |kind: &StepKind| match kind {
        StepKind::CreateInstance { slot, .. } => Some(slot.clone()),
        _ => None,
    };
    plan.steps.iter().take(at).filter_map(|step| of(&step.kind)).collect()
}

/// The workloads that are waited for next, from `at` on.
pub(super) fn awaited(plan: &NodePlan, at: usize) -> impl Iterator<Item = &String> {
    let next = plan.steps.iter().skip(at).find_map(|step| match &step.kind {
        StepKind::AwaitReady { workloads, .. } => Some(workloads.keys()),
        _ => None,
    });
    next.into_iter().flatten()
}

/// Whether a step of the plan takes a user off its instances.
pub(super) fn leaves(plan: &NodePlan, user: &User) -> bool {
    plan.steps.iter().any(|step| match (&step.kind, user) {
        (StepKind::StopUnit { unit }, User::Unit(name)) => unit == name,
        (StepKind::DrainCommand { workload }, User::Command(name)) => workload == name,
        (StepKind::EvictPod { namespace, pod, .. }, User::Pod { namespace: n, name }) => namespace == n && pod == name,
        (StepKind::TerminateProcess { pid, .. }, User::Process { pid: p, .. }) => pid == p,
        _ => false,
    })
}

/// A workload of whose pods some are not ready, and why the scheduler finds no node for one of them.
pub(super) fn pending(key: &str, cluster: &ObservedCluster) -> String {
    let of = |pod: &&Pod| {
        pod.phase == PodPhase::Pending
            && pod.owner.as_ref().is_some_and(|o| format!("{} {}/{}", o.kind, pod.namespace, o.name) == key)
    };
    let why = cluster.pods.iter().filter(of).find_map(|pod| Some((pod, pod.unschedulable.as_ref()?)));
    why.map_or_else(|| key.to_owned(), |(pod, why)| format!("{key} (pod {} is pending: {why})", pod.name))
}

/// Why the pod that a step evicts is not evicted after all: it asks for that by now, or its place is gone.
pub(super) fn objection(
    plan: &NodePlan,
    at: usize,
    step: &Step,
    policy: &Policy,
    cluster: &ObservedCluster,
) -> Option<String> {
    let StepKind::EvictPod { namespace, pod, uid, .. } = &step.kind else { return None };
    let found = cluster.pods.iter().find(|p| p.namespace == *namespace && p.name == *pod && p.uid == *uid)?;
    if let Ruling::No(block) = drain::judge_pod(policy, found) {
        return Some(format!("{}: {}", block.object, block.message));
    }
    if step.guards.contains(&Guard::Capacity) { missing(plan, at, &step.kind, cluster) } else { None }
}

/// Why there is no place for the pod that a step evicts: neither free now, nor made by a step from `at` on.
fn missing(plan: &NodePlan, at: usize, kind: &StepKind, cluster: &ObservedCluster) -> Option<String> {
    let StepKind::EvictPod { namespace, pod, uid, .. } = kind else { return None };
    let found = cluster.pods.iter().find(|p| p.namespace == *namespace && p.name == *pod && p.uid == *uid)?;
    if matches!(found.phase, PodPhase::Terminating | PodPhase::Ended) {
        return None;
    }
    let mut coming: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |profile| {
        if let Some(resource) = plan.strategy.resource(profile) {
            *coming.entry(resource).or_default() += 1;
        }
    };
    for step in plan.steps.iter().skip(at) {
        if let StepKind::CreateInstance { slot, .. } = &step.kind {
            count(slot.profile);
        }
    }
    // A pod that keeps some of its instances here finds those again.
    let kept = plan.gpus.iter().flat_map(|gpu| gpu.keep.iter()).filter(|i| {
        let user = User::Pod { namespace: namespace.clone(), name: pod.clone() };
        i.users.as_ref().is_some_and(|users| users.contains(&user))
    });
    for instance in kept {
        count(instance.profile);
    }
    let fits = |free: &BTreeMap<String, u32>, more: bool| {
        cluster.successor(found).iter().all(|(resource, n)| {
            let later = if more { coming.get(resource).copied().unwrap_or(0) } else { 0 };
            free.get(resource).copied().unwrap_or(0) + later >= *n
        })
    };
    let none = BTreeMap::new();
    let here = cluster.free.get(&plan.name).unwrap_or(&none);
    let daemon = found.owner.as_ref().is_some_and(|owner| owner.kind == "DaemonSet");
    let may = |node: &String| !found.barred.contains(node);
    let elsewhere =
        !daemon && cluster.free.iter().any(|(name, free)| *name != plan.name && may(name) && fits(free, false));
    let room = elsewhere || (may(&plan.name) && fits(here, true));
    (!room).then(|| format!("there is no room any more for pod {namespace}/{pod}"))
}
