//! Takes, renews and lets go of the lease, beside whatever else is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cluster::{KubeCluster, LeaseState};
use crate::execute::election::{Election, Held, LEASE, LOOK, Next};
use crate::host::clock::uptime;
use crate::ports::Port;

use super::SLICE;

/// After so long nobody waits for the lease to be let go: it ends by itself.
const LET_GO: Duration = Duration::from_secs(1);

/// Whether this replica leads.
#[derive(Debug)]
pub(super) struct Lead {
    me: String,
    election: Mutex<Election>,
    closing: AtomicBool,
}

impl Lead {
    pub(super) fn new(me: String) -> Self {
        Lead { election: Mutex::new(Election::new(me.clone())), me, closing: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Election> {
        self.election.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name by which it is elected.
    pub(super) fn name(&self) -> &str {
        &self.me
    }

    /// Whether it may act at this moment.
    pub(super) fn leads(&self) -> bool {
        self.lock().leads(uptime())
    }

    /// It acts no more, and lets the lease go.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    fn closes(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// One look at the lease, and what follows from it; when to look again.
    async fn round(&self, kube: &KubeCluster) -> Port<Duration> {
        let state = kube.lease().await?;
        let held = |state: &LeaseState| Held { holder: state.holder.clone(), version: state.version.clone() };
        let next = self.lock().saw(state.as_ref().map(held), uptime());
        if let Next::Look(then) = next {
            return Ok(then);
        }
        let asked = uptime();
        let seconds = i32::try_from(LEASE.as_secs()).unwrap_or(i32::MAX);
        Ok(match kube.set_lease(&self.me, seconds, state.as_ref()).await? {
            Some(taken) => {
                let mut election = self.lock();
                election.took(taken.version, asked, uptime());
                election.renews_at().unwrap_or_else(uptime)
            }
            // Somebody was faster.
            None => uptime(),
        })
    }

    /// Lets the lease go, so that another one need not wait until it ends.
    async fn let_go(&self, kube: &KubeCluster) -> Port<()> {
        // From here on nothing is begun, whatever becomes of the request.
        self.lock().gave_up();
        let Some(state) = kube.lease().await?.filter(|state| state.holder == self.me) else { return Ok(()) };
        kube.set_lease("", 1, Some(&state)).await?;
        Ok(())
    }
}

/// Elects until it is told to stop.
pub(super) async fn elect(kube: Arc<KubeCluster>, lead: Arc<Lead>) {
    let (mut led, mut told) = (false, None);
    while !lead.closes() {
        let round = tokio::select! {
            round = lead.round(&kube) => round,
            () = closing(&lead) => break,
        };
        let then = match round {
            Ok(then) => {
                told = None;
                then
            }
            Err(error) => {
                if told.as_ref() != Some(&error.to_string()) {
                    let advice =
                        if error.code.starts_with("404") { "; install packaging/kubernetes first" } else { "" };
                    tracing::warn!("The lease can't be had: {error}{advice}.");
                    told = Some(error.to_string());
                }
                uptime().saturating_add(LOOK)
            }
        };
        while !lead.closes() && uptime() < then {
            led = tell(&lead, led);
            tokio::time::sleep(SLICE.min(then.saturating_sub(uptime()))).await;
        }
        led = tell(&lead, led);
    }
    match tokio::time::timeout(LET_GO, lead.let_go(&kube)).await {
        Ok(Ok(())) => tracing::info!("{} has let the lease go.", lead.me),
        Ok(Err(error)) => tracing::warn!("The lease could not be let go, and ends by itself: {error}."),
        Err(_) => tracing::warn!("The lease could not be let go, and ends by itself: no answer."),
    }
}

async fn closing(lead: &Lead) {
    while !lead.closes() {
        tokio::time::sleep(SLICE).await;
    }
}

/// Tells that it leads now, or no more; whether it does.
fn tell(lead: &Lead, led: bool) -> bool {
    let leads = lead.leads();
    match (led, leads) {
        (false, true) => tracing::info!("{} leads.", lead.me),
        (true, false) => tracing::warn!("{} leads no more.", lead.me),
        _ => {}
    }
    leads
}
