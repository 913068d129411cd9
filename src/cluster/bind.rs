//! Binds workloads by server-side apply. The fields that a binding sets are ours in the API server's eyes: whoever else has set
//! one of them keeps it, and is named; what we set no more, the API server takes back.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::kubernetes::{CONFLICTS, KubeCluster};
use super::names::{BINDING, CLAIM, DRA_DRIVER, MANAGER, MIG_CLASS, REVISION};
use super::pods::is_gpu;
use super::requests::{self, Address};
use super::template::{at, terms, within};
use super::transport::Reply;
use super::workloads;
use crate::model::observed::WorkloadState;
use crate::model::{Bind, Object};
use crate::ports::{Port, PortError};

/// Kinds that watches keep.
const WATCHED: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Job"];

/// The kinds of an API version.
#[derive(Deserialize)]
struct Kinds {
    resources: Vec<Plural>,
}

#[derive(Deserialize)]
struct Plural {
    name: String,
    kind: String,
    namespaced: bool,
}

fn refused(code: &str, message: String) -> PortError {
    PortError { transient: false, code: code.to_owned(), message }
}

/// What became of an apply.
enum Applied {
    Done(Value),
    /// It is another one now than it was made from.
    Changed,
}

impl KubeCluster {
    /// A workload as its own object tells it.
    pub(super) async fn look_up(&self, object: &Object) -> Port<Option<WorkloadState>> {
        if object.is_known() && WATCHED.contains(&object.kind.as_str()) {
            return self.mirrors().workload(object).await;
        }
        let Some(value) = self.get(object, &self.place(object).await?).await? else { return Ok(None) };
        match workloads::other(object, &value) {
            Some(state) => Ok(Some(state)),
            None => Err(no_template(object)),
        }
    }

    async fn place(&self, object: &Object) -> Port<Address> {
        let Object { api_version, kind, namespace, name, path: _ } = object;
        let plural = match object.is_known() {
            // All known kinds have a regular plural.
            true => format!("{}s", kind.to_lowercase()),
            false => {
                let reply = self.ask(requests::kinds(api_version), api_version).await?;
                if reply.status == 404 {
                    return Err(refused("404", format!("the cluster has no API {api_version}, which {object} is of")));
                }
                let Kinds { resources } = reply.read()?;
                let of = |plural: &Plural| plural.kind == *kind && plural.namespaced && !plural.name.contains('/');
                match resources.into_iter().find(of) {
                    Some(plural) => plural.name,
                    None => return Err(refused("404", format!("{api_version} has no kind {kind} in namespaces"))),
                }
            }
        };
        let (api_version, namespace, name) = (api_version.clone(), namespace.clone(), name.clone());
        Ok(Address { api_version, plural, namespace, name })
    }

    async fn get(&self, object: &Object, place: &Address) -> Port<Option<Value>> {
        let reply = self.ask(requests::workload(place), &object.name).await?;
        if reply.status == 404 { Ok(None) } else { reply.read().map(Some) }
    }

    async fn apply(&self, object: &Object, place: &Address, body: &Value, dry_run: bool) -> Port<Applied> {
        let reply = self.ask(requests::apply(place, body, dry_run), &object.name).await?;
        match reply.status {
            409 => conflict(object, &reply).map(|()| Applied::Changed),
            422 => invalid(object, &reply).map(|()| Applied::Changed),
            _ => reply.read().map(Applied::Done),
        }
    }

