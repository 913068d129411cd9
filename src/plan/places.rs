//! Places that nodes take of the budgets which they share: who counts, and whose turn it is, as each of them decides it.
//!
//! All holders' places stand in one object, which is changed only as it was read: of two who saw the same places, one is
//! too late and looks again. Nobody compares clocks. A place counts until its holder gave it back, or was not seen to
//! renew it for the length of its lease by the watcher's own clock; and as long as the holder's node is tainted or paused.
//! What a holder does that disturbs somebody comes behind the taint, and behind a renewal younger than half the lease: so
//! whoever takes a place for given up finds the taint, if there is anything to find.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::place::{Place, PlaceState, Places, Reserved};
use crate::model::policy::Policy;
use crate::model::{Desired, DesiredNode, Known, NodePlan, NodeState, Object, Observed, ObservedCluster, StepKind};

use super::turns::{self, Domains};

/// What is known of a holder's node by a look that is no older than the question: whether it is tainted or paused; `None`:
/// the cluster has no such node.
pub type Nodes = BTreeMap<String, Option<bool>>;

/// What a holder has taken.
#[derive(Clone, Debug)]
pub struct Taken<'a> {
    /// Who.
    pub holder: &'a str,
    /// Nodes that change.
    pub nodes: u32,
    /// Pods that are down.
    pub pods: u32,
    /// The policy files in whose budgets it counts, by their paths; `None`: in all.
    pub over: Option<BTreeSet<&'a str>>,
}

impl Taken<'_> {
    /// Whether it counts in the budgets of a policy file.
    pub fn counts_in(&self, file: &str) -> bool {
        self.over.as_ref().is_none_or(|over| over.contains(file))
    }
}

/// The policy files that govern a node, by their paths.
pub fn files(policy: &Policy) -> Option<BTreeSet<&str>> {
    Some(policy.sources.iter().map(|source| &*source.file).collect())
}

/// What a watcher has seen of the holders, by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch(BTreeMap<String, Seen>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    run: String,
    renewals: u64,
    /// When it was seen so first.
    since: Duration,
    /// Whether it was seen to be renewed.
    lives: bool,
}

impl Watch {
    /// Takes note of what was read. `now` is the watcher's own clock after the answer: what is seen late expires late.
    pub fn see(&mut self, places: &Places, now: Duration) {
        self.0.retain(|holder, _| places.contains_key(holder));
        for (holder, place) in places {
            let Known::Known(Place { run, renewals, .. }) = place else { continue };
            let before = self.0.get(holder);
            if before.is_some_and(|seen| seen.run == *run && seen.renewals == *renewals) {
                continue;
            }
            let seen = Seen { run: run.clone(), renewals: *renewals, since: now, lives: before.is_some() };
            self.0.insert(holder.clone(), seen);
        }
    }

    /// Whether a holder was not seen to renew its place for the length of its lease.
    pub fn expired(&self, holder: &str, place: &Place, now: Duration) -> bool {
        let same = |seen: &&Seen| seen.run == place.run && seen.renewals == place.renewals;
        let seen = self.0.get(holder).filter(same);
        seen.is_some_and(|seen| now.saturating_sub(seen.since) >= Duration::from_secs(place.lease_s))
    }

    /// Whether a holder was seen to renew its place.
    pub fn lives(&self, holder: &str) -> bool {
        self.0.get(holder).is_some_and(|seen| seen.lives)
    }
}

/// Whether a renewal is young enough for a step that disturbs somebody: half of the lease is left for that step to arrive
/// in. `renewed` is the holder's own clock before it asked for the renewal.
pub fn is_fresh(renewed: Duration, now: Duration, lease_s: u64) -> bool {
    now.saturating_sub(renewed).saturating_mul(2) < Duration::from_secs(lease_s)
}

/// Whether that is the name of a holder that is no node.
fn is_no_node(holder: &str) -> bool {
    holder.starts_with('_')
}

