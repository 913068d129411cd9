//! `FLEET.toml`: the simulated fleet as a person writes it, read into a [`World`].

mod build;
mod deep;
mod entries;
mod pieces;
mod read;

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use toml::de::DeTable;

use super::world::World;
use crate::model::Digest;
use crate::model::text::{Excerpt, drawable};

/// The fleet that `--sim` without a file simulates.
pub const BUILTIN: &str = include_str!("../builtin.toml");

/// What messages call [`BUILTIN`].
pub const BUILTIN_NAME: &str = "the built-in fleet";

/// Where every fleet's virtual clock begins: Thursday, 1 January 2026, 00:00 UTC. A fixed time, so that what is
/// simulated twice is the same twice.
pub const BEGIN_MS: i64 = 1_767_225_600_000;

/// So many errors are drawn: nobody reads on.
const MOST_DRAWN: usize = 100;

/// One thing that is wrong with a fleet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetError {
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, a sentence.
    pub message: String,
    /// A way out.
    pub hint: Option<String>,
}

/// Everything that is wrong with a fleet file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetErrors {
    /// What the file is called.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Never empty.
    pub errors: Vec<FleetError>,
}

impl FleetErrors {
    /// Each error with file, line, column, a caret and a way out; in colours for a terminal that has them.
    pub fn render(&self, coloured: bool) -> String {
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Unicode);
        let report = |error: &FleetError| {
            let title = Level::ERROR.primary_title(error.message.as_str());
            let span = drawable(&self.text, &error.span);
            let excerpt = Excerpt::around(&self.text, &span);
            let (caret, whole) = (AnnotationKind::Primary.span(excerpt.place(&span)), excerpt.begins_a_line());
            let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).annotation(caret);
            let title = match whole {
                true => title.element(snippet.path(self.name.as_str())),
                false => {
                    let origin = Origin::path(self.name.as_str()).line(error.line).char_column(error.column);
                    title.element(origin).element(snippet)
                }
            };
            let hint = error.hint.as_ref().map(|hint| Level::HELP.message(hint.as_str()));
            renderer.render(&[title.elements(hint)])
        };
        let mut reports: Vec<String> = self.errors.iter().take(MOST_DRAWN).map(report).collect();
        if let Some(more @ 1..) = self.errors.len().checked_sub(MOST_DRAWN) {
            reports.push(format!("{more} more are not shown"));
        }
        reports.join("\n\n")
    }
}

impl fmt::Display for FleetErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for FleetErrors {}

/// Reads a fleet file into the world that it describes, settled: the cluster has made and placed the pods that the
/// file does not name. `name` is what messages call the file. All that is wrong is told at once.
pub fn parse(name: &str, text: &str) -> Result<World, Box<FleetErrors>> {
    let mut problems = read::Problems::default();
    // Only what is right is read in pieces: where something is wrong, the whole file tells what and where.
    if let Some(world) = pieces::read(text).and_then(|entries| built(entries, text).ok()) {
        return Ok(world);
    }
    if let Some(span) = deep::too_deep(text) {
        problems.add(span, "keys are nested too deep");
        return Err(told(name, text, problems));
    }
    let (document, syntax) = DeTable::parse_recoverable(text);
    // What follows a syntax error is mostly its consequence.
    match syntax.into_iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) {
        Some(error) => problems.add(error.span().unwrap_or(0..0), sentence(error.message())),
        None => {
            let entries = entries::read(&document, &mut problems);
            match built(entries, text) {
                Ok(world) if problems.list.is_empty() => return Ok(world),
                Ok(_) => {}
                Err(more) => problems.list.extend(more.list),
            }
        }
    }
    Err(told(name, text, problems))
}

/// The problems, in the order of the file.
fn told(name: &str, text: &str, problems: read::Problems) -> Box<FleetErrors> {
    let mut errors: Vec<FleetError> = problems.list.into_iter().map(|problem| problem.at(text)).collect();
    errors.sort_by_key(|error| (error.span.start, error.span.end));
    Box::new(FleetErrors { name: name.to_owned(), text: text.to_owned(), errors })
}

/// The world of a file's entries, or what is wrong with their sense.
fn built(entries: entries::Entries, text: &str) -> Result<World, read::Problems> {
    let mut problems = read::Problems::default();
    let world = build::world(entries, digest(text), &mut problems);
    if problems.list.is_empty() { Ok(world) } else { Err(problems) }
}

/// The digest of a fleet file.
pub fn digest(text: &str) -> Digest {
    Digest::of([text.as_bytes()])
}

/// The parser's words, in one line.
fn sentence(message: &str) -> String {
    format!("this is no TOML: {}", message.lines().collect::<Vec<_>>().join(", "))
}
