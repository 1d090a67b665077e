//! Decides how busy a source is, approximately and cheaply: below a threshold nobody is worth a budget of his own.
//!
//! Two rows of cells, each CPU its own; a source has one cell in each, shared with others by chance. The lesser of the
//! two never counts too little, so a busy source is always noticed; a quiet one that shares both cells with busy ones
//! merely gets a budget, which it does not exceed. Cells start over by themselves each epoch.

use crate::{maps::SKETCH_CELLS, presence::hash, source::SourceKey};

const COUNT: u32 = 0x000f_ffff;

/// An epoch lasts 2^30 nanoseconds.
const EPOCH_BITS: u32 = 30;

/// A cell: the epoch in the upper 12 bits, the packets counted in it in the lower 20.
pub type Cell = u32;

/// Where the two cells of `key` are, in the first and in the second row. `seed` is secret, so nobody can aim.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "two independent halves of the hash are wanted")]
pub const fn cells(key: SourceKey, seed: u64) -> (u32, u32) {
    let hash = hash(key, seed);
    (hash as u32 & (SKETCH_CELLS - 1), (hash >> 32) as u32 & (SKETCH_CELLS - 1) | SKETCH_CELLS)
}

/// The cell after one more packet at `now` (nanoseconds), and how many packets that makes in this epoch.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "twelve bits of the epoch are kept")]
pub const fn count(cell: Cell, now: u64) -> (Cell, u32) {
    let epoch = (now >> EPOCH_BITS) as u32 & 0xfff;
    let counted = if cell >> 20 == epoch { cell & COUNT } else { 0 };
    let counted = if counted == COUNT { COUNT } else { counted + 1 };
    (epoch << 20 | counted, counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_within_an_epoch_and_starts_over() {
        let mut cell = 0;
        for expect in 1..=5 {
            let counted;
            (cell, counted) = count(cell, 7 << EPOCH_BITS);
            assert_eq!(counted, expect);
        }
        assert_eq!(count(cell, 8 << EPOCH_BITS).1, 1);
        assert_eq!(count(7 << 20 | COUNT, 7 << EPOCH_BITS).1, COUNT);
    }

    #[test]
    fn rows_do_not_overlap() {
        for address in 0..10_000 {
            let (first, second) = cells(SourceKey::ipv4(address), 0x1234_5678_9abc_def0);
            assert!(first < SKETCH_CELLS && (SKETCH_CELLS..2 * SKETCH_CELLS).contains(&second));
        }
    }
}
