//! Two hundred nodes whose layout changes, each with an agent of its own that sees the others only through the cluster:
//! five hundred pods move, never more nodes and pods at once than the budgets say.
//!
//! `cargo bench --bench rollout`, or with another number of nodes: `cargo bench --bench rollout -- 50`. All agents run
//! side by side in virtual time and do what `sectile run` does: observe their own node and the cluster, plan, tell how
//! the node stands, take their turn, and look again a little later. Every second of that time somebody looks whether
//! the budgets hold. Without cargo's `--bench` (in `cargo test --all-targets`) a few nodes show that it works.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark fails and reports as tests do"
)]

mod asked;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sectile::config::{self, NodeFacts, Tree};
use sectile::execute::{InTurn, Outcome, Picture, Ports, at_once, carry_in_turn, observe};
use sectile::gpu::Gpus;
use sectile::model::observed::PodPhase;
use sectile::model::{Desired, Digest, Known, NodePlan, NodeState, Observed, Revision};
use sectile::plan;
use sectile::plan::places::{self, Nodes, Watch};
use sectile::ports::{Clock as _, Cluster as _, Shown};
use sectile::sim::clock::{SimClock, together};
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::world::{SimNode, SimPod, World};
use sectile::sim::{Shared, fleet, lock};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first nodes by name, which go before the others.
const CANARIES: usize = 2;
/// A rollout that takes longer is stuck.
const LONGEST_S: u32 = 4 * 3600;
/// The workload of each node whose pods are in the way.
const MOVES: &str = "move";
/// The one whose pods are not.
const STAYS: &str = "stay";

