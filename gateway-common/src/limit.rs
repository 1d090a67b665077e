//! Rate limits by GCRA: whether one more unit fits a rate. The only rate arithmetic in the repository.
//!
//! The generic cell rate algorithm keeps one word per budget, the theoretical arrival time: the moment at which the
//! budget will be full again. A unit that would push it further than `burst` past now does not conform. There is no
//! pair of words that could tear, so a compare-and-swap makes it exact on any number of processors.

/// A rate and its burst, as times: what one unit costs, and how much may be owed.
///
/// Nanoseconds of one monotonic clock throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// What one unit costs, in nanoseconds. 0: nothing is limited.
    pub interval: u64,
    /// How far ahead of now the budget may run, in nanoseconds; at least `interval`, or nothing ever conforms.
    pub burst: u64,
}

/// The state of one budget: its theoretical arrival time, in nanoseconds. Zero is a full budget.
pub type ArrivalTime = u64;

impl Rate {
    /// Allows everything.
    pub const UNLIMITED: Self = Self { interval: 0, burst: u64::MAX };

    /// The rate of `units` per second with bursts of up to `burst` units. `None` if either is 0, or more than one
    /// unit per nanosecond.
    #[must_use]
    pub const fn per_second(units: u64, burst: u64) -> Option<Self> {
        Self::per(units, 1_000_000_000, burst)
    }

    /// The rate of `units` per `period` nanoseconds with bursts of up to `burst` units. `None` if any is 0, or more
    /// than one unit per nanosecond.
    #[must_use]
    pub const fn per(units: u64, period: u64, burst: u64) -> Option<Self> {
        if units == 0 || burst == 0 || period < units {
            return None;
        }
        let interval = period / units;
        Some(Self { interval, burst: interval.saturating_mul(burst) })
    }

    /// Takes `units` out of the budget at `arrival`: the budget's new state if they conform, `None` (and nothing is
    /// taken) if they do not.
    #[inline(always)]
    #[must_use]
    pub const fn spend(&self, arrival: ArrivalTime, now: u64, units: u64) -> Option<ArrivalTime> {
        take(arrival, now, self.interval.saturating_mul(units), self.burst)
    }

    /// As [`Self::spend`], of few units, where nothing multiplies wider than 64 bits.
    #[inline(always)]
    #[must_use]
    pub const fn spend_few(&self, arrival: ArrivalTime, now: u64, units: u8) -> Option<ArrivalTime> {
        // An interval is an hour or so at most: no overflow, and a wrong state at worst.
        take(arrival, now, self.interval.wrapping_mul(units as u64), self.burst)
    }

    /// A budget out of which `units` have been taken at `now`, however few it holds: none are left at worst.
    #[inline(always)]
    #[must_use]
    pub const fn spent(&self, now: u64, units: u64) -> ArrivalTime {
        if self.interval == 0 {
            return 0;
        }
        now.saturating_add(if units >= self.burst / self.interval { self.burst } else { self.interval * units })
    }

    /// A budget that was last known to be at `arrival`, under this rate or another: none are left at worst.
    #[inline(always)]
    #[must_use]
    pub const fn resumed(&self, now: u64, arrival: ArrivalTime) -> ArrivalTime {
        resumed(self.burst, now, arrival)
    }

    /// How long until one unit conforms again, in nanoseconds; 0 if it does now.
    #[must_use]
    pub const fn wait(&self, arrival: ArrivalTime, now: u64) -> u64 {
        let start = if arrival > now { arrival } else { now };
        start.saturating_add(self.interval).saturating_sub(now.saturating_add(self.burst))
    }

    /// How many whole units conform right now.
    #[must_use]
    pub const fn left(&self, arrival: ArrivalTime, now: u64) -> u64 {
        if self.interval == 0 {
            return u64::MAX;
        }
        let start = if arrival > now { arrival } else { now };
        now.saturating_add(self.burst).saturating_sub(start) / self.interval
    }

