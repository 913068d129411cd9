//! What belongs to no node: Kubernetes bindings against the workloads and what the layouts provide.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::desired::{Binding, Desired, DesiredNode, Target};
use crate::model::observed::{MigStrategy, Observed, ObservedNode, WorkloadState};
use crate::model::parallel;
use crate::model::plan::{BindingReport, Block, BlockCode, ClusterPlan, Scope, Step, StepKind};
use crate::model::policy::{Allocation, ApplyMode};
use crate::model::{Bind, Bound, NodePlan, Object, Policy, ProfileName};

use super::{cost, turns, window};

/// Checks every binding, sets the workloads of those that Sectile manages, and takes back what no binding says any more.
pub fn plan(desired: &Desired, observed: &Observed, nodes: &[NodePlan], now: Timestamp) -> ClusterPlan {
    let mut plan = ClusterPlan::default();
    let mut least: BTreeMap<ProfileName, (u32, BTreeSet<usize>, Vec<String>)> = BTreeMap::new();
    let mut workloads: BTreeMap<(&str, &str, &str), &WorkloadState> = BTreeMap::new();
    for workload in &observed.cluster.workloads {
        let WorkloadState { kind, namespace, name, .. } = workload;
        workloads.entry((kind, namespace, name)).or_insert(workload);
    }
    let places: BTreeMap<&str, usize> =
        desired.bindings.iter().enumerate().map(|(at, b)| (b.name.as_str(), at)).collect();
    let stock = |(at, node)| Stock::new(at, node, &places, desired, observed);
    let stocks = parallel::map(parallel::threads(nodes.len()), nodes.iter().enumerate().collect(), stock);
    let covered = covered(desired.bindings.len(), &stocks);
    let recorded = observed.cluster.bound.known().map(Vec::as_slice).unwrap_or_default();
    unbound(desired, observed, recorded, now, &mut plan);
    for (binding, covered) in desired.bindings.iter().zip(covered) {
        let Target::Kubernetes { object, container } = &binding.target else { continue };
        let Object { kind, namespace, name, .. } = object;
        let Covered { nodes, provided } = covered;
        let found = workloads.get(&(kind.as_str(), namespace.as_str(), name.as_str())).copied();
        let first = nodes.iter().find_map(|node| node.seen);
        let profile = first.map_or(binding.profile, |node| node.meant(binding.profile));
        let recorded_so =
            || recorded.iter().find(|bound| bound.bind.object.is(object)).map(|bound| bound.bind.allocation);
        let bind = Bind {
            binding: binding.name.clone(),
            object: object.clone(),
            container: container.clone(),
            profile,
            per_replica: binding.per_replica,
            strategy: named(&nodes),
            // Where no node tells just now, as it was.
            allocation: allocated(&nodes).or_else(recorded_so).unwrap_or(Allocation::DevicePlugin),
            affinity: binding.affinity.clone(),
        };
        let resource = bind.resource();
        // What was set otherwise before goes, also where it would do.
        let other = || recorded.iter().any(|bound| bound.bind.object.is(object) && bound.bind != bind);
        let met = |w: &WorkloadState| match binding.manage {
            // Whoever has begun is where he is.
            true if w.fixed => bind.is_met(&w.requests, &w.claims, Some(&bind.affinity)),
            true => bind.is_met(&w.requests, &w.claims, w.affinity.as_ref()) && !other(),
            false => w.requests == BTreeMap::from([(resource.clone(), binding.per_replica)]),
        };
        let matches = found.is_some_and(met);
        let bound = found.map(|w| w.replicas.saturating_mul(binding.per_replica));
        plan.bindings.push(BindingReport {
            name: binding.name.clone(),
            target: object.to_string(),
            profile,
            provided,
            bound,
            matches,
            manage: binding.manage,
            source: binding.source.clone(),
        });
        // A binding of other nodes alone takes nothing from these.
        if !nodes.is_empty() {
            let entry = least.entry(profile).or_default();
            entry.0 += binding.per_replica;
            entry.1.extend(nodes.iter().map(|node| node.at));
            entry.2.push(binding.name.clone());
        }
        let bound = bound.unwrap_or(0);
        if bound > provided {
            let name = &binding.name;
            plan.warnings
                .push(format!("{name}: its pods want {bound} × {profile}, and the layouts provide {provided}"));
        }
        if !binding.manage || matches {
            continue;
        }
        let Some(found) = found else {
            plan.blocked.push(absent(binding, object, observed));
            continue;
        };
        if first.is_none() {
            plan.blocked.push(Block {
                code: BlockCode::Unobserved,
                message: format!(
                    "no node was seen that {} holds on, so what {profile} is called there is not known",
                    binding.name
                ),
                object: binding.source.to_string(),
                hint: "let its selectors match a node of the cluster".to_owned(),
            });
            continue;
        }
        if found.fixed {
            plan.blocked.push(Block {
                code: BlockCode::Immutable,
                message: format!("the pod template of a {kind} that has begun can't be changed"),
                object: object.to_string(),
                hint: format!("make it anew with {} × {resource}, or set manage = false", binding.per_replica),
            });
            continue;
        }
        // Its pods are made anew on all nodes at once, so the last of them has had its turn first.
        let turns = nodes.iter().flat_map(|node| &node.plan.steps);
        let budget = turns.into_iter().any(|step| step.waits == Some(BlockCode::Budget));
        // But for nodes that can't go on before this: others would wait for them, and they for it.
        let first_of_all =
            nodes.iter().flat_map(|node| &node.plan.waiting).any(|block| block.code == BlockCode::Rebind);
        let budget = budget && !first_of_all;
        let covered: Vec<&DesiredNode> = nodes.iter().filter_map(|node| node.wanted).collect();
        let kind = StepKind::BindWorkload { bind: Box::new(bind), timeout_s: timeout(&covered) };
        let mut step = step(plan.steps.len(), kind);
        match hold(&covered, observed, step.estimate_s, now) {
            Hold::No => {
                let full = turns::pods_are_down(&covered, desired, observed, found) || rolls(observed, object);
                step.waits = (budget || full).then_some(BlockCode::Budget);
            }
            Hold::Waits(code) => step.waits = Some(code),
            Hold::Blocked => {
                plan.blocked.push(no_policy(object, "may run"));
                continue;
            }
        }
        plan.steps.push(step);
    }
    let nodes_known = desired.nodes.keys().all(|name| observed.nodes.contains_key(name));
    for (profile, (wanted, covered, names)) in least {
        let of_these = covered.iter().filter_map(|&at| stocks.get(at));
        let provided: u32 = of_these.map(|node| node.provided(profile)).sum();
        if wanted > provided && nodes_known && !nodes.is_empty() {
            plan.blocked.push(Block {
                code: BlockCode::OverBound,
                message: format!(
                    "one pod each of {} wants {wanted} × {profile}, and the layouts provide {provided}",
                    names.join(", ")
                ),
                object: names.join(", "),
                hint: "add instances to a layout, or bind fewer".to_owned(),
            });
        }
    }
    if !desired.blocked.is_empty() {
        plan.steps.clear();
        plan.blocked.extend(desired.blocked.iter().cloned());
    }
    plan
}

