//! Puts one node's plan together: targets, verdicts, rounds, steps, what waits and what is blocked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::desired::DesiredNode;
use crate::model::identity::Digest;
use crate::model::observed::{Budget, GpuInstance, MigStrategy, Observed, ObservedCluster, ObservedNode, User};
use crate::model::plan::{Block, BlockCode, NodePlan, NodeState, Step};
use crate::model::policy::{Allocation, ApplyMode, ModeChange, ResetRule};

use super::cost;
use super::drain::{Court, Pods, Ruling, user_name};
use super::fingerprint;
use super::guards;
use super::movers::{self, Mover};
use super::order::{self, Promises, Terms};
use super::report::{self, Told};
use super::single;
use super::steps::{self, Ground};
use super::target::{self, Bound, GpuTarget};
use super::turns;
use super::window::{self, Standing};
use super::writers::{self, Writer};

/// The plan of a node that could not be observed.
pub fn unobserved(desired: &DesiredNode, now: Timestamp) -> NodePlan {
    let block = Block {
        code: BlockCode::Unobserved,
        message: "nothing is known of this node".to_owned(),
        object: desired.node.clone(),
        hint: "is it up, and does its service run?".to_owned(),
    };
    let mut plan = empty(desired, now);
    plan.state = NodeState::Unknown;
    plan.fingerprint = Digest::of([]);
    plan.blocked.push(block);
    plan
}

fn empty(desired: &DesiredNode, now: Timestamp) -> NodePlan {
    NodePlan {
        name: desired.node.clone(),
        state: NodeState::Converged,
        suspended: None,
        fingerprint: Digest(String::new()),
        observed_at: now.to_string(),
        age_s: None,
        strategy: MigStrategy::default(),
        source: desired.layout.clone(),
        shadows: desired.shadows.clone(),
        gpus: Vec::new(),
        disruptions: Vec::new(),
        steps: Vec::new(),
        waves: Vec::new(),
        blocked: Vec::new(),
        waiting: Vec::new(),
        gaps: Vec::new(),
        warnings: Vec::new(),
        estimate_s: 0,
        cost: 0,
        lower_bound: 0,
        optimal: true,
    }
}

/// A node whose GPUs' targets are chosen, and whose steps are still to be laid.
#[derive(Debug)]
pub struct Prepared<'a> {
    desired: &'a DesiredNode,
    node: &'a ObservedNode,
    court: Court<'a>,
    targets: Vec<GpuTarget<'a>>,
    /// Who is disturbed by that.
    movers: Vec<Mover>,
    /// What blocks GPUs since nobody could see who is on them.
    unseen: BTreeMap<usize, Vec<Block>>,
    blocks: Vec<Block>,
    bound: Bound,
}

/// Chooses what a node's GPUs become.
pub fn prepare<'a>(
    desired: &'a DesiredNode,
    node: &'a ObservedNode,
    cluster: &'a ObservedCluster,
    pods: &'a Pods<'a>,
) -> Prepared<'a> {
    let court = Court::new(desired, node, cluster, pods);
    let (mut targets, mut blocks, bound) = target::choose(desired, node, &court);
    forbid_modes(desired, &mut targets);
    guards::hold_entries(desired, node, &mut targets, &mut blocks);
    let (movers, unseen) = movers::find(desired, node, &targets, &court);
    Prepared { desired, node, court, targets, movers, unseen, blocks, bound }
}

impl Prepared<'_> {
    /// Whether anybody moves, perhaps to another node.
    pub fn moves(&self) -> bool {
        !self.movers.is_empty()
    }

    /// The resources of free instances that it destroys: nobody may count on them.
    pub fn leaves(&self) -> Vec<String> {
        let strategy = self.node.strategy();
        let doomed = |target: &GpuTarget<'_>| {
            let all = target.chosen.iter().flat_map(|c| &c.destroy).filter_map(|&i| target.gpu.instances.get(i));
            all.filter(|i| !i.in_use()).filter_map(|i| strategy.resource(i.profile)).collect::<Vec<String>>()
        };
        self.targets.iter().flat_map(doomed).collect()
    }
}

