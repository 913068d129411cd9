//! What a cluster has beside a pod.

use serde_json::{Value, json};

use crate::objects::owner;

/// A pod as one of a Deployment of its own that is called as it, with its ReplicaSet and a budget, each with its resource.
pub(crate) fn deployed(mut pod: Value) -> [(&'static str, Value); 3] {
    let name = pod["metadata"]["name"].clone();
    let of = |kind: &str| json!([owner(kind, name.as_str().unwrap())]);
    pod["metadata"]["labels"] = json!({ "app": name });
    pod["metadata"]["ownerReferences"] = of("ReplicaSet");
    let metadata = json!({ "name": name, "namespace": "a", "ownerReferences": of("Deployment") });
    let set = json!({ "metadata": metadata, "spec": { "selector": {} } });
    let spec = json!({ "selector": { "matchLabels": { "app": name } } });
    [("pods", pod), ("replicasets", set), ("poddisruptionbudgets", json!({ "metadata": metadata, "spec": spec }))]
}
