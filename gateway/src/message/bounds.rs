//! How much one message may hold. The guard takes nothing from a proxy that says more: a message of 64 KiB can stand for
//! many times as much memory, and work.

use super::{
    ANSWERS, LONGEST_FAILURE, MAX_LABELS, MAX_PLAN_MEMBERS, MAX_REASON, MAX_REFUSED, ToGuard, ToProxy,
    cluster::{LONGEST_LETTER, MAX_LETTERS},
    observer::{
        alert::{LONGEST_REPORT, ObserverAnswer},
        anomalies::Deviations,
        delivery::{Delivered, LONGEST_RESPONSE},
        fetch::{Fetched, LONGEST_CHECKSUM, LONGEST_SIGNATURE, LONGEST_TEXT},
        relay::{LONGEST_ARGUMENTS, LONGEST_NAME, LONGEST_TOKEN, Relayed},
    },
    telemetry::Telemetry,
};
use crate::{
    policy::{
        auth::role_paths::{MOST, UnseenRoles},
        authz::shadow::MOST_TOLD,
        detect::{
            Deviating, LONGEST_CONTRIBUTOR, MAX_DEVIATING, MAX_DISCOUNTED, MAX_FAILING, MAX_PROFILES, MAX_SCORES,
            MAX_TAKEN_BACK, ProfileRow,
        },
        limit::{
            quota::MAX_ROWS_TOLD,
            quotas::{LONGEST_COUNTS, QuotaReport},
            report::{LONGEST_KEY, LimitRow, MAX_ROWS},
            spent::{LONGEST_BY, MAX_SPENT, SpentBudgets},
        },
    },
    settings::{detect::MAX_EVIDENCE, limit::Clamp},
    signal::Signal,
};

/// The most API keys that one [`ToGuard::KeysUsed`] names.
pub const MAX_USED: usize = 2_000;

/// The most clients that one [`ToGuard::Good`] names.
pub const MAX_GOOD: usize = 500;

/// The most sources that are known to have been over a limit in shadow mode. Over that, their requests are counted alone.
pub const MAX_SHADOWED: usize = 16_384;

/// The longest name of anything, in bytes: the configuration has none that is longer.
const MAX_NAME: usize = 64;

/// The longest name of what asks for a ban or a clamp.
const LONGEST_RULE: usize = MAX_NAME + Clamp::PREFIX.len();

/// The longest name of a limit in a row: `upstream.NAME.concurrency`.
const LONGEST_LIMIT: usize = MAX_NAME + "upstream..concurrency".len();

/// The longest path of a claim that is told, in bytes.
pub(crate) const MAX_PATH: usize = 255;

/// The longest address of a server, in bytes: a host's name and a port.
const MAX_ADDRESS: usize = 300;

/// A message that may hold so much.
pub trait Bounded {
    /// Whether it keeps to its bounds; if not, what it has too many of.
    ///
    /// # Errors
    /// It does not.
    fn check(&self) -> Result<(), &'static str>;
}

