//! What is asked of the API server, as values: each request with the right that it takes.

use http::Request;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Resource;
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request as Paths;
use serde_json::Value;

use super::names::{AGENT, CONTROLLER};
use crate::ports::{ClusterEvent, Removal};

/// What whoever sends a request must be allowed to (RBAC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// The API group; empty: the core.
    pub group: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`.
    pub verb: &'static str,
}

/// A request, and what it takes.
#[derive(Debug)]
pub struct Call {
    /// The right.
    pub right: Right,
    /// Method, path, headers and body.
    pub request: Request<Vec<u8>>,
    /// What it is for, as messages tell it.
    pub what: String,
}

/// Kinds that are kept by watches: group and resource.
pub const WATCHED: &[(&str, &str)] = &[
    ("", "nodes"),
    ("", "pods"),
    ("policy", "poddisruptionbudgets"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceslices"),
];

/// Everything that whoever only looks must be allowed to.
pub fn reading() -> Vec<Right> {
    let each = |verb| WATCHED.iter().map(move |&(group, resource)| Right { group, resource, verb });
    ["list", "watch"].into_iter().flat_map(each).collect()
}

/// Everything that a node's agent must be allowed to beyond that: the rights of the calls of this file.
pub const WRITING: &[Right] = &[PATCH_NODE, GET_NODE, GET_POD, EVICT, DELETE_POD, CREATE_EVENT];

const GET_NODE: Right = Right { group: "", resource: "nodes", verb: "get" };
const PATCH_NODE: Right = Right { group: "", resource: "nodes", verb: "patch" };
const GET_POD: Right = Right { group: "", resource: "pods", verb: "get" };
const DELETE_POD: Right = Right { group: "", resource: "pods", verb: "delete" };
const EVICT: Right = Right { group: "", resource: "pods/eviction", verb: "create" };
const CREATE_EVENT: Right = Right { group: "events.k8s.io", resource: "events", verb: "create" };

fn nodes() -> Paths {
    Paths::new(Node::url_path(&(), None))
}

fn pods(namespace: &str) -> Paths {
    Paths::new(Pod::url_path(&(), Some(namespace)))
}

fn call(right: Right, what: String, request: Result<Request<Vec<u8>>, kube::core::request::Error>) -> Option<Call> {
    // A name that makes no path names nothing.
    request.ok().map(|request| Call { right, request, what })
}

/// One node.
pub fn node(name: &str) -> Option<Call> {
    call(GET_NODE, format!("node {name}"), nodes().get(name, &GetParams::default()))
}

/// Changes a node by a merge patch; one that bears a resourceVersion is refused with 409 where somebody was faster.
pub fn patch_node(name: &str, patch: &Value) -> Option<Call> {
    let request = nodes().patch(name, &PatchParams::default(), &Patch::Merge(patch));
    call(PATCH_NODE, format!("changing node {name}"), request)
}

/// One pod.
pub fn pod(namespace: &str, name: &str) -> Option<Call> {
    call(GET_POD, format!("pod {namespace}/{name}"), pods(namespace).get(name, &GetParams::default()))
}

/// The pods that are bound to a node.
pub fn pods_of(node: &str) -> Option<Call> {
    let right = Right { group: "", resource: "pods", verb: "list" };
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let request = Paths::new(Pod::url_path(&(), None)).list(&params);
    call(right, format!("the pods of node {node}"), request)
}

/// Evicts a pod of that UID.
pub fn evict(namespace: &str, name: &str, uid: &str, how: Removal) -> Option<Call> {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        // By it the admission policy in packaging/ knows evictions of an agent, and looks at those alone.
        labels: Some([(AGENT.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let eviction = Eviction { metadata, delete_options: Some(options(uid, how)) };
    let params = PostParams { dry_run: how.dry_run, ..PostParams::default() };
    let body = serde_json::to_vec(&eviction).unwrap_or_default();
    let what = format!("evicting pod {namespace}/{name}");
    call(EVICT, what, pods(namespace).create_subresource("eviction", name, &params, body))
}

/// Deletes a pod of that UID.
pub fn delete(namespace: &str, name: &str, uid: &str, how: Removal) -> Option<Call> {
    if name.is_empty() {
        // The path would be that of all pods.
        return None;
    }
    let mut options = options(uid, how);
    options.dry_run = how.dry_run.then(|| vec!["All".to_owned()]);
    let body = serde_json::to_vec(&options).unwrap_or_default();
    let path = format!("{}/{name}", Pod::url_path(&(), Some(namespace)));
    let request = Request::delete(path).header(http::header::CONTENT_TYPE, "application/json").body(body);
    let what = format!("deleting pod {namespace}/{name}");
    request.ok().map(|request| Call { right: DELETE_POD, request, what })
}

fn options(uid: &str, how: Removal) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: how.grace_period_s.and_then(|s| i64::try_from(s).ok()),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteOptions::default()
    }
}

/// Tells an event.
pub fn event(namespace: &str, event: &Event, about: &ClusterEvent<'_>) -> Option<Call> {
    let body = serde_json::to_vec(event).unwrap_or_default();
    let paths = Paths::new(Event::url_path(&(), Some(namespace)));
    let params = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
    call(CREATE_EVENT, format!("telling {} of node {}", about.reason, about.node), paths.create(&params, body))
}
