//! The time of the host.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::ports::Clock;

/// How long the system has been up, also while it was suspended: a clock that never goes back. CLOCK_MONOTONIC stands
/// still meanwhile, and others' clocks don't.
pub fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// The system's clock; sleeping is tokio's.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        uptime()
    }

    async fn sleep_until(&self, then: Timestamp) {
        // What is past takes no time.
        tokio::time::sleep(Duration::try_from(then.duration_since(self.now())).unwrap_or_default()).await;
    }
}