/// Holders whose nodes must be looked at before anybody decides: those whose lease is over may be tainted, and those of
/// which the cluster told nothing may be gone.
pub fn doubtful<'a>(
    but: &'a str,
    places: &'a Places,
    cluster: &'a ObservedCluster,
    watch: &'a Watch,
    now: Duration,
) -> impl Iterator<Item = &'a str> {
    let all = places.iter().filter(move |(holder, _)| *holder != but && !is_no_node(holder));
    let doubted = all.filter(move |(holder, place)| {
        !cluster.peers.contains_key(*holder) || place.known().is_some_and(|place| watch.expired(holder, place, now))
    });
    doubted.map(|(holder, _)| holder.as_str())
}

/// Whether a place counts. What was not looked at is taken for held.
pub fn counts(holder: &str, place: &Known<Place>, watch: &Watch, now: Duration, nodes: &Nodes) -> bool {
    let node = nodes.get(holder);
    if node == Some(&None) {
        return false;
    }
    match place {
        Known::Known(place) if place.state == PlaceState::Held && watch.expired(holder, place, now) => {
            !is_no_node(holder) && node != Some(&Some(false))
        }
        _ => true,
    }
}

/// Holders whose places count no more, so that they can be taken out.
pub fn gone(places: &Places, watch: &Watch, now: Duration, nodes: &Nodes) -> BTreeSet<String> {
    let over = places.iter().filter(|(holder, place)| !counts(holder, place, watch, now, nodes));
    over.map(|(holder, _)| holder.clone()).collect()
}

/// What is taken by places that count, and by nodes that are under way without one.
pub fn taken<'a>(
    desired: &'a Desired,
    cluster: &'a ObservedCluster,
    counts: &dyn Fn(&str, &Known<Place>) -> bool,
) -> Vec<Taken<'a>> {
    let wanted = |holder: &str| desired.nodes.get(holder).or_else(|| desired.peers.get(holder));
    let governs = |holder: &str| wanted(holder).and_then(|node| node.policy.as_deref()).and_then(files);
    let mut all = Vec::new();
    let places = cluster.places.known();
    for (holder, place) in places.into_iter().flatten().filter(|(holder, place)| counts(holder, place)) {
        all.push(match place {
            Known::Known(Place { over, nodes, pods, .. }) => {
                // Its tree may be another one than ours.
                let over = over.iter().map(String::as_str).chain(governs(holder).into_iter().flatten()).collect();
                Taken { holder, nodes: *nodes, pods: *pods, over: Some(over) }
            }
            Known::Unknown => Taken { holder, nodes: 1, pods: u32::MAX, over: None },
        });
    }
    let counted: BTreeSet<&str> = all.iter().map(|taken| taken.holder).collect();
    let going = cluster.peers.iter().filter(|(name, peer)| peer.is_going() && !counted.contains(name.as_str()));
    all.extend(going.map(|(holder, _)| Taken {
        holder,
        nodes: 1,
        pods: 0,
        over: governs(holder).or_else(|| Some(BTreeSet::new())),
    }));
    all
}

/// Whether a place counts for who plans without having watched its holder: where that shows that it is under way, or has
/// failed. Whether others live is found out when a turn is taken.
pub fn shows(cluster: &ObservedCluster, holder: &str, place: &Known<Place>) -> bool {
    let kept = place.known().is_none_or(|place| place.state == PlaceState::Failed);
    cluster.peers.get(holder).is_some_and(|peer| kept || peer.is_going())
}

/// Whether a node keeps its place since it failed.
pub fn has_failed(cluster: &ObservedCluster, node: &str) -> bool {
    let place = cluster.places.known().and_then(|places| places.get(node)).and_then(Known::known);
    place.is_some_and(|place| place.state == PlaceState::Failed)
}

