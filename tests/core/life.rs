//! The cluster's own life: controllers, scheduler, kubelet and the virtual clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sectile::model::observed::PodPhase::{self, Ended, Pending, Running, Terminating};
use sectile::sim::lock;
use sectile::sim::world::{SimPod, World};

use crate::ready::{node, ready, shared, workload, world};

/// Pods of a workload in namespace x: name, phase and node.
fn pods<'a>(world: &'a World, workload: &str) -> Vec<(&'a str, PodPhase, Option<&'a str>)> {
    let of = |pod: &SimPod| pod.owner.as_ref().is_some_and(|owner| owner.name == workload);
    let pods = world.pods.iter().filter(|(_, pod)| of(pod));
    pods.map(|(key, pod)| (key.strip_prefix("x/").unwrap(), pod.phase, pod.node.as_deref())).collect()
}

fn phases(world: &World, workload: &str) -> Vec<PodPhase> {
    pods(world, workload).into_iter().map(|(_, phase, _)| phase).collect()
}

/// Terminates a running pod as an eviction does.
fn evict(world: World, key: &str) -> World {
    use sectile::ports::{Cluster, Eviction, Removal};
    let uid = world.pods[key].uid.clone();
    let world = std::sync::Arc::new(std::sync::Mutex::new(world));
    let cluster = sectile::sim::cluster::SimCluster { world };
    let (namespace, name) = key.split_once('/').unwrap();
    let how = Removal { grace_period_s: None, delete: true, dry_run: false };
    assert_eq!(ready(cluster.remove_pod(namespace, name, &uid, how)), Ok(Eviction::Accepted));
    lock(&cluster.world).clone()
}

fn profile(world: &mut World, workload: usize, profile: &str) {
    world.workloads[workload].profile = Some(profile.parse().unwrap());
    world.pass(0);
}

#[test]
fn a_pod_runs_when_its_start_is_over_and_is_gone_when_its_grace_is() {
    let mut world = world(&(node("a", &["1g.10gb"]) + &workload("Deployment", "w", 1, "1g.10gb", "")));
    assert_eq!(phases(&world, "w"), [Pending]);
    world.pass(4_999);
    assert_eq!(phases(&world, "w"), [Pending]);
    world.pass(1);
    assert_eq!(phases(&world, "w"), [Running]);
    let key = world.pods.keys().next().unwrap().clone();
    let mut world = evict(world, &key);
    // The replacement is made at once, and waits for the device, which the old one holds while its grace runs.
    let mut both = phases(&world, "w");
    both.sort();
    assert_eq!(both, [Pending, Terminating]);
    let waiting = |world: &World| pods(world, "w").iter().filter(|(.., node)| node.is_none()).count();
    world.pass(9_999);
    assert_eq!(waiting(&world), 1);
    world.pass(1);
    assert_eq!((waiting(&world), phases(&world, "w")), (0, vec![Pending]));
    assert!(!world.pods.contains_key(&key));
    world.pass(5_000);
    assert_eq!(phases(&world, "w"), [Running]);
}

#[test]
fn the_clock_never_runs_backwards() {
    let mut world = world(&node("a", &[]));
    let now = world.clock_ms;
    world.advance(now - 1);
    assert_eq!(world.clock_ms, now);
    world.pass(-5);
    assert_eq!(world.clock_ms, now);
    world.advance(now + 7);
    assert_eq!(world.clock_ms, now + 7);
}

