//! Decides how busy a source is, approximately and cheaply: below a threshold nobody is worth a budget of his own.
//!
//! Two rows of cells, each CPU its own; a source has one cell in each, shared with others by chance. The lesser of the
//! two never counts too little, so a busy source is always noticed; a quiet one that shares both cells with busy ones
//! merely gets a budget, which it does not exceed. Cells decay by themselves each epoch.
//!
//! In a flood from sources without number every cell is full of what they sent. What a cell holds on average, by the
//! weight of all packets together, is nobody's own and is not counted as anybody's.

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

/// What a cell holds of everybody, given the total.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "of more than that a cell holds no more than its most")]
pub const fn noise(total: u64) -> u32 {
    // The epoch's bits are shifted out.
    let mean = (total << 12 >> 12) / SKETCH_CELLS as u64;
    if mean > COUNT as u64 { COUNT } else { mean as u32 }
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
            let own = counted[0].min(counted[1]).saturating_sub(noise(all));
            if is_busy {
                busy = own;
            } else if own > 2_500 {
                most += 1;
            }
        }
        assert!(noise(all) > 5_000, "the cells are full: {}", noise(all));
        assert!(busy > 10_000, "200 packets of the busy one: {busy}");
        assert!(most < 4_000, "quiet ones over the threshold: {most} of 4,000,000");
    }

    #[test]
    fn rows_do_not_overlap() {
        for address in 0..10_000 {
            let (first, second) = cells(hash(SourceKey::ipv4(address), 0x1234_5678_9abc_def0));
            assert!(first < SKETCH_CELLS && (SKETCH_CELLS..2 * SKETCH_CELLS).contains(&second));
        }
    }
}
