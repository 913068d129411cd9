//! Fifty agents that share a budget on one virtual clock, each with its own time, tree and misfortunes: calls that fail or
//! whose answers get lost, processes that stop in the middle, crashes, and trees that change here sooner than there. Never
//! do more change than the largest limit by which one of them was let go; and once all are healthy, all converge.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use sectile::execute::{Turn, within};
use sectile::model::desired::DesiredNode;
use sectile::model::observed::{NodeInCluster, Peer, Suspension, WorkloadState};
use sectile::model::policy::{Amount, NodeBudget, Shared};
use sectile::model::{
    Bind, Desired, Digest, Known, NodeState, Object, Observed, ObservedCluster, Place, Places, Pod, Policy, Reserved,
    Revision, Source,
};
use sectile::plan::places::{Asked, Watch};
use sectile::ports::{Clock, Cluster, ClusterEvent, Eviction, Port, PortError, Removal, Shown, Version};

const AGENTS: usize = 50;
const RESOURCE: &str = "nvidia.com/mig-1g.10gb";
/// Nodes with free instances, and how many.
const SPARE: [(&str, u32); 2] = [("n00", 6), ("n01", 5)];
/// Until then things go wrong.
const TROUBLE_MS: u64 = 3_600_000;
/// By then all are converged.
const END_MS: u64 = TROUBLE_MS + 8 * 3_600_000;

/// Numbers by chance, the same for the same seed (xorshift).
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x % n
    }
    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Default)]
struct Node {
    tainted: bool,
    disturbed: bool,
    pods: u32,
    uses: Option<&'static str>,
    converged: bool,
    shown: Option<(NodeState, String)>,
    /// The limits by which it was let go: nodes, and pods.
    granted: (u32, u32),
}

/// Everything, and the one true time.
struct World {
    now: Cell<u64>,
    dice: Dice,
    nodes: RefCell<BTreeMap<String, Node>>,
    places: RefCell<(u64, BTreeMap<String, Place>)>,
    /// Who is to be woken when.
    timers: RefCell<BTreeSet<(u64, usize)>>,
    /// Whose future is polled.
    task: Cell<usize>,
    /// Until when each agent is cut off.
    cut: RefCell<Vec<u64>>,
    most: Cell<usize>,
}

impl World {
    fn troubled(&self) -> bool {
        self.now.get() < TROUBLE_MS
    }

    async fn pause(&self, ms: u64) {
        let until = self.now.get() + ms.max(1);
        std::future::poll_fn(|_| {
            if self.now.get() >= until {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().insert((until, self.task.get()));
            Poll::Pending
        })
        .await;
    }

    /// Somebody is disturbed from now on: nobody too many.
    fn disturb(&self, name: &str, pods: u32, uses: &'static str) {
        let mut nodes = self.nodes.borrow_mut();
        let node = nodes.get_mut(name).unwrap();
        (node.disturbed, node.pods, node.uses) = (true, pods, Some(uses));
        let under: Vec<&Node> = nodes.values().filter(|node| node.disturbed).collect();
        let most = under.iter().map(|node| node.granted.0).max().unwrap();
        assert!(under.len() <= most as usize, "{} change at once, {most} may", under.len());
        let pods: u32 = under.iter().map(|node| node.pods).sum();
        let most = under.iter().map(|node| node.granted.1).max().unwrap();
        assert!(pods <= most, "{pods} pods are down, {most} may");
        for (spare, n) in SPARE {
            let used = under.iter().filter(|node| node.uses == Some(spare)).count();
            assert!(used <= n as usize, "{used} count on {n} instances of {spare}");
        }
        self.most.set(self.most.get().max(under.len()));
    }
}

/// An agent's way to the cluster.
struct Link {
    world: Rc<World>,
    n: usize,
    /// What its watches told last: they may lag behind.
    mirror: RefCell<Option<ObservedCluster>>,
}

fn lost() -> PortError {
    PortError { transient: true, code: "lost".to_owned(), message: "a call".to_owned() }
}

fn unused<T>() -> Port<T> {
    panic!("nobody asks this")
}

impl Link {
    /// A call takes its time, and may fail before or after it is done.
    async fn call<T>(&self, run: impl FnOnce(&World) -> T) -> Port<T> {
        let world = &self.world;
        let slow = world.troubled() && world.dice.one_in(200);
        world.pause(1 + world.dice.below(if slow { 20_000 } else { 200 })).await;
        let cut = world.now.get() < world.cut.borrow()[self.n];
        let fate = if cut || (world.troubled() && world.dice.one_in(40)) { world.dice.below(2) } else { 2 };
        if fate == 0 {
            return Err(lost());
        }
        let answer = run(world);
        world.pause(1 + world.dice.below(200)).await;
        if fate == 1 { Err(lost()) } else { Ok(answer) }
    }

