//! What is held back is left alone, and what is suspended waits.

use crate::model::observed::Owner;
use crate::model::plan::{NodeState, StepKind};
use crate::model::policy::ApplyMode;
use crate::model::{Desired, DesiredNode, NodePlan, Observed, ObservedNode, Plan, memory};

use super::{Findings, Invariant};

/// The cluster's steps.
pub(super) fn cluster(desired: &Desired, observed: &Observed, plan: &Plan, found: &mut Findings) {
    for step in &plan.cluster.steps {
        if !desired.blocked.is_empty() {
            found.add(Invariant::Held, Some(step.id), "the tree is held back");
        }
        // What is bound disturbs pods where the binding holds, what is taken back where they run.
        let mut covered: Vec<&DesiredNode> = match &step.kind {
            StepKind::BindWorkload { bind, .. } => {
                let on = |node: &&DesiredNode| node.bindings.iter().any(|b| b.name == bind.binding);
                desired.nodes.values().filter(on).collect()
            }
            StepKind::UnbindWorkload { bind, .. } => {
                let of = |o: &Owner| o.kind == bind.object.kind && o.name == bind.object.name;
                let pods = observed.cluster.pods.iter().filter(|pod| pod.namespace == bind.object.namespace);
                let pods = pods.filter(|pod| pod.owner.as_ref().is_some_and(of));
                pods.filter_map(|pod| desired.nodes.get(pod.node.as_ref()?)).collect()
            }
            _ => continue,
        };
        let mode = |node: &DesiredNode| node.policy.as_ref().map(|policy| policy.mode);
        if step.waits.is_none() && covered.iter().any(|node| mode(node) != Some(ApplyMode::Auto)) {
            found.add(
                Invariant::Waits,
                Some(step.id),
                "it disturbs pods of a node whose policy says that it must wait",
            );
        }
        let suspended = |node: &DesiredNode| observed.nodes.get(&node.node).is_some_and(|n| n.suspended.is_some());
        if step.waits.is_none() && covered.drain(..).any(suspended) {
            found.add(Invariant::Waits, Some(step.id), "it disturbs pods of a node that is suspended");
        }
    }
}

/// A node's steps.
pub(super) fn node(wanted: &DesiredNode, seen: &ObservedNode, plan: &NodePlan, found: &mut Findings) {
    let entry = |gpu: &str| {
        let own = wanted.gpus.get(gpu).map(|goal| &goal.source);
        own.or_else(|| plan.gpus.iter().find(|listed| listed.uuid == gpu)?.source.as_ref())
    };
    for step in &plan.steps {
        if !wanted.blocked.is_empty() {
            found.add(Invariant::Held, Some(step.id), "the node is held back");
        }
        if seen.suspended.is_some() && step.waits.is_none() {
            found.add(Invariant::Waits, Some(step.id), "the node is suspended");
        }
        let stopped = match &step.kind {
            StepKind::StopUnit { unit } => std::slice::from_ref(unit),
            StepKind::PauseClients { units, .. } => units,
            _ => &[],
        };
        let with = if matches!(step.kind, StepKind::PauseClients { .. }) { stopped } else { &[] };
        let takes = stopped.iter().filter_map(|unit| seen.units.get(unit)).flat_map(|state| &state.takes);
        if takes.into_iter().any(|other| !with.contains(other)) {
            found.add(Invariant::Held, Some(step.id), "systemd would stop others with a unit that it stops");
        }
        let gpu = match &step.kind {
            StepKind::DestroyInstance { slot } | StepKind::CreateInstance { slot, .. } => &slot.gpu,
            StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu } => gpu,
            _ => continue,
        };
        if entry(gpu).is_some_and(|source| wanted.held.contains_key(source)) {
            found.add(Invariant::Held, Some(step.id), format!("the entry of {gpu} may mean another GPU"));
        }
    }
    if plan.state == NodeState::Converged && !seen.lost.is_empty() && memory::difference(seen).is_some() {
        found.add(Invariant::Held, None, "it counts as converged, and nobody knows what is on a GPU of it");
    }
    if (plan.state == NodeState::Suspended) != seen.suspended.is_some() || plan.suspended != seen.suspended {
        found.add(Invariant::Sums, None, "the plan does not say whether the node is suspended");
    }
}
