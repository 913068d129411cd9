//! Where a node's steps lead: what the tree wants, no less than could be kept, nobody disturbed without need.

use std::collections::BTreeSet;

use crate::model::desired::{DesiredNode, Goal, GpuGoal, SharedGoal, Target, Wanted};
use crate::model::geometry::{Geometry, Placement};
use crate::model::observed::{Known, ObservedGpu, ObservedNode, User};
use crate::model::plan::{Block, DisruptionKind, GpuPlan, NodePlan, PlanInstance, SlotRef, Verdict};
use crate::model::profile::{ComputeName, ProfileName};

use super::rules::Cluster;
use super::walk::{End, Paper, Sheet};
use super::{Findings, Invariant, key, rules};

pub(super) fn check(
    wanted: &DesiredNode,
    seen: &ObservedNode,
    cluster: &Cluster<'_>,
    plan: &NodePlan,
    end: &End<'_>,
    found: &mut Findings,
) {
    let listed: Vec<&String> = plan.gpus.iter().map(|g| &g.uuid).collect();
    if listed != seen.gpus.iter().map(|g| &g.uuid).collect::<Vec<_>>() {
        return found.add(Invariant::Target, None, "the plan does not list the node's GPUs");
    }
    // What holds the node back holds steps back that are laid; for what holds one user back no step is laid.
    let laid = |b: &Block| b.object == plan.name && plan.steps.iter().any(|s| s.waits == Some(b.code));
    let done = plan.blocked.is_empty() && plan.waiting.iter().all(laid);
    for ((gpu, sheet), listed) in seen.gpus.iter().zip(&end.gpus).zip(&plan.gpus) {
        lists(gpu, listed, end, done.then_some(sheet), found);
        let goal = goal_of(wanted, listed);
        match goal {
            None if listed.managed => found.add(Invariant::HandsOff, None, format!("nothing manages {}", gpu.uuid)),
            Some(goal) if done => reached(gpu, goal, sheet, found),
            _ => {}
        }
    }
    for entry in &wanted.shared {
        let with = |g: &&GpuPlan| g.source.as_ref() == Some(&entry.source);
        let given = plan.gpus.iter().filter(with).count();
        let foreign = plan.gpus.iter().filter(with).any(|g| !entry.eligible.contains(&g.uuid));
        if done && (given != entry.count as usize || foreign) && entry.goal != Goal::HandsOff {
            found.add(Invariant::Target, None, format!("{} is on {given} GPUs, or on a wrong one", entry.source));
        }
    }
    disruptions(wanted, seen, plan, end, found);
    destinations(seen, cluster, plan, found);
    priced(seen, plan, found);
    if done {
        key::check(wanted, seen, cluster, plan, found);
        bound(wanted, seen, end, found);
    }
}

/// The goal of a GPU: its own entry's, or that of the shared entry which the plan says it was given.
pub(super) fn goal_of<'a>(wanted: &'a DesiredNode, listed: &GpuPlan) -> Option<&'a Goal> {
    let own = wanted.gpus.get(&listed.uuid).map(|GpuGoal { goal, .. }| goal);
    let shared = || {
        let of = |s: &&SharedGoal| Some(&s.source) == listed.source.as_ref();
        wanted.shared.iter().find(of).map(|s| &s.goal)
    };
    own.or_else(shared).filter(|goal| **goal != Goal::HandsOff)
}

/// A slot of one GPU.
type Slot = (ProfileName, Placement);

fn slot(i: &PlanInstance) -> Slot {
    (i.profile, i.placement())
}

/// A fleet's GPUs hold few slots each, so that lists do for sets.
fn sorted(slots: impl Iterator<Item = Slot>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = slots.collect();
    slots.sort();
    slots
}

