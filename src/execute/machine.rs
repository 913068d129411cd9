//! The executor as a state machine without I/O: `next(event, now)` gives an effect, a wait, or the end.
//!
//! For each step, in order: a journal record before; the guards, by a fresh look at what they depend on; the act;
//! the wait until it took; a journal record after. What fails is tried again with backoff where that may help; then
//! what was tainted or paused is taken back, and the outcome says which step failed with which code. The machine has
//! no choice of its own: every step says all that it does.

use jiff::{SignedDuration, Timestamp};

use crate::model::observed::{Known, User};
use crate::model::plan::Guard;
use crate::model::policy::Clients;
use crate::model::{Digest, NodePlan, Policy, Step, StepKind};
use crate::plan::{cost, places, window};
use crate::ports::{Eviction, PortError};

use super::awaited::{self, Awaited, Late};
use super::crowds::Crowds;
use super::journal::{Entry, Record};
use super::phase::{Phase, Undoing};
use super::protocol::{Answer, Command, Effect, Event, News, Outcome, Rollback};
use super::{room, undo};

/// How often something that ends by itself is looked at.
const POLL_S: i64 = 1;
/// kubectl drain's pause after a 429 without Retry-After.
const BUDGET_RETRY_S: i64 = 5;
/// Grace for what has no time limit of its own: a GPU that says "in use" after its last process ended does so for
/// tenths of a second (FAR, JPDC 2025).
const SETTLE_S: i64 = 30;

/// The machine for one node's plan.
#[derive(Clone, Debug)]
pub struct Machine {
    plan: NodePlan,
    policy: Policy,
    at: usize,
    phase: Phase,
    attempts: u32,
    /// Evictions that are still to be asked about, the next one last.
    asks: Vec<(u32, StepKind)>,
    /// Looks that the guards of the step at hand still want, the next one last.
    looks: Vec<Effect>,
    deadline: Option<Timestamp>,
    /// The workloads whose pods are moved, as they were before.
    crowds: Crowds,
    undo: Vec<StepKind>,
    undoing: Undoing,
    outcome: Outcome,
    interrupted: bool,
    /// Whether the node shares budgets with others, who must know that it is under way.
    shares: bool,
    /// What has happened since it was last taken.
    pub news: Vec<News>,
}

impl Machine {
    /// A machine for the steps of a plan that do not wait.
    pub fn new(plan: &NodePlan, policy: &Policy) -> Self {
        Machine::owing(plan, policy, Vec::new())
    }

    /// The same, where something is to be taken back in any case: of a run that was cut short.
    pub fn owing(plan: &NodePlan, policy: &Policy, undo: Vec<StepKind>) -> Self {
        let mut plan = plan.clone();
        plan.steps.retain(|step| step.waits.is_none());
        let evicts = |step: &&Step| matches!(step.kind, StepKind::EvictPod { .. });
        let asks = plan.steps.iter().rev().filter(evicts).map(|step| (step.id, step.kind.clone())).collect();
        Machine {
            plan,
            policy: policy.clone(),
            at: 0,
            phase: Phase::Ending,
            attempts: 0,
            asks,
            looks: Vec::new(),
            deadline: None,
            crowds: Crowds::default(),
            undo,
            undoing: Undoing::Due,
            outcome: Outcome::Done,
            interrupted: false,
            shares: false,
            news: Vec::new(),
        }
    }

    /// Looks before each step that disturbs somebody whether it is still the node's turn.
    pub fn sharing(mut self, shares: bool) -> Self {
        self.shares = shares;
        self
    }

    /// The identity of its plan.
    pub fn plan(&self) -> &Digest {
        &self.plan.fingerprint
    }

    /// The clients of the policy that it keeps to.
    pub fn clients(&self) -> &Clients {
        &self.policy.clients
    }

    /// Asks for a stop: the step in hand is finished first.
    pub fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Whether a stop ends the wait at hand. What could not be taken back just now is waited for all the same.
    pub fn stops(&self) -> bool {
        matches!(&self.phase, Phase::Pausing(back) if **back != Phase::Undoing)
    }

