//! Whose turn it is: budgets are over the nodes that a policy file matches, so they are settled over all plans at once.
//!
//! A node that is under way keeps its place; then come the nodes by name. Canaries are the first nodes by name of those
//! that a file matches and a layout speaks of. Nodes in no cluster have nobody who could count them: each has its own
//! time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::plan::{Block, BlockCode};
use crate::model::policy::{Amount, Policy, Shared, Uncoordinated};
use crate::model::{Desired, Digest, NodePlan, NodeState, Observed, Source, Step, StepKind};

use super::report;

/// How a turn comes where nobody need act.
const BY_ITSELF: &str = "by itself";

/// Without a share to go by, a turn lasts so many percent of the splay: at any time so many nodes have theirs.
const TURN_PERCENT: u64 = 5;

/// The nodes of one policy file, as far as they are in the cluster, and what they have taken of its budget.
#[derive(Default)]
struct Domain {
    nodes: u32,
    /// So many canaries there are to be.
    canary: u32,
    /// The canaries, and how each stands.
    canaries: BTreeMap<String, NodeState>,
    changing: u32,
    pods: u32,
}

type Domains<'a> = BTreeMap<&'a Source, Domain>;

/// Lets the nodes wait whose turn it is not.
pub fn hold(desired: &Desired, observed: &Observed, nodes: &mut [NodePlan], now: Timestamp) {
    let mut order: Vec<(&mut NodePlan, &Policy, bool, bool)> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let policy = desired.nodes.get(&node.name).and_then(|wanted| wanted.policy.as_deref());
        let cluster = observed.nodes.get(&node.name).and_then(|seen| seen.cluster.as_ref());
        let going = cluster.is_some_and(|cluster| cluster.tainted || cluster.clients_paused);
        order.extend(policy.map(|policy| (node, policy, cluster.is_some(), going)));
    }
    let mut domains = shared(desired);
    for (node, policy, ..) in order.iter().filter(|(_, _, in_cluster, _)| *in_cluster) {
        for over in &policy.sources {
            let Some(domain) = domains.get_mut(over) else { continue };
            domain.nodes += 1;
            if node.source.is_some() && domain.canaries.len() < domain.canary as usize {
                domain.canaries.insert(node.name.clone(), node.state);
            }
        }
    }
    // The sort is stable, so nodes of a kind stay in the order of their names.
    order.sort_by_key(|(.., going)| !going);
    for (node, policy, in_cluster, going) in order {
        if !going && node.steps.iter().all(|step| step.waits.is_some()) {
            continue;
        }
        let pods = down_at_once(&node.steps);
        let why = match in_cluster {
            _ if going => None,
            true => why_not(policy, &domains, &node.name, pods),
            false => apart(policy, &node.name, now).map(|why| (why, BY_ITSELF)),
        };
        if let Some((why, comes)) = why {
            wait(desired, node, why, comes);
        } else if in_cluster {
            for over in &policy.sources {
                let Some(domain) = domains.get_mut(over) else { continue };
                domain.changing += 1;
                domain.pods += pods;
            }
        }
    }
}

/// The policy files whose nodes share a budget.
fn shared(desired: &Desired) -> Domains<'_> {
    let mut domains = Domains::new();
    for budget in desired.nodes.values().filter_map(|node| node.policy.as_ref()).map(|policy| &policy.budget) {
        let files = budget.max_nodes.iter().map(|max| &max.over).chain(budget.max_pods.iter().map(|max| &max.over));
        files.for_each(|over| _ = domains.entry(over).or_default());
        if let Some(canary) = &budget.canary {
            domains.entry(&canary.over).or_default().canary = canary.limit;
        }
    }
    domains
}

