//! What wakes a service while it waits: told by whoever sees it, and taken by the one that waits.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::agenda::Cause;

/// What has happened and was not taken yet.
#[derive(Debug, Default)]
pub struct Wakes {
    causes: Mutex<Vec<Cause>>,
    told: Condvar,
}

impl Wakes {
    /// Tells that something has happened.
    pub fn wake(&self, cause: Cause) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        // Ten thousand of one kind say no more than one.
        if !causes.contains(&cause) {
            causes.push(cause);
        }
        self.told.notify_all();
    }

    /// Ends a wait without a cause, so that whoever waits looks whether it is to stop.
    pub fn nudge(&self) {
        self.told.notify_all();
    }

    /// Takes what has happened; where nothing has, waits until something does, for so long at most.
    pub fn wait(&self, most: Duration) -> Vec<Cause> {
        let causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if !causes.is_empty() || most.is_zero() {
            return std::mem::take(&mut *{ causes });
        }
        let (mut causes, _) = self.told.wait_timeout(causes, most).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *causes)
    }
}
