//! What is remembered between runs, and what it holds back: trees that lose most of themselves, GPUs that come and go,
//! nodes that are suspended.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sectile::config::{NodeFacts, resolve};
use sectile::model::memory::{TakenUp, difference};
use sectile::model::observed::Suspension;
use sectile::model::plan::{BlockCode, NodeState, StepKind};
use sectile::model::{Digest, NodePlan, Observed, ObservedGpu, ObservedNode, Plan};
use sectile::plan::check::check;
use sectile::plan::guards;
use sectile::sim::lock;
use sectile::sim::world::SimGpu;

use super::door::cases;
use super::fleets::Run;
use super::random::{Tape, draw};

/// What `apply` does first with a plan.
pub(crate) fn begin(run: &Run, observed: &Observed) {
    let memory = &mut lock(&run.world).memory;
    memory.tree = Some(run.tree.sum());
    observed.nodes.values().for_each(|node| memory.begun(node));
}

/// What `apply` does last.
pub(crate) fn end(run: &Run, observed: &Observed, plan: &Plan) {
    let memory = &mut lock(&run.world).memory;
    let converged = plan.nodes.iter().filter(|node| node.state == NodeState::Converged);
    converged.for_each(|node| memory.converged(&observed.nodes[&node.name]));
}

fn suspension() -> Suspension {
    Suspension { reason: "a test".to_owned(), since: "2026-01-01T00:00:00Z".to_owned(), ..Suspension::default() }
}

pub(crate) fn codes(node: &NodePlan) -> BTreeSet<BlockCode> {
    node.blocked.iter().map(|block| block.code).collect()
}

/// A plan but for its turn: a node that is suspended leaves its place among those that change at once to another, and
/// as a canary it lets the others wait.
fn turnless(node: &NodePlan) -> NodePlan {
    let mut node = NodePlan { state: NodeState::Unknown, ..node.clone() };
    node.steps.iter_mut().filter(|step| step.waits == Some(BlockCode::Budget)).for_each(|step| step.waits = None);
    node.waiting.retain(|block| block.code != BlockCode::Budget || block.object != node.name);
    node
}

