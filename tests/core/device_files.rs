//! What a host keeps of its MIG devices is made anew with them.

use std::rc::Rc;

use sectile::execute::{Outcome, Rollback};
use sectile::model::StepKind;
use sectile::model::observed::DeviceFiles;
use sectile::plan::check::{Invariant, check};
use sectile::sim::fault::Fate;
use sectile::sim::lock;

use super::defects::{bare, layout, node, run, unit, words};
use super::fleets::Run;

/// The host of the first node keeps these.
fn keeps(fleet: &str, files: &str) -> String {
    fleet.replacen("[[node.gpu]]", &format!("device_files = [{files}]\n[[node.gpu]]"), 1)
}

/// A unit must move, and the instance that it goes to is made.
fn moving() -> Run {
    let fleet = bare("n", &["0:2g.20gb:unit:e.service 4:3g.40gb"]);
    let layout = layout("n", &["1g.10gb 1g.10gb 1g.10gb 1g.10gb 3g.40gb"]) + &unit("e", "1g.10gb");
    run(&keeps(&fleet, "\"cdi\", \"device-nodes\""), &[layout], "")
}

/// Whether they name just the devices that are there.
fn current(run: &Run) -> bool {
    let world = lock(&run.world);
    let node = &world.nodes["n"];
    let mut there: Vec<_> = node.devices().collect();
    there.sort();
    node.device_files.values().all(|named| named.iter().eq(there.iter().copied()))
}

#[test]
fn the_host_is_told_before_anybody_is_given_a_new_device() {
    let run = moving();
    let (_, _, plan) = run.plan();
    let words = words(&plan.nodes[0]);
    let tells: Vec<usize> = (0..words.len()).filter(|at| words[*at] == "refresh_devices").collect();
    let last = |word: &str| words.iter().rposition(|w| *w == word).unwrap();
    // Once for what needs nobody to move, and once for what does.
    assert_eq!(tells.len(), 2, "{words:?}");
    assert!(last("create_instance") < tells[1] && tells[1] < last("start_unit"), "{words:?}");
    let told = StepKind::RefreshDevices { files: DeviceFiles::ALL.to_vec() };
    assert_eq!(plan.nodes[0].steps[tells[0]].kind, told);
    run.apply();
    assert!(current(&run));
}

#[test]
fn advertising_comes_after_telling_the_host() {
    let fleet = keeps(&node("n", &["0:2g.20gb"]), "\"cdi\"");
    let run = run(&fleet, &[layout("n", &["2g.20gb 3g.40gb"])], "");
    assert_eq!(words(&run.plan().2.nodes[0]), ["create_instance", "refresh_devices", "refresh_clients"]);
    run.apply();
    assert!(current(&run));
    assert!(run.plan().2.nodes[0].steps.is_empty());
}

#[test]
fn a_host_that_keeps_nothing_and_a_change_of_nothing_need_no_telling() {
    let layouts = [layout("n", &["2g.20gb 3g.40gb"])];
    let none = run(&node("n", &["0:2g.20gb"]), &layouts, "");
    assert_eq!(words(&none.plan().2.nodes[0]), ["create_instance", "refresh_clients"]);
    let starts = layout("n", &["2g.20gb"]) + &unit("e", "2g.20gb");
    let run = run(&keeps(&bare("n", &["0:2g.20gb"]), "\"cdi\""), &[starts], "");
    let idle = sectile::sim::world::SimUnit { active: false, devices: Vec::new() };
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("e.service".to_owned(), idle);
    assert_eq!(words(&run.plan().2.nodes[0]), ["start_unit"]);
}

#[test]
fn a_plan_that_does_not_tell_the_host_or_tells_it_of_nothing_is_caught() {
    let run = moving();
    let (desired, observed, plan) = run.plan();
    let found = |change: &dyn Fn(&mut Vec<sectile::model::Step>)| {
        let mut plan = plan.clone();
        change(&mut plan.nodes[0].steps);
        let all: Vec<Invariant> = check(&desired, &observed, &plan).into_iter().map(|v| v.invariant).collect();
        all
    };
    let tells = |step: &sectile::model::Step| matches!(step.kind, StepKind::RefreshDevices { .. });
    assert!(found(&|steps| steps.retain(|step| !tells(step))).contains(&Invariant::Bracket));
    let fewer = StepKind::RefreshDevices { files: vec![DeviceFiles::Cdi] };
    assert!(
        found(&|steps| steps.iter_mut().find(|s| tells(s)).unwrap().kind = fewer.clone()).contains(&Invariant::Foreign)
    );
    let twice = |steps: &mut Vec<sectile::model::Step>| {
        let at = steps.iter().position(tells).unwrap();
        let mut again = steps[at].clone();
        (again.id, again.after) = (99, steps.iter().map(|s| s.id).collect());
        steps.push(again);
    };
    assert!(found(&twice).contains(&Invariant::Needless));
}

/// Nothing is to be done any more by then, and the host still tells of what was there before.
#[test]
fn a_run_that_was_killed_before_it_told_the_host_is_made_up_for() {
    let mut alone = 0;
    for most in 0..200 {
        let run = moving();
        let (desired, observed, plan) = run.plan();
        run.node_killed(&plan.nodes[0], &desired, &observed, most);
        let behind = !current(&run);
        let done = run.plan().2.nodes[0].steps.is_empty();
        alone += u32::from(behind && done);
        run.apply();
        assert!(current(&run), "killed after {most}");
    }
    let fleet = keeps(&bare("n", &["0:2g.20gb"]), "\"cdi\"");
    for most in 0..40 {
        let run = run(&fleet, &[layout("n", &["2g.20gb 3g.40gb"])], "");
        let (desired, observed, plan) = run.plan();
        run.node_killed(&plan.nodes[0], &desired, &observed, most);
        alone += u32::from(!current(&run) && run.plan().2.nodes[0].steps.is_empty());
        run.apply();
        assert!(current(&run), "killed after {most}");
    }
    assert!(alone > 0, "no kill left only that");
}

#[test]
fn a_host_that_can_not_be_told_fails_the_plan_and_the_layout_is_put_back() {
    let run = moving();
    let before = lock(&run.world).nodes["n"].gpus[0].instances.len();
    run.meddle(Rc::new(|call| match call {
        "refresh_devices" => Fate::Fails("org.freedesktop.systemd1.JobFailed".to_owned()),
        _ => Fate::Passes,
    }));
    let ended = run.apply_in_trouble();
    let Outcome::Failed { why, left, rollback, .. } = &ended.failed["n"] else { panic!("{:?}", ended.failed) };
    assert!(why.contains("refresh_devices") && !left.is_empty(), "{why} {left:?}");
    // Even that can't be told, and is said once.
    assert_eq!((rollback, left.len()), (&Rollback::Whole, 1), "{left:?}");
    assert_eq!(lock(&run.world).nodes["n"].gpus[0].instances.len(), before);
    assert!(lock(&run.world).nodes["n"].units["e.service"].active);
}
