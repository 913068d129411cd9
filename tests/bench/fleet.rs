//! Ten thousand nodes with eighty thousand GPUs, each with a layout file of its own: how long every stage takes, from
//! the files to the checked plan, and the most memory that was held so far.
//!
//! `cargo bench --bench fleet`, or with another number of nodes: `cargo bench --bench fleet -- 500`. The contract is 3 s
//! and 500 MB for all stages but the observing (which a fleet's nodes do each for itself), of which planning and
//! checking 0.5 s. Beside each stage stands the processor time of all threads, which other work on the machine does
//! not lengthen as much. Without cargo's `--bench` (in `cargo test --all-targets`) a few nodes show that it works.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark fails and reports as tests do")]

mod asked;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use sectile::config::{self, NodeFacts};
use sectile::execute::{at_once, observe};
use sectile::gpu::Gpus;
use sectile::model::{Known, Observed};
use sectile::plan;
use sectile::ports::Cluster as _;
use sectile::sim::cluster::SimCluster;
use sectile::sim::driver::SimDriver;
use sectile::sim::host::SimHost;
use sectile::sim::{Shared, fleet};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a cluster's nodes are sorted into.
const POOLS: usize = 20;
/// Deployments of each pool.
const WORKLOADS: usize = 10;

fn main() {
    let Some(nodes) = asked::asked(10_000, 40) else { return };
    let root = tempfile::tempdir().expect("a folder");
    write_tree(root.path(), nodes);
    let path = root.path().join("fleet.toml");
    fs::write(&path, fleet_file(nodes)).expect("the fleet file");
    run(root.path(), &path, nodes);
}

fn run(root: &Path, path: &Path, nodes: usize) {
    let cores = std::thread::available_parallelism().map_or(0, NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    println!("{nodes} nodes, {} GPUs; {cores} cores, load {load}", nodes * 8);
    println!("{:<32} {:>10}  {:>10}  {:>9}", "", "time", "processor", "peak");
    let mut clock = Clock::default();

    let loaded = clock.stage("read the tree", || config::load(root));
    let tree = loaded.tree.expect("a tree without errors");
    let world = clock.stage("read the fleet file", || {
        let text = fs::read_to_string(path).expect("the fleet file");
        fleet::parse("fleet.toml", &text).expect("a fleet without errors")
    });
    let observed = clock.beside("observe through the simulator", || look(world, &tree));
    let desired = clock.stage("resolve", || {
        let facts: Vec<NodeFacts> = observed.nodes.values().map(NodeFacts::of).collect();
        let resolved = config::resolve(&tree, &facts);
        assert!(resolved.diagnostics.is_empty(), "a tie: {:?}", resolved.diagnostics.first());
        resolved.desired
    });
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let plan = clock.stage("plan", || plan::plan(&desired, &observed, now));
    let violations = clock.stage("check", || plan::check::check(&desired, &observed, &plan));
    assert!(violations.is_empty(), "{}", violations.first().map(ToString::to_string).unwrap_or_default());

    clock.finish();
    println!("{:?}", plan.summary);
}

/// Observes every node as the commands do. The simulator's own world is gone then: who plans for a fleet has none.
fn look(world: sectile::sim::world::World, tree: &config::Tree) -> Observed {
    let units = tree.units();
    let names: Vec<String> = world.nodes.keys().cloned().collect();
    let world = Shared::new(world.into());
    let cluster = SimCluster { world: Shared::clone(&world) };
    let seen = at_once(cluster.observe()).expect("no waiting").expect("a cluster");
    let pods = observe::pods_by_node(&seen);
    let mut nodes = BTreeMap::new();
    for name in names {
        let gpus = Gpus::new(SimDriver::new(Shared::clone(&world), &name));
        let host = SimHost { world: Shared::clone(&world), node: name.clone() };
        let labels = Known::Known(BTreeMap::new());
        let pods = pods.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let node = at_once(observe::node_of(&name, &gpus, Some(&cluster), Some(pods), &host, &units, &labels));
        nodes.insert(name, node.expect("no waiting").expect("a node"));
    }
    Observed { nodes, cluster: seen }
}

/// Times the stages.
#[derive(Default)]
struct Clock {
    /// Of all stages that count, and of planning and checking alone.
    total: Duration,
    planning: Duration,
}

impl Clock {
    fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let (result, took) = timed(name, work);
        self.total += took;
        if matches!(name, "plan" | "check") {
            self.planning += took;
        }
        result
    }

    /// One that does not count.
    fn beside<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        timed(name, work).0
    }

    fn finish(self) {
        let (planning, total, peak) = (self.planning.as_secs_f64(), self.total.as_secs_f64(), peak_mb());
        println!("plan and check     {planning:>8.3} s   contract 0.5 s   {}", met(planning < 0.5));
        println!("all but observing  {total:>8.3} s   contract 3 s     {}", met(total < 3.0));
        println!("peak               {peak:>8} MB  contract 500 MB  {}", met(peak < 500));
    }
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's clock is the machine's")]
fn timed<T>(name: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let (begin, busy) = (Instant::now(), processor_s());
    let result = work();
    let (took, busy) = (begin.elapsed(), processor_s() - busy);
    println!("{name:<32} {:>8.3} s  {busy:>8.2} s  {:>6} MB", took.as_secs_f64(), peak_mb());
    (result, took)
}

