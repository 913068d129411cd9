//! What the controller takes out of the budgets' places, and what not.

use std::time::Duration;

use jiff::SignedDuration;
use sectile::execute::at_once;
use sectile::execute::turn::sweep;
use sectile::model::place::LEASE_S;
use sectile::model::{Place, PlaceState};
use sectile::plan::places::Watch;
use sectile::ports::{Clock as _, Cluster as _};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::{Shared, lock};

use crate::support::{NODE, hardware};

fn place(state: PlaceState) -> Place {
    Place {
        run: "run".to_owned(),
        renewals: 1,
        lease_s: LEASE_S,
        state,
        over: ["policies/p.toml".to_owned()].into(),
        nodes: 1,
        pods: 1,
        reserved: Default::default(),
        revision: "r1".to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// Looks, lets so many seconds pass, and looks again; who is left, and who was taken out the second time.
fn swept(world: &Shared, seconds: u64, meanwhile: impl FnOnce(&Shared)) -> (Vec<String>, Vec<String>) {
    let (cluster, clock) = (SimCluster { world: world.clone() }, SimClock { world: world.clone() });
    let mut watch = Watch::default();
    let mut look = || {
        let seen = at_once(cluster.observe()).unwrap().unwrap();
        at_once(sweep(&seen, &mut watch, &cluster, &clock)).unwrap().unwrap()
    };
    let first = look();
    assert!(first.iter().all(|holder| holder == "gone"), "at once only whose node is no more: {first:?}");
    meanwhile(world);
    let pause = SignedDuration::try_from(Duration::from_secs(seconds)).unwrap();
    at_once(clock.sleep_until(clock.now().checked_add(pause).unwrap())).unwrap();
    let second = look();
    (lock(world).places.keys().cloned().collect(), second)
}

fn scene(holders: &[(&str, PlaceState)]) -> Shared {
    let world = hardware(&[("a30-24gb", true)]);
    lock(&world).places = holders.iter().map(|(holder, state)| ((*holder).to_owned(), place(*state))).collect();
    world
}

#[test]
fn a_place_goes_when_its_lease_is_over_or_its_node_is_no_more() {
    let world = scene(&[(NODE, PlaceState::Held), ("_controller", PlaceState::Held), ("gone", PlaceState::Failed)]);
    let (left, second) = swept(&world, LEASE_S, |_| {});
    assert_eq!((left, second), (Vec::new(), vec!["_controller".to_owned(), NODE.to_owned()]));
}

#[test]
fn a_place_stays_while_it_may_be_held() {
    let stays = |state, seconds, meanwhile: &dyn Fn(&Shared)| {
        let world = scene(&[(NODE, state)]);
        let (left, second) = swept(&world, seconds, meanwhile);
        assert_eq!((left, second), (vec![NODE.to_owned()], Vec::new()));
    };
    stays(PlaceState::Held, LEASE_S - 1, &|_| {});
    stays(PlaceState::Failed, 10 * LEASE_S, &|_| {});
    stays(PlaceState::Held, LEASE_S, &|world| lock(world).places.get_mut(NODE).unwrap().renewals += 1);
    stays(PlaceState::Held, 10 * LEASE_S, &|world| lock(world).nodes.get_mut(NODE).unwrap().tainted = true);
    stays(PlaceState::Held, 10 * LEASE_S, &|world| lock(world).nodes.get_mut(NODE).unwrap().clients_paused = true);
}
