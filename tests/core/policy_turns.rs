//! Budgets over many nodes: random fleets and files, carried out pass by pass, and the times of nodes that nobody counts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use sectile::model::plan::{BlockCode, NodeState};
use sectile::model::{Known, Observed, Place, PlaceState, Plan};
use sectile::plan::{self, check, turns};
use sectile::sim::lock;

use super::defects::{layout, node, run, stateful};
use super::door::cases;
use super::fleets::Run;

/// A policy file: the first letters of its nodes, and its limits.
type File = (Option<char>, Option<u32>, Option<u32>, Option<u32>);

fn files() -> impl Strategy<Value = Vec<File>> {
    let limit = || proptest::option::of(1u32..4);
    let file = (limit(), limit(), limit());
    // One for all and one for each letter, so that no two are equally specific.
    proptest::collection::vec(file, 3).prop_map(|files| {
        let letters = [None, Some('a'), Some('b')];
        letters.into_iter().zip(files).map(|(letter, (nodes, canary, pods))| (letter, nodes, canary, pods)).collect()
    })
}

fn text((letter, nodes, canary, pods): &File) -> String {
    let key = |name: &str, value: &Option<u32>| value.map(|v| format!("{name} = {v}\n")).unwrap_or_default();
    let glob = letter.map_or("*".to_owned(), |letter| format!("{letter}*"));
    let keys = key("max_nodes", nodes) + &key("canary", canary) + &key("max_pods", pods);
    format!("nodes = [\"{glob}\"]\n[budget]\n{keys}")
}

/// Nodes `a0`…, `b0`…: some converged, some short of an instance, some with pods in the way.
fn fleet(nodes: &[u8], files: &[File]) -> Run {
    let (mut fleet, mut workloads, mut trees) = (String::new(), String::new(), Vec::new());
    for (n, kind) in nodes.iter().enumerate() {
        let name = format!("{}{n}", if n % 2 == 0 { 'a' } else { 'b' });
        let pod = |p: usize| format!("{p}:1g.10gb:pod:x/{name}{p}-0");
        let (first, goal) = match kind % 4 {
            0 => ("0:2g.20gb".to_owned(), "2g.20gb"),
            1 => ("0:2g.20gb".to_owned(), "2g.20gb 1g.10gb"),
            held => {
                let held = usize::from(held) - 1;
                workloads.extend((0..held).map(|p| stateful(&format!("{name}{p}"))));
                ((0..held).map(pod).collect::<Vec<_>>().join(" "), "7g.80gb")
            }
        };
        fleet += &node(&name, &[first.as_str(), "0:1g.10gb 1:1g.10gb"]);
        trees.push((format!("layouts/{name}.toml"), layout(&name, &[goal, "1g.10gb 1g.10gb"])));
    }
    trees.extend(files.iter().enumerate().map(|(n, file)| (format!("policies/{n}.toml"), text(file))));
    let files: Vec<(&str, &str)> = trees.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    Run::new(&(fleet + &workloads), &files)
}

fn due(plan: &Plan) -> Vec<(&str, u32)> {
    let now = |node: &&sectile::model::NodePlan| node.steps.iter().any(|step| step.waits.is_none());
    let pods = |node: &sectile::model::NodePlan| u32::try_from(node.disruptions.len()).unwrap();
    plan.nodes.iter().filter(now).map(|node| (node.name.as_str(), pods(node))).collect()
}

