//! Two controllers and their lease: one leads, the other follows, and what goes wrong makes never two of them.

use std::time::Duration;

use sectile::cluster::names::{LEASE as NAME, NAMESPACE};
use sectile::cluster::{KubeCluster, LeaseState};
use sectile::execute::election::{ACTS, Election, Held, LEASE, Next};
use sectile::ports::Port;

use crate::rig::Rig;
use crate::server::{Fault, Server};

/// A controller, as `sectile controller` elects.
struct One {
    name: &'static str,
    election: Election,
    cluster: KubeCluster,
}

impl One {
    fn new(server: &Server, name: &'static str) -> Self {
        One { name, election: Election::new(name.to_owned()), cluster: KubeCluster::new(server.client(), None) }
    }

    /// Looks at the lease at that second, and takes it where that is due; whether it asked for it.
    async fn round(&mut self, now: u64) -> Port<bool> {
        let now = Duration::from_secs(now);
        let state = self.cluster.lease().await?;
        let held = |state: &LeaseState| Held { holder: state.holder.clone(), version: state.version.clone() };
        if self.election.saw(state.as_ref().map(held), now) != Next::Take {
            return Ok(false);
        }
        if let Some(taken) = self.cluster.set_lease(self.name, 15, state.as_ref()).await? {
            self.election.took(taken.version, now, now);
        }
        Ok(true)
    }

    fn leads(&self, now: u64) -> bool {
        self.election.leads(Duration::from_secs(now))
    }
}

fn pair() -> (Rig, One, One) {
    let rig = Rig::new([]);
    let (a, b) = (One::new(&rig.server, "a"), One::new(&rig.server, "b"));
    (rig, a, b)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_follows_until_the_lease_is_let_go() {
    let (rig, mut a, mut b) = pair();
    assert_eq!((a.round(0).await, b.round(0).await), (Ok(true), Ok(false)));
    for now in [5, 10, 15, 20] {
        assert_eq!((a.round(now).await, b.round(now).await), (Ok(true), Ok(false)));
        assert!(a.leads(now) && !b.leads(now));
    }
    let state = a.cluster.lease().await.unwrap().unwrap();
    assert_eq!(state.holder, "a");
    a.election.gave_up();
    a.cluster.set_lease("", 1, Some(&state)).await.unwrap().unwrap();
    assert_eq!(b.round(21).await, Ok(true));
    assert!(b.leads(21) && !a.leads(21));
    let taken = b.cluster.lease().await.unwrap().unwrap();
    assert!(taken.since >= state.since && taken.holder == "b");
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_is_followed_once_nothing_was_heard_of_it_for_the_whole_lease() {
    let (_rig, mut a, mut b) = pair();
    assert_eq!((a.round(0).await, b.round(3).await), (Ok(true), Ok(false)));
    // It counts from when the other one saw it, whatever the record says.
    assert_eq!(b.round(17).await, Ok(false));
    assert!(!a.leads(ACTS.as_secs() + 1));
    assert_eq!(b.round(3 + LEASE.as_secs()).await, Ok(true));
    assert!(b.leads(18));
    // Whoever comes back sees it before it does anything.
    assert_eq!(a.round(19).await, Ok(false));
    assert!(!a.leads(19));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_ask_at_once_one_gets_it() {
    let (rig, a, mut b) = pair();
    let none = a.cluster.lease().await.unwrap();
    assert_eq!(none, None);
    assert_eq!(b.round(0).await, Ok(true));
    // It has not seen that.
    assert_eq!(a.cluster.set_lease("a", 15, None).await, Ok(None));
    let seen = a.cluster.lease().await.unwrap().unwrap();
    assert_eq!(b.round(5).await, Ok(true));
    assert_eq!(a.cluster.set_lease("a", 15, Some(&seen)).await, Ok(None));
    // Somebody deleted it meanwhile.
    rig.server.lock().store.remove("leases", NAMESPACE, NAME);
    assert_eq!(a.cluster.set_lease("a", 15, Some(&seen)).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_fail_acts_no_more_before_anybody_else_may() {
    for fault in [Fault::Refused(403, "no"), Fault::Refused(503, "later"), Fault::Lost] {
        let (rig, mut a, mut b) = pair();
        assert_eq!((a.round(0).await, b.round(1).await), (Ok(true), Ok(false)));
        rig.server.fail("PATCH", 2, fault);
        assert!(a.round(5).await.is_err() && a.leads(5));
        assert!(a.round(7).await.is_err() && !a.leads(8));
        assert_eq!(b.round(15).await, Ok(false));
        // What it could not renew is still its own.
        assert_eq!(a.round(15).await, Ok(true));
        assert!(a.leads(16));
        assert_eq!(b.round(17).await, Ok(false));
    }
    let (rig, mut a, _) = pair();
    a.round(0).await.unwrap();
    rig.server.away(true);
    let error = a.round(5).await.unwrap_err();
    assert!(error.transient && a.leads(7) && !a.leads(8), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_wrote_over_is_lost_at_once() {
    let (rig, mut a, _) = pair();
    a.round(0).await.unwrap();
    rig.server.edit("leases", NAMESPACE, NAME, |lease| lease["spec"]["holderIdentity"] = "kubectl".into());
    assert_eq!(a.round(2).await, Ok(false));
    assert!(!a.leads(2));
}
