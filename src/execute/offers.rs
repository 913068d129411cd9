//! What a node's clients should offer, and what they do.

use std::collections::BTreeMap;

use crate::model::ObservedGpu;
use crate::model::observed::{ComputeInstance, MigStrategy, NodeInCluster};
use crate::model::plan::SlotRef;
use crate::model::policy::Allocation;

/// What stands behind a resource whose devices are shared in time (k8s-device-plugin, `renameByDefault`).
const SHARED: &str = ".shared";

/// A MIG device that the device plugin knows: one that fills its GPU instance.
struct Device<'a> {
    slot: SlotRef,
    compute: &'a ComputeInstance,
}

fn devices(gpus: &[ObservedGpu]) -> Vec<Device<'_>> {
    let mut all = Vec::new();
    for gpu in gpus.iter().filter(|gpu| gpu.mig.current) {
        for instance in &gpu.instances {
            let fills = |compute: &&ComputeInstance| compute.profile.slices == instance.profile.slices;
            let slot = || SlotRef { gpu: gpu.uuid.clone(), profile: instance.profile, placement: instance.placement };
            all.extend(instance.compute.iter().filter(fills).map(|compute| Device { slot: slot(), compute }));
        }
    }
    all
}

/// What a node does not offer as it should, each as a phrase: of what was made (nothing: of all that is there), and what is
/// gone. A device that is kept and not offered is the plugin's to know: it may be unhealthy.
pub(super) fn missing(node: &NodeInCluster, gpus: &[ObservedGpu], made: &[SlotRef]) -> Vec<String> {
    // Where nothing hands instances out, nothing need be offered.
    if node.allocation == Allocation::Auto || node.strategy == MigStrategy::None {
        return Vec::new();
    }
    let devices = devices(gpus);
    let wanted = |device: &&Device<'_>| made.is_empty() || made.contains(&device.slot);
    let mut missing = Vec::new();
    if let Some(advertised) = node.advertised.known() {
        let hidden = devices.iter().filter(wanted).filter(|device| !advertised.contains(&device.compute.uuid));
        missing.extend(hidden.map(|device| format!("{} to be offered", device.compute.uuid)));
        // Where claims hand devices out, parts of instances are offered, too.
        let compute = || gpus.iter().flat_map(|gpu| &gpu.instances).flat_map(|instance| &instance.compute);
        let dead = advertised.iter().filter(|uuid| compute().all(|compute| compute.uuid != **uuid));
        missing.extend(dead.map(|uuid| format!("{uuid} to be offered no more")));
    }
    // By resource: how many there are, and how many of them are wanted.
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    // A profile that is gone stays at 0 (kubelet, nodestatus/setters.go).
    for resource in node.allocatable.keys().filter(|resource| resource.starts_with("nvidia.com/mig-")) {
        counts.insert(resource.trim_end_matches(SHARED).to_owned(), (0, 0));
    }
    for device in &devices {
        if let Some(resource) = node.strategy.resource(device.slot.profile) {
            let (there, needed) = counts.entry(resource).or_default();
            *there += 1;
            *needed += u32::from(wanted(&device));
        }
    }
    for (resource, (there, needed)) in counts {
        let of = |name: &str| node.allocatable.get(name).copied().unwrap_or(0);
        let offered = of(&resource) + of(&format!("{resource}{SHARED}"));
        if offered < needed {
            missing.push(format!("{resource} to be offered {needed} times ({offered} now)"));
        } else if there == 0 && offered > 0 {
            missing.push(format!("{resource} to be offered no more ({offered} now)"));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::{Known, MigMode};
    use crate::model::{GpuInstance, Placement, ProfileName};

    /// The slot of an instance of a compute slice.
    fn slot(start: u32) -> SlotRef {
        let profile: ProfileName = "1g.10gb".parse().unwrap();
        SlotRef { gpu: "GPU-0".to_owned(), profile, placement: Placement { start, size: 1 } }
    }

    /// A GPU with an instance of one compute slice at each start, `MIG-START`.
    fn gpu(starts: &[u32]) -> ObservedGpu {
        let none = || Known::Known(Vec::new());
        let instance = |start: &u32| {
            let SlotRef { profile, placement, .. } = slot(*start);
            let (uuid, of) = (format!("MIG-{start}"), "1g.10gb".parse().unwrap());
            let compute = vec![ComputeInstance { profile: of, ci_id: 0, uuid, users: none() }];
            GpuInstance { profile, placement, gi_id: *start, compute, users: none() }
        };
        ObservedGpu {
            uuid: "GPU-0".to_owned(),
            index: 0,
            pci: String::new(),
            model: String::new(),
            board: None,
            mig: MigMode { capable: true, current: true, pending: true, resetless: true },
            geometry: None,
            instances: starts.iter().map(instance).collect(),
            recorded: Vec::new(),
            users: none(),
        }
    }

    /// A node that offers so many of these, and advertises these devices.
    fn offering(allocatable: &[(&str, u32)], advertised: Option<&[&str]>) -> NodeInCluster {
        NodeInCluster {
            allocatable: allocatable.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            advertised: advertised
                .map_or(Known::Unknown, |all| Known::Known(all.iter().map(|uuid| (*uuid).to_owned()).collect())),
            allocation: Allocation::DevicePlugin,
            ..NodeInCluster::default()
        }
    }

    const SLICE: &str = "nvidia.com/mig-1g.10gb";
    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_device_that_is_kept_and_hidden_is_not_waited_for_where_something_was_made() {
        let gpus = [gpu(&[0, 1, 2])];
        // The plugin takes the first one for unhealthy.
        let node = offering(&[(SLICE, 2)], Some(&["MIG-1", "MIG-2"]));
        assert_eq!(missing(&node, &gpus, &[slot(2)]), NOTHING);
        // Where nothing was made it is what the step is for.
        assert_eq!(
            missing(&node, &gpus, &[]),
            ["MIG-0 to be offered", "nvidia.com/mig-1g.10gb to be offered 3 times (2 now)"]
        );
    }

    #[test]
    fn a_device_that_was_made_is_not_taken_for_offered_since_as_many_others_are() {
        let gpus = [gpu(&[0, 1, 2])];
        let node = offering(&[(SLICE, 2)], Some(&["MIG-0", "MIG-1"]));
        assert_eq!(missing(&node, &gpus, &[slot(2)]), ["MIG-2 to be offered"]);
        // The kubelet gives it out, and the API server has not heard of it.
        let late = offering(&[(SLICE, 0)], Some(&["MIG-0", "MIG-1", "MIG-2"]));
        assert_eq!(missing(&late, &gpus, &[slot(2)]), ["nvidia.com/mig-1g.10gb to be offered 1 times (0 now)"]);
    }

    #[test]
    fn a_device_that_is_gone_does_not_stay_on_offer() {
        let dead = offering(&[(SLICE, 1)], Some(&["MIG-0", "MIG-9"]));
        for made in [vec![], vec![slot(0)]] {
            assert_eq!(missing(&dead, &[gpu(&[0])], &made), ["MIG-9 to be offered no more"]);
        }
        // A profile that is gone stays at 0.
        let stays = |n| offering(&[(SLICE, 1), ("nvidia.com/mig-3g.40gb", n)], None);
        assert_eq!(missing(&stays(0), &[gpu(&[0])], &[]), NOTHING);
        assert_eq!(missing(&stays(1), &[gpu(&[0])], &[]), ["nvidia.com/mig-3g.40gb to be offered no more (1 now)"]);
    }

    #[test]
    fn a_part_of_an_instance_that_is_on_offer_is_not_taken_for_gone() {
        let mut gpu = gpu(&[0]);
        let (profile, uuid) = ("1c.3g.40gb".parse().unwrap(), "MIG-part".to_owned());
        let part = ComputeInstance { profile, ci_id: 0, uuid, users: Known::Unknown };
        let placement = Placement { start: 4, size: 4 };
        let profile = "3g.40gb".parse().unwrap();
        gpu.instances.push(GpuInstance { profile, placement, gi_id: 7, compute: vec![part], users: Known::Unknown });
        let node = offering(&[(SLICE, 1)], Some(&["MIG-0", "MIG-part"]));
        assert_eq!(missing(&node, &[gpu.clone()], &[]), NOTHING);
        // Nor is it waited for, since the device plugin does not know it.
        assert_eq!(missing(&offering(&[(SLICE, 1)], Some(&["MIG-0"])), &[gpu], &[]), NOTHING);
    }

    #[test]
    fn devices_that_are_shared_in_time_are_not_waited_for_by_their_other_name() {
        let gpus = [gpu(&[0, 1])];
        let shared = |n| offering(&[(&format!("{SLICE}.shared"), n), (SLICE, 0)], Some(&["MIG-0", "MIG-1"]));
        assert_eq!(missing(&shared(8), &gpus, &[]), NOTHING);
        assert_eq!(missing(&shared(1), &gpus, &[]), ["nvidia.com/mig-1g.10gb to be offered 2 times (1 now)"]);
        // Also where the name stays.
        assert_eq!(missing(&offering(&[(SLICE, 7)], Some(&["MIG-0", "MIG-1"])), &gpus, &[]), NOTHING);
        // What is gone is gone by either name.
        let gone = offering(&[("nvidia.com/mig-3g.40gb.shared", 4), (SLICE, 2)], None);
        assert_eq!(missing(&gone, &gpus, &[]), ["nvidia.com/mig-3g.40gb to be offered no more (4 now)"]);
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_hands_instances_out() {
        let gpus = [gpu(&[0])];
        let node = offering(&[], Some(&["MIG-9"]));
        assert_eq!(missing(&node, &gpus, &[]).len(), 3);
        let auto = NodeInCluster { allocation: Allocation::Auto, ..node.clone() };
        let none = NodeInCluster { strategy: MigStrategy::None, ..node };
        assert_eq!((missing(&auto, &gpus, &[]), missing(&none, &gpus, &[slot(0)])), (vec![], vec![]));
    }

    #[test]
    fn what_nobody_tells_by_its_name_is_waited_for_by_number() {
        let gpus = [gpu(&[0, 1])];
        let node = |n| offering(&[(SLICE, n)], None);
        assert_eq!(missing(&node(1), &gpus, &[]), ["nvidia.com/mig-1g.10gb to be offered 2 times (1 now)"]);
        assert_eq!(missing(&node(0), &gpus, &[slot(1)]), ["nvidia.com/mig-1g.10gb to be offered 1 times (0 now)"]);
        assert_eq!((missing(&node(2), &gpus, &[]), missing(&node(1), &gpus, &[slot(1)])), (vec![], vec![]));
        let single = |n| NodeInCluster { strategy: MigStrategy::Single, ..offering(&[("nvidia.com/gpu", n)], None) };
        assert_eq!(missing(&single(1), &gpus, &[]), ["nvidia.com/gpu to be offered 2 times (1 now)"]);
        assert_eq!(missing(&single(2), &gpus, &[]), NOTHING);
    }
}
