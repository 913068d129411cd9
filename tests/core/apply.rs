//! Properties of whole runs on random fleets and trees.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sectile::execute::Outcome;
use sectile::model::{Goal, NodeState, Observed, Plan, User};
use sectile::plan;
use sectile::sim::lock;

use super::door::cases;
use super::fleets::{Ended, Run};
use super::random::{Tape, draw};

/// Profiles of the instances of each GPU, by node and UUID.
fn layouts(observed: &Observed) -> BTreeMap<(String, String), Vec<String>> {
    let gpus = observed.nodes.values().flat_map(|n| n.gpus.iter().map(move |g| (n, g)));
    gpus.map(|(n, g)| {
        let mut names: Vec<String> = g.instances.iter().map(|i| i.profile.to_string()).collect();
        names.sort();
        ((n.name.clone(), g.uuid.clone()), names)
    })
    .collect()
}

fn settled(plan: &Plan, node: &str) -> bool {
    plan.nodes.iter().any(|n| n.name == node && matches!(n.state, NodeState::Converged | NodeState::Unmanaged))
}

/// Only a process that nobody explains may keep a node from its goal: it outlives whoever had joined it.
fn applied(run: &Run) -> Result<Ended, TestCaseError> {
    let ended = run.apply_in_trouble();
    for outcome in ended.failed.values() {
        let held = matches!(outcome, Outcome::Held { why, .. } if why.starts_with("in use by process:"));
        prop_assert!(held, "{outcome:?}");
    }
    Ok(ended)
}

/// Nobody lost an instance, nothing is left tainted or paused, and every node is as it should be or says why not.
fn ends_well(run: &Run, ended: &Ended) -> Result<(), TestCaseError> {
    let world = lock(&run.world);
    prop_assert!(world.ledger.is_empty(), "{:?}", world.ledger);
    prop_assert!(world.nodes.values().all(|node| !node.tainted && !node.clients_paused));
    let paused = world.nodes.values().flat_map(|node| node.commands.keys()).find(|name| name.starts_with("policies/"));
    prop_assert_eq!(paused, None, "a client is left paused");
    let last = ended.plans.last().unwrap();
    for node in &last.nodes {
        let told = !node.blocked.is_empty() || !node.waiting.is_empty() || ended.failed.contains_key(&node.name);
        prop_assert!(told || settled(last, &node.name), "{} is {}", node.name, node.state);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn apply_leads_where_the_tree_says_and_harms_nobody(tape in proptest::collection::vec(any::<u8>(), 0..400)) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let ended = applied(&run)?;
        prop_assert!(lock(&run.world).ledger.is_empty(), "{:?}", lock(&run.world).ledger);
        let last = ended.plans.last().unwrap();
        let desired = run.resolve(&ended.after);
        let there = layouts(&ended.after);
        for (name, node) in &desired.nodes {
            if !settled(last, name) {
                let plan = last.nodes.iter().find(|n| n.name == *name).unwrap();
                let told = !plan.blocked.is_empty() || !plan.waiting.is_empty() || ended.failed.contains_key(name);
                prop_assert!(told, "{name} is {}", plan.state);
                continue;
            }
            for (uuid, goal) in &node.gpus {
                let seen = &there[&(name.clone(), uuid.clone())];
                match &goal.goal {
                    Goal::HandsOff => {}
                    Goal::MigOff => prop_assert!(seen.is_empty()),
                    Goal::Instances(wants) => {
                        let mut names: Vec<String> = wants.iter().map(|w| w.profile.to_string()).collect();
                        names.sort();
                        prop_assert_eq!(seen, &names);
                    }
                }
            }
        }
    }

    #[test]
    fn kept_instances_keep_their_id_their_devices_and_their_users(tape in proptest::collection::vec(any::<u8>(), 0..400)) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let ended = applied(&run)?;
        for node in &ended.plans[0].nodes {
            for gpu in &node.gpus {
                for kept in &gpu.keep {
                    let stays = ended.plans.iter().all(|p| {
                        let gpus = p.nodes.iter().filter(|n| n.name == node.name).flat_map(|n| &n.gpus);
                        gpus.filter(|g| g.uuid == gpu.uuid).flat_map(|g| &g.keep).any(|k| k.placement() == kept.placement())
                    });
                    let now = ended.after.nodes[&node.name].gpus.iter().find(|g| g.uuid == gpu.uuid).unwrap();
                    let now = now.instances.iter().find(|i| i.placement == kept.placement());
                    prop_assert!(now.is_some() || !stays);
                    let Some(now) = now.filter(|_| stays) else { continue };
                    prop_assert_eq!(Some(now.gi_id), kept.gi_id);
                    let devices: Vec<_> = now.compute.iter().map(|c| Some(c.uuid.clone())).collect();
                    prop_assert_eq!(devices, kept.compute.iter().map(|c| c.uuid.clone()).collect::<Vec<_>>());
                    // A user that moves for another instance's sake leaves this one, too; nobody else does.
                    let moved = |user: &User| ended.plans.iter().any(|p| {
                        p.nodes.iter().flat_map(|n| &n.disruptions).any(|d| user.to_string().contains(&d.name))
                    });
                    let users = now.all_users();
                    for user in kept.users.iter().flatten().filter(|u| !moved(u)) {
                        // A process that a pod joins on its instance counts as the pod's.
                        let joined = matches!(user, User::Process { .. }) && now.in_use();
                        let has = users.known().is_some_and(|u| u.contains(user));
                        prop_assert!(has || joined, "{user} lost its instance");
                    }
                }
            }
        }
    }

    #[test]
    fn a_run_that_is_interrupted_anywhere_goes_on(
        tape in proptest::collection::vec(any::<u8>(), 0..400),
        most in 0usize..120,
    ) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let (desired, observed, plan) = run.plan();
        let due = plan.nodes.iter().find(|n| n.steps.iter().any(|s| s.waits.is_none()));
        if let Some(node) = due {
            run.node_until(node, &desired, &observed, most);
            let world = lock(&run.world);
            prop_assert!(!world.nodes[&node.name].tainted && !world.nodes[&node.name].clients_paused);
            for gpu in &world.nodes[&node.name].gpus {
                prop_assert_eq!(gpu.mode, gpu.pending, "a mode is left pending");
            }
        }
        let ended = applied(&run)?;
        ends_well(&run, &ended)?;
    }

    #[test]
    fn a_run_that_is_killed_between_two_effects_is_taken_up_from_what_is_there(
        tape in proptest::collection::vec(any::<u8>(), 0..400),
        most in 0usize..120,
    ) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let (desired, observed, plan) = run.plan();
        let due = plan.nodes.iter().find(|n| n.steps.iter().any(|s| s.waits.is_none()));
        if let Some(node) = due {
            run.node_killed(node, &desired, &observed, most);
        }
        let ended = applied(&run)?;
        ends_well(&run, &ended)?;
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_in_any_order(tape in proptest::collection::vec(any::<u8>(), 0..400)) {
        let case = draw(&mut Tape::new(&tape));
        let run = Run::new(&case.fleet, &case.files());
        let (desired, observed, plan) = run.plan();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let bytes = |o: &Observed| serde_json::to_string(&plan::plan(&desired, o, now)).unwrap();
        let first = bytes(&observed);
        prop_assert_eq!(&first, &bytes(&observed));
        let mut turned = observed.clone();
        turned.cluster.pods.reverse();
        turned.cluster.budgets.reverse();
        turned.cluster.workloads.reverse();
        prop_assert_eq!(&first, &bytes(&turned));
        let mut files = case.files();
        files.reverse();
        let again = Run::new(&case.fleet, &files);
        prop_assert_eq!(&plan, &again.plan().2);
    }
}

