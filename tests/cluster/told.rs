//! What is shown at a node, its labels, and events.

use sectile::model::NodeState;
use sectile::ports::{Cluster as _, ClusterEvent, Reason, Shown};
use serde_json::json;

use crate::objects::{NODE, node};
use crate::rig::{Rig, taint};
use crate::server::Fault;

const FRESH: &str = "sectile.dev/not-ready";

fn shown(state: NodeState) -> Shown<'static> {
    Shown { state, revision: "main@1eabc9a", message: None, view: Some("{\"gpus\":[]}") }
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_already_is_not_shown_again() {
    let mut new = node(NODE);
    new["spec"]["taints"] = json!([taint("team"), taint(FRESH)]);
    let rig = Rig::new([("nodes", new)]);
    // Nothing may land on a new node before it is cut.
    rig.cluster.publish(NODE, &shown(NodeState::Changing)).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([taint("team"), taint(FRESH)]));
    rig.cluster.publish(NODE, &shown(NodeState::Changing)).await.unwrap();
    rig.cluster.publish(NODE, &shown(NodeState::Converged)).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([taint("team")]));
    rig.cluster.publish(NODE, &shown(NodeState::Converged)).await.unwrap();
    // No view: what is shown is as good.
    rig.cluster.publish(NODE, &Shown { view: None, ..shown(NodeState::Converged) }).await.unwrap();
    // Why it fails is told until it goes on.
    for state in [NodeState::Failed, NodeState::Converged] {
        let message = (state == NodeState::Failed).then_some("step 3: create 1g.10gb: Insufficient Resources");
        rig.cluster.publish(NODE, &Shown { message, ..shown(state) }).await.unwrap();
    }
    rig.cluster.publish(NODE, &Shown { revision: "main@2", ..shown(NodeState::Converged) }).await.unwrap();
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_converged_node_that_is_tainted_again_as_new_is_freed_though_all_is_shown() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.cluster.publish(NODE, &shown(NodeState::Converged)).await.unwrap();
    rig.server.edit("nodes", "", NODE, |node| node["spec"]["taints"] = json!([taint(FRESH)]));
    rig.server.edit("nodes", "", NODE, |node| node["metadata"]["labels"]["seen"] = json!("yes"));
    rig.until_label("seen", "yes").await;
    rig.cluster.publish(NODE, &shown(NodeState::Converged)).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn views_of_all_nodes_are_what_each_has_shown() {
    let rig = Rig::new([("nodes", node(NODE)), ("nodes", node("m"))]);
    rig.cluster.publish(NODE, &shown(NodeState::Converged)).await.unwrap();
    let (_, nodes) = rig.cluster.fleet().await.unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["m", NODE]);
    assert_eq!(nodes[NODE].labels["sectile.dev/state"], "converged");
    assert_eq!((nodes[NODE].view.as_deref(), &nodes["m"].view), (Some("{\"gpus\":[]}"), &None));
    assert!(!nodes["m"].told.tainted);
}

#[tokio::test(start_paused = true)]
async fn a_label_is_set_once() {
    let rig = Rig::new([("nodes", node(NODE))]);
    for _ in 0..2 {
        rig.cluster.set_label(NODE, "nvidia.com/gpu.deploy.mig-manager", "false").await.unwrap();
    }
    insta::assert_snapshot!(rig.server.transcript());
    let labels = rig.cluster.labels(NODE).await.unwrap().unwrap();
    assert_eq!(labels["nvidia.com/gpu.deploy.mig-manager"], "false");
    assert_eq!(rig.cluster.labels("m").await, Ok(None));
    assert_eq!(rig.cluster.node("m").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn events_are_of_the_node_or_of_the_pod_that_is_evicted() {
    let rig = Rig::new([("nodes", node(NODE))]);
    let pod = Some(("a", "p", "uid-of-p"));
    for (pod, reason, message) in [
        (None, Reason::Repartitioning, "1g.10gb goes, for plan 1eabc9a".to_owned()),
        (pod, Reason::Evicted, "its instance goes".to_owned()),
        // A note has 1024 bytes, and ends with a whole character.
        (None, Reason::Failed, "ü".repeat(600)),
    ] {
        rig.cluster.event(&ClusterEvent { node: NODE, pod, reason, message }).await.unwrap();
    }
    let transcript = rig.server.transcript().replace(&"ü".repeat(512), "(512 ü)");
    insta::assert_snapshot!(transcript);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_is_an_error() {
    let event = ClusterEvent { node: NODE, pod: None, reason: Reason::Repartitioned, message: String::new() };
    for (fault, transient) in [(Fault::Refused(403, "no"), false), (Fault::Refused(429, "slow down"), true)] {
        let rig = Rig::new([("nodes", node(NODE))]);
        rig.server.fail("/events", 1, fault);
        assert_eq!(rig.cluster.event(&event).await.unwrap_err().transient, transient);
    }
}
