//! What makes large fleets fast changes nothing: neither threads nor reading a file in pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::Arc;

use proptest::prelude::*;
use sectile::config::{NodeFacts, resolve};
use sectile::execute::{at_once, observe};
use sectile::gpu::Gpus;
use sectile::model::observed::UnitState;
use sectile::model::plan::Step;
use sectile::model::{Desired, Digest, Known, Observed, Policy, StepKind};
use sectile::plan::{check, plan_on};
use sectile::ports::Cluster as _;
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::world::World;
use sectile::sim::{Shared, fleet};

use super::config_good::tree;

/// What a tree wants of a fleet, and the fleet.
fn seen(files: &[(&str, &str)], text: &str) -> (Desired, Observed) {
    let world: Shared = Shared::new(fleet::parse("fleet.toml", text).unwrap().into());
    let cluster = SimCluster { world: Shared::clone(&world) };
    let seen = at_once(cluster.observe()).unwrap().unwrap();
    let pods = observe::pods_by_node(&seen);
    let tree = tree(files);
    let units = tree.units();
    let mut nodes = BTreeMap::new();
    let names: Vec<String> = sectile::sim::lock(&world).nodes.keys().cloned().collect();
    for name in names {
        let gpus = Gpus::new(SimDriver::new(Shared::clone(&world), &name));
        let host = SimHost { world: Shared::clone(&world), node: name.clone() };
        let pods = pods.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let labels = Known::Known(BTreeMap::new());
        let each = at_once(observe::node(&name, &gpus, Some(&cluster), &host, &units, &labels)).unwrap().unwrap();
        let all = observe::node_of(&name, &gpus, Some(&cluster), Some(pods), &host, &units, &labels);
        assert_eq!(at_once(all).unwrap().unwrap(), each, "one way to observe {name} or the other");
        nodes.insert(name, each);
    }
    let facts: Vec<NodeFacts> = nodes.values().map(NodeFacts::of).collect();
    (resolve(&tree, &facts).desired, Observed { nodes, cluster: seen })
}

/// Pods that must leave, with and without room on their own node; a unit that is stopped, and takes what is free.
fn crowded(nodes: usize) -> String {
    let mut text = String::new();
    let mut replicas = 0;
    for node in 0..nodes {
        writeln!(text, "[[node]]\nname = \"n{node:03}\"").unwrap();
        let instances = match node % 5 {
            0 => {
                replicas += 1;
                format!("{{ profile = \"2g.12gb\", start = 0, users = [\"pod:x/w-{node}\"] }}")
            }
            1 => "{ profile = \"2g.12gb\", start = 0 }, { profile = \"1g.6gb\", start = 2 }".to_owned(),
            2 => "{ profile = \"1g.6gb\", start = 0 }".to_owned(),
            3 => {
                replicas += 1;
                format!(
                    "{{ profile = \"2g.12gb\", start = 2, users = [\"pod:x/w-{node}\"] }}, {{ profile = \"1g.6gb\", start = 0 }}"
                )
            }
            _ => String::new(),
        };
        writeln!(text, "  [[node.gpu]]\n  model = \"a30-24gb\"\n  mig = true\n  instances = [{instances}]").unwrap();
    }
    write!(
        text,
        "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"w\"\nreplicas = {replicas}\nprofile = \"2g.12gb\"\n"
    )
    .unwrap();
    text
}

#[test]
fn the_plan_does_not_depend_on_the_number_of_threads() {
    let files = [
        ("layouts/a.toml", "nodes = [\"*0\", \"*5\"]\n[[gpu]]\ninstances = { \"1g.6gb\" = 4 }\n"),
        ("layouts/b.toml", "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"2g.12gb\", \"1g.6gb\", \"1g.6gb\"]\n"),
        ("policies/all.toml", "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n"),
    ];
    let (desired, observed) = seen(&files, &crowded(300));
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let on = |threads: usize| plan_on(NonZero::new(threads).unwrap(), &desired, &observed, now);
    let alone = on(1);
    assert_eq!(check::check(&desired, &observed, &alone), []);
    let elsewhere = alone.nodes.iter().flat_map(|node| &node.disruptions).filter_map(|d| d.moves_to.as_ref());
    let elsewhere: BTreeSet<&String> = elsewhere.filter(|to| to.starts_with('n')).collect();
    assert!(elsewhere.len() > 20, "places on other nodes are promised: {}", elsewhere.len());
    let bytes = serde_json::to_string(&alone).unwrap();
    for threads in [2, 7, 1000] {
        assert_eq!(serde_json::to_string(&on(threads)).unwrap(), bytes, "{threads} threads");
    }
}

