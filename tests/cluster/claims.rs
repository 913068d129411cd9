//! Dynamic resource allocation: slices and claims of NVIDIA's driver.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::observed::{ForeignWriter, Known};
use sectile::model::{ObservedCluster, Pod};
use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, daemon, node, user};
use crate::rig::{Rig, plan};
use crate::server::Fault;

const SLICE: &str = "nvidia.com/mig-1g.10gb";

fn slice(name: &str, driver: &str, devices: &[Value]) -> (&'static str, Value) {
    let pool = json!({ "name": NODE, "generation": 1, "resourceSliceCount": 1 });
    let spec = json!({ "driver": driver, "nodeName": NODE, "pool": pool, "devices": devices });
    ("resourceslices", json!({ "metadata": { "name": name }, "spec": spec }))
}

fn device(name: &str, uuid: Option<&str>) -> Value {
    let mut device = json!({ "name": name, "attributes": {
        "type": { "string": "mig" }, "profile": { "string": "1g.10gb" } } });
    if let Some(uuid) = uuid {
        device["attributes"]["uuid"] = json!({ "string": uuid });
    }
    device
}

/// Two static MIG devices.
fn published() -> (&'static str, Value) {
    slice("s", "gpu.nvidia.com", &[device("d0", Some("MIG-0")), device("d1", Some("MIG-1"))])
}

fn claim(name: &str, driver: &str, device: &str, holders: &[&str]) -> (&'static str, Value) {
    let holders: Vec<Value> = holders
        .iter()
        .map(|name| json!({ "resource": "pods", "name": name, "uid": format!("uid-of-{name}") }))
        .collect();
    let results = json!([{ "driver": driver, "pool": NODE, "device": device, "request": "r" }]);
    let status = json!({ "allocation": { "devices": { "results": results } }, "reservedFor": holders });
    ("resourceclaims", json!({ "metadata": { "name": name, "namespace": "a" }, "spec": {}, "status": status }))
}

/// A pod that runs on our node with that claim.
fn claiming(name: &str, claim: &str) -> (&'static str, Value) {
    let mut pod = user(name, SLICE, 1);
    pod["spec"]["containers"][0]["resources"] = json!({ "claims": [{ "name": "c" }] });
    pod["spec"]["resourceClaims"] = json!([{ "name": "c", "resourceClaimName": claim }]);
    ("pods", pod)
}

