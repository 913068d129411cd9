//! Carries a node's plan out and answers for it: what an earlier run left is taken back before, and what fails for
//! good is put back after.
//!
//! Putting a layout back is a plan like any other, to what was there before: planned, checked and guarded by the same
//! code, so that it disturbs nobody whom the policy protects.

use std::cell::RefCell;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::desired::{Binding, DesiredNode, Goal, GpuGoal, Target, Wanted};
use crate::model::observed::{GpuInstance, ObservedGpu, ObservedNode};
use crate::model::plan::{Block, BlockCode, NodeState};
use crate::model::{Desired, Digest, Gap, Known, MigMode, NodePlan, Observed, Policy, User};
use crate::plan;
use crate::plan::places::{self, Asked, Waits, Watch};
use crate::plan::turns::{self, Domains};
use crate::ports::{Clock, Cluster, Driver, Host, Journal, Port, PortError};

use super::drive::{Ports, drive, within};
use super::journal::{Entry, Failure, Record, Story};
use super::machine::{Machine, backoff_s, later};
use super::observe;
use super::protocol::{News, Outcome, Rollback};
use super::turn::{Turn, busy};

/// After so many plans back nothing will be put back any more by another one.
const PASSES: u32 = 5;
/// How often what can't be observed just now is looked at, and for how many seconds each time.
const LOOKS: u32 = 5;
const LOOK_S: i64 = 60;

/// What a node's plan was made from.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// What the tree wants.
    pub desired: &'a Desired,
    /// What was there.
    pub observed: &'a Observed,
    /// What was said not to wait for: recorded first.
    pub overridden: Option<&'a Entry>,
}

/// Carries a plan out. Where it fails for good, the layout is put back if the policy says so, and the failure is
/// recorded, so that it is not tried again while nothing changes.
pub async fn carry<D: Driver, C: Cluster, H: Host, K: Clock, J: Journal>(
    plan: &NodePlan,
    picture: Picture<'_>,
    ports: &Ports<'_, D, C, H, K>,
    journal: &mut J,
    interrupted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&News),
) -> Outcome {
    let wanted = picture.desired.nodes.get(&plan.name);
    let policy = wanted.and_then(|wanted| wanted.policy.clone()).unwrap_or_default();
    if let Err(error) = begin(plan, &picture, &policy, ports, journal).await {
        // Nothing was done, and what can't be recorded must not be begun.
        let step = plan.steps.first().map_or(0, |step| step.id);
        return Outcome::Failed { step, why: error.to_string(), left: Vec::new(), rollback: Rollback::Unneeded };
    }
    let machine = Machine::new(plan, &policy).sharing(ports.turn.is_some());
    let mut outcome = drive(machine, ports, journal, interrupted, tell).await;
    let (Outcome::Failed { step, why, left, rollback }, Some(wanted)) = (&mut outcome, wanted) else { return outcome };
    let before = picture.observed.nodes.get(&plan.name);
    let back = before.map(|before| (before, put_back(plan, wanted, before, picture.desired)));
    let mut seen = look(ports, picture.observed).await;
    if let (Some((before, desired)), true) = (&back, policy.failure.rollback) {
        *rollback = Rollback::Part("it could not be observed".to_owned());
        let is_back =
            |now: &Observed| now.nodes.get(&plan.name).is_some_and(|now| layout(plan, now) == layout(plan, before));
        for pass in 0..=PASSES {
            let Ok(now) = &seen else { break };
            if is_back(now) {
                *rollback = if pass == 0 { Rollback::Unneeded } else { Rollback::Whole };
                break;
            }
            if pass == 0 {
                let _ = journal.append(&record(plan, ports, Entry::RollBack).line());
            }
            match roll_back(desired, now, ports, journal, interrupted, tell).await {
                Ok(()) if pass < PASSES => {}
                Ok(()) => break,
                Err(why) => {
                    seen = look(ports, picture.observed).await;
                    // Perhaps only what comes behind the last instance failed.
                    if seen.as_ref().is_ok_and(is_back) {
                        *rollback = Rollback::Whole;
                        left.extend(Some(why).filter(|why| !left.contains(why)));
                    } else {
                        *rollback = Rollback::Part(why);
                    }
                    break;
                }
            }
            seen = look(ports, picture.observed).await;
        }
    }
    let now = seen.as_ref().ok().and_then(|seen| seen.nodes.get(&plan.name)).or(before);
    if let Some(now) = now {
        let what = plan.steps.iter().find(|s| s.id == *step).map(|s| Box::new(s.kind.clone()));
        let (why, rollback) = (why.clone(), rollback.clone());
        let inputs = inputs(wanted, now);
        let failure = Failure { step: *step, what, why, left: left.clone(), rollback, inputs };
        if let Err(error) = journal.append(&record(plan, ports, Entry::GaveUp(failure)).line()) {
            left.push(format!("the record of this failure ({error})"));
        }
    }
    outcome
}

