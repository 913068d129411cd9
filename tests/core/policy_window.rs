//! Windows against a clock that is read minute by minute, and windows that shut while a plan is carried out.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sectile::execute::Outcome;
use sectile::model::StepKind;
use sectile::model::observed::PodPhase;
use sectile::model::plan::BlockCode;
use sectile::model::policy::{Span, Window};
use sectile::plan::window::{Standing, admits, standing};
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use super::defects::{layout, node, run, stateful};

const DAY: usize = 24 * 60;
/// Days before and behind a change of clock.
const AROUND: usize = 10;

/// Zones, each with a day near which something happens to its clock.
const ZONES: [(&str, &str); 10] = [
    ("UTC", "2026-03-29"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"), // by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Africa/Cairo", "2026-04-24"), // there is no midnight
    ("Asia/Kolkata", "2026-06-01"), // never
    ("Pacific/Apia", "2011-12-30"), // there is no such day
    ("America/St_Johns", "2026-03-08"),
];

/// What the clock of a zone reads at each minute of the days around one.
fn clock(zone: &str, day: &str) -> (Timestamp, Vec<DateTime>) {
    let zone = TimeZone::get(zone).unwrap();
    let begin: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    let begin = begin - i64::try_from(AROUND * 24).unwrap().hours();
    let minutes = 0..i64::try_from((2 * AROUND + 15) * DAY).unwrap();
    (begin, minutes.map(|minute| zone.to_datetime(begin + minute.minutes())).collect())
}

/// Which minutes are open: of each span on each of its days, those from the first on at which the clock has come to
/// its beginning, to the last at which it has not yet come to its end.
fn open(window: &Window, clock: &[DateTime]) -> Vec<bool> {
    let mut open = vec![false; clock.len()];
    let first = clock[0].date().yesterday().unwrap();
    for date in first.series(1.day()).take_while(|date| *date <= clock[clock.len() - 1].date()) {
        for span in &window.open {
            if !span.days[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()] {
                continue;
            }
            let midnight = date.at(0, 0, 0, 0);
            let from = midnight + i64::from(span.from).minutes();
            let days = i64::from(span.to <= span.from);
            let to = midnight + days.days() + i64::from(span.to).minutes();
            let begin = clock.iter().position(|wall| *wall >= from).unwrap_or(clock.len());
            let end = clock.iter().rposition(|wall| *wall < to).map_or(0, |last| last + 1);
            (begin..end).for_each(|minute| open[minute] = true);
        }
    }
    open
}

fn windows() -> impl Strategy<Value = Vec<Span>> {
    let minute = prop_oneof![0u32..24 * 4, 0u32..8].prop_map(|quarter| quarter * 15);
    let days =
        prop_oneof![any::<[bool; 7]>(), Just([true; 7]), (0usize..7).prop_map(|d| std::array::from_fn(|i| i == d))];
    let span = (days, minute, prop_oneof![3 => 1u32..=24 * 4, 1 => Just(24 * 4)]);
    let span = span.prop_map(|(days, from, to)| Span { days, from, to: to * 15 });
    proptest::collection::vec(span, 1..4)
}

#[test]
fn a_window_is_open_when_a_clock_that_is_read_minute_by_minute_says_so() {
    let mut runner = TestRunner::deterministic();
    let (mut edges, mut shut) = (0, 0);
    for (zone, day) in ZONES {
        let (begin, clock) = clock(zone, day);
        for _ in 0..12 {
            let spans = windows().new_tree(&mut runner).unwrap().current();
            let window = Window { open: spans, timezone: zone.to_owned() };
            let open = open(&window, &clock);
            let at = |minute: usize| begin + i64::try_from(minute).unwrap().minutes();
            let within = 2 * DAY..2 * AROUND * DAY;
            let changes = within.clone().filter(|&m| open[m] != open[m - 1]).flat_map(|m| [m - 1, m]);
            for minute in changes.chain(within.clone().step_by(331)) {
                let next = (minute..clock.len()).find(|&m| open[m] != open[minute]);
                edges += 1;
                match standing(&window, at(minute)) {
                    Standing::Open(end) => {
                        assert!(open[minute], "{window:?} at {}", at(minute));
                        // Further than it looks ahead it may say less.
                        let told = next.is_none_or(|next| end == at(next)) || end > at(minute + 14 * DAY);
                        assert!(told, "{window:?} at {}: {end}", at(minute));
                        let left = u64::try_from(end.duration_since(at(minute)).as_secs()).unwrap();
                        assert!(admits(&window, at(minute), left) && !admits(&window, at(minute), left + 1));
                    }
                    Standing::Shut(then) => {
                        shut += 1;
                        assert!(!open[minute] && !admits(&window, at(minute), 0), "{window:?} at {}", at(minute));
                        assert_eq!(then, next.map(at), "{window:?} at {}", at(minute));
                    }
                }
            }
        }
    }
    assert!(edges > 5_000 && shut > 500, "{edges} {shut}");
}

