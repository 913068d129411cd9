//! Who is disturbed by a node's targets: everybody on an instance that goes, on a GPU whose mode changes, and units
//! and commands that hold something else than their binding says.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::{Binding, DesiredNode, Target};
use crate::model::observed::{Budget, GpuInstance, Known, MigStrategy, ObservedNode, PodPhase, UnitState, User};
use crate::model::plan::{Block, BlockCode, DisruptionKind, SlotRef};
use crate::model::profile::ProfileName;

use super::drain::{Court, Ruling};
use super::target::{GpuTarget, name};

/// Somebody who is disturbed.
#[derive(Clone, Debug)]
pub struct Mover {
    /// Who.
    pub user: User,
    /// Instances it loses: GPU and instance, as indices.
    pub loses: Vec<(usize, usize)>,
    /// GPUs that can't change before it is gone.
    pub gpus: BTreeSet<usize>,
    /// Instances that it alone holds and that stay: free for others once it moved.
    pub frees: Vec<(usize, usize)>,
    /// What it needs elsewhere: resource name and number. Of units and commands each profile is one of its own.
    pub needs: BTreeMap<String, u32>,
    /// How those names are to be read here.
    pub strategy: MigStrategy,
    /// Labels of the nodes that a pod may run on.
    pub selector: BTreeMap<String, String>,
    /// Nodes that a pod may not run on although they bear them.
    pub barred: BTreeSet<String>,
    /// Whether it can't run on another node.
    pub stays: bool,
    /// The disruption budgets of a pod: `namespace/name`.
    pub budgets: Vec<String>,
    /// What is said of it.
    pub ruling: Ruling,
}

impl Mover {
    /// Whether a disruption budget counts its eviction.
    pub fn is_under(&self, budget: &Budget) -> bool {
        let is = |name: &String| name.split_once('/') == Some((&budget.namespace, &budget.name));
        self.budgets.iter().any(is)
    }

    /// The kind in the plan's list of disruptions.
    pub fn kind(&self) -> DisruptionKind {
        match self.user {
            User::Pod { .. } => DisruptionKind::Pod,
            User::Unit(_) => DisruptionKind::Unit,
            User::Command(_) => DisruptionKind::Command,
            User::Process { .. } => DisruptionKind::Process,
        }
    }
}

/// How one user is touched.
#[derive(Default)]
struct Touched {
    loses: Vec<(usize, usize)>,
    gpus: BTreeSet<usize>,
}

/// The slot of an instance.
pub fn slot(gpu: &str, instance: &GpuInstance) -> SlotRef {
    SlotRef { gpu: gpu.to_owned(), profile: instance.profile, placement: instance.placement }
}

/// Units and commands bound on this node: the user that they are, and their binding.
pub fn bound(desired: &DesiredNode) -> impl Iterator<Item = (User, &Binding)> {
    desired.bindings.iter().filter_map(|binding| match &binding.target {
        Target::Systemd { unit, .. } => Some((User::Unit(unit.clone()), binding.as_ref())),
        Target::Command { .. } => Some((User::Command(binding.name.clone()), binding.as_ref())),
        Target::Kubernetes { .. } => None,
    })
}

/// Units and commands that hold something else than their binding says, or may: they are moved whatever becomes of the GPUs.
pub fn misplaced(desired: &DesiredNode, node: &ObservedNode) -> BTreeSet<User> {
    let all = bound(desired).filter(|(user, binding)| {
        let held = holdings(node, user);
        let unit =
            |which: fn(&UnitState) -> bool| matches!(user, User::Unit(name) if node.units.get(name).is_some_and(which));
        let (active, stale) = (unit(|unit| unit.active), unit(|unit| unit.stale));
        let right = held.iter().filter(|(g, i)| is(node, *g, *i, node.meant(binding.profile))).count();
        let misplaced = right != held.len() || u32::try_from(right).unwrap_or(u32::MAX) != binding.per_replica;
        stale || misplaced && (active || !held.is_empty())
    });
    all.map(|(user, _)| user).collect()
}

