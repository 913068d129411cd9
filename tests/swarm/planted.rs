//! The judge is judged: whatever harm is planted must be caught.

use sectile::execute::{Outcome, Rollback};
use sectile::model::plan::Step;
use sectile::model::{NodePlan, StepKind};
use sectile::plan::check;
use sectile::sim::lock;
use sectile::sim::world::{LedgerEntry, World};

use crate::fleets::Run;
use crate::judge::{Before, Cut, cut, ends_well, is_honest, nobody_is_harmed, nothing_is_left};
use crate::rig::{Case, Trace};

/// What does harm to a world.
type Plant = fn(&mut World);

/// What the judge must catch, by name.
const PLANTED: [(&str, Plant); 6] = [
    ("a taint that is left", |world| world.nodes.values_mut().for_each(|node| node.tainted = true)),
    ("a pause that is left", |world| world.nodes.values_mut().for_each(|node| node.clients_paused = true)),
    ("a unit that is left stopped", |world| {
        world.nodes.values_mut().flat_map(|node| node.units.values_mut()).for_each(|unit| unit.active = false);
    }),
    ("a mode that is left pending", |world| {
        world.nodes.values_mut().flat_map(|node| &mut node.gpus).for_each(|gpu| gpu.pending = !gpu.mode);
    }),
    ("an instance that was taken from somebody", |world| {
        let (at_ms, node) = (world.clock_ms, "n0".to_owned());
        let entry = LedgerEntry { at_ms, node, gpu: String::new(), call: "reset".to_owned(), holders: Vec::new() };
        world.ledger.push(entry);
    }),
    ("a pod that is lost", |world| {
        world.pods.clear();
        world.workloads.iter_mut().for_each(|workload| workload.replicas += 1);
    }),
];

/// Harm to the world, lies about what was done, and plans with a bug.
pub(crate) fn planted(seed: u64, trace: &Trace) -> Result<u64, String> {
    let case = Case::of(seed);
    trace.say(|| case.told());
    for (name, plant) in PLANTED {
        let run = case.run();
        let ended = run.apply();
        ends_well(&run, &ended)?;
        plant(&mut lock(&run.world));
        let blind = name == "a pod that is lost" && lock(&run.world).workloads.is_empty();
        if ends_well(&run, &ended).is_ok() && !blind {
            return Err(format!("{name} is not caught"));
        }
    }
    // A layout that is said to be as it was and is not; a success that is none.
    let run = case.run();
    let before = Before::of(&run);
    let mut ended = run.apply();
    let name = ended.plans[0].nodes.iter().find(|node| !node.steps.is_empty()).unwrap().name.clone();
    let why = "planted".to_owned();
    let lie = Outcome::Failed { step: 1, why, left: Vec::new(), rollback: Rollback::Whole };
    let of = |cut: Cut| cut.into_iter().filter(|((node, _), _)| *node == name).collect::<Cut>();
    let changed = of(cut(&lock(&run.world))) != of(before.cut());
    ended.plans.truncate(1);
    ended.failed.insert(name, lie);
    if changed && is_honest(&run, &ended, &before).is_ok() {
        return Err("a layout that is said to be put back and is not is not caught".to_owned());
    }
    let run = case.run();
    let before = Before::of(&run);
    let ended = case.run().apply();
    if is_honest(&run, &ended, &before).is_ok() {
        return Err("a success that is none is not caught".to_owned());
    }
    let bugs = BUGS.iter().map(|(name, bug)| mutated(&case, name, *bug)).collect::<Result<Vec<_>, String>>()?;
    let sown = bugs.into_iter().flatten().inspect(|name| trace.say(|| format!("  caught: {name}"))).count();
    Ok((PLANTED.len() + 2 + sown) as u64)
}

/// What makes a plan wrong; whether it did.
type Bug = fn(&mut NodePlan) -> bool;

