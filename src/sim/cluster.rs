//! The simulated cluster behind its port, with the API server's answers.

use std::collections::BTreeMap;

use super::world::{SimBudget, SimEvent, SimNode, SimPod, SimShown, SimWorkload, World};
use super::{Shared, clock, lock};
use crate::model::observed::{Known, NodeInCluster, Peer, PodPhase, Suspension, WorkloadState};
use crate::model::policy::Allocation;
use crate::model::{Bind, Budget, Digest, Object, ObservedCluster, Place, Places, Pod};
use crate::ports::{Cluster, ClusterEvent, Eviction, Port, PortError, Removal, Shown, Version, foremost};

/// How long the clients of a node take to start (Jormungandr, SYSTOR'24: a restart of the device plugin).
const CLIENTS_START_MS: i64 = 4_300;
/// What the DaemonSet of NVIDIA's mig-manager selects nodes by.
const MIG_MANAGER: &str = "nvidia.com/gpu.deploy.mig-manager";
/// So many events are kept: a real cluster forgets them after an hour.
const MOST_EVENTS: usize = 1000;

/// The cluster of a simulated world.
#[derive(Clone, Debug)]
pub struct SimCluster {
    /// Whose cluster.
    pub world: Shared,
}

fn error(code: &str, message: String) -> PortError {
    PortError { transient: false, code: code.to_owned(), message }
}

fn no_node(node: &str) -> PortError {
    error("404", format!("the cluster has no node {node}"))
}

impl Cluster for SimCluster {
    async fn observe(&self) -> Port<ObservedCluster> {
        let world = lock(&self.world);
        let gpu = |pod: &SimPod| !pod.requests.is_empty() || !pod.devices.is_empty();
        let pods = world.pods.iter().filter(|(_, pod)| gpu(pod)).filter_map(|(key, pod)| observed(&world, key, pod));
        let workloads = world.workloads.iter().map(|workload| world.state(workload));
        Ok(ObservedCluster {
            pods: pods.collect(),
            budgets: world.budgets.iter().map(|budget| world.budget(budget)).collect(),
            workloads: workloads.collect(),
            bound: Known::Known(world.bindings()),
            free: world.free(),
            strangers: Vec::new(),
            gaps: Vec::new(),
            peers: world.nodes.iter().filter(|(_, node)| node.in_cluster).map(peer).collect(),
            places: Known::Unknown,
        })
    }

    async fn node(&self, node: &str) -> Port<Option<NodeInCluster>> {
        let world = lock(&self.world);
        let Some(node) = world.nodes.get(node).filter(|node| node.in_cluster) else { return Ok(None) };
        let advertised = world.healthy(node).into_iter().map(|(uuid, _)| uuid);
        Ok(Some(NodeInCluster {
            tainted: node.tainted,
            clients_paused: node.clients_paused,
            allocatable: world.allocatable(node),
            advertised: Known::Known(advertised.filter(|uuid| uuid.starts_with("MIG-")).collect()),
            allocation: Allocation::DevicePlugin,
            strategy: node.strategy,
            writers: node.writers.clone(),
        }))
    }

    async fn labels(&self, node: &str) -> Port<Option<BTreeMap<String, String>>> {
        let world = lock(&self.world);
        Ok(world.nodes.get(node).filter(|node| node.in_cluster).map(|node| node.labels.clone()))
    }

    async fn holders(&self, node: &str) -> Port<Vec<Pod>> {
        let world = lock(&self.world);
        let holds =
            |pod: &SimPod| pod.node.as_deref() == Some(node) && !pod.devices.is_empty() && pod.phase != PodPhase::Ended;
        let pods = world.pods.iter().filter(|(_, pod)| holds(pod));
        Ok(pods.filter_map(|(key, pod)| observed(&world, key, pod)).collect())
    }

    async fn pod(&self, namespace: &str, name: &str) -> Port<Option<Pod>> {
        let key = format!("{namespace}/{name}");
        let world = lock(&self.world);
        Ok(world.pods.get(&key).and_then(|pod| observed(&world, &key, pod)))
    }

    async fn writer_gone(&self, node: &str) -> Port<Vec<String>> {
        let world = lock(&self.world);
        let gated = |w: &SimWorkload| w.kind == "DaemonSet" && w.node_selector.contains_key(MIG_MANAGER);
        let there = |(key, pod): &(&String, &SimPod)| {
            let here = pod.node.as_deref() == Some(node) && pod.phase != PodPhase::Ended;
            here && world.owner_of(key, pod).is_some_and(gated)
        };
        Ok(world.pods.iter().filter(there).map(|(key, _)| key.clone()).collect())
    }

