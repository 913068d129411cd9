//! Where a pod may run, as far as that is known beforehand: node selector, required node affinity, taints, cordon. What
//! else the scheduler looks at (CPU, memory, spreading) it tells itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Toleration};

use super::node::NodeItem;

/// The taint that a cordoned node bears.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What a pod asks of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules {
    selector: BTreeMap<String, String>,
    /// One of these must hold; none: all nodes will do.
    terms: Vec<NodeSelectorTerm>,
    tolerations: Vec<Toleration>,
}

impl Rules {
    /// What a pod asks.
    pub(super) fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        Rules {
            selector: spec.node_selector.clone().unwrap_or_default(),
            terms: required.map(|required| required.node_selector_terms.clone()).unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
        }
    }

    /// Whether the pod runs only where this node label is.
    pub(super) fn selects_by(&self, key: Option<&str>) -> bool {
        key.is_some_and(|key| self.selector.contains_key(key))
    }

    /// Whether a node may take the pod.
    pub(super) fn admit(&self, node: &NodeItem) -> bool {
        let selected = self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let wanted = self.terms.is_empty() || self.terms.iter().any(|term| holds(term, node));
        let effects = ["NoSchedule", "NoExecute"];
        let hard = node.taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
        let mut hard =
            hard.map(|taint| (taint.key.as_str(), taint.value.as_deref().unwrap_or(""), taint.effect.as_str()));
        let open = !node.cordoned || self.tolerates(UNSCHEDULABLE, "", "NoSchedule");
        node.ready && selected && wanted && open && hard.all(|(key, value, effect)| self.tolerates(key, value, effect))
    }

    fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        self.tolerations.iter().any(|toleration| {
            let any_key = toleration.key.as_deref().unwrap_or("").is_empty();
            let exists = toleration.operator.as_deref() == Some("Exists");
            let same_key = toleration.key.as_deref() == Some(key) || (any_key && exists);
            let same_value = exists || toleration.value.as_deref().unwrap_or("") == value;
            let same_effect = toleration.effect.as_deref().is_none_or(|of| of.is_empty() || of == effect);
            same_key && same_value && same_effect
        })
    }
}

/// Whether a term of an affinity holds; one that asks for nothing holds for no node.
fn holds(term: &NodeSelectorTerm, node: &NodeItem) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    let name = |field: &str| (field == "metadata.name").then_some(node.name.as_str());
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|asked| meets(asked, node.labels.get(&asked.key).map(String::as_str)))
        && fields.iter().all(|asked| meets(asked, name(&asked.key)))
}

fn meets(asked: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = asked.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|wanted| wanted == value);
    let bound = || values.first().and_then(|bound| bound.parse::<i64>().ok());
    let number = || value.and_then(|value| value.parse::<i64>().ok());
    match asked.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().zip(bound()).is_some_and(|(number, bound)| number > bound),
        "Lt" => number().zip(bound()).is_some_and(|(number, bound)| number < bound),
        _ => false,
    }
}
