//! The examples of the product's page, from the text to a checked plan and on to a converged fleet.

use std::collections::BTreeMap;

use sectile::config::{GpuFacts, NodeFacts, Tree, load, resolve};
use sectile::execute::{Machine, Outcome, Ports, drive, observe};
use sectile::gpu::Gpus;
use sectile::model::plan::{BlockCode, NodeState, StepKind};
use sectile::model::{Desired, Known, Observed, Plan};
use sectile::plan;
use sectile::ports::{Clock as _, Cluster as _};
use sectile::render::text;
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::{Shared, fleet, lock};

use crate::config_good::{LAYOUT, POLICY, tree};
use crate::door::TestDriver;
use crate::ready::{ready, shared};

/// The fleet of the product's page.
const FLEET: &str = r#"[[node]]
name = "gpu-a-01"
labels = { pool = "inference" }
  [[node.gpu]]
  model = "h100-80gb-sxm"                # a catalogue id
  mig = true
  instances = [
    { profile = "3g.40gb", start = 4, users = ["pod:inference/llama-chat-7d9f"] },
    { profile = "2g.20gb", start = 0 },
    { profile = "1g.10gb", start = 2 },
  ]
  processes = []                         # for GPUs without MIG: who uses them
[[workload]]                             # what the simulated cluster runs
kind = "Deployment"
namespace = "inference"
name = "llama-chat"
replicas = 1
profile = "3g.40gb"
[[budget]]                               # a PodDisruptionBudget
namespace = "inference"
name = "embed"
workload = "embed"
max_unavailable = 1
[fault]                                  # optional: which call fails, when and how, or how long it takes
"#;

/// Nodes that the layout of the product's page fits: two GPUs for the indices, two more for `count`, and on the first
/// node the one that is named by its UUID. A pod sits where the 4g.40gb must come.
const FITTING: &str = r#"[[node]]
name = "gpu-a-01"
labels = { pool = "inference" }
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [
    { profile = "2g.20gb", start = 0, users = ["command:desktop-vm-7"] },
    { profile = "1g.10gb", start = 2, users = ["unit:embedder.service"] },
    { profile = "3g.40gb", start = 4, users = ["pod:inference/llama-chat-7d9f"] },
  ]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "3g.40gb", start = 4, users = ["pod:inference/llama-chat-x2kq"] }]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [
    { profile = "2g.20gb", start = 0, users = ["pod:inference/embed-0"] },
    { profile = "3g.40gb", start = 4, users = ["pod:inference/llama-chat-p6wd"] },
  ]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "7g.80gb" }]
[[node]]
name = "gpu-a-02"
labels = { pool = "inference" }
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "1g.10gb", users = ["unit:embedder.service"] }]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  count = 3
[[workload]]
kind = "Deployment"
namespace = "inference"
name = "llama-chat"
replicas = 3
profile = "3g.40gb"
[[workload]]
kind = "StatefulSet"
namespace = "inference"
name = "embed"
replicas = 1
profile = "2g.20gb"
[[budget]]
namespace = "inference"
name = "embed"
workload = "embed"
max_unavailable = 1
"#;

struct Node {
    gpus: Gpus<TestDriver>,
    host: SimHost,
}

/// A simulated fleet and a tree for it.
struct House {
    world: Shared,
    nodes: BTreeMap<String, Node>,
    tree: Tree,
}

impl House {
    fn new(world: Shared, files: &[(&str, &str)]) -> Self {
        House::of(world, tree(files))
    }

    fn of(world: Shared, tree: Tree) -> Self {
        let names: Vec<String> = lock(&world).nodes.keys().cloned().collect();
        let node = |name: String| {
            let gpus = Gpus::new(TestDriver::new(world.clone(), &name));
            let host = SimHost { world: world.clone(), node: name.clone() };
            (name, Node { gpus, host })
        };
        let nodes = names.into_iter().map(node).collect();
        House { world, nodes, tree }
    }

    fn observe(&self) -> Observed {
        let cluster = SimCluster { world: self.world.clone() };
        let units = self.tree.units();
        let mut observed = Observed { cluster: ready(cluster.observe()).unwrap(), ..Observed::default() };
        for (name, Node { gpus, host }) in &self.nodes {
            let seen = observe::node(name, gpus, Some(&cluster), host, &units, &Known::Unknown);
            observed.nodes.insert(name.clone(), ready(seen).unwrap());
        }
        observed
    }

