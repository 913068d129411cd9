//! What goes in and out of the machine: events, effects, answers, outcomes, news.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::Record;
use crate::model::observed::{Known, ObservedCluster, Pod, Suspension, User};
use crate::model::plan::SlotRef;
use crate::model::policy::ClientRef;
use crate::model::{NodePlan, StepKind};
use crate::ports::{Eviction, PortError};

/// What the machine wants done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Perform this and answer with [`Event::Answer`].
    Do(Effect),
    /// Come back then with [`Event::Woke`].
    Wait(Timestamp),
    /// It is over.
    Done(Outcome),
}

/// An effect on the outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append to the journal, durably.
    Journal(Box<Record>),
    /// Look whether somebody stopped the node meanwhile: [`Answer::Stopped`].
    LookStopped,
    /// Look at one instance: [`Answer::Users`], `None` where it is not there.
    LookSlot(SlotRef),
    /// Look at who uses a GPU as a whole: [`Answer::Users`].
    LookGpu(String),
    /// Look whether a process is still on a GPU of the node: [`Answer::Holds`].
    LookProcess {
        /// Its id.
        pid: u32,
        /// Its name: another process may have its id by now.
        name: String,
    },
    /// Look at pods: [`Answer::Pods`].
    LookPods(Vec<String>),
    /// Look at the cluster: [`Answer::Cluster`].
    LookCluster,
    /// Look whether the node's place among those that share its budgets is fresh: [`Answer::Turn`].
    LookTurn,
    /// Ask a workload's command whether it is drained (`true`) or ready: [`Answer::Holds`].
    LookCommand {
        /// The binding's name.
        workload: String,
        /// Drained, or ready.
        drained: bool,
        /// The instances that it was given.
        slots: Vec<SlotRef>,
    },
    /// Look which pods of mig-manager are still on the node: [`Answer::Missing`].
    LookWriter,
    /// Look which pods that are bound to the node are neither admitted nor rejected: [`Answer::Missing`].
    LookAdmitted,
    /// Look which of the clients are not paused, and what is still advertised: [`Answer::Missing`].
    LookPaused(Vec<ClientRef>),
    /// Look what of these instances (none: of all) is not advertised, and what is that is not there: [`Answer::Missing`].
    LookAdvertised(Vec<SlotRef>),
    /// Ask whether the step's act would be allowed; nothing is done: [`Answer::Done`] or [`Answer::Evicted`].
    Ask(StepKind),
    /// Carry the step's act out: [`Answer::Done`] or [`Answer::Evicted`].
    Act(StepKind),
    /// Take back what a step did, where it is not so already: [`Answer::Done`].
    Undo(StepKind),
}

impl Effect {
    /// After so many seconds without an answer nobody waits for it any more. A unit may take systemd's 90 s to stop
    /// and then some to be killed; what else is called answers at once or not at all.
    pub fn limit_s(&self) -> i64 {
        match self {
            Effect::Act(kind) | Effect::Undo(kind) => match kind {
                StepKind::PauseClients { .. }
                | StepKind::ResumeClients { .. }
                | StepKind::RefreshClients
                | StepKind::RefreshDevices { .. }
                | StepKind::StopUnit { .. }
                | StepKind::StartUnit { .. }
                | StepKind::DrainCommand { .. }
                | StepKind::ResumeCommand { .. }
                | StepKind::ResetGpu { .. } => 300,
                _ => 60,
            },
            _ => 60,
        }
    }

    /// What it is, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Effect::Journal(_) => "journal",
            Effect::LookSlot(_) | Effect::LookGpu(_) | Effect::LookProcess { .. } => "look at the GPU",
            Effect::LookPods(_) | Effect::LookCluster | Effect::LookTurn | Effect::LookStopped => "look at the cluster",
            Effect::LookWriter | Effect::LookAdmitted | Effect::LookPaused(_) | Effect::LookAdvertised(_) => {
                "look at the node"
            }
            Effect::LookCommand { .. } => "look at the command",
            Effect::Ask(_) => "ask the API server",
            Effect::Act(kind) | Effect::Undo(kind) => kind.word(),
        }
    }
}

impl Effect {
    /// The look that tells whether a step that waits may end.
    pub fn look(kind: &StepKind) -> Effect {
        match kind {
            StepKind::AwaitGone { pods, .. } => Effect::LookPods(pods.keys().cloned().collect()),
            StepKind::DrainCommand { workload } => {
                Effect::LookCommand { workload: workload.clone(), drained: true, slots: Vec::new() }
            }
            StepKind::ResumeCommand { workload, slots } => {
                Effect::LookCommand { workload: workload.clone(), drained: false, slots: slots.clone() }
            }
            StepKind::StandDown => Effect::LookWriter,
            StepKind::Taint => Effect::LookAdmitted,
            StepKind::PauseClients { commands, .. } => Effect::LookPaused(commands.clone()),
            _ => Effect::LookCluster,
        }
    }
}

/// What an effect answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// Users of an instance or a GPU.
    Users(Option<Known<Vec<User>>>),
    /// Pods by `namespace/name`; those that are not there are left out.
    Pods(BTreeMap<String, Pod>),
    /// The cluster.
    Cluster(Box<ObservedCluster>),
    /// Whether a condition holds.
    Holds(bool),
    /// What is still to come, each a phrase; nothing: it has come about.
    Missing(Vec<String>),
    /// Who stopped the node.
    Stopped(Option<Suspension>),
    /// What became of an eviction.
    Evicted(Eviction),
    /// Why it is not the node's turn any more; `None`: it is.
    Turn(Option<String>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The machine may begin.
    Start,
    /// The last effect was performed, or failed.
    Answer(Result<Answer, PortError>),
    /// The last effect did not answer in its time: whether it was performed is not known.
    Late(Effect),
    /// The time waited for has come.
    Woke,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step that did not have to wait is done.
    Done,
    /// A guard did not hold any more; what was tainted or paused was taken back. A new plan is due.
    Held {
        /// The step.
        step: u32,
        /// Which guard, and why.
        why: String,
    },
    /// A step failed for good; what was tainted or paused was taken back as far as that worked.
    Failed {
        /// The step.
        step: u32,
        /// Why, with the port's code.
        why: String,
        /// What could not be taken back.
        left: Vec<String>,
        /// Whether the layout is what it was.
        rollback: Rollback,
    },
    /// Somebody suspended the node; what was tainted or paused was taken back.
    Suspended(Suspension),
    /// It was interrupted; what was tainted or paused was taken back.
    Interrupted,
}

/// What a watcher may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A step begins.
    Began(u32),
    /// It is done.
    Done(u32),
    /// It was done already.
    Skipped(u32),
    /// It waits: a sentence.
    Waits(u32, String),
    /// It is tried again: a sentence.
    Retries(u32, String),
    /// Something is taken back.
    Undoes(StepKind),
    /// The layout is put back, by this plan.
    RollsBack(Box<NodePlan>),
}

/// What became of the layout after a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollback {
    /// It was not asked for: the policy says so, or the failure came before anything else.
    None,
    /// Nothing of it was changed.
    Unneeded,
    /// It is as it was before the plan.
    Whole,
    /// It could not be put back, or not all of it: why.
    Part(String),
}
