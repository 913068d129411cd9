//! The planner against enumerations of its own kind-free reading of the rules.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::{
    Desired, Geometry, Goal, NodePlan, Observed, Placement, Recorded, SharedGoal, Source, Wanted, catalogue,
};
use sectile::plan::assignment::{Offer, assign, classes};
use sectile::plan::crowd::{Crowd, Load};
use sectile::plan::placement::{Have, Score, Want, best};

use super::fleets::Run;

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
                    .map(|(i, &(profile, start))| {
                        let load = Load { weight: weight(i), ..Load::default() };
                        Have { profile, start, compute: vec![], load }
                    })
                    .collect();
                let kept = |layout: &Layout| -> u64 {
                    haves.iter().filter(|h| layout.contains(&(h.profile, h.start))).map(|h| h.load.weight).sum()
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
                let total: u64 = haves.iter().map(|h| h.load.weight).sum();
                assert_eq!(found.score.lost, total - most);
                assert_eq!(found.kept.iter().map(|&k| haves[k].load.weight).sum::<u64>(), most);
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
                    load: Load { weight: [1, 10_001][i % 2], users: (i % 2) as u32, groups: 0 },
                })
                .collect();
            let key = |layout: &Layout| {
                let lost = haves.iter().filter(|h| !layout.contains(&(h.profile, h.start)));
                let kept = haves.len() as u64 - lost.clone().count() as u64;
                (
                    lost.clone().map(|h| h.load.weight).sum::<u64>(),
                    lost.map(|h| u64::from(h.load.users)).sum::<u64>(),
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

fn planned(desired: &Desired, observed: &Observed) -> NodePlan {
    let plan = sectile::plan::plan(desired, observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(sectile::plan::check::check(desired, observed, &plan), []);
    plan.nodes.into_iter().next().unwrap()
}

/// One H100 without cluster, on which nothing is in use.
fn one(instances: &str, wanted: &str) -> (Desired, Observed) {
    let fleet = format!(
        "[[node]]\nname = \"n\"\ncluster = false\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nmig = true\ninstances = [{instances}]\n"
    );
    let layout = format!("nodes = [\"n\"]\n[[gpu]]\ninstances = [{wanted}]\n");
    let policy = "nodes = [\"*\"]\n[protect]\nprocesses = \"terminate\"\n";
    let run = Run::new(&fleet, &[("layouts/n.toml", &layout), ("policies/p.toml", policy)]);
    let observed = run.observe();
    (run.resolve(&observed), observed)
}

/// Whatever lay there when the node last converged lies there again after a reboot, in whatever order the tree has it.
#[test]
fn after_a_reboot_every_layout_comes_back() {
    let geometry = plain();
    let (mut desired, mut observed) = one("", "");
    let mut layouts = 0;
    for was in filled(&geometry) {
        layouts += 1;
        let name = |p: usize| geometry.profiles[p].name;
        let gpu = &mut observed.nodes.get_mut("n").unwrap().gpus[0];
        gpu.geometry = Some(geometry.clone().into());
        gpu.recorded = was.iter().map(|&(p, start)| Recorded { profile: name(p), start, compute: None }).collect();
        for turn in 0..was.len() {
            let mut wants: Vec<Wanted> =
                was.iter().map(|&(p, _)| Wanted { profile: name(p), start: None, compute: None }).collect();
            wants.rotate_left(turn);
            let uuid = observed.nodes["n"].gpus[0].uuid.clone();
            desired.nodes.get_mut("n").unwrap().gpus.get_mut(&uuid).unwrap().goal = Goal::Instances(wants);
            let plan = planned(&desired, &observed);
            let then: Layout = plan.gpus[0]
                .create
                .iter()
                .map(|i| (geometry.profiles.iter().position(|p| p.name == i.profile).unwrap(), i.start))
                .collect();
            assert_eq!(then, was);
        }
    }
    assert_eq!(layouts, 297);
}

fn filled(geometry: &Geometry) -> BTreeSet<Layout> {
    layouts(geometry).into_iter().filter(|layout| !layout.is_empty()).collect()
}

/// What keeps most need not disturb fewest: then nothing is called proved, and the bound is told.
#[test]
fn three_instances_of_one_user_outweigh_those_of_two_and_the_bound_says_that_one_would_do() {
    let on =
        |start: u32, pid: u32| format!("{{ profile = \"1g.10gb\", start = {start}, users = [\"process:{pid}/x\"] }}");
    let instances = [on(0, 1), on(1, 1), on(2, 1), on(4, 2), on(5, 3)].join(", ");
    let (desired, observed) = one(&instances, "\"3g\", \"1g\", \"1g\", \"1g\"");
    let plan = planned(&desired, &observed);
    let moved: Vec<&str> = plan.disruptions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(moved, ["2", "3"]);
    assert_eq!((plan.cost, plan.lower_bound, plan.optimal), (20_103, 10_100, false));
}

/// So many different entries that not every way to share the GPUs among them can be followed.
#[test]
fn where_too_many_ways_are_open_the_choice_is_legal_and_nothing_is_called_proved() {
    let n = 15;
    let uuid = |g: usize| format!("GPU-{g:02}");
    let entry = |at: usize| SharedGoal {
        goal: Goal::Instances(Vec::new()),
        count: 1,
        // Each may have all but one, so that all are different.
        eligible: (0..n).filter(|g| *g != at).map(uuid).collect(),
        source: Source { file: "layouts/n.toml".into(), line: at as u32 + 1 },
    };
    let entries: Vec<SharedGoal> = (0..n).map(entry).collect();
    let classes = classes(&entries);
    assert_eq!(classes.len(), n);
    // An entry costs most on the GPU behind it in the circle, and nothing on the one before it.
    let menu = |g: usize| -> Vec<Offer> {
        let offers = (0..n).filter(|at| *at != g).map(|at| {
            let lost = ((g + n - at) % n * 7 % n) as u64;
            Offer { class: Some(at), score: Score { lost, ..Score::default() }, groups: 0 }
        });
        offers.collect()
    };
    let menus: Vec<Vec<Offer>> = (0..n).map(menu).collect();
    let crowd = Crowd::default();
    let found = assign(&classes, &menus, &crowd).unwrap();
    assert!(!found.exact);
    let given: BTreeSet<usize> = found.picks.iter().map(|pick| pick.unwrap().entry.unwrap()).collect();
    assert_eq!(given.len(), n);
    for (g, pick) in found.picks.iter().enumerate() {
        assert_ne!(pick.unwrap().entry, Some(g));
    }
    assert_eq!(assign(&classes, &menus, &crowd).unwrap().picks, found.picks);
    // One fewer, and everything is looked at.
    let few: Vec<Vec<Offer>> =
        menus.iter().take(9).map(|m| m.iter().filter(|o| o.class < Some(9)).copied().collect()).collect();
    let entries: Vec<SharedGoal> = (0..9)
        .map(|at| SharedGoal { eligible: (0..9).filter(|g| *g != at).map(uuid).collect(), ..entry(at) })
        .collect();
    assert!(assign(&sectile::plan::assignment::classes(&entries), &few, &crowd).unwrap().exact);
}
