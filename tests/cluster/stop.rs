//! Suspensions in the cluster: what is written, what is read however it was written, and what stops a plan.

use std::collections::BTreeSet;

use sectile::cluster::names::{BUDGETS, NAMESPACE, SUSPENDED, UPGRADE};
use sectile::cluster::{KubeCluster, requests};
use sectile::model::observed::{Scope, Suspension};
use sectile::ports::{Cluster as _, Reason};
use serde_json::{Value, json};

use crate::objects::{NODE, node};
use crate::rig::Rig;
use crate::server::Fault;

/// What all nodes share.
fn shared() -> Value {
    json!({ "metadata": { "name": BUDGETS, "namespace": NAMESPACE, "annotations": {} } })
}

fn rig() -> Rig {
    Rig::new([("nodes", node(NODE)), ("nodes", node("m")), ("configmaps", shared())])
}

fn suspension(scope: Scope) -> Suspension {
    let (reason, since) = ("INC-4711".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    Suspension { reason, since, by: Some("ann".to_owned()), scope, ..Suspension::default() }
}

async fn stopped(cluster: &KubeCluster, node: &str) -> Option<Suspension> {
    cluster.stopped(node).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_is_suspended_and_resumed_from_afar_and_it_is_recorded() {
    let rig = rig();
    assert_eq!(stopped(&rig.cluster, NODE).await, None);
    rig.server.forget_asked();
    let becomes = suspension(Scope::Node);
    rig.cluster.suspend_node(NODE, Some(&becomes)).await.unwrap();
    rig.cluster.tell_suspension(Some(NODE), Reason::Suspended, "ann suspended it: INC-4711").await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_some()).await;
    assert_eq!(stopped(&rig.cluster, NODE).await, Some(becomes.clone()));
    assert_eq!(stopped(&rig.cluster, "m").await, None);
    assert_eq!(
        rig.cluster.suspensions().await.unwrap(),
        [("m".to_owned(), None), (NODE.to_owned(), Some(becomes))].into()
    );
    rig.cluster.suspend_node(NODE, None).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_none()).await;
    assert!(rig.cluster.suspend_node("nobody", None).await.unwrap_err().code.starts_with("404"));
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn the_fleet_is_suspended_by_the_object_that_all_share() {
    let rig = rig();
    assert_eq!(stopped(&rig.cluster, NODE).await, None);
    rig.cluster.suspend_fleet(Some(&suspension(Scope::Fleet))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_some()).await;
    assert_eq!(stopped(&rig.cluster, "m").await, Some(suspension(Scope::Fleet)));
    assert_eq!(rig.cluster.fleet_suspension().await, Ok(Some(suspension(Scope::Fleet))));
    let (_, fleet) = rig.cluster.fleet().await.unwrap();
    assert!(fleet.values().all(|node| node.suspended == Some(suspension(Scope::Fleet))));
    // What is said of a node goes before what is said of all.
    rig.cluster.suspend_node(NODE, Some(&suspension(Scope::Node))).await.unwrap();
    let is_own = async |cluster: &KubeCluster| stopped(cluster, NODE).await.is_some_and(|by| by.scope == Scope::Node);
    rig.until(is_own).await;
    rig.cluster.suspend_fleet(None).await.unwrap();
    rig.until(async |cluster| stopped(cluster, "m").await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_stands_there_by_hand_counts() {
    let rig = rig();
    for (text, reason) in [
        ("ask ann first", "ask ann first"),
        ("", "no reason was given"),
        ("{\"reason\":\"x\"}", "x"),
        ("{\"reason\":", "{\"reason\":"),
        ("false", "false"),
        ("two\nlines \u{1b}[31m", "two lines  [31m"),
    ] {
        rig.server.edit("nodes", "", NODE, |node| node["metadata"]["annotations"][SUSPENDED] = json!(text));
        let reads = async |cluster: &KubeCluster| {
            stopped(cluster, NODE).await.is_some_and(|by| by.reason == reason && by.scope == Scope::Node)
        };
        rig.until(reads).await;
    }
}

/// Its driver manager unloads the modules, which it can't while anybody has the driver open.
#[tokio::test(start_paused = true)]
async fn while_the_operator_upgrades_the_driver_the_node_is_left_alone_without_it() {
    let rig = rig();
    let label = |state: &str| {
        let state = state.to_owned();
        rig.server.edit("nodes", "", NODE, |node| node["metadata"]["labels"][UPGRADE] = json!(state));
    };
    let upgraded = async |cluster: &KubeCluster| {
        stopped(cluster, NODE).await.is_some_and(|by| by.release && by.scope == Scope::Operator)
    };
    for state in ["cordon-required", "pod-restart-required", "validation-required", "upgrade-failed", "something-new"] {
        label(state);
        rig.until(async |cluster| {
            upgraded(cluster).await && stopped(cluster, NODE).await.is_some_and(|by| by.reason.ends_with(state))
        })
        .await;
    }
    // Somebody else's suspension does not keep the driver from it, and outlasts it.
    let own = suspension(Scope::Node);
    rig.cluster.suspend_node(NODE, Some(&own)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(upgraded(&rig.cluster).await);
    label("upgrade-done");
    rig.until(async |cluster| stopped(cluster, NODE).await == Some(own.clone())).await;
    rig.cluster.suspend_node(NODE, None).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_none()).await;
    label("upgrade-required");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(stopped(&rig.cluster, NODE).await, None, "it waits for its turn");
}

#[tokio::test(start_paused = true)]
async fn a_nodes_own_suspension_hid_that_the_fleet_was_to_let_go_of_the_driver() {
    let rig = rig();
    rig.cluster.suspend_node(NODE, Some(&suspension(Scope::Node))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_some()).await;
    let whole = Suspension { release: true, ..suspension(Scope::Fleet) };
    rig.cluster.suspend_fleet(Some(&whole)).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await == Some(whole.clone())).await;
    assert_eq!(rig.cluster.fleet().await.unwrap().1[NODE].suspended, Some(whole));
}

#[tokio::test(start_paused = true)]
async fn a_suspension_that_has_ended_by_itself_stops_nobody() {
    let rig = rig();
    let until = |time: &str| Suspension { until: Some(time.to_owned()), release: true, ..suspension(Scope::Node) };
    rig.cluster.suspend_node(NODE, Some(&until("2999-01-01T00:00:00Z"))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await == Some(until("2999-01-01T00:00:00Z"))).await;
    rig.cluster.suspend_node(NODE, Some(&until("2026-01-02T00:00:00Z"))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_none()).await;
    assert_eq!(rig.cluster.fleet().await.unwrap().1[NODE].suspended, None);
    // Whoever wrote it meant something.
    rig.cluster.suspend_node(NODE, Some(&until("tomorrow"))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_some()).await;
    let ended = Suspension { scope: Scope::Fleet, ..until("2026-01-02T00:00:00Z") };
    rig.cluster.suspend_fleet(Some(&ended)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(stopped(&rig.cluster, "m").await, None);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_installed_the_fleet_can_not_be_suspended_and_that_is_told() {
    let rig = Rig::new([("nodes", node(NODE))]);
    assert_eq!(stopped(&rig.cluster, NODE).await, None);
    for error in [
        rig.cluster.suspend_fleet(Some(&suspension(Scope::Fleet))).await.unwrap_err(),
        rig.cluster.fleet_suspension().await.unwrap_err(),
    ] {
        assert!(error.message.contains("install packaging/kubernetes first"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_told_last_holds_while_it_is_away_and_what_it_never_told_is_unknown() {
    let rig = rig();
    rig.cluster.suspend_node(NODE, Some(&suspension(Scope::Node))).await.unwrap();
    rig.until(async |cluster| stopped(cluster, NODE).await.is_some()).await;
    rig.server.away(true);
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(rig.cluster.observe().await.is_err());
    rig.server.forget_asked();
    assert!(stopped(&rig.cluster, NODE).await.is_some());
    assert_eq!(stopped(&rig.cluster, "m").await, None);
    assert_eq!(rig.server.lines(), [""; 0], "a look costs no request");

    let rig = Rig::new([("nodes", node(NODE))]);
    rig.server.fail("configmaps", 100, Fault::Refused(403, "no"));
    let error = rig.cluster.stopped(NODE).await.unwrap_err();
    assert!(!error.transient && error.code.starts_with("403"), "{error:?}");
    let seen = rig.cluster.observe().await.unwrap();
    assert_eq!(seen.gaps.iter().map(|gap| gap.object.as_str()).collect::<Vec<_>>(), ["configmaps"]);
}

#[tokio::test(start_paused = true)]
async fn suspending_takes_the_rights_that_it_is_said_to_take() {
    let rig = rig();
    rig.cluster.suspensions().await.unwrap();
    rig.cluster.suspend_node(NODE, None).await.unwrap();
    rig.cluster.fleet_suspension().await.unwrap();
    rig.cluster.suspend_fleet(None).await.unwrap();
    rig.cluster.tell_suspension(None, Reason::Resumed, "x").await.unwrap();
    let owned = |r: &requests::Right| (r.group.to_owned(), r.resource.to_owned(), r.verb.to_owned());
    assert_eq!(rig.server.lock().needed, requests::SUSPENDING.iter().map(owned).collect::<BTreeSet<_>>());
}