    /// Binds a workload. It is asked first whether it would be done, then recorded, then done.
    pub(super) async fn set(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        let object = &bind.object;
        let place = self.place(object).await?;
        for _ in 0..CONFLICTS {
            let Some(there) = self.get(object, &place).await? else {
                return Err(refused("404", format!("the cluster has no {object}")));
            };
            let container = container(bind, &there)?;
            refuse_others(bind, &container, &there)?;
            self.record().await?.refuse_older(revision)?;
            let body = body(bind, &container, revision, &there);
            let Applied::Done(made) = self.apply(object, &place, &body, true).await? else { continue };
            refuse_otherwise(bind, &there, &made)?;
            if dry_run {
                return Ok(());
            }
            self.write_down(revision, object, Some(bind)).await?;
            if let Some(name) = bind.claim_template() {
                self.make_claims(bind, &name, &there).await?;
            }
            if let Applied::Done(_) = self.apply(object, &place, &body, false).await? {
                return Ok(());
            }
        }
        Err(changed_all_the_time(object))
    }

    /// Takes back what was set at a workload. What a Job was made with it keeps.
    pub(super) async fn take_back(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        let object = &bind.object;
        // With its kind it is gone itself.
        let place = match self.place(object).await {
            Err(error) if error.code == "404" => None,
            place => Some(place?),
        };
        for _ in 0..CONFLICTS {
            self.record().await?.refuse_older(revision)?;
            let there = match &place {
                Some(place) => self.get(object, place).await?.map(|there| (place, there)),
                None => None,
            };
            if let Some((place, there)) = there {
                let nothing = Value::Object(ours(object, &there, None));
                match self.apply(object, place, &nothing, dry_run).await {
                    Ok(Applied::Done(_)) => {}
                    Ok(Applied::Changed) => continue,
                    Err(error) if object.kind == "Job" && error.code.starts_with("422") => {}
                    Err(error) => return Err(error),
                }
            }
            if dry_run {
                return Ok(());
            }
            return self.write_down(revision, object, None).await;
        }
        Err(changed_all_the_time(object))
    }

    /// Makes the ResourceClaimTemplate of a binding. It goes with its workload, not before: pods that a Job makes again, and
    /// a Deployment's earlier template, still name it when the binding is gone.
    async fn make_claims(&self, bind: &Bind, name: &str, there: &Value) -> Port<()> {
        let Object { api_version, kind, namespace, name: owner, path: _ } = &bind.object;
        let uid = there.pointer("/metadata/uid").cloned().unwrap_or_default();
        let owner = json!({ "apiVersion": api_version, "kind": kind, "name": owner, "uid": uid });
        let made = self.ask(requests::make_claims(namespace, &claims(bind, name, &owner)), name).await?;
        if made.status != 409 {
            return made.done();
        }
        // What is there under that name says the same; a workload that was there before may be gone.
        let owns = json!({ "metadata": { "ownerReferences": [owner] } });
        self.ask(requests::own_claims(namespace, name, &owns), name).await?.done()
    }
}

fn changed_all_the_time(object: &Object) -> PortError {
    let message = format!("{object} is changed by others all the time");
    PortError { transient: true, code: "409".to_owned(), message }
}

fn no_template(object: &Object) -> PortError {
    refused("no pod template", format!("{object} has no pod template at {}", object.path))
}

/// An error where somebody else owns a field that is set; otherwise the object has changed.
fn conflict(object: &Object, reply: &Reply) -> Port<()> {
    let status = reply.refusal();
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let mut theirs = Vec::new();
    for cause in causes.iter().filter(|cause| cause.reason == "FieldManagerConflict") {
        // conflict with "helm" using apps/v1
        let owner = cause.message.split('"').nth(1).unwrap_or(&cause.message);
        theirs.push(format!("{} belongs to \"{owner}\"", cause.field));
    }
    if theirs.is_empty() {
        return Ok(());
    }
    Err(refused("409", format!("{object}: {}; take it out there, or set manage = false", theirs.join(", and "))))
}

