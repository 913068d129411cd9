//! Bindings: what is set at workloads, what is taken back, and what of it waits or is blocked.

use std::cell::RefCell;
use std::collections::BTreeSet;

use sectile::execute::at_once;
use sectile::execute::bind::{Hands, Told};
use sectile::execute::journal;
use sectile::model::observed::WorkloadState;
use sectile::model::plan::BlockCode;
use sectile::model::policy::Allocation;
use sectile::model::{Affinity, Desired, Digest, Known, Observed, Place, PlaceState, Plan, StepKind, Target};
use sectile::plan::bindings;
use sectile::plan::check::{Invariant, check};
use sectile::plan::plan;
use sectile::sim::clock::SimClock;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::lock;

use super::config_bad::layouts;
use super::config_good::tree;
use super::defects::{layout, managed, node, run};
use super::fleets::Run;
use super::ready::workload;

/// A pod that holds a 1g.10gb, beside a free 2g.20gb, under a tree that binds its workload.
fn scene(kind: &str, profile: &str, policy: &str) -> Run {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0 2:2g.20gb"]) + &workload(kind, "w", 1, "1g.10gb", "");
    run(&fleet, &[layout("n", &["1g.10gb 2g.20gb"]) + &managed(kind, "w", profile)], policy)
}

/// The same world under another tree.
fn under(run: &Run, layouts: &[String], policy: &str) -> Run {
    let names: Vec<String> = (0..layouts.len()).map(|n| format!("layouts/{n}.toml")).collect();
    let policy = if policy.is_empty() { "[apply]\nmode = \"auto\"\n" } else { policy };
    let policy = format!("nodes = [\"*\"]\n{policy}");
    let files = names.iter().zip(layouts).map(|(name, text)| (name.as_str(), text.as_str()));
    Run::of(run.world.clone(), tree(&files.chain([("policies/p.toml", policy.as_str())]).collect::<Vec<_>>()))
}

fn steps(plan: &Plan) -> Vec<(&'static str, Option<BlockCode>)> {
    plan.cluster.steps.iter().map(|step| (step.kind.word(), step.waits)).collect()
}

fn codes(plan: &Plan) -> Vec<BlockCode> {
    plan.cluster.blocked.iter().map(|block| block.code).collect()
}

fn again(run: &Run, desired: &Desired, observed: &Observed) -> Plan {
    let plan = plan(desired, observed, sectile::ports::Clock::now(&SimClock { world: run.world.clone() }));
    assert_eq!(check(desired, observed, &plan), []);
    plan
}

#[test]
fn a_workload_that_asks_for_the_right_thing_is_kept_where_its_binding_holds() {
    let run = scene("StatefulSet", "1g.10gb", "");
    let (_, _, plan) = run.plan();
    assert_eq!(steps(&plan), [("bind_workload", None)]);
    let StepKind::BindWorkload { bind, timeout_s } = &plan.cluster.steps[0].kind else { panic!() };
    assert_eq!((bind.affinity.names.iter().next().map(String::as_str), *timeout_s), (Some("n"), 900));
    run.apply();
    let (_, observed, plan) = run.plan();
    assert!(plan.cluster.bindings[0].matches && plan.cluster.steps.is_empty());
    assert_eq!(observed.cluster.bound.known().unwrap().len(), 1);
}