/// A node, and how many instances of each profile it has once converged.
struct Stock<'a> {
    /// The node's place among the plans.
    at: usize,
    plan: &'a NodePlan,
    wanted: Option<&'a DesiredNode>,
    seen: Option<&'a ObservedNode>,
    instances: BTreeMap<ProfileName, u32>,
    /// What it has of each binding that may hold on it, by the binding's place in the tree.
    bound: BTreeMap<usize, u32>,
}

/// The nodes that a binding may hold on, and how many of its instances they have.
#[derive(Clone, Default)]
struct Covered<'a> {
    nodes: Vec<&'a Stock<'a>>,
    provided: u32,
}

impl<'a> Stock<'a> {
    fn new(
        at: usize,
        plan: &'a NodePlan,
        places: &BTreeMap<&str, usize>,
        desired: &'a Desired,
        observed: &'a Observed,
    ) -> Self {
        let mut instances = BTreeMap::new();
        for instance in plan.gpus.iter().flat_map(|gpu| gpu.keep.iter().chain(&gpu.create)) {
            *instances.entry(instance.profile).or_default() += 1;
        }
        let (wanted, seen) = (desired.nodes.get(&plan.name), observed.nodes.get(&plan.name));
        let mut stock = Stock { at, plan, wanted, seen, instances, bound: BTreeMap::new() };
        let bindings = wanted.into_iter().flat_map(|wanted| &wanted.bindings);
        let bound = bindings.filter_map(|b| Some((*places.get(b.name.as_str())?, stock.provided(b.profile))));
        stock.bound = bound.collect();
        stock
    }

