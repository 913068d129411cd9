//! A simulated node's plan carried out in its turn, beside another holder of the same budget.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use sectile::execute::turn::settle;
use sectile::execute::{InTurn, Outcome, Picture, Ports, at_once, carry_in_turn};
use sectile::gpu::Gpus;
use sectile::model::{Place, PlaceState};
use sectile::ports::{Clock, NvmlCode};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::lock;
use sectile::sim::world::World;

use super::defects::{layout, node, run, stateful};
use super::faulty::Faulty;
use super::fleets::Run;
use crate::door::TestDriver;

/// The virtual clock, where something happens while somebody sleeps.
struct Eventful<'a> {
    inner: SimClock,
    asleep: &'a dyn Fn(&mut World),
}

impl Clock for Eventful<'_> {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }
    async fn sleep_until(&self, then: Timestamp) {
        self.inner.sleep_until(then).await;
        (self.asleep)(&mut lock(&self.inner.world));
    }
}

/// How the other's place stands, whether its node is tainted, and what happens meanwhile.
type Case<'a> = (PlaceState, bool, &'a dyn Fn(&mut World));

/// A pod of node n moves to node m, where one instance is free, and takes a minute to go.
fn scene() -> Run {
    let fleet = node("m", &["0:1g.10gb"]) + &node("n", &["0:1g.10gb:pod:x/w-0"]) + &stateful("w");
    let run = run(&fleet, &[layout("n", &["7g.80gb"])], "[budget]\nmax_nodes = 1\n");
    lock(&run.world).pods.values_mut().for_each(|pod| pod.grace_period_s = 60);
    run
}

/// Carries the plan of n out; `fails`: a call of its driver that does, for good.
fn carried(run: &Run, fails: Option<&'static str>, overridden: bool, asleep: &dyn Fn(&mut World)) -> InTurn {
    let (mut desired, observed, plan) = run.plan();
    let plan = plan.nodes.into_iter().find(|plan| plan.name == "n").unwrap();
    // Its agent plans it alone.
    let (own, peers) = std::mem::take(&mut desired.nodes).into_iter().partition(|(name, _)| name == "n");
    (desired.nodes, desired.peers) = (own, peers);
    let world = || run.world.clone();
    let faulty = Faulty::new(TestDriver::new(world(), "n"));
    fails.into_iter().for_each(|call| faulty.fail(call, 0, 100, NvmlCode::NotSupported));
    let (gpus, units) = (Gpus::new(faulty), run.tree.units());
    let (cluster, host) = (SimCluster { world: world() }, SimHost { world: world(), node: "n".to_owned() });
    let clock = Eventful { inner: SimClock { world: world() }, asleep };
    let ports = Ports {
        node: "n",
        gpus: &gpus,
        cluster: Some(&cluster),
        host: &host,
        clock: &clock,
        bindings: &desired.bindings,
        units: &units,
        turn: None,
    };
    let picture = Picture { desired: &desired, observed: &observed, overridden: None };
    let (mut journal, watch) = (MemoryJournal::default(), RefCell::default());
    let sharing = (&watch, overridden);
    at_once(carry_in_turn(&plan, picture, &ports, sharing, &mut journal, &|| false, &mut |_| {})).unwrap()
}

fn others(state: PlaceState) -> Place {
    Place {
        run: "m's".to_owned(),
        renewals: 7,
        lease_s: 60,
        state,
        over: ["policies/p.toml".to_owned()].into(),
        nodes: 1,
        pods: 1,
        reserved: Default::default(),
        revision: String::new(),
        since: String::new(),
    }
}

fn take(world: &mut World, holder: &str, place: Place) {
    world.places.insert(holder.to_owned(), place);
    world.places_version += 1;
}

#[test]
fn a_place_is_there_while_a_plan_is_carried_out_and_tells_what_it_counts_on() {
    let run = scene();
    let seen = RefCell::new(None);
    let asleep = |world: &mut World| *seen.borrow_mut() = world.places.get("n").cloned().or(seen.take());
    assert!(matches!(carried(&run, None, false, &asleep), InTurn::Carried(Outcome::Done)));
    let place = seen.take().unwrap();
    assert_eq!((place.nodes, place.pods, place.state), (1, 1, PlaceState::Held));
    assert_eq!(place.reserved["m"]["nvidia.com/mig-1g.10gb"], 1);
    assert!(lock(&run.world).places.is_empty());
}

