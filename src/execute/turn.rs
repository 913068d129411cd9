//! A place of the budgets that nodes share: taken before a plan is carried out, renewed beside it, and given back after.
//!
//! Every place is changed only as it was read. A renewal is one only while it comes in time: whoever is late asks for a
//! place as if he had none, since others may have taken it meanwhile.

use std::cell::RefCell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::place::LEASE_S;
use crate::model::{Known, Observed, ObservedCluster, Place, PlaceState, Places};
use crate::plan::places::{self, Asked, Nodes, Rolls, Waits, Watch};
use crate::ports::{Clock, Cluster, Port, PortError, Version};

use super::machine::{backoff_s, later};

/// How often a place is asked for anew where somebody else was faster. Each time one of them is through.
const CONFLICTS: u32 = 60;
/// How often what went wrong on the way is tried again.
const TRIES: u32 = 4;

/// What a node has of the budgets that it shares.
#[derive(Debug)]
pub struct Turn<'a> {
    asked: Asked<'a>,
    observed: &'a Observed,
    watch: &'a RefCell<Watch>,
    /// Whether somebody said not to wait: the place is taken all the same, so that others count it.
    overridden: bool,
    place: RefCell<Place>,
    /// The own clock before the last renewal that is known to have taken was asked for; `None`: none is.
    renewed: RefCell<Option<Duration>>,
}

/// What became of asking.
enum Said {
    Taken,
    Conflict,
    Waits(Waits),
}

impl<'a> Turn<'a> {
    /// A turn that is not taken yet. `run` is no other run's, of this node or of another program on it.
    pub fn new(
        asked: Asked<'a>,
        observed: &'a Observed,
        watch: &'a RefCell<Watch>,
        run: String,
        since: Timestamp,
        overridden: bool,
    ) -> Self {
        let Asked { node, desired, pods, reserved, going: _, begun: _, rolls } = asked;
        let policy = desired.nodes.get(node).and_then(|wanted| wanted.policy.as_deref());
        let files = match rolls {
            Some(Rolls { limits, .. }) => limits.keys().copied().collect(),
            None => policy.and_then(places::files).unwrap_or_default(),
        };
        let place = Place {
            run,
            renewals: 0,
            lease_s: LEASE_S,
            state: PlaceState::Held,
            over: files.into_iter().map(str::to_owned).collect(),
            nodes: u32::from(rolls.is_none()),
            pods,
            reserved: reserved.clone(),
            revision: desired.revision.to_string(),
            since: since.to_string(),
        };
        Turn { asked, observed, watch, overridden, place: RefCell::new(place), renewed: RefCell::default() }
    }

    /// Takes the place, or tells why not. Holders who were not seen to live are watched until they are, or their lease is
    /// over; not for longer than a lease.
    ///
    /// # Errors
    ///
    /// Where the cluster does not answer, also after some tries.
    pub async fn take<C: Cluster, K: Clock>(&self, cluster: &C, clock: &K) -> Port<Option<Waits>> {
        let until = clock.elapsed().saturating_add(Duration::from_secs(LEASE_S));
        loop {
            let Some(waits) = self.ask_again(false, cluster, clock).await? else { return Ok(None) };
            if !waits.unsure || clock.elapsed() >= until {
                return Ok(Some(waits));
            }
            clock.sleep_until(after(clock.now(), renewal())).await;
        }
    }

    /// Why it is not the node's turn any more, if it is not: right before a step that disturbs somebody. Whoever did not
    /// renew in time asks anew.
    ///
    /// # Errors
    ///
    /// As [`Turn::take`].
    pub async fn confirm<C: Cluster, K: Clock>(&self, cluster: &C, clock: &K) -> Port<Option<String>> {
        if self.is_fresh(clock) {
            return Ok(None);
        }
        let waits = self.ask_again(true, cluster, clock).await?;
        Ok(waits.map(|waits| format!("its place was not renewed in time: {}", waits.why)))
    }

    /// Whether the last renewal is young enough.
    pub fn is_fresh<K: Clock>(&self, clock: &K) -> bool {
        let renewed = *self.renewed.borrow();
        renewed.is_some_and(|renewed| places::is_fresh(renewed, clock.elapsed(), LEASE_S))
    }

