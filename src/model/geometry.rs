//! What one GPU can be cut into: its profiles with their legal placements and limits.

use serde::{Deserialize, Serialize};

use super::profile::{ComputeName, ProfileName};

/// Where an instance lies: `start` and `size` in the GPU's memory slices (for a compute instance: in the compute
/// slices of its GPU instance), as in `nvmlGpuInstancePlacement_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The first slice.
    pub start: u32,
    /// How many slices.
    pub size: u32,
}

impl Placement {
    /// The first slice behind it. Placements are bounded by what drivers report, so the sum saturates only on garbage.
    pub fn end(self) -> u32 {
        self.start.saturating_add(self.size)
    }

    /// Whether the two share a slice.
    pub fn overlaps(self, other: Placement) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// Engines of a profile or an instance; `None` is unknown (only the catalogue has unknown ones).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engines {
    /// Copy engines. Some boards share them, so they limit nothing.
    pub copy: Option<u32>,
    /// NVDEC engines.
    pub decoder: Option<u32>,
    /// NVENC engines.
    pub encoder: Option<u32>,
    /// NVJPG engines.
    pub jpeg: Option<u32>,
    /// Optical flow engines.
    pub ofa: Option<u32>,
}

impl Engines {
    /// The media engines, which are a budget of the whole GPU (inferred from the header's rule for `+me.all`
    /// and from all published maxima), in a fixed order: decoder, encoder, JPEG, optical flow.
    pub fn media(&self) -> [Option<u32>; 4] {
        [self.decoder, self.encoder, self.jpeg, self.ofa]
    }
}

/// A compute instance profile of a GPU instance profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeProfile {
    /// The index in `NVML_COMPUTE_INSTANCE_PROFILE_*`, which is also the id that nvidia-smi prints in every
    /// transcript seen.
    pub index: u32,
    /// `1c.3g.40gb`, or the GPU instance's own name for the one that fills it.
    pub name: ComputeName,
    /// Compute slices.
    pub slices: u32,
    /// How many a GPU instance holds at most.
    pub max_instances: u32,
    /// Streaming multiprocessors, where known.
    pub multiprocessors: Option<u32>,
}

/// A GPU instance profile as a driver reports it, or as the catalogue knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProfile {
    /// The name.
    pub name: ProfileName,
    /// The index in `NVML_GPU_INSTANCE_PROFILE_*`.
    pub index: u32,
    /// The hardware id that nvidia-smi prints and that all calls but the enumeration take.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Memory slices: the size of each placement.
    pub size: u32,
    /// The starts of the legal placements, ascending.
    pub starts: Vec<u32>,
    /// How many the GPU holds at most.
    pub max_instances: u32,
    /// Memory in MiB, where known; it differs by board and driver and is never compared.
    pub memory_mib: Option<u64>,
    /// Streaming multiprocessors, where known.
    pub multiprocessors: Option<u32>,
    /// Engines, where known.
    pub engines: Engines,
}

impl GpuProfile {
    /// The legal placements, ascending.
    pub fn placements(&self) -> impl Iterator<Item = Placement> + '_ {
        self.starts.iter().map(|&start| Placement { start, size: self.size })
    }
}

/// What a GPU can be cut into. Everything legal follows from the placements, the maxima, the compute slices and
/// the media engines; nothing is assumed of 7 or 8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Memory slices: the largest end over all placements (4 on A30, 12 on RTX PRO 6000, else 8).
    pub units: u32,
    /// Compute slices: those of the largest profile.
    pub slices: u32,
    /// Media engines of the whole GPU (decoder, encoder, JPEG, optical flow); `None` where unknown, and then no limit.
    pub media: [Option<u32>; 4],
    /// The profiles, ascending by index.
    pub profiles: Vec<GpuProfile>,
}

impl Geometry {
    /// Derives the totals from the profiles: the profile that spans every unit is the full GPU.
    pub fn new(mut profiles: Vec<GpuProfile>) -> Self {
        profiles.sort_by_key(|p| p.index);
        let ends = profiles.iter().flat_map(|p| p.placements().map(Placement::end));
        let units = ends.max().unwrap_or(0);
        let slices = profiles.iter().map(|p| p.slices).max().unwrap_or(0);
        let full = profiles.iter().find(|p| p.size == units && p.slices == slices);
        let media = full.map_or([None; 4], |p| p.engines.media());
        Geometry { units, slices, media, profiles }
    }

    /// The profile of that exact name.
    pub fn named(&self, name: ProfileName) -> Option<&GpuProfile> {
        self.profiles.iter().find(|p| p.name == name)
    }

    /// The profile with that hardware id.
    pub fn by_id(&self, id: u32) -> Option<&GpuProfile> {
        self.profiles.iter().find(|p| p.id == id)
    }

    /// The profile that a name in the tree means on this board, and whether it had to be bent to match.
    ///
    /// Exact names win. A name without memory means the regular profile: of those with the same slices and attribute
    /// the one with the least memory (so never the double-memory `1g.20gb`). Names drift by board and driver: one
    /// within 1 GB matches, nearest first, with a warning.
    pub fn resolve(&self, name: ProfileName) -> Option<(&GpuProfile, bool)> {
        if let Some(exact) = self.named(name) {
            return Some((exact, false));
        }
        let alike = |p: &&GpuProfile| p.slices == name.slices && p.name.attribute == name.attribute;
        match name.memory_gb {
            None => {
                let regular = self.profiles.iter().filter(alike).min_by_key(|p| (p.size, p.index))?;
                Some((regular, false))
            }
            Some(gb) => {
                let distance = |p: &GpuProfile| p.name.memory_gb.map(|have| have.abs_diff(gb));
                let near = self.profiles.iter().filter(alike).filter_map(|p| Some((distance(p)?, p)));
                let (distance, profile) = near.min_by_key(|(d, p)| (*d, p.index))?;
                (distance <= 1).then_some((profile, true))
            }
        }
    }

    /// Names of what the board offers, for messages.
    pub fn offers(&self) -> Vec<ProfileName> {
        self.profiles.iter().map(|p| p.name).collect()
    }
}
