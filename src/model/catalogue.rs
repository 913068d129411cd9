//! Every board with MIG that is known, with the provenance of each figure. What a driver reports wins over it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::closed::closed_list;
use super::geometry::{ComputeProfile, Engines, Geometry, GpuProfile};

mod table;

closed_list! {
    /// Where a figure comes from. *Inferred* is not *seen*.
    Provenance {
        /// Printed by real hardware (nvidia-smi or NVML transcripts).
        Hardware = "hardware",
        /// NVIDIA's documentation.
        Documentation = "documentation",
        /// NVIDIA's open kernel modules.
        Kernel = "kernel",
        /// NVIDIA's mig-parted or gpu-operator configuration.
        Configuration = "configuration",
        /// A mock or test file of NVIDIA's.
        Mock = "mock",
        /// Inferred from another board of the family, or by arithmetic.
        Inferred = "inferred",
        /// The public list of PCI names, which anybody may edit.
        PciNames = "pci-names",
        /// Unknown.
        Unknown = "unknown",
    }
}

/// A figure and where it comes from; no value and [`Provenance::Unknown`] go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Figure<T> {
    /// The value, where any source has it.
    pub value: Option<T>,
    /// The strongest source that has it.
    pub from: Provenance,
}

impl<T> Figure<T> {
    /// A figure that no source has.
    pub const UNKNOWN: Self = Figure { value: None, from: Provenance::Unknown };
}

/// How a driver numbers GPU instances: by size and physical start, never by counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdScheme {
    /// 0 the full GPU, 1 and 2 its halves, 3 to 6 quarters, 7 to 14 eighths.
    Tree8,
    /// 0 the full GPU, 1 and 2 its halves, 3 to 6 quarters.
    Tree4,
}

/// A board. Boards that differ in nothing but the name are one.
#[derive(Debug, Serialize)]
pub struct Board {
    /// `h100-80gb-sxm`.
    pub id: &'static str,
    /// NVML's names for it; none where no source has one.
    pub names: &'static [&'static str],
    /// Of the names.
    pub names_from: Provenance,
    /// Names that older drivers or mocks print.
    pub legacy_names: &'static [&'static str],
    /// `Ampere`, `Hopper`, `Blackwell`.
    pub architecture: &'static str,
    /// PCI device ids, without NVIDIA's vendor id 0x10de.
    pub pci_device_ids: &'static [u16],
    /// Of the PCI device ids.
    pub pci_from: Provenance,
    /// Total memory in MiB, as nvidia-smi prints it.
    pub memory_total_mib: Figure<u64>,
    /// Compute slices.
    pub slices: u32,
    /// Memory slices: the unit of placements.
    pub units: Option<u32>,
    /// Streaming multiprocessors with MIG mode off; the full GPU instance may have fewer.
    pub multiprocessors: Figure<u32>,
    /// The first driver with MIG on this board.
    pub min_driver: Figure<&'static str>,
    /// Whether switching MIG mode takes a GPU reset.
    pub mode_needs_reset: Option<bool>,
    /// Whether MIG mode survives a reboot.
    pub mode_persistent: Option<bool>,
    /// How GPU instances are numbered.
    pub ids: Option<IdScheme>,
    /// What else is worth knowing; often empty.
    pub note: &'static str,
    /// Profiles of GPU instances, as far as any source has them.
    pub profiles: &'static [BoardProfile],
}

/// A GPU instance profile of a board.
#[derive(Debug, Serialize)]
pub struct BoardProfile {
    /// `1g.10gb+me`; drivers may print another memory.
    pub name: &'static str,
    /// Of name, index and slices.
    pub name_from: Provenance,
    /// The index in `NVML_GPU_INSTANCE_PROFILE_*`.
    pub index: u32,
    /// The hardware id that nvidia-smi prints.
    pub id: Figure<u32>,
    /// Compute slices.
    pub slices: u32,
    /// Memory slices.
    pub size: Option<u32>,
    /// The starts of the legal placements, ascending.
    pub starts: Option<&'static [u32]>,
    /// Of size and starts.
    pub placements_from: Provenance,
    /// How many the GPU holds at most.
    pub max_instances: u32,
    /// Of the maximum.
    pub max_from: Provenance,
    /// Memory in MiB; differs by driver.
    pub memory_mib: Figure<u64>,
    /// Streaming multiprocessors.
    pub multiprocessors: Figure<u32>,
    /// Engines.
    pub engines: Engines,
    /// Of the engines that are known.
    pub engines_from: Provenance,
    /// Whether it is capable of graphics.
    pub graphics: bool,
    /// What else is worth knowing: contradicting sources, the driver it needs; often empty.
    pub note: &'static str,
    /// Profiles of its compute instances.
    pub compute: &'static [BoardCompute],
}

