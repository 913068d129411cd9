//! All mirrors, and the cluster as they show it at one instant.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod as KubePod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::{Client, ResourceExt as _};

use super::claims::{self, ClaimItem, SliceItem};
use super::holders::{self, Claimed};
use super::kubelet::PodResources;
use super::mirror::{Mirror, Need};
use super::names::{BUDGETS, DEPLOY, NAMESPACE, SUSPENDED};
use super::node::{NodeItem, Published};
use super::pods::{self, PodItem, Role};
use super::suspension;
use super::workloads::{self, BudgetItem};
use crate::model::observed::{ForeignWriter, Known, NodeInCluster, Owner, PodPhase, Scope, Suspension, WorkloadState};
use crate::model::policy::Allocation;
use crate::model::{Gap, Object, ObservedCluster, Pod};
use crate::ports::{Port, PortError, foremost};

/// Everything that is kept by watches.
#[derive(Debug)]
pub(super) struct Mirrors {
    pub(super) nodes: Mirror<NodeItem>,
    pub(super) pods: Mirror<PodItem>,
    budgets: Mirror<BudgetItem>,
    deployments: Mirror<WorkloadState>,
    stateful_sets: Mirror<WorkloadState>,
    daemon_sets: Mirror<WorkloadState>,
    jobs: Mirror<WorkloadState>,
    replica_sets: Mirror<Owner>,
    claims: Mirror<ClaimItem>,
    slices: Mirror<SliceItem>,
    /// Who told that every node is to be left alone.
    pub(super) whole: Mirror<Suspension>,
}

/// A node, seen from afar.
#[derive(Clone, Debug)]
pub struct AfarNode {
    /// What the cluster tells of it.
    pub told: NodeInCluster,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has published of itself.
    pub view: Option<String>,
    /// How it says that it stands.
    pub published: Published,
    /// Who told that it is to be left alone.
    pub suspended: Option<Suspension>,
}

/// By namespace and name.
type Named<T> = BTreeMap<(String, String), T>;

/// The cluster at one instant.
#[derive(Debug)]
pub(super) struct Picture {
    nodes: Vec<NodeItem>,
    pods: Vec<PodItem>,
    budgets: Vec<BudgetItem>,
    workloads: Vec<WorkloadState>,
    slices: Vec<SliceItem>,
    whole: Option<Suspension>,
    pub(super) claimed: Claimed,
}

impl Mirrors {
    /// Begins to watch.
    pub(super) fn begin(client: &Client) -> Self {
        Mirrors {
            nodes: Mirror::of(client, "nodes", Need::Always, |node: &Node| Some(NodeItem::of(node))),
            pods: Mirror::of(client, "pods", Need::Always, |pod: &KubePod| pods::keep(pod)),
            budgets: Mirror::of(client, "poddisruptionbudgets", Need::IfThere, |b: &PodDisruptionBudget| {
                Some(BudgetItem::of(b))
            }),
            deployments: Mirror::of(client, "deployments", Need::IfThere, |object: &Deployment| {
                workloads::deployment(object)
            }),
            stateful_sets: Mirror::of(client, "statefulsets", Need::IfThere, |object: &StatefulSet| {
                workloads::stateful_set(object)
            }),
            daemon_sets: Mirror::of(client, "daemonsets", Need::IfThere, |object: &DaemonSet| {
                workloads::daemon_set(object)
            }),
            jobs: Mirror::of(client, "jobs", Need::IfThere, |object: &Job| workloads::job(object)),
            replica_sets: Mirror::of(client, "replicasets", Need::IfThere, |object: &ReplicaSet| {
                workloads::replica_set(object)
            }),
            claims: Mirror::of(client, "resourceclaims", Need::IfThere, |claim: &ResourceClaim| claims::claim(claim)),
            slices: Mirror::of(client, "resourceslices", Need::IfThere, |slice: &ResourceSlice| claims::slice(slice)),
            whole: Mirror::one(client, (NAMESPACE, BUDGETS), "configmaps", Need::IfThere, |map: &ConfigMap| {
                map.annotations().get(SUSPENDED).map(|text| suspension::read(text, Scope::Fleet))
            }),
        }
    }

