//! Pods as the API server tells them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{self, Container, PodSpec, PodStatus};
use kube::ResourceExt as _;

use super::names::{DEVICE_PLUGIN, DISCOVERY_CONTAINER, DRA_PLUGIN, GPU_RESOURCE, MIG_MANAGER, MIG_RESOURCE};
use super::node::count;
use super::reach::Rules;
use crate::model::Pod;
use crate::model::observed::{Known, Owner, PodPhase};
use crate::model::policy::DO_NOT_DISRUPT;

/// What a pod is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It wants GPUs, or has some.
    User,
    /// It advertises a node's GPUs to the kubelet.
    DevicePlugin,
    /// It publishes a node's GPUs as ResourceSlices.
    DraPlugin,
    /// It writes a node's MIG state.
    MigManager,
}

/// What is needed of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodItem {
    pub(super) role: Role,
    /// Who holds which device is not told here, unless the status does.
    pub(super) pod: Pod,
    /// Its controller's kind and name, which may be a ReplicaSet.
    pub(super) controller: Option<Owner>,
    /// Its ResourceClaims.
    pub(super) claims: Vec<String>,
    /// Where it may run.
    pub(super) rules: Rules,
    /// Whether it is ready, so that a budget counts it as healthy.
    pub(super) ready: bool,
    /// Whether the phase is one in which no budget counts its eviction.
    pub(super) uncounted: bool,
    /// Whether an init container may hold devices now, which the kubelet does not list.
    pub(super) initializing: bool,
}

/// What is needed of a pod; `None`: it has nothing to do with GPUs.
pub(super) fn keep(pod: &v1::Pod) -> Option<PodItem> {
    let item = read(pod)?;
    let useless = item.role == Role::User && item.pod.requests.is_empty() && item.claims.is_empty();
    (!useless).then_some(item)
}

/// A pod, whatever it has to do with GPUs.
pub(super) fn read(pod: &v1::Pod) -> Option<PodItem> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.clone().unwrap_or_default();
    let (requests, claims) = (requests(spec), claims(spec, &status));
    let is = |list: &[(&str, &str)]| list.iter().any(|(k, v)| pod.labels().get(*k).is_some_and(|is| is == v));
    let discovers = spec.containers.iter().any(|container| container.name == DISCOVERY_CONTAINER);
    let role = if is(DRA_PLUGIN) {
        Role::DraPlugin
    } else if is(DEVICE_PLUGIN) && !discovers {
        Role::DevicePlugin
    } else if is(&[MIG_MANAGER]) {
        Role::MigManager
    } else {
        Role::User
    };
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let controller = controller.filter(|_| !mirror).map(|o| Owner { kind: o.kind.clone(), name: o.name.clone() });
    let ready = holds(&status, "Ready");
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ended = matches!(phase, "Succeeded" | "Failed");
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let empty_dir = spec.volumes.iter().flatten().any(|volume| volume.empty_dir.is_some());
    let model = Pod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node: spec.node_name.clone().filter(|node| !node.is_empty()),
        phase: match phase {
            _ if ended => PodPhase::Ended,
            _ if terminating => PodPhase::Terminating,
            "Running" if ready => PodPhase::Running,
            _ => PodPhase::Pending,
        },
        owner: controller.clone(),
        labels: pod.labels().clone(),
        // What else stands there may be nobody's business.
        annotations: DO_NOT_DISRUPT
            .iter()
            .filter_map(|(key, _)| Some(((*key).to_owned(), pod.annotations().get(*key)?.clone())))
            .collect(),
        devices: if requests.is_empty() { Known::Known(BTreeSet::new()) } else { allocated(&status, &requests) },
        requests,
        node_selector: BTreeMap::new(),
        barred: BTreeSet::new(),
        empty_dir,
        mirror,
        grace_period_s: spec.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30),
        budgets: BTreeSet::new(),
        // The kubelet writes a start time with its first word of a pod, be it admitted or rejected; nobody else does
        // (Kubernetes 1.36, kubelet/status/status_manager.go).
        admitted: status.start_time.is_some() || phase != "Pending",
        unschedulable: scheduled.and_then(|condition| condition.message.clone()),
        shared_claims: BTreeSet::new(),
    };
    let uncounted = ended || terminating || phase == "Pending";
    let asks = |container: &Container| !container_requests(container).is_empty();
    let mut inits = spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container));
    let initializing = phase == "Pending" && inits.any(asks);
    Some(PodItem { role, pod: model, controller, claims, rules: Rules::of(spec), ready, uncounted, initializing })
}

