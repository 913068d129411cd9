//! Two controllers, of which one acts: what they bind, change and take back, of every kind that Kubernetes has.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::stage::{Running, Stage, kubectl, wait_for};

const FLEET: &str = r#"
[[node]]
name = "NODE"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [
    { profile = "1g.10gb", start = 0 }, { profile = "1g.10gb", start = 1 }, { profile = "1g.10gb", start = 2 },
    { profile = "1g.10gb", start = 3 }, { profile = "1g.10gb", start = 4 }, { profile = "1g.10gb", start = 5 },
    { profile = "1g.10gb", start = 6 },
  ]
"#;
const POLICY: &str = "nodes = [\"*\"]\n[drain]\ntimeout = \"60s\"\n";
/// Kind, name, and where its pod template is.
const KINDS: [(&str, &str, &str); 5] = [
    ("Deployment", "web", "/spec/template"),
    ("StatefulSet", "db", "/spec/template"),
    ("DaemonSet", "each", "/spec/template"),
    ("Job", "train", "/spec/template"),
    ("CronJob", "nightly", "/spec/jobTemplate/spec/template"),
];

fn layout(manage: bool, per_replica: u32) -> String {
    let mut text = "nodes = [\"NODE\"]\n[[gpu]]\ninstances = { \"1g.10gb\" = 7 }\n".to_owned();
    for (kind, name, _) in KINDS {
        // A Job keeps what it has once it has begun, and this one has not.
        text += &format!(
            "[[workload]]\nname = \"{name}\"\nkubernetes = {{ kind = \"{kind}\", namespace = \"NODE\", name = \"{name}\" }}\n\
             profile = \"1g.10gb\"\nper_replica = {per_replica}\nmanage = {manage}\n"
        );
    }
    text
}

/// What a workload's container asks for, and where its pods may run.
fn template(stage: &Stage, kind: &str, name: &str, path: &str) -> (Value, Value) {
    let text = kubectl(&["get", kind, name, "-n", &stage.name, "-o", "json"], "");
    let object: Value = serde_json::from_str(&text).unwrap();
    let spec = &object.pointer(path).unwrap()["spec"];
    (spec["containers"][0]["resources"]["limits"].clone(), spec["affinity"]["nodeAffinity"].clone())
}

fn leader() -> String {
    kubectl(
        &[
            "get",
            "lease",
            "sectile-controller",
            "-n",
            "sectile",
            "--ignore-not-found",
            "-o=jsonpath={.spec.holderIdentity}",
        ],
        "",
    )
}

fn make(stage: &Stage) {
    let space = &stage.name;
    let pod = |restart: &str| {
        format!(
            "{{metadata: {{labels: {{app: x}}}}, spec: {{{restart}terminationGracePeriodSeconds: 1, nodeSelector: \
             {{kubernetes.io/hostname: {space}}}, tolerations: [{{operator: Exists}}], containers: [{{name: server, image: none}}]}}}}"
        )
    };
    let select = "selector: {matchLabels: {app: x}}, ";
    let never = "restartPolicy: Never, ";
    let object = |api: &str, kind: &str, name: &str, spec: String| {
        format!(
            "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {space}}}\nspec: {{{spec}}}\n"
        )
    };
    let yaml = [
        object("apps/v1", "Deployment", "web", format!("{select}template: {}", pod(""))),
        object("apps/v1", "StatefulSet", "db", format!("{select}template: {}", pod(""))),
        object("apps/v1", "DaemonSet", "each", format!("{select}template: {}", pod(""))),
        object("batch/v1", "Job", "train", format!("suspend: true, template: {}", pod(never))),
        object(
            "batch/v1",
            "CronJob",
            "nightly",
            format!("schedule: \"0 3 * * *\", jobTemplate: {{spec: {{template: {}}}}}", pod(never)),
        ),
    ];
    kubectl(&["apply", "-f", "-"], &yaml.concat());
}

fn all_ask(stage: &Stage, n: Option<u32>) -> bool {
    KINDS.iter().all(|(kind, name, path)| {
        let (limits, affinity) = template(stage, kind, name, path);
        match n {
            Some(n) => {
                limits["nvidia.com/mig-1g.10gb"].as_str() == Some(n.to_string().as_str())
                    && affinity.to_string().contains(&stage.name)
            }
            None => limits == Value::Null && affinity == Value::Null,
        }
    })
}

/// Ends it also where the test fails.
struct Guard(Option<Running>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.kill();
        }
    }
}

/// What a controller says under a path.
fn ask(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_controller_binds_changes_and_takes_back_on_every_kind_and_another_one_goes_on_where_it_was_killed() {
    let stage = Stage::set("bound", FLEET, &layout(true, 1), POLICY);
    // A tree that comes back under the same revision is older than what the cluster remembers of another run.
    let run = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let revise = |n: u32| stage.revise(&format!("{}-{n}", run.trim()));
    revise(1);
    make(&stage);
    // What it covers is what the nodes have published.
    assert_eq!(stage.sectile(&["apply", "--yes"]).code, 0);
    let before = leader();
    let (one, first_at) = stage.controller();
    let mut one = Guard(Some(one));
    wait_for("a leader", || !leader().is_empty() && leader() != before);
    let first = leader();
    let (two, second_at) = stage.controller();
    let two = Guard(Some(two));
    wait_for("every kind to be bound", || all_ask(&stage, Some(1)));
    for (at, leads) in [(first_at, "1"), (second_at, "0")] {
        assert!(ask(at, "/healthz").contains(" 200 ") && ask(at, "/readyz").contains(" 200 "));
        let metrics = ask(at, "/metrics");
        assert!(metrics.contains(&format!("sectile_controller_leads {leads}\n")), "{metrics}");
    }
    assert!(ask(first_at, "/metrics").contains("sectile_tree_valid 1\n"));
    let owners = kubectl(&["get", "deployment", "web", "-n", &stage.name, "-o", "json", "--show-managed-fields"], "");
    assert!(owners.contains("\"manager\": \"sectile\"") && owners.contains("sectile.dev/revision"), "{owners}");
    // It does not give its lease back.
    one.0.take().unwrap().kill();
    revise(2);
    stage.edit_layout(&layout(true, 2));
    wait_for("the other one to change every kind", || all_ask(&stage, Some(2)));
    assert_ne!(leader(), first);
    assert!(ask(second_at, "/metrics").contains("sectile_controller_leads 1\n"));
    revise(3);
    stage.edit_layout(&layout(false, 2));
    wait_for("every kind to be taken back", || all_ask(&stage, None));
    let record = kubectl(&["get", "configmap", "sectile-bindings", "-n", "sectile", "-o", "json"], "");
    assert!(!record.contains(&stage.name), "{record}");
    let log = stage.log();
    assert!(log.robbed.is_empty(), "{log:?}");
    drop(log);
    drop(two);
}
