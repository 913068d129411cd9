//! What does not fit is explained: against every subset, on boards of every kind.

use sectile::model::{Geometry, GpuProfile, Wanted, catalogue};
use sectile::plan::misfit::{Misfit, explain, list};
use sectile::plan::placement::Want;

use super::oracle;

fn want(geometry: &Geometry, name: &str, start: Option<u32>) -> Want {
    let (profile, _) = geometry.resolve(name.parse().unwrap()).unwrap();
    let profile = geometry.profiles.iter().position(|p| p.id == profile.id).unwrap();
    Want { profile, start, compute: vec![] }
}

fn board(id: &str) -> Geometry {
    catalogue::by_id(id).unwrap().geometry().unwrap()
}

/// Whether wants lie on a board together, by trying every start of each.
fn fit<'g>(geometry: &'g Geometry, wants: &[&Want], set: &mut Vec<(&'g GpuProfile, u32)>) -> bool {
    let Some((first, rest)) = wants.split_first() else { return true };
    let p = &geometry.profiles[first.profile];
    p.starts.iter().filter(|start| first.start.is_none_or(|fixed| fixed == **start)).any(|&start| {
        set.push((p, start));
        let fits = oracle::legal(geometry, set) && fit(geometry, rest, set);
        set.pop();
        fits
    })
}

fn fits(geometry: &Geometry, wants: &[Want], of: impl Iterator<Item = usize>) -> bool {
    fit(geometry, &of.map(|at| &wants[at]).collect::<Vec<_>>(), &mut Vec::new())
}

#[test]
fn what_is_impossible_and_what_is_closest_is_what_trying_every_subset_finds() {
    let mut seed = 0x5ec7_11e5_u64;
    let mut throw = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let (mut cases, mut misfits) = (0, 0);
    for id in ["a30-24gb", "a100-40gb", "h100-80gb-sxm", "rtx-pro-6000-blackwell"] {
        let geometry = board(id);
        for _ in 0..120 {
            let wants: Vec<Want> = (0..1 + throw(7))
                .map(|_| {
                    let profile = throw(geometry.profiles.len());
                    let starts = &geometry.profiles[profile].starts;
                    let start = (throw(4) == 0).then(|| starts[throw(starts.len())]);
                    Want { profile, start, compute: vec![] }
                })
                .collect();
            let Misfit { impossible, closest } = explain(&geometry, &wants);
            let told = format!("{id}: {wants:?}: {impossible:?}, {closest:?}");
            cases += 1;
            let n = wants.len();
            let all = fits(&geometry, &wants, 0..n);
            assert_eq!(impossible.is_empty(), all, "{told}");
            if !all {
                misfits += 1;
                assert!(!fits(&geometry, &wants, impossible.iter().copied()), "{told}");
                for out in &impossible {
                    assert!(fits(&geometry, &wants, impossible.iter().copied().filter(|at| at != out)), "{told}");
                }
            }
            let key = |of: &[usize]| {
                let slices = |one: fn(&GpuProfile) -> u32| -> u32 {
                    of.iter().map(|at| one(&geometry.profiles[wants[*at].profile])).sum()
                };
                (of.len(), slices(|p| p.size), slices(|p| p.slices), std::cmp::Reverse(of.to_vec()))
            };
            let subsets = (0..1u32 << n).map(|mask| (0..n).filter(|at| mask >> at & 1 == 1).collect::<Vec<_>>());
            let best = subsets.filter(|of| fits(&geometry, &wants, of.iter().copied())).max_by_key(|of| key(of));
            assert_eq!(best.unwrap(), closest, "{told}");
        }
    }
    println!("{cases} sets, {misfits} of which do not fit");
    assert!(misfits > 200 && misfits < cases - 50, "{misfits} of {cases}");
}

#[test]
fn any_number_of_wants_is_explained() {
    let geometry = board("h100-80gb-sxm");
    let many: Vec<Want> = (0..64).map(|_| want(&geometry, "1g", None)).collect();
    let Misfit { impossible, closest } = explain(&geometry, &many);
    assert_eq!((impossible.len(), closest.len()), (8, 7));
    // 64 of each profile.
    let all = ["1g", "1g+me", "1g.20gb", "2g", "3g", "4g", "7g"];
    let many: Vec<Want> = all.iter().flat_map(|name| (0..64).map(|_| want(&geometry, name, None))).collect();
    let Misfit { impossible, closest } = explain(&geometry, &many);
    assert_eq!((impossible.len(), closest.len()), (2, 7));
    assert!(impossible.iter().all(|at| many[*at].profile == want(&geometry, "7g", None).profile));
}

#[test]
fn a_misfit_is_told_in_a_sentence_and_a_hint() {
    let geometry = board("h100-80gb-sxm");
    let wanted: Vec<Wanted> = [("4g", None), ("1g.10gb", Some(6)), ("4g", None)]
        .map(|(name, start)| Wanted { profile: name.parse().unwrap(), start, compute: None })
        .to_vec();
    let wants: Vec<Want> = wanted.iter().map(|w| want(&geometry, &w.profile.to_string(), w.start)).collect();
    let (message, hint) = explain(&geometry, &wants).sentences("H100", &wanted);
    assert_eq!(message, "2 × 4g can't lie on H100 together");
    assert_eq!(hint, "the closest that fits: 1 × 1g.10gb at 6, 1 × 4g");
    assert_eq!(list([].into_iter()), "nothing");
}
