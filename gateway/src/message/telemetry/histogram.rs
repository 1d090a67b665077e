//! Times in buckets that grow by a constant factor: eight buckets for each doubling, as native histograms of Prometheus
//! with schema 3 have them.
//!
//! Every eighth bound is a power of two. The classic buckets are these, so that both forms are exact.

use serde::{Deserialize, Serialize};

/// The bounds within one doubling: 2^(1/8) to 2^(8/8).
const STEPS: [f64; 8] = [
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
    2.0,
];

/// The bound of the first bucket is 2 to this power: 61 microseconds.
const LEAST: i32 = -14;

/// The bound of the last bucket but one is 2 to this power: 256 seconds.
const MOST: i32 = 8;

/// How many times, in buckets, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Their sum in nanoseconds.
    pub sum: u64,
    /// Buckets that are not empty: place and count, in the order of their places.
    pub buckets: Vec<(u8, u64)>,
}

impl Histogram {
    /// How many buckets there are. The last one has no bound.
    pub const BUCKETS: usize = (MOST - LEAST) as usize * STEPS.len() + 2;

    /// The schema of native histograms that the buckets follow.
    pub const SCHEMA: i32 = 3;

    /// From counts of every bucket.
    #[must_use]
    pub fn new(sum: u64, counts: impl IntoIterator<Item = u64>) -> Self {
        let buckets = (0..=u8::MAX).zip(counts).filter(|(_, count)| *count > 0).collect();
        Self { sum, buckets }
    }

    /// The bucket of a time in nanoseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a bucket is wider than what is lost")]
    pub fn place(nanos: u64) -> usize {
        let seconds = nanos as f64 / 1e9;
        // Sign, exponent, fraction (IEEE 754): the exponent of a time that is no subnormal number.
        let exponent = i32::try_from(seconds.to_bits() >> 52).unwrap_or(0) - 1_023;
        if exponent < LEAST {
            return 0;
        }
        if exponent >= MOST {
            // The bound itself belongs to the bucket that it ends.
            let is_bound = seconds.to_bits() == bound(Self::BUCKETS - 2).to_bits();
            return if is_bound { Self::BUCKETS - 2 } else { Self::BUCKETS - 1 };
        }
        let fraction = f64::from_bits(seconds.to_bits() & ((1 << 52) - 1) | 1_023 << 52);
        let step = if fraction > 1.0 { 1 + STEPS.iter().filter(|bound| fraction > **bound).count() } else { 0 };
        usize::try_from(exponent - LEAST).unwrap_or(0) * STEPS.len() + step
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Their sum in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers in metrics are floats")]
    pub fn seconds(&self) -> f64 {
        self.sum as f64 / 1e9
    }

    /// The bounds of classic buckets, in seconds, and how many times are at most as long.
    pub fn classic(&self) -> impl Iterator<Item = (f64, u64)> {
        (LEAST + 4..MOST - 1).map(|power| {
            let last = usize::try_from(power - LEAST).unwrap_or(0) * STEPS.len();
            let within = self.buckets.iter().filter(|(place, _)| usize::from(*place) <= last);
            (bound(last), within.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count)))
        })
    }

    /// The index of native histograms for a bucket: its bound is 2 to the power of the index divided by 8.
    #[must_use]
    pub fn index(place: u8) -> i32 {
        LEAST * 8 + i32::from(place)
    }

    /// Adds what another has.
    pub fn add(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        for (place, count) in &other.buckets {
            match self.buckets.binary_search_by_key(place, |(place, _)| *place) {
                Ok(at) => {
                    if let Some((_, sum)) = self.buckets.get_mut(at) {
                        *sum = sum.saturating_add(*count);
                    }
                }
                Err(at) => self.buckets.insert(at, (*place, *count)),
            }
        }
    }

    /// What has come since an earlier state of the same histogram. `None`: that is no earlier state of it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut more = Vec::new();
        for (place, count) in &self.buckets {
            let before = earlier.buckets.binary_search_by_key(place, |(place, _)| *place);
            let before = before.ok().and_then(|at| earlier.buckets.get(at)).map_or(0, |(_, count)| *count);
            match count.checked_sub(before)? {
                0 => {}
                new => more.push((*place, new)),
            }
        }
        Some(Self { sum: self.sum.checked_sub(earlier.sum)?, buckets: more })
    }

    /// The time in seconds that so many millionths were not over: the bound of its bucket. `None`: there are none.
    #[must_use]
    pub fn quantile(&self, millionths: u32) -> Option<f64> {
        let wanted = (u128::from(self.count()) * u128::from(millionths)).div_ceil(1_000_000).max(1);
        let mut seen = 0_u128;
        self.buckets.iter().find_map(|(place, count)| {
            seen += u128::from(*count);
            // What has no bound is longer than the last one that there is.
            (seen >= wanted).then(|| bound(usize::from(*place).min(Self::BUCKETS - 2)))
        })
    }

    /// Whether the buckets are in order and there.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.buckets.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.buckets.last().is_none_or(|(place, _)| usize::from(*place) < Self::BUCKETS)
    }
}

