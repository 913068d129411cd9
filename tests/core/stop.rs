//! A node that somebody suspends in the middle of its plan: no further step is begun, and nothing is left behind.

use std::cell::Cell;
use std::rc::Rc;

use sectile::execute::{News, Outcome};
use sectile::model::observed::{Scope, Suspension};
use sectile::sim::fault::Fate;
use sectile::sim::lock;

use super::defects::{layout, node, run, stateful};
use super::fleets::Run;

/// A pod has to leave its instance for another GPU's.
fn moving() -> Run {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w");
    run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], "")
}

fn suspension() -> Suspension {
    let (reason, since) = ("pods hang".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    Suspension { reason, since, by: Some("ann".to_owned()), scope: Scope::Fleet, ..Suspension::default() }
}

/// Carries the plan of `n` out; `at` happens at the look before the nth step, and is what becomes of it.
fn stopped_at(run: &Run, nth: usize, at: impl Fn() -> Fate + 'static) -> (Outcome, Vec<News>) {
    let (desired, observed, plan) = run.plan();
    let looks = Cell::new(0);
    run.meddle(Rc::new(move |call| {
        looks.set(looks.get() + usize::from(call == "stopped"));
        if call == "stopped" && looks.get() == nth { at() } else { Fate::Passes }
    }));
    let ended = run.node(&plan.nodes[0], &desired, &observed);
    run.meddle(Rc::new(|_| Fate::Passes));
    ended
}

fn done(news: &[News]) -> usize {
    news.iter().filter(|news| matches!(news, News::Done(_) | News::Skipped(_))).count()
}

fn nothing_is_left(run: &Run) {
    let world = lock(&run.world);
    assert!(!world.nodes["n"].tainted && !world.nodes["n"].clients_paused && world.ledger.is_empty());
}

#[test]
fn before_whichever_step_a_node_is_suspended_no_further_one_is_begun() {
    let steps = moving().plan().2.nodes[0].steps.len();
    assert!(steps > 8, "{steps}");
    for nth in 1..=steps {
        let run = moving();
        let world = run.world.clone();
        let suspend = move || {
            lock(&world).memory.nodes.entry("n".to_owned()).or_default().suspended = Some(suspension());
            Fate::Passes
        };
        let (outcome, news) = stopped_at(&run, nth, suspend);
        assert_eq!((outcome, done(&news)), (Outcome::Suspended(suspension()), nth - 1), "before step {nth}");
        nothing_is_left(&run);
        assert!(run.story("n").over && run.story("n").owed.is_empty());
        let plan = run.plan().2;
        assert!(plan.nodes[0].steps.iter().all(|step| step.waits.is_some()));
        assert!(plan.nodes[0].waiting.iter().all(|block| block.hint.contains("resume --fleet")));
        lock(&run.world).memory.nodes.get_mut("n").unwrap().suspended = None;
        run.apply();
        nothing_is_left(&run);
    }
}

#[test]
fn where_it_can_not_be_known_whether_somebody_stopped_the_node_no_step_is_begun() {
    let run = moving();
    let (outcome, news) = stopped_at(&run, 3, || Fate::Fails("403".to_owned()));
    let Outcome::Held { step, why } = outcome else { panic!("{outcome:?}") };
    assert!(step > 0 && why.contains("can't be known") && why.contains("403"), "{why}");
    assert_eq!(done(&news), 2);
    nothing_is_left(&run);
    // What passes is asked for again.
    let (outcome, _) = stopped_at(&run, 3, || Fate::Fails("503".to_owned()));
    assert_eq!(outcome, Outcome::Done);
}