/// Two pods that have to move one after the other, a client that is stopped around it, and a window that both plans
/// fit, but for clients that take far longer to start than expected.
#[test]
fn a_window_that_shuts_in_mid_apply_stops_before_the_next_disruptive_step() {
    let gpu = "0:1g.10gb:pod:x/v-0 1:1g.10gb:pod:x/w-0";
    let fleet = node("n", &[gpu, "0:1g.10gb 1:1g.10gb"]) + &stateful("v") + &stateful("w");
    let fleet = fleet + "[fault.latency]\nclients = \"50s\"\n";
    // The virtual clock begins on a Thursday at midnight.
    let policy = "[budget]\nmax_pods = 1\n[window]\nopen = [\"Thu 00:00-00:01\"]\n[clients]\nsystemd = [\"dcgm.service\"]\n\
                  commands = [{ pause = [\"/p\"], resume = [\"/r\"] }]\n";
    let run = run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb 1g.10gb"])], policy);
    let active = SimUnit { active: true, ..SimUnit::default() };
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("dcgm.service".into(), active);
    let (desired, observed, plan) = run.plan();
    let evictions: Vec<u32> = plan.nodes[0]
        .steps
        .iter()
        .filter(|step| matches!(step.kind, StepKind::EvictPod { .. }) && step.waits.is_none())
        .map(|step| step.id)
        .collect();
    assert_eq!(evictions.len(), 2);
    let (outcome, _) = run.node(&plan.nodes[0], &desired, &observed);
    let Outcome::Held { step, why } = outcome else { panic!("{outcome:?}") };
    assert!(step == evictions[1] && why.contains("window"), "{step} {why}");
    {
        let world = lock(&run.world);
        let node = &world.nodes["n"];
        assert!(!node.tainted && !node.clients_paused && node.commands.is_empty() && node.units["dcgm.service"].active);
        assert!(world.ledger.is_empty());
        assert!(world.pods.values().all(|pod| pod.phase == PodPhase::Running), "who moved runs again");
    }
    // The other one waits for the next opening, and then goes.
    let (_, _, plan) = run.plan();
    assert_eq!(plan.nodes[0].waiting.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::Window]);
    assert!(plan.nodes[0].waiting[0].message.ends_with("2026-01-08T00:00:00Z"), "{:?}", plan.nodes[0].waiting);
    lock(&run.world).advance("2026-01-08T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond());
    run.apply();
    assert_eq!(run.plan().2.nodes[0].state.word(), "converged");
}

#[test]
fn a_plan_that_would_not_end_in_the_window_does_not_start() {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w");
    let run = run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], "[window]\nopen = [\"Thu 00:00-01:00\"]\n");
    let seconds = run.plan().2.nodes[0].estimate_s;
    assert!((2..60).contains(&seconds));
    let one = "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    lock(&run.world).advance(one - 1000 * i64::try_from(seconds).unwrap());
    assert_eq!(run.plan().2.nodes[0].waiting, []);
    lock(&run.world).advance(one - 1000);
    let (_, _, plan) = run.plan();
    let [block] = plan.nodes[0].waiting.as_slice() else { panic!("{:?}", plan.nodes[0].waiting) };
    assert!(block.message.contains("the window ends at 2026-01-01T01:00:00Z"), "{}", block.message);
}
