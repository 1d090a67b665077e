//! Notices that a principal comes from a source, with a program or by a TLS fingerprint that it never came with: what a
//! stolen token looks like, and what a new laptop looks like.
//!
//! *Invariant:* memory is bounded: so many principals, and a few hashes of each. Nothing is kept where no rule names the
//! signal, and nothing that is kept can be read back. Everything of a principal is usual until it is known for a while. What
//! a principal changes all the time, as a program on many machines does its source, is no news.

use std::hash::{BuildHasher as _, RandomState};

use crate::collections::bounded::Sharded;

/// How many values of each kind are remembered of a principal, the last that were new.
const REMEMBERED: usize = 8;

/// What is looked at of a request. What is `None` is not known, and never unusual.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObservedValues<'a> {
    /// Where it comes from, as text.
    pub source: Option<&'a str>,
    /// Its `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// The fingerprint of its TLS hello.
    pub ja4: Option<&'a str>,
}

/// What principals come with.
#[derive(Debug)]
pub(super) struct Novelty {
    known: Sharded<u64, Habits>,
    seed: RandomState,
}

/// What one principal comes with.
#[derive(Debug)]
struct Habits {
    /// When it came first, and last: `CLOCK_MONOTONIC`, nanoseconds.
    since: u64,
    used: u64,
    kinds: [ValueRing; 3],
}

/// The last values of a kind that were new, as hashes; 0: none.
#[derive(Clone, Copy, Debug, Default)]
struct ValueRing {
    values: [u32; REMEMBERED],
    next: u8,
    /// When all of them began to be replaced, and how long that took the last time; 0: it was not done yet.
    began: u64,
    took: u64,
}

impl ValueRing {
    /// Remembers a value; whether it is new. Nothing is, where all that is remembered was replaced within `after`
    /// nanoseconds, and goes on being replaced: what comes again and again is forgotten in between.
    fn learn(&mut self, value: u32, after: u64, now: u64) -> bool {
        if self.values.contains(&value) {
            return false;
        }
        let place = usize::from(self.next) % REMEMBERED;
        if place == 0 {
            let is_first = self.values.contains(&0);
            (self.took, self.began) = (if is_first { 0 } else { now.saturating_sub(self.began).max(1) }, now);
        }
        if let Some(place) = self.values.get_mut(place) {
            *place = value;
        }
        self.next = self.next.wrapping_add(1);
        self.took == 0 || self.took.max(now.saturating_sub(self.began)) >= after
    }
}

impl Novelty {
    pub(super) fn new(capacity: usize) -> Self {
        Self { known: Sharded::new(capacity), seed: RandomState::new() }
    }

    /// Learns what `principal` comes with at `now`; what of it is new, of a principal that is known for `after`
    /// nanoseconds. It is so once: from then on it is usual.
    pub(super) fn note(
        &self,
        principal: &str,
        seen: &ObservedValues<'_>,
        after: u64,
        now: u64,
    ) -> Option<&'static str> {
        let key = self.seed.hash_one(principal);
        let hash = |value: &[u8]| u32::try_from(self.seed.hash_one(value) >> 32).unwrap_or(0).max(1);
        let values = [seen.source.map(str::as_bytes), seen.agent, seen.ja4.map(str::as_bytes)];
        let values = values.map(|value| value.map(hash));
        let mut known = self.known.lock(&key);
        let Some(habits) = known.find(&key) else {
            let mut habits = Habits { since: now, used: now, kinds: [ValueRing::default(); 3] };
            habits.learn(values, after, now);
            known.put(key, habits, |_, habits| habits.used);
            return None;
        };
        habits.used = now;
        let is_known = now.saturating_sub(habits.since) >= after;
        let new = habits.learn(values, after, now);
        named(new).filter(|_| is_known)
    }
}

impl Habits {
    /// Which of the values are new.
    fn learn(&mut self, values: [Option<u32>; 3], after: u64, now: u64) -> [bool; 3] {
        let mut new = [false; 3];
        for ((ring, value), new) in self.kinds.iter_mut().zip(values).zip(&mut new) {
            *new = value.is_some_and(|value| ring.learn(value, after, now));
        }
        new
    }
}