fn main() {
    let Some(nodes) = asked::asked(200, 12) else { return };
    run(nodes);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's clock is the machine's")]
fn run(nodes: usize) {
    let file = fleet_file(nodes);
    let before = fleet::parse("fleet.toml", &file).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    // Few nodes need a greater share, or they go one by one.
    let share = if nodes < 100 { 25 } else { 10 };
    let budget = Budget { share, nodes: (nodes * share / 100).max(1), pods: (nodes / 5).max(8) };
    let (pods, moves) = (before.pods.len(), uids(&before, MOVES).len());
    println!("{nodes} nodes, {} GPUs, {pods} pods, of which {moves} move", nodes * 3);
    println!("{CANARIES} canaries first; at once at most {} nodes and {} pods", budget.nodes, budget.pods);
    let tree = tree(&budget);
    let world: Shared = Arc::new(Mutex::new(before.clone()));
    let stage = Stage {
        world: Shared::clone(&world),
        units: tree.units(),
        tree,
        left: Cell::new(nodes),
        changes: RefCell::default(),
    };
    let (begin, seen) = (Instant::now(), RefCell::<Seen>::default());
    let mut futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for name in before.nodes.keys() {
        futures.push(Box::pin(agent(&stage, name)));
    }
    futures.push(Box::pin(async { _ = seen.replace(watch(&stage, &budget, &before).await) }));
    assert!(together(&world, futures).is_some(), "somebody waits for something else than time");
    let (took, seen) = (begin.elapsed(), seen.take());
    for name in before.nodes.keys() {
        let (gpus, host) = outside(&stage, name);
        let look = at_once(look(&stage, name, (&gpus, &host), &RefCell::default())).expect("no waiting");
        let converged = look.plan.state == NodeState::Converged && look.plan.steps.is_empty();
        assert!(converged, "{name} is {}: {:?}", look.plan.state, look.plan.steps);
    }
    let world = lock(&world);
    check(&world, &before, &seen);

    let changes = stage.changes.borrow();
    let (shortest, longest) = (changes.iter().min().expect("a change"), changes.iter().max().expect("a change"));
    let (shortest, longest) = (shortest.as_secs(), longest.as_secs());
    let virtual_s = (world.clock_ms - before.clock_ms) / 1000;
    println!("{virtual_s} s of virtual time, {:.1} s of real time", took.as_secs_f64());
    println!("at most {} nodes changed and {} pods were down at once", seen.changing, seen.down);
    println!("{} changes, of {shortest} to {longest} s each", changes.len());
    // A node has its place, and its pods count, as long as its change lasts.
    let waves = |of: usize, at_once: usize| shortest * of.div_ceil(at_once) as u64;
    let (by_nodes, by_pods) =
        (shortest + waves(nodes.saturating_sub(CANARIES), budget.nodes), waves(moves, budget.pods));
    println!("the budgets allow no less than {by_nodes} s for the nodes and {by_pods} s for the pods");
}

/// What all agents have in common.
struct Stage {
    world: Shared,
    tree: Tree,
    units: BTreeSet<String>,
    /// Agents that are not through.
    left: Cell<usize>,
    /// How long each change of a node took, in its turn.
    changes: RefCell<Vec<Duration>>,
}

/// What a node's agent knows.
struct Look {
    desired: Desired,
    observed: Observed,
    plan: NodePlan,
}

/// The most that may change and be down at once.
struct Budget {
    /// In percent, of which follow so many nodes.
    share: usize,
    nodes: usize,
    pods: usize,
}

/// Brings a node to what the tree says.
async fn agent(stage: &Stage, name: &str) {
    let world = || Shared::clone(&stage.world);
    let (cluster, clock) = (SimCluster { world: world() }, SimClock { world: world() });
    let (gpus, host) = outside(stage, name);
    let (watch, mut journal) = (RefCell::<Watch>::default(), MemoryJournal::default());
    // Agents do not start all at once, nor look at the same time ever after.
    let pause = pause(name);
    clock.sleep_until(later(clock.now(), pause)).await;
    loop {
        let Look { desired, observed, plan } = look(stage, name, (&gpus, &host), &watch).await;
        let revision = desired.revision.to_string();
        let show = async |state| {
            let shown = Shown { state, revision: &revision, message: None, view: None };
            cluster.publish(name, &shown).await.expect("the node is in the cluster");
        };
        if plan.state == NodeState::Converged {
            show(plan.state).await;
            stage.left.set(stage.left.get() - 1);
            return;
        }
        if plan.steps.iter().all(|step| step.waits.is_some()) {
            show(plan.state).await;
            clock.sleep_until(later(clock.now(), pause)).await;
            continue;
        }
        show(NodeState::Changing).await;
        let ports = Ports {
            node: name,
            gpus: &gpus,
            cluster: Some(&cluster),
            host: &host,
            clock: &clock,
            bindings: &desired.bindings,
            units: &stage.units,
            turn: None,
        };
        let picture = Picture { desired: &desired, observed: &observed, overridden: None };
        let began = clock.elapsed();
        match carry_in_turn(&plan, picture, &ports, (&watch, false), &mut journal, &|| false, &mut |_| {}).await {
            InTurn::Carried(Outcome::Done) => stage.changes.borrow_mut().push(clock.elapsed() - began),
            // The others were faster, or something else came between.
            InTurn::Waits(_) | InTurn::Carried(Outcome::Held { .. }) => {
                show(NodeState::Waiting).await;
                clock.sleep_until(later(clock.now(), pause)).await;
            }
            InTurn::Carried(outcome) => panic!("{name}: {outcome:?}"),
        }
    }
}

fn outside(stage: &Stage, name: &str) -> (Gpus<SimDriver>, SimHost) {
    let world = || Shared::clone(&stage.world);
    (Gpus::new(SimDriver::new(world(), name)), SimHost { world: world(), node: name.to_owned() })
}

/// Observes, resolves, plans and checks as `sectile run` does on its node.
async fn look(stage: &Stage, name: &str, (gpus, host): (&Gpus<SimDriver>, &SimHost), watch: &RefCell<Watch>) -> Look {
    let (cluster, clock) =
        (SimCluster { world: Shared::clone(&stage.world) }, SimClock { world: Shared::clone(&stage.world) });
    let mut seen = cluster.observe().await.expect("a cluster");
    let (_, places) = cluster.places().await.expect("places");
    let now = clock.elapsed();
    watch.borrow_mut().see(&places, now);
    seen.places = Known::Known(places);
    let nodes: Nodes = seen.peers.iter().map(|(name, peer)| (name.clone(), Some(peer.is_going()))).collect();
    places::set_aside(&mut seen, name, &|holder, place| places::counts(holder, place, &watch.borrow(), now, &nodes));
    let own = observe::node(name, gpus, Some(&cluster), host, &stage.units, &Known::Unknown).await.expect("a node");
    let observed = Observed { nodes: [(name.to_owned(), own)].into(), cluster: seen };

    let facts: Vec<NodeFacts> = observed.nodes.values().map(NodeFacts::of).collect();
    let mut desired = config::resolve(&stage.tree, &facts).desired;
    let others = observed.cluster.peers.iter().filter(|(peer, _)| *peer != name);
    let facts: Vec<NodeFacts> = others
        .map(|(name, peer)| {
            let (name, labels) = (name.clone(), Known::Known(peer.labels.clone()));
            NodeFacts { name, labels, gpus: Vec::new(), changed: None }
        })
        .collect();
    desired.peers = config::resolve(&stage.tree, &facts).desired.nodes;
    let plan = plan::plan(&desired, &observed, clock.now());
    let broken = plan::check::check(&desired, &observed, &plan);
    assert!(broken.is_empty(), "{}", broken.first().map(ToString::to_string).unwrap_or_default());
    let plan = plan.nodes.into_iter().next().expect("the node's plan");
    Look { desired, observed, plan }
}

/// Between two looks of an agent: 10 to 20 s, other for each node.
fn pause(name: &str) -> Duration {
    let hash = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Duration::from_millis(10_000 + hash.wrapping_mul(2_654_435_761) % 10_000)
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(SignedDuration::try_from(pause).expect("a short pause")).expect("a time")
}

/// How the fleet stands at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    converged: usize,
    changing: usize,
    moved: usize,
    down: usize,
}