fn holds(status: &PodStatus, condition: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == condition && c.status == "True")
}

/// NVIDIA's resources that a pod asks for, as the scheduler adds them up: all containers and sidecars together, or an init
/// container alone where that asks for more.
pub(super) fn requests(spec: &PodSpec) -> BTreeMap<String, u32> {
    let mut sum: BTreeMap<String, u32> = BTreeMap::new();
    let inits = || spec.init_containers.iter().flatten();
    for container in spec.containers.iter().chain(inits().filter(|container| is_sidecar(container))) {
        container_requests(container).into_iter().for_each(|(name, n)| *sum.entry(name).or_default() += n);
    }
    for (name, n) in inits().filter(|container| !is_sidecar(container)).flat_map(container_requests) {
        let most = sum.entry(name).or_default();
        *most = n.max(*most);
    }
    sum.retain(|_, n| *n > 0);
    sum
}

/// Whether an init container runs beside the others.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn container_requests(container: &Container) -> BTreeMap<String, u32> {
    let resources = container.resources.clone().unwrap_or_default();
    // An extended resource's request is its limit.
    let all = resources.limits.unwrap_or_default().into_iter().chain(resources.requests.unwrap_or_default());
    all.filter(|(name, _)| is_gpu(name)).map(|(name, n)| (name, count(&n))).collect()
}

/// The ResourceClaims of a pod: those that it names, and those that were made for it.
fn claims(spec: &PodSpec, status: &PodStatus) -> Vec<String> {
    let named = spec.resource_claims.iter().flatten().filter_map(|claim| claim.resource_claim_name.clone());
    let made = status.resource_claim_statuses.iter().flatten().filter_map(|claim| claim.resource_claim_name.clone());
    let all: BTreeSet<String> = named.chain(made).collect();
    all.into_iter().collect()
}

/// The devices that the status tells (Kubernetes 1.36, or the gate ResourceHealthStatus), if it tells as many as the pod
/// asks for.
fn allocated(status: &PodStatus, requests: &BTreeMap<String, u32>) -> Known<BTreeSet<String>> {
    let containers = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let resources = containers.flat_map(|container| container.allocated_resources_status.iter().flatten());
    let ours = resources.filter(|resource| requests.contains_key(&resource.name));
    let ids = ours.flat_map(|resource| resource.resources.iter().flatten()).map(|device| uuid(&device.resource_id));
    let Some(ids) = ids.collect::<Option<BTreeSet<String>>>() else { return Known::Unknown };
    let wanted: u32 = requests.values().sum();
    match u32::try_from(ids.len()) {
        Ok(told) if told >= wanted => Known::Known(ids),
        _ => Known::Unknown,
    }
}

/// Whether a resource is of GPUs or MIG devices.
pub(super) fn is_gpu(resource: &str) -> bool {
    resource.starts_with(GPU_RESOURCE) || resource.starts_with(MIG_RESOURCE)
}

/// The UUID that a device's id tells, whoever gives it out: `MIG-…`, `MIG-…::2` where it is shared, `GPU-…`, or with a
/// number behind it. `None`: another plugin counts its devices otherwise.
pub(super) fn uuid(id: &str) -> Option<String> {
    /// `GPU-` and a UUID.
    const GPU_LENGTH: usize = 40;
    let id = id.split("::").next().unwrap_or(id);
    if id.starts_with("MIG-") {
        return Some(id.to_owned());
    }
    id.starts_with("GPU-").then(|| id.get(..GPU_LENGTH).unwrap_or(id).to_owned())
}