/// The limit of a key for a node, and over which letter's nodes: its own file's before that for all.
fn limit(files: &[File], name: &str, key: impl Fn(&File) -> Option<u32>) -> Option<(Option<char>, u32)> {
    let own = files.iter().rev().filter(|file| file.0.is_none_or(|letter| name.starts_with(letter)));
    own.filter_map(|file| Some((file.0, key(file)?))).next()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_change_at_once_than_their_file_allows_and_all_converge(
        nodes in proptest::collection::vec(0u8..4, 1..6),
        files in files(),
    ) {
        let run = fleet(&nodes, &files);
        let of = |over: Option<char>, name: &str| over.is_none_or(|letter| name.starts_with(letter));
        for _ in 0..20 {
            let (desired, observed, plan) = run.plan();
            let due = due(&plan);
            if due.is_empty() {
                break;
            }
            let mut changing: BTreeMap<Option<char>, (u32, u32)> = BTreeMap::new();
            let mut down: BTreeMap<Option<char>, (u32, u32)> = BTreeMap::new();
            for (name, pods) in &due {
                if let Some((over, most)) = limit(&files, name, |file| file.1) {
                    let entry = changing.entry(over).or_insert((0, most));
                    entry.0 += 1;
                }
                if let Some((over, most)) = limit(&files, name, |file| file.3) {
                    let entry = down.entry(over).or_insert((0, most));
                    entry.0 += (*pods).min(most);
                }
                if let Some((over, canaries)) = limit(&files, name, |file| file.2) {
                    let all = plan.nodes.iter().filter(|node| of(over, &node.name));
                    let first: Vec<_> = all.take(canaries as usize).collect();
                    let proved = first.iter().all(|node| node.state == NodeState::Converged);
                    prop_assert!(proved || first.iter().any(|node| node.name == *name), "{name} before its canaries");
                }
            }
            for (n, most) in changing.values().chain(down.values()) {
                prop_assert!(n <= most, "{due:?} {files:?}");
            }
            // Whoever was let go twice at once, or before a canary, is caught.
            for n in 0..plan.nodes.len() {
                let mut wrong = plan.clone();
                let held = wrong.nodes[n].steps.iter_mut().filter(|step| step.waits == Some(BlockCode::Budget));
                let held = held.map(|step| step.waits = None).count();
                let caught = !check::check(&desired, &observed, &wrong).is_empty();
                prop_assert!(held == 0 || caught, "{} goes too early, and nobody says so", wrong.nodes[n].name);
            }
            let first = plan.nodes.iter().find(|node| node.name == due[0].0).unwrap();
            run.node(first, &desired, &observed);
        }
        let plan = run.plan().2;
        prop_assert!(plan.nodes.iter().all(|node| node.state == NodeState::Converged), "{plan:#?}");
        prop_assert!(lock(&run.world).ledger.is_empty());
    }
}

#[test]
fn a_node_that_is_under_way_keeps_its_place_before_all_others() {
    let names = ["n1", "n2", "n3"];
    let fleet: String = names.iter().map(|name| node(name, &["0:2g.20gb"])).collect();
    let run = run(&fleet, &names.map(|name| layout(name, &["2g.20gb 1g.10gb"])), "[budget]\nmax_nodes = 1\n");
    assert_eq!(due(&run.plan().2), [("n1", 0)]);
    lock(&run.world).nodes.get_mut("n3").unwrap().tainted = true;
    assert_eq!(due(&run.plan().2), [("n3", 0)]);
    // One that an earlier budget let go is finished, also where none is free.
    lock(&run.world).nodes.get_mut("n2").unwrap().clients_paused = true;
    assert_eq!(due(&run.plan().2), [("n2", 0), ("n3", 0)]);
}

#[test]
fn each_period_holds_one_turn_of_each_node_and_at_any_time_about_its_share_of_nodes_has_theirs() {
    let (splay, share) = (1000, 10);
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let now = |name: &str, second: i64| turns::turn(name, splay, share, at(second)).is_none();
    let mut begins = BTreeSet::new();
    for period in [-1, 0, 1, 1_767_225] {
        for name in ["gpu-a-01", "gpu-a-02", "edge-7"] {
            let seconds = period * 1000..(period + 1) * 1000;
            let turn: Vec<i64> = seconds.clone().filter(|second| now(name, *second)).collect();
            assert!(turn.len() == 100 && turn[99] - turn[0] == 99, "{name} {turn:?}");
            assert_eq!(
                turns::turn(name, splay, share, at(seconds.start - 1 + 1)).map_or(turn[0], |t| t.as_second()),
                turn[0]
            );
            begins.insert(turn[0].rem_euclid(1000));
            // Behind it, the next period's is told, and is when it says.
            if let Some(next) = turns::turn(name, splay, share, at(turn[99] + 1)) {
                assert!(next > at(turn[99]) && now(name, next.as_second()) && !now(name, next.as_second() - 1));
            }
        }
    }
    assert!(begins.len() > 9, "a node's turn lies elsewhere in each period: {begins:?}");
    let names: Vec<String> = (0..2000).map(|n| format!("edge-{n}")).collect();
    for second in [150, 500, 850] {
        let turns = names.iter().filter(|name| now(name, second)).count();
        assert!((120..320).contains(&turns), "{turns} of 2000 at {second}");
    }
    // One second is the least, and a whole share is always.
    assert!((0..50).all(|second| turns::turn("n", 1, 5, at(second)).is_none()));
    assert!((0..50).all(|second| turns::turn("n", 7, 100, at(second)).is_none()));
}

