//! Every key of a policy, and every value of those that have words: a small scenario, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};

use sectile::model::plan::{BlockCode, Guard};
use sectile::model::policy::{self, Amount};
use sectile::model::{Block, NodePlan, Plan, StepKind};
use sectile::plan;
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use super::defects::{bare, layout, node, run, stateful, unit, words};
use super::fleets::Run;
use super::ready::workload;

/// A policy's key, a value of it as TOML, and what must come of it under that policy.
type Case = (&'static str, &'static str, fn(&str));

/// Keys whose scenarios stand elsewhere, and where.
const ELSEWHERE: [(&str, &str); 2] =
    [("failure.rollback", "the executor's tests"), ("failure.retries", "the executor's tests")];

const CASES: &[Case] = &[
    ("apply.mode", "\"auto\"", |p| assert_eq!(waits(&mover().plan(p)), (vec![], 0))),
    ("apply.mode", "\"undisruptive\"", |p| {
        let plan = mover().plan(p);
        let undisturbing = plan.steps.iter().filter(|step| !step.disruptive);
        assert!(undisturbing.clone().count() > 0 && undisturbing.into_iter().all(|step| step.waits.is_none()));
        only(&plan.waiting, BlockCode::UndisruptiveMode, "n");
        assert!(plan.steps.iter().filter(|s| s.disruptive).all(|s| s.waits == Some(BlockCode::UndisruptiveMode)));
    }),
    ("apply.mode", "\"manual\"", |p| {
        let plan = mover().plan(p);
        only(&plan.waiting, BlockCode::ManualMode, "n");
        assert!(plan.steps.iter().all(|step| step.waits == Some(BlockCode::ManualMode)));
        assert_eq!(plan.state.word(), "pending");
    }),
    ("drain.timeout", "\"90s\"", |p| {
        let timeouts = mover().plan(p).steps.into_iter().filter_map(|step| match step.kind {
            StepKind::AwaitGone { timeout_s, .. } | StepKind::AwaitReady { timeout_s, .. } => Some(timeout_s),
            _ => None,
        });
        assert_eq!(timeouts.collect::<Vec<_>>(), [90, 90]);
    }),
    ("drain.grace_period", "\"7s\"", |p| {
        let evicted = mover().plan(p).steps.into_iter().find_map(|step| match step.kind {
            StepKind::EvictPod { grace_period_s, .. } => Some(grace_period_s),
            _ => None,
        });
        assert_eq!(evicted, Some(Some(7)));
    }),
    ("drain.force", "false", |p| naked().blocks(p, BlockCode::UnmanagedPod, "pod x/w-0")),
    ("drain.force", "true", |p| assert!(naked().moves(p))),
    ("drain.delete_emptydir_data", "false", |p| with_data().blocks(p, BlockCode::EmptyDir, "pod x/w-0")),
    ("drain.delete_emptydir_data", "true", |p| assert!(with_data().moves(p))),
    ("drain.daemonsets", "\"refuse\"", |p| daemon().blocks(p, BlockCode::DaemonSetPod, "pod x/w-n")),
    ("drain.daemonsets", "\"delete\"", |p| {
        let plan = daemon().plan(p);
        assert!(plan.steps.iter().any(|s| matches!(&s.kind, StepKind::EvictPod { delete: true, .. })));
        assert!(daemon().moves(p));
    }),
    ("budget.max_nodes", "2", |p| assert_eq!(due(&fleet(5, p).plan().2), ["n0", "n1"])),
    ("budget.max_nodes", "\"40%\"", |p| assert_eq!(due(&fleet(5, p).plan().2), ["n0", "n1"])),
    ("budget.max_nodes", "\"1%\"", |p| assert_eq!(due(&fleet(5, p).plan().2), ["n0"])),
    ("budget.canary", "2", |p| {
        let (_, _, plan) = fleet(5, p).plan();
        assert_eq!(due(&plan), ["n0", "n1"]);
        let block = &plan.nodes[2].waiting[0];
        only(&plan.nodes[2].waiting, BlockCode::Budget, "n2");
        assert_eq!(block.message, "canary n0 converges first, and is changing");
    }),
    ("budget.canary", "0", |p| assert_eq!(due(&fleet(3, p).plan().2), ["n0", "n1", "n2"])),
    ("budget.max_pods", "1", |p| {
        // One node takes its own one after the other, and of two nodes one goes.
        let gpu = "0:1g.10gb:pod:x/w-0 1:1g.10gb:pod:x/v-0";
        let fleet = node("a", &[gpu, "0:1g.10gb 1:1g.10gb"]) + &node("b", &["0:1g.10gb:pod:x/u-0", "0:1g.10gb"]);
        let fleet = fleet + &stateful("w") + &stateful("v") + &stateful("u");
        let layouts = [layout("a", &["7g.80gb", "1g.10gb 1g.10gb"]), layout("b", &["7g.80gb", "1g.10gb"])];
        let run = run(&fleet, &layouts, p);
        let (_, _, plan) = run.plan();
        assert_eq!(due(&plan), ["a"]);
        assert_eq!(words(&plan.nodes[0]).iter().filter(|word| **word == "taint").count(), 2);
        only(&plan.nodes[1].waiting, BlockCode::Budget, "b");
        run.apply();
    }),
    ("budget.uncoordinated", "\"refuse\"", |p| {
        let plan = lonely(&format!("{p}max_nodes = 1\n"));
        only(&plan.blocked, BlockCode::Uncoordinated, "n");
        assert!(plan.steps.iter().all(|step| !step.disruptive));
        // What is not shared needs nobody to share it by.
        assert_eq!(lonely(p).blocked, []);
    }),
    ("budget.uncoordinated", "\"splay\"", |p| {
        // The node's turn comes within two periods; until then it waits for it.
        let run = alone(&format!("{p}max_nodes = 1\n"));
        let plan = run.plan().2.nodes.remove(0);
        only(&plan.waiting, BlockCode::Budget, "n");
        let then = plan.waiting[0].message.rsplit(' ').next().unwrap().parse::<jiff::Timestamp>().unwrap();
        lock(&run.world).advance(then.as_millisecond());
        assert_eq!(waits(&run.plan().2.nodes[0]), (vec![], 0));
        run.apply();
        assert_eq!(run.plan().2.nodes[0].state.word(), "converged");
    }),
    ("budget.splay", "\"10s\"", |p| {
        let run = alone(&format!("{p}uncoordinated = \"splay\"\n"));
        let begin = lock(&run.world).clock_ms;
        let turns: Vec<i64> = (0..20)
            .filter(|second| {
                lock(&run.world).advance(begin + second * 1000);
                run.plan().2.nodes[0].waiting.is_empty()
            })
            .collect();
        assert!(turns.len() == 2 && turns[0] < 10 && turns[1] >= 10, "{turns:?}");
    }),
    // The virtual clock begins on a Thursday at midnight, UTC.
    ("window.open", "[\"Thu 00:00-01:00\"]", |p| {
        let plan = mover().plan(p);
        assert_eq!(waits(&plan), (vec![], 0));
        let guarded = plan.steps.iter().find(|step| matches!(step.kind, StepKind::EvictPod { .. })).unwrap();
        assert!(guarded.guards.contains(&Guard::Window));
    }),
    ("window.open", "[\"Fri 00:00-01:00\"]", |p| {
        let plan = mover().plan(p);
        only(&plan.waiting, BlockCode::Window, "n");
        assert!(plan.steps.iter().all(|step| step.disruptive == (step.waits == Some(BlockCode::Window))));
    }),
    ("window.timezone", "\"Europe/Berlin\"", |p| {
        let open = |span: &str| format!("{p}open = [\"{span}\"]\n");
        assert_eq!(waits(&mover().plan(&open("Thu 01:00-02:00"))), (vec![], 0));
        only(&mover().plan(&open("Thu 00:00-01:00")).waiting, BlockCode::Window, "n");
    }),
    ("protect.pods", "[{ namespace = \"x\" }]", |p| mover().blocks(p, BlockCode::Protected, "pod x/w-0")),
    ("protect.pods", "[{ namespace = \"*x?\" }]", |p| assert!(mover().moves(p))),
    ("protect.pods", "[{ namespace = \"*x*\" }]", |p| mover().blocks(p, BlockCode::Protected, "pod x/w-0")),
    ("protect.pods", "[{ namespace = \"?\", labels = { tier = \"critical\" } }]", |p| {
        assert!(mover().moves(p), "it bears no such label");
        let mover = mover().with_pod(|pod| drop(pod.labels.insert("tier".into(), "critical".into())));
        mover.blocks(p, BlockCode::Protected, "pod x/w-0");
    }),
    ("protect.annotations", "true", |p| {
        for (key, value) in ANNOTATIONS {
            annotated(key, value).blocks(p, BlockCode::Annotated, "pod x/w-0");
            assert!(annotated(key, if value == "true" { "false" } else { "true" }).moves(p), "{key}");
        }
    }),
    ("protect.annotations", "false", |p| {
        assert!(ANNOTATIONS.iter().all(|(key, value)| annotated(key, value).moves(p)));
    }),
    ("protect.processes", "\"refuse\"", |p| busy().blocks(p, BlockCode::Process, "process 9 job")),
    ("protect.processes", "\"wait\"", |p| {
        let plan = busy().plan(p);
        only(&plan.waiting, BlockCode::ProcessWait, "process 9 job");
        assert_eq!((plan.blocked.len(), words(&plan).contains(&"destroy_instance")), (0, false));
    }),
    ("protect.processes", "\"terminate\"", |p| assert!(words(&busy().plan(p)).contains(&"terminate_process"))),
    ("gpu.mode_change", "\"refuse\"", |p| {
        only(&switched("off", "h100-80gb-sxm", p).blocked, BlockCode::ModeChange, "GPU 0");
    }),
    ("gpu.mode_change", "\"idle\"", |p| {
        assert!(words(&switched("off", "h100-80gb-sxm", p)).contains(&"set_mig_mode"));
        let used = switched("off !9/job", "h100-80gb-sxm", &format!("{p}[protect]\nprocesses = \"terminate\"\n"));
        only(&used.blocked, BlockCode::GpuInUse, "GPU 0");
    }),
    ("gpu.mode_change", "\"allow\"", |p| {
        let used = switched("off !9/job", "h100-80gb-sxm", &format!("{p}[protect]\nprocesses = \"terminate\"\n"));
        assert_eq!(used.blocked, []);
        assert!(words(&used).contains(&"terminate_process") && words(&used).contains(&"set_mig_mode"));
    }),
    ("gpu.reset", "\"refuse\"", |p| {
        only(&switched("off", "a100-80gb", p).blocked, BlockCode::Reset, "GPU 0");
        assert_eq!(switched("off", "h100-80gb-sxm", p).blocked, [], "a Hopper needs no reset");
    }),
    ("gpu.reset", "\"idle\"", |p| assert!(words(&switched("off", "a100-80gb", p)).contains(&"reset_gpu"))),
    // No simulated GPU needs a reboot, so none is asked for and none is done.
    ("gpu.reboot", "\"refuse\"", |p| assert!(words(&switched("off", "a100-80gb", p)).contains(&"reset_gpu"))),
    ("gpu.reboot", "\"request\"", |p| assert!(words(&switched("off", "a100-80gb", p)).contains(&"reset_gpu"))),
    ("gpu.reboot", "\"allow\"", |p| assert!(words(&switched("off", "a100-80gb", p)).contains(&"reset_gpu"))),
    ("clients.allocation", "\"auto\"", |p| assert!(mover().moves(p))),
    ("clients.allocation", "\"device-plugin\"", |p| assert!(mover().moves(p))),
    ("clients.allocation", "\"dra\"", |p| {
        let plan = mover().plan(p);
        only(&plan.blocked, BlockCode::Allocation, "n");
        assert_eq!(plan.steps, []);
        assert_eq!(alone(p).plan().2.nodes[0].blocked, [], "nobody allocates where there is no cluster");
        // The other way round, and where nothing tells.
        let (desired, observed, made) = mover().under("[clients]\nallocation = \"device-plugin\"\n").plan();
        let served = |allocation| {
            let mut seen = observed.clone();
            seen.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap().allocation = allocation;
            let found = plan::check::check(&desired, &seen, &made);
            let plan = plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH).nodes.remove(0);
            (plan.blocked.iter().map(|block| block.code).collect::<Vec<_>>(), found.len())
        };
        assert_eq!(served(policy::Allocation::Dra), (vec![BlockCode::Allocation], 1));
        assert_eq!(served(policy::Allocation::Auto), (vec![], 0));
    }),
    ("clients.systemd", "[\"dcgm.service\", \"stopped.service\", \"absent.service\"]", |p| {
        let mover = mover();
        {
            let mut world = lock(&mover.0.world);
            let units = &mut world.nodes.get_mut("n").unwrap().units;
            units.insert("dcgm.service".into(), SimUnit { active: true, ..SimUnit::default() });
            units.insert("stopped.service".into(), SimUnit::default());
        }
        let run = mover.under(p);
        let paused =
            |kind: &StepKind| matches!(kind, StepKind::PauseClients { units, .. } if *units == ["dcgm.service"]);
        assert!(run.plan().2.nodes[0].steps.iter().any(|step| paused(&step.kind)));
        run.apply();
        let world = lock(&run.world);
        let active: Vec<bool> = world.nodes["n"].units.values().map(|unit| unit.active).collect();
        assert_eq!(active, [true, false], "what runs is stopped and started, and nothing else");
    }),
    ("clients.commands", "[{ pause = [\"/p\"], paused = [\"/q\"], resume = [\"/r\"] }]", |p| {
        let run = mover().under(p);
        let plan = run.plan().2.nodes.remove(0);
        let named = plan.steps.iter().find_map(|step| match &step.kind {
            StepKind::PauseClients { commands, .. } => commands.first().map(ToString::to_string),
            _ => None,
        });
        assert_eq!(named.as_deref(), Some("policies/p.toml:3 #1"));
        assert_eq!(plan.warnings, [] as [&str; 0]);
        let begin = lock(&run.world).clock_ms;
        run.apply();
        let world = lock(&run.world);
        assert!(world.nodes["n"].commands.is_empty(), "it is resumed");
        assert!(world.clock_ms - begin > 2_000, "its pause was waited for");
    }),
    ("writers.mig_manager", "\"refuse\"", |p| {
        let plan = with_mig_manager(&[]).under(p).plan().2.nodes.remove(0);
        only(&plan.blocked, BlockCode::ForeignWriter, "n");
        assert_eq!(plan.steps, []);
    }),
    ("writers.mig_manager", "\"take_over\"", |p| {
        let run = with_mig_manager(&[]).under(p);
        let plan = run.plan().2.nodes.remove(0);
        assert_eq!((words(&plan)[0], plan.blocked.len()), ("stand_down", 0));
        assert!(plan.steps.iter().skip(1).all(|step| !step.after.is_empty()));
        assert!(lock(&run.world).pods.contains_key("gpu-operator/mig-manager-n"));
        run.apply();
        assert!(!lock(&run.world).pods.contains_key("gpu-operator/mig-manager-n"));
        assert_eq!(run.plan().2.nodes[0].state.word(), "converged");
        // Not while it works.
        let state = [("nvidia.com/mig.config.state", "pending")];
        only(&with_mig_manager(&state).under(p).plan().2.nodes[0].blocked, BlockCode::ForeignWriter, "n");
    }),
];