#[test]
fn what_no_binding_says_any_more_is_taken_back() {
    let run = scene("StatefulSet", "2g.20gb", "[drain]\ntimeout = \"5m\"\n");
    run.apply();
    let alone = layout("n", &["1g.10gb 2g.20gb"]);
    let object = "kubernetes = { kind = \"StatefulSet\", namespace = \"x\", name = \"w\" }";
    let checked = format!("{alone}[[workload]]\nname = \"w\"\n{object}\nprofile = \"1g.10gb\"\n");
    for tree in [&alone, &checked] {
        assert_eq!(steps(&under(&run, std::slice::from_ref(tree), "").plan().2), [("unbind_workload", None)]);
    }
    // The virtual clock begins on a Thursday.
    let shut = "[window]\nopen = [\"Sat 00:00-24:00\"]\n";
    for (policy, code) in [("[apply]\nmode = \"manual\"\n", BlockCode::ManualMode), (shut, BlockCode::Window)] {
        let plan = under(&run, std::slice::from_ref(&alone), policy).plan().2;
        assert_eq!(steps(&plan), [("unbind_workload", Some(code))]);
    }
    // Under another name it is the same workload, and is bound at once.
    let renamed = alone.clone() + &managed("StatefulSet", "w", "2g.20gb").replacen("\"w\"", "\"v\"", 1);
    assert_eq!(steps(&under(&run, &[renamed], "").plan().2), [("bind_workload", None)]);
    let without = under(&run, &[alone], "");
    without.apply();
    let (_, observed, plan) = without.plan();
    assert_eq!((steps(&plan), observed.cluster.bound), (vec![], Known::Known(vec![])));
    assert_eq!(observed.cluster.workloads[0].requests.keys().collect::<Vec<_>>(), ["nvidia.com/mig-1g.10gb"]);
}

#[test]
fn a_tree_that_is_held_back_takes_nothing_back() {
    let run = scene("StatefulSet", "2g.20gb", "");
    run.apply();
    let without = under(&run, &[layout("n", &["1g.10gb 2g.20gb"])], "");
    let (mut desired, observed, _) = without.plan();
    let block = sectile::model::Block {
        code: BlockCode::MassRemoval,
        message: "most bindings are gone".to_owned(),
        object: "the tree".to_owned(),
        hint: "look at it".to_owned(),
    };
    sectile::plan::guards::hold_tree(&mut desired, &block);
    assert_eq!(steps(&again(&without, &desired, &observed)), []);
}

#[test]
fn what_is_not_known_to_be_bound_is_not_taken_back() {
    let run = scene("StatefulSet", "2g.20gb", "");
    run.apply();
    let without = under(&run, &[layout("n", &["1g.10gb 2g.20gb"])], "");
    let (desired, mut observed, _) = without.plan();
    observed.cluster.bound = Known::Unknown;
    assert_eq!(steps(&again(&without, &desired, &observed)), []);
}

#[test]
fn without_a_policy_nothing_is_taken_back() {
    let run = scene("StatefulSet", "2g.20gb", "");
    run.apply();
    let layout = layout("n", &["1g.10gb 2g.20gb"]);
    let bare = Run::of(run.world.clone(), tree(&[("layouts/n.toml", layout.as_str())]));
    let plan = bare.plan().2;
    assert_eq!((steps(&plan), codes(&plan)), (vec![], vec![BlockCode::NoPolicy]));
}

#[test]
fn where_nodes_serve_instances_by_claims_pods_get_claims() {
    let run = scene("StatefulSet", "1g.10gb", "");
    let (desired, mut observed, _) = run.plan();
    observed.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap().allocation = Allocation::Dra;
    let plan = again(&run, &desired, &observed);
    let StepKind::BindWorkload { bind, .. } = &plan.cluster.steps[0].kind else { panic!("{plan:?}") };
    assert_eq!(bind.allocation, Allocation::Dra);
    let workload = &mut observed.cluster.workloads[0];
    workload.requests.clear();
    workload.claims = BTreeSet::from([bind.claim_template().unwrap()]);
    workload.affinity = Some(bind.affinity.clone());
    assert_eq!(steps(&again(&run, &desired, &observed)), []);
}

