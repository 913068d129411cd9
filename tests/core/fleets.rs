//! Whole runs on simulated fleets: parse, observe, resolve, plan, check, carry out, observe again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use sectile::config::{self, NodeFacts, Tree};
use sectile::execute::carry::{hold, inputs, recover};
use sectile::execute::journal::{self, Story, read, story};
use sectile::execute::{News, Outcome, Picture, Ports, at_once, carry, observe};
use sectile::gpu::Gpus;
use sectile::model::{Desired, Digest, Known, NodePlan, Observed, Plan, Revision, StepKind};
use sectile::plan;
use sectile::ports::{Clock as _, Cluster as _, Journal, Port};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::fault::{Fate, Faulty, Meddler, PortKind, port_of};
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::{Shared, fleet, lock};

use crate::door::{TestDriver, by_library, strike};

/// A simulated fleet and a tree for it.
pub(crate) struct Run {
    pub(crate) world: Shared,
    pub(crate) tree: Tree,
    pub(crate) nodes: Vec<(String, Gpus<TestDriver>)>,
    /// By node.
    pub(crate) journals: RefCell<BTreeMap<String, SharedJournal>>,
    pub(crate) meddling: Meddling,
}

/// What a run ended with.
pub(crate) struct Ended {
    /// The plan of every pass; the last one has nothing to do now.
    pub(crate) plans: Vec<Plan>,
    /// What was observed after the last.
    pub(crate) after: Observed,
    /// Nodes that failed for good.
    pub(crate) failed: BTreeMap<String, Outcome>,
}

impl Run {
    /// From a fleet file and the files of a tree.
    pub(crate) fn new(fleet: &str, files: &[(&str, &str)]) -> Run {
        let world = fleet::parse("fleet.toml", fleet).unwrap_or_else(|e| panic!("{}\n{fleet}", e.render(false)));
        let revision = Revision { name: None, digest: Digest::of([]) };
        let (tree, found) = config::assemble(revision, files.iter().copied());
        let sources = files.iter().map(|(p, t)| (p.to_string(), t.to_string())).collect();
        let tree = tree.unwrap_or_else(|| panic!("{}", config::diagnostic::render(&found, &sources, false)));
        let world: Shared = Arc::new(Mutex::new(world));
        Run::of(world, tree)
    }

    /// Of a world and a tree for it.
    pub(crate) fn of(world: Shared, tree: Tree) -> Run {
        let names: Vec<String> = lock(&world).nodes.keys().cloned().collect();
        let gpus = |name: String| (name.clone(), Gpus::new(TestDriver::new(world.clone(), name)));
        let nodes = names.into_iter().map(gpus).collect();
        let meddling = Meddling { world: world.clone(), hook: Rc::new(RefCell::new(Rc::new(|_| Fate::Passes))) };
        Run { world, tree, nodes, journals: RefCell::default(), meddling }
    }

    /// From now on this decides what becomes of the calls that carry plans out. What looks before a plan passes.
    pub(crate) fn meddle(&self, hook: Hook) {
        *self.meddling.hook.borrow_mut() = hook;
    }

    pub(crate) fn cluster(&self) -> SimCluster {
        SimCluster { world: self.world.clone() }
    }

    pub(crate) fn observe(&self) -> Observed {
        let cluster = self.cluster();
        let units = self.tree.units();
        let mut observed = Observed { cluster: at_once(cluster.observe()).unwrap().unwrap(), nodes: BTreeMap::new() };
        for (name, gpus) in &self.nodes {
            let host = SimHost { world: self.world.clone(), node: name.clone() };
            let labels = Known::Known(lock(&self.world).nodes[name].labels.clone());
            let node = observe::node(name, gpus, Some(&cluster), &host, &units, &labels);
            let mut node = at_once(node).unwrap().unwrap();
            lock(&self.world).memory.recall(&mut node);
            observed.nodes.insert(name.clone(), node);
        }
        observed
    }

    pub(crate) fn resolve(&self, observed: &Observed) -> Desired {
        let facts: Vec<NodeFacts> = observed.nodes.values().map(NodeFacts::of).collect();
        let resolved = config::resolve(&self.tree, &facts);
        assert!(resolved.diagnostics.is_empty(), "{:?}", resolved.diagnostics);
        resolved.desired
    }

    /// Plans, and holds the plan against the check.
    pub(crate) fn plan(&self) -> (Desired, Observed, Plan) {
        let observed = self.observe();
        let desired = self.resolve(&observed);
        let now = SimClock { world: self.world.clone() }.now();
        let plan = plan::plan(&desired, &observed, now);
        let broken = plan::check::check(&desired, &observed, &plan);
        assert_eq!(broken, [], "{}", sectile::render::text::plan(&plan, sectile::render::Style { wide: true }));
        (desired, observed, plan)
    }

