//! Detection: when the signals about a source add up to a ban.
//!
//! A rule asks for a ban at the signal that makes `count` of them within `within`: exactly those are the evidence, and
//! the bucket starts anew. Signals leak out one by one, each once it is older than `within`.
//!
//! *Invariant:* the state is bounded. When `capacity` buckets are kept, a new one takes the place of the least
//! advanced of a few picked at random (see [`bounded`](crate::bounded)), the longest untouched among equals: a crowd
//! with one signal each does not make anybody forget who is about to overflow. A bucket holds at most
//! [`MAX_EVIDENCE`] requests of 32 bytes each.

use std::{collections::VecDeque, net::IpAddr};

use gateway_common::source::Source;
use probation::ProbationWatch;
use serde::{Deserialize, Serialize};

use crate::{
    bounded::Sharded,
    request_id::RequestId,
    settings::detect::{MAX_EVIDENCE, Rule, Settings},
    signal::Signal,
};

mod probation;

#[cfg(test)]
mod tests;

/// The most rules that one [`ToGuard::Score`](crate::message::ToGuard::Score) names.
pub const MAX_SCORES: usize = 200;

/// A rule's request for a ban. The guard decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRequest {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// The address that the last of the evidence came from.
    pub address: IpAddr,
    /// The trusted proxy that it came through: its packets are not the client's own, so the ban is the proxy's to
    /// enforce, request by request.
    pub relay: Option<IpAddr>,
    /// The rule's name.
    pub rule: String,
    /// What the rule counted last.
    pub signal: Signal,
    /// The requests that filled the rule's bucket, oldest first; at most [`MAX_EVIDENCE`].
    pub evidence: Vec<RequestId>,
    /// How long, in seconds.
    pub seconds: u64,
    /// Record and count only.
    pub shadow: bool,
    /// When the last offence was noted: `CLOCK_MONOTONIC`, nanoseconds.
    pub noted: u64,
}

/// The buckets of every rule, shared by threads.
#[derive(Debug)]
pub struct Detector {
    rules: Box<[Rule]>,
    /// For each signal, in the order of [`Signal::ALL`], the rules that count it.
    counted_by: [Box<[usize]>; Signal::ALL.len()],
    buckets: Sharded<(usize, Source), Bucket>,
    probations: ProbationWatch,
}

/// What one rule holds against one source: the requests and when they came, oldest first.
#[derive(Debug, Default)]
struct Bucket {
    held: VecDeque<(u64, RequestId)>,
}

impl Rule {
    /// How many signals ask for a ban: never none, and never more than a ban can name.
    fn overflows_at(&self) -> usize {
        usize::try_from(self.count).unwrap_or(MAX_EVIDENCE).clamp(1, MAX_EVIDENCE)
    }

    /// Whether a signal of the time `noted` has leaked out.
    fn leaked(&self, noted: u64, now: u64) -> bool {
        u128::from(now.saturating_sub(noted)) > self.within.as_nanos()
    }
}

impl Bucket {
    fn leak(&mut self, rule: &Rule, now: u64) {
        while self.held.front().is_some_and(|(noted, _)| rule.leaked(*noted, now)) {
            self.held.pop_front();
        }
    }

    /// How much of the way to a ban it has come, in thousandths, then when it was last filled.
    fn progress(&self, rule: Option<&Rule>, now: u64) -> (usize, u64) {
        let Some(rule) = rule else { return (0, 0) };
        let leaked = self.held.partition_point(|(noted, _)| rule.leaked(*noted, now));
        let last = self.held.back().map_or(0, |(noted, _)| *noted);
        ((self.held.len() - leaked) * 1_000 / rule.overflows_at(), last)
    }
}

impl Detector {
    /// Empty buckets.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let counting = |signal: Signal| {
            let rules = settings.rules.iter().enumerate();
            rules.filter(|(_, rule)| rule.signals.contains(&signal)).map(|(at, _)| at).collect()
        };
        Self {
            rules: settings.rules.iter().cloned().collect(),
            counted_by: Signal::ALL.map(counting),
            buckets: Sharded::new(settings.capacity),
            probations: ProbationWatch::default(),
        }
    }

    /// Half as many signals of `source` ask for a ban until `until`.
    pub fn watch(&self, source: Source, until: u64, now: u64) {
        self.probations.add(source, until, now);
    }

    /// Counts one signal about `source`, seen in the request `id` from `address`, and says which bans to ask for:
    /// usually none. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn note(&self, signal: Signal, source: Source, address: IpAddr, id: RequestId, now: u64) -> Vec<BanRequest> {
        let at = Signal::ALL.iter().position(|one| *one == signal);
        let counted_by = at.and_then(|at| self.counted_by.get(at)).into_iter().flatten();
        let watched = self.probations.hold(address, now);
        let rules = counted_by.filter_map(|at| Some((*at, self.rules.get(*at)?)));
        let overflowing = rules.filter_map(|(at, rule)| {
            let evidence = self.fill((at, source), rule, watched, id, now)?;
            Some(BanRequest {
                source,
                address,
                relay: None,
                rule: rule.name.clone(),
                signal,
                evidence,
                seconds: rule.ban.as_secs() + u64::from(rule.ban.subsec_nanos() > 0),
                shadow: rule.shadow,
                noted: now,
            })
        });
        overflowing.collect()
    }

    /// What the rules hold against `source`: how many signals each, where there are any.
    #[must_use]
    pub fn scores(&self, source: Source, now: u64) -> Vec<(String, u32)> {
        let held = |(at, rule): (usize, &Rule)| {
            let key = (at, source);
            let mut buckets = self.buckets.lock(&key);
            let bucket = buckets.find(&key)?;
            bucket.leak(rule, now);
            let held = u32::try_from(bucket.held.len()).ok().filter(|held| *held > 0)?;
            Some((rule.name.clone(), held))
        };
        self.rules.iter().enumerate().filter_map(held).take(MAX_SCORES).collect()
    }

    /// Puts one request into a bucket: all that is in it if that makes it overflow, and the bucket is gone.
    fn fill(
        &self,
        key: (usize, Source),
        rule: &Rule,
        watched: bool,
        id: RequestId,
        now: u64,
    ) -> Option<Vec<RequestId>> {
        let mut buckets = self.buckets.lock(&key);
        if buckets.find(&key).is_none() {
            buckets.put(key, Bucket::default(), |(at, _), bucket| bucket.progress(self.rules.get(*at), now));
        }
        let bucket = buckets.find(&key)?;
        bucket.leak(rule, now);
        bucket.held.push_back((now, id));
        let enough = if watched { rule.overflows_at().div_ceil(2) } else { rule.overflows_at() };
        if bucket.held.len() < enough {
            return None;
        }
        let evidence = bucket.held.iter().map(|(_, id)| *id).collect();
        buckets.forget(&key);
        Some(evidence)
    }
}
