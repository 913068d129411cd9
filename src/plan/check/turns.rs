//! Budgets that nodes share, counted anew over all plans.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::plan::{NodeState, Step, StepKind};
use crate::model::policy::{Amount, Shared, Uncoordinated};
use crate::model::{Desired, NodePlan, Observed, PlaceState, Plan, Policy, Source};

use super::{Findings, Invariant};

/// The nodes of one policy file.
#[derive(Default)]
struct Group<'a> {
    /// In the cluster, by name.
    nodes: Vec<(&'a NodePlan, &'a Policy, bool)>,
    /// Names of the others in it, which are not planned, and those of them that are under way or have failed.
    peers: BTreeSet<&'a str>,
    busy: BTreeSet<&'a str>,
    /// Which of them a layout speaks of, and whether they have converged at this tree.
    laid: BTreeMap<&'a str, bool>,
}

pub(super) fn check(desired: &Desired, observed: &Observed, plan: &Plan, found: &mut Findings) {
    let mut groups: BTreeMap<&Source, Group<'_>> = BTreeMap::new();
    for node in &plan.nodes {
        let policy = desired.nodes.get(&node.name).and_then(|d| d.policy.as_deref());
        let (Some(policy), Some(seen)) = (policy, observed.nodes.get(&node.name)) else { continue };
        let Some(cluster) = &seen.cluster else {
            found.at.clone_from(&node.name);
            alone(node, policy, found);
            continue;
        };
        let begun = cluster.tainted || cluster.clients_paused || failed(observed, &node.name);
        for source in &policy.sources {
            groups.entry(source).or_default().nodes.push((node, policy, begun));
        }
    }
    let revision = plan.desired.to_string();
    for (name, peer) in &observed.cluster.peers {
        let Some(wanted) = desired.peers.get(name).filter(|_| !desired.nodes.contains_key(name)) else { continue };
        for source in wanted.policy.iter().flat_map(|policy| &policy.sources) {
            let group = groups.entry(source).or_default();
            group.peers.insert(name);
            if peer.tainted || peer.clients_paused || failed(observed, name) {
                group.busy.insert(name);
            }
            if wanted.layout.is_some() {
                let converged = peer.state == Some(NodeState::Converged);
                group.laid.insert(name, converged && peer.revision.as_deref() == Some(revision.as_str()));
            }
        }
    }
    found.at.clear();
    for (over, group) in groups {
        group.check(over, found);
    }
}

/// Whether a node keeps a place since it failed.
fn failed(observed: &Observed, node: &str) -> bool {
    let place = observed.cluster.places.known().and_then(|places| places.get(node)?.known());
    place.is_some_and(|place| place.state == PlaceState::Failed)
}

fn due(node: &NodePlan) -> bool {
    node.steps.iter().any(|step| step.waits.is_none())
}

/// Nobody counts a node in no cluster.
fn alone(node: &NodePlan, policy: &Policy, found: &mut Findings) {
    let budget = &policy.budget;
    let shared = budget.max_nodes.is_some() || budget.canary.as_ref().is_some_and(|canary| canary.limit != 0);
    let disturbs = node.steps.iter().find(|step| step.disruptive && step.waits.is_none());
    if let Some(step) = disturbs.filter(|_| shared && budget.uncoordinated == Uncoordinated::Refuse) {
        found.add(Invariant::Budgets, Some(step.id), "it disturbs somebody, and can't share its budget");
    }
}

impl Group<'_> {
    /// Whoever begins finds room beside those that are under way or come before it by name.
    fn check(&self, over: &Source, found: &mut Findings) {
        let budgets = || self.nodes.iter().map(|(_, policy, _)| &policy.budget);
        let of = |limit: &&Shared<u32>| limit.over == *over;
        let canaries = budgets().find_map(|b| b.canary.as_ref().filter(of)).map_or(0, |canary| canary.limit as usize);
        let layouts = self.nodes.iter().map(|(node, ..)| *node).filter(|node| node.source.is_some());
        let mut first = self.laid.clone();
        first.extend(layouts.map(|node| (node.name.as_str(), node.state == NodeState::Converged)));
        let first: Vec<(&str, bool)> = first.into_iter().take(canaries).collect();
        let proved = first.iter().all(|(_, converged)| *converged);
        let begun = || self.nodes.iter().filter(|(.., begun)| *begun).map(|(node, ..)| *node);
        let mut pods: u32 = begun().map(|node| evictions(&node.steps)).sum();
        let fresh = self.nodes.iter().filter(|(node, _, begun)| !begun && due(node));
        for (going, (node, policy, _)) in (begun().count() + self.busy.len() + 1..).zip(fresh) {
            let (budget, more) = (&policy.budget, evictions(&node.steps));
            pods += more;
            let most = budget.max_nodes.as_ref().filter(|max| max.over == *over).map(|max| match max.limit {
                Amount::Count(count) => count as usize,
                Amount::Percent(percent) => ((self.nodes.len() + self.peers.len()) * percent as usize / 100).max(1),
            });
            if most.is_some_and(|most| going > most) {
                found.add(Invariant::Budgets, None, format!("{} is one more of {over} than may change", node.name));
            }
            if budget.max_pods.as_ref().filter(of).is_some_and(|max| more > 0 && pods > max.limit) {
                found.add(Invariant::Budgets, None, format!("{} takes too many pods of {over} down", node.name));
            }
            let canary = budget.canary.as_ref().filter(of).is_some();
            if canary && !proved && !first.iter().any(|(other, _)| *other == node.name) {
                found.add(Invariant::Budgets, None, format!("{} goes before the canaries of {over}", node.name));
            }
        }
    }
}

/// The most evictions between two waits for readiness.
fn evictions(steps: &[Step]) -> u32 {
    let rounds = steps.split(|step| matches!(step.kind, StepKind::AwaitReady { .. }));
    let evicted = |step: &&Step| step.waits.is_none() && matches!(step.kind, StepKind::EvictPod { .. });
    rounds.map(|round| u32::try_from(round.iter().filter(evicted).count()).unwrap_or(u32::MAX)).max().unwrap_or(0)
}
