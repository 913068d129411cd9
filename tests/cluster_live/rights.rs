//! What the roles and the admission policies of packaging/ let an agent do, and what not.

use std::process::Command;

use crate::stage::{Stage, install, kubectl, wait_for};

const FLEET: &str = r#"
[[node]]
name = "NODE"
  [[node.gpu]]
  model = "a30-24gb"
  mig = true
  instances = [{ profile = "1g.6gb", start = 0 }]
"#;

/// kubectl as the agent of the stage's node; whether it was let, and what it said.
fn agent(stage: &Stage, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl").args(arguments).env("KUBECONFIG", stage.agent_config()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn evict(stage: &Stage, pod: &str, mark: &str) -> (bool, String) {
    let name = &stage.name;
    let body = format!(
        r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{name}","labels":{{{mark}}}}}}}"#
    );
    let file = stage.folder("bodies").join("eviction.json");
    std::fs::write(&file, body).unwrap();
    let path = format!("/api/v1/namespaces/{name}/pods/{pod}/eviction?dryRun=All");
    agent(stage, &["create", "--raw", &path, "-f", file.to_str().unwrap()])
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn an_agent_changes_its_own_node_and_evicts_its_pods_alone() {
    let stage = Stage::set("rights", FLEET, "nodes = [\"NODE\"]\n[[gpu]]\ninstances = [\"1g\"]\n", "nodes = [\"*\"]\n");
    let other = "live-other";
    let yaml = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {}}}\nspec: {{nodeName: {node}, containers: [{{name: c, image: none}}]}}\n",
            stage.name
        )
    };
    kubectl(&["apply", "-f", "-"], &format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {other}}}\n"));
    kubectl(&["apply", "-f", "-"], &yaml("here", &stage.name));
    kubectl(&["apply", "-f", "-"], &yaml("there", other));
    let label = |node: &str, label: &str| agent(&stage, &["label", "node", node, label, "--overwrite"]);
    // Policies are in force a moment after they are made.
    wait_for("the policies", || !label(other, "sectile.dev/state=x").0);
    assert!(label(&stage.name, "sectile.dev/state=x").0);
    assert!(label(&stage.name, "nvidia.com/gpu.deploy.device-plugin=paused-for-mig-change").0);
    for (node, mark, why) in [
        (other, "sectile.dev/state=x", "an agent changes only its own node"),
        (&stage.name, "pool=mine", "an agent changes only the labels"),
        (&stage.name, "nvidia.com/mig.config=all", "an agent changes only the labels"),
    ] {
        let (let_, said) = label(node, mark);
        assert!(!let_ && said.contains(why), "{node} {mark}: {said}");
    }
    let mark = "\"sectile.dev/agent\":\"true\"";
    assert!(evict(&stage, "here", mark).0);
    for (pod, mark) in [("there", mark), ("here", "")] {
        let (let_, said) = evict(&stage, pod, mark);
        assert!(!let_ && said.contains("agent"), "{pod} {mark}: {said}");
    }
    assert!(!agent(&stage, &["delete", "pod", "here", "-n", &stage.name]).0);
    assert!(!agent(&stage, &["get", "secrets", "-A"]).0);
    assert!(!agent(&stage, &["scale", "deployment", "any", "--replicas=0", "-n", &stage.name]).0);
    kubectl(&["delete", "pod", "there", "-n", &stage.name, "--force", "--grace-period=0"], "");
    kubectl(&["delete", "node", other], "");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn the_examples_are_what_the_api_server_takes() {
    install();
    for example in ["configmap", "git"] {
        let folder = format!("{}/packaging/examples/{example}", env!("CARGO_MANIFEST_DIR"));
        let told = kubectl(&["apply", "-k", &folder, "--dry-run=server", "--validate=strict"], "");
        assert!(
            told.contains("daemonset.apps/sectile-agent") && told.contains("deployment.apps/sectile-controller"),
            "{told}"
        );
    }
}