/// An error where it would not be valid; one that was made anew under its name has changed.
fn invalid(object: &Object, reply: &Reply) -> Port<()> {
    /// What is immutable is repeated as a whole in the answer.
    const MOST_WORDS: usize = 300;
    let status = reply.refusal();
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    if causes.iter().any(|cause| cause.field == "metadata.uid") {
        return Ok(());
    }
    let words: String = status.message.chars().take(MOST_WORDS).collect();
    let message = match object.kind.as_str() {
        "Job" => {
            format!("the pod template of {object} can't be changed any more; make it anew with what the binding says")
        }
        _ => format!("{object} would not be valid: {words}"),
    };
    Err(refused("422", message))
}

/// The containers of a kind (`containers`, `initContainers`) at an object's pod template.
fn containers<'a>(object: &Object, there: &'a Value, kind: &str) -> Option<&'a Vec<Value>> {
    at(there, &object.path)?.get("spec")?.get(kind)?.as_array()
}

fn names(containers: &[Value]) -> Vec<&str> {
    containers.iter().filter_map(|container| container.get("name")?.as_str()).collect()
}

/// The name of the container that asks.
fn container(bind: &Bind, there: &Value) -> Port<String> {
    let object = &bind.object;
    let all = names(containers(object, there, "containers").ok_or_else(|| no_template(object))?);
    match (&bind.container, all.as_slice()) {
        (Some(name), all) if all.contains(&name.as_str()) => Ok(name.clone()),
        (Some(name), all) => {
            Err(refused("no such container", format!("{object} has no container {name}, but {}", all.join(", "))))
        }
        (None, [one]) => Ok((*one).to_owned()),
        (None, all) => Err(refused(
            "several containers",
            format!("{object} has the containers {}; name one of them with `container`", all.join(", ")),
        )),
    }
}

/// An error where the pod template asks for other GPUs that are not ours to take back: its pods would ask for both.
fn refuse_others(bind: &Bind, asking: &str, there: &Value) -> Port<()> {
    for kind in ["containers", "initContainers"] {
        for container in containers(&bind.object, there, kind).into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            for which in ["limits", "requests"] {
                let listed = container.get("resources").and_then(|resources| resources.get(which)?.as_object());
                for resource in listed.into_iter().flat_map(|listed| listed.keys()).filter(|resource| is_gpu(resource))
                {
                    let same = name == asking && bind.requests().contains_key(resource);
                    let owners = owners(bind, there, kind, name, which, resource);
                    let others: Vec<String> = owners
                        .iter()
                        .filter(|owner| !is_ours(owner))
                        .map(|owner| format!("\"{}\"", manager(owner)))
                        .collect();
                    if same || (others.is_empty() && !owners.is_empty()) {
                        continue;
                    }
                    let field =
                        format!(".{}.spec.{kind}[name=\"{name}\"].resources.{which}.{resource}", bind.object.path);
                    let whose = if others.is_empty() { "somebody".to_owned() } else { others.join(" and ") };
                    let message = format!(
                        "{}: {field} belongs to {whose}; take it out there, or set manage = false",
                        bind.object
                    );
                    return Err(refused("another owner", message));
                }
            }
        }
    }
    Ok(())
}

fn manager(entry: &Value) -> &str {
    entry.get("manager").and_then(Value::as_str).unwrap_or_default()
}

fn is_ours(entry: &Value) -> bool {
    manager(entry) == MANAGER && entry.get("operation").and_then(Value::as_str) == Some("Apply")
}

/// Who owns a resource of a container, of `metadata.managedFields`.
fn owners<'a>(bind: &Bind, there: &'a Value, kind: &str, name: &str, which: &str, resource: &str) -> Vec<&'a Value> {
    let template = bind.object.path.split('.').chain(["spec", kind]).map(|key| format!("f:{key}"));
    let container = format!("k:{}", json!({ "name": name }));
    let field = ["resources", which, resource].map(|key| format!("f:{key}"));
    let path: Vec<String> = template.chain([container]).chain(field).collect();
    let entries = there.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let owns = |entry: &&Value| {
        let fields = entry.get("fieldsV1");
        path.iter().try_fold(fields?, |fields, key| fields.get(key)).map(|_| ())
    };
    entries.filter(|entry| owns(entry).is_some()).collect()
}

