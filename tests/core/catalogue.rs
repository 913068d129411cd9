//! The catalogue against the counted figures and against itself.

use std::collections::BTreeSet;

use sectile::model::catalogue::{self, IdScheme, Provenance};
use sectile::model::{ComputeName, Geometry, GpuProfile, Placement, ProfileName};

/// An independent count of legal layouts: sets of placements that share no memory slice and keep to the maxima, the
/// compute slices and the media engines.
struct Count<'a> {
    geometry: &'a Geometry,
    all: Vec<(&'a GpuProfile, Placement)>,
}

impl<'a> Count<'a> {
    fn of(geometry: &'a Geometry) -> Self {
        let all = geometry.profiles.iter().flat_map(|p| p.placements().map(move |at| (p, at))).collect();
        Count { geometry, all }
    }

    fn legal(&self, set: &[usize]) -> bool {
        let chosen: Vec<_> = set.iter().map(|i| self.all[*i]).collect();
        let apart = chosen.iter().enumerate().all(|(i, a)| chosen[..i].iter().all(|b| !a.1.overlaps(b.1)));
        let within = self
            .geometry
            .profiles
            .iter()
            .all(|p| chosen.iter().filter(|(q, _)| q.index == p.index).count() <= p.max_instances as usize);
        let slices = chosen.iter().map(|(p, _)| p.slices).sum::<u32>() <= self.geometry.slices;
        let media = (0..4).all(|i| {
            let used: u32 = chosen.iter().map(|(p, _)| p.engines.media()[i].unwrap_or(0)).sum();
            self.geometry.media[i].is_none_or(|total| used <= total)
        });
        apart && within && slices && media
    }

    fn grow(&self, set: &mut Vec<usize>, from: usize, found: &mut Vec<Vec<usize>>) {
        found.push(set.clone());
        for i in from..self.all.len() {
            set.push(i);
            if self.legal(set) {
                self.grow(set, i + 1, found);
            }
            set.pop();
        }
    }

    /// Placements, legal layouts with the empty one, maximal ones, multisets of profiles.
    fn figures(&self) -> (usize, usize, usize, usize) {
        let mut found = Vec::new();
        self.grow(&mut Vec::new(), 0, &mut found);
        let maximal = found.iter().filter(|set| {
            (0..self.all.len()).filter(|i| !set.contains(i)).all(|i| {
                let more: Vec<usize> = set.iter().copied().chain([i]).collect();
                !self.legal(&more)
            })
        });
        let multisets: BTreeSet<Vec<u32>> = found
            .iter()
            .map(|set| {
                let mut profiles: Vec<u32> = set.iter().map(|i| self.all[*i].0.index).collect();
                profiles.sort_unstable();
                profiles
            })
            .collect();
        (self.all.len(), found.len(), maximal.count(), multisets.len())
    }
}

/// The figures of a board, of the profiles that a rule picks.
fn figures(board: &str, rule: impl Fn(&GpuProfile) -> bool) -> (usize, usize, usize, usize) {
    let mut geometry = catalogue::by_id(board).unwrap().geometry().unwrap();
    geometry.profiles.retain(rule);
    Count::of(&geometry).figures()
}

const ME: u32 = 7;
const DOUBLE: u32 = 9;

#[test]
fn layouts_are_as_many_as_were_counted() {
    for board in ["a100-40gb", "a100-80gb", "h100-80gb-sxm"] {
        assert_eq!(figures(board, |p| p.index != ME && p.index != DOUBLE), (14, 298, 19, 38), "{board}");
        assert_eq!(figures(board, |p| p.index != ME), (18, 723, 78, 78), "{board} with the double-memory 1g");
        assert_eq!(figures(board, |_| true), (25, 2319, 239, 128), "{board} with +me");
    }
    let regular = |p: &GpuProfile| p.name.attribute.suffix().is_empty();
    assert_eq!(figures("a30-24gb", regular), (7, 26, 5, 10));
}

#[test]
fn every_board_of_the_facts_is_there() {
    assert_eq!(catalogue::all().count(), 21);
    let ids: BTreeSet<&str> = catalogue::all().map(|board| board.id).collect();
    assert_eq!(ids.len(), 21, "no id twice");
    let profiles: usize = catalogue::all().map(|board| board.profiles.len()).sum();
    assert_eq!(profiles, 141);
}

#[test]
fn geometry_is_there_where_ids_and_placements_are_known() {
    let without: Vec<&str> = catalogue::all().filter(|b| b.geometry().is_none()).map(|b| b.id).collect();
    assert_eq!(without, ["rtx-pro-6000d", "rtx-pro-5000-blackwell-48gb", "rtx-pro-4500-blackwell-32gb"]);
    let h20 = catalogue::by_id("h20-96gb").unwrap().geometry().unwrap();
    assert_eq!(h20.profiles[0].multiprocessors, None, "unknown multiprocessors do not hide a geometry");
}

