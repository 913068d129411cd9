//! The simulated cluster behind its port.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::observed::{Known, MigStrategy, NodeInCluster, PodPhase};
use sectile::model::policy::Allocation;
use sectile::model::{Affinity, Bind, Digest, Object};
use sectile::ports::{Clock, Cluster, Eviction, Port, Removal};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::lock;

use crate::ready::{budget, node, ready, shared, workload};

const EVICT: Removal = Removal { grace_period_s: None, delete: false, dry_run: false };

/// Whose taint and pause it is.
fn plan() -> Digest {
    Digest::of([b"plan".as_slice()])
}

/// What is advertised.
fn advertised(node: &NodeInCluster) -> &BTreeSet<String> {
    node.advertised.known().unwrap()
}

fn cluster(fleet: &str) -> SimCluster {
    SimCluster { world: shared(fleet) }
}

fn remove(cluster: &SimCluster, name: &str, how: Removal) -> Port<Eviction> {
    let uid = lock(&cluster.world).pods[&format!("x/{name}")].uid.clone();
    ready(cluster.remove_pod("x", name, &uid, how))
}

/// What a binding says of a workload.
fn bind(kind: &str, name: &str, profile: &str, per_replica: u32) -> Bind {
    let (version, path) = Object::known(kind).unwrap();
    Bind {
        binding: name.to_owned(),
        object: Object {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: "x".to_owned(),
            name: name.to_owned(),
            path: path.to_owned(),
        },
        container: None,
        profile: profile.parse().unwrap(),
        per_replica,
        strategy: MigStrategy::Mixed,
        allocation: Allocation::DevicePlugin,
        affinity: Affinity::default(),
    }
}

/// Two pods run under a budget.
fn two(max_unavailable: u32) -> SimCluster {
    let fleet = node("a", &["1g.10gb", "1g.10gb", "1g.10gb"]);
    let cluster = cluster(&(fleet + &workload("StatefulSet", "w", 2, "1g.10gb", "") + &budget("w", max_unavailable)));
    lock(&cluster.world).pass(10_000);
    cluster
}

fn allowed(cluster: &SimCluster) -> u32 {
    ready(cluster.observe()).unwrap().budgets[0].allowed
}

#[test]
fn a_budget_allows_what_is_not_unavailable_already() {
    let cluster = two(1);
    assert_eq!(allowed(&cluster), 1);
    assert_eq!(remove(&cluster, "w-0", EVICT), Ok(Eviction::Accepted));
    assert_eq!(allowed(&cluster), 0);
    assert_eq!(remove(&cluster, "w-1", EVICT), Ok(Eviction::TooMany { retry_after_s: None }));
    lock(&cluster.world).pass(10_000);
    // The new one is there, and until it runs it counts as unavailable.
    assert_eq!(lock(&cluster.world).pods["x/w-0"].phase, PodPhase::Pending);
    assert_eq!(remove(&cluster, "w-1", EVICT), Ok(Eviction::TooMany { retry_after_s: None }));
    lock(&cluster.world).pass(5_000);
    assert_eq!(allowed(&cluster), 1);
    assert_eq!(remove(&cluster, "w-1", EVICT), Ok(Eviction::Accepted));
    // Never below nothing.
    assert_eq!(allowed(&two(0)), 0);
}

#[test]
fn what_does_not_run_is_no_loss_to_a_budget_and_deletion_asks_none() {
    let cluster = two(0);
    assert_eq!(remove(&cluster, "w-0", EVICT), Ok(Eviction::TooMany { retry_after_s: None }));
    let delete = Removal { grace_period_s: Some(2), delete: true, dry_run: false };
    assert_eq!(remove(&cluster, "w-0", delete), Ok(Eviction::Accepted));
    // Evicting one that terminates already is accepted.
    assert_eq!(remove(&cluster, "w-0", EVICT), Ok(Eviction::Accepted));
    lock(&cluster.world).pass(2_000);
    assert_eq!(lock(&cluster.world).pods["x/w-0"].phase, PodPhase::Pending, "the shorter grace holds");
    let uid = lock(&cluster.world).pods["x/w-0"].uid.clone();
    assert_eq!(remove(&cluster, "w-0", EVICT), Ok(Eviction::Accepted));
    assert_ne!(lock(&cluster.world).pods["x/w-0"].uid, uid, "a pod that starts goes at once, and is made again");
    lock(&cluster.world).pods.get_mut("x/w-1").unwrap().phase = PodPhase::Ended;
    assert_eq!(remove(&cluster, "w-1", EVICT), Ok(Eviction::Accepted));
}

#[test]
fn two_budgets_on_one_pod_are_an_error_of_the_server() {
    let cluster = two(1);
    let mut second = lock(&cluster.world).budgets[0].clone();
    second.name = "again".into();
    lock(&cluster.world).budgets.push(second);
    let error = remove(&cluster, "w-0", EVICT).unwrap_err();
    assert_eq!((error.code.as_str(), error.transient), ("500", false));
}

