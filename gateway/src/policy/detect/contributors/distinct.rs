//! How many different ones there were in each minute, summed over minutes: an estimate by a sketch of 256 bytes.
//!
//! The sketch is a HyperLogLog. What it counts is added up when one changes it, by how seldom that happens (Ting 2014; the
//! historic inverse probability estimator, Cohen 2015). So the sum only grows, sums of several processes add up, and an
//! observer that looks every minute knows how many different ones there were. The error is about 5 %.

use super::client_stats::is_set_back;

/// How many registers there are.
const REGISTERS: usize = 256;

/// One sketch, and the sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct DistinctSketch {
    minute: u64,
    registers: [u8; REGISTERS],
    /// The sum over registers of two to the power of minus their value.
    open: f64,
    sum: f64,
}

impl DistinctSketch {
    pub(super) const NONE: Self = Self { minute: 0, registers: [0; REGISTERS], open: 256.0, sum: 0.0 };

    /// Somebody is there in this minute. `hash`: nobody can choose two that are alike.
    pub(super) fn note(&mut self, hash: u64, minute: u64) {
        if minute > self.minute || is_set_back(self.minute, minute) {
            *self = Self { minute, sum: self.sum, ..Self::NONE };
        }
        let (register, bits) = (usize::try_from(hash & 0xff).unwrap_or(0), hash >> 8);
        // The first bit that is set, of 56.
        let rank = u8::try_from(bits.trailing_zeros().min(56) + 1).unwrap_or(u8::MAX);
        let Some(known) = self.registers.get_mut(register).filter(|known| **known < rank) else { return };
        self.sum += 256.0 / self.open;
        let part = |rank: u8| (-f64::from(rank)).exp2();
        self.open -= part(*known) - part(rank);
        *known = rank;
    }

    /// The sum so far.
    pub(super) fn sum(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at least 0, and no gateway lives for so long"
        )]
        let sum = self.sum.round() as u64;
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    #[test]
    fn it_counts_what_differs() {
        // A fixed generator: what a random seed makes of it once in a thousand runs is no fault.
        let hash = |of: u64| {
            let mut mixed = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        for many in [1_u64, 2, 9, 100, 1_000, 100_000] {
            let mut distinct = DistinctSketch::NONE;
            for again in 0..3 {
                (0..many).for_each(|one| distinct.note(hash(one), 7 + again / 2));
            }
            // Two minutes, in each of which all were there.
            let (least, most) = (2 * many * 85 / 100, 2 * many * 115 / 100 + 1);
            assert!((least..=most).contains(&distinct.sum()), "{many}: {}", distinct.sum());
        }
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        for (minutes, expect) in [
            // The same somebody in each of these minutes; one that is noted late is counted already.
            (&[7, 8, 9][..], 3),
            (&[7, 8, 7, 8], 2),
            (&[1_000, 7, 8, 8], 3),
            (&[1_000, 998, 999, 1_000], 4),
        ] {
            let mut distinct = DistinctSketch::NONE;
            minutes.iter().for_each(|minute| distinct.note(0x5500, *minute));
            assert_eq!(distinct.sum(), expect, "{minutes:?}");
        }
    }

    #[test]
    fn it_never_goes_back() {
        let (seed, mut distinct, mut before) = (RandomState::new(), DistinctSketch::NONE, 0);
        for one in 0..10_000_u64 {
            distinct.note(seed.hash_one(one % 700), one / 1_000);
            assert!(distinct.sum() >= before);
            before = distinct.sum();
        }
    }
}
