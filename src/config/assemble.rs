//! Puts a tree together from its files.

use super::alone;
use super::diagnostic::{self, Code, Diagnostic};
use super::schema::{Tree, parse_layout, parse_policy};
use crate::model::Revision;

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
    for (path, text) in files {
        if path.starts_with("policies/") {
            let (file, diagnostics) = parse_policy(path, text);
            tree.policies.extend(whole(&diagnostics).then_some(file));
            found.extend(diagnostics);
        } else {
            let (file, diagnostics) = parse_layout(path, text);
            tree.layouts.extend(whole(&diagnostics).then_some(file));
            found.extend(diagnostics);
        }
    }
    // Nor is it known what it would have provided.
    let complete = whole(&found);
    found.extend(alone::check_alone(&tree).into_iter().filter(|d| complete || d.code != Code::OverBound));
    diagnostic::limit(&mut found);
    (whole(&found).then_some(tree), found)
}