    /// The budget that was at `arrival` under the rate `before`, under this one: as many units are taken.
    #[must_use]
    pub fn carried(&self, arrival: ArrivalTime, before: Self, now: u64) -> ArrivalTime {
        let owed = u128::from(arrival.saturating_sub(now));
        if before.interval == 0 || owed == 0 {
            return arrival.min(now);
        }
        let owed = owed * u128::from(self.interval) / u128::from(before.interval);
        now.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX).min(self.burst))
    }
}

/// As [`Rate`], of units of any size and number: what so many of them cost is exact, whatever one of them costs.
///
/// For userspace: the kernel has no multiplication this wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    units: u64,
    /// In nanoseconds.
    period: u64,
    /// How far ahead of now the budget may run, in nanoseconds.
    burst: u64,
}

impl Pace {
    /// One a second.
    pub const ONE: Self = Self { units: 1, period: 1_000_000_000, burst: 1_000_000_000 };

    /// The longest period, in nanoseconds: a year.
    pub const LONGEST: u64 = 366 * 86_400 * 1_000_000_000;

    /// The rate of `units` per `period` nanoseconds with bursts of up to `burst` units. `None` if any is 0, the period
    /// is over [`Self::LONGEST`], or a burst would take longer than that to come back.
    #[must_use]
    pub const fn new(units: u64, period: u64, burst: u64) -> Option<Self> {
        if units == 0 || period == 0 || period > Self::LONGEST || burst == 0 {
            return None;
        }
        let least = cost(units, period, burst);
        if least > Self::LONGEST {
            return None;
        }
        // What one unit costs is rounded up, so a burst of single units may cost more than the burst as one. As much more
        // may be owed, where it is less than one more unit costs.
        let burst = if burst < period / units { cost(units, period, 1) * burst } else { least };
        Some(Self { units, period, burst })
    }

    /// What `units` cost, in nanoseconds. More than nothing, if there is at least one.
    #[must_use]
    pub const fn cost(&self, units: u64) -> u64 {
        cost(self.units, self.period, units)
    }

    /// Takes a cost out of the budget at `arrival`, as [`Rate::spend`] does.
    #[inline(always)]
    #[must_use]
    pub const fn spend(&self, arrival: ArrivalTime, now: u64, cost: u64) -> Option<ArrivalTime> {
        take(arrival, now, cost, self.burst)
    }

    /// As [`Self::spend`], of a budget that may be overdrawn by what comes back within `delay` nanoseconds.
    #[inline(always)]
    #[must_use]
    pub const fn spend_ahead(&self, arrival: ArrivalTime, now: u64, cost: u64, delay: u64) -> Option<ArrivalTime> {
        take(arrival, now, cost, self.burst.saturating_add(delay))
    }

    /// How long a budget at `arrival` is overdrawn, in nanoseconds.
    #[must_use]
    pub const fn overdrawn(&self, arrival: ArrivalTime, now: u64) -> u64 {
        arrival.saturating_sub(now.saturating_add(self.burst))
    }

    /// The budget at `arrival` after a cost that is known only now, and may be more than is left.
    #[inline(always)]
    #[must_use]
    pub const fn charge(arrival: ArrivalTime, now: u64, cost: u64) -> ArrivalTime {
        let start = if arrival > now { arrival } else { now };
        start.saturating_add(cost)
    }

    /// The budget at `arrival` after a cost was given back that had been taken.
    #[inline(always)]
    #[must_use]
    pub const fn refund(arrival: ArrivalTime, cost: u64) -> ArrivalTime {
        arrival.saturating_sub(cost)
    }

    /// How long until a cost conforms, in nanoseconds; 0 if it does now.
    #[must_use]
    pub const fn wait(&self, arrival: ArrivalTime, now: u64, cost: u64) -> u64 {
        let start = if arrival > now { arrival } else { now };
        start.saturating_add(cost).saturating_sub(now.saturating_add(self.burst))
    }