#[test]
fn what_can_not_be_done_is_blocked() {
    let run = scene("Job", "2g.20gb", "");
    assert_eq!(codes(&run.plan().2), [BlockCode::Immutable]);
    let run = scene("StatefulSet", "2g.20gb", "");
    let (desired, mut observed, _) = run.plan();
    let there = observed.cluster.workloads.clone();
    observed.cluster.workloads.clear();
    assert_eq!(codes(&again(&run, &desired, &observed)), [BlockCode::NoSuchTarget]);
    let message = "403 forbidden".to_owned();
    observed.cluster.gaps.push(sectile::model::Gap { object: "StatefulSet x/w".to_owned(), message });
    assert_eq!(codes(&again(&run, &desired, &observed)), [BlockCode::Unobserved]);
    // Nobody tells what the profile is called where it holds.
    observed.cluster.workloads = there;
    observed.nodes.clear();
    let plan = again(&run, &desired, &observed);
    assert_eq!((steps(&plan), codes(&plan)), (vec![], vec![BlockCode::Unobserved]));
}

/// What is found in a plan of whose cluster's steps something was changed.
fn found(run: &Run, damage: impl Fn(&mut Plan)) -> BTreeSet<Invariant> {
    let (desired, observed, mut plan) = run.plan();
    let before = plan.clone();
    damage(&mut plan);
    assert_ne!(plan, before);
    check(&desired, &observed, &plan).into_iter().map(|violation| violation.invariant).collect()
}

#[test]
fn a_damaged_step_of_the_cluster_is_caught() {
    let binds = scene("StatefulSet", "2g.20gb", "");
    let bent = |with: &dyn Fn(&mut sectile::model::Bind)| {
        found(&binds, |plan| {
            let StepKind::BindWorkload { bind, .. } = &mut plan.cluster.steps[0].kind else { panic!() };
            with(bind);
        })
    };
    let target = BTreeSet::from([Invariant::Target]);
    assert_eq!(bent(&|bind| bind.profile = "1g.10gb".parse().unwrap()), target);
    assert_eq!(bent(&|bind| bind.per_replica = 2), target);
    assert_eq!(bent(&|bind| bind.container = Some("other".to_owned())), target);
    assert_eq!(bent(&|bind| bind.allocation = Allocation::Dra), target);
    assert_eq!(bent(&|bind| bind.strategy = sectile::model::observed::MigStrategy::Single), target);
    assert_eq!(bent(&|bind| bind.affinity = Affinity::default()), target);
    assert!(bent(&|bind| bind.object.name = "v".to_owned()).contains(&Invariant::Target));
    assert!(bent(&|bind| bind.binding = "v".to_owned()).contains(&Invariant::Foreign));
    assert_eq!(found(&binds, |plan| plan.cluster.steps.clear()), target);
    assert_eq!(found(&binds, |plan| plan.cluster.steps[0].disruptive = false), [Invariant::Verdicts].into());
    let twice = found(&binds, |plan| {
        let mut step = plan.cluster.steps[0].clone();
        step.id += 1;
        plan.cluster.steps.push(step);
    });
    assert_eq!(twice, [Invariant::Needless].into());
    // What is bound already, and what is bound still.
    let (_, _, made) = binds.plan();
    binds.apply();
    let needless = found(&binds, |plan| plan.cluster.steps.clone_from(&made.cluster.steps));
    assert_eq!(needless, [Invariant::Needless].into());
    let StepKind::BindWorkload { bind, timeout_s } = made.cluster.steps[0].kind.clone() else { panic!() };
    let back = |plan: &mut Plan| {
        plan.cluster.steps.clone_from(&made.cluster.steps);
        plan.cluster.steps[0].kind = StepKind::UnbindWorkload { bind: bind.clone(), timeout_s };
    };
    assert_eq!(found(&binds, back), [Invariant::HandsOff].into());
    let alone = layout("n", &["1g.10gb 2g.20gb"]);
    let gone = under(&binds, std::slice::from_ref(&alone), "");
    assert_eq!(found(&gone, |plan| plan.cluster.steps.clear()), target);
    let other = found(&gone, |plan| {
        let StepKind::UnbindWorkload { bind, .. } = &mut plan.cluster.steps[0].kind else { panic!() };
        bind.per_replica = 7;
    });
    assert_eq!(other, [Invariant::Foreign].into());
    // A policy that says wait.
    let waits = under(&binds, &[alone], "[apply]\nmode = \"manual\"\n");
    assert_eq!(found(&waits, |plan| plan.cluster.steps[0].waits = None), [Invariant::Waits].into());
}

