//! Why a set of instances can't lie on a GPU together: which of them already can't, and the closest set that can.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::desired::Wanted;
use crate::model::geometry::Geometry;

use super::occupancy::Occupancy;
use super::placement::Want;

/// Why a set does not fit. All are indices into the wants, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// These can't lie on the GPU together, and would if any of them were missing; empty where all fit.
    pub impossible: Vec<usize>,
    /// These can: as many as can, of those sets one with the most slices, then one whose wants stand first.
    pub closest: Vec<usize>,
}

/// Explains what fits of a set and what does not. Any number of wants may be asked for: what is alike is counted.
pub fn explain(geometry: &Geometry, wants: &[Want]) -> Misfit {
    let kinds = kinds(geometry, wants);
    let all: Vec<usize> = kinds.iter().map(|kind| kind.members.len()).collect();
    let closest = search(geometry, &kinds, &all, 0);
    let fits = |counts: &[usize]| search(geometry, &kinds, counts, counts.iter().sum()) == counts;
    let mut impossible = all;
    if closest == impossible {
        return Misfit { impossible: Vec::new(), closest: indices(&kinds, &closest) };
    }
    // What can be left out is, the small before the large: few large ones tell more than many small ones.
    for at in (0..kinds.len()).rev() {
        while impossible.get(at).is_some_and(|n| *n > 0) {
            let fewer: Vec<usize> = impossible.iter().enumerate().map(|(k, n)| n - usize::from(k == at)).collect();
            if fits(&fewer) {
                break;
            }
            impossible = fewer;
        }
    }
    Misfit { impossible: indices(&kinds, &impossible), closest: indices(&kinds, &closest) }
}

/// Wants that are alike as far as room goes.
#[derive(Debug)]
struct Kind {
    profile: usize,
    /// Where it may lie, ascending.
    starts: Vec<u32>,
    /// Memory slices, then compute slices.
    slices: (u32, u32),
    /// Indices into the wants.
    members: Vec<usize>,
}

/// The kinds of a set, the largest first.
fn kinds(geometry: &Geometry, wants: &[Want]) -> Vec<Kind> {
    let mut kinds: BTreeMap<(usize, Option<u32>), Vec<usize>> = BTreeMap::new();
    for (at, want) in wants.iter().enumerate() {
        kinds.entry((want.profile, want.start)).or_default().push(at);
    }
    let kind = |((profile, start), members): ((usize, Option<u32>), Vec<usize>)| {
        let p = geometry.profiles.get(profile);
        let starts = p.map(|p| p.starts.clone()).unwrap_or_default();
        let starts = starts.into_iter().filter(|at| start.is_none_or(|start| start == *at)).collect();
        Kind { profile, starts, slices: p.map_or((0, 0), |p| (p.size, p.slices)), members }
    };
    let mut kinds: Vec<Kind> = kinds.into_iter().map(kind).collect();
    kinds.sort_by_key(|kind| (Reverse(kind.slices), kind.profile));
    kinds
}

/// The first wants of each kind, so many of each.
fn indices(kinds: &[Kind], counts: &[usize]) -> Vec<usize> {
    let first = kinds.iter().zip(counts).flat_map(|(kind, &n)| kind.members.iter().take(n).copied());
    let mut all: Vec<usize> = first.collect();
    all.sort_unstable();
    all
}

/// How many of each kind the closest set has that fits, where no more than `most` of each and no fewer than `least`
/// in all are looked for; none where there is no such set.
fn search(geometry: &Geometry, kinds: &[Kind], most: &[usize], least: usize) -> Vec<usize> {
    let mut search = Search {
        kinds,
        // A kind has no more instances than places.
        most: kinds.iter().zip(most).map(|(kind, &n)| n.min(kind.starts.len())).collect(),
        occupancy: Occupancy::new(geometry),
        counts: vec![0; kinds.len()],
        best: (least, (0, 0), Reverse(Vec::new()), vec![0; kinds.len()]),
    };
    search.descend(0, 0);
    search.best.3
}

struct Search<'a> {
    kinds: &'a [Kind],
    most: Vec<usize>,
    occupancy: Occupancy,
    counts: Vec<usize>,
    /// How many, their slices, which, and how many of each kind.
    best: (usize, (u32, u32), Reverse<Vec<usize>>, Vec<usize>),
}

impl Search<'_> {
    /// Looks at every layout of the kinds from this one on, its starts from that one on.
    fn descend(&mut self, at: usize, from: usize) {
        let behind: usize = self.most.iter().skip(at).zip(self.counts.iter().skip(at)).map(|(most, n)| most - n).sum();
        let count: usize = self.counts.iter().sum();
        if count + behind < self.best.0 || self.best.3 == self.most {
            return;
        }
        let Some(kind) = self.kinds.get(at) else { return self.offer(count) };
        let (profile, full) = (kind.profile, self.counts.get(at) >= self.most.get(at));
        let open = kind.starts.iter().enumerate().skip(from).find(|(_, start)| self.occupancy.admits(profile, **start));
        let Some((place, &start)) = open.filter(|_| !full) else { return self.descend(at + 1, 0) };
        self.occupancy.put(profile, start);
        self.counts.iter_mut().skip(at).take(1).for_each(|n| *n += 1);
        self.descend(at, place + 1);
        self.counts.iter_mut().skip(at).take(1).for_each(|n| *n -= 1);
        self.occupancy.take(profile, start);
        self.descend(at, place + 1);
    }

    fn offer(&mut self, count: usize) {
        let slices = self.kinds.iter().zip(&self.counts).fold((0, 0), |(memory, compute), (kind, &n)| {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            (memory + kind.slices.0 * n, compute + kind.slices.1 * n)
        });
        if (count, slices) >= (self.best.0, self.best.1) {
            let which = Reverse(indices(self.kinds, &self.counts));
            if (count, slices, &which) > (self.best.0, self.best.1, &self.best.2) {
                self.best = (count, slices, which, self.counts.clone());
            }
        }
    }
}

impl Misfit {
    /// What can't be, and the closest that can: a message and a hint.
    pub fn sentences(&self, model: &str, wanted: &[Wanted]) -> (String, String) {
        let of = |indices: &[usize]| list(indices.iter().filter_map(|&at| wanted.get(at)));
        let together = if self.impossible.len() > 1 { " together" } else { "" };
        let message = format!("{} can't lie on {model}{together}", of(&self.impossible));
        (message, format!("the closest that fits: {}", of(&self.closest)))
    }
}

/// `1 × 3g.40gb at 4, 2 × 1g.10gb`, or `nothing`.
pub fn list<'a>(wanted: impl Iterator<Item = &'a Wanted>) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for want in wanted {
        let at = want.start.map(|start| format!(" at {start}")).unwrap_or_default();
        *counts.entry(format!("{}{at}", want.profile)).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(name, n)| format!("{n} × {name}")).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}
