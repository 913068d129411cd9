//! Server-side apply as the mocked API server does it: who owns which field, and who may change it. The forms are those of
//! Kubernetes 1.36, and so are the answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The content type of an apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// A field that is set and taken back as a whole.
const ATOMIC: &str = "f:requiredDuringSchedulingIgnoredDuringExecution";

/// A field: `f:spec`, `k:{"name":"main"}`…
type Field = Vec<String>;

/// The fields that a body sets, but for what says whose they are.
fn fields(body: &Value) -> BTreeSet<Field> {
    let mut body = body.clone();
    for key in ["apiVersion", "kind", "status"] {
        body.as_object_mut().unwrap().remove(key);
    }
    for key in ["name", "namespace", "uid", "resourceVersion", "managedFields", "generation"] {
        body["metadata"].as_object_mut().unwrap().remove(key);
    }
    let mut all = BTreeSet::new();
    collect(&body, &mut Vec::new(), &mut all);
    // What is empty but for who it is sets nothing.
    all.retain(|field| field.len() > 1);
    all
}

fn collect(value: &Value, at: &mut Field, into: &mut BTreeSet<Field>) {
    let atomic = at.last().is_some_and(|last| last == ATOMIC);
    match value {
        Value::Object(object) if !atomic && !object.is_empty() => {
            for (key, value) in object {
                at.push(format!("f:{key}"));
                collect(value, at, into);
                at.pop();
            }
        }
        Value::Array(items) if !atomic && items.iter().all(|item| item["name"].is_string()) => {
            for item in items {
                at.push(format!("k:{}", json!({ "name": item["name"] })));
                collect(item, at, into);
                at.pop();
            }
        }
        _ => drop(into.insert(at.clone())),
    }
}

/// As `fieldsV1` tells them.
fn told(fields: &BTreeSet<Field>) -> Value {
    let mut all = json!({});
    for field in fields {
        field.iter().fold(&mut all, |at, key| &mut at[key]);
        let leaf = field.iter().fold(&mut all, |at, key| &mut at[key]);
        *leaf = json!({});
    }
    all
}

fn read(told: &Value, at: &mut Field, into: &mut BTreeSet<Field>) {
    let inner = told.as_object().unwrap();
    if inner.is_empty() {
        into.insert(at.clone());
    }
    for (key, value) in inner {
        at.push(key.clone());
        read(value, at, into);
        at.pop();
    }
}

fn owned(entry: &Value) -> BTreeSet<Field> {
    let mut all = BTreeSet::new();
    read(&entry["fieldsV1"], &mut Vec::new(), &mut all);
    all
}

/// An object whose fields of `body` are that manager's.
pub(crate) fn owned_by(mut object: Value, manager: &str, body: &Value) -> Value {
    let entry = json!({ "manager": manager, "operation": "Update", "fieldsV1": told(&fields(body)) });
    let entries = &mut object["metadata"]["managedFields"];
    if entries.is_null() {
        *entries = json!([]);
    }
    entries.as_array_mut().unwrap().push(entry);
    object
}

fn step<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if let Some(key) = key.strip_prefix("f:") {
        return &mut value[key];
    }
    let name = serde_json::from_str::<Value>(key.strip_prefix("k:").unwrap()).unwrap()["name"].clone();
    if value.is_null() {
        *value = json!([]);
    }
    let items = value.as_array_mut().unwrap();
    let at = items.iter().position(|item| item["name"] == name).unwrap_or_else(|| {
        items.push(json!({ "name": name }));
        items.len() - 1
    });
    &mut items[at]
}

fn get(value: &Value, field: &Field) -> Value {
    let mut value = value.clone();
    field.iter().fold(&mut value, |value, key| step(value, key)).clone()
}

