//! What a review found where parts meet that were written apart, each with the name of what was wrong.

use sectile::model::observed::Suspension;
use sectile::model::plan::BlockCode;
use sectile::render::{Style, text};
use sectile::sim::lock;

use super::defects::{bare, layout, node, run, stateful};

#[test]
fn mig_manager_was_to_be_stood_down_by_the_label_of_a_node_in_no_cluster() {
    let labels = "labels = { \"nvidia.com/gpu.deploy.mig-manager\" = \"true\", \"nvidia.com/mig.config\" = \"all\" }\n";
    let fleet = bare("n", &["0:1g.10gb"]).replacen("cluster = false\n", &format!("cluster = false\n{labels}"), 1);
    for rule in ["refuse", "take_over"] {
        let policy = format!("[writers]\nmig_manager = \"{rule}\"\n");
        let plan = run(&fleet, &[layout("n", &["1g.10gb 2g.20gb"])], &policy).plan().2.nodes.remove(0);
        assert_eq!(plan.blocked.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::ForeignWriter]);
        assert!(plan.steps.is_empty() && plan.blocked[0].hint.contains("its labels"), "{plan:#?}");
    }
}

/// One was told by the tree, the other by the plan, of another entry, as \"1 of the 1 GPUs that are left\".
#[test]
fn one_gpu_too_few_for_two_entries_was_told_of_both() {
    let entries =
        "nodes = [\"n\"]\n[[gpu]]\ncount = 1\ninstances = [\"7g\"]\n[[gpu]]\ncount = 1\ninstances = [\"3g\"]\n";
    let plan = run(&node("n", &["0:3g.40gb"]), &[entries.to_owned()], "").plan().2.nodes.remove(0);
    assert_eq!(plan.blocked.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::TooFewGpus], "{:#?}", plan.blocked);
}

#[test]
fn an_entry_that_fits_was_told_to_want_too_much_beside_one_that_does_not() {
    let entries =
        "nodes = [\"n\"]\n[[gpu]]\ncount = 1\ninstances = [\"7g\"]\n[[gpu]]\ncount = 1\ninstances = [\"7g\", \"1g\"]\n";
    let plan = run(&node("n", &["", ""]), &[entries.to_owned()], "").plan();
    let blocked = &plan.2.nodes[0].blocked;
    assert_eq!(blocked.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::DoesNotFit], "{blocked:#?}");
}

#[test]
fn the_turn_behind_a_suspended_canary_was_to_come_by_itself() {
    let fleet: String = ["n1", "n2"].iter().map(|name| node(name, &["0:2g.20gb"])).collect();
    let layouts = ["n1", "n2"].map(|name| layout(name, &["2g.20gb 1g.10gb"]));
    let run = run(&fleet, &layouts, "[budget]\ncanary = 1\n");
    let hint = || run.plan().2.nodes[1].waiting[0].hint.clone();
    assert!(hint().starts_with("its turn comes by itself; "), "{}", hint());
    let since = "2026-01-01T00:00:00Z".to_owned();
    let suspension = Suspension { reason: "racks move".to_owned(), since, ..Suspension::default() };
    lock(&run.world).memory.nodes.entry("n1".to_owned()).or_default().suspended = Some(suspension);
    assert!(hint().starts_with("its turn comes when somebody has seen to the canary; "), "{}", hint());
}

#[test]
fn a_process_that_ends_by_itself_was_counted_as_one_to_terminate() {
    for (rule, counted) in [("wait", false), ("terminate", true)] {
        let policy = format!("[protect]\nprocesses = \"{rule}\"\n");
        let run = run(&node("n", &["0:1g.10gb:process:7/cat"]), &[layout("n", &["7g.80gb"])], &policy);
        let text = text::plan(&run.plan().2, Style { wide: false });
        assert_eq!(text.contains("1 process to terminate"), counted, "{text}");
    }
}

/// Evicted, it came back to the lowest place, and so on; `apply` of the tests had no end, that of the program has.
#[test]
fn a_pod_on_a_foreign_process_went_round_and_round() {
    let fleet = node("n", &["0:1g.10gb:process:7/cat"]) + &stateful("w");
    let run = run(&fleet, &[layout("n", &["1g.10gb+me 1g.10gb"]).replace("\"1g.10gb\"]", PLACED)], "");
    assert_eq!(run.apply_in_trouble().failed.len(), 1);
    assert!(lock(&run.world).ledger.is_empty());
}

const PLACED: &str = "{ profile = \"1g.10gb\", start = 6 }]";
