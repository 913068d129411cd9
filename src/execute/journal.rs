//! The journal's records: what is about to be done and what was done, a line each, with a checksum.

use serde::{Deserialize, Serialize};

use super::protocol::Rollback;
use super::undo;
use crate::model::{Digest, StepKind};

/// Raised when an older program could not read what a newer one writes.
const VERSION: u32 = 1;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The plan's fingerprint.
    pub plan: Digest,
    /// The node.
    pub node: String,
    /// RFC 3339.
    pub at: String,
    /// What happened.
    pub entry: Entry,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A step is about to be carried out.
    Begin {
        /// Its id.
        step: u32,
        /// What it does.
        what: Box<StepKind>,
        /// What takes it back, if the plan stops before that is settled.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        owes: Option<Box<StepKind>>,
    },
    /// It is done, or was done already.
    End {
        /// Its id.
        step: u32,
    },
    /// It failed for good, and everything that could be was taken back.
    Failed {
        /// Its id.
        step: u32,
        /// Why.
        why: String,
    },
    /// What was tainted, paused or stopped is being taken back.
    Undo {
        /// What undoes it.
        what: Box<StepKind>,
    },
    /// It is taken back, or was never done.
    Undone {
        /// What undid it, or would have.
        what: Box<StepKind>,
    },
    /// After a failure the layout is being put back.
    RollBack,
    /// What a run that was cut short left is taken back, and nobody goes on with it.
    Recovered,
    /// It is not tried again before its inputs change or somebody says so.
    GaveUp(Failure),
    /// Somebody said to try again.
    Forgiven,
    /// Somebody said not to wait for what the policy says.
    Overridden {
        /// Which of its rules.
        what: Vec<String>,
        /// Why.
        reason: String,
    },
    /// The plan is over: done, or stopped with everything taken back.
    Over,
}

/// What failed for good, and how that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step's id.
    pub step: u32,
    /// What it does; absent where no step was at hand.
    pub what: Option<Box<StepKind>>,
    /// The call and its code.
    pub why: String,
    /// What could not be taken back.
    pub left: Vec<String>,
    /// Whether the layout is what it was.
    pub rollback: Rollback,
    /// Over desired state, policy and layout: while they are these, it is not tried again.
    pub inputs: Digest,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Line<R> {
    v: u32,
    #[serde(flatten)]
    record: R,
}

/// The head of a record, of whatever version.
#[derive(Deserialize)]
struct Head {
    v: u32,
}

impl Record {
    /// The line that is kept: a checksum and the record.
    pub fn line(&self) -> String {
        // A record has string keys alone and nothing that refuses to be written.
        let json = serde_json::to_string(&Line { v: VERSION, record: self }).unwrap_or_default();
        format!("{} {json}", sum(&json))
    }

    /// Reads a line; `None` for a torn, foreign or newer one.
    pub fn read(line: &str) -> Option<Record> {
        let whole: Line<Record> = serde_json::from_str(whole(line)?).ok()?;
        (whole.v <= VERSION).then_some(whole.record)
    }
}

fn sum(json: &str) -> String {
    Digest::of([json.as_bytes()]).short().to_owned()
}

/// What a line says, if its checksum is right.
fn whole(line: &str) -> Option<&str> {
    let (told, json) = line.split_once(' ')?;
    (sum(json) == told).then_some(json)
}

/// Whether a line may be the beginning of one of ours. Where a power cut came between a file's length and what is in
/// it, some file systems show zeros.
fn torn(line: &str) -> bool {
    const SUM: usize = 12;
    let line = line.trim_end_matches('\0');
    let sum = line.get(..SUM.min(line.len())).unwrap_or("?");
    let rest = line.get(sum.len()..).unwrap_or("?");
    let head = " {\"v\":";
    sum.bytes().all(|byte| byte.is_ascii_hexdigit()) && (rest.starts_with(head) || head.starts_with(rest))
}