/// `.spec.template.spec.containers[name="main"].resources`
fn words(field: &Field) -> String {
    let word = |key: &String| match key.strip_prefix("f:") {
        Some(key) => format!(".{key}"),
        None => {
            let name = serde_json::from_str::<Value>(key.strip_prefix("k:").unwrap()).unwrap()["name"].clone();
            format!("[name={name}]")
        }
    };
    field.iter().map(word).collect()
}

fn refusal(code: u16, message: &str, causes: &[Value]) -> Value {
    json!({ "kind": "Status", "status": "Failure", "message": message, "code": code, "details": { "causes": causes } })
}

fn remove(object: &mut Value, field: &Field) {
    let (last, before) = field.split_last().unwrap();
    if let Some((item, list)) = before.split_last().filter(|(item, _)| last == "f:name" && item.starts_with("k:")) {
        let name = serde_json::from_str::<Value>(item.strip_prefix("k:").unwrap()).unwrap()["name"].clone();
        let list = list.iter().fold(object, |value, key| step(value, key));
        list.as_array_mut().unwrap().retain(|item| item["name"] != name);
        return;
    }
    let parent = before.iter().fold(object, |value, key| step(value, key));
    if let Some(key) = last.strip_prefix("f:") {
        parent.as_object_mut().unwrap().remove(key);
    }
}

/// What becomes of an object; a Status where it is refused.
pub(crate) fn apply(object: Option<Value>, body: &Value, manager: &str) -> Result<Value, Value> {
    let Some(object) = object else {
        return Err(refusal(
            409,
            "uid mismatch: the provided object specified uid, and no existing object was found",
            &[],
        ));
    };
    let is = |key: &str| &object["metadata"][key];
    if body["metadata"]["uid"] != *is("uid") {
        let cause = json!({ "reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid" });
        return Err(refusal(422, "it is invalid: metadata.uid: field is immutable", &[cause]));
    }
    if body["metadata"]["resourceVersion"] != *is("resourceVersion") {
        return Err(refusal(409, "the object has been modified; please apply your changes to the latest version", &[]));
    }
    let wanted = fields(body);
    let entries: Vec<Value> = is("managedFields").as_array().cloned().unwrap_or_default();
    let (ours, others): (Vec<Value>, Vec<Value>) =
        entries.into_iter().partition(|entry| entry["manager"] == *manager && entry["operation"] == "Apply");
    let mut causes = Vec::new();
    for (entry, field) in others.iter().flat_map(|entry| owned(entry).into_iter().map(move |field| (entry, field))) {
        if wanted.contains(&field) && get(&object, &field) != get(body, &field) {
            let message = format!("conflict with {} using apps/v1", entry["manager"]);
            causes.push(json!({ "reason": "FieldManagerConflict", "message": message, "field": words(&field) }));
        }
    }
    if !causes.is_empty() {
        return Err(refusal(409, &format!("Apply failed with {} conflicts", causes.len()), &causes));
    }
    let mut made = object.clone();
    let theirs: BTreeSet<Field> = others.iter().flat_map(owned).collect();
    // Backwards, so that an item's name, by which it is found, goes last.
    let before: BTreeSet<Field> = ours.iter().flat_map(owned).collect();
    for field in before.iter().rev().filter(|field| !wanted.contains(*field) && !theirs.contains(*field)) {
        remove(&mut made, field);
    }
    for field in &wanted {
        *field.iter().fold(&mut made, |value, key| step(value, key)) = get(body, field);
    }
    let mut entries = others;
    if !wanted.is_empty() {
        entries.push(json!({ "manager": manager, "operation": "Apply", "fieldsV1": told(&wanted) }));
    }
    made["metadata"]["managedFields"] = json!(entries);
    let begun = body["kind"] == "Job" && made["spec"]["suspend"] != true;
    if begun && made["spec"]["template"]["spec"]["containers"] != object["spec"]["template"]["spec"]["containers"] {
        return Err(refusal(422, "Job.batch is invalid: spec.template: Invalid value: field is immutable", &[]));
    }
    Ok(made)
}
