//! Which period a quota is in, by two clocks: the monotonic one says how long it still lasts, and the wall clock when it
//! ends by the calendar.
//!
//! *Invariant:* a period begins once, and never again, whatever the wall clock does. A clock that is set back or forth by
//! up to [`TOLERATED`] neither ends a period nor begins one: the period ends when it would have ended, or when the clock
//! says so while it is within the period and has not moved by more than half of one. The period after that ends at the
//! first boundary of the calendar that is at least half a period away, so that a clock that was set back cannot make it
//! end at once. A clock that is ahead of the end by more was set right, or the machine slept: the period is over.

use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use crate::os::clock::Now;

/// So far the wall clock may be ahead of the end of a period before that is over, in milliseconds: two hours.
const TOLERATED: i64 = 2 * 3_600_000;

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// A period that a quota is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSpan {
    /// When it began by the calendar, in milliseconds since the Unix epoch.
    pub start: i64,
    /// When it ends by the calendar.
    pub end: i64,
    /// How many periods before this one ended at the same time, as the clock was set back.
    pub again: u32,
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds; 0: it is over.
    pub ends: u64,
}

/// Which period lasts.
#[derive(Clone, Copy, Default)]
pub(super) struct Clock {
    pub(super) span: QuotaSpan,
    /// What follows, should it begin before the next tick.
    pub(super) next: QuotaSpan,
    /// When it has begun before that; 0: it has not.
    pub(super) ahead_since: u64,
    /// Counts the periods since the process began.
    pub(super) number: u32,
    /// The last tick.
    pub(super) last: Option<Now>,
}

impl QuotaSpan {
    /// Whether both are the same period.
    #[must_use]
    pub const fn is(&self, other: &Self) -> bool {
        self.end == other.end && self.again == other.again
    }

    /// The period that `now` is in, for a quota that was in none.
    pub(super) fn first(calendar: &Calendar, now: Now) -> Self {
        let (start, end) = calendar.around(wall(now));
        Self::of(start, end, 0, now)
    }

    /// A period that ends by the wall clock.
    pub(super) fn of(start: i64, end: i64, again: u32, now: Now) -> Self {
        Self { start, end, again, ends: until(end, now) }
    }

    /// The period that a quota is in at `now`.
    #[must_use]
    pub(super) fn advanced(self, calendar: &Calendar, now: Now) -> Self {
        let wall = wall(now);
        let is_far_behind = self.ends == 0 || wall >= self.end.saturating_add(TOLERATED);
        if is_far_behind || now.monotonic >= self.ends {
            let most = if is_far_behind { wall } else { wall.saturating_add(calendar.usual() / 2) };
            let (start, end) = calendar.around(most);
            let again = if end == self.end { self.again.saturating_add(1) } else { 0 };
            return Self { start, end, again, ends: until(end, now) };
        }
        let ends = until(self.end, now);
        let most = u64::try_from(calendar.usual() / 2).unwrap_or(0).saturating_mul(MILLISECOND);
        let is_within = (self.start..self.end).contains(&wall) && ends.abs_diff(self.ends) <= most;
        if is_within { Self { ends, ..self } } else { self }
    }

    /// The same after a restart. `seen`: what the wall clock said last, in the life of the machine that `ends` is of, if
    /// that is another one.
    #[must_use]
    pub fn restored(self, seen: Option<i64>, now: Now) -> Self {
        let Some(seen) = seen else { return self };
        let wall = wall(now).max(seen);
        if wall >= self.end {
            return Self { ends: 0, ..self };
        }
        // Where the clock is behind what it was, the period lasts as long as was left of it then.
        let left = u64::try_from(self.end - wall).unwrap_or(0);
        Self { ends: now.monotonic.saturating_add(left.saturating_mul(MILLISECOND)), ..self }
    }
}

fn wall(now: Now) -> i64 {
    i64::try_from(now.unix_millis).unwrap_or(i64::MAX)
}

