//! A count-min sketch of how busy each source is: approximate, and cheap. Below a threshold a source needs no budget.
//!
//! It has two rows of cells, and each CPU has its own. A source has one cell in each row, which it shares with others by
//! chance. The lesser of the two never counts too little, so a busy source is always noticed. A quiet source that shares
//! both cells with busy ones merely gets a budget, which it does not exceed. Cells decay by themselves each epoch.
//!
//! In a flood from countless sources every cell is full of what they sent. What a cell holds on average, by the weight of
//! all packets together, belongs to nobody and is not counted for anybody. *Invariant:* a source that weighs [`NOTICED`]
//! thresholds by itself is noticed, however many others send as much. More than that is never left out.

use crate::maps::SKETCH_CELLS;

/// The most that a cell counts to.
pub const COUNT: u32 = 0x000f_ffff;

/// An epoch lasts 2^30 nanoseconds.
const EPOCH_BITS: u32 = 30;

/// A cell: the epoch in the upper 12 bits, what was counted up to it in the lower 20.
pub type Cell = u32;

/// Where the two cells of a key are, in the first and in the second row, given its [`hash`](crate::presence::hash).
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "two independent halves of the hash are wanted")]
pub const fn cells(hash: u64) -> (u32, u32) {
    (hash as u32 & (SKETCH_CELLS - 1), (hash >> 32) as u32 & (SKETCH_CELLS - 1) | SKETCH_CELLS)
}

/// The cell after a packet of this weight at `now` (nanoseconds), and what that makes.
///
/// Half of what an epoch counted is carried into the next, so that whoever was busy in the last one is busy at once.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "twelve bits of the epoch are kept")]
pub const fn count(cell: Cell, now: u64, weight: u32) -> (Cell, u32) {
    let epoch = (now >> EPOCH_BITS) as u32 & 0xfff;
    let carried = match epoch.wrapping_sub(cell >> 20) & 0xfff {
        0 => cell & COUNT,
        1 => (cell & COUNT) >> 1,
        _ => 0,
    };
    let weight = if weight > COUNT { COUNT } else { weight };
    let counted = if carried + weight > COUNT { COUNT } else { carried + weight };
    (epoch << 20 | counted, counted)
}

/// What all packets together weigh after one of this weight at `now`, decaying as a cell does: the epoch in the upper 12
/// bits, what was counted in the lower 52.
#[inline(always)]
#[must_use]
pub const fn total(before: u64, now: u64, weight: u32) -> u64 {
    const TOTAL: u64 = (1 << 52) - 1;
    let epoch = now >> EPOCH_BITS & 0xfff;
    let carried = match epoch.wrapping_sub(before >> 52) & 0xfff {
        0 => before & TOTAL,
        1 => (before & TOTAL) >> 1,
        _ => 0,
    };
    epoch << 52 | carried.wrapping_add(weight as u64) & TOTAL
}

/// Whoever weighs so many thresholds is over the threshold in any flood. A threshold is at most an eighth of what a
/// source may send in a second.
pub const NOTICED: u32 = 8;

/// What a cell holds of everybody, given the total, as far as it is left out of what a source weighs.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is less than `most`, which has 32 bits")]
pub const fn noise(total: u64, threshold: u32) -> u32 {
    // The epoch's bits are shifted out.
    let mean = (total << 12 >> 12) / SKETCH_CELLS as u64;
    let (most, room) = (threshold.saturating_mul(NOTICED - 1), COUNT.saturating_sub(threshold));
    // A full cell says no more, whatever it would have counted to: it is over the threshold.
    let most = if most > room { room } else { most };
    if mean > most as u64 { most } else { mean as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{presence::hash, source::SourceKey};

    #[test]
    fn carries_half_into_the_next_epoch_and_nothing_further() {
        for (what, cell, epoch, weight, expect) in [
            ("first", 0, 7, 1, 1),
            ("again", 7 << 20 | 4, 7, 1, 5),
            ("heavier", 7 << 20 | 4, 7, 10, 14),
            ("next epoch", 7 << 20 | 100, 8, 1, 51),
            ("the one after", 7 << 20 | 100, 9, 1, 1),
            ("the number of the epoch starts over", 0xfff << 20 | 100, 0x1000, 1, 51),
            ("full", 7 << 20 | COUNT, 7, 1, COUNT),
            ("too heavy", 7 << 20 | 1, 7, u32::MAX, COUNT),
        ] {
            assert_eq!(count(cell, epoch << EPOCH_BITS, weight).1, expect, "{what}");
        }
    }

    extern crate std;

    #[test]
    fn a_flood_hides_nobody_and_accuses_nobody() {
        const WEIGHT: u32 = 101;
        const THRESHOLD: u32 = 2_500;
        let mut cells_of_all = std::vec![0; 2 * SKETCH_CELLS as usize];
        let (mut all, mut most, mut busy) = (0, 0, 0);
        for packet in 0..4_000_000_u32 {
            // Five million a second; every 20,000th is from one source, 250 a second.
            let now = (5 << EPOCH_BITS) + u64::from(packet) * 200;
            let is_busy = packet % 20_000 == 0;
            let (first, second) = cells(hash(SourceKey::ipv4(if is_busy { 7 } else { packet | 1 << 31 }), 99));
            all = total(all, now, WEIGHT);
            let counted = [first, second].map(|index| {
                let (next, counted) = count(cells_of_all[index as usize], now, WEIGHT);
                cells_of_all[index as usize] = next;
                counted
            });
            let own = counted[0].min(counted[1]).saturating_sub(noise(all, THRESHOLD));
            if is_busy {
                busy = own;
            } else if own >= THRESHOLD {
                most += 1;
            }
        }
        let noise = noise(all, THRESHOLD);
        assert!(noise > 5_000, "the cells are full: {noise}");
        assert!(busy > 10_000, "200 packets of the busy one: {busy}");
        assert!(most < 4_000, "quiet ones over the threshold: {most} of 4,000,000");
    }

    #[test]
    fn whoever_is_over_his_budget_is_noticed_whatever_the_others_send() {
        for threshold in [1, 2_500, 1 << 17, 1 << 18, 1 << 19] {
            let counted = u32::min(threshold * NOTICED, COUNT);
            for others in [0, 1 << 20, 1 << 30, 1 << 40, u64::MAX] {
                let own = counted.saturating_sub(noise(others, threshold));
                assert!(own >= threshold, "{own}, not {threshold}, among {others}");
            }
        }
        assert_eq!(noise(u64::MAX, u32::MAX), 0);
    }

    #[test]
    fn a_total_decays_as_a_cell_does() {
        let (mut cell, mut all) = (0, 0);
        for (epoch, weight) in [(7, 1_000), (7, 24), (8, 100), (9, 1), (11, 5), (0xfff, 4_000), (0x1000, 3)] {
            let now = epoch << EPOCH_BITS;
            let (next, counted) = count(cell, now, weight);
            (cell, all) = (next, total(all, now, weight));
            assert_eq!(all << 12 >> 12, u64::from(counted), "epoch {epoch}");
        }
    }

    #[test]
    fn rows_do_not_overlap() {
        for address in 0..10_000 {
            let (first, second) = cells(hash(SourceKey::ipv4(address), 0x1234_5678_9abc_def0));
            assert!(first < SKETCH_CELLS && (SKETCH_CELLS..2 * SKETCH_CELLS).contains(&second));
        }
    }
}