/// Begins the journal anew.
async fn begin<D: Driver, C, H, K: Clock, J: Journal>(
    plan: &NodePlan,
    picture: &Picture<'_>,
    policy: &Policy,
    ports: &Ports<'_, D, C, H, K>,
    journal: &mut J,
) -> Port<()> {
    let first = picture.overridden.map(|entry| record(plan, ports, entry.clone()).line());
    let mut tries = 0;
    loop {
        match journal.clear().and_then(|()| first.iter().try_for_each(|line| journal.append(line))) {
            Err(error) if error.transient && tries < policy.failure.retries => {
                tries += 1;
                ports.clock.sleep_until(later(ports.clock.now(), backoff_s(tries))).await;
            }
            begun => return begun,
        }
    }
}

/// Takes back what an earlier run tainted, paused or stopped and did not live to take back.
pub async fn recover<D: Driver, C: Cluster, H: Host, K: Clock, J: Journal>(
    plan: &NodePlan,
    policy: &Policy,
    story: &Story,
    ports: &Ports<'_, D, C, H, K>,
    journal: &mut J,
    goes_on: &dyn Fn(),
    tell: &mut dyn FnMut(&News),
) -> Outcome {
    let mut nothing = plan.clone();
    nothing.steps.clear();
    let undo = story.owed.iter().rev().cloned().collect();
    // It is finished, whoever asks for a stop.
    let interrupted = || {
        goes_on();
        false
    };
    let outcome = drive(Machine::owing(&nothing, policy, undo), ports, journal, &interrupted, tell).await;
    if outcome == Outcome::Done {
        // Without it, it is found and told again.
        let _ = journal.append(&record(plan, ports, Entry::Recovered).line());
    }
    outcome
}

/// Lets what failed for good on a node be tried again.
pub fn forgive<J: Journal>(journal: &mut J, node: &str, now: Timestamp) -> Port<()> {
    let (plan, node, at) = (Digest::of([]), node.to_owned(), now.to_string());
    journal.append(&Record { plan, node, at, entry: Entry::Forgiven }.line())
}

/// Holds a plan back that failed for good and that nothing has changed since.
pub fn hold(plan: &mut NodePlan, failure: &Failure) {
    plan.state = NodeState::Failed;
    plan.blocked.push(Block {
        code: BlockCode::Failed,
        message: format!("step {} failed for good: {}", failure.step, failure.why),
        object: plan.name.clone(),
        hint: "it is tried again when the tree or the GPUs change; `sectile resume` tries it as it is".to_owned(),
    });
    plan.blocked.sort();
    plan.steps.iter_mut().for_each(|step| step.waits = Some(BlockCode::Failed));
}

/// What decides whether something that failed is tried again: what is wanted, how it may be done, what is there.
pub fn inputs(desired: &DesiredNode, node: &ObservedNode) -> Digest {
    let of = |gpu: &ObservedGpu| (gpu.uuid.clone(), gpu.mig, instances(gpu));
    let gpus: Vec<_> = node.gpus.iter().map(of).collect();
    // These types have string keys alone and nothing that refuses to be written.
    let pieces = [serde_json::to_vec(desired).unwrap_or_default(), serde_json::to_vec(&gpus).unwrap_or_default()];
    Digest::of(pieces.iter().map(Vec::as_slice))
}

fn record<D: Driver, C, H, K: Clock>(plan: &NodePlan, ports: &Ports<'_, D, C, H, K>, entry: Entry) -> Record {
    let at = ports.clock.now().to_string();
    Record { plan: plan.fingerprint.clone(), node: plan.name.clone(), at, entry }
}

/// One plan back, carried out; or why there is none.
async fn roll_back<D: Driver, C: Cluster, H: Host, K: Clock, J: Journal>(
    desired: &Desired,
    seen: &Observed,
    ports: &Ports<'_, D, C, H, K>,
    journal: &mut J,
    interrupted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&News),
) -> Result<(), String> {
    let made = plan::plan(desired, seen, ports.clock.now());
    if let Some(broken) = plan::check::check(desired, seen, &made).first() {
        return Err(format!("the plan back breaks its own invariants: {broken}"));
    }
    let Some((back, wanted)) = made.nodes.first().zip(desired.nodes.values().next()) else {
        return Err("there is no plan back".to_owned());
    };
    if !back.steps.iter().any(|step| step.waits.is_none()) {
        let why = back.blocked.iter().chain(&back.waiting).map(|b| format!("{}: {}", b.object, b.message));
        let why = why.collect::<Vec<_>>().join("; ");
        return Err(if why.is_empty() { "no step leads from what is there now to what was".to_owned() } else { why });
    }
    tell(&News::RollsBack(Box::new(back.clone())));
    let policy = wanted.policy.clone().unwrap_or_default();
    let machine = Machine::new(back, &policy).sharing(ports.turn.is_some());
    match drive(machine, ports, journal, interrupted, tell).await {
        Outcome::Done | Outcome::Held { .. } => Ok(()),
        Outcome::Interrupted => Err("it was interrupted".to_owned()),
        Outcome::Suspended(by) => Err(format!("the node was suspended {by}")),
        Outcome::Failed { why, mut left, .. } => {
            left.insert(0, why);
            // What fails is also what can't be taken back.
            left.dedup();
            Err(left.join("; "))
        }
    }
}

