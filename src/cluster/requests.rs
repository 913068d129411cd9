//! What is asked of the API server, as values: each request with the right that it takes.

use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Resource;
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request as Paths;
use serde_json::Value;

use super::names::{AGENT, BUDGETS, CONTROLLER, LEASE, MANAGER, NAMESPACE, RECORD};
use crate::ports::Removal;

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
    ("", "configmaps"),
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

/// What an agent must be allowed to of the one object of the budgets, in our namespace alone.
pub const SHARING: &[Right] = &[GET_MAP, PATCH_MAP];

/// Everything that whoever suspends and resumes from afar must be allowed to.
pub const SUSPENDING: &[Right] = &[LIST_NODES, PATCH_NODE, GET_MAP, PATCH_MAP, CREATE_EVENT];

/// What whoever looks at the whole fleet may be allowed to beyond that: without it, who controls it stays unknown.
pub const LOOKING: &[Right] = &[GET_LEASE];

const GET_LEASE: Right = right("coordination.k8s.io", "leases", "get");
const CREATE_LEASE: Right = right("coordination.k8s.io", "leases", "create");
const PATCH_LEASE: Right = right("coordination.k8s.io", "leases", "patch");
const LIST_NODES: Right = right("", "nodes", "list");
const GET_MAP: Right = right("", "configmaps", "get");
const PATCH_MAP: Right = right("", "configmaps", "patch");
/// What whoever plans from afar must be allowed to beyond looking: what was bound.
pub const PREVIEWING: &[Right] = &[GET_MAP];

/// Everything that the controller must be allowed to beyond looking, with workloads of the known kinds. Of any other kind that the
/// tree names it needs `get` and `patch`, too.
pub const CONTROLLING: &[Right] = &[
    GET_NODE,
    GET_LEASE,
    CREATE_LEASE,
    PATCH_LEASE,
    GET_MAP,
    CREATE_MAP,
    PATCH_MAP,
    right("apps", "deployments", "get"),
    right("apps", "deployments", "patch"),
    right("apps", "statefulsets", "get"),
    right("apps", "statefulsets", "patch"),
    right("apps", "daemonsets", "get"),
    right("apps", "daemonsets", "patch"),
    right("apps", "replicasets", "get"),
    right("apps", "replicasets", "patch"),
    right("batch", "jobs", "get"),
    right("batch", "jobs", "patch"),
    right("batch", "cronjobs", "get"),
    right("batch", "cronjobs", "patch"),
    CREATE_CLAIMS,
    PATCH_CLAIMS,
    // Some API servers let only those name an owner who may delete (OwnerReferencesPermissionEnforcement).
    right("resource.k8s.io", "resourceclaimtemplates", "delete"),
];

const fn right(group: &'static str, resource: &'static str, verb: &'static str) -> Right {
    Right { group, resource, verb }
}

const CREATE_MAP: Right = right("", "configmaps", "create");
const CREATE_CLAIMS: Right = right("resource.k8s.io", "resourceclaimtemplates", "create");
const PATCH_CLAIMS: Right = right("resource.k8s.io", "resourceclaimtemplates", "patch");

const GET_NODE: Right = right("", "nodes", "get");
const PATCH_NODE: Right = right("", "nodes", "patch");
const GET_POD: Right = right("", "pods", "get");
const DELETE_POD: Right = right("", "pods", "delete");
const EVICT: Right = right("", "pods/eviction", "create");
const CREATE_EVENT: Right = right("events.k8s.io", "events", "create");

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

/// All nodes.
pub fn nodes_all() -> Option<Call> {
    call(LIST_NODES, "the nodes".to_owned(), nodes().list(&ListParams::default()))
}

fn maps() -> Paths {
    Paths::new(ConfigMap::url_path(&(), Some(NAMESPACE)))
}

/// What all nodes share.
pub fn budgets() -> Option<Call> {
    call(GET_MAP, format!("ConfigMap {NAMESPACE}/{BUDGETS}"), maps().get(BUDGETS, &GetParams::default()))
}

/// Changes it by a merge patch.
pub fn patch_budgets(patch: &Value) -> Option<Call> {
    let request = maps().patch(BUDGETS, &PatchParams::default(), &Patch::Merge(patch));
    call(PATCH_MAP, format!("changing ConfigMap {NAMESPACE}/{BUDGETS}"), request)
}

fn leases() -> Paths {
    Paths::new(Lease::url_path(&(), Some(NAMESPACE)))
}

/// The controller's lease.
pub fn lease() -> Option<Call> {
    call(GET_LEASE, format!("Lease {NAMESPACE}/{LEASE}"), leases().get(LEASE, &GetParams::default()))
}

/// Makes it.
pub fn create_lease(lease: &Lease) -> Option<Call> {
    let body = serde_json::to_vec(lease).unwrap_or_default();
    let request = leases().create(&PostParams::default(), body);
    call(CREATE_LEASE, format!("making Lease {NAMESPACE}/{LEASE}"), request)
}