/// What the properties above rest on: among the drawn cases is every kind of step, every guard, and many a block.
#[test]
fn the_drawn_cases_hold_every_kind_of_step() {
    let mut runner = TestRunner::deterministic();
    let tapes = proptest::collection::vec(any::<u8>(), 0..400);
    let (mut kinds, mut guards, mut blocks, mut rounds) = <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>, u32)>::default();
    for _ in 0..400 {
        let tape = tapes.new_tree(&mut runner).unwrap().current();
        let case = draw(&mut Tape::new(&tape));
        let (_, _, plan) = Run::new(&case.fleet, &case.files()).plan();
        for node in &plan.nodes {
            kinds.extend(node.steps.iter().map(|s| s.kind.word()));
            guards.extend(node.steps.iter().flat_map(|s| s.guards.clone()));
            blocks.extend(node.blocked.iter().map(|b| b.code.word()));
            let taints = node.steps.iter().filter(|s| s.kind.word() == "taint").count();
            rounds = rounds.max(u32::try_from(taints).unwrap());
        }
    }
    let all = [
        "await_gone",
        "await_ready",
        "create_instance",
        "destroy_instance",
        "drain_command",
        "evict_pod",
        "pause_clients",
        "refresh_clients",
        "refresh_devices",
        "reset_gpu",
        "resume_clients",
        "resume_command",
        "set_mig_mode",
        "start_unit",
        "stop_unit",
        "taint",
        "terminate_process",
        "untaint",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(guards.len(), 3, "{guards:?}");
    assert!(rounds >= 2, "{rounds}");
    for code in ["gpu-in-use", "mode-change", "no-capacity", "no-policy", "process"] {
        assert!(blocks.contains(code), "{code} is not among {blocks:?}");
    }
}