/// When the wall clock will say `moment`, by the monotonic one.
fn until(moment: i64, now: Now) -> u64 {
    let left = u64::try_from(moment.saturating_sub(wall(now))).unwrap_or(0);
    now.monotonic.saturating_add(left.saturating_mul(MILLISECOND)).max(1)
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;
    use crate::settings::limit::quota::Period;

    const HOUR: i64 = 3_600_000;

    /// Runs a clock second by second. `steps`: by how much the wall clock is set, and when, in seconds. Returns how long
    /// each period lasted that ended, in seconds.
    fn lengths(period: Period, zone: &str, begin: &str, seconds: u64, steps: &[(u64, i64)]) -> Vec<u64> {
        let calendar = Calendar::new(period, TimeZone::get(zone).unwrap());
        let mut wall = begin.parse::<Timestamp>().unwrap().as_millisecond();
        let at = |second: u64, wall: i64| Now {
            monotonic: (second + 100) * 1_000_000_000,
            unix_millis: u64::try_from(wall).unwrap(),
        };
        let mut span = QuotaSpan::first(&calendar, at(0, wall));
        let (mut lengths, mut began) = (Vec::new(), 0);
        for second in 1..=seconds {
            wall += 1_000;
            wall += steps.iter().filter(|(when, _)| *when == second).map(|(_, by)| by).sum::<i64>();
            let next = span.advanced(&calendar, at(second, wall));
            if !next.is(&span) {
                lengths.push(second - began);
                began = second;
            }
            span = next;
        }
        lengths
    }

    #[test]
    fn d07_a_clock_that_steps_gives_no_second_quota_and_takes_none_away() {
        use Period::{Day, Hour};
        let day = 86_400;
        let (begin, evening) = ("2026-03-10T00:00:00Z", 23 * 3_600 + 1_800);
        for (period, steps, expect) in [
            (Day, vec![], vec![day, day, day]),
            // Half an hour before midnight it is set to half an hour after it: the day ends when it would have ended.
            (Day, vec![(evening, HOUR)], vec![day, day - 3_600, day]),
            (Day, vec![(evening, HOUR), (evening + 600, -HOUR)], vec![day, day, day]),
            (Day, vec![(evening, HOUR), (evening + 3_600, -HOUR)], vec![day, day, day]),
            // Half an hour after midnight it is set back.
            (Day, vec![(day + 1_800, -HOUR)], vec![day, day + 3_600, day]),
            (Day, vec![(day + 1_800, -HOUR), (day + 2_400, HOUR)], vec![day, day, day]),
            // Before midnight, so that the day would end twice.
            (Day, vec![(day - 600, -HOUR)], vec![day + 3_600, day, day]),
            (Day, vec![(600, -HOUR)], vec![day + 3_600, day, day]),
            (Hour, vec![(1_800, HOUR)], vec![3_600, 3_600, 3_600]),
            (Hour, vec![(1_800, -HOUR)], vec![3_600, 3_600, 3_600]),
            (Hour, vec![(1_800, HOUR / 6 * 5)], vec![3_600, 4_200, 3_600]),
            (Hour, vec![(1_800, -HOUR / 6 * 5)], vec![3_600, 3_000, 3_600]),
            // Set right by days, or the machine slept: what is over is over.
            (Day, vec![(3_600, 10 * 24 * HOUR)], vec![3_600, day - 3_600, day]),
            (Hour, vec![(1_800, 5 * HOUR)], vec![1_800, 1_800, 3_600]),
            // Set back by years: the day ends as it would have ended, and the next ones are days of the calendar.
            (Day, vec![(3_600, -1_000 * 24 * HOUR)], vec![day, day, day]),
        ] {
            let seconds = if period == Day { 4 * day } else { 6 * 3_600 };
            let found = lengths(period, "UTC", begin, seconds, &steps);
            assert_eq!(found.get(..3), Some(&expect[..]), "{period} {steps:?}");
        }
    }

    /// However the clock is set back and forth by an hour: there are as many periods as there were days, and each is a
    /// day but for the hour.
    #[test]
    fn d07_no_series_of_steps_earns_a_quota() {
        for (period, zone) in [(Period::Day, "UTC"), (Period::Day, "Europe/Berlin"), (Period::Hour, "UTC")] {
            let usual = u64::from(period.usual_seconds());
            let mut dice = 7_u64;
            for round in 0..20 {
                let (mut ahead, mut steps, days) = (0_i64, Vec::new(), 6);
                for second in (1..days * usual).step_by(usize::try_from(usual / 7).unwrap()) {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let wish = i64::try_from((dice >> 33) % 3).unwrap() * HOUR - HOUR;
                    steps.push((second + (dice >> 40) % (usual / 8), wish - ahead));
                    ahead = wish;
                }
                let found = lengths(period, zone, "2026-03-26T00:00:00Z", days * usual, &steps);
                assert!(u64::try_from(found.len()).unwrap() <= days, "{period} {zone} {round}: {found:?}");
                // The first had begun before.
                for length in &found[1..] {
                    assert!(*length * 2 >= usual, "{period} {zone} {round}: {found:?}");
                    assert!(*length * 2 <= usual * 3 + 7_200, "{period} {zone} {round}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn days_of_23_and_25_hours() {
        let found = lengths(Period::Day, "Europe/Berlin", "2026-03-27T23:00:00Z", 4 * 86_400, &[]);
        assert_eq!(found[..3], [86_400, 23 * 3_600, 86_400]);
        let found = lengths(Period::Day, "Europe/Berlin", "2026-10-23T22:00:00Z", 4 * 86_400, &[]);
        assert_eq!(found[..3], [86_400, 25 * 3_600, 86_400]);
    }

    #[test]
    fn d07_a_restart_goes_on_with_the_period() {
        let calendar = Calendar::new(Period::Day, TimeZone::UTC);
        let start = "2026-03-10T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        let now = |monotonic: u64, hours: i64| Now {
            monotonic: monotonic * 1_000_000_000,
            unix_millis: u64::try_from(start + hours * HOUR).unwrap(),
        };
        let known = QuotaSpan::first(&calendar, now(50_000, 10));
        let seen = start + 12 * HOUR;
        for (seen, at, hours, same, left) in [
            // The same life of the machine: the monotonic clock goes on.
            (None, now(57_200, 12), 12, true, 12),
            (None, now(57_200, 13), 12, true, 11),
            // Another one.
            (Some(seen), now(1, 14), 14, true, 10),
            (Some(seen), now(1, 25), 25, false, 23),
            (Some(seen), now(1, 24 * 30), 24 * 30, false, 24),
            // Its clock is far behind: what was left is left.
            (Some(seen), now(1, -10_000), 0, true, 12),
        ] {
            let restored = known.restored(seen, at).advanced(&calendar, at);
            assert_eq!(restored.end == known.end, same, "{hours}");
            let rest = i64::try_from((restored.ends - at.monotonic) / 1_000_000_000).unwrap();
            assert_eq!(rest, left * 3_600, "{hours}");
        }
    }
}
