//! Nodes whose device plugin names MIG devices otherwise than by their profiles.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sectile::execute::Outcome;
use sectile::model::desired::{Goal, Wanted};
use sectile::model::observed::{MigStrategy, NodeInCluster, PodPhase};
use sectile::model::plan::BlockCode;
use sectile::model::{NodePlan, Observed, StepKind};
use sectile::plan;
use sectile::plan::check::{Invariant, check};
use sectile::render::{self, Style};
use sectile::sim::fault::Fate;
use sectile::sim::lock;

use super::defects::{layout, managed, node, run, unit, words};
use super::fleets::Run;
use super::mutants::drawn;
use super::ready::budget;

/// A node of H100s with that strategy.
fn under(strategy: &str, name: &str, gpus: &[&str]) -> String {
    let head = format!("name = \"{name}\"\n");
    node(name, gpus).replacen(&head, &format!("{head}strategy = \"{strategy}\"\n"), 1)
}

/// A Deployment whose pods ask for whatever is `nvidia.com/gpu`.
fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"{name}\"\nreplicas = {replicas}\n\
         resource = \"nvidia.com/gpu\"\n"
    )
}

fn planned(run: &Run) -> NodePlan {
    run.plan().2.nodes.remove(0)
}

fn converges(run: &Run) {
    let last = run.apply().plans.pop().unwrap();
    let states: Vec<_> = last.nodes.iter().map(|node| (node.state.word(), node.blocked.len())).collect();
    assert!(states.iter().all(|(state, n)| ["converged", "unmanaged"].contains(state) && *n == 0), "{states:?}");
    let world = lock(&run.world);
    assert!(world.ledger.is_empty(), "{:?}", world.ledger);
    assert!(world.nodes.values().all(|node| !node.tainted && !node.clients_paused && !node.advertised.is_empty()));
    assert!(world.pods.values().all(|pod| pod.phase == PodPhase::Running && !pod.devices.is_empty()));
}

#[test]
fn what_the_plugin_would_not_start_with_is_blocked_before_anything_is_touched() {
    let scenes: [(&[&str], &[&str], &str); 6] = [
        (&["0:1g.10gb"], &["1g.10gb 2g.20gb"], "several profiles: 1g.10gb, 2g.20gb"),
        (&["0:1g.10gb", "0:1g.10gb"], &["1g.10gb", "2g.20gb"], "several profiles: 1g.10gb, 2g.20gb"),
        (&["0:1g.10gb", "0:1g.10gb"], &["1g.10gb", ""], "GPU 1 would be in MIG mode without an instance"),
        (&["0:1g.10gb", "0:1g.10gb"], &["1g.10gb", "off"], "GPU 0 would be in MIG mode and GPU 1 would not"),
        // Nobody manages the second one.
        (&["0:1g.10gb", "0:1g.10gb"], &["2g.20gb"], "several profiles: 1g.10gb, 2g.20gb"),
        (&["off", "off"], &["1g.10gb"], "GPU 0 would be in MIG mode and GPU 1 would not"),
    ];
    for (gpus, goal, why) in scenes {
        let scene = run(&under("single", "n", gpus), &[layout("n", goal)], "");
        let plan = planned(&scene);
        let [block] = plan.blocked.as_slice() else { panic!("{:?}", plan.blocked) };
        assert_eq!((block.code, plan.steps.len()), (BlockCode::StrategySingle, 0));
        assert!(block.message.contains(why), "{}", block.message);
        // The same is none of a mixed node's.
        let mixed = planned(&run(&node("n", gpus), &[layout("n", goal)], ""));
        assert!(mixed.blocked.is_empty() && !mixed.steps.is_empty(), "{:?}", mixed.blocked);
    }
    for goal in ["1g.10gb", ""] {
        let plan = planned(&run(&under("none", "n", &["off"]), &[layout("n", &[goal])], ""));
        let codes: Vec<_> = plan.blocked.iter().map(|block| block.code).collect();
        assert_eq!((codes, plan.steps.len()), (vec![BlockCode::StrategyNone], 0));
    }
    let off = run(&under("none", "n", &["0:1g.10gb"]), &[layout("n", &["off"])], "");
    assert!(planned(&off).blocked.is_empty());
    off.apply();
    assert_eq!(planned(&off).state.word(), "converged");
}

