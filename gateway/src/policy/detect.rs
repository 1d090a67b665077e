//! Detection: when the signals about a source add up to a ban.
//!
//! A rule asks for a ban at the signal that makes `count` of them within `within`: exactly those are the evidence, and
//! the bucket starts anew. Signals leak out one by one, each once it is older than `within`.
//!
//! A rule may count what differs in the place of signals: principals of one source, or sources of one principal. Whatever
//! comes again only takes the place of what it was before. The bucket of a principal stays full when it overflows: every
//! source that comes a second time is asked to be banned as well. One mistake bans nobody: it may be the principal's own.
//!
//! A rule adds up the signals of a source, or of all that share a network, principal, session or TLS fingerprint. Whatever
//! it adds up, it asks to ban sources: where others share it, each that goes on once the bucket is full.
//!
//! *Invariant:* the state is bounded. When `capacity` buckets are kept, a new one takes the place of the least
//! advanced of a few picked at random (see [`bounded`](crate::collections::bounded)), the longest untouched among equals: a crowd
//! with one signal each does not make anybody forget who is about to overflow.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
};

use bucket::{Bucket, CountedRequest, Level};
use contributors::ContributorStats;
use discounts::UPSTREAMS_FAIL;
use faults::{Common, Faults, place};
use gateway_common::source::Source;
use novelty::Novelty;
use observed::About;
use probation::ProbationWatch;
use profile::Profiles;
use serde::{Deserialize, Serialize};
use served::ServedLately;
use standing::AnswerHistory;
use suspects::Suspects;

use crate::{
    collections::bounded::Sharded,
    settings::{
        detect::{self, Distinct, GroupBy, Rule},
        limit::Clamp,
    },
    signal::Signal,
    web::request_id::RequestId,
};

mod bucket;
mod completed;
mod contributors;
mod crawlers;
mod discounts;
mod faults;
mod held;
mod novelty;
mod observed;
mod our_fault;
mod paths;
mod probation;
mod profile;
mod served;
mod standing;
mod suspects;

pub use contributors::deviating::{
    ALL_ROUTES, Completed, Contribution, Contributor, Deviating, LIMITED, LONGEST_NAME as LONGEST_CONTRIBUTOR,
    LONGEST_SENTENCE, MAX_DEVIATING, MAX_NAMED, MAX_REQUESTS, NO_ROUTE, NamedContributor,
};
pub use crawlers::{CrawlerClaim, CrawlerStanding, Crawlers, HostAnswer, HostQuestion};
pub use discounts::{Discount, Discounted, MAX_DISCOUNTED};
pub use faults::{AskedBan, Failing, MAX_FAILING, MAX_TAKEN_BACK, OurFault, TAKEN_BACK_WITHIN};
pub use novelty::ObservedValues;
pub use observed::{Observed, ObservedFacts, UpstreamAnswer};
pub use paths::is_sought_by_scanners;
pub use profile::{Finished, LastRequest, MAX_PROFILES, ProfileRow};

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
    /// The requests that filled the rule's bucket, oldest first; at most
    /// [`MAX_EVIDENCE`](crate::settings::detect::MAX_EVIDENCE).
    pub evidence: Vec<RequestId>,
    /// How long, in seconds.
    pub seconds: u64,
    /// Record and count only.
    pub shadow: bool,
    /// When the last offence was noted: `CLOCK_MONOTONIC`, nanoseconds.
    pub noted: u64,
}

/// The most rules that a row of [`Detector::top`] names.
const MAX_REASONS: usize = 4;

/// What one customer may have of IPv6 addresses: many a host has 65,536 prefixes of 64 bits.
const ONE_CUSTOMER: u8 = 48;

/// The buckets of every rule, shared by threads.
#[derive(Debug)]
pub struct Detector {
    rules: Box<[NumberedRule]>,
    /// For each signal, in the order of [`Signal::ALL`], the rules that count it.
    counted_by: [Box<[usize]>; Signal::ALL.len()],
    capacity: usize,
    /// By the number of the rule, and whom it counts about. They outlive configurations, as the number of a rule does.
    buckets: Arc<Sharded<(u64, About), Bucket>>,
    /// What principals and sources are told apart by: nobody can choose two that are alike.
    seed: RandomState,
    probations: Arc<ProbationWatch>,
    /// What principals come with, and for how long one is known before anything is unusual, in nanoseconds; `None`: no rule
    /// asks for that.
    novelty: Option<(Arc<Novelty>, u64)>,
    /// How upstreams answer others; `None`: no rule asks for their answers.
    standing: Option<Arc<AnswerHistory>>,
    /// Which routes fail for everybody; `None`, as above.
    faults: Option<Arc<Faults>>,
    /// The rules that ask what share of a source's requests fails, and whose requests are to be counted for them.
    with_share: Box<[usize]>,
    suspects: Arc<Suspects>,
    /// What was served of each source, and of that by those who have proved who they are. Only where a rule asks for a share.
    served: Option<Arc<[ServedLately; 2]>>,
    tells_agents_apart: bool,
    /// What sources and principals do; `None`: nobody wants to know.
    profiles: Option<Arc<Profiles>>,
    /// Who an anomaly comes from; `None`: nobody learns what is usual.
    contributors: Option<Arc<ContributorStats>>,
    /// The number of the next rule that is new.
    next_number: u64,
}

