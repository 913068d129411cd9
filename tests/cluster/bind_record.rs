//! What is recorded of bindings: found again, in order of revisions, and against whoever is faster.

use sectile::cluster::requests;
use sectile::model::{Bind, Bound, Known};
use sectile::ports::Cluster as _;
use serde_json::json;

use crate::applied::owned_by;
use crate::bind::{bind, record};
use crate::objects::{NODE, node};
use crate::rig::Rig;
use crate::server::Fault;

fn rig() -> Rig {
    let spec = json!({ "template": { "spec": { "containers": [{ "name": "main", "image": "x" }] } } });
    let made = json!({ "metadata": { "name": "w", "namespace": "a", "uid": "uid-of-w" }, "spec": spec });
    Rig::new([("deployments", owned_by(made.clone(), "kubectl", &made)), ("nodes", node(NODE))])
}

async fn bound(rig: &Rig) -> Known<Vec<Bound>> {
    rig.cluster.fleet().await.unwrap().0.bound
}

#[tokio::test(start_paused = true)]
async fn what_was_bound_is_found_again() {
    let rig = rig();
    assert_eq!(bound(&rig).await, Known::Known(vec![]));
    let mut wanted = bind("Deployment");
    wanted.affinity.names.insert(NODE.to_owned());
    rig.cluster.bind(&wanted, "r1", false).await.unwrap();
    let rig = rig.afresh();
    assert_eq!(bound(&rig).await, Known::Known(vec![Bound { bind: wanted.clone(), revision: "r1".to_owned() }]));
    // Agents do not look, and count on nothing.
    assert_eq!(rig.cluster.observe().await.unwrap().bound, Known::Unknown);
    // Under another name it is the same workload still.
    let renamed = Bind { binding: "talk".to_owned(), ..wanted };
    rig.cluster.bind(&renamed, "r2", false).await.unwrap();
    assert_eq!(bound(&rig).await, Known::Known(vec![Bound { bind: renamed, revision: "r2".to_owned() }]));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_seen_or_read_is_unknown() {
    let rig = rig();
    rig.server.fail("sectile-bindings", 1, Fault::Refused(403, "configmaps is forbidden: no"));
    let (seen, _) = rig.cluster.fleet().await.unwrap();
    assert_eq!((seen.bound, seen.gaps[0].object.as_str()), (Known::Unknown, "bindings"));
    rig.cluster.bind(&bind("Deployment"), "r1", false).await.unwrap();
    rig.server.edit("configmaps", "sectile", "sectile-bindings", |map| map["data"]["odd"] = json!("{"));
    assert_eq!(bound(&rig).await, Known::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_older_revision_writes_over_nothing() {
    let (rig, wanted) = (rig(), bind("Deployment"));
    rig.cluster.bind(&wanted, "main@1", false).await.unwrap();
    rig.cluster.bind(&wanted, "main@2", false).await.unwrap();
    let before = record(&rig);
    let told = "the cluster has taken up main@2 after main@1, which writes over nothing any more; to go back, make a new \
                commit (git revert)";
    for dry_run in [false, true] {
        let error = rig.cluster.bind(&wanted, "main@1", dry_run).await.unwrap_err();
        assert_eq!((error.message.as_str(), error.transient), (told, false));
        let error = rig.cluster.unbind(&wanted, "main@1", dry_run).await.unwrap_err();
        assert_eq!(error.message, told);
    }
    assert_eq!(record(&rig), before);
    rig.cluster.bind(&wanted, "main@3", false).await.unwrap();
    assert_eq!(record(&rig)["_revisions"], "[\"main@1\",\"main@2\",\"main@3\"]");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_revisions_are_kept() {
    let (rig, wanted) = (rig(), bind("Deployment"));
    for n in 0..103 {
        rig.cluster.bind(&wanted, &format!("r{n}"), false).await.unwrap();
    }
    let kept: Vec<String> = serde_json::from_str(record(&rig)["_revisions"].as_str().unwrap()).unwrap();
    assert_eq!((kept.len(), kept[0].as_str(), kept[99].as_str()), (100, "r3", "r102"));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_faster_is_read_again() {
    let (rig, wanted) = (rig(), bind("Deployment"));
    rig.server.fail("POST /api/v1/namespaces/sectile", 1, Fault::Refused(409, "already exists"));
    rig.cluster.bind(&wanted, "r1", false).await.unwrap();
    rig.server.fail("PATCH /api/v1/namespaces/sectile", 2, Fault::Refused(409, "the object has been modified"));
    rig.cluster.bind(&wanted, "r2", false).await.unwrap();
    rig.server.fail("PATCH /api/v1/namespaces/sectile", 99, Fault::Refused(409, "the object has been modified"));
    let error = rig.cluster.bind(&wanted, "r3", false).await.unwrap_err();
    let told = "configmap sectile/sectile-bindings is changed by others all the time";
    assert_eq!((error.message.as_str(), error.transient), (told, true));
}

#[tokio::test(start_paused = true)]
async fn it_is_recorded_before_it_is_done() {
    let (rig, wanted) = (rig(), bind("Deployment"));
    rig.cluster.bind(&wanted, "r1", false).await.unwrap();
    let words: Vec<String> = rig.server.lines().iter().map(|line| line.split("?").next().unwrap().to_owned()).collect();
    let at = |word: &str| words.iter().rposition(|line| line.starts_with(word)).unwrap();
    assert!(at("POST /api/v1/namespaces/sectile/configmaps") < at("PATCH /apis/apps/v1"), "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn the_controller_needs_the_rights_that_are_declared() {
    let rig = rig();
    let declared = requests::CONTROLLING.iter().map(|r| (r.group.to_owned(), r.resource.to_owned(), r.verb.to_owned()));
    let mut granted: std::collections::BTreeSet<_> = declared.collect();
    // Anybody may ask which kinds there are.
    granted.insert((String::new(), String::new(), "get".to_owned()));
    rig.server.lock().granted = Some(granted.clone());
    let mut wanted = bind("Deployment");
    wanted.allocation = sectile::model::policy::Allocation::Dra;
    rig.cluster.bind(&wanted, "r1", false).await.unwrap();
    rig.cluster.bind(&wanted, "r2", false).await.unwrap();
    rig.cluster.unbind(&wanted, "r2", false).await.unwrap();
    let refused: Vec<String> = rig.server.lines().into_iter().filter(|line| line.ends_with(" 403")).collect();
    assert_eq!(refused, [""; 0]);
    assert_eq!(record(&rig).as_object().map(serde_json::Map::len), Some(1));
}
