//! Limits how often the same event is logged: once a second, or more rarely, with the number of events that were not logged since
//! then.

use std::{cell::Cell, time::Duration};

use crate::os::clock::SECOND;

/// When a line was written last, and what has happened since.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    next: Cell<u64>,
    untold: Cell<u64>,
}

impl Sparse {
    /// It has happened. `Some`: a line is due, which tells of so many others before. `now` is `CLOCK_MONOTONIC` in
    /// nanoseconds.
    pub(crate) fn is_due(&self, now: u64) -> Option<u64> {
        self.is_due_every(Duration::from_nanos(SECOND), now)
    }

    /// The same, with at most one line in such a time.
    pub(crate) fn is_due_every(&self, interval: Duration, now: u64) -> Option<u64> {
        if now < self.next.get() {
            self.untold.set(self.untold.get().saturating_add(1));
            return None;
        }
        self.next.set(now.saturating_add(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_all() {
        let sparse = Sparse::default();
        let told: Vec<_> = (0..3_500).filter_map(|milli| sparse.is_due(SECOND + milli * 1_000_000)).collect();
        assert_eq!(told, [0, 999, 999, 999]);
        assert_eq!(sparse.is_due(100 * SECOND), Some(499));
        let minute = Duration::from_secs(60);
        let told: Vec<_> = (1_000..1_180).filter_map(|now| sparse.is_due_every(minute, now * SECOND)).collect();
        assert_eq!(told, [0, 59, 59]);
    }
}
