//! Detection: when the signals about a source add up to a ban.
//!
//! A rule asks for a ban at the signal that makes `count` of them within `within`: exactly those are the evidence, and
//! the bucket starts anew. Signals leak out one by one, each once it is older than `within`.
//!
//! *Invariant:* the state is bounded. When `capacity` buckets are kept, a new one takes the place of the least
//! advanced of a few picked at random (see [`bounded`](crate::bounded)), the longest untouched among equals: a crowd
//! with one signal each does not make anybody forget who is about to overflow. A bucket holds at most
//! [`MAX_EVIDENCE`] requests of 32 bytes each.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

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
    rules: Box<[NumberedRule]>,
    /// For each signal, in the order of [`Signal::ALL`], the rules that count it.
    counted_by: [Box<[usize]>; Signal::ALL.len()],
    capacity: usize,
    /// By the number of the rule and the source. They outlive configurations, as the number of a rule does.
    buckets: Arc<Sharded<(u64, Source), Bucket>>,
    probations: Arc<ProbationWatch>,
    /// The number of the next rule that is new.
    next_number: u64,
}

/// A rule and its number: the same for as long as it has the same name and the same signals.
#[derive(Debug)]
struct NumberedRule {
    number: u64,
    rule: Rule,
}

/// What one rule holds against one source: the requests and when they came, oldest first.
#[derive(Clone, Debug, Default)]
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
        Self::build(settings, &[], 0, None)
    }

    /// The detector of another configuration: rules that keep their name and signals keep their buckets, whatever else
    /// of them has changed.
    #[must_use]
    pub fn succeeded_by(&self, settings: &Settings) -> Self {
        Self::build(settings, &self.rules, self.next_number, Some(self))
    }

    fn build(settings: &Settings, known: &[NumberedRule], mut next_number: u64, before: Option<&Self>) -> Self {
        let mut number = |rule: &Rule| {
            let same = known.iter().find(|it| it.rule.name == rule.name && it.rule.signals == rule.signals);
            let number = same.map_or(next_number, |known| known.number);
            next_number += u64::from(same.is_none());
            NumberedRule { number, rule: rule.clone() }
        };
        let rules = settings.rules.iter().map(&mut number).collect();
        let counting = |signal: Signal| {
            let rules = settings.rules.iter().enumerate();
            rules.filter(|(_, rule)| rule.signals.contains(&signal)).map(|(at, _)| at).collect()
        };
        let buckets = before.filter(|before| before.capacity == settings.capacity).map(|it| Arc::clone(&it.buckets));
        Self {
            rules,
            counted_by: Signal::ALL.map(counting),
            capacity: settings.capacity,
            buckets: buckets.unwrap_or_else(|| Arc::new(Sharded::new(settings.capacity))),
            probations: before.map(|before| Arc::clone(&before.probations)).unwrap_or_default(),
            next_number,
        }
    }

    /// Takes over the buckets of `before`, where they are not the same.
    pub fn put_in_force(&self, before: &Self, now: u64) {
        if !Arc::ptr_eq(&self.buckets, &before.buckets) {
            before.buckets.each(|key, bucket| {
                if self.rule(key.0).is_some() {
                    self.buckets.lock(key).put(*key, bucket.clone(), |(at, _), it| it.progress(self.rule(*at), now));
                }
            });
        }
    }

    fn rule(&self, number: u64) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.number == number).map(|rule| &rule.rule)
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
        let rules = counted_by.filter_map(|at| self.rules.get(*at));
        let overflowing = rules.filter_map(|NumberedRule { number, rule }| {
            let evidence = self.fill((*number, source), rule, watched, id, now)?;
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
        let held = |NumberedRule { number, rule }: &NumberedRule| {
            let key = (*number, source);
            let mut buckets = self.buckets.lock(&key);
            let bucket = buckets.find(&key)?;
            bucket.leak(rule, now);
            let held = u32::try_from(bucket.held.len()).ok().filter(|held| *held > 0)?;
            Some((rule.name.clone(), held))
        };
        self.rules.iter().filter_map(held).take(MAX_SCORES).collect()
    }

    /// Puts one request into a bucket: all that is in it if that makes it overflow, and the bucket is gone.
    fn fill(&self, key: (u64, Source), rule: &Rule, watched: bool, id: RequestId, now: u64) -> Option<Vec<RequestId>> {
        let mut buckets = self.buckets.lock(&key);
        if buckets.find(&key).is_none() {
            buckets.put(key, Bucket::default(), |(at, _), bucket| bucket.progress(self.rule(*at), now));
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