    /// Resolves, plans, and holds the plan to the checker's invariants.
    fn plan(&self) -> (Desired, Observed, Plan) {
        let observed = self.observe();
        let facts = observed.nodes.values().map(|node| {
            let gpus = node.gpus.iter().map(|gpu| GpuFacts {
                uuid: gpu.uuid.clone(),
                pci: gpu.pci.clone(),
                index: gpu.index,
                model: gpu.model.clone(),
                board: gpu.board.clone(),
            });
            NodeFacts { name: node.name.clone(), labels: node.labels.clone(), gpus: gpus.collect(), changed: None }
        });
        let resolved = resolve(&self.tree, &facts.collect::<Vec<_>>());
        assert_eq!(resolved.diagnostics, []);
        let now = SimClock { world: self.world.clone() }.now();
        let plan = plan::plan(&resolved.desired, &observed, now);
        let broken = plan::check::check(&resolved.desired, &observed, &plan);
        assert!(broken.is_empty(), "{}", broken.iter().map(|v| format!("{v}\n")).collect::<String>());
        (resolved.desired, observed, plan)
    }

    /// Carries plans out until nothing is left to do; how many it took.
    fn converge(&self) -> usize {
        let cluster = SimCluster { world: self.world.clone() };
        let clock = SimClock { world: self.world.clone() };
        for pass in 0..10 {
            let (desired, observed, plan) = self.plan();
            let due = |node: &&sectile::model::NodePlan| !node.steps.is_empty();
            if !plan.nodes.iter().any(|node| due(&node)) {
                assert!(plan.nodes.iter().all(|node| node.state == NodeState::Converged), "{plan:#?}");
                return pass;
            }
            for node in plan.nodes.iter().filter(due) {
                let there = &self.nodes[&node.name];
                let in_cluster = observed.nodes[&node.name].cluster.is_some();
                let units = self.tree.units();
                let ports = Ports {
                    node: &node.name,
                    gpus: &there.gpus,
                    cluster: in_cluster.then_some(&cluster),
                    host: &there.host,
                    clock: &clock,
                    bindings: &desired.bindings,
                    units: &units,
                    turn: None,
                };
                let policy = desired.nodes[&node.name].policy.clone().unwrap_or_default();
                let mut journal = MemoryJournal::default();
                let machine = Machine::new(node, &policy);
                let outcome = ready(drive(machine, &ports, &mut journal, &|| false, &mut |_| {}));
                assert!(matches!(outcome, Outcome::Done | Outcome::Held { .. }), "{}: {outcome:?}", node.name);
            }
        }
        panic!("ten plans did not converge");
    }
}

/// The page's layout and policy on nodes that fit it; the UUID is that of the fifth GPU of the first node.
fn inference() -> House {
    let world = shared(FITTING);
    let uuid = lock(&world).nodes["gpu-a-01"].gpus[4].uuid.clone();
    let layout = LAYOUT.replace("GPU-1b3c…", &uuid);
    assert!(layout.contains(&uuid));
    House::new(world, &[("layouts/inference.toml", &layout), ("policies/all.toml", POLICY)])
}

