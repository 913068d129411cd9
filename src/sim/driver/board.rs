//! The catalogue's boards as a driver tells of them: NVML has no unknown figures, so those that no source has are
//! made up here, consistently, and only for the simulator.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::model::catalogue::{self, Board, BoardProfile};
use crate::ports::{CiProfileInfo, GiProfileInfo};

/// A driver's memory sizes are multiples of this (of all that were printed by real hardware).
const MEMORY_STEP_MIB: u64 = 64;
/// `NVML_GPU_INSTANCE_PROFILE_CAPS_GFX`, and the bit of the same meaning for compute instances.
const GI_CAPS_GFX: u32 = 2;
const CI_CAPS_GFX: u32 = 1;

/// A board with a value for every figure.
#[derive(Debug)]
pub(crate) struct SimBoard {
    pub(crate) catalogue: &'static Board,
    /// What NVML calls it.
    pub(crate) name: String,
    /// Memory slices; 0 where no placements are known, and then it offers no profile.
    pub(crate) units: u32,
    pub(crate) slices: u32,
    /// Decoder, encoder, JPEG and optical flow engines of the whole GPU.
    pub(crate) media: [u32; 4],
    pub(crate) memory_mib: u64,
    /// Switching MIG mode takes no reset, and the mode is gone after a reboot (Hopper and later).
    pub(crate) resetless: bool,
    pub(crate) profiles: Vec<SimProfile>,
}

/// A GPU instance profile with a value for every figure.
#[derive(Debug)]
pub(crate) struct SimProfile {
    pub(crate) name: &'static str,
    pub(crate) index: u32,
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) size: u32,
    pub(crate) starts: &'static [u32],
    pub(crate) max: u32,
    pub(crate) memory_mib: u64,
    pub(crate) sm: u32,
    pub(crate) copy: u32,
    pub(crate) media: [u32; 4],
    pub(crate) graphics: bool,
    pub(crate) compute: Vec<SimCompute>,
}

/// A compute instance profile with a value for every figure.
#[derive(Debug)]
pub(crate) struct SimCompute {
    pub(crate) name: &'static str,
    pub(crate) index: u32,
    pub(crate) slices: u32,
    pub(crate) max: u32,
    pub(crate) sm: u32,
}

