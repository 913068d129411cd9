//! The rule of precedence, against an implementation that is slow and obvious.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use sectile::config::diagnostic::{self, Code};
use sectile::config::schema::{self, Tree};
use sectile::config::{NodeFacts, Resolved, resolve};
use sectile::model::plan::BlockCode;
use sectile::model::policy::{ApplyMode, Uncoordinated};
use sectile::model::{Block, Goal, Known};

use super::config_good::{node, revision, sources, tree};

/// A tree from files that may tie.
fn loose(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree { revision: revision(), layouts: Vec::new(), policies: Vec::new() };
    for (path, text) in files {
        let found = if path.starts_with("policies/") {
            let (file, found) = schema::parse_policy(path, text);
            tree.policies.push(file);
            found
        } else {
            let (file, found) = schema::parse_layout(path, text);
            tree.layouts.push(file);
            found
        };
        assert!(found.is_empty(), "{}", diagnostic::render(&found, &sources(files), false));
    }
    tree
}

fn layout(nodes: &str, labels: &str) -> String {
    format!("nodes = [{nodes}]\nlabels = {{{labels}}}\n[[gpu]]\nmig = false\n")
}

fn held(resolved: &Resolved, name: &str) -> Option<String> {
    resolved.desired.nodes[name].layout.as_ref().map(|source| source.file.to_string())
}

fn codes(blocked: &[Block]) -> Vec<BlockCode> {
    blocked.iter().map(|block| block.code).collect()
}

