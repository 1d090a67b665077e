//! Which sources have a bucket where what is served counts, too: of all others, nothing is looked up.
//!
//! *Invariant:* memory is fixed, and nothing is locked. A source that shares a place with another may be looked up in vain.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::os::clock::SECOND;

const PLACES: usize = 4_096;

/// Until when each place is suspect, in seconds of `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub(super) struct Suspects(Box<[AtomicU32]>);

impl Default for Suspects {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU32::new(0)).collect())
    }
}

fn seconds(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds / SECOND).unwrap_or(u32::MAX)
}

impl Suspects {
    fn place(&self, hash: u64) -> Option<&AtomicU32> {
        usize::try_from(hash).ok().and_then(|at| self.0.get(at % PLACES))
    }

    /// The source of this hash has signalled to a rule that looks back `within`.
    pub(super) fn note(&self, hash: u64, within: Duration, now: u64) {
        let until = seconds(now).saturating_add(u32::try_from(within.as_secs()).unwrap_or(u32::MAX)).saturating_add(1);
        if let Some(place) = self.place(hash)
            && place.load(Ordering::Relaxed) < until
        {
            place.fetch_max(until, Ordering::Relaxed);
        }
    }

    pub(super) fn has(&self, hash: u64, now: u64) -> bool {
        self.place(hash).is_some_and(|place| place.load(Ordering::Relaxed) >= seconds(now).max(1))
    }
}
