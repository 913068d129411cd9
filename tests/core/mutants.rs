//! The check is checked: for every invariant, plans that break it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sectile::model::observed::{Suspension, UnitState};
use sectile::model::plan::{Block, BlockCode, Guard, Scope};
use sectile::model::{Desired, NodePlan, Observed, Plan, Step, StepKind};
use sectile::plan::check::{Invariant, Violation, check};
use sectile::plan::{guards, report, window};
use sectile::sim::lock;

use super::defects::{bare, layout, unit};
use super::fleets::Run;
use super::random::{Tape, draw};

/// So many drawn cases whose plans have steps.
pub(crate) fn drawn(n: usize) -> Vec<(Desired, Observed, Plan)> {
    let mut runner = TestRunner::deterministic();
    let tapes = proptest::collection::vec(any::<u8>(), 0..400);
    let cases = std::iter::repeat_with(|| {
        let tape = tapes.new_tree(&mut runner).unwrap().current();
        let case = draw(&mut Tape::new(&tape));
        Run::new(&case.fleet, &case.files()).plan()
    });
    cases.filter(|(.., plan)| plan.nodes.iter().any(|n| !n.steps.is_empty())).take(n).collect()
}

fn found(desired: &Desired, observed: &Observed, plan: &Plan) -> BTreeSet<Invariant> {
    check(desired, observed, plan).into_iter().map(|v: Violation| v.invariant).collect()
}

/// Every plan with one node changed, where the change applies.
fn mutated(plan: &Plan, change: impl Fn(&mut NodePlan) -> bool) -> Vec<Plan> {
    let each = (0..plan.nodes.len()).filter_map(|n| {
        let mut plan = plan.clone();
        change(&mut plan.nodes[n]).then_some(plan)
    });
    each.collect()
}

/// Takes a step out so that only its absence can be noticed.
fn without(node: &mut NodePlan, at: usize) {
    let gone = node.steps.remove(at);
    for step in &mut node.steps {
        step.after.retain(|id| *id != gone.id);
    }
    node.waves = report::waves(&node.steps);
}

#[test]
fn a_step_that_is_dropped_is_missed() {
    let mut kinds = BTreeSet::new();
    for (desired, observed, plan) in drawn(250) {
        let longest = plan.nodes.iter().map(|n| n.steps.len()).max().unwrap();
        for at in 0..longest {
            let dropped = mutated(&plan, |node| {
                // A node that is blocked may do less; nobody can miss a step there.
                let there = at < node.steps.len() && node.blocked.is_empty() && node.waiting.is_empty();
                if there {
                    without(node, at);
                }
                there
            });
            for mutant in dropped {
                let node = mutant.nodes.iter().zip(&plan.nodes).find(|(m, n)| m.steps.len() < n.steps.len()).unwrap().1;
                let kind = node.steps[at].kind.word();
                kinds.insert(kind);
                assert!(!found(&desired, &observed, &mutant).is_empty(), "nobody misses {kind}: {:#?}", node.steps);
            }
        }
    }
    assert!(kinds.len() >= 16, "{kinds:?}");
}

/// The GPU that a step is about, if it is about one.
fn gpu(kind: &StepKind) -> Option<&str> {
    match kind {
        StepKind::DestroyInstance { slot } | StepKind::CreateInstance { slot, .. } => Some(&slot.gpu),
        StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu } => Some(gpu),
        _ => None,
    }
}

/// Whether a step stands around what others do.
fn brackets(kind: &StepKind) -> bool {
    let words = ["taint", "untaint", "pause_clients", "resume_clients", "refresh_clients", "evict_pod", "await_gone"];
    let words = [&words[..], &["refresh_devices"]].concat();
    words.contains(&kind.word())
}