#[test]
fn the_most_specific_layout_holds() {
    let files = [
        ("layouts/1-name.toml", layout("\"gpu-a-01\"", "")),
        ("layouts/2-two-labels.toml", layout("\"*\"", "pool = \"x\", zone = \"z\"")),
        ("layouts/3-label.toml", layout("\"gpu-*\"", "pool = \"x\"")),
        ("layouts/4-long-glob.toml", layout("\"gpu-a-*\"", "")),
        ("layouts/5-glob.toml", layout("\"gpu-*\"", "")),
        ("layouts/6-all.toml", layout("\"*\"", "")),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let tree = tree(&files);
    let both = [("pool", "x"), ("zone", "z")];
    for (name, labels, wanted) in [
        ("gpu-a-01", &both[..], "1-name"),
        ("gpu-a-02", &both[..], "2-two-labels"),
        ("gpu-a-02", &both[..1], "3-label"),
        ("gpu-a-02", &[], "4-long-glob"),
        ("gpu-b-02", &[], "5-glob"),
        ("cpu", &[], "6-all"),
    ] {
        let resolved = resolve(&tree, &[node(name, labels, 1)]);
        assert_eq!(held(&resolved, name), Some(format!("layouts/{wanted}.toml")));
        assert!(resolved.diagnostics.is_empty());
    }
    let resolved = resolve(&tree, &[node("gpu-a-02", &both[..1], 1)]);
    let shadows: Vec<_> = resolved.desired.nodes["gpu-a-02"].shadows.iter().map(ToString::to_string).collect();
    assert_eq!(shadows, ["layouts/4-long-glob.toml:1", "layouts/5-glob.toml:1", "layouts/6-all.toml:1"]);
}

#[test]
fn ties_are_told_once_with_all_who_show_them() {
    let (a, b) = (layout("\"gpu-*\"", ""), layout("\"*-gpu\"", ""));
    let gpus = "nodes = [\"n\"]\n[[gpu]]\nmodel = \"*H100\"\nmig = false\n[[gpu]]\nmodel = \"H100*\"\ninstances = []\n[[gpu]]\nmodel = \"H100 80GB HBM3\"\nindex = [1]\nmig = false\n";
    let gpus = gpus.replace("*H100", "*HBM3");
    let files = [
        ("layouts/a.toml", a.as_str()),
        ("layouts/b.toml", b.as_str()),
        ("layouts/n.toml", gpus.as_str()),
        ("policies/a.toml", "nodes = [\"n*\"]\n[apply]\nmode = \"auto\"\n"),
        ("policies/b.toml", "nodes = [\"*n\"]\n[apply]\nmode = \"manual\"\n"),
    ];
    let nodes: Vec<NodeFacts> = (0..6).map(|at| node(&format!("gpu-{at}-gpu"), &[], 1)).collect();
    let resolved = resolve(&tree(&files), &[nodes, vec![node("n", &[], 2)]].concat());
    insta::assert_snapshot!("ties", diagnostic::render(&resolved.diagnostics, &sources(&files), false));
    assert!(resolved.diagnostics.iter().all(|d| d.code == Code::Tie && d.is_error()));
    assert_eq!(held(&resolved, "gpu-1-gpu"), None);
    // The GPU that two claim stays unmanaged; the other one is claimed by its index.
    let gpus: Vec<_> = resolved.desired.nodes["n"].gpus.keys().collect();
    assert_eq!(gpus, ["GPU-00000001-0000-0000-0000-000000000000"]);
}

#[test]
fn unknown_labels_leave_a_node_undecided() {
    let unknown = |name: &str| NodeFacts { labels: Known::Unknown, ..node(name, &[], 1) };
    let (label, name) = (layout("\"*\"", "pool = \"x\""), layout("\"n\"", ""));
    let unit =
        "labels = { pool = \"x\" }\n[[workload]]\nname = \"u\"\nprofile = \"1g\"\nsystemd = { unit = \"u.service\" }\n";
    let files = [
        ("layouts/a.toml", label.as_str()),
        ("layouts/n.toml", name.as_str()),
        ("policies/a.toml", "labels = { pool = \"x\" }\n[failure]\nretries = 1\n"),
    ];
    let resolved = resolve(&tree(&files), &[unknown("n"), unknown("m")]);
    let nodes = &resolved.desired.nodes;
    // The name wins whatever the labels are, but the policy hangs on them.
    assert_eq!(held(&resolved, "n").as_deref(), Some("layouts/n.toml"));
    assert_eq!(codes(&nodes["n"].blocked), [BlockCode::Undecided]);
    assert_eq!(nodes["n"].blocked[0].object, "policies/a.toml:1");
    assert_eq!(held(&resolved, "m"), None);
    assert_eq!(codes(&nodes["m"].blocked), [BlockCode::Undecided; 2]);
    assert!(nodes["m"].gpus.is_empty() && nodes["m"].policy.is_none());
    // Where no layout can hold there is nothing to hold back.
    let resolved = resolve(&loose(&[("layouts/w.toml", unit)]), &[unknown("n")]);
    assert_eq!(resolved.desired.nodes["n"].blocked, []);
    assert_eq!(resolved.desired.nodes["n"].bindings, []);
    let resolved = resolve(&loose(&[("layouts/w.toml", unit), ("layouts/n.toml", &name)]), &[unknown("n")]);
    assert_eq!(codes(&resolved.desired.nodes["n"].blocked), [BlockCode::Undecided]);
}

#[test]
fn policies_merge_key_by_key() {
    let files = [
        (
            "policies/all.toml",
            "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n[budget]\nsplay = \"1h\"\n[window]\nopen = [\"Mon 00:00-24:00\"]\ntimezone = \"Europe/Berlin\"\n[protect]\npods = [{ namespace = \"a\" }]\n",
        ),
        (
            "policies/one.toml",
            "nodes = [\"n\"]\n[apply]\nmode = \"manual\"\n[budget]\nuncoordinated = \"splay\"\n[window]\nopen = [\"Tue 00:00-24:00\"]\n[protect]\npods = [{ namespace = \"b\" }]\n",
        ),
        ("policies/two.toml", "nodes = [\"n\"]\n[apply]\nmode = \"manual\"\n[failure]\nretries = 7\n"),
    ];
    let resolved = resolve(&tree(&files), &[node("n", &[], 1), node("m", &[], 1)]);
    let policy = resolved.desired.nodes["n"].policy.clone().unwrap();
    assert_eq!(policy.mode, ApplyMode::Manual);
    assert_eq!(policy.failure.retries, 7);
    assert_eq!(policy.budget.uncoordinated, Uncoordinated::Splay(3600));
    let window = policy.window.as_ref().unwrap();
    assert_eq!((window.timezone.as_str(), window.open[0].days[1]), ("Europe/Berlin", true));
    let pods: Vec<_> = policy.protect.pods.iter().map(|pods| pods.namespace.clone().unwrap()).collect();
    assert_eq!(pods, ["b", "a"]);
    let sources: Vec<_> = policy.sources.iter().map(|source| &*source.file).collect();
    assert_eq!(sources, ["policies/one.toml", "policies/two.toml", "policies/all.toml"]);
    let other = resolved.desired.nodes["m"].policy.clone().unwrap();
    assert_eq!((other.mode, other.budget.uncoordinated), (ApplyMode::Auto, Uncoordinated::Refuse));
}

#[test]
fn gpus_are_named_in_many_ways() {
    let of = |selector: &str, goal: &str| format!("[[gpu]]\n{selector}\n{goal}\n");
    let text = ["nodes = [\"*\"]\n".to_owned()]
        .into_iter()
        .chain([
            of(
                "uuid = [\"gpu-00000000-0000-0000-0000-000000000000\"]".replace("gpu-", "GPU-").as_str(),
                "instances = [\"1g\"]",
            ),
            of("pci = [\"3B:00.0\", \"0000:3c:00.0\"]", "instances = [\"2g\"]"),
            of("index = [0, 1, 2]", "instances = [\"3g\"]"),
            of("model = \"nvidia h100 80gb hbm3\"", "instances = [\"4g\"]"),
            of("model = \"H100-80GB-*\"", "instances = [\"5g\"]"),
            of("", "instances = [\"7g\"]"),
        ])
        .collect::<String>();
    let tree = tree(&[("layouts/a.toml", &text)]);
    let mut facts = node("n", &[], 6);
    facts.gpus[4].model = "H100 other".to_owned();
    facts.gpus[5].model = "NVIDIA A30".to_owned();
    facts.gpus[5].board = None;
    let desired = &resolve(&tree, &[facts]).desired.nodes["n"];
    let slices: Vec<u32> = desired
        .gpus
        .values()
        .map(|goal| match &goal.goal {
            Goal::Instances(wanted) => wanted[0].profile.slices,
            _ => 0,
        })
        .collect();
    assert_eq!(slices, [1, 2, 3, 4, 5, 7]);
    assert_eq!(desired.gpus.values().next().unwrap().shadows.len(), 5);
    assert_eq!(desired.blocked, []);
}

#[test]
fn hands_off_wins_whatever_else_matches() {
    let text = "nodes = [\"*\"]\n[[gpu]]\nmodel = \"H100*\"\nmanaged = false\n[[gpu]]\nindex = [0]\ninstances = [\"1g\"]\n[[gpu]]\nindex = [0]\nmanaged = false\n";
    let desired = &resolve(&tree(&[("layouts/a.toml", text)]), &[node("n", &[], 1)]).desired.nodes["n"];
    let goal = desired.gpus.values().next().unwrap();
    assert_eq!((&goal.goal, goal.source.line, goal.shadows.len()), (&Goal::HandsOff, 8, 2));
}

#[test]
fn gpus_that_are_not_there_block() {
    let goal = "instances = []\n";
    let entries = format!(
        "[[gpu]]\nindex = [0, 7]\n{goal}[[gpu]]\nuuid = [\"GPU-1b3c…\"]\n{goal}[[gpu]]\npci = [\"ff:00.0\"]\n{goal}[[gpu]]\ncount = 3\n{goal}"
    );
    for (nodes, wanted) in [("\"n\"", 3), ("\"n\", \"m\"", 1), ("\"*\"", 1)] {
        let text = format!("nodes = [{nodes}]\n{entries}");
        let desired = &resolve(&tree(&[("layouts/a.toml", &text)]), &[node("n", &[], 3)]).desired.nodes["n"];
        let mut codes = codes(&desired.blocked);
        assert_eq!(codes.pop(), Some(BlockCode::TooFewGpus));
        assert_eq!(codes, vec![BlockCode::NoSuchGpu; wanted]);
        if wanted == 3 {
            let mut out = String::new();
            for block in &desired.blocked {
                writeln!(out, "{}: {} ({})\n  {}", block.code, block.message, block.object, block.hint).unwrap();
            }
            insta::assert_snapshot!("blocks", out);
        }
    }
}

// --- properties ---

/// Matches by trying every way.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => glob(rest, text),
        ([c, rest @ ..], [d, text @ ..]) => c == d && glob(rest, text),
        _ => false,
    }
}