    /// Carries one node's plan out.
    pub(crate) fn node(&self, plan: &NodePlan, desired: &Desired, observed: &Observed) -> (Outcome, Vec<News>) {
        self.node_until(plan, desired, observed, usize::MAX)
    }

    /// Begins to carry one node's plan out, and drops dead between two effects or waits: nothing is taken back.
    pub(crate) fn node_killed(&self, plan: &NodePlan, desired: &Desired, observed: &Observed, most: usize) {
        let dead = |asked| if asked > most { std::panic::resume_unwind(Box::new(Killed)) } else { false };
        let run = || self.drive_node(plan, desired, observed, &dead);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    }

    /// Carries one node's plan out, interrupted once so many effects and waits were asked for.
    pub(crate) fn node_until(
        &self,
        plan: &NodePlan,
        desired: &Desired,
        observed: &Observed,
        most: usize,
    ) -> (Outcome, Vec<News>) {
        self.drive_node(plan, desired, observed, &|asked| asked > most)
    }

    fn drive_node(
        &self,
        plan: &NodePlan,
        desired: &Desired,
        observed: &Observed,
        stop: &dyn Fn(usize) -> bool,
    ) -> (Outcome, Vec<News>) {
        let mut journal = self.journal(&plan.name);
        let mut news = Vec::new();
        let mut tell = |n: &News| news.push(n.clone());
        let asked = std::cell::Cell::new(0);
        let interrupted = || {
            asked.set(asked.get() + 1);
            stop(asked.get())
        };
        let picture = Picture { desired, observed, overridden: None };
        let outcome = self.outside(&plan.name, desired, observed, |ports| {
            at_once(carry(plan, picture, ports, &mut journal, &interrupted, &mut tell)).unwrap()
        });
        (outcome, news)
    }

    /// A node's journal, which lasts as a disk does.
    pub(crate) fn journal(&self, node: &str) -> Faulty<SharedJournal, Meddling> {
        let kept = self.journals.borrow_mut().entry(node.to_owned()).or_default().clone();
        Faulty::new(kept, self.meddling.clone())
    }

    /// What a node's journal tells of the last run.
    pub(crate) fn story(&self, node: &str) -> Story {
        let lines = self.journals.borrow_mut().entry(node.to_owned()).or_default().0.borrow().lines.clone();
        story(&read(&lines, node).unwrap())
    }