/// GPUs that steps are about.
pub(crate) fn touched(node: &NodePlan) -> BTreeSet<String> {
    let gpu = |kind: &StepKind| match kind {
        StepKind::DestroyInstance { slot } | StepKind::CreateInstance { slot, .. } => Some(slot.gpu.clone()),
        StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu } => Some(gpu.clone()),
        _ => None,
    };
    node.steps.iter().filter_map(|step| gpu(&step.kind)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), ..ProptestConfig::default() })]

    #[test]
    fn what_is_remembered_of_a_node_that_did_not_change_changes_no_plan(tape in prop::collection::vec(any::<u8>(), 0..300)) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let (_, observed, before) = run.plan();
        begin(&run, &observed);
        let (.., after) = run.plan();
        prop_assert_eq!(before, after);
        let ended = run.apply();
        let last = ended.plans.last().unwrap();
        end(&run, &ended.after, last);
        let once = lock(&run.world).memory.clone();
        let (_, observed, again) = run.plan();
        prop_assert_eq!(&once, &lock(&run.world).memory, "a plan remembers nothing");
        for (name, node) in &observed.nodes {
            prop_assert_eq!(difference(node), None);
            for gpu in node.gpus.iter().filter(|_| last.nodes.iter().any(|n| n.name == *name && n.state == NodeState::Converged)) {
                let lie: Vec<_> = gpu.instances.iter().map(|i| (i.profile, i.placement.start)).collect();
                prop_assert_eq!(gpu.recorded.iter().map(|r| (r.profile, r.start)).collect::<Vec<_>>(), lie);
            }
        }
        begin(&run, &observed);
        end(&run, &observed, &again);
        prop_assert_eq!(&once, &lock(&run.world).memory, "applied twice, it is the same");
    }

    #[test]
    fn a_suspended_node_is_planned_as_ever_and_no_step_of_it_is_begun(tape in prop::collection::vec(any::<u8>(), 0..300)) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let (.., before) = run.plan();
        let name = before.nodes[0].name.clone();
        lock(&run.world).memory.nodes.entry(name.clone()).or_default().suspended = Some(suspension());
        let (.., after) = run.plan();
        for (old, new) in before.nodes.iter().zip(&after.nodes) {
            let kinds = |node: &NodePlan| node.steps.iter().map(|s| s.kind.clone()).collect::<Vec<_>>();
            prop_assert_eq!(kinds(old), kinds(new));
            if old.name != name {
                prop_assert_eq!(turnless(old), turnless(new));
                continue;
            }
            prop_assert_eq!((new.state, &new.suspended), (NodeState::Suspended, &Some(suspension())));
            prop_assert!(new.steps.iter().all(|step| step.waits == Some(BlockCode::Suspended)));
            prop_assert_eq!(new.waiting.iter().any(|b| b.code == BlockCode::Suspended), !new.steps.is_empty());
            prop_assert_eq!(&old.blocked, &new.blocked);
        }
        let blocked = before.cluster.blocked.len() + before.nodes.iter().map(|n| n.blocked.len()).sum::<usize>() > 0;
        let stays = after.nodes[0].steps.len() + after.cluster.steps.iter().filter(|s| s.waits == Some(BlockCode::Suspended)).count() > 0;
        prop_assert_eq!(sectile::plan::has_blocks(&after), blocked || stays, "somebody must resume it");
        let (desired, observed, plan) = run.plan();
        run.apply();
        let now = run.observe();
        // Who comes to it from elsewhere is the scheduler's business.
        let cut = |observed: &Observed| {
            let gpus = observed.nodes[&name].gpus.iter();
            let on = |gpu: &ObservedGpu| gpu.instances.iter().map(|i| (i.profile, i.placement, i.gi_id)).collect::<Vec<_>>();
            gpus.map(|gpu| (gpu.uuid.clone(), gpu.mig, on(gpu))).collect::<Vec<_>>()
        };
        prop_assert_eq!(cut(&observed), cut(&now));
        // Its check: one that begins a step all the same is caught.
        let mut mutant = plan;
        if let Some(step) = mutant.nodes[0].steps.first_mut() {
            step.waits = None;
            prop_assert!(!check(&desired, &observed, &mutant).is_empty());
        }
    }

    #[test]
    fn most_bindings_or_all_layouts_are_missed(
        had in prop::collection::btree_set(0..9u8, 0..8),
        has in prop::collection::btree_set(0..9u8, 0..8),
        layouts in (0..3u32, 0..3u32),
    ) {
        let tree = |bindings: &BTreeSet<u8>, layouts| TakenUp {
            digest: Digest::of([]),
            layouts,
            bindings: bindings.iter().map(|b| format!("b{b}")).collect(),
        };
        let block = guards::removal(&tree(&had, layouts.0), &tree(&has, layouts.1));
        let stay = had.iter().filter(|b| has.contains(b)).count();
        let lost = had.len() - stay;
        let most = had.len() > 1 && lost > stay;
        prop_assert_eq!(block.is_some(), most || layouts.0 > 0 && layouts.1 == 0);
        prop_assert!(block.is_none_or(|b| b.code == BlockCode::MassRemoval && b.hint.contains("--accept-removal")));
    }
}

// --- the GPUs of a node ---

/// Four GPUs in MIG mode with nothing on them, and a spare place to put another one.
pub(crate) const FOUR: &str = "[[node]]\nname = \"n\"\ncluster = false\n  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n  \
                    count = 4\n";

/// How GPUs change.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Nothing,
    /// It fell off the bus: the driver does not count it any more.
    Gone(usize),
    /// The driver counts it, and tells nothing of it.
    Lost(usize),
    /// Another one is plugged in before it.
    New(usize),
    /// Two swapped their places.
    Swapped(usize, usize),
    /// Another one sits in its place.
    Replaced(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        Just(Turn::Nothing),
        (0..4usize).prop_map(Turn::Gone),
        (0..4usize).prop_map(Turn::Lost),
        (0..4usize).prop_map(Turn::New),
        (0..3usize).prop_map(|at| Turn::Swapped(at, at + 1)),
        (0..4usize).prop_map(Turn::Replaced),
    ]
}