#[derive(Clone, Debug)]
struct File {
    nodes: Vec<&'static str>,
    labels: BTreeMap<&'static str, &'static str>,
}

const NODES: [&str; 9] = ["n1", "n2", "n*", "n?", "*", "?*", "*1", "m*", "n1*"];

fn file() -> impl Strategy<Value = File> {
    let labels =
        prop::collection::btree_map(prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["1", "2"]), 0..3);
    let nodes = prop::sample::subsequence(NODES.to_vec(), 1..4);
    (nodes, labels).prop_map(|(nodes, labels)| File { nodes, labels })
}

/// Whether a file speaks of the node, and how well: the words of the product, one after the other.
fn score(file: &File, name: &str, labels: &BTreeMap<&str, &str>) -> Option<[usize; 4]> {
    if file.labels.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return None;
    }
    let one = |pattern: &&'static str| -> Option<[usize; 4]> {
        let plain = pattern.bytes().filter(|b| !b"*?".contains(b)).count();
        let wild = pattern.len() > plain;
        let scores = match *pattern {
            "*" => [0, file.labels.len(), 0, 0],
            _ if wild => [0, file.labels.len(), 1, plain],
            _ => [1, file.labels.len(), 0, 0],
        };
        glob(pattern.as_bytes(), name.as_bytes()).then_some(scores)
    };
    file.nodes.iter().filter_map(one).max()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    None,
    Tie,
    Undecided,
    File(usize),
}