#[test]
fn the_products_layout_and_policy_plan_what_the_page_promises() {
    let house = inference();
    let (desired, _, plan) = house.plan();
    let [first, second] = plan.nodes.as_slice() else { panic!() };
    // The first is the canary, and the tenth of two nodes is one.
    assert_eq!((first.state, second.state), (NodeState::Changing, NodeState::Waiting), "{plan:#?}");
    assert_eq!((&first.blocked, &first.waiting, &second.blocked), (&vec![], &vec![], &vec![]));
    let [turn] = second.waiting.as_slice() else { panic!("{:#?}", second.waiting) };
    assert_eq!((turn.code, turn.message.contains("gpu-a-01")), (BlockCode::Budget, true), "{turn:?}");
    assert_eq!(plan.cluster.blocked, []);
    assert!(first.optimal && second.optimal);
    // Everything that may stay stays: of the first node's, the instance in the way and the GPU without MIG go.
    let kept: Vec<usize> = first.gpus.iter().map(|gpu| gpu.keep.len()).collect();
    assert_eq!(kept, [3, 1, 1, 0, 0]);
    let made: Vec<usize> = first.gpus.iter().map(|gpu| gpu.create.len()).collect();
    assert_eq!(made, [1, 3, 1, 2, 0]);
    let fifth = &first.gpus[4];
    assert_eq!((fifth.mig.now, fifth.mig.then, fifth.destroy.len()), (true, false, 1));
    let entries: Vec<String> = first.gpus.iter().map(|gpu| gpu.source.as_ref().unwrap().to_string()).collect();
    assert_eq!(entries, [4, 4, 8, 8, 13].map(|line| format!("layouts/inference.toml:{line}")));
    // One pod has to move, it has a place before it goes, and the budget is asked.
    let [moved] = first.disruptions.as_slice() else { panic!("{:#?}", first.disruptions) };
    assert_eq!((moved.name.as_str(), moved.moves_to.as_deref()), ("embed-0", Some("GPU 1")));
    let evictions = first.steps.iter().filter(|step| matches!(step.kind, StepKind::EvictPod { .. }));
    assert_eq!(evictions.count(), 1);
    assert!(second.disruptions.is_empty());
    assert!(desired.nodes["gpu-a-01"].policy.as_ref().is_some_and(|policy| policy.window.is_some()));
}

#[test]
fn outside_of_the_products_window_only_what_disturbs_nobody_is_done() {
    let house = inference();
    // Thursday, 1 January 2026, at noon in Berlin.
    lock(&house.world).pass(11 * 60 * 60 * 1000);
    let (_, _, plan) = house.plan();
    let first = &plan.nodes[0];
    assert_eq!(first.waiting.iter().map(|block| block.code).collect::<Vec<_>>(), [BlockCode::Window]);
    assert!(first.steps.iter().all(|step| step.disruptive <= step.waits.is_some()));
    assert!(first.steps.iter().any(|step| step.waits.is_none()));
}

#[test]
fn the_products_layout_converges_and_takes_nothing_from_anybody() {
    let house = inference();
    assert!(house.converge() > 0);
    let world = lock(&house.world);
    assert!(world.ledger.is_empty(), "{:?}", world.ledger);
    assert!(world.nodes.values().all(|node| !node.tainted && !node.clients_paused));
    assert!(world.nodes.values().all(|node| node.units["embedder.service"].active));
}

#[test]
fn the_products_fleet_is_read_planned_and_brought_to_a_small_layout() {
    let layout = "nodes = [\"gpu-a-*\"]\n[[gpu]]\ninstances = { \"3g.40gb\" = 1, \"2g.20gb\" = 1, \"1g.10gb\" = 2 }\n";
    let house = House::new(shared(FLEET), &[("layouts/inference.toml", layout), ("policies/all.toml", POLICY)]);
    let (_, _, plan) = house.plan();
    let gpu = &plan.nodes[0].gpus[0];
    assert_eq!((gpu.keep.len(), gpu.destroy.len(), gpu.create.len()), (3, 0, 1));
    assert_eq!((gpu.create[0].profile.to_string().as_str(), gpu.create[0].start), ("1g.10gb", 3));
    assert!(plan.nodes[0].disruptions.is_empty());
    assert_eq!(house.converge(), 1);
}

/// One pod has a place, another has none, and an idle unit waits for what the first one's move would make room for.
#[test]
fn nothing_is_started_on_what_a_dropped_round_would_have_made() {
    let fleet = r#"[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "1g.10gb", start = 0, users = ["pod:x/a-0"] }]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "3g.40gb", start = 0, users = ["pod:x/b-0"] }]
[[workload]]
kind = "StatefulSet"
namespace = "x"
name = "a"
profile = "1g.10gb"
[[workload]]
kind = "StatefulSet"
namespace = "x"
name = "b"
profile = "3g.40gb"
"#;
    let layout = r#"nodes = ["n"]
[[gpu]]
index = [0]
instances = [{ profile = "2g.20gb", start = 0 }, { profile = "1g.10gb", start = 4 }]
[[gpu]]
index = [1]
instances = [{ profile = "4g.40gb", start = 0 }]
[[workload]]
name = "u"
systemd = { unit = "u.service" }
profile = "2g.20gb"
"#;
    let world = shared(fleet);
    lock(&world).nodes.get_mut("n").unwrap().units.insert("u.service".to_owned(), Default::default());
    let house = House::new(world, &[("layouts/n.toml", layout), ("policies/all.toml", "[apply]\nmode = \"auto\"\n")]);
    let (_, _, plan) = house.plan();
    let codes: Vec<BlockCode> = plan.nodes[0].blocked.iter().map(|block| block.code).collect();
    assert_eq!(codes, [BlockCode::NoCapacity]);
    assert!(!plan.nodes[0].steps.iter().any(|step| matches!(step.kind, StepKind::StartUnit { .. })));
}