#[test]
fn a_holder_who_is_never_seen_to_renew_is_waited_for_no_longer_than_its_lease() {
    let run = scene();
    take(&mut lock(&run.world), "m", others(PlaceState::Held));
    let began = lock(&run.world).clock_ms;
    let tainted = RefCell::new(None);
    let asleep = |world: &mut World| {
        let at = tainted.take().or(world.nodes["n"].tainted.then_some(world.clock_ms));
        *tainted.borrow_mut() = at;
    };
    assert!(matches!(carried(&run, None, false, &asleep), InTurn::Carried(Outcome::Done)));
    let waited = tainted.take().unwrap() - began;
    assert!((60_000..90_000).contains(&waited), "{waited} ms");
}

#[test]
fn a_holder_who_renews_has_failed_or_is_tainted_is_waited_for_with_nothing_touched() {
    let renews = |world: &mut World| {
        if let Some(place) = world.places.get_mut("m").filter(|place| place.run == "m's" && place.renewals > 0) {
            place.renewals += 1;
            world.places_version += 1;
        }
    };
    let nobody = |_: &mut World| {};
    let cases: [Case<'_>; 3] =
        [(PlaceState::Held, false, &renews), (PlaceState::Failed, false, &nobody), (PlaceState::Held, true, &nobody)];
    for (state, tainted, asleep) in cases {
        let run = scene();
        take(&mut lock(&run.world), "m", others(state));
        // It was not tainted when n was planned.
        let asleep = |world: &mut World| {
            world.nodes.get_mut("m").unwrap().tainted = tainted;
            asleep(world);
        };
        let InTurn::Waits(waits) = carried(&run, None, false, &asleep) else { panic!("{state} {tainted}") };
        assert!(
            waits.why.starts_with("of the 2 nodes of policies/p.toml:1, 1 may change at once; m has"),
            "{}",
            waits.why
        );
        let world = lock(&run.world);
        assert!(!world.nodes["n"].tainted && !world.places.contains_key("n"));
    }
}

#[test]
fn who_asks_anew_half_way_is_not_in_its_own_way_by_what_it_has_moved_already() {
    // The pod goes for a minute, and time jumps: the place is old by then, and the instance on m is taken by the pod.
    assert!(matches!(carried(&scene(), None, false, &|_| {}), InTurn::Carried(Outcome::Done)));
    // Others may not have reserved it meanwhile.
    let run = scene();
    let asleep = |world: &mut World| {
        if world.nodes["n"].tainted && !world.places.contains_key("m") {
            let reserved = [("m".to_owned(), [("nvidia.com/mig-1g.10gb".to_owned(), 1)].into())].into();
            take(world, "m", Place { nodes: 0, pods: 0, reserved, ..others(PlaceState::Held) });
        }
    };
    let InTurn::Carried(Outcome::Held { why, .. }) = carried(&run, None, false, &asleep) else { panic!("it goes on") };
    assert!(why.contains("others have reserved the nvidia.com/mig-1g.10gb on m"), "{why}");
}

#[test]
fn an_override_takes_a_place_without_asking_so_that_others_count_it() {
    let run = scene();
    take(&mut lock(&run.world), "m", others(PlaceState::Held));
    let seen = RefCell::new(false);
    let asleep = |world: &mut World| *seen.borrow_mut() |= world.places.contains_key("n");
    assert!(matches!(carried(&run, None, true, &asleep), InTurn::Carried(Outcome::Done)));
    assert!(seen.take());
}

#[test]
fn who_did_not_renew_in_time_and_finds_others_there_takes_back_what_it_tainted() {
    let run = scene();
    // Time jumps here, so that nothing is renewed: as if the process had been stopped while its pod went.
    let asleep = |world: &mut World| {
        if world.nodes["n"].tainted && !world.places.contains_key("m") {
            take(world, "m", others(PlaceState::Held));
        }
    };
    let InTurn::Carried(Outcome::Held { why, .. }) = carried(&run, None, false, &asleep) else { panic!("it goes on") };
    assert!(why.starts_with("its place was not renewed in time: of the 2 nodes"), "{why}");
    let world = lock(&run.world);
    assert!(!world.nodes["n"].tainted && !world.nodes["n"].clients_paused && !world.places.contains_key("n"));
}

#[test]
fn a_node_that_fails_keeps_its_place_until_it_is_settled() {
    let run = scene();
    let ended = carried(&run, Some("destroy_gi"), false, &|_| {});
    assert!(matches!(ended, InTurn::Carried(Outcome::Failed { .. })), "{ended:?}");
    let place = lock(&run.world).places["n"].clone();
    assert_eq!((place.state, place.nodes, place.pods, place.reserved.len()), (PlaceState::Failed, 1, 0, 0));
    let (cluster, clock) = (SimCluster { world: run.world.clone() }, SimClock { world: run.world.clone() });
    at_once(settle("n", &cluster, &clock)).unwrap().unwrap();
    assert!(lock(&run.world).places.is_empty());
}
