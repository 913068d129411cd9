//! When a service looks again, and why: without I/O, by a clock that somebody else reads.
//!
//! An event says no more than "look": many of them are one look. A tree that is just being written is left alone until it
//! has been still for a moment. What went wrong is tried again at growing intervals, and at once where something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::closed::closed_list;

closed_list! {
    /// What wakes a service.
    Cause {
        /// It has just begun.
        Start = "start",
        /// Files of the tree.
        Tree = "tree",
        /// GPUs, or what is on them.
        Gpus = "gpus",
        /// What the API server tells.
        Cluster = "cluster",
        /// Somebody asked for it.
        Asked = "asked",
        /// The last look went wrong.
        Again = "again",
        /// A look is due in any case.
        Resync = "resync",
    }
}

impl Cause {
    /// Why it looks, as the log tells it.
    pub fn why(self) -> &'static str {
        match self {
            Cause::Start => "the service begins",
            Cause::Tree => "the tree may have changed",
            Cause::Gpus => "the GPUs have changed",
            Cause::Cluster => "the cluster has changed",
            Cause::Asked => "somebody asked for it",
            Cause::Again => "the last time it went wrong",
            Cause::Resync => "it is time to",
        }
    }
}

/// So long a tree must have been still before it is read: a checkout writes many files, and an editor a file twice.
pub const SETTLE: Duration = Duration::from_millis(250);
/// A tree that is never still is read after so long all the same.
const RESTLESS: Duration = Duration::from_secs(5);
/// GPUs change in bursts, too.
const BURST: Duration = Duration::from_millis(500);
/// A busy cluster changes all the time, and is not planned more often than this.
const QUIET: Duration = Duration::from_secs(10);
/// How soon what went wrong is tried again: doubling from this.
pub const AGAIN: Duration = Duration::from_secs(5);

/// What is due when.
#[derive(Clone, Debug)]
pub struct Agenda {
    resync: Duration,
    /// What has happened since the last look: when first, and when last.
    woken: BTreeMap<Cause, (Duration, Duration)>,
    /// When it looks if nothing happens, and why then.
    due: (Duration, Cause),
    /// When the last look ended.
    passed: Option<Duration>,
    /// How often in a row it went wrong.
    wrong: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// To look, for these reasons.
    Look(BTreeSet<Cause>),
    /// To wait until then, unless something happens before.
    Wait(Duration),
}

impl Agenda {
    /// Nothing has been looked at yet.
    pub fn new(resync: Duration, now: Duration) -> Self {
        Agenda { resync, woken: BTreeMap::new(), due: (now, Cause::Start), passed: None, wrong: 0 }
    }

    /// Something has happened.
    pub fn saw(&mut self, cause: Cause, now: Duration) {
        self.woken.entry(cause).or_insert((now, now)).1 = now;
    }

    /// What comes next; what it is looked at for is no longer due.
    pub fn next(&mut self, now: Duration) -> Next {
        let ready: BTreeSet<Cause> =
            self.woken.iter().filter(|(cause, at)| self.ready(**cause, **at) <= now).map(|(cause, _)| *cause).collect();
        let (then, why) = self.due;
        if ready.is_empty() && now < then {
            let soonest = self.woken.iter().map(|(cause, at)| self.ready(*cause, *at)).min();
            return Next::Wait(soonest.map_or(then, |soonest| soonest.min(then)));
        }
        // A tree that reads as before is no look at anything else.
        let alone = now < then && ready.iter().all(|cause| *cause == Cause::Tree);
        // With a look at everything no more is due, but for a tree that is just being written.
        self.woken.retain(|cause, _| !ready.contains(cause) && (alone || *cause == Cause::Tree));
        let all = if now < then { ready } else { ready.into_iter().chain([why]).collect() };
        Next::Look(all)
    }

    /// Whether files of the tree have changed that are still left alone.
    pub fn unsettled(&self) -> bool {
        self.woken.contains_key(&Cause::Tree)
    }

    /// A look is over. `part`: some number below 100, another one each time, so that not all nodes look at once.
    pub fn passed(&mut self, well: bool, now: Duration, part: u32) {
        self.passed = Some(now);
        self.wrong = if well { 0 } else { self.wrong.saturating_add(1) };
        let (pause, why) = match self.wrong {
            0 => (self.resync, Cause::Resync),
            times => (AGAIN.saturating_mul(1 << (times - 1).min(10)).min(self.resync), Cause::Again),
        };
        // Up to a tenth more.
        let more = (pause / 1000).saturating_mul(part.min(100));
        self.due = (now.saturating_add(pause).saturating_add(more), why);
    }