    async fn taint(&self, name: &str, on: bool) -> Port<()> {
        self.call(|world| {
            let mut nodes = world.nodes.borrow_mut();
            let node = nodes.get_mut(name).unwrap();
            node.tainted = on;
            if !on {
                (node.disturbed, node.pods, node.uses) = (false, 0, None);
            }
        })
        .await
    }
}

impl Cluster for Link {
    async fn observe(&self) -> Port<ObservedCluster> {
        let fresh = self
            .call(|world| {
                let nodes = world.nodes.borrow();
                let peer = |(name, node): (&String, &Node)| {
                    let (state, revision) = node.shown.clone().unzip();
                    (name.clone(), Peer { state, revision, tainted: node.tainted, ..Peer::default() })
                };
                let used = |spare| nodes.values().filter(|node| node.uses == Some(spare)).count() as u32;
                let free = SPARE.map(|(spare, n)| (spare.to_owned(), [(RESOURCE.to_owned(), n - used(spare))].into()));
                ObservedCluster { peers: nodes.iter().map(peer).collect(), free: free.into(), ..Default::default() }
            })
            .await?;
        // How nodes stand may be told late; what is free is not, here.
        let mut mirror = self.mirror.borrow_mut();
        let old = mirror.take().filter(|_| self.world.troubled() && self.world.dice.one_in(2));
        let peers = old.map_or_else(|| fresh.peers.clone(), |old| old.peers);
        let seen = ObservedCluster { peers, ..fresh };
        *mirror = Some(seen.clone());
        Ok(seen)
    }
    async fn is_going(&self, node: &str) -> Port<Option<bool>> {
        self.call(|world| world.nodes.borrow().get(node).map(|node| node.tainted)).await
    }
    async fn places(&self) -> Port<(Version, Places)> {
        self.call(|world| {
            let (version, places) = &*world.places.borrow();
            let places = places.iter().map(|(holder, place)| (holder.clone(), Known::Known(place.clone())));
            (Version(Some(version.to_string())), places.collect())
        })
        .await
    }
    async fn set_place(&self, version: &Version, holder: &str, place: Option<&Place>) -> Port<bool> {
        self.call(|world| {
            let (now, places) = &mut *world.places.borrow_mut();
            if version.0 != Some(now.to_string()) {
                return false;
            }
            *now += 1;
            match place {
                Some(place) => places.insert(holder.to_owned(), place.clone()),
                None => places.remove(holder),
            };
            true
        })
        .await
    }
    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()> {
        let shown = (shown.state, shown.revision.to_owned());
        self.call(|world| world.nodes.borrow_mut().get_mut(node).unwrap().shown = Some(shown)).await
    }
    async fn node(&self, _: &str) -> Port<Option<NodeInCluster>> {
        unused()
    }
    async fn labels(&self, _: &str) -> Port<Option<BTreeMap<String, String>>> {
        unused()
    }
    async fn holders(&self, _: &str) -> Port<Vec<Pod>> {
        unused()
    }
    async fn pod(&self, _: &str, _: &str) -> Port<Option<Pod>> {
        unused()
    }
    async fn set_taint(&self, _: &str, _: Option<&Digest>) -> Port<()> {
        unused()
    }
    async fn set_clients_paused(&self, _: &str, _: Option<&Digest>) -> Port<()> {
        unused()
    }
    async fn restart_clients(&self, _: &str) -> Port<()> {
        unused()
    }
    async fn remove_pod(&self, _: &str, _: &str, _: &str, _: Removal) -> Port<Eviction> {
        unused()
    }
    async fn writer_gone(&self, _: &str) -> Port<Vec<String>> {
        unused()
    }
    async fn set_label(&self, _: &str, _: &str, _: &str) -> Port<()> {
        unused()
    }
    async fn stopped(&self, _: &str) -> Port<Option<Suspension>> {
        unused()
    }
    async fn workload(&self, _: &Object) -> Port<Option<WorkloadState>> {
        unused()
    }
    async fn bind(&self, _: &Bind, _: &str, _: bool) -> Port<()> {
        unused()
    }
    async fn unbind(&self, _: &Bind, _: &str, _: bool) -> Port<()> {
        unused()
    }
    async fn event(&self, _: &ClusterEvent<'_>) -> Port<()> {
        unused()
    }
}

/// An agent's own time: set wrongly, and too fast or too slow.
struct Skewed {
    world: Rc<World>,
    offset_ms: u64,
    percent: u64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        let ms = self.offset_ms + self.world.now.get() * self.percent / 100;
        Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap()
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.offset_ms / 7 + self.world.now.get() * self.percent / 100)
    }
    async fn sleep_until(&self, then: Timestamp) {
        let ms = u64::try_from(then.duration_since(self.now()).as_millis()).unwrap_or(0);
        self.world.pause(ms * 100 / self.percent).await;
    }
}