    /// How many whole units conform right now.
    #[must_use]
    pub const fn left(&self, arrival: ArrivalTime, now: u64) -> u64 {
        let start = if arrival > now { arrival } else { now };
        let free = now.saturating_add(self.burst).saturating_sub(start);
        if let Some(product) = free.checked_mul(self.units) {
            return product / self.period;
        }
        narrow(free as u128 * self.units as u128 / self.period as u128)
    }

    /// How many units the burst is.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.left(0, 0)
    }

    /// In how many nanoseconds a spent budget is full again.
    #[must_use]
    pub const fn refill(&self) -> u64 {
        self.burst
    }

    /// The budget that was at `arrival` under the rate `before`, under this one: as many units are taken.
    #[must_use]
    pub const fn carried(&self, arrival: ArrivalTime, before: &Self, now: u64) -> ArrivalTime {
        if arrival <= now {
            return arrival;
        }
        let owed = (arrival - now) as u128;
        // In thousandths of a unit: whole ones would forgive most of what a slow budget owes.
        let taken = (owed * before.units as u128).saturating_mul(1_000) / before.period as u128;
        let owed = taken.saturating_mul(self.period as u128) / (self.units as u128 * 1_000);
        now.saturating_add(narrow(owed))
    }
}

/// Rounded up, so that nothing is free.
const fn cost(units: u64, period: u64, count: u64) -> u64 {
    narrow((count as u128 * period as u128).div_ceil(units as u128))
}

#[expect(clippy::cast_possible_truncation, reason = "it fits")]
const fn narrow(wide: u128) -> u64 {
    if wide > u64::MAX as u128 { u64::MAX } else { wide as u64 }
}

/// As [`Rate`], of bytes: what one costs is kept in fractions of a nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ByteRate {
    /// What one byte costs, in units of 2^-10 nanoseconds. 0: nothing is limited.
    pub interval: u64,
    /// How far ahead of now the budget may run, in nanoseconds.
    pub burst: u64,
}

impl ByteRate {
    /// Allows everything.
    pub const UNLIMITED: Self = Self { interval: 0, burst: u64::MAX };

    const FRACTION: u32 = 10;

    /// The rate of `bytes` per second with bursts of up to `burst` bytes. `None` if either is 0, or more than 2^37
    /// bytes (one terabit) per second.
    #[must_use]
    pub const fn per_second(bytes: u64, burst: u64) -> Option<Self> {
        if bytes == 0 || burst == 0 || bytes > 1 << 37 {
            return None;
        }
        let interval = (1_000_000_000 << Self::FRACTION) / bytes;
        Some(Self { interval, burst: interval.saturating_mul(burst) >> Self::FRACTION })
    }

    /// As [`Rate::spend`].
    #[inline(always)]
    #[must_use]
    pub const fn spend(&self, arrival: ArrivalTime, now: u64, bytes: u64) -> Option<ArrivalTime> {
        take(arrival, now, self.cost(bytes), self.burst)
    }

    /// As [`Rate::spent`], of at most 4 MiB.
    #[inline(always)]
    #[must_use]
    pub const fn spent(&self, now: u64, bytes: u64) -> ArrivalTime {
        if self.interval == 0 {
            return 0;
        }
        let cost = self.cost(bytes);
        now.saturating_add(if cost > self.burst { self.burst } else { cost })
    }

    /// As [`Rate::resumed`].
    #[inline(always)]
    #[must_use]
    pub const fn resumed(&self, now: u64, arrival: ArrivalTime) -> ArrivalTime {
        resumed(self.burst, now, arrival)
    }

    /// What so many bytes cost, in nanoseconds; over 4 MiB, which no packet is, as if they were 4 MiB.
    #[inline(always)]
    const fn cost(&self, bytes: u64) -> u64 {
        const MOST: u64 = 1 << 22;
        // No overflow: an interval is at most 2^40, and the kernel has no wider multiplication.
        self.interval.wrapping_mul(if bytes > MOST { MOST } else { bytes }) >> Self::FRACTION
    }
}