pub(crate) fn take(run: &Run, turn: &Turn) {
    let mut world = lock(&run.world);
    let gpus = &mut world.nodes.get_mut("n").unwrap().gpus;
    let new = |pci: &str| {
        let mut gpu = SimGpu::new("GPU-abcdef01-2345-4678-9abc-def012345678", pci, "h100-80gb-sxm", false);
        (gpu.mode, gpu.pending) = (true, true);
        gpu
    };
    match *turn {
        Turn::Nothing => {}
        Turn::Gone(at) => drop(gpus.remove(at)),
        Turn::Lost(at) => gpus[at].lost = true,
        Turn::New(at) => gpus.insert(at, new("00000000:01:00.0")),
        Turn::Swapped(one, other) => {
            let (one_pci, other_pci) = (gpus[one].pci.clone(), gpus[other].pci.clone());
            gpus.swap(one, other);
            (gpus[one].pci, gpus[other].pci) = (one_pci, other_pci);
        }
        Turn::Replaced(at) => gpus[at] = new(&gpus[at].pci.clone()),
    }
}

/// The same fleet as another process sees it: nothing of what the adapter saw before is known.
pub(crate) fn restarted(run: &Run) -> Run {
    Run { journals: run.journals.clone(), ..Run::of(run.world.clone(), run.tree.clone()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), ..ProptestConfig::default() })]

    #[test]
    fn where_gpus_come_or_go_only_entries_that_name_them_hold(
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        rest in prop::sample::select(vec!["", "model = \"H100*\"", "count = 1", "model = \"H100*\"\ncount = 1"]),
        turn in turn(),
    ) {
        let world = Run::new(FOUR, &[]).world;
        let gpus = lock(&world).nodes["n"].gpus.clone();
        let (by_uuid, by_pci) = (&gpus[order[0]], &gpus[order[1]]);
        let goal = "instances = [\"7g\"]\n";
        let files = [(
            "layouts/n.toml",
            format!(
                "nodes = [\"n\", \"m\"]\n[[gpu]]\nuuid = [\"{}\"]\n{goal}[[gpu]]\npci = [\"{}\"]\n{goal}[[gpu]]\nindex = [{}]\n{goal}[[gpu]]\n{rest}\n{goal}",
                by_uuid.uuid, by_pci.pci, order[2]
            ),
        )];
        let files = [(files[0].0, files[0].1.as_str())];
        let run = Run::new(FOUR, &files);
        let (_, observed, plan) = run.plan();
        prop_assert_eq!((touched(&plan.nodes[0]).len(), plan.nodes[0].blocked.len()), (4, 0));
        begin(&run, &observed);
        take(&run, &turn);
        let run = restarted(&run);
        let (_, observed, plan) = run.plan();
        let node = &plan.nodes[0];
        let seen = |find: &dyn Fn(&SimGpu) -> bool| {
            let world = lock(&run.world);
            world.nodes["n"].gpus.iter().filter(|gpu| !gpu.lost && find(gpu)).map(|gpu| gpu.uuid.clone()).collect::<BTreeSet<_>>()
        };
        if matches!(turn, Turn::Nothing) {
            prop_assert_eq!((touched(node).len(), node.blocked.len()), (4, 0));
            return Ok(());
        }
        let steady = seen(&|gpu| gpu.uuid == by_uuid.uuid || gpu.pci == by_pci.pci);
        prop_assert_eq!(&touched(node), &steady, "{:?} {:?}", turn, plan);
        prop_assert!(node.steps.iter().all(|step| !step.disruptive));
        prop_assert_eq!(codes(node), BTreeSet::from([BlockCode::InventoryChanged]));
        prop_assert_eq!(node.blocked.len(), 1);
        prop_assert!(node.blocked[0].message.ends_with("; held back: layouts/n.toml:8, layouts/n.toml:11"));
        // Nothing is accepted by looking, nor by carrying out what may be done.
        begin(&run, &observed);
        run.apply();
        prop_assert_eq!(codes(&run.plan().2.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged]));
        // Somebody accepts what is there: told to nobody, it is taken for new.
        let mut accepted = run.observe();
        accepted.nodes.values_mut().for_each(ObservedNode::accept);
        begin(&run, &accepted);
        let (.., plan) = run.plan();
        prop_assert!(!codes(&plan.nodes[0]).contains(&BlockCode::InventoryChanged));
        run.apply();
    }
}

