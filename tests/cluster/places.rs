//! Places of the budgets that nodes share, as the API server keeps them.

use sectile::model::{Known, Place, PlaceState, Reserved};
use sectile::ports::{Cluster as _, Version};

use crate::objects::{NODE, budgets, node};
use crate::rig::{OURS, Rig, plan, taint};
use crate::server::Fault;

fn place() -> Place {
    Place {
        run: "r".to_owned(),
        renewals: 3,
        lease_s: 60,
        state: PlaceState::Held,
        over: ["policies/p.toml".to_owned()].into(),
        nodes: 1,
        pods: 2,
        reserved: Reserved::from([("m".to_owned(), [("nvidia.com/mig-1g.10gb".to_owned(), 1)].into())]),
        revision: "main@1".to_owned(),
        since: "then".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_and_given_back_as_bytes() {
    let rig = Rig::new([("configmaps", budgets(&[("m", "{}")]))]);
    let (version, _) = rig.cluster.places().await.unwrap();
    assert!(rig.cluster.set_place(&version, NODE, Some(&place())).await.unwrap());
    let (version, places) = rig.cluster.places().await.unwrap();
    assert_eq!(places[NODE], Known::Known(place()));
    assert!(rig.cluster.set_place(&version, NODE, None).await.unwrap());
    // What stands under other keys is nobody else's to touch.
    assert_eq!(rig.cluster.places().await.unwrap().1.into_keys().collect::<Vec<_>>(), ["m"]);
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn of_two_who_read_the_same_places_one_is_too_late() {
    let rig = Rig::new([("configmaps", budgets(&[]))]);
    let (version, _) = rig.cluster.places().await.unwrap();
    assert!(rig.cluster.set_place(&version, "m", Some(&place())).await.unwrap());
    assert!(!rig.cluster.set_place(&version, NODE, Some(&place())).await.unwrap());
    assert_eq!(rig.cluster.places().await.unwrap().1.into_keys().collect::<Vec<_>>(), ["m"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_counts_as_held() {
    let texts = [("a", "garbage"), ("b", "{}"), ("c", ""), ("d", "{\"run\": 7}")];
    let rig = Rig::new([("configmaps", budgets(&texts))]);
    let (_, places) = rig.cluster.places().await.unwrap();
    assert_eq!(places.len(), 4);
    assert!(places.values().all(|place| *place == Known::Unknown));
}

#[tokio::test(start_paused = true)]
async fn without_the_object_nobody_takes_a_place_and_is_told_what_makes_it() {
    let rig = Rig::new([]);
    let (version, places) = rig.cluster.places().await.unwrap();
    assert_eq!((&version, places.len()), (&Version(None), 0));
    let error = rig.cluster.set_place(&version, NODE, Some(&place())).await.unwrap_err();
    assert!(!error.transient && error.to_string().contains("kubectl apply -k packaging/kubernetes"), "{error}");
    // It was deleted between.
    let error = rig.cluster.set_place(&Version(Some("1".to_owned())), NODE, Some(&place())).await.unwrap_err();
    assert!(!error.transient && error.code.starts_with("404"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_or_write_is_told_so() {
    let rig = Rig::new([("configmaps", budgets(&[]))]);
    let (version, _) = rig.cluster.places().await.unwrap();
    rig.server.fail("sectile-budgets", 2, Fault::Refused(403, "it is forbidden"));
    let error = rig.cluster.places().await.unwrap_err();
    assert_eq!(
        (error.transient, error.to_string().as_str()),
        (false, "ConfigMap sectile/sectile-budgets: 403 it is forbidden")
    );
    let error = rig.cluster.set_place(&version, NODE, None).await.unwrap_err();
    assert!(!error.transient && error.code.starts_with("403"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_is_asked_anew_whether_it_is_under_way() {
    let rig = Rig::new([("nodes", node(NODE))]);
    assert_eq!(rig.cluster.is_going(NODE).await.unwrap(), Some(false));
    // No watch is waited for.
    rig.server.edit("nodes", "", NODE, |node| node["spec"]["taints"] = serde_json::json!([taint(OURS)]));
    assert_eq!(rig.cluster.is_going(NODE).await.unwrap(), Some(true));
    rig.server.edit("nodes", "", NODE, |node| node["spec"]["taints"] = serde_json::json!([]));
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.cluster.is_going(NODE).await.unwrap(), Some(true));
    assert_eq!(rig.cluster.is_going("gone").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn peers_show_how_they_stand() {
    let rig = Rig::new([("nodes", node(NODE)), ("nodes", node("m"))]);
    rig.server.edit("nodes", "", "m", |node| {
        node["metadata"]["labels"]["sectile.dev/state"] = "failed".into();
        node["metadata"]["annotations"]["sectile.dev/revision"] = "main@1".into();
        node["spec"]["taints"] = serde_json::json!([taint(OURS)]);
    });
    let peers = rig.cluster.observe().await.unwrap().peers;
    let peer = &peers["m"];
    assert_eq!(peer.state.map(|state| state.word()), Some("failed"));
    assert_eq!((peer.revision.as_deref(), peer.is_going()), (Some("main@1"), true));
    assert!(peers[NODE].state.is_none() && !peers[NODE].is_going());
}
