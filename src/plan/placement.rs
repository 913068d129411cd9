//! One GPU: the legal layout of a wanted multiset that keeps the most of what runs, by branch and bound.
//!
//! The whole key, in this order: largest kept weight, fewest users disturbed, fewest creations, most of what is created
//! where it was recorded, most room left (the sum over the profiles of what still fits), lowest placements.

use std::cmp::Reverse;

use crate::model::geometry::Geometry;
use crate::model::profile::ComputeName;

use super::crowd::{Crowd, Load};
pub use super::occupancy::Occupancy;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Index into [`Geometry::profiles`].
    pub profile: usize,
    /// Its start.
    pub start: u32,
    /// Compute instances, sorted.
    pub compute: Vec<ComputeName>,
    /// Who is on it.
    pub load: Load,
}

/// What is on a GPU now.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The GPU with nothing on it.
    pub empty: &'a Occupancy,
    /// Instances; of more than 64, which no board holds, those behind are lost.
    pub haves: &'a [Have],
    /// Profiles, as indices into [`Geometry::profiles`], and starts of what lay there when it last converged.
    pub recorded: &'a [(usize, u32)],
    /// Who is on the whole of it, and must leave where it is cut anew from nothing.
    pub whole: Load,
    /// Whether its MIG mode must be switched on.
    pub switched: bool,
    /// Everybody on the node.
    pub crowd: &'a Crowd,
}

/// The best layout of a multiset: each want with its start, in the order of the wants as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Best {
    /// Start by want.
    pub starts: Vec<u32>,
    /// Which of the instances that are there stay, by index.
    pub kept: Vec<usize>,
    /// What is lost, kept and made. Groups of users on several GPUs are not counted as disturbed here.
    pub score: Score,
    /// Those groups, where they are disturbed.
    pub groups: u128,
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
    /// Created instances that lie where they were recorded.
    pub returned: Reverse<u64>,
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
            returned: Reverse(self.returned.0 + other.returned.0),
            room: Reverse(self.room.0 + other.room.0),
        }
    }
}

/// The layout without instances, on a GPU whose MIG mode is off then: what that costs all who are there.
pub fn nothing(there: impl Iterator<Item = Load>, crowd: &Crowd) -> Best {
    let mut all = Load::default();
    there.for_each(|load| all.add(&load));
    let (disturbed, groups) = crowd.disturbed(&all);
    Best { score: Score { lost: all.weight, disturbed, ..Score::default() }, groups, ..Best::default() }
}

/// The best layout of `wants` beside `haves`, or `None` where the wants can't lie on the GPU together.
pub fn best(geometry: &Geometry, wants: &[Want], haves: &[Have]) -> Option<Best> {
    let crowd = Crowd::default();
    let empty = &Occupancy::new(geometry);
    let scene = Scene { empty, haves, recorded: &[], whole: Load::default(), switched: false, crowd: &crowd };
    options(geometry, wants, &scene).into_iter().next()
}

/// The best layouts for each choice of those on several GPUs to disturb, none of which is worse than another in all;
/// the lowest first, and none where the wants can't lie on the GPU together.
pub fn options(geometry: &Geometry, wants: &[Want], scene: &Scene<'_>) -> Vec<Best> {
    if !may_fit(geometry, wants) {
        return Vec::new();
    }
    let mut order: Vec<(usize, &Want)> = wants.iter().enumerate().collect();
    // Fixed ones first and large ones next prune most; equal wants must be neighbours (see `descend`).
    let size = |w: &Want| geometry.profiles.get(w.profile).map_or(0, |p| p.size);
    order.sort_by_key(|(_, w)| (w.start.is_none(), Reverse(size(w)), w.profile, &w.compute, w.start));
    let mut levels: Vec<Level> = order.iter().map(|(_, want)| Level::new(want, scene)).collect();
    let (mut later, mut back, mut run) = (0, 0, 1);
    for (at, level) in levels.iter_mut().enumerate().rev() {
        later |= level.whom;
        back += u64::from(level.recorded != 0);
        (level.later, level.back) = (later, back);
        level.twin = at.checked_sub(1).and_then(|before| order.get(before)).map(|o| o.1) == order.get(at).map(|o| o.1);
        level.run = run;
        run = if level.twin { run + 1 } else { 1 };
    }
    let occupancy = scene.empty.clone();
    let haves = scene.haves.iter().take(64);
    let mut search = Search {
        scene,
        there: haves.map(|have| (occupancy.slices(have.profile, have.start), have.load)).collect(),
        occupancy,
        starts: Vec::with_capacity(levels.len()),
        levels,
        kept: 0,
        returned: 0,
        found: Vec::new(),
    };
    search.descend();
    let mut found = search.found;
    found.sort_by(|a, b| a.starts.cmp(&b.starts));
    let worse = |a: &Found, b: &Found| b.groups & !a.groups == 0 && (b.score, &b.starts) < (a.score, &a.starts);
    let kept: Vec<bool> = found.iter().map(|a| !found.iter().any(|b| worse(a, b))).collect();
    found.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(found, _)| found.told(&order)).collect()
}