    /// Renews the place over and over, and never ends.
    pub async fn keep<C: Cluster, K: Clock>(&self, cluster: &C, clock: &K) {
        loop {
            clock.sleep_until(after(clock.now(), renewal())).await;
            for attempt in 1..=TRIES {
                match self.renew(cluster, clock).await {
                    Ok(true) => break,
                    Ok(false) | Err(_) => clock.sleep_until(after(clock.now(), self.spread(attempt))).await,
                }
            }
        }
    }

    /// Renews the place once; whether there is nothing more to do about it now.
    ///
    /// # Errors
    ///
    /// Where the cluster does not answer.
    pub async fn renew<C: Cluster, K: Clock>(&self, cluster: &C, clock: &K) -> Port<bool> {
        let (version, places) = cluster.places().await?;
        self.watch.borrow_mut().see(&places, clock.elapsed());
        let ours = |place: &Place| place.run == self.place.borrow().run;
        let own = places.get(self.asked.node).and_then(Known::known).is_some_and(ours);
        // Asked behind the look: if others took it for given up since then, the version is another one.
        let late = !own || !self.is_fresh(clock);
        // A rollout can't be taken back: nobody is to begin beside it, whoever has meanwhile.
        if late && self.asked.rolls.is_none() {
            return Ok(true);
        }
        self.write(&version, cluster, clock).await
    }

    /// Gives the place back, or keeps it as failed until somebody has seen to it.
    ///
    /// # Errors
    ///
    /// Where the cluster does not answer: then it expires.
    pub async fn give<C: Cluster, K: Clock>(&self, cluster: &C, clock: &K, failed: bool) -> Port<()> {
        let mut last = {
            let mut place = self.place.borrow_mut();
            place.renewals += 1;
            Place { state: PlaceState::Failed, pods: 0, ..place.clone() }
        };
        last.reserved.clear();
        *self.renewed.borrow_mut() = None;
        let run = last.run.clone();
        let last = failed.then_some(last);
        replace(self.asked.node, last.as_ref(), &|place| place.run == run, cluster, clock).await
    }

    async fn ask_again<C: Cluster, K: Clock>(&self, begun: bool, cluster: &C, clock: &K) -> Port<Option<Waits>> {
        let (mut conflicts, mut lost) = (0, 0);
        loop {
            match self.ask(begun, cluster, clock).await {
                Ok(Said::Taken) => return Ok(None),
                Ok(Said::Waits(waits)) => return Ok(Some(waits)),
                Ok(Said::Conflict) if conflicts < CONFLICTS => conflicts += 1,
                Ok(Said::Conflict) => return Err(busy()),
                Err(error) if error.transient && lost < TRIES => {
                    lost += 1;
                    clock.sleep_until(later(clock.now(), backoff_s(lost))).await;
                }
                Err(error) => return Err(error),
            }
            clock.sleep_until(after(clock.now(), self.spread(conflicts))).await;
        }
    }

    async fn ask<C: Cluster, K: Clock>(&self, begun: bool, cluster: &C, clock: &K) -> Port<Said> {
        let node = self.asked.node;
        // The places first: whoever gave a reservation back has what it was for by then, and no longer counts as free.
        let (version, places) = cluster.places().await?;
        let now = clock.elapsed();
        self.watch.borrow_mut().see(&places, now);
        if self.overridden {
            return Ok(if self.write(&version, cluster, clock).await? { Said::Taken } else { Said::Conflict });
        }
        let seen = cluster.observe().await?;
        let mut nodes = Nodes::new();
        let doubtful: Vec<String> =
            places::doubtful(node, &places, &seen, &self.watch.borrow(), now).map(str::to_owned).collect();
        for holder in doubtful {
            let going = cluster.is_going(&holder).await?;
            nodes.insert(holder, going);
        }
        let own = self.observed.nodes.get(node).map(|seen| (node.to_owned(), seen.clone()));
        let cluster_now = ObservedCluster { places: Known::Known(places), ..seen };
        let observed = Observed { nodes: own.into_iter().collect(), cluster: cluster_now };
        let asked = Asked { begun, ..self.asked };
        let why = places::why_not(&asked, &observed, &self.watch.borrow(), now, &nodes);
        match why {
            Some(waits) => Ok(Said::Waits(waits)),
            None if self.write(&version, cluster, clock).await? => Ok(Said::Taken),
            None => Ok(Said::Conflict),
        }
    }

