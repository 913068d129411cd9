//! Damage to plans that the check once let pass, each with its name.

use std::collections::BTreeSet;
use std::sync::Arc;

use sectile::model::plan::{Block, BlockCode, Verdict};
use sectile::model::policy::Window;
use sectile::model::{NodePlan, Plan, StepKind};
use sectile::plan::check::{Invariant, check};
use sectile::plan::report;
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use super::defects::{bare, layout, node, run, unit, words};
use super::fleets::Run;
use super::ready::workload;

/// Two pods that leave the first GPU for the second.
fn two(goal: &str, policy: &str) -> Run {
    let gpus = ["0:1g.10gb:pod:x/w-a 1:1g.10gb:pod:x/w-b", "0:1g.10gb 1:1g.10gb"];
    let fleet = node("n", &gpus) + &workload("Deployment", "w", 2, "1g.10gb", "");
    run(&fleet, &[layout("n", &[goal, "1g.10gb 1g.10gb"])], policy)
}

/// A plan made by one run, held against what the other one wants.
fn across(made: &Run, held: &Run) -> BTreeSet<Invariant> {
    let (_, observed, plan) = made.plan();
    assert!(!plan.nodes[0].steps.is_empty());
    let desired = held.resolve(&observed);
    check(&desired, &observed, &plan).into_iter().map(|v| v.invariant).collect()
}

/// What is found in a plan of whose first node something was changed.
fn damaged(run: &Run, damage: impl Fn(&mut NodePlan)) -> BTreeSet<Invariant> {
    let (desired, observed, mut plan) = run.plan();
    let before: Plan = plan.clone();
    damage(&mut plan.nodes[0]);
    assert_ne!(before.nodes, plan.nodes, "nothing was damaged: {:?}", words(&plan.nodes[0]));
    plan.nodes[0].waves = report::waves(&plan.nodes[0].steps);
    plan.summary.blocked = u32::try_from(plan.nodes[0].blocked.len()).unwrap();
    check(&desired, &observed, &plan).into_iter().map(|v| v.invariant).collect()
}

/// The same, a step of it changed wherever that applies.
fn bent(run: &Run, damage: impl Fn(&mut StepKind)) -> BTreeSet<Invariant> {
    damaged(run, |node| node.steps.iter_mut().for_each(|step| damage(&mut step.kind)))
}

fn caught(found: &BTreeSet<Invariant>) {
    assert!(!found.is_empty(), "nobody noticed");
}

#[test]
fn a_plan_that_does_not_wait_under_manual_mode_is_caught() {
    caught(&across(&two("7g.80gb", ""), &two("7g.80gb", "[apply]\nmode = \"manual\"\n")));
}

#[test]
fn a_plan_that_does_not_wait_under_undisruptive_mode_is_caught() {
    caught(&across(&two("7g.80gb", ""), &two("7g.80gb", "[apply]\nmode = \"undisruptive\"\n")));
}

#[test]
fn a_plan_that_does_not_wait_for_a_window_that_never_opens_is_caught() {
    let (mut desired, observed, plan) = two("7g.80gb", "[window]\nopen = [\"Mon-Sun 00:00-24:00\"]\n").plan();
    let policy = desired.nodes.get_mut("n").unwrap().policy.as_mut().unwrap();
    Arc::make_mut(policy).window = Some(Window { open: Vec::new(), timezone: "UTC".to_owned() });
    assert!(plan.nodes[0].steps.iter().any(|step| step.disruptive));
    assert_ne!(check(&desired, &observed, &plan), []);
}

#[test]
fn more_pods_down_at_once_than_the_policy_allows_are_caught() {
    caught(&across(&two("7g.80gb", ""), &two("7g.80gb", "[budget]\nmax_pods = 1\n")));
}

#[test]
fn a_used_gpu_that_is_switched_where_only_idle_ones_may_be_is_caught() {
    let allowed = two("off", "[gpu]\nmode_change = \"allow\"\n");
    assert!(words(&allowed.plan().2.nodes[0]).contains(&"set_mig_mode"));
    caught(&across(&allowed, &two("off", "[gpu]\nmode_change = \"idle\"\n")));
}

#[test]
fn a_reset_that_the_policy_refuses_is_caught() {
    let fleet = bare("n", &["off"]).replace("h100-80gb-sxm", "a100-80gb");
    let of = |policy: &str| run(&fleet, &[layout("n", &["7g.80gb"])], policy);
    assert!(words(&of("").plan().2.nodes[0]).contains(&"reset_gpu"));
    caught(&across(&of(""), &of("[gpu]\nreset = \"refuse\"\n")));
}

fn block() -> Block {
    let text = || "x".to_owned();
    Block { code: BlockCode::Protected, message: text(), object: text(), hint: text() }
}

#[test]
fn a_block_beside_disruptive_steps_is_caught() {
    caught(&damaged(&two("7g.80gb", ""), |node| node.blocked.push(block())));
    let moved = damaged(&two("7g.80gb", ""), |node| {
        node.blocked.push(block());
        node.disruptions.iter_mut().for_each(|d| d.verdict = Verdict::Wait);
    });
    caught(&moved);
}

#[test]
fn a_deployments_pod_that_is_deleted_instead_of_evicted_is_caught() {
    caught(&bent(&two("7g.80gb", ""), |kind| {
        if let StepKind::EvictPod { delete, .. } = kind {
            *delete = true;
        }
    }));
}

#[test]
fn another_grace_than_the_policys_is_caught() {
    for policy in ["", "[drain]\ngrace_period = \"30s\"\n"] {
        caught(&bent(&two("7g.80gb", policy), |kind| {
            if let StepKind::EvictPod { grace_period_s, .. } = kind {
                *grace_period_s = Some(0);
            }
        }));
    }
}

#[test]
fn a_process_that_is_nowhere_and_ends_is_caught() {
    let run = two("7g.80gb", "[protect]\nprocesses = \"terminate\"\n");
    caught(&damaged(&run, |node| {
        for step in &mut node.steps {
            step.id *= 2;
            step.after.iter_mut().for_each(|id| *id *= 2);
        }
        let at = node.steps.iter().position(|s| s.kind.word() == "evict_pod").unwrap();
        let mut step = node.steps[at].clone();
        step.id += 1;
        step.kind = StepKind::TerminateProcess { pid: 1, name: "systemd".to_owned() };
        node.steps.insert(at + 1, step);
    }));
}

#[test]
fn a_wait_for_nobody_to_be_ready_is_caught() {
    caught(&bent(&two("7g.80gb", ""), |kind| {
        if let StepKind::AwaitReady { workloads, .. } = kind {
            workloads.values_mut().for_each(|ready| *ready = 0);
        }
    }));
}

#[test]
fn a_unit_that_gets_its_devices_by_another_variable_is_caught() {
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
    let run = run(&bare("n", &["0:1g.10gb:unit:u.service", ""]), &[layout], "");
    caught(&bent(&run, |kind| {
        if let StepKind::StartUnit { env, .. } = kind {
            *env = "LD_PRELOAD".to_owned();
        }
    }));
}

#[test]
fn a_foreign_unit_that_is_started_with_the_clients_is_caught() {
    let run = two("7g.80gb", "[clients]\nsystemd = [\"dcgm.service\"]\n");
    let active = SimUnit { active: true, ..SimUnit::default() };
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("dcgm.service".to_owned(), active);
    caught(&bent(&run, |kind| {
        if let StepKind::ResumeClients { units, .. } = kind {
            units.push("sshd.service".to_owned());
        }
    }));
}
