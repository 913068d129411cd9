//! Every request as bytes: method, path, content type and body, and that the right it bears is the one that it takes.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use sectile::cluster::requests::{self, Address, Call};
use sectile::ports::{ClusterEvent, Reason, Removal};
use serde_json::json;

use crate::server::right;

const SOURCE: &str = include_str!("../../src/cluster/requests.rs");

fn place(api_version: &str, plural: &str) -> Address {
    let [api_version, plural, namespace, name] = [api_version, plural, "a", "w"].map(str::to_owned);
    Address { api_version, plural, namespace, name }
}

/// Every request, by the function that makes it.
fn all() -> Vec<(&'static str, Call)> {
    let how = |delete, dry_run| Removal { grace_period_s: Some(30), delete, dry_run };
    let patch = json!({ "metadata": { "resourceVersion": "7", "labels": { "sectile.dev/state": "converged" } } });
    let about = ClusterEvent { node: "n", pod: None, reason: Reason::Repartitioned, message: "done".to_owned() };
    let told = Event { reason: Some("MigRepartitioned".to_owned()), ..Event::default() };
    let made = [
        ("node", requests::node("n")),
        ("patch_node", requests::patch_node("n", &patch)),
        ("nodes_all", requests::nodes_all()),
        ("budgets", requests::budgets()),
        ("patch_budgets", requests::patch_budgets(&patch)),
        ("lease", requests::lease()),
        ("create_lease", requests::create_lease(&Lease::default())),
        ("patch_lease", requests::patch_lease(&patch)),
        ("pod", requests::pod("a", "p")),
        ("pods_of", requests::pods_of("n")),
        ("evict", requests::evict("a", "p", "uid", how(false, false))),
        ("evict", requests::evict("a", "p", "uid", how(false, true))),
        ("delete", requests::delete("a", "p", "uid", how(true, false))),
        ("delete", requests::delete("a", "p", "uid", how(true, true))),
        ("event", requests::event("default", &told, about.node)),
        ("workload", requests::workload(&place("apps/v1", "deployments"))),
        ("apply", requests::apply(&place("apps/v1", "deployments"), &patch, false)),
        ("apply", requests::apply(&place("batch/v1", "cronjobs"), &patch, true)),
        ("kinds", requests::kinds("ray.io/v1")),
        ("record", requests::record()),
        ("make_record", requests::make_record(&patch)),
        ("patch_record", requests::patch_record(&patch)),
        ("make_claims", requests::make_claims("a", &patch)),
        ("own_claims", requests::own_claims("a", "sectile-1", &json!({ "metadata": {} }))),
    ];
    made.map(|(function, call)| (function, call.unwrap())).into()
}

#[test]
fn every_request_has_its_bytes() {
    let mut text = String::new();
    for (function, Call { right: _, request, what }) in all() {
        text.push_str(&format!("{function}: {what}\n{} {}\n", request.method(), request.uri()));
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        text.push_str(&format!("{}\n\n", String::from_utf8(request.into_body()).unwrap()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_request_bears_the_right_that_the_api_server_asks_for() {
    for (function, call) in all() {
        let requests::Right { group, resource, verb } = call.right;
        let asked = right(call.request.method().as_str(), call.request.uri());
        assert_eq!(asked, (group.to_owned(), resource.to_owned(), verb.to_owned()), "{function}");
        let mut all =
            [requests::WRITING, requests::SUSPENDING, requests::CONTROLLING, requests::PREVIEWING, requests::SHARING]
                .concat();
        all.extend(requests::reading());
        // Whoever is known may ask for kinds.
        assert!(all.contains(&call.right) || function == "kinds", "{function}");
    }
}

#[test]
fn no_request_is_left_out() {
    let makes = |line: &&str| line.starts_with("pub fn ") && line.contains("-> Option<Call>");
    let name = |line: &'static str| line.trim_start_matches("pub fn ").split('(').next().unwrap();
    let functions: Vec<&str> = SOURCE.lines().filter(makes).map(name).collect();
    let mut tested: Vec<&str> = all().into_iter().map(|(function, _)| function).collect();
    tested.dedup();
    assert_eq!(functions, tested);
}

#[test]
fn a_name_that_makes_no_path_makes_no_request() {
    let how = Removal { grace_period_s: None, delete: false, dry_run: false };
    assert!(requests::node("").is_none() && requests::pod("a", "").is_none());
    assert!(requests::evict("a", "", "uid", how).is_none());
    assert!(requests::delete("a", "", "uid", how).is_none());
    assert!(requests::delete("a", "a b", "uid", how).is_none());
}

#[test]
fn a_kind_that_only_the_tree_knows_takes_a_right_of_its_own() {
    let call = requests::workload(&place("ray.io/v1", "rayclusters")).unwrap();
    assert_eq!(call.request.uri(), "/apis/ray.io/v1/namespaces/a/rayclusters/w");
    assert_eq!(call.right, requests::Right { group: "*", resource: "*", verb: "get" });
    let core = requests::workload(&place("v1", "podtemplates")).unwrap();
    assert_eq!(core.request.uri(), "/api/v1/namespaces/a/podtemplates/w");
}