#[test]
fn what_can_not_be_met_alone_is_told_alone() {
    let plan = planned(&run(&under("single", "n", &["0:1g.10gb"; 2]), &[layout("n", &["4g.40gb 4g.40gb", "1g"])], ""));
    let codes: Vec<_> = plan.blocked.iter().map(|block| block.code.word()).collect();
    assert_eq!(codes, ["does-not-fit"]);
    // The other GPU could become a 2g.20gb, and then the plugin would not start.
    let plan = planned(&run(&under("single", "n", &["0:1g.10gb"; 2]), &[layout("n", &["4g 4g", "2g.20gb"])], ""));
    let codes: Vec<_> = plan.blocked.iter().map(|block| block.code.word()).collect();
    assert_eq!((codes, plan.steps.len()), (vec!["does-not-fit"], 0));
}

#[test]
fn more_of_the_same_profile_disturbs_nobody() {
    let fleet = under("single", "n", &["0:1g.10gb:pod:x/w-a", "0:1g.10gb"]) + &deployment("w", 1);
    let scene = run(&fleet, &[layout("n", &["1g.10gb 1g.10gb", "1g.10gb"])], "");
    assert_eq!(words(&planned(&scene)), ["create_instance", "refresh_clients"]);
    converges(&scene);
}

/// Two GPUs, with a pod on each, that are to become of another profile.
fn changing(policy: &str, more: &str) -> Run {
    let gpus = ["0:1g.10gb:pod:x/w-a 1:1g.10gb", "0:1g.10gb:pod:x/w-b"];
    let fleet = under("single", "n", &gpus) + &deployment("w", 2) + more;
    run(&fleet, &[layout("n", &["2g.20gb 2g.20gb", "2g.20gb"])], policy)
}

#[test]
fn another_profile_comes_everywhere_at_once_and_pods_come_back_to_it() {
    let scene = changing("", "");
    let plan = planned(&scene);
    assert_eq!((plan.strategy, plan.blocked.len()), (MigStrategy::Single, 0));
    let steps = words(&plan);
    assert_eq!(steps.iter().filter(|word| **word == "pause_clients").count(), 1, "{steps:?}");
    assert_eq!(steps.iter().filter(|word| **word == "evict_pod").count(), 2, "{steps:?}");
    assert_eq!(steps[0], "taint");
    converges(&scene);
    let world = lock(&scene.world);
    let held: usize = world.pods.values().map(|pod| pod.devices.len()).sum();
    assert_eq!((held, world.pods.len()), (2, 2));
    assert!(world.pods.keys().all(|key| !["x/w-a", "x/w-b"].contains(&key.as_str())), "they were made anew");
    let advertised = &world.nodes["n"].advertised;
    assert!(advertised.len() == 3 && advertised.values().all(|resource| resource == "nvidia.com/gpu"));
}

#[test]
fn without_anybody_on_it_a_node_changes_undisturbed() {
    let fleet = under("single", "n", &["0:1g.10gb 1:1g.10gb", "0:1g.10gb"]);
    let scene = run(&fleet, &[layout("n", &["2g.20gb", "2g.20gb"])], "");
    let plan = planned(&scene);
    assert!(plan.steps.iter().all(|step| !step.disruptive));
    assert_eq!(plan.steps.iter().filter(|s| matches!(s.kind, StepKind::ResumeClients { .. })).count(), 1);
    converges(&scene);
}

#[test]
fn pods_go_to_another_node_that_offers_as_much() {
    let fleet = under("single", "a", &["0:1g.10gb:pod:x/w-a"]) + &under("single", "b", &["0:1g.10gb"]);
    let scene = run(&(fleet + &deployment("w", 1)), &[layout("a", &["2g.20gb"])], "");
    assert_eq!(planned(&scene).disruptions[0].moves_to.as_deref(), Some("b"));
    converges(&scene);
}

