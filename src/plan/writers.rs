//! Other tools that write MIG state: two writers undo each other's work.

use std::collections::BTreeMap;

use crate::model::observed::{ForeignWriter, ObservedNode};
use crate::model::plan::{Block, BlockCode};
use crate::model::policy::{Policy, WriterRule};

/// Gates the DaemonSet of NVIDIA's mig-manager. The operator fills it only where it is missing or empty, so another
/// value lasts.
pub const MIG_MANAGER: &str = "nvidia.com/gpu.deploy.mig-manager";
/// Gates the DaemonSet of the operator's device plugin; what changes drivers or MIG states sets it to a word of its own.
const DEVICE_PLUGIN: &str = "nvidia.com/gpu.deploy.device-plugin";
/// What mig-manager is asked for.
const CONFIG: &str = "nvidia.com/mig.config";
/// What it says of itself.
const STATE: &str = "nvidia.com/mig.config.state";
/// nos partitions the GPUs of nodes that bear it.
const NOS: (&str, &str) = ("nos.nebuly.com/gpu-partitioning", "mig");

/// GKE partitions the GPUs of nodes that bear it, and owns their device plugin (GKE, multi-instance GPUs).
const GKE: &str = "cloud.google.com/gke-gpu-partition-size";

/// What is to be done about another writer on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// There is none.
    None,
    /// mig-manager is stood down first.
    StandDown,
    /// Nothing may be changed beside these.
    Blocks(Vec<Block>),
}

/// Whether another tool writes the node's MIG state.
pub fn found(policy: Option<&Policy>, node: &ObservedNode) -> Writer {
    let none = BTreeMap::new();
    let labels = node.labels.known().unwrap_or(&none);
    let label = |key: &str| labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let block = |message: String, hint: &str| Block {
        code: BlockCode::ForeignWriter,
        message,
        object: node.name.clone(),
        hint: hint.to_owned(),
    };
    let told = node.cluster.iter().flat_map(|cluster| &cluster.writers);
    let mut blocks: Vec<Block> = told.map(|writer| told_of(*writer)).map(|(what, hint)| block(what, hint)).collect();
    if label(NOS.0) == Some(NOS.1) {
        let message = format!("nos partitions its GPUs: label {}={}", NOS.0, NOS.1);
        blocks.push(block(message, "take the label off the node"));
    }
    if let Some(size) = label(GKE) {
        let message = format!("GKE partitions its GPUs: label {GKE}={size}");
        blocks.push(block(message, "make a node pool without that size, or take the node out of the layouts"));
    }
    let ours = node.cluster.as_ref().is_some_and(|cluster| cluster.clients_paused);
    if let Some(value) = label(DEVICE_PLUGIN).filter(|value| !["true", "false"].contains(value) && !ours) {
        let message = format!("somebody else has paused its device plugin: label {DEVICE_PLUGIN}={value}");
        blocks.push(block(message, "wait until it is done, or set the label to true where nobody works on the node"));
    }
    match mig_manager(policy, node, label) {
        Manager::None if blocks.is_empty() => Writer::None,
        Manager::StandDown if blocks.is_empty() => Writer::StandDown,
        Manager::None | Manager::StandDown => Writer::Blocks(blocks),
        Manager::Blocks(message, hint) => {
            blocks.push(block(message, hint));
            Writer::Blocks(blocks)
        }
    }
}

/// What the objects of a tool say, and how the node is handed over.
fn told_of(writer: ForeignWriter) -> (String, &'static str) {
    let (message, hint) = match writer {
        ForeignWriter::DynamicMig => (
            "NVIDIA's driver for dynamic resource allocation makes MIG devices on it by itself",
            "turn the driver's feature gate DynamicMIG off, or take the node out of the layouts",
        ),
        ForeignWriter::Hami => (
            "HAMi cuts its GPUs: it has registered them in its mode mig",
            "give the node another mode in the configuration of HAMi's device plugin, or take it out of the layouts",
        ),
        ForeignWriter::AcceleratorSlicer => (
            "the dynamic accelerator slicer cuts its GPUs: it offers resources mig.das.com/…",
            "uninstall the slicer or delete its NodeAccelerator of the node, or take the node out of the layouts",
        ),
    };
    (message.to_owned(), hint)
}

/// What is to be done about NVIDIA's mig-manager.
enum Manager {
    None,
    StandDown,
    /// Nothing may be changed beside it: why, and what helps.
    Blocks(String, &'static str),
}

fn mig_manager<'a>(policy: Option<&Policy>, node: &ObservedNode, label: impl Fn(&str) -> Option<&'a str>) -> Manager {
    let Some(config) = label(CONFIG).filter(|_| label(MIG_MANAGER) == Some("true")) else { return Manager::None };
    if let Some(state @ ("pending" | "rebooting")) = label(STATE) {
        return Manager::Blocks(format!("mig-manager is at work on it: {STATE}={state}"), "wait until it is done");
    }
    let message = format!("mig-manager writes its MIG state, too: {CONFIG}={config}");
    match policy.map(|policy| policy.mig_manager).unwrap_or_default() {
        // It is stood down by a label of the cluster's.
        _ if node.cluster.is_none() => {
            Manager::Blocks(message, "the node is in no cluster: correct its labels, or take it out of the layouts")
        }
        WriterRule::TakeOver => Manager::StandDown,
        WriterRule::Refuse => {
            Manager::Blocks(message, "set writers.mig_manager = \"take_over\", or take the node out of the layouts")
        }
    }
}