    async fn set_taint(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        let mut world = lock(&self.world);
        let there = world.nodes.get_mut(node).filter(|node| node.in_cluster).ok_or_else(|| no_node(node))?;
        there.tainted = plan.is_some();
        world.pass(0);
        Ok(())
    }

    async fn set_clients_paused(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        let paused = plan.is_some();
        if let Some(start_ms) = {
            let world = lock(&self.world);
            let there = world.nodes.get(node).filter(|node| node.in_cluster).ok_or_else(|| no_node(node))?;
            (there.clients_paused && !paused).then(|| world.latency_ms("clients", CLIENTS_START_MS))
        } {
            clock::pass(&self.world, start_ms).await;
            lock(&self.world).advertise(node);
        }
        let mut world = lock(&self.world);
        if let Some(there) = world.nodes.get_mut(node) {
            there.clients_paused = paused;
        }
        world.pass(0);
        Ok(())
    }

    async fn restart_clients(&self, node: &str) -> Port<()> {
        let start_ms = {
            let world = lock(&self.world);
            world.nodes.get(node).filter(|node| node.in_cluster).ok_or_else(|| no_node(node))?;
            world.latency_ms("clients", CLIENTS_START_MS)
        };
        clock::pass(&self.world, start_ms).await;
        let mut world = lock(&self.world);
        world.advertise(node);
        world.pass(0);
        Ok(())
    }

    async fn remove_pod(&self, namespace: &str, name: &str, uid: &str, how: Removal) -> Port<Eviction> {
        let mut world = lock(&self.world);
        let key = format!("{namespace}/{name}");
        let Some(pod) = world.pods.get(&key).filter(|pod| pod.uid == uid) else { return Ok(Eviction::Gone) };
        if pod.mirror && !how.dry_run {
            // The API server lets its mirror go, and the kubelet makes it again: the pod itself never stopped.
            let serial = world.serial();
            if let Some(pod) = world.pods.get_mut(&key) {
                pod.uid = super::controllers::uid(&key, serial);
            }
            return Ok(Eviction::Accepted);
        }
        // Pods that do not run, or terminate already, are no loss to a budget (registry/core/pod/storage/eviction.go).
        if !how.delete && pod.phase == PodPhase::Running {
            let covering: Vec<&SimBudget> = world.budgets_of(&key, pod).collect();
            if covering.len() > 1 {
                return Err(error("500", format!("more than one PodDisruptionBudget covers pod {key}")));
            }
            if covering.iter().any(|budget| world.budget(budget).allowed == 0) {
                return Ok(Eviction::TooMany { retry_after_s: None });
            }
        }
        if how.dry_run {
            return Ok(Eviction::Accepted);
        }
        world.terminate(&key, how.grace_period_s);
        world.pass(0);
        Ok(Eviction::Accepted)
    }

    async fn set_label(&self, node: &str, key: &str, value: &str) -> Port<()> {
        let mut world = lock(&self.world);
        let there = world.nodes.get_mut(node).filter(|node| node.in_cluster).ok_or_else(|| no_node(node))?;
        there.labels.insert(key.to_owned(), value.to_owned());
        // Who selects by it is gone, or comes, at once.
        world.pass(0);
        Ok(())
    }

    async fn is_going(&self, node: &str) -> Port<Option<bool>> {
        let world = lock(&self.world);
        let node = world.nodes.get(node).filter(|node| node.in_cluster);
        Ok(node.map(|node| node.tainted || node.clients_paused))
    }

    async fn places(&self) -> Port<(Version, Places)> {
        let world = lock(&self.world);
        let places = world.places.iter().map(|(holder, place)| (holder.clone(), Known::Known(place.clone())));
        Ok((Version(Some(world.places_version.to_string())), places.collect()))
    }

    async fn set_place(&self, version: &Version, holder: &str, place: Option<&Place>) -> Port<bool> {
        let mut world = lock(&self.world);
        if version.0 != Some(world.places_version.to_string()) {
            return Ok(false);
        }
        // Only a state file that was tampered with comes to the end of the numbers.
        world.places_version = world.places_version.wrapping_add(1);
        match place {
            Some(place) => world.places.insert(holder.to_owned(), place.clone()),
            None => world.places.remove(holder),
        };
        Ok(true)
    }

    /// What is remembered of the simulated nodes is remembered in their world.
    async fn stopped(&self, node: &str) -> Port<Option<Suspension>> {
        let world = lock(&self.world);
        let told = world.memory.nodes.get(node).and_then(|node| node.suspended.clone());
        Ok(foremost([told], clock::time(&world)))
    }

    async fn workload(&self, object: &Object) -> Port<Option<WorkloadState>> {
        let world = lock(&self.world);
        let is = |w: &&SimWorkload| w.kind == object.kind && w.namespace == object.namespace && w.name == object.name;
        Ok(world.workloads.iter().find(is).map(|workload| world.state(workload)))
    }