#[test]
fn tables_agree_with_themselves() {
    for board in catalogue::all() {
        for profile in board.profiles {
            let what = format!("{} {}", board.id, profile.name);
            let name: ProfileName = profile.name.parse().expect(&what);
            assert_eq!(name.slices, profile.slices, "{what}");
            assert_eq!(name.to_string(), profile.name);
            assert!(profile.slices <= board.slices, "{what}");
            assert_eq!(profile.starts.is_some(), profile.size.is_some(), "{what}");
            assert_eq!(profile.graphics, profile.name.ends_with("+gfx"), "{what}");
            let fills: Vec<_> = profile.compute.iter().filter(|c| c.slices == profile.slices).collect();
            assert!(!fills.is_empty(), "{what}: something fills it");
            for compute in profile.compute {
                let parsed: ComputeName = compute.name.parse().expect(&what);
                assert_eq!((parsed.slices, parsed.of), (compute.slices, name), "{what}");
                assert!(compute.slices * compute.max_instances <= profile.slices, "{what} {}", compute.name);
                assert_eq!(compute.fills == Some(false), compute.slices < profile.slices, "{what}");
            }
            assert_eq!(board.compute(profile.index).len(), profile.compute.len(), "{what}");
        }
        let Some(geometry) = board.geometry() else { continue };
        assert_eq!(Some(geometry.units), board.units, "{}", board.id);
        assert_eq!(geometry.slices, board.slices, "{}", board.id);
        assert!(board.ids.is_some());
        let ids: BTreeSet<u32> = geometry.profiles.iter().map(|p| p.id).collect();
        assert_eq!(ids.len(), geometry.profiles.len(), "{}: no id twice", board.id);
        for p in &geometry.profiles {
            assert!(p.starts.is_sorted() && p.placements().all(|at| at.end() <= geometry.units), "{}", board.id);
        }
    }
}

#[test]
fn placements_and_engines_reproduce_every_maximum() {
    for board in catalogue::all() {
        let Some(geometry) = board.geometry() else { continue };
        for p in &geometry.profiles {
            // Alone on the GPU, packed from the lowest start, with no look at the maximum itself.
            let (mut end, mut count) = (0, 0);
            for at in p.placements().filter(|at| at.size == p.size) {
                let engines = (0..4).all(|i| match (p.engines.media()[i], geometry.media[i]) {
                    (Some(each), Some(total)) => each * (count + 1) <= total,
                    _ => true,
                });
                if at.start >= end && engines && p.slices * (count + 1) <= geometry.slices {
                    (end, count) = (at.end(), count + 1);
                }
            }
            assert_eq!(count, p.max_instances, "{} {}", board.id, p.name);
        }
    }
}

#[test]
fn what_is_unknown_says_so() {
    for board in catalogue::all() {
        let known = board.memory_total_mib.value.is_some();
        assert_eq!(known, board.memory_total_mib.from != Provenance::Unknown, "{}", board.id);
        assert_eq!(board.names.is_empty(), board.names_from == Provenance::Unknown, "{}", board.id);
        for p in board.profiles {
            assert_eq!(p.id.value.is_some(), p.id.from != Provenance::Unknown, "{} {}", board.id, p.name);
            let sm = p.multiprocessors;
            assert_eq!(sm.value.is_some(), sm.from != Provenance::Unknown, "{} {}", board.id, p.name);
            assert_eq!(p.starts.is_some(), p.placements_from != Provenance::Unknown, "{} {}", board.id, p.name);
        }
    }
    let inferred = catalogue::by_id("h200-141gb").unwrap();
    assert_eq!(inferred.profiles[0].placements_from, Provenance::Inferred);
    assert_eq!(inferred.profiles[0].id.from, Provenance::Hardware);
}

#[test]
fn boards_are_found_by_any_of_their_names() {
    let found = |name: &str| catalogue::by_name(name).map(|board| board.id);
    assert_eq!(found("NVIDIA H100 80GB HBM3"), Some("h100-80gb-sxm"));
    assert_eq!(found("h100 80gb hbm3"), Some("h100-80gb-sxm"));
    assert_eq!(found("nvidia a100-sxm4-40gb"), Some("a100-40gb"));
    assert_eq!(found("A100-SXM4-40GB"), Some("a100-40gb"), "an old driver's name");
    assert_eq!(found("NVIDIA A30-PCIE-24GB"), Some("a30-24gb"), "a mock's name");
    assert_eq!(found("h100-64gb"), Some("h100-64gb"), "an id, where nobody knows the name");
    assert_eq!(found("NVIDIA H100"), Some("h100-nvl-94gb"));
    assert_eq!(found("NVIDIA T4"), None);
    assert_eq!(found(""), None);
}

#[test]
fn modes_and_ids_follow_the_architecture() {
    for board in catalogue::all().filter(|board| board.mode_needs_reset.is_some()) {
        let ampere = board.architecture == "Ampere";
        assert_eq!((board.mode_needs_reset, board.mode_persistent), (Some(ampere), Some(ampere)), "{}", board.id);
        match board.ids {
            Some(IdScheme::Tree8) => assert_eq!(board.units, Some(8)),
            Some(IdScheme::Tree4) => assert!(matches!(board.units, Some(4 | 12))),
            None => assert_eq!(board.units, None),
        }
    }
}