    fn ready(&self, cause: Cause, (first, last): (Duration, Duration)) -> Duration {
        match cause {
            Cause::Tree => last.saturating_add(SETTLE).min(first.saturating_add(RESTLESS)),
            Cause::Gpus => first.saturating_add(BURST),
            Cause::Cluster => self.passed.map_or(first, |passed| passed.saturating_add(QUIET)),
            Cause::Start | Cause::Asked | Cause::Again | Cause::Resync => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn look(causes: &[Cause]) -> Next {
        Next::Look(causes.iter().copied().collect())
    }

    /// One that has looked at 0.
    fn idle() -> Agenda {
        let mut agenda = Agenda::new(MINUTE, ms(0));
        assert_eq!(agenda.next(ms(0)), look(&[Cause::Start]));
        agenda.passed(true, ms(0), 0);
        assert_eq!(agenda.next(ms(0)), Next::Wait(MINUTE));
        agenda
    }

    #[test]
    fn where_nothing_happens_it_looks_when_it_is_time_to() {
        let mut agenda = idle();
        assert_eq!(agenda.next(ms(59_999)), Next::Wait(MINUTE));
        assert_eq!(agenda.next(MINUTE), look(&[Cause::Resync]));
        agenda.passed(true, MINUTE, 50);
        assert_eq!(agenda.next(MINUTE), Next::Wait(MINUTE + MINUTE + ms(3_000)));
    }

    #[test]
    fn a_storm_of_file_events_is_one_look_once_the_tree_is_still() {
        let mut agenda = idle();
        for event in 0..10_000u64 {
            let at = ms(1_000 + event / 10);
            agenda.saw(Cause::Tree, at);
            assert!(matches!(agenda.next(at), Next::Wait(_)), "at {at:?}");
        }
        let still = ms(1_999) + SETTLE;
        assert_eq!(agenda.next(still - ms(1)), Next::Wait(still));
        assert_eq!(agenda.next(still), look(&[Cause::Tree]));
        agenda.passed(true, still, 0);
        assert_eq!(agenda.next(still), Next::Wait(still + MINUTE));
    }

    #[test]
    fn a_tree_that_is_never_still_is_read_all_the_same() {
        let mut agenda = idle();
        let mut looks = 0;
        for at in (0..20_000).step_by(100) {
            agenda.saw(Cause::Tree, ms(at));
            if agenda.next(ms(at)) == look(&[Cause::Tree]) {
                agenda.passed(true, ms(at), 0);
                looks += 1;
            }
        }
        assert!((2..=4).contains(&looks), "{looks}");
    }

    #[test]
    fn a_tree_that_is_being_written_is_left_alone_while_others_ask() {
        let mut agenda = idle();
        agenda.saw(Cause::Tree, ms(1_000));
        agenda.saw(Cause::Asked, ms(1_000));
        assert_eq!(agenda.next(ms(1_000)), look(&[Cause::Asked]));
        assert!(agenda.unsettled());
        agenda.passed(true, ms(1_010), 0);
        assert_eq!(agenda.next(ms(1_010)), Next::Wait(ms(1_000) + SETTLE));
        assert_eq!(agenda.next(ms(1_000) + SETTLE), look(&[Cause::Tree]));
    }

    #[test]
    fn what_happens_while_it_looks_is_looked_at_after() {
        let mut agenda = idle();
        agenda.saw(Cause::Asked, ms(1_000));
        assert_eq!(agenda.next(ms(1_000)), look(&[Cause::Asked]));
        // The look takes a while.
        agenda.saw(Cause::Gpus, ms(3_000));
        agenda.passed(true, ms(9_000), 0);
        assert_eq!(agenda.next(ms(9_000)), look(&[Cause::Gpus]));
    }

    #[test]
    fn a_change_of_the_cluster_was_forgotten_with_a_tree_that_read_as_before() {
        let mut agenda = idle();
        agenda.saw(Cause::Cluster, ms(1_000));
        agenda.saw(Cause::Tree, ms(1_000));
        assert_eq!(agenda.next(ms(1_000) + SETTLE), look(&[Cause::Tree]));
        // Nothing was looked at.
        assert_eq!(agenda.next(ms(1_000) + SETTLE), Next::Wait(QUIET));
        assert_eq!(agenda.next(QUIET), look(&[Cause::Cluster]));
    }

    #[test]
    fn a_busy_cluster_is_not_looked_at_all_the_time() {
        let mut agenda = idle();
        let mut looks = 0;
        for at in (0..60_000).step_by(10) {
            agenda.saw(Cause::Cluster, ms(at));
            if let Next::Look(_) = agenda.next(ms(at)) {
                agenda.passed(true, ms(at), 0);
                looks += 1;
            }
        }
        assert_eq!(looks, 5);
    }

    #[test]
    fn what_goes_wrong_is_tried_at_growing_intervals_and_at_once_where_something_changes() {
        let mut agenda = Agenda::new(MINUTE * 5, ms(0));
        let (mut now, mut pauses) = (ms(0), Vec::new());
        for _ in 0..9 {
            while let Next::Wait(until) = agenda.next(now) {
                pauses.push((until - now).as_secs());
                now = until;
            }
            agenda.passed(false, now, 0);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        agenda.saw(Cause::Gpus, now);
        assert_eq!(agenda.next(now + BURST), look(&[Cause::Gpus]));
        agenda.passed(true, now, 0);
        assert_eq!(agenda.next(now), Next::Wait(now + MINUTE * 5));
    }
}
