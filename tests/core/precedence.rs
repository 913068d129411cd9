//! Whole trees resolved for whole fleets, against the product's words taken one after the other: every file is asked
//! about every node, by a table that says by hand which pattern matches which name.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;
use sectile::config::schema::{self, Tree};
use sectile::config::{NodeFacts, resolve};
use sectile::model::plan::BlockCode;
use sectile::model::{DesiredNode, Known};

use super::config_good::{node, revision};

const NAMES: [&str; 6] = ["n1", "n2", "m1", "n11", "é1", "n"];

/// How a pattern is ranked by its name: a literal name, a glob with so many literal characters, or every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Every,
    Glob(usize),
    Literal,
}

/// Each pattern, its rank, and what it matches.
const PATTERNS: [(&str, Name, &[&str]); 16] = [
    ("n1", Name::Literal, &["n1"]),
    ("n", Name::Literal, &["n"]),
    ("é1", Name::Literal, &["é1"]),
    ("n11", Name::Literal, &["n11"]),
    ("nobody", Name::Literal, &[]),
    ("*", Name::Every, &NAMES),
    ("**", Name::Every, &NAMES),
    ("?*", Name::Glob(0), &NAMES),
    ("n*", Name::Glob(1), &["n1", "n2", "n11", "n"]),
    ("n?", Name::Glob(1), &["n1", "n2"]),
    ("*1", Name::Glob(1), &["n1", "m1", "n11", "é1"]),
    ("n[12]", Name::Glob(1), &["n1", "n2"]),
    ("{n,m}1", Name::Glob(1), &["n1", "m1"]),
    ("é*", Name::Glob(1), &["é1"]),
    ("n1*", Name::Glob(2), &["n1", "n11"]),
    ("n1{,1}", Name::Glob(2), &["n1", "n11"]),
];

type Labels = BTreeMap<&'static str, &'static str>;

#[derive(Clone, Debug)]
struct Selector {
    /// Indices into the patterns; `None`: no `nodes`.
    nodes: Option<Vec<usize>>,
    labels: Labels,
}

/// More is more specific: a literal name, then labels, then the glob.
type Rank = (bool, usize, Name);

impl Selector {
    fn text(&self) -> String {
        let names = |nodes: &Vec<usize>| nodes.iter().map(|at| PATTERNS[*at].0).collect::<Vec<_>>();
        let nodes = self.nodes.as_ref().map(|nodes| format!("nodes = {:?}\n", names(nodes))).unwrap_or_default();
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
        format!("{nodes}labels = {{ {} }}\n", labels.join(", "))
    }

    /// How well it speaks of a node whose labels are as it asks.
    fn rank(&self, name: &str) -> Option<Rank> {
        let of = |at: &usize| PATTERNS[*at].2.contains(&name).then_some(PATTERNS[*at].1);
        let best = match &self.nodes {
            None => Some(Name::Every),
            Some(nodes) => nodes.iter().filter_map(of).max(),
        }?;
        Some((best == Name::Literal, self.labels.len(), if best == Name::Literal { Name::Every } else { best }))
    }

    /// Whether its labels are the node's; `None`: nobody knows.
    fn bears(&self, labels: Option<&Labels>) -> Option<bool> {
        match labels {
            _ if self.labels.is_empty() => Some(true),
            None => None,
            Some(labels) => Some(self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))),
        }
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    let (keys, values) = (prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["1", "2"]));
    prop::collection::btree_map(keys, values, 0..3)
}

fn selector(named: bool) -> impl Strategy<Value = Selector> {
    let patterns = prop::sample::subsequence((0..PATTERNS.len()).collect::<Vec<_>>(), 1..5);
    (prop::bool::weighted(0.7), patterns, labels())
        .prop_map(move |(names, nodes, labels)| Selector { nodes: (named || names).then_some(nodes), labels })
}

/// A file: its selector, and whether it has a `[[gpu]]` or binds a workload, or sets that many retries.
fn layout() -> impl Strategy<Value = (Selector, bool)> {
    prop::bool::weighted(0.7).prop_flat_map(|gpu| (selector(gpu), Just(gpu)))
}

fn fleet() -> impl Strategy<Value = BTreeMap<&'static str, Option<Labels>>> {
    prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), prop::option::weighted(0.7, labels()), 1..6)
}

/// What the obvious way says of a node: the layout with what it shadows, `Err` where there is a tie; the layouts that
/// leave it undecided.
fn layout_of(
    layouts: &[(Selector, bool)],
    name: &str,
    labels: Option<&Labels>,
) -> (Result<Vec<usize>, ()>, Vec<usize>) {
    let asked = || (0..layouts.len()).filter(|at| layouts[*at].1);
    let mut certain: Vec<(Reverse<Rank>, usize)> = asked()
        .filter(|at| layouts[*at].0.bears(labels) == Some(true))
        .filter_map(|at| Some((Reverse(layouts[at].0.rank(name)?), at)))
        .collect();
    certain.sort();
    let best = certain.first().map(|(rank, _)| rank.0);
    let open = asked()
        .filter(|at| layouts[*at].0.bears(labels).is_none())
        .filter(|at| layouts[*at].0.rank(name).is_some_and(|rank| best.is_none_or(|best| rank >= best)));
    let open: Vec<usize> = open.collect();
    let held = certain.iter().map(|(_, at)| *at).collect();
    match certain[..] {
        _ if !open.is_empty() => (Ok(Vec::new()), open),
        [(first, _), (second, _), ..] if first == second => (Err(()), open),
        _ => (Ok(held), open),
    }
}