impl Bounded for ToGuard {
    fn check(&self) -> Result<(), &'static str> {
        let (fits, what) = match self {
            Self::Adopt { .. }
            | Self::Ready
            | Self::Configured { .. }
            | Self::Failed { .. }
            | Self::Lost(_)
            | Self::Closed { .. }
            | Self::Ack { .. }
            | Self::Pong { .. }
            | Self::Stalled { .. } => return Ok(()),
            Self::NotConfigured { reason, .. } | Self::Outdated { reason } => {
                (reason.len() <= MAX_REASON, "letters in a reason")
            }
            Self::BanRequest(ask) => {
                (ask.evidence.len() <= MAX_EVIDENCE && ask.rule.len() <= LONGEST_RULE, "evidence, or too long a name")
            }
            Self::OurFault(fault) => (
                fault.route.len() <= MAX_PATH
                    && fault.clients.len() <= MAX_FAILING
                    && fault.bans.len() <= MAX_TAKEN_BACK
                    && fault.bans.iter().all(|ban| ban.rule.len() <= LONGEST_RULE),
                "clients or bans, or too long a name",
            ),
            Self::Contributors(told) => {
                (told.of.len() <= LONGEST_CONTRIBUTOR && told.contribution.fits(), "contributors, or too long a name")
            }
            Self::Good(clients) => (clients.len() <= MAX_GOOD, "good clients"),
            Self::PlanMembers(members) => (
                members.len() <= MAX_PLAN_MEMBERS && members.iter().all(|member| member.plan.len() <= MAX_NAME),
                "members of plans, or too long a name",
            ),
            Self::KeysUsed(used) => (used.len() <= MAX_USED, "keys"),
            Self::Refused(bans) => (bans.len() <= MAX_REFUSED, "bans"),
            Self::Counted(counted) => (
                counted.answers.len() <= ANSWERS.len()
                    && counted.signals.len() <= Signal::ALL.len()
                    && counted.refused.len() <= MAX_LABELS
                    && counted.refused.iter().all(|(label, _)| label.len() <= MAX_NAME),
                "counters, or too long a label",
            ),
            Self::Upstream(report) => (
                report.name.len() <= MAX_NAME
                    && report.discounted.len() <= MAX_DISCOUNTED
                    && report.servers.iter().all(|(address, _)| address.len() <= MAX_ADDRESS)
                    && report
                        .failing
                        .iter()
                        .all(|it| it.server.len() <= MAX_ADDRESS && it.why.len() <= LONGEST_FAILURE),
                "letters in a name or reason",
            ),
            Self::KeySet(report) => (report.fits(), "letters in a name or reason"),
            Self::Letters(letters) => (
                letters.len() <= MAX_LETTERS && letters.iter().all(|letter| letter.len() <= LONGEST_LETTER),
                "letters, or too long a letter",
            ),
            Self::Store(report) => (report.fits(), "letters in a reason"),
            Self::FetchedKeys(keys) => (keys.fits(), "keys"),
            Self::Explained { explanation, .. } => (explanation.fits(), "letters in an explanation"),
            Self::UnseenRoles(unseen) => {
                let is_short = |it: &UnseenRoles| it.issuer.len() <= 2 * MAX_NAME && it.path.len() <= MAX_PATH;
                (unseen.len() <= MOST && unseen.iter().all(is_short), "paths of roles, or too long ones")
            }
            Self::WouldRefuse { limit, sources, .. } => {
                (sources.len() <= MAX_SHADOWED && limit.len() <= LONGEST_LIMIT, "sources, or too long a name")
            }
            Self::WouldDeny { what, principals, .. } => {
                (what.len() <= 2 * MAX_NAME && principals.len() <= MOST_TOLD, "principals, or too long a name")
            }
            Self::Score { scores, limits, profile, .. } => {
                let short = scores.iter().all(|(rule, _)| rule.len() <= MAX_NAME);
                let fits = short && are_bounded(limits) && profile.as_ref().is_none_or(|profile| profile.fits());
                (scores.len() <= MAX_SCORES && fits, "scores, or too long a name")
            }
            Self::Profiles { rows, .. } => {
                let rows = rows.as_deref().unwrap_or_default();
                (rows.len() <= MAX_PROFILES && rows.iter().all(ProfileRow::fits), "profiles, or too long a name")
            }
            Self::Limits { rows, .. } => (are_bounded(rows), "rows, or too long a name"),
            Self::QuotaUsed(report) => (is_bounded(report), "rows, or too long a name"),
            Self::Spent { budgets, .. } => {
                (budgets.as_ref().is_none_or(|it| is_bounded_spent(it)), "budgets, or too long a name")
            }
        };
        if fits { Ok(()) } else { Err(what) }
    }
}

/// Whether there are no more rows of limits than there may be, and no longer ones.
fn are_bounded(rows: &[LimitRow]) -> bool {
    let is_short = |row: &LimitRow| {
        let names = [row.plan.as_ref(), Some(&row.mode), row.per.as_ref()];
        names.into_iter().flatten().all(|name| name.len() <= MAX_NAME)
            && row.limit.len() <= LONGEST_LIMIT
            && row.key.as_ref().is_none_or(|key| key.len() <= LONGEST_KEY)
    };
    rows.len() <= MAX_ROWS && rows.iter().all(is_short)
}

fn is_bounded_spent(spent: &SpentBudgets) -> bool {
    let is_short = |name: &str| name.len() <= LONGEST_LIMIT;
    is_short(&spent.limit)
        && spent.plan.as_deref().is_none_or(is_short)
        && spent.by.len() <= LONGEST_BY
        && spent.rows.len() <= MAX_SPENT
}

