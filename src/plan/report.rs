//! What a node's plan tells beside its steps: who is disturbed, each GPU now and then, cost and bound, state.

use crate::model::desired::DesiredNode;
use crate::model::observed::{GpuInstance, Known, ObservedGpu, User};
use crate::model::plan::{
    Block, Disruption, GpuPlan, ModeChangePlan, NodePlan, NodeState, PlanCompute, PlanInstance, Step, Verdict,
};
use crate::model::policy::ApplyMode;

use super::cost;
use super::drain::{Ruling, user_name};
use super::movers::{self, Mover};
use super::order::{Laid, Place};
use super::steps::Ground;
use super::target::{Bound, GpuTarget};

/// Steps that may run together: each wave needs only those before it.
pub fn waves(steps: &[Step]) -> Vec<Vec<u32>> {
    // By step; their ids ascend.
    let mut levels: Vec<usize> = Vec::with_capacity(steps.len());
    let mut waves: Vec<Vec<u32>> = Vec::new();
    for step in steps {
        let level = |id: &u32| levels.get(steps.binary_search_by_key(id, |step| step.id).ok()?);
        let at = step.after.iter().filter_map(level).max().map_or(0, |level| level + 1);
        levels.push(at);
        if waves.len() <= at {
            waves.resize(at + 1, Vec::new());
        }
        if let Some(wave) = waves.get_mut(at) {
            wave.push(step.id);
        }
    }
    waves
}

/// What disruptions are told from.
#[derive(Debug)]
pub struct Told<'a> {
    /// The node, its targets and its movers.
    pub ground: &'a Ground<'a>,
    /// The rounds.
    pub laid: &'a Laid,
    /// How long each keeps its movers down, in milliseconds.
    pub round_ms: &'a [u64],
    /// What is blocked.
    pub blocked: &'a [Block],
    /// What waits.
    pub waiting: &'a [Block],
}

/// Everybody who is disturbed, with the verdict, in the order of the movers.
pub fn disruptions(told: &Told<'_>) -> Vec<Disruption> {
    let Told { ground, laid, round_ms, blocked, waiting } = *told;
    let Ground { node, targets, movers, court, .. } = *ground;
    let gpu_name = |uuid: &str| node.gpus.iter().find(|gpu| gpu.uuid == uuid).map(|gpu| format!("GPU {}", gpu.index));
    let budget = |mover: &Mover| {
        ground
            .cluster
            .budgets
            .iter()
            .find(|b| mover.is_under(b))
            .map(|b| format!("budget {} allows {}", b.name, b.allowed))
    };
    let one = |(m, mover): (usize, &Mover)| {
        let found = laid.rounds.iter().zip(round_ms).find_map(|(round, &ms)| {
            let (_, place) = round.moves.iter().find(|(at, _)| *at == m)?;
            Some((place, ms))
        });
        let object = user_name(&mover.user);
        let own = |list: &[Block]| list.iter().find(|b| b.object == object).cloned();
        let (verdict, reason) = match (&mover.ruling, &found) {
            (Ruling::No(block), _) if block.code.waits() => (Verdict::Wait, block.message.clone()),
            (Ruling::No(block), _) => (Verdict::Refuse, block.message.clone()),
            (Ruling::Move(why), Some(_)) => (Verdict::Move, budget(mover).unwrap_or_else(|| why.clone())),
            (Ruling::Move(_), None) => match (own(blocked), own(waiting)) {
                (Some(block), _) => (Verdict::Refuse, block.message),
                (None, Some(block)) => (Verdict::Wait, block.message),
                (None, None) => (Verdict::Wait, "something else on the node is blocked or waits".to_owned()),
            },
        };
        let moves_to = found.as_ref().and_then(|(place, _)| match place {
            Place::Here(slots) => slots.first().and_then(|s| gpu_name(&s.gpu)),
            Place::Elsewhere(name) => Some(name.clone()),
            Place::Ends => None,
        });
        let downtime_s = match found {
            // Who ends is not down for a while.
            Some((Place::Ends, _)) => 0,
            Some((Place::Elsewhere(_), _)) => cost::seconds(2_100),
            Some((_, ms)) => cost::seconds(ms),
            None => 0,
        };
        let (namespace, name, uid) = match &mover.user {
            User::Pod { namespace, name } => {
                (Some(namespace.clone()), name.clone(), court.pod(namespace, name).map(|p| p.uid.clone()))
            }
            User::Unit(name) | User::Command(name) => (None, name.clone(), None),
            User::Process { pid, .. } => (None, pid.to_string(), None),
        };
        let loses = mover.loses.iter().filter_map(|&(g, i)| {
            let gpu = targets.get(g)?.gpu;
            Some(movers::slot(&gpu.uuid, gpu.instances.get(i)?))
        });
        Disruption {
            kind: mover.kind(),
            namespace,
            name,
            uid,
            verdict,
            reason,
            downtime_s,
            moves_to,
            loses: loses.collect(),
        }
    };
    movers.iter().enumerate().map(one).collect()
}

