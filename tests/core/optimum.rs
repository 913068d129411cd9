//! The planner against brute force over the whole key: one GPU of every board, and nodes of up to four GPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sectile::model::observed::PodPhase;
use sectile::model::policy::Processes;
use sectile::model::{
    Binding, ComputeInstance, ComputeName, Desired, DesiredNode, Digest, Geometry, Goal, GpuGoal, GpuInstance,
    GpuProfile, Known, MigMode, NodePlan, Observed, ObservedCluster, ObservedGpu, ObservedNode, Placement, Pod, Policy,
    ProfileName, Recorded, Revision, SharedGoal, Source, Target, User, Wanted, catalogue,
};
use sectile::plan;

use super::oracle::{self, Aim, Gpu, Instance, Node, Users, Wish};

/// Where the dice begin; printed with what fails.
const SEED: u64 = 0x5ec7_11e5;

/// Dice with a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// Whether something happens that happens so often in a hundred.
    fn percent(&mut self, n: usize) -> bool {
        self.throw(100) < n
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.throw(all.len())]
    }
}

/// Everything that a case is drawn from: who may be on things, and whether instances may be split.
struct Town {
    users: Vec<User>,
    in_cluster: bool,
}

fn filling(p: &GpuProfile) -> Vec<ComputeName> {
    vec![ComputeName::filling(p.name)]
}

/// Compute instances of a profile, sorted: mostly the one that fills it.
fn compute(dice: &mut Dice, p: &GpuProfile) -> Vec<ComputeName> {
    match dice.throw(6) {
        0 => Vec::new(),
        1 => {
            let first = 1 + dice.throw(p.slices as usize) as u32;
            let parts = [first, p.slices - first].into_iter().filter(|n| *n > 0);
            let mut all: Vec<_> = parts.map(|slices| ComputeName { slices, of: p.name }).collect();
            all.sort();
            all
        }
        _ => filling(p),
    }
}

/// A legal layout, of up to so many.
fn layout<'g>(dice: &mut Dice, geometry: &'g Geometry, most: usize) -> Vec<(&'g GpuProfile, u32)> {
    let mut set = Vec::new();
    for _ in 0..dice.throw(most + 1) {
        let p = dice.of(&geometry.profiles);
        set.push((p, *dice.of(&p.starts)));
        if !oracle::legal(geometry, &set) {
            set.pop();
        }
    }
    set.sort_by_key(|(_, start)| *start);
    set
}

fn users(dice: &mut Dice, town: &Town, busy: usize) -> Known<Vec<User>> {
    if dice.percent(3) {
        return Known::Unknown;
    }
    let n = if dice.percent(busy) { 1 + dice.throw(2) } else { 0 };
    let all: BTreeSet<User> = (0..n).map(|_| dice.of(&town.users).clone()).collect();
    Known::Known(all.into_iter().collect())
}

/// A GPU with something on it.
fn gpu(dice: &mut Dice, town: &Town, index: u32, board: &str, busy: usize) -> ObservedGpu {
    let geometry = catalogue::by_id(board).unwrap().geometry().unwrap();
    let there = layout(dice, &geometry, 9);
    let current = !there.is_empty() || dice.percent(60);
    let instances = there.iter().enumerate().map(|(at, (p, start))| {
        let split = if town.in_cluster { filling(p) } else { compute(dice, p) };
        let mut on = users(dice, town, busy);
        let parts = split.iter().enumerate().map(|(ci, profile)| ComputeInstance {
            profile: *profile,
            ci_id: ci as u32,
            uuid: format!("MIG-{index}-{at}-{ci}"),
            users: std::mem::replace(&mut on, Known::Known(vec![])),
        });
        let compute = parts.collect();
        GpuInstance {
            profile: p.name,
            placement: Placement { start: *start, size: p.size },
            gi_id: at as u32,
            compute,
            users: on,
        }
    });
    let instances: Vec<GpuInstance> = instances.collect();
    let recorded = if dice.percent(40) { layout(dice, &geometry, 9) } else { Vec::new() };
    ObservedGpu {
        uuid: format!("GPU-{index}"),
        index,
        pci: format!("00000000:{index:02X}:00.0"),
        model: board.to_owned(),
        board: Some(board.to_owned()),
        mig: MigMode { capable: true, current, pending: current, resetless: true },
        instances,
        recorded: recorded.into_iter().map(|(p, start)| Recorded { profile: p.name, start, compute: None }).collect(),
        users: if dice.percent(15) { users(dice, town, 80) } else { Known::Known(vec![]) },
        geometry: Some(geometry.into()),
    }
}

