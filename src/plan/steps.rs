//! Turns a node's rounds into steps, with what each comes after and what guards it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::desired::{DesiredNode, Target};
use crate::model::observed::{MigStrategy, ObservedCluster, ObservedNode, PodPhase, User};
use crate::model::plan::{Guard, Scope, SlotRef, Step, StepKind};
use crate::model::policy::{ClientRef, DaemonSets, Policy};

use super::cost;
use super::drain::Court;
use super::movers::{self, Mover, slot};
use super::order::{Laid, Place, Round};
use super::single;
use super::target::GpuTarget;

/// Everything that steps are made from.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Whether mig-manager is stood down first.
    pub stand_down: bool,
    /// What the tree wants of the node.
    pub desired: &'a DesiredNode,
    /// The node.
    pub node: &'a ObservedNode,
    /// The cluster.
    pub cluster: &'a ObservedCluster,
    /// What its GPUs become.
    pub targets: &'a [GpuTarget<'a>],
    /// Who is disturbed.
    pub movers: &'a [Mover],
    /// The verdicts.
    pub court: &'a Court<'a>,
}

/// Steps, and how long each round's are expected to keep its movers down, in milliseconds.
#[derive(Debug, Default)]
pub struct Laying {
    /// In order.
    pub steps: Vec<Step>,
    /// By round.
    pub round_ms: Vec<u64>,
    /// Who is bound, stopped, and finds no free instance.
    pub homeless: Vec<User>,
    disruptive: bool,
}

impl Laying {
    fn push(&mut self, after: &[u32], guards: &[Guard], kind: StepKind) -> u32 {
        let id = u32::try_from(self.steps.len()).unwrap_or(u32::MAX - 1) + 1;
        let mut after = after.to_vec();
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step {
            id,
            after,
            guards: guards.to_vec(),
            scope: Scope::Node,
            disruptive: self.disruptive,
            waits: None,
            estimate_s: cost::seconds(cost::step_ms(&kind)),
            kind,
        });
        id
    }

    fn each(&mut self, after: &[u32], guards: &[Guard], kinds: impl IntoIterator<Item = StepKind>) -> Vec<u32> {
        kinds.into_iter().map(|kind| self.push(after, guards, kind)).collect()
    }
}

/// Lays the steps of all rounds, what a crash may have left being mended behind the first, then starts what is bound
/// and stopped.
pub fn lay(ground: &Ground<'_>, laid: &mut Laid) -> Laying {
    let mut laying = Laying { steps: Vec::with_capacity(16), ..Laying::default() };
    let mut last = Vec::new();
    if ground.stand_down {
        last.push(laying.push(&[], &[], StepKind::StandDown));
    }
    for (at, round) in laid.rounds.iter().enumerate() {
        laying.disruptive = at > 0;
        let begin = laying.steps.len();
        last = ground.round(&mut laying, &last, round);
        if at == 0 && ground.starts(round) {
            last = ground.mend(&mut laying, last);
        }
        let steps = laying.steps.get(begin..).unwrap_or_default();
        let ms = steps.iter().map(|s| cost::step_ms(&s.kind)).sum();
        laying.round_ms.push(ms);
    }
    laying.disruptive = false;
    if !ground.stays_paused(&laying) {
        ground.start_idle(&mut laying, &last, &mut laid.free);
    }
    laying
}