    /// Instances of what a name means there.
    fn provided(&self, profile: ProfileName) -> u32 {
        let profile = self.seen.map_or(profile, |seen| seen.meant(profile));
        self.instances.get(&profile).copied().unwrap_or(0)
    }
}

/// The nodes that each of so many bindings may hold on.
fn covered<'a>(bindings: usize, stocks: &'a [Stock<'a>]) -> Vec<Covered<'a>> {
    let mut covered = vec![Covered::default(); bindings];
    for stock in stocks {
        for (&at, provided) in &stock.bound {
            if let Some(covered) = covered.get_mut(at) {
                covered.nodes.push(stock);
                covered.provided += provided;
            }
        }
    }
    covered
}

/// How the nodes of a binding name MIG devices: as the first does that advertises any.
fn named(nodes: &[&Stock<'_>]) -> MigStrategy {
    let mut strategies = nodes.iter().filter_map(|node| node.seen).map(ObservedNode::strategy);
    strategies.find(|strategy| *strategy != MigStrategy::None).unwrap_or_default()
}

/// How instances reach the pods of a binding: by claims where the first of its nodes that gives any out does so; `None`: none
/// does.
fn allocated(nodes: &[&Stock<'_>]) -> Option<Allocation> {
    let told = nodes.iter().filter_map(|node| node.seen?.cluster.as_ref()).map(|cluster| cluster.allocation);
    told.into_iter().find(|allocation| *allocation != Allocation::Auto)
}

/// Why a workload's pods may not be made anew now.
enum Hold {
    No,
    Waits(BlockCode),
    Blocked,
}

/// The nodes whose policies hold back what is done to a workload: those on which a binding may hold; and where one is taken
/// back those on which the pods run, or where none is seen those on which they may.
pub fn covers<'a>(kind: &StepKind, desired: &'a Desired, observed: &Observed) -> Vec<&'a DesiredNode> {
    let nodes = desired.nodes.values();
    let bind = match kind {
        StepKind::BindWorkload { bind, .. } => {
            return nodes.filter(|node| node.bindings.iter().any(|held| held.name == bind.binding)).collect();
        }
        StepKind::UnbindWorkload { bind, .. } => bind,
        _ => return Vec::new(),
    };
    let Object { kind, namespace, name, .. } = &bind.object;
    let owned = observed.cluster.pods.iter().filter(|pod| {
        pod.namespace == *namespace && pod.owner.as_ref().is_some_and(|o| o.kind == *kind && o.name == *name)
    });
    let on: BTreeSet<&String> = owned.filter_map(|pod| pod.node.as_ref()).collect();
    // Its pods may be another object's: then wherever they may run.
    let may = |node: &DesiredNode| {
        let labels = observed.nodes.get(&node.node).and_then(|seen| seen.labels.known());
        labels.is_none_or(|labels| bind.affinity.admits(&node.node, labels))
    };
    nodes.filter(|node| if on.is_empty() { may(node) } else { on.contains(&node.node) }).collect()
}

/// Whether a window has shut since it was planned: of a policy of the nodes that a step of the cluster's covers.
pub fn is_shut(step: &Step, desired: &Desired, observed: &Observed, now: Timestamp) -> bool {
    let nodes = covers(&step.kind, desired, observed);
    let mut windows = nodes.iter().filter_map(|node| node.policy.as_ref()?.window.as_ref());
    windows.any(|shared| !window::admits(shared, now, step.estimate_s))
}

/// What the policies of the nodes that a binding covers say of disturbing its pods: the strictest counts.
fn hold(covered: &[&DesiredNode], observed: &Observed, seconds: u64, now: Timestamp) -> Hold {
    let mut hold = Hold::No;
    for node in covered {
        if observed.nodes.get(&node.node).is_some_and(|node| node.suspended.is_some()) {
            return Hold::Waits(BlockCode::Suspended);
        }
        let Some(policy) = &node.policy else { return Hold::Blocked };
        let shut = policy.window.as_ref().is_some_and(|w| !window::admits(w, now, seconds));
        match policy.mode {
            ApplyMode::Manual => hold = Hold::Waits(BlockCode::ManualMode),
            ApplyMode::Undisruptive => hold = Hold::Waits(BlockCode::UndisruptiveMode),
            ApplyMode::Auto if shut && matches!(hold, Hold::No) => hold = Hold::Waits(BlockCode::Window),
            ApplyMode::Auto => {}
        }
    }
    hold
}

/// How long is waited until its pods are ready again: no longer than any of these nodes waits.
fn timeout(covered: &[&DesiredNode]) -> u64 {
    let drains = covered.iter().filter_map(|node| node.policy.as_ref()).map(|policy| policy.drain.timeout_s);
    drains.min().unwrap_or_else(|| Policy::default().drain.timeout_s)
}

/// A binding's workload that is not among those that were seen.
fn absent(binding: &Binding, object: &Object, observed: &Observed) -> Block {
    let unseen = observed.cluster.gaps.iter().find(|gap| gap.object == object.to_string());
    match unseen {
        Some(gap) => Block {
            code: BlockCode::Unobserved,
            message: format!("{object} could not be looked at: {}", gap.message),
            object: binding.source.to_string(),
            hint: "let the program read that kind, or set manage = false".to_owned(),
        },
        None => Block {
            code: BlockCode::NoSuchTarget,
            message: format!("the cluster has no {object}"),
            object: binding.source.to_string(),
            hint: "create it, or take the binding out".to_owned(),
        },
    }
}

/// What is taken back: what was carried out for workloads that no binding manages any more.
fn unbound(desired: &Desired, observed: &Observed, recorded: &[Bound], now: Timestamp, plan: &mut ClusterPlan) {
    let managed = desired.bindings.iter().filter(|binding| binding.manage).filter_map(|b| match &b.target {
        Target::Kubernetes { object, .. } => Some(object),
        Target::Systemd { .. } | Target::Command { .. } => None,
    });
    let managed: Vec<&Object> = managed.collect();
    let is_managed = |object: &Object| managed.iter().any(|managed| managed.is(object));
    for Bound { bind, revision: _ } in recorded.iter().filter(|bound| !is_managed(&bound.bind.object)) {
        let back = |timeout_s| StepKind::UnbindWorkload { bind: Box::new(bind.clone()), timeout_s };
        let covered = covers(&back(0), desired, observed);
        let kind = back(timeout(&covered));
        let mut step = step(plan.steps.len(), kind);
        match hold(&covered, observed, step.estimate_s, now) {
            Hold::No => {
                let Object { kind, namespace, name, .. } = &bind.object;
                let found = observed.cluster.workload(kind, namespace, name);
                let full = found.is_some_and(|found| turns::pods_are_down(&covered, desired, observed, found))
                    || rolls(observed, &bind.object);
                step.waits = full.then_some(BlockCode::Budget);
            }
            Hold::Waits(code) => step.waits = Some(code),
            Hold::Blocked => {
                plan.blocked.push(no_policy(&bind.object, "runs"));
                continue;
            }
        }
        plan.steps.push(step);
    }
}

/// Whether another workload that a binding has set is being rolled out: no other is begun before that is through, which it
/// may never be.
fn rolls(observed: &Observed, but: &Object) -> bool {
    let others = observed.cluster.workloads.iter().filter(|w| !w.is(&but.kind, &but.namespace, &but.name));
    others.into_iter().any(|w| w.revision.is_some() && !w.settled)
}

fn no_policy(object: &Object, where_it: &str) -> Block {
    Block {
        code: BlockCode::NoPolicy,
        message: format!("its pods would be made anew, and no policy matches a node that it {where_it} on"),
        object: object.to_string(),
        hint: "add a file to policies/ whose `nodes` match it".to_owned(),
    }
}

fn step(before: usize, kind: StepKind) -> Step {
    Step {
        id: u32::try_from(before).unwrap_or(u32::MAX - 1) + 1,
        after: Vec::new(),
        guards: Vec::new(),
        scope: Scope::Cluster,
        disruptive: true,
        waits: None,
        estimate_s: cost::seconds(cost::step_ms(&kind)),
        kind,
    }
}
