//! Whose fault it is that an upstream answers 401, 403, 404 or 5xx: the client's, or the upstream's own.
//!
//! An upstream that is broken answers so to everybody. A client counts as the cause only where others show that the
//! upstream works. For each route and for each upstream, the last answer to each of some sources is remembered that were
//! once served. Nothing counts against a source
//! - while nobody else is served by this upstream,
//! - while as many of the others on this route, or more, fail in the same way as do not,
//! - where the source was served on this route before, and nobody else is served there now.
//!
//! *Invariant:* memory is fixed, and nothing is locked. Sources that were never served take no room, so that they push
//! nobody out. Whoever shares a place by chance pushes another out: then less counts, never more.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::discounts::{Discount, Discounts, FRESH, UPSTREAMS, age, noted, seconds};
use crate::signal::Signal;

/// How many routes are told apart. More share a place.
pub(super) const ROUTES: usize = 256;

/// How many sources are remembered of each.
const SOURCES: usize = 64;

/// For how long a source is known to have been served, in seconds.
const KNOWN: u64 = 600;

/// A source that is served again and again is noted once in so many seconds.
const NOTED_EVERY: u64 = 4;

/// What an upstream answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum AnswerClass {
    Served = 1,
    Unauthorized = 2,
    Forbidden = 3,
    NotFound = 4,
    Error = 5,
}

impl AnswerClass {
    /// The signal of a failure.
    pub(super) const fn failure(self) -> Option<Signal> {
        match self {
            Self::Served => None,
            Self::Unauthorized => Some(Signal::UpstreamUnauthorized),
            Self::Forbidden => Some(Signal::UpstreamForbidden),
            Self::NotFound => Some(Signal::UpstreamNotFound),
            Self::Error => Some(Signal::UpstreamError),
        }
    }
}

/// How the last answers were.
pub(super) struct AnswerHistory {
    routes: Box<[AnswerRing]>,
    upstreams: Box<[AnswerRing]>,
    pub(super) discounts: Discounts,
}

/// Each place: 32 bits of a source's hash, 3 of the class, 29 of seconds; 0: nobody.
struct AnswerRing([AtomicU64; SOURCES]);

/// How others fare.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    /// Were served, or failed otherwise.
    fine: usize,
    /// Failed in the same way, and were served before.
    alike: usize,
    /// The source itself was served not long ago.
    knows_source: bool,
}

impl fmt::Debug for AnswerHistory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "AnswerHistory({} routes, {} upstreams)", self.routes.len(), self.upstreams.len())
    }
}

impl AnswerHistory {
    pub(super) fn new() -> Self {
        let rings = |count| (0..count).map(|_| AnswerRing(std::array::from_fn(|_| AtomicU64::new(0)))).collect();
        Self { routes: rings(ROUTES), upstreams: rings(UPSTREAMS), discounts: Discounts::new() }
    }

    /// Whether the source of this hash was served on a route not long ago.
    pub(super) fn knows(&self, route: usize, source: u64, now: u64) -> bool {
        let now = seconds(now);
        self.routes.get(route % ROUTES).is_some_and(|route| route.others(source, AnswerClass::Served, now).knows_source)
    }

    /// Notes an answer to the source of this hash; whether it counts against the source.
    pub(super) fn note(&self, route: usize, upstream: usize, source: u64, class: AnswerClass, now: u64) -> bool {
        let (ring, place) = (self.upstreams.get(upstream % UPSTREAMS), upstream);
        let (Some(route), Some(upstream)) = (self.routes.get(route % ROUTES), ring) else { return false };
        let now = seconds(now);
        if class == AnswerClass::Served {
            route.note(source, class, now);
            upstream.note(source, class, now);
            return false;
        }
        let (here, all) = (route.others(source, class, now), upstream.others(source, class, now));
        route.note(source, class, now);
        upstream.note(source, class, now);
        let discount = match () {
            () if here.alike > 0 && here.alike >= here.fine => Discount::RouteFails,
            () if all.fine == 0 && all.alike == 0 => Discount::NobodyServed,
            () if here.knows_source && here.fine == 0 => Discount::NobodyServedHere,
            () if all.alike >= all.fine => Discount::UpstreamFails,
            () => return true,
        };
        if let Some(signal) = class.failure() {
            self.discounts.note(place, source, signal, discount, now);
        }
        false
    }
}

