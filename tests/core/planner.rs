//! The planner against enumerations of its own kind-free reading of the rules.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::{Geometry, Placement, catalogue};
use sectile::plan::placement::{Have, Want, best};

/// The first geometry of the counted figures: profiles 1g 2g 3g 4g 7g of an A100 or H100.
fn plain() -> Geometry {
    let mut geometry = catalogue::by_id("a100-40gb").unwrap().geometry().unwrap();
    geometry.profiles.retain(|p| [0, 1, 2, 3, 4].contains(&p.index));
    geometry
}

type Layout = BTreeSet<(usize, u32)>;

/// Every legal layout, by adding instances one at a time; legal means disjoint and within the compute slices.
fn layouts(geometry: &Geometry) -> BTreeSet<Layout> {
    let placements: Vec<(usize, Placement)> =
        geometry.profiles.iter().enumerate().flat_map(|(i, p)| p.placements().map(move |at| (i, at))).collect();
    let mut all: BTreeSet<Layout> = BTreeSet::from([Layout::new()]);
    let mut fresh = all.clone();
    while !fresh.is_empty() {
        let mut next = BTreeSet::new();
        for layout in &fresh {
            for (profile, at) in &placements {
                let clear = layout.iter().all(|(p, start)| {
                    let size = geometry.profiles[*p].size;
                    *start >= at.start + at.size || at.start >= *start + size
                });
                let mut grown = layout.clone();
                grown.insert((*profile, at.start));
                let slices: u32 = grown.iter().map(|(p, _)| geometry.profiles[*p].slices).sum();
                if clear && slices <= 7 && all.insert(grown.clone()) {
                    next.insert(grown);
                }
            }
        }
        fresh = next;
    }
    all
}

fn multiset(layout: &Layout) -> BTreeMap<usize, u32> {
    layout.iter().fold(BTreeMap::new(), |mut counts, (p, _)| {
        *counts.entry(*p).or_default() += 1;
        counts
    })
}

#[test]
fn of_all_10989_pairs_the_planner_keeps_what_an_enumeration_keeps() {
    let geometry = plain();
    let all = layouts(&geometry);
    assert_eq!(all.len(), 298);
    let targets: BTreeSet<_> = all.iter().map(multiset).filter(|m| !m.is_empty()).collect();
    assert_eq!(targets.len(), 37);
    let (mut pairs, mut forced) = (0, 0);
    for now in all.iter().filter(|l| !l.is_empty()) {
        for target in &targets {
            pairs += 1;
            // Two weightings: all alike, and all different (powers of two tell exactly which ones are kept).
            for weighting in 0..2 {
                let weight = |i: usize| if weighting == 0 { 1 } else { 1u64 << (i * 5 % 11) };
                let haves: Vec<Have> = now
                    .iter()
                    .enumerate()
                    .map(|(i, &(profile, start))| Have { profile, start, compute: vec![], weight: weight(i), users: 0 })
                    .collect();
                let kept = |layout: &Layout| -> u64 {
                    haves.iter().filter(|h| layout.contains(&(h.profile, h.start))).map(|h| h.weight).sum()
                };
                let most = all.iter().filter(|l| multiset(l) == *target).map(kept).max().unwrap();
                let wants: Vec<Want> = target
                    .iter()
                    .flat_map(|(&profile, &n)| (0..n).map(move |_| Want { profile, start: None, compute: vec![] }))
                    .collect();
                let found = best(&geometry, &wants, &haves).unwrap();
                let chosen: Layout = wants.iter().zip(&found.starts).map(|(w, &s)| (w.profile, s)).collect();
                assert!(all.contains(&chosen), "{chosen:?} is no legal layout");
                assert_eq!(multiset(&chosen), *target);
                assert_eq!(kept(&chosen), most, "from {now:?} to {target:?}");
                let total: u64 = haves.iter().map(|h| h.weight).sum();
                assert_eq!(found.score.lost, total - most);
                assert_eq!(found.kept.iter().map(|&k| haves[k].weight).sum::<u64>(), most);
                if weighting == 0 {
                    let claimed: u64 =
                        multiset(now).iter().map(|(p, n)| u64::from(*n.min(target.get(p).unwrap_or(&0)))).sum();
                    forced += u32::from(most < claimed);
                }
            }
        }
    }
    assert_eq!(pairs, 10_989);
    // Counted in the planning facts: so many pairs force an instance out that counting alone would claim to keep.
    assert_eq!(forced, 1_719);
}

/// The whole key, by brute force over every layout, on the smallest board and on samples of the larger geometries.
#[test]
fn the_whole_key_is_optimal_on_every_pair_of_an_a30() {
    let mut geometry = catalogue::by_id("a30-24gb").unwrap().geometry().unwrap();
    geometry.profiles.retain(|p| [0, 1, 3].contains(&p.index));
    geometry.slices = 4;
    let all: BTreeSet<Layout> = layouts(&geometry).into_iter().collect();
    assert_eq!(all.len(), 26);
    let free = |layout: &Layout| -> u64 {
        let fits = |p: usize| {
            let profile = &geometry.profiles[p];
            let clear = |start: &u32| {
                layout.iter().all(|(q, s)| *s >= start + profile.size || *start >= s + geometry.profiles[*q].size)
            };
            profile.starts.iter().filter(|s| clear(s)).count() as u64
        };
        (0..geometry.profiles.len()).map(fits).sum()
    };
    for now in &all {
        for target in all.iter().map(multiset).collect::<BTreeSet<_>>() {
            let haves: Vec<Have> = now
                .iter()
                .enumerate()
                .map(|(i, &(profile, start))| Have {
                    profile,
                    start,
                    compute: vec![],
                    weight: [1, 10_001][i % 2],
                    users: (i % 2) as u32,
                })
                .collect();
            let key = |layout: &Layout| {
                let lost = haves.iter().filter(|h| !layout.contains(&(h.profile, h.start)));
                let kept = haves.len() as u64 - lost.clone().count() as u64;
                (
                    lost.clone().map(|h| h.weight).sum::<u64>(),
                    lost.map(|h| u64::from(h.users)).sum::<u64>(),
                    layout.len() as u64 - kept,
                    std::cmp::Reverse(free(layout)),
                )
            };
            let least = all.iter().filter(|l| multiset(l) == target).map(key).min().unwrap();
            let wants: Vec<Want> = target
                .iter()
                .flat_map(|(&profile, &n)| (0..n).map(move |_| Want { profile, start: None, compute: vec![] }))
                .collect();
            let found = best(&geometry, &wants, &haves).unwrap();
            let chosen: Layout = wants.iter().zip(&found.starts).map(|(w, &s)| (w.profile, s)).collect();
            assert_eq!(key(&chosen), least, "from {now:?} to {target:?}");
        }
    }
}
