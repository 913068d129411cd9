//! Evicting and deleting pods: what is asked, and what each answer means.

use std::time::Duration;

use sectile::model::observed::PodPhase;
use sectile::ports::{Cluster as _, Eviction, Port, Removal};
use serde_json::json;

use crate::objects::{NODE, node, user};
use crate::rig::Rig;
use crate::server::Fault;

const SLICE: &str = "nvidia.com/mig-1g.10gb";
const EVICT: Removal = Removal { grace_period_s: None, delete: false, dry_run: false };

fn rig() -> Rig {
    Rig::new([("nodes", node(NODE)), ("pods", user("p", SLICE, 1))])
}

async fn remove(rig: &Rig, how: Removal) -> Port<Eviction> {
    rig.cluster.remove_pod("a", "p", "uid-of-p", how).await
}

#[tokio::test(start_paused = true)]
async fn every_way_to_remove_a_pod_has_its_bytes() {
    let rig = rig();
    for delete in [false, true] {
        for dry_run in [true, false] {
            for grace_period_s in [None, Some(5)] {
                let done = remove(&rig, Removal { grace_period_s, delete, dry_run }).await;
                assert_eq!(done, Ok(Eviction::Accepted));
            }
        }
    }
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_question_changes_nothing() {
    for delete in [false, true] {
        let rig = rig();
        let asked = remove(&rig, Removal { delete, dry_run: true, ..EVICT }).await;
        assert_eq!(asked, Ok(Eviction::Accepted));
        let pod = &rig.cluster.observe().await.unwrap().pods[0];
        assert_eq!(pod.phase, PodPhase::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_evicted_terminates_also_before_a_watch_tells_it() {
    let rig = rig();
    rig.server.put(
        "poddisruptionbudgets",
        json!({
        "metadata": { "name": "b", "namespace": "a" }, "spec": { "selector": {} },
        "status": { "disruptionsAllowed": 1, "currentHealthy": 1, "desiredHealthy": 2, "expectedPods": 1 } }),
    );
    let before = rig.cluster.observe().await.unwrap().pods.remove(0);
    assert_eq!((before.phase, before.budgets.len()), (PodPhase::Running, 1));
    rig.server.lock().silent = true;
    assert_eq!(remove(&rig, EVICT).await, Ok(Eviction::Accepted));
    let after = rig.cluster.observe().await.unwrap().pods.remove(0);
    // Nobody counts it again.
    assert_eq!((after.phase, after.budgets.len()), (PodPhase::Terminating, 0));
}

#[tokio::test(start_paused = true)]
async fn what_an_eviction_is_answered() {
    let too_many = |after| Ok(Eviction::TooMany { retry_after_s: after });
    let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    let error = |transient: bool| Err(transient);
    let cases = [
        (Fault::Refused(404, "not found"), Ok(Eviction::Gone)),
        (Fault::Refused(429, "Cannot evict pod as it would violate the pod's disruption budget."), too_many(None)),
        (Fault::Later(429, "The disruption budget is still being processed by the server.", 10), too_many(Some(10))),
        (Fault::Refused(500, two), error(false)),
        (Fault::Refused(500, "etcd"), error(true)),
        (Fault::Later(504, "could not update the budget", 10), error(true)),
        (Fault::Refused(403, "it is not your node"), error(false)),
        (Fault::Refused(422, "invalid"), error(false)),
        (Fault::Refused(401, "Unauthorized"), error(true)),
        (Fault::Refused(410, "Gone"), error(true)),
        (Fault::Proxy(502, "<html>"), error(true)),
        (Fault::Lost, error(true)),
        (Fault::Slow(Duration::from_secs(31)), error(true)),
        // Somebody else changes the very pod.
        (Fault::Refused(409, "the object has been modified"), error(true)),
    ];
    for (fault, wanted) in cases {
        for dry_run in [false, true] {
            let rig = rig();
            rig.server.fail("/eviction", 1, fault.clone());
            let done = remove(&rig, Removal { dry_run, ..EVICT }).await;
            assert_eq!(done.map_err(|error| error.transient), wanted, "{fault:?}");
            // One that is answered too late was done all the same, and a watch tells it.
            let done = matches!(fault, Fault::Slow(_)) && !dry_run;
            let phase = if done { PodPhase::Terminating } else { PodPhase::Running };
            assert_eq!(rig.cluster.observe().await.unwrap().pods[0].phase, phase, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_budgets_are_told_in_the_servers_words() {
    let rig = rig();
    let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    rig.server.fail("/eviction", 1, Fault::Refused(500, two));
    let told = remove(&rig, EVICT).await.unwrap_err().to_string();
    assert_eq!(told, format!("evicting pod a/p: 500 {two}"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_that_name_with_another_uid_is_another_pod() {
    let rig = rig();
    let mut anew = user("p", SLICE, 1);
    anew["metadata"]["uid"] = json!("another");
    rig.server.put("pods", anew);
    assert_eq!(remove(&rig, EVICT).await, Ok(Eviction::Gone));
    let lines = ["POST /api/v1/namespaces/a/pods/p/eviction? 409", "GET /api/v1/namespaces/a/pods/p 200"];
    assert_eq!(rig.server.lines(), lines);
    rig.server.forget_asked();
    rig.server.lock().store.remove("pods", "a", "p");
    assert_eq!(remove(&rig, EVICT).await, Ok(Eviction::Gone));
    assert_eq!(rig.server.lines(), ["POST /api/v1/namespaces/a/pods/p/eviction? 404"]);
    rig.server.forget_asked();
    // It is gone by the time that it is looked for.
    rig.server.fail("/eviction", 1, Fault::Refused(409, "another UID"));
    assert_eq!(remove(&rig, EVICT).await, Ok(Eviction::Gone));
    let lines = ["POST /api/v1/namespaces/a/pods/p/eviction? 409", "GET /api/v1/namespaces/a/pods/p 404"];
    assert_eq!(rig.server.lines(), lines);
}

#[tokio::test(start_paused = true)]
async fn whether_it_is_the_same_pod_may_be_unknown() {
    let rig = rig();
    rig.server.fail("/eviction", 1, Fault::Refused(409, "another UID"));
    rig.server.fail("GET /api/v1/namespaces/a/pods/p", 1, Fault::Lost);
    assert!(remove(&rig, EVICT).await.unwrap_err().transient);
}

#[tokio::test(start_paused = true)]
async fn expired_credentials_pass() {
    let rig = rig();
    rig.server.fail("/eviction", 1, Fault::Refused(401, "Unauthorized"));
    assert!(remove(&rig, EVICT).await.unwrap_err().transient);
    assert_eq!(remove(&rig, EVICT).await, Ok(Eviction::Accepted));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_asked_for_anew() {
    let rig = rig();
    let pod = rig.cluster.pod("a", "p").await.unwrap().unwrap();
    assert_eq!((pod.uid.as_str(), pod.phase, pod.requests[SLICE]), ("uid-of-p", PodPhase::Running, 1));
    assert_eq!(rig.cluster.pod("a", "q").await, Ok(None));
    rig.server.fail("GET", 1, Fault::Refused(500, "etcd"));
    assert!(rig.cluster.pod("a", "p").await.unwrap_err().transient);
    // No such name can be, and a path is never made of it.
    assert_eq!(rig.cluster.pod("a", "").await.map_err(|error| error.transient), Err(false));
    let path = "/api/v1/namespaces/a/pods";
    assert_eq!(
        rig.server.lines(),
        [format!("GET {path}/p 200"), format!("GET {path}/q 404"), format!("GET {path}/p 500")]
    );
}