/// Each node has what its own binding wants; a plan of one of them is not about the other's.
#[test]
fn bindings_of_different_nodes_share_nothing() {
    let node = |name: &str| {
        let users = format!("users = [\"pod:x/{name}-0\"]");
        format!(
            "[[node]]\nname = \"{name}\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n\
             instances = [{{ profile = \"3g.40gb\", start = 4, {users} }}]\n"
        )
    };
    let workload = |name: &str| {
        format!("[[workload]]\nkind = \"StatefulSet\"\nnamespace = \"x\"\nname = \"{name}\"\nprofile = \"3g.40gb\"\n")
    };
    let fleet = [node("a"), node("b"), workload("a"), workload("b")].concat();
    let binding = |name: &str| {
        let object = format!("{{ kind = \"StatefulSet\", namespace = \"x\", name = \"{name}\" }}");
        format!("[[workload]]\nname = \"{name}\"\nkubernetes = {object}\nprofile = \"3g.40gb\"\nnodes = [\"{name}\"]\n")
    };
    let layout = "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"3g.40gb\"]\n".to_owned() + &binding("a") + &binding("b");
    let mut house = House::new(shared(&fleet), &[("layouts/all.toml", &layout)]);
    assert_eq!(house.plan().2.cluster.blocked, []);
    house.nodes.remove("b");
    assert_eq!(house.plan().2.cluster.blocked, []);
    // Without a word on nodes, both bind what one node has.
    let layout = layout.replace("nodes = [\"a\"]\n", "").replace("nodes = [\"b\"]\n", "");
    let house = House { tree: tree(&[("layouts/all.toml", &layout)]), ..house };
    let codes: Vec<BlockCode> = house.plan().2.cluster.blocked.iter().map(|block| block.code).collect();
    assert_eq!(codes, [BlockCode::OverBound]);
}

#[test]
fn too_few_gpus_are_told_once() {
    let fleet = "[[node]]\nname = \"n\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nmig = true\n";
    let layout = "nodes = [\"n\"]\n[[gpu]]\ncount = 2\ninstances = [\"3g\"]\n";
    let (_, _, plan) = House::new(shared(fleet), &[("layouts/n.toml", layout)]).plan();
    let codes: Vec<BlockCode> = plan.nodes[0].blocked.iter().map(|block| block.code).collect();
    assert_eq!(codes, [BlockCode::TooFewGpus]);
    assert!(plan.nodes[0].steps.is_empty());
}

#[test]
fn one_node_is_planned_alone() {
    let mut house = inference();
    house.nodes.retain(|name, _| name == "gpu-a-02");
    let (_, _, plan) = house.plan();
    assert_eq!((plan.nodes.len(), &plan.cluster.blocked), (1, &vec![]));
}

#[test]
fn the_manuals_plan_is_what_is_printed_of_the_builtin_fleet() {
    let house = House::of(shared(fleet::BUILTIN), load(env!("CARGO_MANIFEST_DIR").as_ref()).tree.unwrap());
    let text = text::plan(&house.plan().2, sectile::render::Style::default());
    let text = anstream::adapter::strip_str(&text).to_string();
    let example = include_str!("../../packaging/doc/plan.md").split("```").nth(1).unwrap();
    let gpus: String = example.lines().filter(|line| line.starts_with("  ")).map(|line| format!("{line}\n")).collect();
    assert!(gpus.lines().count() > 10 && text.contains(&gpus), "{text}");
}
