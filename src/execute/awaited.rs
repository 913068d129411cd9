//! What a step that was done still waits for, by what a look has shown.

use jiff::Timestamp;

use crate::model::StepKind;
use crate::model::observed::PodPhase;

use super::crowds::Crowds;
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
pub(super) fn awaited(
    kind: &StepKind,
    answer: &Answer,
    drain_s: u64,
    made: bool,
    crowds: &mut Crowds,
    now: Timestamp,
) -> Option<Awaited> {
    let (missing, timeout_s, late) = match (kind, answer) {
        (StepKind::AwaitGone { pods, timeout_s }, Answer::Pods(found)) => {
            // Who has ended holds nothing, also where somebody keeps the object.
            let still = pods
                .iter()
                .filter(|(id, uid)| found.get(*id).is_some_and(|pod| pod.uid == **uid && pod.phase != PodPhase::Ended));
            (still.map(|(id, _)| format!("pod {id}")).collect(), *timeout_s, Late::Fails)
        }
        (StepKind::AwaitReady { workloads, timeout_s }, Answer::Cluster(cluster)) => {
            let short = workloads.iter().filter(|(key, planned)| crowds.lacks(key, **planned, cluster, now));
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::model::Pod;
    use crate::model::observed::{Known, ObservedCluster, Owner, WorkloadState};

    const DRAIN_S: u64 = 300;

    fn something() -> Answer {
        Answer::Missing(vec!["something".to_owned()])
    }

    /// For how long something is waited for, and what then.
    fn limits(kind: &StepKind, made: bool) -> (u64, Late) {
        let Awaited { missing, timeout_s, late } =
            awaited(kind, &something(), DRAIN_S, made, &mut Crowds::default(), Timestamp::UNIX_EPOCH).unwrap();
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
        let quick =
            awaited(&StepKind::RefreshClients, &something(), 5, false, &mut Crowds::default(), Timestamp::UNIX_EPOCH)
                .unwrap();
        assert_eq!((quick.timeout_s, quick.late), (5, Late::Ends));
        // What was made must be offered.
        assert_eq!(limits(&StepKind::RefreshClients, true), (DRAIN_S, Late::Fails));
        let resume = StepKind::ResumeClients { units: Vec::new(), commands: Vec::new() };
        assert_eq!(limits(&resume, true), (DRAIN_S, Late::Fails));
    }

    /// A pod of some name, which has nothing else of interest.
    fn pod(name: &str, phase: PodPhase) -> Pod {
        Pod {
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
        }
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
        let found: BTreeMap<String, Pod> = found.map(|pod| (pod.id(), pod)).into();
        let gone = StepKind::AwaitGone { pods, timeout_s: 7 };
        let told = awaited(&gone, &Answer::Pods(found), DRAIN_S, false, &mut Crowds::default(), Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(told, Awaited { missing: vec!["pod x/leaving".to_owned()], timeout_s: 7, late: Late::Fails });
        // An answer to something else tells nothing.
        assert_eq!(awaited(&gone, &Answer::Done, DRAIN_S, false, &mut Crowds::default(), Timestamp::UNIX_EPOCH), None);
    }

    const KEY: &str = "Deployment x/chat";

    fn owned(name: &str, phase: PodPhase) -> Pod {
        let owner = Owner { kind: "Deployment".to_owned(), name: "chat".to_owned() };
        Pod { owner: Some(owner), ..pod(name, phase) }
    }

    /// A Deployment of four pods; `+` is ready, `-` ends, all others have no node yet.
    fn seen(pods: &str) -> ObservedCluster {
        let pods = pods.split(' ').map(|word| match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(uid), _) => owned(uid, PodPhase::Running),
            (_, Some(uid)) => owned(uid, PodPhase::Terminating),
            _ => Pod { node: None, ..owned(word, PodPhase::Pending) },
        });
        let pods: Vec<Pod> = pods.collect();
        let ready = pods.iter().filter(|pod| pod.phase == PodPhase::Running).count();
        let workload = WorkloadState {
            kind: "Deployment".to_owned(),
            namespace: "x".to_owned(),
            name: "chat".to_owned(),
            replicas: 4,
            ready: u32::try_from(ready).unwrap(),
            ..WorkloadState::default()
        };
        ObservedCluster { pods, workloads: vec![workload], ..ObservedCluster::default() }
    }

    fn lacks(crowds: &mut Crowds, pods: &str) -> bool {
        crowds.lacks(KEY, 4, &seen(pods), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_node_gave_its_place_back_while_its_own_pod_was_down_since_anothers_had_come_up() {
        let mut crowds = Crowds::default();
        // Another node has evicted b, which f replaces; this one evicts d, which h replaces.
        crowds.remember([KEY.to_owned()].iter(), &seen("+a -b +c +d f"));
        assert!(lacks(&mut crowds, "+a +c -d f"), "nobody has come for d");
        assert!(lacks(&mut crowds, "+a +c -d +f h"), "three are ready, as when it was planned, and h is not");
        assert!(!lacks(&mut crowds, "+a +c +f +h"));
    }

    #[test]
    fn a_node_does_not_wait_for_those_whom_others_move_later_or_moved_before() {
        let mut crowds = Crowds::default();
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +c +d f"));
        assert!(lacks(&mut crowds, "+a +c -d f h"));
        // f, which was on its way before, is another's to wait for; so is j, which comes when all had come.
        assert!(lacks(&mut crowds, "+a -c f h j"));
        assert!(!lacks(&mut crowds, "+a f +h j"));
    }

    #[test]
    fn a_pod_that_came_and_was_moved_on_by_another_is_waited_for_by_that_one() {
        let mut crowds = Crowds::default();
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +b +c +d"));
        assert!(lacks(&mut crowds, "+a +b +c h"));
        assert!(!lacks(&mut crowds, "+a +b +c -h j"));
    }

    #[test]
    fn a_workload_that_is_scaled_down_or_deleted_is_not_waited_for_in_vain() {
        let mut crowds = Crowds::default();
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +b +c +d"));
        let scaled = |mut seen: ObservedCluster, replicas| {
            seen.workloads.iter_mut().for_each(|workload| workload.replicas = replicas);
            seen
        };
        assert!(lacks(&mut crowds, "+a +b +c"));
        assert!(!crowds.lacks(KEY, 4, &scaled(seen("+a +b +c"), 3), Timestamp::UNIX_EPOCH));
        assert!(!crowds.lacks(KEY, 4, &ObservedCluster::default(), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn of_a_workload_that_was_not_looked_at_before_so_many_are_ready_as_when_it_was_planned() {
        let mut crowds = Crowds::default();
        assert!(crowds.lacks(KEY, 3, &seen("+a +b c d"), Timestamp::UNIX_EPOCH));
        assert!(!crowds.lacks(KEY, 3, &seen("+a +b +c d"), Timestamp::UNIX_EPOCH));
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +b +c d"));
        crowds.forget();
        assert!(!crowds.lacks(KEY, 2, &seen("+a +b c d"), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_pod_that_had_found_no_node_took_the_place_of_a_moved_one_which_was_waited_for_in_vain() {
        let mut crowds = Crowds::default();
        // Four are wanted, and there are instances for three.
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +b +d x"));
        let later = |s: i64| Timestamp::from_second(s).unwrap();
        // h comes for d, and x gets the place.
        assert!(crowds.lacks(KEY, 3, &seen("+a +b -d x h"), later(0)));
        assert!(crowds.lacks(KEY, 3, &seen("+a +b +x h"), later(59)), "somebody may be making an instance for it");
        assert!(!crowds.lacks(KEY, 3, &seen("+a +b +x h"), later(60)));
        // Nobody has made up for it.
        assert!(crowds.lacks(KEY, 3, &seen("+a +b x h"), later(300)));
        // One that has a node is on its way.
        let mut placed = seen("+a +b +x h");
        placed.pods[3].node = Some("n".to_owned());
        assert!(crowds.lacks(KEY, 3, &placed, later(300)));
    }

    #[test]
    fn a_pod_that_failed_before_it_was_ready_was_taken_for_one_that_others_had_moved_on() {
        let mut crowds = Crowds::default();
        crowds.remember([KEY.to_owned()].iter(), &seen("+a +b +c +d"));
        assert!(lacks(&mut crowds, "+a +b +c -d h"));
        // The kubelet does not admit h, and j comes in its place.
        assert!(lacks(&mut crowds, "+a +b +c"));
        assert!(lacks(&mut crowds, "+a +b +c j"));
        assert!(!lacks(&mut crowds, "+a +b +c +j"));
    }
}
