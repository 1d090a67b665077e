//! The minimum rate: finds clients that send or read too slowly, although never pausing for long (D01).
//!
//! Only the time in which we wait for the client counts: a slow upstream is not the client's fault.

use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// How fast a client sends, or reads what we send.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct MinRate {
    /// Since when we wait for the client, in nanoseconds; 0: we do not.
    since: u64,
    /// How long we waited for it in this window, and how many bytes it moved.
    waited: u64,
    moved: u64,
}

impl MinRate {
    /// We begin to wait for the client.
    pub(in crate::proxy) const fn waits(&mut self, now: u64) {
        if self.since == 0 {
            self.since = now;
        }
    }

    /// The client sent or read `bytes`.
    pub(in crate::proxy) const fn moved(&mut self, bytes: u64, now: u64) {
        self.settle(now);
        self.since = 0;
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Whether fewer than `least` bytes a second moved in a whole window of waiting. Then the next window begins.
    pub(in crate::proxy) fn is_too_slow(&mut self, now: u64, window: Duration, least: u64) -> bool {
        self.settle(now);
        if u128::from(self.waited) < window.as_nanos() {
            return false;
        }
        let is_too_slow = u128::from(self.moved) * SECOND < u128::from(least) * u128::from(self.waited);
        (self.waited, self.moved) = (0, 0);
        is_too_slow
    }

    const fn settle(&mut self, now: u64) {
        if self.since != 0 {
            self.waited = self.waited.saturating_add(now.saturating_sub(self.since));
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Bytes that move after so many milliseconds each, of which the client was waited for these: when it is too slow
    /// for 100 bytes a second in windows of ten seconds, in seconds.
    #[track_caller]
    fn check(bytes: u64, every: u64, waited: u64, expect: Option<u64>) {
        let (mut rate, mut now) = (MinRate::default(), 1);
        for _ in 0..(100_000 / every) {
            now += (every - waited) * MILLI;
            if waited > 0 {
                rate.waits(now);
            }
            now += waited * MILLI;
            rate.moved(bytes, now);
            if rate.is_too_slow(now, Duration::from_secs(10), 100) {
                assert_eq!(Some(now / (1_000 * MILLI)), expect, "{bytes} bytes every {every} ms");
                return;
            }
        }
        assert_eq!(expect, None, "{bytes} bytes every {every} ms");
    }

    #[test]
    fn d01_who_is_too_slow() {
        check(1, 9_000, 9_000, Some(18));
        check(1, 50, 50, Some(10));
        check(99, 1_000, 1_000, Some(10));
        check(100, 1_000, 1_000, None);
        check(1_000, 10_000, 10_000, None);
        // The upstream is slow, not the client.
        check(1, 1_000, 0, None);
        check(1, 1_000, 500, Some(20));
        check(60, 1_000, 500, None);
        // Bytes of an earlier window do not count.
        let (mut rate, window) = (MinRate::default(), Duration::from_secs(10));
        rate.moved(1 << 40, 1);
        rate.waits(1);
        assert!(!rate.is_too_slow(11_000 * MILLI, window, 100));
        assert!(rate.is_too_slow(22_000 * MILLI, window, 100), "it is still waited for");
        // A minimum of 0 turns it off.
        assert!(!rate.is_too_slow(33_000 * MILLI, window, 0));
    }
}
