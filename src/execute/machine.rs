//! The executor as a state machine without I/O: `next(event, now)` gives an effect, a wait, or the end.
//!
//! For each step, in order: a journal record before; the guards, by a fresh look at what they depend on; the act;
//! the wait until it took; a journal record after. What fails is tried again with backoff where that may help; then
//! what was tainted or paused is taken back, and the outcome says which step failed with which code. The machine has
//! no choice of its own: every step says all that it does.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::model::observed::{Known, ObservedCluster, PodPhase, User};
use crate::model::plan::{Guard, SlotRef};
use crate::model::policy::Clients;
use crate::model::{NodePlan, Policy, Step, StepKind};
use crate::plan::{cost, window};
use crate::ports::{Eviction, PortError};

use super::journal::{Entry, Record};
use super::protocol::{Answer, Command, Effect, Event, News, Outcome};

/// How often something that ends by itself is looked at.
const POLL_S: i64 = 1;
/// kubectl drain's pause after a 429 without Retry-After.
const BUDGET_RETRY_S: i64 = 5;
/// Grace for what has no time limit of its own: a GPU that says "in use" after its last process ended does so for
/// tenths of a second (FAR, JPDC 2025).
const SETTLE_S: i64 = 30;

/// Where the machine stands within a step.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// The record before is being written.
    Beginning,
    /// A guard's look is under way.
    Guarding,
    /// The act is under way.
    Acting,
    /// The effect of the act is awaited by looks.
    Watching,
    /// Waiting before the guards, the act or the look is tried again.
    Pausing(Box<Phase>),
    /// The record after is being written.
    Ending,
    /// What was done is being taken back, the last first.
    Undoing,
    /// The last record is being written.
    Closing,
}

/// The machine for one node's plan.
#[derive(Clone, Debug)]
pub struct Machine {
    plan: NodePlan,
    policy: Policy,
    at: usize,
    phase: Phase,
    attempts: u32,
    /// Looks that the guards of the step at hand still want, the next one last.
    looks: Vec<Effect>,
    deadline: Option<Timestamp>,
    undo: Vec<StepKind>,
    /// Whether the record before the undoing at hand is written.
    undo_recorded: bool,
    outcome: Outcome,
    interrupted: bool,
    /// What has happened since it was last taken.
    pub news: Vec<News>,
}

impl Machine {
    /// A machine for the steps of a plan that do not wait.
    pub fn new(plan: &NodePlan, policy: &Policy) -> Self {
        let mut plan = plan.clone();
        plan.steps.retain(|step| step.waits.is_none());
        Machine {
            plan,
            policy: policy.clone(),
            at: 0,
            phase: Phase::Ending,
            attempts: 0,
            looks: Vec::new(),
            deadline: None,
            undo: Vec::new(),
            undo_recorded: false,
            outcome: Outcome::Done,
            interrupted: false,
            news: Vec::new(),
        }
    }

    /// The clients of the policy that it keeps to.
    pub fn clients(&self) -> &Clients {
        &self.policy.clients
    }

    /// Asks for a stop: the step in hand is finished first.
    pub fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// What comes next.
    pub fn next(&mut self, event: Event, now: Timestamp) -> Command {
        match event {
            Event::Start => self.enter(now),
            Event::Woke => match self.phase.clone() {
                Phase::Pausing(back) => {
                    self.phase = *back;
                    self.resume(now)
                }
                _ => self.resume(now),
            },
            Event::Answer(answer) => self.answer(answer, now),
        }
    }

    fn step(&self) -> Option<&Step> {
        self.plan.steps.get(self.at)
    }

    fn id(&self) -> u32 {
        self.step().map_or(0, |s| s.id)
    }

    fn record(&self, entry: Entry, now: Timestamp) -> Command {
        let record =
            Record { plan: self.plan.fingerprint.clone(), node: self.plan.name.clone(), at: now.to_string(), entry };
        Command::Do(Effect::Journal(Box::new(record)))
    }

