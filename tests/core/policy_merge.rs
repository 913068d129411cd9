//! Policies merge key by key, against a slow and obvious reading of the rule.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sectile::config::{Code, resolve};
use sectile::model::Policy;

use super::config_good::{assemble, node};

/// Keys, each with values that differ.
const KEYS: &[(&str, [&str; 3])] = &[
    ("apply.mode", ["\"auto\"", "\"undisruptive\"", "\"manual\""]),
    ("drain.timeout", ["\"1s\"", "\"2m\"", "\"3h\""]),
    ("drain.grace_period", ["\"0s\"", "\"5s\"", "\"9s\""]),
    ("drain.force", ["true", "false", "true"]),
    ("drain.delete_emptydir_data", ["true", "false", "true"]),
    ("drain.daemonsets", ["\"refuse\"", "\"delete\"", "\"refuse\""]),
    ("budget.max_nodes", ["1", "\"10%\"", "7"]),
    ("budget.canary", ["0", "1", "2"]),
    ("budget.max_pods", ["1", "2", "3"]),
    ("budget.uncoordinated", ["\"refuse\"", "\"splay\"", "\"splay\""]),
    ("budget.splay", ["\"1h\"", "\"2h\"", "\"3h\""]),
    ("window.open", ["[\"Mon 00:00-01:00\"]", "[\"Tue 00:00-01:00\"]", "[\"Mon 00:00-01:00\", \"Wed 22:00-06:00\"]"]),
    ("window.timezone", ["\"UTC\"", "\"Europe/Berlin\"", "\"Asia/Kolkata\""]),
    ("protect.annotations", ["true", "false", "true"]),
    ("protect.processes", ["\"refuse\"", "\"wait\"", "\"terminate\""]),
    ("gpu.mode_change", ["\"refuse\"", "\"idle\"", "\"allow\""]),
    ("gpu.reset", ["\"refuse\"", "\"idle\"", "\"refuse\""]),
    ("gpu.reboot", ["\"refuse\"", "\"request\"", "\"allow\""]),
    ("clients.allocation", ["\"auto\"", "\"dra\"", "\"device-plugin\""]),
    ("clients.systemd", ["[]", "[\"a.service\"]", "[\"b.service\", \"a.service\"]"]),
    (
        "clients.commands",
        ["[]", "[{ pause = [\"/a\"], resume = [\"/b\"] }]", "[{ pause = [\"/b\"], resume = [\"/b\"] }]"],
    ),
    ("writers.mig_manager", ["\"refuse\"", "\"take_over\"", "\"refuse\""]),
    ("failure.rollback", ["true", "false", "true"]),
    ("failure.retries", ["0", "1", "2"]),
];

/// How specific a selector is; `None`: it does not match.
type Rank = Option<(u8, u8, u8)>;

/// Selectors, and how specific each is for node `gpu-1` with labels `a=1, b=1`: a literal name, labels, literal
/// characters of the glob.
const SELECTORS: &[(&str, Rank)] = &[
    ("", Some((0, 0, 0))),
    ("nodes = [\"*\"]", Some((0, 0, 0))),
    ("nodes = [\"gpu-*\"]", Some((0, 0, 5))),
    ("nodes = [\"g*\", \"gpu?1\"]", Some((0, 0, 5))),
    ("nodes = [\"g*\"]", Some((0, 0, 2))),
    ("nodes = [\"gpu-1\", \"*\"]", Some((1, 0, 0))),
    ("nodes = [\"gpu-2\"]", None),
    ("labels = { a = \"1\" }", Some((0, 1, 0))),
    ("labels = { a = \"1\", b = \"1\" }", Some((0, 2, 0))),
    ("labels = { a = \"2\" }", None),
    ("nodes = [\"g*\"]\nlabels = { b = \"1\" }", Some((0, 1, 2))),
    ("nodes = [\"gpu-1\"]\nlabels = { b = \"1\" }", Some((1, 1, 0))),
];

/// A file: its selector, its keys with their values, and whether it protects a namespace of its own.
type File = (usize, BTreeMap<usize, usize>, bool);

fn files() -> impl Strategy<Value = Vec<File>> {
    let keys = proptest::collection::btree_map(0..KEYS.len(), 0usize..3, 0..8);
    proptest::collection::vec((0..SELECTORS.len(), keys, any::<bool>()), 0..6)
}

fn text(selector: &str, settings: &BTreeMap<&str, &str>, protect: &[String]) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (key, value) in settings {
        let (section, name) = key.split_once('.').unwrap();
        *sections.entry(section).or_default() += &format!("{name} = {value}\n");
    }
    if !protect.is_empty() {
        let pods: Vec<String> = protect.iter().map(|name| format!("{{ namespace = \"{name}\" }}")).collect();
        *sections.entry("protect").or_default() += &format!("pods = [{}]\n", pods.join(", "));
    }
    let sections = sections.iter().map(|(name, keys)| format!("[{name}]\n{keys}"));
    format!("{selector}\n{}", sections.collect::<String>())
}

