//! Nodes that change side by side in virtual time.

use std::cell::RefCell;

use jiff::{SignedDuration, Timestamp};

use sectile::ports::{Clock as _, Cluster as _, Host as _};
use sectile::sim::clock::{SimClock, together};
use sectile::sim::cluster::SimCluster;
use sectile::sim::host::SimHost;
use sectile::sim::{Shared, lock};

use crate::support::{NODE, hardware};

fn clock() -> (Shared, SimClock) {
    let world = hardware(&[("a30-24gb", true)]);
    (world.clone(), SimClock { world })
}

fn after(clock: &SimClock, seconds: i64) -> Timestamp {
    clock.now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

#[test]
fn those_who_sleep_side_by_side_wake_in_the_order_of_time_and_take_as_long_as_the_longest() {
    let (world, clock) = clock();
    let (began, woke) = (clock.now(), RefCell::new(Vec::new()));
    let sleep = async |name: &'static str, naps: &[i64]| {
        for nap in naps {
            clock.sleep_until(after(&clock, *nap)).await;
            woke.borrow_mut().push((name, clock.now().duration_since(began).as_secs()));
        }
        name
    };
    let (one, two, three) = (sleep("one", &[3, 4]), sleep("two", &[2, 2, 2]), sleep("three", &[]));
    let done = together(&world, vec![Box::pin(one), Box::pin(two), Box::pin(three)]);
    assert_eq!(done, Some(vec!["one", "two", "three"]));
    let woke = woke.into_inner();
    assert_eq!(woke, [("two", 2), ("one", 3), ("two", 4), ("two", 6), ("one", 7)]);
    // Whoever is alone again finds a clock that jumps.
    sectile::execute::at_once(clock.sleep_until(after(&clock, 1))).unwrap();
    assert_eq!(clock.now().duration_since(began).as_secs(), 8);
}

#[test]
fn whoever_waits_for_something_else_than_time_is_not_waited_for_for_ever() {
    let (world, clock) = clock();
    let stuck = std::future::pending::<()>();
    let sleeps = clock.sleep_until(after(&clock, 5));
    assert_eq!(together(&world, vec![Box::pin(stuck), Box::pin(sleeps)]), None);
}

#[test]
fn clients_and_units_start_side_by_side() {
    let (world, clock) = clock();
    let began = clock.now();
    let (cluster, host) =
        (SimCluster { world: world.clone() }, SimHost { world: world.clone(), node: NODE.to_owned() });
    let plan = sectile::model::Digest::of([]);
    sectile::execute::at_once(cluster.set_clients_paused(NODE, Some(&plan))).unwrap().unwrap();
    let clients = async { cluster.set_clients_paused(NODE, None).await.unwrap() };
    let unit = async { host.start_unit("a.service", "", &[]).await.unwrap() };
    let alone = async {
        clock.sleep_until(clock.now().checked_add(SignedDuration::from_millis(500)).unwrap()).await;
        // They are not there before their time.
        assert!(lock(&world).nodes[NODE].clients_paused);
        assert!(!lock(&world).nodes[NODE].units.contains_key("a.service"));
    };
    together(&world, vec![Box::pin(clients), Box::pin(unit), Box::pin(alone)]).unwrap();
    assert!(!lock(&world).nodes[NODE].clients_paused);
    assert!(lock(&world).nodes[NODE].units["a.service"].active);
    let took = clock.now().duration_since(began).as_millis();
    // The clients take 4.3 s, and the unit 1 s.
    assert!(took == 4_300, "{took} ms: one after the other");
}
