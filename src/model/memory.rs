//! What is kept between runs beside the journal: the tree that was last taken up, and of each node the GPUs that it
//! had, where their instances lay when it last converged, and whether it is suspended.
//!
//! `apply` alone writes the first two, `suspend` and `resume` the last; whatever only looks remembers nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::identity::Digest;
use super::observed::{ObservedNode, Recorded, Seated, Suspension};
use super::plan::{Block, BlockCode};

/// Everything that is remembered. Nothing of a thing: it is seen for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The tree that was last taken up.
    pub tree: Option<TakenUp>,
    /// By name.
    pub nodes: BTreeMap<String, NodeMemory>,
}

/// What a tree says in sum, so that one that loses most of it is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenUp {
    /// Which tree.
    pub digest: Digest,
    /// Layout files with a `[[gpu]]`.
    pub layouts: u32,
    /// Names of its bindings.
    pub bindings: BTreeSet<String>,
}

/// What is remembered of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemory {
    /// Its GPUs as last accepted, ascending by index; empty: none were ever seen.
    pub inventory: Vec<Seated>,
    /// Where instances lay when the node last converged, by the GPU's UUID.
    pub placements: BTreeMap<String, Vec<Recorded>>,
    /// Whether reconciling is suspended.
    pub suspended: Option<Suspension>,
}

impl Memory {
    /// Tells an observed node what is remembered of it.
    pub fn recall(&self, node: &mut ObservedNode) {
        let Some(NodeMemory { inventory, placements, suspended }) = self.nodes.get(&node.name) else { return };
        node.inventory.clone_from(inventory);
        node.suspended.clone_from(suspended);
        for gpu in &mut node.gpus {
            gpu.recorded = placements.get(&gpu.uuid).cloned().unwrap_or_default();
        }
    }

    /// A plan is about to be carried out on a node: its GPUs are those that were accepted, or where none are remembered
    /// those that are there, unless some are lost.
    pub fn begun(&mut self, node: &ObservedNode) {
        if !node.inventory.is_empty() {
            self.node(node).inventory.clone_from(&node.inventory);
        } else if node.lost.is_empty() {
            self.node(node).inventory = node.seated();
        }
    }

    /// A node was verified to be as it should: the instances of the GPUs that were seen lie well. Those of an accepted
    /// GPU that was not seen are to come back where they were.
    pub fn converged(&mut self, node: &ObservedNode) {
        let NodeMemory { inventory, placements, .. } = self.node(node);
        placements.retain(|uuid, _| inventory.iter().any(|gpu| gpu.uuid == *uuid));
        for gpu in node.gpus.iter().filter(|gpu| !node.lost.contains(&gpu.index)) {
            let of = gpu.instances.iter().map(|i| Recorded {
                profile: i.profile,
                start: i.placement.start,
                compute: i.cut(),
            });
            placements.insert(gpu.uuid.clone(), of.collect());
        }
    }

    fn node(&mut self, node: &ObservedNode) -> &mut NodeMemory {
        self.nodes.entry(node.name.clone()).or_default()
    }
}

/// How a node's GPUs differ from those that are remembered, in words; `None`: they don't, or none are remembered and none
/// are lost.
pub fn difference(node: &ObservedNode) -> Option<String> {
    let now = node.seated();
    if node.inventory.is_empty() {
        let lost: Vec<String> = node.lost.iter().map(|index| format!("GPU {index} is lost")).collect();
        return (!lost.is_empty()).then(|| lost.join(", "));
    }
    if node.inventory == now {
        return None;
    }
    let in_list = |list: &[Seated], uuid: &str| list.iter().find(|gpu| gpu.uuid == uuid).cloned();
    let (mut parts, mut counted) = (Vec::new(), Vec::new());
    for Seated { index, pci, uuid } in &node.inventory {
        match in_list(&now, uuid) {
            None => {
                let how = if node.lost.contains(index) { "lost" } else { "gone" };
                parts.push(format!("GPU {index} {uuid} at {pci} is {how}"));
            }
            Some(here) if here.pci != *pci => parts.push(format!("{uuid} moved from {pci} to {}", here.pci)),
            Some(here) if here.index != *index => {
                counted.push(format!("{uuid} was GPU {index} and is GPU {}", here.index));
            }
            Some(_) => {}
        }
    }
    for Seated { index, pci, uuid } in now.iter().filter(|gpu| in_list(&node.inventory, &gpu.uuid).is_none()) {
        parts.push(format!("GPU {index} {uuid} at {pci} is new"));
    }
    // Who is counted otherwise because another one went goes without saying.
    Some(if parts.is_empty() { counted } else { parts }.join(", "))
}

/// What is told where a node's GPUs differ so, and what is held back for it.
pub fn changed(node: &str, how: &str, held: &[String]) -> Block {
    let held = if held.is_empty() { String::new() } else { format!("; held back: {}", held.join(", ")) };
    Block {
        code: BlockCode::InventoryChanged,
        message: format!("its GPUs are not the accepted ones: {how}{held}"),
        object: node.to_owned(),
        hint: "see why; `sectile apply --accept-inventory` takes what is there now, and `uuid` or `pci` always mean \
               the same GPU"
            .to_owned(),
    }
}
