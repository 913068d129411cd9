//! The roles in packaging/ against what is asked of the API server, and the manual against the roles.

use std::collections::BTreeSet;

use sectile::cluster::names::{BUDGETS, LEASE, RECORD};
use sectile::cluster::requests::{self, Right as Declared};
use sectile::model::NodeState;
use sectile::ports::{Cluster as _, ClusterEvent, Reason, Removal, Shown};
use serde::Deserialize;
use serde_json::json;

use crate::objects::{NODE, budgets, daemon, labelled, user};
use crate::rig::{PLUGIN, Rig, plan};
use crate::server::{Fault, Right};

const AGENT: &str = include_str!("../../packaging/kubernetes/agent-role.yaml");
const PREVIEW: &str = include_str!("../../packaging/kubernetes/preview-role.yaml");
const CONTROLLER: &str = include_str!("../../packaging/kubernetes/controller-role.yaml");
const MANUAL: &str = include_str!("../../packaging/doc/kubernetes.md");

#[derive(Debug, Deserialize)]
struct Document {
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    /// Only these objects.
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a file's two roles grant, the one everywhere and the other in our namespace.
fn granted(text: &str) -> BTreeSet<Right> {
    let documents: Vec<Document> = serde_saphyr::from_multiple(text).unwrap();
    let kinds: Vec<&str> = documents.iter().map(|document| document.kind.as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
    // What is not ours is none of our business.
    let named = |rule: &Rule, ours: &[&str]| {
        let all = rule.resource_names.iter().all(|name| ours.contains(&name.as_str()));
        rule.verbs == ["create"] || (all && !rule.resource_names.is_empty())
    };
    let ours = |rule: &Rule| match rule.resources[0].as_str() {
        "configmaps" => named(rule, &[BUDGETS, RECORD.1]),
        "leases" => named(rule, &[LEASE]),
        _ => false,
    };
    assert!(documents[3].rules.iter().all(ours), "{:?}", documents[3].rules);
    let mut all = BTreeSet::new();
    for Rule { api_groups, resources, verbs, resource_names: _ } in documents.iter().flat_map(|d| &d.rules) {
        for group in api_groups {
            for resource in resources {
                for verb in verbs {
                    let new = all.insert((group.clone(), resource.clone(), verb.clone()));
                    assert!(new, "{resource} {verb} is granted twice");
                }
            }
        }
    }
    all
}

fn declared(rights: impl IntoIterator<Item = Declared>) -> BTreeSet<Right> {
    let owned = |r: Declared| (r.group.to_owned(), r.resource.to_owned(), r.verb.to_owned());
    rights.into_iter().map(owned).collect()
}

#[test]
fn the_agents_role_is_what_its_requests_take() {
    let writing = requests::WRITING.iter().chain(requests::SHARING).copied();
    assert_eq!(granted(AGENT), declared(requests::reading().into_iter().chain(writing)));
}

#[test]
fn the_previews_role_is_what_looking_takes() {
    let beyond = requests::PREVIEWING.iter().chain(requests::LOOKING).copied();
    assert_eq!(granted(PREVIEW), declared(requests::reading().into_iter().chain(beyond)));
    assert!(granted(PREVIEW).iter().all(|(.., verb)| ["get", "list", "watch"].contains(&verb.as_str())));
}

#[test]
fn the_controllers_role_is_what_its_requests_take() {
    let controlling = requests::CONTROLLING.iter().copied();
    assert_eq!(granted(CONTROLLER), declared(requests::reading().into_iter().chain(controlling)));
}

/// Does everything that an agent does, conflicts included.
async fn everything(rig: &Rig) {
    let cluster = &rig.cluster;
    let shown = Shown { state: NodeState::Converged, revision: "main@1", message: None, view: Some("{}") };
    cluster.observe().await.unwrap();
    cluster.labels(NODE).await.unwrap();
    cluster.holders(NODE).await.unwrap();
    rig.server.fail("PATCH", 1, Fault::Refused(409, "the object has been modified"));
    cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.fail("/eviction", 1, Fault::Refused(409, "another UID"));
    for (delete, dry_run) in [(false, true), (false, true), (false, false), (true, true), (true, false)] {
        let how = Removal { grace_period_s: Some(1), delete, dry_run };
        let _ = cluster.remove_pod("a", "p", "uid-of-p", how).await;
    }
    cluster.pod("a", "p").await.unwrap();
    cluster.set_clients_paused(NODE, None).await.unwrap();
    cluster.restart_clients(NODE).await.unwrap();
    cluster.set_taint(NODE, None).await.unwrap();
    cluster.set_label(NODE, "nvidia.com/gpu.deploy.mig-manager", "false").await.unwrap();
    cluster.publish(NODE, &shown).await.unwrap();
    assert_eq!(cluster.is_going(NODE).await.unwrap(), Some(false));
    let (version, _) = cluster.places().await.unwrap();
    assert!(cluster.set_place(&version, NODE, None).await.unwrap());
    let event = ClusterEvent { node: NODE, pod: None, reason: Reason::Repartitioned, message: String::new() };
    cluster.event(&event).await.unwrap();
}

fn scene(granted: BTreeSet<Right>) -> Rig {
    let pods = [user("p", "nvidia.com/gpu", 1), daemon("plugin", ("name", "nvidia-device-plugin-ds"))];
    let rig = Rig::new(
        pods.map(|pod| ("pods", pod))
            .into_iter()
            .chain([("nodes", labelled(&[(PLUGIN, "true")])), ("configmaps", budgets(&[]))]),
    );
    rig.server.lock().granted = Some(granted);
    rig
}

#[tokio::test(start_paused = true)]
async fn an_agent_does_everything_with_its_role_and_needs_all_of_it() {
    let all = granted(AGENT);
    let rig = scene(all.clone());
    everything(&rig).await;
    let refused: Vec<String> = rig.server.lines().into_iter().filter(|line| line.ends_with(" 403")).collect();
    assert_eq!(refused, [""; 0]);
    assert_eq!(rig.server.lock().needed, all);
}

#[tokio::test(start_paused = true)]
async fn a_preview_sees_everything_with_its_role_and_needs_all_of_it() {
    let rig = scene(granted(PREVIEW));
    let seen = rig.cluster.observe().await.unwrap();
    assert_eq!((seen.pods.len(), seen.gaps.len()), (1, 0));
    assert_eq!(rig.cluster.fleet().await.unwrap().1.len(), 1);
    assert!(rig.node().await.writers.is_empty());
    assert_eq!(rig.cluster.lease().await, Ok(None));
    // The watches begin a moment later.
    rig.until(async |_| rig.server.lock().needed.len() == 24).await;
    assert_eq!(rig.server.lock().needed, granted(PREVIEW));
    let error = rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap_err();
    assert_eq!((error.transient, rig.stored()["spec"].get("taints")), (false, None));
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_found() {
    let mut less = granted(AGENT);
    assert!(less.remove(&(String::new(), "nodes".to_owned(), "get".to_owned())));
    let rig = scene(less);
    rig.server.fail("PATCH", 1, Fault::Refused(409, "the object has been modified"));
    let error = rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap_err();
    assert_eq!((error.transient, error.to_string().as_str()), (false, "node n: 403 it is forbidden"));
    assert_eq!(json!(rig.server.lines()).as_array().unwrap().len(), 2);
}

#[test]
fn the_manual_tells_the_agents_role() {
    let under = MANUAL.lines().skip_while(|line| *line != "## What the agent may do").skip(1);
    let rows = under.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
    let mut told = BTreeSet::new();
    for row in rows.skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, verbs, why] = cells[..] else { panic!("{row}") };
        assert!(!why.is_empty(), "{row}");
        for resource in what.split(", ") {
            let resource = resource.split(' ').next().unwrap();
            told.extend(verbs.split(", ").map(|verb| (resource.to_owned(), verb.to_owned())));
        }
    }
    let granted = granted(AGENT);
    assert_eq!(told, granted.iter().map(|(_, resource, verb)| (resource.clone(), verb.clone())).collect());
    // No resource has its name in two groups, so that leaving groups out says all.
    let groups: BTreeSet<(&String, &String)> = granted.iter().map(|(group, resource, _)| (resource, group)).collect();
    let resources: BTreeSet<&String> = groups.iter().map(|(resource, _)| *resource).collect();
    assert_eq!(resources.len(), groups.len());
}
