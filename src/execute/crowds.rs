//! Whom a node waits for after it has moved pods: those that came in their place, whichever of the workload's they are.
//!
//! Several nodes may move pods of one workload at once. That as many are ready as when a node was planned tells it nothing
//! then: too few were, or too few will be while others go on. So it remembers who was not ready before its first eviction,
//! and waits for everybody else who is not ready once all have come.
//!
//! Pods of a workload stand in for each other: where instances were lacking before, one that had found no node may be given
//! the place that was meant for a moved one, which then finds none, for ever. So one that lacked a node before and is ready
//! now makes up for one that lacks a node now, unless that gets one soon.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::observed::{ObservedCluster, Pod, PodPhase, WorkloadState};

/// A pod that gets a node within so many seconds gets it from whoever still makes the instance that it waits for.
const SOON_S: i64 = 60;

/// The workloads of the pods that are moved next, each by `kind namespace/name`.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowds(BTreeMap<String, Crowd>);

#[derive(Clone, Debug)]
struct Crowd {
    /// The pods that were not ready before, by UID: others wait for them. Whether each lacked a node.
    unready: BTreeMap<String, bool>,
    /// How many pods there were, those included that were ending: so many there will be again.
    pods: usize,
    /// Whom it waits for, by UID; `None`: not all have come yet.
    awaited: Option<BTreeSet<String>>,
    /// Those of them that were seen ready, or leaving: whoever moved them on waits for what comes in their place.
    over: BTreeSet<String>,
    /// When it was first seen that some of them are not ready.
    since: Option<Timestamp>,
}

impl Crowds {
    /// Remembers workloads as they are before the first of their pods is moved.
    pub(super) fn remember<'a>(&mut self, keys: impl Iterator<Item = &'a String>, cluster: &ObservedCluster) {
        for key in keys {
            self.0.entry(key.clone()).or_insert_with(|| {
                let unready = live(key, cluster).filter(|pod| pod.phase != PodPhase::Running);
                Crowd {
                    unready: unready.map(|pod| (pod.uid.clone(), pod.node.is_none())).collect(),
                    pods: pods(key, cluster).filter(|pod| pod.phase != PodPhase::Ended).count(),
                    awaited: None,
                    over: BTreeSet::new(),
                    since: None,
                }
            });
        }
    }

    /// Forgets all that was remembered: the next ones that are moved come after.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether a workload still lacks pods that came in the place of moved ones. Of one that was not remembered, so many of
    /// whose pods were ready when it was planned.
    pub(super) fn lacks(&mut self, key: &str, planned: u32, cluster: &ObservedCluster, now: Timestamp) -> bool {
        // One that was deleted or scaled down meanwhile is nobody's to wait for.
        let Some(workload) = find(key, cluster) else { return false };
        let Some(crowd) = self.0.get_mut(key) else { return workload.ready < planned.min(workload.replicas) };
        let all = crowd.pods.min(usize::try_from(workload.replicas).unwrap_or(usize::MAX));
        let seen = pods(key, cluster).filter(|pod| matches!(pod.phase, PodPhase::Running | PodPhase::Terminating));
        crowd.over.extend(seen.map(|pod| pod.uid.clone()));
        let here: BTreeSet<&str> = live(key, cluster).map(|pod| pod.uid.as_str()).collect();
        // One that failed before it was ready is made up for by another one, which is waited for.
        let failed = |uid: &String| !here.contains(uid.as_str()) && !crowd.over.contains(uid);
        if crowd.awaited.as_ref().is_some_and(|awaited| awaited.iter().any(failed)) {
            crowd.awaited = None;
        }
        if crowd.awaited.is_none() && here.len() >= all {
            let new = live(key, cluster).filter(|pod| !crowd.unready.contains_key(&pod.uid));
            crowd.awaited = Some(new.map(|pod| pod.uid.clone()).collect());
        }
        let Some(awaited) = &crowd.awaited else { return true };
        let lacking = live(key, cluster).filter(|pod| pod.phase != PodPhase::Running && awaited.contains(&pod.uid));
        let (placed, unplaced): (Vec<&Pod>, Vec<&Pod>) = lacking.partition(|pod| pod.node.is_some());
        let since = *crowd.since.get_or_insert(now);
        let soon = now.duration_since(since).as_secs() < SOON_S;
        let made_up = |pod: &&Pod| pod.phase == PodPhase::Running && crowd.unready.get(&pod.uid) == Some(&true);
        !placed.is_empty() || unplaced.len() > if soon { 0 } else { live(key, cluster).filter(made_up).count() }
    }
}

fn find<'a>(key: &str, cluster: &'a ObservedCluster) -> Option<&'a WorkloadState> {
    cluster.workloads.iter().find(|w| format!("{} {}/{}", w.kind, w.namespace, w.name) == key)
}

fn pods<'a>(key: &'a str, cluster: &'a ObservedCluster) -> impl Iterator<Item = &'a Pod> {
    let owned =
        move |pod: &&Pod| pod.owner.as_ref().is_some_and(|o| format!("{} {}/{}", o.kind, pod.namespace, o.name) == key);
    cluster.pods.iter().filter(owned)
}

fn live<'a>(key: &'a str, cluster: &'a ObservedCluster) -> impl Iterator<Item = &'a Pod> {
    pods(key, cluster).filter(|pod| matches!(pod.phase, PodPhase::Pending | PodPhase::Running))
}
