//! How many requests of each source were served lately, before anything counts against it: a rule with a `share` asks.
//!
//! *Invariant:* memory is fixed, and nothing is locked. Counts of two sources at one place are never added: the source that
//! asks more often keeps the place, and nothing is known of the other.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::os::clock::SECOND;

const PLACES: usize = 8_192;

/// Counts are kept of the present half minute, and of the one before.
const HALF: u64 = 30;

const MOST: u64 = 0xffff;

/// Each place: 16 bits each of a source's hash, of half minutes, of requests in the half minute before, and in the present one.
#[derive(Debug)]
pub(super) struct ServedLately(Box<[AtomicU64]>);

impl Default for ServedLately {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

/// What a place says.
#[derive(Clone, Copy)]
struct Count {
    tag: u64,
    half: u64,
    before: u64,
    present: u64,
}

impl Count {
    const fn of(place: u64) -> Self {
        Self { tag: place >> 48, half: place >> 32 & MOST, before: place >> 16 & MOST, present: place & MOST }
    }

    const fn place(self) -> u64 {
        self.tag << 48 | self.half << 32 | self.before << 16 | self.present
    }

    /// The same at another half minute. A request is noted a moment late by another thread, so one half minute back is now.
    const fn at(self, half: u64) -> Self {
        match half.wrapping_sub(self.half) & MOST {
            0 | MOST => self,
            1 => Self { half, before: self.present, present: 0, ..self },
            _ => Self { half, before: 0, present: 0, ..self },
        }
    }
}

const fn half(now: u64) -> u64 {
    (now / (HALF * SECOND)) & MOST
}

impl ServedLately {
    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        usize::try_from(hash).ok().and_then(|at| self.0.get(at % PLACES))
    }

    /// A request of the source of this hash was served. Of two threads at the same moment, one may not be counted.
    pub(super) fn note(&self, hash: u64, now: u64) {
        let Some(place) = self.place(hash) else { return };
        let before = place.load(Ordering::Relaxed);
        let there = Count::of(before).at(half(now));
        let count = if there.tag == hash >> 48 {
            Count { present: there.present.saturating_add(1).min(MOST), ..there }
        } else if there.present > 0 {
            Count { present: there.present - 1, ..there }
        } else if there.before > 0 {
            Count { before: there.before - 1, ..there }
        } else {
            Count { tag: hash >> 48, present: 1, ..there }
        };
        // A full count stays as it is: the cores that serve this source need not hand its place to each other.
        if count.place() != before {
            place.store(count.place(), Ordering::Relaxed);
        }
    }

    /// How many requests of the source of this hash were served in the last `within`, of which a minute is known.
    pub(super) fn count(&self, hash: u64, within: Duration, now: u64) -> u32 {
        let Some(place) = self.place(hash) else { return 0 };
        let count = Count::of(place.load(Ordering::Relaxed)).at(half(now));
        if count.tag != hash >> 48 {
            return 0;
        }
        let seconds = within.as_secs().clamp(1, 2 * HALF);
        u32::try_from((count.present + count.before) * seconds / (2 * HALF)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 10_020 * SECOND;
    const MINUTE: Duration = Duration::from_secs(60);

    /// A source's hash: what tells it apart, and its place.
    const fn source(number: u64, place: u64) -> u64 {
        number << 48 | place
    }

    /// Each step: who is served how often, and how many seconds after the start; how many of the first are known at the end.
    #[track_caller]
    fn check(what: &str, steps: &[(u64, u32, u64)], within: Duration, at: u64, expect: u32) {
        let served = ServedLately::default();
        for (hash, times, second) in steps {
            for _ in 0..*times {
                served.note(*hash, START + second * SECOND);
            }
        }
        assert_eq!(served.count(steps[0].0, within, START + at * SECOND), expect, "{what}");
    }

    #[test]
    fn what_was_served_lately() {
        let (one, other) = (source(1, 7), source(2, 7));
        check("now", &[(one, 40, 0)], MINUTE, 0, 40);
        check("in the half minute before", &[(one, 40, 0), (one, 2, 31)], MINUTE, 31, 42);
        check("long ago", &[(one, 40, 0)], MINUTE, 61, 0);
        check("a rule that looks back less", &[(one, 60, 0)], Duration::from_secs(10), 0, 10);
        check("a rule that looks back more", &[(one, 60, 0)], MINUTE * 10, 0, 60);
        check("never more than there is room for", &[(one, 70_000, 0)], MINUTE, 0, 65_535);
        check("a moment late", &[(one, 1, 31), (one, 1, 29)], MINUTE, 31, 2);
        check("another at the same place is not added", &[(one, 40, 0), (other, 10, 0)], MINUTE, 0, 30);
        check("whoever asks most stays", &[(one, 10, 0), (other, 40, 0)], MINUTE, 0, 0);
    }
}
