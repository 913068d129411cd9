//! Objects as the API server has them, as short as a test wants them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Our node.
pub(crate) const NODE: &str = "n";

/// A ready node without labels.
pub(crate) fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "uid": format!("uid-of-{name}"), "labels": {}, "annotations": {} },
        "spec": {},
        "status": { "conditions": [{ "type": "Ready", "status": "True" }], "allocatable": {} },
    })
}

/// The budgets' places: holder and text.
pub(crate) fn budgets(places: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, &str> = places.iter().copied().collect();
    json!({ "metadata": { "name": "sectile-budgets", "namespace": "sectile" }, "data": data })
}

/// Our node with these labels.
pub(crate) fn labelled(labels: &[(&str, &str)]) -> Value {
    let mut node = node(NODE);
    for (key, value) in labels {
        node["metadata"]["labels"][*key] = json!(value);
    }
    node
}

/// A pod of a namespace `a` with one container, that asks for nothing.
pub(crate) fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "a", "uid": format!("uid-of-{name}"), "labels": {} },
        "spec": { "containers": [{ "name": "main" }] },
        "status": { "phase": "Pending" },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

/// A pod that runs on our node and asks for as many of these.
pub(crate) fn user(name: &str, resource: &str, n: u32) -> Value {
    let mut pod = pod(name, Some(NODE));
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { resource: n.to_string() } });
    pod["status"] = json!({
        "phase": "Running",
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{ "type": "Ready", "status": "True" }],
    });
    pod
}

/// A pod of a DaemonSet on our node, with this label.
pub(crate) fn daemon(name: &str, label: (&str, &str)) -> Value {
    let mut pod = pod(name, Some(NODE));
    pod["metadata"]["labels"][label.0] = json!(label.1);
    if label.0 == "app" {
        // What the operator deploys a label stops.
        pod["spec"]["nodeSelector"] = json!({ "nvidia.com/gpu.deploy.device-plugin": "true" });
    }
    pod["metadata"]["ownerReferences"] = json!([owner("DaemonSet", "set")]);
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
    pod
}

/// A controller's reference.
pub(crate) fn owner(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true })
}