/// One GPU in the plan.
pub fn gpu(target: &GpuTarget<'_>) -> GpuPlan {
    let gpu = target.gpu;
    let stays = |i: &usize| target.chosen.as_ref().is_none_or(|c| c.keep.contains(i));
    let of = |keep: bool| {
        let all = gpu.instances.iter().enumerate().filter(|(i, _)| stays(i) == keep);
        let mut all: Vec<PlanInstance> = all.map(|(_, instance)| there(instance, target)).collect();
        // A fleet's plan is mostly these.
        all.shrink_to_fit();
        all
    };
    let create = target.chosen.iter().flat_map(|c| &c.create).map(|new| PlanInstance {
        profile: new.slot.profile,
        start: new.slot.placement.start,
        size: new.slot.placement.size,
        gi_id: None,
        compute: new
            .compute
            .iter()
            .map(|&profile| PlanCompute { profile, uuid: None, users: Some(Vec::new()) })
            .collect(),
        users: Some(Vec::new()),
        source: target.source.cloned(),
    });
    GpuPlan {
        uuid: gpu.uuid.clone(),
        index: gpu.index,
        pci: gpu.pci.clone(),
        model: gpu.model.clone(),
        managed: target.source.is_some(),
        source: target.source.cloned(),
        shadows: target.shadows.to_vec(),
        units: units(gpu),
        mig: ModeChangePlan { now: gpu.mig.current, then: target.chosen.as_ref().map_or(gpu.mig.current, |c| c.mode) },
        keep: of(true),
        destroy: of(false),
        create: create.collect(),
    }
}

fn units(gpu: &ObservedGpu) -> u32 {
    let ends = gpu.instances.iter().map(|i| i.placement.end()).max().unwrap_or(0);
    gpu.geometry.as_ref().map_or(ends, |g| g.units)
}

fn there(instance: &GpuInstance, target: &GpuTarget<'_>) -> PlanInstance {
    let users = |known: Known<Vec<User>>| match known {
        Known::Known(users) => Some(users),
        Known::Unknown => None,
    };
    PlanInstance {
        profile: instance.profile,
        start: instance.placement.start,
        size: instance.placement.size,
        gi_id: Some(instance.gi_id),
        compute: instance
            .compute
            .iter()
            .map(|c| PlanCompute { profile: c.profile, uuid: Some(c.uuid.clone()), users: users(c.users.clone()) })
            .collect(),
        users: users(instance.all_users()),
        source: target.source.cloned(),
    }
}

/// What the plan costs where it disturbs so many users, and what no plan that keeps as much can do without.
pub fn price(plan: &mut NodePlan, targets: &[GpuTarget<'_>], users: usize, bound: Bound) {
    let chosen = || targets.iter().filter_map(|t| Some((t.gpu, t.chosen.as_ref()?)));
    let switched = chosen().filter(|(gpu, chosen)| chosen.mode != gpu.mig.current).count() as u64;
    let changed: usize = chosen().map(|(_, chosen)| chosen.destroy.len() + chosen.create.len()).sum();
    let operations = changed as u64 + switched * cost::MODE_CHANGE;
    let touched = u64::from(!plan.steps.is_empty() || operations > 0);
    plan.cost = users as u64 * cost::USER + touched * cost::TOUCH + operations;
    plan.optimal = bound.proved;
    plan.lower_bound = match bound.least {
        _ if bound.proved => plan.cost,
        0 => 0,
        // Nobody is disturbed on a node that is not touched.
        least => least * cost::USER + cost::TOUCH,
    };
}

/// How the node stands.
pub fn state(desired: &DesiredNode, plan: &NodePlan) -> NodeState {
    let manual = desired.policy.as_ref().is_some_and(|p| p.mode == ApplyMode::Manual);
    if plan.suspended.is_some() {
        NodeState::Suspended
    } else if !plan.blocked.is_empty() {
        NodeState::Blocked
    } else if manual && !plan.steps.is_empty() {
        NodeState::Pending
    } else if plan.steps.iter().any(|s| s.waits.is_none()) {
        NodeState::Changing
    } else if !plan.waiting.is_empty() {
        NodeState::Waiting
    } else if desired.layout.is_none() {
        NodeState::Unmanaged
    } else {
        NodeState::Converged
    }
}