#[test]
fn budgets_that_do_not_let_all_leave_at_once_block() {
    let scenes = [changing("[budget]\nmax_pods = 1\n", ""), changing("", &budget("w", 1))];
    for scene in scenes {
        let plan = planned(&scene);
        let [block] = plan.blocked.as_slice() else { panic!("{:?}", plan.blocked) };
        assert_eq!((block.code, block.object.as_str()), (BlockCode::StrategySingle, "pod x/w-b"));
        assert_eq!(plan.steps, []);
    }
    // What may move alone does not where another waits.
    let shut = planned(&changing("", &budget("w", 0)));
    assert_eq!((shut.steps.len(), shut.waiting.is_empty(), shut.state.word()), (0, false, "waiting"));
}

#[test]
fn what_fails_halfway_is_put_back_at_once() {
    let scene = changing("", "");
    let before = lock(&scene.world).nodes["n"].clone();
    let calls = std::cell::Cell::new(0);
    scene.meddle(std::rc::Rc::new(move |name| {
        calls.set(calls.get() + u32::from(name == "create_gi_at"));
        let fails = name == "create_gi_at" && calls.get() == 2;
        if fails { Fate::Fails("UNKNOWN".to_owned()) } else { Fate::Passes }
    }));
    let (desired, observed, plan) = scene.plan();
    let (outcome, _) = scene.node(&plan.nodes[0], &desired, &observed);
    let Outcome::Failed { rollback, left, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!((rollback, left.len()), (&sectile::execute::Rollback::Whole, 0), "{outcome:?}");
    let world = lock(&scene.world);
    let after = &world.nodes["n"];
    assert_eq!(after.advertised, before.advertised);
    assert!(!after.tainted && !after.clients_paused);
}

#[test]
fn a_run_that_was_cut_short_is_finished_and_nothing_is_resumed_before() {
    let scene = run(&under("single", "n", &["0:1g.10gb", "0:2g.20gb"]), &[layout("n", &["2g.20gb", "2g.20gb"])], "");
    {
        let mut world = lock(&scene.world);
        let node = world.nodes.get_mut("n").unwrap();
        (node.tainted, node.clients_paused) = (true, true);
    }
    let resumes: Vec<_> = words(&planned(&scene)).into_iter().filter(|word| word.starts_with("resume")).collect();
    assert_eq!(resumes.len(), 1);
    converges(&scene);
}

#[test]
fn units_are_given_what_they_are_bound_to() {
    let fleet = under("single", "n", &["0:1g.10gb:unit:u.service", "0:1g.10gb"]);
    let scene = run(&fleet, &[layout("n", &["2g.20gb", "2g.20gb"]) + &unit("u", "2g.20gb")], "");
    let plan = planned(&scene);
    assert_eq!(plan.blocked, []);
    let starts = plan.steps.iter().find_map(|step| match &step.kind {
        StepKind::StartUnit { slots, .. } => Some(slots.clone()),
        _ => None,
    });
    assert_eq!(starts.unwrap()[0].profile.to_string(), "2g.20gb");
    converges(&scene);
}

#[test]
fn a_binding_is_met_by_what_the_strategy_calls_its_profile() {
    let fleet = |workload: &str| under("single", "n", &["0:1g.10gb 1:1g.10gb"]) + workload;
    // On whichever node.
    let all = layout("n", &["1g.10gb 1g.10gb"]).replace("nodes = [\"n\"]", "nodes = [\"*\"]");
    let tree = [all + &managed("Deployment", "w", "1g.10gb")];
    let met = run(&fleet(&deployment("w", 1)), &tree, "").plan().2;
    assert!(met.cluster.bindings[0].matches && met.cluster.steps.is_empty());
    let unmet = deployment("w", 1).replace("resource = \"nvidia.com/gpu\"", "profile = \"1g.10gb\"");
    let unmet = run(&fleet(&unmet), &tree, "");
    let plan = unmet.plan().2;
    let StepKind::BindWorkload { bind, .. } = &plan.cluster.steps[0].kind else { panic!("{plan:?}") };
    assert_eq!(bind.strategy, MigStrategy::Single);
    let call = sectile::ports::Cluster::bind;
    sectile::execute::at_once(call(&unmet.cluster(), bind, "r1", false)).unwrap().unwrap();
    assert!(unmet.plan().2.cluster.bindings[0].matches);
}

/// The same observation, of a node with another strategy.
fn seen_as(observed: &Observed, strategy: MigStrategy) -> Observed {
    let mut seen = observed.clone();
    let cluster = seen.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap();
    *cluster = NodeInCluster { strategy, ..cluster.clone() };
    seen
}

#[test]
fn a_plan_between_whose_rounds_nothing_would_be_offered_is_caught() {
    let scene = run(&node("n", &["0:1g.10gb", ""]), &[layout("n", &["1g.10gb 2g.20gb", "1g"])], "");
    let (desired, observed, plan) = scene.plan();
    assert!(!plan.nodes[0].steps.is_empty());
    for strategy in [MigStrategy::Single, MigStrategy::None] {
        let seen = seen_as(&observed, strategy);
        let found: Vec<_> = check(&desired, &seen, &plan).into_iter().map(|v| v.invariant).collect();
        assert!(found.contains(&Invariant::Offered), "{strategy}: {found:?}");
        let own = plan::plan(&desired, &seen, Timestamp::UNIX_EPOCH);
        assert_eq!(check(&desired, &seen, &own), []);
    }
}

/// Names that say nothing of the profile any more, with their numbers.
fn alike(counts: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    counts.values().for_each(|n| *all.entry("nvidia.com/gpu".to_owned()).or_default() += n);
    all
}

#[test]
fn whatever_is_drawn_keeps_to_what_the_plugin_starts_with() {
    let (mut steps, mut blocked, mut once) = (0, 0, 0);
    for (n, (mut desired, mut observed, _)) in drawn(300).into_iter().enumerate() {
        // Most of what is drawn is of several profiles; in half of the cases it is of one.
        for node in desired.nodes.values_mut().filter(|_| n % 2 == 0) {
            let own = node.gpus.values_mut().map(|own| &mut own.goal);
            for goal in own.chain(node.shared.iter_mut().map(|shared| &mut shared.goal)) {
                let want = Wanted { profile: ["1g", "2g"][n / 2 % 2].parse().unwrap(), start: None, compute: None };
                *goal = Goal::Instances(vec![want; 1 + n % 3]);
            }
        }
        observed.cluster.pods.iter_mut().for_each(|pod| pod.requests = alike(&pod.requests));
        observed.cluster.free.values_mut().for_each(|free| *free = alike(free));
        observed.cluster.workloads.iter_mut().for_each(|workload| workload.requests = alike(&workload.requests));
        for node in observed.nodes.values_mut().filter_map(|node| node.cluster.as_mut()) {
            (node.strategy, node.allocatable) = (MigStrategy::Single, alike(&node.allocatable));
        }
        let plan = plan::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
        assert_eq!(check(&desired, &observed, &plan), []);
        for node in plan.nodes.iter().filter(|node| node.strategy == MigStrategy::Single) {
            steps += usize::from(!node.steps.is_empty());
            once += usize::from(node.steps.iter().any(|step| step.disruptive));
            blocked += usize::from(node.blocked.iter().any(|block| block.code == BlockCode::StrategySingle));
        }
    }
    assert!(steps > 40 && blocked > 20 && once > 10, "{steps} {blocked} {once}");
}

#[test]
fn what_is_listed_of_a_profile_that_is_gone_is_told_by_the_status_alone() {
    let scene = run(&node("n", &["0:1g.10gb"]), &[layout("n", &["1g.10gb 2g.20gb"])], "");
    let (desired, mut observed, _) = scene.plan();
    let cluster = observed.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap();
    for name in ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb", "nvidia.com/mig-3g.40gb", "nvidia.com/gpu"] {
        cluster.allocatable.insert(name.to_owned(), 0);
    }
    let plan = plan::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
    let status = render::status::status(&desired, &observed, &plan, Style { wide: false });
    let told: Vec<_> = status.lines().filter(|line| line.contains("still listed with 0")).collect();
    let line =
        "  nvidia.com/mig-3g.40gb is still listed with 0, a remainder of a profile that is gone; it does no harm";
    assert_eq!((told, plan.nodes[0].warnings.len()), (vec![line], 0));
}
