//! What must hold after any run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use sectile::execute::{Outcome, Rollback};
use sectile::model::observed::PodPhase;
use sectile::model::{NodeState, Placement};
use sectile::sim::fault::Fate;
use sectile::sim::lock;
use sectile::sim::world::World;

use crate::fleets::{Ended, Run};
use crate::rig::CLIENT;

/// What a sweep compares with.
pub(crate) struct Before {
    world: World,
}

impl Before {
    pub(crate) fn of(run: &Run) -> Before {
        Before { world: lock(&run.world).clone() }
    }

    pub(crate) fn cut(&self) -> Cut {
        cut(&self.world)
    }
}

fn must(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Nobody lost an instance that they held, and nobody who has a controller is gone.
pub(crate) fn nobody_is_harmed(world: &World) -> Result<(), String> {
    must(world.ledger.is_empty(), || format!("taken from somebody: {:?}", world.ledger))?;
    for workload in world.workloads.iter().filter(|workload| workload.kind != "DaemonSet") {
        let live = world.pods.values().filter(|pod| {
            let owner = pod.owner.as_ref().is_some_and(|o| o.kind == workload.kind && o.name == workload.name);
            owner && matches!(pod.phase, PodPhase::Pending | PodPhase::Running | PodPhase::Terminating)
        });
        let (live, wanted) = (live.count(), workload.replicas as usize);
        must(live >= wanted, || format!("{} has {live} pods of {wanted}", workload.name))?;
    }
    Ok(())
}

/// Nothing is tainted, paused, stopped or pending that was not before.
/// Bound units of nodes that wait for somebody may be stopped: their instances may be somebody else's by now.
pub(crate) fn nothing_is_left(world: &World, waiting: &BTreeSet<String>) -> Result<(), String> {
    for (name, node) in &world.nodes {
        must(!node.tainted, || format!("{name} is tainted"))?;
        must(!node.clients_paused, || format!("the clients of {name} are paused"))?;
        for (unit, state) in node.units.iter().filter(|(unit, _)| *unit == CLIENT || !waiting.contains(name)) {
            must(state.active, || format!("{unit} on {name} is stopped"))?;
        }
        let there: BTreeSet<&String> = node.devices().collect();
        for (files, named) in &node.device_files {
            must(named.iter().eq(there.iter().copied()), || format!("{files} of {name} is out of date"))?;
        }
        for gpu in &node.gpus {
            must(gpu.mode == gpu.pending, || format!("a mode of {name} is pending"))?;
        }
    }
    Ok(())
}

/// Every node is as it should be, or says why not.
pub(crate) fn settled(ended: &Ended) -> Result<(), String> {
    for node in &ended.plans.last().unwrap().nodes {
        let told = !node.blocked.is_empty() || !node.waiting.is_empty() || ended.failed.contains_key(&node.name);
        let right = matches!(node.state, NodeState::Converged | NodeState::Unmanaged);
        must(told || right, || format!("{} is {} and does not say why", node.name, node.state))?;
    }
    Ok(())
}

/// After all that went wrong is over: everything above.
pub(crate) fn ends_well(run: &Run, ended: &Ended) -> Result<(), String> {
    let world = lock(&run.world);
    nobody_is_harmed(&world)?;
    let told = ended.plans.last().unwrap().nodes.iter().filter(|node| !node.blocked.is_empty()).map(|n| n.name.clone());
    nothing_is_left(&world, &told.chain(ended.failed.keys().cloned()).collect())?;
    // Whom somebody else holds up is told, and is no failure.
    let held = |outcome: &Outcome| matches!(outcome, Outcome::Held { .. });
    must(ended.failed.values().all(held), || format!("{:?}", ended.failed))?;
    settled(ended)
}

pub(crate) type Cut = BTreeMap<(String, String), (bool, BTreeSet<(Placement, u32)>)>;

pub(crate) fn cut(world: &World) -> Cut {
    let gpus = world.nodes.iter().flat_map(|(name, node)| node.gpus.iter().map(move |gpu| (name, gpu)));
    gpus.map(|(name, gpu)| {
        let instances = gpu.instances.iter().map(|gi| (gi.placement, gi.profile_index)).collect();
        ((name.clone(), gpu.uuid.clone()), (gpu.mode, instances))
    })
    .collect()
}

/// After a run in which calls went wrong: it did what it should, or it says what failed and how that was left.
pub(crate) fn is_honest(run: &Run, ended: &Ended, before: &Before) -> Result<(), String> {
    {
        let world = lock(&run.world);
        nobody_is_harmed(&world)?;
    }
    let left = |outcome: &Outcome| matches!(outcome, Outcome::Failed { left, .. } if !left.is_empty());
    if !ended.failed.values().any(left) {
        let part = |o: &Outcome| matches!(o, Outcome::Failed { rollback: Rollback::Part(_), .. });
        let waiting = ended.failed.iter().filter(|(_, outcome)| part(outcome)).map(|(name, _)| name.clone());
        nothing_is_left(&lock(&run.world), &waiting.collect())?;
    }
    settled(ended)?;
    // Looking again with nothing going wrong tells the same.
    run.meddle(std::rc::Rc::new(|_| Fate::Passes));
    for node in &run.plan().2.nodes {
        let due = node.steps.iter().any(|step| step.waits.is_none());
        must(!due || ended.failed.contains_key(&node.name), || {
            format!("{} is not done, and was said to be", node.name)
        })?;
    }
    let now = cut(&lock(&run.world));
    for (name, outcome) in &ended.failed {
        let Outcome::Failed { rollback, why, left, .. } = outcome else { continue };
        must(!why.is_empty(), || format!("{name} failed and does not say why"))?;
        let back = matches!(rollback, Rollback::Whole | Rollback::Unneeded);
        // What earlier plans of the same run did is not taken back.
        if back && ended.plans.len() <= 2 {
            let of = |cut: &Cut| {
                cut.iter().filter(|((n, _), _)| n == name).map(|(k, v)| (k.clone(), v.clone())).collect::<Cut>()
            };
            must(of(&now) == of(&cut(&before.world)), || format!("{name} is said to be as before, and is not"))?;
            if left.is_empty() {
                users_are_back(run, before, name)?;
            }
        }
        if let Rollback::Part(why) = rollback {
            must(!why.is_empty(), || format!("{name} could not be put back and does not say why"))?;
        }
    }
    Ok(())
}

/// Whoever ran on a node before it was put back runs again, somewhere, once there was time.
fn users_are_back(run: &Run, before: &Before, node: &str) -> Result<(), String> {
    let mut world = lock(&run.world);
    world.pass(600_000);
    for (unit, was) in before.world.nodes[node].units.iter().filter(|(_, unit)| unit.active) {
        let now = &world.nodes[node].units[unit];
        must(now.active && now.devices.len() == was.devices.len(), || format!("{unit} is not back: {now:?}"))?;
    }
    let running = |world: &World, name: &str| {
        let of = |pod: &&sectile::sim::world::SimPod| {
            pod.phase == PodPhase::Running && pod.owner.as_ref().is_some_and(|owner| owner.name == name)
        };
        world.pods.values().filter(of).count()
    };
    for workload in &before.world.workloads {
        let (now, was) = (running(&world, &workload.name), running(&before.world, &workload.name));
        must(now >= was, || format!("{} runs {now} pods and ran {was}", workload.name))?;
    }
    Ok(())
}
