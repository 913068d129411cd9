//! Elections on virtual clocks: of several controllers never two act at an instant, and one comes where all is well.

use std::time::Duration;

use proptest::prelude::*;
use sectile::execute::election::{ACTS, Election, Held, LEASE, Next};

/// One controller: its clock runs at `rate` per cent of the real time, from an offset of its own.
struct One {
    election: Election,
    name: String,
    rate: u64,
    offset: u64,
    /// It runs no code before that real time.
    asleep_until: u64,
    /// When it means to look, by its own clock.
    due: Duration,
    /// What it asked the server for and has not heard of: the record that must still be there, when it asked (its clock), when
    /// the server hears of it and when it hears of the answer (real time), and what that is.
    asking: Option<Asking>,
}

struct Asking {
    /// `None`: it only reads.
    seen: Option<String>,
    asked: Duration,
    arrives: Option<u64>,
    returns: u64,
    answer: Option<Held>,
    /// The answer is lost.
    lost: bool,
}

impl One {
    fn now(&self, real_ms: u64) -> Duration {
        Duration::from_millis(self.offset + real_ms * self.rate / 100)
    }
}

/// What the world decides next, from a tape.
struct Tape<'a>(std::slice::Iter<'a, u8>);

impl Tape<'_> {
    fn next(&mut self) -> u64 {
        self.0.next().copied().map_or(0, u64::from)
    }
}

struct World {
    record: Option<Held>,
    version: u64,
    all: Vec<One>,
}

impl World {
    fn new(rates: &[u64]) -> Self {
        let one = |(i, &rate): (usize, &u64)| {
            let (name, offset) = (format!("c{i}"), 1000 * i as u64);
            let election = Election::new(name.clone());
            One { election, name, rate, offset, asleep_until: 0, due: Duration::ZERO, asking: None }
        };
        World { record: None, version: 0, all: rates.iter().enumerate().map(one).collect() }
    }

    /// A millisecond step of everybody; how many may act at this instant.
    fn step(&mut self, real: u64, tape: &mut Tape<'_>, calm: bool) -> usize {
        let trouble = |tape: &mut Tape<'_>, most: u64| if calm { 10 } else { 10 + tape.next() * most / 255 };
        for one in &mut self.all {
            let now = one.now(real);
            if let Some(asking) = &mut one.asking {
                // The server answers also who is asleep.
                if asking.arrives.is_some_and(|at| real >= at) {
                    asking.arrives = None;
                    if let Some(seen) = &asking.seen {
                        let version = self.record.as_ref().map(|r| r.version.clone()).unwrap_or_default();
                        if version == *seen {
                            self.version += 1;
                            self.record = Some(Held { holder: one.name.clone(), version: self.version.to_string() });
                            asking.answer.clone_from(&self.record);
                        }
                    } else {
                        asking.answer.clone_from(&self.record);
                    }
                }
            }
            if real < one.asleep_until {
                continue;
            }
            if !calm && tape.next() > 250 {
                one.asleep_until = real + tape.next() * 100;
                continue;
            }
            match one.asking.take() {
                Some(asking) if real < asking.returns || asking.arrives.is_some() => one.asking = Some(asking),
                Some(Asking { lost: true, .. }) => one.due = now,
                Some(Asking { seen: Some(_), answer: Some(held), asked, .. }) => {
                    one.election.took(held.version, asked, now);
                    one.due = one.election.renews_at().unwrap();
                }
                Some(Asking { seen: Some(_), .. }) => one.due = now,
                Some(Asking { answer, .. }) => {
                    let version = answer.as_ref().map(|held| held.version.clone()).unwrap_or_default();
                    match one.election.saw(answer, now) {
                        Next::Look(then) => one.due = then,
                        Next::Take => {
                            let arrives = real + trouble(tape, 4000);
                            let returns = arrives + trouble(tape, 4000);
                            let lost = !calm && tape.next() > 230;
                            let (seen, arrives) = (Some(version), Some(arrives));
                            one.asking = Some(Asking { seen, asked: now, arrives, returns, answer: None, lost });
                        }
                    }
                }
                None if now >= one.due => {
                    let arrives = real + trouble(tape, 2000);
                    let (returns, arrives) = (arrives + trouble(tape, 2000), Some(arrives));
                    one.asking = Some(Asking { seen: None, asked: now, arrives, returns, answer: None, lost: false });
                }
                None => {}
            }
        }
        self.all.iter().filter(|one| one.election.leads(one.now(real))).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Clocks run up to a third apart; who acts looks at its clock first, also after it slept.
    #[test]
    fn never_two_act_at_an_instant_and_one_comes_where_all_is_well(
        rates in prop::collection::vec(75u64..=125, 2..5),
        tape in prop::collection::vec(any::<u8>(), 0..6000),
    ) {
        let mut world = World::new(&rates);
        let mut tape = Tape(tape.iter());
        let mut real = 0;
        while tape.0.len() > 0 {
            prop_assert!(world.step(real, &mut tape, false) <= 1, "at {real} ms");
            real += 50;
        }
        // From here on nobody sleeps and nothing is lost.
        let (mut leaderless, begin) = (0, real);
        while real < begin + 90_000 {
            let acting = world.step(real, &mut tape, true);
            prop_assert!(acting <= 1, "at {real} ms");
            if real > begin + 60_000 {
                leaderless += u64::from(acting == 0);
            }
            real += 50;
        }
        prop_assert_eq!(leaderless, 0, "nobody leads though all is well");
    }
}

#[test]
fn a_lease_that_is_let_go_is_taken_at_once_and_one_that_is_held_is_not() {
    let at = Duration::from_secs;
    let held = |holder: &str, version: &str| Some(Held { holder: holder.to_owned(), version: version.to_owned() });
    let mut me = Election::new("me".to_owned());
    assert_eq!(me.saw(None, at(0)), Next::Take);
    assert!(!me.leads(at(0)));
    assert_eq!(me.saw(held("other", "1"), at(1)), Next::Look(at(3)));
    assert_eq!(me.saw(held("other", "2"), at(10)), Next::Look(at(12)));
    // It did not change since the 10th second.
    assert_eq!(me.saw(held("other", "2"), at(24)), Next::Look(at(25)));
    assert_eq!(me.saw(held("other", "2"), at(25)), Next::Take);
    assert_eq!(me.saw(held("", "3"), at(26)), Next::Take);
    me.took("4".to_owned(), at(26), at(27));
    assert!(me.leads(at(33)) && !me.leads(at(26) + ACTS));
    assert_eq!(me.saw(held("me", "4"), at(28)), Next::Look(at(31)));
    assert_eq!(me.saw(held("me", "4"), at(31)), Next::Take);
    // Somebody took it away, whatever he may have thought.
    assert_eq!(me.saw(held("other", "5"), at(32)), Next::Look(at(34)));
    assert!(!me.leads(at(32)));
    assert!(ACTS * 2 <= LEASE);
}
