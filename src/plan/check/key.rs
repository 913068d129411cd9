//! Whether a GPU could become what is wanted and lose less, all other GPUs becoming what they do: every subset of what
//! is there is tried.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::model::desired::{DesiredNode, Goal};
use crate::model::geometry::{Geometry, Placement};
use crate::model::observed::{Known, ObservedGpu, ObservedNode, User};
use crate::model::plan::{GpuPlan, NodePlan};
use crate::model::profile::ProfileName;

use super::super::cost;
use super::goal::{self, Kind};
use super::{Findings, Invariant, rules};

/// An instance, or the whole of a GPU: what it weighs and who is on it.
struct Thing {
    weight: u64,
    /// Who it is that nobody could see is one of its own.
    users: BTreeSet<String>,
}

/// A GPU and who is on it.
struct Scene<'a> {
    gpu: &'a ObservedGpu,
    instances: Vec<(Kind, Placement, Thing)>,
    whole: Thing,
}

/// Looks at every GPU that is cut, and at every GPU that an entry with `count` could have had instead.
pub(super) fn check(
    wanted: &DesiredNode,
    seen: &ObservedNode,
    cluster: &rules::Cluster<'_>,
    plan: &NodePlan,
    found: &mut Findings,
) {
    if plan.gpus.iter().all(|g| g.destroy.is_empty() && g.create.is_empty()) {
        return;
    }
    let restless = goal::restless(wanted, seen);
    let scenes: Vec<Scene<'_>> = seen.gpus.iter().map(|gpu| scene(wanted, cluster, gpu, &restless)).collect();
    let losses: Vec<(u64, BTreeSet<String>)> =
        scenes.iter().zip(&plan.gpus).map(|(scene, listed)| scene.loss(listed)).collect();
    for (at, ((scene, listed), (lost, users))) in scenes.iter().zip(&plan.gpus).zip(&losses).enumerate() {
        let Some(Goal::Instances(wants)) = goal::goal_of(wanted, listed) else { continue };
        let Some(geometry) = &scene.gpu.geometry else { continue };
        let Some(kinds) = goal::kinds(geometry, wants) else { continue };
        let elsewhere =
            || losses.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, (_, users))| users);
        let others: BTreeSet<String> = elsewhere().chain(&restless).cloned().collect();
        // What is not proved may disturb more than need be, and still keeps as much on each GPU.
        let alone = if plan.optimal { users.difference(&others).count() } else { 0 };
        if *lost > 0 && scene.loses_less(geometry, &kinds, &others, (*lost, alone, listed.create.len())) {
            found.add(Invariant::KeptMost, None, format!("{} could keep more of what is there", listed.uuid));
        }
        if !scene.gpu.recorded.is_empty() && scene.returns_more(geometry, &kinds, listed) {
            let message = format!("{} could put more back where it was recorded", listed.uuid);
            found.add(Invariant::KeptMost, None, message);
        }
        // An entry with `count` takes no GPU that loses more than one that is left alone would.
        let entry = wanted.shared.iter().find(|entry| Some(&entry.source) == listed.source.as_ref());
        let Some(entry) = entry.filter(|_| *lost > 0 && plan.optimal) else { continue };
        for (other, _) in scenes.iter().zip(&plan.gpus).filter(|(_, listed)| !listed.managed) {
            let may = other.gpu.mig.capable && entry.eligible.contains(&other.gpu.uuid);
            let Some(geometry) = other.gpu.geometry.as_ref().filter(|_| may) else { continue };
            let kinds = goal::kinds(geometry, wants);
            if kinds.is_some_and(|kinds| other.loses_less(geometry, &kinds, &others, (*lost, 0, 0))) {
                let message = format!("{} would lose less than {}", other.gpu.uuid, listed.uuid);
                found.add(Invariant::KeptMost, None, message);
            }
        }
    }
}

fn scene<'a>(
    wanted: &DesiredNode,
    cluster: &rules::Cluster<'_>,
    gpu: &'a ObservedGpu,
    restless: &BTreeSet<String>,
) -> Scene<'a> {
    let thing = |users: &Known<Vec<User>>, name: &dyn Fn() -> String, idle: u64| match users {
        Known::Unknown => Thing { weight: idle + cost::REFUSED, users: BTreeSet::from([name()]) },
        Known::Known(users) => {
            let of = |u: &User| match rules::spared(wanted, cluster, u) {
                _ if restless.contains(&u.to_string()) => 0,
                Some(_) => cost::REFUSED,
                None => cost::USER,
            };
            // A user that is named twice is one.
            let users: BTreeSet<&User> = users.iter().collect();
            let weight = idle + users.iter().map(|user| of(user)).sum::<u64>();
            Thing { weight, users: users.iter().map(ToString::to_string).collect() }
        }
    };
    let instances = gpu.instances.iter().map(|i| {
        let mut compute: Vec<_> = i.compute.iter().map(|c| c.profile).collect();
        compute.sort();
        let name = || format!("? {} {}", gpu.uuid, i.placement.start);
        ((i.profile, None, compute), i.placement, thing(&i.all_users(), &name, cost::IDLE))
    });
    Scene { gpu, instances: instances.collect(), whole: thing(&gpu.users, &|| format!("? {}", gpu.uuid), 0) }
}