fn is_bounded(report: &QuotaReport) -> bool {
    let is_short = |name: &Option<String>| name.as_ref().is_none_or(|name| name.len() <= LONGEST_KEY);
    report.quota.len() <= MAX_NAME
        && report.counts.len() <= LONGEST_COUNTS
        && report.rows.len() <= MAX_ROWS_TOLD
        && report.rows.iter().all(|row| is_short(&row.name))
        && report.warned.len() <= MAX_ROWS_TOLD
        && report.words.len() <= MAX_ROWS_TOLD
}

/// Whoever keeps the series says how many there may be, and how long their labels.
impl Bounded for Telemetry {
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// One response, which a message has room for.
impl Bounded for Delivered {
    fn check(&self) -> Result<(), &'static str> {
        match &self.0 {
            Ok(response) if response.len() > LONGEST_RESPONSE => Err("bytes of a response"),
            Err(why) if why.len() > LONGEST_TEXT => Err("letters in a reason"),
            _ => Ok(()),
        }
    }
}

impl Bounded for Fetched {
    fn check(&self) -> Result<(), &'static str> {
        let fits = match &self.0 {
            Ok(answer) => {
                let texts = [&answer.etag, &answer.last_modified];
                texts.iter().all(|text| text.len() <= LONGEST_TEXT)
                    && answer.checksum.as_ref().is_none_or(|text| text.len() <= LONGEST_CHECKSUM)
                    && answer.signature.as_ref().is_none_or(|text| text.len() <= LONGEST_SIGNATURE)
            }
            Err(why) => why.len() <= LONGEST_TEXT,
        };
        if fits { Ok(()) } else { Err("bytes of what was fetched") }
    }
}

impl Bounded for ObserverAnswer {
    fn check(&self) -> Result<(), &'static str> {
        let fits = match self {
            Self::Done(text, _) => text.len() <= LONGEST_REPORT,
            Self::Refused(word, text) => word.len() <= MAX_NAME && text.len() <= LONGEST_REPORT,
            Self::Report(text) => text.len() <= LONGEST_REPORT,
        };
        if fits { Ok(()) } else { Err("letters in a report") }
    }
}

impl Bounded for Relayed {
    fn check(&self) -> Result<(), &'static str> {
        let fits = self.token.len() <= LONGEST_TOKEN
            && self.name.len() <= LONGEST_NAME
            && self.arguments.len() <= LONGEST_ARGUMENTS;
        if fits { Ok(()) } else { Err("bytes of a command") }
    }
}

impl Bounded for Deviations {
    fn check(&self) -> Result<(), &'static str> {
        let fits = self.0.len() <= MAX_DEVIATING && self.0.iter().all(Deviating::fits);
        if fits { Ok(()) } else { Err("deviations, or too long a name") }
    }
}