    /// What comes next.
    pub fn next(&mut self, event: Event, now: Timestamp) -> Command {
        match event {
            Event::Start => self.ask(now),
            Event::Woke => {
                if let Phase::Pausing(back) = &self.phase {
                    self.phase = (**back).clone();
                }
                // A stop does not wait: the act was not done, or is done and only its effect is awaited.
                let waited = matches!(self.phase, Phase::Asking | Phase::Beginning | Phase::Guarding | Phase::Watching);
                if self.interrupted && waited {
                    self.outcome = Outcome::Interrupted;
                    return self.unwind(now);
                }
                self.resume(now)
            }
            Event::Answer(answer) => self.answer(answer, now),
            Event::Late(effect) => self.answer(Err(late(&effect)), now),
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
        self.news.push(News::Began(step.id));
        self.begin(now)
    }

    /// Asks about the next eviction, so that one that is refused is known before anybody is disturbed. What a budget
    /// forbids only for now is waited for when its turn comes.
    fn ask(&mut self, now: Timestamp) -> Command {
        match self.asks.last() {
            Some((_, kind)) => {
                self.phase = Phase::Asking;
                Command::Do(Effect::Ask(kind.clone()))
            }
            None => self.enter(now),
        }
    }

    fn begin(&mut self, now: Timestamp) -> Command {
        let Some(Step { id, kind, .. }) = self.step().cloned() else { return self.unwind(now) };
        self.phase = Phase::Beginning;
        let owes = undo::owes(&self.plan, &kind).map(Box::new);
        self.record(Entry::Begin { step: id, what: Box::new(kind), owes }, now)
    }

    /// Does again what the phase is about, after a pause.
    fn resume(&mut self, now: Timestamp) -> Command {
        match self.phase {
            Phase::Asking => self.ask(now),
            Phase::Beginning => self.begin(now),
            Phase::Guarding => self.guard(now),
            Phase::Acting => self.act(),
            Phase::Watching => self.watch(now),
            Phase::Ending => self.ended(now),
            Phase::Undoing | Phase::Closing | Phase::Pausing(_) => self.undo_next(now),
        }
    }

    fn answer(&mut self, answer: Result<Answer, PortError>, now: Timestamp) -> Command {
        match self.phase.clone() {
            Phase::Asking => match answer {
                Ok(_) => {
                    self.attempts = 0;
                    self.asks.pop();
                    self.ask(now)
                }
                Err(error) if error.transient => self.retry(error, now),
                Err(error) => {
                    let step = self.asks.last().map_or(0, |(step, _)| *step);
                    self.outcome = Outcome::Held { step, why: format!("it would be refused: {error}") };
                    self.unwind(now)
                }
            },
            Phase::Beginning => match answer {
                Ok(_) => {
                    self.attempts = 0;
                    self.guard(now)
                }
                // Nothing was done: what can't be recorded must not be begun.
                Err(error) => self.retry(error, now),
            },
            Phase::Guarding => match answer {
                Ok(answer) => self.judge(answer, now),
                Err(error) if !error.transient && self.looks.last() == Some(&Effect::LookStopped) => {
                    self.hold(format!("whether somebody stopped the node can't be known: {error}"), now)
                }
                Err(error) => self.retry(error, now),
            },
            Phase::Acting => match answer {
                Ok(Answer::Evicted(Eviction::TooMany { retry_after_s })) => self.wait_for_budget(retry_after_s, now),
                Ok(_) => {
                    self.did();
                    self.attempts = 0;
                    self.watch(now)
                }
                Err(error) => self.retry(error, now),
            },
            Phase::Watching => match answer {
                // What passes now and then in a long wait is no failure; the wait itself has its limit.
                Ok(answer) => {
                    self.attempts = 0;
                    self.seen(&answer, now)
                }
                Err(error) => self.retry(error, now),
            },
            Phase::Ending => match answer {
                Ok(_) => {
                    self.at += 1;
                    self.enter(now)
                }
                Err(error) => self.retry(error, now),
            },
            Phase::Undoing => match (self.undoing, answer) {
                // A journal that can't be written must not keep a node tainted: taking back harms nobody.
                (Undoing::Due, _) => {
                    self.undoing = Undoing::Begun;
                    self.undo_next(now)
                }
                (Undoing::Begun, Ok(_)) => {
                    self.undoing = Undoing::Done;
                    self.undo_next(now)
                }
                (Undoing::Begun, Err(error)) => {
                    self.attempts += 1;
                    if error.transient && self.attempts <= self.policy.failure.retries {
                        self.phase = Phase::Pausing(Box::new(Phase::Undoing));
                        return Command::Wait(later(now, backoff_s(self.attempts)));
                    }
                    self.not_undone(error.to_string());
                    self.undone(now)
                }
                (Undoing::Done, _) => self.undone(now),
            },
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
            StepKind::TerminateProcess { pid, name } => {
                vec![Effect::LookProcess { pid: *pid, name: name.clone() }]
            }
            StepKind::StopUnit { .. } | StepKind::DrainCommand { .. } => {
                let places = room::places(&self.plan, self.at, &step.kind);
                places.into_iter().map(Effect::LookSlot).collect()
            }
            // Who may be evicted may have said otherwise meanwhile, and its place be taken.
            StepKind::EvictPod { .. } => vec![Effect::LookCluster],
            _ => Vec::new(),
        };
        if self.shares && step.disruptive && places::guards(&step.kind) {
            // The last look: what it shows grows old.
            self.looks.insert(0, Effect::LookTurn);
        }
        self.looks.push(Effect::LookStopped);
        self.look()
    }

    /// Takes the next look of the guards; when all were taken, acts.
    fn look(&mut self) -> Command {
        match self.looks.last().cloned() {
            Some(effect) => Command::Do(effect),
            None => self.act(),
        }
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
            (_, Answer::Turn(None)) => self.look(),
            (_, Answer::Turn(Some(why))) => self.hold(why, now),
            (kind, Answer::Users(users)) if mover.is_some() => match users {
                // It may go where it is, or where somebody else leaves in the same plan.
                Some(Known::Known(users)) if users.iter().all(|u| room::leaves(&self.plan, u)) => self.look(),
                _ => self.hold(format!("the place for what `{}` moves is gone", kind.word()), now),
            },
            (StepKind::DestroyInstance { .. }, Answer::Users(None)) => self.skip(now),
            // It ended, and its number may be another's by now.
            (StepKind::TerminateProcess { .. }, Answer::Holds(false)) => self.skip(now),
            (StepKind::TerminateProcess { .. }, Answer::Holds(true)) => self.look(),
            (_, Answer::Users(Some(Known::Unknown))) => {
                self.in_use("who uses it could not be observed, and unknown means in use".to_owned(), now)
            }
            (_, Answer::Users(Some(Known::Known(users)))) if !users.is_empty() => {
                let names: Vec<String> = users.iter().map(ToString::to_string).collect();
                self.in_use(format!("in use by {}", names.join(", ")), now)
            }
            (_, Answer::Cluster(cluster)) => {
                self.crowds.remember(room::awaited(&self.plan, self.at), &cluster);
                match room::objection(&self.plan, self.at, &step, &self.policy, &cluster) {
                    Some(why) => self.hold(why, now),
                    None => self.look(),
                }
            }
            (_, Answer::Users(Some(Known::Known(_))) | Answer::Stopped(None)) => self.look(),
            (_, Answer::Stopped(Some(by))) => {
                self.outcome = Outcome::Suspended(by);
                self.unwind(now)
            }
            // What was not answered is not known, and unknown means in use.
            (kind, _) => self.hold(format!("what `{}` depends on could not be looked at", kind.word()), now),
        }
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
                    self.undo.extend(undo::owes(&self.plan, &kind).filter(|undo| !self.undo.contains(undo)));
                    Command::Do(Effect::Act(kind))
                }
            },
            None => Command::Done(self.outcome.clone()),
        }
    }

    /// Forgets what a step that is done has settled.
    fn did(&mut self) {
        let Some(step) = self.step() else { return };
        let done = step.kind.clone();
        self.undo.retain(|undo| !undo::settles(&done, undo));
    }

    /// Looks whether what was asked for has come about.
    fn watch(&mut self, now: Timestamp) -> Command {
        self.phase = Phase::Watching;
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        match &step.kind {
            StepKind::AwaitGone { .. }
            | StepKind::AwaitReady { .. }
            | StepKind::DrainCommand { .. }
            | StepKind::ResumeCommand { .. }
            | StepKind::StandDown
            | StepKind::Taint
            | StepKind::PauseClients { .. } => Command::Do(Effect::look(&step.kind)),
            StepKind::ResumeClients { .. } | StepKind::RefreshClients => {
                Command::Do(Effect::LookAdvertised(room::made(&self.plan, self.at)))
            }
            _ => self.end(now),
        }
    }

    fn seen(&mut self, answer: &Answer, now: Timestamp) -> Command {
        let Some(step) = self.step().cloned() else { return self.unwind(now) };
        let made = !room::made(&self.plan, self.at).is_empty();
        let (drain_s, crowds) = (self.policy.drain.timeout_s, &mut self.crowds);
        let awaited = awaited::awaited(&step.kind, answer, drain_s, made, crowds, now);
        let Some(Awaited { missing, timeout_s, late }) = awaited else {
            return self.fail(format!("what `{}` waits for could not be looked at", step.kind.word()), now);
        };
        if missing.is_empty() {
            if let StepKind::AwaitReady { .. } = step.kind {
                self.crowds.forget();
            }
            return self.end(now);
        }
        let limit = i64::try_from(timeout_s).unwrap_or(i64::MAX);
        let until = *self.deadline.get_or_insert(later(now, limit));
        if now >= until {
            let why = format!("not done after {timeout_s} s: {}", missing.join(", "));
            return match late {
                Late::Fails => self.fail(why, now),
                Late::Holds => self.hold(why, now),
                Late::Ends => self.end(now),
            };
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
        self.attempts = 0;
        self.ended(now)
    }

    fn end(&mut self, now: Timestamp) -> Command {
        self.news.push(News::Done(self.id()));
        self.attempts = 0;
        self.ended(now)
    }

    /// Records that the step is done.
    fn ended(&mut self, now: Timestamp) -> Command {
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
            self.outcome = Outcome::Failed { step: self.id(), why, left: Vec::new(), rollback: Rollback::None };
        }
        self.unwind(now)
    }

    /// Takes back what was done, the last first, then closes the journal.
    fn unwind(&mut self, now: Timestamp) -> Command {
        let recorded = matches!(self.phase, Phase::Beginning | Phase::Guarding);
        let owed = self.step().filter(|_| recorded).and_then(|step| undo::owes(&self.plan, &step.kind));
        if let Some(owed) = owed.filter(|owed| !self.undo.contains(owed)) {
            // It was recorded and never done: the next start must not take back what is not there.
            self.undo.push(owed);
            self.undoing = Undoing::Done;
        }
        self.phase = Phase::Undoing;
        self.attempts = 0;
        self.undo_next(now)
    }

    /// What could not be taken back makes a failure of everything.
    fn not_undone(&mut self, error: String) {
        if let Outcome::Failed { left, .. } = &mut self.outcome {
            return left.push(error);
        }
        let why = match &self.outcome {
            Outcome::Held { why, .. } => why.clone(),
            Outcome::Suspended(by) => format!("the node was suspended {by}"),
            _ => "it was interrupted".to_owned(),
        };
        self.outcome = Outcome::Failed { step: self.id(), why, left: vec![error], rollback: Rollback::None };
    }

    /// Leaves what was being taken back behind.
    fn undone(&mut self, now: Timestamp) -> Command {
        self.undo.pop();
        self.undoing = Undoing::Due;
        self.attempts = 0;
        self.undo_next(now)
    }

    fn undo_next(&mut self, now: Timestamp) -> Command {
        match (self.undo.last().cloned(), self.undoing) {
            (Some(kind), Undoing::Due) => {
                self.news.push(News::Undoes(kind.clone()));
                self.record(Entry::Undo { what: Box::new(kind) }, now)
            }
            (Some(kind), Undoing::Begun) => Command::Do(Effect::Undo(kind)),
            (Some(kind), Undoing::Done) => self.record(Entry::Undone { what: Box::new(kind) }, now),
            (None, _) => {
                self.phase = Phase::Closing;
                let entry = match &self.outcome {
                    Outcome::Failed { step, why, .. } => Entry::Failed { step: *step, why: why.clone() },
                    Outcome::Done | Outcome::Held { .. } | Outcome::Suspended(_) | Outcome::Interrupted => Entry::Over,
                };
                self.record(entry, now)
            }
        }
    }
}

/// Doubling from two seconds, for about a minute at the most.
pub(super) fn backoff_s(attempts: u32) -> i64 {
    1i64 << attempts.min(6)
}

/// What never answered may have been done or not; it says what shall be, so it can be asked for again.
fn late(effect: &Effect) -> PortError {
    PortError {
        transient: true,
        code: format!("no answer for {} s", effect.limit_s()),
        message: format!("`{}` hangs", effect.word()),
    }
}

pub(super) fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
