//! The form of the tree's files: text in, what it says out, with every error at once and each at its place.
//!
//! It is a walk over `toml`'s spanned values instead of serde's derive, which stops at the first error.

pub mod layout;
pub mod policy;
mod reader;
pub mod selector;
pub mod settings;
pub mod values;
pub mod workload;

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::DeTable;
use toml_parser::Source as Lexed;
use toml_parser::lexer::TokenKind;

pub use layout::{GpuEntry, LayoutFile};
pub use policy::{PolicyFile, Setting};
pub use selector::{GpuKey, GpuSelector, ModelPattern, NodePattern, NodeSelector, PciAddress, UuidPattern};
pub use settings::Settings;
pub use workload::WorkloadEntry;

use super::diagnostic::{self, Code, Diagnostic};
use crate::model::memory::TakenUp;
use crate::model::{Binding, Revision, Source, Target};
use reader::Reader;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the file.
    pub span: Range<usize>,
    /// Its line, from 1.
    pub line: u32,
}

impl<T> At<T> {
    /// The place, in that file.
    pub fn source(&self, file: &str) -> Source {
        Source { file: file.into(), line: self.line }
    }

    /// Another value at the same place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), span: self.span, line: self.line }
    }
}

/// A whole tree without errors of form.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Which version of it.
    pub revision: Revision,
    /// `layouts/**.toml`, in path order.
    pub layouts: Vec<LayoutFile>,
    /// `policies/**.toml`, in path order.
    pub policies: Vec<PolicyFile>,
}

impl Tree {
    /// What is remembered of it once it is taken up.
    pub fn sum(&self) -> TakenUp {
        let layouts = self.layouts.iter().filter(|file| !file.gpus.is_empty()).count();
        let workloads = self.layouts.iter().flat_map(|file| &file.workloads);
        TakenUp {
            digest: self.revision.digest.clone(),
            layouts: u32::try_from(layouts).unwrap_or(u32::MAX),
            bindings: workloads.map(|entry| entry.binding.name.clone()).collect(),
        }
    }

    /// Its bindings, in path and line order.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.layouts.iter().flat_map(|file| &file.workloads).map(|entry| entry.binding.as_ref())
    }

    /// The systemd units that the tree binds or pauses, on any node.
    pub fn units(&self) -> BTreeSet<String> {
        let bound =
            self.layouts.iter().flat_map(|file| &file.workloads).filter_map(|entry| match &entry.binding.target {
                Target::Systemd { unit, .. } => Some(unit.clone()),
                Target::Kubernetes { .. } | Target::Command { .. } => None,
            });
        let paused = self.policies.iter().flat_map(|file| &file.settings).filter_map(|setting| match &setting.value {
            Setting::Units(units) => Some(units.clone()),
            _ => None,
        });
        bound.chain(paused.flatten()).collect()
    }
}

/// Reads a layout file. What could not be read is left out of the result.
pub fn parse_layout(path: &str, text: &str) -> (LayoutFile, Vec<Diagnostic>) {
    parse(path, text, layout::read)
}

/// Reads a policy file. What could not be read is left out of the result.
pub fn parse_policy(path: &str, text: &str) -> (PolicyFile, Vec<Diagnostic>) {
    parse(path, text, policy::read)
}

/// Reads `tree.toml`: an error where it asks for another version than the running one.
pub fn parse_tree_toml(path: &str, text: &str, running: &str) -> Vec<Diagnostic> {
    parse(path, text, |reader, root| values::requires(reader, root, running)).1
}

/// Reads a node's own settings. What could not be read is left out of the result.
pub fn parse_settings(path: &str, text: &str) -> (Settings, Vec<Diagnostic>) {
    parse(path, text, settings::read)
}

fn parse<T>(path: &str, text: &str, read: impl FnOnce(&mut Reader<'_>, &DeTable<'_>) -> T) -> (T, Vec<Diagnostic>) {
    let (read, mut found) = parse_all(path, text, read);
    // A tree may hold millions of errors, which are not kept.
    diagnostic::limit(&mut found);
    (read, found)
}

fn parse_all<T>(path: &str, text: &str, read: impl FnOnce(&mut Reader<'_>, &DeTable<'_>) -> T) -> (T, Vec<Diagnostic>) {
    let mut reader = Reader::new(path, text);
    let empty = DeTable::new();
    if let Some(span) = too_deep(text) {
        let message = "keys are nested too deep";
        reader.report(Code::Syntax, span, message, |d| d.label("no key of the tree has so many parts"));
        return (read(&mut Reader::new(path, ""), &empty), reader.finish());
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    // One slip makes the parser lose its way, so only the first error means something.
    let place = |error: &toml::de::Error| error.span().unwrap_or(0..0);
    if let Some(first) = errors.iter().min_by_key(|error| place(error).start) {
        let span = place(first);
        reader.report(Code::Syntax, span, "this is not TOML", |d| d.label(first.message()));
        return (read(&mut Reader::new(path, ""), &empty), reader.finish());
    }
    (read(&mut reader, root.get_ref()), reader.finish())
}

/// Where a line has more dots outside of strings than any key of ours has parts. `toml` nests a table for each part,
/// and drops them recursively: a line of a hundred thousand would overflow the stack.
fn too_deep(text: &str) -> Option<Range<usize>> {
    const MOST: usize = 16;
    let mut dots = 0;
    for token in Lexed::new(text).lex() {
        match token.kind() {
            TokenKind::Newline => dots = 0,
            TokenKind::Dot if dots == MOST => return Some(token.span().start()..token.span().end()),
            TokenKind::Dot => dots += 1,
            _ => {}
        }
    }
    None
}
