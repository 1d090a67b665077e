//! What a set of rules would have done, had it been in force while a log was written.
//!
//! *Invariant:* nothing is asked of the guard, so that nothing that protects good clients is among it: who would have been
//! asked to be banned is told, and whether it was served as somebody. At most [`MOST`] sources are remembered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use gateway_common::source::Source;

use super::record::{Record, What};
use crate::{
    os::clock::SECOND,
    policy::detect::{BanRequest, Detector, Observed, ObservedFacts, UpstreamAnswer, is_sought_by_scanners},
    settings::detect,
    signal::Signal,
    web::request_id::RequestId,
};

/// The most sources that are remembered.
const MOST: usize = 1_000_000;

/// Long after boot, so that nothing lies before it.
const START: u64 = 86_400 * SECOND;

/// The most requests that are named as evidence.
const NAMED: usize = 10;

/// Rules, and whom they would have banned so far.
pub(super) struct Trial {
    detector: Detector,
    ipv6_prefix: u8,
    pub(super) banned: BTreeMap<Source, Banned>,
    /// Requests that would not have come, as their source would have been banned by then.
    pub(super) dropped: u64,
}

/// One source that would have been banned.
#[derive(Clone, Debug)]
pub(super) struct Banned {
    pub(super) rule: String,
    /// What the rule counted last, for people.
    pub(super) signal: &'static str,
    /// When it would have been banned first: milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) evidence: usize,
    /// The first of the evidence, where the log has ids.
    pub(super) ids: Vec<RequestId>,
    /// All rules that would only have counted it are in shadow.
    pub(super) shadow: bool,
    pub(super) bans: u64,
    /// Until when, as the detector counts.
    until: u64,
    /// Requests that would have been dropped, and those of them that were served.
    pub(super) dropped: u64,
    pub(super) dropped_good: u64,
}

/// Who was served as somebody.
#[derive(Default)]
pub(super) struct Sessions(HashMap<Source, BTreeSet<u64>>);

impl Sessions {
    pub(super) fn note(&mut self, record: &Record, ipv6_prefix: u8) {
        let is_good = (200..400).contains(&record.status) && record.what == What::Answered;
        let Some(principal) = record.principal.as_ref().filter(|_| is_good) else { return };
        let source = Source::of(record.client, ipv6_prefix);
        if self.0.len() < MOST || self.0.contains_key(&source) {
            let known = self.0.entry(source).or_default();
            // So many say as much as all of them.
            if known.len() < 16 {
                known.insert(hash(principal));
            }
        }
    }

    /// How many principals were served at `source`.
    pub(super) fn of(&self, source: Source) -> usize {
        self.0.get(&source).map_or(0, BTreeSet::len)
    }
}

/// Fit for what tells routes and principals apart in a log, which attacks nobody.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn place(name: Option<&str>) -> usize {
    usize::try_from(name.map_or(0, hash) & 0xffff).unwrap_or(0)
}

impl Trial {
    pub(super) fn new(settings: &detect::Settings, ipv6_prefix: u8) -> Self {
        Self { detector: Detector::new(settings), ipv6_prefix, banned: BTreeMap::new(), dropped: 0 }
    }

    /// Takes the next request of the log. `since`: when the log begins, in milliseconds since the Unix epoch.
    pub(super) fn take(&mut self, record: &Record, since: u64) {
        let now = START.saturating_add(record.time.saturating_sub(since).saturating_mul(1_000_000));
        let source = Source::of(record.client, self.ipv6_prefix);
        if let Some(banned) = self.banned.get_mut(&source).filter(|banned| now < banned.until && !banned.shadow) {
            banned.dropped += 1;
            banned.dropped_good += u64::from((200..400).contains(&record.status));
            self.dropped += 1;
            return;
        }
        match record.what {
            What::Nothing => {}
            What::Signal(signal) => self.note(record, source, signal, now),
            What::Answered => {
                let (route, upstream) = (place(record.route.as_deref()), place(record.upstream.as_deref()));
                let is_identified = record.principal.is_some();
                let answer = UpstreamAnswer { route, upstream, status: record.status, is_identified };
                if let Some(signal) = self.detector.judge_answer(&answer, source, now) {
                    self.note(record, source, signal, now);
                }
            }
        }
    }

    fn note(&mut self, record: &Record, source: Source, signal: Signal, now: u64) {
        let agent = record.agent.as_ref().and_then(|agent| self.detector.agent(agent.as_bytes()));
        let facts = ObservedFacts {
            path: record.path.as_deref(),
            agent,
            ja4: record.ja4.as_deref(),
            ..ObservedFacts::default()
        };
        let limits: Vec<_> = record.limit.iter().map(|limit| limit.as_str().into()).collect();
        let is_scan = matches!(signal, Signal::UnknownRoute | Signal::UpstreamNotFound)
            && record.path.as_deref().is_some_and(is_sought_by_scanners);
        for signal in std::iter::once(signal).chain(is_scan.then_some(Signal::ScanPath)) {
            let observed = Observed {
                signal,
                source,
                address: record.client,
                principal: record.principal.as_deref(),
                id: record.id.unwrap_or(RequestId(0)),
                limits: &limits,
                facts,
            };
            for ask in self.detector.note(&observed, now) {
                self.ban(&ask, record.time, now);
            }
        }
    }

    fn ban(&mut self, ask: &BanRequest, time: u64, now: u64) {
        let until = now.saturating_add(ask.seconds.saturating_mul(SECOND));
        if let Some(known) = self.banned.get_mut(&ask.source) {
            known.bans += 1;
            if known.shadow && !ask.shadow {
                // What enforces says more than what counts.
                (known.rule, known.signal, known.at) = (ask.rule.clone(), ask.signal.plural(), time);
                known.until = until;
            } else if known.shadow == ask.shadow {
                known.until = until;
            }
            known.shadow &= ask.shadow;
            return;
        }
        if self.banned.len() >= MOST {
            return;
        }
        let named = ask.evidence.iter().copied().filter(|id| id.0 != 0).take(NAMED);
        let banned = Banned {
            rule: ask.rule.clone(),
            signal: ask.signal.plural(),
            at: time,
            evidence: ask.evidence.len(),
            ids: named.collect(),
            shadow: ask.shadow,
            bans: 1,
            until,
            dropped: 0,
            dropped_good: 0,
        };
        self.banned.insert(ask.source, banned);
    }
}
