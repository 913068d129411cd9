//! The driver's arithmetic: what fits, what is left, where an instance goes by itself, ids and UUIDs. It shares no
//! code with the planner, so that each can catch the other's mistakes.

use sha2::{Digest as _, Sha256};

use super::board::{SimBoard, SimCompute, SimProfile};
use crate::model::Placement;
use crate::model::identity::push_hex;

/// An instance that is there: its profile's index, and where.
pub(crate) type Taken = (u32, Placement);

impl SimProfile {
    pub(crate) fn placements(&self) -> impl Iterator<Item = Placement> + '_ {
        self.starts.iter().map(|&start| Placement { start, size: self.size })
    }
}

impl SimBoard {
    /// Whether one more instance fits there: memory slices, the profile's maximum, compute slices, media engines.
    pub(crate) fn fits(&self, taken: &[Taken], profile: &SimProfile, at: Placement) -> bool {
        let alike = taken.iter().filter(|(index, _)| *index == profile.index).count();
        let others = || taken.iter().filter_map(|(index, _)| self.profile(*index));
        let slices: u32 = others().map(|p| p.slices).sum();
        let mut used = profile.media.into_iter().enumerate();
        let media = used.all(|(i, wanted)| {
            let count = |all: &[u32; 4]| all.get(i).copied().unwrap_or(0);
            others().map(|p| count(&p.media)).sum::<u32>().saturating_add(wanted) <= count(&self.media)
        });
        at.end() <= self.units
            && alike < profile.max as usize
            && slices.saturating_add(profile.slices) <= self.slices
            && media
            && !taken.iter().any(|(_, there)| there.overlaps(at))
    }

    /// How many more of a profile can be made, if nothing else is: packed greedily from the lowest start, capped by
    /// what the maximum leaves (the Free column of `nvidia-smi mig -lgip`).
    pub(crate) fn capacity(&self, taken: &[Taken], profile: &SimProfile) -> u32 {
        let mut taken = taken.to_vec();
        let mut count = 0;
        for at in profile.placements() {
            if self.fits(&taken, profile, at) {
                taken.push((profile.index, at));
                count += 1;
            }
        }
        count
    }

    /// Where the driver puts an instance by itself: where the sum of all profiles' remaining capacities stays
    /// largest, on a tie the lowest start.
    pub(crate) fn automatic(&self, taken: &[Taken], profile: &SimProfile) -> Option<Placement> {
        let free = profile.placements().filter(|at| self.fits(taken, profile, *at));
        free.max_by_key(|at| {
            let mut then = taken.to_vec();
            then.push((profile.index, *at));
            let left: u32 = self.profiles.iter().map(|p| self.capacity(&then, p)).sum();
            (left, std::cmp::Reverse(at.start))
        })
    }

    /// The id of a GPU instance: its node in the tree of halves, quarters and eighths, by memory size and physical
    /// start. On some GPUs the physical halves are swapped against the logical ones.
    pub(crate) fn gi_id(&self, at: Placement, half_swapped: bool) -> u32 {
        let parts = self.units.checked_div(at.size).unwrap_or(1).max(1);
        let swap = if half_swapped && parts > 1 { self.units / 2 } else { 0 };
        let physical = (at.start + swap).checked_rem(self.units).unwrap_or(0);
        // The ids of a level begin behind those of all levels above it: 0, 1, 3, 7.
        parts - 1 + physical.checked_div(at.size).unwrap_or(0)
    }
}

impl SimCompute {
    /// Where it may lie in a GPU instance, in compute slices: at multiples of its own slices.
    pub(crate) fn placements(&self, gi: &SimProfile) -> Vec<Placement> {
        let last = gi.slices.saturating_sub(self.slices);
        let step = self.slices.max(1) as usize;
        let starts = (0..=last).step_by(step).take(self.max as usize);
        starts.map(|start| Placement { start, size: self.slices }).collect()
    }
}

impl SimProfile {
    /// The compute instance profile with that index.
    pub(crate) fn compute(&self, index: u32) -> Option<&SimCompute> {
        self.compute.iter().find(|c| c.index == index)
    }

    /// The compute instance profile that fills the GPU instance: as many slices, and as many multiprocessors, since
    /// two may have the slices (on Hopper the double-memory 1g has its own).
    pub(crate) fn filling(&self) -> Option<&SimCompute> {
        let full = || self.compute.iter().filter(|c| c.slices == self.slices);
        full().find(|c| c.sm == self.sm).or_else(|| full().next())
    }

    /// Whether one more compute instance fits there.
    pub(crate) fn compute_fits(&self, taken: &[Taken], profile: &SimCompute, at: Placement) -> bool {
        let alike = taken.iter().filter(|(index, _)| *index == profile.index).count();
        at.end() <= self.slices && alike < profile.max as usize && !taken.iter().any(|(_, there)| there.overlaps(at))
    }

    /// How many more compute instances of a profile can be made.
    pub(crate) fn compute_capacity(&self, taken: &[Taken], profile: &SimCompute) -> u32 {
        let mut taken = taken.to_vec();
        let mut count = 0;
        for at in profile.placements(self) {
            if self.compute_fits(&taken, profile, at) {
                taken.push((profile.index, at));
                count += 1;
            }
        }
        count
    }

    /// Where the driver puts a compute instance by itself, by the same rule as GPU instances.
    pub(crate) fn compute_automatic(&self, taken: &[Taken], profile: &SimCompute) -> Option<Placement> {
        let free = profile.placements(self).into_iter().filter(|at| self.compute_fits(taken, profile, *at));
        free.max_by_key(|at| {
            let mut then = taken.to_vec();
            then.push((profile.index, *at));
            let left: u32 = self.compute.iter().map(|c| self.compute_capacity(&then, c)).sum();
            (left, std::cmp::Reverse(at.start))
        })
    }
}

/// Appends the first 16 bytes, grouped as in a UUID.
fn push_uuid(text: &mut String, bytes: &[u8]) {
    let mut rest = bytes;
    for length in [4, 2, 2, 2, 6] {
        let (group, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if rest.len() < bytes.len() {
            text.push('-');
        }
        push_hex(text, group);
        rest = after;
    }
}

/// The UUID of a MIG device: a hash over the GPU, the GPU instance's id and the first compute slice. The profile is
/// no part of it, so another profile at the same slot has the same UUID, also after a reboot.
pub(crate) fn mig_uuid(gpu_uuid: &str, gi_id: u32, syspipe: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(gpu_uuid.as_bytes());
    hash.update(b"\x0bSMC");
    hash.update(gi_id.to_le_bytes());
    hash.update(syspipe.to_le_bytes());
    let mut bytes = hash.finalize();
    // Version 5 and the variant of RFC 9562, as the driver sets them on its SHA-1.
    if let Some(version) = bytes.get_mut(6) {
        *version = (*version & 0x0f) | 0x50;
    }
    if let Some(variant) = bytes.get_mut(8) {
        *variant = (*variant & 0x3f) | 0x80;
    }
    let mut text = String::with_capacity("MIG-".len() + 36);
    text.push_str("MIG-");
    push_uuid(&mut text, &bytes);
    text
}