fn name(n: usize) -> String {
    format!("n{n:02}")
}

/// Trees, one after the other: nodes and pods that may change at once.
const TREES: [(Amount, u32, u32); 3] =
    [(Amount::Percent(10), 5, 12), (Amount::Count(3), 3, 7), (Amount::Count(8), 8, 20)];

/// What an agent has of the tree.
fn desired(own: usize, tree: usize) -> Desired {
    let (limit, _, pods) = TREES[tree];
    let source = Source { file: "policies/p.toml".into(), line: u32::try_from(tree).unwrap() + 1 };
    let over = || source.clone();
    let budget = NodeBudget {
        max_nodes: Some(Shared { limit, over: over() }),
        canary: Some(Shared { limit: 1, over: over() }),
        max_pods: Some(Shared { limit: pods, over: over() }),
        ..NodeBudget::default()
    };
    let policy = Arc::new(Policy { sources: vec![over()], budget, ..Policy::default() });
    let node = |n| DesiredNode {
        node: name(n),
        layout: Some(source.clone()),
        shadows: vec![],
        gpus: BTreeMap::new(),
        shared: vec![],
        bindings: vec![],
        policy: Some(policy.clone()),
        held: BTreeMap::new(),
        blocked: vec![],
    };
    let mut peers: BTreeMap<String, DesiredNode> = (0..AGENTS).map(|n| (name(n), node(n))).collect();
    let nodes = peers.remove_entry(&name(own)).into_iter().collect();
    let revision = Revision { name: Some(format!("main@{tree}")), digest: Digest::of([]) };
    Desired { revision, nodes, bindings: vec![], peers, blocked: vec![] }
}

fn observed(n: usize) -> Observed {
    let node = sectile::model::ObservedNode {
        name: name(n),
        labels: Known::Unknown,
        gpus: vec![],
        lost: Default::default(),
        units: BTreeMap::new(),
        cluster: Some(NodeInCluster::default()),
        device_files: Default::default(),
        gaps: vec![],
        inventory: vec![],
        suspended: None,
    };
    Observed { nodes: [(name(n), node)].into(), cluster: ObservedCluster::default() }
}

/// What an agent does from its start on.
async fn life(world: Rc<World>, n: usize, run: usize, clock: Skewed) {
    let link = Link { world: world.clone(), n, mirror: RefCell::default() };
    let (own, watch) = (name(n), RefCell::new(Watch::default()));
    let observed = observed(n);
    let mut tree = (usize::MAX, None);
    let hears = [0, TROUBLE_MS / 3 + world.dice.below(600_000), TROUBLE_MS * 2 / 3 + world.dice.below(600_000)];
    // What an earlier run left, as its journal tells.
    while world.nodes.borrow()[&own].tainted && link.taint(&own, false).await.is_err() {
        world.pause(2000).await;
    }
    loop {
        let at = hears.iter().filter(|at| world.now.get() >= **at).count() - 1;
        if tree.0 != at {
            tree = (at, Some(desired(n, at)));
        }
        let desired = tree.1.as_ref().unwrap();
        if world.nodes.borrow()[&own].converged {
            let revision = desired.revision.to_string();
            let _ = link
                .publish(&own, &Shown { state: NodeState::Converged, revision: &revision, message: None, view: None })
                .await;
            if world.now.get() > TROUBLE_MS
                && at == 2
                && world.nodes.borrow()[&own].shown == Some((NodeState::Converged, revision))
            {
                return;
            }
            world.pause(60_000).await;
            continue;
        }
        let pods = u32::try_from(1 + world.dice.below(4)).unwrap();
        let spare = SPARE[usize::try_from(world.dice.below(2)).unwrap()].0;
        let reserved = Reserved::from([(spare.to_owned(), [(RESOURCE.to_owned(), 1)].into())]);
        let asked = Asked { node: &own, desired, pods, reserved: &reserved, going: false, begun: false, rolls: None };
        let name = format!("{run}+{}", world.now.get());
        let turn = Turn::new(asked, &observed, &watch, name, clock.now(), false);
        if !matches!(turn.take(&link, &clock).await, Ok(None)) {
            world.pause(20_000 + world.dice.below(40_000)).await;
            continue;
        }
        world.nodes.borrow_mut().get_mut(&own).unwrap().granted = (TREES[at].1, TREES[at].2);
        let work = async {
            for round in 0..2 {
                if turn.confirm(&link, &clock).await?.is_some() {
                    return Ok(false);
                }
                if round == 0 {
                    link.taint(&own, true).await?;
                    continue;
                }
                // What was asked for arrives a moment later.
                world.pause(1 + world.dice.below(500)).await;
                world.disturb(&own, pods, spare);
                world.pause(20_000 + world.dice.below(200_000)).await;
            }
            Ok::<bool, PortError>(true)
        };
        let done = within(work, turn.keep(&link, &clock)).await.unwrap() == Ok(true);
        while link.taint(&own, false).await.is_err() {
            world.pause(2000).await;
        }
        world.nodes.borrow_mut().get_mut(&own).unwrap().converged = done;
        let _ = turn.give(&link, &clock, false).await;
    }
}

