//! Plan, apply, plan again; and status before and after.

use sectile::model::Plan;
use sectile::sim::fleet::BUILTIN;
use sectile::sim::state::StateFile;

use super::sandbox::Sandbox;

#[test]
fn an_apply_leaves_nothing_to_change() {
    let sandbox = Sandbox::example();
    assert_eq!(sandbox.run("plan --sim").code, 0);
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 2);
    let told = sandbox.run("apply --sim");
    assert_eq!(told.code, 0);
    insta::assert_snapshot!(format!("{}---- stderr\n{}", told.stdout, told.stderr));
    let told = sandbox.run("plan --sim --detailed-exitcode");
    assert_eq!((told.code, told.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("planned_again", told.stdout);
    let told = sandbox.run("apply --sim");
    assert_eq!((told.code, told.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("applied_again", told.stdout);
}

#[test]
fn the_same_is_told_in_the_same_bytes() {
    let sandbox = Sandbox::example();
    for line in ["plan --sim", "plan --sim -o wide", "plan --sim -o json", "status --sim", "status --sim -o json"] {
        assert_eq!(sandbox.data(line), sandbox.data(line), "{line}");
    }
}

#[test]
fn a_plan_as_json_is_the_plan() {
    let sandbox = Sandbox::example();
    let text = sandbox.data("plan --sim -o json --out plan.json");
    let plan: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(plan.nodes.len(), 5);
    assert_eq!(serde_json::to_value(&plan).unwrap(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
    assert_eq!(sandbox.read("plan.json"), text);
}

#[test]
fn status_shows_desired_beside_observed() {
    let sandbox = Sandbox::example();
    insta::assert_snapshot!(sandbox.data("status --sim"));
    let status: serde_json::Value = serde_json::from_str(&sandbox.data("status --sim -o json")).unwrap();
    assert_eq!(status["format_version"], "1");
    let states: Vec<&str> = status["nodes"].as_array().unwrap().iter().map(|n| n["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["changing"; 5]);
    sandbox.data("apply --sim -q");
    insta::assert_snapshot!("status_after", sandbox.data("status --sim"));
}

#[test]
fn quiet_and_json_keep_stderr_and_stdout_clean() {
    let sandbox = Sandbox::example();
    let told = sandbox.run("apply --sim -q -o json");
    assert_eq!((told.code, told.stderr.as_str()), (0, ""));
    let status: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(status["nodes"][0]["state"], "converged");
}

#[test]
fn a_dry_run_changes_nothing() {
    let sandbox = Sandbox::example();
    let plan = sandbox.data("plan --sim");
    assert_eq!(sandbox.data("apply --sim --dry-run"), plan);
    assert_eq!(sandbox.data("plan --sim"), plan);
}

#[test]
fn one_node_is_planned_and_applied_alone() {
    let sandbox = Sandbox::example();
    let told = sandbox.run("plan --sim --node edge-01 --detailed-exitcode");
    assert_eq!(told.code, 2);
    insta::assert_snapshot!(told.stdout);
    assert!(sandbox.data("apply --sim --node edge-01").ends_with("1 node converged, 3 instances.\n"));
    assert_eq!(sandbox.run("plan --sim --node edge-01 --detailed-exitcode").code, 0);
    assert_eq!(sandbox.run("plan --sim --node ws-01 --detailed-exitcode").code, 2);
    let told = sandbox.run("plan --sim --node gpu-a-1");
    assert_eq!((told.code, told.stdout.as_str()), (64, ""));
    insta::assert_snapshot!("unknown_node", told.stderr);
    let told = sandbox.run("plan --sim --node router");
    assert!(!told.stderr.contains("did you mean"), "{told:?}");
}

#[test]
fn whoever_comes_second_is_told_who_was_first() {
    let sandbox = Sandbox::example();
    sandbox.data("apply --sim -q");
    let path = sandbox.path("state/sectile/sim-builtin.json");
    let first = StateFile::open(&path, BUILTIN, "FLEET.toml", false, false).unwrap();
    let told = sandbox.run("apply --sim");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    let who = format!("is in use by process {} since ", std::process::id());
    assert!(told.stderr.contains(&who), "{told:?}");
    assert!(told.stderr.contains("hint: wait until it is done"), "{told:?}");
    drop(first);
    assert_eq!(sandbox.run("apply --sim").code, 0);
}
