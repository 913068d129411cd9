//! What the kubelet tells, joined with what the API server does. Time is real here, since sockets are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sectile::cluster::kubelet::{
    Allocatable, ClaimResource, ContainerResources, Devices, DynamicResource, PodResources,
};
use sectile::model::Pod;
use sectile::model::observed::{Known, PodPhase};
use sectile::ports::Cluster as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Status;

use crate::kubelet::{Kubelet, Told};
use crate::objects::{NODE, daemon, node, user};
use crate::rig::{Rig, plan};

const SLICE: &str = "nvidia.com/mig-1g.10gb";

/// A node with its kubelet.
struct Home {
    rig: Rig,
    kubelet: Kubelet,
    folder: TempDir,
}

fn home(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Home {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("kubelet.sock");
    let kubelet = Kubelet::begin(&socket, Arc::new(Mutex::new(Told::default())));
    Home { rig: Rig::inside(objects.into_iter().chain([("nodes", node(NODE))]), &socket), kubelet, folder }
}

impl Home {
    fn gives(&self, name: &str, container: ContainerResources) {
        let (name, namespace) = (name.to_owned(), "a".to_owned());
        let mut told = self.kubelet.told.lock().unwrap();
        told.listed.pod_resources.push(PodResources { name, namespace, containers: vec![container] });
    }

    async fn holders(&self) -> Vec<Pod> {
        self.rig.cluster.holders(NODE).await.unwrap()
    }

    /// The kubelet starts anew, with what it tells.
    fn restart(&mut self) {
        let told = Arc::clone(&self.kubelet.told);
        let socket = self.folder.path().join("kubelet.sock");
        // Its socket goes with it.
        let elsewhere = Kubelet::begin(&self.folder.path().join("other.sock"), Arc::clone(&told));
        drop(std::mem::replace(&mut self.kubelet, elsewhere));
        self.kubelet = Kubelet::begin(&socket, told);
    }
}

fn devices(ids: &[&str]) -> ContainerResources {
    named(SLICE, ids)
}

fn named(resource: &str, ids: &[&str]) -> ContainerResources {
    let given =
        Devices { resource_name: resource.to_owned(), device_ids: ids.iter().map(|id| (*id).to_owned()).collect() };
    let cpus = Devices { resource_name: "example.com/nic".to_owned(), device_ids: vec!["nic-0".to_owned()] };
    ContainerResources { name: "main".to_owned(), devices: vec![given, cpus], ..ContainerResources::default() }
}

fn known(uuids: &[&str]) -> Known<BTreeSet<String>> {
    Known::Known(uuids.iter().map(|uuid| (*uuid).to_owned()).collect())
}

/// A status that tells one device.
fn telling(name: &str, id: &str) -> (&'static str, Value) {
    let mut pod = user(name, SLICE, 1);
    pod["status"]["containerStatuses"] = json!([{
        "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "allocatedResourcesStatus": [{ "name": SLICE, "resources": [{ "resourceID": id }] }] }]);
    ("pods", pod)
}

#[tokio::test]
async fn the_kubelets_word_is_who_holds_what() {
    let home = home([("pods", user("p", SLICE, 2)), ("pods", user("q", SLICE, 1))]);
    // One entry for each NUMA node, and shares of a device by their number.
    home.gives("p", devices(&["MIG-1", "MIG-2", "MIG-1"]));
    home.gives("q", devices(&["MIG-3::0"]));
    for pods in [home.holders().await, home.rig.cluster.observe().await.unwrap().pods] {
        let told: Vec<_> = pods.iter().map(|pod| (pod.name.as_str(), pod.devices.clone())).collect();
        assert_eq!(told, [("p", known(&["MIG-1", "MIG-2"])), ("q", known(&["MIG-3"]))]);
    }
}

#[tokio::test]
async fn a_pod_that_only_the_kubelet_knows_is_told_where_it_holds_something() {
    let home = home([]);
    home.gives("ghost", devices(&["MIG-1"]));
    home.gives("idle", devices(&[]));
    let holders = home.holders().await;
    let told: Vec<_> = holders.iter().map(|pod| (pod.id(), pod.node.as_deref(), pod.devices.clone())).collect();
    assert_eq!(told, [("a/ghost".to_owned(), Some(NODE), known(&["MIG-1"]))]);
    // The cluster does not know it, so that it can't be evicted.
    let seen = home.rig.cluster.observe().await.unwrap();
    assert_eq!(seen.pods, []);
    assert_eq!(seen.strangers.iter().map(Pod::id).collect::<Vec<_>>(), ["a/ghost"]);
}

#[tokio::test]
async fn a_kubelet_that_fails_leaves_it_to_the_status_and_else_to_nobody() {
    let home = home([telling("p", "MIG-1"), ("pods", user("q", SLICE, 1))]);
    home.gives("p", devices(&["MIG-9"]));
    home.kubelet.told.lock().unwrap().fails = Some(Status::unavailable("not now"));
    let told = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.devices).collect::<Vec<_>>();
    // Right before something is destroyed only its own word will do: it may know pods that nobody else knows.
    assert!(home.rig.cluster.holders(NODE).await.unwrap_err().transient);
    let seen = home.rig.cluster.observe().await.unwrap();
    assert_eq!((seen.gaps.len(), seen.gaps[0].object.as_str()), (1, "devices of pods on n"));
    assert!(seen.gaps[0].message.contains("not now"), "{:?}", seen.gaps);
    assert_eq!(told(seen.pods), [known(&["MIG-1"]), Known::Unknown]);
    assert_eq!(home.rig.node().await.advertised, Known::Unknown);
}

#[tokio::test]
async fn a_kubelet_that_is_not_there_leaves_it_to_nobody() {
    let Home { rig, kubelet, folder: _folder } = home([("pods", user("p", SLICE, 1))]);
    drop(kubelet);
    assert!(rig.cluster.holders(NODE).await.unwrap_err().to_string().ends_with("it has no such socket"));
    assert_eq!(rig.node().await.advertised, Known::Unknown);
    assert_eq!(rig.cluster.observe().await.unwrap().pods[0].devices, Known::Unknown);
    let gaps = rig.cluster.observe().await.unwrap().gaps;
    assert!(gaps[0].message.ends_with("it has no such socket"), "{gaps:?}");
}

#[tokio::test]
async fn a_kubelet_that_was_just_started_does_not_know_its_pods_yet() {
    let mut waiting = user("waiting", SLICE, 1);
    waiting["status"] = json!({ "phase": "Pending" });
    let mut ended = user("z", SLICE, 1);
    ended["status"]["phase"] = json!("Failed");
    let home = home([("pods", user("p", SLICE, 1)), ("pods", waiting), ("pods", ended)]);
    // What it has not admitted holds nothing yet, and what has ended nothing any more.
    let told: Vec<_> = home.holders().await.into_iter().map(|pod| pod.devices).collect();
    assert_eq!(told, [Known::Unknown, known(&[]), known(&[])]);
    home.gives("p", devices(&["MIG-1"]));
    assert_eq!(home.holders().await[0].devices, known(&["MIG-1"]));
}

#[tokio::test]
async fn an_init_containers_devices_are_not_listed_while_it_may_run() {
    let mut pod = user("p", SLICE, 1);
    pod["spec"]["initContainers"] = json!([{ "name": "warm", "resources": { "limits": { SLICE: "1" } } }]);
    pod["status"]["phase"] = json!("Pending");
    let home = home([("pods", pod)]);
    home.gives("p", devices(&["MIG-1"]));
    assert_eq!(home.holders().await[0].devices, Known::Unknown);
    home.rig.server.edit("pods", "a", "p", |pod| pod["status"]["phase"] = json!("Running"));
    home.rig.until(async |_| home.holders().await[0].devices == known(&["MIG-1"])).await;
}

#[tokio::test]
async fn devices_of_other_nodes_are_not_our_kubelets_to_tell() {
    let mut pod = telling("p", "MIG-1").1;
    pod["spec"]["nodeName"] = json!("m");
    let home = home([("pods", pod), ("nodes", node("m"))]);
    home.gives("p", devices(&["MIG-9"]));
    assert_eq!(home.rig.cluster.observe().await.unwrap().pods[0].devices, known(&["MIG-1"]));
    assert_eq!(home.rig.cluster.holders("m").await.unwrap()[0].devices, known(&["MIG-1"]));
    assert_eq!(home.rig.cluster.node("m").await.unwrap().unwrap().advertised, Known::Unknown);
}

#[tokio::test]
async fn what_the_kubelet_may_give_out_is_what_is_advertised() {
    let told = || Allocatable { devices: devices(&["MIG-1::0", "MIG-1::1"]).devices };
    let plugged = home([("pods", daemon("plugin", ("name", "nvidia-device-plugin-ds")))]);
    plugged.kubelet.told.lock().unwrap().allocatable = told();
    assert_eq!(plugged.rig.node().await.advertised, known(&["MIG-1"]));
    // Where nothing hands devices out, none is hidden.
    let bare = home([]);
    bare.kubelet.told.lock().unwrap().allocatable = told();
    assert_eq!(bare.rig.node().await.advertised, Known::Unknown);
}

#[tokio::test]
async fn what_claims_gave_is_told_by_the_kubelet_or_by_the_claim() {
    let pool = json!({ "name": NODE, "generation": 1, "resourceSliceCount": 1 });
    let device = |name: &str| json!({ "name": name, "attributes": { "uuid": { "string": format!("MIG-{name}") } } });
    let spec = json!({ "driver": "gpu.nvidia.com", "nodeName": NODE, "pool": pool, "devices": [device("d0")] });
    let slice = json!({ "metadata": { "name": "s" }, "spec": spec });
    let results = json!([{ "driver": "gpu.nvidia.com", "pool": NODE, "device": "d0", "request": "r" }]);
    let status = json!({ "allocation": { "devices": { "results": results } } });
    let claim = json!({ "metadata": { "name": "c", "namespace": "a" }, "spec": {}, "status": status });
    let mut pod = user("p", SLICE, 1);
    pod["spec"]["containers"][0]["resources"] = json!({});
    pod["spec"]["resourceClaims"] = json!([{ "name": "c", "resourceClaimName": "c" }]);
    let gives = |driver: &str, device: &str| {
        let (driver_name, pool_name, device_name) = (driver.to_owned(), NODE.to_owned(), device.to_owned());
        let claim_resources = vec![ClaimResource { driver_name, pool_name, device_name }];
        let dynamic = DynamicResource { claim_name: "c".to_owned(), claim_namespace: "a".to_owned(), claim_resources };
        ContainerResources { dynamic_resources: vec![dynamic], ..ContainerResources::default() }
    };
    let objects = [("resourceslices", slice), ("resourceclaims", claim), ("pods", pod)];
    let home = home(objects);
    home.gives("p", gives("gpu.nvidia.com", "d0"));
    home.gives("net", gives("net.example.com", "nic-0"));
    home.gives("ghost", gives("gpu.nvidia.com", "d7"));
    let told: Vec<_> = home.holders().await.into_iter().map(|pod| (pod.name, pod.devices)).collect();
    assert_eq!(told, [("p".to_owned(), known(&["MIG-d0"])), ("ghost".to_owned(), Known::Unknown)]);
    // An older kubelet lists the pod without what its claim gave.
    home.kubelet.told.lock().unwrap().listed.pod_resources.clear();
    home.gives("p", devices(&[]));
    assert_eq!(home.holders().await[0].devices, known(&["MIG-d0"]));
    assert_eq!(home.rig.node().await.advertised, known(&["MIG-d0"]));
    // What the scheduler gave to a pod that the kubelet has not heard of is taken.
    home.kubelet.told.lock().unwrap().listed.pod_resources.clear();
    home.rig.server.edit("pods", "a", "p", |pod| pod["status"] = json!({ "phase": "Pending" }));
    home.rig.until(async |_| !home.holders().await[0].admitted).await;
    assert_eq!(home.holders().await[0].devices, known(&["MIG-d0"]));
}

#[tokio::test]
async fn a_kubelet_that_restarts_during_a_pause_ends_the_plan() {
    let mut home = home([("pods", user("p", SLICE, 1))]);
    home.gives("p", devices(&["MIG-1"]));
    home.restart();
    // Before the pause that is none of our business.
    assert_eq!(home.holders().await.len(), 1);
    home.rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(home.holders().await.len(), 1);
    home.restart();
    let error = home.rig.cluster.holders(NODE).await.unwrap_err();
    assert!(!error.transient && error.message.contains("restarted"), "{error}");
    // What is there can still be looked at, and the pause be ended.
    home.rig.cluster.observe().await.unwrap();
    home.rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(home.holders().await.len(), 1);
}

#[tokio::test]
async fn a_kubelet_that_is_down_during_a_pause_is_as_one_that_restarted() {
    let Home { rig, kubelet, folder: _folder } = home([("pods", user("p", SLICE, 1))]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    drop(kubelet);
    assert!(!rig.cluster.holders(NODE).await.unwrap_err().transient);
}

#[tokio::test]
async fn an_own_node_that_the_cluster_calls_otherwise_is_not_taken_for_one_in_no_cluster() {
    let home = home([("pods", user("p", SLICE, 1))]);
    home.rig.server.lock().store.remove("nodes", "", NODE);
    home.rig.server.put("nodes", node("n.example.com"));
    let error = home.rig.cluster.node(NODE).await.unwrap_err();
    assert!(!error.transient && error.to_string().contains("no node n (--node tells"), "{error}");
    // Of another one nothing hangs on it.
    assert_eq!(home.rig.cluster.node("m").await.unwrap(), None);
    assert!(home.rig.cluster.node("n.example.com").await.unwrap().is_some());
}

#[tokio::test]
async fn devices_are_not_overlooked_since_their_resource_or_their_ids_are_called_otherwise() {
    const GPU: &str = "GPU-5c8a6c0e-6d28-4d5f-9d3f-0b6f0f2a7e11";
    let numbered = format!("{GPU}-3");
    let cases = [
        (SLICE, "MIG-1::0", known(&["MIG-1"])),
        ("nvidia.com/mig-1g.10gb.shared", "MIG-1::0", known(&["MIG-1"])),
        ("nvidia.com/gpu", GPU, known(&[GPU])),
        ("nvidia.com/gpu.shared", &format!("{GPU}::7"), known(&[GPU])),
        ("nvidia.com/gpu", &numbered, known(&[GPU])),
        ("volcano.sh/vgpu-number", &numbered, known(&[GPU])),
        ("example.com/cut", "MIG-1", known(&["MIG-1"])),
        // Google's plugin counts devices so: which they are nobody tells.
        ("nvidia.com/gpu", "nvidia0/gi3", Known::Unknown),
        (SLICE, "nvidia0/gi3", Known::Unknown),
        ("mellanox.com/rdma", "nvidia0/gi3", known(&[])),
        ("nvidia.com/hostdev", "0000:3b:00.1", known(&[])),
    ];
    for (resource, id, holds) in cases {
        let home = home([("pods", user("p", SLICE, 1))]);
        home.gives("p", named(resource, &[id]));
        assert_eq!(home.holders().await[0].devices, holds, "{resource} {id}");
        // Also where the API server knows of no GPU that the pod asks for.
        home.gives("other", named(resource, &[id]));
        let told = home.rig.cluster.observe().await.unwrap().strangers;
        let stranger = told.first().map_or(known(&[]), |pod| pod.devices.clone());
        assert_eq!(stranger, holds, "{resource} {id}");
    }
    // What is known beside it does not make it known.
    let home = home([("pods", user("p", SLICE, 2))]);
    home.gives("p", devices(&["MIG-1", "nvidia0/gi3"]));
    assert_eq!(home.holders().await[0].devices, Known::Unknown);
}

#[tokio::test]
async fn what_the_kubelet_still_gives_a_pod_that_has_ended_is_not_taken_for_free() {
    let mut ended = user("z", SLICE, 1);
    ended["status"]["phase"] = json!("Failed");
    let home = home([("pods", ended)]);
    // A new pod of that name runs, and the API server tells the old one.
    home.gives("z", devices(&["MIG-1"]));
    for pods in [home.holders().await, home.rig.cluster.observe().await.unwrap().pods] {
        assert_eq!(
            pods.iter().map(|pod| (pod.phase, pod.devices.clone())).collect::<Vec<_>>(),
            [(PodPhase::Running, known(&["MIG-1"]))]
        );
    }
    home.kubelet.told.lock().unwrap().listed.pod_resources.clear();
    home.gives("z", named("nvidia.com/gpu", &["nvidia0/gi3"]));
    assert_eq!(home.holders().await[0].devices, Known::Unknown);
    // It is through with it.
    home.kubelet.told.lock().unwrap().listed.pod_resources.clear();
    home.gives("z", devices(&[]));
    assert_eq!((home.holders().await[0].phase, home.holders().await[0].devices.clone()), (PodPhase::Ended, known(&[])));
}

#[tokio::test]
async fn a_pod_that_holds_something_under_the_name_of_one_elsewhere_is_not_taken_for_that() {
    let mut anew = user("w-0", SLICE, 1);
    anew["spec"]["nodeName"] = json!("m");
    let home = home([("pods", anew), ("nodes", node("m"))]);
    home.gives("w-0", devices(&["MIG-1"]));
    let place = |pods: &[Pod]| pods.iter().map(|pod| (pod.id(), pod.node.clone().unwrap())).collect::<Vec<_>>();
    let seen = home.rig.cluster.observe().await.unwrap();
    assert_eq!(place(&seen.pods), [("a/w-0".to_owned(), "m".to_owned())]);
    assert_eq!(place(&seen.strangers), [("a/w-0".to_owned(), NODE.to_owned())]);
    assert_eq!(place(&home.holders().await), [("a/w-0".to_owned(), NODE.to_owned())]);
    assert_eq!((&seen.pods[0].devices, &seen.strangers[0].devices), (&Known::Unknown, &known(&["MIG-1"])));
}