/// The GPUs of [`FOUR`], and a tree of one file for it.
pub(crate) fn four(entries: &str) -> Run {
    let text = format!("nodes = [\"n\"]\n{entries}");
    let run = Run::new(FOUR, &[("layouts/n.toml", &text)]);
    begin(&run, &run.observe());
    run
}

#[test]
fn a_gpu_that_falls_off_holds_its_entries_and_not_the_node() {
    let index = "[[gpu]]\nindex = [0, 1, 2]\ninstances = [\"7g\"]\n";
    let uuid = lock(&four(index).world).nodes["n"].gpus[3].uuid.clone();
    let run = four(&format!("{index}[[gpu]]\nuuid = [\"{uuid}\"]\ninstances = [\"7g\"]\n"));
    take(&run, &Turn::Gone(0));
    let (.., plan) = run.plan();
    // Index 2 is still there, as another GPU; index 3 is not, and nobody says so.
    assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged]));
    assert_eq!(touched(&plan.nodes[0]), BTreeSet::from([uuid]));
    assert_eq!(plan.nodes[0].state, NodeState::Blocked);
    // All of them: nothing can be told but that.
    let mut world = lock(&run.world);
    world.nodes.get_mut("n").unwrap().gpus.clear();
    world.memory.nodes.get_mut("n").unwrap().suspended = None;
    drop(world);
    let (.., plan) = run.plan();
    assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged, BlockCode::NoSuchGpu]));
}

#[test]
fn an_index_that_is_hands_off_may_be_about_the_gpu_that_a_uuid_names() {
    let first = lock(&four("").world).nodes["n"].gpus[1].uuid.clone();
    let run =
        four(&format!("[[gpu]]\nuuid = [\"{first}\"]\ninstances = [\"7g\"]\n[[gpu]]\nindex = [1]\nmanaged = false\n"));
    assert_eq!(touched(&run.plan().2.nodes[0]), BTreeSet::new());
    // Index 1 is another GPU now, and the one that was never to be touched must not be cut for that.
    take(&run, &Turn::Gone(0));
    let (.., plan) = run.plan();
    assert_eq!(touched(&plan.nodes[0]), BTreeSet::new());
    assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged]));
}

#[test]
fn a_node_killed_anywhere_is_not_held_back_for_what_was_accepted() {
    let entries = "[[gpu]]\nindex = [0, 1, 2]\ninstances = { \"1g.10gb\" = 2 }\n";
    for killed in 0..40 {
        let run = four(entries);
        take(&run, &Turn::Gone(3));
        let mut accepted = run.observe();
        accepted.nodes.values_mut().for_each(ObservedNode::accept);
        begin(&run, &accepted);
        let (desired, observed, plan) = run.plan();
        run.node_killed(&plan.nodes[0], &desired, &observed, killed);
        let run = restarted(&run);
        let ended = run.apply();
        let last = ended.plans.last().unwrap();
        assert_eq!(last.nodes[0].state, NodeState::Converged, "killed after {killed}");
        end(&run, &ended.after, last);
        assert_eq!(lock(&run.world).memory.nodes["n"].inventory.len(), 3);
    }
}

// --- where instances lay ---

const ODD: &str = "[[node]]\nname = \"n\"\ncluster = false\n  [[node.gpu]]\n  model = \"a100-80gb\"\n  instances = [\n    \
                   { profile = \"2g.20gb\", start = 4 }, { profile = \"1g.10gb\", start = 3 } ]\n";

/// A run whose instances lie where nobody would put them, rebooted after it converged.
fn rebooted() -> (Run, Vec<(String, u32)>) {
    let files = [("layouts/n.toml", "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"2g\", \"1g.10gb\"]\n")];
    let run = Run::new(ODD, &files);
    let ended = run.apply();
    end(&run, &ended.after, ended.plans.last().unwrap());
    lock(&run.world).reboot("n").unwrap();
    (run, vec![("1g.10gb".to_owned(), 3), ("2g.20gb".to_owned(), 4)])
}

