//! What a set of rules would have done, had it been in force while a log was written.
//!
//! *Invariant:* nothing is asked of the guard. Whom the configuration spares is spared here. Of everybody else it is told who
//! would have been asked to be banned, and whether it was served as somebody. At most [`MOST`] sources are remembered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use gateway_common::source::Source;

use super::{
    record::{Record, What},
    spared::Spared,
};
use crate::{
    os::clock::SECOND,
    policy::detect::{BanRequest, Detector, Observed, ObservedFacts, UpstreamAnswer, is_sought_by_scanners},
    settings::detect::{self, Distinct, GroupBy, Rule},
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
    rules: Vec<Rule>,
    pub(super) spared: Spared,
    ipv6_prefix: u8,
    pub(super) banned: BTreeMap<Source, Banned>,
    /// Requests that would not have come, as their source would have been banned by then.
    pub(super) dropped: u64,
    /// Requests of trusted proxies, which answer for nothing that they relay.
    pub(super) relayed: u64,
    /// Requests of crawlers that follow links, by the ranges of their lists.
    pub(super) crawled: u64,
    /// A line of the log was written by a gateway.
    has_ours: bool,
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
    /// What the configuration has that keeps rules from banning it.
    pub(super) shield: Option<String>,
    pub(super) bans: u64,
    /// Until when, as the detector counts.
    until: u64,
    /// Requests that would have been dropped, and those of them that were served.
    pub(super) dropped: u64,
    pub(super) dropped_good: u64,
}

impl Banned {
    /// Whether it would have been banned, and not only counted.
    pub(super) const fn enforces(&self) -> bool {
        !self.shadow && self.shield.is_none()
    }
}

/// What lines say that no gateway wrote: by the status, and by the path.
const OF_OTHERS: [Signal; 10] = [
    Signal::BadRequest,
    Signal::OverLimit,
    Signal::ScanPath,
    Signal::Served,
    Signal::SlowClient,
    Signal::TooLarge,
    Signal::UpstreamError,
    Signal::UpstreamForbidden,
    Signal::UpstreamNotFound,
    Signal::UpstreamUnauthorized,
];

/// What refuses a credential: the log does not say whose it claimed to be, as nobody has proved it.
const OF_CREDENTIALS: [Signal; 12] = [
    Signal::ExpiredToken,
    Signal::ForgedToken,
    Signal::InactiveToken,
    Signal::MalformedToken,
    Signal::MissingToken,
    Signal::NotYetValid,
    Signal::RevokedToken,
    Signal::UnfitToken,
    Signal::UnknownKey,
    Signal::WrongAudience,
    Signal::WrongIssuer,
    Signal::WrongPassword,
];