/// The longest time of a bucket, in seconds.
fn bound(place: usize) -> f64 {
    let (doublings, step) = (place / STEPS.len(), place % STEPS.len());
    let within = step.checked_sub(1).and_then(|step| STEPS.get(step)).copied().unwrap_or(1.0);
    f64::powi(2.0, LEAST + i32::try_from(doublings).unwrap_or(0)) * within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_and_how_long_most_took() {
        let counts = |at: &[(usize, u64)]| {
            Histogram::new(
                0,
                (0..Histogram::BUCKETS)
                    .map(|place| at.iter().find(|(own, _)| *own == place).map_or(0, |(_, count)| *count)),
            )
        };
        let (before, after) = (counts(&[(8, 5)]), counts(&[(8, 95), (40, 10)]));
        let more = after.since(&before).unwrap();
        assert_eq!(more.count(), 100);
        assert_eq!((more.quantile(500_000), more.quantile(950_000)), (Some(bound(8)), Some(bound(40))));
        assert_eq!((before.since(&after), counts(&[]).quantile(500_000)), (None, None));
        assert_eq!(counts(&[(Histogram::BUCKETS - 1, 1)]).quantile(500_000), Some(256.0));
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test")]
    fn a_time_is_in_the_bucket_that_it_ends() {
        for place in 0..Histogram::BUCKETS - 1 {
            let nanos = (bound(place) * 1e9).floor() as u64;
            assert_eq!(Histogram::place(nanos), place, "{}", bound(place));
            assert_eq!(Histogram::place(nanos + 1), place + 1, "{}", bound(place));
        }
        for (nanos, place) in [(0, 0), (1, 0), (u64::MAX, Histogram::BUCKETS - 1)] {
            assert_eq!(Histogram::place(nanos), place, "{nanos}");
        }
        assert!(Histogram::BUCKETS <= usize::from(u8::MAX));
    }

    #[test]
    fn both_forms_agree() {
        let mut histogram = Histogram::default();
        let times = [0, 1_000_000, 3_906_250, 3_906_251, 250_000_000, 2_000_000_000, 500_000_000_000];
        for nanos in times {
            let place = u8::try_from(Histogram::place(nanos)).unwrap();
            histogram.add(&Histogram { sum: nanos, buckets: vec![(place, 1)] });
        }
        assert!(histogram.is_valid());
        assert_eq!((histogram.count(), histogram.sum), (7, times.iter().sum()));
        let within: Vec<(f64, u64)> = histogram.classic().collect();
        assert_eq!(within.first(), Some(&(0.000_976_562_5, 1)));
        for (bound, expect) in [(0.003_906_25, 3), (0.007_812_5, 4), (0.25, 5), (2.0, 6), (64.0, 6)] {
            assert_eq!(within.iter().find(|(is, _)| *is == bound), Some(&(bound, expect)));
        }
        // The bound of index 0 is one second.
        assert_eq!(Histogram::index(u8::try_from(Histogram::place(1_000_000_000)).unwrap()), 0);
    }
}
