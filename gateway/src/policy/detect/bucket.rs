//! What one rule holds against one source, or about one principal: the requests that count, oldest first.
//!
//! *Invariant:* a bucket holds at most [`MAX_EVIDENCE`] requests of 32 bytes that count, and one that came before them.

use std::collections::VecDeque;

use super::faults::{Common, Place};
use crate::{
    settings::detect::{MAX_EVIDENCE, Rule},
    signal::Signal,
    web::request_id::RequestId,
};

#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    held: VecDeque<CountedRequest>,
    /// How many requests of the source counted since the bucket is not empty, and how many were served since then and
    /// shortly before. Only where a rule asks what share of them counts.
    counted: Requests,
    served: Requests,
}

/// One request in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedRequest {
    /// When it came.
    pub(super) noted: u64,
    pub(super) id: RequestId,
    /// At most [`MAX_EVIDENCE`].
    pub(super) weight: u8,
    /// The hash of what must differ, where something must.
    pub(super) what: u32,
    /// Where an upstream failed.
    pub(super) place: Place,
    /// It counts nothing itself: others count after it.
    pub(super) is_before: bool,
}

const _: () = assert!(size_of::<CountedRequest>() == 32);

/// How full a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// It asks for nothing.
    Below,
    /// It asks for a ban. The source has signalled before since it is about this principal.
    Full { comes_again: bool },
}

/// Requests in the present half of `within`, and in the half before.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    half: u64,
    counts: [u32; 2],
}

impl Requests {
    fn begin(rule: &Rule, now: u64, count: u32) -> Self {
        Self { half: now / Self::length(rule), counts: [count, 0] }
    }

    fn add(&mut self, rule: &Rule, now: u64) {
        let half = now / Self::length(rule);
        let [present, before] = self.counts;
        self.counts = match half.saturating_sub(self.half) {
            0 => [present.saturating_add(1), before],
            1 => [1, present],
            _ => [1, 0],
        };
        self.half = half.max(self.half);
    }

    /// How many of them in the last `within`, or somewhat less.
    fn sum(&self, rule: &Rule, now: u64) -> u64 {
        let [present, before] = self.counts.map(u64::from);
        match (now / Self::length(rule)).saturating_sub(self.half) {
            0 => present + before,
            1 => present,
            _ => 0,
        }
    }

    fn length(rule: &Rule) -> u64 {
        u64::try_from(rule.within.as_nanos() / 2).unwrap_or(u64::MAX).max(1)
    }
}

impl Rule {
    /// How many signals ask for a ban: never none, and never more than a ban can name.
    pub(super) fn overflows_at(&self) -> usize {
        usize::try_from(self.count).unwrap_or(MAX_EVIDENCE).clamp(1, MAX_EVIDENCE)
    }

    /// Whether it counts guesses at credentials alone. Everybody can have public pages served in between.
    pub(super) fn counts_guesses(&self) -> bool {
        self.signals.iter().all(|signal| {
            matches!(signal, Signal::ForgedToken | Signal::MalformedToken | Signal::UnknownKey | Signal::WrongPassword)
        })
    }

    /// Whether a signal of the time `noted` has leaked out.
    fn leaked(&self, noted: u64, now: u64) -> bool {
        u128::from(now.saturating_sub(noted)) > self.within.as_nanos()
    }
}

impl Bucket {
    /// A bucket with one request in it.
    pub(super) fn of(held: CountedRequest) -> Self {
        Self { held: VecDeque::from([held]), ..Self::default() }
    }

