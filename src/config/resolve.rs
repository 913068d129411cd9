//! What the tree wants of each node: precedence is settled here, hardware is asked by the planner.

mod gpus;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diagnostic::{Code, Diagnostic};
use super::facts::NodeFacts;
use super::precedence::{self, Index, Match, NodeRank};
use super::schema::{LayoutFile, NodeSelector, Tree};
use crate::model::plan::BlockCode;
use crate::model::{Binding, Block, Desired, DesiredNode, Source};

/// What the tree wants of the nodes, and what is wrong with it that only the nodes show. An error holds back the
/// whole tree, as those of [`super::load()`] do.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What it wants.
    pub desired: Desired,
    /// What is wrong with it: ties.
    pub diagnostics: Vec<Diagnostic>,
}

/// Settles what the tree wants of the nodes.
pub fn resolve(tree: &Tree, nodes: &[NodeFacts]) -> Resolved {
    let mut ties = Ties::default();
    let mut desired = BTreeMap::new();
    let layouts = Index::new(&tree.layouts, |file| &file.selector);
    let mut policies = policy::Merger::new(&tree.policies);
    for node in nodes {
        desired.insert(node.name.clone(), one(&layouts, &mut policies, node, &mut ties));
    }
    let bindings = tree.layouts.iter().flat_map(|file| &file.workloads).map(|entry| entry.binding.clone()).collect();
    let (peers, blocked) = Default::default();
    let desired = Desired { revision: tree.revision.clone(), nodes: desired, bindings, peers, blocked };
    Resolved { desired, diagnostics: ties.finish() }
}

fn one(
    layouts: &Index<'_, LayoutFile>,
    policies: &mut policy::Merger<'_>,
    node: &NodeFacts,
    ties: &mut Ties,
) -> DesiredNode {
    let mut blocked = Vec::new();
    let mut desired = DesiredNode {
        node: node.name.clone(),
        layout: None,
        shadows: Vec::new(),
        gpus: BTreeMap::new(),
        shared: Vec::new(),
        bindings: Vec::new(),
        policy: None,
        held: BTreeMap::new(),
        blocked: Vec::new(),
    };
    let files = layouts.about(node);
    let layout = layout(&files, node, ties);
    let concerned = !matches!(layout, Held::Free);
    match layout {
        Held::Free => {}
        Held::Tie => {}
        Held::Undecided(files) => blocked.extend(files.into_iter().map(|file| undecided(node, "layout", file))),
        Held::By { file, shadows } => {
            desired.layout = Some(place(&file.selector, &file.path));
            desired.shadows = shadows;
            let goals = gpus::goals(file, node, ties);
            desired.gpus = goals.gpus;
            desired.shared = goals.shared;
            desired.held = goals.held;
            blocked.extend(goals.blocked);
        }
    }
    let merged = policies.merge(node, ties);
    desired.policy = merged.policy;
    let (bindings, unsure) = bindings(&files, node);
    desired.bindings = bindings;
    // Where no layout can hold, nothing is changed, so nothing needs holding back.
    if concerned {
        blocked.extend(merged.undecided.into_iter().map(|source| undecided(node, "policy", source)));
        blocked.extend(unsure.into_iter().map(|source| undecided(node, "workload", source)));
    }
    desired.blocked = blocked;
    desired
}

/// Which layout file holds for a node.
enum Held<'t> {
    /// None speaks of it.
    Free,
    /// Two are equally specific.
    Tie,
    /// These may, or may not.
    Undecided(Vec<Source>),
    /// This one.
    By { file: &'t LayoutFile, shadows: Vec<Source> },
}