#[test]
fn the_scheduler_takes_pods_by_name_and_wants_room_label_and_no_taint() {
    let fleet = node("a", &["1g.10gb"]) + &node("b", &["1g.10gb", "1g.10gb"]);
    let fleet = fleet
        + &workload("StatefulSet", "db", 1, "1g.10gb", "node_selector = { pool = \"b\" }")
        + &workload("StatefulSet", "aa", 1, "1g.10gb", "")
        + &workload("StatefulSet", "zz", 1, "2g.20gb", "")
        + &workload("StatefulSet", "mm", 1, "1g.10gb", "node_selector = { pool = \"c\" }");
    let mut world = world(&fleet);
    assert_eq!(pods(&world, "aa"), [("aa-0", Pending, Some("a"))]);
    assert_eq!(pods(&world, "db"), [("db-0", Pending, Some("b"))]);
    assert_eq!(pods(&world, "zz"), [("zz-0", Pending, None)], "no node has the resource");
    assert_eq!(pods(&world, "mm"), [("mm-0", Pending, None)], "no node has the label");
    world.nodes.get_mut("b").unwrap().tainted = true;
    world.workloads[3].node_selector.clear();
    world.pass(60_000);
    assert_eq!(pods(&world, "mm"), [("mm-0", Pending, None)], "a is full and b is tainted");
    assert_eq!(phases(&world, "db"), [Running], "a taint moves nobody");
    world.nodes.get_mut("b").unwrap().tainted = false;
    world.pass(0);
    assert_eq!(pods(&world, "mm"), [("mm-0", Pending, Some("b"))]);
}

#[test]
fn the_kubelet_gives_the_lowest_slots_and_no_device_twice() {
    let fleet = "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\ncount = 2\nmig = true\n\
        instances = [{ profile = \"1g.10gb\", start = 5 }, { profile = \"1g.10gb\", start = 1 }]\n";
    let world = world(&format!("{fleet}{}", workload("StatefulSet", "w", 1, "1g.10gb", "per_replica = 3")));
    let gpus = &world.nodes["a"].gpus;
    let uuid = |gpu: usize, gi: usize| gpus[gpu].instances[gi].compute[0].uuid.clone();
    let devices: Vec<String> = world.pods["x/w-0"].devices.iter().cloned().collect();
    let mut lowest = vec![uuid(0, 1), uuid(0, 0), uuid(1, 1)];
    lowest.sort();
    assert_eq!(devices, lowest);
    // A running pod's process is nobody's business here: it has none.
    assert!(gpus.iter().flat_map(|g| &g.instances).flat_map(|gi| &gi.compute).all(|ci| ci.processes.is_empty()));
}

#[test]
fn devices_made_later_are_advertised_only_after_a_restart_and_vanished_ones_count_no_more() {
    let fleet = node("a", &["1g.10gb"]) + &workload("StatefulSet", "w", 1, "2g.20gb", "");
    let mut world = world(&fleet);
    world.place("a", 0, "2g.20gb".parse().unwrap(), 2, None).unwrap();
    world.pass(60_000);
    assert_eq!(pods(&world, "w"), [("w-0", Pending, None)]);
    let mut other = world.clone();
    other.nodes.get_mut("a").unwrap().gpus[0].instances.retain(|gi| gi.placement.size == 2);
    profile(&mut other, 0, "1g.10gb");
    assert_eq!(pods(&other, "w"), [("w-0", Pending, None)], "its device is gone");
}

#[test]
fn a_device_of_the_same_uuid_with_another_profile_is_not_what_was_advertised() {
    let fleet = node("a", &["1g.20gb"]) + &workload("StatefulSet", "w", 0, "1g.20gb", "");
    let mut world = world(&fleet);
    let gpu = &mut world.nodes.get_mut("a").unwrap().gpus[0];
    let uuid = gpu.instances[0].compute[0].uuid.clone();
    gpu.instances.clear();
    assert_eq!(world.place("a", 0, "2g.20gb".parse().unwrap(), 0, None).unwrap(), [uuid]);
    world.workloads[0].replicas = 1;
    world.pass(60_000);
    assert_eq!(pods(&world, "w"), [("w-0", Pending, None)]);
}