impl Ground<'_> {
    /// Whether the clients start with what is there behind the first round. Where they do not, a pause that was left can
    /// only be ended together with what keeps them from it.
    fn starts(&self, first: &Round) -> bool {
        let changes = [first.destroys.len(), first.creates.len(), first.modes.len()] != [0; 3];
        changes || single::refusal(self.node, self.targets, &single::Progress::default()).is_none()
    }

    /// Whether a pause that an earlier run left is still not over at the end.
    fn stays_paused(&self, laying: &Laying) -> bool {
        let paused = self.node.cluster.as_ref().is_some_and(|cluster| cluster.clients_paused);
        paused && !laying.steps.iter().any(|step| matches!(step.kind, StepKind::ResumeClients { .. }))
    }

    fn policy(&self) -> Arc<Policy> {
        self.desired.policy.clone().unwrap_or_default()
    }

    /// What is stopped around a change: units that run, and all commands. Where an earlier run was cut short between
    /// pause and resume, units that do not run were stopped by it.
    fn clients(&self, policy: &Policy) -> (Vec<String>, Vec<ClientRef>) {
        let paused = self.node.cluster.as_ref().is_some_and(|cluster| cluster.clients_paused);
        let there = |u: &&String| self.node.units.get(u.as_str()).is_some_and(|s| s.active || paused);
        (policy.clients.systemd.iter().filter(there).cloned().collect(), policy.clients.names())
    }

    /// One round; ids of what the next one comes after.
    fn round(&self, laying: &mut Laying, last: &[u32], round: &Round) -> Vec<u32> {
        let in_cluster = self.node.cluster.is_some();
        let policy = self.policy();
        let (units, commands) = self.clients(&policy);
        let creates = round.creates.iter().filter_map(|&(g, c)| {
            let new = self.targets.get(g)?.chosen.as_ref()?.create.get(c)?;
            Some(StepKind::CreateInstance { slot: new.slot.clone(), compute: new.compute.clone() })
        });
        let settles = round
            .settles
            .iter()
            .filter_map(|&g| self.targets.get(g))
            .map(|t| StepKind::SetMigMode { gpu: t.gpu.uuid.clone(), enabled: t.gpu.mig.current });
        let settled = laying.each(last, &[], settles);
        let last = if settled.is_empty() { last } else { settled.as_slice() };
        if round.moves.is_empty() && round.destroys.is_empty() && round.modes.is_empty() {
            let made = laying.each(last, &[], creates);
            if made.is_empty() {
                return last.to_vec();
            }
            let made = self.refresh(laying, made);
            return if in_cluster { vec![laying.push(&made, &[], StepKind::RefreshClients)] } else { made };
        }
        let mut front = last.to_vec();
        if in_cluster {
            front = vec![laying.push(&front, &[], StepKind::Taint)];
        }
        front = self.vacate(laying, &front, round, &policy);
        let pauses = in_cluster || !units.is_empty() || !commands.is_empty();
        if pauses {
            let pause = StepKind::PauseClients { units: units.clone(), commands: commands.clone() };
            front = vec![laying.push(&front, &[], pause)];
        }
        let destroys = round.destroys.iter().filter_map(|&(g, i)| {
            let gpu = self.targets.get(g)?.gpu;
            Some(StepKind::DestroyInstance { slot: slot(&gpu.uuid, gpu.instances.get(i)?) })
        });
        let gone = laying.each(&front, &[Guard::Unused], destroys);
        let mut ready: Vec<u32> = if gone.is_empty() { front.clone() } else { gone };
        let modes: Vec<u32> = round.modes.iter().flat_map(|&g| self.mode(laying, &ready, g)).collect();
        if !modes.is_empty() {
            ready.extend(&modes);
        }
        let made = laying.each(&ready, &[], creates);
        let mut end = if made.is_empty() { ready } else { made };
        if [round.destroys.len(), round.modes.len(), round.creates.len()] != [0; 3] {
            end = self.refresh(laying, end);
        }
        if pauses {
            end = vec![laying.push(&end, &[], StepKind::ResumeClients { units, commands })];
        }
        if in_cluster {
            end = vec![laying.push(&end, &[], StepKind::Untaint)];
        }
        self.settle(laying, &end, round, &policy)
    }

    /// Tells the host of what has changed, before anybody is given any of it.
    fn refresh(&self, laying: &mut Laying, end: Vec<u32>) -> Vec<u32> {
        if self.node.device_files.is_empty() {
            return end;
        }
        let files = self.node.device_files.iter().copied().collect();
        vec![laying.push(&end, &[], StepKind::RefreshDevices { files })]
    }

    /// Removes everybody who moves in this round, and waits until they are gone.
    fn vacate(&self, laying: &mut Laying, front: &[u32], round: &Round, policy: &Policy) -> Vec<u32> {
        let mut guards = Vec::new();
        if policy.window.is_some() {
            guards.push(Guard::Window);
        }
        let mut gone = Vec::new();
        let mut evicted = Vec::new();
        let mut pods = BTreeMap::new();
        for (m, place) in &round.moves {
            let Some(mover) = self.movers.get(*m) else { continue };
            let mut guards = guards.clone();
            if *place != Place::Ends || matches!(mover.user, User::Unit(_) | User::Command(_)) {
                guards.push(Guard::Capacity);
            }
            match &mover.user {
                User::Pod { namespace, name } => {
                    let Some(pod) = self.court.pod(namespace, name) else { continue };
                    pods.insert(pod.id(), pod.uid.clone());
                    if pod.phase == PodPhase::Terminating {
                        continue;
                    }
                    guards.push(Guard::Budget);
                    guards.sort();
                    let daemon = pod.owner.as_ref().is_some_and(|o| o.kind == "DaemonSet");
                    let kind = StepKind::EvictPod {
                        namespace: namespace.clone(),
                        pod: name.clone(),
                        uid: pod.uid.clone(),
                        grace_period_s: policy.drain.grace_period_s,
                        delete: daemon && policy.drain.daemonsets == DaemonSets::Delete,
                    };
                    evicted.push(laying.push(front, &guards, kind));
                }
                User::Unit(unit) => gone.push(laying.push(front, &guards, StepKind::StopUnit { unit: unit.clone() })),
                User::Command(workload) => {
                    let kind = StepKind::DrainCommand { workload: workload.clone() };
                    gone.push(laying.push(front, &guards, kind));
                }
                User::Process { pid, name } => {
                    let kind = StepKind::TerminateProcess { pid: *pid, name: name.clone() };
                    gone.push(laying.push(front, &guards, kind));
                }
            }
        }
        if !pods.is_empty() {
            let after = if evicted.is_empty() { front.to_vec() } else { evicted };
            gone.push(laying.push(&after, &[], StepKind::AwaitGone { pods, timeout_s: policy.drain.timeout_s }));
        }
        if gone.is_empty() { front.to_vec() } else { gone }
    }

    fn mode(&self, laying: &mut Laying, after: &[u32], g: usize) -> Vec<u32> {
        let Some((target, chosen)) = self.targets.get(g).and_then(|t| Some((t, t.chosen.as_ref()?))) else {
            return Vec::new();
        };
        let gpu = target.gpu.uuid.clone();
        let switch = StepKind::SetMigMode { gpu: gpu.clone(), enabled: chosen.mode };
        let set = laying.push(after, &[Guard::Unused], switch);
        if target.gpu.mig.resetless {
            return vec![set];
        }
        vec![laying.push(&[set], &[Guard::Unused], StepKind::ResetGpu { gpu })]
    }

    /// Starts units and commands on their new instances, and waits for the pods' workloads.
    fn settle(&self, laying: &mut Laying, end: &[u32], round: &Round, policy: &Policy) -> Vec<u32> {
        let mut last = Vec::new();
        let mut workloads = BTreeMap::new();
        for (m, place) in &round.moves {
            let Some(mover) = self.movers.get(*m) else { continue };
            if let (User::Pod { namespace, name }, _) = (&mover.user, place) {
                let pod = self.court.pod(namespace, name);
                if let Some(owner) = pod.and_then(|pod| pod.owner.as_ref()) {
                    let key = format!("{} {}/{}", owner.kind, namespace, owner.name);
                    workloads.insert(key, self.ready(namespace, &owner.kind, &owner.name));
                }
            }
            if let Place::Here(slots) = place
                && let Some(kind) = self.start(&mover.user, slots.clone())
            {
                last.push(laying.push(end, &[], kind));
            }
        }
        if !workloads.is_empty() {
            let kind = StepKind::AwaitReady { workloads, timeout_s: policy.drain.timeout_s };
            last.push(laying.push(end, &[], kind));
        }
        if last.is_empty() { end.to_vec() } else { last }
    }

    fn ready(&self, namespace: &str, kind: &str, name: &str) -> u32 {
        self.cluster.workload(kind, namespace, name).map_or(0, |workload| workload.ready)
    }

    fn start(&self, user: &User, slots: Vec<SlotRef>) -> Option<StepKind> {
        match user {
            User::Unit(unit) => match &self.court.unit(unit)?.target {
                Target::Systemd { env, .. } => {
                    Some(StepKind::StartUnit { unit: unit.clone(), env: env.clone(), slots })
                }
                Target::Kubernetes { .. } | Target::Command { .. } => None,
            },
            User::Command(workload) => Some(StepKind::ResumeCommand { workload: workload.clone(), slots }),
            User::Pod { .. } | User::Process { .. } => None,
        }
    }

    /// Starts bound units and commands that hold nothing and are stopped, where their instances are free now.
    fn start_idle(&self, laying: &mut Laying, last: &[u32], free: &mut Vec<SlotRef>) {
        if movers::bound(self.desired).next().is_none() {
            return;
        }
        let moving: BTreeSet<&User> = self.movers.iter().map(|m| &m.user).collect();
        let holding: BTreeSet<User> = self
            .node
            .gpus
            .iter()
            .flat_map(|gpu| &gpu.instances)
            .filter_map(|i| i.all_users().known().cloned())
            .flatten()
            .collect();
        for (user, binding) in movers::bound(self.desired) {
            let absent = matches!(&user, User::Unit(unit) if !self.node.units.contains_key(unit));
            if moving.contains(&user) || holding.contains(&user) || absent || binding.per_replica == 0 {
                continue;
            }
            let needs = BTreeMap::from([(self.node.meant(binding.profile).resource(), binding.per_replica)]);
            let Some(slots) = super::order::pick(free, &mut Vec::new(), &needs, MigStrategy::Mixed) else {
                laying.homeless.push(user);
                continue;
            };
            if let Some(kind) = self.start(&user, slots) {
                laying.push(last, &[], kind);
            }
        }
    }

    /// Takes back what is left of an interrupted run: a pause, a taint, instances that stay and that nobody advertised.
    /// It is done before anybody moves, since only what is advertised is a place.
    fn mend(&self, laying: &mut Laying, last: Vec<u32>) -> Vec<u32> {
        let Some(cluster) = &self.node.cluster else { return last };
        let has = |word: &str| laying.steps.iter().any(|s| s.kind.word() == word);
        let (resumes, refreshes, untaints) = (has("resume_clients"), has("refresh_clients"), has("untaint"));
        let kept = self.targets.iter().filter(|target| target.source.is_some()).flat_map(|target| {
            let stays = |i: &usize| target.chosen.as_ref().is_none_or(|chosen| chosen.keep.contains(i));
            target.gpu.instances.iter().enumerate().filter(move |(i, _)| stays(i)).map(|(_, instance)| instance)
        });
        let advertised = cluster.advertised.known();
        let hidden = kept.flat_map(|i| &i.compute).any(|c| advertised.is_some_and(|all| !all.contains(&c.uuid)));
        let mut end = last;
        if cluster.clients_paused && !resumes {
            let (units, commands) = self.clients(&self.policy());
            end = vec![laying.push(&end, &[], StepKind::ResumeClients { units, commands })];
        } else if hidden && !resumes && !refreshes {
            end = vec![laying.push(&end, &[], StepKind::RefreshClients)];
        }
        if cluster.tainted && !untaints {
            end = vec![laying.push(&end, &[], StepKind::Untaint)];
        }
        end
    }
}
