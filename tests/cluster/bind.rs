//! Bindings: what is asked of the API server for each kind, and each way in which it says no.

use sectile::model::observed::{MigStrategy, WorkloadState};
use sectile::model::policy::Allocation;
use sectile::model::{Affinity, Bind, Object};
use sectile::ports::{Cluster as _, PortError};
use serde_json::{Value, json};

use crate::applied::owned_by;
use crate::rig::Rig;
use crate::server::Fault;

const SLICE: &str = "nvidia.com/mig-1g.10gb";
const OTHER: &str = "nvidia.com/mig-2g.20gb";

/// The kinds: resource, kind, API version, and where the pod template is.
const KINDS: [(&str, &str, &str, &str); 6] = [
    ("deployments", "Deployment", "apps/v1", "spec.template"),
    ("statefulsets", "StatefulSet", "apps/v1", "spec.template"),
    ("daemonsets", "DaemonSet", "apps/v1", "spec.template"),
    ("jobs", "Job", "batch/v1", "spec.template"),
    ("cronjobs", "CronJob", "batch/v1", "spec.jobTemplate.spec.template"),
    ("rayclusters", "RayCluster", "ray.io/v1", "spec.headGroupSpec.template"),
];

pub(crate) fn bind(kind: &str) -> Bind {
    let (_, kind, api_version, path) = KINDS.into_iter().find(|(_, of, ..)| *of == kind).unwrap();
    let [api_version, kind, path] = [api_version, kind, path].map(str::to_owned);
    Bind {
        binding: "chat".to_owned(),
        object: Object { api_version, kind, namespace: "a".to_owned(), name: "w".to_owned(), path },
        container: None,
        profile: "1g.10gb".parse().unwrap(),
        per_replica: 1,
        strategy: MigStrategy::Mixed,
        allocation: Allocation::DevicePlugin,
        affinity: Affinity::default(),
    }
}

fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, key| json!({ key: value }))
}

/// An object with these containers, whoever made it being `kubectl`.
fn object(kind: &str, containers: Value) -> (&'static str, Value) {
    let (resource, _, _, path) = KINDS.into_iter().find(|(_, of, ..)| *of == kind).unwrap();
    let mut made = at(path, json!({ "spec": { "containers": containers } }));
    if kind == "Job" {
        made["spec"]["suspend"] = json!(true);
    }
    made["metadata"] = json!({ "name": "w", "namespace": "a", "uid": "uid-of-w" });
    let fields = made.clone();
    (resource, owned_by(made, "kubectl", &fields))
}

fn plain(kind: &str) -> (&'static str, Value) {
    object(kind, json!([{ "name": "main", "image": "x" }]))
}