impl SimBoard {
    /// The board with that id of the catalogue.
    pub(crate) fn of(id: &str) -> Option<&'static SimBoard> {
        static BOARDS: OnceLock<BTreeMap<&'static str, SimBoard>> = OnceLock::new();
        let boards = BOARDS.get_or_init(|| catalogue::all().map(|board| (board.id, SimBoard::new(board))).collect());
        boards.get(id)
    }

    /// The profile with that index in `NVML_GPU_INSTANCE_PROFILE_*`.
    pub(crate) fn profile(&self, index: u32) -> Option<&SimProfile> {
        self.profiles.iter().find(|p| p.index == index)
    }

    /// The profile with that hardware id.
    pub(crate) fn profile_by_id(&self, id: u32) -> Option<&SimProfile> {
        self.profiles.iter().find(|p| p.id == id)
    }

    fn new(board: &'static Board) -> Self {
        let units = board.units.unwrap_or(0);
        let memory_mib = board.memory_total_mib.value.unwrap_or_else(|| named_memory(board));
        let sm = board.multiprocessors.value.unwrap_or(0);
        let unit = board.profile(0).map_or([0; 4], |one| one.engines.media().map(|count| count.unwrap_or(0)));
        let whole = |p: &BoardProfile| p.size == Some(units) && p.slices == board.slices;
        let mut profiles: Vec<SimProfile> = board
            .profiles
            .iter()
            .filter_map(|p| {
                // Engines that no source has: as many as so many 1-slice instances have; the whole GPU has the most
                // that any profile has, too.
                let most = board.profiles.iter().map(|p| p.engines.media().map(|count| count.unwrap_or(0)));
                let most = most.fold([0; 4], |a, b| zip(a, b, u32::max));
                let guess = unit.map(|count| count.saturating_mul(p.slices));
                let guess = if whole(p) { zip(guess, most, u32::max) } else { guess };
                let known = p.engines.media();
                let media = std::array::from_fn(|i| {
                    let at = |a: &[u32; 4]| a.get(i).copied().unwrap_or(0);
                    known.get(i).copied().flatten().unwrap_or_else(|| at(&guess))
                });
                let share = |total: u64| total.saturating_mul(u64::from(p.size?)).checked_div(u64::from(units));
                let memory = p.memory_mib.value.or_else(|| share(memory_mib)).unwrap_or(0);
                let gi_sm = p.multiprocessors.value.unwrap_or_else(|| part(sm, p.slices, board.slices));
                Some(SimProfile {
                    name: p.name,
                    index: p.index,
                    id: p.id.value?,
                    slices: p.slices,
                    size: p.size?,
                    starts: p.starts?,
                    max: p.max_instances,
                    memory_mib: memory - memory % MEMORY_STEP_MIB,
                    sm: gi_sm,
                    copy: p.engines.copy.unwrap_or(p.slices),
                    media,
                    graphics: p.graphics,
                    compute: p
                        .compute
                        .iter()
                        .map(|c| SimCompute {
                            name: c.name,
                            index: c.index,
                            slices: c.slices,
                            max: c.max_instances,
                            sm: c.multiprocessors.value.unwrap_or_else(|| part(gi_sm, c.slices, p.slices)),
                        })
                        .collect(),
                })
            })
            .collect();
        profiles.sort_by_key(|p| p.index);
        let media = profiles.iter().find(|p| p.size == units && p.slices == board.slices).map_or([0; 4], |p| p.media);
        SimBoard {
            catalogue: board,
            name: board.names.first().map_or_else(|| format!("NVIDIA {}", board.id), |name| (*name).to_owned()),
            units,
            slices: board.slices,
            media,
            memory_mib,
            resetless: !board.mode_needs_reset.unwrap_or(false),
            profiles,
        }
    }
}

impl SimProfile {
    /// As NVML tells it.
    pub(crate) fn info(&self) -> GiProfileInfo {
        let [decoder_count, encoder_count, jpeg_count, ofa_count] = self.media;
        GiProfileInfo {
            id: self.id,
            slice_count: self.slices,
            instance_count: self.max,
            multiprocessor_count: self.sm,
            copy_engine_count: self.copy,
            decoder_count,
            encoder_count,
            jpeg_count,
            ofa_count,
            memory_size_mib: self.memory_mib,
            name: format!("MIG {}", self.name),
            capabilities: if self.graphics { GI_CAPS_GFX } else { 0 },
        }
    }
}

impl SimCompute {
    /// As NVML tells it; the engines are those of the GPU instance, shared.
    pub(crate) fn info(&self, of: &SimProfile) -> CiProfileInfo {
        let [shared_decoder_count, shared_encoder_count, shared_jpeg_count, shared_ofa_count] = of.media;
        CiProfileInfo {
            id: self.index,
            slice_count: self.slices,
            instance_count: self.max,
            multiprocessor_count: self.sm,
            shared_copy_engine_count: of.copy,
            shared_decoder_count,
            shared_encoder_count,
            shared_jpeg_count,
            shared_ofa_count,
            name: format!("MIG {}", self.name),
            capabilities: if of.graphics { CI_CAPS_GFX } else { 0 },
        }
    }
}

/// The memory that the largest profile's name tells.
fn named_memory(board: &Board) -> u64 {
    let names = board.profiles.iter().filter_map(|p| p.name.parse::<crate::model::ProfileName>().ok());
    names.filter_map(|name| name.memory_gb).max().map_or(0, |gb| u64::from(gb).saturating_mul(1024))
}

/// So many slices' part of the multiprocessors.
fn part(sm: u32, slices: u32, of: u32) -> u32 {
    sm.saturating_mul(slices).checked_div(of).unwrap_or(0)
}

fn zip(a: [u32; 4], b: [u32; 4], f: fn(u32, u32) -> u32) -> [u32; 4] {
    let mut b = b.into_iter();
    a.map(|x| f(x, b.next().unwrap_or(0)))
}
