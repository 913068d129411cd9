//! Whether and where a set lies on an empty GPU: every legal layout of it, and the one that would be made.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::placement::{self, Occupancy, Want};
use crate::model::{Geometry, Placement};

/// Every legal layout of a set, as starts by want; two that put the same profiles on the same places are one.
pub fn layouts(geometry: &Geometry, wants: &[Want]) -> Vec<Vec<u32>> {
    let mut search = Search::new(geometry, wants);
    search.descend();
    let mut seen = BTreeSet::new();
    search.found.retain(|starts| seen.insert(places(geometry, wants, starts)));
    search.found.sort_by_key(|starts| places(geometry, wants, starts));
    search.found
}

/// The one that Sectile makes on an empty GPU; `None` where there is none.
pub fn chosen(geometry: &Geometry, wants: &[Want]) -> Option<Vec<u32>> {
    placement::best(geometry, wants, &[]).map(|best| best.starts)
}

/// What lies where in a layout, ascending.
pub fn places(geometry: &Geometry, wants: &[Want], starts: &[u32]) -> Vec<(Placement, usize)> {
    let size = |profile: usize| geometry.profiles.get(profile).map_or(0, |p| p.size);
    let place = |(want, &start): (&Want, &u32)| (Placement { start, size: size(want.profile) }, want.profile);
    let mut places: Vec<_> = wants.iter().zip(starts).map(place).collect();
    places.sort_unstable();
    places
}

struct Search<'a> {
    geometry: &'a Geometry,
    /// Wants in search order, with their indices.
    wants: Vec<(usize, &'a Want)>,
    starts: Vec<u32>,
    occupancy: Occupancy,
    found: Vec<Vec<u32>>,
}

impl<'a> Search<'a> {
    fn new(geometry: &'a Geometry, wants: &'a [Want]) -> Self {
        let size = |want: &Want| geometry.profiles.get(want.profile).map_or(0, |p| p.size);
        let mut wants: Vec<(usize, &Want)> = wants.iter().enumerate().collect();
        // Fixed ones first and large ones next prune most; equal wants must be neighbours.
        wants.sort_by_key(|(_, w)| (w.start.is_none(), Reverse(size(w)), w.profile, w.start));
        Search { geometry, starts: vec![0; wants.len()], wants, occupancy: Occupancy::new(geometry), found: vec![] }
    }

    fn descend(&mut self) {
        self.at(0, None);
    }

    /// Places the want at that depth and those behind it; `before`: the one placed last, and where.
    fn at(&mut self, depth: usize, before: Option<(&Want, u32)>) {
        let Some(&(at, want)) = self.wants.get(depth) else { return self.found.push(self.starts.clone()) };
        let Some(profile) = self.geometry.profiles.get(want.profile) else { return };
        // Equal wants are interchangeable: ascending starts alone look at each layout once.
        let floor = before.filter(|(twin, _)| *twin == want).map_or(0, |(_, start)| start + 1);
        for &start in &profile.starts {
            let allowed = start >= floor && want.start.is_none_or(|fixed| fixed == start);
            if allowed && self.occupancy.admits(want.profile, start) {
                self.occupancy.put(want.profile, start);
                if let Some(slot) = self.starts.get_mut(at) {
                    *slot = start;
                }
                self.at(depth + 1, Some((want, start)));
                self.occupancy.take(want.profile, start);
            }
        }
    }
}
