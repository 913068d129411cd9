//! Whole runs on simulated fleets: parse, observe, resolve, plan, check, carry out, observe again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use sectile::config::{self, NodeFacts, Tree};
use sectile::execute::{Machine, News, Outcome, Ports, at_once, drive, observe};
use sectile::gpu::Gpus;
use sectile::model::{Desired, Digest, Known, NodePlan, Observed, Plan, Revision};
use sectile::plan;
use sectile::ports::{Clock as _, Cluster as _, Request};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::{Shared, fleet, lock};

/// A simulated fleet and a tree for it.
pub(crate) struct Run {
    pub(crate) world: Shared,
    pub(crate) tree: Tree,
    pub(crate) nodes: Vec<(String, Gpus<SimDriver>)>,
}

/// What a run ended with.
pub(crate) struct Ended {
    /// The plan of every pass; the last one has nothing to do now.
    pub(crate) plans: Vec<Plan>,
    /// What was observed after the last.
    pub(crate) after: Observed,
    /// Nodes where a process that nobody explains outlived twice whoever had joined it on its instance.
    pub(crate) given_up: BTreeSet<String>,
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
        Run { world, tree, nodes: Vec::new() }.with_nodes()
    }

    /// With the drivers of the world's nodes.
    pub(crate) fn with_nodes(self) -> Run {
        let Run { world, tree, nodes: _ } = self;
        let names: Vec<String> = lock(&world).nodes.keys().cloned().collect();
        let gpus = |name: String| (name.clone(), Gpus::new(SimDriver::new(world.clone(), name)));
        let nodes = names.into_iter().map(gpus).collect();
        Run { world, tree, nodes }
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
        let dead = |asked| if asked > most { panic!("killed") } else { false };
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
        let (cluster, clock) = (self.cluster(), SimClock { world: self.world.clone() });
        let host = SimHost { world: self.world.clone(), node: plan.name.clone() };
        let (_, gpus) = self.nodes.iter().find(|(name, _)| *name == plan.name).unwrap();
        let units: BTreeSet<String> = self.tree.units();
        let ports = Ports {
            node: &plan.name,
            gpus,
            cluster: observed.nodes[&plan.name].cluster.is_some().then_some(&cluster),
            host: &host,
            clock: &clock,
            bindings: &desired.bindings,
            units: &units,
        };
        let policy = desired.nodes[&plan.name].policy.clone().unwrap_or_default();
        let (mut journal, mut news) = (MemoryJournal::default(), Vec::new());
        let mut tell = |n: &News| news.push(n.clone());
        let machine = Machine::new(plan, &policy);
        let asked = std::cell::Cell::new(0);
        let interrupted = || {
            asked.set(asked.get() + 1);
            stop(asked.get())
        };
        let outcome = at_once(drive(machine, &ports, &mut journal, &interrupted, &mut tell)).unwrap();
        (outcome, news)
    }

    /// Applies until nothing is left that can be done now, as the command does.
    pub(crate) fn apply(&self) -> Ended {
        let mut plans: Vec<Plan> = Vec::new();
        let (mut held, mut given_up) = (BTreeMap::<String, u32>::new(), BTreeSet::new());
        for _ in 0..12 {
            let (desired, observed, plan) = self.plan();
            let due = |n: &&NodePlan| n.steps.iter().any(|s| s.waits.is_none());
            let due = |n: &&NodePlan| due(n) && !given_up.contains(&n.name);
            let idle = !plan.nodes.iter().any(|n| due(&n)) && plan.cluster.steps.iter().all(|s| s.waits.is_some());
            plans.push(plan.clone());
            if idle {
                return Ended { plans, after: observed, given_up };
            }
            for node in plan.nodes.iter().filter(due).collect::<Vec<_>>() {
                let (outcome, news) = self.node(node, &desired, &observed);
                assert!(matches!(outcome, Outcome::Done | Outcome::Held { .. }), "{outcome:?} {news:?}");
                let Outcome::Held { why, .. } = &outcome else { continue };
                if why.starts_with("in use by process:") {
                    let times = held.entry(node.name.clone()).or_default();
                    *times += 1;
                    given_up.extend((*times > 1).then(|| node.name.clone()));
                }
            }
            for step in plan.cluster.steps.iter().filter(|s| s.waits.is_none()) {
                at_once(self.cluster().bind(&Request::of(&step.kind).unwrap())).unwrap().unwrap();
            }
        }
        let last = plans.last().unwrap();
        panic!("it does not settle:\n{}", sectile::render::text::plan(last, sectile::render::Style { wide: true }));
    }
}