/// Seconds of processor time that all threads have used, to the hundredth; 0 where the system does not tell.
fn processor_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in ticks of Linux's USER_HZ; the name before them may have spaces.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that the process held, in MB (10⁶ bytes); 0 where the system does not tell.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024 / 1_000_000
}

fn name(node: usize) -> String {
    format!("gpu-{node:05}")
}

/// A layout file for each node by name; for each hundred by glob, for each pool by labels, and one for the rest, which
/// they all shadow. Policies alike.
fn write_tree(root: &Path, nodes: usize) {
    let put = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let small = "{ \"3g.40gb\" = 1, \"2g.20gb\" = 1, \"1g.10gb\" = 2 }";
    let all = format!("[[gpu]]\ninstances = {small}\n");
    for node in 0..nodes {
        let entries = format!(
            "[[gpu]]\nindex = [0, 1, 2, 3]\ninstances = {small}\n\n[[gpu]]\nindex = [4, 5, 6, 7]\ninstances = [\"3g.40gb\", \"3g.40gb\"]\n"
        );
        put(format!("layouts/nodes/{}.toml", name(node)), format!("nodes = [\"{}\"]\n\n{entries}", name(node)));
    }
    for hundred in 0..nodes.div_ceil(100) {
        put(format!("layouts/globs/{hundred:03}.toml"), format!("nodes = [\"gpu-{hundred:03}*\"]\n\n{all}"));
    }
    put("layouts/rest.toml".to_owned(), format!("nodes = [\"*\"]\n\n{all}"));
    put(
        "policies/all.toml".to_owned(),
        "nodes = [\"*\"]\n[budget]\nmax_nodes = \"10%\"\n[protect]\npods = [{ namespace = \"prod-*\" }]\n".to_owned(),
    );
    for pool in 0..POOLS {
        put(
            format!("layouts/pools/{pool}.toml"),
            format!("nodes = [\"*\"]\nlabels = {{ pool = \"p{pool}\" }}\n\n{all}"),
        );
        let mut bindings = format!("labels = {{ pool = \"p{pool}\" }}\n");
        for workload in 0..WORKLOADS {
            write!(
                bindings,
                "\n[[workload]]\nname = \"p{pool}-w{workload}\"\nkubernetes = {{ kind = \"Deployment\", namespace = \"p{pool}\", name = \"w{workload}\" }}\nprofile = \"3g.40gb\"\n"
            )
            .expect("text");
        }
        put(format!("layouts/workloads/{pool}.toml"), bindings);
        put(
            format!("policies/pools/{pool}.toml"),
            format!(
                "labels = {{ pool = \"p{pool}\" }}\n[drain]\ntimeout = \"{}m\"\n[window]\nopen = [\"Mon-Sun 00:00-24:00\"]\ntimezone = \"Europe/Berlin\"\n",
                pool + 1
            ),
        );
    }
}

/// A fleet that is mostly as the tree wants it. A tenth of the nodes lacks an instance; on a twentieth, a pod sits where
/// a wanted one belongs, and half of those must go to another node.
fn fleet_file(nodes: usize) -> String {
    let mut text = String::new();
    let mut pods: BTreeMap<(usize, String), u32> = BTreeMap::new();
    for node in 0..nodes {
        let pool = node % POOLS;
        write!(text, "[[node]]\nname = \"{}\"\nlabels = {{ pool = \"p{pool}\" }}\n", name(node)).expect("text");
        let mut pod = |workload: String, gpu: usize| {
            let pod = format!("pod:p{pool}/{workload}-{node}-{gpu}");
            *pods.entry((pool, workload)).or_default() += 1;
            format!(", users = [\"{pod}\"]")
        };
        for gpu in 0..8 {
            text += "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n  instances = [\n";
            let mut put = |profile: &str, start: u32, users: &str| {
                writeln!(text, "    {{ profile = \"{profile}\", start = {start}{users} }},").expect("text");
            };
            match gpu {
                0..=3 => {
                    let full = node % 40 == 5;
                    put("2g.20gb", 0, &if full { pod("embed".to_owned(), gpu) } else { String::new() });
                    put("1g.10gb", 2, "");
                    if gpu != 1 || node % 10 != 0 {
                        put("1g.10gb", 3, "");
                    }
                    put("3g.40gb", 4, &pod(format!("w{}", (node / POOLS + gpu) % WORKLOADS), gpu));
                }
                5 if node % 20 == 5 => {
                    put("2g.20gb", 0, &pod("embed".to_owned(), gpu));
                    put("3g.40gb", 4, "");
                }
                _ => {
                    put("3g.40gb", 0, "");
                    put("3g.40gb", 4, "");
                }
            }
            text += "  ]\n";
        }
    }
    for ((pool, workload), replicas) in pods {
        let profile = if workload == "embed" { "2g.20gb" } else { "3g.40gb" };
        write!(
            text,
            "[[workload]]\nkind = \"Deployment\"\nnamespace = \"p{pool}\"\nname = \"{workload}\"\nreplicas = {replicas}\nprofile = \"{profile}\"\nnode_selector = {{ pool = \"p{pool}\" }}\n"
        )
        .expect("text");
        write!(
            text,
            "[[budget]]\nnamespace = \"p{pool}\"\nname = \"{workload}\"\nworkload = \"{workload}\"\nmax_unavailable = 2\n"
        )
        .expect("text");
    }
    text
}
