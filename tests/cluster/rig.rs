//! An adapter with its mocked API server.

use std::path::Path;

use sectile::cluster::KubeCluster;
use sectile::model::Digest;
use sectile::model::observed::NodeInCluster;
use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::NODE;
use crate::server::Server;

/// The device plugin's deploy label.
pub(crate) const PLUGIN: &str = "nvidia.com/gpu.deploy.device-plugin";
/// The value by which it is paused.
pub(crate) const PAUSED: &str = "paused-for-mig-change";
/// The name of our taint and of our annotation.
pub(crate) const OURS: &str = "sectile.dev/repartitioning";

/// A server, and the adapter that asks it.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) cluster: KubeCluster,
}

impl Rig {
    /// A server that has these, each with its resource, and an adapter that sees it from outside.
    pub(crate) fn new(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Rig::around(objects, None)
    }

    /// The same from our node, whose kubelet has that socket.
    pub(crate) fn inside(objects: impl IntoIterator<Item = (&'static str, Value)>, socket: &Path) -> Self {
        Rig::around(objects, Some(socket))
    }

    fn around(objects: impl IntoIterator<Item = (&'static str, Value)>, socket: Option<&Path>) -> Self {
        let server = Server::default();
        objects.into_iter().for_each(|(resource, object)| server.put(resource, object));
        let cluster = KubeCluster::new(server.client(), socket.map(|socket| (NODE, socket)));
        Rig { server, cluster }
    }

    /// Another adapter that knows nothing of what the first one did.
    pub(crate) fn afresh(self) -> Self {
        let cluster = KubeCluster::new(self.server.client(), None);
        self.server.forget_asked();
        Rig { server: self.server, cluster }
    }

    /// Our node as the server has it.
    pub(crate) fn stored(&self) -> Value {
        self.server.lock().store.get("nodes", "", NODE).unwrap().clone()
    }

    pub(crate) async fn node(&self) -> NodeInCluster {
        self.cluster.node(NODE).await.unwrap().unwrap()
    }

    /// Waits until the adapter sees what the server told.
    pub(crate) async fn until(&self, mut holds: impl AsyncFnMut(&KubeCluster) -> bool) {
        for _ in 0..10_000 {
            if holds(&self.cluster).await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("the adapter does not see it");
    }

    /// Waits until the adapter sees this label of our node.
    pub(crate) async fn until_label(&self, key: &str, value: &str) {
        self.until(async |cluster| cluster.labels(NODE).await.unwrap().unwrap().get(key).is_some_and(|is| is == value))
            .await;
    }
}

/// A plan's digest.
pub(crate) fn plan() -> Digest {
    Digest::of([b"plan".as_slice()])
}

/// A taint that keeps pods off.
pub(crate) fn taint(key: &str) -> Value {
    json!({ "key": key, "effect": "NoSchedule" })
}

/// The mark on a node.
pub(crate) fn mark(node: &Value) -> Option<Value> {
    let text = node["metadata"]["annotations"][OURS].as_str()?;
    Some(serde_json::from_str(text).unwrap())
}