/// An apply that sets nothing but these annotations, and what else it is given.
fn ours(object: &Object, there: &Value, annotations: Option<Value>) -> Map<String, Value> {
    let Object { api_version, kind, namespace, name, path: _ } = object;
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name)), ("namespace".to_owned(), json!(namespace))]);
    // Without these, one that is gone would be made anew, and what a newer revision wrote meanwhile would be lost.
    for key in ["uid", "resourceVersion"] {
        let read = there.get("metadata").and_then(|metadata| metadata.get(key));
        metadata.extend(read.map(|value| (key.to_owned(), value.clone())));
    }
    metadata.extend(annotations.map(|annotations| ("annotations".to_owned(), annotations)));
    let whole = [("apiVersion", json!(api_version)), ("kind", json!(kind)), ("metadata", Value::Object(metadata))];
    whole.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// The fields that a binding sets.
fn body(bind: &Bind, container: &str, revision: &str, there: &Value) -> Value {
    let mut spec = Map::new();
    let resources = match bind.claim_template() {
        Some(template) => {
            let claim = json!([{ "name": CLAIM, "resourceClaimTemplateName": template }]);
            spec.insert("resourceClaims".to_owned(), claim);
            json!({ "claims": [{ "name": CLAIM }] })
        }
        None => {
            // An extended resource's request is its limit.
            let each = json!({ bind.resource(): bind.per_replica.to_string() });
            json!({ "limits": each, "requests": each })
        }
    };
    spec.insert("containers".to_owned(), json!([{ "name": container, "resources": resources }]));
    if !bind.affinity.is_empty() {
        let required = json!({ "nodeSelectorTerms": terms(&bind.affinity) });
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
        spec.insert("affinity".to_owned(), json!({ "nodeAffinity": required }));
    }
    let annotations = json!({ BINDING: bind.binding, REVISION: revision });
    let mut body = ours(&bind.object, there, Some(annotations));
    if let Value::Object(template) = within(&bind.object.path, json!({ "spec": spec })) {
        body.extend(template);
    }
    Value::Object(body)
}

/// The ResourceClaimTemplate of a binding (dra-driver-nvidia-gpu: a device's attribute `profile`).
fn claims(bind: &Bind, name: &str, owner: &Value) -> Value {
    let selector = format!("device.attributes['{DRA_DRIVER}'].profile == '{}'", bind.profile);
    let exactly = json!({
        "deviceClassName": MIG_CLASS,
        "allocationMode": "ExactCount",
        "count": bind.per_replica,
        "selectors": [{ "cel": { "expression": selector } }],
    });
    json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {
            "name": name,
            "namespace": bind.object.namespace,
            "annotations": { BINDING: bind.binding },
            "ownerReferences": [owner],
        },
        "spec": { "spec": { "devices": { "requests": [{ "name": "mig", "exactly": exactly }] } } },
    })
}

/// An error where the API server would make something else of it: a kind whose schema does not tell lists by names loses the
/// other containers, and what is not in a schema is dropped.
fn refuse_otherwise(bind: &Bind, there: &Value, made: &Value) -> Port<()> {
    let all = |value| containers(&bind.object, value, "containers").map(|all| names(all)).unwrap_or_default();
    let whole = |value: &Value| {
        let all = containers(&bind.object, value, "containers").into_iter().flatten();
        all.map(|container| container.get("image").cloned()).collect::<Vec<_>>()
    };
    let state = workloads::other(&bind.object, made);
    let met = state.is_some_and(|state| bind.is_met(&state.requests, &state.claims, state.affinity.as_ref()));
    if met && all(there) == all(made) && whole(there) == whole(made) {
        return Ok(());
    }
    let message = format!("the API server would make of {} something else than the binding says", bind.object);
    Err(refused("not merged", message))
}
