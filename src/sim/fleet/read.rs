//! Reading TOML with spans: what is wrong is collected, what is right is returned.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FleetError;
use crate::model::text::{is_plain, position, visible};

/// A year: what is longer is a slip.
const LONGEST_S: u64 = 366 * 24 * 60 * 60;

/// Where in the file.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// Something wrong.
#[derive(Debug)]
pub(super) struct Problem {
    span: Span,
    message: String,
    hint: Option<String>,
}

impl Problem {
    /// With line and column. Spans are the parser's; one that does not fit the text is cut to fit.
    pub(super) fn at(self, text: &str) -> FleetError {
        let fit = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (start, end) = (fit(self.span.start), fit(self.span.end.max(self.span.start)));
        let (line, column) = position(text, start);
        FleetError { span: start..end, line, column, message: self.message, hint: self.hint }
    }
}

/// Everything wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) list: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, span: Span, message: impl Into<String>) {
        self.list.push(Problem { span, message: visible(&message.into()), hint: None });
    }

    pub(super) fn add_with(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.list.push(Problem { span, message: visible(&message.into()), hint: Some(visible(&hint.into())) });
    }

    /// The value, or its error as a problem.
    pub(super) fn ok<T>(&mut self, span: &Span, result: Result<T, impl ToString>) -> Option<T> {
        result.map_err(|error| self.add(span.clone(), error.to_string())).ok()
    }
}

/// The known word that is nearest to this one, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long words are nobody's slip, and comparing them takes time that grows with the square.
    if word.len() > 64 {
        return None;
    }
    let scored = known.into_iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + candidate.len() / 3).then_some(candidate)
}

/// "did you mean", or all there is.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known.into_iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// A TOML table whose keys are read one by one.
#[derive(Debug)]
pub(super) struct Section<'a> {
    what: &'static str,
    table: &'a DeTable<'a>,
    pub(super) span: Span,
}

impl<'a> Section<'a> {
    /// Reads a table; keys that it may not have are problems.
    pub(super) fn of(
        what: &'static str,
        value: &'a Spanned<DeValue<'a>>,
        known: &[&str],
        out: &mut Problems,
    ) -> Option<Self> {
        match value.get_ref().as_table() {
            Some(table) => Some(Section::new(what, table, value.span(), known, out)),
            None => {
                out.add(value.span(), format!("{what} is a table, not {}", kind(value.get_ref())));
                None
            }
        }
    }

    pub(super) fn new(
        what: &'static str,
        table: &'a DeTable<'a>,
        span: Span,
        known: &[&str],
        out: &mut Problems,
    ) -> Self {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let hint = suggestion(key.get_ref(), known.iter().copied());
            out.add_with(key.span(), format!("{what} has no key `{}`", key.get_ref()), hint);
        }
        Section { what, table, span }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Spanned<DeValue<'_>>, out: &mut Problems) {
        out.add(value.span(), format!("`{key}` of {} is {wanted}, not {}", self.what, kind(value.get_ref())));
    }

    /// Whether a text may stand in messages and plans as it is; otherwise that is a problem.
    fn plain(&self, key: &str, text: &str, value: &Spanned<DeValue<'_>>, out: &mut Problems) -> bool {
        let plain = text.chars().all(is_plain);
        if !plain {
            out.add(value.span(), format!("`{key}` of {} has control characters", self.what));
        }
        plain
    }

    /// A text, if the key is there.
    pub(super) fn text(&self, key: &str, out: &mut Problems) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some("") => out.add(value.span(), format!("`{key}` of {} is empty", self.what)),
            Some(text) if !self.plain(key, text, value, out) => {}
            Some(text) => return Some(At { value: text.to_owned(), span: value.span() }),
            None => self.wrong(key, "a text", value, out),
        }
        None
    }

    /// A text that must be there.
    pub(super) fn must(&self, key: &str, out: &mut Problems) -> Option<At<String>> {
        if self.get(key).is_none() {
            out.add(self.span.clone(), format!("{} needs `{key}`", self.what));
        }
        self.text(key, out)
    }

    /// A text that parses, if the key is there.
    pub(super) fn parsed<T: std::str::FromStr<Err: ToString>>(&self, key: &str, out: &mut Problems) -> Option<At<T>> {
        let At { value, span } = self.text(key, out)?;
        Some(At { value: out.ok(&span, value.parse())?, span })
    }

    /// A number of that range, if the key is there.
    pub(super) fn number(&self, key: &str, range: std::ops::RangeInclusive<u32>, out: &mut Problems) -> Option<u32> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|n| range.contains(n));
        if number.is_none() {
            self.wrong(key, &format!("a number from {} to {}", range.start(), range.end()), value, out);
        }
        number
    }

    /// `true` or `false`, if the key is there.
    pub(super) fn flag(&self, key: &str, out: &mut Problems) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, "true or false", value, out);
        }
        flag
    }

    /// Whole seconds, written as a duration (`20s`, `2m`), if the key is there.
    pub(super) fn seconds(&self, key: &str, out: &mut Problems) -> Option<u64> {
        let value = self.get(key)?;
        let duration = value.get_ref().as_str().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let seconds = duration.filter(|d| d.subsec_nanos() == 0).and_then(|d| u64::try_from(d.as_secs()).ok());
        let seconds = seconds.filter(|seconds| *seconds <= LONGEST_S);
        if seconds.is_none() {
            self.wrong(key, "a duration of whole seconds, a year at most, such as \"20s\" or \"2m\"", value, out);
        }
        seconds
    }

    /// The elements of an array; none where the key is not there.
    pub(super) fn array(&self, key: &str, out: &mut Problems) -> &'a [Spanned<DeValue<'a>>] {
        let Some(value) = self.get(key) else { return &[] };
        match value.get_ref().as_array() {
            Some(array) => array,
            None => {
                self.wrong(key, "an array", value, out);
                &[]
            }
        }
    }

    /// An array of texts; none where the key is not there.
    pub(super) fn texts(&self, key: &str, out: &mut Problems) -> Vec<At<String>> {
        let mut texts = Vec::new();
        for value in self.array(key, out) {
            match value.get_ref().as_str() {
                Some(text) if !self.plain(key, text, value, out) => {}
                Some(text) => texts.push(At { value: text.to_owned(), span: value.span() }),
                None => self.wrong(key, "an array of texts", value, out),
            }
        }
        texts
    }

    /// A table of texts, such as labels; empty where the key is not there.
    pub(super) fn labels(&self, key: &str, out: &mut Problems) -> BTreeMap<String, String> {
        let Some(value) = self.get(key) else { return BTreeMap::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, "a table of texts", value, out);
            return BTreeMap::new();
        };
        let mut labels = BTreeMap::new();
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) if self.plain(key, name.get_ref(), value, out) && self.plain(key, text, value, out) => {
                    labels.insert(name.get_ref().to_string(), text.to_owned());
                }
                Some(_) => {}
                None => self.wrong(key, "a table of texts", value, out),
            }
        }
        labels
    }
}

/// What a value is, for messages; small ones as they stand.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() > 64 => "a long text".to_owned(),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