/// Carries the cluster's steps of a plan out: what was told, what failed, and the journal.
fn carry(run: &Run, plan: &Plan) -> (Vec<String>, Vec<String>, MemoryJournal) {
    let (cluster, clock) = (run.cluster(), SimClock { world: run.world.clone() });
    let hands = Hands { cluster: &cluster, clock: &clock, revision: "r1", plan: Digest::of([]), is_shut: &|_| false };
    let told = RefCell::new(Vec::new());
    let mut tell = |news: Told<'_>| {
        told.borrow_mut().push(match news {
            Told::Begun(step) => format!("begun {}", step.id),
            Told::Waits(step, why) => format!("waits {}: {why}", step.id),
            Told::Done(step) => format!("done {}", step.id),
            Told::Failed(step, why) => format!("failed {}: {why}", step.id),
        });
    };
    let mut journal = MemoryJournal::default();
    let failed = hands.carry(&plan.cluster.steps, &mut journal, &|| false, &mut tell);
    let failed = at_once(failed).unwrap().unwrap().into_values().collect();
    (told.into_inner(), failed, journal)
}

#[test]
fn a_rollout_is_waited_for_and_recorded() {
    let run = scene("StatefulSet", "2g.20gb", "");
    let (told, failed, journal) = carry(&run, &run.plan().2);
    assert_eq!(failed, [""; 0]);
    assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("begun 1", "done 1"));
    assert!(told[1].starts_with("waits 1: "), "{told:?}");
    let lines = sectile::ports::Journal::lines(&journal).unwrap();
    let records = journal::read(&lines, "").unwrap();
    assert!(journal::story(&records).over);
    assert_eq!(lines.len(), 3);
    let WorkloadState { ready, settled, revision, .. } = run.observe().cluster.workloads[0].clone();
    assert_eq!((ready, settled, revision.as_deref()), (1, true, Some("r1")));
}

#[test]
fn a_rollout_that_does_not_end_fails_with_what_it_lacks() {
    let run = scene("StatefulSet", "2g.20gb", "[drain]\ntimeout = \"2m\"\n");
    let (_, _, plan) = run.plan();
    lock(&run.world).workloads[0].start_s = 600;
    let before = lock(&run.world).clock_ms;
    let (told, failed, _) = carry(&run, &plan);
    let why = "0 of its pods are ready, 1 were";
    assert_eq!(failed, [why]);
    assert_eq!(told.last().unwrap(), &format!("failed 1: {why}"));
    assert!((120_000..200_000).contains(&(lock(&run.world).clock_ms - before)));
}

#[test]
fn a_rollout_waited_in_vain_for_instances_that_were_to_be_made_after_it() {
    let run = scene("StatefulSet", "2g.20gb", "[drain]\ntimeout = \"2m\"\n");
    let (_, _, plan) = run.plan();
    // Nobody else may be there then.
    lock(&run.world).nodes.get_mut("n").unwrap().tainted = true;
    let (told, failed, journal) = carry(&run, &plan);
    let why = "0 of its pods are ready, 1 were; pod x/w-0 finds no node: \
               0/1 nodes are available: 1 Insufficient nvidia.com/mig-2g.20gb.";
    assert_eq!(failed, [""; 0]);
    assert!(told.contains(&format!("waits 1: {why}")), "{told:?}");
    assert_eq!(told.last().unwrap(), "done 1");
    let lines = sectile::ports::Journal::lines(&journal).unwrap();
    assert!(journal::story(&journal::read(&lines, "").unwrap()).over);
}

