//! Which pod holds which device: by the kubelet's word, else by the pods' status and claims, else it is unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::{ClaimItem, Published};
use super::kubelet::{DynamicResource, PodResources};
use super::names::DRA_DRIVER;
use super::pods::{PodItem, is_gpu, uuid};
use crate::model::Pod;
use crate::model::observed::{Known, PodPhase};

/// Who holds what by the kubelet's word, by the pod's namespace and name.
pub(super) type Given = BTreeMap<(String, String), Known<BTreeSet<String>>>;

/// What claims and slices tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    /// Devices by pool and name, with the node that they are on.
    pub(super) devices: BTreeMap<(String, String), (Option<String>, Published)>,
    /// Claims by namespace and name.
    pub(super) claims: BTreeMap<(String, String), ClaimItem>,
    /// Whether claims may not be seen.
    pub(super) blind: bool,
}

impl Claimed {
    fn of<'a>(&'a self, item: &'a PodItem) -> impl Iterator<Item = (&'a str, &'a ClaimItem)> {
        let find =
            |name: &'a String| Some((name.as_str(), self.claims.get(&(item.pod.namespace.clone(), name.clone()))?));
        item.claims.iter().filter_map(find)
    }

    fn device(&self, pool: &str, name: &str) -> Option<&Published> {
        self.devices.get(&(pool.to_owned(), name.to_owned())).map(|(_, device)| device)
    }

    /// UUIDs of the devices that a pod's claims were given; unknown where one of them has none.
    fn uuids(&self, item: &PodItem) -> Known<BTreeSet<String>> {
        if self.blind && !item.claims.is_empty() {
            return Known::Unknown;
        }
        let all = self.of(item).flat_map(|(_, claim)| &claim.devices);
        let uuids: Option<BTreeSet<String>> = all.map(|(pool, name)| self.device(pool, name)?.uuid.clone()).collect();
        uuids.map_or(Known::Unknown, Known::Known)
    }

    /// What a pod's claims ask for, named as the device plugin would.
    pub(super) fn requests(&self, item: &PodItem) -> BTreeMap<String, u32> {
        let mut requests = BTreeMap::new();
        for (pool, name) in self.of(item).flat_map(|(_, claim)| &claim.devices) {
            if let Some(profile) = self.device(pool, name).and_then(|device| device.profile) {
                *requests.entry(profile.resource()).or_default() += 1;
            }
        }
        requests
    }

    /// Those of a pod's claims that other pods hold, too.
    pub(super) fn shared(&self, item: &PodItem) -> BTreeSet<String> {
        let shared = self.of(item).filter(|(_, claim)| claim.holders.iter().any(|holder| *holder != item.pod.name));
        shared.map(|(name, _)| name.to_owned()).collect()
    }
}

/// What the kubelet gave its pods, by namespace and name.
pub(super) fn given(listed: &[PodResources], claimed: &Claimed) -> Given {
    let of = |pod: &PodResources| {
        let containers = || pod.containers.iter();
        let mut uuids = BTreeSet::new();
        for devices in containers().flat_map(|container| &container.devices) {
            for id in &devices.device_ids {
                match uuid(id) {
                    // Whatever the resource is called.
                    Some(uuid) => _ = uuids.insert(uuid),
                    None if is_gpu(&devices.resource_name) => return Known::Unknown,
                    None => {}
                }
            }
        }
        for resource in containers().flat_map(|container| &container.dynamic_resources) {
            let DynamicResource { claim_resources, .. } = resource;
            for device in claim_resources.iter().filter(|device| device.driver_name == DRA_DRIVER) {
                match claimed.device(&device.pool_name, &device.device_name).and_then(|device| device.uuid.clone()) {
                    Some(uuid) => _ = uuids.insert(uuid),
                    None => return Known::Unknown,
                }
            }
        }
        Known::Known(uuids)
    };
    listed.iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), of(pod))).collect()
}

/// The pods of a node with the devices that they hold. `given`: the kubelet's word, where it gave one. A pod that only
/// the kubelet knows is told, too, as one that nobody else knows.
pub(super) fn join(items: &[PodItem], given: Option<&Given>, claimed: &Claimed, node: &str) -> Vec<Pod> {
    let mut pods: Vec<Pod> = Vec::new();
    for item in items {
        let mut pod = item.pod.clone();
        let none = Known::Known(BTreeSet::new());
        let told = given.map(|given| given.get(&(pod.namespace.clone(), pod.name.clone())));
        let holds = |told: &Known<BTreeSet<String>>| told.known().is_none_or(|devices| !devices.is_empty());
        if pod.phase == PodPhase::Ended && told.flatten().is_some_and(holds) {
            // A new pod of that name, or one of which a kubelet before 1.34 still tells.
            pod.phase = PodPhase::Running;
        }
        pod.devices = match told {
            _ if pod.phase == PodPhase::Ended => none,
            // An init container's devices are not listed.
            _ if item.initializing => Known::Unknown,
            // Before Kubernetes 1.34 the kubelet does not list what claims gave.
            Some(Some(told)) => both(told, &claimed.uuids(item)),
            // A kubelet that was just started does not know yet which pods it has.
            Some(None) if pod.admitted => Known::Unknown,
            Some(None) => both(&none, &claimed.uuids(item)),
            None => both(&pod.devices, &claimed.uuids(item)),
        };
        pods.push(pod);
    }
    let known: BTreeSet<(String, String)> = pods.iter().map(|pod| (pod.namespace.clone(), pod.name.clone())).collect();
    for ((namespace, name), devices) in given.into_iter().flatten().filter(|(key, _)| !known.contains(*key)) {
        if devices.known().is_none_or(|devices| !devices.is_empty()) {
            pods.push(stranger(namespace, name, node, devices.clone()));
        }
    }
    pods
}

fn both(one: &Known<BTreeSet<String>>, other: &Known<BTreeSet<String>>) -> Known<BTreeSet<String>> {
    match (one, other) {
        (Known::Known(one), Known::Known(other)) => Known::Known(one | other),
        _ => Known::Unknown,
    }
}

/// A pod of which the API server knows nothing.
fn stranger(namespace: &str, name: &str, node: &str, devices: Known<BTreeSet<String>>) -> Pod {
    Pod { node: Some(node.to_owned()), devices, ..nobody(namespace, name, "") }
}

/// A pod of which only its name is known, and its UID.
pub(super) fn nobody(namespace: &str, name: &str, uid: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        node: None,
        phase: PodPhase::Running,
        owner: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        requests: BTreeMap::new(),
        node_selector: BTreeMap::new(),
        barred: BTreeSet::new(),
        devices: Known::Unknown,
        empty_dir: false,
        mirror: false,
        grace_period_s: 0,
        budgets: BTreeSet::new(),
        admitted: true,
        unschedulable: None,
        shared_claims: BTreeSet::new(),
    }
}
