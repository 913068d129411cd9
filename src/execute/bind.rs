//! Carries out what belongs to no node: workloads are bound, or what was set at them is taken back, one after the other,
//! and each is waited for until its pods are ready again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::drive::within;
use super::journal::{Entry, Record};
use super::turn::{Turn, busy};
use crate::model::observed::WorkloadState;
use crate::model::{
    Bind, Binding, Desired, Digest, Gap, Known, Object, Observed, ObservedCluster, Reserved, Step, StepKind, Target,
};
use crate::plan::places::{Asked, Rolls, Watch};
use crate::plan::{bindings, turns};
use crate::ports::{Clock, Cluster, Journal, Port, PortError};

/// As whom a controller holds a place of the budgets: no node is called so.
const CONTROLLER: &str = "_controller";
/// Whose the journal of what belongs to no node is; no node is called so.
pub const CLUSTER: &str = "";
/// How often what may pass is asked for again, and for how many seconds each time.
const TRIES: u32 = 5;
const ANSWER_S: i64 = 60;
/// How often a rollout is looked at.
const LOOK_S: i64 = 2;

/// What carries them out.
pub struct Hands<'a, C, K> {
    /// The cluster.
    pub cluster: &'a C,
    /// The time.
    pub clock: &'a K,
    /// The tree's revision, which workloads bear.
    pub revision: &'a str,
    /// The plan that the journal tells of.
    pub plan: Digest,
    /// Whether a window has shut since a step was planned.
    pub is_shut: &'a dyn Fn(&Step) -> bool,
}

