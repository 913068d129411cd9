//! The time of the host.

use std::time::Duration;

use jiff::Timestamp;

use crate::ports::Clock;

/// The system's clock; sleeping is tokio's.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, then: Timestamp) {
        // What is past takes no time.
        tokio::time::sleep(Duration::try_from(then.duration_since(self.now())).unwrap_or_default()).await;
    }
}