/// A name of a profile as a tree may write it, that means it on this board.
fn named(dice: &mut Dice, geometry: &Geometry, p: &GpuProfile) -> ProfileName {
    let bare = ProfileName { memory_gb: None, ..p.name };
    let drifted = ProfileName { memory_gb: p.name.memory_gb.map(|gb| gb + 1), ..p.name };
    let name = *dice.of(&[p.name, p.name, bare, drifted]);
    if geometry.resolve(name).is_some_and(|(found, _)| found.id == p.id) { name } else { p.name }
}

/// What may be wanted of a GPU: often what is there but for a little, in any order.
fn wanted(dice: &mut Dice, town: &Town, gpu: &ObservedGpu) -> Vec<Wanted> {
    let geometry = gpu.geometry.as_ref().unwrap();
    let mut set: Vec<(&GpuProfile, u32, Vec<ComputeName>)> = if dice.percent(50) {
        let there = gpu.instances.iter().map(|i| {
            let mut split: Vec<_> = i.compute.iter().map(|c| c.profile).collect();
            split.sort();
            (geometry.named(i.profile).unwrap(), i.placement.start, split)
        });
        there.filter(|_| dice.percent(75)).collect()
    } else {
        Vec::new()
    };
    for (p, start) in layout(dice, geometry, 9) {
        let mut grown: Vec<_> = set.iter().map(|(p, start, _)| (*p, *start)).collect();
        grown.push((p, start));
        // Some that can't lie there together are wanted, too.
        if oracle::legal(geometry, &grown) || dice.percent(3) {
            let split = if town.in_cluster { filling(p) } else { compute(dice, p) };
            set.push((p, start, split));
        }
    }
    let mut all: Vec<Wanted> = set
        .into_iter()
        .map(|(p, start, split)| {
            let compute = if split == filling(p) { None } else { Some(split) };
            Wanted { profile: named(dice, geometry, p), start: dice.percent(25).then_some(start), compute }
        })
        .collect();
    (1..all.len()).for_each(|at| all.swap(at, dice.throw(at + 1)));
    all
}

fn source(line: u32) -> Source {
    Source { file: "layouts/n.toml".into(), line }
}

/// A node and what is wanted of it.
struct Case {
    desired: Desired,
    observed: Observed,
}

const NODE: &str = "n";

/// Users that may be moved, that may not, and that a binding names.
fn town(dice: &mut Dice, size: usize) -> Town {
    let in_cluster = dice.percent(30);
    let users = (0..size).map(|n| match dice.throw(5) {
        0 | 1 if in_cluster => User::Pod { namespace: "ns".to_owned(), name: format!("p{n}") },
        0 | 1 => User::Process { pid: n as u32 + 1, name: "python3".to_owned() },
        2 => User::Unit(format!("unbound{n}.service")),
        3 => User::Pod { namespace: "ns".to_owned(), name: format!("static{n}") },
        _ => User::Command(format!("c{n}")),
    });
    Town { users: users.collect(), in_cluster }
}