const ANNOTATIONS: [(&str, &str); 3] = [
    ("sectile.dev/do-not-disrupt", "true"),
    ("karpenter.sh/do-not-disrupt", "true"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
];

/// A world, and the layout of its node `n`.
pub(crate) struct Scene(Run, String);

impl Scene {
    fn new(fleet: &str, layout: String) -> Scene {
        Scene(run(fleet, std::slice::from_ref(&layout), ""), layout)
    }

    pub(crate) fn with_pod(self, change: impl Fn(&mut sectile::sim::world::SimPod)) -> Scene {
        lock(&self.0.world).pods.values_mut().for_each(change);
        self
    }

    /// The same world under a policy.
    pub(crate) fn under(&self, policy: &str) -> Run {
        let policy = format!("nodes = [\"*\"]\n{policy}");
        let files = [("layouts/0.toml", self.1.as_str()), ("policies/p.toml", policy.as_str())];
        Run::of(self.0.world.clone(), Run::new("", &files).tree)
    }

    fn plan(&self, policy: &str) -> NodePlan {
        self.under(policy).plan().2.nodes.remove(0)
    }

    fn blocks(&self, policy: &str, code: BlockCode, object: &str) {
        let plan = self.plan(policy);
        only(&plan.blocked, code, object);
        assert!(plan.steps.iter().all(|step| !step.disruptive));
    }

    /// Whether the pod moves, and the node converges.
    fn moves(&self, policy: &str) -> bool {
        let moves = words(&self.plan(policy)).contains(&"evict_pod");
        // Another world, so that a scene may be looked at twice.
        let world = lock(&self.0.world).clone();
        let run = self.under(policy);
        run.apply();
        let converged = run.plan().2.nodes[0].state.word() == "converged";
        assert!(lock(&run.world).ledger.is_empty());
        *lock(&self.0.world) = world;
        moves && converged
    }
}

/// One block, of that code, on that object, with a way out.
fn only(blocks: &[Block], code: BlockCode, object: &str) {
    let [block] = blocks else { panic!("{blocks:#?}") };
    assert_eq!(block.code, code);
    assert!(block.object.starts_with(object), "{}", block.object);
    assert!(!block.hint.is_empty() && !block.message.is_empty());
}

/// Codes of what waits, and how many steps do.
fn waits(plan: &NodePlan) -> (Vec<BlockCode>, usize) {
    assert!(plan.steps.iter().any(|step| step.disruptive), "nobody is disturbed");
    (plan.waiting.iter().map(|b| b.code).collect(), plan.steps.iter().filter(|s| s.waits.is_some()).count())
}

/// Nodes that would change now.
fn due(plan: &Plan) -> Vec<&str> {
    let now = |node: &&NodePlan| node.steps.iter().any(|step| step.waits.is_none());
    plan.nodes.iter().filter(now).map(|node| node.name.as_str()).collect()
}

/// A pod that has to go to the other GPU.
pub(crate) fn mover() -> Scene {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:2g.20gb"]) + &stateful("w");
    Scene::new(&fleet, layout("n", &["7g.80gb", "2g.20gb 1g.10gb"]))
}

pub(crate) fn annotated(key: &str, value: &str) -> Scene {
    mover().with_pod(|pod| drop(pod.annotations.insert(key.into(), value.into())))
}

pub(crate) fn with_data() -> Scene {
    mover().with_pod(|pod| pod.empty_dir = true)
}

pub(crate) fn naked() -> Scene {
    Scene::new(&node("n", &["0:1g.10gb:pod:x/w-0"]), layout("n", &["7g.80gb"]))
}

pub(crate) fn daemon() -> Scene {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-n", ""]) + &workload("DaemonSet", "w", 1, "1g.10gb", "");
    Scene::new(&fleet, layout("n", &["7g.80gb", "1g.10gb"]))
}

pub(crate) fn busy() -> Scene {
    Scene::new(&node("n", &["0:1g.10gb:process:9/job"]), layout("n", &["7g.80gb"]))
}

/// A node whose mig-manager was given a configuration.
pub(crate) fn with_mig_manager(more: &[(&str, &str)]) -> Scene {
    let operator = "[[workload]]\nkind = \"DaemonSet\"\nnamespace = \"gpu-operator\"\nname = \"mig-manager\"\ngrace = \"1s\"\n\
                    node_selector = { \"nvidia.com/gpu.deploy.mig-manager\" = \"true\" }\n";
    let labels = [("nvidia.com/gpu.deploy.mig-manager", "true"), ("nvidia.com/mig.config", "all-balanced")];
    let labels: Vec<String> =
        labels.iter().chain(more).map(|(key, value)| format!("\"{key}\" = \"{value}\"")).collect();
    let labels = format!("name = \"n\"\nlabels = {{ {} }}\n", labels.join(", "));
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:2g.20gb"]).replace("name = \"n\"\n", &labels);
    Scene::new(&(fleet + &stateful("w") + operator), layout("n", &["7g.80gb", "2g.20gb 1g.10gb"]))
}

