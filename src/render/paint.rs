//! The colours, in one place.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

/// What comes.
pub(super) const CREATE: Style = AnsiColor::Green.on_default();
/// What goes.
pub(super) const DESTROY: Style = AnsiColor::Red.on_default();
/// What changes in place, waits, or deserves a look.
pub(super) const CHANGE: Style = AnsiColor::Yellow.on_default();
/// What needs somebody to act.
pub(super) const ALARM: Style = AnsiColor::Red.on_default().bold();
/// A hint at what to do.
pub(super) const HINT: Style = AnsiColor::Cyan.on_default();
/// Names of nodes, headings.
pub(super) const STRONG: Style = Style::new().bold();
/// What is only context.
pub(super) const FAINT: Style = Style::new().dimmed();
/// What stays as it is.
pub(super) const PLAIN: Style = Style::new();

/// A text in a colour.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A text padded with blanks to a display width.
pub(super) fn pad(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(blanks))
}

/// The display width of a text without escape sequences.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A table as `kubectl get` prints it: columns three blanks apart, no trailing blanks.
pub(super) fn table(indent: usize, heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let mut widths = vec![0; heading.len()];
    for row in rows.iter().chain([&heading]) {
        for (have, cell) in widths.iter_mut().zip(row) {
            *have = width(cell).max(*have);
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| pad(cell, width)).collect();
        format!("{}{}", " ".repeat(indent), cells.join("   ").trim_end())
    };
    let mut text = format!("{}\n", paint(FAINT, &line(&heading)));
    for row in rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}
