//! Faults, and what the executor makes of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use sectile::execute::{Outcome, Rollback, at_once, within};
use sectile::model::observed::PodPhase;
use sectile::model::{Digest, NodeState, StepKind};
use sectile::ports::{Cluster, Driver, Host, Journal, NvmlCode};
use sectile::sim::cluster::SimCluster;
use sectile::sim::fault::{CALLS, Fate, Fault, Faulty, PortKind, port_of};
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use super::defects::{bare, layout, node, run, stateful, unit};
use super::fleets::{Killed, Run};
use crate::door::TestDriver;

/// The n-th call of that name has that fate.
fn once(run: &Run, call: &'static str, nth: u32, fate: Fate) {
    let seen = Cell::new(0);
    run.meddle(Rc::new(move |name| {
        if name == call {
            seen.set(seen.get() + 1);
        }
        if name == call && seen.get() == nth { fate.clone() } else { Fate::Passes }
    }));
}

fn passing(run: &Run) {
    run.meddle(Rc::new(|_| Fate::Passes));
}

fn failed(run: &Run) -> Outcome {
    run.apply_in_trouble().failed["n"].clone()
}

/// A pod that has to leave its instance for another GPU's.
fn moving(policy: &str) -> Run {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w");
    run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], policy)
}

fn profiles(run: &Run) -> Vec<String> {
    let observed = run.observe();
    let gpus = observed.nodes["n"].gpus.iter();
    gpus.map(|gpu| gpu.instances.iter().map(|i| format!("{}@{} ", i.profile, i.placement.start)).collect()).collect()
}

#[test]
fn a_fault_strikes_when_and_as_often_as_it_says() {
    let run = run(&node("n", &["0:1g.10gb"]), &[layout("n", &["1g.10gb"])], "");
    let fate = Fate::Fails("IN_USE".to_owned());
    lock(&run.world).faults = vec![Fault { call: "device_count".to_owned(), nth: 2, times: 2, fate, seen: 0 }];
    let driver = Faulty::new(TestDriver::new(run.world.clone(), "n"), run.world.clone());
    let told: Vec<_> = (0..5).map(|_| driver.device_count()).collect();
    assert_eq!(told, [Ok(1), Err(NvmlCode::InUse), Err(NvmlCode::InUse), Ok(1), Ok(1)]);
    assert_eq!(lock(&run.world).faults[0].seen, 5);
}

#[test]
fn a_call_is_done_or_not_as_its_fate_says() {
    let before = |fate: Fate| {
        let run = run(&node("n", &["0:1g.10gb"]), &[layout("n", &["1g.10gb"])], "");
        let call = "set_taint".to_owned();
        lock(&run.world).faults = vec![Fault { call, nth: 1, times: 1, fate, seen: 0 }];
        let cluster = Faulty::new(SimCluster { world: run.world.clone() }, run.world.clone());
        let began = lock(&run.world).clock_ms;
        let answer = at_once(within(cluster.set_taint("n", Some(&Digest::of([]))), std::future::ready(()))).unwrap();
        let world = lock(&run.world);
        let code = answer.map(|answer| answer.map_err(|error| (error.code, error.transient)));
        (code, world.nodes["n"].tainted, world.clock_ms - began)
    };
    let code = |code: &str, again| Some(Err((code.to_owned(), again)));
    assert_eq!(before(Fate::Passes), (Some(Ok(())), true, 0));
    assert_eq!(before(Fate::Fails("403".to_owned())), (code("403", false), false, 0));
    assert_eq!(before(Fate::Fails("503".to_owned())), (code("503", true), false, 0));
    assert_eq!(before(Fate::Loses("504".to_owned())), (code("504", true), true, 0));
    assert_eq!(before(Fate::Takes(9)), (Some(Ok(())), true, 9_000));
    assert_eq!(before(Fate::Hangs), (None, false, 0));
    assert_eq!(before(Fate::Swallows), (None, true, 0));
}

#[test]
fn a_call_that_nobody_can_leave_gives_up_by_itself() {
    let run = run(&node("n", &["0:1g.10gb"]), &[layout("n", &["1g.10gb"])], "");
    let fault = |call: &str, fate| Fault { call: call.to_owned(), nth: 1, times: 1, fate, seen: 0 };
    lock(&run.world).faults = vec![fault("device_count", Fate::Hangs), fault("append", Fate::Swallows)];
    let began = lock(&run.world).clock_ms;
    let driver = Faulty::new(TestDriver::new(run.world.clone(), "n"), run.world.clone());
    assert_eq!(driver.device_count(), Err(NvmlCode::Timeout));
    let mut journal = Faulty::new(MemoryJournal::default(), run.world.clone());
    assert_eq!(journal.append("x").unwrap_err().code, "timed-out");
    assert_eq!(journal.lines().unwrap(), ["x"], "it was written, and nobody knows");
    assert_eq!(lock(&run.world).clock_ms - began, 120_000);
}