/// The guard's own word.
impl Bounded for ToProxy {
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{Counted, FailingServer, GoodClient, UpstreamReport, observer::anomalies::Contributors},
        policy::{
            detect::{Contribution, Contributor, LONGEST_SENTENCE, MAX_NAMED, MAX_REQUESTS, NamedContributor},
            limit::quota::{QuotaSpan, UsedRow, Warned},
        },
        settings::anomalies::ClientMeasure,
        web::request_id::RequestId,
    };

    fn long_name() -> ProfileRow {
        ProfileRow { who: "a".repeat(1_000), ..ProfileRow::default() }
    }

    fn contributors(named: usize, requests: usize, name: usize) -> ToGuard {
        let requests = vec![RequestId(u128::MAX); requests];
        let who = NamedContributor::Principal("a".repeat(name));
        let one = Contributor { who, count: u64::MAX, requests, stands_out: true };
        let contribution = Contribution { named: vec![one; named], ..Contribution::default() };
        let of = "a".repeat(LONGEST_CONTRIBUTOR);
        let told = Contributors { of, measure: ClientMeasure::Failures, minute: 1, contribution };
        let message = ToGuard::Contributors(Box::new(told));
        assert!(postcard::to_stdvec(&message).unwrap().len() <= crate::message::MAX_BYTES - 64, "there is room for it");
        message
    }

    #[test]
    fn what_the_observer_finds_is_bounded() {
        for (many, name, sentence, fits) in [
            (MAX_DEVIATING, LONGEST_CONTRIBUTOR, LONGEST_SENTENCE, true),
            (MAX_DEVIATING + 1, 1, 1, false),
            (1, LONGEST_CONTRIBUTOR + 1, 1, false),
            (1, 1, LONGEST_SENTENCE + 1, false),
        ] {
            let (of, sentence) = ("a".repeat(name), "a".repeat(sentence));
            let (measure, all) = (ClientMeasure::Requests, u64::MAX);
            let one = Deviating { of, measure, minute: all, since: all, alone: all, sentence };
            let found = Deviations(vec![one; many]);
            assert_eq!(found.check().is_ok(), fits, "{many} {name}");
            let bytes = postcard::to_stdvec(&found).unwrap().len();
            assert!(!fits || bytes <= crate::message::MAX_BYTES - 64, "{bytes}");
        }
    }

    #[test]
    fn what_became_of_a_delivery_is_short() {
        for (delivered, fits) in [
            (Ok(vec![0; LONGEST_RESPONSE]), true),
            (Ok(vec![0; LONGEST_RESPONSE + 1]), false),
            (Err("a".repeat(LONGEST_TEXT)), true),
            (Err("a".repeat(LONGEST_TEXT + 1)), false),
        ] {
            assert_eq!(Delivered(delivered.clone()).check().is_ok(), fits, "{delivered:?}");
        }
    }

    #[test]
    fn no_command_is_longer_than_it_may_be() {
        let command = |token: usize, name: usize, arguments: usize| Relayed {
            number: 1,
            address: None,
            token: "a".repeat(token),
            name: "a".repeat(name),
            arguments: vec![b'a'; arguments],
        };
        for (token, name, arguments, fits) in [
            (LONGEST_TOKEN, LONGEST_NAME, LONGEST_ARGUMENTS, true),
            (LONGEST_TOKEN + 1, 1, 1, false),
            (1, LONGEST_NAME + 1, 1, false),
            (1, 1, LONGEST_ARGUMENTS + 1, false),
        ] {
            assert_eq!(command(token, name, arguments).check().is_ok(), fits, "{token} {name} {arguments}");
        }
    }

    #[test]
    fn no_message_holds_more_than_it_may() {
        let good = GoodClient { source: "192.0.2.1".parse().unwrap(), principal: 1 };
        let row = |name: usize, key: usize| LimitRow {
            limit: "a".repeat(name),
            key: Some("a".repeat(key)),
            ..LimitRow::default()
        };
        let upstream = |name: usize, address: usize, why: usize| {
            let servers = vec![("a".repeat(address), crate::message::ServerState::Up)];
            let why = "a".repeat(why);
            let report = UpstreamReport {
                name: "a".repeat(name),
                servers,
                failing: vec![FailingServer { server: "a".repeat(address), why, since: 1 }],
                without_server: 0,
                over_limit: 0,
                retries: 0,
                limit: None,
                discounted: Vec::new(),
            };
            ToGuard::Upstream(Box::new(report))
        };
        let quota = |name: usize, counts: usize, rows: usize, key: usize| {
            let row = UsedRow { key: u64::MAX, units: i64::MAX, is_whole: false, name: Some("a".repeat(key)) };
            let warned = Warned { key: u64::MAX, percent: 100, most: u64::MAX };
            let report = QuotaReport {
                quota: "a".repeat(name),
                counts: "a".repeat(counts),
                span: QuotaSpan { start: i64::MIN, end: i64::MAX, again: u32::MAX, ends: u64::MAX },
                rows: vec![row; rows],
                warned: vec![warned; rows],
                words: Vec::new(),
            };
            let fits = postcard::to_stdvec(&report).unwrap().len() <= crate::message::MAX_BYTES - 64;
            assert!(fits, "a message has room for it");
            ToGuard::QuotaUsed(Box::new(report))
        };
        let counted = |answers, labels: usize, length: usize, signals| {
            let refused = vec![("a".repeat(length), 1); labels];
            let (answers, signals) = (vec![0; answers], vec![0; signals]);
            ToGuard::Counted(Box::new(Counted { answers, refused, signals, connections: 0 }))
        };
        for (message, fits) in [
            (ToGuard::Ready, true),
            (ToGuard::Good(vec![good; MAX_GOOD]), true),
            (ToGuard::Good(vec![good; MAX_GOOD + 1]), false),
            (ToGuard::Refused(vec![(1, 1); MAX_REFUSED]), true),
            (ToGuard::Refused(vec![(1, 1); MAX_REFUSED + 1]), false),
            (ToGuard::KeysUsed(vec![(u64::MAX, 1); MAX_USED]), true),
            (ToGuard::KeysUsed(vec![(1, 1); MAX_USED + 1]), false),
            (counted(ANSWERS.len(), MAX_LABELS, MAX_NAME, Signal::ALL.len()), true),
            (counted(ANSWERS.len() + 1, 0, 0, 0), false),
            (counted(0, MAX_LABELS + 1, 0, 0), false),
            (counted(0, 1, MAX_NAME + 1, 0), false),
            (counted(0, 0, 0, Signal::ALL.len() + 1), false),
            (upstream(MAX_NAME, MAX_ADDRESS, LONGEST_FAILURE), true),
            (upstream(MAX_NAME + 1, 1, 1), false),
            (upstream(1, MAX_ADDRESS + 1, 1), false),
            (upstream(1, 1, LONGEST_FAILURE + 1), false),
            (
                ToGuard::Score {
                    number: 1,
                    profile: None,
                    discounted: None,
                    limits: vec![],
                    scores: vec![("a".repeat(MAX_NAME), 1); MAX_SCORES],
                },
                true,
            ),
            (
                ToGuard::Score {
                    number: 1,
                    profile: None,
                    discounted: None,
                    limits: vec![],
                    scores: vec![(String::new(), 1); MAX_SCORES + 1],
                },
                false,
            ),
            (contributors(MAX_NAMED, MAX_REQUESTS, LONGEST_CONTRIBUTOR), true),
            (contributors(MAX_NAMED + 1, 1, 1), false),
            (contributors(1, MAX_REQUESTS + 1, 1), false),
            (contributors(1, 1, LONGEST_CONTRIBUTOR + 1), false),
            (ToGuard::Profiles { number: 1, rows: None }, true),
            (ToGuard::Profiles { number: 1, rows: Some(vec![ProfileRow::default(); MAX_PROFILES]) }, true),
            (ToGuard::Profiles { number: 1, rows: Some(vec![ProfileRow::default(); MAX_PROFILES + 1]) }, false),
            (ToGuard::Profiles { number: 1, rows: Some(vec![long_name()]) }, false),
            (
                ToGuard::Score {
                    number: 1,
                    profile: None,
                    discounted: None,
                    limits: vec![],
                    scores: vec![("a".repeat(MAX_NAME + 1), 1)],
                },
                false,
            ),
            (ToGuard::Limits { number: 1, rows: vec![row(MAX_NAME, LONGEST_KEY); MAX_ROWS], more: 0 }, true),
            (ToGuard::Limits { number: 1, rows: vec![row(1, 1); MAX_ROWS + 1], more: 0 }, false),
            (ToGuard::Limits { number: 1, rows: vec![row(LONGEST_LIMIT, LONGEST_KEY)], more: 0 }, true),
            (ToGuard::Limits { number: 1, rows: vec![row(LONGEST_LIMIT + 1, 1)], more: 0 }, false),
            (ToGuard::Limits { number: 1, rows: vec![row(1, LONGEST_KEY + 1)], more: 0 }, false),
            (quota(MAX_NAME, LONGEST_COUNTS, MAX_ROWS_TOLD, LONGEST_KEY), true),
            (quota(MAX_NAME + 1, 1, 1, 1), false),
            (quota(1, LONGEST_COUNTS + 1, 1, 1), false),
            (quota(1, 1, MAX_ROWS_TOLD + 1, 1), false),
            (quota(1, 1, 1, LONGEST_KEY + 1), false),
        ] {
            assert_eq!(message.check().is_ok(), fits, "{message:?}");
            // A member that is left out when it is empty moves all that come after it.
            let bytes = postcard::to_stdvec(&message).unwrap();
            let read: ToGuard = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes, "{message:?}");
        }
    }
}
