//! Joins what driver, cluster and host report of a node into the model: who uses which instance is nobody's alone to
//! tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::gpu::Gpus;
use crate::model::observed::PodPhase;
use crate::model::{Gap, Known, MigMode, ObservedCluster, ObservedNode, Pod, User};
use crate::ports::{Cluster, Driver, Host, Port};

/// Who holds which device, beside the processes that the driver sees.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// By device UUID.
    by_device: BTreeMap<String, BTreeSet<User>>,
    /// Units by their processes, which run whether or not they were given a device.
    by_process: BTreeMap<u32, User>,
    /// Whether some pod's devices are unknown: then any device may be its.
    blind: Option<String>,
}

impl Holders {
    /// Asks the cluster and the host anew who holds the devices of a node.
    pub async fn ask<C: Cluster, H: Host>(
        node: &str,
        cluster: Option<&C>,
        host: &H,
        units: &BTreeSet<String>,
    ) -> Port<Holders> {
        let pods = match cluster {
            Some(cluster) => cluster.holders(node).await?,
            None => Vec::new(),
        };
        Holders::of(&pods.iter().collect::<Vec<_>>(), host, units).await
    }

    /// The same, where the pods of the node are known.
    async fn of<H: Host>(pods: &[&Pod], host: &H, units: &BTreeSet<String>) -> Port<Holders> {
        let mut holders = Holders::default();
        pods.iter().for_each(|pod| holders.pod(pod));
        for (unit, state) in host.units(units).await? {
            let unit = User::Unit(unit);
            holders.by_process.extend(state.processes.into_iter().map(|pid| (pid, unit.clone())));
            holders.add(&unit, state.devices);
        }
        for (workload, devices) in host.commands().await? {
            holders.add(&User::Command(workload), devices);
        }
        Ok(holders)
    }

    fn pod(&mut self, pod: &Pod) {
        if pod.phase == PodPhase::Ended {
            return;
        }
        let user = User::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        match &pod.devices {
            Known::Known(devices) => self.add(&user, devices.iter().cloned()),
            Known::Unknown => self.blind = Some(format!("nobody tells which devices pod {} holds", pod.id())),
        }
    }

    fn add(&mut self, user: &User, devices: impl IntoIterator<Item = String>) {
        for device in devices {
            self.by_device.entry(device).or_default().insert(user.clone());
        }
    }

    /// Adds the holders of a device to the processes on it.
    pub fn join(&self, device: &str, processes: &Known<Vec<User>>) -> Known<Vec<User>> {
        let Some(processes) = processes.known().filter(|_| self.blind.is_none()) else { return Known::Unknown };
        let held = self.by_device.get(device).cloned().unwrap_or_default();
        // A process is its holder's, or its unit's, whatever that was given; only else it stands for itself.
        let unit = |user: &User| match user {
            User::Process { pid, .. } => self.by_process.get(pid).cloned(),
            _ => None,
        };
        let own = processes.iter().filter_map(|user| unit(user).or_else(|| held.is_empty().then(|| user.clone())));
        Known::Known(held.iter().cloned().chain(own).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// Observes a node: its GPUs, who uses them, its units, and what the cluster says of it; what is remembered of it is
/// not its business. `units` are those that the tree binds or pauses.
///
/// # Errors
///
/// Where the driver or the host can't be asked at all, or the cluster fails; what is missing of single instances is
/// a gap.
pub async fn node<D: Driver, C: Cluster, H: Host>(
    name: &str,
    gpus: &Gpus<D>,
    cluster: Option<&C>,
    host: &H,
    units: &BTreeSet<String>,
    own_labels: &Known<BTreeMap<String, String>>,
) -> Port<ObservedNode> {
    node_of(name, gpus, cluster, None, host, units, own_labels).await
}

/// Pods by the node that they are bound to.
pub fn pods_by_node(cluster: &ObservedCluster) -> BTreeMap<&str, Vec<&Pod>> {
    let mut nodes: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in cluster.pods.iter().chain(&cluster.strangers) {
        if let Some(node) = &pod.node {
            nodes.entry(node).or_default().push(pod);
        }
    }
    nodes
}

/// The same for a node of a whole fleet, whose pods are known: to ask for each node's anew takes quadratic time. `None`:
/// they are not, and the cluster is asked.
///
/// # Errors
///
/// As [`node`].
pub async fn node_of<D: Driver, C: Cluster, H: Host>(
    name: &str,
    gpus: &Gpus<D>,
    cluster: Option<&C>,
    pods: Option<&[&Pod]>,
    host: &H,
    units: &BTreeSet<String>,
    own_labels: &Known<BTreeMap<String, String>>,
) -> Port<ObservedNode> {
    let (mut seen, mut gaps, lost) = gpus.observe()?;
    let in_cluster = match cluster {
        Some(cluster) => cluster.node(name).await?,
        None => None,
    };
    let cluster = cluster.filter(|_| in_cluster.is_some());
    let labels = match cluster {
        Some(cluster) => cluster.labels(name).await?.map_or(Known::Unknown, Known::Known),
        None => own_labels.clone(),
    };
    let holders = match pods {
        Some(pods) => Holders::of(if cluster.is_some() { pods } else { &[] }, host, units).await?,
        None => Holders::ask(name, cluster, host, units).await?,
    };
    if let Some(message) = &holders.blind {
        gaps.push(Gap { object: format!("users on {name}"), message: message.clone() });
    }
    for gpu in &mut seen {
        gpu.users = holders.join(&gpu.uuid, &gpu.users);
        for instance in &mut gpu.instances {
            for compute in &mut instance.compute {
                compute.users = holders.join(&compute.uuid, &compute.users);
            }
        }
    }
    let mut units = host.units(units).await?;
    units.values_mut().for_each(|unit| unit.processes.clear());
    let device_files = host.device_files().await?;
    let (inventory, suspended) = Default::default();
    let name = name.to_owned();
    let cluster = in_cluster;
    Ok(ObservedNode { name, labels, gpus: seen, lost, units, cluster, device_files, gaps, inventory, suspended })
}

/// Whether a GPU's mode is in force, so that no reset is due.
pub fn in_force(mode: &MigMode) -> bool {
    mode.current == mode.pending
}