    /// What has been in it for too long leaks out.
    pub(super) fn leak(&mut self, rule: &Rule, now: u64) {
        let before = self.held.len();
        while self.held.front().is_some_and(|held| rule.leaked(held.noted, now)) {
            self.held.pop_front();
        }
        if before > 0 && self.held.is_empty() {
            (self.counted, self.served) = (Requests::default(), Requests::default());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn weight(&self) -> usize {
        self.held.iter().map(|held| usize::from(held.weight)).sum()
    }

    /// The requests in it, oldest first.
    pub(super) fn evidence(&self) -> Vec<RequestId> {
        self.held.iter().map(|held| held.id).collect()
    }

    /// What all that counts in it has in common; `None`: nothing.
    pub(super) fn common(&self) -> Option<Common> {
        let first = self.held.front()?;
        let is_alike = first.place != 0 && self.held.iter().all(|held| held.place == first.place);
        is_alike.then_some(Common { place: first.place, first: first.noted })
    }

    /// Takes out of it what is our fault.
    pub(super) fn take_back_ours(&mut self, is_ours: impl Fn(Place, u64) -> bool) {
        self.held.retain(|held| !is_ours(held.place, held.noted));
    }

    /// Takes a request out of it.
    pub(super) fn take_back(&mut self, id: RequestId) {
        self.held.retain(|held| held.id != id);
    }

    /// How much of the way to a ban it has come, in thousandths, then when it was last filled.
    pub(super) fn progress(&self, rule: Option<&Rule>, now: u64) -> (usize, u64) {
        let Some(rule) = rule else { return (0, 0) };
        let leaked = self.held.partition_point(|held| rule.leaked(held.noted, now));
        let weight: usize = self.held.iter().skip(leaked).map(|held| usize::from(held.weight)).sum();
        (weight * 1_000 / rule.overflows_at(), self.held.back().map_or(0, |held| held.noted))
    }

    /// A request of the source was served: it counts for the share of those that fail.
    pub(super) fn served(&mut self, rule: &Rule, now: u64) {
        self.leak(rule, now);
        if !self.held.is_empty() {
            self.served.add(rule, now);
        }
    }

    /// Where nothing is in it, takes over how many requests of the source were `served` before.
    pub(super) fn begin(&mut self, rule: &Rule, now: u64, served: impl FnOnce() -> u32) {
        self.leak(rule, now);
        if self.held.is_empty() {
            (self.counted, self.served) = (Requests::default(), Requests::begin(rule, now, served()));
        }
    }

    /// Puts one request into it. `watched`: half as many are enough.
    pub(super) fn fill(&mut self, rule: &Rule, watched: bool, held: CountedRequest) -> Level {
        let now = held.noted;
        self.leak(rule, now);
        if held.is_before {
            self.held.retain(|other| !other.is_before);
            self.held.push_back(held);
            return Level::Below;
        }
        if !rule.after.is_empty() && !self.held.iter().any(|other| other.is_before) {
            return Level::Below;
        }
        let before = self.held.len();
        if rule.distinct.is_some() {
            self.held.retain(|other| other.is_before || other.what != held.what);
        }
        let comes_again = self.held.len() < before;
        self.held.push_back(held);
        if rule.share.is_some() {
            self.counted.add(rule, now);
        }
        let counting = self.held.iter().filter(|held| !held.is_before).count();
        if counting > rule.overflows_at()
            && let Some(oldest) = self.held.iter().position(|held| !held.is_before)
        {
            self.held.remove(oldest);
        }
        let enough = if watched { rule.overflows_at().div_ceil(2) } else { rule.overflows_at() };
        if self.weight() < enough || !self.is_share(rule, now) {
            return Level::Below;
        }
        // A ban names so many requests, and no more.
        while self.held.len() > MAX_EVIDENCE {
            self.held.pop_front();
        }
        Level::Full { comes_again }
    }

    /// Whether what counts is a large enough share of all requests.
    fn is_share(&self, rule: &Rule, now: u64) -> bool {
        let Some(share) = rule.share else { return true };
        let (counted, served) = (self.counted.sum(rule, now), self.served.sum(rule, now));
        counted.saturating_mul(100) >= counted.saturating_add(served).saturating_mul(u64::from(share))
    }
}