/// Why a rule finds nothing in logs. `has_ours`: a gateway wrote at least one line.
fn unjudged(rule: &Rule, has_ours: bool) -> Option<&'static str> {
    let is_of_principals =
        rule.by == GroupBy::Principal || matches!(rule.distinct, Some(Distinct::Principals | Distinct::Sources));
    let all = |signals: &[Signal]| rule.signals.iter().all(|signal| signals.contains(signal));
    let is_foreign = rule.signals.iter().all(|signal| !OF_OTHERS.contains(signal));
    match () {
        () if rule.by == GroupBy::Session => Some("logs do not tell the sessions of a principal apart"),
        () if is_of_principals && all(&OF_CREDENTIALS) => Some("logs do not say which account a credential was for"),
        () if !has_ours && rule.by == GroupBy::Ja4 => Some("only lines of the gateway have JA4"),
        () if !has_ours && is_foreign => Some("only lines of the gateway tell what it counts"),
        () => None,
    }
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
    pub(super) fn new(settings: &detect::Settings, spared: Spared, ipv6_prefix: u8) -> Self {
        let (detector, rules) = (Detector::new(settings), settings.rules.clone());
        Self {
            detector,
            rules,
            spared,
            ipv6_prefix,
            banned: BTreeMap::new(),
            dropped: 0,
            relayed: 0,
            crawled: 0,
            has_ours: false,
        }
    }

    /// Rules that find nothing in what was read, and why.
    pub(super) fn unjudged(&self) -> Vec<(&str, &'static str)> {
        self.rules.iter().filter_map(|rule| Some((rule.name.as_str(), unjudged(rule, self.has_ours)?))).collect()
    }

    /// Takes the next request of the log. `since`: when the log begins, in milliseconds since the Unix epoch.
    pub(super) fn take(&mut self, record: &Record, since: u64) {
        let now = START.saturating_add(record.time.saturating_sub(since).saturating_mul(1_000_000));
        self.has_ours |= record.is_ours;
        if self.spared.is_trusted(record.client) {
            self.relayed += 1;
            return;
        }
        let source = Source::of(record.client, self.ipv6_prefix);
        if let Some(banned) = self.banned.get_mut(&source).filter(|banned| now < banned.until && banned.enforces()) {
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
        let is_crawler = self.spared.is_crawler(record.agent.as_deref(), record.client);
        let is_scan = matches!(signal, Signal::UnknownRoute | Signal::UpstreamNotFound)
            && record.path.as_deref().is_some_and(is_sought_by_scanners);
        for signal in std::iter::once(signal).chain(is_scan.then_some(Signal::ScanPath)) {
            if is_crawler && Signal::BY_CRAWLING.contains(&signal) {
                self.crawled += u64::from(signal != Signal::ScanPath);
                continue;
            }
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
                self.ban(&ask, record, now);
            }
        }
    }

    fn ban(&mut self, ask: &BanRequest, record: &Record, now: u64) {
        let time = record.time;
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
            shield: self.spared.shield(ask.source, record.client),
            bans: 1,
            until,
            dropped: 0,
            dropped_good: 0,
        };
        self.banned.insert(ask.source, banned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::detect::Settings;

    fn rule(by: GroupBy, distinct: Option<Distinct>, signals: &[Signal]) -> Rule {
        let (name, signals, second) = ("r".to_owned(), signals.to_vec(), std::time::Duration::from_secs(60));
        Rule { name, signals, count: 3, by, distinct, within: second, ban: second, ..Rule::default() }
    }

    #[test]
    fn rules_that_find_nothing_in_logs() {
        use GroupBy::{Ja4, Principal, Session, Source};
        let scan = &[Signal::UpstreamNotFound, Signal::UnknownRoute][..];
        for (rule, in_ours, in_others) in [
            (rule(Source, None, scan), "", ""),
            (rule(Session, None, scan), "sessions", "sessions"),
            (rule(Source, Some(Distinct::Principals), &[Signal::WrongPassword]), "which account", "which account"),
            (rule(Source, Some(Distinct::Sources), &[Signal::ForgedToken]), "which account", "which account"),
            (rule(Source, Some(Distinct::Principals), &[Signal::UpstreamUnauthorized]), "", ""),
            (rule(Principal, None, &[Signal::Forbidden]), "", "only lines of the gateway"),
            (rule(Ja4, None, scan), "", "JA4"),
            (rule(Source, None, &[Signal::BadHandshake, Signal::HandshakeAbuse]), "", "only lines of the gateway"),
            (rule(Source, None, &[Signal::WrongPassword]), "", "only lines of the gateway"),
        ] {
            for (has_ours, expect) in [(true, in_ours), (false, in_others)] {
                let why = unjudged(&rule, has_ours).unwrap_or_default();
                assert!(why.contains(expect) && why.is_empty() == expect.is_empty(), "{rule:?} {has_ours}: {why}");
            }
        }
    }

    /// What becomes of an address that scans, by what the configuration spares: the shield, or what was passed over.
    #[test]
    fn what_the_configuration_spares() {
        let rules = vec![rule(GroupBy::Source, None, &[Signal::UnknownRoute])];
        let settings = Settings { rules, capacity: 100, ..Settings::default() };
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        for (client, agent, expect) in [
            ("203.0.113.7", "curl", "banned"),
            ("192.0.2.7", "curl", "guard.allow"),
            ("198.51.100.7", "curl", "feed:cdn (never_ban)"),
            ("10.0.0.1", "curl", "relayed 9"),
            ("203.0.113.66", "Mozilla (compatible; Googlebot/2.1)", "crawled 9"),
            ("203.0.113.66", "curl", "banned"),
            ("203.0.113.7", "googlebot", "banned"),
            ("2001:db8:1:2::7", "curl", "guard.allow"),
        ] {
            let spared = Spared::of(
                &networks(&["192.0.2.0/24", "2001:db8:1::/48"]),
                &networks(&["10.0.0.0/8"]),
                vec![("cdn".to_owned(), networks(&["198.51.100.7"]))],
                vec![(vec!["Googlebot".to_owned()], networks(&["203.0.113.64/26"]))],
            );
            let mut trial = Trial::new(&settings, spared, 64);
            for second in 0..9 {
                let record = Record {
                    time: 1_764_000_000_000 + second * 1_000,
                    client: client.parse().unwrap(),
                    path: Some("/a".to_owned()),
                    agent: Some(agent.to_owned()),
                    ja4: None,
                    principal: None,
                    route: None,
                    upstream: None,
                    limit: None,
                    status: 404,
                    id: None,
                    is_ours: true,
                    what: What::Signal(Signal::UnknownRoute),
                };
                trial.take(&record, 1_764_000_000_000);
            }
            let told = match (trial.banned.values().next(), trial.relayed, trial.crawled) {
                (Some(banned), 0, 0) => banned.shield.clone().unwrap_or_else(|| "banned".to_owned()),
                (None, relayed, 0) => format!("relayed {relayed}"),
                (None, 0, crawled) => format!("crawled {crawled}"),
                other => format!("{other:?}"),
            };
            assert_eq!(told, expect, "{client} {agent}");
            let enforces = trial.banned.values().any(Banned::enforces);
            assert_eq!((enforces, trial.dropped > 0), (expect == "banned", expect == "banned"), "{client}");
        }
    }
}
