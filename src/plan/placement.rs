//! One GPU: the legal layout of a wanted multiset that keeps the most of what runs, by exhaustive enumeration.
//!
//! The whole key, in this order: largest kept weight, fewest users disturbed, fewest creations, most room left (the
//! sum over the profiles of what still fits), lowest placements. At most about 150 layouts of one multiset exist on
//! the boards known today, so all are looked at.

use std::cmp::Reverse;

use crate::model::geometry::{Geometry, GpuProfile, Placement};
use crate::model::profile::ComputeName;

/// A wanted instance, resolved: its profile is an index into the geometry's profiles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// Index into [`Geometry::profiles`].
    pub profile: usize,
    /// A fixed start.
    pub start: Option<u32>,
    /// Compute instances, sorted.
    pub compute: Vec<ComputeName>,
}

/// An instance that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// Index into [`Geometry::profiles`].
    pub profile: usize,
    /// Its start.
    pub start: u32,
    /// Compute instances, sorted.
    pub compute: Vec<ComputeName>,
    /// What losing it costs.
    pub weight: u64,
    /// How many users it has.
    pub users: u32,
}

/// The best layout of a multiset: each want with its start, in the order of the wants as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// Start by want.
    pub starts: Vec<u32>,
    /// Which of the instances that are there stay, by index.
    pub kept: Vec<usize>,
    /// What is lost, kept and made.
    pub score: Score,
}

/// What a layout costs; the smallest is the best. Scores of several GPUs add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Weight of what is lost.
    pub lost: u64,
    /// Users disturbed.
    pub disturbed: u64,
    /// Instances created, and a mode change as several.
    pub created: u64,
    /// Room left.
    pub room: Reverse<u64>,
}

impl std::ops::Add for Score {
    type Output = Score;

    fn add(self, other: Score) -> Score {
        Score {
            lost: self.lost + other.lost,
            disturbed: self.disturbed + other.disturbed,
            created: self.created + other.created,
            room: Reverse(self.room.0 + other.room.0),
        }
    }
}

/// What is occupied on a GPU while instances are put on it.
#[derive(Clone, Debug)]
pub struct Occupancy<'a> {
    geometry: &'a Geometry,
    /// A bit for each memory slice; boards have at most 12 and drivers are not trusted past 64.
    units: u64,
    slices: u32,
    media: [u32; 4],
    counts: Vec<u32>,
}

impl<'a> Occupancy<'a> {
    /// An empty GPU.
    pub fn new(geometry: &'a Geometry) -> Self {
        Occupancy { geometry, units: 0, slices: 0, media: [0; 4], counts: vec![0; geometry.profiles.len()] }
    }

    fn mask(placement: Placement) -> Option<u64> {
        if placement.size == 0 || placement.end() > 64 {
            return None;
        }
        let ones = if placement.size == 64 { u64::MAX } else { (1u64 << placement.size) - 1 };
        Some(ones << placement.start)
    }

    /// Whether an instance of the profile may be put there now.
    pub fn admits(&self, profile: usize, start: u32) -> bool {
        let Some(p) = self.geometry.profiles.get(profile) else { return false };
        let placement = Placement { start, size: p.size };
        let Some(mask) = Self::mask(placement) else { return false };
        let count = self.counts.get(profile).copied().unwrap_or(u32::MAX);
        self.units & mask == 0
            && count < p.max_instances
            && self.slices + p.slices <= self.geometry.slices
            && p.starts.contains(&start)
            && self.media_left(p)
    }

    fn media_left(&self, profile: &GpuProfile) -> bool {
        let parts = self.media.iter().zip(self.geometry.media).zip(profile.engines.media());
        parts.into_iter().all(|((&used, total), more)| match (total, more) {
            (Some(total), Some(more)) => used + more <= total,
            _ => true,
        })
    }

    /// Puts an instance there; whoever calls has asked [`Occupancy::admits`], or knows that it lies there.
    pub fn put(&mut self, profile: usize, start: u32) {
        self.change(profile, start, true);
    }

    /// Takes it away again.
    pub fn take(&mut self, profile: usize, start: u32) {
        self.change(profile, start, false);
    }

    fn change(&mut self, profile: usize, start: u32, on: bool) {
        let Some(p) = self.geometry.profiles.get(profile) else { return };
        let mask = Self::mask(Placement { start, size: p.size }).unwrap_or(0);
        let step = |value: &mut u32, by: u32| *value = if on { *value + by } else { value.saturating_sub(by) };
        self.units = if on { self.units | mask } else { self.units & !mask };
        step(&mut self.slices, p.slices);
        for (used, more) in self.media.iter_mut().zip(p.engines.media()) {
            step(used, more.unwrap_or(0));
        }
        if let Some(count) = self.counts.get_mut(profile) {
            step(count, 1);
        }
    }