#[test]
fn a_binding_says_where_its_pods_may_run() {
    let affinity = |file: &str, entry: &str| {
        let binding = managed("Deployment", "w", "1g.10gb") + entry;
        let text = format!("{file}\n[[gpu]]\ninstances = [\"1g.10gb\"]\n{binding}");
        let tree = tree(&[("layouts/n.toml", text.as_str())]);
        let binding = tree.bindings().next().unwrap().clone();
        let Affinity { labels, names } = binding.affinity;
        let labels: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        (labels.join(" "), names.into_iter().collect::<Vec<_>>().join(" "))
    };
    let told = |labels: &str, names: &str| (labels.to_owned(), names.to_owned());
    assert_eq!(affinity("nodes = [\"*\"]", ""), told("", ""));
    assert_eq!(affinity("nodes = [\"a\", \"b\"]", ""), told("", "a b"));
    assert_eq!(affinity("nodes = [\"a\", \"b\"]", "nodes = [\"b\"]"), told("", "b"));
    assert_eq!(affinity("nodes = [\"a*\"]", "nodes = [\"a1\", \"b1\"]"), told("", "a1"));
    assert_eq!(affinity("nodes = [\"a1\", \"b1\"]", "nodes = [\"a*\"]"), told("", "a1"));
    assert_eq!(affinity("nodes = [\"a*\"]\nlabels = { pool = \"x\" }", ""), told("pool=x", ""));
    let both = affinity("nodes = [\"a\"]\nlabels = { pool = \"x\" }", "labels = { zone = \"y\" }");
    assert_eq!(both, told("pool=x zone=y", "a"));
}

#[test]
fn what_no_scheduler_can_be_told_is_an_error() {
    let of = |file: &str, kubernetes: &str, entry: &str| {
        format!(
            "{file}\n[[gpu]]\ninstances = [\"1g.10gb\"]\n[[workload]]\nname = \"w\"\nprofile = \"1g.10gb\"\n\
             manage = true\n{entry}kubernetes = {{ {kubernetes}, namespace = \"x\", name = \"w\" }}\n"
        )
    };
    let (all, job) = ("nodes = [\"*\"]", "kind = \"Job\"");
    let ray = "kind = \"RayCluster\", api_version = \"ray.io/v1\"";
    let path = |text: &str| format!("{ray}, path = \"{text}\"");
    let cases = [
        ("a glob", of("nodes = [\"a*\"]", job, "")),
        ("no node", of("nodes = [\"a\"]", job, "nodes = [\"b\"]\n")),
        ("labels that disagree", of("nodes = [\"*\"]\nlabels = { a = \"b\" }", job, "labels = { a = \"c\" }\n")),
        ("another kind", of(all, "kind = \"RayCluster\"", "")),
        ("a template somewhere", of(all, ray, "")),
        ("no kind", of(all, "kind = \"ray\", api_version = \"ray.io/v1\"", "")),
        ("no version", of(all, "kind = \"RayCluster\", api_version = \"ray.io\"", "")),
        ("no path", of(all, &path("spec..template"), "")),
    ];
    let cases: Vec<_> = cases.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("bindings", &cases);
    let tree = tree(&[("layouts/n.toml", of(all, &path("spec.headGroupSpec.template"), "").as_str())]);
    let Target::Kubernetes { object, .. } = &tree.bindings().next().unwrap().target else { panic!() };
    assert_eq!((object.api_version.as_str(), object.path.as_str()), ("ray.io/v1", "spec.headGroupSpec.template"));
}

