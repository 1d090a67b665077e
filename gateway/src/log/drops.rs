//! Why lines of the access log never got to where they were to go, and how many.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why lines are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// There is no space on the disk.
    DiskFull,
    /// A line is larger than a datagram may be.
    TooLong,
    /// The output takes lines more slowly than they come.
    TooSlow,
    /// The server of the output cannot be reached.
    Unreachable,
    /// The file cannot be written to.
    Unwritable,
}

impl DropReason {
    /// All of them, each at its place.
    pub const ALL: [Self; 5] = [Self::DiskFull, Self::TooLong, Self::TooSlow, Self::Unreachable, Self::Unwritable];

    /// Its name in status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::TooLong => "too_long",
            Self::TooSlow => "too_slow",
            Self::Unreachable => "unreachable",
            Self::Unwritable => "unwritable",
        }
    }
}

/// Lines that were dropped, and why.
pub(super) type Dropped = Option<(DropReason, u64)>;

/// How many lines were dropped, in the order of [`DropReason::ALL`].
pub type DropCounts = [u64; DropReason::ALL.len()];

/// Counts dropped lines, over all threads.
#[derive(Debug, Default)]
pub(super) struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Drops {
    /// So many lines were dropped.
    pub(super) fn add(&self, reason: DropReason, lines: u64) {
        if let Some(count) = self.0.get(reason as usize) {
            count.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub(super) fn counts(&self) -> DropCounts {
        let mut counts = DropCounts::default();
        for (count, sum) in counts.iter_mut().zip(&self.0) {
            *count = sum.load(Ordering::Relaxed);
        }
        counts
    }
}

/// How many lines a block has.
pub(super) fn lines(block: &[u8]) -> u64 {
    u64::try_from(memchr::memchr_iter(b'\n', block).count()).unwrap_or(u64::MAX)
}