#[inline(always)]
const fn take(arrival: ArrivalTime, now: u64, cost: u64, burst: u64) -> Option<ArrivalTime> {
    let start = if arrival > now { arrival } else { now };
    let next = start.saturating_add(cost);
    if next > now.saturating_add(burst) { None } else { Some(next) }
}

#[inline(always)]
const fn resumed(burst: u64, now: u64, arrival: ArrivalTime) -> ArrivalTime {
    let most = now.saturating_add(burst);
    if arrival > most { most } else { arrival }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Offers one unit every `gap` nanoseconds for `seconds`, and counts those that conform.
    fn admitted(rate: Rate, gap: u64, seconds: u64) -> u64 {
        let (mut arrival, mut count, start) = (0, 0, 5 * SECOND);
        let mut now = start;
        while now < start + seconds * SECOND {
            if let Some(next) = rate.spend(arrival, now, 1) {
                arrival = next;
                count += 1;
            }
            now += gap;
        }
        count
    }

    #[test]
    fn d05_admits_rate_and_burst() {
        for (units, burst, gap, expect) in [
            (100, 1, SECOND / 1_000, 1_000),
            (100, 50, SECOND / 1_000, 1_049),
            (100, 50, SECOND / 50, 500),
            (1, 10, SECOND / 1_000, 19),
        ] {
            let rate = Rate::per_second(units, burst).unwrap();
            let count = admitted(rate, gap, 10);
            assert!(count.abs_diff(expect) <= expect / 100 + 1, "{units}/s burst {burst}: {count}, not {expect}");
        }
    }

    #[test]
    fn d07_idle_time_earns_no_more_than_the_burst() {
        let rate = Rate::per_second(10, 5).unwrap();
        let mut arrival = rate.spend(0, SECOND, 1).unwrap();
        let now = 3_600 * SECOND;
        assert_eq!(rate.left(arrival, now), 5);
        for _ in 0..5 {
            arrival = rate.spend(arrival, now, 1).unwrap();
        }
        assert_eq!(rate.spend(arrival, now, 1), None);
        assert_eq!(rate.wait(arrival, now), SECOND / 10);
    }

    #[test]
    fn bytes_cost_fractions_of_a_nanosecond() {
        for (bytes, burst, length, gap, expect) in [
            (1_000_000, 100_000, 1_000, SECOND / 10_000, 10_099),
            (10_000_000_000, 1_000_000, 1_500, 100, 6_667_332),
            (64, 65_536, 64, SECOND / 10, 100),
        ] {
            let rate = ByteRate::per_second(bytes, burst).unwrap();
            let (mut arrival, mut admitted, mut now) = (0, 0_u64, SECOND);
            let end = if gap == 100 { 2 * SECOND } else { 11 * SECOND };
            while now < end {
                if let Some(next) = rate.spend(arrival, now, length) {
                    (arrival, admitted) = (next, admitted + 1);
                }
                now += gap;
            }
            assert!(admitted.abs_diff(expect) <= expect / 50 + 1, "{bytes}/s burst {burst}: {admitted}, not {expect}");
        }
    }

    #[test]
    fn what_is_known_to_be_spent_is_charged() {
        let (rate, bytes) = (Rate::per_second(10, 5).unwrap(), ByteRate::per_second(1 << 20, 1 << 20).unwrap());
        for (units, left) in [(0, 5), (3, 2), (5, 0), (u64::MAX, 0)] {
            assert_eq!(rate.left(rate.spent(SECOND, units), SECOND), left, "{units} units");
        }
        for (arrival, left) in [(0, 5), (SECOND + SECOND / 5, 3), (SECOND + SECOND / 2, 0), (u64::MAX, 0)] {
            assert_eq!(rate.left(rate.resumed(SECOND, arrival), SECOND), left, "resumed at {arrival}");
        }
        let half = bytes.spent(SECOND, 1 << 19);
        assert!(bytes.spend(half, SECOND, (1 << 19) - 1).is_some() && bytes.spend(half, SECOND, 1 << 20).is_none());
        assert_eq!((Rate::UNLIMITED.spent(SECOND, 1), ByteRate::UNLIMITED.spent(SECOND, 1)), (0, 0));
    }

    #[test]
    fn a_pace_is_exact_at_any_size() {
        for (units, period, burst, count, expect) in [
            (3, SECOND, 3, 3, SECOND),
            (3, SECOND, 3, 1, 333_333_334),
            (10_000_000_000, SECOND, 1_000, 1, 1),
            (10_000_000_000, SECOND, 1_000, 1_000_000_000, SECOND / 10),
            (1, 86_400 * SECOND, 5, 5, 5 * 86_400 * SECOND),
        ] {
            let pace = Pace::new(units, period, burst).unwrap();
            assert_eq!(pace.cost(count), expect, "{count} of {units} per {period}");
            assert_eq!(pace.burst(), burst, "{units} per {period}");
        }
        assert!(
            [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, Pace::LONGEST + 1, 1), (1, Pace::LONGEST, 2)]
                .into_iter()
                .all(|(units, period, burst)| Pace::new(units, period, burst).is_none())
        );
    }

    #[test]
    fn a_burst_is_as_many_single_units() {
        for (units, period, burst) in [
            (1, SECOND, 1),
            (3, SECOND, 3),
            (7, SECOND, 7),
            (3, SECOND, 10),
            (7, 60 * SECOND, 1_000),
            (1_000, SECOND, 5),
            (300_000, SECOND, 600),
            (1, Pace::LONGEST, 1),
        ] {
            let pace = Pace::new(units, period, burst).unwrap();
            let mut arrival = 0;
            let admitted = core::iter::from_fn(|| {
                arrival = pace.spend(arrival, SECOND, pace.cost(1))?;
                Some(())
            });
            assert_eq!(admitted.take(2_000).count() as u64, burst, "{units} per {period}");
        }
    }

    #[test]
    fn what_is_charged_afterwards_may_exceed_the_burst() {
        let pace = Pace::new(1_000, SECOND, 500).unwrap();
        let arrival = Pace::charge(0, SECOND, pace.cost(3_000));
        assert_eq!((pace.left(arrival, SECOND), pace.wait(arrival, SECOND, 1)), (0, 5 * SECOND / 2 + 1));
        assert_eq!(pace.spend(arrival, SECOND, pace.cost(1)), None);
        assert_eq!(pace.left(arrival, 4 * SECOND), 500);
        assert_eq!(Pace::refund(arrival, pace.cost(3_000)), SECOND);
    }

    #[test]
    fn another_pace_continues_the_count() {
        let (slow, fast) = (Pace::new(10, SECOND, 10).unwrap(), Pace::new(1_000, SECOND, 1_000).unwrap());
        let taken = slow.spend(0, SECOND, slow.cost(4)).unwrap();
        let carried = fast.carried(taken, &slow, SECOND);
        assert_eq!(fast.left(carried, SECOND), 996);
        assert_eq!(slow.left(slow.carried(carried, &fast, SECOND), SECOND), 6);
        assert_eq!(slow.carried(5, &fast, SECOND), 5, "an idle budget is full under any rate");
    }

    #[test]
    fn extremes() {
        assert_eq!(Rate::per_second(0, 1), None);
        assert_eq!(Rate::per_second(1, 0), None);
        assert_eq!(Rate::per_second(2_000_000_000, 1), None);
        assert!(Rate::UNLIMITED.spend(0, u64::MAX, u64::MAX).is_some());
        assert_eq!(Rate::per_second(1, 1).unwrap().spend(u64::MAX, 0, 1), None);
    }
}