    async fn bind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        lock(&self.world).bind(bind, revision, dry_run)
    }

    async fn unbind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        lock(&self.world).unbind(bind, revision, dry_run)
    }

    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()> {
        let Shown { state, revision, message: _, view: _ } = *shown;
        let mut world = lock(&self.world);
        let there = world.nodes.get_mut(node).filter(|node| node.in_cluster).ok_or_else(|| no_node(node))?;
        there.shown = Some(SimShown { state, revision: revision.to_owned() });
        Ok(())
    }

    async fn event(&self, event: &ClusterEvent<'_>) -> Port<()> {
        let ClusterEvent { node, pod, reason, message } = event;
        let mut world = lock(&self.world);
        let event = SimEvent {
            at_ms: world.clock_ms,
            node: (*node).to_owned(),
            pod: pod.map(|(namespace, name, _)| format!("{namespace}/{name}")),
            reason: *reason,
            message: message.clone(),
        };
        world.events.push(event);
        let many = world.events.len().saturating_sub(MOST_EVENTS);
        world.events.drain(..many);
        Ok(())
    }
}

impl World {
    /// Ready pods of a workload.
    pub(super) fn ready(&self, workload: &SimWorkload) -> u32 {
        let ready = self.pods_of(workload).filter(|(_, pod)| pod.phase == PodPhase::Running).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// The workload that a budget covers.
    fn covered(&self, budget: &SimBudget) -> Option<&SimWorkload> {
        self.workloads.iter().find(|w| w.namespace == budget.namespace && w.name == budget.workload)
    }

    /// Budgets that cover a pod.
    fn budgets_of<'a>(&'a self, key: &str, pod: &SimPod) -> impl Iterator<Item = &'a SimBudget> {
        let owner = self.owner_of(key, pod);
        // By the names first: to look for each budget's workload takes long where there are many.
        let names = |budget: &SimBudget, owner: &SimWorkload| {
            budget.workload == owner.name && budget.namespace == owner.namespace && self.covered(budget) == Some(owner)
        };
        self.budgets.iter().filter(move |budget| owner.is_some_and(|owner| names(budget, owner)))
    }

    /// How a budget stands: every wanted pod that is not ready counts as unavailable, pending ones too.
    fn budget(&self, budget: &SimBudget) -> Budget {
        let unavailable =
            self.covered(budget).map_or(0, |workload| self.wanted(workload).saturating_sub(self.ready(workload)));
        Budget {
            namespace: budget.namespace.clone(),
            name: budget.name.clone(),
            allowed: budget.max_unavailable.saturating_sub(unavailable),
        }
    }
}

/// A node as it shows itself to the others.
fn peer((name, node): (&String, &SimNode)) -> (String, Peer) {
    let shown = node.shown.as_ref();
    let peer = Peer {
        labels: node.labels.clone(),
        state: shown.map(|shown| shown.state),
        revision: shown.map(|shown| shown.revision.clone()),
        tainted: node.tainted,
        clients_paused: node.clients_paused,
    };
    (name.clone(), peer)
}

/// Why the scheduler finds no node for a pod, in its words.
fn unschedulable(world: &World, pod: &SimPod) -> Option<String> {
    if pod.phase != PodPhase::Pending || pod.node.is_some() {
        return None;
    }
    let wants: Vec<&str> = pod.requests.keys().map(String::as_str).collect();
    let nodes = world.nodes.values().filter(|node| node.in_cluster).count();
    Some(format!("0/{nodes} nodes are available: {nodes} Insufficient {}.", wants.join(", ")))
}

/// A pod as the API server and the kubelet tell it.
fn observed(world: &World, key: &str, pod: &SimPod) -> Option<Pod> {
    let (namespace, name) = key.split_once('/')?;
    let of = |w: &&SimWorkload| {
        w.namespace == namespace && pod.owner.as_ref().is_some_and(|o| o.kind == w.kind && o.name == w.name)
    };
    let workload = world.workloads.iter().find(of);
    let budgets = world.budgets_of(key, pod).map(|budget| format!("{}/{}", budget.namespace, budget.name));
    Some(Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        phase: pod.phase,
        owner: pod.owner.clone(),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        requests: pod.requests.clone(),
        node_selector: workload.map(|w| w.node_selector.clone()).unwrap_or_default(),
        devices: Known::Known(pod.devices.clone()),
        empty_dir: pod.empty_dir,
        mirror: pod.mirror,
        grace_period_s: pod.grace_period_s,
        barred: Default::default(),
        budgets: budgets.collect(),
        admitted: pod.node.is_some(),
        unschedulable: unschedulable(world, pod),
        shared_claims: Default::default(),
    })
}
