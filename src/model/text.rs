//! Text that others wrote, as it may be shown: nothing in it is obeyed, and none of it is endless.

use std::ops::Range;

/// Text whose characters a terminal shows instead of obeying them: control characters, and those that turn the
/// direction of what follows, are escaped.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}

/// Whether a terminal shows a character.
pub fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a shell glob of `*` and `?` alone, which is all that a namespace's or a unit's pattern needs, is of a text.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    match glob.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = glob.get(1..).unwrap_or("");
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.filter_map(|at| text.get(at..)).any(|tail| glob_matches(rest, tail))
        }
        Some(first) => text.chars().next().is_some_and(|c| {
            let rest = |s: &str, by: usize| s.get(by..).map(str::to_owned).unwrap_or_default();
            (first == '?' || first == c) && glob_matches(&rest(glob, first.len_utf8()), &rest(text, c.len_utf8()))
        }),
    }
}

/// Line and column of a byte, both from 1, the column in characters.
pub fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..floor(text, byte)).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The nearest character boundary at or before a byte, within the text.
fn floor(text: &str, byte: usize) -> usize {
    let byte = byte.min(text.len());
    (0..=byte).rev().find(|&b| text.is_char_boundary(b)).unwrap_or(0)
}

/// So much of a line is shown on each side of what is marked in it, in bytes, and so much of that itself: about a
/// terminal's width.
const BESIDE: usize = 120;

/// Bytes that can be drawn: within the text, on character boundaries, on one line, and not endless.
pub fn drawable(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    let end = floor(text, span.end.max(span.start).min(start.saturating_add(BESIDE))).max(start);
    start..end.min(line_end(text, start))
}

/// Where the line ends that a byte is in.
fn line_end(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let line = rest.split_once('\n').map_or(rest, |(line, _)| line.strip_suffix('\r').unwrap_or(line));
    from + line.len()
}

/// The lines around what is marked in a file, and of a long line what is near: drawing a whole file for each thing that
/// is wrong with it would take time that grows with the square of its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its first byte in the file.
    begin: usize,
    /// Bytes that stand before that one.
    lead: usize,
}

impl Excerpt {
    /// Around drawable bytes.
    pub fn around(text: &str, marked: &Range<usize>) -> Excerpt {
        let (from, to) = (floor(text, marked.start), floor(text, marked.end.max(marked.start)));
        let first = text.get(..from).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let last = line_end(text, to);
        let begin = if from - first > BESIDE { floor(text, from - BESIDE) } else { first };
        let end = if last - to > BESIDE { floor(text, to + BESIDE) } else { last };
        let dots = |cut: bool| if cut { "…" } else { "" };
        let shown = text.get(begin..end).unwrap_or_default();
        let lead = dots(begin > first);
        let text_before = text.get(..begin).unwrap_or_default();
        let line = text_before.matches('\n').count() + 1;
        Excerpt { text: format!("{lead}{shown}{}", dots(end < last)), line, begin, lead: lead.len() }
    }

    /// Whether it begins with a line, so that columns in it are those of the file.
    pub fn begins_a_line(&self) -> bool {
        self.lead == 0
    }

    /// Where bytes of the file are in it.
    pub fn place(&self, span: &Range<usize>) -> Range<usize> {
        let at = |byte: usize| (byte.saturating_sub(self.begin) + self.lead).min(self.text.len());
        at(span.start)..at(span.end)
    }
}

/// Whether two drawable places are near enough for one drawing.
pub fn near(text: &str, one: &Range<usize>, other: &Range<usize>) -> bool {
    const LINES_APART: usize = 8 << 10;
    let between = one.start.min(other.start)..one.end.max(other.end);
    let same_line = !text.get(between.clone()).unwrap_or_default().contains('\n');
    between.len() <= if same_line { BESIDE } else { LINES_APART }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_what_is_marked_wherever_it_is_cut() {
        let line = "ä".repeat(1000);
        let text = format!("{line}\n{line}\r\n{line}\nshort{}", "\r".repeat(500));
        for start in 0..text.len() {
            let span = drawable(&text, &(start..start + 5));
            let excerpt = Excerpt::around(&text, &span);
            assert_eq!(excerpt.text.get(excerpt.place(&span)), text.get(span.clone()), "{start}");
            assert_eq!(excerpt.line, position(&text, span.start).0, "{start}");
            assert!(excerpt.text.len() < 600 && !excerpt.text.contains('\n'));
        }
        let whole = Excerpt::around("a\nb\nc", &(2..3));
        assert_eq!((whole.text.as_str(), whole.line), ("b", 2));
    }

    #[test]
    fn nothing_in_a_text_is_obeyed() {
        assert_eq!(visible("a\u{1b}[31m\u{9b}2J\n\u{202e}é"), "a\\u{1b}[31m\\u{9b}2J\\n\\u{202e}é");
    }
}
