//! The one rule of precedence: the most specific wins, and a tie is an error.
//!
//! Ranks order selectors by how specific they are for something that they match; equal ranks are ties.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::{GpuFacts, NodeFacts};
use super::schema::selector::Pattern;
use super::schema::{GpuKey, GpuSelector, NodeSelector, PciAddress};
use crate::model::{Known, catalogue};

/// How specific a selector is for a node: a literal name beats labels, more labels beat fewer, labels beat a glob,
/// more literal characters beat fewer, and any other glob beats `*`. Later fields decide where earlier ones are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRank {
    /// Named literally.
    pub name: bool,
    /// Labels asked for.
    pub labels: usize,
    /// Literal characters of the glob that matched; `None`: `*`, no `nodes` at all, or a literal name.
    pub glob: Option<usize>,
}

/// Whether a selector speaks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It does not.
    No,
    /// It does if the node bears the labels, which could not be known.
    Maybe(NodeRank),
    /// It does.
    Yes(NodeRank),
}

/// Judges a selector for a node.
pub fn node(selector: &NodeSelector, name: &str, labels: &Known<BTreeMap<String, String>>) -> Match {
    let best = match &selector.nodes {
        None => Some((false, None)),
        Some(patterns) => patterns.iter().filter_map(|pattern| by_name(&pattern.value, name)).max(),
    };
    best.map_or(Match::No, |best| by_labels(selector, best, labels))
}

/// How well a pattern speaks of a name: literally, else with so many literal characters.
type ByName = (bool, Option<usize>);

fn by_labels(selector: &NodeSelector, (name, glob): ByName, labels: &Known<BTreeMap<String, String>>) -> Match {
    let rank = NodeRank { name, labels: selector.labels.len(), glob };
    match labels {
        _ if selector.labels.is_empty() => Match::Yes(rank),
        Known::Unknown => Match::Maybe(rank),
        Known::Known(labels) if selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value)) => {
            Match::Yes(rank)
        }
        Known::Known(_) => Match::No,
    }
}

/// Files by how the names that they select begin, so that a node meets only those that may speak of it: a literal name
/// is found whole, a glob by what stands before its first wildcard.
#[derive(Debug)]
pub struct Index<'t, T> {
    files: Vec<(&'t T, &'t NodeSelector)>,
    /// By beginning: the file's number, and the pattern; `None`: every node.
    shelves: HashMap<&'t str, Vec<(usize, Option<&'t Pattern>)>>,
    /// The lengths that beginnings have.
    lengths: BTreeSet<usize>,
}

impl<'t, T> Index<'t, T> {
    /// Sorts files by their selectors.
    pub fn new(files: &'t [T], selector: impl Fn(&'t T) -> &'t NodeSelector) -> Self {
        let files = files.iter().map(|file| (file, selector(file))).collect();
        let mut index = Index { files, shelves: HashMap::new(), lengths: BTreeSet::new() };
        for (at, (_, selector)) in index.files.iter().enumerate() {
            let named = selector.nodes.iter().flatten().map(|pattern| Some(&pattern.value));
            for pattern in named.chain(selector.nodes.is_none().then_some(None)) {
                let beginning = pattern.map_or("", Pattern::beginning);
                index.shelves.entry(beginning).or_default().push((at, pattern));
                index.lengths.insert(beginning.len());
            }
        }
        index
    }

    /// The files that speak of a node, or may, in their own order.
    pub fn about(&self, node: &NodeFacts) -> Vec<(&'t T, Match)> {
        let beginnings = self.lengths.iter().filter_map(|&length| node.name.get(..length));
        let mut named: BTreeMap<usize, ByName> = BTreeMap::new();
        for &(at, pattern) in beginnings.filter_map(|beginning| self.shelves.get(beginning)).flatten() {
            let found = pattern.map_or(Some((false, None)), |pattern| by_name(pattern, &node.name));
            if let Some(found) = found {
                let best = named.entry(at).or_insert(found);
                *best = found.max(*best);
            }
        }
        let judged = named.into_iter().filter_map(|(at, best)| {
            let (file, selector) = self.files.get(at)?;
            Some((*file, by_labels(selector, best, &node.labels)))
        });
        judged.filter(|(_, matched)| *matched != Match::No).collect()
    }
}

fn by_name(pattern: &Pattern, name: &str) -> Option<ByName> {
    match pattern {
        Pattern::Literal(text) => (text == name).then_some((true, None)),
        Pattern::Glob { text, .. } if every(text) => Some((false, None)),
        Pattern::Glob { literal, matcher, .. } => matcher.is_match(name).then_some((false, Some(*literal))),
    }
}

/// Whether a glob is `*`.
pub fn every(glob: &str) -> bool {
    !glob.is_empty() && glob.bytes().all(|b| b == b'*')
}

/// How specific a selector is for a GPU: uuid beats pci, pci beats index, index beats model, model beats nothing.
/// Where two name the GPU alike, the one that asks for a model as well is more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuRank {
    /// 3 uuid, 2 pci, 1 index, 0 none of them.
    pub key: u8,
    /// The model, if it is asked for: literal beats glob, more literal characters beat fewer.
    pub model: Option<(bool, usize)>,
}

/// Judges a selector for a GPU; `None`: it does not speak of it.
pub fn gpu(select: &GpuSelector, gpu: &GpuFacts) -> Option<GpuRank> {
    let key = match &select.key {
        GpuKey::Any => 0,
        GpuKey::Index(items) => items.iter().any(|item| item.value == gpu.index).then_some(1)?,
        GpuKey::Pci(items) => {
            let pci = gpu.pci.parse::<PciAddress>().ok()?;
            items.iter().any(|item| item.value == pci).then_some(2)?
        }
        GpuKey::Uuid(items) => items.iter().any(|item| item.value.matches(&gpu.uuid)).then_some(3)?,
    };
    let model = match &select.model {
        None => None,
        Some(pattern) => Some(by_model(&pattern.value, gpu)?),
    };
    Some(GpuRank { key, model })
}

fn by_model(pattern: &Pattern, gpu: &GpuFacts) -> Option<(bool, usize)> {
    let bare = gpu.model.strip_prefix("NVIDIA ").unwrap_or(&gpu.model);
    let board = gpu.board.as_deref().or_else(|| catalogue::by_name(&gpu.model).map(|board| board.id));
    match pattern {
        Pattern::Literal(text) => {
            let named = |name: &str| text.eq_ignore_ascii_case(name);
            (named(bare) || board.is_some_and(named)).then_some((true, 0))
        }
        Pattern::Glob { literal, matcher, .. } => {
            let named = |name: &str| matcher.is_match(name);
            let matches = named(bare) || named(&format!("NVIDIA {bare}")) || board.is_some_and(named);
            matches.then_some((false, *literal))
        }
    }
}