impl AnswerRing {
    /// Notes an answer. Of one that is late, its time is not noted: another thread has noted a later one.
    fn note(&self, source: u64, class: AnswerClass, now: u64) {
        let Some(place) = usize::try_from(source).ok().and_then(|at| self.0.get(at % SOURCES)) else { return };
        let there = place.load(Ordering::Relaxed);
        let is_same = there != 0 && there >> 32 == source >> 32;
        if !is_same && class != AnswerClass::Served {
            return;
        }
        let is_as_before = is_same && (there >> 29) & 7 == class as u64;
        let age = age(noted(there), now);
        let now = if is_same && age == 0 { noted(there) } else { now };
        if !is_as_before || age >= NOTED_EVERY {
            place.store(source >> 32 << 32 | (class as u64) << 29 | now, Ordering::Relaxed);
        }
    }

    fn others(&self, source: u64, class: AnswerClass, now: u64) -> Others {
        let mut others = Others::default();
        for place in &self.0 {
            let there = place.load(Ordering::Relaxed);
            let age = age(noted(there), now);
            if there == 0 || age > KNOWN {
                continue;
            }
            if there >> 32 == source >> 32 {
                others.knows_source = true;
            } else if age <= FRESH && (there >> 29) & 7 == class as u64 {
                others.alike += 1;
            } else if age <= FRESH {
                others.fine += 1;
            }
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::SECOND;

    const START: u64 = 10_000 * SECOND;

    /// A source's hash: its place, and what tells it apart.
    const fn source(number: u64) -> u64 {
        (number + 1) << 32 | number
    }

    /// Each step: on which route which sources are answered how, how many seconds later; what counts of the last source.
    #[track_caller]
    fn check(what: &str, steps: &[(usize, std::ops::Range<u64>, AnswerClass, u64)], expect: bool) {
        let standing = AnswerHistory::new();
        let (mut now, mut counts) = (START, false);
        for (route, sources, class, after) in steps {
            now += after * SECOND;
            for number in sources.clone() {
                counts = standing.note(*route, 0, source(number), *class, now);
            }
        }
        assert_eq!(counts, expect, "{what}");
    }

    #[test]
    fn whose_fault_it_is() {
        use AnswerClass as C;
        check("a stranger beside good clients", &[(0, 0..5, C::Served, 0), (0, 9..10, C::Unauthorized, 1)], true);
        check("nobody else", &[(0, 9..10, C::Unauthorized, 1)], false);
        check("it alone was ever served", &[(0, 9..10, C::Served, 0), (0, 9..10, C::NotFound, 1)], false);
        check("many strangers, and nobody was ever served", &[(0, 0..60, C::Unauthorized, 0)], false);
        check(
            "many strangers push nobody out",
            &[(0, 0..3, C::Served, 0), (0, 4..60, C::Unauthorized, 0), (0, 60..61, C::Unauthorized, 1)],
            true,
        );
        check(
            "the upstream answers 500 to all",
            &[(0, 0..20, C::Served, 0), (0, 0..20, C::Error, 1), (0, 3..4, C::Error, 1)],
            false,
        );
        check(
            "so a stranger's failures do not count either",
            &[(0, 0..20, C::Served, 0), (0, 0..20, C::Error, 1), (0, 30..31, C::Error, 1)],
            false,
        );
        check(
            "one route is broken, others are not",
            &[(0, 0..4, C::Served, 0), (1, 4..20, C::Served, 0), (0, 0..4, C::NotFound, 1), (0, 0..1, C::NotFound, 1)],
            false,
        );
        check(
            "one route with one client is broken",
            &[(0, 0..1, C::Served, 0), (1, 4..20, C::Served, 0), (0, 0..1, C::NotFound, 1)],
            false,
        );
        check(
            "one of many clients fails, on a route that works",
            &[(0, 0..4, C::Served, 0), (0, 3..4, C::NotFound, 1)],
            true,
        );
        check("what was served long ago says nothing", &[(0, 0..4, C::Served, 0), (0, 9..10, C::NotFound, 61)], false);
    }

    /// Threads read the clock before they note: what others were answered may be later than what is judged.
    #[test]
    fn answers_that_are_noted_out_of_order() {
        let later = START + 9 * SECOND;
        let note = |standing: &AnswerHistory, sources: std::ops::Range<u64>, class, now| {
            sources.fold(false, |_, number| standing.note(0, 0, source(number), class, now))
        };
        let standing = AnswerHistory::new();
        note(&standing, 0..20, AnswerClass::Served, START);
        note(&standing, 0..17, AnswerClass::Error, later);
        assert!(!note(&standing, 30..31, AnswerClass::Error, START), "most others fail alike, a moment later");
        // A late answer makes nobody's last answer older.
        let standing = AnswerHistory::new();
        note(&standing, 0..20, AnswerClass::Served, later);
        note(&standing, 0..20, AnswerClass::Error, START);
        note(&standing, 40..43, AnswerClass::Served, START + 64 * SECOND);
        assert!(!note(&standing, 30..31, AnswerClass::Error, START + 65 * SECOND), "most have failed within a minute");
    }
}
