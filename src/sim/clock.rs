//! The virtual clock: it stands still until somebody sleeps, and then it jumps; for several at once, when all of them do.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use std::time::Duration;

use jiff::Timestamp;

use super::world::World;
use super::{Shared, lock};
use crate::ports::Clock;

/// The clock of a simulated world.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// Whose clock.
    pub world: Shared,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        time(&lock(&self.world))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(lock(&self.world).clock_ms).unwrap_or_default())
    }

    async fn sleep_until(&self, then: Timestamp) {
        // Rounded up: who sleeps until then finds that it is then.
        let partial = i64::from(then.subsec_nanosecond() % 1_000_000 > 0);
        sleep_until(&self.world, then.as_millisecond().saturating_add(partial)).await;
    }
}

/// What time it is in a world.
pub(super) fn time(world: &World) -> Timestamp {
    // Only a state file that was tampered with holds a time that no timestamp can.
    Timestamp::from_millisecond(world.clock_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Lets so many milliseconds pass.
pub(super) async fn pass(world: &Shared, ms: i64) {
    let then_ms = lock(world).clock_ms.saturating_add(ms.max(0));
    sleep_until(world, then_ms).await;
}

/// Where nobody else is awake the clock jumps at once, and no future waits.
async fn sleep_until(world: &Shared, then_ms: i64) {
    poll_fn(|_| {
        let mut world = lock(world);
        if world.clock_ms < then_ms
            && let Some(sleepers) = &mut world.sleepers
        {
            sleepers.insert(then_ms);
            return Poll::Pending;
        }
        world.advance(then_ms);
        Poll::Ready(())
    })
    .await;
}

/// Runs futures of one world side by side, in their order; when all of them sleep, the clock jumps to whoever wakes first.
/// `None` where all that are left wait for something else than time.
pub fn together<T>(world: &Shared, futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Option<Vec<T>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut left: Vec<_> = futures.into_iter().enumerate().collect();
    while !left.is_empty() {
        // Whoever sleeps on says so again.
        lock(world).sleepers = Some(BTreeSet::new());
        left.retain_mut(|(at, future)| match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => {
                if let Some(result) = results.get_mut(*at) {
                    *result = Some(value);
                }
                false
            }
            Poll::Pending => true,
        });
        let first = lock(world).sleepers.take().and_then(|mut sleepers| sleepers.pop_first());
        match first {
            Some(then_ms) => lock(world).advance(then_ms),
            None if left.is_empty() => {}
            None => return None,
        }
    }
    results.into_iter().collect()
}