#[test]
fn a_rollout_waits_where_more_pods_would_be_down_than_the_budget_allows() {
    let run = scene("StatefulSet", "2g.20gb", "[budget]\nmax_pods = 1\n");
    let (desired, mut observed, plan) = run.plan();
    assert_eq!(plan.cluster.steps[0].waits, None);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    // Another workload that a binding has set lacks a pod.
    let lacking = WorkloadState {
        kind: "Deployment".to_owned(),
        namespace: "x".to_owned(),
        name: "other".to_owned(),
        replicas: 3,
        ready: 2,
        settled: true,
        revision: Some("r0".to_owned()),
        ..WorkloadState::default()
    };
    observed.cluster.workloads.push(lacking.clone());
    let plan = sectile::plan::plan(&desired, &observed, now);
    assert_eq!(plan.cluster.steps[0].waits, Some(BlockCode::Budget));
    assert_eq!(sectile::plan::check::check(&desired, &observed, &plan), []);
    // What nobody has bound is no business of the budget, and who surges takes nobody down.
    observed.cluster.workloads[1].revision = None;
    assert_eq!(sectile::plan::plan(&desired, &observed, now).cluster.steps[0].waits, None);
    observed.cluster.workloads[1] = lacking;
    observed.cluster.workloads[0].down = 0;
    assert_eq!(sectile::plan::plan(&desired, &observed, now).cluster.steps[0].waits, None);
}

/// Carries the first of the cluster's steps out in its turn; why it waits.
fn carry_in_turn(run: &Run, (desired, observed, plan): &(Desired, Observed, Plan)) -> Option<String> {
    let (cluster, clock) = (run.cluster(), SimClock { world: run.world.clone() });
    let hands = Hands { cluster: &cluster, clock: &clock, revision: "r1", plan: Digest::of([]), is_shut: &|_| false };
    let (watch, mut journal) = (RefCell::default(), MemoryJournal::default());
    let (seen, holder) = ((desired, observed), (&watch, "ours".to_owned()));
    let step = &plan.cluster.steps[0];
    at_once(hands.carry_in_turn(step, seen, holder, &mut journal, &|| false, &mut |_| {})).unwrap().unwrap()
}

#[test]
fn a_rollout_began_while_nodes_had_taken_down_as_many_pods_as_may_be() {
    let run = scene("StatefulSet", "2g.20gb", "[budget]\nmax_pods = 1\n");
    // By then it was the rollout's turn, and a moment later the node's.
    let picture = run.plan();
    let place = Place {
        run: "another's".to_owned(),
        renewals: 7,
        lease_s: 60,
        // Nobody waits for it to expire.
        state: PlaceState::Failed,
        over: ["policies/p.toml".to_owned()].into(),
        nodes: 1,
        pods: 1,
        reserved: Default::default(),
        revision: String::new(),
        since: String::new(),
    };
    lock(&run.world).places.insert("n".to_owned(), place);
    let why = carry_in_turn(&run, &picture).unwrap();
    assert_eq!(why, "on the nodes of policies/p.toml, 1 pods may be down at once; n has a place");
    assert_eq!(run.observe().cluster.workloads[0].revision, None);
    lock(&run.world).places.clear();
    assert_eq!(carry_in_turn(&run, &picture), None);
    assert_eq!(run.observe().cluster.workloads[0].revision.as_deref(), Some("r1"));
    assert!(lock(&run.world).places.is_empty());
}

#[test]
fn a_rollout_began_whose_window_had_shut_while_others_were_carried_out() {
    let run = scene("StatefulSet", "2g.20gb", "[window]\nopen = [\"Mon-Sun 00:00-02:00\"]\n");
    let (desired, observed, plan) = run.plan();
    let shut = |at: &str| bindings::is_shut(&plan.cluster.steps[0], &desired, &observed, at.parse().unwrap());
    assert!(!shut("2026-01-01T01:00:00Z"));
    assert!(shut("2026-01-01T02:00:00Z"));
    assert!(shut("2026-01-01T03:00:00Z"));
    let (cluster, clock) = (run.cluster(), SimClock { world: run.world.clone() });
    let hands = Hands { cluster: &cluster, clock: &clock, revision: "r1", plan: Digest::of([]), is_shut: &|_| true };
    let mut told = Vec::new();
    let mut tell = |news: Told<'_>| match news {
        Told::Waits(_, why) => told.push(why),
        other => panic!("{other:?}"),
    };
    let steps = &run.plan().2.cluster.steps;
    at_once(hands.carry(steps, &mut MemoryJournal::default(), &|| false, &mut tell)).unwrap().unwrap();
    assert_eq!(told, ["the window shuts before it would be done"]);
    assert_eq!(run.observe().cluster.workloads[0].revision, None);
}

