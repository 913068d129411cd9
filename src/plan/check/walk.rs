//! Carries a node's steps out on paper, and looks at every prefix.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::{DesiredNode, Goal, Target};
use crate::model::geometry::Placement;
use crate::model::observed::{Known, NodeInCluster, ObservedGpu, ObservedNode, PodPhase, User};
use crate::model::plan::{Block, BlockCode, GpuPlan, Guard, NodePlan, Scope, SlotRef, Step, StepKind};
use crate::model::policy::{Allocation, ClientRef, DaemonSets, ModeChange, ResetRule, WriterRule};
use crate::model::profile::{ComputeName, ProfileName};

use super::rules::Cluster;
use super::{Findings, Invariant, offered, rules};

/// An instance on paper.
#[derive(Clone, Debug)]
pub(super) struct Paper {
    pub(super) profile: ProfileName,
    pub(super) placement: Placement,
    /// Sorted.
    pub(super) compute: Vec<ComputeName>,
    /// Who uses it; `None`: unknown.
    pub(super) users: Option<BTreeSet<User>>,
}

/// A GPU on paper.
#[derive(Clone, Debug)]
pub(super) struct Sheet<'a> {
    seen: &'a ObservedGpu,
    /// Its instances.
    pub(super) papers: Vec<Paper>,
    /// Its MIG mode.
    pub(super) mode: bool,
    /// Who uses the whole of it; `None`: unknown.
    whole: Option<BTreeSet<User>>,
}

/// Where the steps lead.
#[derive(Clone, Debug)]
pub(super) struct End<'a> {
    /// In the order of the node's.
    pub(super) gpus: Vec<Sheet<'a>>,
    /// Slots destroyed and created by the steps.
    pub(super) destroyed: BTreeSet<SlotRef>,
    pub(super) created: BTreeSet<SlotRef>,
    /// Who was disturbed.
    pub(super) moved: BTreeSet<User>,
}

impl<'a> End<'a> {
    fn gpu(&mut self, uuid: &str) -> Option<&mut Sheet<'a>> {
        self.gpus.iter_mut().find(|sheet| sheet.seen.uuid == uuid)
    }
}

struct Walk<'a, 'f> {
    wanted: &'a DesiredNode,
    seen: &'a ObservedNode,
    cluster: &'a Cluster<'a>,
    found: &'f mut Findings,
    end: End<'a>,
    tainted: bool,
    paused: bool,
    leaving: BTreeSet<User>,
    evicted: BTreeMap<String, u32>,
    /// Pods evicted since the last taint.
    down: u32,
    /// Units and commands that the last pause of this plan stopped.
    stopped: Option<(Vec<String>, Vec<ClientRef>)>,
    /// Workloads of evicted pods that nobody waited for yet.
    unready: BTreeSet<String>,
    /// Whether instances were made that nobody advertises yet.
    hidden: bool,
    /// Whether this plan made instances that nobody advertises yet.
    fresh: bool,
    /// Whether this plan has tainted the node.
    began: bool,
    /// GPUs whose mode was set and whose reset is due.
    unreset: BTreeSet<String>,
}