    /// Lends the outside of a node.
    fn outside<R>(
        &self,
        node: &str,
        desired: &Desired,
        observed: &Observed,
        run: impl FnOnce(&NodePorts<'_>) -> R,
    ) -> R {
        let meddling = || self.meddling.clone();
        let cluster = Faulty::new(self.cluster(), meddling());
        let clock = Faulty::new(SimClock { world: self.world.clone() }, meddling());
        let host = Faulty::new(SimHost { world: self.world.clone(), node: node.to_owned() }, meddling());
        let gpus = Gpus::new(Faulty::new(TestDriver::new(self.world.clone(), node), meddling()));
        let units: BTreeSet<String> = self.tree.units();
        run(&Ports {
            node,
            gpus: &gpus,
            cluster: observed.nodes[node].cluster.is_some().then_some(&cluster),
            host: &host,
            clock: &clock,
            bindings: &desired.bindings,
            units: &units,
            turn: None,
        })
    }

    /// Takes back what runs that were cut short left behind; what could not be, by node.
    pub(crate) fn recover(&self) -> BTreeMap<String, Outcome> {
        let mut left = BTreeMap::new();
        let (desired, observed, plan) = self.plan();
        for node in &plan.nodes {
            let story = self.story(&node.name);
            if story.owed.is_empty() {
                continue;
            }
            let mut journal = self.journal(&node.name);
            let policy = desired.nodes[&node.name].policy.clone().unwrap_or_default();
            let outcome = self.outside(&node.name, &desired, &observed, |ports| {
                at_once(recover(node, &policy, &story, ports, &mut journal, &|| {}, &mut |_| {})).unwrap()
            });
            if outcome != Outcome::Done {
                left.insert(node.name.clone(), outcome);
            }
        }
        left
    }

    /// Applies until nothing is left that can be done now.
    pub(crate) fn apply(&self) -> Ended {
        let ended = self.apply_in_trouble();
        assert!(ended.failed.is_empty(), "{:?}", ended.failed);
        ended
    }

    /// The same, where calls go wrong: a node that fails for good is left alone.
    pub(crate) fn apply_in_trouble(&self) -> Ended {
        let mut plans: Vec<Plan> = Vec::new();
        let mut failed = self.recover();
        let mut held = BTreeSet::new();
        for _ in 0..24 {
            let (desired, observed, mut plan) = self.plan();
            for node in &mut plan.nodes {
                let Some(seen) = observed.nodes.get(&node.name) else { continue };
                let inputs = inputs(&desired.nodes[&node.name], seen);
                if let Some(failure) = journal::failed(&self.story(&node.name), &inputs) {
                    hold(node, failure);
                }
            }
            let due = |n: &&NodePlan| n.steps.iter().any(|s| s.waits.is_none()) && !failed.contains_key(&n.name);
            let binds = plan.cluster.steps.iter().any(|s| s.waits.is_none()) && failed.is_empty();
            let idle = !plan.nodes.iter().any(|n| due(&n)) && !binds;
            plans.push(plan.clone());
            if idle {
                return Ended { plans, after: observed, failed };
            }
            let nodes: Vec<&NodePlan> = plan.nodes.iter().filter(due).collect();
            for node in nodes {
                let (outcome, _) = self.node(node, &desired, &observed);
                // Twice before the same step, and planning anew leads nowhere by itself.
                let at = |step: u32| node.steps.iter().find(|s| s.id == step).map(|s| format!("{:?}", s.kind));
                let again = match &outcome {
                    Outcome::Held { step, .. } => !held.insert((node.name.clone(), at(*step))),
                    _ => false,
                };
                if again || matches!(outcome, Outcome::Failed { .. }) {
                    failed.insert(node.name.clone(), outcome);
                }
            }
            for step in plan.cluster.steps.iter().filter(|s| s.waits.is_none() && failed.is_empty()) {
                let (cluster, revision) = (self.cluster(), plan.desired.to_string());
                match &step.kind {
                    StepKind::BindWorkload { bind, .. } => at_once(cluster.bind(bind, &revision, false)),
                    StepKind::UnbindWorkload { bind, .. } => at_once(cluster.unbind(bind, &revision, false)),
                    other => panic!("{other:?}"),
                }
                .unwrap()
                .unwrap();
            }
        }
        let last = plans.last().unwrap();
        panic!("it does not settle:\n{}", sectile::render::text::plan(last, sectile::render::Style { wide: true }));
    }
}

/// The outside of one simulated node, where anything can go wrong.
type NodePorts<'a> = Ports<
    'a,
    Faulty<TestDriver, Meddling>,
    Faulty<SimCluster, Meddling>,
    Faulty<SimHost, Meddling>,
    Faulty<SimClock, Meddling>,
>;

/// What a killed run unwinds with; no message is printed for it.
pub(crate) struct Killed;

/// What becomes of a call, by its name.
pub(crate) type Hook = Rc<dyn Fn(&'static str) -> Fate>;

/// Decides as it was told last.
#[derive(Clone)]
pub(crate) struct Meddling {
    world: Shared,
    hook: Rc<RefCell<Hook>>,
}

impl Meddler for Meddling {
    fn fate(&self, call: &'static str) -> Fate {
        let hook = self.hook.borrow().clone();
        let fate = hook(call);
        // Through the library, a call of the driver goes wrong in there.
        let within = by_library() && port_of(call) == Some(PortKind::Driver) && !is_answered(call, &fate);
        if !within || fate == Fate::Passes {
            return fate;
        }
        strike(call, fate);
        Fate::Passes
    }
    fn pass(&self, ms: i64) {
        lock(&self.world).pass(ms);
    }
}

/// Whether our own side of the library has an answer to that code, so that nobody above it sees the fault: an older
/// version of a structure or of a list of processes, a longer list.
fn is_answered(call: &str, fate: &Fate) -> bool {
    let (Fate::Fails(code) | Fate::Loses(code)) = fate else { return false };
    match call {
        "gi_profile" | "gi_profile_by_id" | "ci_profile" => {
            ["ARGUMENT_VERSION_MISMATCH", "FUNCTION_NOT_FOUND", "INVALID_ARGUMENT"].contains(&code.as_str())
        }
        "compute_processes" | "graphics_processes" | "mps_processes" => {
            ["FUNCTION_NOT_FOUND", "INSUFFICIENT_SIZE"].contains(&code.as_str())
        }
        _ => false,
    }
}

/// A journal that outlives whoever writes it.
#[derive(Clone, Default)]
pub(crate) struct SharedJournal(pub(crate) Rc<RefCell<MemoryJournal>>);

impl Journal for SharedJournal {
    fn append(&mut self, line: &str) -> Port<()> {
        self.0.borrow_mut().append(line)
    }
    fn lines(&self) -> Port<Vec<String>> {
        self.0.borrow().lines()
    }
    fn clear(&mut self) -> Port<()> {
        self.0.borrow_mut().clear()
    }
}
