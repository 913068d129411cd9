//! The cluster's steps: what is set is what a binding says of a workload that is there, and what is taken back nobody wants.

use crate::model::observed::{ObservedNode, WorkloadState};
use crate::model::plan::{Scope, StepKind};
use crate::model::policy::Allocation;
use crate::model::{Bind, Binding, Desired, Known, Object, Observed, Plan, Target};

use super::{Findings, Invariant};

/// The cluster's steps against what is wanted and observed.
pub(super) fn check(desired: &Desired, observed: &Observed, plan: &Plan, found: &mut Findings) {
    let mut touched: Vec<&Object> = Vec::new();
    for step in &plan.cluster.steps {
        let wrong = match &step.kind {
            StepKind::BindWorkload { bind, timeout_s: _ } => wrong_bind(desired, observed, bind),
            StepKind::UnbindWorkload { bind, timeout_s: _ } => wrong_unbind(desired, observed, bind),
            _ => Some((Invariant::Foreign, "it is no step of the cluster's")),
        };
        if let Some((invariant, why)) = wrong {
            found.add(invariant, Some(step.id), why);
        }
        if step.scope != Scope::Cluster {
            found.add(Invariant::Foreign, Some(step.id), "it is no step of the cluster's");
        }
        if !step.disruptive {
            found.add(Invariant::Verdicts, Some(step.id), "it has pods made anew, and does not say so");
        }
        if let StepKind::BindWorkload { bind, .. } | StepKind::UnbindWorkload { bind, .. } = &step.kind {
            if touched.iter().any(|object| object.is(&bind.object)) {
                found.add(Invariant::Needless, Some(step.id), "another step changes the same workload");
            }
            touched.push(&bind.object);
        }
    }
    // What is held back as a whole has no steps.
    if !desired.blocked.is_empty() {
        return;
    }
    for (binding, object) in managed(desired) {
        let blocked = plan
            .cluster
            .blocked
            .iter()
            .any(|block| block.object == object.to_string() || block.object == binding.source.to_string());
        let stepped = touched.iter().any(|touched| touched.is(object));
        let met = state(observed, object).is_some_and(|state| is_met(observed, desired, binding, object, state));
        if !blocked && !stepped && !met {
            found.add(
                Invariant::Target,
                None,
                format!("{object} is not what {} says, and nothing is done", binding.name),
            );
        }
    }
    for bound in observed.cluster.bound.known().into_iter().flatten() {
        let object = &bound.bind.object;
        let wanted = managed(desired).any(|(_, managed)| managed.is(object));
        let blocked = plan.cluster.blocked.iter().any(|block| block.object == object.to_string());
        if !wanted && !blocked && !touched.iter().any(|touched| touched.is(object)) {
            found.add(Invariant::Target, None, format!("{object} keeps what no binding says any more"));
        }
    }
}

/// Bindings that Sectile carries out.
fn managed(desired: &Desired) -> impl Iterator<Item = (&Binding, &Object)> {
    let managed = desired.bindings.iter().filter(|binding| binding.manage);
    managed.filter_map(|binding| match &binding.target {
        Target::Kubernetes { object, .. } => Some((binding.as_ref(), object)),
        Target::Systemd { .. } | Target::Command { .. } => None,
    })
}

fn state<'a>(observed: &'a Observed, of: &Object) -> Option<&'a WorkloadState> {
    observed.cluster.workload(&of.kind, &of.namespace, &of.name)
}

/// The nodes that a binding holds on, as they were seen.
fn nodes<'a>(desired: &'a Desired, observed: &'a Observed, name: &'a str) -> impl Iterator<Item = &'a ObservedNode> {
    let on = desired.nodes.values().filter(move |node| node.bindings.iter().any(|binding| binding.name == name));
    on.filter_map(|node| observed.nodes.get(&node.node))
}