#[test]
fn a_new_template_of_a_deployment_surges_by_one_and_an_old_pod_goes_when_a_new_one_runs() {
    let fleet = node("a", &["1g.10gb", "1g.10gb", "1g.20gb", "1g.20gb"]);
    let mut world = world(&(fleet + &workload("Deployment", "w", 2, "1g.10gb", "")));
    world.pass(5_000);
    assert_eq!(phases(&world, "w"), [Running, Running]);
    let count = |world: &World, what: PodPhase, resource: &str| {
        let asks = |pod: &&SimPod| pod.phase == what && pod.requests.contains_key(resource);
        world.pods.values().filter(asks).count()
    };
    let (old, new) = ("nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.20gb");
    profile(&mut world, 0, "1g.20gb");
    let state = |w: &World| {
        [count(w, Running, old), count(w, Terminating, old), count(w, Pending, new), count(w, Running, new)]
    };
    assert_eq!(state(&world), [2, 0, 1, 0]);
    world.pass(5_000);
    assert_eq!(state(&world), [1, 1, 1, 1]);
    world.pass(5_000);
    assert_eq!(state(&world), [0, 2, 0, 2]);
    world.pass(10_000);
    assert_eq!(state(&world), [0, 0, 0, 2]);
    // Another template, another hash in the names; the same one, the same.
    let hashes: Vec<&str> = world.pods.keys().map(|key| key.split('-').nth(1).unwrap()).collect();
    assert_eq!(hashes[0], hashes[1]);
    // Nowhere to go: the roll stands still, and the old ones keep running.
    profile(&mut world, 0, "4g.40gb");
    world.pass(600_000);
    assert_eq!(count(&world, Running, new), 2);
    assert_eq!(count(&world, Pending, "nvidia.com/mig-4g.40gb"), 1);
    // Back again: the one that never ran goes at once.
    profile(&mut world, 0, "1g.20gb");
    assert_eq!(phases(&world, "w"), [Running, Running]);
}

#[test]
fn a_stateful_set_keeps_its_names_and_recreates_only_what_is_gone() {
    let fleet = node("a", &["1g.10gb", "1g.10gb", "1g.10gb", "1g.20gb", "1g.20gb"]);
    let mut world = world(&(fleet + &workload("StatefulSet", "w", 2, "1g.10gb", "")));
    assert_eq!(pods(&world, "w"), [("w-0", Pending, Some("a"))], "in order");
    world.pass(5_000);
    assert_eq!(phases(&world, "w"), [Running, Pending]);
    world.pass(5_000);
    let uid = world.pods["x/w-0"].uid.clone();
    let mut world = evict(world, "x/w-0");
    assert_eq!(phases(&world, "w"), [Terminating, Running]);
    world.pass(9_999);
    assert_eq!(world.pods["x/w-0"].uid, uid);
    world.pass(1);
    assert_eq!(phases(&world, "w"), [Pending, Running]);
    assert_ne!(world.pods["x/w-0"].uid, uid);
    world.pass(5_000);
    // A new template: from the highest down, one at a time.
    profile(&mut world, 0, "1g.20gb");
    assert_eq!(phases(&world, "w"), [Running, Terminating]);
    world.pass(10_000);
    assert_eq!(phases(&world, "w"), [Running, Pending]);
    world.pass(5_000);
    assert_eq!(phases(&world, "w"), [Terminating, Running]);
    world.pass(15_000);
    assert_eq!(phases(&world, "w"), [Running, Running]);
    assert!(world.pods.values().all(|pod| pod.requests.contains_key("nvidia.com/mig-1g.20gb")));
}