/// Whether the wants are few and small enough to be looked at: what is out of all proportion is not searched through.
fn may_fit(geometry: &Geometry, wants: &[Want]) -> bool {
    let (mut units, mut slices) = (0u32, 0u32);
    for (at, profile) in geometry.profiles.iter().enumerate() {
        let count = wants.iter().filter(|w| w.profile == at).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > profile.max_instances {
            return false;
        }
        units = units.saturating_add(profile.size.saturating_mul(count));
        slices = slices.saturating_add(profile.slices.saturating_mul(count));
    }
    units <= geometry.units && slices <= geometry.slices
}

/// A want in the order of the search.
#[derive(Debug)]
struct Level {
    profile: usize,
    /// Starts that it may have, as bits.
    allowed: u64,
    /// Starts where it is an instance that is there.
    keeps: u64,
    /// Instances that it may be, as bits.
    whom: u64,
    /// Those that it or a later want may be.
    later: u64,
    /// Starts where it was recorded.
    recorded: u64,
    /// How many of it and the later wants were recorded.
    back: u64,
    /// Whether it is equal to the want before it.
    twin: bool,
    /// How many wants in a row, it being the first, are equal.
    run: u32,
}

impl Level {
    fn new(want: &Want, scene: &Scene<'_>) -> Self {
        let bit = |start: u32| 1u64.checked_shl(start).unwrap_or(0);
        let allowed = want.start.map_or(u64::MAX, bit);
        let (mut keeps, mut whom) = (0, 0);
        for (h, have) in scene.haves.iter().enumerate().take(64) {
            if have.profile == want.profile && have.compute == want.compute && allowed & bit(have.start) != 0 {
                keeps |= bit(have.start);
                whom |= 1 << h;
            }
        }
        let was = scene.recorded.iter().filter(|(profile, _)| *profile == want.profile);
        let recorded = was.fold(0, |bits, (_, start)| bits | bit(*start));
        Level { profile: want.profile, allowed, keeps, whom, later: 0, recorded, back: 0, twin: false, run: 1 }
    }
}

/// A layout: starts in the order of the search, and kept instances as bits.
#[derive(Debug)]
struct Found {
    score: Score,
    groups: u128,
    starts: Vec<u32>,
    kept: u64,
}

impl Found {
    /// In the order of the wants as given.
    fn told(self, order: &[(usize, &Want)]) -> Best {
        let mut starts = vec![0; order.len()];
        for ((at, _), start) in order.iter().zip(self.starts) {
            if let Some(slot) = starts.get_mut(*at) {
                *slot = start;
            }
        }
        let kept = (0..64).filter(|h| self.kept >> h & 1 == 1).collect();
        Best { starts, kept, score: self.score, groups: self.groups }
    }
}

struct Search<'a> {
    scene: &'a Scene<'a>,
    levels: Vec<Level>,
    occupancy: Occupancy,
    /// What is there, and the slices that it takes.
    there: Vec<(u64, Load)>,
    starts: Vec<u32>,
    /// Kept so far, as bits.
    kept: u64,
    /// Created so far where it was recorded.
    returned: u64,
    /// The best for each choice of groups.
    found: Vec<Found>,
}

