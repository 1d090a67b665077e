//! The periods of a quota as whoever keeps the sums of all processes sees them: by its own clocks, and not by what it
//! is told.
//!
//! *Invariant:* sums move on to no period but the one that lasts by these clocks. A process that counts has the same
//! clocks and the same calendar, so it is at most a moment ahead.

use super::{calendar::Calendar, clock::QuotaSpan};
use crate::{os::clock::Now, settings::limit::quota::Quota as Configured};

/// So far another process may be ahead, in milliseconds.
const AHEAD: u64 = 5_000;

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// The periods of one quota.
pub struct QuotaPeriods {
    calendar: Calendar,
    /// The one that lasts.
    span: QuotaSpan,
}

impl QuotaPeriods {
    /// Those of a quota that is in the period `known` by what was written of it; 0 is its end if nothing was.
    #[must_use]
    pub fn new(configured: &Configured, known: QuotaSpan, now: Now) -> Self {
        let mut periods = Self { calendar: Calendar::new(configured.period, configured.zone.clone()), span: known };
        periods.tick(now);
        periods
    }

    /// The period by what was written of it.
    pub fn go_on(&mut self, known: QuotaSpan) {
        self.span = known;
    }

    /// Looks at both clocks: to be called every second.
    pub fn tick(&mut self, now: Now) {
        self.span = self.at(now);
    }

    /// The period that lasts.
    #[must_use]
    pub const fn present(&self) -> QuotaSpan {
        self.span
    }

    /// Whether a period that was written still lasts.
    #[must_use]
    pub fn lasts(&self, written: &QuotaSpan, now: Now) -> bool {
        written.advanced(&self.calendar, now).is(written)
    }

    /// The period that another process says it is in: if that is the one that lasts, or is about to begin.
    #[must_use]
    pub fn lasting(&self, said: &QuotaSpan, now: Now) -> Option<QuotaSpan> {
        let soon = Now {
            monotonic: now.monotonic.saturating_add(AHEAD * MILLISECOND),
            unix_millis: now.unix_millis.saturating_add(AHEAD),
        };
        [now, soon].into_iter().map(|moment| self.at(moment)).find(|span| span.is(said))
    }

    /// The same where nothing is known: the one before and the next one may last as well, as the clock may have been
    /// set.
    #[must_use]
    pub fn near(&self, said: &QuotaSpan, now: Now) -> Option<QuotaSpan> {
        let around = |moment: i64| {
            let (start, end) = self.calendar.around(moment);
            QuotaSpan::of(start, end, said.again, now)
        };
        let moments = [self.span.start, self.span.start.saturating_sub(1), self.span.end];
        moments.into_iter().map(around).find(|span| span.is(said))
    }

    fn at(&self, now: Now) -> QuotaSpan {
        match self.span.end {
            0 => QuotaSpan::first(&self.calendar, now),
            _ => self.span.advanced(&self.calendar, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;
    use crate::settings::limit::quota::{Period, Quota, QuotaHeaders, WhenFull};

    fn at(second: u64, wall: &str) -> Now {
        let wall = wall.parse::<Timestamp>().unwrap().as_millisecond();
        Now { monotonic: second * 1_000_000_000, unix_millis: u64::try_from(wall).unwrap() }
    }

    fn day(number: i64, again: u32) -> QuotaSpan {
        let start = "2026-03-10T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond() + number * 86_400_000;
        QuotaSpan { start, end: start + 86_400_000, again, ends: u64::MAX }
    }

    #[test]
    fn d07_no_period_is_believed_but_the_one_that_lasts() {
        let quota = Quota {
            period: Period::Day,
            zone_name: "UTC".to_owned(),
            zone: TimeZone::UTC,
            warn_at: Vec::new(),
            when_full: WhenFull::Share,
            headers: QuotaHeaders::default(),
        };
        let (noon, evening) = (at(100, "2026-03-10T12:00:00Z"), at(100 + 43_197, "2026-03-10T23:59:57Z"));
        let far = QuotaSpan { start: 0, end: i64::MAX, again: 0, ends: u64::MAX };
        let early = QuotaSpan { start: i64::MIN, end: i64::MIN, again: 0, ends: 0 };
        for (now, said, is_lasting, is_near) in [
            (noon, day(0, 0), true, true),
            (noon, day(0, 1), false, true),
            (noon, day(1, 0), false, true),
            (noon, day(-1, 0), false, true),
            (noon, day(2, 0), false, false),
            (noon, far, false, false),
            (noon, early, false, false),
            (noon, QuotaSpan::default(), false, false),
            // The other process is three seconds ahead.
            (evening, day(0, 0), true, true),
            (evening, day(1, 0), true, true),
            (evening, day(2, 0), false, false),
        ] {
            let periods = QuotaPeriods::new(&quota, QuotaSpan::default(), now);
            let found = (periods.lasting(&said, now), periods.near(&said, now));
            assert_eq!((found.0.is_some(), found.1.is_some()), (is_lasting, is_near), "{now:?} {said:?}");
            // When it ends is the clock's to say.
            for found in [found.0, found.1].into_iter().flatten() {
                assert!(found.is(&said) && found.ends < (2 * 86_400 + 100) * 1_000_000_000, "{found:?}");
            }
        }
        // Hour by hour, without a word of others.
        let mut periods = QuotaPeriods::new(&Quota { period: Period::Hour, ..quota }, QuotaSpan::default(), noon);
        for second in 0..10 * 3_600 {
            let unix_millis = noon.unix_millis + second * 1_000;
            periods.tick(Now { monotonic: noon.monotonic + second * 1_000_000_000, unix_millis });
            let present = periods.present();
            assert!((present.start..present.end).contains(&i64::try_from(unix_millis).unwrap()), "{second}");
            assert_eq!(present.again, 0, "{second}");
        }
    }
}