fn case(
    dice: &mut Dice,
    town: &Town,
    gpus: Vec<ObservedGpu>,
    own: BTreeMap<String, GpuGoal>,
    shared: Vec<SharedGoal>,
) -> Case {
    let pod = |user: &User| match user {
        User::Pod { namespace, name } => Some(Pod {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: "u".to_owned(),
            node: Some(NODE.to_owned()),
            phase: PodPhase::Running,
            owner: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            requests: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            devices: Known::Unknown,
            empty_dir: false,
            mirror: name.starts_with("static"),
            grace_period_s: 30,
            barred: Default::default(),
            budgets: Default::default(),
            admitted: true,
            unschedulable: None,
            shared_claims: Default::default(),
        }),
        _ => None,
    };
    let held = |user: &User| {
        let all = gpus.iter().flat_map(|gpu| &gpu.instances);
        let all = all.filter(|i| i.all_users().known().is_some_and(|users| users.contains(user)));
        all.map(|i| i.profile).collect::<Vec<_>>()
    };
    let bindings = town.users.iter().filter_map(|user| match user {
        User::Command(name) => {
            let held = held(user);
            // Mostly what it holds is what it is bound to.
            let right = dice.percent(70);
            Some(Binding {
                name: name.clone(),
                target: Target::Command { drain: vec![], drained: vec![], resume: vec![], ready: vec![] },
                profile: held.first().copied().unwrap_or("1g".parse().unwrap()),
                per_replica: held.len().max(1) as u32 + u32::from(!right),
                manage: false,
                affinity: Default::default(),
                source: source(99),
            })
        }
        _ => None,
    });
    let bindings: Vec<Arc<Binding>> = bindings.map(Arc::new).collect();
    let mut policy = Policy::default();
    policy.protect.processes = Processes::Terminate;
    // Pods that nobody makes anew need no room elsewhere.
    policy.drain.force = true;
    let wanted = DesiredNode {
        node: NODE.to_owned(),
        layout: Some(source(1)),
        shadows: vec![],
        gpus: own,
        shared,
        bindings: bindings.clone(),
        policy: Some(Arc::new(policy)),
        held: BTreeMap::new(),
        blocked: vec![],
    };
    let cluster = ObservedCluster { pods: town.users.iter().filter_map(pod).collect(), ..ObservedCluster::default() };
    let node = ObservedNode {
        name: NODE.to_owned(),
        labels: Known::Known(BTreeMap::new()),
        gpus,
        lost: Default::default(),
        units: BTreeMap::new(),
        cluster: town.in_cluster.then(Default::default),
        device_files: Default::default(),
        gaps: vec![],
        inventory: vec![],
        suspended: None,
    };
    Case {
        desired: Desired {
            revision: Revision { name: None, digest: Digest::of([]) },
            nodes: BTreeMap::from([(NODE.to_owned(), wanted)]),
            bindings,
            peers: BTreeMap::new(),
            blocked: vec![],
        },
        observed: Observed { nodes: BTreeMap::from([(NODE.to_owned(), node)]), cluster },
    }
}

fn seen(users: &Known<Vec<User>>) -> Users {
    users.known().map(|users| users.iter().map(ToString::to_string).collect())
}

/// An instance as the oracle has it.
fn plain(profile: ProfileName, start: u32, compute: impl Iterator<Item = ComputeName>) -> Instance {
    let mut compute: Vec<ComputeName> = compute.collect();
    compute.sort();
    (profile, start, compute)
}

impl Case {
    fn node(&self) -> &ObservedNode {
        &self.observed.nodes[NODE]
    }