    /// Enters the step at hand, or ends.
    fn enter(&mut self, now: Timestamp) -> Command {
        if self.interrupted {
            self.outcome = Outcome::Interrupted;
            return self.unwind(now);
        }
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        self.attempts = 0;
        self.deadline = None;
        self.phase = Phase::Beginning;
        self.news.push(News::Began(step.id));
        self.record(Entry::Begin { step: step.id, what: step.kind }, now)
    }

    /// Does again what the phase is about, after a pause.
    fn resume(&mut self, now: Timestamp) -> Command {
        match self.phase {
            Phase::Guarding => self.guard(now),
            Phase::Acting => self.act(),
            Phase::Watching => self.watch(now),
            Phase::Undoing => self.undo_next(now),
            _ => self.enter(now),
        }
    }

    fn answer(&mut self, answer: Result<Answer, PortError>, now: Timestamp) -> Command {
        match self.phase.clone() {
            Phase::Beginning => match answer {
                Ok(_) => self.guard(now),
                // Nothing was done: what can't be recorded must not be begun.
                Err(error) => self.fail(format!("the journal can't be written: {error}"), now),
            },
            Phase::Guarding => match answer {
                Ok(answer) => self.judge(answer, now),
                Err(error) => self.retry(error, now),
            },
            Phase::Acting => match answer {
                Ok(Answer::Evicted(Eviction::TooMany { retry_after_s })) => self.wait_for_budget(retry_after_s, now),
                Ok(_) => {
                    self.did();
                    self.watch(now)
                }
                Err(error) => self.retry(error, now),
            },
            Phase::Watching => match answer {
                Ok(answer) => self.seen(&answer, now),
                Err(error) => self.retry(error, now),
            },
            Phase::Ending => match answer {
                Ok(_) => {
                    self.at += 1;
                    self.enter(now)
                }
                Err(error) => self.fail(format!("the journal can't be written: {error}"), now),
            },
            Phase::Undoing if !self.undo_recorded => {
                // A journal that can't be written must not keep a node tainted: taking back harms nobody.
                self.undo_recorded = true;
                self.undo_next(now)
            }
            Phase::Undoing => {
                if let Err(error) = answer {
                    self.attempts += 1;
                    if error.transient && self.attempts <= self.policy.failure.retries {
                        self.phase = Phase::Pausing(Box::new(Phase::Undoing));
                        return Command::Wait(later(now, backoff_s(self.attempts)));
                    }
                    self.not_undone(error.to_string());
                }
                self.undo.pop();
                self.undo_recorded = false;
                self.attempts = 0;
                self.undo_next(now)
            }
            Phase::Closing => Command::Done(self.outcome.clone()),
            Phase::Pausing(_) => Command::Wait(now),
        }
    }

    /// Looks at what the step's guards depend on; without a look to take, acts.
    fn guard(&mut self, now: Timestamp) -> Command {
        self.phase = Phase::Guarding;
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        if step.guards.contains(&Guard::Window) {
            let rest = self.plan.steps.iter().skip(self.at).filter(|s| s.disruptive);
            let rest: u64 = rest.map(|s| cost::step_ms(&s.kind)).sum();
            let open = self.policy.window.as_ref().is_none_or(|w| window::admits(w, now, cost::seconds(rest)));
            if !open {
                return self.hold("the window shuts before the rest of the plan would be done".to_owned(), now);
            }
        }
        self.looks = match &step.kind {
            StepKind::DestroyInstance { slot } => vec![Effect::LookSlot(slot.clone())],
            // A mode that is right and only pending otherwise disturbs nobody, and bears no guard.
            StepKind::SetMigMode { gpu, .. } | StepKind::ResetGpu { gpu } if step.guards.contains(&Guard::Unused) => {
                vec![Effect::LookGpu(gpu.clone())]
            }
            StepKind::StopUnit { .. } | StepKind::DrainCommand { .. } => self.places(&step.kind),
            _ if step.guards.contains(&Guard::Capacity) => vec![Effect::LookCluster],
            _ => Vec::new(),
        };
        self.look()
    }

    /// Takes the next look of the guards; when all were taken, acts.
    fn look(&mut self) -> Command {
        match self.looks.last().cloned() {
            Some(effect) => Command::Do(effect),
            None => self.act(),
        }
    }