/// Walks all steps in order.
pub(super) fn walk<'a>(
    wanted: &'a DesiredNode,
    seen: &'a ObservedNode,
    cluster: &'a Cluster<'a>,
    plan: &NodePlan,
    found: &mut Findings,
) -> End<'a> {
    let in_cluster = seen.cluster.as_ref();
    let known = |users: &Known<Vec<User>>| users.known().map(|u| u.iter().cloned().collect::<BTreeSet<_>>());
    let paper = |gpu: &ObservedGpu| {
        let one = |i: &crate::model::GpuInstance| {
            let mut compute: Vec<_> = i.compute.iter().map(|c| c.profile).collect();
            compute.sort();
            Paper { profile: i.profile, placement: i.placement, compute, users: known(&i.all_users()) }
        };
        gpu.instances.iter().map(one).collect::<Vec<_>>()
    };
    let sheet = |gpu| Sheet { seen: gpu, papers: paper(gpu), mode: gpu.mig.current, whole: known(&gpu.users) };
    let end = End {
        gpus: seen.gpus.iter().map(sheet).collect(),
        destroyed: BTreeSet::new(),
        created: BTreeSet::new(),
        moved: BTreeSet::new(),
    };
    let mut walk = Walk {
        wanted,
        seen,
        cluster,
        found,
        end,
        tainted: in_cluster.is_some_and(|cluster| cluster.tainted),
        paused: in_cluster.is_some_and(|cluster| cluster.clients_paused),
        leaving: BTreeSet::new(),
        evicted: BTreeMap::new(),
        down: 0,
        stopped: None,
        unready: BTreeSet::new(),
        hidden: in_cluster.is_some_and(|cluster| plan.gpus.iter().any(|g| g.managed && hides(g, cluster))),
        fresh: false,
        began: false,
        unreset: BTreeSet::new(),
    };
    for step in &plan.steps {
        walk.step(step);
    }
    let labels = seen.labels.known();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map_or("", String::as_str);
    let writes = label("nvidia.com/gpu.deploy.mig-manager") == "true" && !label("nvidia.com/mig.config").is_empty();
    let served = in_cluster.map(|cluster| cluster.allocation).unwrap_or_default();
    let wants = wanted.policy.as_ref().map(|policy| policy.clients.allocation).unwrap_or_default();
    let said = ![served, wants].contains(&Allocation::Auto);
    if said && served != wants && wanted.layout.is_some() && !plan.steps.is_empty() {
        walk.found.add(Invariant::HandsOff, None, "its instances reach pods in another way than the policy says");
    }
    let cut = label("nos.nebuly.com/gpu-partitioning") == "mig"
        || !label("cloud.google.com/gke-gpu-partition-size").is_empty();
    let told = cut || in_cluster.is_some_and(|c| !c.writers.is_empty());
    // Whoever stops the device plugin by another word than ours is at work on the node.
    let stops = !["", "true", "false"].contains(&label("nvidia.com/gpu.deploy.device-plugin"))
        && in_cluster.is_none_or(|cluster| !cluster.clients_paused);
    if (told || stops) && !plan.steps.is_empty() {
        walk.found.add(Invariant::HandsOff, None, "it is changed beside another tool that writes its MIG state");
    }
    let stands_down = plan.steps.first().is_some_and(|step| step.kind == StepKind::StandDown);
    if writes && !plan.steps.is_empty() && !stands_down {
        walk.found.add(Invariant::HandsOff, None, "it is changed beside mig-manager, which writes its MIG state, too");
    }
    // What can't start can't be resumed.
    let starts = !offered::fails(seen, &plan.steps);
    if walk.tainted || walk.paused {
        let last = plan.steps.last().map(|s| s.id);
        // A node that is left alone is left as an earlier run left it.
        if !left_alone(wanted, plan) && starts {
            walk.found.add(Invariant::Bracket, last, "the node is left tainted or paused");
        }
    }
    if !walk.leaving.is_empty() || !walk.unready.is_empty() {
        walk.found.add(Invariant::Bracket, None, "a pod is evicted, and it or its workload is never waited for");
    }
    if walk.hidden && seen.cluster.is_some() && !left_alone(wanted, plan) && starts {
        walk.found.add(Invariant::Bracket, None, "instances are made and never advertised");
    }
    if !walk.unreset.is_empty() {
        walk.found.add(Invariant::Target, None, "a mode is left pending");
    }
    walk.end
}

/// Whether nothing may be changed on the node at all: its layout does not fit it, another tool writes its MIG state, or
/// nobody could hand its instances out.
fn left_alone(wanted: &DesiredNode, plan: &NodePlan) -> bool {
    use BlockCode::*;
    let alone = |b: &Block| matches!(b.code, ForeignWriter | Allocation | StrategySingle | StrategyNone | StopsOthers);
    !wanted.blocked.is_empty() || plan.blocked.iter().any(alone)
}

/// Whether a device of an instance that stays is not advertised.
fn hides(gpu: &GpuPlan, cluster: &NodeInCluster) -> bool {
    let devices = gpu.keep.iter().flat_map(|i| &i.compute).filter_map(|c| c.uuid.as_ref());
    let advertised = cluster.advertised.known();
    devices.into_iter().any(|uuid| advertised.is_some_and(|all| !all.contains(uuid)))
}