/// Takes what others have reserved out of what is free, before somebody plans with it.
pub fn set_aside(cluster: &mut ObservedCluster, own: &str, counts: &dyn Fn(&str, &Known<Place>) -> bool) {
    let Known::Known(places) = &cluster.places else { return };
    for place in places.iter().filter(|(holder, place)| *holder != own && counts(holder, place)).map(|(_, place)| place)
    {
        for (node, resources) in place.known().into_iter().flat_map(|place| &place.reserved) {
            let Some(free) = cluster.free.get_mut(node) else { continue };
            for (resource, n) in resources {
                if let Some(free) = free.get_mut(resource) {
                    *free = free.saturating_sub(*n);
                }
            }
        }
    }
}

/// What a plan counts on: free instances of other nodes, for the pods that move there, and whatever is free on its own
/// node, which it changes.
pub fn reserves(plan: &NodePlan, cluster: &ObservedCluster) -> Reserved {
    let mut reserved = Reserved::new();
    let due = |uid: &str| {
        let evicts = |kind: &StepKind| matches!(kind, StepKind::EvictPod { uid: of, .. } if of == uid);
        plan.steps.iter().any(|step| step.waits.is_none() && evicts(&step.kind))
    };
    for moved in plan.disruptions.iter().filter(|moved| moved.uid.as_deref().is_some_and(due)) {
        // On its own node it moves to a GPU, which is no node's name in `free`.
        let Some(to) = moved.moves_to.as_ref().filter(|to| cluster.free.contains_key(*to)) else { continue };
        let pod = cluster.pods.iter().find(|pod| Some(&pod.uid) == moved.uid.as_ref());
        for (resource, n) in pod.into_iter().flat_map(|pod| cluster.successor(pod)) {
            *reserved.entry(to.clone()).or_default().entry(resource.clone()).or_default() += n;
        }
    }
    if plan.steps.iter().any(|step| step.disruptive && step.waits.is_none()) {
        let own = cluster.free.get(&plan.name).into_iter().flatten().filter(|(_, n)| **n > 0);
        let own: BTreeMap<String, u32> = own.map(|(resource, n)| (resource.clone(), *n)).collect();
        if !own.is_empty() {
            reserved.insert(plan.name.clone(), own);
        }
    }
    reserved
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The node.
    pub node: &'a str,
    /// What the tree wants, of it and of its peers.
    pub desired: &'a Desired,
    /// The most pods that it takes down at once.
    pub pods: u32,
    /// What it would reserve.
    pub reserved: &'a Reserved,
    /// Whether it was under way before this run: it is counted by all others, and goes on.
    pub going: bool,
    /// Whether it has begun already, so that some of what it reserved is used by what it moved.
    pub begun: bool,
    /// What is rolled out, of who changes no node.
    pub rolls: Option<Rolls<'a>>,
}

/// A workload whose pods are made anew.
#[derive(Clone, Copy, Debug)]
pub struct Rolls<'a> {
    /// The workload.
    pub object: &'a Object,
    /// How many pods may be down on the nodes of each policy file that governs it, by their paths.
    pub limits: &'a BTreeMap<&'a str, u32>,
}

/// Why a place is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// A sentence.
    pub why: String,
    /// How the turn comes.
    pub comes: &'static str,
    /// Whether one of those who hold places may turn out to be gone: it was not seen to live yet, nor its lease to end.
    pub unsure: bool,
}