/// What was seen all along.
#[derive(Debug, Default)]
struct Seen {
    /// UIDs of all pods that there ever were.
    uids: BTreeSet<String>,
    /// The most nodes that changed at once, and the most pods that were down.
    changing: usize,
    down: usize,
}

/// Looks every second whether the budgets hold, and tells every minute how the fleet stands.
async fn watch(stage: &Stage, budget: &Budget, before: &World) -> Seen {
    let clock = SimClock { world: Shared::clone(&stage.world) };
    let mut seen = Seen::default();
    println!(
        "{:>6} {:>10} {:>9} {:>8} {:>11} {:>10}",
        "minute", "converged", "changing", "waiting", "pods moved", "pods down"
    );
    for second in 0..LONGEST_S {
        let now = sample(&lock(&stage.world), budget, before);
        seen.changing = seen.changing.max(now.changing);
        seen.down = seen.down.max(now.down);
        seen.uids.extend(uids(&lock(&stage.world), ""));
        let over = stage.left.get() == 0;
        if over || second % 60 == 0 {
            let Sample { converged, changing, moved, down } = now;
            let (minute, waiting) = (f64::from(second) / 60.0, before.nodes.len() - converged - changing);
            println!("{minute:>6.1} {converged:>10} {changing:>9} {waiting:>8} {moved:>11} {down:>10}");
        }
        if over {
            return seen;
        }
        clock.sleep_until(later(clock.now(), Duration::from_secs(1))).await;
    }
    panic!("the rollout does not end");
}

/// Looks once, and holds what is there against the budgets.
fn sample(world: &World, budget: &Budget, before: &World) -> Sample {
    let converged = |node: &SimNode| node.shown.as_ref().is_some_and(|shown| shown.state == NodeState::Converged);
    let changes =
        |(name, node): &(&String, &SimNode)| node.tainted || node.clients_paused || world.places.contains_key(*name);
    let changing: Vec<&String> = world.nodes.iter().filter(changes).map(|(name, _)| name).collect();
    let ready = world.pods.values().filter(|pod| pod.phase == PodPhase::Running).count();
    let sample = Sample {
        converged: world.nodes.values().filter(|node| converged(node)).count(),
        changing: changing.len(),
        moved: uids(before, "").difference(&uids(world, "")).count(),
        down: before.pods.len() - ready.min(before.pods.len()),
    };
    let at = world.clock_ms;
    assert!(sample.changing <= budget.nodes, "at {at} ms these change at once: {changing:?}");
    assert!(sample.down <= budget.pods, "at {at} ms {} pods are down", sample.down);
    // The first nodes by name are the canaries.
    if !world.nodes.values().take(CANARIES).all(converged) {
        let early = |name: &&&String| !world.nodes.keys().take(CANARIES).any(|canary| canary == **name);
        let early: Vec<_> = changing.iter().filter(early).collect();
        assert!(early.is_empty(), "at {at} ms these change before the canaries have converged: {early:?}");
    }
    sample
}