/// The plan of one node as its own agent makes it, which sees of the others what they show.
fn alone(run: &super::fleets::Run, own: &str, with: impl FnOnce(&mut Observed)) -> Plan {
    let (mut desired, mut observed, _) = run.plan();
    observed.nodes.retain(|name, _| name == own);
    let (own, peers) = std::mem::take(&mut desired.nodes).into_iter().partition(|(name, _)| name == own);
    (desired.nodes, desired.peers) = (own, peers);
    with(&mut observed);
    let plan = plan::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
    assert_eq!(check::check(&desired, &observed, &plan), []);
    // Whoever is let go all the same is caught.
    let mut wrong = plan.clone();
    let held = wrong.nodes[0].steps.iter_mut().filter(|step| step.waits == Some(BlockCode::Budget));
    let held = held.map(|step| step.waits = None).count();
    assert!(held == 0 || !check::check(&desired, &observed, &wrong).is_empty(), "nobody says that it goes too early");
    plan
}

fn waits(plan: &Plan) -> Option<&str> {
    plan.nodes[0].waiting.first().map(|block| block.message.as_str())
}

fn three(policy: &str) -> super::fleets::Run {
    let names = ["n1", "n2", "n3"];
    let fleet: String = names.iter().map(|name| node(name, &["0:2g.20gb"])).collect();
    run(&fleet, &names.map(|name| layout(name, &["2g.20gb 1g.10gb"])), policy)
}

#[test]
fn a_nodes_own_plan_waits_for_peers_that_are_under_way_or_have_failed() {
    let run = three("[budget]\nmax_nodes = \"50%\"\n");
    assert_eq!(waits(&alone(&run, "n3", |_| {})), None);
    let full = Some("of the 3 nodes of policies/p.toml:1, 1 may change at once");
    let taint = |observed: &mut Observed| observed.cluster.peers.get_mut("n1").unwrap().tainted = true;
    assert_eq!(waits(&alone(&run, "n3", taint)), full);
    // It counts no more where a place is only held: whether its holder lives is found out when a turn is taken.
    let place = |state| Place {
        run: String::new(),
        renewals: 0,
        lease_s: 60,
        state,
        over: BTreeSet::new(),
        nodes: 1,
        pods: 0,
        reserved: Default::default(),
        revision: String::new(),
        since: String::new(),
    };
    let has = |state| {
        move |observed: &mut Observed| {
            observed.cluster.places = Known::Known([("n1".to_owned(), Known::Known(place(state)))].into());
        }
    };
    assert_eq!(waits(&alone(&run, "n3", has(PlaceState::Held))), None);
    assert_eq!(waits(&alone(&run, "n3", has(PlaceState::Failed))), full);
    // The place of the node that failed is its own.
    assert_eq!(waits(&alone(&run, "n1", has(PlaceState::Failed))), None);
}

#[test]
fn a_nodes_own_plan_waits_for_canaries_that_show_another_tree_or_have_failed() {
    let run = three("[budget]\ncanary = 1\n");
    let tree = run.plan().0.revision.to_string();
    let shows = |state, revision: &str| {
        let revision = Some(revision.to_owned());
        move |observed: &mut Observed| {
            let peer = observed.cluster.peers.get_mut("n1").unwrap();
            (peer.state, peer.revision) = (state, revision.clone());
        }
    };
    let says = |text: &str| Some(format!("canary n1 converges first, and {text}"));
    let plan = |with: &dyn Fn(&mut Observed)| waits(&alone(&run, "n3", with)).map(str::to_owned);
    assert_eq!(plan(&|_| {}), says("has not told yet how it stands"));
    assert_eq!(plan(&shows(Some(NodeState::Converged), "old")), says("is still at old"));
    assert_eq!(plan(&shows(Some(NodeState::Failed), &tree)), says("is failed"));
    assert_eq!(plan(&shows(Some(NodeState::Converged), &tree)), None);
    assert_eq!(waits(&alone(&run, "n1", |_| {})), None);
}