    fn plan(&self) -> NodePlan {
        let plan = plan::plan(&self.desired, &self.observed, jiff::Timestamp::UNIX_EPOCH);
        let broken = plan::check::check(&self.desired, &self.observed, &plan);
        let told: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "{told:#?}\n{:#?}\n{:#?}", self.desired.nodes, self.node());
        plan.nodes.into_iter().next().unwrap()
    }

    /// The same for the oracle.
    fn asked(&self) -> Node {
        let wanted = &self.desired.nodes[NODE];
        let aim = |gpu: &ObservedGpu, goal: &Goal| match goal {
            Goal::HandsOff => None,
            Goal::MigOff => Some(Aim::Off),
            Goal::Instances(all) => {
                let geometry = gpu.geometry.as_ref().unwrap();
                let wish = |w: &Wanted| -> Option<Wish> {
                    let (p, _) = geometry.resolve(w.profile)?;
                    let named = w.compute.clone().map(|all| {
                        let mut all: Vec<_> =
                            all.iter().map(|c| ComputeName { slices: c.slices, of: p.name }).collect();
                        all.sort();
                        all
                    });
                    Some((p.name, w.start, named.unwrap_or_else(|| filling(p))))
                };
                all.iter().map(wish).collect::<Option<_>>().map(Aim::Cut)
            }
        };
        let gpus = self.node().gpus.iter().map(|gpu| {
            let there = gpu.instances.iter().map(|i| {
                let on = plain(i.profile, i.placement.start, i.compute.iter().map(|c| c.profile));
                (on, seen(&i.all_users()))
            });
            let shared = wanted.shared.iter().enumerate().filter(|(_, s)| s.eligible.contains(&gpu.uuid));
            Gpu {
                geometry: gpu.geometry.as_deref().unwrap().clone(),
                mode: gpu.mig.current,
                there: there.collect(),
                whole: seen(&gpu.users),
                recorded: gpu.recorded.iter().map(|r| (r.profile, r.start)).collect(),
                own: wanted.gpus.get(&gpu.uuid).and_then(|own| aim(gpu, &own.goal)),
                shared: shared.filter_map(|(at, s)| Some((at, aim(gpu, &s.goal)?))).collect(),
            }
        });
        // Who is bound to other than what it holds is moved in any case.
        let forced = wanted.bindings.iter().filter(|b| {
            let user = User::Command(b.name.clone());
            let all = self.node().gpus.iter().flat_map(|gpu| &gpu.instances);
            let held: Vec<_> = all.filter(|i| i.all_users().known().is_some_and(|u| u.contains(&user))).collect();
            let meant = self.node().gpus[0].geometry.as_ref().unwrap().resolve(b.profile);
            let meant = meant.map_or(b.profile, |(p, _)| p.name);
            !held.is_empty() && (held.len() as u32 != b.per_replica || held.iter().any(|i| i.profile != meant))
        });
        let refused = |user: &&String| user.starts_with("unit:") || user.starts_with("pod:ns/static");
        let gpus: Vec<Gpu> = gpus.collect();
        let all = gpus.iter().flat_map(|gpu| gpu.there.iter().map(|(_, users)| users).chain([&gpu.whole]));
        let all: BTreeSet<String> = all.flatten().flatten().cloned().collect();
        Node {
            counts: wanted.shared.iter().map(|s| s.count as usize).collect(),
            refused: all.iter().filter(refused).cloned().collect(),
            forced: forced.map(|b| format!("command:{}", b.name)).collect(),
            gpus,
        }
    }

    /// Holds the plan against the oracle; whether everybody who wants GPUs got them.
    fn compare(&self, told: &str) -> bool {
        let plan = self.plan();
        let mut asked = self.asked();
        let mut best = asked.best();
        let met = best.is_some();
        if !met {
            // Then nothing is given to anybody, and the others are cut.
            asked.counts.clear();
            asked.gpus.iter_mut().for_each(|gpu| gpu.shared.clear());
            best = asked.best();
        }
        let best = best.unwrap();
        let wanted = &self.desired.nodes[NODE];
        for ((gpu, listed), should) in self.node().gpus.iter().zip(&plan.gpus).zip(&best.gpus) {
            let instances = listed.keep.iter().chain(&listed.create);
            let mut then: Vec<Instance> =
                instances.map(|i| plain(i.profile, i.start, i.compute.iter().map(|c| c.profile))).collect();
            then.sort();
            let there = gpu.instances.iter();
            let mut left: Vec<Instance> =
                there.map(|i| plain(i.profile, i.placement.start, i.compute.iter().map(|c| c.profile))).collect();
            left.sort();
            let (entry, mode, layout) = should.clone().unwrap_or((None, gpu.mig.current, left));
            let context = || format!("{told}: {} of {:#?}\n{:#?}\n{:#?}", gpu.uuid, wanted, self.node(), best);
            assert_eq!((listed.mig.then, &then), (mode, &layout), "{}", context());
            let shared = wanted.shared.iter().position(|s| Some(&s.source) == listed.source.as_ref());
            assert_eq!(shared, entry, "{}", context());
        }
        // What the plan says of itself: it is proved where no choice disturbs fewer.
        let (disturbed, fewest) = (best.key.1 as u64, best.fewest as u64);
        assert_eq!(plan.cost / 10_000, disturbed, "{told}: {wanted:#?}\n{:#?}", self.node());
        assert_eq!(plan.optimal, disturbed == fewest, "{told}: {wanted:#?}\n{:#?}", self.node());
        let bound = if disturbed == fewest { plan.cost } else { fewest * 10_000 + if fewest > 0 { 100 } else { 0 } };
        assert_eq!(plan.lower_bound, bound, "{told}");
        met
    }
}