#[test]
fn every_call_has_its_port_and_every_port_but_the_clock_its_codes() {
    let all: Vec<&str> = CALLS.iter().flat_map(|(_, calls)| calls.iter().copied()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "two ports have a call of one name");
    for (port, calls) in CALLS {
        assert!(calls.iter().all(|call| port_of(call) == Some(*port)));
        let codes = port.codes();
        let again = |wanted| codes.iter().any(|(_, again)| *again == wanted);
        assert_eq!((again(true), again(false)), (*port != PortKind::Clock, *port != PortKind::Clock), "{port:?}");
    }
    assert_eq!(NvmlCode::GpuIsLost.constant(), "GPU_IS_LOST");
    assert_eq!(NvmlCode::ERRORS.len(), 19);
    let host = |fate| {
        let run = run(&node("n", &["0:1g.10gb"]), &[layout("n", &["1g.10gb"])], "");
        let call = "units".to_owned();
        lock(&run.world).faults = vec![Fault { call, nth: 1, times: 1, fate, seen: 0 }];
        let host = SimHost { world: run.world.clone(), node: "n".to_owned() };
        at_once(Faulty::new(host, run.world.clone()).units(&BTreeSet::new())).unwrap().unwrap_err().transient
    };
    assert!(host(Fate::Fails("org.freedesktop.DBus.Error.NoReply".to_owned())));
    assert!(!host(Fate::Fails("org.freedesktop.systemd1.UnitMasked".to_owned())));
}