    /// Looks at the instances that a unit or command is to be given, unless this plan has still to make them.
    fn places(&self, kind: &StepKind) -> Vec<Effect> {
        let rest = || self.plan.steps.iter().skip(self.at).map(|s| &s.kind);
        let slots = rest().find_map(|later| match (kind, later) {
            (StepKind::StopUnit { unit }, StepKind::StartUnit { unit: u, slots, .. }) if u == unit => Some(slots),
            (StepKind::DrainCommand { workload }, StepKind::ResumeCommand { workload: w, slots }) if w == workload => {
                Some(slots)
            }
            _ => None,
        });
        let coming =
            |slot: &&SlotRef| rest().any(|k| matches!(k, StepKind::CreateInstance { slot: s, .. } if s == *slot));
        slots.into_iter().flatten().filter(|slot| !coming(slot)).cloned().map(Effect::LookSlot).collect()
    }

    /// Judges what a guard's look has shown.
    fn judge(&mut self, answer: Answer, now: Timestamp) -> Command {
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        let mover = match &step.kind {
            StepKind::StopUnit { unit } => Some(User::Unit(unit.clone())),
            StepKind::DrainCommand { workload } => Some(User::Command(workload.clone())),
            _ => None,
        };
        self.looks.pop();
        match (&step.kind, answer) {
            (kind, Answer::Users(users)) if mover.is_some() => match users {
                // It may go where it is, or where somebody else leaves in the same plan.
                Some(Known::Known(users)) if users.iter().all(|u| self.leaves(u)) => self.look(),
                _ => self.hold(format!("the place for what `{}` moves is gone", kind.word()), now),
            },
            (StepKind::DestroyInstance { .. }, Answer::Users(None)) => self.skip(now),
            (_, Answer::Users(Some(Known::Unknown))) => {
                self.in_use("who uses it could not be observed, and unknown means in use".to_owned(), now)
            }
            (_, Answer::Users(Some(Known::Known(users)))) if !users.is_empty() => {
                let names: Vec<String> = users.iter().map(ToString::to_string).collect();
                self.in_use(format!("in use by {}", names.join(", ")), now)
            }
            (kind, Answer::Cluster(cluster)) => match self.no_room(kind, &cluster) {
                Some(why) => self.hold(why, now),
                None => self.look(),
            },
            (_, Answer::Users(Some(Known::Known(_)))) => self.look(),
            // What was not answered is not known, and unknown means in use.
            (kind, _) => self.hold(format!("what `{}` depends on could not be looked at", kind.word()), now),
        }
    }

    /// Why there is no place for what the step moves: neither free now, nor made by a later step of this plan.
    fn no_room(&self, kind: &StepKind, cluster: &ObservedCluster) -> Option<String> {
        let StepKind::EvictPod { namespace, pod, uid, .. } = kind else { return None };
        let found = cluster.pods.iter().find(|p| p.namespace == *namespace && p.name == *pod && p.uid == *uid)?;
        if matches!(found.phase, PodPhase::Terminating | PodPhase::Ended) {
            return None;
        }
        let mut coming: BTreeMap<String, u32> = BTreeMap::new();
        for step in self.plan.steps.iter().skip(self.at) {
            if let StepKind::CreateInstance { slot, .. } = &step.kind {
                *coming.entry(slot.profile.resource()).or_default() += 1;
            }
        }
        // A pod that keeps some of its instances here finds those again.
        let kept = self.plan.gpus.iter().flat_map(|gpu| gpu.keep.iter()).filter(|i| {
            let user = User::Pod { namespace: namespace.clone(), name: pod.clone() };
            i.users.as_ref().is_some_and(|users| users.contains(&user))
        });
        for instance in kept {
            *coming.entry(instance.profile.resource()).or_default() += 1;
        }
        let fits = |free: &BTreeMap<String, u32>, more: bool| {
            found.requests.iter().all(|(resource, n)| {
                let later = if more { coming.get(resource).copied().unwrap_or(0) } else { 0 };
                free.get(resource).copied().unwrap_or(0) + later >= *n
            })
        };
        let none = BTreeMap::new();
        let here = cluster.free.get(&self.plan.name).unwrap_or(&none);
        let daemon = found.owner.as_ref().is_some_and(|owner| owner.kind == "DaemonSet");
        let elsewhere = !daemon && cluster.free.iter().any(|(name, free)| *name != self.plan.name && fits(free, false));
        let room = elsewhere || fits(here, true);
        (!room).then(|| format!("there is no room any more for pod {namespace}/{pod}"))
    }