#[test]
fn after_a_reboot_it_is_known_where_instances_lay() {
    let (run, lay) = rebooted();
    let gpu = &run.observe().nodes["n"].gpus[0];
    assert_eq!(gpu.instances, []);
    assert_eq!(gpu.recorded.iter().map(|r| (r.profile.to_string(), r.start)).collect::<Vec<_>>(), lay);
}

#[test]
fn after_a_reboot_instances_come_back_where_they_were() {
    let (run, lay) = rebooted();
    let gpu = &run.apply().after.nodes["n"].gpus[0];
    assert_eq!(gpu.instances.iter().map(|i| (i.profile.to_string(), i.placement.start)).collect::<Vec<_>>(), lay);
}

// --- what is held back by what ---

#[test]
fn a_tree_that_is_held_back_does_nothing_anywhere() {
    let workload = "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"w\"\nreplicas = 1\n";
    let layout = "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"1g.10gb\"]\n[[workload]]\nname = \"w\"\nmanage = true\n\
                  profile = \"1g.10gb\"\nkubernetes = { kind = \"Deployment\", namespace = \"x\", name = \"w\" }\n";
    let files = [("layouts/n.toml", layout), ("policies/p.toml", "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n")];
    let run = Run::new(&(FOUR.replace("cluster = false\n", "") + workload), &files);
    let (mut desired, observed, plan) = run.plan();
    assert!(!plan.cluster.steps.is_empty() && plan.nodes.iter().any(|node| !node.steps.is_empty()));
    let bindings = ["a", "b", "c"].map(str::to_owned).into();
    let before = TakenUp { digest: Digest::of([]), layouts: 1, bindings };
    guards::hold_tree(&mut desired, &guards::removal(&before, &run.tree.sum()).unwrap());
    let held = sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(check(&desired, &observed, &held), []);
    assert!(held.cluster.steps.is_empty() && held.nodes.iter().all(|node| node.steps.is_empty()));
    assert!(held.nodes.iter().all(|node| node.state == NodeState::Blocked));
    assert!(sectile::plan::has_blocks(&held));
}

/// What is told, the odd node's GPUs, its layout, and what more there is in the tree.
type Misfit<'a> = (BlockCode, String, String, Vec<(&'a str, &'a str)>);

/// A node that is well, one that is not, and a tree that says the same of both. A misfit of hardware is told of the
/// second alone, and the first is carried out.
fn misfit(gpu: &str, layout: &str, more: &[(&str, &str)]) -> Plan {
    let fleet = format!(
        "[[node]]\nname = \"good\"\ncluster = false\n  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n\
         [[node]]\nname = \"odd\"\n{gpu}"
    );
    let good = ("layouts/good.toml", "nodes = [\"good\"]\n[[gpu]]\ninstances = [\"1g.10gb\"]\n");
    let odd = format!("nodes = [\"odd\"]\n{layout}");
    let mut files = vec![good, ("layouts/odd.toml", &odd)];
    files.extend(more);
    let run = Run::new(&fleet, &files);
    let (.., plan) = run.plan();
    let ended = run.apply();
    assert_eq!(ended.plans.last().unwrap().nodes[0].state, NodeState::Converged);
    plan
}

