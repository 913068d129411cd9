//! The sweeps. Each takes a seed and tells how many runs it made, or what did not hold.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use jiff::Timestamp;
use sectile::execute::carry;
use sectile::sim::fault::Fate;
use sectile::sim::lock;

use crate::fleets::{Ended, Killed, Run};
use crate::hazards::{interfere, way, ways};
use crate::judge::{Before, ends_well, is_honest, nobody_is_harmed};
use crate::planted::planted;
use crate::rig::{CHANGES, Case, Dice, Trace};

/// A sweep: the seed, and where to write what happens.
pub(crate) type Sweep = fn(u64, &Trace) -> Result<u64, String>;

/// By name, each with as many seeds as a debug build runs in seconds.
pub(crate) const KINDS: [(&str, u64, Sweep); 6] = [
    ("kills", 10, kills),
    ("faults", 1, faults),
    ("pairs", 5, pairs),
    ("actor", 10, actor),
    ("swarm", 100, swarm),
    ("planted", 3, planted),
];

/// Seeds that found a bug, and which.
pub(crate) const FOUND: [(&str, u64, &str); 5] = [
    (
        "pairs",
        145,
        "a GPU that once seemed unable to MIG was not looked at again, and why it was not put back not told",
    ),
    ("pairs", 812, "the same of a call whose answer was lost"),
    ("swarm", 1618, "a node that was given up, and said so, was held for one that had said to be done"),
    ("swarm", 2595, "a list of compute profiles that was cut short was remembered, and hid a pod on an instance"),
    ("swarm", 3481, "the same of a list that lacked one"),
];

/// How often a run that nothing goes wrong in makes each call.
fn count(case: &Case, trace: &Trace) -> Result<(BTreeMap<&'static str, u32>, Run), String> {
    let run = case.run();
    let counts: Rc<RefCell<BTreeMap<&'static str, u32>>> = Rc::default();
    let counting = counts.clone();
    run.meddle(Rc::new(move |call| {
        *counting.borrow_mut().entry(call).or_default() += 1;
        Fate::Passes
    }));
    let ended = run.apply();
    trace.ended("nothing", &run, &ended);
    ends_well(&run, &ended)?;
    let counts = counts.borrow().clone();
    Ok((counts, run))
}

