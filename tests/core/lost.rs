//! GPUs that the driver counts and that tell nothing: they are not gone, and nothing is planned as if they were.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use sectile::execute::{Outcome, Rollback};
use sectile::model::ObservedNode;
use sectile::model::plan::{BlockCode, NodeState};
use sectile::plan::check::check;
use sectile::sim::fault::Fate;
use sectile::sim::lock;
use sectile::sim::world::SimGpu;

use super::defects::{self, layout, node, stateful};
use super::fleets::Run;
use super::memory::{FOUR, Turn, begin, codes, end, four, restarted, take, touched};

const ANY: &str = "[[gpu]]\ninstances = [\"7g\"]\n";

#[test]
fn a_gpu_lost_at_the_first_apply_was_taken_for_none() {
    for entries in [ANY, "[[gpu]]\ncount = 2\ninstances = [\"7g\"]\n", "[[gpu]]\nindex = [1]\ninstances = [\"7g\"]\n"] {
        let run = Run::new(FOUR, &[("layouts/n.toml", &format!("nodes = [\"n\"]\n{entries}"))]);
        take(&run, &Turn::Lost(2));
        let (_, observed, plan) = run.plan();
        assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged]), "{entries}");
        assert!(plan.nodes[0].blocked[0].message.contains("GPU 2 is lost"), "{plan:?}");
        assert_eq!((touched(&plan.nodes[0]).len(), plan.nodes[0].state), (0, NodeState::Blocked));
        begin(&run, &observed);
        assert!(lock(&run.world).memory.nodes.get("n").is_none_or(|node| node.inventory.is_empty()));
        // Somebody accepts that it is, and then nothing is told of it any more.
        let mut accepted = run.observe();
        accepted.nodes.values_mut().for_each(ObservedNode::accept);
        begin(&run, &accepted);
        let ended = run.apply();
        let last = ended.plans.last().unwrap();
        assert_eq!((codes(&last.nodes[0]), last.nodes[0].state), (BTreeSet::new(), NodeState::Converged));
        assert!(ended.plans.iter().any(|plan| !touched(&plan.nodes[0]).is_empty()));
        assert_eq!(lock(&run.world).memory.nodes["n"].inventory.len(), 3);
    }
}

/// Also where the same process saw it before, and still knows which one it is.
#[test]
fn others_were_cut_in_the_place_of_gpus_that_were_lost() {
    for entries in
        ["[[gpu]]\ncount = 2\ninstances = [\"7g\"]\n", "[[gpu]]\nmodel = \"H100*\"\ncount = 2\ninstances = [\"7g\"]\n"]
    {
        for restart in [false, true] {
            let run = four(entries);
            let ended = run.apply();
            end(&run, &ended.after, ended.plans.last().unwrap());
            let cut = |gpu: &SimGpu| !gpu.instances.is_empty();
            let at = lock(&run.world).nodes["n"].gpus.iter().position(cut).unwrap();
            take(&run, &Turn::Lost(at));
            let run = if restart { restarted(&run) } else { run };
            let (.., plan) = run.plan();
            assert_eq!(codes(&plan.nodes[0]), BTreeSet::from([BlockCode::InventoryChanged]), "{entries}");
            assert_eq!(touched(&plan.nodes[0]), BTreeSet::new());
        }
    }
}

#[test]
fn a_node_that_lost_a_gpu_counted_as_converged_and_forgot_it() {
    let uuids: Vec<String> = lock(&four("").world).nodes["n"].gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    // Of a layout that is about other nodes, too, no UUID is missed.
    let text = format!("nodes = [\"n\", \"m\"]\n[[gpu]]\nuuid = {uuids:?}\ninstances = [\"2g\", \"1g.10gb\"]\n");
    for turn in [Turn::Lost(1), Turn::Gone(1)] {
        for restart in [false, true] {
            let run = Run::new(FOUR, &[("layouts/n.toml", &text)]);
            begin(&run, &run.observe());
            let ended = run.apply();
            end(&run, &ended.after, ended.plans.last().unwrap());
            let before = lock(&run.world).memory.clone();
            assert_eq!((before.nodes["n"].inventory.len(), before.nodes["n"].placements.len()), (4, 4));
            take(&run, &turn);
            let run = if restart { restarted(&run) } else { run };
            let (_, observed, plan) = run.plan();
            let lost = matches!(turn, Turn::Lost(_));
            assert_eq!(plan.nodes[0].state == NodeState::Converged, !lost, "{plan:?}");
            assert_eq!(codes(&plan.nodes[0]).contains(&BlockCode::InventoryChanged), lost);
            begin(&run, &observed);
            end(&run, &observed, &plan);
            assert_eq!(lock(&run.world).memory, before, "{turn:?}");
            // Its check: a plan that calls that converged is caught.
            let mut mutant = plan;
            mutant.nodes[0].state = NodeState::Converged;
            assert_eq!(check(&run.resolve(&observed), &observed, &mutant).is_empty(), !lost);
        }
    }
}

#[test]
fn a_lost_gpu_holds_back_who_would_be_disturbed_and_not_what_is_named() {
    let uuids: Vec<String> = lock(&four("").world).nodes["n"].gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let run = four(&format!("[[gpu]]\nuuid = {:?}\ninstances = [\"7g\"]\n", &uuids[..2]));
    take(&run, &Turn::Lost(3));
    let ended = restarted(&run).apply();
    assert_eq!(touched(&ended.plans[0].nodes[0]), uuids[..2].iter().cloned().collect());
    let last = &ended.plans.last().unwrap().nodes[0];
    assert_eq!((codes(last), last.state), (BTreeSet::from([BlockCode::InventoryChanged]), NodeState::Blocked));
}

/// To put a layout back disturbs whoever was moved, and is about no GPU but those that were changed.
#[test]
fn a_layout_is_put_back_where_another_gpu_was_lost_meanwhile() {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "", ""]) + &stateful("w");
    let run = defects::run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], "");
    let cut =
        |run: &Run| -> Vec<usize> { lock(&run.world).nodes["n"].gpus.iter().map(|g| g.instances.len()).collect() };
    assert_eq!(cut(&run), [1, 0, 0]);
    let (world, made) = (run.world.clone(), Cell::new(0));
    // The free GPU is cut first, and the pod moves there; then the other one.
    run.meddle(Rc::new(move |call| {
        made.set(made.get() + u32::from(call == "create_gi_at"));
        if call != "create_gi_at" || made.get() != 2 {
            return Fate::Passes;
        }
        lock(&world).nodes.get_mut("n").unwrap().gpus[2].lost = true;
        Fate::Fails("UNKNOWN".to_owned())
    }));
    let outcome = run.apply_in_trouble().failed["n"].clone();
    assert!(matches!(outcome, Outcome::Failed { rollback: Rollback::Whole, .. }), "{outcome:?}");
    assert_eq!(cut(&run), [1, 0, 0]);
    assert!(lock(&run.world).ledger.is_empty());
}
