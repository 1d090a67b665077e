//! Failures of upstreams that count against nobody, and why: an operator would wonder why nobody is banned for them.
//!
//! *Invariant:* memory is fixed, and nothing is locked. Of each source the last kind of failure is known, for a minute. Counts
//! are about right: of two threads at the same moment, one may not be counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::{os::clock::SECOND, signal::Signal};

/// What upstreams' failures are called.
pub(super) const UPSTREAMS_FAIL: [Signal; 4] =
    [Signal::UpstreamError, Signal::UpstreamForbidden, Signal::UpstreamNotFound, Signal::UpstreamUnauthorized];

/// The most kinds of failures that are told of one upstream.
pub const MAX_DISCOUNTED: usize = UPSTREAMS_FAIL.len();

/// How many upstreams are told apart. More share a place.
pub(super) const UPSTREAMS: usize = 32;

/// For how long an answer says how things are, in seconds.
pub(super) const FRESH: u64 = 60;

/// What seconds are told apart by.
const SECONDS: u64 = (1 << 29) - 1;

/// How many sources are remembered.
const PLACES: usize = 2_048;

/// The largest count that has room.
const MOST: u64 = 0xffff;

/// `CLOCK_MONOTONIC` in nanoseconds as the seconds that are noted.
pub(super) const fn seconds(now: u64) -> u64 {
    (now / SECOND) & SECONDS
}

/// How long ago something was noted, in seconds. What another thread has noted a moment after `now` is new.
pub(super) const fn age(noted: u64, now: u64) -> u64 {
    let age = now.wrapping_sub(noted) & SECONDS;
    if age > SECONDS / 2 { 0 } else { age }
}

/// The seconds of a place that has them in its last bits.
pub(super) const fn noted(place: u64) -> u64 {
    place & SECONDS
}

/// Why a failure of an upstream counts against nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discount {
    /// Nobody else was served by this upstream within a minute.
    NobodyServed,
    /// Nobody else was served on this route, where the source was served before.
    NobodyServedHere,
    /// Half of the others on this route fail alike.
    RouteFails,
    /// Half of the others of this upstream fail alike.
    UpstreamFails,
}

impl Discount {
    const ALL: [Self; 4] = [Self::NobodyServed, Self::NobodyServedHere, Self::RouteFails, Self::UpstreamFails];

    /// For people.
    #[must_use]
    pub const fn because(self) -> &'static str {
        match self {
            Self::NobodyServed => "the upstream has served nobody else within a minute",
            Self::NobodyServedHere => "nobody else was served on the route within a minute",
            Self::RouteFails => "half or more of the other clients on the route fail alike",
            Self::UpstreamFails => "half or more of the other clients of the upstream fail alike",
        }
    }
}

/// Failures of one kind that count against nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discounted {
    /// What they would be.
    pub signal: Signal,
    /// How many there were, without a minute's pause: 65,535 or more are told as that.
    pub count: u64,
    /// Why the last of them does not count.
    pub why: Discount,
}

impl Discounted {
    /// For people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { signal, count, why } = self;
        format!("{count} × {} counts against nobody: {}", signal.name(), why.because())
    }
}

/// Failures that count against nobody.
#[derive(Debug)]
pub(super) struct Discounts {
    /// Of each upstream, by kind.
    upstreams: Box<[[AtomicU64; MAX_DISCOUNTED]]>,
    sources: Box<[AtomicU64]>,
}

/// A place: 15 bits of a source's hash, 2 of the kind, 2 of the reason, 29 of seconds, 16 of the count; 0: nothing.
#[derive(Clone, Copy)]
struct Note {
    who: u64,
    kind: u64,
    why: u64,
    seconds: u64,
    count: u64,
}

impl Note {
    const fn of(place: u64) -> Self {
        Self {
            who: place >> 49,
            kind: place >> 47 & 3,
            why: place >> 45 & 3,
            seconds: place >> 16 & SECONDS,
            count: place & MOST,
        }
    }

    const fn place(self) -> u64 {
        self.who << 49 | self.kind << 47 | self.why << 45 | self.seconds << 16 | self.count
    }

    /// What is told of it, while it is of the last minute.
    fn told(self, now: u64) -> Option<Discounted> {
        let of = |place: u64| usize::try_from(place).ok();
        let is_recent = self.count > 0 && age(self.seconds, now) <= FRESH;
        let (signal, why) = (UPSTREAMS_FAIL.get(of(self.kind)?)?, Discount::ALL.get(of(self.why)?)?);
        is_recent.then_some(Discounted { signal: *signal, count: self.count, why: *why })
    }
}