/// The lists of a GPU are what is there, and what the steps do: all of it, where they lead to that sheet.
fn lists(gpu: &ObservedGpu, listed: &GpuPlan, end: &End<'_>, then: Option<&Sheet<'_>>, found: &mut Findings) {
    let there = sorted(gpu.instances.iter().map(|i| (i.profile, i.placement)));
    let (destroy, create) = (sorted(listed.destroy.iter().map(slot)), sorted(listed.create.iter().map(slot)));
    if sorted(listed.keep.iter().chain(&listed.destroy).map(slot)) != there {
        found.add(Invariant::Target, None, format!("keep and destroy are not what is on {}", gpu.uuid));
    }
    let mine =
        |set: &BTreeSet<SlotRef>| sorted(set.iter().filter(|s| s.gpu == gpu.uuid).map(|s| (s.profile, s.placement)));
    let (destroyed, created) = (mine(&end.destroyed), mine(&end.created));
    if !destroyed.iter().all(|slot| destroy.contains(slot)) || !created.iter().all(|slot| create.contains(slot)) {
        found.add(Invariant::Target, None, format!("steps do what {}'s lists do not say", gpu.uuid));
    }
    if then.is_some_and(|then| destroyed != destroy || created != create || then.mode != listed.mig.then) {
        found.add(Invariant::Target, None, format!("steps do not do all that {}'s lists say", gpu.uuid));
    }
    let same_compute = |a: &PlanInstance, b: &PlanInstance| {
        let names = |i: &PlanInstance| rules::counts(i.compute.iter().map(|c| c.profile));
        names(a) == names(b)
    };
    for new in &listed.create {
        let again = listed.destroy.iter().find(|old| slot(old) == slot(new));
        if again.is_some_and(|old| same_compute(old, new)) {
            found.add(
                Invariant::Needless,
                None,
                format!("{} at {} is destroyed and made again", new.profile, new.start),
            );
        }
    }
}

pub(super) type Kind = (ProfileName, Option<u32>, Vec<ComputeName>);

/// What a goal's wants mean on a board.
pub(super) fn kinds(geometry: &Geometry, wants: &[Wanted]) -> Option<Vec<Kind>> {
    let one = |want: &Wanted| {
        let (profile, _) = geometry.resolve(want.profile)?;
        let filling = vec![ComputeName { slices: profile.slices, of: profile.name }];
        let named =
            |list: &Vec<ComputeName>| list.iter().map(|c| ComputeName { slices: c.slices, of: profile.name }).collect();
        let mut compute: Vec<ComputeName> = want.compute.as_ref().map_or(filling, named);
        compute.sort();
        Some((profile.name, want.start, compute))
    };
    wants.iter().map(one).collect()
}

/// The instances at the end are the wanted ones.
fn reached(gpu: &ObservedGpu, goal: &Goal, then: &Sheet<'_>, found: &mut Findings) {
    let Sheet { papers, mode: on, .. } = then;
    let right = match goal {
        Goal::HandsOff => true,
        Goal::MigOff => papers.is_empty() && !*on,
        Goal::Instances(wants) => {
            let kinds = gpu.geometry.as_ref().and_then(|g| kinds(g, wants));
            *on && kinds.is_some_and(|kinds| matches(kinds, papers))
        }
    };
    if !right {
        found.add(Invariant::Target, None, format!("{} does not become what the tree says", gpu.uuid));
    }
}

fn matches(mut kinds: Vec<Kind>, papers: &[Paper]) -> bool {
    // Fixed ones take theirs first; what is left of a kind is interchangeable.
    kinds.sort_by_key(|k| k.1.is_none());
    let mut left: Vec<&Paper> = papers.iter().collect();
    for (profile, start, compute) in kinds {
        let fits =
            |p: &&Paper| p.profile == profile && p.compute == compute && start.is_none_or(|s| s == p.placement.start);
        let Some(at) = left.iter().position(fits) else { return false };
        left.remove(at);
    }
    left.is_empty()
}

