//! Reads a large fleet file node by node: a document of thousands of nodes takes forty times its size in memory.

use toml::de::DeTable;

use super::deep::too_deep;
use super::entries::{self, Entries};
use super::read::Problems;
use crate::model::parallel;

/// The entries of a file that is cut before each `[[node]]`; their spans count from the beginning of their piece.
/// `None`: something is wrong, or a whole that is cut so would not mean the same.
pub(super) fn read(text: &str) -> Option<Entries> {
    let mut all = Entries::default();
    let mut tables = 0;
    let pieces = cut(text)?;
    for read in parallel::map(parallel::threads(pieces.len()), pieces, piece) {
        let (Entries { nodes, workloads, budgets, latency, faults }, fault) = read?;
        // A table may stand only once in the whole, and so only in one of the pieces.
        tables += usize::from(fault);
        if tables > 1 {
            return None;
        }
        all.nodes.extend(nodes);
        all.workloads.extend(workloads);
        all.budgets.extend(budgets);
        all.latency.extend(latency);
        all.faults.extend(faults);
    }
    Some(all)
}

/// A piece's entries, and whether it tells of faults; `None`: something is wrong with it.
fn piece(text: &str) -> Option<(Entries, bool)> {
    if too_deep(text).is_some() {
        return None;
    }
    // A cut in the midst of a text or a list leaves a piece that is no TOML.
    let (document, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return None;
    }
    let mut problems = Problems::default();
    let entries = entries::read(&document, &mut problems);
    problems.list.is_empty().then(|| (entries, document.get_ref().contains_key("fault")))
}

/// The pieces, the first without a node; `None` where a key stands before the first header, since it may be one that
/// later pieces have, too.
fn cut(text: &str) -> Option<Vec<&str>> {
    let mut lines = text.lines().map(str::trim_start);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    if first.is_some_and(|line| !line.starts_with('[')) {
        return None;
    }
    let begins_line = |at: &usize| {
        let before = text.get(..*at).map(|before| before.trim_end_matches([' ', '\t']));
        before.is_some_and(|before| before.is_empty() || before.ends_with('\n'))
    };
    let headers = text.match_indices("[[node]]").map(|(at, _)| at).filter(begins_line);
    let ends: Vec<usize> = headers.chain([text.len()]).collect();
    let mut begin = 0;
    ends.into_iter().map(|end| text.get(std::mem::replace(&mut begin, end)..end)).collect()
}
