//! A node's fingerprint: over desired state, policy and what the steps depend on; no time, pids or resource versions.

use std::hash::{Hash, Hasher};

use crate::model::desired::DesiredNode;
use crate::model::identity::Digest;
use crate::model::observed::ObservedNode;
use crate::model::plan::NodePlan;

/// The fingerprint of a node and its steps.
pub fn of(desired: &DesiredNode, node: &ObservedNode, plan: &NodePlan) -> Digest {
    let mut fed = Fed(Vec::with_capacity(4 << 10));
    desired.hash(&mut fed);
    for gpu in &node.gpus {
        (&gpu.uuid, gpu.mig, gpu.instances.len()).hash(&mut fed);
        gpu.instances.iter().for_each(|i| (i.profile, i.placement).hash(&mut fed));
    }
    plan.steps.iter().for_each(|s| (&s.kind, &s.after, &s.guards).hash(&mut fed));
    Digest::of([fed.0.as_slice()])
}

/// All that is fed to a hash, each part with its length or an end mark, as bytes for a digest: a fleet's fingerprints
/// were a sixth of its planning while they were made from JSON.
struct Fed(Vec<u8>);

impl Hasher for Fed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Which variant of an enum it is: none has 256.
    fn write_isize(&mut self, variant: isize) {
        self.0.extend(variant.to_le_bytes().first());
    }

    fn finish(&self) -> u64 {
        0
    }
}
