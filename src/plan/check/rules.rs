//! The checker's own reading of the rules: legality of a set, and who may be disturbed.

use std::collections::BTreeMap;

use crate::model::desired::{DesiredNode, Target};
use crate::model::geometry::{Geometry, GpuProfile, Placement};
use crate::model::observed::{ObservedCluster, Pod, PodPhase, User};
use crate::model::policy::{DaemonSets, Policy, Processes};
use crate::model::profile::ProfileName;

/// Why a set of instances can't lie on a GPU together; `None`: it can.
pub(super) fn illegal(geometry: &Geometry, set: &[(ProfileName, Placement)]) -> Option<String> {
    let mut profiles: Vec<&GpuProfile> = Vec::new();
    for (at, (name, placement)) in set.iter().enumerate() {
        let Some(profile) = geometry.profiles.iter().find(|p| p.name == *name) else {
            return Some(format!("the board has no {name}"));
        };
        if placement.size != profile.size || !profile.starts.contains(&placement.start) {
            return Some(format!("{name} can't lie at {}:{}", placement.start, placement.size));
        }
        let clash = set.iter().take(at).find(|(_, other)| {
            let first_behind = placement.start >= other.start + other.size;
            let other_behind = other.start >= placement.start + placement.size;
            !first_behind && !other_behind
        });
        if let Some((other, _)) = clash {
            return Some(format!("{name} at {} overlaps a {other}", placement.start));
        }
        profiles.push(profile);
    }
    for profile in &profiles {
        let count = profiles.iter().filter(|p| p.index == profile.index).count();
        if count > profile.max_instances as usize {
            return Some(format!("{count} of {} are more than {}", profile.name, profile.max_instances));
        }
    }
    if profiles.iter().map(|p| p.slices).sum::<u32>() > geometry.slices {
        return Some("there are not so many compute slices".to_owned());
    }
    let engines = ["decoders", "encoders", "JPEG engines", "optical flow engines"];
    for (kind, (name, total)) in engines.iter().zip(geometry.media).enumerate() {
        let used: u32 = profiles.iter().filter_map(|p| p.engines.media().get(kind).copied().flatten()).sum();
        if total.is_some_and(|total| used > total) {
            return Some(format!("there are not so many {name}"));
        }
    }
    None
}

/// Whether wants can be added to a set, by trying every placement of each, and so many of them where `recorded` says.
pub(super) fn completes(
    geometry: &Geometry,
    set: &mut Vec<(ProfileName, Placement)>,
    rest: &[(ProfileName, Option<u32>)],
    recorded: &[(ProfileName, u32)],
    least: usize,
) -> bool {
    if rest.len() < least {
        return false;
    }
    let Some(((name, fixed), rest)) = rest.split_first() else { return illegal(geometry, set).is_none() };
    let Some(profile) = geometry.profiles.iter().find(|p| p.name == *name) else { return false };
    profile.starts.iter().filter(|start| fixed.is_none_or(|fixed| fixed == **start)).any(|&start| {
        set.push((*name, Placement { start, size: profile.size }));
        let back = usize::from(recorded.contains(&(*name, start)));
        let fine =
            illegal(geometry, set).is_none() && completes(geometry, set, rest, recorded, least.saturating_sub(back));
        set.pop();
        fine
    })
}

/// The cluster, with its pods by namespace and name.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) seen: &'a ObservedCluster,
    pods: BTreeMap<(&'a str, &'a str), &'a Pod>,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(seen: &'a ObservedCluster) -> Self {
        let mut pods = BTreeMap::new();
        for pod in &seen.pods {
            pods.entry((pod.namespace.as_str(), pod.name.as_str())).or_insert(pod);
        }
        Cluster { seen, pods }
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&'a Pod> {
        self.pods.get(&(namespace, name)).copied()
    }
}

/// Why somebody may not be disturbed; `None`: it may.
pub(super) fn spared(wanted: &DesiredNode, cluster: &Cluster<'_>, user: &User) -> Option<&'static str> {
    let defaults = Policy::default();
    let policy = wanted.policy.as_deref().unwrap_or(&defaults);
    match user {
        User::Pod { namespace, name } => {
            let here = |pod: &&Pod| pod.node.as_ref() == Some(&wanted.node);
            let Some(pod) = cluster.pod(namespace, name).filter(here) else {
                return Some("unknown to the API server");
            };
            if pod.phase == PodPhase::Terminating { None } else { spared_pod(policy, pod) }
        }
        User::Unit(name) => {
            let bound =
                wanted.bindings.iter().any(|b| matches!(&b.target, Target::Systemd { unit, .. } if unit == name));
            (!bound).then_some("no binding names the unit")
        }
        User::Command(name) => {
            let bound = wanted.bindings.iter().any(|b| matches!(b.target, Target::Command { .. }) && b.name == *name);
            (!bound).then_some("no binding names the command")
        }
        User::Process { .. } => {
            (policy.protect.processes != Processes::Terminate).then_some("processes may not be ended")
        }
    }
}

fn spared_pod(policy: &Policy, pod: &Pod) -> Option<&'static str> {
    let says = |key: &str, value: &str| pod.annotations.get(key).map(String::as_str) == Some(value);
    let protected = policy.protect.pods.iter().any(|selector| {
        let labels = selector.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        labels && selector.namespace.as_ref().is_none_or(|glob| globbed(glob.as_bytes(), pod.namespace.as_bytes()))
    });
    let daemon = pod.owner.as_ref().is_some_and(|owner| owner.kind == "DaemonSet");
    let rules = [
        (pod.mirror, "a mirror pod"),
        (!pod.shared_claims.is_empty(), "one of several that hold a claim"),
        (protected, "protected"),
        (
            policy.protect.annotations
                && (says("sectile.dev/do-not-disrupt", "true")
                    || says("karpenter.sh/do-not-disrupt", "true")
                    || says("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")),
            "annotated",
        ),
        (pod.owner.is_none() && !policy.drain.force, "without a controller"),
        (daemon && policy.drain.daemonsets == DaemonSets::Refuse, "a DaemonSet's"),
        (pod.empty_dir && !policy.drain.delete_emptydir_data, "with emptyDir data"),
    ];
    rules.into_iter().find_map(|(holds, why)| holds.then_some(why))
}

/// The textbook matcher of `*` and `?`, by dynamic programming.
fn globbed(glob: &[u8], text: &[u8]) -> bool {
    let mut reach: Vec<bool> = (0..=text.len()).map(|n| n == 0).collect();
    for &g in glob {
        let mut next = vec![false; reach.len()];
        for at in 0..next.len() {
            let here = reach.get(at).copied().unwrap_or(false);
            let before = at.checked_sub(1);
            let value = if g == b'*' {
                here || before.and_then(|b| next.get(b).copied()).unwrap_or(false)
            } else {
                let fits = before.and_then(|b| text.get(b)).is_some_and(|&c| g == b'?' || g == c);
                fits && before.and_then(|b| reach.get(b).copied()).unwrap_or(false)
            };
            if let Some(slot) = next.get_mut(at) {
                *slot = value;
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

/// Counts of equal things.
pub(super) fn counts<T: Ord>(things: impl IntoIterator<Item = T>) -> BTreeMap<T, u32> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}
