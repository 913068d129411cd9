//! Performs the machine's effects on the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::gpu::{Gpus, Mode};
use crate::model::desired::{Binding, Target};
use crate::model::observed::PodPhase;
use crate::model::plan::SlotRef;
use crate::model::policy::{ClientRef, Clients};
use crate::model::{Digest, Known, Pod, StepKind, User};
use crate::plan::writers;
use crate::ports::{
    Clock, Cluster, ClusterEvent, CommandCall, CommandPhase, Driver, Eviction, Host, Journal, Port, PortError, Reason,
    Removal,
};

use super::machine::{Machine, later};
use super::observe::{Holders, in_force};
use super::offers;
use super::protocol::{Answer, Command, Effect, Event, News, Outcome};
use super::turn::Turn;

/// The outside of one node.
#[derive(Debug)]
pub struct Ports<'a, D: Driver, C, H, K> {
    /// The node's name.
    pub node: &'a str,
    /// Its GPUs.
    pub gpus: &'a Gpus<D>,
    /// Its cluster, if it is in one.
    pub cluster: Option<&'a C>,
    /// The host.
    pub host: &'a H,
    /// Time.
    pub clock: &'a K,
    /// The tree's bindings: commands come from here, never from a plan.
    pub bindings: &'a [Arc<Binding>],
    /// Units that the tree binds or pauses.
    pub units: &'a BTreeSet<String>,
    /// Its turn among those that share its budgets, if it does.
    pub turn: Option<&'a Turn<'a>>,
}

/// Runs a machine to its end. `interrupted` is asked between effects.
pub async fn drive<D: Driver, C: Cluster, H: Host, K: Clock, J: Journal>(
    mut machine: Machine,
    ports: &Ports<'_, D, C, H, K>,
    journal: &mut J,
    interrupted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(&News),
) -> Outcome {
    let mut event = Event::Start;
    let (clients, plan) = (machine.clients().clone(), machine.plan().clone());
    loop {
        if interrupted() {
            machine.interrupt();
        }
        let command = machine.next(event, ports.clock.now());
        machine.news.drain(..).for_each(|news| tell(&news));
        event = match command {
            Command::Done(outcome) => return outcome,
            Command::Wait(until) => {
                // In slices, so that an interrupt need not wait for the whole of it.
                while ports.clock.now() < until && !(interrupted() && machine.stops()) {
                    ports.clock.sleep_until(until.min(later(ports.clock.now(), 1))).await;
                }
                Event::Woke
            }
            Command::Do(Effect::Journal(record)) => {
                Event::Answer(journal.append(&record.line()).map(|()| Answer::Done))
            }
            Command::Do(effect) => {
                let until = later(ports.clock.now(), effect.limit_s());
                match within(ports.perform(&effect, &clients, &plan), ports.clock.sleep_until(until)).await {
                    Some(answer) => Event::Answer(answer),
                    None => Event::Late(effect),
                }
            }
        };
    }
}

