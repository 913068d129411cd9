//! The taint: what is asked of the API server to put it on and to take it off.

use std::time::Duration;

use sectile::ports::{Cluster as _, PortError};
use serde_json::json;

use crate::objects::{NODE, labelled, node};
use crate::rig::{OURS, PAUSED, PLUGIN, Rig, mark, plan, taint};
use crate::server::Fault;

#[tokio::test(start_paused = true)]
async fn a_taint_keeps_those_of_others_and_tells_for_which_plan_it_is() {
    let mut tainted = node(NODE);
    tainted["spec"]["taints"] = json!([{ "key": "team", "value": "a", "effect": "NoExecute" }]);
    let rig = Rig::new([("nodes", tainted)]);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert!(rig.node().await.tainted);
    // It is on already: nothing is asked.
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_taint(NODE, None).await.unwrap();
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert!(!rig.node().await.tainted);
    assert_eq!(mark(&rig.stored()), None);
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_taint_keeps_the_mark_of_a_pause_and_outlives_it() {
    let rig = Rig::new([("nodes", labelled(&[(PLUGIN, "true")]))]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert_eq!(mark(&rig.stored()).unwrap()["paused"], json!({ PLUGIN: "true" }));
    rig.cluster.set_taint(NODE, None).await.unwrap();
    // The pause is still to be ended, so its mark stays.
    assert_eq!(mark(&rig.stored()).unwrap()["paused"], json!({ PLUGIN: "true" }));
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(mark(&rig.stored()), None);
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn whoever_was_faster_is_not_overwritten() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.node().await;
    // The adapter has not heard of it yet.
    let mut changed = rig.stored();
    changed["spec"]["taints"] = json!([taint("somebody/else")]);
    rig.server.lock().store.put_unheard("nodes", changed);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([taint("somebody/else"), taint(OURS)]));
    let lines = ["PATCH /api/v1/nodes/n? 409", "GET /api/v1/nodes/n 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), lines);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_changed_all_the_time_is_tried_again_later() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.server.fail("PATCH", u32::MAX, Fault::Refused(409, "the object has been modified"));
    let error = rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (true, "409"));
    assert_eq!(error.to_string(), "node n is changed by others all the time: 409");
    assert_eq!(rig.server.lines().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_a_patch_is_answered_tells_whether_to_try_again() {
    let cases = [
        (Fault::Refused(401, "Unauthorized"), true, "401 Unauthorized"),
        (Fault::Refused(403, "it is not your node"), false, "403 it is not your node"),
        (Fault::Refused(404, "not found"), false, "404 not found"),
        (Fault::Refused(410, "Gone"), true, "410 Gone"),
        (Fault::Refused(422, "invalid"), false, "422 invalid"),
        (Fault::Refused(429, "slow down"), true, "429 slow down"),
        (Fault::Refused(500, "etcd"), true, "500 etcd"),
        (Fault::Proxy(502, "<html>bad gateway\n</html>"), true, "502 <html>bad gateway"),
        (Fault::Refused(503, ""), true, "503"),
        (Fault::Lost, true, "ServiceError: connection reset by peer"),
        (Fault::Slow(std::time::Duration::from_secs(31)), true, "no answer for 30 s"),
    ];
    for (fault, transient, code) in cases {
        let rig = Rig::new([("nodes", node(NODE))]);
        rig.server.fail("PATCH", 1, fault.clone());
        let told = rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap_err();
        let message = "changing node n".to_owned();
        assert_eq!(told, PortError { transient, code: code.to_owned(), message }, "{fault:?}");
        // The next time it works: nothing was tried again by itself, and nothing is remembered.
        rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
        assert!(rig.node().await.tainted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_waited_for() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.server.fail("PATCH", 1, Fault::Slow(std::time::Duration::from_secs(29)));
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.server.lines(), ["PATCH /api/v1/nodes/n? 200"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_cluster_does_not_know_is_not_changed() {
    let rig = Rig::new([]);
    let error = rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap_err();
    assert_eq!(
        (error.transient, error.to_string().as_str()),
        (false, "the cluster has no node n (--node tells what it calls this one): 404")
    );
    assert_eq!(rig.server.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_tells_late_does_not_hide_our_taint() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.node().await;
    let before = rig.stored();
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    // A change from before the taint comes through the watch only now.
    let line = format!("{}\n", json!({ "type": "MODIFIED", "object": before }));
    rig.server.lock().store.say("nodes", line);
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert!(rig.node().await.tainted);
    }
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([]));
    assert_eq!(rig.server.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn half_of_what_a_taint_is_is_made_whole_or_taken_off() {
    // The taint is there, and nobody knows for which plan.
    let mut half = node(NODE);
    half["spec"]["taints"] = json!([taint(OURS)]);
    let rig = Rig::new([("nodes", half)]);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert!(mark(&rig.stored()).is_some());
    assert_eq!(rig.stored()["spec"]["taints"], json!([taint(OURS)]));
    // Somebody took the taint off by hand, and left the mark.
    rig.server.edit("nodes", "", NODE, |node| node["spec"]["taints"] = json!([]));
    rig.until(async |_| !rig.node().await.tainted).await;
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert_eq!(mark(&rig.stored()), None);
}

/// A tainted node whose mark is damaged.
fn damaged(labels: &[(&str, &str)]) -> serde_json::Value {
    let mut node = labelled(labels);
    node["spec"]["taints"] = json!([taint(OURS)]);
    node["metadata"]["annotations"][OURS] = json!(DAMAGED);
    node
}

const DAMAGED: &str = "{\"plan\":\"sha256:";

#[tokio::test(start_paused = true)]
async fn a_mark_that_can_not_be_read_is_not_thrown_away_while_clients_are_paused() {
    let rig = Rig::new([("nodes", damaged(&[(PLUGIN, PAUSED)]))]);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.server.lines(), [""; 0]);
    rig.cluster.set_taint(NODE, None).await.unwrap();
    let stored = rig.stored();
    assert_eq!((&stored["metadata"]["annotations"][OURS], &stored["spec"]["taints"]), (&json!(DAMAGED), &json!([])));
    assert!(rig.node().await.clients_paused);
    // A mark that is made anew tells what the old one did.
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    assert_eq!(mark(&rig.stored()).unwrap()["paused"], json!({ PLUGIN: "true" }));
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_can_not_be_read_does_not_stay_for_good() {
    for labels in [&[][..], &[(PLUGIN, "true")], &[(PLUGIN, "paused-for-driver-upgrade")]] {
        let rig = Rig::new([("nodes", damaged(labels))]);
        assert!(!rig.node().await.clients_paused);
        rig.cluster.set_taint(NODE, None).await.unwrap();
        assert_eq!(rig.stored()["metadata"]["annotations"], json!({}));
        assert_eq!(rig.stored()["metadata"]["labels"], labelled(labels)["metadata"]["labels"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_to_a_node_that_is_gone_is_not_tried_to_be_taken_back_for_ever() {
    let nowhere = Rig::new([]);
    nowhere.cluster.set_taint(NODE, None).await.unwrap();
    nowhere.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(nowhere.server.lines(), [""; 0]);
    nowhere.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap_err();
    // It went a moment ago, and the adapter has not heard of it yet.
    let rig = Rig::new([("nodes", labelled(&[(PLUGIN, "true")]))]);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.forget_asked();
    rig.server.lock().store.remove_unheard("nodes", "", NODE);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert_eq!(rig.server.lines(), ["PATCH /api/v1/nodes/n? 404", "PATCH /api/v1/nodes/n? 404"]);
    // Nothing can be done to it.
    rig.cluster.set_clients_paused("m", Some(&plan())).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_that_was_made_anew_does_not_hide_the_new_one() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.node().await;
    let before = rig.stored();
    // The adapter learns of the new one by its own change.
    rig.server.lock().store.remove_unheard("nodes", "", NODE);
    let mut anew = node(NODE);
    anew["metadata"]["uid"] = json!("another");
    rig.server.lock().store.put_unheard("nodes", anew);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    let line = format!("{}\n", json!({ "type": "DELETED", "object": before }));
    rig.server.lock().store.say("nodes", line);
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert!(rig.node().await.tainted);
    }
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert_eq!(rig.stored()["spec"]["taints"], json!([]));
    // Its own end is heard of.
    rig.server.lock().store.remove("nodes", "", NODE);
    rig.until(async |cluster| cluster.node(NODE).await.unwrap().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_an_answer_was_on_its_way_was_overwritten_and_never_told_again() {
    let rig = Rig::new([("nodes", node(NODE))]);
    assert!(rig.node().await.allocatable.is_empty());
    // The answer to our change takes a while, and the kubelet is faster.
    rig.server.fail("PATCH", 1, Fault::Slow(Duration::from_secs(5)));
    let kubelet = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.server.lock().store.edit("nodes", "", NODE, |node| {
            node["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = json!("3");
        });
    };
    let plan = plan();
    let (done, ()) = tokio::join!(rig.cluster.set_taint(NODE, Some(&plan)), kubelet);
    done.unwrap();
    let seen = rig.node().await;
    assert!(seen.tainted);
    assert_eq!(seen.allocatable["nvidia.com/mig-1g.10gb"], 3);
}