/// A GPU that is to have instances.
pub(crate) fn switched(gpu: &str, board: &str, policy: &str) -> NodePlan {
    let fleet = node("n", &[gpu]).replace("h100-80gb-sxm", board);
    run(&fleet, &[layout("n", &["1g"])], policy).plan().2.nodes.remove(0)
}

/// Nodes `n0`, `n1`… of which each lacks an instance.
pub(crate) fn fleet(nodes: usize, policy: &str) -> Run {
    let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
    let fleet: String = names.iter().map(|name| node(name, &["0:2g.20gb"])).collect();
    let layouts: Vec<String> = names.iter().map(|name| layout(name, &["2g.20gb 1g.10gb"])).collect();
    run(&fleet, &layouts, policy)
}

/// A node in no cluster whose unit has to move.
fn alone(policy: &str) -> Run {
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
    run(&bare("n", &["0:1g.10gb:unit:u.service", "0:2g.20gb"]), &[layout], policy)
}

pub(crate) fn lonely(policy: &str) -> NodePlan {
    alone(policy).plan().2.nodes.remove(0)
}

/// What stands in quotes behind `settings! {`: the keys.
fn keys() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/config/schema/policy.rs");
    let lines = source.lines().skip_while(|line| !line.contains("settings! {")).skip(1);
    let keys = lines.take_while(|line| !line.starts_with('}')).filter_map(|line| line.split('"').nth(1));
    keys.chain(["protect.pods"]).collect()
}