/// A rule and its number: the same for as long as it has the same name and counts the same.
#[derive(Debug)]
struct NumberedRule {
    number: u64,
    rule: Rule,
    /// It counts refusals of this limit alone.
    limit: Option<Box<str>>,
}

impl Detector {
    /// Empty buckets.
    #[must_use]
    pub fn new(settings: &detect::Settings) -> Self {
        Self::build(settings, &[], 0, None)
    }

    /// The detector of another configuration: rules that keep their name and signals keep their buckets, whatever else
    /// of them has changed.
    #[must_use]
    pub fn succeeded_by(&self, settings: &detect::Settings) -> Self {
        Self::build(settings, &self.rules, self.next_number, Some(self))
    }

    fn build(settings: &detect::Settings, known: &[NumberedRule], mut next_number: u64, before: Option<&Self>) -> Self {
        let mut number = |rule: &Rule| {
            let counts_same = |it: &Rule| {
                let of = |rule: &Rule| (rule.distinct, rule.by, rule.share.is_some());
                it.signals == rule.signals && it.after == rule.after && of(it) == of(rule)
            };
            let same = known.iter().find(|it| it.rule.name == rule.name && counts_same(&it.rule));
            let number = same.map_or(next_number, |known| known.number);
            next_number += u64::from(same.is_none());
            NumberedRule { number, rule: rule.clone(), limit: None }
        };
        let own = |rule: &Rule| rule.name.strip_prefix(Clamp::PREFIX).map(Into::into);
        let bans: Vec<NumberedRule> = settings.rules.iter().map(&mut number).collect();
        let clamps = settings.clamps.iter().map(|rule| NumberedRule { limit: own(rule), ..number(rule) });
        let rules: Box<[NumberedRule]> = bans.into_iter().chain(clamps).collect();
        let which = |of: &dyn Fn(&Rule) -> bool| -> Box<[usize]> {
            let rules = settings.rules.iter().chain(&settings.clamps).enumerate();
            rules.filter(|(_, rule)| of(rule)).map(|(at, _)| at).collect()
        };
        let counting = |signal: Signal| which(&|rule| rule.signals.contains(&signal) || rule.after.contains(&signal));
        let upstreams_fail = UPSTREAMS_FAIL.iter().any(|signal| !counting(*signal).is_empty());
        let with_share = which(&|rule| rule.share.is_some());
        let buckets = before.filter(|before| before.capacity == settings.capacity).map(|it| Arc::clone(&it.buckets));
        Self {
            rules,
            counted_by: Signal::ALL.map(counting),
            capacity: settings.capacity,
            buckets: buckets.unwrap_or_else(|| Arc::new(Sharded::new(settings.capacity))),
            seed: before.map(|before| before.seed.clone()).unwrap_or_default(),
            probations: before.map(|before| Arc::clone(&before.probations)).unwrap_or_default(),
            novelty: settings.rules.iter().any(|rule| rule.signals.contains(&Signal::Unusual)).then(|| {
                let known = before.filter(|before| before.capacity == settings.capacity);
                let known = known.and_then(|before| before.novelty.as_ref()).map(|(known, _)| Arc::clone(known));
                let after = u64::try_from(settings.unusual_after.as_nanos()).unwrap_or(u64::MAX);
                (known.unwrap_or_else(|| Arc::new(Novelty::new(settings.capacity))), after)
            }),
            // The places of routes and upstreams are those of one configuration.
            standing: upstreams_fail.then(|| Arc::new(AnswerHistory::new())),
            faults: upstreams_fail.then(|| Arc::new(Faults::new())),
            served: (!with_share.is_empty()).then(|| before.and_then(|it| it.served.clone()).unwrap_or_default()),
            with_share,
            suspects: before.map(|before| Arc::clone(&before.suspects)).unwrap_or_default(),
            tells_agents_apart: settings.rules.iter().any(|rule| rule.distinct == Some(Distinct::Agents)),
            profiles: (settings.profiles > 0).then(|| {
                let before = before.and_then(|before| before.profiles.as_ref());
                let same = before.filter(|before| before.capacity() == settings.profiles).map(Arc::clone);
                same.unwrap_or_else(|| Arc::new(Profiles::new(settings.profiles)))
            }),
            contributors: (settings.contributors > 0).then(|| {
                let before = before.and_then(|before| before.contributors.as_ref());
                let same = before.filter(|before| before.capacity() == settings.contributors).map(Arc::clone);
                same.unwrap_or_else(|| Arc::new(ContributorStats::new(settings.contributors)))
            }),
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

    /// Whether anybody asks what is unusual.
    #[must_use]
    pub const fn looks_for_unusual(&self) -> bool {
        self.novelty.is_some()
    }

    /// Learns what a principal comes with; what of it is unusual, for the log. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn unusual(&self, principal: &str, seen: &ObservedValues<'_>, now: u64) -> Option<&'static str> {
        let (novelty, after) = self.novelty.as_ref()?;
        novelty.note(principal, seen, *after, now)
    }

    /// Whether any rule counts a signal.
    #[must_use]
    pub fn counts(&self, signal: Signal) -> bool {
        self.counted_by.get(signal as usize).is_some_and(|rules| !rules.is_empty())
    }

    /// Whether anybody asks how upstreams answer.
    #[must_use]
    pub fn looks_at_answers(&self) -> bool {
        self.standing.is_some() || !self.with_share.is_empty() || self.counts(Signal::Served)
    }

    /// What rules tell this `User-Agent` from others by; `None`: none does.
    #[must_use]
    pub fn agent(&self, agent: &[u8]) -> Option<u32> {
        (self.tells_agents_apart || self.profiles.is_some()).then(|| self.short_hash(agent))
    }

    /// What `source` does, and which rules count it.
    #[must_use]
    pub fn profile(&self, source: Source, now: u64) -> Option<ProfileRow> {
        self.profiles.as_ref()?.of(source, now)
    }

    /// Who fails and asks most, with what rules hold against sources.
    #[must_use]
    pub fn top(&self, most: usize, now: u64) -> Vec<ProfileRow> {
        let rows = self.profiles.iter().flat_map(|profiles| profiles.top(most, now));
        let rows = rows.map(|(source, mut row)| {
            let scores = source.map(|source| self.scores(source, now)).unwrap_or_default();
            let mut held: Vec<String> = scores
                .into_iter()
                .take(MAX_REASONS)
                .map(|(rule, held)| {
                    let count = self.rules.iter().find(|it| it.rule.name == rule).map_or(0, |it| it.rule.count);
                    format!("rule {rule} at {held} of {count}")
                })
                .collect();
            held.append(&mut row.reasons);
            ProfileRow { reasons: held, ..row }
        });
        rows.collect()
    }

    /// An upstream has answered `source`; the signal to note, if there is one. A failure is none where the upstream fails to
    /// others alike.
    #[must_use]
    pub fn judge_answer(&self, answer: &UpstreamAnswer, source: Source, now: u64) -> Option<Signal> {
        let (signal, class) = (answer.signal()?, answer.class()?);
        let hash = self.seed.hash_one(source);
        let is_its_fault = self
            .standing
            .as_ref()
            .is_some_and(|standing| standing.note(answer.route, answer.upstream, hash, class, now));
        if let Some(faults) = self.faults.as_ref().filter(|_| signal == Signal::Served) {
            faults.served(answer.route, now);
        }
        let is_one = if signal == Signal::Served { self.count_served(answer, source, hash, now) } else { is_its_fault };
        (is_one && self.counts(signal)).then_some(signal)
    }

    /// Counts a request that was served, where a rule asks what share fails; whether it may be a signal, as it always may.
    /// `hash`: that of `source`.
    fn count_served(&self, answer: &UpstreamAnswer, source: Source, hash: u64, now: u64) -> bool {
        let Some([all, identified]) = self.served.as_deref() else { return true };
        all.note(hash, now);
        if answer.is_identified {
            identified.note(hash, now);
        }
        if self.suspects.has(hash, now) {
            let rules = self.with_share.iter().filter_map(|at| self.rules.get(*at));
            for NumberedRule { number, rule, .. } in
                rules.filter(|it| answer.is_identified || !it.rule.counts_guesses())
            {
                let key = (*number, About::Source(source));
                if let Some(bucket) = self.buckets.lock(&key).find(&key) {
                    bucket.served(rule, now);
                }
            }
        }
        true
    }

    /// Counts one signal, and says which bans to ask for: usually none. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn note(&self, observed: &Observed<'_>, now: u64) -> Vec<BanRequest> {
        let Observed { signal, source, address, limits, .. } = *observed;
        let counted_by = self.counted_by.get(signal as usize).into_iter().flatten();
        let rules = counted_by.filter_map(|at| self.rules.get(*at));
        let refused_by = |limit: &str| limits.iter().any(|refused| **refused == *limit);
        let mut rules = rules.filter(|rule| rule.limit.as_deref().is_none_or(refused_by)).peekable();
        if rules.peek().is_none() {
            return Vec::new();
        }
        let watched = self.probations.hold(address, now);
        let overflowing = rules.filter_map(|NumberedRule { number, rule, .. }| {
            let (about, held) = self.held(rule, observed, now)?;
            let (evidence, common) = self.fill((*number, about), rule, watched, held, source)?;
            if let (Some(common), Some(faults), Some(request)) = (common, &self.faults, evidence.last()) {
                faults.asked(common, now, AskedBan { source, rule: rule.name.clone(), request: *request });
            }
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

    /// Into whose bucket of a rule a signal goes, and as what; `None`: into none, as what the rule counts is not known.
    fn held(&self, rule: &Rule, observed: &Observed<'_>, now: u64) -> Option<(About, CountedRequest)> {
        let Observed { signal, address, principal, id, facts, .. } = *observed;
        let is_before = !rule.signals.contains(&signal);
        let weight = if is_before { 0 } else { u8::try_from(rule.weight(signal)).unwrap_or(u8::MAX) };
        if weight == 0 && !is_before && rule.distinct.is_none() {
            return None;
        }
        let about = self.about(rule, observed)?;
        let what = match rule.distinct {
            // What must come before need not differ.
            _ if is_before => 0,
            None => 0,
            Some(Distinct::Agents) => facts.agent?,
            Some(Distinct::Objects) => self.short_hash(facts.path?),
            Some(Distinct::Paths) => {
                let mut hasher = self.seed.build_hasher();
                paths::shape(facts.path?).for_each(|segment| segment.hash(&mut hasher));
                short(hasher.finish())
            }
            Some(Distinct::Principals) => self.short_hash(principal?),
            Some(Distinct::Sources) => self.short_hash(Source::of(address, ONE_CUSTOMER)),
        };
        let place = place(facts.route, signal);
        Some((about, CountedRequest { noted: now, id, weight, what, place, is_before }))
    }

    /// Two of at most [`MAX_EVIDENCE`] are alike by chance once in two million times; one is counted too few then.
    fn short_hash(&self, what: impl std::hash::Hash) -> u32 {
        short(self.seed.hash_one(what))
    }

    /// Puts one request into a bucket: all that is in it if that makes it overflow. The bucket of one source is gone then;
    /// one that others share stays full.
    fn fill(
        &self,
        key: (u64, About),
        rule: &Rule,
        watched: bool,
        held: CountedRequest,
        source: Source,
    ) -> Option<(Vec<RequestId>, Option<Common>)> {
        let now = held.noted;
        if rule.share.is_some() {
            self.suspects.note(self.seed.hash_one(source), rule.within, now);
        }
        let mut buckets = self.buckets.lock(&key);
        if buckets.find(&key).is_none() {
            buckets.put(key, Bucket::default(), |(at, _), bucket| bucket.progress(self.rule(*at), now));
        }
        let bucket = buckets.find(&key)?;
        if rule.share.is_some()
            && let Some([all, identified]) = self.served.as_deref()
        {
            let served = if rule.counts_guesses() { identified } else { all };
            bucket.begin(rule, now, || served.count(self.seed.hash_one(source), rule.within, now));
        }
        if let Some(faults) = self.faults.as_ref().filter(|faults| held.place != 0 && faults.is_any()) {
            bucket.take_back_ours(faults.are_ours());
        }
        let Level::Full { comes_again } = bucket.fill(rule, watched, held) else { return None };
        let evidence = (bucket.evidence(), bucket.common());
        let among = rule.distinct == Some(Distinct::Sources);
        if rule.by == GroupBy::Source && !among {
            buckets.forget(&key);
            return Some(evidence);
        }
        drop(buckets);
        let who = if among { held.what } else { self.short_hash(source) };
        (self.has_tried(key, rule, held, who) || among && comes_again).then_some(evidence)
    }

    /// Whether a source has come before since the bucket `full` is full.
    fn has_tried(&self, full: (u64, About), rule: &Rule, held: CountedRequest, who: u32) -> bool {
        let now = held.noted;
        let key = self.trial(full, who);
        let mut buckets = self.buckets.lock(&key);
        let has_tried = buckets.find(&key).is_some_and(|bucket| {
            bucket.leak(rule, now);
            !bucket.is_empty()
        });
        buckets.put(key, Bucket::of(held), |(at, _), bucket| bucket.progress(self.rule(*at), now));
        has_tried
    }
}

/// The first half of a hash.
fn short(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default()
}
