//! The executor's two drivers: at once on the virtual clock, and asynchronously on tokio's, which really waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use sectile::execute::journal::{Entry, Record, story};
use sectile::execute::{Machine, News, Outcome, Ports, at_once, drive};
use sectile::gpu::Gpus;
use sectile::model::{Policy, StepKind};
use sectile::ports::{Clock, Port};
use sectile::sim::clock::SimClock;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::{Shared, lock};

use super::faulty::Faulty;
use super::fleets::Run;
use crate::door::TestDriver;

const FLEET: &str = r#"
[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [
    { profile = "2g.20gb", start = 0, users = ["pod:ns/w-a"] },
    { profile = "3g.40gb", start = 4, users = ["pod:ns/stays-a"] },
  ]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
[[workload]]
kind = "Deployment"
namespace = "ns"
name = "w"
replicas = 1
profile = "2g.20gb"
[[workload]]
kind = "Deployment"
namespace = "ns"
name = "stays"
replicas = 1
profile = "3g.40gb"
"#;

const TREE: [(&str, &str); 2] = [
    (
        "layouts/n.toml",
        "nodes = [\"n\"]\n[[gpu]]\nindex = [0]\ninstances = [\"4g\", \"3g\"]\n[[gpu]]\nindex = [1]\ninstances = [\"2g\"]\n",
    ),
    ("policies/p.toml", "nodes = [\"*\"]\n"),
];

/// A clock that sleeps on tokio's, and takes the simulated world along.
struct Slow {
    world: Shared,
    slept: Cell<u32>,
}

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        SimClock { world: self.world.clone() }.now()
    }

    fn elapsed(&self) -> Duration {
        SimClock { world: self.world.clone() }.elapsed()
    }

    async fn sleep_until(&self, then: Timestamp) {
        self.slept.set(self.slept.get() + 1);
        let wait = Duration::try_from(then.duration_since(self.now())).unwrap_or_default();
        tokio::time::sleep(wait).await;
        SimClock { world: self.world.clone() }.sleep_until(then).await;
    }
}

/// A journal that can be looked at while it is written.
#[derive(Default)]
struct Watched<'a> {
    inner: MemoryJournal,
    seen: Option<&'a RefCell<Vec<Record>>>,
}

impl sectile::ports::Journal for Watched<'_> {
    fn append(&mut self, line: &str) -> Port<()> {
        if let Some(seen) = self.seen {
            seen.borrow_mut().extend(Record::read(line));
        }
        self.inner.append(line)
    }
    fn lines(&self) -> Port<Vec<String>> {
        self.inner.lines()
    }
    fn clear(&mut self) -> Port<()> {
        self.inner.clear()
    }
}

/// Carries the plan of `n` out on tokio, interrupted after so many records.
async fn slowly(run: &Run, interrupt_after: usize) -> (Outcome, Vec<News>, Vec<Record>, u32) {
    let (desired, _, plan) = run.plan();
    let (cluster, host) = (run.cluster(), SimHost { world: run.world.clone(), node: "n".to_owned() });
    let clock = Slow { world: run.world.clone(), slept: Cell::new(0) };
    let (units, records, mut news) = (BTreeSet::new(), RefCell::default(), Vec::new());
    let mut journal = Watched { seen: Some(&records), ..Watched::default() };
    let ports = Ports {
        node: "n",
        gpus: &run.nodes[0].1,
        cluster: Some(&cluster),
        host: &host,
        clock: &clock,
        bindings: &desired.bindings,
        units: &units,
        turn: None,
    };
    let machine = Machine::new(&plan.nodes[0], desired.nodes["n"].policy.as_ref().unwrap());
    let interrupted = || records.borrow().len() >= interrupt_after;
    let outcome = drive(machine, &ports, &mut journal, &interrupted, &mut |n| news.push(n.clone())).await;
    let records = records.borrow().clone();
    (outcome, news, records, clock.slept.get())
}

