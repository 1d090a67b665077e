//! When a server that cannot be reached is tried again, and how long lines wait for it.

use std::{
    thread,
    time::{Duration, Instant},
};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// How long lines wait for a server to come back. After that they are dropped until it does.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a connection that has failed, or not yet.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Since when it has failed, when it is tried again, and how long the next wait is.
    failing: Option<(Instant, Instant, Duration)>,
}

impl Backoff {
    /// Whether to try now. Waits for the next try if the server has not been gone for long.
    pub(super) fn is_due(&self) -> bool {
        let Some((since, at, _)) = self.failing else { return true };
        let now = Instant::now();
        if now >= at {
            return true;
        }
        if now.duration_since(since) >= TIMEOUT {
            return false;
        }
        thread::sleep(at.duration_since(now));
        true
    }

    /// Whether lines still wait for the server.
    pub(super) fn is_patient(&self) -> bool {
        self.failing.is_none_or(|(since, _, _)| since.elapsed() < TIMEOUT)
    }

    /// It has failed once more.
    pub(super) fn failed(&mut self) {
        let now = Instant::now();
        let (since, wait) = self.failing.map_or((now, SHORTEST), |(since, _, wait)| (since, wait));
        self.failing = Some((since, now + wait, (wait * 2).min(LONGEST)));
    }

    /// It works.
    pub(super) fn works(&mut self) {
        self.failing = None;
    }
}
