//! Decides how busy a source is, approximately and cheaply: below a threshold nobody is worth a budget of his own.
//!
//! Two rows of cells, each CPU its own; a source has one cell in each, shared with others by chance. The lesser of the
//! two never counts too little, so a busy source is always noticed; a quiet one that shares both cells with busy ones
//! merely gets a budget, which it does not exceed. Cells decay by themselves each epoch.

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

    #[test]
    fn rows_do_not_overlap() {
        for address in 0..10_000 {
            let (first, second) = cells(hash(SourceKey::ipv4(address), 0x1234_5678_9abc_def0));
            assert!(first < SKETCH_CELLS && (SKETCH_CELLS..2 * SKETCH_CELLS).contains(&second));
        }
    }
}
