//! What a node's clients should offer, and what they do.

use std::collections::BTreeMap;

use crate::model::ObservedGpu;
use crate::model::observed::{ComputeInstance, MigStrategy, NodeInCluster, WHOLE_GPU};

/// Resources of MIG devices of which a node offers another number than there are devices, each as a phrase. A device
/// that is shared in time is offered several times: a whole multiple is as good.
pub(super) fn missing(node: &NodeInCluster, gpus: &[ObservedGpu]) -> Vec<String> {
    let mut there: BTreeMap<String, u32> = BTreeMap::new();
    // A profile that is gone stays at 0 (kubelet, nodestatus/setters.go).
    for resource in node.allocatable.keys().filter(|resource| resource.starts_with("nvidia.com/mig-")) {
        there.insert(resource.clone(), 0);
    }
    for instance in gpus.iter().filter(|gpu| gpu.mig.current).flat_map(|gpu| &gpu.instances) {
        let fills = |compute: &&ComputeInstance| compute.profile.slices == instance.profile.slices;
        if instance.compute.iter().any(|compute| fills(&compute))
            && let Some(resource) = node.strategy.resource(instance.profile)
        {
            *there.entry(resource).or_default() += 1;
        }
    }
    if node.strategy == MigStrategy::Single && !there.is_empty() {
        let whole = gpus.iter().filter(|gpu| !gpu.mig.current).count();
        *there.entry(WHOLE_GPU.to_owned()).or_default() += u32::try_from(whole).unwrap_or(u32::MAX);
    }
    let offered = |resource: &str| node.allocatable.get(resource).copied().unwrap_or(0);
    let short = |resource: &str, n: u32| {
        let offered = offered(resource);
        if n == 0 { offered != 0 } else { offered == 0 || offered % n != 0 }
    };
    let short = there.iter().filter(|(resource, n)| short(resource, **n));
    short.map(|(resource, n)| format!("{resource} to be offered {n} times ({} now)", offered(resource))).collect()
}