/// A whole history; the most that changed at once, and when the last had converged.
fn history(seed: u64) -> (usize, u64) {
    let nodes = (0..AGENTS).map(|n| (name(n), Node::default())).collect();
    let world = Rc::new(World {
        now: Cell::new(0),
        dice: Dice(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)),
        nodes: RefCell::new(nodes),
        places: RefCell::default(),
        timers: RefCell::new((0..AGENTS).map(|n| (0, n)).collect()),
        task: Cell::new(0),
        cut: RefCell::new(vec![0; AGENTS]),
        most: Cell::new(0),
    });
    let clocks: Vec<(u64, u64)> = (0..AGENTS).map(|_| (world.dice.below(1 << 40), 90 + world.dice.below(21))).collect();
    let clock = |n: usize| Skewed { world: world.clone(), offset_ms: clocks[n].0, percent: clocks[n].1 };
    let mut runs = 0;
    let mut born = |n: usize| -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        runs += 1;
        Some(Box::pin(life(world.clone(), n, runs, clock(n))))
    };
    let mut tasks: Vec<_> = (0..AGENTS).map(&mut born).collect();
    let mut stopped = vec![0u64; AGENTS];
    while let Some((at, n)) = { world.timers.borrow_mut().pop_first() } {
        world.now.set(world.now.get().max(at));
        let now = world.now.get();
        assert!(now < END_MS, "seed {seed}: {:?} are not converged", left(&world));
        if stopped[n] > now {
            world.timers.borrow_mut().insert((stopped[n], n));
            continue;
        }
        if world.troubled() {
            match world.dice.below(3000) {
                0..3 => {
                    stopped[n] = now + 1000 + world.dice.below(240_000);
                    world.timers.borrow_mut().insert((stopped[n], n));
                    continue;
                }
                3..5 => world.cut.borrow_mut()[n] = now + 1000 + world.dice.below(180_000),
                5..8 if tasks[n].is_some() => {
                    tasks[n] = born(n);
                    stopped[n] = now + 1000 + world.dice.below(120_000);
                    world.timers.borrow_mut().insert((stopped[n], n));
                    continue;
                }
                _ => {}
            }
        }
        world.task.set(n);
        let done = tasks[n]
            .as_mut()
            .is_some_and(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        if done {
            tasks[n] = None;
        }
    }
    assert_eq!(left(&world), [""; 0], "seed {seed}");
    (world.most.get(), world.now.get())
}

fn left(world: &World) -> Vec<String> {
    world.nodes.borrow().iter().filter(|(_, node)| !node.converged).map(|(name, _)| name.clone()).collect()
}

#[test]
fn fifty_agents_never_change_more_than_may_and_all_converge() {
    let mut most = 0;
    for seed in 0..10 {
        let (at_once, last_ms) = history(seed);
        println!("seed {seed}: {at_once} at once, the last after {} s", last_ms / 1000);
        most = most.max(at_once);
    }
    assert!(most > 2, "at most {most} changed at once: the budget was never tried");
}
