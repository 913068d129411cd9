//! What is kept by watches: dropped ones, ones that fell behind, a server that is away, and what may not be seen.

use std::time::Duration;

use sectile::cluster::KubeCluster;
use sectile::ports::Cluster as _;
use serde_json::json;

use crate::objects::{NODE, node, pod, user};
use crate::rig::{Rig, plan};
use crate::server::Fault;

const SLICE: &str = "nvidia.com/mig-1g.10gb";

async fn names(cluster: &KubeCluster) -> Vec<String> {
    cluster.observe().await.unwrap().pods.into_iter().map(|pod| pod.name).collect()
}

/// A node and a pod, seen.
async fn watching() -> Rig {
    let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
    assert_eq!(names(&rig.cluster).await, ["a"]);
    let watches = |rig: &Rig| rig.server.lock().looked.iter().filter(|line| line.starts_with("WATCH")).count();
    rig.until(async |_| watches(&rig) == 11).await;
    rig.server.forget_asked();
    rig
}

fn looked(rig: &Rig, at: &str) -> Vec<String> {
    rig.server.lock().looked.iter().filter(|line| line.contains(at)).cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_is_taken_up_where_it_was() {
    for broken in [false, true] {
        let rig = watching().await;
        rig.server.put("pods", user("b", SLICE, 1));
        rig.until(async |cluster| names(cluster).await == ["a", "b"]).await;
        rig.server.lock().store.drop_watches("pods", broken);
        // Told to nobody, since nobody watches.
        rig.server.put("pods", user("c", SLICE, 1));
        rig.server.lock().store.remove("pods", "a", "a");
        rig.until(async |cluster| names(cluster).await == ["b", "c"]).await;
        assert_eq!(looked(&rig, " pods"), ["WATCH pods 103"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_where_it_is_taken_up() {
    let rig = watching().await;
    for _ in 0..5 {
        rig.server.put("nodes", node("other"));
    }
    rig.server.lock().store.bookmark("pods");
    tokio::time::sleep(Duration::from_millis(1)).await;
    rig.server.lock().store.drop_watches("pods", false);
    rig.server.put("pods", user("b", SLICE, 1));
    rig.until(async |cluster| names(cluster).await == ["a", "b"]).await;
    assert_eq!(looked(&rig, " pods"), ["WATCH pods 107"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_behind_is_followed_by_a_list() {
    // The server tells it by its answer, or by an event.
    for by_event in [false, true] {
        let rig = watching().await;
        rig.server.lock().store.remove("pods", "a", "a");
        rig.server.put("pods", user("b", SLICE, 1));
        rig.server.lock().store.forget();
        let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version" } });
        if by_event {
            rig.server.lock().store.say("pods", format!("{gone}\n"));
        }
        rig.server.lock().store.drop_watches("pods", false);
        rig.until(async |cluster| cluster.observe().await.is_ok_and(|seen| seen.pods.len() == 1)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(names(&rig.cluster).await, ["b"]);
        assert_eq!(looked(&rig, "LIST pods"), ["LIST pods"], "{by_event}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_watch_ends_nothing() {
    let rig = watching().await;
    let error = json!({ "type": "ERROR", "object": { "kind": "Status", "status": "Failure", "code": 500 } });
    rig.server.lock().store.say("pods", format!("{error}\n"));
    rig.server.put("pods", user("b", SLICE, 1));
    rig.until(async |cluster| names(cluster).await == ["a", "b"]).await;
    assert_eq!(looked(&rig, " pods"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_can_not_be_read_is_not_passed_over() {
    let rig = watching().await;
    let mut odd = user("b", SLICE, 1);
    rig.server.lock().store.put_unheard("pods", odd.clone());
    odd["spec"]["containers"] = json!(7);
    rig.server.lock().store.say("pods", format!("{}\n", json!({ "type": "ADDED", "object": odd })));
    rig.until(async |cluster| cluster.observe().await.is_ok_and(|seen| seen.pods.len() == 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_an_error_meanwhile_and_nothing_is_lost() {
    let rig = watching().await;
    rig.server.away(true);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let error = rig.cluster.observe().await.unwrap_err();
        assert!(error.transient && error.code.contains("connection refused"), "{error}");
        assert!(rig.cluster.holders(NODE).await.is_err() && rig.cluster.node(NODE).await.is_err());
    }
    // It goes on to be asked, but not often: eleven kinds, each every half a minute.
    let asked = rig.server.lock().looked.len();
    assert!((60..=165).contains(&asked), "{asked}");
    rig.server.lock().store.remove("pods", "a", "a");
    rig.server.put("pods", user("b", SLICE, 1));
    rig.server.away(false);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(names(&rig.cluster).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_there_is_no_empty_cluster() {
    let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
    rig.server.away(true);
    assert!(rig.cluster.observe().await.unwrap_err().transient);
    assert!(rig.cluster.labels(NODE).await.unwrap_err().transient);
    rig.server.away(false);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(names(&rig.cluster).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_does_not_come_is_an_error() {
    let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
    rig.server.fail("GET /api/v1/pods", 1, Fault::Slow(Duration::from_secs(100)));
    let error = rig.cluster.observe().await.unwrap_err();
    assert_eq!((error.transient, error.to_string().as_str()), (true, "listing pods: no answer for 30 s"));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(names(&rig.cluster).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn expired_credentials_pass() {
    let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
    rig.server.fail("GET", 10, Fault::Refused(401, "Unauthorized"));
    let error = rig.cluster.observe().await.unwrap_err();
    assert!(error.transient && error.code.starts_with("401"), "{error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&rig.cluster).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_there_or_may_not_be_seen_is_a_gap() {
    for (status, words) in [(404, "404 not here"), (403, "403 not here")] {
        let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
        rig.server.fail("/resourceclaims", 1, Fault::Refused(status, "not here"));
        rig.server.fail("/jobs", 1, Fault::Refused(status, "not here"));
        let seen = rig.cluster.observe().await.unwrap();
        assert_eq!(seen.pods.len(), 1);
        let gaps: Vec<String> = seen.gaps.iter().map(|gap| format!("{}: {}", gap.object, gap.message)).collect();
        let told = |kind: &str| format!("{kind}: watching {kind}: {words}");
        assert_eq!(gaps, [told("jobs"), told("resourceclaims")]);
        // It may be there later.
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(rig.cluster.observe().await.unwrap().gaps, []);
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_before_a_kind_turns_out_to_be_missing_is_over() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.server.fail("/resourceclaims", 1, Fault::Lost);
    rig.server.fail("/resourceclaims", u32::MAX, Fault::Refused(404, "not here"));
    assert!(rig.cluster.observe().await.unwrap_err().transient);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.cluster.observe().await.unwrap().gaps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_see_pods_or_nodes_sees_no_empty_cluster() {
    for part in ["GET /api/v1/pods", "GET /api/v1/nodes"] {
        for status in [403, 404] {
            let rig = Rig::new([("nodes", node(NODE)), ("pods", user("a", SLICE, 1))]);
            rig.server.fail(part, 1, Fault::Refused(status, "no"));
            let error = rig.cluster.observe().await.unwrap_err();
            assert!(!error.transient && error.code == format!("{status} no"), "{error}");
            assert!(rig.cluster.holders(NODE).await.is_err());
            // Once the right is granted it is seen.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(names(&rig.cluster).await, ["a"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_later_is_noticed() {
    let rig = watching().await;
    rig.server.fail("GET /api/v1/pods", u32::MAX, Fault::Refused(403, "no"));
    rig.server.lock().store.drop_watches("pods", false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = rig.cluster.observe().await.unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (false, "403 no"));
}

#[tokio::test(start_paused = true)]
async fn long_lists_come_in_pages() {
    let many = (0..1200).map(|i| ("pods", user(&format!("p{i:04}"), SLICE, 1)));
    let rig = Rig::new(many.chain([("nodes", node(NODE))]));
    assert_eq!(names(&rig.cluster).await.len(), 1200);
    assert_eq!(looked(&rig, "LIST pods").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_is_not_listed_again() {
    let rig = watching().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(names(&rig.cluster).await, ["a"]);
    assert_eq!(looked(&rig, "LIST"), [""; 0]);
    // A watch ends by itself after five minutes.
    let watches = looked(&rig, "WATCH pods").len();
    assert!((11..=13).contains(&watches), "{watches}");
}

#[tokio::test(start_paused = true)]
async fn pods_that_want_no_gpus_are_not_kept() {
    let rig = watching().await;
    rig.server.put("pods", pod("web", Some(NODE)));
    rig.server.put("pods", user("b", SLICE, 1));
    rig.until(async |cluster| names(cluster).await == ["a", "b"]).await;
    // One that wants none any more is as good as gone.
    rig.server.edit("pods", "a", "b", |pod| pod["spec"]["containers"][0]["resources"] = json!({}));
    rig.until(async |cluster| names(cluster).await == ["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_leaves_nothing_behind() {
    let many = (0..600).map(|i| ("pods", user(&format!("p{i:04}"), SLICE, 1)));
    let rig = Rig::new(many.chain([("nodes", node(NODE))]));
    rig.server.fail("continue=500", 1, Fault::Lost);
    assert!(rig.cluster.observe().await.unwrap_err().transient);
    rig.server.lock().store.remove("pods", "a", "p0000");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&rig.cluster).await.len(), 599);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_restored_counts_from_an_earlier_version() {
    let rig = watching().await;
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    rig.server.fail("GET /api/v1/nodes?&watch", 1, Fault::Refused(410, "too large resource version"));
    rig.server.lock().store.restore("nodes", node(NODE));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!rig.node().await.tainted);
    rig.server.edit("nodes", "", NODE, |node| node["metadata"]["labels"]["seen"] = json!("yes"));
    rig.until_label("seen", "yes").await;
}

#[tokio::test(start_paused = true)]
async fn trouble_with_a_kind_that_was_missing_does_not_last() {
    let rig = Rig::new([("nodes", node(NODE))]);
    rig.server.fail("/resourceclaims", 1, Fault::Refused(404, "not here"));
    rig.server.fail("/resourceclaims", 1, Fault::Lost);
    assert_eq!(rig.cluster.observe().await.unwrap().gaps.len(), 1);
    tokio::time::sleep(Duration::from_secs(305)).await;
    assert_eq!(rig.cluster.observe().await.unwrap().gaps, []);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_listed_soon_the_next_time() {
    let rig = watching().await;
    rig.server.away(true);
    tokio::time::sleep(Duration::from_secs(300)).await;
    rig.server.away(false);
    tokio::time::sleep(Duration::from_secs(31)).await;
    rig.server.lock().store.forget();
    rig.server.lock().store.drop_watches("pods", false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&rig.cluster).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_bound_a_moment_ago_is_not_overlooked_because_a_watch_is_late() {
    let rig = watching().await;
    rig.server.lock().store.put_unheard("pods", user("b", SLICE, 1));
    let mut elsewhere = user("c", SLICE, 1);
    elsewhere["spec"]["nodeName"] = json!("m");
    rig.server.lock().store.put_unheard("pods", elsewhere);
    rig.server.lock().store.remove_unheard("pods", "a", "a");
    assert_eq!(names(&rig.cluster).await, ["a"]);
    let held = rig.cluster.holders(NODE).await.unwrap();
    assert_eq!(held.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
    // Who can't be asked now is not taken for what was told before.
    rig.server.fail("fieldSelector", 1, Fault::Refused(500, "etcd"));
    assert!(rig.cluster.holders(NODE).await.unwrap_err().transient);
    assert!(rig.cluster.holders(NODE).await.is_ok());
}

#[test]
fn a_service_that_asked_for_changes_before_its_first_look_began_to_watch_without_a_runtime_and_died() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let rig = runtime.block_on(async { Rig::new([("nodes", node(NODE))]) });
    assert_eq!(rig.cluster.changes(), 0);
    runtime.block_on(rig.cluster.observe()).unwrap();
    assert!(rig.cluster.changes() > 0);
}
