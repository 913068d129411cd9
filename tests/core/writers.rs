//! Nothing is changed beside another tool that writes MIG state, and one that is stood down is waited for.

use sectile::execute::{News, Outcome};
use sectile::model::observed::ForeignWriter;
use sectile::model::plan::BlockCode;
use sectile::plan;
use sectile::plan::check::Invariant;
use sectile::sim::lock;

use super::defects::{layout, node, run, words};
use super::fleets::Run;
use super::policy::with_mig_manager;

const TAKE_OVER: &str = "[drain]\ntimeout = \"60s\"\n[writers]\nmig_manager = \"take_over\"\n";

#[test]
fn every_tool_blocks_all_changes_and_is_named_with_the_way_to_hand_over() {
    let scene = run(&node("n", &["0:2g.20gb"]), &[layout("n", &["2g.20gb 1g.10gb"])], TAKE_OVER);
    let (desired, observed, free) = scene.plan();
    assert!(!free.nodes[0].steps.is_empty());
    let names = [
        (ForeignWriter::DynamicMig, "dynamic resource allocation", "DynamicMIG"),
        (ForeignWriter::Hami, "HAMi", "HAMi"),
        (ForeignWriter::AcceleratorSlicer, "accelerator slicer", "NodeAccelerator"),
    ];
    assert_eq!(names.len(), ForeignWriter::ALL.len());
    for (writer, name, way) in names {
        let mut seen = observed.clone();
        seen.nodes.get_mut("n").unwrap().cluster.as_mut().unwrap().writers.insert(writer);
        let plan = plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(plan::check::check(&desired, &seen, &plan), []);
        let [block] = plan.nodes[0].blocked.as_slice() else { panic!("{:?}", plan.nodes[0].blocked) };
        assert_eq!((block.code, plan.nodes[0].steps.len()), (BlockCode::ForeignWriter, 0));
        assert!(block.message.contains(name) && block.hint.contains(way), "{block:?}");
        // The steps that were planned without it are caught.
        let found = plan::check::check(&desired, &seen, &free);
        assert!(found.iter().any(|v| v.invariant == Invariant::HandsOff), "{found:?}");
    }
    let mut seen = observed;
    let node = seen.nodes.get_mut("n").unwrap();
    node.cluster.as_mut().unwrap().writers.extend(ForeignWriter::ALL);
    let labels = [("nos.nebuly.com/gpu-partitioning", "mig"), ("cloud.google.com/gke-gpu-partition-size", "1g.5gb")];
    let known = |labels: &[(&str, &str)]| {
        sectile::model::Known::Known(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    node.labels = known(&labels);
    let plan = plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(plan.nodes[0].blocked.len(), 5, "each is told");
    // Each alone holds the node, and the check knows it by itself.
    for label in labels {
        let mut seen = scene.plan().1;
        let free = plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH);
        seen.nodes.get_mut("n").unwrap().labels = known(&[label]);
        assert!(plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH).nodes[0].steps.is_empty(), "{label:?}");
        let found = plan::check::check(&desired, &seen, &free);
        assert!(found.iter().any(|v| v.invariant == Invariant::HandsOff), "{label:?}: {found:?}");
    }
}

/// A node whose mig-manager takes so long to end.
fn slow(grace_s: u64) -> Run {
    let run = with_mig_manager(&[]).under(TAKE_OVER);
    let mut world = lock(&run.world);
    world.workloads.iter_mut().filter(|w| w.name == "mig-manager").for_each(|w| w.grace_period_s = grace_s);
    world.pods.get_mut("gpu-operator/mig-manager-n").unwrap().grace_period_s = grace_s;
    // Until it runs: one that does not yet goes at once.
    world.pass(30_000);
    drop(world);
    run
}

#[test]
fn nothing_is_touched_before_the_pod_of_mig_manager_is_gone() {
    let run = slow(20);
    let (desired, observed, plan) = run.plan();
    assert_eq!(words(&plan.nodes[0])[0], "stand_down");
    let begin = lock(&run.world).clock_ms;
    let (outcome, news) = run.node(&plan.nodes[0], &desired, &observed);
    assert_eq!(outcome, Outcome::Done);
    assert!(lock(&run.world).clock_ms - begin > 20_000);
    let waits =
        |news: &News| matches!(news, News::Waits(_, why) if why.contains("pod gpu-operator/mig-manager-n to be gone"));
    let (waited, tainted) = (news.iter().position(waits), news.iter().position(|n| *n == News::Began(2)));
    assert!(waited.is_some() && waited < tainted, "{waited:?} {tainted:?}");
}

#[test]
fn a_mig_manager_that_does_not_end_is_told_and_the_node_is_left_alone() {
    let run = slow(1_000);
    let (desired, observed, plan) = run.plan();
    let before = lock(&run.world).nodes["n"].gpus.clone();
    let (outcome, _) = run.node(&plan.nodes[0], &desired, &observed);
    let Outcome::Failed { step: 1, why, left, .. } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("not done after 60 s") && why.contains("mig-manager"), "{why}");
    let world = lock(&run.world);
    assert_eq!((&world.nodes["n"].gpus, world.nodes["n"].tainted, left.len()), (&before, false, 0));
}

#[test]
fn nothing_is_done_to_a_node_whose_device_plugin_somebody_else_has_stopped() {
    let scene = run(&node("n", &["0:2g.20gb"]), &[layout("n", &["2g.20gb 1g.10gb"])], "");
    let (desired, observed, free) = scene.plan();
    // What its label says, whether a mark of ours is there, and whether somebody else is at work.
    let cases = [
        ("paused-for-driver-upgrade", false, true),
        ("paused-for-mig-change", false, true),
        ("paused-for-driver-upgrade", true, false),
        ("paused-for-mig-change", true, false),
        ("", false, false),
        ("true", false, false),
        ("false", false, false),
    ];
    for (value, ours, stops) in cases {
        let mut seen = observed.clone();
        let there = seen.nodes.get_mut("n").unwrap();
        there.cluster.as_mut().unwrap().clients_paused = ours;
        let label = ("nvidia.com/gpu.deploy.device-plugin".to_owned(), value.to_owned());
        there.labels = sectile::model::Known::Known([label].into());
        let plan = plan::plan(&desired, &seen, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(plan::check::check(&desired, &seen, &plan), [], "{value}");
        assert_eq!(plan.nodes[0].steps.is_empty(), stops, "{value} {ours}");
        let told: Vec<_> =
            plan.nodes[0].blocked.iter().map(|block| (block.code, block.message.contains(value))).collect();
        let wanted = if stops { vec![(BlockCode::ForeignWriter, true)] } else { vec![] };
        assert_eq!(told, wanted, "{value} {ours}");
        // The steps that were planned without it are caught.
        let found = plan::check::check(&desired, &seen, &free);
        assert_eq!(found.iter().any(|v| v.invariant == Invariant::HandsOff), stops, "{value} {ours}: {found:?}");
    }
}
