//! Walks spanned TOML and collects what is wrong with it: types, unknown and missing keys.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::At;
use crate::config::diagnostic::{Code, Diagnostic, quote};

/// A value with its place.
pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// Reads one file.
pub(super) struct Reader<'a> {
    file: &'a str,
    /// Where lines begin: counting them anew for each value would take quadratic time.
    lines: Vec<usize>,
    found: Vec<Diagnostic>,
    /// What the file is part of, as messages name it.
    pub(super) of: &'static str,
}

/// The tree.
const TREE: &str = "the tree";

/// A table whose keys are known.
pub(super) struct Fields<'r, 'i> {
    table: &'r DeTable<'i>,
    /// As messages name it: `[[gpu]]`.
    pub(super) what: &'static str,
    /// Where it begins.
    pub(super) span: Range<usize>,
    /// Keys that an unknown one was probably meant to be, so that they aren't missed as well.
    meant: BTreeSet<&'static str>,
}

impl<'r, 'i> Fields<'r, 'i> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'r Node<'i>> {
        self.table.get(key)
    }

    /// Whether the key is there, or was probably meant.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key) || self.meant.contains(key)
    }

    /// From the key to the end of its value.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        match self.table.get_key_value(key) {
            Some((name, value)) => name.span().start..value.span().end.max(name.span().end),
            None => self.span.clone(),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Reader { file, lines: std::iter::once(0).chain(breaks).collect(), found: Vec::new(), of: TREE }
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.found
    }

    /// An error at a place.
    pub(super) fn report(
        &mut self,
        code: Code,
        span: Range<usize>,
        message: impl Into<String>,
        more: impl FnOnce(Diagnostic) -> Diagnostic,
    ) {
        self.found.push(more(Diagnostic::error(code, message).at(self.file, span)));
    }

    /// A warning about the whole file.
    pub(super) fn warn(&mut self, code: Code, message: impl Into<String>, help: &str) {
        self.found.push(Diagnostic::warning(code, message).file(self.file).help(help));
    }

    /// A value with its place in the file.
    pub(super) fn at<T>(&self, span: Range<usize>, value: T) -> At<T> {
        let line = self.lines.partition_point(|&start| start <= span.start);
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        At { value, span, line }
    }

    /// A table's keys; unknown ones are errors that name the nearest known one.
    pub(super) fn fields<'r, 'i>(
        &mut self,
        table: &'r DeTable<'i>,
        span: Range<usize>,
        what: &'static str,
        known: &[&'static str],
    ) -> Fields<'r, 'i> {
        let mut meant = BTreeSet::new();
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let message = format!("unknown key {} in {what}", quote(name));
            let (label, help) = match nearest(name, known.iter().copied()) {
                // TOML's commonest slip: what stands behind a header belongs to it.
                _ if self.of == TREE && matches!(name, "nodes" | "labels") => {
                    ("belongs at the top of the file, before the first header".to_owned(), None)
                }
                Some(near) => {
                    meant.insert(near);
                    (format!("did you mean `{near}`?"), None)
                }
                None => (format!("not a key of {}", self.of), Some(format!("the keys here are {}", known.join(", ")))),
            };
            self.report(Code::UnknownKey, key.span(), message, |d| {
                let d = d.label(label);
                if let Some(help) = help { d.help(help) } else { d }
            });
        }
        Fields { table, what, span, meant }
    }

    /// A value that is a table with known keys.
    pub(super) fn table<'r, 'i>(
        &mut self,
        node: &'r Node<'i>,
        what: &'static str,
        known: &[&'static str],
    ) -> Option<Fields<'r, 'i>> {
        match node.get_ref() {
            DeValue::Table(table) => Some(self.fields(table, node.span(), what, known)),
            other => self.wrong_type(node, what, "a table", other),
        }
    }

    /// The tables of `[[what]]`.
    pub(super) fn tables<'r, 'i>(
        &mut self,
        root: &Fields<'r, 'i>,
        key: &str,
        what: &'static str,
        known: &[&'static str],
    ) -> Vec<Fields<'r, 'i>> {
        let Some(node) = root.get(key) else { return Vec::new() };
        match node.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.table(item, what, known)).collect(),
            _ => {
                let message = format!("`{key}` must be a list of tables");
                let help = format!("write [[{key}]], with two brackets: there may be several");
                self.report(Code::WrongType, node.span(), message, |d| d.label("one table").help(help));
                Vec::new()
            }
        }
    }

    /// A key that must be there.
    pub(super) fn required<'r, 'i>(
        &mut self,
        fields: &Fields<'r, 'i>,
        key: &str,
        example: &str,
    ) -> Option<&'r Node<'i>> {
        if !fields.has(key) {
            let message = format!("{} needs `{key}`", fields.what);
            let label = format!("`{key}` is missing");
            self.report(Code::MissingKey, fields.span.clone(), message, |d| {
                d.label(label).help(format!("for example: {key} = {example}"))
            });
        }
        fields.get(key)
    }

    fn wrong_type<T>(&mut self, node: &Node<'_>, what: &str, wanted: &str, is: &DeValue<'_>) -> Option<T> {
        let message = format!("{what} must be {wanted}");
        self.report(Code::WrongType, node.span(), message, |d| {
            let is = match is {
                DeValue::String(_) => "text",
                DeValue::Integer(_) => "a whole number",
                DeValue::Float(_) => "a number",
                DeValue::Boolean(_) => "true or false",
                DeValue::Datetime(_) => "a date or time",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            };
            let d = d.label(format!("this is {is}"));
            match (wanted.starts_with("a list"), is) {
                (true, "text" | "a whole number" | "a table") => d.help("put it in brackets: [ … ]"),
                (false, "a whole number" | "a number" | "true or false") if wanted == "text" => {
                    d.help("put it in quotes")
                }
                _ => d,
            }
        });
        None
    }

    /// A value that is text.
    pub(super) fn text(&mut self, node: &Node<'_>, what: &str) -> Option<At<String>> {
        match node.get_ref() {
            DeValue::String(text) => Some(self.at(node.span(), text.clone().into_owned())),
            other => self.wrong_type(node, what, "text", other),
        }
    }

    /// A value that is true or false.
    pub(super) fn boolean(&mut self, node: &Node<'_>, what: &str) -> Option<At<bool>> {
        match node.get_ref() {
            DeValue::Boolean(value) => Some(self.at(node.span(), *value)),
            other => self.wrong_type(node, what, "true or false", other),
        }
    }

    /// A value that is a whole number within a range.
    pub(super) fn integer(&mut self, node: &Node<'_>, what: &str, range: RangeInclusive<u32>) -> Option<At<u32>> {
        let DeValue::Integer(integer) = node.get_ref() else {
            return self.wrong_type(node, what, "a whole number", node.get_ref());
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match value.and_then(|value| u32::try_from(value).ok()).filter(|value| range.contains(value)) {
            Some(value) => Some(self.at(node.span(), value)),
            None => {
                let message = format!("{what} is out of range");
                let label = match *range.end() {
                    u32::MAX if value.is_some_and(|value| value < i128::from(*range.start())) => {
                        format!("must be {} or more", range.start())
                    }
                    end => format!("must be {} to {end}", range.start()),
                };
                self.report(Code::BadValue, node.span(), message, |d| d.label(label));
                None
            }
        }
    }

    /// The items of a list.
    pub(super) fn list<'r, 'i>(&mut self, node: &'r Node<'i>, what: &str, of: &str) -> Option<&'r [Node<'i>]> {
        match node.get_ref() {
            DeValue::Array(items) => Some(items),
            other => self.wrong_type(node, what, &format!("a list of {of}"), other),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, node: &Node<'_>, what: &str, of: &str) -> Option<Vec<At<String>>> {
        let items = self.list(node, what, of)?;
        let item = format!("each of {what}");
        Some(items.iter().filter_map(|node| self.text(node, &item)).collect())
    }

    /// A text that `parse` reads; its error is the reason.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node<'_>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<At<T>> {
        let text = self.text(node, what)?;
        self.parse_at(text, what, parse)
    }

    /// The same of a text already at hand.
    pub(super) fn parse_at<T>(
        &mut self,
        text: At<String>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<At<T>> {
        match parse(&text.value) {
            Ok(value) => Some(At { value, span: text.span, line: text.line }),
            Err(Reason { label, help }) => {
                let message = format!("{} is no value for {what}", quote(&text.value));
                self.report(Code::BadValue, text.span, message, |d| {
                    let d = d.label(label);
                    if let Some(help) = help { d.help(help) } else { d }
                });
                None
            }
        }
    }
}

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Beside the caret.
    pub label: String,
    /// The way out.
    pub help: Option<String>,
}

impl Reason {
    pub(super) fn new(label: impl Into<String>) -> Self {
        Reason { label: label.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The known word that a text was probably meant to be: not more than a third of it wrong, or with its beginning.
pub(super) fn nearest<'k>(text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(text);
    let distance = |word: &&str| strsim::damerau_levenshtein(&wanted, &plain(word));
    // Long texts are nobody's slip, and comparing them takes time that grows with the square.
    if text.len() > 64 {
        return None;
    }
    let begins = |word: &str| plain(word).chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count() >= 4;
    let near = known.into_iter().min_by_key(distance)?;
    (distance(&near) <= (near.len().max(text.len()) / 3).max(1) || begins(near)).then_some(near)
}
