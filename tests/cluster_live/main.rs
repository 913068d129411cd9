//! The program against a real API server (1.34 or later) with its scheduler and controllers: simulated GPUs, a stand-in
//! for the node's kubelet and device plugin ([`node`]), and the service account of packaging/.
//!
//! Ignored by default. It needs KUBECONFIG of an administrator of a cluster that may be played with, whose API server
//! runs on this machine, and kubectl: `cargo test --test cluster_live -- --ignored --test-threads 1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod bind;
mod controller;
mod fleet;
#[path = "../kubelet/mod.rs"]
mod kubelet;
mod node;
mod plane;
mod rights;
mod stage;

use std::time::Duration;

use stage::{Stage, wait_for};

const LAYOUT: &str = r#"
nodes = ["NODE"]
[[gpu]]
index = [0]
instances = [{ profile = "2g.20gb", start = 0 }, { profile = "3g.40gb", start = 4 }]
[[gpu]]
index = [1]
instances = ["4g.40gb", "3g.40gb"]
"#;
const POLICY: &str = "nodes = [\"*\"]\n[drain]\ntimeout = \"90s\"\n";
/// GPU 0 and GPU 1 each with a 2g and a 3g.
const FLEET: &str = r#"
[[node]]
name = "NODE"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  count = 2
  mig = true
  instances = [{ profile = "2g.20gb", start = 0 }, { profile = "3g.40gb", start = 4 }]
"#;

/// A Deployment on both 3g, and a StatefulSet of one pod on the 2g of GPU 1 under a budget.
fn filled(name: &str, allowed: u32) -> Stage {
    filled_with(FLEET, name, allowed)
}

