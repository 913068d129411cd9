//! Clusters without an API server: fleets from saved documents, evictions that are asked about, and nodes whose cluster
//! nobody told. With one: tests/cluster_live.

use super::sandbox::Sandbox;

#[test]
fn a_fleet_is_planned_from_saved_documents_as_it_was_seen() {
    let sandbox = Sandbox::example();
    for node in ["gpu-a-01", "gpu-a-02", "gpu-t-01"] {
        let document = sandbox.data(&format!("status --sim --node {node} -o json"));
        sandbox.write(&format!("seen/{node}.json"), &document);
    }
    let planned = sandbox.data("plan --fleet --observed seen");
    for node in ["gpu-a-01", "gpu-a-02", "gpu-t-01"] {
        let now = sandbox.data(&format!("plan --sim --node {node}"));
        let (head, rest) = now.split_once('\n').unwrap();
        let rest = rest.split_once("\nPlan:").unwrap().0.trim_end();
        let seen = planned.lines().find(|line| line.starts_with(head)).unwrap_or_else(|| panic!("{planned}"));
        assert!(seen.contains(" · seen ") && seen.ends_with(" days ago"), "{seen}");
        assert!(planned.contains(rest), "{planned}\n---\n{rest}");
    }
    let one = sandbox.data("plan --fleet --observed seen --node gpu-a-02");
    assert!(one.contains("gpu-a-02") && !one.contains("gpu-a-01"), "{one}");
    sandbox.write("seen/broken.json", "{}");
    let broken = sandbox.run("plan --fleet --observed seen");
    assert!(broken.code == 1 && broken.stderr.contains("seen/broken.json is no status document"), "{broken:?}");
    let empty = sandbox.run("plan --fleet --observed layouts");
    assert!(empty.code == 64 && empty.stderr.contains("holds no file *.json"), "{empty:?}");
    assert_eq!(sandbox.run("plan --observed seen").code, 64);
}

#[test]
fn a_fleet_is_shown_at_a_glance_simulated_or_from_saved_documents() {
    let sandbox = Sandbox::example();
    sandbox.run_with("suspend --sim --node gpu-a-02 --reason INC-4711", &[("USER", "ann")]);
    let now = sandbox.data("status --sim --fleet");
    sandbox.write("seen/all.json", &sandbox.data("status --sim -o json"));
    let seen = sandbox.data("status --fleet --observed seen");
    let line = |text: &str| text.lines().find(|line| line.starts_with("gpu-a-02")).unwrap().to_owned();
    assert!(line(&seen).contains(" days ago ") && line(&seen).ends_with("by ann: INC-4711"), "{seen}");
    let told: serde_json::Value = serde_json::from_str(&sandbox.data("status --sim --fleet -o json")).unwrap();
    assert_eq!((told["bindings"].as_array().unwrap().len(), &told["controller"]), (6, &serde_json::Value::Null));
    insta::assert_snapshot!(now);
}

#[test]
fn a_dry_run_tells_what_the_api_server_says_of_each_eviction_and_moves_nobody() {
    let sandbox = Sandbox::example();
    let before = sandbox.data("status --sim -o json");
    let asked = sandbox.run("apply --sim --dry-run=server --node gpu-a-01");
    assert!(asked.stderr.contains("API server: pod inference/embed-0 would be evicted"), "{asked:?}");
    assert_eq!(asked.code, 0);
    assert_eq!(sandbox.data("status --sim -o json"), before);
    let quiet = sandbox.run("apply --sim --dry-run=server --node edge-01");
    assert!(quiet.stderr.contains("there is no eviction to ask about"), "{quiet:?}");
}

#[test]
fn what_became_of_a_node_is_shown_in_its_cluster() {
    let sandbox = Sandbox::example();
    sandbox.data("apply --sim");
    let state = sandbox.read("state/sectile/sim-builtin.json");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let shown = &state["world"]["nodes"]["gpu-a-01"]["shown"];
    assert_eq!((shown["state"].as_str(), shown["revision"].as_str()), (Some("converged"), Some("r1")));
    let events = state["world"]["events"].as_array().unwrap();
    let of = |node: &str| -> Vec<&str> {
        let mine = events.iter().filter(|event| event["node"] == node);
        mine.map(|event| event["reason"].as_str().unwrap()).collect()
    };
    assert_eq!(of("gpu-a-01"), ["MigRepartitioning", "MigInstanceGoes", "MigRepartitioned"]);
    // A node in no cluster is shown nowhere.
    assert!(of("edge-01").is_empty());
    assert!(state["world"]["nodes"]["edge-01"]["shown"].is_null());
}