/// Observes the node anew; the rest of the picture is as it was.
async fn look<D: Driver, C: Cluster, H: Host, K: Clock>(
    ports: &Ports<'_, D, C, H, K>,
    before: &Observed,
) -> Port<Observed> {
    let late = || PortError {
        transient: true,
        code: format!("no answer for {LOOK_S} s"),
        message: format!("observing {}", ports.node),
    };
    let mut tries = 0;
    loop {
        let until = later(ports.clock.now(), LOOK_S);
        let seen = within(look_once(ports, before), ports.clock.sleep_until(until)).await;
        let seen = seen.unwrap_or_else(|| Err(late()));
        // What was seen before the plan may only just not be told.
        let passes = match &seen {
            Ok(now) => {
                gaps(now, ports.node).any(|gap| gaps(before, ports.node).all(|was| was != gap))
                    || boards(now, ports.node) != boards(before, ports.node)
            }
            Err(error) => error.transient,
        };
        if !passes || tries == LOOKS {
            return seen;
        }
        tries += 1;
        ports.clock.sleep_until(later(ports.clock.now(), backoff_s(tries))).await;
    }
}

fn gaps<'a>(seen: &'a Observed, node: &str) -> impl Iterator<Item = &'a Gap> {
    seen.nodes.get(node).into_iter().flat_map(|node| &node.gaps)
}

/// What no plan changes: which GPUs there are, and whether they can MIG.
fn boards<'a>(seen: &'a Observed, node: &str) -> Vec<(&'a str, bool)> {
    let node = seen.nodes.get(node).into_iter();
    node.flat_map(|node| &node.gpus).map(|gpu| (gpu.uuid.as_str(), gpu.mig.capable)).collect()
}

async fn look_once<D: Driver, C: Cluster, H: Host, K: Clock>(
    ports: &Ports<'_, D, C, H, K>,
    before: &Observed,
) -> Port<Observed> {
    let Ports { node, gpus, cluster, host, units, .. } = *ports;
    let mut seen = before.clone();
    let labels = before.nodes.get(node).map_or(Known::Unknown, |node| node.labels.clone());
    let mut now = observe::node(node, gpus, cluster, host, units, &labels).await?;
    // What is put back says which GPU it is about.
    now.accept();
    seen.nodes.insert(node.to_owned(), now);
    if let Some(cluster) = cluster {
        seen.cluster = cluster.observe().await?;
    }
    Ok(seen)
}

/// Whether one compute instance fills it, which goes without saying.
fn filled(instance: &GpuInstance) -> bool {
    matches!(instance.compute.as_slice(), [one] if one.profile.slices == instance.profile.slices)
}

/// The instances of a GPU, ascending by place.
fn instances(gpu: &ObservedGpu) -> Vec<Wanted> {
    let of = |i: &GpuInstance| Wanted {
        profile: i.profile,
        start: Some(i.placement.start),
        compute: (!filled(i)).then(|| i.compute.iter().map(|c| c.profile).collect()),
    };
    let mut all: Vec<Wanted> = gpu.instances.iter().map(of).collect();
    all.sort_by_key(|wanted| wanted.start);
    all
}

/// What a plan may have changed: the mode and the instances of the GPUs that it manages, and whether they are seen.
fn layout(plan: &NodePlan, node: &ObservedNode) -> Vec<(String, bool, MigMode, Vec<Wanted>)> {
    let managed = |gpu: &&ObservedGpu| plan.gpus.iter().any(|g| g.managed && g.uuid == gpu.uuid);
    let of = |gpu: &ObservedGpu| (gpu.uuid.clone(), gpu.geometry.is_some(), gpu.mig, instances(gpu));
    node.gpus.iter().filter(managed).map(of).collect()
}