/// Why it is not the turn of a node, if it is not, and how it comes.
fn why_not(policy: &Policy, domains: &Domains<'_>, node: &str, pods: u32) -> Option<(String, &'static str)> {
    let budget = &policy.budget;
    if let Some(domain) = budget.canary.as_ref().and_then(|canary| domains.get(&canary.over))
        && !domain.canaries.contains_key(node)
        && let Some((canary, state)) = domain.canaries.iter().find(|(_, state)| **state != NodeState::Converged)
    {
        let comes = match state {
            NodeState::Changing | NodeState::Waiting => BY_ITSELF,
            _ => "when somebody has seen to the canary",
        };
        return Some((format!("canary {canary} converges first, and is {state}"), comes));
    }
    if let Some(Shared { limit, over }) = &budget.max_nodes
        && let Some(domain) = domains.get(over)
        && domain.changing >= places(*limit, domain.nodes)
    {
        let most = places(*limit, domain.nodes);
        return Some((format!("of the {} nodes of {over}, {most} may change at once", domain.nodes), BY_ITSELF));
    }
    if let Some(Shared { limit, over }) = &budget.max_pods
        && let Some(domain) = domains.get(over)
        && pods > 0
        && domain.pods.saturating_add(pods) > *limit
    {
        return Some((format!("on the nodes of {over}, {limit} pods may be down at once"), BY_ITSELF));
    }
    None
}

/// How many nodes may change at once.
pub fn places(amount: Amount, nodes: u32) -> u32 {
    match amount {
        Amount::Count(count) => count,
        Amount::Percent(share) => u32::try_from(u64::from(nodes) * u64::from(share) / 100).unwrap_or(u32::MAX).max(1),
    }
}

/// The most pods that the steps take down before anybody waits until they are ready again.
fn down_at_once(steps: &[Step]) -> u32 {
    let (mut most, mut down) = (0, 0);
    for step in steps.iter().filter(|step| step.waits.is_none()) {
        match step.kind {
            StepKind::EvictPod { .. } => down += 1,
            StepKind::AwaitReady { .. } => down = 0,
            _ => {}
        }
        most = most.max(down);
    }
    most
}

fn wait(desired: &Desired, node: &mut NodePlan, message: String, comes: &str) {
    for step in node.steps.iter_mut().filter(|step| step.waits.is_none()) {
        step.waits = Some(BlockCode::Budget);
    }
    node.waiting.push(Block {
        code: BlockCode::Budget,
        message,
        object: node.name.clone(),
        hint: format!("its turn comes {comes}; `apply --override budget --reason TEXT` does not wait"),
    });
    node.waiting.sort();
    if let Some(wanted) = desired.nodes.get(&node.name) {
        node.state = report::state(wanted, node);
    }
}

/// Whether a node that nobody coordinates would share a budget that it can't.
pub fn refuses(policy: &Policy) -> bool {
    let shared = policy.budget.max_nodes.is_some() || policy.budget.canary.as_ref().is_some_and(|c| c.limit > 0);
    shared && policy.budget.uncoordinated == Uncoordinated::Refuse
}

fn apart(policy: &Policy, node: &str, now: Timestamp) -> Option<String> {
    let Uncoordinated::Splay(splay_s) = policy.budget.uncoordinated else { return None };
    let share = match policy.budget.max_nodes.as_ref().map(|limit| limit.limit) {
        Some(Amount::Percent(share)) => u64::from(share),
        _ => TURN_PERCENT,
    };
    let then = turn(node, splay_s, share, now)?;
    Some(format!("it is in no cluster, and its turn of budget.splay is at {then}"))
}

/// When a node's turn is, unless it is now. Time is cut into periods of the splay, from the Unix epoch on. In each, the
/// node's turn lasts that share and lies where a hash over its name and the period's number says: elsewhere in each,
/// so that no turn misses a window forever.
pub fn turn(node: &str, splay_s: u64, share: u64, now: Timestamp) -> Option<Timestamp> {
    let splay = i64::try_from(splay_s).unwrap_or(i64::MAX).max(1);
    let lasts = i64::try_from(u128::from(splay_s) * u128::from(share.min(100)) / 100).unwrap_or(i64::MAX).max(1);
    let second = now.as_second();
    let period = second.div_euclid(splay);
    let begins = |period: i64| {
        let Digest(hash) = Digest::of([node.as_bytes(), &period.to_le_bytes()]);
        let digits = hash.rsplit(':').next().and_then(|hex| hex.get(..16)).unwrap_or("0");
        let number = u64::from_str_radix(digits, 16).unwrap_or(0);
        let room = u64::try_from(splay - lasts).unwrap_or(0) + 1;
        period.saturating_mul(splay).saturating_add(i64::try_from(number % room).unwrap_or(0))
    };
    let begin = begins(period);
    if (begin..begin.saturating_add(lasts)).contains(&second) {
        return None;
    }
    let next = if second < begin { begin } else { begins(period + 1) };
    Some(Timestamp::from_second(next).unwrap_or(Timestamp::MAX))
}
