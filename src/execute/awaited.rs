//! What a step that was done still waits for, by what a look has shown.

use crate::model::StepKind;
use crate::model::observed::{ObservedCluster, PodPhase, WorkloadState};

use super::protocol::Answer;
use super::room;

/// After so many seconds a device that was there before is not waited for any more: the plugin was started anew, and may
/// know why it does not offer it.
const REFRESH_S: u64 = 60;

/// What becomes of a step whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It has failed.
    Fails,
    /// What was done is taken back, and it is planned anew.
    Holds,
    /// It has done what it can.
    Ends,
}

/// What is waited for, for how many seconds, and what then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) missing: Vec<String>,
    pub(super) timeout_s: u64,
    pub(super) late: Late,
}

/// What a step waits for; `None`: the answer tells nothing of it. `drain_s` is the policy's time, `made` whether the plan
/// has made anything so far.
pub(super) fn awaited(kind: &StepKind, answer: &Answer, drain_s: u64, made: bool) -> Option<Awaited> {
    let (missing, timeout_s, late) = match (kind, answer) {
        (StepKind::AwaitGone { pods, timeout_s }, Answer::Pods(found)) => {
            // Who has ended holds nothing, also where somebody keeps the object.
            let still = pods
                .iter()
                .filter(|(id, uid)| found.get(*id).is_some_and(|pod| pod.uid == **uid && pod.phase != PodPhase::Ended));
            (still.map(|(id, _)| format!("pod {id}")).collect(), *timeout_s, Late::Fails)
        }
        (StepKind::AwaitReady { workloads, timeout_s }, Answer::Cluster(cluster)) => {
            // A workload that was deleted or scaled down meanwhile is nobody's to wait for.
            let short = workloads.iter().filter(|(key, before)| {
                find(cluster, key).is_some_and(|workload| workload.ready < (**before).min(workload.replicas))
            });
            (short.map(|(key, _)| room::pending(key, cluster)).collect(), *timeout_s, Late::Fails)
        }
        (StepKind::DrainCommand { workload } | StepKind::ResumeCommand { workload, .. }, Answer::Holds(holds)) => {
            (if *holds { Vec::new() } else { vec![workload.clone()] }, drain_s, Late::Fails)
        }
        // Whoever is not admitted by then will be, or not: another plan sees it.
        (StepKind::Taint, Answer::Missing(missing)) => (missing.clone(), drain_s, Late::Holds),
        (StepKind::RefreshClients, Answer::Missing(missing)) if !made => {
            (missing.clone(), drain_s.min(REFRESH_S), Late::Ends)
        }
        (_, Answer::Missing(missing)) => (missing.clone(), drain_s, Late::Fails),
        _ => return None,
    };
    Some(Awaited { missing, timeout_s, late })
}

fn find<'a>(cluster: &'a ObservedCluster, key: &str) -> Option<&'a WorkloadState> {
    cluster.workloads.iter().find(|w| format!("{} {}/{}", w.kind, w.namespace, w.name) == key)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::model::Pod;
    use crate::model::observed::Known;

    const DRAIN_S: u64 = 300;

    fn something() -> Answer {
        Answer::Missing(vec!["something".to_owned()])
    }

    /// For how long something is waited for, and what then.
    fn limits(kind: &StepKind, made: bool) -> (u64, Late) {
        let Awaited { missing, timeout_s, late } = awaited(kind, &something(), DRAIN_S, made).unwrap();
        assert_eq!(missing, ["something"]);
        (timeout_s, late)
    }

    #[test]
    fn a_pod_that_is_not_admitted_in_time_does_not_fail_the_node() {
        assert_eq!(limits(&StepKind::Taint, false), (DRAIN_S, Late::Holds));
        assert_eq!(limits(&StepKind::StandDown, false), (DRAIN_S, Late::Fails));
        let pause = StepKind::PauseClients { units: Vec::new(), commands: Vec::new() };
        assert_eq!(limits(&pause, false), (DRAIN_S, Late::Fails));
    }

    #[test]
    fn a_device_that_the_plugin_never_offers_does_not_fail_a_node_where_nothing_was_made() {
        assert_eq!(limits(&StepKind::RefreshClients, false), (REFRESH_S, Late::Ends));
        let quick = awaited(&StepKind::RefreshClients, &something(), 5, false).unwrap();
        assert_eq!((quick.timeout_s, quick.late), (5, Late::Ends));
        // What was made must be offered.
        assert_eq!(limits(&StepKind::RefreshClients, true), (DRAIN_S, Late::Fails));
        let resume = StepKind::ResumeClients { units: Vec::new(), commands: Vec::new() };
        assert_eq!(limits(&resume, true), (DRAIN_S, Late::Fails));
    }

    fn pod(name: &str, phase: PodPhase) -> (String, Pod) {
        let pod = Pod {
            namespace: "x".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            node: Some("n".to_owned()),
            phase,
            owner: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            requests: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            barred: BTreeSet::new(),
            devices: Known::Unknown,
            empty_dir: false,
            mirror: false,
            grace_period_s: 30,
            budgets: BTreeSet::new(),
            admitted: true,
            unschedulable: None,
            shared_claims: BTreeSet::new(),
        };
        (pod.id(), pod)
    }

    #[test]
    fn a_pod_that_has_ended_is_not_waited_for_while_somebody_keeps_its_object() {
        let uid = |name: &str| (format!("x/{name}"), format!("uid-of-{name}"));
        let mut pods = BTreeMap::from(["kept", "leaving", "gone"].map(uid));
        pods.insert("x/anew".to_owned(), "the one before".to_owned());
        let found = [
            pod("kept", PodPhase::Ended),
            pod("leaving", PodPhase::Terminating),
            pod("anew", PodPhase::Running),
            pod("other", PodPhase::Running),
        ];
        let gone = StepKind::AwaitGone { pods, timeout_s: 7 };
        let told = awaited(&gone, &Answer::Pods(found.into()), DRAIN_S, false).unwrap();
        assert_eq!(told, Awaited { missing: vec!["pod x/leaving".to_owned()], timeout_s: 7, late: Late::Fails });
        // An answer to something else tells nothing.
        assert_eq!(awaited(&gone, &Answer::Done, DRAIN_S, false), None);
    }
}