#[test]
fn a_call_that_never_answers_is_made_again() {
    for fate in [Fate::Hangs, Fate::Swallows] {
        let run = moving("");
        let began = lock(&run.world).clock_ms;
        once(&run, "set_taint", 1, fate);
        run.apply();
        assert!(lock(&run.world).clock_ms - began > 60_000, "nobody waited for an answer");
    }
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_pass_is_not() {
    let tries = |code: &str, retries: u32| {
        let run = moving(&format!("[failure]\nretries = {retries}\n"));
        let seen = Rc::new(Cell::new(0));
        let (counting, fails) = (seen.clone(), code.to_owned());
        run.meddle(Rc::new(move |call| {
            // Taken back it is let off.
            let strikes = call == "set_taint" && counting.get() <= retries;
            counting.set(counting.get() + u32::from(strikes));
            if strikes { Fate::Fails(fails.clone()) } else { Fate::Passes }
        }));
        let outcome = failed(&run);
        assert!(
            matches!(&outcome, Outcome::Failed { why, left, .. } if why.contains(code) && left.is_empty()),
            "{outcome:?}"
        );
        seen.get()
    };
    assert_eq!(tries("503", 3), 4);
    assert_eq!(tries("503", 0), 1);
}

#[test]
fn a_plan_that_fails_behind_a_destroy_puts_the_layout_back_and_its_users() {
    let run = moving("");
    let before = profiles(&run);
    // The first instance that is made is the new one; the one that is put back is the second.
    once(&run, "create_gi_at", 1, Fate::Fails("INSUFFICIENT_RESOURCES".to_owned()));
    let outcome = failed(&run);
    let Outcome::Failed { step, why, left, rollback } = outcome else { panic!("{outcome:?}") };
    assert_eq!((rollback, left), (Rollback::Whole, vec![]));
    assert!(step > 0 && why.starts_with("creating GPU-") && why.ends_with("Insufficient Resources"), "{why}");
    assert_eq!(profiles(&run), before);
    lock(&run.world).pass(120_000);
    let world = lock(&run.world);
    assert_eq!(world.pods["x/w-0"].phase, PodPhase::Running);
    assert!(world.ledger.is_empty() && !world.nodes["n"].tainted && !world.nodes["n"].clients_paused);
}

#[test]
fn a_unit_whose_instance_is_put_back_runs_on_it_again() {
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
    let run = run(&bare("n", &["0:1g.10gb:unit:u.service", ""]), &[layout], "");
    let before = lock(&run.world).nodes["n"].units.clone();
    // The free GPU is cut first, then the other one.
    once(&run, "create_gi_at", 2, Fate::Fails("UNKNOWN".to_owned()));
    let outcome = failed(&run);
    assert!(matches!(outcome, Outcome::Failed { rollback: Rollback::Whole, .. }), "{outcome:?}");
    assert_eq!(lock(&run.world).nodes["n"].units, before);
    assert!(lock(&run.world).ledger.is_empty());
}

#[test]
fn who_held_nothing_before_kept_its_instance_from_being_taken_back() {
    let command = "[[workload]]\nname = \"c\"\nprofile = \"1g.10gb\"\n[workload.command]\n";
    let phases = ["drain", "drained", "resume", "ready"].map(|phase| format!("{phase} = [\"/x\"]\n")).concat();
    let layout = layout("n", &["1g.10gb 1g.10gb 1g.10gb"]) + &unit("u", "1g.10gb") + command + &phases;
    let run = run(&bare("n", &[""]), &[layout + &unit("v", "1g.10gb")], "");
    {
        let mut world = lock(&run.world);
        let units = &mut world.nodes.get_mut("n").unwrap().units;
        units.extend(["u.service", "v.service"].map(|name| (name.to_owned(), SimUnit::default())));
    }
    // The first unit and the command run on new instances by then.
    once(&run, "start_unit", 2, Fate::Fails("org.freedesktop.systemd1.JobFailed".to_owned()));
    let outcome = failed(&run);
    let Outcome::Failed { rollback, left, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!((rollback, left.len()), (&Rollback::Whole, 0), "{outcome:?}");
    assert_eq!(profiles(&run), [""]);
    let world = lock(&run.world);
    let node = &world.nodes["n"];
    assert!(node.units.values().all(|unit| !unit.active && unit.devices.is_empty()), "{:?}", node.units);
    assert!(node.commands["c"].devices.is_empty() && world.ledger.is_empty());
}

#[test]
fn a_layout_is_left_as_it_is_where_the_policy_says_so() {
    let run = moving("[failure]\nrollback = false\n");
    once(&run, "create_gi_at", 1, Fate::Fails("INSUFFICIENT_RESOURCES".to_owned()));
    let outcome = failed(&run);
    assert!(matches!(outcome, Outcome::Failed { rollback: Rollback::None, .. }), "{outcome:?}");
    assert_eq!(profiles(&run), ["", "1g.10gb@0 "]);
    let world = lock(&run.world);
    assert!(!world.nodes["n"].tainted && !world.nodes["n"].clients_paused);
}

#[test]
fn a_rollback_that_fails_too_says_why() {
    let run = moving("");
    run.meddle(Rc::new(|call| match call {
        "create_gi_at" => Fate::Fails("GPU_IS_LOST".to_owned()),
        _ => Fate::Passes,
    }));
    let outcome = failed(&run);
    let Outcome::Failed { rollback: Rollback::Part(why), .. } = &outcome else { panic!("{outcome:?}") };
    assert!(why.contains("GPU is lost"), "{why}");
}

#[test]
fn what_failed_for_good_is_not_tried_again_until_something_changes() {
    let run = moving("");
    let tries = Rc::new(Cell::new(0));
    let counting = tries.clone();
    run.meddle(Rc::new(move |call| {
        counting.set(counting.get() + u32::from(call == "set_taint"));
        if call == "destroy_ci" { Fate::Fails("UNKNOWN".to_owned()) } else { Fate::Passes }
    }));
    assert!(matches!(failed(&run), Outcome::Failed { rollback: Rollback::Unneeded, .. }));
    let before = tries.get();
    let again = run.apply_in_trouble();
    assert_eq!(tries.get(), before, "it was tried again");
    let last = again.plans.last().unwrap();
    assert_eq!(last.nodes[0].state, NodeState::Failed);
    assert!(last.nodes[0].blocked.iter().any(|block| block.code.word() == "failed"));
    passing(&run);
    run.apply_in_trouble();
    assert_eq!(profiles(&run), ["1g.10gb@0 ", "1g.10gb@0 "], "nothing has changed yet");
    // A cause that is gone shows nowhere; a layout that somebody changed does.
    lock(&run.world).place("n", 1, "2g.20gb".parse().unwrap(), 4, None).unwrap();
    run.apply();
    assert_eq!(profiles(&run), ["7g.80gb@0 ", "1g.10gb@0 "]);
}

#[test]
fn a_client_that_a_killed_run_stopped_is_started_again() {
    let run = moving("[clients]\nsystemd = [\"dcgm.service\"]\n");
    let client = SimUnit { active: true, devices: Vec::new() };
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("dcgm.service".to_owned(), client);
    run.meddle(Rc::new(|call| if call == "destroy_ci" { resume_unwind(Box::new(Killed)) } else { Fate::Passes }));
    assert!(catch_unwind(AssertUnwindSafe(|| run.apply_in_trouble())).is_err());
    assert!(!lock(&run.world).nodes["n"].units["dcgm.service"].active);
    passing(&run);
    assert_eq!(
        run.story("n").owed.first(),
        Some(&StepKind::ResumeClients { units: vec!["dcgm.service".to_owned()], commands: Vec::new() })
    );
    run.apply();
    assert!(lock(&run.world).nodes["n"].units["dcgm.service"].active);
    assert!(run.story("n").owed.is_empty());
}

#[test]
fn what_cannot_be_recorded_is_not_begun() {
    for code in ["read-only", "storage-full"] {
        let run = moving("");
        let calls: Rc<RefCell<Vec<&str>>> = Rc::default();
        let seen = calls.clone();
        run.meddle(Rc::new(move |call| {
            seen.borrow_mut().push(call);
            if call == "append" { Fate::Fails(code.to_owned()) } else { Fate::Passes }
        }));
        let outcome = failed(&run);
        assert!(matches!(&outcome, Outcome::Failed { why, .. } if why.contains(code)), "{outcome:?}");
        assert!(!calls.borrow().contains(&"set_taint"), "{code}");
    }
}
