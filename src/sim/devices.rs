//! What the simulated device plugin and kubelet make of a node's GPUs: the resources of its strategy.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{SimNode, World};
use crate::model::catalogue;
use crate::model::observed::{MigStrategy, PodPhase, WHOLE_GPU};

/// Counts by resource name.
pub(super) type Counts = BTreeMap<String, u32>;

impl World {
    /// What the device plugin finds on a node when it starts: nothing where it fails to. In the strategy `single` it
    /// does on a MIG GPU without devices, beside GPUs without MIG, and on devices that differ (device_map.go).
    fn starts(&self, node: &SimNode) -> Vec<(String, String)> {
        let there = || node.gpus.iter().filter(|gpu| !gpu.lost);
        let profiles: BTreeSet<(&str, u32)> = there()
            .flat_map(|gpu| gpu.instances.iter().map(move |gi| (gpu.board.as_str(), gi.profile_index)))
            .collect();
        let empty = there().any(|gpu| gpu.instances.iter().all(|gi| gi.compute.is_empty()));
        let (some, all) = (there().any(|gpu| gpu.mode), there().all(|gpu| gpu.mode));
        let fails = node.strategy == MigStrategy::Single && some && (!all || empty || profiles.len() > 1);
        if fails { Vec::new() } else { self.found(node) }
    }

    /// The devices of a node: UUID and resource, in the order of GPUs and of slots on them. A compute instance that does
    /// not fill its GPU instance has no resource (the plugin knows no such pattern).
    fn found(&self, node: &SimNode) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for gpu in node.gpus.iter().filter(|gpu| !gpu.lost) {
            if !gpu.mode || node.strategy == MigStrategy::None {
                found.push((gpu.uuid.clone(), WHOLE_GPU.to_owned()));
                continue;
            }
            let geometry = catalogue::by_id(&gpu.board).and_then(|board| board.shared_geometry());
            let profiles = geometry.as_ref().map(|geometry| geometry.profiles.as_slice()).unwrap_or_default();
            let mut instances: Vec<_> = gpu.instances.iter().collect();
            instances.sort_by_key(|gi| gi.placement);
            for gi in instances {
                let Some(profile) = profiles.iter().find(|p| p.index == gi.profile_index) else { continue };
                let filling = gi.compute.iter().filter(|ci| ci.placement.size == profile.slices);
                let resource = node.strategy.resource(profile.name);
                found.extend(filling.filter_map(|ci| Some((ci.uuid.clone(), resource.clone()?))));
            }
        }
        found
    }

    /// What a node's clients find when they start is what they advertise until they start again.
    pub(super) fn advertise(&mut self, name: &str) {
        let Some(found) = self.nodes.get(name).map(|node| self.starts(node)) else { return };
        if let Some(node) = self.nodes.get_mut(name) {
            node.advertised = found.into_iter().collect();
        }
    }

    /// Devices that the kubelet may give out: advertised, and still there as what they were. None while clients are
    /// paused. In the order of GPUs and slots.
    pub(super) fn healthy(&self, node: &SimNode) -> Vec<(String, String)> {
        if node.clients_paused || !node.in_cluster {
            return Vec::new();
        }
        let advertised = |(uuid, resource): &(String, String)| node.advertised.get(uuid) == Some(resource);
        self.found(node).into_iter().filter(advertised).collect()
    }

    /// A node's allocatable resources. One that is no longer to be had stays with 0, as the kubelet leaves it.
    pub(super) fn allocatable(&self, node: &SimNode) -> Counts {
        let mut counts: Counts = node.advertised.values().map(|resource| (resource.clone(), 0)).collect();
        for (_, resource) in self.healthy(node) {
            *counts.entry(resource).or_default() += 1;
        }
        counts
    }

    /// Free resources of every node of the cluster: allocatable less what bound pods ask for.
    pub(super) fn free(&self) -> BTreeMap<String, Counts> {
        let nodes = self.nodes.iter().filter(|(_, node)| node.in_cluster);
        let mut free: BTreeMap<String, Counts> =
            nodes.map(|(name, node)| (name.clone(), self.allocatable(node))).collect();
        for pod in self.pods.values().filter(|pod| pod.phase != PodPhase::Ended) {
            let Some(counts) = pod.node.as_ref().and_then(|node| free.get_mut(node)) else { continue };
            take(counts, &pod.requests);
        }
        free
    }

    /// Devices of every node that the kubelet may give out and that no pod holds, in the order of GPUs and slots.
    pub(super) fn idle(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let mut held: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| pod.phase != PodPhase::Ended) {
            if let Some(node) = &pod.node {
                held.entry(node).or_default().extend(pod.devices.iter().map(String::as_str));
            }
        }
        let idle = |(name, node): (&String, &SimNode)| {
            let mut devices = self.healthy(node);
            devices.retain(|(uuid, _)| held.get(name.as_str()).is_none_or(|held| !held.contains(uuid.as_str())));
            (name.clone(), devices)
        };
        self.nodes.iter().map(idle).collect()
    }
}

/// Takes the devices that the kubelet gives a pod that asks for this off a node's idle ones, the lowest GPU and slot
/// first; `None`: there are too few, and nothing is taken.
pub(super) fn give(idle: &mut Vec<(String, String)>, requests: &Counts) -> Option<BTreeSet<String>> {
    let mut given = BTreeSet::new();
    for (resource, &count) in requests {
        let before = given.len();
        let fits = idle.iter().filter(|(_, of)| of == resource).take(count as usize);
        given.extend(fits.map(|(uuid, _)| uuid.clone()));
        if given.len() - before < count as usize {
            return None;
        }
    }
    idle.retain(|(uuid, _)| !given.contains(uuid));
    Some(given)
}

/// Whether there is room for all of it.
pub(super) fn fits(free: &Counts, requests: &Counts) -> bool {
    requests.iter().all(|(resource, count)| free.get(resource).is_some_and(|free| free >= count))
}

/// Takes it off what is free, down to nothing.
pub(super) fn take(free: &mut Counts, requests: &Counts) {
    for (resource, count) in requests {
        if let Some(free) = free.get_mut(resource) {
            *free = free.saturating_sub(*count);
        }
    }
}