#[test]
fn misfits_of_hardware_hold_back_only_the_node() {
    let h100 = "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n";
    let off = "  [[node.gpu]]\n  model = \"a100-80gb\"\n";
    let metal = |gpu: &str| format!("cluster = false\n{gpu}");
    let used = "  processes = [\"process:7/x\"]\n";
    let on = |profile: &str, user: &str| {
        format!(
            "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  instances = [{{ profile = \"{profile}\", users = [\"{user}\"] }}]\n"
        )
    };
    let pod = |kind: &str| {
        let workload =
            format!("[[workload]]\nkind = \"{kind}\"\nnamespace = \"x\"\nname = \"w\"\nprofile = \"1g.10gb\"\n");
        on("1g.10gb", "pod:x/w-a") + &workload
    };
    let budget = |name: &str| {
        format!("[[budget]]\nnamespace = \"x\"\nname = \"{name}\"\nworkload = \"w\"\nmax_unavailable = 1\n")
    };
    let policy = |text: &'static str| vec![("policies/p.toml", text)];
    let seven = "[[gpu]]\ninstances = [\"7g\"]\n";
    let none = Vec::new;
    let unit = "[[workload]]\nname = \"u\"\nprofile = \"1g.10gb\"\nsystemd = { unit = \"u.service\" }\n";
    let cases: Vec<Misfit<'_>> = vec![
        (BlockCode::DoesNotFit, h100.into(), "[[gpu]]\ninstances = [\"4g\", \"4g\"]\n".into(), none()),
        (BlockCode::UnknownProfile, h100.into(), "[[gpu]]\ninstances = [\"5g\"]\n".into(), none()),
        (
            BlockCode::ModeChange,
            off.into(),
            seven.into(),
            policy("nodes = [\"odd\"]\n[gpu]\nmode_change = \"refuse\"\n"),
        ),
        (BlockCode::Reset, off.into(), seven.into(), policy("nodes = [\"odd\"]\n[gpu]\nreset = \"refuse\"\n")),
        (BlockCode::GpuInUse, metal(&format!("{off}{used}")), seven.into(), none()),
        (
            BlockCode::Process,
            on("1g.10gb", "process:7/x"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[apply]\nmode = \"auto\"\n"),
        ),
        (
            BlockCode::UnmanagedPod,
            on("1g.10gb", "pod:a/b"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[apply]\nmode = \"auto\"\n"),
        ),
        (
            BlockCode::NoPolicy,
            metal(&on("1g.10gb", "unit:u.service")),
            format!("{seven}{}", unit.replace("1g.10gb", "7g")),
            none(),
        ),
        (BlockCode::UnboundUser, metal(&on("1g.10gb", "unit:u.service")), seven.into(), none()),
        (BlockCode::TooFewGpus, h100.into(), "[[gpu]]\ncount = 2\ninstances = [\"7g\"]\n".into(), none()),
        (BlockCode::NoSuchGpu, h100.into(), "[[gpu]]\nindex = [3]\ninstances = [\"7g\"]\n".into(), none()),
        (
            BlockCode::ComputeSplit,
            h100.into(),
            "[[gpu]]\ninstances = [{ profile = \"3g\", compute = [\"1c.3g.40gb\"] }]\n".into(),
            none(),
        ),
        (
            BlockCode::OverBound,
            metal(&on("1g.10gb", "unit:u.service")),
            format!("[[gpu]]\ninstances = [\"1g.10gb\"]\n{unit}per_replica = 2\n"),
            none(),
        ),
        (
            BlockCode::Protected,
            pod("Deployment"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[protect]\npods = [{ namespace = \"x\" }]\n"),
        ),
        (
            BlockCode::DaemonSetPod,
            pod("DaemonSet"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[apply]\nmode = \"auto\"\n"),
        ),
        (
            BlockCode::NoCapacity,
            pod("Deployment"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[apply]\nmode = \"auto\"\n"),
        ),
        (
            BlockCode::TwoBudgets,
            pod("Deployment") + &budget("a") + &budget("b"),
            seven.into(),
            policy("nodes = [\"odd\"]\n[apply]\nmode = \"auto\"\n"),
        ),
        (BlockCode::NoSuchTarget, metal(h100), format!("[[gpu]]\ninstances = [\"1g.10gb\"]\n{unit}"), none()),
    ];
    for (code, gpu, layout, more) in cases {
        let plan = misfit(&gpu, &layout, &more);
        let [good, odd] = &plan.nodes[..] else { panic!() };
        assert!(codes(odd).contains(&code), "{code}: {:?}", odd.blocked);
        assert_eq!((codes(good), good.state), (BTreeSet::new(), NodeState::Changing), "{code}");
        assert!(odd.blocked.iter().all(|b| !b.object.is_empty() && !b.message.is_empty() && !b.hint.is_empty()));
        assert!(odd.steps.iter().all(|step| !step.disruptive), "{code}");
    }
}

/// What no simulated board is: one that can't MIG, and one of which nobody knows what it can be cut into.
#[test]
fn boards_that_can_not_be_cut_hold_back_only_themselves() {
    let files = [("layouts/n.toml", "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"7g\"]\n")];
    let run = Run::new(FOUR, &files);
    let mut observed = run.observe();
    let gpus = &mut observed.nodes.get_mut("n").unwrap().gpus;
    gpus[1].mig.capable = false;
    gpus[2].geometry = None;
    let desired = run.resolve(&observed);
    let plan = sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(check(&desired, &observed, &plan), []);
    assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::NotCapable, BlockCode::UnknownGeometry]));
    let gpus = &observed.nodes["n"].gpus;
    assert_eq!(touched(&plan.nodes[0]), BTreeSet::from([gpus[0].uuid.clone(), gpus[3].uuid.clone()]));
}

