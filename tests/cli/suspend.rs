//! `suspend` and `resume`: what is said, what is done meanwhile, and what is not.

use serde_json::Value;

use super::sandbox::Sandbox;

#[test]
fn a_suspended_node_is_shown_and_left_alone_until_it_is_resumed() {
    let sandbox = Sandbox::example();
    let mut shown = String::new();
    let mut show = |line: &str, env: &[(&str, &str)]| {
        let told = sandbox.run_with(line, env);
        shown.push_str(&format!("$ sectile {line}   # exits with {}\n{}{}\n", told.code, told.stdout, told.stderr));
        told
    };
    let reason = [("SECTILE_REASON", "INC-4711: driver upgrade"), ("USER", "ann")];
    assert_eq!(show("suspend --sim --node edge-*", &reason).code, 0);
    assert_eq!(show("plan --sim --node edge-01", &[]).code, 0);
    assert_eq!(sandbox.run("plan --sim --node edge-01 --detailed-exitcode").code, 3);
    assert_eq!(sandbox.run("plan --sim --node ws-01 --detailed-exitcode").code, 2);
    // Somebody must resume it, and what is there is not what is wanted.
    assert_eq!(show("apply --sim --node edge-01", &[]).code, 3);
    let told = show("status --sim", &[]);
    assert!(told.stdout.contains("edge-01   suspended"), "{told:?}");
    // The others go on.
    assert_eq!(sandbox.run("apply --sim").code, 3);
    assert_eq!(sandbox.run("plan --sim --node ws-01 --detailed-exitcode").code, 0);
    assert_eq!(show("suspend --sim --node edge-01", &[("SECTILE_REASON", "moving racks")]).code, 0);
    assert_eq!(show("resume --sim --node edge-01", &[]).code, 0);
    assert_eq!(show("resume --sim --node edge-01", &[]).code, 0);
    assert_eq!(sandbox.run("apply --sim").code, 0);
    // Where nothing is to be done, nothing is kept from being done.
    assert_eq!(show("suspend --sim --fleet --reason quiet", &[]).code, 0);
    assert_eq!(show("apply --sim", &[]).code, 0);
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 0);
    insta::assert_snapshot!(shown);
}

#[test]
fn programs_are_told_who_is_suspended_and_why() {
    let sandbox = Sandbox::example();
    let json = |line: &str| serde_json::from_str::<Value>(&sandbox.data(line)).unwrap();
    let told = json("suspend --sim --node *-a-0[12] --reason x -o json");
    let since = "2026-01-01T00:00:00Z";
    let suspended = serde_json::json!({ "reason": "x", "since": since });
    let nodes = ["gpu-a-01", "gpu-a-02"].map(|name| serde_json::json!({ "name": name, "suspended": suspended }));
    assert_eq!(told, serde_json::json!({ "format_version": "1", "nodes": nodes }));
    for line in ["plan --sim -o json", "status --sim -o json"] {
        let told = json(line);
        let node = |name: &str| told["nodes"].as_array().unwrap().iter().find(|n| n["name"] == name).unwrap().clone();
        assert_eq!((&node("gpu-a-01")["state"], &node("gpu-a-01")["suspended"]), (&"suspended".into(), &suspended));
        assert_eq!((&node("edge-01")["state"], &node("edge-01")["suspended"]), (&"changing".into(), &Value::Null));
    }
    let plan = json("plan --sim -o json --node gpu-a-01");
    let steps = plan["nodes"][0]["steps"].as_array().unwrap().clone();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["waits"] == "suspended"), "{steps:?}");
    let told = json("resume --sim -o json");
    assert!(told["nodes"].as_array().unwrap().iter().all(|node| node["suspended"].is_null()));
    assert_eq!(told["nodes"].as_array().unwrap().len(), 5);
}

/// A plan that was saved before is stale: its steps would wait now.
#[test]
fn a_saved_plan_of_a_node_that_was_suspended_since_is_stale() {
    let sandbox = Sandbox::example();
    sandbox.data("plan --sim --node ws-01 --out plan.json");
    sandbox.data("suspend --sim --node ws-01 --reason x");
    let told = sandbox.run("apply plan.json --sim");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("stale"), "{told:?}");
}

#[test]
fn what_can_not_be_suspended_is_wrong_usage() {
    let sandbox = Sandbox::example();
    for line in [
        "suspend --sim",
        "suspend --sim --reason",
        "suspend --sim --node nobody-* --reason x",
        "suspend --sim --node [ --reason x",
        "suspend --sim --fleet --node edge-01 --reason x",
        "resume --sim --fleet --node edge-01",
        "resume --sim --node nobody",
    ] {
        let told = sandbox.run(line);
        assert_eq!((told.code, told.stdout.as_str()), (64, ""), "{line}: {told:?}");
    }
}
