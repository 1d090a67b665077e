//! The time by which revocations end: the wall clock, but one that was set forward is believed only after a while.
//!
//! *Invariant:* a revocation that has ended is gone for good. So a clock that is set forward by mistake, and back, ends none
//! too early. If it was right, revocations end up to [`WAIT`] late.

use crate::os::clock::{Now, SECOND};

/// For how long a clock that was set forward is not believed, in nanoseconds: two hours, as periods of quotas have it.
const WAIT: u64 = 2 * 3_600 * SECOND;

/// By so many milliseconds a clock may be ahead of the monotonic one.
const STEP: u64 = 60_000;

/// What the clocks said.
#[derive(Clone, Copy)]
pub(super) struct Steady {
    /// When both were believed last.
    believed: Option<Now>,
    /// Since when the wall clock is ahead, by the monotonic one.
    ahead_since: Option<u64>,
}

impl Steady {
    pub(super) const fn new() -> Self {
        Self { believed: None, ahead_since: None }
    }

    /// The time, in seconds since the Unix epoch.
    pub(super) fn seconds(&mut self, now: Now) -> u64 {
        let expected = self.believed.map_or(now.unix_millis, |believed| {
            let passed = now.monotonic.saturating_sub(believed.monotonic) / 1_000_000;
            believed.unix_millis.saturating_add(passed)
        });
        if now.unix_millis > expected.saturating_add(STEP) {
            let since = *self.ahead_since.get_or_insert(now.monotonic);
            if now.monotonic.saturating_sub(since) < WAIT {
                return expected / 1_000;
            }
        }
        (self.believed, self.ahead_since) = (Some(now), None);
        now.unix_seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d07_a_clock_that_is_set_forward_ends_nothing_too_early() {
        let start = 1_800_000_000;
        let at = |second: u64, ahead: i64| Now {
            monotonic: (second + 100) * SECOND,
            unix_millis: (start + second).saturating_add_signed(ahead) * 1_000,
        };
        let mut steady = Steady::new();
        for (second, ahead, expect) in [
            (0, 0, 0),
            (60, 0, 60),
            (120, 3_600, 120),
            (180, 3_600, 180),
            // It is right again.
            (240, 0, 240),
            // It is set back: what is to end ends later.
            (300, -3_600, -3_300),
            (360, -3_600, -3_240),
            // It was right to be set forward: it is believed two hours later.
            (420, 86_400, -3_180),
            (7_600, 86_400, 4_000),
            (7_620, 86_400, 94_020),
            (7_680, 86_400, 94_080),
        ] {
            let found = i64::try_from(steady.seconds(at(second, ahead))).unwrap() - i64::try_from(start).unwrap();
            assert_eq!(found, expect, "{second}");
        }
    }
}
