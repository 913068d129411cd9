//! Puts a tree together from its files.

use super::alone;
use super::diagnostic::{self, Code, Diagnostic};
use super::schema::{LayoutFile, PolicyFile, Tree, parse_layout, parse_policy};
use crate::model::{Revision, parallel};

/// Puts files (path below the tree, text) together, in path order, and checks the whole: the tree unless there is an
/// error, and what there is to say about it.
pub fn assemble<'a>(
    revision: Revision,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (Option<Tree>, Vec<Diagnostic>) {
    let mut tree = Tree { revision, layouts: Vec::new(), policies: Vec::new() };
    let mut found = Vec::new();
    // What a broken file was meant to say is not known, so it is left out of the checks of the whole.
    let whole = |diagnostics: &[Diagnostic]| diagnostics.iter().all(|d| !d.is_error());
    let files: Vec<(&str, &str)> = files.into_iter().collect();
    for (read, diagnostics) in parallel::map(parallel::threads(files.len()), files, read) {
        match read {
            _ if !whole(&diagnostics) => {}
            Read::Policy(file) => tree.policies.push(file),
            Read::Layout(file) => tree.layouts.push(file),
        }
        found.extend(diagnostics);
    }
    // Nor is it known what it would have provided.
    let complete = whole(&found);
    found.extend(alone::check_alone(&tree).into_iter().filter(|d| complete || d.code != Code::OverBound));
    diagnostic::limit(&mut found);
    (whole(&found).then_some(tree), found)
}

/// What a file is.
enum Read {
    Policy(PolicyFile),
    Layout(LayoutFile),
}

fn read((path, text): (&str, &str)) -> (Read, Vec<Diagnostic>) {
    if path.starts_with("policies/") {
        let (file, diagnostics) = parse_policy(path, text);
        (Read::Policy(file), diagnostics)
    } else {
        let (file, diagnostics) = parse_layout(path, text);
        (Read::Layout(file), diagnostics)
    }
}
