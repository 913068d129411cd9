//! The inverse of planning: what a layout must say of each GPU of a node, so that the plan is empty.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::target;
use crate::model::identity::{Digest, Revision, Source};
use crate::model::plan::GpuPlan;
use crate::model::{
    AsIs, ComputeName, Desired, DesiredNode, Goal, GpuGoal, GpuInstance, Known, Observed, ObservedGpu, ObservedNode,
    Recorded, Wanted,
};

/// What a layout says of each GPU so that nothing changes, ascending by index.
///
/// Starts are left out where the planner puts the instances there by itself on an empty GPU, so that the same layout
/// gives the same places also after a reboot; else each instance has its own. What no layout can say is left alone,
/// with the reason.
pub fn as_is(node: &ObservedNode) -> Vec<AsIs> {
    let free = plan(&emptied(node), node.gpus.iter().map(|gpu| (gpu, goal(gpu, false))));
    let goals = node.gpus.iter().map(|gpu| {
        let lies_so = free.get(&gpu.uuid).is_some_and(|(planned, _)| same_places(gpu, planned));
        (gpu, goal(gpu, !lies_so))
    });
    let goals: Vec<(&ObservedGpu, Goal)> = goals.collect();
    let planned = plan(node, goals.iter().cloned());
    let said = goals.into_iter().map(|(gpu, goal)| {
        let why = planned.get(&gpu.uuid).and_then(|(planned, block)| refusal(gpu, planned, block.as_deref()));
        let said = AsIs {
            uuid: gpu.uuid.clone(),
            index: gpu.index,
            model: gpu.model.clone(),
            goal: gpu.mig.capable.then_some(goal),
            note: String::new(),
        };
        match why.filter(|_| gpu.mig.capable) {
            Some(note) => AsIs { goal: Some(Goal::HandsOff), note, ..said },
            None => said,
        }
    });
    said.collect()
}

/// What a layout says so that GPUs which have lost all their instances get those of the last convergence back, each where
/// it lay; of other GPUs it says nothing.
pub fn as_it_was(node: &ObservedNode) -> Vec<AsIs> {
    let lost =
        |gpu: &&ObservedGpu| gpu.instances.is_empty() && !gpu.recorded.is_empty() && !node.lost.contains(&gpu.index);
    let back = |was: &Recorded| Wanted { profile: was.profile, start: Some(was.start), compute: was.compute.clone() };
    let said = node.gpus.iter().filter(lost).map(|gpu| AsIs {
        uuid: gpu.uuid.clone(),
        index: gpu.index,
        model: gpu.model.clone(),
        goal: Some(Goal::Instances(gpu.recorded.iter().map(back).collect())),
        note: String::new(),
    });
    said.collect()
}

/// Whether a plan leaves a GPU as it is.
pub fn stays(planned: &GpuPlan) -> bool {
    planned.destroy.is_empty() && planned.create.is_empty() && planned.mig.now == planned.mig.then
}

fn goal(gpu: &ObservedGpu, starts: bool) -> Goal {
    if !gpu.mig.current {
        return Goal::MigOff;
    }
    let wanted = |instance: &GpuInstance| Wanted {
        profile: instance.profile,
        start: starts.then_some(instance.placement.start),
        compute: instance.cut(),
    };
    Goal::Instances(gpu.instances.iter().map(wanted).collect())
}

/// The same node with nothing on its GPUs, as after a reboot.
fn emptied(node: &ObservedNode) -> ObservedNode {
    let mut node = node.clone();
    for gpu in &mut node.gpus {
        gpu.instances.clear();
        gpu.recorded.clear();
        gpu.users = Known::Known(Vec::new());
    }
    node
}

/// The plan of each GPU for its goal, by UUID, and why it is blocked where it is.
fn plan<'a>(
    node: &ObservedNode,
    goals: impl Iterator<Item = (&'a ObservedGpu, Goal)>,
) -> BTreeMap<String, (GpuPlan, Option<String>)> {
    let source = Source { file: "".into(), line: 0 };
    let goals =
        goals.map(|(gpu, goal)| (gpu.uuid.clone(), GpuGoal { goal, source: source.clone(), shadows: Vec::new() }));
    let desired = DesiredNode {
        node: node.name.clone(),
        layout: Some(source.clone()),
        shadows: Vec::new(),
        gpus: goals.collect(),
        shared: Vec::new(),
        bindings: Vec::new(),
        policy: None,
        blocked: Vec::new(),
        held: BTreeMap::new(),
    };
    let desired = Desired {
        revision: Revision { name: None, digest: Digest::of([]) },
        nodes: BTreeMap::from([(node.name.clone(), desired)]),
        bindings: Vec::new(),
        peers: BTreeMap::new(),
        blocked: Vec::new(),
    };
    let nodes = BTreeMap::from([(node.name.clone(), node.clone())]);
    let observed = Observed { nodes, ..Observed::default() };
    // Without a policy no window is open or shut, so the time means nothing.
    let plan = super::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
    let Some(plan) = plan.nodes.into_iter().next() else { return BTreeMap::new() };
    let block = |planned: &GpuPlan| {
        let gpu = node.gpus.iter().find(|gpu| gpu.uuid == planned.uuid)?;
        plan.blocked.iter().find(|block| block.object == target::name(gpu)).map(|block| block.message.clone())
    };
    plan.gpus.into_iter().map(|planned| (planned.uuid.clone(), (planned.clone(), block(&planned)))).collect()
}

/// Whether what is created on the empty GPU is what lies on this one.
fn same_places(gpu: &ObservedGpu, planned: &GpuPlan) -> bool {
    let mut there: Vec<_> = gpu.instances.iter().map(|i| (i.placement, i.profile, cut(i))).collect();
    let of = |created: &crate::model::plan::PlanInstance| {
        let mut compute: Vec<ComputeName> = created.compute.iter().map(|compute| compute.profile).collect();
        compute.sort();
        (created.placement(), created.profile, compute)
    };
    let mut then: Vec<_> = planned.create.iter().map(of).collect();
    there.sort();
    then.sort();
    there == then
}

fn cut(instance: &GpuInstance) -> Vec<ComputeName> {
    let mut compute: Vec<ComputeName> = instance.compute.iter().map(|compute| compute.profile).collect();
    compute.sort();
    compute
}

/// Why what the GPU has can't be said.
fn refusal(gpu: &ObservedGpu, planned: &GpuPlan, block: Option<&str>) -> Option<String> {
    if gpu.mig.pending != gpu.mig.current {
        return Some("its MIG mode is to change with its next reset".to_owned());
    }
    block.map(str::to_owned).or_else(|| {
        (!stays(planned)).then(|| "the driver tells of an instance that its own profiles don't explain".to_owned())
    })
}