#[test]
fn behind_a_rollout_that_never_ended_the_next_one_was_begun_a_pass_later() {
    let run = scene("StatefulSet", "2g.20gb", "");
    let (desired, mut observed, _) = run.plan();
    let rolling = WorkloadState {
        kind: "Deployment".to_owned(),
        namespace: "x".to_owned(),
        name: "other".to_owned(),
        replicas: 3,
        ready: 3,
        revision: Some("r0".to_owned()),
        settled: false,
        ..WorkloadState::default()
    };
    observed.cluster.workloads.push(rolling);
    assert_eq!(steps(&again(&run, &desired, &observed)), [("bind_workload", Some(BlockCode::Budget))]);
    observed.cluster.workloads[1].settled = true;
    assert_eq!(steps(&again(&run, &desired, &observed)), [("bind_workload", None)]);
}

#[test]
fn while_no_node_told_how_instances_reach_pods_a_claim_was_made_a_resource() {
    let run = scene("StatefulSet", "1g.10gb", "");
    run.apply();
    let (desired, mut observed, plan) = run.plan();
    assert_eq!(steps(&plan), []);
    observed.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap().allocation = Allocation::Auto;
    let Known::Known(bound) = &mut observed.cluster.bound else { panic!() };
    bound[0].bind.allocation = Allocation::Dra;
    let template = bound[0].bind.claim_template().unwrap();
    observed.cluster.workloads[0].claims = [template].into();
    observed.cluster.workloads[0].requests.clear();
    assert_eq!(steps(&again(&run, &desired, &observed)), []);
}

#[test]
fn what_another_object_owns_was_taken_back_whatever_the_policies_said() {
    let run = scene("StatefulSet", "1g.10gb", "");
    run.apply();
    let gone = under(&run, &[layout("n", &["1g.10gb 2g.20gb"])], "[apply]\nmode = \"manual\"\n");
    let (desired, mut observed, plan) = gone.plan();
    assert_eq!(steps(&plan), [("unbind_workload", Some(BlockCode::ManualMode))]);
    observed.cluster.pods.iter_mut().for_each(|pod| pod.owner.as_mut().unwrap().name = "made-by-w".to_owned());
    assert_eq!(steps(&plan_of(&gone, &desired, &observed)), [("unbind_workload", Some(BlockCode::ManualMode))]);
}

fn plan_of(run: &Run, desired: &Desired, observed: &Observed) -> Plan {
    plan(desired, observed, sectile::ports::Clock::now(&SimClock { world: run.world.clone() }))
}

#[test]
fn a_rollout_that_somebody_stopped_or_that_nobody_could_stop_was_not_begun_and_not_told() {
    let run = scene("StatefulSet", "2g.20gb", "");
    let (_, _, plan) = run.plan();
    let suspension = sectile::model::observed::Suspension {
        reason: "INC-4711".to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
        ..Default::default()
    };
    // What belongs to no node is stopped with the whole fleet, which the simulated cluster remembers by that name.
    let name = sectile::execute::bind::CLUSTER.to_owned();
    lock(&run.world).memory.nodes.entry(name.clone()).or_default().suspended = Some(suspension);
    let (told, failed, _) = carry(&run, &plan);
    assert_eq!(failed, [""; 0]);
    assert!(told.len() == 1 && told[0].starts_with("waits 1: suspended") && told[0].contains("INC-4711"), "{told:?}");
    assert_eq!(run.observe().cluster.workloads[0].revision, None);
    lock(&run.world).memory.nodes.remove(&name);
    assert_eq!(carry(&run, &plan).0.last().map(String::as_str), Some("done 1"));
}