pub(crate) fn rig(object: (&'static str, Value)) -> Rig {
    Rig::new([object])
}

fn stored(rig: &Rig, kind: &str) -> Value {
    let (resource, ..) = KINDS.into_iter().find(|(_, of, ..)| *of == kind).unwrap();
    let mut object = rig.server.lock().store.get(resource, "a", "w").unwrap().clone();
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    object
}

fn template(rig: &Rig, bind: &Bind) -> Value {
    let pointer = format!("/{}/spec", bind.object.path.replace('.', "/"));
    stored(rig, &bind.object.kind).pointer(&pointer).unwrap().clone()
}

pub(crate) fn record(rig: &Rig) -> Value {
    rig.server
        .lock()
        .store
        .get("configmaps", "sectile", "sectile-bindings")
        .map_or(Value::Null, |map| map["data"].clone())
}

async fn refused(rig: &Rig, bind: &Bind) -> PortError {
    let before = stored(rig, &bind.object.kind);
    let error = rig.cluster.bind(bind, "r1", false).await.unwrap_err();
    assert_eq!(stored(rig, &bind.object.kind), before, "what is refused changes nothing");
    assert_eq!(record(rig), Value::Null, "and is not recorded");
    error
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_bound_and_taken_back() {
    for (_, kind, ..) in KINDS {
        let (rig, bind) = (rig(plain(kind)), bind(kind));
        let before = stored(&rig, kind);
        rig.cluster.bind(&bind, "main@1", false).await.unwrap();
        let spec = template(&rig, &bind);
        let one = json!({ "limits": { SLICE: "1" }, "requests": { SLICE: "1" } });
        assert_eq!(spec["containers"], json!([{ "name": "main", "image": "x", "resources": one }]), "{kind}");
        assert_eq!(stored(&rig, kind)["metadata"]["annotations"]["sectile.dev/revision"], "main@1");
        assert_eq!(record(&rig).as_object().unwrap().len(), 2, "{kind}");
        let read = rig.cluster.workload(&bind.object).await.unwrap();
        if kind == "CronJob" || kind == "RayCluster" {
            let WorkloadState { requests, revision, .. } = read.unwrap();
            assert_eq!((requests[SLICE], revision.as_deref()), (1, Some("main@1")));
        }
        rig.cluster.unbind(&bind, "main@1", false).await.unwrap();
        let mut after = stored(&rig, kind);
        after["metadata"].as_object_mut().unwrap().remove("annotations");
        let main =
            &mut after.pointer_mut(&format!("/{}/spec/containers/0", bind.object.path.replace('.', "/"))).unwrap();
        main.as_object_mut().unwrap().remove("resources");
        assert_eq!(after, before, "{kind}");
        assert_eq!(record(&rig), json!({ "_revisions": "[\"main@1\"]" }));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_a_binding() {
    let rig = rig(plain("Deployment"));
    let mut bind = bind("Deployment");
    bind.affinity.labels.insert("pool".to_owned(), "inference".to_owned());
    bind.affinity.names.extend(["n1", "n2"].map(str::to_owned));
    rig.cluster.bind(&bind, "main@1", false).await.unwrap();
    rig.cluster.unbind(&bind, "main@1", false).await.unwrap();
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn asking_beforehand_changes_nothing() {
    let (rig, bind) = (rig(plain("Deployment")), bind("Deployment"));
    let before = stored(&rig, "Deployment");
    rig.cluster.bind(&bind, "main@1", true).await.unwrap();
    rig.cluster.unbind(&bind, "main@1", true).await.unwrap();
    assert_eq!((stored(&rig, "Deployment"), record(&rig)), (before, Value::Null));
}

#[tokio::test(start_paused = true)]
async fn in_the_strategy_single_the_resource_is_that_of_whole_gpus() {
    let rig = rig(plain("Deployment"));
    let bind = Bind { strategy: MigStrategy::Single, per_replica: 2, ..bind("Deployment") };
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    assert_eq!(template(&rig, &bind)["containers"][0]["resources"]["limits"], json!({ "nvidia.com/gpu": "2" }));
}

#[tokio::test(start_paused = true)]
async fn another_profile_takes_the_place_of_the_one_before() {
    let (rig, bind) = (rig(plain("StatefulSet")), bind("StatefulSet"));
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    let mut other = Bind { profile: "2g.20gb".parse().unwrap(), ..bind };
    other.affinity.names.insert("n1".to_owned());
    rig.cluster.bind(&other, "r2", false).await.unwrap();
    let spec = template(&rig, &other);
    assert_eq!(spec["containers"][0]["resources"]["limits"], json!({ OTHER: "1" }));
    let field = json!([{ "key": "metadata.name", "operator": "In", "values": ["n1"] }]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = &spec["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"];
    assert_eq!(*terms, json!([{ "matchFields": field }]));
    // And is taken back where it holds everywhere again.
    other.affinity = Affinity::default();
    rig.cluster.bind(&other, "r2", false).await.unwrap();
    assert_eq!(template(&rig, &other)["affinity"]["nodeAffinity"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn a_field_of_somebody_else_is_named_with_its_owner_and_never_forced() {
    for (_, kind, ..) in KINDS {
        let theirs = json!([{ "name": "main", "image": "x", "resources": { "limits": { SLICE: "4" } } }]);
        let (rig, mut wanted) = (rig(object(kind, theirs)), bind(kind));
        let error = refused(&rig, &wanted).await;
        let path = &wanted.object.path;
        assert_eq!(
            error.message,
            format!(
                "{kind} a/w: .{path}.spec.containers[name=\"main\"].resources.limits.{SLICE} belongs to \"kubectl\"; \
                 take it out there, or set manage = false"
            )
        );
        assert!(!error.transient);
        // What it asks for besides would stay, and its pods would ask for both.
        wanted.profile = "2g.20gb".parse().unwrap();
        let error = refused(&rig, &wanted).await;
        assert!(error.message.contains(&format!("limits.{SLICE} belongs to \"kubectl\"")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_affinity_of_somebody_else_is_named_with_its_owner() {
    for (_, kind, _, path) in KINDS {
        let (resource, plain) = plain(kind);
        let term = json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] });
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } });
        let theirs = at(path, json!({ "spec": { "affinity": { "nodeAffinity": required } } }));
        let mut made = plain;
        let spec = made.pointer_mut(&format!("/{}/spec", path.replace('.', "/"))).unwrap();
        spec["affinity"] = json!({ "nodeAffinity": required });
        let mut body = theirs;
        body["metadata"] = json!({});
        let rig = rig((resource, owned_by(made, "helm", &body)));
        let mut bind = bind(kind);
        bind.affinity.names.insert("n1".to_owned());
        let error = refused(&rig, &bind).await;
        let field = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution belongs to \"helm\"";
        assert!(error.message.contains(field), "{kind}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_container_is_named_where_there_are_several() {
    for (_, kind, ..) in KINDS {
        let two = json!([{ "name": "main", "image": "x" }, { "name": "log", "image": "y" }]);
        let (rig, mut bind) = (rig(object(kind, two)), bind(kind));
        let error = refused(&rig, &bind).await;
        assert_eq!(
            error.message,
            format!("{kind} a/w has the containers main, log; name one of them with `container`")
        );
        bind.container = Some("mian".to_owned());
        let error = refused(&rig, &bind).await;
        assert_eq!(error.message, format!("{kind} a/w has no container mian, but main, log"));
        bind.container = Some("log".to_owned());
        rig.cluster.bind(&bind, "r1", false).await.unwrap();
        let spec = template(&rig, &bind);
        assert_eq!(spec["containers"][0], json!({ "name": "main", "image": "x" }), "{kind}");
        assert_eq!(spec["containers"][1]["resources"]["limits"], json!({ SLICE: "1" }), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told() {
    let rig = rig(plain("Deployment"));
    let absent = Bind { object: Object { name: "v".to_owned(), ..bind("CronJob").object }, ..bind("CronJob") };
    assert_eq!(rig.cluster.workload(&absent.object).await.unwrap(), None);
    let error = rig.cluster.bind(&absent, "r1", false).await.unwrap_err();
    assert_eq!(error.to_string(), "the cluster has no CronJob a/v: 404");
    let mut unknown = bind("RayCluster");
    unknown.object.api_version = "ray.io/v2".to_owned();
    let error = rig.cluster.bind(&unknown, "r1", false).await.unwrap_err();
    assert_eq!(error.message, "the cluster has no API ray.io/v2, which RayCluster a/w is of");
    let mut unknown = bind("RayCluster");
    unknown.object.kind = "RayThing".to_owned();
    let error = rig.cluster.bind(&unknown, "r1", false).await.unwrap_err();
    assert_eq!(error.message, "ray.io/v1 has no kind RayThing in namespaces");
    let nowhere = Rig::new([plain("RayCluster")]);
    let mut lost = bind("RayCluster");
    lost.object.path = "spec.workers".to_owned();
    let error = nowhere.cluster.bind(&lost, "r1", false).await.unwrap_err();
    assert_eq!(error.message, "RayCluster a/w has no pod template at spec.workers");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_told_and_left() {
    let (rig, bind) = (rig(plain("Deployment")), bind("Deployment"));
    rig.server.fail("PATCH /apis/apps/v1", 1, Fault::Refused(403, "deployments.apps is forbidden: no"));
    let error = refused(&rig, &bind).await;
    assert!(!error.transient && error.code.starts_with("403"), "{error}");
    // Nothing is recorded where that is what may not be done.
    rig.server.fail(
        "POST /api/v1/namespaces/sectile/configmaps",
        1,
        Fault::Refused(403, "configmaps is forbidden: no"),
    );
    refused(&rig, &bind).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_begun_is_not_changed_and_keeps_what_it_has() {
    let (resource, mut job) = plain("Job");
    job["spec"]["suspend"] = json!(false);
    let (rig, bind) = (rig((resource, job)), bind("Job"));
    let error = refused(&rig, &bind).await;
    let told = "the pod template of Job a/w can't be changed any more; make it anew with what the binding says";
    assert_eq!((error.message.as_str(), error.transient), (told, false));
    // One that was bound before it began.
    let bound = self::rig(plain("Job"));
    assert!(!bound.cluster.workload(&bind.object).await.unwrap().unwrap().fixed);
    bound.cluster.bind(&bind, "r1", false).await.unwrap();
    bound.server.edit("jobs", "a", "w", |job| job["spec"]["suspend"] = json!(false));
    bound.until(async |cluster| cluster.workload(&bind.object).await.unwrap().unwrap().fixed).await;
    bound.cluster.unbind(&bind, "r1", false).await.unwrap();
    assert_eq!(record(&bound), json!({ "_revisions": "[\"r1\"]" }));
    assert_eq!(template(&bound, &bind)["containers"][0]["resources"]["limits"], json!({ SLICE: "1" }));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_taken_back() {
    let (rig, bind) = (rig(plain("Deployment")), bind("Deployment"));
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    rig.server.lock().store.remove("deployments", "a", "w");
    rig.cluster.unbind(&bind, "r1", false).await.unwrap();
    assert_eq!(record(&rig), json!({ "_revisions": "[\"r1\"]" }));
    assert!(rig.server.lock().store.get("deployments", "a", "w").is_none(), "it is not made anew");
}

#[tokio::test(start_paused = true)]
async fn where_instances_come_by_claims_pods_name_a_template_of_ours() {
    let rig = rig(plain("Deployment"));
    let bind = Bind { allocation: Allocation::Dra, per_replica: 2, ..bind("Deployment") };
    let name = bind.claim_template().unwrap();
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    let spec = template(&rig, &bind);
    assert_eq!(spec["resourceClaims"], json!([{ "name": "sectile", "resourceClaimTemplateName": name }]));
    assert_eq!(spec["containers"][0]["resources"], json!({ "claims": [{ "name": "sectile" }] }));
    let made = |rig: &Rig, name: &str| rig.server.lock().store.get("resourceclaimtemplates", "a", name).cloned();
    insta::assert_snapshot!(serde_json::to_string_pretty(&made(&rig, &name).unwrap()["spec"]).unwrap());
    let owners = |rig: &Rig| {
        let owners = made(rig, &name).unwrap()["metadata"]["ownerReferences"].clone();
        owners.as_array().unwrap().iter().map(|owner| owner["uid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(owners(&rig), ["uid-of-w"]);
    // What is there already will do.
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    assert_eq!(owners(&rig), ["uid-of-w"]);
    // And belongs to whoever bears the name by then, before the old one's things are cleared away.
    rig.server.lock().store.edit("deployments", "a", "w", |object| object["metadata"]["uid"] = json!("another-uid"));
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    assert_eq!(owners(&rig), ["uid-of-w", "another-uid"]);
    let other = Bind { profile: "2g.20gb".parse().unwrap(), ..bind.clone() };
    rig.cluster.bind(&other, "r1", false).await.unwrap();
    rig.cluster.unbind(&other, "r1", false).await.unwrap();
    assert_eq!(template(&rig, &other)["resourceClaims"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_claim_template_was_gone_while_a_jobs_next_pods_or_an_earlier_template_still_named_it() {
    let rig = rig(plain("Deployment"));
    let bind = Bind { allocation: Allocation::Dra, ..bind("Deployment") };
    let other = Bind { profile: "2g.20gb".parse().unwrap(), ..bind.clone() };
    for bind in [&bind, &other] {
        rig.cluster.bind(bind, "r1", false).await.unwrap();
    }
    rig.cluster.unbind(&other, "r1", false).await.unwrap();
    for bind in [&bind, &other] {
        let name = bind.claim_template().unwrap();
        assert!(rig.server.lock().store.get("resourceclaimtemplates", "a", &name).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_changed_or_made_anew_meanwhile_is_read_again() {
    let (rig, bind) = (rig(plain("Deployment")), bind("Deployment"));
    rig.server.fail("PATCH /apis/apps/v1", 1, Fault::Refused(409, "the object has been modified"));
    rig.cluster.bind(&bind, "r1", false).await.unwrap();
    let all = Fault::Refused(409, "the object has been modified");
    rig.server.fail("PATCH /apis/apps/v1", 99, all);
    let error = rig.cluster.bind(&bind, "r1", false).await.unwrap_err();
    assert_eq!((error.message.as_str(), error.transient), ("Deployment a/w is changed by others all the time", true));
}
