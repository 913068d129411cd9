//! How long the plan of one GPU takes: the search for its layout alone, and a node's whole plan.
//!
//! `cargo bench --bench plan`. The contract is a median below 10 µs.
#![expect(clippy::expect_used, reason = "a benchmark fails as tests do")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sectile::config::{self, NodeFacts};
use sectile::execute::{at_once, observe};
use sectile::gpu::Gpus;
use sectile::model::{Desired, Digest, Known, Observed, ProfileName, Revision, catalogue};
use sectile::plan::{self, placement};
use sectile::ports::Cluster as _;
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::{Shared, fleet};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Boards with four, eight and twelve memory slices, and what is wanted of them.
const BOARDS: [(&str, &[&str]); 3] = [
    ("a30-24gb", &["2g.12gb", "1g.6gb", "1g.6gb"]),
    ("h100-80gb-sxm", &["2g.20gb", "1g.10gb", "1g.10gb", "3g.40gb"]),
    ("rtx-pro-6000-blackwell", &["2g.48gb", "1g.24gb", "1g.24gb"]),
];

fn search(criterion: &mut Criterion) {
    for (board, wanted) in BOARDS {
        let geometry = catalogue::by_id(board).and_then(catalogue::Board::geometry).expect("a board");
        let want = |name: &&str| {
            let name: ProfileName = name.parse().expect("a profile");
            let (profile, _) = geometry.resolve(name).expect("a profile of the board");
            let index = geometry.profiles.iter().position(|p| p.id == profile.id).expect("its place");
            placement::Want { profile: index, start: None, compute: Vec::new() }
        };
        let wants: Vec<placement::Want> = wanted.iter().map(want).collect();
        criterion.bench_function(&format!("search/{board}"), |bench| {
            bench.iter(|| placement::best(black_box(&geometry), black_box(&wants), &[]));
        });
    }
}

fn node(criterion: &mut Criterion) {
    for (board, wanted) in BOARDS {
        let place = |users: &str| {
            let all: Vec<String> = wanted.iter().map(|name| format!("{{ profile = \"{name}\"{users} }}")).collect();
            all.join(", ")
        };
        let cases = [
            ("empty", String::new()),
            ("converged", place("")),
            ("in the way", format!("{{ profile = \"{}\", users = [\"pod:x/a\"] }}", wanted.last().expect("one"))),
        ];
        for (case, instances) in cases {
            let (desired, observed) = scene(board, wanted, &instances);
            let now = "2026-01-01T00:00:00Z".parse().expect("a time");
            criterion.bench_function(&format!("plan/{board}/{case}"), |bench| {
                bench.iter(|| plan::plan(black_box(&desired), black_box(&observed), now));
            });
        }
    }
}

/// A node with one GPU, and what is wanted of it.
fn scene(board: &str, wanted: &[&str], instances: &str) -> (Desired, Observed) {
    let text =
        format!("[[node]]\nname = \"n\"\n[[node.gpu]]\nmodel = \"{board}\"\nmig = true\ninstances = [{instances}]\n");
    let world: Shared = Shared::new(fleet::parse("fleet.toml", &text).expect("a fleet").into());
    let cluster = SimCluster { world: Shared::clone(&world) };
    let seen = at_once(cluster.observe()).expect("no waiting").expect("a cluster");
    let gpus = Gpus::new(SimDriver::new(Shared::clone(&world), "n"));
    let host = SimHost { world, node: "n".to_owned() };
    let units = Default::default();
    let node = at_once(observe::node("n", &gpus, Some(&cluster), &host, &units, &Known::Unknown));
    let node = node.expect("no waiting").expect("a node");
    let layout = format!("nodes = [\"n\"]\n[[gpu]]\ninstances = {wanted:?}\n");
    let revision = Revision { name: None, digest: Digest::of([]) };
    let files =
        [("layouts/n.toml", layout.as_str()), ("policies/all.toml", "nodes = [\"*\"]\n[drain]\nforce = true\n")];
    let (tree, found) = config::assemble(revision, files);
    assert!(found.is_empty(), "{found:?}");
    let tree = tree.expect("a tree");
    let desired = config::resolve(&tree, &[NodeFacts::of(&node)]).desired;
    (desired, Observed { nodes: [("n".to_owned(), node)].into(), cluster: seen })
}

criterion_group!(benches, search, node);
criterion_main!(benches);
