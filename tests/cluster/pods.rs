//! How pods are read.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::observed::{Known, Owner, PodPhase};
use sectile::model::{ObservedCluster, Pod};
use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, daemon, node, owner, pod, user};
use crate::rig::Rig;

const SLICE: &str = "nvidia.com/mig-1g.10gb";

async fn seen(objects: impl IntoIterator<Item = (&'static str, Value)>) -> ObservedCluster {
    let rig = Rig::new(objects.into_iter().chain([("nodes", node(NODE))]));
    rig.cluster.observe().await.unwrap()
}

/// One pod as it is seen.
async fn read(pod: Value) -> Pod {
    seen([("pods", pod)]).await.pods.remove(0)
}

/// A pod on our node with what `with` does to it.
fn with(with: impl FnOnce(&mut Value)) -> Value {
    let mut pod = user("p", SLICE, 1);
    with(&mut pod);
    pod
}

fn requests<const N: usize>(all: [(&str, u32); N]) -> BTreeMap<String, u32> {
    all.map(|(name, n)| (name.to_owned(), n)).into()
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_read_with_all_that_matters() {
    let full = with(|pod| {
        pod["metadata"]["labels"] = json!({ "app": "chat" });
        pod["metadata"]["annotations"] = json!({ "note": "secret", "karpenter.sh/do-not-disrupt": "true" });
        pod["spec"]["terminationGracePeriodSeconds"] = json!(7);
        pod["spec"]["volumes"] = json!([{ "name": "scratch", "emptyDir": {} }]);
    });
    let Pod {
        namespace,
        name,
        uid,
        node,
        phase,
        owner,
        labels,
        annotations,
        requests: asked,
        node_selector,
        barred,
        devices,
        empty_dir,
        mirror,
        grace_period_s,
        budgets,
        admitted,
        unschedulable,
        shared_claims,
    } = read(full).await;
    assert_eq!((namespace.as_str(), name.as_str(), uid.as_str(), node.as_deref()), ("a", "p", "uid-of-p", Some(NODE)));
    assert_eq!((phase, owner, grace_period_s), (PodPhase::Running, None, 7));
    assert_eq!(labels["app"], "chat");
    // What else is annotated is nobody's business, and may be told to others.
    assert_eq!(annotations, BTreeMap::from([("karpenter.sh/do-not-disrupt".to_owned(), "true".to_owned())]));
    assert_eq!((asked, devices), (requests([(SLICE, 1)]), Known::Unknown));
    assert!(empty_dir && !mirror && admitted && unschedulable.is_none());
    assert!(node_selector.is_empty() && barred.is_empty() && budgets.is_empty() && shared_claims.is_empty());
    let plain = read(user("p", SLICE, 1)).await;
    assert!(!plain.empty_dir && plain.grace_period_s == 30);
}

#[tokio::test(start_paused = true)]
async fn a_pods_phase_is_whether_it_serves_waits_or_goes() {
    let status = |phase: &str, ready: &str| {
        let conditions = json!([{ "type": "Ready", "status": ready }]);
        json!({ "phase": phase, "conditions": conditions, "startTime": "2026-01-01T00:00:00Z" })
    };
    for (phase, ready, deleted, wanted) in [
        ("Running", "True", false, PodPhase::Running),
        ("Running", "False", false, PodPhase::Pending),
        ("Pending", "False", false, PodPhase::Pending),
        ("Unknown", "False", false, PodPhase::Pending),
        ("Running", "True", true, PodPhase::Terminating),
        ("Pending", "False", true, PodPhase::Terminating),
    ] {
        let read = read(with(|pod| {
            pod["status"] = status(phase, ready);
            if deleted {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
        }));
        assert_eq!(read.await.phase, wanted, "{phase} {ready} {deleted}");
    }
    // Those that ended hold nothing and want nothing.
    for phase in ["Succeeded", "Failed"] {
        let rig = Rig::new([("nodes", node(NODE)), ("pods", with(|pod| pod["status"]["phase"] = json!(phase)))]);
        assert_eq!(rig.cluster.observe().await.unwrap().pods, []);
        let pod = rig.cluster.pod("a", "p").await.unwrap().unwrap();
        assert_eq!(pod.phase, PodPhase::Ended);
        let holders = rig.cluster.holders(NODE).await.unwrap();
        assert!(holders.iter().all(|pod| pod.devices == Known::Known(BTreeSet::new())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_admitted_once_the_kubelet_has_said_a_word_of_it() {
    let waiting = with(|pod| pod["status"] = json!({ "phase": "Pending" }));
    assert!(!read(waiting).await.admitted);
    let begun = with(|pod| pod["status"] = json!({ "phase": "Pending", "startTime": "2026-01-01T00:00:00Z" }));
    assert!(read(begun).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn why_no_node_takes_a_pod_is_told_in_the_schedulers_words() {
    let words = "0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.10gb.";
    let mut waiting = pod("p", None);
    waiting["spec"]["containers"][0]["resources"] = json!({ "limits": { SLICE: "1" } });
    waiting["status"]["conditions"] =
        json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words }]);
    let waiting = read(waiting).await;
    assert_eq!((waiting.unschedulable.as_deref(), waiting.node), (Some(words), None));
}

#[tokio::test(start_paused = true)]
async fn a_pod_asks_for_what_the_scheduler_counts() {
    let limits = |name: &str, n: u32| json!({ "limits": { name: n.to_string(), "cpu": "1" } });
    let container = |name: &str, n: u32| json!({ "name": "c", "resources": limits(name, n) });
    let sidecar = |n: u32| {
        let mut container = container(SLICE, n);
        container["restartPolicy"] = json!("Always");
        container
    };
    let read = async |containers: Value, inits: Value| {
        read(with(|pod| {
            pod["spec"]["containers"] = containers;
            pod["spec"]["initContainers"] = inits;
        }))
        .await
        .requests
    };
    let two = json!([container(SLICE, 1), container(SLICE, 2)]);
    assert_eq!(read(two.clone(), json!([])).await, requests([(SLICE, 3)]));
    // Init containers run one after the other, before the others; sidecars beside them.
    assert_eq!(read(two.clone(), json!([container(SLICE, 2)])).await, requests([(SLICE, 3)]));
    assert_eq!(read(two.clone(), json!([container(SLICE, 4), container(SLICE, 5)])).await, requests([(SLICE, 5)]));
    assert_eq!(read(two, json!([sidecar(1)])).await, requests([(SLICE, 4)]));
    let both = json!([container("nvidia.com/gpu", 1), container(SLICE, 1)]);
    assert_eq!(read(both, json!([])).await, requests([(SLICE, 1), ("nvidia.com/gpu", 1)]));
    // Either spelling; the request of an extended resource is its limit.
    let requested = json!([{ "name": "c", "resources": { "requests": { SLICE: "1" }, "limits": { SLICE: "1" } } }]);
    assert_eq!(read(requested, json!([])).await, requests([(SLICE, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_pods_owner_is_found_through_its_replica_set() {
    let set = |of: Option<Value>| {
        let mut set = json!({ "metadata": { "name": "w-1", "namespace": "a" }, "spec": { "selector": {} } });
        set["metadata"]["ownerReferences"] = of.into_iter().collect();
        ("replicasets", set)
    };
    let owned = |kind: &str, name: &str| with(|pod| pod["metadata"]["ownerReferences"] = json!([owner(kind, name)]));
    let pod = |kind: &str, name: &str| ("pods", owned(kind, name));
    let of = |kind: &str, name: &str| Some(Owner { kind: kind.to_owned(), name: name.to_owned() });
    let owner_of = async |objects: Vec<(&'static str, Value)>| seen(objects).await.pods.remove(0).owner;
    let replica_set = pod("ReplicaSet", "w-1");
    let rolled = [replica_set.clone(), set(Some(owner("Deployment", "w")))];
    assert_eq!(owner_of(rolled.into()).await, of("Deployment", "w"));
    let rollout = [replica_set.clone(), set(Some(owner("Rollout", "w")))];
    assert_eq!(owner_of(rollout.into()).await, of("Rollout", "w"));
    // A ReplicaSet of nobody's, and one that is not known (yet).
    assert_eq!(owner_of([replica_set.clone(), set(None)].into()).await, of("ReplicaSet", "w-1"));
    assert_eq!(owner_of([replica_set].into()).await, of("ReplicaSet", "w-1"));
    for kind in ["StatefulSet", "DaemonSet", "Job"] {
        assert_eq!(owner_of([pod(kind, "w")].into()).await, of(kind, "w"));
    }
    // An owner that is no controller does not make it anew.
    let kept = with(|pod| {
        pod["metadata"]["ownerReferences"] = json!([owner("ConfigMap", "x")]);
        pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    });
    assert_eq!(read(kept).await.owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_mirror_pod_is_the_kubelets_own() {
    let mirror = read(with(|pod| {
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        pod["metadata"]["ownerReferences"] = json!([owner("Node", NODE)]);
    }))
    .await;
    assert!(mirror.mirror && mirror.owner.is_none());
}

fn told(ids: &[&str]) -> Value {
    let resources: Vec<Value> = ids.iter().map(|id| json!({ "resourceID": id, "health": "Healthy" })).collect();
    json!([{
        "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "allocatedResourcesStatus": [{ "name": SLICE, "resources": resources }],
    }])
}

#[tokio::test(start_paused = true)]
async fn the_status_may_tell_a_pods_devices() {
    let devices = async |asked: u32, ids: &[&str]| {
        let mut pod = user("p", SLICE, asked);
        pod["status"]["containerStatuses"] = told(ids);
        read(pod).await.devices
    };
    let known = |ids: &[&str]| Known::Known(ids.iter().map(|id| (*id).to_owned()).collect());
    assert_eq!(devices(1, &["MIG-1"]).await, known(&["MIG-1"]));
    assert_eq!(devices(2, &["MIG-1", "MIG-2"]).await, known(&["MIG-1", "MIG-2"]));
    // A share of a device is named by its number.
    assert_eq!(devices(1, &["MIG-1::3"]).await, known(&["MIG-1"]));
    // It does not tell all: whatever else there is may be its, too.
    assert_eq!(devices(2, &["MIG-1"]).await, Known::Unknown);
    assert_eq!(devices(1, &[]).await, Known::Unknown);
    // Another plugin's way to count tells nothing.
    assert_eq!(devices(1, &["nvidia0/gi3"]).await, Known::Unknown);
    assert_eq!(devices(1, &["MIG-1", "nvidia0/gi3"]).await, Known::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_advertises_gpus_is_no_user_of_theirs() {
    let asking = |label| {
        let mut pod = daemon("plugin", label);
        pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "nvidia.com/gpu": "1" } });
        pod
    };
    for label in [
        ("app", "nvidia-device-plugin-daemonset"),
        ("app.kubernetes.io/name", "nvidia-device-plugin"),
        ("name", "nvidia-device-plugin-ds"),
        ("dra-driver-nvidia-gpu-component", "kubelet-plugin"),
        ("nvidia-dra-driver-gpu-component", "kubelet-plugin"),
        ("app", "nvidia-dra-driver-kubelet-plugin"),
        ("app", "nvidia-mig-manager"),
    ] {
        assert_eq!(seen([("pods", asking(label))]).await.pods, [], "{label:?}");
    }
    assert_eq!(seen([("pods", asking(("app", "chat")))]).await.pods.len(), 1);
}
