//! Every way by which somebody else's bytes come in. Whatever they are, nothing panics, hangs or lies: what is refused
//! is refused with a message, and what is accepted has a plan that the independent check takes.
//!
//! The fuzz targets and `tests/core/fuzz.rs` use it alike.
#![allow(dead_code, reason = "each target uses one of them")]
#![allow(clippy::panic, clippy::expect_used, reason = "a panic is how a fuzz target tells")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sectile::config::{self, NodeFacts, diagnostic};
use sectile::execute::{at_once, observe};
use sectile::gpu::Gpus;
use sectile::model::{Digest, Known, Observed, Plan, Revision};
use sectile::ports::{Clock as _, Cluster as _};
use sectile::render::{self, Style};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::world::World;
use sectile::sim::{Shared, fleet, lock, state};
use sectile::{config::Tree, plan};

/// What stands between the files of a tree: `#### layouts/a.toml`. Without it the bytes are a layout and a policy.
const FILE: &str = "#### ";

/// A tree: read, drawn, and if it is one, planned on the built-in fleet.
pub(crate) fn tree(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files = files(text);
    let revision = Revision { name: None, digest: Digest::of([]) };
    let (tree, found) = config::assemble(revision, files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    assert_eq!(tree.is_none(), found.iter().any(config::Diagnostic::is_error), "{found:?}");
    shown(&diagnostic::render(&found, &files, false));
    for finding in diagnostic::findings(&found, &files) {
        assert!(!finding.message.is_empty(), "{finding:?}");
    }
    if let Some(tree) = tree {
        let world = fleet::parse(fleet::BUILTIN_NAME, fleet::BUILTIN).expect("the built-in fleet is sound");
        planned(&tree, world, &files, false);
    }
}

fn files(text: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    if !text.starts_with(FILE) {
        files.insert("layouts/a.toml".to_owned(), text.to_owned());
        files.insert("policies/a.toml".to_owned(), text.to_owned());
        return files;
    }
    for part in text.split(FILE).skip(1).take(8) {
        let (path, text) = part.split_once('\n').unwrap_or((part, ""));
        let path: String = path.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.')).collect();
        files.insert(path, text.to_owned());
    }
    files
}

/// A fleet file: read, drawn, and if it is one, observed and planned by the example of a layout.
pub(crate) fn fleet(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Many pods are slow by nature, and no defect.
    if many(text) {
        return;
    }
    match fleet::parse("fleet.toml", text) {
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            shown(&errors.render(false));
        }
        Ok(world) => planned(&example(), world, &BTreeMap::new(), false),
    }
}

/// Whether a number behind `replicas` or `count` has three digits or more.
fn many(text: &str) -> bool {
    let behind = |word: &str| text.match_indices(word).map(|(at, _)| at + word.len()).collect::<Vec<_>>();
    behind("replicas").into_iter().chain(behind("count")).any(|at| {
        let value = text.get(at..).unwrap_or_default().trim_start_matches(['"', '\'', ' ', '\t', ':', '=', '+', '0']);
        value.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count() > 2
    })
}

/// A saved plan: read, drawn, compared with today's.
pub(crate) fn plan_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match render::saved::read(text) {
        Err(error) => shown(&error.to_string()),
        Ok(saved) => {
            assert_eq!(render::saved::read(&render::json::plan(&saved)).expect("what is written is read"), saved);
            drawn(&saved);
            let today = Plan { nodes: saved.nodes.iter().skip(1).cloned().collect(), ..saved.clone() };
            let _ = render::difference::plans(&saved, &today);
        }
    }
}

/// The state of a simulation: read, and if it is one, observed, planned, and let run for a while.
pub(crate) fn state_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if many(text) {
        return;
    }
    match state::load(Path::new("state.json"), text, fleet::BUILTIN, fleet::BUILTIN_NAME) {
        Err(error) => shown(&error.to_string()),
        Ok(mut world) => {
            world.pass(60_000);
            planned(&example(), world, &BTreeMap::new(), true);
        }
    }
}

/// A tree that wants something of most fleets.
fn example() -> Tree {
    let layout = "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"3g\", \"1g\"]\n";
    let files = [("layouts/a.toml", layout), ("policies/a.toml", "[gpu]\nmode_change = \"allow\"\n")];
    let revision = Revision { name: None, digest: Digest::of([]) };
    config::assemble(revision, files).0.expect("the example is sound")
}

fn planned(tree: &Tree, world: World, files: &BTreeMap<String, String>, tampered: bool) {
    let world: Shared = Arc::new(Mutex::new(world));
    let cluster = SimCluster { world: world.clone() };
    let units = tree.units();
    let Some(Ok(seen)) = at_once(cluster.observe()) else { return };
    let mut observed = Observed { cluster: seen, nodes: BTreeMap::new() };
    let names: Vec<String> = lock(&world).nodes.keys().cloned().collect();
    for name in names {
        let (gpus, host) =
            (Gpus::new(SimDriver::new(world.clone(), &name)), SimHost { world: world.clone(), node: name.clone() });
        let labels = Known::Known(lock(&world).nodes.get(&name).map(|node| node.labels.clone()).unwrap_or_default());
        let node = at_once(observe::node(&name, &gpus, Some(&cluster), &host, &units, &labels));
        let Some(Ok(node)) = node else { return };
        observed.nodes.insert(name, node);
    }
    let facts: Vec<NodeFacts> = observed.nodes.values().map(NodeFacts::of).collect();
    let resolved = config::resolve(tree, &facts);
    shown(&diagnostic::render(&resolved.diagnostics, files, false));
    if resolved.diagnostics.iter().any(config::Diagnostic::is_error) {
        return;
    }
    let plan = plan::plan(&resolved.desired, &observed, SimClock { world }.now());
    let broken = plan::check::check(&resolved.desired, &observed, &plan);
    // A world that was tampered with need not be one that can be: then it is enough that the check refuses the plan.
    assert!(broken.is_empty() || tampered, "{broken:?}");
    drawn(&plan);
    // Nor are its names, which the command line's printer escapes.
    if !tampered {
        shown(&anstream_free(&render::text::plan(&plan, Style { wide: true })));
    }
    let _ = render::json::status(&resolved.desired, &observed, &plan, &[]);
}

/// A plan in every form. A plan from elsewhere may name things as it likes: the command line's printer escapes them.
fn drawn(plan: &Plan) {
    for wide in [false, true] {
        assert!(!render::text::plan(plan, Style { wide }).is_empty());
    }
    assert!(render::json::plan(plan).starts_with('{'));
}

/// Without the styles that the program itself gives.
fn anstream_free(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// What a person is shown has nothing that a terminal obeys but lines.
fn shown(text: &str) {
    let obeyed = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\u{80}'..='\u{9f}'));
    assert_eq!(obeyed, None, "{text:?}");
}
