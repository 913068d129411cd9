//! Rust's source as words and signs, with the paths it names: as much as the rules need, and no parser.

use std::ops::Range;

/// A file's text, with comments and the insides of strings blanked out, as words and signs.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    pub(crate) code: String,
    pub(crate) tokens: Vec<(usize, &'a str)>,
    /// The bodies of inline modules, in bytes.
    modules: Vec<(bool, Range<usize>)>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Self {
        let code = blank(text);
        let tokens = tokens(&code).into_iter().map(|range| (range.start, &text[range])).collect();
        let mut source = Source { path, text, code, tokens, modules: Vec::new() };
        source.modules = source.find_modules();
        source
    }

    /// `tests` marks `#[cfg(test)] mod tests`.
    fn find_modules(&self) -> Vec<(bool, Range<usize>)> {
        let words: Vec<&str> = self.tokens.iter().map(|(_, word)| *word).collect();
        let mut found = Vec::new();
        for (i, window) in words.windows(3).enumerate() {
            if window[0] != "mod" || window[2] != "{" {
                continue;
            }
            let mut depth = 0;
            let end = self.tokens[i + 2..].iter().find(|(_, word)| {
                depth += i32::from(*word == "{") - i32::from(*word == "}");
                depth == 0
            });
            found.push((window[1] == "tests", self.tokens[i].0..end.map_or(self.text.len(), |(at, _)| *at)));
        }
        found
    }

    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.modules.iter().any(|(tests, range)| *tests && range.contains(&at))
    }

    /// `src/config/load/walk.rs` is `config::load::walk`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(self.path).trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).collect()
    }

    pub(crate) fn room(&self) -> &str {
        self.module().first().copied().unwrap_or_default()
    }

    /// Every path in the code, `use` trees spread out and leading `super`s resolved: `crate::model::Plan`.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut i = 0;
        while i < self.tokens.len() {
            let (at, word) = self.tokens[i];
            let first = i == 0 || self.tokens[i - 1].1 != "::";
            if word == "use" {
                i = self.spread(i + 1, "", &mut found);
            } else if is_word(word) && first && self.tokens.get(i + 1).is_some_and(|t| t.1 == "::") {
                let mut path = word.to_owned();
                while let [(_, "::"), (_, next), ..] = self.tokens[i + 1..] {
                    if !is_word(next) {
                        break;
                    }
                    path.push_str("::");
                    path.push_str(next);
                    i += 2;
                }
                found.push((at, path));
                i += 1;
            } else {
                i += 1;
            }
        }
        found.into_iter().map(|(at, path)| (at, self.absolute(at, &path))).collect()
    }

    /// Spreads a `use` tree that begins at a token; returns the first token after it.
    fn spread(&self, mut i: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
        let mut path = prefix.to_owned();
        let mut own = false;
        let at = self.tokens.get(i).map_or(0, |t| t.0);
        while let Some((_, word)) = self.tokens.get(i) {
            match *word {
                "{" => {
                    i += 1;
                    while self.tokens.get(i).is_some_and(|t| t.1 != "}") {
                        i = self.spread(i, &path, found);
                        i += usize::from(self.tokens.get(i).is_some_and(|t| t.1 == ","));
                    }
                    return i + 1;
                }
                "::" => i += 1,
                "as" => i += 2,
                "," | "}" | ";" => break,
                word => {
                    let sign = if path.is_empty() { "" } else { "::" };
                    path.push_str(&format!("{sign}{word}"));
                    own = true;
                    i += 1;
                }
            }
        }
        if own {
            found.push((at, path));
        }
        i
    }

    fn absolute(&self, at: usize, path: &str) -> String {
        let mut here: Vec<&str> = self.module();
        // Names of inline modules don't matter, only how deep they are.
        here.extend(self.modules.iter().filter(|(_, range)| range.contains(&at)).map(|_| "inline"));
        let mut rest: Vec<&str> = path.split("::").collect();
        match rest[0] {
            "self" => {
                rest.remove(0);
            }
            "super" => {
                while rest.first() == Some(&"super") {
                    rest.remove(0);
                    here.pop();
                }
            }
            _ => return path.to_owned(),
        }
        [&["crate"], here.as_slice(), rest.as_slice()].concat().join("::")
    }

    pub(crate) fn told(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, self.text[..at].matches('\n').count() + 1)
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The same text, byte for byte as long, with blanks for comments and for what strings hold.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let clear = |out: &mut Vec<u8>, range: Range<usize>| {
        out[range].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text.as_bytes()[i..];
        let after_word = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            text[i..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest[0] == b'r' && !after_word && rest.get(1 + hashes) == Some(&b'"') {
            let end = format!("\"{}", "#".repeat(hashes));
            text[i + 2 + hashes..].find(&end).map_or(rest.len(), |at| 2 + hashes + at + end.len())
        } else if rest[0] == b'"' {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(rest.len())
        } else if rest.starts_with(b"'\\") {
            // An escaped character: it ends at the next quote that is not the escaped one.
            rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(rest.len(), |at| at + 4)
        } else if rest[0] == b'\'' {
            // A character, unless it is a lifetime, which no quote ends.
            let c = text[i + 1..].chars().next().map_or(1, char::len_utf8);
            if rest.get(1 + c) == Some(&b'\'') { c + 2 } else { 1 }
        } else {
            i += 1;
            continue;
        };
        clear(&mut out, i..i + length);
        i += length;
    }
    String::from_utf8(out).unwrap()
}

fn tokens(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, c) in code.char_indices() {
        let end = at + c.len_utf8();
        let joins = found.last().is_some_and(|last| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            last.end == at
                && (word(c) && code[last.clone()].chars().all(word) || c == ':' && &code[last.clone()] == ":")
        });
        match found.last_mut() {
            Some(last) if joins => last.end = end,
            _ if c.is_whitespace() => {}
            _ => found.push(at..end),
        }
    }
    found
}
