//! What a reconcile that changes nothing asks of the API server and of the kubelet, on a node with ten and with a
//! hundred and ten pods (the most that a kubelet takes by default).
//!
//! `cargo bench --bench requests`. The contract: the same for both, and a few. It fails where that does not hold.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark fails and reports as tests do"
)]

mod deployed;

use std::sync::{Arc, Mutex};

use sectile::cluster::KubeCluster;
use sectile::cluster::kubelet::{ContainerResources, Devices, PodResources};
use sectile::model::{Known, NodeState};
use sectile::ports::{Cluster as _, Shown};

#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/applied.rs"]
mod applied;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../kubelet/mod.rs"]
mod kubelet;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/objects.rs"]
mod objects;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/server.rs"]
mod server;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/store.rs"]
mod store;

use deployed::deployed;
use kubelet::{Kubelet, Told};
use objects::{NODE, labelled, user};
use server::Server;

const SLICE: &str = "nvidia.com/mig-1g.10gb";
/// So many reconciles are looked at beyond the first.
const FURTHER: u32 = 3;

/// How often somebody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    api_server: usize,
    kubelet: u32,
}

/// What a reconcile asks, and shows if there is something new.
async fn reconcile(cluster: &KubeCluster, pods: usize, view: Option<&str>) {
    let seen = cluster.observe().await.unwrap();
    assert_eq!((seen.pods.len(), seen.budgets.len(), seen.gaps.len()), (pods, pods, 0));
    assert!(seen.pods.iter().all(|pod| pod.devices != Known::Unknown) && seen.strangers.is_empty());
    assert!(cluster.node(NODE).await.unwrap().unwrap().advertised != Known::Unknown);
    assert!(cluster.labels(NODE).await.unwrap().is_some());
    let shown = Shown { state: NodeState::Converged, revision: "main@1eabc9a", message: None, view };
    cluster.publish(NODE, &shown).await.unwrap();
}

/// The first reconcile and every further one on a node with so many pods, each of a Deployment with a budget.
async fn measure(pods: usize) -> (Asked, Asked) {
    let folder = tempfile::tempdir().unwrap();
    let (server, told) = (Server::default(), Arc::new(Mutex::new(Told::default())));
    server.put("nodes", labelled(&[("nvidia.com/gpu.deploy.device-plugin", "true")]));
    for i in 0..pods {
        let name = format!("p{i:03}");
        let made = deployed(user(&name, SLICE, 1));
        made.into_iter().for_each(|(resource, object)| server.put(resource, object));
        let devices = vec![Devices { resource_name: SLICE.to_owned(), device_ids: vec![format!("MIG-{i}")] }];
        let containers = vec![ContainerResources { devices, ..ContainerResources::default() }];
        let listed = PodResources { name, namespace: "a".to_owned(), containers };
        told.lock().unwrap().listed.pod_resources.push(listed);
    }
    let kubelet = Kubelet::begin(&folder.path().join("kubelet.sock"), Arc::clone(&told));
    let cluster = KubeCluster::new(server.client(), Some((NODE, &kubelet.socket)));
    let asked = || {
        let state = server.lock();
        Asked { api_server: state.looked.len() + state.asked.len(), kubelet: told.lock().unwrap().asked }
    };
    reconcile(&cluster, pods, Some("{}")).await;
    // A watch follows each list a moment later.
    let lists = |word: &str| server.lock().looked.iter().filter(|line| line.starts_with(word)).count();
    while lists("WATCH") < lists("LIST") {
        tokio::task::yield_now().await;
    }
    let first = asked();
    for _ in 0..FURTHER {
        reconcile(&cluster, pods, None).await;
    }
    let all = asked();
    let further = |all: usize, first: usize| (all - first).div_ceil(FURTHER as usize);
    let kubelets = (all.kubelet - first.kubelet).div_ceil(FURTHER);
    (first, Asked { api_server: further(all.api_server, first.api_server), kubelet: kubelets })
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = [10, 110].map(|pods| (pods, runtime.block_on(measure(pods))));
    println!("{:>5}  {:<26}  each further one", "pods", "first reconcile");
    println!("{:>5}  {:<16}{:<10}  {:<16}kubelet", "", "API server", "kubelet", "API server");
    for (pods, (first, further)) in results {
        let told = |asked: Asked| format!("{:<16}{:<10}", asked.api_server, asked.kubelet);
        println!("{pods:>5}  {}  {}", told(first), told(further).trim_end());
    }
    let [(_, few), (_, many)] = results;
    if few != many {
        panic!("more is asked where there are more pods");
    }
    // A list and a watch of each of eleven kinds, and that it is shown; then the mirrors tell all but what the kubelet has given out.
    assert_eq!(many.0, Asked { api_server: 23, kubelet: 2 });
    assert_eq!(many.1, Asked { api_server: 0, kubelet: 2 });
}
