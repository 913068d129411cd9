//! What became of a node's last run where it did not come to a good end: for people, and as data.

use serde::Serialize;

/// Every step in it is a sentence of what was, or is to be, done.
#[derive(Clone, Debug, Serialize)]
pub struct Tale {
    /// Whose run it was.
    pub node: String,
    /// How it ended.
    pub ended: Ended,
    /// What failed for good, and why.
    pub failed: Option<String>,
    /// What was done.
    pub done: Vec<String>,
    /// What was begun, and may have taken effect.
    pub begun: Option<String>,
    /// What was done and is taken back.
    pub undone: Vec<String>,
    /// What put the layout back.
    pub put_back: Vec<String>,
    /// What is still to be taken back.
    pub left: Vec<String>,
    /// How the layout is after a failure.
    pub now: Option<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// A step failed for good.
    Failed,
    /// It was killed, or crashed.
    CutShort,
    /// It ended, and could not take back everything.
    LeftSomething,
}

impl Ended {
    fn words(self) -> &'static str {
        match self {
            Ended::Failed => "failed",
            Ended::CutShort => "was cut short",
            Ended::LeftSomething => "left something behind",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Ended::Failed => "it is tried again when the tree or the GPUs change; `sectile resume` tries it as it is",
            Ended::CutShort | Ended::LeftSomething => {
                "`sectile apply` takes back what is left, looks again and goes on"
            }
        }
    }
}

impl Tale {
    /// What a person reads below the node's status.
    pub fn text(&self) -> String {
        let Tale { node, ended, failed, done, begun, undone, put_back, left, now } = self;
        let one = |word: &str, what: &String| format!("  {word:<9} {what}\n");
        let each = |word: &str, all: &[String]| all.iter().map(|what| one(word, what)).collect::<String>();
        let taken_back = *ended == Ended::Failed && !left.is_empty();
        let more = if taken_back { "  hint: `sectile apply` takes back what is left\n" } else { "" };
        let maybe = |word: &str, what: &Option<String>| each(word, what.as_slice());
        [
            format!("\n{node}: an earlier run {}\n", ended.words()),
            maybe("failed", failed),
            each("done", done),
            maybe("begun", begun),
            each("undone", undone),
            each("put back", put_back),
            each("left", left),
            maybe("now", now),
            more.to_owned(),
            format!("  hint: {}\n", ended.hint()),
        ]
        .concat()
    }
}