/// Runs until it ends or is killed.
fn start(run: &Run) -> Option<Ended> {
    match catch_unwind(AssertUnwindSafe(|| run.apply_in_trouble())) {
        Ok(ended) => Some(ended),
        Err(panic) if panic.is::<Killed>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// The last line of a run that is under way is torn, as by a crash while it was written.
fn tear(run: &Run) {
    let names: Vec<String> = run.journals.borrow().keys().cloned().collect();
    for name in names.iter().filter(|name| !run.story(name).over) {
        run.journals.borrow()[name].0.borrow_mut().tear_last();
    }
}

/// Killed before every call that changes something or keeps a record, and so after each; and with a torn record.
fn kills(seed: u64, trace: &Trace) -> Result<u64, String> {
    let case = Case::of(seed);
    trace.say(|| case.told());
    let (counts, _) = count(&case, trace)?;
    let calls: u32 = CHANGES.iter().filter_map(|call| counts.get(call)).sum();
    let mut runs = 0;
    for at in 1..=calls {
        for torn in [false, true] {
            let run = case.run();
            let (seen, last) = (Cell::new(0), Rc::new(Cell::new("")));
            let (told, before) = (trace.clone(), last.clone());
            run.meddle(Rc::new(move |call| {
                if CHANGES.contains(&call) {
                    seen.set(seen.get() + 1);
                    if seen.get() == at {
                        told.say(|| format!("  killed before {call} ({at} of {calls}, torn {torn})"));
                        resume_unwind(Box::new(Killed));
                    }
                    before.set(call);
                }
                Fate::Passes
            }));
            if torn && (start(&run).is_some() || last.get() != "append") {
                continue;
            }
            if torn {
                tear(&run);
            } else {
                start(&run);
            }
            run.meddle(passing(trace));
            let ended = run.apply();
            let hazard = format!("killed before call {at}, torn {torn}");
            trace.ended(&hazard, &run, &ended);
            ends_well(&run, &ended).map_err(|why| format!("{hazard}: {why}"))?;
            runs += 1;
        }
    }
    Ok(runs)
}

fn passing(trace: &Trace) -> Rc<dyn Fn(&'static str) -> Fate> {
    let trace = trace.clone();
    Rc::new(move |call| {
        trace.call(call, &Fate::Passes);
        Fate::Passes
    })
}

/// Makes the n-th call of each name go wrong, and judges; then nothing goes wrong, and it converges.
fn wrong(case: &Case, faults: &[(&'static str, u32, Fate)], trace: &Trace) -> Result<(), String> {
    let run = case.run();
    let before = Before::of(&run);
    let seen: RefCell<BTreeMap<&str, u32>> = RefCell::default();
    let (due, told) = (faults.to_vec(), trace.clone());
    run.meddle(Rc::new(move |call| {
        let mut seen = seen.borrow_mut();
        let nth = seen.entry(call).or_default();
        *nth += 1;
        let fate = due.iter().find(|(name, at, _)| *name == call && *at == *nth);
        let fate = fate.map_or(Fate::Passes, |(.., fate)| fate.clone());
        told.call(call, &fate);
        fate
    }));
    let ended = run.apply_in_trouble();
    trace.say(|| format!("  ended with {:?}", ended.failed));
    trace.ended(format!("{faults:?}"), &run, &ended);
    let which = |why| format!("{faults:?}: {why}");
    is_honest(&run, &ended, &before).map_err(which)?;
    run.meddle(passing(trace));
    forgive(&run);
    let ended = run.apply();
    trace.ended(format!("afterwards, {faults:?}"), &run, &ended);
    ends_well(&run, &ended).map_err(|why| format!("afterwards, {}", which(why)))
}

/// Somebody says that what failed may be tried again.
fn forgive(run: &Run) {
    for (node, journal) in run.journals.borrow().iter() {
        carry::forgive(&mut *journal.0.borrow_mut(), node, Timestamp::UNIX_EPOCH).unwrap();
    }
}

/// Every call goes wrong once in each of its ways, at one of the times that it is made.
fn faults(seed: u64, trace: &Trace) -> Result<u64, String> {
    let case = Case::of(seed);
    trace.say(|| case.told());
    let (counts, _) = count(&case, trace)?;
    let mut dice = Dice::new(seed ^ 0xFA);
    let mut runs = 0;
    for (call, count) in counts {
        for fate in ways(call) {
            let nth = 1 + u32::try_from(dice.pick(count as usize)).unwrap();
            wrong(&case, &[(call, nth, fate)], trace)?;
            runs += 1;
        }
    }
    Ok(runs)
}

/// Two of them at once.
fn pairs(seed: u64, trace: &Trace) -> Result<u64, String> {
    const SAMPLE: u64 = 40;
    let case = Case::of(seed);
    trace.say(|| case.told());
    let (counts, _) = count(&case, trace)?;
    let calls: Vec<(&'static str, u32)> = counts.into_iter().collect();
    let mut dice = Dice::new(seed ^ 0xFB);
    for _ in 0..SAMPLE {
        let mut one = || {
            let (call, count) = calls[dice.pick(calls.len())];
            (call, 1 + u32::try_from(dice.pick(count as usize)).unwrap(), way(call, &mut dice))
        };
        wrong(&case, &[one(), one()], trace)?;
    }
    Ok(SAMPLE)
}

/// Somebody else at work between any two steps.
fn actor(seed: u64, trace: &Trace) -> Result<u64, String> {
    const SAMPLE: u64 = 10;
    let case = Case::of(seed);
    trace.say(|| case.told());
    for turn in 0..SAMPLE {
        let run = case.run();
        let dice = RefCell::new(Dice::new(seed.wrapping_mul(SAMPLE) + turn));
        let (world, told) = (run.world.clone(), trace.clone());
        run.meddle(Rc::new(move |call| {
            // Whoever comes between the look and the act that follows it at once is beyond anybody's care.
            if matches!(call, "append" | "sleep_until") && dice.borrow_mut().chance(30) {
                let what = interfere(&world, &mut dice.borrow_mut());
                told.say(|| format!("  {what}"));
            }
            told.call(call, &Fate::Passes);
            Fate::Passes
        }));
        let ended = run.apply_in_trouble();
        trace.say(|| format!("  ended with {:?}", ended.failed));
        run.meddle(passing(trace));
        forgive(&run);
        let ended = run.apply_in_trouble();
        trace.ended(format!("turn {turn}"), &run, &ended);
        ends_well(&run, &ended).map_err(|why| format!("turn {turn}: {why}"))?;
    }
    Ok(SAMPLE)
}

/// Several starts of one fleet's life with everything at once: calls that fail, kills, torn records, others at work,
/// edits of the tree; then peace.
fn swarm(seed: u64, trace: &Trace) -> Result<u64, String> {
    let mut case = Case::of(seed);
    trace.say(|| case.told());
    let dice = Rc::new(RefCell::new(Dice::new(seed ^ 0x5A)));
    let mut run = case.run();
    let starts = 2 + dice.borrow_mut().pick(3);
    for at in 0..starts {
        trace.say(|| format!("start {at}"));
        let (world, told, fate) = (run.world.clone(), trace.clone(), dice.clone());
        let failing = dice.borrow_mut().pick(3);
        let killing = dice.borrow_mut().chance(50);
        let last = Rc::new(Cell::new(""));
        let before = last.clone();
        run.meddle(Rc::new(move |call| {
            let mut dice = fate.borrow_mut();
            if matches!(call, "append" | "sleep_until") && dice.chance(5) {
                let what = interfere(&world, &mut dice);
                told.say(|| format!("  {what}"));
            }
            if killing && CHANGES.contains(&call) && dice.chance(5) {
                told.say(|| format!("  killed before {call}"));
                resume_unwind(Box::new(Killed));
            }
            if CHANGES.contains(&call) {
                before.set(call);
            }
            let goes_wrong = dice.pick(150) < failing;
            let fate = if goes_wrong { way(call, &mut dice) } else { Fate::Passes };
            told.call(call, &fate);
            fate
        }));
        let ended = start(&run);
        match &ended {
            Some(ended) => trace.say(|| format!("  ended with {:?}", ended.failed)),
            // A record that something was done after was whole by then.
            None if last.get() == "append" && dice.borrow_mut().chance(50) => {
                trace.say(|| "  its last record is torn".to_owned());
                tear(&run);
            }
            None => {}
        }
        nobody_is_harmed(&lock(&run.world))?;
        if dice.borrow_mut().chance(30) {
            case.edit(&mut dice.borrow_mut());
            trace.say(|| format!("  somebody edits the tree\n{}", case.told()));
            run.tree = case.run().tree;
        }
    }
    trace.say(|| "peace".to_owned());
    run.meddle(passing(trace));
    forgive(&run);
    let ended = run.apply_in_trouble();
    trace.ended("everything", &run, &ended);
    ends_well(&run, &ended)?;
    let again = run.apply_in_trouble();
    // A node that was given up, and said so, may be taken up again by the next run.
    let held = !ended.failed.is_empty() || !again.failed.is_empty();
    if again.plans.len() == 1 || held { Ok(1) } else { Err("what is done is done again".to_owned()) }
}