/// UIDs of the pods whose workload's name begins so.
fn uids(world: &World, workload: &str) -> BTreeSet<String> {
    let owned = |pod: &&SimPod| pod.owner.as_ref().is_some_and(|owner| owner.name.starts_with(workload));
    world.pods.values().filter(owned).map(|pod| pod.uid.clone()).collect()
}

/// Holds the end against what was asked for.
fn check(world: &World, before: &World, seen: &Seen) {
    assert!(world.ledger.is_empty(), "instances in use were destroyed: {:?}", world.ledger);
    assert!(world.places.is_empty(), "places are left: {:?}", world.places.keys());
    assert!(world.nodes.values().all(|node| !node.tainted && !node.clients_paused), "a node is left tainted or paused");
    assert!(world.pods.values().all(|pod| pod.phase == PodPhase::Running), "pods are left that do not run");
    assert!(uids(before, STAYS).is_subset(&uids(world, STAYS)), "pods moved that need not");
    assert!(uids(before, MOVES).is_disjoint(&uids(world, MOVES)), "pods did not move that had to");
    let moves = uids(before, MOVES).len();
    assert_eq!(seen.uids.len(), before.pods.len() + moves, "some pods moved more than once");
}

fn tree(budget: &Budget) -> Tree {
    let policy = format!(
        "nodes = [\"*\"]\n[budget]\ncanary = {CANARIES}\nmax_nodes = \"{}%\"\nmax_pods = {}\n",
        budget.share, budget.pods
    );
    let layout = "nodes = [\"*\"]\n\n\
        [[gpu]]\nindex = [0, 1]\ninstances = { \"4g.40gb\" = 1, \"3g.40gb\" = 1 }\n\n\
        [[gpu]]\nindex = [2]\ninstances = { \"2g.20gb\" = 3 }\n";
    let revision = Revision { name: None, digest: Digest::of([policy.as_bytes(), layout.as_bytes()]) };
    let files = [("layouts/all.toml", layout), ("policies/all.toml", &policy)];
    let (tree, found) = config::assemble(revision, files);
    tree.unwrap_or_else(|| panic!("{found:?}"))
}

/// Each node has three GPUs: on the first two, pods sit on halves that become whole, beside one that stays; the third is
/// idle. Every other node has three pods that must move, of which two may be away at once; the others have two.
///
/// Nodes that change at once share workloads: so many have each of them.
const SHARES: usize = 4;

fn fleet_file(nodes: usize) -> String {
    let mut text = String::new();
    let mut replicas: BTreeMap<(usize, &str), u32> = BTreeMap::new();
    for node in 0..nodes {
        let shard = node % SHARES;
        write!(text, "[[node]]\nname = \"gpu-{node:03}\"\nlabels = {{ shard = \"s{shard}\" }}\n").expect("text");
        let mut put = |profile: &str, start: u32, workload: &'static str, gpu: usize| {
            *replicas.entry((shard, workload)).or_default() += 1;
            let pod = format!("pod:s{shard}/{workload}-{node}-{gpu}-{start}");
            format!("    {{ profile = \"{profile}\", start = {start}, users = [\"{pod}\"] }},\n")
        };
        for gpu in 0..3 {
            text += "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n  instances = [\n";
            if gpu == 0 {
                text += &put("2g.20gb", 0, MOVES, gpu);
                text += &put("2g.20gb", 2, MOVES, gpu);
            }
            if gpu == 1 && node.is_multiple_of(2) {
                text += &put("2g.20gb", 0, MOVES, gpu);
            }
            if gpu < 2 {
                text += &put("3g.40gb", 4, STAYS, gpu);
            }
            text += "  ]\n";
        }
    }
    for ((shard, workload), replicas) in replicas {
        let profile = if workload == MOVES { "2g.20gb" } else { "3g.40gb" };
        write!(
            text,
            "[[workload]]\nkind = \"Deployment\"\nnamespace = \"s{shard}\"\nname = \"{workload}\"\nreplicas = {replicas}\nprofile = \"{profile}\"\nnode_selector = {{ shard = \"s{shard}\" }}\n\
             [[budget]]\nnamespace = \"s{shard}\"\nname = \"{workload}\"\nworkload = \"{workload}\"\nmax_unavailable = 20\n"
        )
        .expect("text");
    }
    text
}
