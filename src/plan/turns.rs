//! Whose turn it is: budgets are over the nodes that a policy file matches, so they are settled over all of them at once:
//! over all plans of a fleet, or over what a node's plan and the other nodes of its cluster show.
//!
//! A node that is under way keeps its place; then come the nodes by name. Canaries are the first nodes by name of those
//! that a file matches and a layout speaks of. Nodes in no cluster have nobody who could count them: each has its own
//! time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::observed::WorkloadState;
use crate::model::plan::{Block, BlockCode};
use crate::model::policy::{Amount, Policy, Shared, Uncoordinated};
use crate::model::{Desired, DesiredNode, Digest, Known, NodePlan, NodeState, Observed, Place, Source, Step, StepKind};

use super::places::{self, Taken};
use super::report;

/// How a turn comes where nobody need act.
const BY_ITSELF: &str = "by itself";

/// Without a share to go by, a turn lasts so many percent of the splay: at any time so many nodes have theirs.
const TURN_PERCENT: u64 = 5;

/// The nodes of one policy file, as far as they are in the cluster, and what they have taken of its budget.
#[derive(Debug, Default)]
struct Domain<'a> {
    nodes: u32,
    /// So many canaries there are to be.
    canary: u32,
    /// The canaries, and how each stands.
    canaries: BTreeMap<&'a str, Standing<'a>>,
    changing: u32,
    pods: u32,
}

/// How a canary stands.
#[derive(Clone, Copy, Debug)]
enum Standing<'a> {
    /// As far as this tree goes.
    At(NodeState),
    /// It was compared with another tree last, or with none.
    Behind(Option<&'a str>),
}

/// The domains of policy files by their paths, in which trees that were edited between agree.
#[derive(Debug)]
pub struct Domains<'a>(BTreeMap<&'a str, Domain<'a>>);

impl<'a> Domains<'a> {
    /// The policy files whose nodes share a budget, with nobody under way. `state` is of nodes that are planned; the
    /// others are known by what they show.
    pub fn new(desired: &'a Desired, observed: &'a Observed, state: impl Fn(&str) -> Option<NodeState>) -> Self {
        let mut domains = Domains(BTreeMap::new());
        let all = || desired.nodes.values().chain(desired.peers.values());
        for budget in all().filter_map(|node| node.policy.as_ref()).map(|policy| &policy.budget) {
            let limits =
                [budget.max_nodes.as_ref().map(|max| &max.over), budget.max_pods.as_ref().map(|max| &max.over)];
            limits.into_iter().flatten().for_each(|over| _ = domains.0.entry(&over.file).or_default());
            if let Some(canary) = &budget.canary {
                domains.0.entry(&canary.over.file).or_default().canary = canary.limit;
            }
        }
        let revision = desired.revision.to_string();
        let member = |node: &'a DesiredNode| {
            let seen = observed.nodes.get(&node.node).and_then(|seen| seen.cluster.as_ref());
            if let Some(state) = seen.and_then(|_| state(&node.node)) {
                return Some((node, Standing::At(state)));
            }
            let peer = observed.cluster.peers.get(&node.node)?;
            let at = peer.revision.as_deref();
            let known = peer.state.filter(|_| at == Some(revision.as_str()));
            Some((node, known.map_or(Standing::Behind(at), Standing::At)))
        };
        let peers = desired.peers.values().filter(|node| !desired.nodes.contains_key(&node.node));
        let mut members: Vec<_> = desired.nodes.values().chain(peers).filter_map(member).collect();
        members.sort_by_key(|(node, _)| &node.node);
        for (node, standing) in members {
            for over in node.policy.iter().flat_map(|policy| &policy.sources) {
                let Some(domain) = domains.0.get_mut(&*over.file) else { continue };
                domain.nodes += 1;
                if node.layout.is_some() && domain.canaries.len() < domain.canary as usize {
                    domain.canaries.insert(&node.node, standing);
                }
            }
        }
        domains
    }

    /// Whether a node shares a budget.
    pub fn concern(&self, policy: &Policy) -> bool {
        policy.sources.iter().any(|over| self.0.contains_key(&*over.file))
    }

    /// Counts what somebody has taken.
    pub fn count(&mut self, taken: &Taken<'_>) {
        for (file, domain) in &mut self.0 {
            if taken.counts_in(file) {
                domain.changing = domain.changing.saturating_add(taken.nodes);
                domain.pods = domain.pods.saturating_add(taken.pods);
            }
        }
    }

    /// Why it is not the turn of a node, if it is not, and how it comes. `keeps`: it has had a place among those that
    /// change all along.
    pub fn why_not(&self, policy: &Policy, node: &str, pods: u32, keeps: bool) -> Option<(String, &'static str)> {
        let of = |over: &Source| self.0.get(&*over.file);
        let budget = &policy.budget;
        let proved = |standing: &Standing<'_>| matches!(standing, Standing::At(NodeState::Converged));
        if let Some(domain) = budget.canary.as_ref().and_then(|canary| of(&canary.over))
            && !domain.canaries.contains_key(node)
            && let Some((canary, standing)) = domain.canaries.iter().find(|(_, standing)| !proved(standing))
        {
            let (is, comes) = match standing {
                Standing::At(state @ (NodeState::Changing | NodeState::Waiting)) => (format!("is {state}"), BY_ITSELF),
                Standing::At(state) => (format!("is {state}"), "when somebody has seen to the canary"),
                Standing::Behind(Some(revision)) => (format!("is still at {revision}"), BY_ITSELF),
                Standing::Behind(None) => ("has not told yet how it stands".to_owned(), BY_ITSELF),
            };
            return Some((format!("canary {canary} converges first, and {is}"), comes));
        }
        if let Some(Shared { limit, over }) = budget.max_nodes.as_ref().filter(|_| !keeps)
            && let Some(domain) = of(over)
            && domain.changing >= places(*limit, domain.nodes)
        {
            let most = places(*limit, domain.nodes);
            return Some((format!("of the {} nodes of {over}, {most} may change at once", domain.nodes), BY_ITSELF));
        }
        if let Some(Shared { limit, over }) = &budget.max_pods
            && let Some(domain) = of(over)
            && pods > 0
            && domain.pods.saturating_add(pods) > *limit
        {
            return Some((format!("on the nodes of {over}, {limit} pods may be down at once"), BY_ITSELF));
        }
        None
    }
}