/// The best files; several are a tie.
fn best(files: &[File], name: &str, labels: &BTreeMap<&str, &str>) -> Vec<usize> {
    let scores: Vec<_> = files.iter().map(|file| score(file, name, labels)).collect();
    let Some(best) = scores.iter().flatten().max() else { return Vec::new() };
    (0..files.len()).filter(|at| scores[*at].as_ref() == Some(best)).collect()
}

fn outcome(best: &[usize]) -> Outcome {
    match best {
        [] => Outcome::None,
        [only] => Outcome::File(*only),
        _ => Outcome::Tie,
    }
}

/// Unknown labels are decided only if all labels that a node could have decide alike.
fn best_unknown(files: &[File], name: &str) -> Outcome {
    let values = [None, Some("1"), Some("2")];
    let all = values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b)));
    let outcomes: Vec<Vec<usize>> = all
        .map(|(a, b)| {
            let labels = [("a", a), ("b", b)].into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            best(files, name, &labels)
        })
        .collect();
    let alike = outcomes.iter().all(|other| *other == outcomes[0]);
    if alike { outcome(&outcomes[0]) } else { Outcome::Undecided }
}

#[derive(Clone, Debug)]
struct Entry {
    index: Option<Vec<u32>>,
    model: Option<&'static str>,
    count: Option<u32>,
    hands_off: bool,
}

fn entry() -> impl Strategy<Value = Entry> {
    let index = prop::option::of(prop::sample::subsequence(vec![0, 1, 2, 3], 1..4));
    let model = prop::option::of(prop::sample::select(vec!["A", "B", "A*", "*", "?", "*A"]));
    let count = prop::option::of(1..4_u32);
    (index, model, count, prop::bool::weighted(0.2)).prop_map(|(index, model, count, hands_off)| {
        let count = count.filter(|_| index.is_none() && !hands_off);
        Entry { index, model, count, hands_off }
    })
}

fn speaks(entry: &Entry, index: u32, model: &str) -> bool {
    entry.index.as_ref().is_none_or(|items| items.contains(&index))
        && entry.model.is_none_or(|pattern| glob(pattern.as_bytes(), model.as_bytes()))
}

fn entry_score(entry: &Entry) -> [usize; 5] {
    let plain = |pattern: &str| pattern.bytes().filter(|b| !b"*?".contains(b)).count();
    let model = match entry.model {
        None => [0, 0, 0],
        Some(model) if plain(model) == model.len() => [1, 1, 0],
        Some(model) => [1, 0, plain(model)],
    };
    [usize::from(entry.hands_off), usize::from(entry.index.is_some()), model[0], model[1], model[2]]
}