const SHARED: [(&str, &str); 3] = [
    (
        "layouts/a.toml",
        "nodes = [\"n*\"]\n[[gpu]]\ninstances = [\"2g.12gb\"]\n[[workload]]\nname = \"w\"\nprofile = \"2g.12gb\"\nkubernetes = { kind = \"Deployment\", namespace = \"x\", name = \"w\" }\n",
    ),
    ("policies/all.toml", "nodes = [\"*\"]\n[drain]\ntimeout = \"1m\"\n"),
    ("policies/one.toml", "nodes = [\"n001\"]\n[drain]\ntimeout = \"2m\"\n"),
];

#[test]
fn nodes_that_the_same_files_match_alike_share_a_policy_and_no_others_do() {
    let (desired, _) = seen(&SHARED, &crowded(3));
    let policies: Vec<&Arc<Policy>> = desired.nodes.values().filter_map(|node| node.policy.as_ref()).collect();
    assert!(Arc::ptr_eq(policies[0], policies[2]));
    let timeouts: Vec<u64> = policies.iter().map(|policy| policy.drain.timeout_s).collect();
    assert_eq!(timeouts, [60, 120, 60]);
}

#[test]
fn a_tie_of_policies_is_told_of_every_node_that_shows_it() {
    let files = [
        ("policies/a.toml", "labels = { a = \"x\" }\n[drain]\ntimeout = \"2m\"\n"),
        ("policies/b.toml", "labels = { b = \"x\" }\n[drain]\ntimeout = \"3m\"\n"),
    ];
    let node = |name: &str| NodeFacts {
        name: name.to_owned(),
        labels: Known::Known(["a", "b"].map(|key| (key.to_owned(), "x".to_owned())).into()),
        gpus: Vec::new(),
        changed: None,
    };
    let found = resolve(&tree(&files), &[node("a"), node("b")]).diagnostics;
    assert_eq!(found.len(), 1);
    assert!(format!("{:?}", found[0]).contains("for a, b"), "{:?}", found[0]);
}

#[test]
fn a_fingerprint_is_over_what_is_shared_wherever_it_lies() {
    let (mut desired, observed) = seen(&SHARED, &crowded(3));
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let prints = |desired: &Desired| {
        let plan = plan_on(NonZero::<usize>::MIN, desired, &observed, now);
        plan.nodes.into_iter().map(|node| node.fingerprint).collect::<Vec<Digest>>()
    };
    let before = prints(&desired);
    // The same once more, each node with its own.
    let apart: Desired = serde_json::from_str(&serde_json::to_string(&desired).unwrap()).unwrap();
    assert_eq!(prints(&apart), before);
    Arc::make_mut(desired.nodes.get_mut("n000").unwrap().policy.as_mut().unwrap()).drain.timeout_s += 1;
    Arc::make_mut(&mut desired.nodes.get_mut("n002").unwrap().bindings[0]).per_replica += 1;
    let after = prints(&desired);
    let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
    assert_eq!(same, [false, true, false]);
}

