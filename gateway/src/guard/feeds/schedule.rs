//! When a list is fetched: as often as asked, and after a failure again soon, then less and less often. Pure.

use std::time::Duration;

/// The first wait after a failure; each further one is twice as long, up to [`LONGEST`] or `every`.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3_600);

/// No server is left alone for longer because it asks for it.
const LONGEST_ASKED: u64 = 86_400;

/// When the next fetch is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchSchedule {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) next: u64,
    pub(crate) is_fetching: bool,
    /// How many tries have failed since one succeeded.
    pub(crate) failures: u32,
}

impl FetchSchedule {
    /// The last list was confirmed `age` ago; `None`: none is in force.
    pub(crate) fn new(every: Duration, age: Option<Duration>, chance: u16, now: u64) -> Self {
        let next = match age {
            None => now,
            Some(age) => later(now, every.saturating_sub(age), tenth(every).min(FIRST), chance),
        };
        Self { next, is_fetching: false, failures: 0 }
    }

    /// Whether it is to be fetched now. If so it counts as being fetched until it is said what became of it.
    pub(crate) fn begin(&mut self, now: u64) -> bool {
        let is_due = !self.is_fetching && now >= self.next;
        self.is_fetching |= is_due;
        is_due
    }

    /// The server has answered, whatever its list is like.
    pub(crate) fn answered(&mut self, every: Duration, chance: u16, now: u64) {
        *self = Self { next: later(now, every, tenth(every), chance), is_fetching: false, failures: 0 };
    }

    /// There is no list; the server wants to be left alone for so many seconds.
    pub(crate) fn failed(&mut self, every: Duration, alone: u64, chance: u16, now: u64) {
        let longest = every.min(LONGEST);
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        let wait = wait.max(Duration::from_secs(alone.min(LONGEST_ASKED)));
        let next = later(now, wait, tenth(wait), chance);
        *self = Self { next, is_fetching: false, failures: self.failures.saturating_add(1) };
    }

    /// It was not asked, for a reason of the gateway's own: again soon.
    pub(crate) fn interrupted(&mut self, now: u64) {
        (self.next, self.is_fetching) = (later(now, Duration::from_secs(2), Duration::ZERO, 0), false);
    }
}

fn tenth(every: Duration) -> Duration {
    every / 10
}

/// `wait` later, and by `chance` (0 to 65,535) up to `spread` later than that: many gateways do not come at once.
fn later(now: u64, wait: Duration, spread: Duration, chance: u16) -> u64 {
    let spread = spread.saturating_mul(chance.into()) / u32::from(u16::MAX);
    now.saturating_add(u64::try_from(wait.saturating_add(spread).as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::SECOND;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_first_fetch() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (age, chance, expect) in [
            (None, u16::MAX, 0),
            (Some(Duration::ZERO), 0, 3_600),
            (Some(minutes(45)), 0, 900),
            (Some(minutes(45)), u16::MAX, 930),
            (Some(minutes(90)), 0, 0),
            (Some(minutes(90)), u16::MAX, 30),
        ] {
            let schedule = FetchSchedule::new(HOUR, age, chance, 7);
            assert_eq!((schedule.next - 7) / SECOND, expect, "{age:?} {chance}");
        }
    }

    #[test]
    fn failures_wait_longer_and_a_server_is_left_alone() {
        let mut schedule = FetchSchedule::default();
        let mut now = 0;
        for (alone, expect) in [(0, 30), (0, 60), (0, 120), (600, 600), (0, 480), (0, 960), (0, 1_920), (0, 3_600)] {
            assert!(schedule.begin(now) && !schedule.begin(now), "one at a time");
            schedule.failed(HOUR, alone, 0, now);
            assert_eq!((schedule.next - now) / SECOND, expect);
            assert!(!schedule.begin(schedule.next - 1));
            now = schedule.next;
        }
        assert!(schedule.begin(now));
        schedule.failed(HOUR, u64::MAX, 0, now);
        assert_eq!((schedule.next - now) / SECOND, LONGEST_ASKED, "not for ever");
        now = schedule.next;
        assert!(schedule.begin(now));
        schedule.answered(HOUR, u16::MAX, now);
        assert_eq!(((schedule.next - now) / SECOND, schedule.failures), (3_960, 0));
        // A list that is fetched often is tried as often.
        schedule.failed(Duration::from_secs(10), 0, 0, now);
        assert_eq!((schedule.next - now) / SECOND, 10);
        schedule.interrupted(now);
        assert_eq!(((schedule.next - now) / SECOND, schedule.is_fetching), (2, false));
    }
}