    /// Another number than before: something may have changed.
    pub(super) fn changes(&self) -> u64 {
        let all = [
            self.nodes.changes(),
            self.pods.changes(),
            self.budgets.changes(),
            self.deployments.changes(),
            self.stateful_sets.changes(),
            self.daemon_sets.changes(),
            self.jobs.changes(),
            self.replica_sets.changes(),
            self.claims.changes(),
            self.slices.changes(),
            self.whole.changes(),
        ];
        all.into_iter().fold(0, u64::wrapping_add)
    }

    /// What is not there or may not be seen.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let all = [
            self.nodes.gap(),
            self.pods.gap(),
            self.budgets.gap(),
            self.deployments.gap(),
            self.stateful_sets.gap(),
            self.daemon_sets.gap(),
            self.jobs.gap(),
            self.replica_sets.gap(),
            self.claims.gap(),
            self.slices.gap(),
            self.whole.gap(),
        ];
        all.into_iter().flatten().collect()
    }

    /// One workload of a kind that is watched; `None`: there is none.
    pub(super) async fn workload(&self, of: &Object) -> Port<Option<WorkloadState>> {
        let kind = match of.kind.as_str() {
            "Deployment" => &self.deployments,
            "StatefulSet" => &self.stateful_sets,
            "DaemonSet" => &self.daemon_sets,
            _ => &self.jobs,
        };
        if let Some(Gap { object, message }) = kind.gap() {
            return Err(PortError { transient: false, code: message, message: object });
        }
        kind.with(|all| all.get(&(of.namespace.clone(), of.name.clone())).cloned()).await
    }

    /// How the cluster is now. Pods of these UIDs were evicted and are on their way.
    pub(super) async fn picture(&self, evicted: BTreeSet<String>) -> Port<Picture> {
        let nodes = self.nodes.with(|all| all.values().cloned().collect()).await?;
        let mut pods: Vec<PodItem> = self.pods.with(|all| all.values().cloned().collect()).await?;
        let budgets = self.budgets.with(|all| all.values().cloned().collect()).await?;
        let mut workloads: Vec<WorkloadState> = Vec::new();
        for kind in [&self.deployments, &self.stateful_sets, &self.daemon_sets, &self.jobs] {
            kind.with(|all| workloads.extend(all.values().cloned())).await?;
        }
        let owners = self.replica_sets.with(Clone::clone).await?;
        let claims: Named<ClaimItem> = self.claims.with(Clone::clone).await?;
        let slices: Vec<SliceItem> = self.slices.with(|all| all.values().cloned().collect()).await?;
        let whole = self.whole.with(|all| all.values().next().cloned()).await?;
        let claimed = Claimed { devices: claims::devices(slices.iter()), claims, blind: self.claims.gap().is_some() };
        for item in &mut pods {
            if evicted.contains(&item.pod.uid) && item.pod.phase != PodPhase::Ended {
                (item.pod.phase, item.ready, item.uncounted) = (PodPhase::Terminating, false, true);
            }
            // A ReplicaSet is a Deployment's, or whoever else's it is.
            let replica_set = item.controller.as_ref().filter(|controller| controller.kind == "ReplicaSet");
            let owner = replica_set.and_then(|set| owners.get(&(item.pod.namespace.clone(), set.name.clone())));
            item.pod.owner = owner.or(item.controller.as_ref()).cloned();
            item.pod.requests.extend(claimed.requests(item));
            item.pod.shared_claims = claimed.shared(item);
        }
        Ok(Picture { nodes, pods, budgets, workloads, slices, whole, claimed })
    }
}

impl Picture {
    /// Whether a pod of that UID is there.
    pub(super) fn knows(&self, uid: &str) -> bool {
        self.pods.iter().any(|item| item.pod.uid == uid)
    }

    /// Every node, seen from afar.
    pub(super) fn fleet(&self) -> BTreeMap<String, AfarNode> {
        let now = Timestamp::now();
        let node = |node: &NodeItem| {
            let ((view, published), labels) = (node.published(), node.labels.clone());
            let suspended = foremost([node.suspended(now), self.whole.clone()], now);
            Some((node.name.clone(), AfarNode { told: self.node(&node.name)?, labels, view, published, suspended }))
        };
        self.nodes.iter().filter_map(node).collect()
    }

    fn users(&self) -> impl Iterator<Item = &PodItem> {
        self.pods.iter().filter(|item| item.role == Role::User)
    }

