//! How many pods a new template takes down at once, by each kind's own rules (Deployment, StatefulSet and DaemonSet of
//! apps/v1).

use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::rig::Rig;

async fn down(resource: &'static str, spec: Value, status: Value) -> u32 {
    let mut object = json!({
        "metadata": { "name": "w", "namespace": "a", "uid": "u", "generation": 1 },
        "spec": {
            "selector": { "matchLabels": { "app": "w" } },
            "template": { "metadata": { "labels": { "app": "w" } }, "spec": { "containers": [
                { "name": "main", "resources": { "limits": { "nvidia.com/mig-1g.10gb": "1" } } },
            ] } },
        },
        "status": status,
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    let rig = Rig::new([(resource, object)]);
    let seen = rig.cluster.observe().await.unwrap();
    seen.workloads[0].down
}

#[tokio::test(start_paused = true)]
async fn each_kind_takes_down_what_its_strategy_says() {
    let rolling = |most: Value, surge: Value| {
        json!({ "replicas": 10, "strategy": { "type": "RollingUpdate",
            "rollingUpdate": { "maxUnavailable": most, "maxSurge": surge } } })
    };
    for (resource, spec, status, expected) in [
        ("deployments", json!({ "replicas": 10 }), json!({}), 2),
        ("deployments", json!({ "replicas": 3 }), json!({}), 0),
        ("deployments", json!({ "replicas": 10, "strategy": { "type": "Recreate" } }), json!({}), 10),
        ("deployments", rolling(json!(3), json!(1)), json!({}), 3),
        ("deployments", rolling(json!("35%"), json!(0)), json!({}), 3),
        ("deployments", rolling(json!(0), json!(1)), json!({}), 0),
        // Where neither is to be had, one goes.
        ("deployments", rolling(json!("5%"), json!(0)), json!({}), 1),
        ("statefulsets", json!({ "replicas": 10, "serviceName": "w" }), json!({ "replicas": 10 }), 1),
        (
            "statefulsets",
            json!({ "replicas": 10, "serviceName": "w", "updateStrategy": { "type": "OnDelete" } }),
            json!({ "replicas": 10 }),
            0,
        ),
        (
            "daemonsets",
            json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "15%" } } }),
            json!({ "desiredNumberScheduled": 10, "currentNumberScheduled": 10, "numberMisscheduled": 0, "numberReady": 10 }),
            2,
        ),
        (
            "daemonsets",
            json!({}),
            json!({ "desiredNumberScheduled": 10, "currentNumberScheduled": 10, "numberMisscheduled": 0, "numberReady": 10 }),
            1,
        ),
    ] {
        assert_eq!(down(resource, spec.clone(), status).await, expected, "{resource} {spec}");
    }
}