/// What is new, for the log.
const fn named(new: [bool; 3]) -> Option<&'static str> {
    Some(match new {
        [false, false, false] => return None,
        [true, false, false] => "its principal never came from there",
        [false, true, false] => "its principal never came with this User-Agent",
        [false, false, true] => "its principal never came with this JA4",
        [true, true, false] => "its principal never came from there, nor with this User-Agent",
        [true, false, true] => "its principal never came from there, nor with this JA4",
        [false, true, true] => "its principal never came with this User-Agent, nor with this JA4",
        [true, true, true] => "its principal never came from there, nor with this User-Agent, nor with this JA4",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000_000;

    fn seen<'a>(source: &'a str, agent: &'a str) -> ObservedValues<'a> {
        ObservedValues { source: Some(source), agent: Some(agent.as_bytes()), ja4: None }
    }

    #[test]
    fn what_a_principal_never_came_with() {
        let novelty = Novelty::new(1_000);
        let note = |who, source, agent, now| novelty.note(who, &seen(source, agent), DAY, now);
        // Everything is usual at first.
        assert_eq!(note("ada", "192.0.2.1", "curl/8", 0), None);
        assert_eq!(note("ada", "192.0.2.2", "curl/8", DAY - 1), None);
        for (source, agent, expect) in [
            ("192.0.2.2", "curl/8", None),
            ("192.0.2.3", "curl/8", Some("its principal never came from there")),
            ("192.0.2.3", "curl/8", None),
            ("192.0.2.1", "python", Some("its principal never came with this User-Agent")),
            ("192.0.2.9", "go", Some("its principal never came from there, nor with this User-Agent")),
            ("192.0.2.9", "go", None),
        ] {
            assert_eq!(note("ada", source, agent, DAY), expect, "{source} {agent}");
        }
        // What is not known is never unusual, and another principal is another.
        assert_eq!(novelty.note("ada", &ObservedValues::default(), DAY, DAY), None);
        assert_eq!(note("bob", "192.0.2.3", "curl/8", DAY), None);
    }

    /// A principal is known for two days. Then it comes from so many sources in turn, each once in so many minutes: how often
    /// that is unusual in a week.
    #[test]
    fn who_changes_all_the_time_is_not_unusual() {
        const MINUTE: u64 = DAY / 1_440;
        for (sources, minutes, expect) in
            [(1_u64, 5, 1), (8, 5, 8), (9, 5, 15), (20, 5, 15), (1_000, 5, 15), (9, 300, 33)]
        {
            let novelty = Novelty::new(1_000);
            for day in 0..2 {
                assert_eq!(novelty.note("job", &seen("home", "go"), DAY, day * DAY), None);
            }
            let mut unusual = 0;
            for number in 0..7 * DAY / (minutes * MINUTE) {
                let source = (number % sources).to_string();
                let found = novelty.note("job", &seen(&source, "go"), DAY, 2 * DAY + number * minutes * MINUTE);
                unusual += usize::from(found.is_some());
            }
            assert_eq!(unusual, expect, "{sources} sources, each {minutes} minutes");
            // What else it comes with is news, and so is a source once it has kept to its sources for a while.
            assert!(novelty.note("job", &seen("home", "curl"), DAY, 9 * DAY).is_some(), "{sources}");
            assert!(novelty.note("job", &seen("elsewhere", "curl"), DAY, 11 * DAY).is_some(), "{sources}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let novelty = Novelty::new(256);
        for number in 0..10_000_u64 {
            let source = number.to_string();
            assert_eq!(novelty.note(&source, &seen(&source, "a"), DAY, number), None);
        }
        assert!(novelty.known.len() <= 256);
        // Whoever roams is known by the last places: the first is new again.
        let places: Vec<String> = (0..=REMEMBERED).map(|number| number.to_string()).collect();
        for place in &places {
            novelty.note("ada", &seen(place, "a"), 0, DAY);
        }
        assert!(novelty.note("ada", &seen(&places[0], "a"), 0, DAY).is_some());
        assert!(novelty.note("ada", &seen(&places[REMEMBERED], "a"), 0, DAY).is_none());
    }
}