fn layout<'t>(files: &[(&'t LayoutFile, Match)], node: &NodeFacts, ties: &mut Ties) -> Held<'t> {
    let mut certain: Vec<(NodeRank, &LayoutFile)> = Vec::new();
    let mut possible: Vec<(NodeRank, &LayoutFile)> = Vec::new();
    for &(file, matched) in files.iter().filter(|(file, _)| !file.gpus.is_empty()) {
        match matched {
            Match::No => {}
            Match::Maybe(rank) => possible.push((rank, file)),
            Match::Yes(rank) => certain.push((rank, file)),
        }
    }
    // Most specific first; the sort is stable, so equal ones stay in path order.
    certain.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let best = certain.first().map(|(rank, _)| *rank);
    // One that may match matters only if it would win or tie.
    let open: Vec<Source> = possible
        .iter()
        .filter(|(rank, _)| best.is_none_or(|best| *rank >= best))
        .map(|(_, file)| place(&file.selector, &file.path))
        .collect();
    if !open.is_empty() {
        return Held::Undecided(open);
    }
    match &certain[..] {
        [] => Held::Free,
        [(first, one), (second, other), ..] if first == second => {
            ties.layouts(one, other, &node.name);
            Held::Tie
        }
        [(_, file), rest @ ..] => {
            let shadows = rest.iter().map(|(_, file)| place(&file.selector, &file.path)).collect();
            Held::By { file, shadows }
        }
    }
}

/// The bindings that may hold on a node, and those of which that can't be known.
fn bindings(files: &[(&LayoutFile, Match)], node: &NodeFacts) -> (Vec<Arc<Binding>>, Vec<Source>) {
    let mut certain = Vec::new();
    let mut unsure = Vec::new();
    for (file, of_file) in files {
        for entry in &file.workloads {
            match (of_file, precedence::node(&entry.selector, &node.name, &node.labels)) {
                (Match::No, _) | (_, Match::No) => {}
                (Match::Yes(_), Match::Yes(_)) => certain.push(entry.binding.clone()),
                _ => unsure.push(entry.binding.source.clone()),
            }
        }
    }
    (certain, unsure)
}

fn place(selector: &NodeSelector, file: &str) -> Source {
    selector.at.source(file)
}

fn undecided(node: &NodeFacts, what: &str, source: Source) -> Block {
    Block {
        code: BlockCode::Undecided,
        message: format!(
            "the labels of {} are not known, so whether the {what} at {source} holds for it can't be decided",
            node.name
        ),
        object: source.to_string(),
        hint: "connect to the cluster, or say the labels in sectile.toml under [node] labels".to_owned(),
    }
}

/// Ties, each once with all the nodes that show it.
#[derive(Default)]
pub(super) struct Ties {
    /// By both places and the message.
    found: BTreeMap<(Place, Place, String), (Diagnostic, BTreeSet<String>)>,
}

/// A file and a byte in it.
type Place = (String, usize);

/// One side of a tie: a file and bytes in it.
pub(super) type Side<'t> = (&'t str, &'t std::ops::Range<usize>);

impl Ties {
    fn layouts(&mut self, one: &LayoutFile, other: &LayoutFile, node: &str) {
        let message = "two layouts are equally specific";
        let help = "exactly one layout holds for a node: make one of the two more specific, or name the nodes";
        let sides = [(one.path.as_str(), &one.selector.at.span), (other.path.as_str(), &other.selector.at.span)];
        self.add(message.to_owned(), sides, help.to_owned(), node.to_owned());
    }

    /// A tie between two places that somebody (a node, a GPU of it) shows.
    pub(super) fn add(&mut self, message: String, [one, other]: [Side<'_>; 2], help: String, who: String) {
        let key = ((one.0.to_owned(), one.1.start), (other.0.to_owned(), other.1.start), message.clone());
        let new = || {
            let d = Diagnostic::error(Code::Tie, message).at(other.0, other.1.clone());
            (d.also(one.0, one.1.clone(), "as specific as this").help(help), BTreeSet::new())
        };
        let (_, shown) = self.found.entry(key).or_insert_with(new);
        shown.insert(who);
    }

    fn finish(self) -> Vec<Diagnostic> {
        let mut found: Vec<_> =
            self.found.into_values().map(|(d, who)| d.label(format!("for {}", few(&who)))).collect();
        super::diagnostic::sort(&mut found);
        found
    }
}

/// `a, b, c and 5 more`.
fn few(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match &names[..] {
        [one, two, three, _, rest @ ..] if !rest.is_empty() => {
            format!("{one}, {two}, {three} and {} more", rest.len() + 1)
        }
        all => all.join(", "),
    }
}
