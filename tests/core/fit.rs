//! Every legal layout of a set, and the reason where there is none, against counting all of them.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::{Geometry, ProfileName, catalogue};
use sectile::plan::fit::{chosen, layouts, places};
use sectile::plan::misfit::explain;
use sectile::plan::placement::{Occupancy, Want};

/// What lies where: profile by start.
type Layout = BTreeMap<u32, usize>;

/// Every legal layout of a board, by its multiset of profiles, slice by slice.
fn all(geometry: &Geometry, profiles: &BTreeSet<usize>) -> BTreeMap<Vec<usize>, BTreeSet<Layout>> {
    fn from(
        at: u32,
        occupancy: &mut Occupancy,
        geometry: &Geometry,
        profiles: &BTreeSet<usize>,
        layout: &mut Layout,
        found: &mut BTreeMap<Vec<usize>, BTreeSet<Layout>>,
    ) {
        if at == geometry.units {
            let mut set: Vec<usize> = layout.values().copied().collect();
            set.sort_unstable();
            found.entry(set).or_default().insert(layout.clone());
            return;
        }
        from(at + 1, occupancy, geometry, profiles, layout, found);
        for &profile in profiles {
            if occupancy.admits(profile, at) {
                occupancy.put(profile, at);
                layout.insert(at, profile);
                from(at + 1, occupancy, geometry, profiles, layout, found);
                layout.remove(&at);
                occupancy.take(profile, at);
            }
        }
    }
    let mut found = BTreeMap::new();
    from(0, &mut Occupancy::new(geometry), geometry, profiles, &mut Layout::new(), &mut found);
    found
}

fn want(profile: usize, start: Option<u32>) -> Want {
    Want { profile, start, compute: Vec::new() }
}

fn board(id: &str) -> Geometry {
    catalogue::by_id(id).unwrap().geometry().unwrap()
}

fn index(geometry: &Geometry, names: &[&str]) -> Vec<usize> {
    let index = |name: &&str| {
        let name: ProfileName = name.parse().unwrap();
        geometry.profiles.iter().position(|p| p.name == name).unwrap()
    };
    names.iter().map(index).collect()
}

#[test]
fn the_layouts_of_every_set_are_all_that_there_are() {
    // Counted before, from NVIDIA's own placements.
    let regular = ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"];
    for (names, layouts_known, sets_known) in [
        (regular.to_vec(), 298, 38),
        ([&regular[..], &["1g.20gb"]].concat(), 723, 78),
        ([&regular[..], &["1g.20gb", "1g.10gb+me"]].concat(), 2319, 128),
    ] {
        let geometry = board("h100-80gb-sxm");
        let profiles = index(&geometry, &names).into_iter().collect();
        let all = all(&geometry, &profiles);
        assert_eq!((all.values().map(BTreeSet::len).sum::<usize>(), all.len()), (layouts_known, sets_known));
    }
    for geometry in ["h100-80gb-sxm", "a30-24gb", "rtx-pro-6000-blackwell"].map(board) {
        let mut sets = 0;
        for (set, known) in all(&geometry, &(0..geometry.profiles.len()).collect()) {
            let wants: Vec<Want> = set.iter().map(|&profile| want(profile, None)).collect();
            let found = layouts(&geometry, &wants);
            let by_place = |starts: &Vec<u32>| -> Layout {
                places(&geometry, &wants, starts).into_iter().map(|(place, profile)| (place.start, profile)).collect()
            };
            assert_eq!(found.len(), known.len(), "{set:?}");
            assert_eq!(found.iter().map(by_place).collect::<BTreeSet<_>>(), known, "{set:?}");
            assert!(found.contains(&chosen(&geometry, &wants).unwrap()), "{set:?}");
            // A fixed place leaves those layouts that have it.
            if let Some(&profile) = set.first() {
                let start = *geometry.profiles[profile].starts.last().unwrap();
                let mut fixed = wants.clone();
                fixed[0].start = Some(start);
                let with = known.iter().filter(|layout| layout.get(&start) == Some(&profile)).count();
                assert_eq!(layouts(&geometry, &fixed).len(), with, "{set:?}");
            }
            sets += 1;
        }
        assert!(sets > 10);
    }
}

#[test]
fn what_is_called_impossible_is_and_what_is_called_closest_fits() {
    for geometry in ["h100-80gb-sxm", "a30-24gb", "rtx-pro-6000-blackwell"].map(board) {
        let fits = |wants: &[Want]| !layouts(&geometry, wants).is_empty();
        let known = all(&geometry, &(0..geometry.profiles.len()).collect());
        let mut misfits = 0;
        // Sets that fit, with one more than fits.
        for set in known.keys() {
            for more in 0..geometry.profiles.len() {
                let wants: Vec<Want> = set.iter().chain([&more]).map(|&profile| want(profile, None)).collect();
                if fits(&wants) || set.len() > 5 {
                    continue;
                }
                misfits += 1;
                let misfit = explain(&geometry, &wants);
                let part = |of: &[usize]| of.iter().map(|&i| wants[i].clone()).collect::<Vec<_>>();
                assert!(!fits(&part(&misfit.impossible)), "{wants:?} {misfit:?}");
                for left_out in &misfit.impossible {
                    let rest: Vec<usize> = misfit.impossible.iter().copied().filter(|i| i != left_out).collect();
                    assert!(fits(&part(&rest)), "{wants:?} {misfit:?}");
                }
                assert!(fits(&part(&misfit.closest)), "{wants:?} {misfit:?}");
                // The set without the one that is too much fits, so nothing smaller is the closest.
                assert_eq!(misfit.closest.len(), set.len(), "{wants:?} {misfit:?}");
            }
        }
        assert!(misfits > 10, "{misfits}");
    }
}
