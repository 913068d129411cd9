//! What belongs to no node: Kubernetes bindings against the workloads and what the layouts provide.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::model::desired::{Binding, Desired, DesiredNode, Target};
use crate::model::observed::{MigStrategy, Observed, ObservedNode, WorkloadState};
use crate::model::parallel;
use crate::model::plan::{BindingReport, Block, BlockCode, ClusterPlan, Scope, Step, StepKind};
use crate::model::policy::ApplyMode;
use crate::model::{NodePlan, ProfileName};

use super::{cost, movers, window};

/// Checks every binding, and sets the workloads of those that Sectile manages.
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
    for (binding, covered) in desired.bindings.iter().zip(covered) {
        let Target::Kubernetes { kind, namespace, name, .. } = &binding.target else { continue };
        let Covered { nodes, provided } = covered;
        let found = workloads.get(&(kind.as_str(), namespace.as_str(), name.as_str())).copied();
        let first = nodes.iter().find_map(|node| node.seen);
        let profile = first.map_or(binding.profile, |node| movers::meant(node, binding.profile));
        let strategy = named(&nodes);
        let resource = strategy.resource(profile).unwrap_or_else(|| profile.resource());
        let wanted = BTreeMap::from([(resource.clone(), binding.per_replica)]);
        let matches = found.is_some_and(|w| w.requests == wanted);
        plan.bindings.push(BindingReport {
            name: binding.name.clone(),
            target: format!("{kind} {namespace}/{name}"),
            profile,
            provided,
            bound: found.map(|w| w.replicas.saturating_mul(binding.per_replica)),
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
        let bound = found.map_or(0, |w| w.replicas.saturating_mul(binding.per_replica));
        if bound > provided {
            let name = &binding.name;
            plan.warnings
                .push(format!("{name}: its pods want {bound} × {profile}, and the layouts provide {provided}"));
        }
        match found {
            None if binding.manage => plan.blocked.push(Block {
                code: BlockCode::NoSuchTarget,
                message: format!("the cluster has no {kind} {namespace}/{name}"),
                object: binding.source.to_string(),
                hint: "create it, or take the binding out".to_owned(),
            }),
            Some(_) if binding.manage && !matches && kind == "Job" => plan.blocked.push(Block {
                code: BlockCode::Immutable,
                message: "a Job's pod template can't be changed".to_owned(),
                object: format!("{kind} {namespace}/{name}"),
                hint: format!("make it anew with {} × {resource}, or set manage = false", binding.per_replica),
            }),
            Some(_) if binding.manage && !matches => {
                let mut step = step(plan.steps.len(), binding, profile, strategy);
                let covered = nodes.iter().filter_map(|node| node.wanted);
                // Its pods are made anew on all nodes at once, so the last of them has had its turn first.
                let turns = nodes.iter().flat_map(|node| &node.plan.steps);
                let waits = turns.into_iter().any(|step| step.waits == Some(BlockCode::Budget));
                match hold(covered, observed, step.estimate_s, now) {
                    Hold::No => {
                        step.waits = waits.then_some(BlockCode::Budget);
                        plan.steps.push(step);
                    }
                    Hold::Waits(code) => {
                        step.waits = Some(code);
                        plan.steps.push(step);
                    }
                    Hold::Blocked => plan.blocked.push(Block {
                        code: BlockCode::NoPolicy,
                        message: "its pods would be made anew, and no policy matches a node that they may run on"
                            .to_owned(),
                        object: format!("{kind} {namespace}/{name}"),
                        hint: "add a file to policies/ whose `nodes` match it".to_owned(),
                    }),
                }
            }
            _ => {}
        }
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
        let profile = self.seen.map_or(profile, |seen| movers::meant(seen, profile));
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

/// Why a workload's pods may not be made anew now.
enum Hold {
    No,
    Waits(BlockCode),
    Blocked,
}

/// What the policies of the nodes that a binding covers say of disturbing its pods: the strictest counts.
fn hold<'a>(covered: impl Iterator<Item = &'a DesiredNode>, observed: &Observed, seconds: u64, now: Timestamp) -> Hold {
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

fn step(before: usize, binding: &Binding, profile: ProfileName, strategy: MigStrategy) -> Step {
    let (workload_kind, namespace, name, container) = match &binding.target {
        Target::Kubernetes { kind, namespace, name, container } => {
            (kind.clone(), namespace.clone(), name.clone(), container.clone())
        }
        Target::Systemd { .. } | Target::Command { .. } => Default::default(),
    };
    let kind = StepKind::BindWorkload {
        binding: binding.name.clone(),
        workload_kind,
        namespace,
        name,
        container,
        profile,
        per_replica: binding.per_replica,
        strategy,
    };
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