    /// The cluster, with what the kubelet of one node told.
    pub(super) fn observed(&self, given: Option<(&str, &[PodResources])>, gaps: Vec<Gap>) -> ObservedCluster {
        let told = given.map(|(node, listed)| (node, holders::given(listed, &self.claimed)));
        let mut by_node: BTreeMap<Option<&str>, Vec<PodItem>> = BTreeMap::new();
        let listed = |pod: &Pod| {
            let key = (pod.namespace.clone(), pod.name.clone());
            told.as_ref().is_some_and(|(node, given)| pod.node.as_deref() == Some(*node) && given.contains_key(&key))
        };
        for item in self.users().filter(|item| item.pod.phase != PodPhase::Ended || listed(&item.pod)) {
            by_node.entry(item.pod.node.as_deref()).or_default().push(item.clone());
        }
        let (mut pods, mut strangers) = (Vec::new(), Vec::new());
        for (node, items) in by_node {
            let given = told.as_ref().filter(|(own, _)| node == Some(*own)).map(|(_, given)| given);
            let joined = holders::join(&items, given, &self.claimed, node.unwrap_or_default());
            let mut joined = joined.into_iter();
            pods.extend(joined.by_ref().zip(&items).map(|(pod, item)| self.judged(pod, item)));
            strangers.extend(joined);
        }
        if let Some((node, given)) =
            told.as_ref().filter(|(node, _)| pods.iter().all(|p| p.node.as_deref() != Some(*node)))
        {
            strangers.extend(holders::join(&[], Some(given), &self.claimed, node));
        }
        pods.sort_by(|one: &Pod, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        let mut workloads: Vec<WorkloadState> = self.workloads.iter().filter_map(|w| self.workload(w)).collect();
        workloads.extend(self.other_workloads());
        workloads.sort_by(|one, other| {
            (&one.kind, &one.namespace, &one.name).cmp(&(&other.kind, &other.namespace, &other.name))
        });
        let budgets = self.budgets.iter().map(BudgetItem::told).collect();
        let peers = self.nodes.iter().map(|node| (node.name.clone(), node.peer())).collect();
        let (free, places, bound) = (self.free(), Known::Unknown, Known::Unknown);
        ObservedCluster { pods, budgets, workloads, bound, free, strangers, gaps, peers, places }
    }

    /// A pod with its budgets, and the nodes that it may not run on.
    fn judged(&self, mut pod: Pod, item: &PodItem) -> Pod {
        let covering: Vec<&BudgetItem> = self.budgets.iter().filter(|budget| budget.covers(item)).collect();
        // One that is not counted is left out, unless there are several: the server evicts none of those.
        let counts = |budget: &&&BudgetItem| covering.len() > 1 || !budget.spares(item);
        pod.budgets = covering.iter().filter(counts).map(|budget| budget.id()).collect();
        let others = self.nodes.iter().filter(|node| pod.node.as_deref() != Some(node.name.as_str()));
        pod.barred = others.filter(|node| !item.rules.admit(node)).map(|node| node.name.clone()).collect();
        pod
    }

    /// A workload that has to do with GPUs; no more of its pods are ready than we know of.
    fn workload(&self, workload: &WorkloadState) -> Option<WorkloadState> {
        let of = |item: &&PodItem| owned(item, &workload.kind, &workload.namespace, &workload.name);
        let pods: Vec<&PodItem> = self.users().filter(of).collect();
        if pods.is_empty() && workload.requests.is_empty() {
            return None;
        }
        let ready = u32::try_from(pods.iter().filter(|item| item.ready).count()).unwrap_or(u32::MAX);
        Some(WorkloadState { ready: workload.ready.min(ready), ..workload.clone() })
    }

    /// Owners of pods that are of no kind that is watched: as many pods are wanted as there are.
    fn other_workloads(&self) -> Vec<WorkloadState> {
        let mut found: BTreeMap<(&str, &str, &str), WorkloadState> = BTreeMap::new();
        for item in self.users().filter(|item| item.pod.phase != PodPhase::Ended) {
            let Some(owner) = &item.pod.owner else { continue };
            let known = |w: &WorkloadState| owned(item, &w.kind, &w.namespace, &w.name);
            if self.workloads.iter().any(known) {
                continue;
            }
            let key = (owner.kind.as_str(), item.pod.namespace.as_str(), owner.name.as_str());
            let entry = found.entry(key).or_insert_with(|| WorkloadState {
                kind: owner.kind.clone(),
                namespace: item.pod.namespace.clone(),
                name: owner.name.clone(),
                requests: item.pod.requests.clone(),
                ..WorkloadState::default()
            });
            entry.replicas += 1;
            entry.ready += u32::from(item.ready);
        }
        found.into_values().collect()
    }

    /// Free resources by node: allocatable, less what bound pods ask for.
    fn free(&self) -> BTreeMap<String, BTreeMap<String, u32>> {
        let mut free: BTreeMap<String, BTreeMap<String, u32>> =
            self.nodes.iter().map(|node| (node.name.clone(), self.allocatable(node))).collect();
        free.retain(|_, resources| !resources.is_empty());
        for item in self.users().filter(|item| item.pod.phase != PodPhase::Ended) {
            let Some(resources) = item.pod.node.as_ref().and_then(|node| free.get_mut(node)) else { continue };
            for (resource, n) in &item.pod.requests {
                if let Some(free) = resources.get_mut(resource) {
                    *free = free.saturating_sub(*n);
                }
            }
        }
        free
    }

    /// What a node offers: the device plugin's resources, and static MIG devices of slices under the same names. What can't
    /// be stopped is offered to nobody while it is marked as paused: the taint keeps pods off.
    fn allocatable(&self, node: &NodeItem) -> BTreeMap<String, u32> {
        let mut all = node.allocatable.clone();
        if node.is_paused() && !self.is_operated(node) {
            all.values_mut().for_each(|n| *n = 0);
        }
        for device in self.slices_of(&node.name).flat_map(|slice| slice.devices.values()) {
            if let Some(profile) = device.profile.filter(|_| device.uuid.is_some()) {
                *all.entry(profile.resource()).or_default() += u32::from(!node.is_paused());
            }
        }
        all
    }

    /// Whether a node label stops the device plugin: the label is there, and no plugin runs that does not select by it, as
    /// one that an operator left behind.
    pub(super) fn is_operated(&self, node: &NodeItem) -> bool {
        let here =
            |item: &&PodItem| item.role == Role::DevicePlugin && item.pod.node.as_deref() == Some(node.name.as_str());
        node.is_operated() && self.pods.iter().filter(here).all(|item| item.rules.selects_by(DEPLOY.first().copied()))
    }

    /// How a node's instances reach pods.
    fn allocation(&self, node: &NodeItem) -> Allocation {
        let here = |role| self.pods.iter().any(|i| i.role == role && i.pod.node.as_deref() == Some(node.name.as_str()));
        if here(Role::DevicePlugin) || node.is_operated() {
            Allocation::DevicePlugin
        } else if here(Role::DraPlugin) || self.slices_of(&node.name).next().is_some() {
            Allocation::Dra
        } else {
            Allocation::Auto
        }
    }

    fn slices_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a SliceItem> {
        self.slices.iter().filter(move |slice| slice.node.as_deref() == Some(node))
    }

    /// UUIDs of a node's devices in slices.
    pub(super) fn published(&self, node: &str) -> BTreeSet<String> {
        let devices = self.slices_of(node).flat_map(|slice| slice.devices.values());
        devices.filter_map(|device| device.uuid.clone()).filter(|uuid| uuid.starts_with("MIG-")).collect()
    }

    /// A node, but for what only its kubelet tells.
    pub(super) fn node(&self, name: &str) -> Option<NodeInCluster> {
        let node = self.nodes.iter().find(|node| node.name == name)?;
        let dynamic = self.slices_of(name).any(|slice| slice.dynamic);
        let mut writers = node.writers();
        writers.extend(dynamic.then_some(ForeignWriter::DynamicMig));
        Some(NodeInCluster {
            tainted: node.is_tainted(),
            clients_paused: node.is_paused(),
            allocatable: self.allocatable(node),
            advertised: Known::Unknown,
            strategy: node.strategy(),
            allocation: self.allocation(node),
            writers,
        })
    }
}

fn owned(item: &PodItem, kind: &str, namespace: &str, name: &str) -> bool {
    item.pod.namespace == namespace && item.pod.owner.as_ref().is_some_and(|o| o.kind == kind && o.name == name)
}