impl Search<'_> {
    fn descend(&mut self) {
        let (mut score, groups) = self.cost();
        if self.found.iter().any(|found| found.score.lost < score.lost) {
            return;
        }
        // Where nobody spans GPUs one layout is the best; else one for each choice of whom to disturb, which only a
        // greater weight rules out.
        if let Some(found) = self.found.first().filter(|_| self.scene.crowd.spanning == 0) {
            if (Score { room: score.room, ..found.score }) == score {
                // What is still to be placed leaves no more room than there is.
                score.room = Reverse(self.occupancy.room());
            }
            let prefix = found.starts.get(..self.starts.len()).unwrap_or_default();
            if (found.score, prefix) < (score, self.starts.as_slice()) {
                return;
            }
        }
        let Some(level) = self.levels.get(self.starts.len()) else { return self.offer(score, groups) };
        let Level { profile, keeps, recorded, run, .. } = *level;
        // Equal wants are interchangeable: looking at ascending starts alone looks at each layout once.
        let floor = if level.twin { self.starts.last().map_or(0, |last| last + 1) } else { 0 };
        let open = self.occupancy.starts(profile) & level.allowed & u64::MAX.checked_shl(floor).unwrap_or(0);
        if open.count_ones() < run {
            return;
        }
        // First what keeps something: the sooner a good layout is found, the more others need no look.
        let before = (self.kept, self.returned);
        for mut bits in [open & keeps, open & !keeps & recorded, open & !keeps & !recorded] {
            while bits != 0 && !self.is_perfect() {
                let start = bits.trailing_zeros();
                bits &= bits - 1;
                if keeps >> start & 1 == 1 {
                    self.kept |= self.there_at(start);
                } else {
                    self.returned += recorded >> start & 1;
                }
                self.occupancy.put(profile, start);
                self.starts.push(start);
                self.descend();
                self.starts.pop();
                self.occupancy.take(profile, start);
                (self.kept, self.returned) = before;
            }
        }
    }

    /// Whether a layout was found that changes nothing: all others lose or create something.
    fn is_perfect(&self) -> bool {
        let all = self.levels.len();
        self.found.iter().any(|found| found.kept.count_ones() as usize == all && self.there.len() == all)
    }

    /// The instance that the next want is there, as a bit.
    fn there_at(&self, start: u32) -> u64 {
        let whom = self.levels.get(self.starts.len()).map_or(0, |level| level.whom);
        let is = |h: &usize| whom >> h & 1 == 1 && self.scene.haves.get(*h).is_some_and(|have| have.start == start);
        (0..self.there.len()).find(is).map_or(0, |h| 1 << h)
    }

    /// What is lost in any case by now, at best: a bound for what is still to be placed, and the score of a whole
    /// layout.
    fn cost(&self) -> (Score, u128) {
        let open = (self.levels.len() - self.starts.len()) as u64;
        let (whom, back) = self.levels.get(self.starts.len()).map_or((0, 0), |level| (level.later, level.back));
        let taken = self.occupancy.units();
        let (mut lost, mut still) = (Load::default(), 0);
        for (h, (slices, load)) in self.there.iter().enumerate().filter(|(h, _)| self.kept >> h & 1 == 0) {
            if whom >> h & 1 == 1 && slices & taken == 0 {
                still += 1;
            } else {
                lost.add(load);
            }
        }
        let anew = self.kept == 0 && open == 0 && !self.levels.is_empty();
        if self.scene.switched || anew {
            lost.add(&self.scene.whole);
        }
        let kept = u64::from(self.kept.count_ones());
        let (disturbed, groups) = self.scene.crowd.disturbed(&lost);
        let score = Score {
            lost: lost.weight,
            disturbed,
            created: self.levels.len() as u64 - kept - open.min(still),
            returned: Reverse(self.returned + back),
            room: Reverse(u64::MAX),
        };
        (score, groups)
    }

    /// Takes a layout in where it is the best of its kind.
    fn offer(&mut self, mut score: Score, groups: u128) {
        score.room = Reverse(self.occupancy.room());
        let rival = self.found.iter().find(|found| found.groups == groups);
        if rival.is_some_and(|found| (found.score, &found.starts) <= (score, &self.starts)) {
            return;
        }
        self.found.retain(|found| found.groups != groups && found.score.lost <= score.lost);
        self.found.push(Found { score, groups, starts: self.starts.clone(), kept: self.kept });
    }
}
