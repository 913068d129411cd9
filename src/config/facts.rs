//! What selectors ask of a node and its GPUs.

use std::collections::BTreeMap;

use crate::model::{Known, ObservedGpu, ObservedNode, memory};

/// What selectors ask of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its labels; unknown without a cluster and without a word in `sectile.toml`.
    pub labels: Known<BTreeMap<String, String>>,
    /// Its GPUs.
    pub gpus: Vec<GpuFacts>,
    /// How its GPUs differ from those that were accepted, in words; `None`: they don't.
    pub changed: Option<String>,
}

/// What selectors ask of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuFacts {
    /// `GPU-…`.
    pub uuid: String,
    /// The PCI bus id, as NVML or lspci write it.
    pub pci: String,
    /// The index in PCI order.
    pub index: u32,
    /// NVML's name, with or without `NVIDIA `.
    pub model: String,
    /// The catalogue's id of the board, where it is known.
    pub board: Option<String>,
}

impl NodeFacts {
    /// What selectors ask of a node that was observed.
    pub fn of(node: &ObservedNode) -> NodeFacts {
        let gpu = |gpu: &ObservedGpu| GpuFacts {
            uuid: gpu.uuid.clone(),
            pci: gpu.pci.clone(),
            index: gpu.index,
            model: gpu.model.clone(),
            board: gpu.board.clone(),
        };
        NodeFacts {
            name: node.name.clone(),
            labels: node.labels.clone(),
            gpus: node.gpus.iter().map(gpu).collect(),
            changed: memory::difference(node),
        }
    }
}
