//! Which of several controllers acts, decided without I/O: by a record that all of them see, and that changes only where
//! nobody else has changed it since (compare and swap).
//!
//! No two clocks are compared. Whoever waits counts by its own clock since it last saw the record change; whoever leads counts
//! by its own since before it asked for its last renewal, and stops acting after half of what the others wait. So two never
//! act at once unless one's clock runs twice as fast as the other's.

use std::time::Duration;

/// How long nobody else tries to lead after the record was last seen to change (client-go, leaderelection).
pub const LEASE: Duration = Duration::from_secs(15);
/// So old may a leader's last renewal be while it acts.
pub const ACTS: Duration = Duration::from_millis(7_500);
/// How often a leader renews.
pub const RENEW: Duration = Duration::from_secs(5);
/// How often whoever waits looks.
pub const LOOK: Duration = Duration::from_secs(2);

/// What the record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Who leads; empty: nobody.
    pub holder: String,
    /// Another one after each change.
    pub version: String,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again then.
    Look(Duration),
    /// Ask for the lead, or for more of it, where the record is still that.
    Take,
}

/// One of the controllers. Times are those of its own clock, which never goes back.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    /// The record that was last seen, and since when it is so.
    seen: Option<(Held, Duration)>,
    /// When the last renewal that took was asked for.
    renewed: Option<Duration>,
}

impl Election {
    /// A controller with a name that no other one has, nor had in an earlier life.
    pub fn new(me: String) -> Self {
        Election { me, seen: None, renewed: None }
    }

    /// The record was read, or it is not there.
    pub fn saw(&mut self, record: Option<Held>, now: Duration) -> Next {
        let record = record.unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => now,
        };
        let next = if record.holder == self.me {
            match self.renewed.map(|at| at.saturating_add(RENEW)).filter(|due| now < *due) {
                Some(due) => Next::Look(due),
                None => Next::Take,
            }
        } else {
            // Somebody else was faster, so that nothing of the lead is left.
            self.renewed = None;
            let expires = since.saturating_add(LEASE);
            if record.holder.is_empty() || now >= expires {
                Next::Take
            } else {
                Next::Look(expires.min(now.saturating_add(LOOK)))
            }
        };
        self.seen = Some((record, since));
        next
    }

    /// What was asked for at that time took: the record is ours, with this version.
    pub fn took(&mut self, version: String, asked: Duration, now: Duration) {
        self.renewed = Some(asked);
        self.seen = Some((Held { holder: self.me.clone(), version }, now));
    }

    /// When a leader renews next.
    pub fn renews_at(&self) -> Option<Duration> {
        self.renewed.map(|at| at.saturating_add(RENEW))
    }

    /// Whether it may act now.
    pub fn leads(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|at| now < at.saturating_add(ACTS))
    }

    /// Its lead is over: it acts no more.
    pub fn gave_up(&mut self) {
        self.renewed = None;
    }
}