#[test]
fn gone_is_404_or_another_uid() {
    let cluster = two(1);
    assert_eq!(ready(cluster.remove_pod("x", "w-9", "u", EVICT)), Ok(Eviction::Gone));
    assert_eq!(ready(cluster.remove_pod("x", "w-0", "u", EVICT)), Ok(Eviction::Gone));
    assert_eq!(ready(cluster.pod("x", "w-9")), Ok(None));
    assert_eq!(ready(cluster.pod("x", "w-0")).unwrap().unwrap().phase, PodPhase::Running);
}

#[test]
fn a_mirror_pod_is_made_again_and_never_stops() {
    let cluster = two(1);
    lock(&cluster.world).pods.get_mut("x/w-0").unwrap().mirror = true;
    let before = lock(&cluster.world).pods["x/w-0"].clone();
    assert_eq!(remove(&cluster, "w-0", EVICT), Ok(Eviction::Accepted));
    let after = lock(&cluster.world).pods["x/w-0"].clone();
    assert_ne!(before.uid, after.uid);
    assert_eq!((before.phase, before.devices), (after.phase, after.devices));
}

#[test]
fn it_tells_pods_workloads_and_what_is_free() {
    let fleet = node("a", &["1g.10gb", "1g.10gb", "2g.20gb"]) + "[[node]]\nname = \"metal\"\ncluster = false\n";
    let cluster = cluster(&(fleet + &workload("Deployment", "w", 1, "1g.10gb", "labels = { app = \"w\" }")));
    lock(&cluster.world).pass(10_000);
    let observed = ready(cluster.observe()).unwrap();
    assert_eq!(observed.pods.len(), 1);
    let pod = &observed.pods[0];
    assert_eq!((pod.namespace.as_str(), pod.node.as_deref(), pod.labels["app"].as_str()), ("x", Some("a"), "w"));
    assert!(matches!(&pod.devices, Known::Known(devices) if devices.len() == 1));
    assert_eq!(pod.grace_period_s, 10);
    let state = &observed.workloads[0];
    assert_eq!((state.replicas, state.ready, state.requests["nvidia.com/mig-1g.10gb"]), (1, 1, 1));
    let free = BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), 1), ("nvidia.com/mig-2g.20gb".to_owned(), 1)]);
    assert_eq!(observed.free, BTreeMap::from([("a".to_owned(), free)]));
    assert_eq!(ready(cluster.holders("a")).unwrap(), observed.pods);
    assert_eq!(ready(cluster.holders("metal")), Ok(vec![]));
    assert_eq!(ready(cluster.labels("a")).unwrap().unwrap()["pool"], "a");
    for unknown in ["metal", "nowhere"] {
        assert_eq!(ready(cluster.node(unknown)), Ok(None));
        assert_eq!(ready(cluster.labels(unknown)), Ok(None));
        assert_eq!(ready(cluster.set_taint(unknown, Some(&plan()))).unwrap_err().code, "404");
        assert_eq!(ready(cluster.set_clients_paused(unknown, Some(&plan()))).unwrap_err().code, "404");
    }
}

#[test]
fn paused_clients_offer_nothing_and_resumed_ones_what_is_there_then() {
    let cluster = cluster(&(node("a", &["1g.10gb", "1g.10gb"]) + &workload("Deployment", "w", 1, "2g.20gb", "")));
    let at = |cluster: &SimCluster| ready(cluster.node("a")).unwrap().unwrap();
    assert_eq!(at(&cluster).allocatable, BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), 2)]));
    assert_eq!(advertised(&at(&cluster)).len(), 2);
    ready(cluster.set_clients_paused("a", Some(&plan()))).unwrap();
    let paused = at(&cluster);
    assert!(paused.clients_paused && advertised(&paused).is_empty());
    // The kubelet leaves the resource, with nothing of it.
    assert_eq!(paused.allocatable, BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), 0)]));
    let made = lock(&cluster.world).place("a", 0, "2g.20gb".parse().unwrap(), 2, None).unwrap();
    let before = lock(&cluster.world).clock_ms;
    ready(cluster.set_clients_paused("a", None)).unwrap();
    assert_eq!(lock(&cluster.world).clock_ms - before, 4_300);
    let resumed = at(&cluster);
    assert!(!resumed.clients_paused && advertised(&resumed).contains(&made[0]));
    assert_eq!(resumed.allocatable["nvidia.com/mig-2g.20gb"], 1);
    // The pod that waited for it has it.
    assert_eq!(ready(cluster.holders("a")).unwrap().len(), 1);
    // Resuming what is not paused takes no time and tells nothing new.
    ready(cluster.set_clients_paused("a", None)).unwrap();
    assert_eq!(lock(&cluster.world).clock_ms - before, 4_300);
}

#[test]
fn how_long_clients_take_may_be_told_otherwise() {
    let cluster = cluster(&(node("a", &[]) + "[fault.latency]\nclients = \"9s\"\n"));
    let before = lock(&cluster.world).clock_ms;
    ready(cluster.set_clients_paused("a", Some(&plan()))).unwrap();
    ready(cluster.set_clients_paused("a", None)).unwrap();
    assert_eq!(lock(&cluster.world).clock_ms - before, 9_000);
}

