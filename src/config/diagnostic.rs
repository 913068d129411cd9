//! What is wrong with the tree: where, why, and the way out; drawn for people, listed for programs.

use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use crate::model::closed::closed_list;
use crate::model::text::{Excerpt, drawable, near, position, visible};

closed_list! {
    /// How bad it is.
    Severity {
        /// The tree is held back.
        Error = "error",
        /// The tree holds; somebody should look.
        Warning = "warning",
    }
}

closed_list! {
    /// What is wrong with the tree.
    Code {
        /// Not TOML.
        Syntax = "syntax",
        /// A key that nothing reads.
        UnknownKey = "unknown-key",
        /// A key that must be there.
        MissingKey = "missing-key",
        /// A value of another type.
        WrongType = "wrong-type",
        /// A value of the right type that means nothing here.
        BadValue = "bad-value",
        /// Keys that contradict each other.
        Contradiction = "contradiction",
        /// Something is named twice.
        Duplicate = "duplicate",
        /// A selector on a label that the change itself rewrites.
        RewrittenLabel = "rewritten-label",
        /// Two entries are equally specific.
        Tie = "tie",
        /// An entry with `count` for which nothing can be left.
        NothingLeft = "nothing-left",
        /// A workload wants a profile that no layout provides.
        OverBound = "over-bound",
        /// A file that says nothing.
        EmptyFile = "empty-file",
        /// The folder is no tree.
        NoTree = "no-tree",
        /// The tree needs a newer Sectile.
        Upgrade = "upgrade",
        /// A file or folder that can't be read.
        Unreadable = "unreadable",
        /// Something other than a file, named like one of the tree.
        NotAFile = "not-a-file",
        /// A symbolic link that leads nowhere or in a circle.
        BrokenLink = "broken-link",
        /// A symbolic link that leads out of the tree.
        OutsideLink = "outside-link",
        /// A file or folder whose name is no UTF-8, or has control characters.
        BadName = "bad-name",
        /// A file that is no UTF-8.
        NotUtf8 = "not-utf8",
        /// A file or tree that is too large to be one that people keep.
        TooLarge = "too-large",
        /// More is wrong with a file than is told.
        More = "more",
    }
}

/// A place that has to do with it: the other side of a tie, the first use of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, below the tree.
    pub file: String,
    /// Bytes in it.
    pub span: Range<usize>,
    /// What is there.
    pub label: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// The sentence above the source.
    pub message: String,
    /// The file, below the tree; `None`: the tree as a whole.
    pub file: Option<String>,
    /// Bytes in the file; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// The reason, beside the caret.
    pub label: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<Place>,
    /// The way out.
    pub help: Option<String>,
}

impl Diagnostic {
    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Diagnostic { severity, code, message, file: None, span: None, label: None, related: Vec::new(), help: None }
    }

    /// An error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// In that file.
    #[must_use]
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// At those bytes of that file.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, span: Range<usize>) -> Self {
        self.file = Some(file.into());
        self.span = Some(span);
        self
    }

    /// For that reason.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With that other place.
    #[must_use]
    pub fn also(mut self, file: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Place { file: file.into(), span, label: label.into() });
        self
    }

    /// With that way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it holds the tree back.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Orders by file and place, as people read.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    let start = |d: &Diagnostic| d.span.as_ref().map(|span| span.start);
    // That there is more stands behind the rest.
    let key = |d: &Diagnostic| (d.code == Code::More, start(d), d.code);
    diagnostics.sort_by(|a, b| (&a.file, key(a)).cmp(&(&b.file, key(b))));
}

/// Orders, and cuts off what is said of one file after the hundredth: nobody reads on, and drawing takes time.
pub fn limit(diagnostics: &mut Vec<Diagnostic>) {
    const MOST: u32 = 100;
    sort(diagnostics);
    let mut counts: BTreeMap<Option<String>, (u32, Severity)> = BTreeMap::new();
    diagnostics.retain(|d| {
        let (count, worst) = counts.entry(d.file.clone()).or_insert((0, Severity::Warning));
        // What said this before counts as nothing.
        *count += u32::from(d.code != Code::More);
        if *count > MOST {
            *worst = (*worst).min(d.severity);
        }
        *count <= MOST
    });
    for (file, (count, worst)) in counts.into_iter().filter(|(_, (count, _))| *count > MOST) {
        let mut more =
            Diagnostic::new(worst, Code::More, format!("{} more problems in this file are not shown", count - MOST));
        more.file = file;
        diagnostics.push(more);
    }
    sort(diagnostics);
}