    /// Whether a step of this plan takes a user off its instances.
    fn leaves(&self, user: &User) -> bool {
        self.plan.steps.iter().any(|step| match (&step.kind, user) {
            (StepKind::StopUnit { unit }, User::Unit(name)) => unit == name,
            (StepKind::DrainCommand { workload }, User::Command(name)) => workload == name,
            (StepKind::EvictPod { namespace, pod, .. }, User::Pod { namespace: n, name }) => {
                namespace == n && pod == name
            }
            (StepKind::TerminateProcess { pid, .. }, User::Process { pid: p, .. }) => pid == p,
            _ => false,
        })
    }

    fn in_use(&mut self, why: String, now: Timestamp) -> Command {
        // A process that ends keeps its instance for tenths of a second: look again before giving up.
        let until = *self.deadline.get_or_insert(later(now, SETTLE_S));
        if now < until {
            self.news.push(News::Waits(self.id(), why));
            return self.pause(Phase::Guarding, later(now, POLL_S));
        }
        self.hold(why, now)
    }

    fn act(&mut self) -> Command {
        self.phase = Phase::Acting;
        match self.step() {
            Some(step) => match &step.kind {
                StepKind::AwaitGone { .. } | StepKind::AwaitReady { .. } => {
                    let kind = step.kind.clone();
                    self.phase = Phase::Watching;
                    Command::Do(Effect::look(&kind))
                }
                kind => {
                    let kind = kind.clone();
                    // An act that fails may have taken effect, or half of it: what undoes it does no harm.
                    self.owe(&kind);
                    Command::Do(Effect::Act(kind))
                }
            },
            None => Command::Done(self.outcome.clone()),
        }
    }

    /// Remembers what must be taken back if the plan stops here.
    fn owe(&mut self, kind: &StepKind) {
        let undo = match kind {
            StepKind::Taint => StepKind::Untaint,
            StepKind::PauseClients { units, commands } => {
                StepKind::ResumeClients { units: units.clone(), commands: commands.clone() }
            }
            StepKind::RefreshClients => StepKind::ResumeClients { units: Vec::new(), commands: Vec::new() },
            // Where a reset must follow, the mode may be pending until then.
            StepKind::SetMigMode { gpu, enabled } if self.resets(gpu) => {
                StepKind::SetMigMode { gpu: gpu.clone(), enabled: !enabled }
            }
            StepKind::StopUnit { unit } => {
                let env = self.plan.steps.iter().find_map(|s| match &s.kind {
                    StepKind::StartUnit { unit: u, env, .. } if u == unit => Some(env.clone()),
                    _ => None,
                });
                let slots = self.held(&User::Unit(unit.clone()));
                StepKind::StartUnit { unit: unit.clone(), env: env.unwrap_or_default(), slots }
            }
            StepKind::DrainCommand { workload } => StepKind::ResumeCommand {
                workload: workload.clone(),
                slots: self.held(&User::Command(workload.clone())),
            },
            _ => return,
        };
        if !self.undo.contains(&undo) {
            self.undo.push(undo);
        }
    }

    fn resets(&self, gpu: &str) -> bool {
        self.plan.steps.iter().any(|s| matches!(&s.kind, StepKind::ResetGpu { gpu: g } if g == gpu))
    }

    /// The instances that a user held when the plan was made.
    fn held(&self, user: &User) -> Vec<SlotRef> {
        let gpus = self.plan.gpus.iter();
        let all = gpus.flat_map(|gpu| gpu.keep.iter().chain(&gpu.destroy).map(move |i| (gpu, i)));
        all.filter(|(_, i)| i.users.as_ref().is_some_and(|users| users.contains(user)))
            .map(|(gpu, i)| SlotRef { gpu: gpu.uuid.clone(), profile: i.profile, placement: i.placement() })
            .collect()
    }

