//! Workloads that are to have other instances than they have.

use sectile::model::plan::{BlockCode, NodeState};
use sectile::model::{Plan, StepKind};

use crate::defects::{bare, layout, managed, node, run, unit, words};
use crate::ready::workload;

fn only(plan: &Plan) -> &sectile::model::NodePlan {
    &plan.nodes[0]
}

#[test]
fn a_pod_whose_workload_was_to_have_a_larger_instance_had_nowhere_to_go_for_ever() {
    for kind in ["Deployment", "StatefulSet"] {
        let fleet = node("n", &["0:1g.10gb:pod:x/w-0 2:1g.10gb:pod:x/v-0 4:3g.40gb:pod:x/u-0"])
            + &workload(kind, "w", 1, "1g.10gb", "")
            + &workload("StatefulSet", "v", 1, "1g.10gb", "")
            + &workload("StatefulSet", "u", 1, "3g.40gb", "");
        let tree = "nodes = [\"n\"]\n[[gpu]]\ninstances = [{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\" }, { profile = \"3g.40gb\", start = 4 }]\n";
        let tree = tree.to_owned() + &managed(kind, "w", "2g.20gb");
        let scene = run(&fleet, &[tree], "");
        let plan = scene.plan().2;
        let first = only(&plan);
        assert_eq!((first.state, first.blocked.len()), (NodeState::Waiting, 0), "{kind}: {first:?}");
        assert!(first.waiting.iter().any(|block| block.code == BlockCode::Rebind), "{kind}: {:?}", first.waiting);
        assert!(!words(first).contains(&"evict_pod"), "{kind}");
        assert!(matches!(plan.cluster.steps[0].kind, StepKind::BindWorkload { .. }), "{kind}");
        let ended = scene.apply();
        let last = only(ended.plans.last().unwrap());
        assert_eq!(last.state, NodeState::Converged, "{kind}: {last:?}");
    }
}

#[test]
fn whoever_takes_a_pods_place_asks_for_what_its_workload_asks_for_by_now() {
    // The pod is of an older template: its successor needs another instance than it has.
    let fleet = node("n", &["0:1g.10gb:pod:x/w-a"]) + &workload("Job", "w", 1, "1g.10gb", "");
    let scene = run(&fleet, &[layout("n", &["7g.80gb"])], "");
    let (desired, mut observed, plan) = scene.plan();
    assert_eq!(only(&plan).blocked[0].code, BlockCode::NoCapacity);
    let asks = [("nvidia.com/mig-7g.80gb".to_owned(), 1)].into();
    observed.cluster.workloads[0].requests = asks;
    let plan = sectile::plan::plan(&desired, &observed, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(only(&plan).blocked, []);
    assert!(words(only(&plan)).contains(&"evict_pod"));
    assert_eq!(sectile::plan::check::check(&desired, &observed, &plan), []);
}

#[test]
fn a_canary_that_waited_for_its_binding_and_the_binding_for_the_others_waited_for_ever() {
    let cut = "0:1g.10gb:pod:x/w-0 4:3g.40gb";
    let fleet =
        node("a", &[cut]) + &node("b", &["0:1g.10gb 4:3g.40gb"]) + &workload("Deployment", "w", 1, "1g.10gb", "");
    let tree = "nodes = [\"*\"]\n[[gpu]]\ninstances = [{ profile = \"2g.20gb\", start = 0 }, { profile = \"3g.40gb\", start = 4 }]\n";
    let scene = run(&fleet, &[tree.to_owned() + &managed("Deployment", "w", "2g.20gb")], "[budget]\ncanary = 1\n");
    let plan = scene.plan().2;
    assert!(plan.nodes[1].steps.iter().all(|step| step.waits == Some(BlockCode::Budget)), "{:?}", plan.nodes[1].steps);
    assert_eq!(plan.cluster.steps.iter().map(|step| step.waits).collect::<Vec<_>>(), [None]);
    let ended = scene.apply();
    assert!(ended.plans.last().unwrap().nodes.iter().all(|node| node.state == NodeState::Converged));
}

#[test]
fn a_workload_that_claims_what_its_binding_says_was_waited_for_for_ever() {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-a"]) + &workload("Deployment", "w", 1, "1g.10gb", "");
    let scene = run(&fleet, &[layout("n", &["7g.80gb"]) + &managed("Deployment", "w", "7g.80gb")], "");
    let (desired, mut observed, plan) = scene.plan();
    assert!(only(&plan).waiting.iter().any(|block| block.code == BlockCode::Rebind));
    let StepKind::BindWorkload { bind, .. } = plan.cluster.steps[0].kind.clone() else { panic!() };
    let claim = sectile::model::Bind { allocation: sectile::model::policy::Allocation::Dra, ..*bind };
    observed.cluster.workloads[0].requests.clear();
    observed.cluster.workloads[0].claims = [claim.claim_template().unwrap()].into();
    let plan = sectile::plan::plan(&desired, &observed, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!((only(&plan).waiting.len(), only(&plan).blocked.len()), (0, 0), "{:?}", only(&plan).waiting);
    assert!(words(only(&plan)).contains(&"evict_pod"));
}

#[test]
fn a_unit_that_still_ran_with_what_it_had_before_was_taken_for_right() {
    let fleet = bare("n", &["0:1g.10gb:unit:u.service 1:1g.10gb"]);
    let scene = run(&fleet, &[layout("n", &["1g.10gb 1g.10gb"]) + &unit("u", "1g.10gb")], "");
    let (desired, mut observed, plan) = scene.plan();
    assert_eq!(words(only(&plan)), [""; 0]);
    observed.nodes.get_mut("n").unwrap().units.get_mut("u.service").unwrap().stale = true;
    let plan = sectile::plan::plan(&desired, &observed, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(words(only(&plan)), ["stop_unit", "start_unit"]);
    assert_eq!(sectile::plan::check::check(&desired, &observed, &plan), []);
}