/// The first future's value, unless the second is through before it.
pub async fn within<T>(call: impl Future<Output = T>, limit: impl Future<Output = ()>) -> Option<T> {
    let (mut call, mut limit) = (pin!(call), pin!(limit));
    std::future::poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Runs a future that never waits, as those of the simulator's ports; `None` if it waits after all.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl<D: Driver, C: Cluster, H: Host, K: Clock> Ports<'_, D, C, H, K> {
    fn cluster(&self) -> Port<&C> {
        self.cluster.ok_or_else(|| PortError {
            transient: false,
            code: "no cluster".to_owned(),
            message: format!("{} is in no cluster", self.node),
        })
    }

    fn binding(&self, name: &str) -> Port<&Binding> {
        self.bindings.iter().map(Arc::as_ref).find(|b| b.name == name).ok_or_else(|| PortError {
            transient: false,
            code: "no binding".to_owned(),
            message: format!("the tree binds no {name}"),
        })
    }

    async fn perform(&self, effect: &Effect, clients: &Clients, plan: &Digest) -> Port<Answer> {
        match effect {
            Effect::Journal(_) => Ok(Answer::Done),
            Effect::LookStopped => match self.cluster {
                Some(cluster) => cluster.stopped(self.node).await.map(Answer::Stopped),
                None => Ok(Answer::Stopped(None)),
            },
            Effect::LookSlot(slot) => self.look_slot(slot).await.map(Answer::Users),
            Effect::LookGpu(gpu) => {
                let processes = self.gpus.gpu_users(gpu)?;
                let holders = Holders::ask(self.node, self.cluster, self.host, self.units).await?;
                Ok(Answer::Users(Some(holders.join(gpu, &processes))))
            }
            Effect::LookProcess { pid, name } => self.look_process(*pid, name).map(Answer::Holds),
            Effect::LookPods(ids) => {
                let cluster = self.cluster()?;
                let mut found = BTreeMap::new();
                for id in ids {
                    let Some((namespace, name)) = id.split_once('/') else { continue };
                    if let Some(pod) = cluster.pod(namespace, name).await? {
                        found.insert(id.clone(), pod);
                    }
                }
                Ok(Answer::Pods(found))
            }
            Effect::LookCluster => match self.cluster {
                Some(cluster) => Ok(Answer::Cluster(Box::new(cluster.observe().await?))),
                None => Ok(Answer::Cluster(Box::default())),
            },
            Effect::LookTurn => match self.turn {
                Some(turn) => turn.confirm(self.cluster()?, self.clock).await.map(Answer::Turn),
                None => Ok(Answer::Turn(None)),
            },
            Effect::LookCommand { workload, drained, slots } => {
                let phase = if *drained { CommandPhase::Drained } else { CommandPhase::Ready };
                Ok(Answer::Holds(self.run(workload, phase, slots).await? == 0))
            }
            Effect::LookWriter => {
                let pods = self.cluster()?.writer_gone(self.node).await?;
                Ok(Answer::Missing(pods.iter().map(|pod| format!("mig-manager's pod {pod} to be gone")).collect()))
            }
            Effect::LookAdmitted => self.unadmitted().await.map(Answer::Missing),
            Effect::LookPaused(names) => {
                let mut missing = self.advertised().await?;
                for name in names {
                    if self.client(clients, name, CommandPhase::Paused).await? != 0 {
                        missing.push(name.to_string());
                    }
                }
                Ok(Answer::Missing(missing))
            }
            Effect::LookAdvertised(made) => self.unadvertised(made).await.map(Answer::Missing),
            Effect::Ask(kind) => self.remove(kind, true).await,
            Effect::Act(kind) => self.act(kind, clients, plan).await,
            Effect::Undo(kind) => {
                if self.stands(kind).await? {
                    return Ok(Answer::Done);
                }
                self.act(kind, clients, plan).await
            }
        }
    }

    /// Who uses an instance now: its processes, and whoever was given one of its devices.
    async fn look_slot(&self, slot: &SlotRef) -> Port<Option<Known<Vec<User>>>> {
        let Some(instance) = self.gpus.at(slot)? else { return Ok(None) };
        let processes = instance.all_users();
        let holders = Holders::ask(self.node, self.cluster, self.host, self.units).await?;
        let mut all = BTreeSet::new();
        if instance.compute.is_empty() {
            return Ok(Some(processes));
        }
        for compute in &instance.compute {
            match holders.join(&compute.uuid, &processes) {
                Known::Known(users) => all.extend(users),
                Known::Unknown => return Ok(Some(Known::Unknown)),
            }
        }
        Ok(Some(Known::Known(all.into_iter().collect())))
    }

    /// Whether a process is still on a GPU of the node. Where some can't be seen, it may be among those.
    fn look_process(&self, pid: u32, name: &str) -> Port<bool> {
        let (gpus, ..) = self.gpus.observe()?;
        let compute = gpus
            .iter()
            .flat_map(|gpu| &gpu.instances)
            .flat_map(|i| i.compute.iter().map(|c| &c.users).chain([&i.users]));
        let all: Vec<&Known<Vec<User>>> = compute.chain(gpus.iter().map(|gpu| &gpu.users)).collect();
        let it = User::Process { pid, name: name.to_owned() };
        let there = all.iter().filter_map(|users| users.known()).any(|users| users.contains(&it));
        if !there && all.iter().any(|users| users.known().is_none()) {
            return Err(PortError {
                transient: true,
                code: "unknown users".to_owned(),
                message: format!("whether process {pid} is still on a GPU can't be seen"),
            });
        }
        Ok(there)
    }

    async fn run(&self, workload: &str, phase: CommandPhase, slots: &[SlotRef]) -> Port<i32> {
        let binding = self.binding(workload)?;
        let Target::Command { drain, drained, resume, ready } = &binding.target else { return Ok(0) };
        let argv = match phase {
            CommandPhase::Drain => drain,
            CommandPhase::Drained => drained,
            CommandPhase::Resume => resume,
            CommandPhase::Ready => ready,
            CommandPhase::Pause | CommandPhase::Paused | CommandPhase::Unpause => return Ok(0),
        };
        let uuids = self.uuids(slots)?;
        self.host.run(CommandCall { workload, phase, argv, uuids: &uuids }).await
    }

    fn uuids(&self, slots: &[SlotRef]) -> Port<Vec<String>> {
        let each: Port<Vec<Vec<String>>> = slots.iter().map(|slot| self.gpus.uuids(slot)).collect();
        Ok(each?.into_iter().flatten().collect())
    }

    /// The exit status of a client's command; 0 where it has none for that.
    async fn client(&self, clients: &Clients, name: &ClientRef, phase: CommandPhase) -> Port<i32> {
        let command = clients.command(name).ok_or_else(|| PortError {
            transient: false,
            code: "no client".to_owned(),
            message: format!("the policy has no command {name}"),
        })?;
        let argv = match phase {
            CommandPhase::Pause => &command.pause,
            CommandPhase::Paused => &command.paused,
            _ => &command.resume,
        };
        if argv.is_empty() {
            return Ok(0);
        }
        self.host.run(CommandCall { workload: &name.to_string(), phase, argv, uuids: &[] }).await
    }

    /// The cluster's part comes first and goes last: while it is paused, a run that was cut short shows.
    async fn pause(&self, clients: &Clients, units: &[String], commands: &[ClientRef], plan: &Digest) -> Port<()> {
        if let Some(cluster) = self.cluster {
            cluster.set_clients_paused(self.node, Some(plan)).await?;
        }
        for unit in units {
            self.host.stop_unit(unit, units).await?;
        }
        for name in commands {
            let status = self.client(clients, name, CommandPhase::Pause).await?;
            succeeded(status, CommandPhase::Pause, &name.to_string())?;
        }
        Ok(())
    }

    async fn resume(&self, clients: &Clients, units: &[String], commands: &[ClientRef]) -> Port<()> {
        for name in commands {
            let status = self.client(clients, name, CommandPhase::Unpause).await?;
            succeeded(status, CommandPhase::Unpause, &name.to_string())?;
        }
        for unit in units {
            self.host.start_unit(unit, "", &[]).await?;
        }
        match self.cluster {
            Some(cluster) => cluster.set_clients_paused(self.node, None).await,
            None => Ok(()),
        }
    }

    /// Removes the pod of a step that evicts one, or only asks whether it would be removed.
    async fn remove(&self, kind: &StepKind, dry_run: bool) -> Port<Answer> {
        let StepKind::EvictPod { namespace, pod, uid, grace_period_s, delete } = kind else { return Ok(Answer::Done) };
        let how = Removal { grace_period_s: *grace_period_s, delete: *delete, dry_run };
        let cluster = self.cluster()?;
        let done = cluster.remove_pod(namespace, pod, uid, how).await?;
        if done == Eviction::Accepted && !dry_run {
            let message = format!("it moves, since its MIG instance on {} goes", self.node);
            let pod = Some((namespace.as_str(), pod.as_str(), uid.as_str()));
            // Who is not told has lost nothing.
            let _ = cluster.event(&ClusterEvent { node: self.node, pod, reason: Reason::Evicted, message }).await;
        }
        Ok(Answer::Evicted(done))
    }

    /// Pods that are bound to the node and that its kubelet has not judged yet: they are given devices any moment.
    async fn unadmitted(&self) -> Port<Vec<String>> {
        let pods = match self.cluster {
            Some(cluster) => cluster.holders(self.node).await?,
            None => Vec::new(),
        };
        let waits = |pod: &&Pod| pod.phase == PodPhase::Pending && !pod.admitted;
        Ok(pods.iter().filter(waits).map(|pod| format!("the admission of pod {}", pod.id())).collect())
    }

    /// Resources of MIG devices that the node still offers.
    async fn advertised(&self) -> Port<Vec<String>> {
        let node = match self.cluster {
            Some(cluster) => cluster.node(self.node).await?,
            None => None,
        };
        let offers = node.map(|node| node.allocatable).unwrap_or_default();
        let offered = offers.into_iter().filter(|(_, n)| *n > 0);
        Ok(offered.map(|(resource, n)| format!("{resource} to be offered no more ({n} now)")).collect())
    }

    /// What of these instances the node does not offer, and what it offers that is gone.
    async fn unadvertised(&self, made: &[SlotRef]) -> Port<Vec<String>> {
        let Some(cluster) = self.cluster else { return Ok(Vec::new()) };
        let Some(node) = cluster.node(self.node).await? else { return Ok(Vec::new()) };
        let (gpus, ..) = self.gpus.observe()?;
        Ok(offers::missing(&node, &gpus, made))
    }

    async fn act(&self, kind: &StepKind, clients: &Clients, plan: &Digest) -> Port<Answer> {
        match kind {
            StepKind::Taint => self.cluster()?.set_taint(self.node, Some(plan)).await?,
            StepKind::Untaint => self.cluster()?.set_taint(self.node, None).await?,
            StepKind::StandDown => self.cluster()?.set_label(self.node, writers::MIG_MANAGER, "false").await?,
            StepKind::PauseClients { units, commands } => self.pause(clients, units, commands, plan).await?,
            StepKind::ResumeClients { units, commands } => self.resume(clients, units, commands).await?,
            StepKind::RefreshClients => self.cluster()?.restart_clients(self.node).await?,
            StepKind::RefreshDevices { files } => self.host.refresh_devices(files).await?,
            StepKind::EvictPod { .. } => return self.remove(kind, false).await,
            StepKind::StopUnit { unit } => self.host.stop_unit(unit, &[]).await?,
            StepKind::StartUnit { unit, env, slots } => {
                self.host.start_unit(unit, env, &self.uuids(slots)?).await?;
            }
            // Who never came up, or has ended by itself, may have nothing that could be drained.
            StepKind::DrainCommand { workload } => {
                if self.run(workload, CommandPhase::Drained, &[]).await? != 0 {
                    self.command(workload, CommandPhase::Drain, &[]).await?;
                }
            }
            StepKind::ResumeCommand { workload, slots } => {
                self.command(workload, CommandPhase::Resume, slots).await?;
            }
            StepKind::TerminateProcess { pid, .. } => self.host.terminate(*pid).await?,
            StepKind::DestroyInstance { slot } => self.gpus.destroy(slot)?,
            StepKind::CreateInstance { slot, compute } => {
                self.gpus.create(slot, compute)?;
            }
            StepKind::SetMigMode { gpu, enabled } => self.set_mode(gpu, *enabled)?,
            StepKind::ResetGpu { gpu } => {
                if !in_force(&self.gpus.mode(gpu)?) {
                    self.host.reset_gpu(&self.gpus.pci(gpu)?).await?;
                }
            }
            // The cluster's steps are no node's.
            StepKind::BindWorkload { .. } | StepKind::UnbindWorkload { .. } => {}
            StepKind::AwaitGone { .. } | StepKind::AwaitReady { .. } => {}
        }
        Ok(Answer::Done)
    }

    /// Whether what would be taken back is so already: whoever was started meanwhile keeps what it was given, and a
    /// mode that came into force is no pending one any more.
    async fn stands(&self, kind: &StepKind) -> Port<bool> {
        match kind {
            StepKind::StartUnit { unit, slots, .. } => {
                let units = self.host.units(&BTreeSet::from([unit.clone()])).await?;
                Ok(units.get(unit).is_none_or(|state| state.active) || self.lacks(slots)?)
            }
            StepKind::ResumeCommand { slots, .. } => self.lacks(slots),
            StepKind::SetMigMode { gpu, .. } => Ok(in_force(&self.gpus.mode(gpu)?)),
            _ => Ok(false),
        }
    }

    /// Whether one of these is not there any more: what lay on it can't go back, and is given others by the next plan.
    fn lacks(&self, slots: &[SlotRef]) -> Port<bool> {
        for slot in slots {
            if self.gpus.users(slot)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn command(&self, workload: &str, phase: CommandPhase, slots: &[SlotRef]) -> Port<()> {
        succeeded(self.run(workload, phase, slots).await?, phase, workload)
    }

    /// Switches a mode. Where no reset follows, a mode that is only pending is set back: it must not strike at the
    /// next reboot.
    fn set_mode(&self, gpu: &str, enabled: bool) -> Port<()> {
        let before = self.gpus.mode(gpu)?;
        if let Mode::Pending(code) = self.gpus.set_mode(gpu, enabled)?
            && before.resetless
        {
            let back = self.gpus.set_mode(gpu, before.current);
            let what = if back == Ok(Mode::Active) { "was set back" } else { "could not be set back" };
            return Err(PortError {
                transient: true,
                code: code.to_string(),
                message: format!("the MIG mode of {gpu} would only be pending, and {what}"),
            });
        }
        Ok(())
    }
}

fn succeeded(status: i32, phase: CommandPhase, of: &str) -> Port<()> {
    match status {
        0 => Ok(()),
        status => Err(PortError {
            transient: false,
            code: format!("exit status {status}"),
            message: format!("the {phase:?} command of {of} failed"),
        }),
    }
}