/// Everybody who is disturbed, in a fixed order, and what can't be moved because nobody can see who it is.
pub fn find(
    desired: &DesiredNode,
    node: &ObservedNode,
    targets: &[GpuTarget<'_>],
    court: &Court<'_>,
) -> (Vec<Mover>, BTreeMap<usize, Vec<Block>>) {
    let mut blocks: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    let mut movers: BTreeMap<User, Touched> = BTreeMap::new();
    for (g, target) in targets.iter().enumerate() {
        let Some(chosen) = &target.chosen else { continue };
        for &i in &chosen.destroy {
            let Some(instance) = target.gpu.instances.get(i) else { continue };
            match instance.all_users() {
                Known::Known(users) => {
                    for user in users {
                        let entry = movers.entry(user).or_default();
                        entry.loses.push((g, i));
                        entry.gpus.insert(g);
                    }
                }
                Known::Unknown => {
                    let object = format!("{} {} at {}", name(target.gpu), instance.profile, instance.placement.start);
                    blocks.entry(g).or_default().push(unknown(object));
                }
            }
        }
        // The first instance of a GPU can't be created, and its mode not changed, while somebody uses the whole of it.
        if chosen.mode != target.gpu.mig.current || chosen.makes_first() {
            match &target.gpu.users {
                Known::Known(users) => users.iter().for_each(|user| {
                    movers.entry(user.clone()).or_default().gpus.insert(g);
                }),
                Known::Unknown => blocks.entry(g).or_default().push(unknown(name(target.gpu))),
            }
        }
    }
    for user in misplaced(desired, node) {
        movers.entry(user).or_default();
    }
    let all = movers.into_iter().map(|(user, Touched { loses, gpus })| {
        let held = holdings(node, &user);
        // What somebody else is on, too, is free for nobody.
        let alone = |(g, i): &&(usize, usize)| {
            let instance = node.gpus.get(*g).and_then(|gpu| gpu.instances.get(*i));
            instance.is_some_and(|i| i.all_users().known().is_some_and(|users| users.len() == 1))
        };
        let frees = held.iter().filter(|at| !loses.contains(at)).filter(alone).copied().collect();
        let needs = needs(desired, node, court, &user);
        let budgets = budgets(court, &user);
        let pod = match &user {
            User::Pod { namespace, name } => court.pod(namespace, name),
            User::Unit(_) | User::Command(_) | User::Process { .. } => None,
        };
        let selector = pod.map(|pod| pod.node_selector.clone()).unwrap_or_default();
        let barred = pod.map(|pod| pod.barred.clone()).unwrap_or_default();
        let daemon = pod.and_then(|pod| pod.owner.as_ref()).is_some_and(|owner| owner.kind == "DaemonSet");
        let stays = daemon || !matches!(user, User::Pod { .. });
        let ruling = court.judge(&user, &budgets);
        let strategy = if pod.is_some() { node.strategy() } else { MigStrategy::Mixed };
        Mover { user, loses, gpus, frees, needs, strategy, selector, barred, stays, budgets, ruling }
    });
    (all.collect(), blocks)
}

fn unknown(object: String) -> Block {
    Block {
        code: BlockCode::UnknownUsers,
        message: "who uses it could not be observed, and unknown means in use".to_owned(),
        object,
        hint: "the plan's gaps tell what could not be read, and why".to_owned(),
    }
}

fn holdings(node: &ObservedNode, user: &User) -> Vec<(usize, usize)> {
    let all = node.gpus.iter().enumerate();
    let all = all.flat_map(|(g, gpu)| gpu.instances.iter().enumerate().map(move |(i, instance)| (g, i, instance)));
    let held = all.filter(|(.., i)| i.all_users().known().is_some_and(|users| users.contains(user)));
    held.map(|(g, i, _)| (g, i)).collect()
}

fn is(node: &ObservedNode, g: usize, i: usize, profile: ProfileName) -> bool {
    node.gpus.get(g).and_then(|gpu| gpu.instances.get(i)).is_some_and(|instance| instance.profile == profile)
}

fn needs(desired: &DesiredNode, node: &ObservedNode, court: &Court<'_>, user: &User) -> BTreeMap<String, u32> {
    match user {
        User::Pod { namespace, name } => court.pod(namespace, name).map(|pod| court.successor(pod)).unwrap_or_default(),
        User::Process { .. } => BTreeMap::new(),
        User::Unit(_) | User::Command(_) => bound(desired)
            .filter(|(u, b)| u == user && b.per_replica > 0)
            .map(|(_, b)| (node.meant(b.profile).resource(), b.per_replica))
            .collect(),
    }
}

/// The budgets that count an eviction of the user, in a fixed order. One that terminates is counted already.
fn budgets(court: &Court<'_>, user: &User) -> Vec<String> {
    let User::Pod { namespace, name } = user else { return Vec::new() };
    let Some(pod) = court.pod(namespace, name).filter(|pod| pod.phase != PodPhase::Terminating) else {
        return Vec::new();
    };
    pod.budgets.iter().cloned().collect()
}
