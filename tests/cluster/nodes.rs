//! How nodes are read: what is free on them, how the device plugin names devices, and who else cuts their GPUs.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::observed::{ForeignWriter, Known, MigStrategy, NodeInCluster};
use sectile::model::policy::Allocation;
use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, node, pod, user};
use crate::rig::{OURS, Rig, taint};

const SLICE: &str = "nvidia.com/mig-1g.10gb";

fn offering(name: &str, n: u32) -> Value {
    let mut node = node(name);
    node["status"]["allocatable"] = json!({ SLICE: n.to_string(), "cpu": "64", "memory": "1Ti" });
    node
}

async fn read(with: impl FnOnce(&mut Value)) -> NodeInCluster {
    let mut node = offering(NODE, 3);
    with(&mut node);
    Rig::new([("nodes", node)]).node().await
}

#[tokio::test(start_paused = true)]
async fn a_node_is_read_with_all_that_matters() {
    let NodeInCluster { tainted, clients_paused, allocatable, advertised, strategy, allocation, writers } =
        read(|_| {}).await;
    assert_eq!(allocation, Allocation::Auto);
    assert!(!tainted && !clients_paused && writers.is_empty());
    assert_eq!(allocatable, BTreeMap::from([(SLICE.to_owned(), 3)]));
    assert_eq!((advertised, strategy), (Known::Unknown, MigStrategy::Mixed));
    assert!(read(|node| node["spec"]["taints"] = json!([taint(OURS)])).await.tainted);
}

#[tokio::test(start_paused = true)]
async fn what_is_free_is_what_no_bound_pod_asks_for() {
    let mut waiting = pod("waiting", None);
    waiting["spec"]["containers"][0]["resources"] = json!({ "limits": { SLICE: "1" } });
    let mut ended = user("ended", SLICE, 1);
    ended["status"]["phase"] = json!("Succeeded");
    let mut elsewhere = user("elsewhere", SLICE, 5);
    elsewhere["spec"]["nodeName"] = json!("m");
    let pods = [user("one", SLICE, 1), user("other", "nvidia.com/gpu", 1), waiting, ended, elsewhere];
    let nodes = [offering(NODE, 3), offering("m", 4), node("none")].map(|node| ("nodes", node));
    let rig = Rig::new(pods.map(|pod| ("pods", pod)).into_iter().chain(nodes));
    let free = rig.cluster.observe().await.unwrap().free;
    let told = |n| BTreeMap::from([(SLICE.to_owned(), n)]);
    assert_eq!(free, [(NODE.to_owned(), told(2)), ("m".to_owned(), told(0))].into());
}

#[tokio::test(start_paused = true)]
async fn numbers_of_devices_may_have_suffixes() {
    for (text, n) in [("7", 7), ("0", 0), ("2k", 2000), ("1M", 1_000_000), ("x", 0)] {
        let node = read(|node| node["status"]["allocatable"][SLICE] = json!(text)).await;
        assert_eq!(node.allocatable[SLICE], n, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_strategy_stands_in_a_label() {
    for (label, strategy) in
        [("single", MigStrategy::Single), ("mixed", MigStrategy::Mixed), ("none", MigStrategy::None)]
    {
        let node = read(|node| node["metadata"]["labels"]["nvidia.com/mig.strategy"] = json!(label)).await;
        assert_eq!(node.strategy, strategy, "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn hami_is_a_writer_where_it_has_registered_gpus_for_mig() {
    let new = |mode: &str| {
        let device = json!({ "id": "GPU-1", "count": 7, "devmem": 81559, "devcore": 100, "type": "NVIDIA-H100",
            "mode": mode, "health": true });
        json!([device]).to_string()
    };
    let old = |mode: &str| format!("GPU-1,10,81559,100,NVIDIA-NVIDIA H100,0,true,0,{mode}:");
    for (told, writes) in [
        (new("mig"), true),
        (new("hami-core"), false),
        (old("mig"), true),
        (old("hami-core"), false),
        ("GPU-1,10,81559,100,NVIDIA-NVIDIA H100,0,true:".to_owned(), false),
    ] {
        let annotate = |node: &mut Value| node["metadata"]["annotations"]["hami.io/node-nvidia-register"] = json!(told);
        let writers = if writes { BTreeSet::from([ForeignWriter::Hami]) } else { BTreeSet::new() };
        assert_eq!(read(annotate).await.writers, writers, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_accelerator_slicer_is_a_writer_where_it_offers_resources() {
    let node = read(|node| node["status"]["allocatable"]["mig.das.com/1g.10gb"] = json!("7")).await;
    assert_eq!(node.writers, [ForeignWriter::AcceleratorSlicer].into());
    assert_eq!(node.allocatable.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn network_cards_of_nvidias_are_not_waited_for_as_if_they_were_gpus() {
    let told = read(|node| {
        node["status"]["allocatable"] =
            json!({ SLICE: "3", "nvidia.com/gpu": "1", "nvidia.com/hostdev": "8", "nvidia.com/rdma_shared": "63" });
    });
    let gpus = BTreeMap::from([(SLICE.to_owned(), 3), ("nvidia.com/gpu".to_owned(), 1)]);
    assert_eq!(told.await.allocatable, gpus);
    // Who has such a card alone uses no GPU.
    let rig = Rig::new([("nodes", node(NODE)), ("pods", user("p", "nvidia.com/hostdev", 1))]);
    assert_eq!(rig.cluster.observe().await.unwrap().pods, []);
    assert_eq!(rig.cluster.holders(NODE).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_discovery_leaves_out_is_not_taken_for_mixed() {
    let strategy = async |labels: Value, allocatable: Value| {
        let node = read(|node| {
            node["metadata"]["labels"] = labels;
            node["status"]["allocatable"] = allocatable;
        });
        node.await.strategy
    };
    let discovered = || json!({ "nvidia.com/mig.capable": "true" });
    assert_eq!(strategy(discovered(), json!({ "nvidia.com/gpu": "1" })).await, MigStrategy::None);
    // The device plugin offers some, or did: the kubelet keeps their names at 0.
    assert_eq!(strategy(discovered(), json!({ SLICE: "0" })).await, MigStrategy::Mixed);
    // Nobody discovers anything: the usual one.
    assert_eq!(strategy(json!({}), json!({ "nvidia.com/gpu": "1" })).await, MigStrategy::Mixed);
    let mut said = discovered();
    said["nvidia.com/mig.strategy"] = json!("mixed");
    assert_eq!(strategy(said, json!({})).await, MigStrategy::Mixed);
}