/// The policy without places, which differ; pods in the order of their namespaces.
fn bare(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    let nowhere = || "nowhere:1".parse().unwrap();
    policy.sources.clear();
    policy.clients.commands_at = None;
    policy.budget.max_nodes.iter_mut().for_each(|max| max.over = nowhere());
    policy.budget.canary.iter_mut().chain(&mut policy.budget.max_pods).for_each(|max| max.over = nowhere());
    policy.protect.pods.iter_mut().for_each(|pod| pod.source = nowhere());
    policy.protect.pods.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    policy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn policies_merge_as_the_rule_reads(files in files()) {
        let name = |n: usize| format!("policies/{n}.toml");
        let own = |n: usize| format!("ns-{n}");
        let texts: Vec<(String, String)> = files.iter().enumerate().map(|(n, (selector, keys, protects))| {
            let settings = keys.iter().map(|(key, value)| (KEYS[*key].0, KEYS[*key].1[*value])).collect();
            let protect: Vec<String> = protects.then(|| own(n)).into_iter().collect();
            (name(n), text(SELECTORS[*selector].0, &settings, &protect))
        }).collect();
        let (tree, alone) = assemble(&texts.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect::<Vec<_>>());
        let node = || node("gpu-1", &[("a", "1"), ("b", "1")], 0);
        let Some(tree) = tree else {
            // Two files that select some node alike contradict each other, whatever there is.
            let differ = |n: usize| files.iter().take(n).any(|(_, keys, _)| {
                let other = |key: &usize| files[n].1.get(key).map(|value| KEYS[*key].1[*value]);
                keys.iter().any(|(key, value)| other(key).is_some_and(|other| other != KEYS[*key].1[*value]))
            });
            prop_assert!(alone.iter().all(|d| d.code == Code::Tie || !d.is_error()), "{:?}", alone);
            prop_assert!((0..files.len()).any(differ));
            return Ok(());
        };
        let resolved = resolve(&tree, &[node()]);
        let matching: Vec<_> = files.iter().enumerate()
            .filter_map(|(n, (selector, keys, protects))| Some((SELECTORS[*selector].1?, n, keys, protects)))
            .collect();
        let (mut settings, mut tied) = (BTreeMap::new(), BTreeSet::new());
        for (at, (key, values)) in KEYS.iter().enumerate() {
            let told = || matching.iter().filter_map(|(rank, _, keys, _)| Some((*rank, values[*keys.get(&at)?])));
            let Some(best) = told().map(|(rank, _)| rank).max() else { continue };
            let said: BTreeSet<&str> = told().filter(|(rank, _)| *rank == best).map(|(_, value)| value).collect();
            if said.len() > 1 {
                tied.insert(*key);
            }
            settings.insert(*key, *said.first().unwrap());
        }
        let told: BTreeSet<String> = resolved.diagnostics.iter().map(|d| {
            assert_eq!(d.code, Code::Tie);
            d.message.split('`').nth(1).unwrap().to_owned()
        }).collect();
        prop_assert_eq!(told, tied.iter().map(|key| key.to_string()).collect::<BTreeSet<_>>());
        let policy = resolved.desired.nodes["gpu-1"].policy.clone();
        prop_assert_eq!(policy.is_some(), !matching.is_empty());
        let Some(policy) = policy.filter(|_| tied.is_empty()) else { return Ok(()) };
        let pods: Vec<String> = matching.iter().filter(|(.., protects)| **protects).map(|(_, n, ..)| own(*n)).collect();
        let (one, _) = assemble(&[("policies/one.toml", &text("", &settings, &pods))]);
        let one = resolve(&one.unwrap(), &[node()]).desired.nodes["gpu-1"].policy.clone().unwrap();
        prop_assert_eq!(bare(&policy), bare(&one));
        // Limits are over the nodes of the file that sets them, and the most specific file comes first.
        for over in policy.budget.max_nodes.iter().map(|m| &m.over).chain(policy.budget.canary.iter().map(|c| &c.over)) {
            prop_assert!(policy.sources.contains(over));
        }
        let ranks: Vec<_> = policy.sources.iter().map(|source| {
            matching.iter().find(|(_, n, ..)| *name(*n) == *source.file).unwrap().0
        }).collect();
        prop_assert!(ranks.len() == matching.len() && ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
    }
}

#[test]
fn the_keys_above_are_all() {
    let source = include_str!("../../src/config/schema/policy.rs");
    let lines = source.lines().skip_while(|line| !line.contains("settings! {")).skip(1);
    let keys: BTreeSet<&str> =
        lines.take_while(|line| *line != "}").filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(KEYS.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>(), keys);
}
