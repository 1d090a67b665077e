//! Whether a server could be connected to when a request last tried: what is known of it without health checks. All
//! workers share this.
//!
//! *Invariant:* it decides nothing. A request whose connection comes about reads one word.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::message::{FailingServer, LONGEST_FAILURE};

/// The last attempts to connect to one server.
#[derive(Default)]
pub(in crate::proxy::upstream) struct Failing {
    is_failing: AtomicBool,
    last: Mutex<Option<Failure>>,
}

struct Failure {
    why: String,
    /// Milliseconds since 1970.
    since: u64,
}

impl Failing {
    /// No connection came about at `now`, in milliseconds since 1970. `why` may begin with the name of the server.
    pub(in crate::proxy::upstream) fn failed(&self, server: &str, why: &str, now: u64) {
        let why = why.strip_prefix(server).map_or(why, |why| why.trim_start_matches(": "));
        let mut why = why.strip_prefix("cannot connect: ").unwrap_or(why).to_owned();
        why.truncate(why.floor_char_boundary(LONGEST_FAILURE));
        let mut last = self.lock();
        let since = last.as_ref().map_or(now, |failure| failure.since);
        *last = Some(Failure { why, since });
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// A connection came about.
    pub(in crate::proxy::upstream) fn connected(&self) {
        if self.is_failing.load(Ordering::Relaxed) {
            let mut last = self.lock();
            *last = None;
            self.is_failing.store(false, Ordering::Relaxed);
        }
    }

    /// What is to be told of `server`; `None`: it could be connected to, or nobody tried.
    pub(in crate::proxy::upstream) fn report(&self, server: &str) -> Option<FailingServer> {
        let last = self.is_failing.load(Ordering::Relaxed).then(|| self.lock())?;
        let Failure { why, since } = last.as_ref()?;
        Some(FailingServer { server: server.to_owned(), why: why.clone(), since: *since })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_counts() {
        let failing = Failing::default();
        let told = || failing.report("a:1").map(|it| (it.why, it.since));
        assert_eq!(told(), None, "nobody tried");
        failing.connected();
        assert_eq!(told(), None);
        for (now, why, expect) in [
            (10, "a:1: cannot connect: Connection refused (os error 111)", "Connection refused (os error 111)"),
            (20, "a:1: cannot connect: its name cannot be resolved: no", "its name cannot be resolved: no"),
            (30, "a:1: does not speak HTTP/2: x", "does not speak HTTP/2: x"),
            (40, "too slow", "too slow"),
        ] {
            failing.failed("a:1", why, now);
            assert_eq!(told(), Some((expect.to_owned(), 10)), "{why}");
        }
        failing.connected();
        assert_eq!(told(), None);
        failing.failed("a:1", &"\u{e4}".repeat(LONGEST_FAILURE), 50);
        assert_eq!(told().map(|(why, since)| (why.len(), since)), Some((LONGEST_FAILURE, 50)));
    }
}