/// Every board whose geometry is known.
fn boards() -> Vec<&'static str> {
    catalogue::all().filter(|board| board.geometry().is_some()).map(|board| board.id).collect()
}

/// One GPU that one entry claims.
fn alone(dice: &mut Dice, town: &Town, gpu: ObservedGpu, goal: Goal) -> Case {
    let own = GpuGoal { goal, source: source(2), shadows: vec![] };
    case(dice, town, vec![gpu], BTreeMap::from([("GPU-0".to_owned(), own)]), vec![])
}

#[test]
fn one_gpu_of_every_board_becomes_what_brute_force_finds() {
    let mut dice = Dice(SEED);
    let (mut cases, mut fits) = (0, 0);
    for board in boards() {
        for round in 0..60 {
            let size = 1 + dice.throw(5);
            let town = town(&mut dice, size);
            let gpu = gpu(&mut dice, &town, 0, board, 60);
            let goal = if dice.percent(5) { Goal::MigOff } else { Goal::Instances(wanted(&mut dice, &town, &gpu)) };
            let case = alone(&mut dice, &town, gpu, goal);
            case.compare(&format!("seed {SEED:#x}, {board}, round {round}"));
            cases += 1;
            fits += u32::from(
                case.plan().gpus[0].mig.then
                    && !case.plan().blocked.iter().any(|b| b.code.to_string() == "does-not-fit"),
            );
        }
    }
    println!("seed {SEED:#x}: {cases} cases, {fits} of which fit");
    assert!(cases >= 1000 && fits * 4 > cases * 3, "{fits} of {cases}");
}

/// Every legal set of placements of a geometry.
fn all_layouts(geometry: &Geometry) -> BTreeSet<BTreeSet<(usize, u32)>> {
    let mut all = BTreeSet::from([BTreeSet::new()]);
    let mut fresh = all.clone();
    while !fresh.is_empty() {
        let mut next = BTreeSet::new();
        for set in &fresh {
            for (at, p) in geometry.profiles.iter().enumerate() {
                for &start in &p.starts {
                    let mut grown: BTreeSet<(usize, u32)> = set.clone();
                    let set = |grown: &BTreeSet<(usize, u32)>| {
                        grown.iter().map(|(p, start)| (&geometry.profiles[*p], *start)).collect::<Vec<_>>()
                    };
                    if grown.insert((at, start)) && oracle::legal(geometry, &set(&grown)) && all.insert(grown.clone()) {
                        next.insert(grown);
                    }
                }
            }
        }
        fresh = next;
    }
    all
}

/// All of an A30, its `+me` profiles included: every layout that may be there, and every multiset that may be wanted.
#[test]
fn every_layout_of_an_a30_becomes_every_multiset_as_brute_force_finds() {
    let geometry = catalogue::by_id("a30-24gb").unwrap().geometry().unwrap();
    let all = all_layouts(&geometry);
    let multiset = |set: &BTreeSet<(usize, u32)>| {
        let mut profiles: Vec<usize> = set.iter().map(|(p, _)| *p).collect();
        profiles.sort_unstable();
        profiles
    };
    let targets: BTreeSet<Vec<usize>> = all.iter().map(multiset).collect();
    let mut dice = Dice(SEED ^ 1);
    let mut cases = 0;
    for there in &all {
        let size = 1 + dice.throw(3);
        let town = town(&mut dice, size);
        let mut now = gpu(&mut dice, &town, 0, "a30-24gb", 0);
        now.mig.current = true;
        now.instances = there
            .iter()
            .enumerate()
            .map(|(at, &(p, start))| {
                let p = &geometry.profiles[p];
                GpuInstance {
                    profile: p.name,
                    placement: Placement { start, size: p.size },
                    gi_id: at as u32,
                    compute: vec![ComputeInstance {
                        profile: ComputeName::filling(p.name),
                        ci_id: 0,
                        uuid: format!("MIG-{at}"),
                        users: users(&mut dice, &town, 60),
                    }],
                    users: Known::Known(vec![]),
                }
            })
            .collect();
        now.instances.sort_by_key(|i| i.placement.start);
        for target in &targets {
            let want = |p: &usize| Wanted { profile: geometry.profiles[*p].name, start: None, compute: None };
            let goal = Goal::Instances(target.iter().map(want).collect());
            let case = alone(&mut dice, &town, now.clone(), goal);
            case.compare(&format!("seed {:#x}, from {there:?} to {target:?}", SEED ^ 1));
            cases += 1;
        }
    }
    println!("seed {:#x}: {} layouts, {} multisets, {cases} cases", SEED ^ 1, all.len(), targets.len());
    assert_eq!(cases, all.len() * targets.len());
}