/// Whether the GPUs can be dealt out, by trying every way.
fn dealt(gpus: &[Vec<usize>], wants: &mut Vec<u32>) -> bool {
    let Some((gpu, rest)) = gpus.split_first() else { return wants.iter().all(|want| *want == 0) };
    for at in gpu {
        if wants[*at] > 0 {
            wants[*at] -= 1;
            let fits = dealt(rest, wants);
            wants[*at] += 1;
            if fits {
                return true;
            }
        }
    }
    dealt(rest, wants)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn layouts_are_picked_as_the_obvious_way_picks_them(
        files in prop::collection::vec(file(), 0..5),
        name in prop::sample::select(vec!["n1", "n2", "m1", "n11", "x"]),
        labels in prop::option::of(prop::collection::btree_map(
            prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["1", "2"]), 0..3)),
    ) {
        let texts: Vec<(String, String)> = files.iter().enumerate().map(|(at, file)| {
            let labels: Vec<String> = file.labels.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
            let nodes: Vec<String> = file.nodes.iter().map(|node| format!("\"{node}\"")).collect();
            (format!("layouts/{at}.toml"), layout(&nodes.join(", "), &labels.join(", ")))
        }).collect();
        let texts: Vec<_> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (facts, wanted) = match &labels {
            Some(labels) => {
                let pairs: Vec<_> = labels.iter().map(|(key, value)| (*key, *value)).collect();
                (node(name, &pairs, 1), outcome(&best(&files, name, labels)))
            }
            None => (NodeFacts { labels: Known::Unknown, ..node(name, &[], 1) }, best_unknown(&files, name)),
        };
        let resolved = resolve(&loose(&texts), &[facts]);
        let desired = &resolved.desired.nodes[name];
        let outcome = match &desired.layout {
            Some(source) => Outcome::File(source.file[8..9].parse().unwrap()),
            None if !resolved.diagnostics.is_empty() => Outcome::Tie,
            None if !desired.blocked.is_empty() => Outcome::Undecided,
            None => Outcome::None,
        };
        prop_assert_eq!(outcome, wanted);
    }

    #[test]
    fn gpus_are_claimed_as_the_obvious_way_claims_them(
        entries in prop::collection::vec(entry(), 1..6),
        models in prop::collection::vec(prop::sample::select(vec!["A", "B", "AA", "BA"]), 4),
    ) {
        let mut text = "nodes = [\"n\"]\n".to_owned();
        for (at, Entry { index, model, count, hands_off }) in entries.iter().enumerate() {
            text += "[[gpu]]\n";
            if let Some(index) = index { writeln!(text, "index = {index:?}").unwrap(); }
            if let Some(model) = model { writeln!(text, "model = {model:?}").unwrap(); }
            if let Some(count) = count { writeln!(text, "count = {count}").unwrap(); }
            let goal = if *hands_off { "managed = false".to_owned() } else { format!("instances = [\"{}g\"]", at + 1) };
            text += &format!("{goal}\n");
        }
        let mut facts = node("n", &[], 4);
        for (gpu, model) in facts.gpus.iter_mut().zip(&models) {
            gpu.model = (*model).to_owned();
            gpu.board = None;
        }
        let resolved = resolve(&loose(&[("layouts/a.toml", &text)]), &[facts.clone()]);
        let desired = &resolved.desired.nodes["n"];
        let mut tie = false;
        let mut left = Vec::new();
        for (gpu, model) in facts.gpus.iter().zip(&models) {
            let claims = |entry: &&Entry| entry.count.is_none() && speaks(entry, gpu.index, model);
            let best = entries.iter().filter(claims).map(entry_score).max();
            let winners: Vec<usize> = (0..entries.len())
                .filter(|at| claims(&&entries[*at]) && Some(entry_score(&entries[*at])) == best).collect();
            let goal = desired.gpus.get(&gpu.uuid).map(|goal| goal.goal.clone());
            match winners[..] {
                [] => {
                    prop_assert_eq!(goal, None);
                    left.push((gpu, model));
                }
                [first, second, ..] if !(entries[first].hands_off && entries[second].hands_off) => {
                    tie = true;
                    prop_assert_eq!(goal, None);
                }
                [at, ..] if entries[at].hands_off => prop_assert_eq!(goal, Some(Goal::HandsOff)),
                [at, ..] => {
                    let Some(Goal::Instances(wanted)) = goal else { panic!("{goal:?}") };
                    prop_assert_eq!(wanted[0].profile.slices as usize, at + 1);
                }
            }
        }
        prop_assert_eq!(tie, !resolved.diagnostics.is_empty());
        let counted: Vec<&Entry> = entries.iter().filter(|entry| entry.count.is_some()).collect();
        let gpus: Vec<Vec<usize>> = left.iter().map(|(gpu, model)| {
            (0..counted.len()).filter(|at| speaks(counted[*at], gpu.index, model)).collect()
        }).collect();
        let mut wants = counted.iter().map(|entry| entry.count.unwrap()).collect();
        prop_assert_eq!(dealt(&gpus, &mut wants), desired.blocked.is_empty(), "{:?}", desired.blocked);
    }
}
