//! Workloads and disruption budgets as the API server tells them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt as _};
use serde_json::Value;

use super::names::REVISION;
use super::pods::PodItem;
use super::template::{self, Template};
use crate::model::observed::{Owner, WorkloadState};
use crate::model::{Budget, Object};

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

fn number(number: Option<i32>) -> u32 {
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// A workload by its template, before it is known how many pods it wants and how many are of that.
fn state<K: Resource>(object: &K, kind: &str, template: &PodTemplateSpec, ready: Option<i32>) -> WorkloadState {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let revision = object.annotations().get(REVISION).cloned();
    let Template { requests, claims, affinity } = template.spec.as_ref().map(Template::of).unwrap_or_default();
    let kind = kind.to_owned();
    let (ready, replicas) = (number(ready), 0);
    WorkloadState {
        kind,
        namespace,
        name,
        replicas,
        ready,
        requests,
        claims,
        affinity,
        fixed: false,
        down: 0,
        settled: true,
        revision,
    }
}

/// A number of pods, or a share of all of them: rounded up, or down.
fn share(of: &IntOrString, all: u32, up: bool) -> u32 {
    match of {
        IntOrString::Int(n) => number(Some(*n)),
        IntOrString::String(text) => {
            let percent: u64 = text.trim_end_matches('%').parse().unwrap_or(100);
            let share = u64::from(all) * percent;
            u32::try_from(if up { share.div_ceil(100) } else { share / 100 }).unwrap_or(u32::MAX)
        }
    }
}

/// Whether its controller has seen what it is now.
fn is_seen<K: Resource>(object: &K, generation: Option<i64>) -> bool {
    generation.unwrap_or(0) >= object.meta().generation.unwrap_or(0)
}

pub(super) fn deployment(object: &Deployment) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let replicas = spec.replicas.map_or(1, |n| number(Some(n)));
    let rolled = number(status.updated_replicas) >= replicas && status.replicas <= status.updated_replicas;
    // One that somebody has paused is rolled out when he lets it go on.
    let settled = is_seen(object, status.observed_generation) && (rolled || spec.paused == Some(true));
    let strategy = spec.strategy.clone().unwrap_or_default();
    let rolling = strategy.rolling_update.unwrap_or_default();
    let (most, surge) = (rolling.max_unavailable, rolling.max_surge);
    let quarter = IntOrString::String("25%".to_owned());
    let down = match share(&most.unwrap_or_else(|| quarter.clone()), replicas, false) {
        _ if strategy.type_.as_deref() == Some("Recreate") => replicas,
        // Where neither is to be had, one goes (kubernetes, deployment_util.go).
        0 if share(&surge.unwrap_or(quarter), replicas, true) == 0 => 1,
        most => most,
    };
    Some(WorkloadState {
        replicas,
        settled,
        down,
        ..state(object, "Deployment", &spec.template, status.ready_replicas)
    })
}

pub(super) fn stateful_set(object: &StatefulSet) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let replicas = spec.replicas.map_or(1, |n| number(Some(n)));
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    // Pods below the partition keep the old template, and on deletion only is each made anew by whoever deletes it.
    let rolling = strategy.rolling_update.unwrap_or_default();
    let kept = rolling.partition;
    let most = rolling.max_unavailable.map_or(1, |most| share(&most, replicas, true).max(1));
    let rolled = number(status.updated_replicas) >= replicas.saturating_sub(number(kept));
    let by_hand = strategy.type_.as_deref() == Some("OnDelete");
    let settled = is_seen(object, status.observed_generation) && (rolled || by_hand);
    let down = if by_hand { 0 } else { most };
    Some(WorkloadState {
        replicas,
        settled,
        down,
        ..state(object, "StatefulSet", &spec.template, status.ready_replicas)
    })
}

pub(super) fn daemon_set(object: &DaemonSet) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let replicas = number(Some(status.desired_number_scheduled));
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let by_hand = strategy.type_.as_deref() == Some("OnDelete");
    let most = strategy.rolling_update.and_then(|rolling| rolling.max_unavailable);
    let down = if by_hand { 0 } else { most.map_or(1, |most| share(&most, replicas, true)) };
    let rolled = number(status.updated_number_scheduled) >= replicas;
    let settled = is_seen(object, status.observed_generation) && (rolled || by_hand);
    let ready = Some(status.number_ready);
    Some(WorkloadState { replicas, settled, down, ..state(object, "DaemonSet", &spec.template, ready) })
}

/// Of a Job the pods that it still wants: those that have succeeded are not made again. Its template can be changed while it
/// is suspended and has never begun.
pub(super) fn job(object: &Job) -> Option<WorkloadState> {
    let (spec, status) = (object.spec.as_ref()?, object.status.clone().unwrap_or_default());
    let left = spec.completions.map(|n| number(Some(n)).saturating_sub(number(status.succeeded)));
    let parallel = spec.parallelism.map_or(1, |n| number(Some(n)));
    let finished = status.completion_time.is_some();
    let replicas = if finished { 0 } else { left.map_or(parallel, |left| left.min(parallel)) };
    let fixed = spec.suspend != Some(true) || status.start_time.is_some();
    Some(WorkloadState { replicas, fixed, ..state(object, "Job", &spec.template, status.ready) })
}

/// What another object tells, by the pod template at a path; how many pods it wants only they tell.
pub(super) fn other(object: &Object, value: &Value) -> Option<WorkloadState> {
    let spec = template::at(value, &object.path)?.get("spec")?;
    let spec: PodSpec = serde_json::from_value(spec.clone()).ok()?;
    let Template { requests, claims, affinity } = Template::of(&spec);
    let revision = value.pointer("/metadata/annotations").and_then(|all| all.get(REVISION)?.as_str());
    Some(WorkloadState {
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        replicas: 0,
        ready: 0,
        requests,
        claims,
        affinity,
        fixed: false,
        // How its controller rolls a template out nobody tells.
        down: u32::MAX,
        settled: true,
        revision: revision.map(str::to_owned),
    })
}

/// Who owns a ReplicaSet: a Deployment, or what else rolls pods out.
pub(super) fn replica_set(object: &ReplicaSet) -> Option<Owner> {
    let controller = object.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner { kind: controller.kind.clone(), name: controller.name.clone() })
}
