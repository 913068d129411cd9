//! The two streams: data to stdout, the rest to stderr. Colours are taken off where they are not wanted, and whatever
//! else a terminal would obey is escaped: names come from files, processes and clusters that others write.

use std::borrow::Cow;
use std::io::Write as _;

/// Writes to stdout: data.
pub(super) fn print(text: &str) {
    // JSON is for programs, which want it as it is. A reader who left needs no message.
    let text = if text.starts_with('{') { Cow::Borrowed(text) } else { shown(text) };
    let _ = anstream::stdout().write_all(text.as_bytes());
}

/// Writes to stderr: everything else.
pub(super) fn tell(text: &str) {
    let _ = anstream::stderr().write_all(shown(text).as_bytes());
}

/// A text in which nothing but lines, tabs and styles is obeyed.
fn shown(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let style = || {
            let behind = text.get(at..).and_then(|rest| rest.strip_prefix("\u{1b}["));
            let end = behind.and_then(|rest| rest.chars().find(|c| !c.is_ascii_digit() && *c != ';'));
            end == Some('m')
        };
        match harmless(c) || c == '\u{1b}' && style() {
            true => shown.push(c),
            false => shown.extend(c.escape_default()),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_styles_and_nothing_else() {
        for plain in ["", "a\tb\n│é", "\u{1b}[1;31merror\u{1b}[0m\n", "\u{1b}[m"] {
            assert_eq!(shown(plain), plain);
        }
        for (text, escaped) in [
            ("\u{1b}[2Ja", "\\u{1b}[2Ja"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}[31", "\\u{1b}[31"),
            ("\u{1b}", "\\u{1b}"),
            ("a\rb\u{8}\u{9b}2J\u{7f}", "a\\rb\\u{8}\\u{9b}2J\\u{7f}"),
        ] {
            assert_eq!(shown(text), escaped);
        }
    }
}