    /// Forgets what a step that is done has settled.
    fn did(&mut self) {
        let Some(step) = self.step() else { return };
        let done = step.kind.clone();
        self.undo.retain(|undo| match (&done, undo) {
            (StepKind::Untaint, StepKind::Untaint) => false,
            (StepKind::ResumeClients { .. } | StepKind::RefreshClients, StepKind::ResumeClients { .. }) => false,
            (StepKind::ResetGpu { gpu }, StepKind::SetMigMode { gpu: g, .. }) => g != gpu,
            (StepKind::StartUnit { unit, .. }, StepKind::StartUnit { unit: u, .. }) => u != unit,
            (StepKind::ResumeCommand { workload, .. }, StepKind::ResumeCommand { workload: w, .. }) => w != workload,
            // What lay on the instance can't go back there.
            (
                StepKind::DestroyInstance { slot },
                StepKind::StartUnit { slots, .. } | StepKind::ResumeCommand { slots, .. },
            ) => !slots.contains(slot),
            _ => true,
        });
    }

    /// Looks whether what was asked for has come about.
    fn watch(&mut self, now: Timestamp) -> Command {
        self.phase = Phase::Watching;
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        match &step.kind {
            StepKind::AwaitGone { .. }
            | StepKind::AwaitReady { .. }
            | StepKind::DrainCommand { .. }
            | StepKind::ResumeCommand { .. } => Command::Do(Effect::look(&step.kind)),
            StepKind::PauseClients { commands, .. } if !commands.is_empty() => Command::Do(Effect::look(&step.kind)),
            _ => self.end(now),
        }
    }

    fn seen(&mut self, answer: &Answer, now: Timestamp) -> Command {
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        let (missing, timeout_s) = match (&step.kind, answer) {
            (StepKind::AwaitGone { pods, timeout_s }, Answer::Pods(found)) => {
                let still = pods.iter().filter(|(id, uid)| found.get(*id).is_some_and(|p| p.uid == **uid));
                (still.map(|(id, _)| format!("pod {id}")).collect::<Vec<_>>(), *timeout_s)
            }
            (StepKind::AwaitReady { workloads, timeout_s }, Answer::Cluster(cluster)) => {
                let ready = |key: &str| {
                    let of = |w: &&crate::model::observed::WorkloadState| {
                        format!("{} {}/{}", w.kind, w.namespace, w.name) == key
                    };
                    cluster.workloads.iter().find(of).map(|w| (w.ready, w.replicas))
                };
                let short = workloads.iter().filter(|(key, before)| {
                    // A workload that was deleted or scaled down meanwhile is nobody's to wait for.
                    ready(key).is_some_and(|(ready, replicas)| ready < (**before).min(replicas))
                });
                (short.map(|(key, _)| key.clone()).collect(), *timeout_s)
            }
            (StepKind::DrainCommand { workload } | StepKind::ResumeCommand { workload, .. }, Answer::Holds(holds)) => {
                let missing = if *holds { Vec::new() } else { vec![workload.clone()] };
                (missing, self.policy.drain.timeout_s)
            }
            (StepKind::PauseClients { commands, .. }, Answer::Holds(holds)) => {
                let all = || commands.iter().map(ToString::to_string).collect();
                (if *holds { Vec::new() } else { all() }, self.policy.drain.timeout_s)
            }
            (kind, _) => return self.fail(format!("what `{}` waits for could not be looked at", kind.word()), now),
        };
        if missing.is_empty() {
            return self.end(now);
        }
        let limit = i64::try_from(timeout_s).unwrap_or(i64::MAX);
        let until = *self.deadline.get_or_insert(later(now, limit));
        if now >= until {
            return self.fail(format!("not done after {timeout_s} s: {}", missing.join(", ")), now);
        }
        self.news.push(News::Waits(step.id, format!("waits for {}", missing.join(", "))));
        self.pause(Phase::Watching, later(now, POLL_S))
    }