/// Why a node gets no place, if it gets none. `observed` is what it sees now, with the places as they were read last.
pub fn why_not(asked: &Asked<'_>, observed: &Observed, watch: &Watch, now: Duration, nodes: &Nodes) -> Option<Waits> {
    let Asked { node, desired, pods, reserved, going, begun, rolls } = *asked;
    let cluster = &observed.cluster;
    let counted = |holder: &str, place: &Known<Place>| holder != node && counts(holder, place, watch, now, nodes);
    let all = taken(desired, cluster, &counted);
    let others = || all.iter().filter(|taken| taken.holder != node);
    let waits = |why: String, comes| {
        let by = match others().map(|taken| taken.holder).collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            [one] => format!("; {one} has a place"),
            [first, rest @ ..] => format!("; {first} and {} more have places", rest.len()),
        };
        let unsure = |(holder, place): (&String, &Known<Place>)| {
            let held = place.known().filter(|place| holder != node && place.state == PlaceState::Held);
            held.is_some_and(|place| !watch.lives(holder) && !watch.expired(holder, place, now))
        };
        Waits { why: why + &by, comes, unsure: cluster.places.known().into_iter().flatten().any(unsure) }
    };
    if let Some((on, resource)) = short(cluster, node, (reserved, begun), &counted) {
        return Some(waits(format!("others have reserved the {resource} on {on} that it counts on"), "by itself"));
    }
    if let Some(Rolls { object: Object { kind, namespace, name, .. }, limits }) = rolls {
        let (file, limit) = turns::full(limits, pods, (kind, namespace, name), desired, observed, &counted)?;
        return Some(waits(format!("on the nodes of {file}, {limit} pods may be down at once"), "by itself"));
    }
    let policy = desired.nodes.get(node).and_then(|wanted: &DesiredNode| wanted.policy.as_deref())?;
    let mut domains = Domains::new(desired, observed, |name| (name == node).then_some(NodeState::Changing));
    others().for_each(|taken| domains.count(taken));
    if going {
        return None;
    }
    let (why, comes) = domains.why_not(policy, node, pods, has_failed(cluster, node))?;
    Some(waits(why, comes))
}

/// What is not free any more of what shall be reserved, beside what others have. How much of it is used already who has
/// begun can't tell: then nobody else may have reserved any of it.
fn short<'a>(
    cluster: &ObservedCluster,
    own: &str,
    (reserved, begun): (&'a Reserved, bool),
    counts: &dyn Fn(&str, &Known<Place>) -> bool,
) -> Option<(&'a str, &'a str)> {
    let of = |map: &Reserved, node: &str, resource: &str| {
        map.get(node).and_then(|free| free.get(resource)).copied().unwrap_or(0)
    };
    let places = || cluster.places.known().into_iter().flatten().filter(|(holder, place)| counts(holder, place));
    let places = || places().filter(|(holder, _)| *holder != own).filter_map(|(_, place)| place.known());
    let each = reserved.iter().flat_map(|(node, all)| all.iter().map(move |(resource, n)| (node, resource, *n)));
    let mut each = each.filter(|(node, resource, n)| {
        let others = places().map(|place| of(&place.reserved, node, resource)).fold(0, u32::saturating_add);
        if begun { others > 0 } else { others.saturating_add(*n) > of(&cluster.free, node, resource) }
    });
    each.next().map(|(node, resource, _)| (node.as_str(), resource.as_str()))
}

/// Whether a step disturbs somebody, or is the taint that all the others look for: a place must be fresh before it. What
/// only puts back is done in any case.
pub fn guards(kind: &StepKind) -> bool {
    match kind {
        StepKind::StandDown
        | StepKind::Taint
        | StepKind::PauseClients { .. }
        | StepKind::EvictPod { .. }
        | StepKind::StopUnit { .. }
        | StepKind::DrainCommand { .. }
        | StepKind::TerminateProcess { .. }
        | StepKind::DestroyInstance { .. }
        | StepKind::SetMigMode { .. }
        | StepKind::ResetGpu { .. } => true,
        StepKind::Untaint
        | StepKind::ResumeClients { .. }
        | StepKind::RefreshClients
        | StepKind::RefreshDevices { .. }
        | StepKind::StartUnit { .. }
        | StepKind::ResumeCommand { .. }
        | StepKind::CreateInstance { .. }
        | StepKind::BindWorkload { .. }
        | StepKind::UnbindWorkload { .. }
        | StepKind::AwaitGone { .. }
        | StepKind::AwaitReady { .. } => false,
    }
}