    /// How many more of a profile fit, alone: the driver's remaining capacity.
    pub fn capacity(&self, profile: usize) -> u32 {
        let Some(p) = self.geometry.profiles.get(profile) else { return 0 };
        let mut trial = self.clone();
        let mut fit = 0;
        for &start in &p.starts {
            if trial.admits(profile, start) {
                trial.put(profile, start);
                fit += 1;
            }
        }
        fit
    }

    /// The sum of all capacities.
    pub fn room(&self) -> u64 {
        (0..self.geometry.profiles.len()).map(|p| u64::from(self.capacity(p))).sum()
    }
}

struct Search<'a> {
    haves: &'a [Have],
    /// Wants in search order with their index in the caller's order.
    wants: Vec<(usize, &'a Want)>,
    starts: Vec<u32>,
    occupancy: Occupancy<'a>,
    best: Option<(Score, Vec<u32>)>,
}

/// The best layout of `wants` beside `haves`, or `None` where the wants can't lie on the GPU together.
pub fn best(geometry: &Geometry, wants: &[Want], haves: &[Have]) -> Option<Best> {
    let mut order: Vec<(usize, &Want)> = wants.iter().enumerate().collect();
    // Fixed ones first and large ones next prune most; equal wants must be neighbours (see `descend`).
    let size = |w: &Want| geometry.profiles.get(w.profile).map_or(0, |p| p.size);
    order.sort_by_key(|(_, w)| (w.start.is_none(), Reverse(size(w)), w.profile, &w.compute, w.start));
    let mut search =
        Search { haves, wants: order, starts: Vec::new(), occupancy: Occupancy::new(geometry), best: None };
    search.descend();
    let (score, found) = search.best?;
    let mut starts = vec![0; wants.len()];
    for (&(at, _), &start) in search.wants.iter().zip(&found) {
        if let Some(slot) = starts.get_mut(at) {
            *slot = start;
        }
    }
    let kept = (0..haves.len()).filter(|&h| {
        haves.get(h).is_some_and(|have| wants.iter().zip(&starts).any(|(want, &start)| same(want, start, have)))
    });
    Some(Best { kept: kept.collect(), starts, score })
}

/// Whether the instance that is there is the wanted one at that start.
fn same(want: &Want, start: u32, have: &Have) -> bool {
    have.profile == want.profile && have.start == start && have.compute == want.compute
}

impl Search<'_> {
    fn descend(&mut self) {
        let depth = self.starts.len();
        let Some(&(_, want)) = self.wants.get(depth) else { return self.score() };
        let Some(profile) = self.occupancy.geometry.profiles.get(want.profile) else { return };
        // Equal wants are interchangeable: looking at ascending starts alone looks at each layout once.
        let twin = depth.checked_sub(1).and_then(|d| self.wants.get(d)).filter(|(_, previous)| *previous == want);
        let floor = twin.and_then(|_| self.starts.last()).map_or(0, |&start| start + 1);
        for &start in &profile.starts {
            let allowed = start >= floor && want.start.is_none_or(|fixed| fixed == start);
            if allowed && self.occupancy.admits(want.profile, start) {
                self.occupancy.put(want.profile, start);
                self.starts.push(start);
                self.descend();
                self.starts.pop();
                self.occupancy.take(want.profile, start);
            }
        }
    }

    fn score(&mut self) {
        let (mut lost, mut disturbed, mut kept) = (0, 0, 0);
        for have in self.haves {
            let stays = self.wants.iter().zip(&self.starts).any(|((_, want), &start)| same(want, start, have));
            if stays {
                kept += 1;
            } else {
                lost += have.weight;
                disturbed += u64::from(have.users);
            }
        }
        let created = self.wants.len() as u64 - kept;
        let mut score = Score { lost, disturbed, created, room: Reverse(u64::MAX) };
        if let Some((best, _)) = &self.best
            && (score.lost, score.disturbed, score.created) > (best.lost, best.disturbed, best.created)
        {
            return;
        }
        score.room = Reverse(self.occupancy.room());
        // Layouts are met in ascending order of their starts, so an equal one met later is not lower.
        if self.best.as_ref().is_none_or(|(best, _)| score < *best) {
            self.best = Some((score, self.starts.clone()));
        }
    }
}