#[test]
fn a_taint_keeps_new_pods_off() {
    let cluster = cluster(&(node("a", &["1g.10gb"]) + &workload("Deployment", "w", 0, "1g.10gb", "")));
    ready(cluster.set_taint("a", Some(&plan()))).unwrap();
    assert!(ready(cluster.node("a")).unwrap().unwrap().tainted);
    lock(&cluster.world).workloads[0].replicas = 1;
    lock(&cluster.world).pass(60_000);
    assert_eq!(ready(cluster.holders("a")), Ok(vec![]));
    // Free instances of tainted nodes are told too.
    assert_eq!(ready(cluster.observe()).unwrap().free["a"]["nvidia.com/mig-1g.10gb"], 1);
    ready(cluster.set_taint("a", None)).unwrap();
    assert_eq!(ready(cluster.holders("a")).unwrap().len(), 1);
}

#[test]
fn a_binding_sets_the_template_and_the_workload_rolls() {
    let fleet = node("a", &["1g.10gb", "2g.20gb"]);
    let cluster =
        cluster(&(fleet + &workload("Deployment", "w", 1, "1g.10gb", "") + &workload("Job", "j", 0, "1g.10gb", "")));
    lock(&cluster.world).pass(10_000);
    ready(cluster.bind(&bind("Deployment", "w", "2g.20gb", 1), "r1", false)).unwrap();
    let requests = || ready(cluster.observe()).unwrap().workloads[0].requests.clone();
    assert_eq!(requests(), BTreeMap::from([("nvidia.com/mig-2g.20gb".to_owned(), 1)]));
    assert_eq!(ready(cluster.observe()).unwrap().pods.len(), 2, "it surges");
    lock(&cluster.world).pass(60_000);
    let pods = ready(cluster.observe()).unwrap().pods;
    assert_eq!((pods.len(), pods[0].requests.clone()), (1, requests()));
    ready(cluster.bind(&bind("Deployment", "w", "2g.20gb", 1), "r1", false)).unwrap();
    assert_eq!(ready(cluster.observe()).unwrap().pods, pods, "the same again changes nothing");
    let code = |kind, name, profile| ready(cluster.bind(&bind(kind, name, profile, 1), "r1", false)).unwrap_err().code;
    assert_eq!(code("Deployment", "nobody", "1g.10gb"), "404");
    assert_eq!(code("Job", "j", "2g.20gb"), "422");
    assert_eq!(ready(cluster.bind(&bind("Job", "j", "1g.10gb", 1), "r1", false)), Ok(()), "nothing to change");
}

#[test]
fn sleeping_moves_the_clock_and_rounds_up() {
    let world = shared(&node("a", &[]));
    let clock = SimClock { world };
    let now = clock.now();
    assert_eq!(now.to_string(), "2026-01-01T00:00:00Z");
    let then = now + jiff::SignedDuration::from_micros(1_500);
    ready(clock.sleep_until(then));
    assert_eq!(clock.now(), now + jiff::SignedDuration::from_millis(2));
    ready(clock.sleep_until(now));
    assert!(clock.now() > now);
}

#[test]
fn what_was_there_before_a_binding_comes_back() {
    let fleet = node("a", &["1g.10gb", "2g.20gb"]) + &workload("Deployment", "w", 1, "1g.10gb", "");
    let cluster = cluster(&fleet);
    let asks = || {
        lock(&cluster.world).pass(60_000);
        let seen = ready(cluster.observe()).unwrap();
        (seen.pods[0].requests.clone(), seen.bound.known().unwrap().len(), seen.workloads[0].settled)
    };
    let one = |resource: &str| BTreeMap::from([(resource.to_owned(), 1)]);
    let mut wanted = bind("Deployment", "w", "2g.20gb", 1);
    // Asking changes nothing.
    ready(cluster.bind(&wanted, "r1", true)).unwrap();
    assert_eq!(asks(), (one("nvidia.com/mig-1g.10gb"), 0, true));
    ready(cluster.bind(&wanted, "r1", false)).unwrap();
    assert!(!ready(cluster.workload(&wanted.object)).unwrap().unwrap().settled, "its pod is of the old template");
    assert_eq!(asks(), (one("nvidia.com/mig-2g.20gb"), 1, true));
    // Nowhere else than it says: the pod is made anew for it, and finds no node there.
    wanted.affinity.names.insert("b".to_owned());
    ready(cluster.bind(&wanted, "r2", false)).unwrap();
    lock(&cluster.world).pass(60_000);
    let seen = ready(cluster.observe()).unwrap();
    assert_eq!(seen.pods.iter().filter(|pod| pod.unschedulable.is_some()).count(), 1);
    let older = ready(cluster.unbind(&wanted, "r1", false)).unwrap_err();
    assert_eq!(older.to_string(), "the cluster has taken up r2, which is newer than r1: older revision");
    ready(cluster.unbind(&wanted, "r2", false)).unwrap();
    assert_eq!(asks(), (one("nvidia.com/mig-1g.10gb"), 0, true));
    // Once more changes nothing.
    ready(cluster.unbind(&wanted, "r2", false)).unwrap();
}