/// Plans a node.
pub fn plan(prepared: Prepared<'_>, observed: &Observed, promises: &mut Promises, now: Timestamp) -> NodePlan {
    let Prepared { desired, node, court, mut targets, movers, unseen, blocks: node_blocks, bound } = prepared;
    // Who it is that nobody could see counts as one.
    let users = movers.len() + unseen.values().map(Vec::len).sum::<usize>();
    for (g, blocks) in unseen {
        if let Some(target) = targets.get_mut(g) {
            target.blocks.extend(blocks);
        }
    }
    let mut blocked = desired.blocked.clone();
    // Beside another writer, or where nobody could hand the instances out, nothing is changed at all.
    let writer = if desired.layout.is_some() { writers::found(desired.policy.as_deref(), node) } else { Writer::None };
    blocked.extend(alone(desired, node, &writer));
    blocked.extend(guards::company(desired, node, &targets, &movers));
    // What the tree wants of too few GPUs is told below.
    let whole = desired.layout.is_some() && node_blocks.is_empty();
    blocked.extend(whole.then(|| single::block(desired, node, &targets)).flatten());
    let untouched = !blocked.is_empty();
    // What the tree alone tells to be too few is too few here, too, and told once; of which entry, there are two ways.
    let told = |block: &Block| desired.blocked.iter().any(|b| b.code == block.code);
    blocked.extend(node_blocks.into_iter().filter(|block| !told(block)));
    blocked.extend(bound_too_much(desired, node, &targets));
    let mut waiting = Vec::new();
    let held = hold_gpus(&mut targets, &movers, &mut blocked, &mut waiting);
    let mut movable: Vec<usize> = (0..movers.len()).filter(|m| !held.movers.contains(m)).collect();
    if desired.policy.is_none() && !movers.is_empty() {
        blocked.push(Block {
            code: BlockCode::NoPolicy,
            message: "no policy matches this node, and somebody would be disturbed".to_owned(),
            object: desired.node.clone(),
            hint: "add a file to policies/ whose `nodes` match it".to_owned(),
        });
    }
    // A cluster has many budgets, and these movers are under few.
    let over = |b: &&Budget| movers.iter().any(|mover| mover.is_under(b));
    let over = observed.cluster.budgets.iter().filter(over);
    let shut = over.map(|b| (format!("{}/{}", b.namespace, b.name), b.allowed)).collect();
    if node.cluster.is_none() && !movers.is_empty() && desired.policy.as_deref().is_some_and(turns::refuses) {
        blocked.push(Block {
            code: BlockCode::Uncoordinated,
            message: "somebody would be disturbed, and it is in no cluster by which it could share the budget of nodes"
                .to_owned(),
            object: desired.node.clone(),
            hint: "set budget.uncoordinated = \"splay\", or a budget that does not speak of this node".to_owned(),
        });
    }
    hold_by_budget(&movers, &mut movable, &shut, &mut waiting);
    if !blocked.is_empty() {
        movable.clear();
    }
    // What does not fit the node leaves all of it alone; what does not fit a GPU leaves that one alone.
    let active: BTreeSet<usize> = (0..targets.len())
        .filter(|g| targets.get(*g).is_some_and(|t| t.chosen.is_some() && t.blocks.is_empty()))
        .filter(|_| !untouched)
        .collect();
    let max_pods = desired.policy.as_ref().and_then(|p| p.budget.max_pods.as_ref()).map(|most| most.limit);
    let places = !movable.is_empty() || movers::bound(desired).next().is_some();
    let terms = Terms { movable: &movable, active: &active, allowed: &shut, max_pods, places };
    let nobody = Terms { movable: &[], ..terms };
    let before = promises.mark();
    let mut laid = order::lay(node, &targets, &movers, &terms, promises);
    let stand_down = writer == Writer::StandDown;
    let ground = Ground {
        stand_down,
        desired,
        node,
        cluster: &observed.cluster,
        targets: &targets,
        movers: &movers,
        court: &court,
    };
    let mut laying = steps::lay(&ground, &mut laid);
    if blocked.is_empty() {
        let mut stuck: Vec<Block> =
            laid.stranded.iter().filter_map(|&m| movers.get(m)).map(|m| stranded(m, node, &court)).collect();
        stuck.extend(laid.crowded.iter().filter_map(|&m| movers.get(m)).map(crowded));
        stuck.extend(laying.homeless.iter().map(homeless));
        let nobody_moves = !stuck.is_empty() && !movable.is_empty();
        let (waits, stays): (Vec<Block>, Vec<Block>) = stuck.into_iter().partition(|block| block.code.waits());
        waiting.extend(waits);
        blocked.extend(stays);
        // It turns out that nobody moves after all.
        if nobody_moves {
            promises.take_back(before);
            laid = order::lay(node, &targets, &movers, &nobody, promises);
            laying = steps::lay(&ground, &mut laid);
        }
    }
    let mut plan = empty(desired, now);
    plan.steps = if untouched { Vec::new() } else { std::mem::take(&mut laying.steps) };
    plan.suspended.clone_from(&node.suspended);
    plan.strategy = node.strategy();
    if !guards::suspend(node, &mut plan.steps, &mut waiting) {
        hold_steps(desired, &mut plan.steps, &mut waiting, now);
    }
    plan.waves = report::waves(&plan.steps);
    let told = Told { ground: &ground, laid: &laid, round_ms: &laying.round_ms, blocked: &blocked, waiting: &waiting };
    plan.disruptions = report::disruptions(&told);
    plan.gpus = targets.iter().map(report::gpu).collect();
    plan.gaps = node.gaps.clone();
    plan.warnings = targets.iter().filter_map(|t| t.chosen.as_ref()).flat_map(|c| c.warnings.clone()).collect();
    blocked.sort();
    waiting.sort();
    waiting.dedup();
    plan.blocked = blocked;
    plan.waiting = waiting;
    plan.estimate_s = match plan.steps.iter().map(|s| cost::step_ms(&s.kind)).sum() {
        0 => 0,
        ms => cost::seconds(ms),
    };
    report::price(&mut plan, &targets, users, bound);
    plan.state = report::state(desired, &plan);
    plan.fingerprint = fingerprint::of(desired, node, &plan);
    plan
}