const BUGS: [(&str, Bug); 10] = [
    ("a taint is not taken off", |plan| leave_out(plan, |kind| matches!(kind, StepKind::Untaint))),
    ("clients are not resumed", |plan| leave_out(plan, |kind| matches!(kind, StepKind::ResumeClients { .. }))),
    ("a pod is not evicted", |plan| leave_out(plan, |kind| matches!(kind, StepKind::EvictPod { .. }))),
    ("nobody waits until a pod is gone", |plan| leave_out(plan, |kind| matches!(kind, StepKind::AwaitGone { .. }))),
    ("a unit is not stopped", |plan| leave_out(plan, |kind| matches!(kind, StepKind::StopUnit { .. }))),
    ("a unit is not started", |plan| leave_out(plan, |kind| matches!(kind, StepKind::StartUnit { .. }))),
    ("a process is not terminated", |plan| leave_out(plan, |kind| matches!(kind, StepKind::TerminateProcess { .. }))),
    ("an instance is not destroyed", |plan| leave_out(plan, |kind| matches!(kind, StepKind::DestroyInstance { .. }))),
    ("an instance is not created", |plan| leave_out(plan, |kind| matches!(kind, StepKind::CreateInstance { .. }))),
    ("nothing is checked before a destroy", |plan| {
        let destroys = plan.steps.iter_mut().filter(|step| matches!(step.kind, StepKind::DestroyInstance { .. }));
        destroys.map(|step| std::mem::take(&mut step.guards)).filter(|guards| !guards.is_empty()).count() > 0
    }),
];

/// Takes the last step of a kind out; what came after it comes after what it came after.
fn leave_out(plan: &mut NodePlan, which: impl Fn(&StepKind) -> bool) -> bool {
    let Some(at) = plan.steps.iter().rposition(|step| which(&step.kind)) else { return false };
    let Step { id, after, .. } = plan.steps.remove(at);
    for step in plan.steps.iter_mut().filter(|step| step.after.contains(&id)) {
        step.after.retain(|before| *before != id);
        step.after.extend(&after);
        step.after.sort_unstable();
        step.after.dedup();
    }
    true
}

/// Plans a bug into each node's plan where it has a place: the check refuses it, and if it is carried out nevertheless,
/// it does no harm that nobody sees. The name of the bug, if it had a place.
fn mutated<'a>(case: &Case, name: &'a str, bug: Bug) -> Result<Option<&'a str>, String> {
    let run = case.run();
    let (desired, observed, plan) = run.plan();
    let mut wrong = plan.clone();
    let Some(node) = wrong.nodes.iter_mut().find_map(|node| bug(node).then(|| node.name.clone())) else {
        return Ok(None);
    };
    if check::check(&desired, &observed, &wrong).is_empty() {
        return Err(format!("{name}: the check lets it pass"));
    }
    let of = |plan: &NodePlan| plan.name == node;
    let right = plan.nodes.iter().find(|plan| of(plan)).unwrap();
    let wrong = wrong.nodes.iter().find(|plan| of(plan)).unwrap();
    if right.steps.iter().any(|step| step.waits.is_some()) {
        return Ok(Some(name));
    }
    let (outcome, _) = run.node(wrong, &desired, &observed);
    let seen = is_seen(&run, &outcome);
    let as_planned = {
        let twin = case.run();
        twin.node(right, &desired, &observed);
        cut(&lock(&twin.world)) == cut(&lock(&run.world))
    };
    if seen || as_planned { Ok(Some(name)) } else { Err(format!("{name}: carried out, and nobody sees it")) }
}

/// Whether the executor says that something is wrong, or the judge does, or there is more to do.
fn is_seen(run: &Run, outcome: &Outcome) -> bool {
    let judged = {
        let world = lock(&run.world);
        nobody_is_harmed(&world).and_then(|()| nothing_is_left(&world, &[].into()))
    };
    let (.., again) = run.plan();
    *outcome != Outcome::Done || judged.is_err() || again.nodes.iter().any(|node| !node.steps.is_empty())
}