    fn wait_for_budget(&mut self, retry_after_s: Option<u64>, now: Timestamp) -> Command {
        let limit = i64::try_from(self.policy.drain.timeout_s).unwrap_or(i64::MAX);
        let until = *self.deadline.get_or_insert(later(now, limit));
        if now >= until {
            let why = format!("its disruption budget allowed no eviction for {limit} s");
            return self.hold(why, now);
        }
        self.news.push(News::Waits(self.id(), "its disruption budget allows no eviction now".to_owned()));
        let pause = retry_after_s.and_then(|s| i64::try_from(s).ok()).unwrap_or(BUDGET_RETRY_S).max(1);
        // The window may shut meanwhile, and the place be taken.
        self.pause(Phase::Guarding, later(now, pause))
    }

    fn pause(&mut self, back: Phase, until: Timestamp) -> Command {
        // A stop does not wait: the act was not done, or is done and only its effect is awaited.
        if self.interrupted {
            self.outcome = Outcome::Interrupted;
            return self.unwind(until);
        }
        self.phase = Phase::Pausing(Box::new(back));
        Command::Wait(until)
    }

    fn retry(&mut self, error: PortError, now: Timestamp) -> Command {
        self.attempts += 1;
        if error.transient && self.attempts <= self.policy.failure.retries {
            self.news.push(News::Retries(self.id(), error.to_string()));
            let pause = backoff_s(self.attempts);
            // What was seen before the first try may be seen no more: the guards are asked again.
            let back = if self.phase == Phase::Acting { Phase::Guarding } else { self.phase.clone() };
            return self.pause(back, later(now, pause));
        }
        self.fail(error.to_string(), now)
    }

    fn skip(&mut self, now: Timestamp) -> Command {
        self.did();
        self.news.push(News::Skipped(self.id()));
        self.phase = Phase::Ending;
        self.record(Entry::End { step: self.id() }, now)
    }

    fn end(&mut self, now: Timestamp) -> Command {
        self.news.push(News::Done(self.id()));
        self.phase = Phase::Ending;
        self.record(Entry::End { step: self.id() }, now)
    }

    fn hold(&mut self, why: String, now: Timestamp) -> Command {
        self.outcome = Outcome::Held { step: self.id(), why };
        self.unwind(now)
    }

    fn fail(&mut self, why: String, now: Timestamp) -> Command {
        // A failure while taking back must not hide the first one.
        if self.outcome == Outcome::Done {
            self.outcome = Outcome::Failed { step: self.id(), why, left: Vec::new() };
        }
        self.unwind(now)
    }

    /// Takes back what was done, the last first, then closes the journal.
    fn unwind(&mut self, now: Timestamp) -> Command {
        self.phase = Phase::Undoing;
        self.undo_next(now)
    }

    /// What could not be taken back makes a failure of everything.
    fn not_undone(&mut self, error: String) {
        if let Outcome::Failed { left, .. } = &mut self.outcome {
            return left.push(error);
        }
        let why = match &self.outcome {
            Outcome::Held { why, .. } => why.clone(),
            _ => "it was interrupted".to_owned(),
        };
        self.outcome = Outcome::Failed { step: self.id(), why, left: vec![error] };
    }

    fn undo_next(&mut self, now: Timestamp) -> Command {
        match self.undo.last().cloned() {
            Some(kind) if !self.undo_recorded => {
                self.news.push(News::Undoes(kind.clone()));
                self.record(Entry::Undo { what: kind }, now)
            }
            Some(kind) => Command::Do(Effect::Act(kind)),
            None => {
                self.phase = Phase::Closing;
                let entry = match &self.outcome {
                    Outcome::Failed { step, why, .. } => Entry::Failed { step: *step, why: why.clone() },
                    Outcome::Done | Outcome::Held { .. } | Outcome::Interrupted => Entry::Over,
                };
                self.record(entry, now)
            }
        }
    }
}

/// Doubling from two seconds, for about a minute at the most.
fn backoff_s(attempts: u32) -> i64 {
    1i64 << attempts.min(6)
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
