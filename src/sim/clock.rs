//! The virtual clock: it stands still until somebody sleeps, and then it jumps.

use jiff::Timestamp;

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
        // Only a state file that was tampered with holds a time that no timestamp can.
        Timestamp::from_millisecond(lock(&self.world).clock_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    async fn sleep_until(&self, then: Timestamp) {
        // Rounded up: who sleeps until then finds that it is then.
        let partial = i64::from(then.subsec_nanosecond() % 1_000_000 > 0);
        let then_ms = then.as_millisecond().saturating_add(partial);
        lock(&self.world).advance(then_ms);
    }
}