fn rig(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Rig {
    Rig::new(objects.into_iter().chain([("nodes", node(NODE))]))
}

async fn seen(objects: impl IntoIterator<Item = (&'static str, Value)>) -> ObservedCluster {
    rig(objects).cluster.observe().await.unwrap()
}

fn known(uuids: &[&str]) -> Known<BTreeSet<String>> {
    Known::Known(uuids.iter().map(|uuid| (*uuid).to_owned()).collect())
}

#[tokio::test(start_paused = true)]
async fn a_claim_tells_what_its_pod_holds() {
    let seen = seen([published(), claim("c", "gpu.nvidia.com", "d1", &["p"]), claiming("p", "c")]).await;
    let Pod { devices, requests, shared_claims, .. } = &seen.pods[0];
    assert_eq!((devices, requests), (&known(&["MIG-1"]), &BTreeMap::from([(SLICE.to_owned(), 1)])));
    assert!(shared_claims.is_empty());
    // What is published is offered under the names that the device plugin would give, less what is taken.
    assert_eq!(seen.free[NODE], BTreeMap::from([(SLICE.to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_made_for_a_pod_is_found_by_its_status() {
    let mut pod = claiming("p", "x").1;
    pod["spec"]["resourceClaims"] = json!([{ "name": "c", "resourceClaimTemplateName": "t" }]);
    pod["status"]["resourceClaimStatuses"] = json!([{ "name": "c", "resourceClaimName": "p-c-x7k2p" }]);
    let claim = claim("p-c-x7k2p", "gpu.nvidia.com", "d0", &["p"]);
    let seen = seen([published(), claim, ("pods", pod)]).await;
    assert_eq!(seen.pods[0].devices, known(&["MIG-0"]));
}

#[tokio::test(start_paused = true)]
async fn attributes_may_bear_the_drivers_name() {
    let mut device = device("d0", None);
    device["attributes"] = json!({
        "gpu.nvidia.com/uuid": { "string": "MIG-0" }, "gpu.nvidia.com/profile": { "string": "1g.10gb" } });
    let slice = slice("s", "gpu.nvidia.com", &[device]);
    let seen = seen([slice, claim("c", "gpu.nvidia.com", "d0", &["p"]), claiming("p", "c")]).await;
    assert_eq!(seen.pods[0].devices, known(&["MIG-0"]));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_several_pods_hold_is_told() {
    let claim = claim("c", "gpu.nvidia.com", "d0", &["p", "q"]);
    let seen = seen([published(), claim, claiming("p", "c"), claiming("q", "c")]).await;
    for pod in &seen.pods {
        assert_eq!(pod.shared_claims, BTreeSet::from(["c".to_owned()]));
        assert_eq!(pod.devices, known(&["MIG-0"]));
    }
}

#[tokio::test(start_paused = true)]
async fn claims_of_other_drivers_hold_none_of_our_devices() {
    let slice = slice("s", "net.example.com", &[device("d0", Some("MIG-7"))]);
    let seen = seen([slice, claim("c", "net.example.com", "d0", &["p"]), claiming("p", "c")]).await;
    assert_eq!((&seen.pods[0].devices, seen.pods[0].requests.len()), (&known(&[]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_claimed_device_without_a_uuid_may_be_any() {
    // The driver makes it when the pod starts, or its slice is gone.
    let dynamic = slice("s", "gpu.nvidia.com", &[device("d0", None)]);
    let objects = [claim("c", "gpu.nvidia.com", "d0", &["p"]), claiming("p", "c")];
    assert_eq!(seen(objects.clone().into_iter().chain([dynamic])).await.pods[0].devices, Known::Unknown);
    assert_eq!(seen(objects).await.pods[0].devices, Known::Unknown);
}

#[tokio::test(start_paused = true)]
async fn claims_that_may_not_be_seen_may_hold_any_device() {
    for status in [403, 404] {
        let rig = rig([published(), claiming("p", "c"), ("pods", user("q", SLICE, 1))]);
        rig.server.edit("pods", "a", "q", |pod| {
            pod["status"]["containerStatuses"] = json!([{
                "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResourcesStatus": [{ "name": SLICE, "resources": [{ "resourceID": "MIG-1" }] }] }]);
        });
        rig.server.fail("/resourceclaims", u32::MAX, Fault::Refused(status, "no"));
        let seen = rig.cluster.observe().await.unwrap();
        assert_eq!(seen.gaps.len(), 1);
        // Whoever has no claim is not concerned.
        let devices: Vec<_> = seen.pods.iter().map(|pod| pod.devices.clone()).collect();
        assert_eq!(devices, [Known::Unknown, known(&["MIG-1"])]);
        assert_eq!(rig.cluster.holders(NODE).await.unwrap()[0].devices, Known::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn shared_counters_tell_of_a_driver_that_cuts_by_itself() {
    let plain = rig([published()]);
    assert!(plain.node().await.writers.is_empty());
    // The counters may lie in a slice of their own.
    let mut counters = slice("counters", "gpu.nvidia.com", &[]);
    counters.1["spec"]["sharedCounters"] = json!([{ "name": "gpu-0", "counters": { "memory": { "value": "80Gi" } } }]);
    let dynamic = rig([published(), counters.clone()]);
    assert_eq!(dynamic.node().await.writers, [ForeignWriter::DynamicMig].into());
    counters.1["spec"]["nodeName"] = json!("m");
    assert!(rig([counters]).node().await.writers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn slices_are_offered_to_nobody_while_their_node_is_paused() {
    let rig = rig([published(), ("pods", daemon("dra", ("dra-driver-nvidia-gpu-component", "kubelet-plugin")))]);
    assert_eq!(rig.node().await.allocatable[SLICE], 2);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.node().await.allocatable[SLICE], 0);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(rig.node().await.allocatable[SLICE], 2);
}