/// The tree as if it said what was there before.
fn put_back(plan: &NodePlan, wanted: &DesiredNode, before: &ObservedNode, desired: &Desired) -> Desired {
    let goals = plan.gpus.iter().filter(|gpu| gpu.managed).filter_map(|gpu| {
        let was = before.gpus.iter().find(|was| was.uuid == gpu.uuid)?;
        let goal = if was.mig.current { Goal::Instances(instances(was)) } else { Goal::MigOff };
        Some((gpu.uuid.clone(), GpuGoal { goal, source: gpu.source.clone()?, shadows: Vec::new() }))
    });
    let node = DesiredNode {
        gpus: goals.collect(),
        shared: Vec::new(),
        bindings: wanted.bindings.iter().filter_map(|binding| held(binding, before)).map(Arc::new).collect(),
        held: Default::default(),
        blocked: Vec::new(),
        ..wanted.clone()
    };
    let nodes = [(plan.name.clone(), node)].into();
    // Its turn it has: whoever comes before it is not asked again.
    let (bindings, peers) = Default::default();
    Desired { revision: desired.revision.clone(), nodes, bindings, peers, blocked: Vec::new() }
}

/// A unit or command bound to what it held before; to nothing, where it held nothing: then it gives back what it was given.
fn held(binding: &Binding, before: &ObservedNode) -> Option<Binding> {
    let user = match &binding.target {
        Target::Systemd { unit, .. } => User::Unit(unit.clone()),
        Target::Command { .. } => User::Command(binding.name.clone()),
        Target::Kubernetes { .. } => return None,
    };
    let all = || before.gpus.iter().flat_map(|gpu| &gpu.instances);
    let held = all().filter(|i| i.all_users().known().is_some_and(|users| users.contains(&user)));
    let held: Vec<_> = held.map(|i| i.profile).collect();
    if held.is_empty() && all().any(|i| i.all_users().known().is_none()) {
        return None;
    }
    let profile = held.first().copied().unwrap_or(binding.profile);
    let per_replica = u32::try_from(held.len()).ok()?;
    held.iter().all(|other| *other == profile).then(|| Binding { profile, per_replica, ..binding.clone() })
}

/// How a turn ended.
#[derive(Debug)]
pub enum InTurn {
    /// The plan was begun.
    Carried(Outcome),
    /// It was not: others come first.
    Waits(Waits),
}

/// Carries a plan out in the node's turn. A node that shares no budget with any other and counts on nothing that others
/// may count on needs none.
pub async fn carry_in_turn<D: Driver, C: Cluster, H: Host, K: Clock, J: Journal>(
    plan: &NodePlan,
    picture: Picture<'_>,
    ports: &Ports<'_, D, C, H, K>,
    (watch, overridden): (&RefCell<Watch>, bool),
    journal: &mut J,
    interrupted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&News),
) -> InTurn {
    let Picture { desired, observed, overridden: _ } = picture;
    let policy = desired.nodes.get(&plan.name).and_then(|wanted| wanted.policy.as_deref());
    let shares = policy.is_some_and(|policy| Domains::new(desired, observed, |_| None).concern(policy));
    let reserved = places::reserves(plan, &observed.cluster);
    let Some(cluster) = ports.cluster.filter(|_| shares || !reserved.is_empty()) else {
        return InTurn::Carried(carry(plan, picture, ports, journal, interrupted, tell).await);
    };
    let seen = observed.nodes.get(&plan.name).and_then(|seen| seen.cluster.as_ref());
    let going = seen.is_some_and(|seen| seen.tainted || seen.clients_paused);
    let pods = turns::down_at_once(&plan.steps);
    let asked = Asked { node: &plan.name, desired, pods, reserved: &reserved, going, begun: false, rolls: None };
    let (now, since_start) = (ports.clock.now(), ports.clock.elapsed().as_nanos());
    let turn = Turn::new(asked, observed, watch, format!("{now}+{since_start}"), now, overridden);
    let failed = |error: PortError, left| {
        let step = plan.steps.first().map_or(0, |step| step.id);
        let why = format!("no place among those that share its budgets: {error}");
        Outcome::Failed { step, why, left, rollback: Rollback::Unneeded }
    };
    match turn.take(cluster, ports.clock).await {
        Ok(None) => {}
        Ok(Some(waits)) => return InTurn::Waits(waits),
        Err(error) => return InTurn::Carried(failed(error, Vec::new())),
    }
    let Ports { node, gpus, cluster: _, host, clock, bindings, units, turn: _ } = *ports;
    let ports = Ports { node, gpus, cluster: Some(cluster), host, clock, bindings, units, turn: Some(&turn) };
    let carried = carry(plan, picture, &ports, journal, interrupted, tell);
    let Some(mut outcome) = within(carried, turn.keep(cluster, clock)).await else {
        // Nobody ends what is renewed for ever.
        return InTurn::Carried(failed(busy(), Vec::new()));
    };
    let fails = matches!(outcome, Outcome::Failed { .. });
    let given = turn.give(cluster, clock, fails).await;
    if let (Err(error), Outcome::Failed { left, .. }) = (given, &mut outcome) {
        left.push(format!("the place that it keeps ({error})"));
    }
    InTurn::Carried(outcome)
}