/// Labels that are not known leave a node undecided wherever a layout, a policy or a binding asks for some and could
/// matter, and others go on.
#[test]
fn a_node_is_undecided_for_every_kind_of_selector() {
    let label = "labels = { pool = \"x\" }\n";
    let gpu = "[[gpu]]\ninstances = [\"1g.10gb\"]\n";
    let unit = "[[workload]]\nname = \"u\"\nprofile = \"1g.10gb\"\nsystemd = { unit = \"u.service\" }\n";
    let all = format!("nodes = [\"*\"]\n{gpu}");
    let by_label = format!("nodes = [\"*\"]\n{label}{gpu}");
    let workload = format!("nodes = [\"*\"]\n{gpu}{unit}{label}");
    let file = format!("nodes = [\"*\"]\n{label}{unit}");
    let policy = format!("{label}[failure]\nretries = 1\n");
    let cases: [(&[(&str, &str)], usize); 6] = [
        (&[("layouts/a.toml", &all)], 0),
        (&[("layouts/a.toml", &by_label)], 1),
        (&[("layouts/a.toml", &all), ("policies/p.toml", &policy)], 1),
        (&[("layouts/a.toml", &workload)], 1),
        (&[("layouts/a.toml", &all), ("layouts/b.toml", &file)], 1),
        (&[("layouts/a.toml", &by_label), ("layouts/b.toml", &file), ("policies/p.toml", &policy)], 3),
    ];
    // In a cluster that does not answer for its labels, and on bare metal whose own settings are silent.
    for cluster in ["true", "false"] {
        for (files, wanted) in &cases {
            let node = |name: &str| {
                format!(
                    "[[node]]\nname = \"{name}\"\ncluster = {cluster}\nlabels = {{ pool = \"x\" }}\n  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n"
                )
            };
            let run = Run::new(&(node("a") + &node("b")), files);
            let mut observed = run.observe();
            observed.nodes.get_mut("a").unwrap().labels = sectile::model::Known::Unknown;
            let facts: Vec<NodeFacts> = observed.nodes.values().map(NodeFacts::of).collect();
            let desired = resolve(&run.tree, &facts).desired;
            let plan = sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(check(&desired, &observed, &plan), []);
            let undecided = |node: &NodePlan| node.blocked.iter().filter(|b| b.code == BlockCode::Undecided).count();
            assert_eq!((undecided(&plan.nodes[0]), undecided(&plan.nodes[1])), (*wanted, 0), "{files:?}");
            assert_eq!(plan.nodes[0].steps.is_empty(), *wanted > 0, "{files:?}");
            assert!(!plan.nodes[1].steps.is_empty() || files.iter().any(|f| f.1.contains("u.service")), "{files:?}");
        }
    }
}

/// What a tree remembers of itself.
#[test]
fn the_sum_of_a_tree_is_its_layouts_and_bindings() {
    let unit = |name: &str| {
        format!("[[workload]]\nname = \"{name}\"\nprofile = \"1g\"\nsystemd = {{ unit = \"{name}.service\" }}\n")
    };
    let layout = "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"1g\"]\n".to_owned();
    let (a, b) = (layout + &unit("u") + &unit("v"), format!("nodes = [\"n\"]\n{}", unit("w")));
    let run = Run::new(FOUR, &[("layouts/a.toml", &a), ("layouts/b.toml", &b)]);
    let TakenUp { digest: _, layouts, bindings } = run.tree.sum();
    assert_eq!((layouts, bindings), (1, ["u", "v", "w"].map(str::to_owned).into()));
}