/// Whether a step says what the binding does, in the words of some node that it holds on; where none was seen, in its own.
fn says(desired: &Desired, observed: &Observed, binding: &Binding, bind: &Bind) -> bool {
    let Target::Kubernetes { object, container } = &binding.target else { return false };
    let Bind { binding: name, object: of, container: from, profile, per_replica, strategy, allocation, affinity } =
        bind;
    let named = |node: &ObservedNode| node.meant(binding.profile) == *profile;
    let called = |node: &ObservedNode| node.strategy() == *strategy;
    // A node that does not tell gives out as was recorded.
    let recorded = observed.cluster.bound.known().into_iter().flatten();
    let kept = recorded.filter(|bound| bound.bind.object.is(object)).any(|bound| bound.bind.allocation == *allocation);
    let claims = *allocation == Allocation::Dra;
    let given = |node: &ObservedNode| match node.cluster.as_ref().map(|cluster| cluster.allocation) {
        None | Some(Allocation::Auto) => kept || !claims,
        Some(told) => (told == Allocation::Dra) == claims,
    };
    let alone = nodes(desired, observed, name).next().is_none();
    let some = |is: &dyn Fn(&ObservedNode) -> bool| nodes(desired, observed, name).any(is);
    let same = (&binding.name, object, container, binding.per_replica, &binding.affinity)
        == (name, of, from, *per_replica, affinity);
    let profile = if alone { binding.profile == *profile } else { some(&named) };
    let given = if alone { kept || !claims } else { some(&given) };
    same && profile && (some(&called) || strategy.is_mixed()) && given
}

/// Whether a workload is what its binding says, in the words of some node; where none was seen, in its own.
fn is_met(observed: &Observed, desired: &Desired, binding: &Binding, object: &Object, state: &WorkloadState) -> bool {
    let recorded = observed.cluster.bound.known().into_iter().flatten();
    let mut recorded = recorded.filter(|bound| bound.bind.object.is(object));
    (state.fixed || recorded.all(|bound| says(desired, observed, binding, &bound.bind)))
        && (!state.claims.is_empty() || {
            let asks =
                |resource| state.requests.len() == 1 && state.requests.get(&resource) == Some(&binding.per_replica);
            let mut on = nodes(desired, observed, &binding.name).peekable();
            match on.peek() {
                None => asks(binding.profile.resource()),
                Some(_) => on.any(|node| {
                    let profile = node.meant(binding.profile);
                    asks(node.strategy().resource(profile).unwrap_or_else(|| profile.resource()))
                }),
            }
        })
}

fn wrong_bind(desired: &Desired, observed: &Observed, bind: &Bind) -> Option<(Invariant, &'static str)> {
    let binding = managed(desired).find(|(binding, _)| binding.name == bind.binding);
    let Some((binding, object)) = binding else { return Some((Invariant::Foreign, "no binding says so")) };
    if nodes(desired, observed, &binding.name).next().is_none() {
        return Some((Invariant::Target, "no node was seen that it holds on"));
    }
    if !says(desired, observed, binding, bind) {
        return Some((Invariant::Target, "it is not what the binding says"));
    }
    let Some(state) = state(observed, object) else { return Some((Invariant::Foreign, "the workload is not there")) };
    if state.fixed {
        return Some((Invariant::Legal, "its pod template can't be changed any more"));
    }
    let recorded = observed.cluster.bound.known().into_iter().flatten();
    let mut recorded = recorded.filter(|bound| bound.bind.object.is(object));
    let affinity = state.affinity.as_ref();
    let met = bind.is_met(&state.requests, &state.claims, affinity) && recorded.all(|bound| bound.bind == *bind);
    met.then_some((Invariant::Needless, "the workload is so already"))
}

fn wrong_unbind(desired: &Desired, observed: &Observed, bind: &Bind) -> Option<(Invariant, &'static str)> {
    let Known::Known(recorded) = &observed.cluster.bound else {
        return Some((Invariant::Foreign, "what was carried out is not known"));
    };
    if !recorded.iter().any(|bound| bound.bind == *bind) {
        return Some((Invariant::Foreign, "it was never carried out"));
    }
    let wanted = managed(desired).any(|(_, object)| object.is(&bind.object));
    wanted.then_some((Invariant::HandsOff, "a binding still says so"))
}