#[test]
fn a_step_that_comes_before_what_it_needs_is_caught() {
    let mut swaps = 0;
    for (desired, observed, plan) in drawn(250) {
        let longest = plan.nodes.iter().map(|n| n.steps.len()).max().unwrap();
        for at in 1..longest {
            let swapped = mutated(&plan, |node| {
                let Some(earlier) = node.steps.get(at).and_then(|s| s.after.first().copied()) else { return false };
                let first = node.steps.iter().position(|s| s.id == earlier).unwrap();
                let (one, two) = (&node.steps[first].kind, &node.steps[at].kind);
                // What happens on two GPUs, or to units of two instances, may happen in any order.
                let tied = gpu(one).zip(gpu(two)).is_some_and(|(one, two)| one == two);
                let tied = tied || brackets(one) || brackets(two);
                // Where nobody advertises, clients may be back before what is new is made.
                let bare = !node.steps.iter().any(|step| step.kind == StepKind::Taint);
                let made = matches!((one, two), (StepKind::CreateInstance { .. }, StepKind::ResumeClients { .. }));
                let tied = tied && !(bare && made);
                if one.word() == two.word() || !tied {
                    return false;
                }
                let kind = node.steps[first].kind.clone();
                node.steps[first].kind = std::mem::replace(&mut node.steps[at].kind, kind);
                true
            });
            for mutant in swapped {
                swaps += 1;
                let changed = mutant.nodes.iter().zip(&plan.nodes).find(|(m, n)| m != n).unwrap().0;
                let steps: Vec<_> = changed.steps.iter().map(|s| s.kind.word()).collect();
                assert!(!found(&desired, &observed, &mutant).is_empty(), "at {at}: {steps:#?}");
            }
        }
    }
    assert!(swaps > 1000, "{swaps}");
}

/// Steps that are not tied may run together, so a tie that is cut must be noticed wherever the order matters.
#[test]
fn a_tie_that_is_cut_is_noticed_where_the_order_matters() {
    let (mut cuts, mut free) = (0, BTreeSet::new());
    for (desired, observed, plan) in drawn(250) {
        let longest = plan.nodes.iter().map(|n| n.steps.len()).max().unwrap();
        for at in 0..longest {
            let cut = mutated(&plan, |node| {
                let tied = node.steps.get_mut(at).is_some_and(|s| !std::mem::take(&mut s.after).is_empty());
                node.waves = report::waves(&node.steps);
                tied
            });
            for mutant in cut {
                cuts += 1;
                if !found(&desired, &observed, &mutant).contains(&Invariant::Order) {
                    let changed = mutant.nodes.iter().zip(&plan.nodes).find(|(m, n)| m != n).unwrap().0;
                    free.insert((changed.steps[at].kind.word(), observed.nodes[&changed.name].cluster.is_some()));
                }
            }
        }
    }
    assert!(cuts > 1000, "{cuts}");
    // What is left has room beside what goes, or starts where nobody was, or waits for pods alone.
    for (kind, in_cluster) in free {
        let harmless = [
            "create_instance",
            "start_unit",
            "resume_command",
            "stop_unit",
            "drain_command",
            "terminate_process",
            "destroy_instance",
            "set_mig_mode",
        ];
        assert!(!in_cluster && harmless.contains(&kind), "{kind} is not tied");
    }
}

/// What each kind of damage to a step must be called.
#[test]
fn damage_is_called_by_its_name() {
    type Damage = fn(&mut Step) -> bool;
    let damages: [(&str, Invariant, Damage); 9] = [
        ("a guard is lost", Invariant::Guards, |s| {
            let some = !s.guards.is_empty();
            s.guards.clear();
            some
        }),
        ("a disruption is not called one", Invariant::Guards, |s| {
            let evicts = matches!(s.kind, StepKind::EvictPod { .. } | StepKind::StopUnit { .. });
            s.disruptive &= !evicts;
            evicts
        }),
        ("another pod of that name", Invariant::Foreign, |s| match &mut s.kind {
            StepKind::EvictPod { uid, .. } => {
                uid.push('x');
                true
            }
            _ => false,
        }),
        ("a GPU of another node", Invariant::Foreign, |s| match &mut s.kind {
            StepKind::DestroyInstance { slot } | StepKind::CreateInstance { slot, .. } => {
                slot.gpu = "GPU-elsewhere".to_owned();
                true
            }
            _ => false,
        }),
        ("an instance that is not there", Invariant::Legal, |s| match &mut s.kind {
            StepKind::DestroyInstance { slot } => {
                slot.placement.start += 100;
                true
            }
            _ => false,
        }),
        ("a place that is none", Invariant::Legal, |s| match &mut s.kind {
            StepKind::CreateInstance { slot, .. } => {
                slot.placement.start += 100;
                true
            }
            _ => false,
        }),
        ("compute instances that don't fit", Invariant::Legal, |s| match &mut s.kind {
            StepKind::CreateInstance { compute, .. } if !compute.is_empty() => {
                compute.push(compute[0]);
                true
            }
            _ => false,
        }),
        ("the cluster's business", Invariant::Foreign, |s| {
            s.scope = Scope::Cluster;
            true
        }),
        ("an instance that another has", Invariant::Vacated, |s| match &mut s.kind {
            StepKind::StartUnit { slots, .. } | StepKind::ResumeCommand { slots, .. } => {
                slots.iter_mut().for_each(|slot| slot.placement.start += 100);
                true
            }
            _ => false,
        }),
    ];
    let cases = drawn(250);
    for (name, invariant, damage) in damages {
        let mut caught = 0;
        for (desired, observed, plan) in &cases {
            let longest = plan.nodes.iter().map(|n| n.steps.len()).max().unwrap();
            for at in 0..longest {
                for mutant in mutated(plan, |node| node.steps.get_mut(at).is_some_and(damage)) {
                    assert!(found(desired, observed, &mutant).contains(&invariant), "{name}");
                    caught += 1;
                }
            }
        }
        assert!(caught > 5, "{name} came up {caught} times");
    }
}