/// Everybody who is moved is listed as such, and had to be.
fn disruptions(wanted: &DesiredNode, seen: &ObservedNode, plan: &NodePlan, end: &End<'_>, found: &mut Findings) {
    let users: BTreeSet<User> = plan
        .disruptions
        .iter()
        .filter(|d| d.verdict == Verdict::Move)
        .filter_map(|d| match d.kind {
            DisruptionKind::Pod => Some(User::Pod { namespace: d.namespace.clone()?, name: d.name.clone() }),
            DisruptionKind::Unit => Some(User::Unit(d.name.clone())),
            DisruptionKind::Command => Some(User::Command(d.name.clone())),
            DisruptionKind::Process => None,
        })
        .collect();
    let moved: BTreeSet<User> = end.moved.iter().filter(|u| !matches!(u, User::Process { .. })).cloned().collect();
    if moved != users {
        found.add(Invariant::Verdicts, None, "who is moved is not who is listed as moving");
    }
    for user in &end.moved {
        let loses = seen.gpus.iter().zip(&end.gpus).any(|(gpu, sheet)| {
            let on = |users: &Known<Vec<User>>| users.known().is_some_and(|u| u.contains(user));
            let slot = |i: &crate::model::GpuInstance| SlotRef {
                gpu: gpu.uuid.clone(),
                profile: i.profile,
                placement: i.placement,
            };
            let destroyed = gpu.instances.iter().any(|i| on(&i.all_users()) && end.destroyed.contains(&slot(i)));
            let kept = plan.gpus.iter().any(|g| g.uuid == gpu.uuid && !g.keep.is_empty());
            let first = !kept && end.created.iter().any(|s| s.gpu == gpu.uuid);
            let switched = sheet.mode != gpu.mig.current;
            destroyed || on(&gpu.users) && (first || switched)
        });
        // Units and commands also move when they hold something else than they are bound to, or may.
        let bound = matches!(user, User::Unit(_) | User::Command(_));
        let stale = matches!(user, User::Unit(unit) if seen.units.get(unit).is_some_and(|state| state.stale));
        let rebound = bound && (stale || !holds_its_own(wanted, seen, user));
        if !loses && !rebound {
            found.add(Invariant::Verdicts, None, format!("{user} is moved without need"));
        }
    }
}

/// No pod is to go where it may not run.
fn destinations(seen: &ObservedNode, cluster: &Cluster<'_>, plan: &NodePlan, found: &mut Findings) {
    for moved in plan.disruptions.iter().filter(|d| d.verdict == Verdict::Move) {
        let (Some(namespace), Some(to)) = (&moved.namespace, &moved.moves_to) else { continue };
        let Some(pod) = cluster.pod(namespace, &moved.name) else { continue };
        // Every node is told by its name, and this one by its GPUs.
        let elsewhere = cluster.seen.free.contains_key(to) && *to != seen.name;
        let node = if elsewhere { to } else { &seen.name };
        if pod.barred.contains(node) {
            found.add(Invariant::Verdicts, None, format!("{} is to go to {node}, where it may not run", pod.id()));
        }
    }
}

/// What the plan says that it costs is what its lists cost.
fn priced(seen: &ObservedNode, plan: &NodePlan, found: &mut Findings) {
    let unknown = |gpu: &ObservedGpu, listed: &GpuPlan| {
        let goes = |at: &Placement| listed.destroy.iter().any(|gone| gone.placement() == *at);
        let gone = gpu.instances.iter().filter(|i| goes(&i.placement) && i.all_users().known().is_none()).count();
        let first = !listed.create.is_empty() && listed.keep.is_empty();
        gone + usize::from((first || listed.mig.now != listed.mig.then) && gpu.users.known().is_none())
    };
    let unknown: usize = seen.gpus.iter().zip(&plan.gpus).map(|(gpu, listed)| unknown(gpu, listed)).sum();
    let switches = plan.gpus.iter().filter(|g| g.mig.now != g.mig.then).count() as u64;
    let changes = plan.gpus.iter().map(|g| g.destroy.len() + g.create.len()).sum::<usize>() as u64;
    let mut cost = (plan.disruptions.len() + unknown) as u64 * 10_000 + changes + switches * 10;
    if !plan.steps.is_empty() || changes + switches > 0 {
        cost += 100;
    }
    if plan.cost != cost {
        found.add(Invariant::Sums, None, format!("its cost is {cost}, and it says {}", plan.cost));
    }
}

