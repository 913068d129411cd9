//! The journal's records: what is about to be done and what was done, a line each, with a checksum.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, StepKind};

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
        what: StepKind,
    },
    /// It is done, or was done already.
    End {
        /// Its id.
        step: u32,
    },
    /// It failed for good.
    Failed {
        /// Its id.
        step: u32,
        /// Why.
        why: String,
    },
    /// What was tainted, paused or stopped is being taken back.
    Undo {
        /// What undoes it.
        what: StepKind,
    },
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

impl Record {
    /// The line that is kept: a checksum and the record.
    pub fn line(&self) -> String {
        // A record has string keys alone and nothing that refuses to be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{} {json}", Digest::of([json.as_bytes()]).short())
    }

    /// Reads a line; `None` for a torn or foreign one.
    pub fn read(line: &str) -> Option<Record> {
        let (sum, json) = line.split_once(' ')?;
        (Digest::of([json.as_bytes()]).short() == sum).then(|| serde_json::from_str(json).ok()).flatten()
    }
}

/// What a journal tells at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was under way.
    Clean,
    /// A plan was under way; the last step that began and did not end, if any.
    Interrupted {
        /// The last whole record.
        last: Box<Record>,
        /// A step that began and did not end.
        open: Option<u32>,
        /// Whether the last line was torn.
        torn: bool,
    },
    /// No line of it can be read.
    Unreadable,
}

/// Reads a journal. Recovery is from observation first; this tells what to say and whose pauses to take back.
pub fn standing(lines: &[String]) -> Standing {
    let records: Vec<Record> = lines.iter().filter_map(|line| Record::read(line)).collect();
    let torn = lines.last().is_some_and(|line| Record::read(line).is_none());
    let Some(last) = records.last() else {
        return if lines.is_empty() { Standing::Clean } else { Standing::Unreadable };
    };
    // A plan that failed was reported, with everything taken back that could be.
    if matches!(last.entry, Entry::Over | Entry::Failed { .. }) && !torn {
        return Standing::Clean;
    }
    let open = match &last.entry {
        Entry::Begin { step, .. } => Some(*step),
        Entry::End { .. } | Entry::Failed { .. } | Entry::Undo { .. } | Entry::Overridden { .. } | Entry::Over => None,
    };
    Standing::Interrupted { last: Box::new(last.clone()), open, torn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(entry: Entry) -> Record {
        Record { plan: Digest::of([]), node: "n".into(), at: "2026-11-22T00:00:00Z".into(), entry }
    }

    #[test]
    fn a_line_is_read_back_and_a_torn_one_is_not() {
        let whole = record(Entry::Begin { step: 3, what: StepKind::Taint });
        let line = whole.line();
        assert_eq!(Record::read(&line), Some(whole));
        for end in 0..line.len() {
            assert_eq!(Record::read(&line[..end]), None);
        }
    }

    #[test]
    fn a_journal_tells_which_step_was_open() {
        let begin = record(Entry::Begin { step: 3, what: StepKind::Taint }).line();
        let end = record(Entry::End { step: 3 }).line();
        let over = record(Entry::Over).line();
        assert_eq!(standing(&[]), Standing::Clean);
        assert_eq!(standing(&[begin.clone(), end.clone(), over]), Standing::Clean);
        let Standing::Interrupted { open, torn, .. } = standing(std::slice::from_ref(&begin)) else { panic!() };
        assert_eq!((open, torn), (Some(3), false));
        let Standing::Interrupted { open, torn, .. } = standing(&[begin, end, "half".into()]) else { panic!() };
        assert_eq!((open, torn), (None, true));
        assert_eq!(standing(&["half".into()]), Standing::Unreadable);
    }
}
