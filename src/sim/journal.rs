//! A journal in memory, which a test can damage as a crash would.

use crate::ports::{Journal, Port};

/// Lines in memory; a clone is what a disk would hold at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryJournal {
    /// Oldest first.
    pub lines: Vec<String>,
}

impl MemoryJournal {
    /// Loses the last line: the crash came before it was on stable storage.
    pub fn lose_last(&mut self) {
        self.lines.pop();
    }

    /// Tears the last line: the crash came while it was written. Half of it is left, cut between characters.
    pub fn tear_last(&mut self) {
        if let Some(last) = self.lines.last_mut() {
            let half = (0..=last.len() / 2).rev().find(|&at| last.is_char_boundary(at)).unwrap_or(0);
            last.truncate(half);
        }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, line: &str) -> Port<()> {
        self.lines.push(line.to_owned());
        Ok(())
    }

    fn lines(&self) -> Port<Vec<String>> {
        Ok(self.lines.clone())
    }

    fn clear(&mut self) -> Port<()> {
        self.lines.clear();
        Ok(())
    }
}