#[test]
fn every_key_has_a_scenario_and_every_word_of_it() {
    let told: BTreeSet<&str> = CASES.iter().map(|case| case.0).chain(ELSEWHERE.map(|(key, _)| key)).collect();
    assert_eq!(told, keys());
    let values: BTreeMap<&str, BTreeSet<&str>> = CASES.iter().fold(BTreeMap::new(), |mut all, (key, value, _)| {
        all.entry(*key).or_insert_with(BTreeSet::new).insert(value.trim_matches('"'));
        all
    });
    for (key, words) in [
        ("apply.mode", policy::ApplyMode::WORDS),
        ("drain.force", &["true", "false"]),
        ("drain.delete_emptydir_data", &["true", "false"]),
        ("drain.daemonsets", policy::DaemonSets::WORDS),
        ("budget.uncoordinated", &["refuse", "splay"]),
        ("protect.annotations", &["true", "false"]),
        ("protect.processes", policy::Processes::WORDS),
        ("gpu.mode_change", policy::ModeChange::WORDS),
        ("gpu.reset", policy::ResetRule::WORDS),
        ("gpu.reboot", policy::RebootRule::WORDS),
        ("clients.allocation", policy::Allocation::WORDS),
        ("writers.mig_manager", policy::WriterRule::WORDS),
    ] {
        assert_eq!(values[key], words.iter().copied().collect(), "{key}");
    }
}