/// Text from the tree as it may stand in a message: in one line, without control characters, and not endless.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.is_empty() {
        return "`\"\"`".to_owned();
    }
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", visible(&short))
}

/// Draws diagnostics as rustc does: file, line, column, caret, reason, way out; with a blank line between them.
/// `sources` are the files' texts by path; what is not there is named without its text.
pub fn render(diagnostics: &[Diagnostic], sources: &BTreeMap<String, String>, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Unicode);
    let drawn = diagnostics.iter().map(|diagnostic| renderer.render(&[group(diagnostic, sources)]) + "\n");
    drawn.collect::<Vec<_>>().join("\n")
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a BTreeMap<String, String>) -> Group<'a> {
    let Diagnostic { severity, code, message, file, span, label, related, help } = diagnostic;
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(message.as_str()).id(code.word()));
    let mut apart: Vec<(&str, Range<usize>, &str)> = Vec::new();
    if let Some(file) = file {
        match (span, sources.get(file)) {
            (Some(span), Some(text)) => {
                let span = drawable(text, span);
                let mut all = span.clone();
                let mut beside = Vec::new();
                // Places close by belong into the same drawing.
                for place in related.iter().filter(|place| &place.file == file) {
                    let other = drawable(text, &place.span);
                    match near(text, &span, &other) {
                        true => {
                            all = all.start.min(other.start)..all.end.max(other.end);
                            beside.push((other, place.label.as_str()));
                        }
                        false => apart.push((file, other, &place.label)),
                    }
                }
                let excerpt = Excerpt::around(text, &all);
                let primary = AnnotationKind::Primary.span(excerpt.place(&span)).label(label.as_deref());
                let beside = beside.into_iter();
                let beside =
                    beside.map(|(span, label)| AnnotationKind::Context.span(excerpt.place(&span)).label(label));
                let marks = std::iter::once(primary).chain(beside).collect();
                group = draw(group, file, position(text, span.start), excerpt, marks);
            }
            _ => group = group.element(Origin::path(file.as_str())),
        }
    }
    for place in related.iter().filter(|place| Some(&place.file) != file.as_ref()) {
        if let Some(text) = sources.get(&place.file) {
            apart.push((&place.file, drawable(text, &place.span), &place.label));
        }
    }
    for (file, span, label) in apart {
        let Some(text) = sources.get(file) else { continue };
        let excerpt = Excerpt::around(text, &span);
        let mark = AnnotationKind::Context.span(excerpt.place(&span)).label(label);
        group = draw(group, file, position(text, span.start), excerpt, vec![mark]);
    }
    if span.is_none()
        && let Some(label) = label
    {
        group = group.element(Level::NOTE.message(label.as_str()));
    }
    match help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// Adds a drawing of a place.
fn draw<'a>(
    group: Group<'a>,
    file: &'a str,
    (line, column): (usize, usize),
    excerpt: Excerpt,
    marks: Vec<Annotation<'a>>,
) -> Group<'a> {
    let whole = excerpt.begins_a_line();
    let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).annotations(marks);
    match whole {
        true => group.element(snippet.path(file)),
        false => group.element(Origin::path(file).line(line).char_column(column)).element(snippet),
    }
}

/// A diagnostic for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// The file, below the tree; `null`: the tree as a whole.
    pub file: Option<String>,
    /// The line, from 1; `null`: the file as a whole.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// The reason.
    pub reason: Option<String>,
    /// The way out.
    pub help: Option<String>,
}

/// The diagnostics for programs, in the same order.
pub fn findings(diagnostics: &[Diagnostic], sources: &BTreeMap<String, String>) -> Vec<Finding> {
    let finding = |d: &Diagnostic| {
        let text = d.file.as_ref().and_then(|file| sources.get(file));
        let place = d.span.as_ref().zip(text).map(|(span, text)| position(text, span.start));
        Finding {
            severity: d.severity,
            code: d.code,
            file: d.file.clone(),
            line: place.map(|(line, _)| u32::try_from(line).unwrap_or(u32::MAX)),
            column: place.map(|(_, column)| u32::try_from(column).unwrap_or(u32::MAX)),
            message: d.message.clone(),
            reason: d.label.clone(),
            help: d.help.clone(),
        }
    };
    diagnostics.iter().map(finding).collect()
}