#[tokio::test(start_paused = true)]
async fn waiting_really_leads_to_the_same_world_as_the_virtual_clock() {
    let (quick, slow) = (Run::new(FLEET, &TREE), Run::new(FLEET, &TREE));
    let (desired, observed, plan) = quick.plan();
    let (outcome, told) = quick.node(&plan.nodes[0], &desired, &observed);
    assert_eq!(outcome, Outcome::Done);
    let before = tokio::time::Instant::now();
    let (outcome, news, ..) = slowly(&slow, usize::MAX).await;
    assert_eq!((outcome, news), (Outcome::Done, told));
    assert!(before.elapsed() > Duration::from_secs(30), "the pod's grace was waited for");
    assert_eq!(*lock(&quick.world), *lock(&slow.world));
    assert!(lock(&slow.world).ledger.is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_effect_stands_in_the_journal_before_it_happens() {
    let run = Run::new(FLEET, &TREE);
    let steps = run.plan().2.nodes[0].steps.clone();
    let (_, _, records, _) = slowly(&run, usize::MAX).await;
    let begun: Vec<u32> = records
        .iter()
        .filter_map(|r| if let Entry::Begin { step, .. } = r.entry { Some(step) } else { None })
        .collect();
    assert_eq!(begun, steps.iter().map(|s| s.id).collect::<Vec<_>>());
    assert_eq!(records.last().unwrap().entry, Entry::Over);
}

/// Stopped at any record: the step in hand is finished, what was tainted or paused is taken back, and the next run
/// goes on from what is there.
#[tokio::test(start_paused = true)]
async fn an_interrupt_leaves_no_taint_and_no_pause_and_the_next_run_goes_on() {
    let records = slowly(&Run::new(FLEET, &TREE), usize::MAX).await.2.len();
    let mut undone = 0;
    for after in 0..records {
        let run = Run::new(FLEET, &TREE);
        let (outcome, news, records, _) = slowly(&run, after).await;
        let undo = |n: &&News| matches!(n, News::Undoes(StepKind::Untaint | StepKind::ResumeClients { .. }));
        undone += news.iter().filter(undo).count();
        assert!(matches!(outcome, Outcome::Interrupted | Outcome::Done), "{outcome:?}");
        let story = story(&records);
        assert!(story.over && story.owed.is_empty(), "{story:?}");
        {
            let world = lock(&run.world);
            assert!(!world.nodes["n"].tainted && !world.nodes["n"].clients_paused, "after {after} records");
        }
        let ended = run.apply();
        assert!(ended.plans.last().unwrap().nodes[0].steps.is_empty());
        let world = lock(&run.world);
        assert!(world.ledger.is_empty(), "after {after} records: {:?}", world.ledger);
        assert!(world.pods.contains_key("ns/stays-a"), "a pod that is kept was disturbed");
    }
    assert!(undone > 5, "{undone}");
}

/// What is told of a mode that the driver says it switched, and did not, where no reset follows.
fn unswitched(pending: bool) -> String {
    let fleet = "[[node]]\nname = \"n\"\n  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n";
    let run = Run::new(fleet, &[("layouts/n.toml", "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"7g\"]\n")]);
    lock(&run.world).nodes.get_mut("n").unwrap().gpus[0].pending = pending;
    let (desired, _, plan) = run.plan();
    let gpus = Gpus::new(Faulty::new(TestDriver::new(run.world.clone(), "n")));
    gpus.driver().idle.store(true, Relaxed);
    let (cluster, host) = (run.cluster(), SimHost { world: run.world.clone(), node: "n".to_owned() });
    let clock = SimClock { world: run.world.clone() };
    let ports = Ports {
        node: "n",
        gpus: &gpus,
        cluster: Some(&cluster),
        host: &host,
        clock: &clock,
        bindings: &desired.bindings,
        units: &BTreeSet::new(),
        turn: None,
    };
    let machine = Machine::new(&plan.nodes[0], &Policy::default());
    let mut journal = MemoryJournal::default();
    match at_once(drive(machine, &ports, &mut journal, &|| false, &mut |_| {})).unwrap() {
        Outcome::Failed { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mode_that_stayed_pending_was_said_to_be_set_back() {
    let told = [false, true].map(unswitched);
    assert!(told[0].contains("would only be pending, and was set back"), "{told:?}");
    assert!(told[1].contains("would only be pending, and could not be set back"), "{told:?}");
}