#[test]
fn every_key_takes_effect() {
    for (key, value, scenario) in CASES {
        let (section, name) = key.split_once('.').unwrap();
        println!("{key} = {value}");
        scenario(&format!("[{section}]\n{name} = {value}\n"));
    }
}

/// A share is of the nodes that the file matches, and no other file's nodes count.
#[test]
fn a_share_is_of_the_nodes_of_its_own_file() {
    let run = fleet(6, "");
    let layouts: Vec<(String, String)> =
        (0..6).map(|n| (format!("layouts/{n}.toml"), layout(&format!("n{n}"), &["2g.20gb 1g.10gb"]))).collect();
    let policies = [
        ("policies/a.toml", "nodes = [\"n[0-3]\"]\n[budget]\nmax_nodes = \"50%\"\n"),
        ("policies/b.toml", "nodes = [\"n[45]\"]\n[budget]\nmax_nodes = 1\n"),
    ];
    let files = layouts.iter().map(|(path, text)| (path.as_str(), text.as_str())).chain(policies);
    let run = Run::of(run.world, Run::new("", &files.collect::<Vec<_>>()).tree);
    let (desired, _, plan) = run.plan();
    let max = desired.nodes["n0"].policy.as_ref().unwrap().budget.max_nodes.clone().unwrap();
    assert_eq!((max.limit, &*max.over.file), (Amount::Percent(50), "policies/a.toml"));
    assert_eq!(due(&plan), ["n0", "n1", "n4"]);
}
