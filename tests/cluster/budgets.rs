//! Disruption budgets and workloads: which budgets count a pod's eviction, and what becomes of its owner.

use std::collections::BTreeSet;

use sectile::model::ObservedCluster;
use sectile::model::observed::WorkloadState;
use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, node, owner, user};
use crate::rig::Rig;

const SLICE: &str = "nvidia.com/mig-1g.10gb";

fn budget(name: &str, selector: Option<Value>) -> Value {
    let mut budget = json!({
        "metadata": { "name": name, "namespace": "a", "generation": 2 },
        "spec": {},
        "status": { "observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 1, "desiredHealthy": 2,
            "expectedPods": 2 },
    });
    if let Some(selector) = selector {
        budget["spec"]["selector"] = selector;
    }
    budget
}

fn chat() -> Value {
    let mut pod = user("p", SLICE, 1);
    pod["metadata"]["labels"] = json!({ "app": "chat", "tier": "web" });
    pod
}

async fn seen(objects: Vec<(&'static str, Value)>) -> ObservedCluster {
    let rig = Rig::new(objects.into_iter().chain([("nodes", node(NODE))]));
    rig.cluster.observe().await.unwrap()
}

/// The budgets that count the eviction of a pod.
async fn counting(pod: Value, budgets: &[Value]) -> BTreeSet<String> {
    let budgets = budgets.iter().map(|budget| ("poddisruptionbudgets", budget.clone()));
    seen(budgets.chain([("pods", pod)]).collect()).await.pods.remove(0).budgets
}

#[tokio::test(start_paused = true)]
async fn a_budget_covers_what_its_selector_selects() {
    let asks = |key: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
    for (selector, covers) in [
        (Some(json!({ "matchLabels": { "app": "chat" } })), true),
        (Some(json!({ "matchLabels": { "app": "chat", "tier": "web" } })), true),
        (Some(json!({ "matchLabels": { "app": "chat", "tier": "db" } })), false),
        (Some(asks("app", "In", &["chat", "other"])), true),
        (Some(asks("app", "In", &["other"])), false),
        (Some(asks("app", "NotIn", &["other"])), true),
        (Some(asks("app", "NotIn", &["chat"])), false),
        (Some(asks("none", "NotIn", &["chat"])), true),
        (Some(asks("app", "Exists", &[])), true),
        (Some(asks("none", "Exists", &[])), false),
        (Some(asks("none", "DoesNotExist", &[])), true),
        (Some(asks("app", "DoesNotExist", &[])), false),
        // A selector that demands nothing selects all pods of the namespace, none selects none.
        (Some(json!({})), true),
        (None, false),
    ] {
        let counted = counting(chat(), &[budget("b", selector.clone())]).await;
        assert_eq!(counted.contains("a/b"), covers, "{selector:?}");
    }
    let mut elsewhere = budget("b", Some(json!({})));
    elsewhere["metadata"]["namespace"] = json!("other");
    assert!(counting(chat(), &[elsewhere]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_eviction_that_costs_a_budget_nothing_is_not_counted() {
    let all = || budget("b", Some(json!({})));
    let healthy = |current: i32, policy: Option<&str>| {
        let mut budget = all();
        budget["status"]["currentHealthy"] = json!(current);
        budget["spec"]["unhealthyPodEvictionPolicy"] = json!(policy);
        budget
    };
    let unready = || {
        let mut pod = chat();
        pod["status"]["conditions"][0]["status"] = json!("False");
        pod
    };
    for (budget, ready, counts) in [
        (healthy(1, None), true, true),
        (healthy(2, Some("AlwaysAllow")), true, true),
        // One that is not ready costs nothing where the policy says so, or as long as enough are healthy.
        (healthy(1, Some("AlwaysAllow")), false, false),
        (healthy(1, None), false, true),
        (healthy(1, Some("IfHealthyBudget")), false, true),
        (healthy(2, None), false, false),
        (healthy(2, Some("IfHealthyBudget")), false, false),
    ] {
        let pod = if ready { chat() } else { unready() };
        assert_eq!(!counting(pod, std::slice::from_ref(&budget)).await.is_empty(), counts, "{budget}");
    }
    let mut wants_none = healthy(1, None);
    wants_none["status"]["desiredHealthy"] = json!(0);
    assert!(!counting(unready(), &[wants_none]).await.is_empty());
    // Of several the API server evicts none, whatever they cost.
    let two = [healthy(2, Some("AlwaysAllow")), budget("c", Some(json!({})))];
    assert_eq!(counting(unready(), &two).await, ["a/b".to_owned(), "a/c".to_owned()].into());
    // One that does not run yet, or goes already, is evicted without any budget.
    let mut pending = chat();
    pending["status"] = json!({ "phase": "Pending" });
    let mut going = chat();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for pod in [pending, going] {
        assert!(counting(pod, &[all()]).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_whose_status_is_old_allows_nothing() {
    for (observed, allowed) in [(json!(2), 1), (json!(1), 0), (Value::Null, 0)] {
        let mut old = budget("b", Some(json!({})));
        old["status"]["observedGeneration"] = observed;
        let seen = seen(vec![("poddisruptionbudgets", old)]).await;
        assert_eq!(seen.budgets[0].allowed, allowed);
    }
    let mut new = budget("b", Some(json!({})));
    new.as_object_mut().unwrap().remove("status");
    assert_eq!(seen(vec![("poddisruptionbudgets", new)]).await.budgets[0].allowed, 0);
}

fn workload(kind: &str, name: &str, replicas: u32, status: Value) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": { SLICE: "1" } } }] } });
    let mut object = json!({
        "metadata": { "name": name, "namespace": "a" },
        "spec": { "selector": {}, "template": template, "serviceName": "" },
        "status": status,
    });
    let key = if kind == "Job" { "parallelism" } else { "replicas" };
    object["spec"][key] = json!(replicas);
    object
}

#[tokio::test(start_paused = true)]
async fn a_workload_is_read_with_how_many_of_its_pods_are_ready() {
    let pods = |kind: &str, n: usize| {
        let of = |i| {
            let mut pod = user(&format!("w-{i}"), SLICE, 1);
            pod["metadata"]["ownerReferences"] = json!([owner(kind, "w")]);
            ("pods", pod)
        };
        (0..n).map(of).collect::<Vec<_>>()
    };
    let three = json!({ "readyReplicas": 3, "numberReady": 3, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
        "numberMisscheduled": 0, "replicas": 3, "ready": 3, "succeeded": 0 });
    for (kind, resource) in
        [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets"), ("Job", "jobs")]
    {
        let object = (resource, workload(kind, "w", 3, three.clone()));
        let read = async |pods: Vec<_>| {
            let mut seen = seen(pods.into_iter().chain([object.clone()]).collect()).await;
            assert_eq!(seen.workloads.len(), 1, "{kind}");
            seen.workloads.remove(0)
        };
        let WorkloadState { kind: of, namespace, name, replicas, ready, requests, .. } = read(pods(kind, 3)).await;
        assert_eq!((of.as_str(), namespace.as_str(), name.as_str()), (kind, "a", "w"));
        assert_eq!((replicas, ready, requests[SLICE]), (3, 3, 1), "{kind}");
        // Its own status is older than its pods: no more are ready than there are.
        assert_eq!(read(pods(kind, 2)).await.ready, 2, "{kind}");
    }
    // Nor more than it says itself.
    let slow = ("deployments", workload("Deployment", "w", 3, json!({ "readyReplicas": 1 })));
    let seen = seen(pods("Deployment", 3).into_iter().chain([slow]).collect()).await;
    assert_eq!(seen.workloads[0].ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_wants_only_what_has_not_succeeded() {
    let left = async |completions: Value, status: Value| {
        let mut job = workload("Job", "w", 4, status);
        job["spec"]["completions"] = completions;
        seen(vec![("jobs", job)]).await.workloads[0].replicas
    };
    assert_eq!(left(json!(10), json!({ "succeeded": 2 })).await, 4);
    assert_eq!(left(json!(10), json!({ "succeeded": 7 })).await, 3);
    assert_eq!(left(json!(10), json!({ "succeeded": 10, "completionTime": "2026-01-01T00:00:00Z" })).await, 0);
    assert_eq!(left(Value::Null, json!({})).await, 4);
    assert_eq!(left(Value::Null, json!({ "succeeded": 4, "completionTime": "2026-01-01T00:00:00Z" })).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_another_kind_wants_the_pods_that_there_are() {
    let pods = ["x-1", "x-2"].map(|name| {
        let mut pod = user(name, SLICE, 2);
        pod["metadata"]["ownerReferences"] = json!([owner("RayCluster", "x")]);
        if name == "x-2" {
            pod["status"] = json!({ "phase": "Pending" });
        }
        ("pods", pod)
    });
    let seen = seen(pods.into()).await;
    let WorkloadState { kind, replicas, ready, requests, .. } = &seen.workloads[0];
    assert_eq!((kind.as_str(), *replicas, *ready, requests[SLICE]), ("RayCluster", 2, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_has_nothing_to_do_with_gpus_is_left_out() {
    let mut web = workload("Deployment", "web", 1, json!({}));
    web["spec"]["template"]["spec"]["containers"] = json!([{ "name": "c" }]);
    assert_eq!(seen(vec![("deployments", web)]).await.workloads, []);
}