/// The same of another fleet.
fn filled_with(fleet: &str, name: &str, allowed: u32) -> Stage {
    let stage = Stage::set(name, fleet, LAYOUT, POLICY);
    stage.workload("Deployment", "llama", 2, "nvidia.com/mig-3g.40gb");
    stage.workload("StatefulSet", "embed", 1, "nvidia.com/mig-2g.20gb");
    stage.budget("embed", allowed);
    wait_for("all pods to run", || stage.running("llama") == 2 && stage.running("embed") == 1);
    stage
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn exactly_the_pod_on_the_instance_that_goes_moves_and_nothing_is_left_behind() {
    let stage = filled("moves", 1);
    let (llama, embed) = (stage.uids("llama"), stage.uids("embed"));
    let plan = stage.sectile(&["plan", "-o", "json"]);
    assert!(plan.code == 0 && plan.stdout.contains("\"evict_pod\""), "{plan:?}");
    assert_eq!(plan.stdout.matches("\"kind\": \"evict_pod\"").count(), 1, "{}", plan.stdout);
    let asked = stage.sectile(&["apply", "--dry-run=server"]);
    assert!(asked.stderr.contains("embed-0 would be evicted"), "{asked:?}");
    assert_eq!(stage.uids("embed"), embed, "a dry run changed something");
    let applied = stage.sectile(&["apply", "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.stdout.contains("Verified by observing again: 1 node converged, 4 instances."), "{applied:?}");
    assert_eq!(stage.uids("llama"), llama, "a pod that could stay was moved");
    wait_for("embed to run again", || stage.running("embed") == 1);
    assert_ne!(stage.uids("embed"), embed);
    let log = stage.log();
    assert!(log.paused && log.robbed.is_empty() && log.rejected.is_empty(), "{log:?}");
    drop(log);
    let node = stage.node();
    assert_eq!(node["spec"]["taints"], serde_json::Value::Null, "{node}");
    let metadata = &node["metadata"];
    assert_eq!(metadata["labels"][node::DEPLOY], "true");
    assert_eq!(metadata["labels"]["sectile.dev/state"], "converged");
    assert_eq!(metadata["annotations"]["sectile.dev/repartitioning"], serde_json::Value::Null);
    assert!(metadata["annotations"]["sectile.dev/observed"].as_str().unwrap().contains("MIG-"));
    let events = stage.events();
    for reason in ["MigRepartitioning", "MigRepartitioned", "MigInstanceGoes"] {
        assert!(events.contains(reason), "{reason}: {events}");
    }
    assert_eq!(stage.sectile(&["plan", "--detailed-exitcode"]).code, 0);
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_budget_that_stays_shut_moves_nobody_and_touches_nothing() {
    let stage = filled("shut", 0);
    let before = (stage.uids("llama"), stage.uids("embed"), stage.node()["spec"].clone());
    let applied = stage.sectile(&["apply", "--yes"]);
    assert!(
        applied.stdout.contains("PodDisruptionBudget") && applied.stdout.contains("allows no eviction now"),
        "{applied:?}"
    );
    assert_eq!((stage.uids("llama"), stage.uids("embed"), stage.node()["spec"].clone()), before);
    assert!(!stage.log().paused);
    assert_eq!(stage.sectile(&["plan", "--detailed-exitcode"]).code, 2);
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_budget_that_shuts_behind_the_plan_ends_it_and_all_is_taken_back() {
    let stage = filled("shuts", 1);
    stage.edit_policy("nodes = [\"*\"]\n[drain]\ntimeout = \"20s\"\n");
    let before = (stage.uids("llama"), stage.uids("embed"));
    // A pod that is bound already and not admitted yet is waited for behind the taint.
    stage.log().frozen = true;
    stage.bound("late", "nvidia.com/mig-3g.40gb");
    let running = stage.begin(&["apply", "--yes"]);
    wait_for("the taint", || stage.is_tainted());
    stage.set_budget("embed", 0);
    stage.log().frozen = false;
    let ended = running.end();
    assert!(ended.stderr.contains("its disruption budget allowed no eviction for 20 s"), "{ended:?}");
    assert!(ended.code == 0 && ended.stdout.contains("is waiting") && ended.stdout.contains("0 moved"), "{ended:?}");
    assert_eq!((stage.uids("llama"), stage.uids("embed")), before);
    assert!(!stage.is_tainted() && !stage.is_paused());
    // Both 3g were taken, and the kubelet said so before anybody was evicted.
    let log = stage.log();
    assert!(log.rejected == [format!("{}/late", stage.name)] && !log.paused, "{log:?}");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_run_that_was_killed_is_made_up_for_from_the_cluster_alone() {
    let stage = filled("killed", 1);
    let llama = stage.uids("llama");
    let running = stage.begin(&["apply", "--yes"]);
    wait_for("the pause", || stage.is_paused());
    running.kill();
    assert!(stage.is_tainted() && stage.is_paused());
    // What was remembered on the node is lost, too.
    stage.lose_state();
    let applied = stage.sectile(&["apply", "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(!stage.is_tainted() && !stage.is_paused());
    assert_eq!(stage.uids("llama"), llama);
    wait_for("embed to run again", || stage.running("embed") == 1);
    let log = stage.log();
    assert!(log.robbed.is_empty() && log.rejected.is_empty(), "{log:?}");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn the_api_server_may_be_restarted_in_the_middle() {
    let stage = filled("restart", 1);
    let llama = stage.uids("llama");
    let _supervisor = plane::Supervisor::begin();
    let running = stage.begin(&["apply", "--yes"]);
    wait_for("the taint", || stage.is_tainted());
    plane::restart_api_server(Duration::from_secs(5));
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(stage.uids("llama"), llama);
    assert!(!stage.is_tainted() && !stage.is_paused());
    wait_for("embed to run again", || stage.running("embed") == 1);
    assert!(stage.log().robbed.is_empty());
    assert_eq!(stage.sectile(&["plan", "--detailed-exitcode"]).code, 0);
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_pod_that_finds_no_place_is_told_with_the_schedulers_reason() {
    let stage = Stage::set(
        "pending",
        FLEET,
        "nodes = [\"NODE\"]\n[[gpu]]\ninstances = { \"3g.40gb\" = 1, \"2g.20gb\" = 1, \"1g.10gb\" = 2 }\n",
        POLICY,
    );
    stage.workload("Deployment", "late", 1, "nvidia.com/mig-7g.80gb");
    wait_for("the scheduler's word", || stage.pods("late").contains("Unschedulable"));
    let status = stage.sectile(&["status", "-o", "json"]);
    assert!(status.stdout.contains("Insufficient nvidia.com/mig-7g.80gb"), "{}", status.stdout);
    // New instances alone disturb nobody: no taint, and the plugin is only restarted.
    let applied = stage.sectile(&["apply", "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn the_fleet_is_planned_from_afar_with_rights_to_read_alone() {
    let stage = filled("afar", 1);
    assert_eq!(stage.sectile(&["apply", "--yes"]).code, 0);
    let plan = stage.preview(&["plan", "--fleet", "--node", &stage.name]);
    assert!(plan.code == 0 && plan.stdout.contains("converged"), "{plan:?}");
    assert!(plan.stdout.contains(" · seen ") && plan.stdout.contains(" s ago"), "{plan:?}");
    stage.edit_layout(&LAYOUT.replace("\"4g.40gb\", \"3g.40gb\"", "\"3g.40gb\""));
    let plan = stage.preview(&["plan", "--fleet", "--node", &stage.name, "-o", "json"]);
    assert!(plan.stdout.contains("\"destroy_instance\""), "{plan:?}");
    // The same from saved documents, without any cluster.
    let folder = stage.folder("documents");
    std::fs::write(folder.join("node.json"), stage.sectile(&["status", "-o", "json"]).stdout).unwrap();
    let saved = stage.alone(&["plan", "--fleet", "--observed", folder.to_str().unwrap()]);
    assert!(saved.code == 0 && saved.stdout.contains("4g.40gb at 0"), "{saved:?}");
}