/// A compute instance profile of a GPU instance profile.
#[derive(Debug, Serialize)]
pub struct BoardCompute {
    /// `1c.3g.40gb`, or the GPU instance's name for one that fills it.
    pub name: &'static str,
    /// The index in `NVML_COMPUTE_INSTANCE_PROFILE_*`, and the id.
    pub index: u32,
    /// Compute slices.
    pub slices: u32,
    /// How many the GPU instance holds at most.
    pub max_instances: u32,
    /// Of slices and maximum.
    pub counts_from: Provenance,
    /// Streaming multiprocessors.
    pub multiprocessors: Figure<u32>,
    /// Whether it is the default that fills the GPU instance; unknown where two profiles might.
    pub fills: Option<bool>,
}

/// Every board that is known.
pub fn all() -> impl Iterator<Item = &'static Board> {
    table::BOARDS.iter().copied()
}

/// The board with that id.
pub fn by_id(id: &str) -> Option<&'static Board> {
    all().find(|board| board.id == id)
}

/// The board that bears that NVML name (or a legacy one, or the id), with or without `NVIDIA ` before it, in any case.
pub fn by_name(name: &str) -> Option<&'static Board> {
    let wanted = bare(name);
    let bears = |have: &&'static str| bare(have).eq_ignore_ascii_case(wanted);
    let named = |names: fn(&Board) -> &'static [&'static str]| all().find(|b| names(b).iter().any(bears));
    named(|b| b.names).or_else(|| named(|b| b.legacy_names)).or_else(|| all().find(|b| bears(&b.id)))
}

/// A name without the vendor before it.
fn bare(name: &str) -> &str {
    match name.split_at_checked("NVIDIA ".len()) {
        Some((vendor, rest)) if vendor.eq_ignore_ascii_case("NVIDIA ") => rest,
        _ => name,
    }
}

impl Board {
    /// What it can be cut into; `None` where ids, sizes or placements of any profile are not known, since a geometry
    /// that lacks a profile would call its instances free room.
    pub fn geometry(&self) -> Option<Geometry> {
        let profiles: Option<Vec<GpuProfile>> = self.profiles.iter().map(BoardProfile::for_geometry).collect();
        profiles.filter(|profiles| !profiles.is_empty()).map(Geometry::new)
    }

    /// The same, made once for all who ask.
    pub fn shared_geometry(&self) -> Option<Arc<Geometry>> {
        static SHARED: OnceLock<BTreeMap<&str, Arc<Geometry>>> = OnceLock::new();
        let made = || all().filter_map(|board| Some((board.id, Arc::new(board.geometry()?)))).collect();
        SHARED.get_or_init(made).get(self.id).cloned()
    }

    /// The profile with that index in `NVML_GPU_INSTANCE_PROFILE_*`.
    pub fn profile(&self, gi_index: u32) -> Option<&'static BoardProfile> {
        self.profiles.iter().find(|profile| profile.index == gi_index)
    }

    /// Compute instance profiles of the GPU instance profile with that index, ascending by their own; empty where
    /// the board has no such profile.
    pub fn compute(&self, gi_index: u32) -> Vec<ComputeProfile> {
        let rows = self.profile(gi_index).map_or(&[] as &[BoardCompute], |profile| profile.compute);
        let mut profiles: Vec<ComputeProfile> = rows
            .iter()
            .filter_map(|row| {
                Some(ComputeProfile {
                    index: row.index,
                    name: row.name.parse().ok()?,
                    slices: row.slices,
                    max_instances: row.max_instances,
                    multiprocessors: row.multiprocessors.value,
                })
            })
            .collect();
        profiles.sort_by_key(|profile| profile.index);
        profiles
    }
}

impl BoardProfile {
    fn for_geometry(&self) -> Option<GpuProfile> {
        Some(GpuProfile {
            name: self.name.parse().ok()?,
            index: self.index,
            id: self.id.value?,
            slices: self.slices,
            size: self.size?,
            starts: self.starts?.to_vec(),
            max_instances: self.max_instances,
            memory_mib: self.memory_mib.value,
            multiprocessors: self.multiprocessors.value,
            engines: self.engines,
        })
    }
}