#[test]
fn lists_and_sums_that_lie_are_caught() {
    type Lie = fn(&mut NodePlan) -> bool;
    let lies: [(Invariant, Lie); 6] = [
        (Invariant::Order, |n| {
            n.steps.reverse();
            n.steps.len() > 1
        }),
        (Invariant::Order, |n| n.steps.first_mut().map(|s| s.after.push(s.id)).is_some()),
        (Invariant::Waves, |n| n.waves.pop().is_some()),
        (Invariant::Waves, |n| {
            n.waves.reverse();
            n.waves.len() > 1
        }),
        (Invariant::Sums, |n| {
            n.lower_bound = n.cost + 1;
            true
        }),
        (Invariant::Target, |n| n.gpus.iter_mut().any(|g| g.keep.pop().is_some())),
    ];
    for (desired, observed, plan) in drawn(100) {
        for (invariant, lie) in lies {
            for mutant in mutated(&plan, lie) {
                assert!(found(&desired, &observed, &mutant).contains(&invariant), "{invariant}");
            }
        }
        let mut mutant = plan.clone();
        mutant.summary.keep += 1;
        assert!(found(&desired, &observed, &mutant).contains(&Invariant::Sums));
        let mut mutant = plan.clone();
        mutant.nodes.pop();
        assert!(found(&desired, &observed, &mutant).contains(&Invariant::Foreign));
    }
}