impl<C, K> fmt::Debug for Hands<'_, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("revision", &self.revision).field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// What is told meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// A step begins.
    Begun(&'a Step),
    /// Its pods are not ready yet, and why: a sentence. Told when it changes.
    Waits(&'a Step, String),
    /// It is done.
    Done(&'a Step),
    /// It failed for good, and why.
    Failed(&'a Step, String),
}

/// How a step went wrong.
enum Wrong {
    /// The cluster refused it: nothing was changed.
    Refused(String),
    /// It was done, and its pods did not become ready.
    NotReady(String),
    /// It was done, and what its pods want is still to be made: not here.
    Unplaced,
}

impl<C: Cluster, K: Clock> Hands<'_, C, K> {
    /// Carries out the steps that wait for nothing, each recorded in the journal before and after. What is refused holds
    /// back what comes after it; a rollout that does not end holds back everything else, which might not end either. So
    /// does one whose pods find no node, which is no failure: the instances may be what is changed next. The steps that
    /// failed, with the reason.
    ///
    /// # Errors
    ///
    /// Where the journal can't be written.
    pub async fn carry<J: Journal>(
        &self,
        steps: &[Step],
        journal: &mut J,
        interrupted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Port<BTreeMap<u32, String>> {
        let mut failed: BTreeMap<u32, String> = BTreeMap::new();
        let held = |step: &Step, failed: &BTreeMap<u32, String>| {
            step.waits.is_some() || step.after.iter().any(|id| failed.contains_key(id))
        };
        if steps.iter().all(|step| held(step, &failed)) || interrupted() {
            return Ok(failed);
        }
        self.written(async |journal: &mut J| journal.clear(), journal).await?;
        for step in steps {
            if held(step, &failed) {
                continue;
            }
            if interrupted() {
                break;
            }
            if (self.is_shut)(step) {
                tell(Told::Waits(step, "the window shuts before it would be done".to_owned()));
                continue;
            }
            match self.cluster.stopped(CLUSTER).await {
                Ok(None) => {}
                Ok(Some(by)) => {
                    tell(Told::Waits(step, format!("suspended {by}")));
                    break;
                }
                // Whoever can't be told to stop does not begin.
                Err(error) => {
                    tell(Told::Failed(step, error.to_string()));
                    failed.insert(step.id, error.to_string());
                    break;
                }
            }
            self.record(journal, Entry::Begin { step: step.id, what: Box::new(step.kind.clone()), owes: None }).await?;
            tell(Told::Begun(step));
            let done = self.step(step, interrupted, tell).await;
            let (why, stop) = match done {
                Ok(()) | Err(Wrong::Unplaced) => {
                    self.record(journal, Entry::End { step: step.id }).await?;
                    tell(Told::Done(step));
                    if done.is_err() {
                        break;
                    }
                    continue;
                }
                Err(Wrong::Refused(why)) => (why, false),
                Err(Wrong::NotReady(why)) => (why, true),
            };
            self.record(journal, Entry::Failed { step: step.id, why: why.clone() }).await?;
            tell(Told::Failed(step, why.clone()));
            failed.insert(step.id, why);
            if stop {
                break;
            }
        }
        self.record(journal, Entry::Over).await?;
        Ok(failed)
    }

    /// Carries one step out as [`Hands::carry`] does, where it disturbs pods in a place of the budgets that nodes count, as
    /// theirs are counted; why it waits for one. `holder`: what was seen of others' places, and a name that no other run has.
    ///
    /// # Errors
    ///
    /// Where the journal can't be written, or the cluster does not answer.
    pub async fn carry_in_turn<J: Journal>(
        &self,
        step: &Step,
        (desired, observed): (&Desired, &Observed),
        (watch, run): (&RefCell<Watch>, String),
        journal: &mut J,
        interrupted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Port<Option<String>> {
        let carried = self.carry(std::slice::from_ref(step), journal, interrupted, tell);
        let (StepKind::BindWorkload { bind, .. } | StepKind::UnbindWorkload { bind, .. }) = &step.kind else {
            return carried.await.map(|_| None);
        };
        let Object { kind, namespace, name, .. } = &bind.object;
        let pods = observed.cluster.workload(kind, namespace, name).map_or(0, turns::rolled);
        let limits = turns::limits(&bindings::covers(&step.kind, desired, observed));
        if pods == 0 || limits.is_empty() {
            return carried.await.map(|_| None);
        }
        let (rolls, reserved) = (Some(Rolls { object: &bind.object, limits: &limits }), Reserved::new());
        let asked = Asked { node: CONTROLLER, desired, pods, reserved: &reserved, going: false, begun: false, rolls };
        let turn = Turn::new(asked, observed, watch, run, self.clock.now(), false);
        if let Some(waits) = turn.take(self.cluster, self.clock).await? {
            return Ok(Some(waits.why));
        }
        let done = within(carried, turn.keep(self.cluster, self.clock)).await;
        // What is not given back expires.
        let _ = turn.give(self.cluster, self.clock, false).await;
        // Nobody ends what is renewed for ever.
        done.unwrap_or_else(|| Err(busy())).map(|_| None)
    }

    async fn step(
        &self,
        step: &Step,
        interrupted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), Wrong> {
        let (bind, timeout_s, sets) = match &step.kind {
            StepKind::BindWorkload { bind, timeout_s } => (bind, *timeout_s, true),
            StepKind::UnbindWorkload { bind, timeout_s } => (bind, *timeout_s, false),
            other => return Err(Wrong::Refused(format!("{} is no step of the cluster's", other.word()))),
        };
        let refused = |error: PortError| Wrong::Refused(error.to_string());
        let before = self.patiently(async || self.cluster.workload(&bind.object).await).await.map_err(refused)?;
        let change = async || match sets {
            // Asked again and again: by then another one may lead.
            _ if interrupted() => Err(interruption()),
            true => self.cluster.bind(bind, self.revision, false).await,
            false => self.cluster.unbind(bind, self.revision, false).await,
        };
        self.patiently(change).await.map_err(refused)?;
        // Of one that is gone there is nothing to wait for.
        let Some(before) = before else { return Ok(()) };
        let until = self.later(i64::try_from(timeout_s).unwrap_or(i64::MAX));
        let mut told = String::new();
        // Whoever is to stop leaves the rest to the workload's own controller.
        while !interrupted() {
            let (why, unplaced) = match self.lacking(bind, sets, before.ready).await {
                None => return Ok(()),
                Some(lacking) => lacking,
            };
            if told != why {
                tell(Told::Waits(step, why.clone()));
                told.clone_from(&why);
            }
            if unplaced {
                return Err(Wrong::Unplaced);
            }
            if self.clock.now() >= until {
                return Err(Wrong::NotReady(why));
            }
            self.clock.sleep_until(self.later(LOOK_S).min(until)).await;
        }
        Ok(())
    }

    /// What is missing until a new template is rolled out and as many pods are ready as before: a sentence, and whether a
    /// pod finds no node. `None`: nothing.
    async fn lacking(&self, bind: &Bind, sets: bool, before: u32) -> Option<(String, bool)> {
        // What can't be asked now may be in a moment; until then it is not ready.
        let now = match self.patiently(async || self.cluster.workload(&bind.object).await).await {
            Ok(now) => now?,
            Err(error) => return Some((error.to_string(), false)),
        };
        let lacks = lacks(&now, bind, sets, before)?;
        Some(match self.pending(bind).await {
            Some(pending) => (format!("{lacks}; {pending}"), true),
            None => (lacks, false),
        })
    }

    /// Why the scheduler finds no node for a pod of the workload.
    async fn pending(&self, bind: &Bind) -> Option<String> {
        let seen = self.patiently(async || self.cluster.observe().await).await.ok()?;
        let of = |kind: &str, name: &str| kind == bind.object.kind && name == bind.object.name;
        let pods = seen.pods.iter().filter(|pod| pod.namespace == bind.object.namespace);
        let mut pods = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| of(&owner.kind, &owner.name)));
        pods.find_map(|pod| Some(format!("pod {} finds no node: {}", pod.id(), pod.unschedulable.as_ref()?)))
    }

    /// The result of a call, which is made again where that may help.
    async fn patiently<T>(&self, call: impl AsyncFn() -> Port<T>) -> Port<T> {
        let hangs = || PortError {
            transient: true,
            code: format!("no answer for {ANSWER_S} s"),
            message: "asking the cluster".to_owned(),
        };
        let mut tries = 0;
        loop {
            let answer = within(call(), self.clock.sleep_until(self.later(ANSWER_S))).await;
            match answer.unwrap_or_else(|| Err(hangs())) {
                Err(error) if error.transient && tries < TRIES => {
                    tries += 1;
                    self.clock.sleep_until(self.later(1 << tries)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn record<J: Journal>(&self, journal: &mut J, entry: Entry) -> Port<()> {
        let (plan, node, at) = (self.plan.clone(), CLUSTER.to_owned(), self.clock.now().to_string());
        let line = Record { plan, node, at, entry }.line();
        self.written(async |journal: &mut J| journal.append(&line), journal).await
    }

    /// Writes to the journal, again where that may help.
    async fn written<J>(&self, write: impl AsyncFn(&mut J) -> Port<()>, journal: &mut J) -> Port<()> {
        let mut tries = 0;
        loop {
            match write(journal).await {
                Err(error) if error.transient && tries < TRIES => {
                    tries += 1;
                    self.clock.sleep_until(self.later(1 << tries)).await;
                }
                written => return written,
            }
        }
    }

    fn later(&self, seconds: i64) -> Timestamp {
        self.clock.now().saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }
}

fn interruption() -> PortError {
    PortError { transient: false, code: "interrupted".to_owned(), message: "it was not asked for any more".to_owned() }
}

/// What a workload lacks until a change of it is through, a sentence.
fn lacks(now: &WorkloadState, bind: &Bind, sets: bool, before: u32) -> Option<String> {
    let taken = match sets {
        true => bind.is_met(&now.requests, &now.claims, now.affinity.as_ref()),
        false => now.revision.is_none(),
    };
    let wanted = before.min(now.replicas);
    match now.ready {
        _ if !taken => Some("its pod template is not seen changed yet".to_owned()),
        ready if ready < wanted => Some(format!("{ready} of its pods are ready, {wanted} were")),
        _ if !now.settled => Some("not all of its pods are of the new template yet".to_owned()),
        _ => None,
    }
}

/// Looks at the workloads of managed bindings that an observation of the cluster does not tell: those of kinds that are not
/// watched, and those that ask for no GPU yet. What can't be looked at is a gap.
pub async fn look_at<'a, C: Cluster>(
    cluster: &C,
    bindings: impl Iterator<Item = &'a Binding>,
    observed: &mut ObservedCluster,
) {
    for binding in bindings.filter(|binding| binding.manage) {
        let Target::Kubernetes { object, .. } = &binding.target else { continue };
        let is = |w: &WorkloadState| w.is(&object.kind, &object.namespace, &object.name);
        let known = observed.workloads.iter_mut().find(|workload| is(workload));
        // What only its pods tell does not say what its template is.
        if known.as_ref().is_some_and(|known| known.affinity.is_some() || known.settled) {
            continue;
        }
        match (cluster.workload(object).await, known) {
            (Ok(Some(told)), Some(known)) => {
                *known = WorkloadState { replicas: known.replicas, ready: known.ready, ..told };
            }
            (Ok(Some(told)), None) => observed.workloads.push(told),
            (Ok(None), _) => {}
            (Err(error), _) => {
                observed.gaps.push(Gap { object: object.to_string(), message: error.to_string() });
                // What its pods tell is not enough to change it.
                observed.workloads.retain(|workload| !is(workload));
            }
        }
    }
    if let Known::Known(bound) = &mut observed.bound {
        bound.sort_by(|one, other| one.bind.object.cmp(&other.bind.object));
    }
}