fn number(path: &str) -> usize {
    path.split(['/', '.']).nth(1).unwrap().parse().unwrap()
}

fn undecided(desired: &DesiredNode, what: &str) -> Vec<usize> {
    let blocks = desired.blocked.iter().filter(|b| b.code == BlockCode::Undecided && b.object.starts_with(what));
    blocks.map(|b| number(&b.object)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn trees_are_resolved_as_the_obvious_way_resolves_them(
        layouts in prop::collection::vec(layout(), 0..8),
        policies in prop::collection::vec((selector(false), 0..3_u32), 0..6),
        nodes in fleet(),
    ) {
        let layout_texts: Vec<String> = layouts.iter().enumerate().map(|(at, (selector, gpu))| match gpu {
            true => format!("{}[[gpu]]\nmig = false\n", selector.text()),
            false => format!(
                "{}[[workload]]\nname = \"w{at}\"\nprofile = \"1g\"\nsystemd = {{ unit = \"u{at}.service\" }}\n",
                selector.text()
            ),
        }).collect();
        let policy_texts: Vec<String> = policies.iter().map(|(selector, retries)| {
            format!("{}[failure]\nretries = {retries}\n", selector.text())
        }).collect();
        let mut tree = Tree { revision: revision(), layouts: Vec::new(), policies: Vec::new() };
        for (at, text) in layout_texts.iter().enumerate() {
            let (file, found) = schema::parse_layout(&format!("layouts/{at}.toml"), text);
            prop_assert!(found.is_empty(), "{:?}", found);
            tree.layouts.push(file);
        }
        for (at, text) in policy_texts.iter().enumerate() {
            let (file, found) = schema::parse_policy(&format!("policies/{at}.toml"), text);
            prop_assert!(found.is_empty(), "{:?}", found);
            tree.policies.push(file);
        }
        let facts: Vec<NodeFacts> = nodes.iter().map(|(name, labels)| match labels {
            Some(labels) => node(name, &labels.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(), 1),
            None => NodeFacts { labels: Known::Unknown, ..node(name, &[], 1) },
        }).collect();
        let resolved = resolve(&tree, &facts);
        let mut ties = false;
        for (name, labels) in &nodes {
            let labels = labels.as_ref();
            let desired = &resolved.desired.nodes[*name];
            let (held, open) = layout_of(&layouts, name, labels);
            ties |= held.is_err();
            let told: Vec<usize> =
                desired.layout.iter().chain(&desired.shadows).map(|source| number(&source.file)).collect();
            prop_assert_eq!(&told, &held.clone().unwrap_or_default(), "the layout of {} and what it shadows", name);
            prop_assert_eq!(undecided(desired, "layouts/"), open.clone().into_iter().chain(
                // Bindings are undecided only where a layout may hold.
                (0..layouts.len())
                    .filter(|_| held.is_err() || !open.is_empty() || !told.is_empty())
                    .filter(|at| !layouts[*at].1 && layouts[*at].0.bears(labels).is_none())
                    .filter(|at| layouts[*at].0.rank(name).is_some())
            ).collect::<Vec<_>>(), "what leaves {} undecided", name);
            let bound: Vec<String> = (0..layouts.len())
                .filter(|at| !layouts[*at].1 && layouts[*at].0.bears(labels) == Some(true))
                .filter(|at| layouts[*at].0.rank(name).is_some())
                .map(|at| format!("w{at}"))
                .collect();
            let names: Vec<String> = desired.bindings.iter().map(|binding| binding.name.clone()).collect();
            prop_assert_eq!(names, bound, "bindings on {}", name);

            let mut matching: Vec<(Reverse<Rank>, usize)> = (0..policies.len())
                .filter(|at| policies[*at].0.bears(labels) == Some(true))
                .filter_map(|at| Some((Reverse(policies[at].0.rank(name)?), at)))
                .collect();
            matching.sort();
            let sources = desired.policy.iter().flat_map(|policy| &policy.sources);
            let sources: Vec<usize> = sources.map(|source| number(&source.file)).collect();
            prop_assert_eq!(sources, matching.iter().map(|(_, at)| *at).collect::<Vec<_>>(), "policies of {}", name);
            if let [(best, first), ..] = matching[..] {
                prop_assert_eq!(desired.policy.as_ref().unwrap().failure.retries, policies[first].1);
                ties |= matching.iter().any(|(rank, at)| *rank == best && policies[*at].1 != policies[first].1);
            }
        }
        prop_assert_eq!(ties, !resolved.diagnostics.is_empty(), "{:?}", resolved.diagnostics);
    }
}
