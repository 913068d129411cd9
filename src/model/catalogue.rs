//! Every board with MIG that is known, with the provenance of each figure. What a driver reports wins over it.

use super::geometry::{ComputeProfile, Geometry};

/// Where a figure comes from. *Inferred* is not *seen*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Printed by real hardware (nvidia-smi or NVML transcripts).
    Hardware,
    /// NVIDIA's documentation.
    Documentation,
    /// NVIDIA's open kernel modules.
    Kernel,
    /// NVIDIA's mig-parted or gpu-operator configuration.
    Configuration,
    /// A mock or test file of NVIDIA's.
    Mock,
    /// Inferred from another board of the family, or by arithmetic.
    Inferred,
    /// Unknown.
    Unknown,
}

/// A board.
#[derive(Debug)]
pub struct Board {
    /// `h100-80gb-sxm`.
    pub id: &'static str,
}

/// The board with that id.
pub fn by_id(_id: &str) -> Option<&'static Board> {
    None
}

/// The board that bears that NVML name, with or without `NVIDIA ` before it, in any case.
pub fn by_name(_name: &str) -> Option<&'static Board> {
    None
}

impl Board {
    /// What it can be cut into; `None` where placements are not known.
    pub fn geometry(&self) -> Option<Geometry> {
        None
    }

    /// Compute instance profiles of a GPU instance profile.
    pub fn compute(&self, _gi_index: u32) -> Vec<ComputeProfile> {
        Vec::new()
    }
}
