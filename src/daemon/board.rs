//! What a service tells whoever asks: written by its loop, read by the sockets that it serves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics::Metrics;

/// A loop that has not moved on for so long is stuck: twice what a call of it may take.
pub const STUCK: Duration = Duration::from_secs(600);

/// How a service stands.
#[derive(Debug, Default)]
pub struct Board {
    told: Mutex<Told>,
    /// What is measured.
    pub metrics: Metrics,
}

/// The documents, as of the last look; empty before the first.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Desired beside observed, for a terminal.
    pub status: String,
    /// The same with more columns.
    pub wide: String,
    /// The same as JSON.
    pub json: String,
    /// The plan, as it is saved.
    pub plan: String,
}

#[derive(Debug, Default)]
struct Told {
    documents: Option<Documents>,
    /// Why it is not ready, a sentence.
    wrong: Option<String>,
    /// When its loop moved on last, by the clock that never goes back.
    beat: Duration,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop goes on.
    pub fn beat(&self, now: Duration) {
        self.lock().beat = now;
    }

    /// What was seen and is planned.
    pub fn write(&self, documents: Documents) {
        self.lock().documents = Some(documents);
    }

    /// Why the service can't do its work now; `None`: it does.
    pub fn wrong(&self, why: Option<String>) {
        self.lock().wrong = why;
    }

    /// What was written last.
    pub fn documents(&self) -> Option<Documents> {
        self.lock().documents.clone()
    }

    /// Whether the loop goes on; if not, for how long.
    pub fn lives(&self, now: Duration) -> Result<(), Duration> {
        let still = now.saturating_sub(self.lock().beat);
        if still < STUCK { Ok(()) } else { Err(still) }
    }

    /// Whether the node was looked at, and nothing keeps the service from its work; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        let told = self.lock();
        match (&told.wrong, &told.documents) {
            (Some(why), _) => Err(why.clone()),
            (None, None) => Err("the node was not looked at yet".to_owned()),
            (None, Some(_)) => Ok(()),
        }
    }
}