impl<'a> Walk<'a, '_> {
    fn add(&mut self, invariant: Invariant, step: &Step, message: impl Into<String>) {
        self.found.add(invariant, Some(step.id), message);
    }

    fn step(&mut self, step: &Step) {
        if step.scope != Scope::Node {
            self.add(Invariant::Foreign, step, "it is no step of a node's");
        }
        match &step.kind {
            StepKind::StandDown => self.stand_down(step),
            StepKind::Taint => {
                self.cluster_only(step);
                // One that an earlier run left is put on anew; one of this plan's own must have come off.
                if (self.began && self.tainted) || self.fresh || !self.unready.is_empty() {
                    self.add(Invariant::Bracket, step, "the round before is not over");
                }
                self.began = true;
                self.down = 0;
                self.tainted = true;
            }
            StepKind::Untaint => {
                if !self.tainted || self.paused {
                    self.add(
                        Invariant::Bracket,
                        step,
                        "it takes off a taint that is not on, or while clients are paused",
                    );
                }
                self.tainted = false;
            }
            StepKind::PauseClients { units, commands } => {
                self.clients(step, units, commands);
                if self.seen.cluster.is_some() && !self.tainted {
                    self.add(Invariant::Bracket, step, "clients are paused while pods may still be bound to the node");
                }
                if !self.leaving.is_empty() {
                    self.add(Invariant::Bracket, step, "clients are paused longer than need be: pods still leave");
                }
                self.paused = true;
                self.stopped = Some((units.clone(), commands.clone()));
            }
            StepKind::ResumeClients { units, commands } => {
                self.clients(step, units, commands);
                // What an earlier run stopped is resumed as the policy has it.
                if self.stopped.take().is_some_and(|(u, c)| (u, c) != (units.clone(), commands.clone())) {
                    self.add(Invariant::Foreign, step, "it resumes something else than was paused");
                }
                if !self.paused {
                    self.add(Invariant::Bracket, step, "it resumes what is not paused");
                }
                self.paused = false;
                (self.hidden, self.fresh) = (false, false);
            }
            StepKind::RefreshClients => {
                self.cluster_only(step);
                (self.hidden, self.fresh) = (false, false);
            }
            StepKind::EvictPod { namespace, pod, uid, grace_period_s, delete } => {
                self.evict(step, namespace, pod, uid);
                self.manner(step, namespace, pod, *grace_period_s, *delete);
            }
            StepKind::AwaitGone { pods, .. } => self.await_gone(step, pods),
            StepKind::AwaitReady { workloads, .. } => {
                self.unready.retain(|key| !workloads.contains_key(key));
                for (key, wanted) in workloads {
                    let of = |w: &&crate::model::observed::WorkloadState| {
                        format!("{} {}/{}", w.kind, w.namespace, w.name) == *key
                    };
                    let ready = self.cluster.seen.workloads.iter().find(of).map_or(0, |w| w.ready);
                    if *wanted < ready {
                        self.add(Invariant::Target, step, format!("{key} had {ready} ready pods before"));
                    }
                }
                if self.tainted {
                    self.add(Invariant::Bracket, step, "it waits for pods while the node is tainted");
                }
                self.evicted.clear();
            }
            StepKind::StopUnit { unit } => self.disturb(step, User::Unit(unit.clone())),
            StepKind::DrainCommand { workload } => self.disturb(step, User::Command(workload.clone())),
            StepKind::TerminateProcess { pid, name } => {
                self.disturb(step, User::Process { pid: *pid, name: name.clone() });
            }
            StepKind::StartUnit { unit, env, slots } => {
                let bound = self
                    .wanted
                    .bindings
                    .iter()
                    .any(|b| matches!(&b.target, Target::Systemd { unit: u, env: e } if u == unit && e == env));
                if !bound {
                    self.add(Invariant::Foreign, step, "its UUIDs go into another variable than its binding says");
                }
                self.start(step, User::Unit(unit.clone()), slots);
            }
            StepKind::ResumeCommand { workload, slots } => self.start(step, User::Command(workload.clone()), slots),
            StepKind::DestroyInstance { slot } => self.destroy(step, slot),
            StepKind::CreateInstance { slot, compute } => self.create(step, slot, compute),
            StepKind::SetMigMode { gpu, enabled } => {
                self.switch(step, gpu);
                if let Some(sheet) = self.end.gpu(gpu) {
                    sheet.mode = *enabled;
                    if !sheet.seen.mig.resetless && sheet.seen.mig.current != *enabled {
                        self.unreset.insert(gpu.clone());
                    }
                }
            }
            StepKind::ResetGpu { gpu } => {
                self.switch(step, gpu);
                if !self.unreset.remove(gpu) {
                    self.add(Invariant::Needless, step, "it resets a GPU whose mode was not set");
                }
            }
            StepKind::RefreshDevices { .. } => {}
            StepKind::BindWorkload { .. } | StepKind::UnbindWorkload { .. } => {
                self.add(Invariant::Foreign, step, "it belongs to the cluster");
            }
        }
    }

    fn stand_down(&mut self, step: &Step) {
        self.cluster_only(step);
        let takes_over = self.wanted.policy.as_ref().is_some_and(|p| p.mig_manager == WriterRule::TakeOver);
        let on = self.seen.labels.known().and_then(|labels| labels.get("nvidia.com/gpu.deploy.mig-manager"));
        if !takes_over || on.map(String::as_str) != Some("true") {
            self.add(Invariant::Foreign, step, "there is no mig-manager, or the policy does not take over from it");
        }
        if !step.after.is_empty() || self.began {
            self.add(Invariant::Bracket, step, "another writer is stood down before anything else");
        }
    }

    /// Pauses stop what the policy names, and nothing else.
    fn clients(&mut self, step: &Step, units: &[String], commands: &[ClientRef]) {
        let clients = self.wanted.policy.as_ref().map(|p| &p.clients);
        let known = |u: &String| clients.is_some_and(|c| c.systemd.contains(u));
        let command = |name: &ClientRef| clients.is_some_and(|c| c.command(name).is_some());
        if !units.iter().all(known) || !commands.iter().all(command) {
            self.add(Invariant::Foreign, step, "it pauses or resumes what the policy does not name");
        }
        let all = clients.map_or(0, |c| c.commands.len());
        if commands.len() != all {
            self.add(Invariant::Bracket, step, "it leaves a client of the policy out");
        }
    }

    fn cluster_only(&mut self, step: &Step) {
        if self.seen.cluster.is_none() {
            self.add(Invariant::Foreign, step, "the node is in no cluster");
        }
    }

    fn guarded(&mut self, step: &Step, guard: Guard) {
        if !step.guards.contains(&guard) {
            self.add(Invariant::Guards, step, format!("it lacks the guard {guard}"));
        }
    }

    fn windowed(&mut self, step: &Step) {
        if self.wanted.policy.as_ref().is_some_and(|p| p.window.is_some()) {
            self.guarded(step, Guard::Window);
        }
        if !step.disruptive {
            self.add(Invariant::Guards, step, "it disturbs somebody and does not say so");
        }
        if self.wanted.policy.is_none() {
            self.add(Invariant::Verdicts, step, "no policy allows to disturb anybody here");
        }
    }

    fn evict(&mut self, step: &Step, namespace: &str, name: &str, uid: &str) {
        let user = User::Pod { namespace: namespace.to_owned(), name: name.to_owned() };
        let pod = self.cluster.pod(namespace, name).filter(|p| p.uid == uid);
        let Some(pod) = pod.filter(|p| p.node.as_deref() == Some(self.seen.name.as_str())) else {
            return self.add(Invariant::Foreign, step, "this node runs no such pod");
        };
        self.guarded(step, Guard::Budget);
        // Who has no controller doesn't come back, and needs no room.
        if pod.owner.is_some() {
            self.guarded(step, Guard::Capacity);
        }
        self.windowed(step);
        if self.hidden {
            self.add(Invariant::Bracket, step, "a pod is evicted before what was made for it is advertised");
        }
        if !self.tainted {
            self.add(Invariant::Bracket, step, "a pod is evicted from a node without taint, and may come back");
        }
        if let Some(why) = rules::spared(self.wanted, self.cluster, &user) {
            self.add(Invariant::Verdicts, step, format!("{} is {why}", pod.id()));
        }
        let covers = |b: &&crate::model::Budget| pod.budgets.contains(&format!("{}/{}", b.namespace, b.name));
        let budgets: Vec<_> = self.cluster.seen.budgets.iter().filter(covers).cloned().collect();
        for budget in budgets {
            let n = self.evicted.entry(format!("{}/{}", budget.namespace, budget.name)).or_default();
            *n += 1;
            if *n > budget.allowed {
                self.add(
                    Invariant::Budgets,
                    step,
                    format!("{}/{} allows {}", budget.namespace, budget.name, budget.allowed),
                );
            }
        }
        if let Some(owner) = &pod.owner {
            self.unready.insert(format!("{} {namespace}/{}", owner.kind, owner.name));
        }
        self.leaving.insert(user.clone());
        self.end.moved.insert(user);
    }

    /// How a pod is removed is the policy's word, and no more pods are down at once than it allows.
    fn manner(&mut self, step: &Step, namespace: &str, name: &str, grace_period_s: Option<u64>, delete: bool) {
        let policy = self.wanted.policy.clone().unwrap_or_default();
        let pod = self.cluster.pod(namespace, name);
        let daemon = pod.and_then(|p| p.owner.as_ref()).is_some_and(|owner| owner.kind == "DaemonSet");
        if delete != (daemon && policy.drain.daemonsets == DaemonSets::Delete) {
            self.add(Invariant::Verdicts, step, "only a DaemonSet's pod is deleted, and only where the policy says so");
        }
        if grace_period_s != policy.drain.grace_period_s {
            self.add(Invariant::Verdicts, step, "its grace is not the policy's");
        }
        self.down += 1;
        if policy.budget.max_pods.as_ref().is_some_and(|most| self.down > most.limit) {
            self.add(Invariant::Budgets, step, "more pods are down at once than the policy allows");
        }
    }

    fn await_gone(&mut self, step: &Step, pods: &BTreeMap<String, String>) {
        for (id, uid) in pods {
            let pod = id.split_once('/').and_then(|(namespace, name)| self.cluster.pod(namespace, name));
            let Some(pod) = pod.filter(|p| p.uid == *uid) else {
                self.add(Invariant::Foreign, step, format!("nobody knows a pod {id} of that UID"));
                continue;
            };
            let user = User::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
            let ends = pod.phase == PodPhase::Terminating;
            if !self.leaving.remove(&user) && !ends {
                self.add(Invariant::Vacated, step, format!("{id} is waited for and was not evicted"));
            }
            self.end.moved.insert(user.clone());
            self.forget(&user);
        }
    }

    fn disturb(&mut self, step: &Step, user: User) {
        self.windowed(step);
        let there = match &user {
            User::Unit(unit) => self.seen.units.contains_key(unit),
            _ => true,
        };
        if !there {
            self.add(Invariant::Foreign, step, "the node has no such unit");
        }
        if self.paused || (self.seen.cluster.is_some() && !self.tainted) {
            self.add(
                Invariant::Bracket,
                step,
                "somebody is disturbed without a taint, or while clients are paused already",
            );
        }
        if !matches!(user, User::Process { .. }) {
            self.guarded(step, Guard::Capacity);
        }
        if let Some(why) = rules::spared(self.wanted, self.cluster, &user) {
            self.add(Invariant::Verdicts, step, why);
        }
        self.forget(&user);
        self.end.moved.insert(user);
    }

    fn forget(&mut self, user: &User) {
        for sheet in &mut self.end.gpus {
            let users = sheet.papers.iter_mut().map(|paper| &mut paper.users).chain([&mut sheet.whole]);
            users.flatten().for_each(|users| _ = users.remove(user));
        }
    }

    fn start(&mut self, step: &Step, user: User, slots: &[SlotRef]) {
        let binding = self.wanted.bindings.iter().find(|b| match (&b.target, &user) {
            (Target::Systemd { unit, .. }, User::Unit(name)) => unit == name,
            (Target::Command { .. }, User::Command(name)) => b.name == *name,
            _ => false,
        });
        let Some(binding) = binding else {
            return self.add(Invariant::Foreign, step, "no binding names it");
        };
        if slots.len() != binding.per_replica as usize {
            self.add(Invariant::Target, step, "it is not given as many instances as it is bound to");
        }
        if self.paused {
            self.add(Invariant::Bracket, step, "it starts while the clients are paused");
        }
        for slot in slots {
            let papers = self.end.gpu(&slot.gpu).map(|sheet| sheet.papers.as_mut_slice()).unwrap_or_default();
            let free = papers.iter_mut().find(|p| p.profile == slot.profile && p.placement == slot.placement);
            match free.and_then(|p| p.users.as_mut()).filter(|users| users.is_empty()) {
                Some(users) => {
                    users.insert(user.clone());
                }
                None => self.add(Invariant::Vacated, step, "it is given an instance that is not there or not free"),
            }
        }
    }

    fn managed(&self, gpu: &str) -> bool {
        let goals = self.wanted.gpus.get(gpu).map(|g| &g.goal).into_iter();
        let shared = self.wanted.shared.iter().filter(|s| s.eligible.contains(gpu)).map(|s| &s.goal);
        goals.chain(shared).any(|goal| *goal != Goal::HandsOff)
    }

    fn gpu(&mut self, step: &Step, uuid: &str) -> Option<&'a ObservedGpu> {
        let gpu = self.seen.gpus.iter().find(|g| g.uuid == uuid);
        if gpu.is_none() {
            self.add(Invariant::Foreign, step, format!("this node has no {uuid}"));
        } else if !self.managed(uuid) {
            self.add(Invariant::HandsOff, step, format!("nobody manages {uuid}"));
        }
        gpu
    }

    fn destroy(&mut self, step: &Step, slot: &SlotRef) {
        self.guarded(step, Guard::Unused);
        if self.gpu(step, &slot.gpu).is_none() {
            return;
        }
        if self.seen.cluster.is_some() && !(self.tainted && self.paused) {
            self.add(Invariant::Bracket, step, "an instance is destroyed while pods may be given it");
        }
        let Some(Sheet { papers, .. }) = self.end.gpu(&slot.gpu) else { return };
        let at = papers.iter().position(|p| p.profile == slot.profile && p.placement == slot.placement);
        let Some(paper) = at.map(|at| papers.remove(at)) else {
            return self.add(Invariant::Legal, step, "it destroys an instance that is not there");
        };
        match paper.users {
            None => self.add(Invariant::Vacated, step, "nobody knows who uses it"),
            Some(users) if !users.is_empty() => self.add(Invariant::Vacated, step, format!("{users:?} use it")),
            Some(_) => {}
        }
        self.end.destroyed.insert(slot.clone());
    }

    fn create(&mut self, step: &Step, slot: &SlotRef, compute: &[ComputeName]) {
        let Some(gpu) = self.gpu(step, &slot.gpu) else { return };
        self.hidden |= !compute.is_empty();
        self.fresh |= !compute.is_empty();
        if !self.end.gpu(&slot.gpu).is_some_and(|sheet| sheet.mode) || self.unreset.contains(&slot.gpu) {
            self.add(Invariant::Legal, step, "the GPU's MIG mode is off then");
        }
        let Some(Sheet { papers, whole, .. }) = self.end.gpu(&slot.gpu) else { return };
        let busy = papers.is_empty() && whole.as_ref().is_none_or(|users| !users.is_empty());
        let mut compute = compute.to_vec();
        compute.sort();
        let slices: u32 = compute.iter().map(|c| c.slices).sum();
        let foreign = compute.iter().any(|c| c.of != slot.profile) || slices > slot.profile.slices;
        papers.push(Paper { profile: slot.profile, placement: slot.placement, compute, users: Some(BTreeSet::new()) });
        let set: Vec<_> = papers.iter().map(|p| (p.profile, p.placement)).collect();
        let illegal = match &gpu.geometry {
            Some(geometry) => rules::illegal(geometry, &set),
            None => Some("nobody knows what this GPU can be cut into".to_owned()),
        };
        if let Some(why) = illegal {
            self.add(Invariant::Legal, step, why);
        }
        if foreign {
            self.add(Invariant::Legal, step, "its compute instances don't fit into it");
        }
        if busy {
            self.add(Invariant::Vacated, step, "the GPU's first instance is created while somebody uses the GPU");
        }
        self.end.created.insert(slot.clone());
    }

    fn switch(&mut self, step: &Step, uuid: &str) {
        let Some(gpu) = self.gpu(step, uuid) else { return };
        let Some(Sheet { papers, mode, whole, .. }) = self.end.gpu(uuid) else { return };
        let (empty, idle) = (papers.is_empty(), whole.as_ref().is_some_and(BTreeSet::is_empty));
        let settles = matches!(step.kind, StepKind::SetMigMode { enabled, .. }
            if enabled == gpu.mig.current && gpu.mig.pending != enabled && *mode == enabled);
        if settles {
            // Only what is pending is taken back: nothing changes for anybody.
            return;
        }
        self.guarded(step, Guard::Unused);
        if !empty {
            self.add(Invariant::Legal, step, "the GPU has instances then");
        }
        if !idle {
            self.add(Invariant::Vacated, step, "somebody uses the GPU, or nobody knows");
        }
        let rules = self.wanted.policy.as_ref().map(|p| p.gpu).unwrap_or_default();
        let reset = matches!(step.kind, StepKind::ResetGpu { .. });
        let known = gpu.users.known().is_some_and(Vec::is_empty);
        let used = !known || gpu.instances.iter().any(crate::model::GpuInstance::in_use);
        let moved = used && rules.mode_change != ModeChange::Allow;
        let refused = reset && (gpu.mig.resetless || rules.reset == ResetRule::Refuse);
        if rules.mode_change == ModeChange::Refuse || moved || refused {
            self.add(Invariant::Verdicts, step, "the policy refuses it, or the board does not need it");
        }
        if self.seen.cluster.is_some() && !(self.tainted && self.paused) {
            self.add(Invariant::Bracket, step, "a mode changes while pods may be given the GPU");
        }
    }
}