/// Lets the nodes wait whose turn it is not.
pub fn hold(desired: &Desired, observed: &Observed, nodes: &mut [NodePlan], now: Timestamp) {
    let states: BTreeMap<String, NodeState> = nodes.iter().map(|node| (node.name.clone(), node.state)).collect();
    let mut domains = Domains::new(desired, observed, |node| states.get(node).copied());
    // Whether others live who have shown nothing yet only those tell who watch: they are asked when the turn is taken.
    for taken in
        places::taken(desired, &observed.cluster, &|holder, place| places::shows(&observed.cluster, holder, place))
    {
        if !states.contains_key(taken.holder) {
            domains.count(&taken);
        }
    }
    let mut order: Vec<(&mut NodePlan, &Policy, bool, bool)> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let policy = desired.nodes.get(&node.name).and_then(|wanted| wanted.policy.as_deref());
        let cluster = observed.nodes.get(&node.name).and_then(|seen| seen.cluster.as_ref());
        let going = cluster.is_some_and(|cluster| cluster.tainted || cluster.clients_paused);
        order.extend(policy.map(|policy| (node, policy, cluster.is_some(), going)));
    }
    // The sort is stable, so nodes of a kind stay in the order of their names.
    order.sort_by_key(|(node, .., going)| !(*going || places::has_failed(&observed.cluster, &node.name)));
    for (node, policy, in_cluster, going) in order {
        let keeps = places::has_failed(&observed.cluster, &node.name);
        if !going && !keeps && node.steps.iter().all(|step| step.waits.is_some()) {
            continue;
        }
        let pods = down_at_once(&node.steps);
        let why = match in_cluster {
            _ if going => None,
            true => domains.why_not(policy, &node.name, pods, keeps),
            false => apart(policy, &node.name, now).map(|why| (why, BY_ITSELF)),
        };
        let waits = why.is_some();
        if let Some((why, comes)) = why {
            wait(desired, node, why, comes);
        }
        if in_cluster && (keeps || !waits) {
            let pods = if waits { 0 } else { pods };
            domains.count(&Taken { holder: &node.name, nodes: 1, pods, over: places::files(policy) });
        }
    }
}

/// How many nodes may change at once.
pub fn places(amount: Amount, nodes: u32) -> u32 {
    match amount {
        Amount::Count(count) => count,
        Amount::Percent(share) => u32::try_from(u64::from(nodes) * u64::from(share) / 100).unwrap_or(u32::MAX).max(1),
    }
}

/// The most pods that the steps take down before anybody waits until they are ready again.
pub fn down_at_once(steps: &[Step]) -> u32 {
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

/// Lets a node wait for its turn.
pub fn wait(desired: &Desired, node: &mut NodePlan, message: String, comes: &str) {
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

/// Whether the rollout of a new template would take more pods down than budgets of these nodes allow at once.
pub fn pods_are_down(nodes: &[&DesiredNode], desired: &Desired, observed: &Observed, found: &WorkloadState) -> bool {
    let shows = |holder: &str, place: &Known<Place>| places::shows(&observed.cluster, holder, place);
    full(&limits(nodes), rolled(found), (&found.kind, &found.namespace, &found.name), desired, observed, &shows)
        .is_some()
}

/// The most pods that a new template takes down at once.
pub fn rolled(found: &WorkloadState) -> u32 {
    found.down.min(found.replicas)
}

/// How many pods may be down on the nodes of each of these policy files that say so, by their paths.
pub fn limits<'a>(nodes: &[&'a DesiredNode]) -> BTreeMap<&'a str, u32> {
    let budgets = nodes.iter().filter_map(|node| node.policy.as_ref()?.budget.max_pods.as_ref());
    budgets.map(|max| (&*max.over.file, max.limit)).collect()
}

/// The policy file on whose nodes too many pods would be down with so many more of a workload, and how many may be: beside
/// those that holders of places take down, and those that other managed workloads lack.
pub fn full<'a>(
    limits: &BTreeMap<&'a str, u32>,
    goes: u32,
    (kind, namespace, name): (&str, &str, &str),
    desired: &Desired,
    observed: &Observed,
    counts: &dyn Fn(&str, &Known<Place>) -> bool,
) -> Option<(&'a str, u32)> {
    if limits.is_empty() || goes == 0 {
        return None;
    }
    let taken = places::taken(desired, &observed.cluster, counts);
    let others = observed.cluster.workloads.iter().filter(|w| w.revision.is_some() && !w.is(kind, namespace, name));
    let lacking = others.map(|w| w.replicas.saturating_sub(w.ready)).fold(goes, u32::saturating_add);
    let mut limits = limits.iter().map(|(file, limit)| (*file, *limit));
    limits.find(|(file, limit)| {
        let of = taken.iter().filter(|taken| taken.counts_in(file));
        of.map(|taken| taken.pods).fold(lacking, u32::saturating_add) > *limit
    })
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