impl Scene<'_> {
    /// What a GPU's lists lose, and who is disturbed by that.
    fn loss(&self, listed: &GpuPlan) -> (u64, BTreeSet<String>) {
        let goes = |at: &Placement| listed.destroy.iter().any(|gone| gone.placement() == *at);
        let gone = self.instances.iter().filter(|(_, at, _)| goes(at)).map(|(.., thing)| thing);
        let first = !listed.create.is_empty() && listed.keep.is_empty();
        sum(gone.chain((first || listed.mig.now != listed.mig.then).then_some(&self.whole)))
    }

    /// Whether the wants can be met with a lesser loss, or as much and fewer disturbed beside the others, or as many
    /// and fewer creations.
    fn loses_less(
        &self,
        geometry: &Geometry,
        kinds: &[Kind],
        others: &BTreeSet<String>,
        than: (u64, usize, usize),
    ) -> bool {
        // Boards hold at most 8 instances; past 16 the subsets are too many, and no board is known that has so many.
        let few = self.instances.len().min(16);
        (0..1u32 << few).any(|mask| {
            let stays = |at: usize| at < few && mask >> at & 1 == 1;
            let gone = self.instances.iter().enumerate().filter(|(at, _)| !stays(*at)).map(|(_, (.., thing))| thing);
            let anew = (mask == 0 && !kinds.is_empty()) || !self.gpu.mig.current;
            let (lost, users) = sum(gone.chain(anew.then_some(&self.whole)));
            let created = kinds.len().saturating_sub(mask.count_ones() as usize);
            let kept: Vec<_> = self.instances.iter().enumerate().filter(|(at, _)| stays(*at)).map(|(_, i)| i).collect();
            (lost, users.difference(others).count(), created) < than
                && rest(kinds, kept.iter().map(|(kind, at, _)| (kind, *at))).is_some_and(|rest| {
                    let mut set: Vec<_> = kept.iter().map(|(kind, at, _)| (kind.0, *at)).collect();
                    rules::illegal(geometry, &set).is_none() && rules::completes(geometry, &mut set, &rest, &[], 0)
                })
        })
    }

    /// Whether more of what is created could lie where it was recorded, beside what is kept.
    fn returns_more(&self, geometry: &Geometry, kinds: &[Kind], listed: &GpuPlan) -> bool {
        let meant = |r: &crate::model::Recorded| Some((geometry.resolve(r.profile)?.0.name, r.start));
        let recorded: Vec<(ProfileName, u32)> = self.gpu.recorded.iter().filter_map(meant).collect();
        let back = listed.create.iter().filter(|i| recorded.contains(&(i.profile, i.start))).count();
        let kept = || {
            let stays = |at: &Placement| listed.keep.iter().any(|k| k.placement() == *at);
            self.instances.iter().filter(move |(_, at, _)| stays(at)).map(|(kind, at, _)| (kind, *at))
        };
        let mut set: Vec<_> = kept().map(|(kind, at)| (kind.0, at)).collect();
        back < recorded.len()
            && rest(kinds, kept()).is_some_and(|rest| rules::completes(geometry, &mut set, &rest, &recorded, back + 1))
    }
}

fn sum<'t>(gone: impl Iterator<Item = &'t Thing>) -> (u64, BTreeSet<String>) {
    gone.fold((0, BTreeSet::new()), |(weight, mut users), thing| {
        users.extend(thing.users.iter().cloned());
        (weight + thing.weight, users)
    })
}

/// The wants beside those that what is kept meets; `None`: something that is kept is not wanted.
fn rest<'k>(
    kinds: &[Kind],
    kept: impl Iterator<Item = (&'k Kind, Placement)>,
) -> Option<Vec<(ProfileName, Option<u32>)>> {
    let mut rest: Vec<&Kind> = kinds.iter().collect();
    for ((profile, _, compute), at) in kept {
        let meets = |k: &&Kind| k.0 == *profile && k.2 == *compute && k.1.is_none_or(|start| start == at.start);
        // A want that is fixed to this very place is met by it alone, so it is taken first.
        let best = rest.iter().enumerate().filter(|(_, k)| meets(k)).max_by_key(|(i, k)| (k.1.is_some(), Reverse(*i)));
        let (i, _) = best?;
        rest.remove(i);
    }
    Some(rest.into_iter().map(|(profile, start, _)| (*profile, *start)).collect())
}