    /// Writes the place, one renewal further: no two writes are alike, also where an answer got lost.
    async fn write<C: Cluster, K: Clock>(&self, version: &Version, cluster: &C, clock: &K) -> Port<bool> {
        let place = {
            let mut place = self.place.borrow_mut();
            place.renewals += 1;
            place.clone()
        };
        let asked = clock.elapsed();
        let took = cluster.set_place(version, self.asked.node, Some(&place)).await?;
        if took {
            *self.renewed.borrow_mut() = Some(asked);
        }
        Ok(took)
    }

    /// A pause that is another one for each node, so that those who were in each other's way are not so again.
    fn spread(&self, attempt: u32) -> Duration {
        let name = self.asked.node.bytes().fold(attempt, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Duration::from_millis(u64::from(name % 1000))
    }
}

/// Takes the place of a node out that failed once and is as it should be by now.
///
/// # Errors
///
/// Where the cluster does not answer.
pub async fn settle<C: Cluster, K: Clock>(node: &str, cluster: &C, clock: &K) -> Port<()> {
    replace(node, None, &|place| place.state == PlaceState::Failed, cluster, clock).await
}

/// Takes out the places of holders who are gone: whose lease is over, or whose node is no more. Whoever looks on watches for
/// a lease before anything goes.
///
/// # Errors
///
/// Where the cluster does not answer.
pub async fn sweep<C: Cluster, K: Clock>(
    seen: &ObservedCluster,
    watch: &mut Watch,
    cluster: &C,
    clock: &K,
) -> Port<Vec<String>> {
    let (_, places) = cluster.places().await?;
    watch.see(&places, clock.elapsed());
    let mut nodes = Nodes::new();
    let doubtful = places::doubtful("", &places, seen, watch, clock.elapsed());
    for holder in doubtful.map(str::to_owned).collect::<Vec<_>>() {
        let going = cluster.is_going(&holder).await?;
        nodes.insert(holder, going);
    }
    let mut swept = Vec::new();
    for holder in places::gone(&places, watch, clock.elapsed(), &nodes) {
        let then = places.get(&holder).and_then(Known::known).map(|place| (place.run.clone(), place.renewals));
        // Whoever is back meanwhile has written another one.
        let same = |place: &Place| then.as_ref() == Some(&(place.run.clone(), place.renewals));
        replace(&holder, None, &same, cluster, clock).await?;
        swept.push(holder);
    }
    Ok(swept)
}

/// Changes a node's place, as long as it is one of those.
async fn replace<C: Cluster, K: Clock>(
    node: &str,
    with: Option<&Place>,
    which: &dyn Fn(&Place) -> bool,
    cluster: &C,
    clock: &K,
) -> Port<()> {
    let (mut conflicts, mut lost) = (0, 0);
    loop {
        let changed = async {
            let (version, places): (Version, Places) = cluster.places().await?;
            let is = |place: &Known<Place>| place.known().is_none_or(which);
            if !places.get(node).is_some_and(is) {
                return Ok(true);
            }
            cluster.set_place(&version, node, with).await
        };
        match changed.await {
            Ok(true) => return Ok(()),
            Ok(false) if conflicts < CONFLICTS => {
                conflicts += 1;
                clock.sleep_until(after(clock.now(), Duration::from_millis(100))).await;
            }
            Ok(false) => return Err(busy()),
            Err(error) if error.transient && lost < TRIES => {
                lost += 1;
                clock.sleep_until(later(clock.now(), backoff_s(lost))).await;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn busy() -> PortError {
    let message = "the budgets' places are changed by others all the time".to_owned();
    PortError { transient: true, code: "409".to_owned(), message }
}

/// A third of the lease: one renewal that is lost is made up for before the place grows old.
fn renewal() -> Duration {
    Duration::from_secs(LEASE_S / 3)
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}