/// Why a journal can't be gone by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// A newer program wrote it.
    Newer(u32),
    /// It tells of another node.
    OtherNode(String),
    /// It is no journal of ours, or nothing of it can be read.
    Foreign,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unusable::Newer(version) => write!(f, "a newer sectile wrote it (version {version})"),
            Unusable::OtherNode(name) => write!(f, "it tells of another node, {name}"),
            Unusable::Foreign => f.write_str("none of its lines is a record of sectile's"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Unusable {
    /// A way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Unusable::Newer(_) => {
                "upgrade sectile; or move the journal away, once nothing is tainted, paused or stopped"
            }
            Unusable::OtherNode(_) | Unusable::Foreign => {
                "move it away; what an earlier run left tainted or paused is seen without it, stopped clients are not"
            }
        }
    }
}

/// Why something is not tried again: it failed for good, and nothing that it depends on has changed since.
pub fn failed<'a>(story: &'a Story, inputs: &Digest) -> Option<&'a Failure> {
    story.failure.as_ref().filter(|failure| failure.inputs == *inputs)
}

/// Reads a node's journal. Lines that a crash tore, and damaged ones between whole ones, are left out: recovery is
/// from what is observed first.
///
/// # Errors
///
/// Where it is another's, so that nothing in it must be gone by or overwritten.
pub fn read(lines: &[String], node: &str) -> Result<Vec<Record>, Unusable> {
    let newer = |line: &String| serde_json::from_str::<Head>(whole(line)?).ok().filter(|head| head.v > VERSION);
    if let Some(head) = lines.iter().find_map(newer) {
        return Err(Unusable::Newer(head.v));
    }
    let records: Vec<Record> = lines.iter().filter_map(|line| Record::read(line)).collect();
    if let Some(other) = records.iter().find(|record| record.node != node) {
        return Err(Unusable::OtherNode(other.node.clone()));
    }
    // The very first record may be torn, by more than one crash.
    let ours = !records.is_empty() || lines.iter().all(|line| torn(line));
    if ours { Ok(records) } else { Err(Unusable::Foreign) }
}

/// What a journal tells of the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Whether it came to its end.
    pub over: bool,
    /// Steps that were done.
    pub done: Vec<StepKind>,
    /// A step that began and did not end.
    pub open: Option<(u32, StepKind)>,
    /// What was taken back.
    pub undone: Vec<StepKind>,
    /// Steps that put the layout back.
    pub back: Vec<StepKind>,
    /// What is to be taken back still, the last first.
    pub owed: Vec<StepKind>,
    /// What failed for good.
    pub failure: Option<Failure>,
}

/// Tells what became of the last run.
pub fn story(records: &[Record]) -> Story {
    let mut story = Story { over: true, ..Story::default() };
    let (mut back, mut undoing) = (false, None);
    for record in records {
        match &record.entry {
            Entry::Begin { step, what, owes } => {
                if story.over {
                    story = Story { owed: story.owed, ..Story::default() };
                    back = false;
                }
                // Who is being started is on the way to other instances.
                if matches!(**what, StepKind::StartUnit { .. } | StepKind::ResumeCommand { .. }) {
                    story.owed.retain(|undo| !undo::settles(what, undo));
                }
                let owed = owes.as_deref().filter(|undo| !story.owed.contains(undo));
                story.owed.extend(owed.cloned());
                story.open = Some((*step, (**what).clone()));
            }
            Entry::End { .. } => {
                let Some((_, done)) = story.open.take() else { continue };
                story.owed.retain(|undo| !undo::settles(&done, undo));
                if back { story.back.push(done) } else { story.done.push(done) }
            }
            Entry::Undo { what } => {
                story.over = false;
                undoing = Some(what);
            }
            Entry::Undone { what } => {
                story.owed.retain(|undo| undo != &**what);
                // Where nothing was begun, nothing was taken back either.
                story.undone.extend(undoing.take().filter(|undo| *undo == what).map(|undo| (**undo).clone()));
            }
            Entry::RollBack => back = true,
            Entry::Failed { .. } | Entry::Overridden { .. } => {}
            Entry::GaveUp(failure) => {
                story.failure = Some(failure.clone());
                (story.over, back) = (true, false);
            }
            Entry::Forgiven => story.failure = None,
            Entry::Recovered => (story.over, back) = (true, false),
            Entry::Over => {
                // Putting the layout back may take several plans, and ends with giving up.
                story.over = !back;
                story.open = None;
            }
        }
    }
    story.owed.reverse();
    story
}