/// Units and commands that hold something else than their binding says, by the names that messages have for users.
pub(super) fn restless(wanted: &DesiredNode, seen: &ObservedNode) -> BTreeSet<String> {
    let mut restless = BTreeSet::new();
    for binding in &wanted.bindings {
        let (user, active, stale) = match &binding.target {
            Target::Kubernetes { .. } => continue,
            Target::Systemd { unit, .. } => {
                let state = seen.units.get(unit).cloned().unwrap_or_default();
                (User::Unit(unit.clone()), state.active, state.stale)
            }
            Target::Command { .. } => (User::Command(binding.name.clone()), false, false),
        };
        let geometries = || seen.gpus.iter().filter_map(|gpu| gpu.geometry.as_ref());
        let meant = geometries().find_map(|g| g.resolve(binding.profile)).map_or(binding.profile, |(p, _)| p.name);
        let instances = seen.gpus.iter().flat_map(|gpu| &gpu.instances);
        let held = instances.filter(|i| i.all_users().known().is_some_and(|users| users.contains(&user)));
        let held: Vec<ProfileName> = held.map(|i| i.profile).collect();
        let right = held.len() == binding.per_replica as usize && held.iter().all(|p| *p == meant);
        if stale || !right && (active || !held.is_empty()) {
            restless.insert(user.to_string());
        }
    }
    restless
}

/// Whether a unit or command holds exactly what it is bound to now.
fn holds_its_own(wanted: &DesiredNode, seen: &ObservedNode, user: &User) -> bool {
    wanted.bindings.iter().filter(|b| names(&b.target, &b.name, user)).all(|binding| {
        let held: Vec<ProfileName> = seen
            .gpus
            .iter()
            .flat_map(|gpu| &gpu.instances)
            .filter(|i| i.all_users().known().is_some_and(|u| u.contains(user)))
            .map(|i| i.profile)
            .collect();
        held.len() == binding.per_replica as usize && held.iter().all(|p| alike(*p, binding.profile))
    })
}

fn names(target: &Target, binding: &str, user: &User) -> bool {
    match (target, user) {
        (Target::Systemd { unit, .. }, User::Unit(name)) => unit == name,
        (Target::Command { .. }, User::Command(name)) => binding == name,
        _ => false,
    }
}

/// Whether an instance's profile may be what a binding's name means: names drift by 1 GB, or leave the memory out.
fn alike(have: ProfileName, want: ProfileName) -> bool {
    let memory = match (have.memory_gb, want.memory_gb) {
        (Some(have), Some(want)) => have.abs_diff(want) <= 1,
        _ => true,
    };
    have.slices == want.slices && have.attribute == want.attribute && memory
}

/// At the end every unit and command that is bound here, and is here, holds what it is bound to.
fn bound(wanted: &DesiredNode, seen: &ObservedNode, end: &End<'_>, found: &mut Findings) {
    for binding in &wanted.bindings {
        let user = match &binding.target {
            Target::Systemd { unit, .. } if seen.units.contains_key(unit) => User::Unit(unit.clone()),
            Target::Command { .. } => User::Command(binding.name.clone()),
            _ => continue,
        };
        let held = end
            .gpus
            .iter()
            .flat_map(|sheet| &sheet.papers)
            .filter(|p| p.users.as_ref().is_some_and(|u| u.contains(&user)));
        let held: Vec<ProfileName> = held.map(|p| p.profile).collect();
        if held.len() != binding.per_replica as usize || !held.iter().all(|p| alike(*p, binding.profile)) {
            found.add(Invariant::Target, None, format!("{user} does not end with what it is bound to"));
        }
    }
}
