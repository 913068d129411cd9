//! On which nodes a pod may not run: selector, affinity, taints, cordons.

use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, node, user};
use crate::rig::Rig;

/// Whether the other node, as `at` makes it, is barred to a pod with this in its spec.
async fn barred(spec: Value, at: impl FnOnce(&mut Value)) -> bool {
    let mut other = node("other");
    other["metadata"]["labels"] = json!({ "zone": "a", "slots": "4" });
    at(&mut other);
    let mut pod = user("p", "nvidia.com/mig-1g.10gb", 1);
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    // Its own node would not take it either, and that does not matter.
    let rig = Rig::new([("nodes", node(NODE)), ("nodes", other), ("pods", pod)]);
    let pod = rig.cluster.observe().await.unwrap().pods.remove(0);
    assert!(!pod.barred.contains(NODE));
    pod.barred.contains("other")
}

fn affinity(terms: Value) -> Value {
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
    json!({ "affinity": { "nodeAffinity": required } })
}

fn asks(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_labels_is_barred() {
    for (selector, is_barred) in [(json!({}), false), (json!({ "zone": "a" }), false), (json!({ "zone": "b" }), true)] {
        assert_eq!(barred(json!({ "nodeSelector": selector }), |_| {}).await, is_barred, "{selector}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_affinity_bars_what_none_of_its_terms_allows() {
    for (term, is_barred) in [
        (asks("zone", "In", &["a", "b"]), false),
        (asks("zone", "In", &["b"]), true),
        (asks("none", "In", &["b"]), true),
        (asks("zone", "NotIn", &["a"]), true),
        (asks("zone", "NotIn", &["b"]), false),
        (asks("none", "NotIn", &["b"]), false),
        (asks("zone", "Exists", &[]), false),
        (asks("none", "Exists", &[]), true),
        (asks("zone", "DoesNotExist", &[]), true),
        (asks("none", "DoesNotExist", &[]), false),
        (asks("slots", "Gt", &["3"]), false),
        (asks("slots", "Gt", &["4"]), true),
        (asks("slots", "Lt", &["5"]), false),
        (asks("slots", "Lt", &["4"]), true),
        (asks("zone", "Gt", &["3"]), true),
        (asks("zone", "Newer", &["a"]), true),
        // A term that asks for nothing allows nothing.
        (json!({}), true),
        (json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["other"] }] }), false),
        (json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [NODE] }] }), true),
    ] {
        assert_eq!(barred(affinity(json!([term])), |_| {}).await, is_barred, "{term}");
    }
    let one_of = json!([asks("zone", "In", &["b"]), asks("slots", "Exists", &[])]);
    assert!(!barred(affinity(one_of), |_| {}).await);
    // Both demands of one term.
    let both = json!([{ "matchExpressions": [
        { "key": "zone", "operator": "Exists" }, { "key": "none", "operator": "Exists" } ] }]);
    assert!(barred(affinity(both), |_| {}).await);
}

#[tokio::test(start_paused = true)]
async fn a_taint_bars_whoever_does_not_tolerate_it() {
    let taint = |effect: &'static str| {
        move |node: &mut Value| node["spec"]["taints"] = json!([{ "key": "team", "value": "a", "effect": effect }])
    };
    let tolerates = |toleration: Value| json!({ "tolerations": [toleration] });
    for effect in ["NoSchedule", "NoExecute"] {
        assert!(barred(json!({}), taint(effect)).await);
        for (toleration, is_barred) in [
            (json!({ "key": "team", "operator": "Equal", "value": "a" }), false),
            (json!({ "key": "team", "value": "a" }), false),
            (json!({ "key": "team", "value": "b" }), true),
            (json!({ "key": "team", "operator": "Exists" }), false),
            (json!({ "operator": "Exists" }), false),
            (json!({ "key": "other", "operator": "Exists" }), true),
            (json!({ "key": "team", "operator": "Exists", "effect": effect }), false),
            (json!({ "key": "team", "operator": "Exists", "effect": "PreferNoSchedule" }), true),
        ] {
            let told = format!("{effect} {toleration}");
            assert_eq!(barred(tolerates(toleration), taint(effect)).await, is_barred, "{told}");
        }
    }
    assert!(!barred(json!({}), taint("PreferNoSchedule")).await);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_or_unready_node_is_barred() {
    assert!(barred(json!({}), |node| node["spec"]["unschedulable"] = json!(true)).await);
    let cordons = json!({ "tolerations": [{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }] });
    assert!(!barred(cordons, |node| node["spec"]["unschedulable"] = json!(true)).await);
    assert!(barred(json!({}), |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).await);
    assert!(barred(json!({}), |node| node["status"]["conditions"] = json!([])).await);
}