const FLEET: &str = r#"
[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [
    { profile = "2g.20gb", start = 0, users = ["pod:ns/w-a"] },
    { profile = "2g.20gb", start = 2, users = ["pod:ns/w-b"] },
    { profile = "3g.40gb", start = 4 },
  ]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [{ profile = "2g.20gb", start = 0 }, { profile = "2g.20gb", start = 2 }]
[[workload]]
kind = "Deployment"
namespace = "ns"
name = "w"
replicas = 2
profile = "2g.20gb"
[[budget]]
namespace = "ns"
name = "b"
workload = "w"
max_unavailable = 2
"#;

/// A tree for [`FLEET`] whose second GPU stays as it is.
fn tree(first: &str, policy: &str) -> [(&'static str, String); 2] {
    let layout = format!(
        "nodes = [\"n\"]\n[[gpu]]\nindex = [0]\n{first}\n[[gpu]]\nindex = [1]\ninstances = {{ \"2g.20gb\" = 2 }}\n"
    );
    [("layouts/n.toml", layout), ("policies/p.toml", format!("nodes = [\"*\"]\n{policy}"))]
}

fn run(files: &[(&'static str, String); 2]) -> Run {
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
    Run::new(FLEET, &files)
}

/// A plan made under one tree, held against another one: whatever the second forbids must be caught.
fn across(made: [(&'static str, String); 2], held: [(&'static str, String); 2]) -> BTreeSet<Invariant> {
    let (_, observed, plan) = run(&made).plan();
    assert!(!plan.nodes[0].steps.is_empty());
    found(&run(&held).resolve(&observed), &observed, &plan)
}

const WHOLE: &str = "instances = [\"4g\", \"3g\"]";

#[test]
fn a_plan_against_policy_is_caught() {
    let plain = || tree(WHOLE, "");
    for policy in ["[protect]\npods = [{ namespace = \"n?\" }]\n", "[protect]\npods = [{ labels = {} }]\n"] {
        assert!(across(plain(), tree(WHOLE, policy)).contains(&Invariant::Verdicts), "{policy}");
    }
    let window = tree(WHOLE, "[window]\nopen = [\"Mon-Sun 00:00-24:00\"]\n");
    assert!(across(plain(), window).contains(&Invariant::Guards));
    let no_policy = [tree(WHOLE, "")[0].clone(), ("policies/p.toml", "nodes = [\"other\"]\n".to_owned())];
    assert!(across(plain(), no_policy).contains(&Invariant::Verdicts));
    let mode_off = || tree("mig = false", "[gpu]\nmode_change = \"allow\"\n");
    let refused = tree("mig = false", "[gpu]\nmode_change = \"refuse\"\n");
    assert!(across(mode_off(), refused).contains(&Invariant::Verdicts));
}

#[test]
fn a_plan_that_touches_what_is_held_back_is_caught() {
    let (desired, observed, plan) = run(&tree(WHOLE, "")).plan();
    let source = desired.nodes["n"].gpus.values().find(|g| g.source.line == 2).unwrap().source.clone();
    let held = Block { code: BlockCode::InventoryChanged, ..block() };
    let mut entry = desired.clone();
    entry.nodes.get_mut("n").unwrap().held.insert(source, held);
    assert!(found(&entry, &observed, &plan).contains(&Invariant::Held));
    let mut whole = desired;
    guards::hold_tree(&mut whole, &block());
    assert!(found(&whole, &observed, &plan).contains(&Invariant::Held));
    let mut suspended = observed;
    let why = Suspension::default();
    suspended.nodes.get_mut("n").unwrap().suspended = Some(why);
    let said = found(&entry, &suspended, &plan);
    assert!(said.contains(&Invariant::Waits) && said.contains(&Invariant::Sums), "{said:?}");
}

fn block() -> Block {
    Block { code: BlockCode::MassRemoval, message: String::new(), object: String::new(), hint: String::new() }
}

#[test]
fn a_plan_for_another_layout_is_caught() {
    let keeping = tree("instances = [\"2g\", \"2g\", \"3g\"]", "");
    assert!(across(tree(WHOLE, ""), keeping).contains(&Invariant::Target));
    let idle_moves = "instances = [\"2g\", \"2g\", { profile = \"1g\", start = 6 }]";
    let found = across(tree(idle_moves, ""), tree("managed = false", ""));
    assert!(found.contains(&Invariant::HandsOff), "{found:?}");
}

#[test]
fn a_plan_that_keeps_less_than_it_could_is_caught() {
    let pinned = "instances = [\"2g\", { profile = \"2g\", start = 4 }]";
    let found = across(tree(pinned, ""), tree("instances = [\"2g\", \"2g\"]", ""));
    assert!(found.contains(&Invariant::KeptMost), "{found:?}");
}

/// A plan held against another view of the same node.
fn seen_otherwise(instances: &str, change: impl Fn(&mut Observed)) -> BTreeSet<Invariant> {
    let (desired, mut observed, plan) = run(&tree(instances, "")).plan();
    assert!(found(&desired, &observed, &plan).is_empty() && plan.nodes[0].blocked.is_empty());
    change(&mut observed);
    found(&desired, &observed, &plan)
}

#[test]
fn a_plan_that_moves_who_shares_a_claim_is_caught() {
    let shared = |observed: &mut Observed| {
        observed.cluster.pods.iter_mut().for_each(|pod| _ = pod.shared_claims.insert("ns/slice".to_owned()));
    };
    assert!(seen_otherwise(WHOLE, shared).contains(&Invariant::Verdicts));
}

#[test]
fn a_plan_that_moves_a_pod_to_where_it_may_not_run_is_caught() {
    let barred = |node: &'static str| {
        move |observed: &mut Observed| {
            observed.cluster.pods.iter_mut().for_each(|pod| _ = pod.barred.insert(node.to_owned()));
        }
    };
    assert!(seen_otherwise(WHOLE, barred("n")).contains(&Invariant::Verdicts));
    assert_eq!(seen_otherwise(WHOLE, barred("another")), BTreeSet::new());
}

#[test]
fn a_plan_that_stops_others_with_a_unit_is_caught() {
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
    let policy = "[clients]\nsystemd = [\"c.service\", \"d.service\"]\n";
    let scene = super::defects::run(&bare("n", &["0:1g.10gb:unit:u.service", ""]), &[layout], policy);
    let (_, mut observed, _) = scene.plan();
    let units = |observed: &mut Observed| observed.nodes.get_mut("n").unwrap().units.clone();
    let mut all = units(&mut observed);
    for client in ["c.service", "d.service"] {
        all.insert(client.to_owned(), UnitState { active: true, ..UnitState::default() });
    }
    observed.nodes.get_mut("n").unwrap().units = all;
    let desired = scene.resolve(&observed);
    let plan = sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert!(!plan.nodes[0].steps.is_empty() && found(&desired, &observed, &plan).is_empty());
    for (unit, other, caught) in [
        ("u.service", "web.service", true),
        ("u.service", "c.service", true),
        ("c.service", "u.service", true),
        ("c.service", "d.service", false),
    ] {
        let mut seen = observed.clone();
        let state = seen.nodes.get_mut("n").unwrap().units.get_mut(unit).unwrap();
        state.takes.insert(other.to_owned());
        assert_eq!(found(&desired, &seen, &plan).contains(&Invariant::Held), caught, "{unit} takes {other}");
    }
}

#[test]
fn a_plan_that_does_not_put_back_what_was_recorded_is_caught() {
    let was = |start| {
        move |observed: &mut Observed| {
            let gpu = &mut observed.nodes.get_mut("n").unwrap().gpus[0];
            gpu.recorded = vec![sectile::model::Recorded { profile: "1g.10gb".parse().unwrap(), start, compute: None }];
        }
    };
    // The 1g.10gb is made at 6, and could be made at 5 and nowhere below.
    let wanted = "instances = [\"2g\", \"2g\", \"1g\"]";
    assert_eq!(seen_otherwise(wanted, was(6)), BTreeSet::new());
    assert_eq!(seen_otherwise(wanted, was(5)), BTreeSet::from([Invariant::KeptMost]));
    assert_eq!(seen_otherwise(wanted, was(3)), BTreeSet::new());
}

#[test]
fn a_plan_that_disturbs_two_where_one_would_do_is_caught() {
    let fleet = "[[node]]\nname = \"n\"\ncluster = false\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\ninstances = [\
                 { profile = \"2g.20gb\", start = 0, users = [\"process:1/a\"] }, \
                 { profile = \"2g.20gb\", start = 2, users = [\"process:2/b\"] }, { profile = \"3g.40gb\", start = 4 }]\n\
                 [[node.gpu]]\nmodel = \"h100-80gb-sxm\"\ninstances = [{ profile = \"2g.20gb\", start = 0 }]\n";
    let layout =
        "nodes = [\"n\"]\n[[gpu]]\nindex = [0]\ninstances = [\"2g\", \"3g\"]\n[[gpu]]\nindex = [1]\ninstances = []\n";
    let policy = "nodes = [\"*\"]\n[protect]\nprocesses = \"terminate\"\n";
    let (desired, mut observed, plan) =
        Run::new(fleet, &[("layouts/n.toml", layout), ("policies/p.toml", policy)]).plan();
    let moved = |plan: &Plan| plan.nodes[0].disruptions.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    assert_eq!(moved(&plan), ["2"]);
    assert!(!found(&desired, &observed, &plan).contains(&Invariant::KeptMost));
    // The first is disturbed in any case where it is also on the other GPU, so that it might as well lose both.
    let gpus = &mut observed.nodes.get_mut("n").unwrap().gpus;
    gpus[1].instances[0].compute[0].users = gpus[0].instances[0].compute[0].users.clone();
    assert!(found(&desired, &observed, &plan).contains(&Invariant::KeptMost));
    let again = sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(moved(&again), ["1"]);
    assert_eq!(found(&desired, &observed, &again), BTreeSet::new());
}

#[test]
fn a_cost_that_is_not_the_lists_is_caught() {
    let (desired, observed, plan) = run(&tree(WHOLE, "")).plan();
    for change in [1, 100, 10_000] {
        let mut mutant = plan.clone();
        mutant.nodes[0].cost += change;
        mutant.nodes[0].lower_bound += change;
        assert_eq!(found(&desired, &observed, &mutant), BTreeSet::from([Invariant::Sums]));
    }
}

#[test]
fn an_entry_on_a_gpu_that_loses_more_than_another_is_caught() {
    // The second GPU is idle, so that nobody moves.
    let layout = |rest: &str| {
        let text = format!("nodes = [\"n\"]\n[[gpu]]\n{rest}instances = [\"7g\"]\n");
        [("layouts/n.toml", text), ("policies/p.toml", "nodes = [\"*\"]\n".to_owned())]
    };
    let (desired, observed, plan) = run(&layout("count = 1\n")).plan();
    assert_eq!(plan.nodes[0].gpus.iter().map(|g| g.managed).collect::<Vec<_>>(), [false, true]);
    assert!(found(&desired, &observed, &plan).is_empty());
    let first = tree("instances = [\"7g\"]", "");
    let (_, _, mut other) = run(&first).plan();
    other.nodes[0].gpus[0].source.clone_from(&plan.nodes[0].gpus[1].source);
    other.nodes[0].gpus[1].managed = false;
    other.nodes[0].gpus[1].source = None;
    assert_eq!(other.nodes[0].blocked, []);
    assert!(found(&desired, &observed, &other).contains(&Invariant::KeptMost));
}

#[test]
fn what_is_destroyed_to_be_made_again_is_caught() {
    let (desired, observed, mut plan) = run(&tree("instances = [\"2g\", \"2g\"]", "")).plan();
    let gpu = &mut plan.nodes[0].gpus[0];
    let again = gpu.destroy[0].clone();
    gpu.create.push(again);
    assert!(found(&desired, &observed, &plan).contains(&Invariant::Needless));
}

#[test]
fn more_evictions_than_a_budget_allows_are_caught() {
    let run = run(&tree(WHOLE, ""));
    let (desired, mut observed, plan) = run.plan();
    let evicted = plan.nodes[0].steps.iter().filter(|s| s.guards.contains(&Guard::Budget)).count();
    assert_eq!(evicted, 2);
    assert!(found(&desired, &observed, &plan).is_empty());
    observed.cluster.budgets[0].allowed = 1;
    assert!(found(&desired, &observed, &plan).contains(&Invariant::Budgets));
}

#[test]
fn users_that_are_unknown_are_in_use() {
    let run = run(&tree(WHOLE, ""));
    let (desired, mut observed, plan) = run.plan();
    let gpu = &mut observed.nodes.get_mut("n").unwrap().gpus[0];
    gpu.instances[0].compute[0].users = sectile::model::Known::Unknown;
    assert!(found(&desired, &observed, &plan).contains(&Invariant::Vacated));
}

#[test]
fn a_step_that_does_not_wait_for_what_waits_is_caught() {
    // The virtual clock begins on a Thursday.
    let run = run(&tree(WHOLE, "[window]\nopen = [\"Sat 00:00-24:00\"]\n"));
    let (desired, observed, plan) = run.plan();
    let policy = desired.nodes["n"].policy.as_ref().unwrap();
    let now = jiff::Timestamp::from_millisecond(lock(&run.world).clock_ms).unwrap();
    assert!(matches!(window::standing(policy.window.as_ref().unwrap(), now), window::Standing::Shut(Some(_))));
    assert!(plan.nodes[0].steps.iter().all(|s| s.waits.is_some()));
    let mutants = mutated(&plan, |node| node.steps.last_mut().is_some_and(|s| s.waits.take().is_some()));
    assert_eq!(mutants.len(), 1);
    assert!(found(&desired, &observed, &mutants[0]).contains(&Invariant::Waits));
}

/// The tests above name every invariant.
#[test]
fn no_invariant_is_left_out() {
    let source = [include_str!("mutants.rs"), include_str!("strategies.rs")].concat();
    let bracket = Invariant::Bracket;
    for invariant in Invariant::ALL.iter().filter(|i| **i != bracket) {
        assert!(source.contains(&format!("Invariant::{invariant:?}")), "{invariant} has no mutant");
    }
    // What leaves a bracket open is dropped steps, by the hundred.
    let (desired, observed, mut plan) = run(&tree(WHOLE, "")).plan();
    let at = plan.nodes[0].steps.iter().position(|s| s.kind == StepKind::Untaint).unwrap();
    without(&mut plan.nodes[0], at);
    assert!(found(&desired, &observed, &plan).contains(&bracket));
}
