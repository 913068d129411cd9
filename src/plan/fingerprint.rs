//! A node's fingerprint: over desired state, policy and what the steps depend on; no time, pids or resource versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::desired::{Desired, DesiredNode};
use crate::model::identity::Digest;
use crate::model::observed::ObservedNode;
use crate::model::plan::NodePlan;

/// Digests of policies and bindings, which the nodes of a fleet share: each is made once.
#[derive(Debug)]
pub struct Prints(BTreeMap<usize, Digest>);

impl Prints {
    /// Those of everything that the nodes share.
    pub fn new(desired: &Desired) -> Self {
        let mut prints = BTreeMap::new();
        for node in desired.nodes.values() {
            if let Some(policy) = &node.policy {
                prints.entry(address(policy)).or_insert_with(|| digest(serde_json::to_vec(policy)));
            }
            for binding in &node.bindings {
                prints.entry(address(binding)).or_insert_with(|| digest(serde_json::to_vec(binding)));
            }
        }
        Prints(prints)
    }

    /// The fingerprint of a node and its steps.
    pub fn of(&self, desired: &DesiredNode, node: &ObservedNode, plan: &NodePlan) -> Digest {
        let DesiredNode { node: name, layout, shadows, gpus, shared, bindings, policy, held, blocked } = desired;
        let policy = policy.as_ref().map(|policy| self.print(address(policy), || serde_json::to_vec(policy)));
        let bindings = bindings.iter().map(|binding| self.print(address(binding), || serde_json::to_vec(binding)));
        let bindings: Vec<Digest> = bindings.collect();
        let seen = node.gpus.iter().map(|gpu| {
            let instances: Vec<_> = gpu.instances.iter().map(|i| (i.profile, i.placement)).collect();
            (&gpu.uuid, gpu.mig, instances)
        });
        let seen: Vec<_> = seen.collect();
        let kinds: Vec<_> = plan.steps.iter().map(|s| (&s.kind, &s.after, &s.guards)).collect();
        let all = (name, layout, shadows, gpus, shared, bindings, policy, held, blocked, seen, kinds);
        digest(serde_json::to_vec(&all))
    }

    fn print(&self, address: usize, bytes: impl FnOnce() -> serde_json::Result<Vec<u8>>) -> Digest {
        self.0.get(&address).cloned().unwrap_or_else(|| digest(bytes()))
    }
}

/// Where it lies in memory: what is found twice there is the same.
fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}

fn digest(bytes: serde_json::Result<Vec<u8>>) -> Digest {
    // These types have string keys alone and nothing that refuses to be written.
    Digest::of([bytes.unwrap_or_default().as_slice()])
}