/// Nodes of up to four GPUs: entries that claim GPUs, entries with `count`, `mig = false`, `managed = false`.
#[test]
fn nodes_of_up_to_four_gpus_become_what_brute_force_finds() {
    let mut dice = Dice(SEED ^ 2);
    let (mut cases, mut met, mut given, mut spanned) = (0, 0, 0, 0);
    for round in 0..900 {
        let small = dice.percent(70);
        let size = 1 + dice.throw(4);
        let town = town(&mut dice, size);
        let n = 1 + dice.throw(4);
        let boards = if small { vec!["a30-24gb"] } else { vec!["h100-80gb-sxm", "a30-24gb", "rtx-pro-6000-blackwell"] };
        let gpus: Vec<ObservedGpu> = (0..n)
            .map(|at| {
                let board = *dice.of(&boards);
                gpu(&mut dice, &town, at as u32, board, 70)
            })
            .collect();
        let mut own = BTreeMap::new();
        let mut left = BTreeSet::new();
        for (at, gpu) in gpus.iter().enumerate() {
            let goal = match dice.throw(10) {
                0 => Goal::HandsOff,
                1 => Goal::MigOff,
                2..=4 => Goal::Instances(wanted(&mut dice, &town, gpu)),
                5 => continue,
                _ => {
                    left.insert(at);
                    continue;
                }
            };
            own.insert(gpu.uuid.clone(), GpuGoal { goal, source: source(10 + at as u32), shadows: vec![] });
        }
        let mut shared: Vec<SharedGoal> = Vec::new();
        for at in 0..dice.throw(4) {
            if left.is_empty() {
                break;
            }
            let all: Vec<usize> = left.iter().copied().collect();
            let like = &gpus[*dice.of(&all)];
            let goal = match shared.last().filter(|_| dice.percent(25)) {
                Some(last) => last.goal.clone(),
                None if dice.percent(10) => Goal::MigOff,
                None => Goal::Instances(wanted(&mut dice, &town, like)),
            };
            // By model, or all that are left; a name that another board lacks does not fit it.
            let by_model = dice.percent(50) || !small;
            let eligible = left.iter().map(|at| &gpus[*at]).filter(|gpu| !by_model || gpu.model == like.model);
            let eligible: BTreeSet<String> = eligible.map(|gpu| gpu.uuid.clone()).collect();
            let count = 1 + u32::from(dice.percent(25));
            shared.push(SharedGoal { goal, count, eligible, source: source(50 + at as u32) });
        }
        given += u32::from(!shared.is_empty());
        let on = |gpu: &ObservedGpu| {
            let all = gpu.instances.iter().filter_map(|i| i.all_users().known().cloned()).flatten();
            all.collect::<BTreeSet<User>>()
        };
        let several = |user: &&User| gpus.iter().filter(|gpu| on(gpu).contains(user)).count() > 1;
        spanned += u32::from(town.users.iter().any(|user| several(&user)));
        let case = case(&mut dice, &town, gpus, own, shared);
        met += u32::from(case.compare(&format!("seed {:#x}, round {round}", SEED ^ 2)));
        cases += 1;
    }
    println!("seed {:#x}: {cases} nodes, {given} with `count`, {met} met, {spanned} where a user spans GPUs", SEED ^ 2);
    assert!(given > 300 && met > 500 && spanned > 300, "{given} {met} {spanned}");
}
