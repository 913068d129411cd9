//! Bindings by server-side apply, as a real API server takes them: owners, Jobs, claims, and what is gone.

use std::time::Duration;

use sectile::cluster::{Access, KubeCluster};
use sectile::model::policy::Allocation;
use sectile::model::{Affinity, Bind, Object};
use sectile::ports::Cluster as _;

use crate::stage::{admin, kubectl};

const SPACE: &str = "live-bind";

fn bind(kind: &str, name: &str) -> Bind {
    let (version, path) = Object::known(kind).unwrap();
    let [api_version, kind, namespace, name, path] = [version, kind, SPACE, name, path].map(str::to_owned);
    Bind {
        binding: name.clone(),
        object: Object { api_version, kind, namespace, name, path },
        container: None,
        profile: "1g.10gb".parse().unwrap(),
        per_replica: 1,
        strategy: Default::default(),
        allocation: Allocation::DevicePlugin,
        affinity: Affinity { labels: [("pool".to_owned(), "x".to_owned())].into(), names: ["n".to_owned()].into() },
    }
}

fn asks(what: &str) -> String {
    let path = "-o=jsonpath={.spec.template.spec.containers[0].resources}{.spec.template.spec.affinity}";
    kubectl(&["get", what, "--namespace", SPACE, path], "")
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn workloads_are_bound_and_taken_back_and_nobody_is_forced() {
    for space in [SPACE, "sectile"] {
        // It may be there.
        kubectl(
            &["apply", "--filename", "-"],
            &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {space}}}\n"),
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = admin();
        let access = Access { kubeconfig: Some(&config), context: None };
        let cluster = KubeCluster::new(access.client().await.unwrap(), None);
        let make = |words: &[&str]| kubectl(&[words, &["--namespace", SPACE]].concat(), "");
        let revision = format!("live@{}", std::process::id());
        make(&["create", "deployment", "w", "--image=none"]);
        let web = bind("Deployment", "w");
        cluster.bind(&web, &revision, true).await.unwrap();
        assert_eq!(asks("deployment/w"), "{}");
        cluster.bind(&web, &revision, false).await.unwrap();
        assert!(
            asks("deployment/w").contains("nvidia.com/mig-1g.10gb") && asks("deployment/w").contains("metadata.name")
        );
        let other = Bind { profile: "2g.20gb".parse().unwrap(), affinity: Affinity::default(), ..web.clone() };
        cluster.bind(&other, &revision, false).await.unwrap();
        assert!(!asks("deployment/w").contains("1g.10gb") && asks("deployment/w").contains("2g.20gb"));
        let claimed = Bind { allocation: Allocation::Dra, ..web.clone() };
        cluster.bind(&claimed, &revision, false).await.unwrap();
        assert!(asks("deployment/w").contains("claims"));
        let templates = || make(&["get", "resourceclaimtemplates", "--output=name"]);
        assert!(templates().contains(&claimed.claim_template().unwrap()));
        let bound = cluster.fleet().await.unwrap().0.bound;
        assert!(bound.known().unwrap().iter().any(|bound| bound.bind == claimed && bound.revision == revision));
        cluster.unbind(&claimed, &revision, false).await.unwrap();
        // What pods of before may still name goes with the workload.
        assert_eq!(asks("deployment/w"), "{}");
        assert!(templates().contains(&claimed.claim_template().unwrap()));
        // Somebody else's.
        let theirs = "--patch={\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"none\",\"resources\":\
                      {\"limits\":{\"nvidia.com/mig-1g.10gb\":\"2\"}}}]}}}}";
        make(&["patch", "deployment", "w", theirs]);
        let error = cluster.bind(&web, &revision, false).await.unwrap_err();
        let field = "containers[name=\"none\"].resources.limits.nvidia.com/mig-1g.10gb belongs to \"kubectl-patch\"";
        assert!(error.message.contains(field), "{error}");
        let error = cluster.bind(&other, &revision, false).await.unwrap_err();
        assert!(error.message.contains(field), "{error}");
        make(&["delete", "deployment", "w"]);
        cluster.unbind(&web, &revision, false).await.unwrap();
        for _ in 0..60 {
            if templates().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(templates(), "");
        // A Job before it begins, and after.
        make(&["create", "job", "j", "--image=none"]);
        let job = bind("Job", "j");
        let error = cluster.bind(&job, &revision, false).await.unwrap_err();
        assert!(error.message.contains("can't be changed any more"), "{error}");
        make(&["delete", "job", "j"]);
        let suspended = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {suspend: true, template: {spec: \
                         {restartPolicy: Never, containers: [{name: c, image: none}]}}}\n";
        kubectl(&["create", "--namespace", SPACE, "--filename", "-"], suspended);
        cluster.bind(&job, &revision, false).await.unwrap();
        assert!(asks("job/j").contains("1g.10gb"));
        make(&["patch", "job", "j", "--patch={\"spec\":{\"suspend\":false}}"]);
        cluster.unbind(&job, &revision, false).await.unwrap();
        assert!(asks("job/j").contains("1g.10gb"), "it keeps what it was made with");
    });
    kubectl(&["delete", "namespace", SPACE, "--wait=false"], "");
}
