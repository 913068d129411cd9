//! What systemd is told of a service (sd_notify(3)): nothing where nobody asked for it, by `NOTIFY_SOCKET`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::host::clock::uptime;

/// The longest status that is sent: systemd shows a line of it.
const STATUS: usize = 500;

/// The service works, as that sentence tells.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// How the service stands.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&line(status))]);
}

/// The service reads everything again; it is ready when it says so.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The service ends.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&line(status))]);
}

/// How often systemd wants to hear that the service goes on, at least; `None`: it does not.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The service goes on: to be called by what it does, not beside it. Most calls send nothing.
pub fn beat() {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX);
    let last = LAST_MS.load(Ordering::Relaxed);
    if now.saturating_sub(last) < 1000 {
        return;
    }
    LAST_MS.store(now, Ordering::Relaxed);
    if watchdog().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A service manager that does not listen is no reason to do anything else.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

/// A message is lines of assignments, so that a status is one.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS).collect()
}
