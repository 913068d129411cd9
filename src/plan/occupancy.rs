//! What lies on one GPU and what still fits beside it: a table of bits, made once from the board's geometry.

use std::sync::Arc;

use crate::model::geometry::Geometry;

/// The budgets of a GPU that are no places: its compute slices, and each kind of media engine.
const BUDGETS: usize = 5;

/// A profile as bits.
#[derive(Debug)]
struct Row {
    /// Memory slices.
    size: u32,
    /// That many ones.
    shape: u64,
    /// A bit for each legal start.
    starts: u64,
    /// Whether no two of its placements overlap.
    apart: bool,
    /// What one takes of each budget; 0 where nobody knows, which limits nothing.
    takes: [u32; BUDGETS],
    most: u32,
}

/// What is occupied on a GPU while instances are put on it. A copy shares the table.
#[derive(Clone, Debug)]
pub struct Occupancy {
    rows: Arc<[Row]>,
    /// How many of each profile lie there.
    counts: Vec<u32>,
    /// A bit for each memory slice; boards have at most 12 and drivers are not trusted past 64.
    units: u64,
    total: [u32; BUDGETS],
    used: [u32; BUDGETS],
}

impl Occupancy {
    /// An empty GPU.
    pub fn new(geometry: &Geometry) -> Self {
        let [decoders, encoders, jpeg, optical] = geometry.media.map(|total| total.unwrap_or(u32::MAX));
        let total = [geometry.slices, decoders, encoders, jpeg, optical];
        let row = |p: &crate::model::geometry::GpuProfile| {
            let legal = p.starts.iter().filter(|start| p.size > 0 && start.saturating_add(p.size) <= 64);
            let starts = legal.fold(0u64, |bits, start| bits | 1 << start);
            let shape = if p.size >= 64 { u64::MAX } else { (1 << p.size) - 1 };
            let apart = p.starts.windows(2).all(|w| matches!(w, [a, b] if a.saturating_add(p.size) <= *b));
            let mut takes = [p.slices, 0, 0, 0, 0];
            for ((take, engines), total) in takes.iter_mut().skip(1).zip(p.engines.media()).zip(geometry.media) {
                *take = total.and(engines).unwrap_or(0);
            }
            Row { size: p.size, shape, starts, apart, takes, most: p.max_instances }
        };
        let rows: Arc<[Row]> = geometry.profiles.iter().map(row).collect();
        Occupancy { counts: vec![0; rows.len()], rows, units: 0, total, used: [0; BUDGETS] }
    }

    /// Whether an instance of the profile may be put there now.
    pub fn admits(&self, profile: usize, start: u32) -> bool {
        self.starts(profile).checked_shr(start).is_some_and(|bits| bits & 1 == 1)
    }

    /// A bit for each start where an instance of the profile may be put now.
    pub fn starts(&self, profile: usize) -> u64 {
        let Some((row, count)) = self.rows.get(profile).zip(self.counts.get(profile)) else { return 0 };
        if *count < row.most && self.affords(row, 1) { self.free(row) } else { 0 }
    }

    /// The slices that an instance of the profile would take there, as bits.
    pub fn slices(&self, profile: usize, start: u32) -> u64 {
        self.rows.get(profile).and_then(|row| row.shape.checked_shl(start)).unwrap_or(0)
    }

    /// The slices that are taken, as bits.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Legal starts whose slices are all free.
    fn free(&self, row: &Row) -> u64 {
        // A bit stays where a run of `size` free slices begins; each step doubles the run that it stands for.
        let (mut runs, mut have) = (!self.units, 1);
        while have < row.size {
            let step = have.min(row.size - have);
            runs &= runs.checked_shr(step).unwrap_or(0);
            have += step;
        }
        runs & row.starts
    }

    fn affords(&self, row: &Row, more: u32) -> bool {
        let parts = self.used.iter().zip(&self.total).zip(&row.takes);
        parts
            .into_iter()
            .all(|((used, total), takes)| *takes == 0 || takes.saturating_mul(more).saturating_add(*used) <= *total)
    }

    /// Puts an instance there; whoever calls has asked [`Occupancy::admits`], or knows that it lies there.
    pub fn put(&mut self, profile: usize, start: u32) {
        self.units |= self.slices(profile, start);
        let Some((row, count)) = self.rows.get(profile).zip(self.counts.get_mut(profile)) else { return };
        *count += 1;
        self.used.iter_mut().zip(row.takes).for_each(|(used, takes)| *used = used.saturating_add(takes));
    }

    /// Takes it away again.
    pub fn take(&mut self, profile: usize, start: u32) {
        self.units &= !self.slices(profile, start);
        let Some((row, count)) = self.rows.get(profile).zip(self.counts.get_mut(profile)) else { return };
        *count = count.saturating_sub(1);
        self.used.iter_mut().zip(row.takes).for_each(|(used, takes)| *used = used.saturating_sub(takes));
    }

    /// How many more of a profile fit, alone: the driver's remaining capacity.
    pub fn capacity(&self, profile: usize) -> u32 {
        self.rows.get(profile).zip(self.counts.get(profile)).map_or(0, |(row, count)| self.fit(row, *count))
    }

    fn fit(&self, row: &Row, count: u32) -> u32 {
        let mut free = self.free(row);
        let mut fit = 0;
        if row.apart {
            fit = free.count_ones();
        } else {
            // Of placements of one size, those that begin first leave most to the others.
            while free != 0 {
                let end = free.trailing_zeros() + row.size;
                free &= u64::MAX.checked_shl(end).unwrap_or(0);
                fit += 1;
            }
        }
        fit = fit.min(row.most.saturating_sub(count));
        while fit > 0 && !self.affords(row, fit) {
            fit -= 1;
        }
        fit
    }

    /// The sum of all capacities.
    pub fn room(&self) -> u64 {
        self.rows.iter().zip(&self.counts).map(|(row, count)| u64::from(self.fit(row, *count))).sum()
    }
}