/// What leaves a whole node alone, beside what the tree says of it.
fn alone(desired: &DesiredNode, node: &ObservedNode, writer: &Writer) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Writer::Blocks(all) = writer {
        blocks.extend(all.iter().cloned());
    }
    let wanted = desired.policy.as_ref().map(|policy| policy.clients.allocation).unwrap_or_default();
    let there = node.cluster.as_ref().map(|cluster| cluster.allocation).unwrap_or_default();
    let known = wanted != Allocation::Auto && there != Allocation::Auto;
    if known && wanted != there && desired.layout.is_some() {
        let (wanted, there) = (wanted.word(), there.word());
        blocks.push(Block {
            code: BlockCode::Allocation,
            message: format!("clients.allocation = \"{wanted}\", and its instances reach pods by {there}"),
            object: desired.node.clone(),
            hint: format!("set clients.allocation = \"auto\" or \"{there}\", or set the node up as the policy says"),
        });
    }
    blocks
}

/// What holds: blocked movers block their GPUs; movers of a GPU that waits or is blocked wait with it.
struct Held {
    movers: BTreeSet<usize>,
}

fn hold_gpus(
    targets: &mut [GpuTarget<'_>],
    movers: &[Mover],
    blocked: &mut Vec<Block>,
    waiting: &mut Vec<Block>,
) -> Held {
    let mut held = Held { movers: BTreeSet::new() };
    let mut stuck: BTreeSet<usize> = BTreeSet::new();
    for (m, mover) in movers.iter().enumerate() {
        let Ruling::No(block) = &mover.ruling else { continue };
        held.movers.insert(m);
        stuck.extend(&mover.gpus);
        if block.code.waits() {
            waiting.push(block.clone());
        } else {
            for &g in &mover.gpus {
                if let Some(target) = targets.get_mut(g) {
                    target.blocks.push(block.clone());
                }
            }
            if mover.gpus.is_empty() {
                blocked.push(block.clone());
            }
        }
    }
    blocked.extend(targets.iter().flat_map(|t| t.blocks.clone()));
    blocked.sort();
    blocked.dedup();
    // To move half of a GPU's users achieves nothing: they wait for each other, across GPUs that one user spans.
    spread(movers, &mut stuck, &mut held.movers);
    held
}

/// Everybody on a stuck GPU is held, and holds the other GPUs that it is on.
fn spread(movers: &[Mover], stuck: &mut BTreeSet<usize>, held: &mut BTreeSet<usize>) {
    loop {
        let more: Vec<usize> = (0..movers.len())
            .filter(|m| !held.contains(m))
            .filter(|m| movers.get(*m).is_some_and(|mover| !mover.gpus.is_disjoint(stuck)))
            .collect();
        if more.is_empty() {
            return;
        }
        for m in more {
            held.insert(m);
            stuck.extend(movers.get(m).map(|mover| mover.gpus.clone()).unwrap_or_default());
        }
    }
}

fn hold_by_budget(
    movers: &[Mover],
    movable: &mut Vec<usize>,
    allowed: &BTreeMap<String, u32>,
    waiting: &mut Vec<Block>,
) {
    let mut stuck = BTreeSet::new();
    let mut held = BTreeSet::new();
    for &m in movable.iter() {
        let Some(mover) = movers.get(m) else { continue };
        let shut = mover.budgets.iter().find(|b| allowed.get(*b) == Some(&0));
        if let Some(budget) = shut {
            held.insert(m);
            stuck.extend(&mover.gpus);
            waiting.push(Block {
                code: BlockCode::Budget,
                message: format!("PodDisruptionBudget {budget} allows no eviction now"),
                object: user_name(&mover.user),
                hint: "it opens when the workload's pods are ready again".to_owned(),
            });
        }
    }
    spread(movers, &mut stuck, &mut held);
    movable.retain(|m| !held.contains(m));
}

/// Mode changes that the policy refuses.
fn forbid_modes(desired: &DesiredNode, targets: &mut [GpuTarget<'_>]) {
    let rules = desired.policy.as_ref().map(|p| p.gpu).unwrap_or_default();
    for target in targets {
        let Some(chosen) = &target.chosen else { continue };
        let gpu = target.gpu;
        let used = gpu.users.known().is_none_or(|u| !u.is_empty());
        let switches = chosen.mode != gpu.mig.current;
        let in_use =
            used && (switches || chosen.makes_first()) || switches && gpu.instances.iter().any(GpuInstance::in_use);
        let mut block = |code, message: &str, hint: &str| {
            target.blocks.push(Block {
                code,
                message: message.to_owned(),
                object: target::name(gpu),
                hint: hint.to_owned(),
            });
        };
        if switches && rules.mode_change == ModeChange::Refuse {
            block(BlockCode::ModeChange, "its MIG mode must change", "set gpu.mode_change = \"idle\" or \"allow\"");
        } else if in_use && rules.mode_change != ModeChange::Allow {
            let message = "somebody uses it, and its MIG mode or first instance must change";
            block(BlockCode::GpuInUse, message, "set gpu.mode_change = \"allow\" to drain it, or end what uses it");
        }
        if switches && !gpu.mig.resetless && rules.reset == ResetRule::Refuse {
            block(BlockCode::Reset, "its mode change needs a reset", "set gpu.reset = \"idle\"");
        }
    }
}

/// Units and commands that are bound to more instances than the layout provides, or that are not there.
fn bound_too_much(desired: &DesiredNode, node: &ObservedNode, targets: &[GpuTarget<'_>]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut bound: BTreeMap<String, (u32, Vec<String>)> = BTreeMap::new();
    for (user, binding) in movers::bound(desired) {
        if let User::Unit(unit) = &user
            && !node.units.contains_key(unit)
        {
            blocks.push(Block {
                code: BlockCode::NoSuchTarget,
                message: format!("this node has no unit {unit}"),
                object: binding.source.to_string(),
                hint: "narrow the binding with `nodes` or `labels`, or install the unit".to_owned(),
            });
            continue;
        }
        let entry = bound.entry(node.meant(binding.profile).resource()).or_default();
        entry.0 += binding.per_replica;
        entry.1.push(binding.name.clone());
    }
    if targets.iter().any(|t| t.source.is_some() && t.chosen.is_none()) {
        return blocks;
    }
    for (resource, (wanted, names)) in bound {
        let provided = provided(targets, &resource);
        if wanted > provided {
            let profile = resource.strip_prefix("nvidia.com/mig-").unwrap_or(&resource);
            blocks.push(Block {
                code: BlockCode::OverBound,
                message: format!("{} want {wanted} × {profile}, and the layout provides {provided}", names.join(", ")),
                object: desired.node.clone(),
                hint: "bind fewer, or add instances to the layout".to_owned(),
            });
        }
    }
    blocks
}

/// How many instances of a resource a node has once it is converged.
fn provided(targets: &[GpuTarget<'_>], resource: &str) -> u32 {
    let of = |t: &GpuTarget<'_>| -> usize {
        let stays = |i: &usize| t.chosen.as_ref().is_none_or(|c| c.keep.contains(i));
        let kept = t.gpu.instances.iter().enumerate().filter(|(i, x)| stays(i) && x.profile.resource() == resource);
        let new = t.chosen.iter().flat_map(|c| &c.create).filter(|n| n.slot.profile.resource() == resource);
        kept.count() + new.count()
    };
    u32::try_from(targets.iter().map(of).sum::<usize>()).unwrap_or(u32::MAX)
}

fn homeless(user: &User) -> Block {
    Block {
        code: BlockCode::NoCapacity,
        message: "it is bound and stopped, and every instance that it could be given is in use".to_owned(),
        object: user_name(user),
        hint: "`sectile status` tells who uses them".to_owned(),
    }
}

fn stranded(mover: &Mover, node: &ObservedNode, court: &Court<'_>) -> Block {
    let pod = match &mover.user {
        User::Pod { namespace, name } => court.pod(namespace, name),
        User::Unit(_) | User::Command(_) | User::Process { .. } => None,
    };
    if let Some((binding, wanted)) = pod.and_then(|pod| court.rebinds(pod)) {
        let wanted: Vec<String> = wanted.iter().map(|(resource, n)| format!("{n} × {resource}")).collect();
        return Block {
            code: BlockCode::Rebind,
            message: format!(
                "its workload is to ask for {} first, as the binding {} says",
                wanted.join(", "),
                binding.name
            ),
            object: user_name(&mover.user),
            hint: "the binding is carried out by itself; `sectile controller` does it in a cluster".to_owned(),
        };
    }
    let needs: Vec<String> = mover.needs.iter().map(|(resource, n)| format!("{n} × {resource}")).collect();
    Block {
        code: BlockCode::NoCapacity,
        message: format!("it would have to leave its instance, and there is no room for it ({})", needs.join(", ")),
        object: user_name(&mover.user),
        hint: format!("scale it down, or leave it an instance in the layout of {} or of another node", node.name),
    }
}

fn crowded(mover: &Mover) -> Block {
    Block {
        code: BlockCode::StrategySingle,
        message: "the device plugin's strategy is single, so that all MIG devices of the node change at once, and its \
                  budgets do not let it leave together with all others"
            .to_owned(),
        object: user_name(&mover.user),
        hint: "let budget.max_pods and the PodDisruptionBudgets allow all of them, or scale it down".to_owned(),
    }
}

/// Marks steps that wait: for somebody, for an undisruptive time, or for the window.
fn hold_steps(desired: &DesiredNode, steps: &mut [Step], waiting: &mut Vec<Block>, now: Timestamp) {
    let Some(policy) = &desired.policy else { return };
    let disruptive_ms: u64 = steps.iter().filter(|s| s.disruptive).map(|s| cost::step_ms(&s.kind)).sum();
    let seconds = cost::seconds(disruptive_ms);
    let any = steps.iter().any(|s| s.disruptive);
    let mut wait = |code, message: String, hint: &str| {
        waiting.push(Block { code, message, object: desired.node.clone(), hint: hint.to_owned() });
        Some(code)
    };
    let code = match policy.mode {
        ApplyMode::Manual if !steps.is_empty() => wait(
            BlockCode::ManualMode,
            "apply.mode = \"manual\": it is only planned".to_owned(),
            "set apply.mode = \"auto\"",
        ),
        ApplyMode::Undisruptive if any => wait(
            BlockCode::UndisruptiveMode,
            "apply.mode = \"undisruptive\", and somebody would be disturbed".to_owned(),
            "set apply.mode = \"auto\"",
        ),
        _ => match &policy.window {
            Some(window) if any && !window::admits(window, now, seconds) => {
                let when = match window::standing(window, now) {
                    Standing::Shut(Some(then)) => format!("the window is shut until {then}"),
                    Standing::Shut(None) => "the window never opens".to_owned(),
                    Standing::Open(end) => format!("the window ends at {end}, and about {seconds} s are needed"),
                };
                wait(
                    BlockCode::Window,
                    when,
                    "it opens by itself; `apply --override window --reason TEXT` does not wait",
                )
            }
            _ => None,
        },
    };
    let Some(code) = code else { return };
    let mut held = BTreeSet::new();
    for step in steps {
        let own = step.disruptive || code == BlockCode::ManualMode;
        if own || step.after.iter().any(|id| held.contains(id)) {
            held.insert(step.id);
            step.waits = Some(code);
        }
    }
}