/// Changes it by a merge patch.
pub fn patch_lease(patch: &Value) -> Option<Call> {
    let request = leases().patch(LEASE, &PatchParams::default(), &Patch::Merge(patch));
    call(PATCH_LEASE, format!("changing Lease {NAMESPACE}/{LEASE}"), request)
}

/// One pod.
pub fn pod(namespace: &str, name: &str) -> Option<Call> {
    call(GET_POD, format!("pod {namespace}/{name}"), pods(namespace).get(name, &GetParams::default()))
}

/// The pods that are bound to a node.
pub fn pods_of(node: &str) -> Option<Call> {
    let right = right("", "pods", "list");
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

/// Tells an event about something of that name.
pub fn event(namespace: &str, event: &Event, about: &str) -> Option<Call> {
    let body = serde_json::to_vec(event).unwrap_or_default();
    let paths = Paths::new(Event::url_path(&(), Some(namespace)));
    let params = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
    call(
        CREATE_EVENT,
        format!("telling {} of {about}", event.reason.as_deref().unwrap_or_default()),
        paths.create(&params, body),
    )
}

/// An object with a pod template, as paths name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `apps/v1`, or `v1` of the core.
    pub api_version: String,
    /// `deployments`.
    pub plural: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Address {
    fn paths(&self) -> Paths {
        let Address { api_version, plural, namespace, name: _ } = self;
        let root = if api_version.contains('/') { "apis" } else { "api" };
        Paths::new(format!("/{root}/{api_version}/namespaces/{namespace}/{plural}"))
    }

    /// The right that a verb takes; `*` for a kind that only the tree knows.
    fn right(&self, verb: &'static str) -> Right {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        let known = CONTROLLING.iter().find(|right| right.group == group && right.resource == self.plural);
        let (group, resource) = known.map_or(("*", "*"), |right| (right.group, right.resource));
        Right { group, resource, verb }
    }

    fn told(&self) -> String {
        format!("{} {}/{}", self.plural, self.namespace, self.name)
    }
}

/// One workload.
pub fn workload(place: &Address) -> Option<Call> {
    let request = place.paths().get(&place.name, &GetParams::default());
    call(place.right("get"), place.told(), request)
}

/// Sets the fields of a workload that are ours, and takes back those that were and are not in it; never by force.
pub fn apply(place: &Address, object: &Value, dry_run: bool) -> Option<Call> {
    let params = PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let request = place.paths().patch(&place.name, &params, &Patch::Apply(object));
    call(place.right("patch"), format!("changing {}", place.told()), request)
}

/// The kinds of an API version. Whoever is known may read them (the role `system:discovery`).
pub fn kinds(api_version: &str) -> Option<Call> {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let request = Request::get(format!("/{root}/{api_version}")).body(Vec::new()).ok()?;
    let right = right("", "", "get");
    Some(Call { right, request, what: format!("the kinds of {api_version}") })
}

fn records() -> Paths {
    Paths::new(ConfigMap::url_path(&(), Some(RECORD.0)))
}

/// What was bound.
pub fn record() -> Option<Call> {
    call(GET_MAP, told_record(), records().get(RECORD.1, &GetParams::default()))
}

/// Records for the first time.
pub fn make_record(object: &Value) -> Option<Call> {
    let body = serde_json::to_vec(object).unwrap_or_default();
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    call(CREATE_MAP, format!("making {}", told_record()), records().create(&params, body))
}

/// Changes what is recorded by a merge patch; one that bears a resourceVersion is refused with 409 where somebody was faster.
pub fn patch_record(patch: &Value) -> Option<Call> {
    let request = records().patch(RECORD.1, &PatchParams::default(), &Patch::Merge(patch));
    call(PATCH_MAP, format!("changing {}", told_record()), request)
}

fn told_record() -> String {
    format!("configmap {}/{}", RECORD.0, RECORD.1)
}

fn claims(namespace: &str) -> Paths {
    Paths::new(ResourceClaimTemplate::url_path(&(), Some(namespace)))
}

/// Makes a ResourceClaimTemplate.
pub fn make_claims(namespace: &str, template: &Value) -> Option<Call> {
    let body = serde_json::to_vec(template).unwrap_or_default();
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let what = format!("making a ResourceClaimTemplate in {namespace}");
    call(CREATE_CLAIMS, what, claims(namespace).create(&params, body))
}

/// Gives a ResourceClaimTemplate an owner more: owners are merged by their UIDs.
pub fn own_claims(namespace: &str, name: &str, patch: &Value) -> Option<Call> {
    let request = claims(namespace).patch(name, &PatchParams::default(), &Patch::Strategic(patch));
    call(PATCH_CLAIMS, format!("changing ResourceClaimTemplate {namespace}/{name}"), request)
}