impl Discounts {
    pub(super) fn new() -> Self {
        Self {
            upstreams: (0..UPSTREAMS).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
            sources: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn source(&self, hash: u64) -> Option<&AtomicU64> {
        usize::try_from(hash).ok().and_then(|at| self.sources.get(at % PLACES))
    }

    /// A failure of an upstream to the source of this hash counts against nobody. `now`: seconds.
    pub(super) fn note(&self, upstream: usize, source: u64, signal: Signal, why: Discount, now: u64) {
        let Some(kind) = UPSTREAMS_FAIL.iter().position(|fails| *fails == signal) else { return };
        let of_upstream = self.upstreams.get(upstream % UPSTREAMS).and_then(|kinds| kinds.get(kind));
        let (kind, why) = (u64::try_from(kind).unwrap_or(0), why as u64);
        let note = |place: &AtomicU64, who: u64| {
            let there = Note::of(place.load(Ordering::Relaxed));
            let goes_on = (there.who, there.kind) == (who, kind) && age(there.seconds, now) <= FRESH;
            let count = if goes_on { there.count.saturating_add(1).min(MOST) } else { 1 };
            place.store(Note { who, kind, why, seconds: now, count }.place(), Ordering::Relaxed);
        };
        if let Some(place) = of_upstream {
            note(place, 0);
        }
        if let Some(place) = self.source(source) {
            note(place, source >> 49);
        }
    }

    pub(super) fn of_upstream(&self, upstream: usize, now: u64) -> impl Iterator<Item = Discounted> {
        let kinds = self.upstreams.get(upstream % UPSTREAMS).into_iter().flatten();
        kinds.filter_map(move |place| Note::of(place.load(Ordering::Relaxed)).told(now))
    }

    pub(super) fn of_source(&self, hash: u64, now: u64) -> Option<Discounted> {
        let note = Note::of(self.source(hash)?.load(Ordering::Relaxed));
        note.told(now).filter(|_| note.who == hash >> 49)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 10_000;

    #[test]
    fn what_counts_against_nobody_is_counted_for_a_minute() {
        let discounts = Discounts::new();
        let (missing, error) = (Signal::UpstreamNotFound, Signal::UpstreamError);
        let source = |number: u64| number << 49 | number;
        for (from, signal, why, at) in [
            (1, missing, Discount::NobodyServed, 0),
            (2, missing, Discount::NobodyServed, 5),
            (1, missing, Discount::RouteFails, 10),
            (1, error, Discount::UpstreamFails, 20),
            (2, missing, Discount::NobodyServed, 70),
        ] {
            discounts.note(3, source(from), signal, why, NOW + at);
        }
        let told = |signal, count, why| Discounted { signal, count, why };
        for (at, expect) in [
            (70, vec![told(error, 1, Discount::UpstreamFails), told(missing, 4, Discount::NobodyServed)]),
            (90, vec![told(missing, 4, Discount::NobodyServed)]),
            (131, vec![]),
        ] {
            assert_eq!(discounts.of_upstream(3, NOW + at).collect::<Vec<_>>(), expect, "after {at} s");
        }
        assert_eq!(discounts.of_upstream(4, NOW).count(), 0, "another upstream");
        for (from, at, expect) in [
            (1, 70, Some(told(error, 1, Discount::UpstreamFails))),
            (1, 90, None),
            (2, 90, Some(told(missing, 1, Discount::NobodyServed))),
            (3, 70, None),
        ] {
            assert_eq!(discounts.of_source(source(from), NOW + at), expect, "source {from} after {at} s");
        }
        (0..70_000).for_each(|_| discounts.note(5, source(9), error, Discount::NobodyServed, NOW));
        assert_eq!(discounts.of_source(source(9), NOW), Some(told(error, MOST, Discount::NobodyServed)));
    }

    #[test]
    fn every_reason_has_its_place() {
        for (place, why) in Discount::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place, "{why:?}");
            let told = Discounted { signal: Signal::UpstreamNotFound, count: 7, why }.sentence();
            assert!(told.starts_with("7 × upstream_not_found counts against nobody: "), "{told}");
        }
    }
}