#[test]
fn a_job_replaces_a_lost_pod_and_a_daemon_set_has_one_on_each_matching_node() {
    let fleet = ["a", "b", "c"].map(|name| node(name, &["1g.10gb", "1g.20gb"])).concat();
    let fleet = fleet + "[[node]]\nname = \"metal\"\ncluster = false\n";
    let fleet = fleet
        + &workload("DaemonSet", "ds", 1, "1g.10gb", "")
        + &workload("Job", "job", 1, "1g.20gb", "node_selector = { pool = \"c\" }");
    let mut world = world(&fleet);
    let nodes: Vec<_> = pods(&world, "ds").into_iter().map(|(.., node)| node.unwrap()).collect();
    assert_eq!(nodes, ["a", "b", "c"]);
    world.pass(5_000);
    let name = pods(&world, "job")[0].0.to_owned();
    let world = evict(world, &format!("x/{name}"));
    assert_eq!(phases(&world, "job").len(), 2);
    let ds = pods(&world, "ds")[1].0.to_owned();
    let mut world = evict(world, &format!("x/{ds}"));
    assert_eq!(phases(&world, "ds"), [Running, Terminating, Running], "a new one when the old one is gone");
    world.nodes.get_mut("b").unwrap().tainted = true;
    world.pass(10_000);
    assert_eq!(phases(&world, "ds"), [Running, Running], "none on a tainted node");
    world.nodes.get_mut("b").unwrap().tainted = false;
    world.pass(5_000);
    assert_eq!(phases(&world, "ds"), [Running; 3]);
    // A new template goes node by node.
    world.workloads[1].replicas = 0;
    world.pass(10_000);
    profile(&mut world, 0, "1g.20gb");
    assert_eq!(phases(&world, "ds"), [Terminating, Running, Running]);
    world.pass(15_000);
    assert_eq!(phases(&world, "ds"), [Running, Terminating, Running]);
    world.pass(60_000);
    assert_eq!(phases(&world, "ds"), [Running; 3]);
    assert!(world.pods.values().all(|pod| pod.requests.contains_key("nvidia.com/mig-1g.20gb")));
}

#[test]
fn fewer_replicas_take_those_that_do_not_run_first() {
    let mut world = world(&(node("a", &["1g.10gb"]) + &workload("Deployment", "w", 3, "1g.10gb", "")));
    world.pass(5_000);
    world.workloads[0].replicas = 1;
    world.pass(0);
    assert_eq!(phases(&world, "w"), [Running]);
}

#[test]
fn a_pod_without_a_controller_does_not_come_back_and_an_ended_one_is_replaced() {
    let fleet = node("a", &["2g.20gb"]).replace("\"2g.20gb\"", "\"2g.20gb\", users = [\"pod:x/lone\"]");
    let world = world(&(fleet + &workload("Deployment", "w", 1, "1g.10gb", "")));
    let mut world = evict(world, "x/lone");
    world.pass(600_000);
    assert!(!world.pods.contains_key("x/lone"));
    let key = world.pods.keys().next().unwrap().clone();
    world.pods.get_mut(&key).unwrap().phase = Ended;
    world.pass(0);
    let mut two = phases(&world, "w");
    two.sort();
    assert_eq!(two, [Pending, Ended]);
}

#[test]
fn a_split_instance_is_no_resource_and_a_gpu_without_mig_is_one() {
    let fleet = "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n\
        instances = [{ profile = \"3g.40gb\", compute = [\"1c.3g.40gb\", \"2c.3g.40gb\"] }, { profile = \"3g.40gb\" }]\n";
    let shared = shared(fleet);
    let world = lock(&shared);
    let names: Vec<&str> = world.nodes["a"].advertised.values().map(String::as_str).collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    assert_eq!(counts, BTreeMap::from([("nvidia.com/gpu", 1), ("nvidia.com/mig-3g.40gb", 1)]));
}

/// Something that happens to the world from outside.
#[derive(Clone, Debug)]
enum Act {
    Evict(usize),
    Bind(usize, usize),
    Taint(usize, bool),
    Pause(usize, bool),
    Replicas(usize, u32),
    Create(usize, usize, u32),
    Destroy(usize, usize),
    Drain(usize),
}