#[test]
fn a_place_that_was_promised_to_a_pod_of_another_node_is_no_units() {
    let files = [
        ("layouts/a.toml", "nodes = [\"a\"]\n[[gpu]]\ninstances = { \"1g.6gb\" = 4 }\n"),
        (
            "layouts/b.toml",
            "nodes = [\"b\"]\n[[gpu]]\ninstances = [\"2g.12gb\"]\n[[workload]]\nname = \"u\"\nprofile = \"2g.12gb\"\nsystemd = { unit = \"u.service\" }\n",
        ),
        ("policies/all.toml", "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n"),
    ];
    let gpu = |node: &str, users: &str| {
        format!(
            "[[node]]\nname = \"{node}\"\n[[node.gpu]]\nmodel = \"a30-24gb\"\ninstances = [{{ profile = \"2g.12gb\"{users} }}]\n"
        )
    };
    let workload = "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"w\"\nprofile = \"2g.12gb\"\n";
    let text = [gpu("a", ", users = [\"pod:x/w-1\"]"), gpu("b", ""), workload.to_owned()].concat();
    let (desired, mut observed) = seen(&files, &text);
    observed.nodes.get_mut("b").unwrap().units.insert("u.service".to_owned(), UnitState::default());
    let plan = plan_on(NonZero::<usize>::MIN, &desired, &observed, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(plan.nodes[0].disruptions[0].moves_to.as_deref(), Some("b"));
    let starts = |step: &Step| matches!(step.kind, StepKind::StartUnit { .. });
    assert!(!plan.nodes[1].steps.iter().any(starts), "{:?}", plan.nodes[1].steps);
}

/// Parts of a fleet file, legal and not, a number in place of `@`.
const PARTS: [&str; 17] = [
    "[[node]]\nname = \"n@\"\n  [[node.gpu]]\n  model = \"a30-24gb\"\n  instances = [\n    { profile = \"2g.12gb\", start = 0 },\n  ]\n",
    "[[node]]\nname = \"p@\"\n  [[node.gpu]]\n  model = \"a30-24gb\"\n  instances = [{ profile = \"1g.6gb\", users = [\"pod:x/w-@\"] }]\n",
    "  [[node]] # with a comment\nname = \"c@\"\nlabels = { a = \"b\" }\n",
    "# [[node]]\n# name = 1\n\n",
    "[[node]]\nname = \"l@\"\nlabels.text = \"\"\"\n[[node]]\nname = \"in a text\"\n\"\"\"\n",
    "[[node]]\nname = \"l@\"\nlabels.text = '''\n  [[node]]\n'''\n",
    "[[ node ]]\nname = \"s@\"\n",
    "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"v@\"\nreplicas = 1\nprofile = \"1g.6gb\"\n",
    "[[budget]]\nnamespace = \"x\"\nname = \"b@\"\nworkload = \"v@\"\nmax_unavailable = 1\n",
    "[workload.labels]\na = \"b\"\n",
    "[fault]\n",
    "[fault.latency]\nclients = \"1s\"\n",
    "[node]\n",
    "[unknown]\n",
    "[[node]]\nname = \"same\"\n",
    "[[node]]\nname = \"w@\"\nlabels = [\n[[node]]\n]\n",
    "[[node]]\nname = \"e@\"\ngpu = 1\n",
];

/// What a file says, or what is wrong with it, but for the digest and `skip` bytes and one line before it.
fn outcome(text: &str, skip: usize) -> Result<World, Vec<(usize, usize, usize, String)>> {
    match fleet::parse("fleet.toml", text) {
        Ok(world) => Ok(World { fleet: Digest::of([]), ..world }),
        Err(found) => Err(found
            .errors
            .into_iter()
            .map(|e| (e.span.start - skip, e.line - usize::from(skip > 0), e.column, e.message))
            .collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_fleet_file_in_pieces_is_the_same_as_in_one(
        parts in prop::collection::vec((0..PARTS.len(), 0..6_u32), 0..8),
        cut in prop::option::weighted(0.3, 0..400_usize),
    ) {
        let mut text: String = parts.iter().map(|(part, n)| PARTS[*part].replace('@', &n.to_string())).collect();
        if let Some(cut) = cut.filter(|cut| text.is_char_boundary(*cut)) {
            text.truncate(cut);
        }
        // A key before the first header is what makes a file be read as a whole.
        let faults = text.contains("[fault");
        let key = if faults { "budget = []\n" } else { "fault = {}\n" };
        prop_assume!(!(faults && text.contains("[[budget")));
        let whole = outcome(&format!("{key}{text}"), key.len());
        prop_assert_eq!(outcome(&text, 0), whole, "{}", text);
    }
}

#[test]
fn an_error_far_down_a_large_file_has_its_own_place() {
    let mut text: String = (0..500).map(|n| PARTS[0].replace('@', &n.to_string())).collect();
    text += "[[node]]\nname = \"last\"\n  [[node.gpu]]\n  modle = \"a30-24gb\"\n";
    let found = fleet::parse("fleet.toml", &text).unwrap_err();
    let places: Vec<_> = found.errors.iter().map(|e| (e.line, e.column, e.message.as_str())).collect();
    assert_eq!(places, [(3503, 3, "a [[node.gpu]] needs `model`"), (3504, 3, "a [[node.gpu]] has no key `modle`")],);
}

#[test]
fn what_toml_forbids_in_one_file_is_forbidden_in_pieces() {
    let node = "[[node]]\nname = \"a\"\n";
    for text in [
        format!("node = [{{ name = \"b\" }}]\n{node}"),
        format!("workload = []\n{node}[[workload]]\nkind = \"Job\"\nnamespace = \"x\"\nname = \"y\"\n"),
        format!("[fault]\n{node}[fault]\n"),
        format!("{node}[fault.latency]\n{}[fault.latency]\n", node.replace('a', "b")),
    ] {
        let found = fleet::parse("fleet.toml", &text).unwrap_err();
        assert!(found.errors[0].message.starts_with("this is no TOML"), "{text}: {found}");
    }
}
