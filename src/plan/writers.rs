//! Other tools that write MIG state: two writers undo each other's work.

use std::collections::BTreeMap;

use crate::model::observed::ObservedNode;
use crate::model::plan::{Block, BlockCode};
use crate::model::policy::{Policy, WriterRule};

/// Gates the DaemonSet of NVIDIA's mig-manager. The operator fills it only where it is missing or empty, so another
/// value lasts.
pub const MIG_MANAGER: &str = "nvidia.com/gpu.deploy.mig-manager";
/// What mig-manager is asked for.
const CONFIG: &str = "nvidia.com/mig.config";
/// What it says of itself.
const STATE: &str = "nvidia.com/mig.config.state";
/// nos partitions the GPUs of nodes that bear it.
const NOS: (&str, &str) = ("nos.nebuly.com/gpu-partitioning", "mig");

/// What is to be done about another writer on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// There is none.
    None,
    /// mig-manager is stood down first.
    StandDown,
    /// Nothing may be changed beside it.
    Blocks(Block),
}

/// Whether another tool writes the node's MIG state.
pub fn found(policy: Option<&Policy>, node: &ObservedNode) -> Writer {
    let none = BTreeMap::new();
    let labels = node.labels.known().unwrap_or(&none);
    let label = |key: &str| labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let block = |message: String, hint: &str| {
        Writer::Blocks(Block {
            code: BlockCode::ForeignWriter,
            message,
            object: node.name.clone(),
            hint: hint.to_owned(),
        })
    };
    if label(NOS.0) == Some(NOS.1) {
        return block(format!("nos partitions its GPUs: label {}={}", NOS.0, NOS.1), "take the label off the node");
    }
    let Some(config) = label(CONFIG).filter(|_| label(MIG_MANAGER) == Some("true")) else { return Writer::None };
    if let Some(state @ ("pending" | "rebooting")) = label(STATE) {
        return block(format!("mig-manager is at work on it: {STATE}={state}"), "wait until it is done");
    }
    let message = format!("mig-manager writes its MIG state, too: {CONFIG}={config}");
    match policy.map(|policy| policy.mig_manager).unwrap_or_default() {
        // It is stood down by a label of the cluster's.
        _ if node.cluster.is_none() => {
            block(message, "the node is in no cluster: correct its labels, or take it out of the layouts")
        }
        WriterRule::TakeOver => Writer::StandDown,
        WriterRule::Refuse => {
            block(message, "set writers.mig_manager = \"take_over\", or take the node out of the layouts")
        }
    }
}
