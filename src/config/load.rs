//! Reads the tree from the disk: the only part of `config` that touches anything outside.

mod revision;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::assemble::assemble;
use super::diagnostic::{self, Code, Diagnostic};
use super::schema::{self, Tree};
use crate::model::{Digest, Revision, visible};
use walk::Walk;

/// The running version, for `requires`.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A tree as it lies on the disk.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The tree, unless there is an error.
    pub tree: Option<Tree>,
    /// Which version of it, also where there is an error.
    pub revision: Revision,
    /// What there is to say about it, by file and place; [`super::alone::check_alone`] included.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that count, by path below the tree, for drawing.
    pub sources: BTreeMap<String, String>,
}

/// How often a tree that is just being replaced is read anew.
const TRIES: u32 = 10;

/// Reads `layouts/**.toml`, `policies/**.toml` and `tree.toml` below a folder, in path order.
pub fn load(root: &Path) -> Loaded {
    let (Walk { files, sources, mut found, .. }, name) = settled(root);
    let digest = Digest::of(files.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes.as_slice()]));
    let revision = Revision { name, digest };
    let required = sources.get("tree.toml").map(|text| schema::parse_tree_toml("tree.toml", text, VERSION));
    let required = required.unwrap_or_default();
    // What a newer Sectile would understand looks like errors to this one, so only that is said.
    if required.iter().any(|d| d.code == Code::Upgrade) {
        return Loaded { tree: None, revision, diagnostics: required, sources };
    }
    found.extend(required);
    let parts = sources.iter().filter(|(path, _)| *path != "tree.toml");
    let (tree, more) = assemble(revision.clone(), parts.map(|(path, text)| (path.as_str(), text.as_str())));
    // A file that could not be read may provide what seems to be missing.
    let complete = found.iter().all(|d| !d.is_error());
    found.extend(more.into_iter().filter(|d| complete || d.code != Code::OverBound));
    diagnostic::limit(&mut found);
    let tree = tree.filter(|_| found.iter().all(|d| !d.is_error()));
    Loaded { tree, revision, diagnostics: found, sources }
}

/// All that counts of one version, with its name: read until it reads the same twice. A folder may be renamed between two
/// files, and what was there be removed under the reader: whoever reads once takes the halves of two versions, or the
/// half of one, for a tree.
fn settled(root: &Path) -> (Walk, Option<String>) {
    let (mut read, mut name) = version(root);
    for _ in 1..TRIES {
        let before = std::mem::replace(&mut read, walk(root));
        if !read.vanished && !before.vanished && read.same(&before) {
            return (read, name);
        }
        (read, name) = version(root);
    }
    if !read.vanished {
        let d = Diagnostic::error(Code::Unreadable, "the tree was another one each time that it was read");
        read.found.push(d.help("try again when nobody writes to it"));
    }
    (read, name)
}

/// One version of the tree, with its name, as far as it holds still.
fn version(root: &Path) -> (Walk, Option<String>) {
    let mut walk = walk(root);
    let name = revision::name(root);
    walk.end(root);
    (walk, name)
}

/// Looks at all that counts, once.
fn walk(root: &Path) -> Walk {
    let real = fs::canonicalize(root);
    let mut walk = Walk::new(real.as_deref().unwrap_or(root).to_owned());
    let no_tree = |why: String| {
        let d = Diagnostic::error(Code::NoTree, format!("{} holds no tree", visible(&root.display().to_string())));
        d.label(why).help("name the folder with layouts/ and policies/, or create them: empty ones manage nothing")
    };
    match real.and_then(fs::metadata) {
        Err(error) => walk.found.push(no_tree(error.to_string())),
        Ok(meta) if !meta.is_dir() => walk.found.push(no_tree("it is no folder".to_owned())),
        Ok(_) => {
            walk.optional_file("tree.toml");
            let there = ["layouts", "policies"].map(|folder| walk.folder(folder));
            if !there.contains(&true) {
                walk.found.push(no_tree("it has neither layouts/ nor policies/".to_owned()));
            }
        }
    }
    walk
}
