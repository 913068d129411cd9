//! Workloads and disruption budgets as the API server tells them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::{Resource, ResourceExt as _};

use super::pods::{PodItem, requests};
use crate::model::Budget;
use crate::model::observed::{Owner, WorkloadState};

/// What is needed of a disruption budget.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BudgetItem {
    namespace: String,
    name: String,
    allowed: u32,
    selector: Option<LabelSelector>,
    /// Whether a pod that is not ready is evicted without being counted.
    spares_unready: bool,
}

impl BudgetItem {
    /// What is needed of it. One whose status is older than itself allows nothing: the API server would say so.
    pub(super) fn of(budget: &PodDisruptionBudget) -> Self {
        let status = budget.status.clone().unwrap_or_default();
        let current = status.observed_generation.unwrap_or(0) >= budget.metadata.generation.unwrap_or(0);
        let allowed = u32::try_from(status.disruptions_allowed).unwrap_or(0);
        let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
        let healthy = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
        BudgetItem {
            namespace: budget.namespace().unwrap_or_default(),
            name: budget.name_any(),
            allowed: if current { allowed } else { 0 },
            selector: budget.spec.as_ref().and_then(|spec| spec.selector.clone()),
            spares_unready: policy == Some("AlwaysAllow") || healthy,
        }
    }

    /// How it stands.
    pub(super) fn told(&self) -> Budget {
        Budget { namespace: self.namespace.clone(), name: self.name.clone(), allowed: self.allowed }
    }

    /// Whether it covers a pod, so that it counts the pod's eviction; of several that do the API server evicts none.
    pub(super) fn covers(&self, item: &PodItem) -> bool {
        let selects = self.selector.as_ref().is_some_and(|selector| selects(selector, &item.pod.labels));
        self.namespace == item.pod.namespace && !item.uncounted && selects
    }

    /// Whether the eviction of such a pod costs it nothing.
    pub(super) fn spares(&self, item: &PodItem) -> bool {
        !item.ready && self.spares_unready
    }

    /// `namespace/name`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whether labels are selected; a selector without any demand selects everything.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let meets = |asked: &LabelSelectorRequirement| {
        let value = labels.get(&asked.key);
        let among = |value: &String| asked.values.iter().flatten().any(|wanted| wanted == value);
        match asked.operator.as_str() {
            "In" => value.is_some_and(among),
            "NotIn" => !value.is_some_and(among),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    };
    equal && selector.match_expressions.iter().flatten().all(meets)
}

fn template(template: Option<&PodTemplateSpec>) -> BTreeMap<String, u32> {
    template.and_then(|template| template.spec.as_ref()).map(requests).unwrap_or_default()
}

fn number(number: Option<i32>) -> u32 {
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn state<K: Resource>(
    object: &K,
    kind: &str,
    replicas: u32,
    ready: u32,
    requests: BTreeMap<String, u32>,
) -> WorkloadState {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    WorkloadState { kind: kind.to_owned(), namespace, name, replicas, ready, requests }
}

pub(super) fn deployment(object: &Deployment) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let replicas = spec.replicas.map_or(1, |n| number(Some(n)));
    Some(state(object, "Deployment", replicas, number(status.ready_replicas), template(Some(&spec.template))))
}

pub(super) fn stateful_set(object: &StatefulSet) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let replicas = spec.replicas.map_or(1, |n| number(Some(n)));
    Some(state(object, "StatefulSet", replicas, number(status.ready_replicas), template(Some(&spec.template))))
}

pub(super) fn daemon_set(object: &DaemonSet) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let wanted = number(Some(status.desired_number_scheduled));
    Some(state(object, "DaemonSet", wanted, number(Some(status.number_ready)), template(Some(&spec.template))))
}

/// Of a Job the pods that it still wants: those that have succeeded are not made again.
pub(super) fn job(object: &Job) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let left = spec.completions.map(|n| number(Some(n)).saturating_sub(number(status.succeeded)));
    let parallel = spec.parallelism.map_or(1, |n| number(Some(n)));
    let finished = status.completion_time.is_some();
    let wanted = if finished { 0 } else { left.map_or(parallel, |left| left.min(parallel)) };
    Some(state(object, "Job", wanted, number(status.ready), template(Some(&spec.template))))
}

/// Who owns a ReplicaSet: a Deployment, or what else rolls pods out.
pub(super) fn replica_set(object: &ReplicaSet) -> Option<Owner> {
    let controller = object.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner { kind: controller.kind.clone(), name: controller.name.clone() })
}
