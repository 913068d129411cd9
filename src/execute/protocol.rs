//! What goes in and out of the machine: events, effects, answers, outcomes, news.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::journal::Record;
use crate::model::StepKind;
use crate::model::observed::{Known, ObservedCluster, Pod, User};
use crate::model::plan::SlotRef;
use crate::model::policy::ClientRef;
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
    /// Look at one instance: [`Answer::Users`], `None` where it is not there.
    LookSlot(SlotRef),
    /// Look at who uses a GPU as a whole: [`Answer::Users`].
    LookGpu(String),
    /// Look at pods: [`Answer::Pods`].
    LookPods(Vec<String>),
    /// Look at the cluster: [`Answer::Cluster`].
    LookCluster,
    /// Ask a workload's command whether it is drained (`true`) or ready: [`Answer::Holds`].
    LookCommand {
        /// The binding's name.
        workload: String,
        /// Drained, or ready.
        drained: bool,
        /// The instances that it was given.
        slots: Vec<SlotRef>,
    },
    /// Ask the clients that were paused whether they are: [`Answer::Holds`].
    LookClients(Vec<ClientRef>),
    /// Carry the step's act out: [`Answer::Done`] or [`Answer::Evicted`].
    Act(StepKind),
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
            StepKind::PauseClients { commands, .. } => Effect::LookClients(commands.clone()),
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
    /// What became of an eviction.
    Evicted(Eviction),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The machine may begin.
    Start,
    /// The last effect was performed, or failed.
    Answer(Result<Answer, PortError>),
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
    },
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
}
