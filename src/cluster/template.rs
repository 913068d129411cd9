//! A pod template: what it asks for, and where it lets its pods run.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use serde_json::{Value, json};

use super::pods::requests;
use crate::model::Affinity;

/// The field that names a node in a selector's `matchFields`; the only one there is.
const NAME: &str = "metadata.name";

/// What a pod template says, as far as a binding does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template {
    /// GPU resources: name and number.
    pub(super) requests: BTreeMap<String, u32>,
    /// ResourceClaimTemplates.
    pub(super) claims: BTreeSet<String>,
    /// Where its pods may run; `None`: it says so in another way.
    pub(super) affinity: Option<Affinity>,
}

impl Template {
    pub(super) fn of(spec: &PodSpec) -> Self {
        let claims =
            spec.resource_claims.iter().flatten().filter_map(|claim| claim.resource_claim_template_name.clone());
        Template { requests: requests(spec), claims: claims.collect(), affinity: affinity(spec) }
    }
}

/// What stands at a path of an object: keys with dots between them.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key))
}

/// An object that has this at a path.
pub(super) fn within(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, key| json!({ key: value }))
}

fn affinity(spec: &PodSpec) -> Option<Affinity> {
    let mut labels = spec.node_selector.clone().unwrap_or_default();
    let node = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return Some(Affinity { labels, names: BTreeSet::new() }) };
    let terms = required.node_selector_terms.as_slice();
    let first = terms.first()?;
    // Terms are alternatives: only names may differ.
    if terms.iter().any(|term| term.match_expressions != first.match_expressions) {
        return None;
    }
    for asked in first.match_expressions.iter().flatten() {
        labels.insert(asked.key.clone(), only(asked)?);
    }
    let named = |term: &NodeSelectorTerm| match term.match_fields.as_deref() {
        Some([asked]) if asked.key == NAME => only(asked),
        _ => None,
    };
    let names = match first.match_fields.as_deref() {
        None | Some([]) if terms.len() == 1 => BTreeSet::new(),
        _ => terms.iter().map(named).collect::<Option<_>>()?,
    };
    Some(Affinity { labels, names })
}

/// The one value that is asked for.
fn only(asked: &NodeSelectorRequirement) -> Option<String> {
    match asked.values.as_deref() {
        Some([value]) if asked.operator == "In" => Some(value.clone()),
        _ => None,
    }
}

/// The `nodeSelectorTerms` of an affinity; a field may have one value only, so that each name has a term.
pub(super) fn terms(Affinity { labels, names }: &Affinity) -> Vec<Value> {
    let asked = |key: &str, value: &str| json!({ "key": key, "operator": "In", "values": [value] });
    let labels: Vec<Value> = labels.iter().map(|(key, value)| asked(key, value)).collect();
    let term = |name: Option<&String>| {
        let labels = (!labels.is_empty()).then(|| ("matchExpressions".to_owned(), json!(labels)));
        let name = name.map(|name| ("matchFields".to_owned(), json!([asked(NAME, name)])));
        Value::Object(labels.into_iter().chain(name).collect())
    };
    match names.is_empty() {
        true => vec![term(None)],
        false => names.iter().map(|name| term(Some(name))).collect(),
    }
}