const PROFILES: [&str; 4] = ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0usize..9).prop_map(Act::Evict),
        (0usize..4, 0usize..4).prop_map(|(w, p)| Act::Bind(w, p)),
        (0usize..3, any::<bool>()).prop_map(|(n, on)| Act::Taint(n, on)),
        (0usize..3, any::<bool>()).prop_map(|(n, on)| Act::Pause(n, on)),
        (0usize..4, 0u32..4).prop_map(|(w, n)| Act::Replicas(w, n)),
        (0usize..3, 0usize..4, 0u32..8).prop_map(|(n, p, s)| Act::Create(n, p, s)),
        (0usize..3, 0usize..4).prop_map(|(n, at)| Act::Destroy(n, at)),
        (0usize..3).prop_map(Act::Drain),
    ]
}

fn perform(mut world: World, act: &Act) -> World {
    let name = |at: usize| ["a", "b", "c"][at];
    match *act {
        Act::Evict(at) => {
            let key = world.pods.keys().nth(at).cloned();
            return key.map(|key| evict(world.clone(), &key)).unwrap_or(world);
        }
        Act::Bind(w, p) => world.workloads[w].profile = Some(PROFILES[p].parse().unwrap()),
        Act::Taint(n, on) => world.nodes.get_mut(name(n)).unwrap().tainted = on,
        Act::Pause(n, on) => world.nodes.get_mut(name(n)).unwrap().clients_paused = on,
        Act::Replicas(w, n) => world.workloads[w].replicas = n,
        Act::Create(n, p, start) => drop(world.place(name(n), 0, PROFILES[p].parse().unwrap(), start, None)),
        Act::Destroy(n, at) => {
            let instances = &mut world.nodes.get_mut(name(n)).unwrap().gpus[0].instances;
            if at < instances.len() {
                instances.remove(at);
            }
        }
        Act::Drain(n) => {
            let at = world.clock_ms + 2_000;
            let node = world.nodes.get_mut(name(n)).unwrap();
            let command = node.commands.entry("vm".to_owned()).or_default();
            command.devices.push("MIG-1".to_owned());
            command.drained_at_ms = Some(at);
        }
    }
    world
}

fn three_nodes() -> World {
    let nodes = ["a", "b", "c"].map(|name| node(name, &["1g.10gb", "1g.10gb", "1g.20gb", "3g.40gb"])).concat();
    world(
        &(nodes
            + &workload("Deployment", "w", 3, "1g.10gb", "")
            + &workload("StatefulSet", "s", 2, "1g.20gb", "")
            + &workload("DaemonSet", "d", 1, "3g.40gb", "")
            + &workload("Job", "j", 1, "1g.10gb", "")),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_jump_of_the_clock_is_many_small_steps(
        acts in prop::collection::vec((act(), 0i64..20_000, prop::collection::vec(1i64..4_000, 0..8)), 1..8),
    ) {
        let (mut jump, mut steps) = (three_nodes(), three_nodes());
        for (act, ms, cuts) in acts {
            (jump, steps) = (perform(jump, &act), perform(steps, &act));
            let to = jump.clock_ms + ms;
            jump.advance(to);
            for cut in cuts {
                let next = (steps.clock_ms + cut).min(to);
                steps.advance(next);
            }
            steps.advance(to);
            prop_assert_eq!(&jump, &steps);
        }
    }

    #[test]
    fn what_the_kubelet_gives_it_gives_once_and_only_what_is_asked_for(
        acts in prop::collection::vec((act(), 0i64..20_000), 1..12),
    ) {
        let mut world = three_nodes();
        for (act, ms) in acts {
            world = perform(world, &act);
            world.pass(ms);
            let mut held = std::collections::BTreeSet::new();
            for (key, pod) in &world.pods {
                prop_assert!(pod.devices.iter().all(|uuid| held.insert((pod.node.clone(), uuid.clone()))), "{}", key);
                let asked: u32 = pod.requests.values().sum();
                prop_assert_eq!(pod.devices.len(), if pod.node.is_some() { asked as usize } else { 0 });
            }
        }
    }
}
