//! What a hostile proxy says: every message of the channel, with fields as far out as they go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway::{
    message::{
        ANSWERS, Counted, FailingServer, GoodClient, KeptKeys, KeySetReport, Lost, MAX_GOOD, MAX_PLAN_MEMBERS,
        MAX_REFUSED, MAX_USED, PlanMember, ServerState, ShadowedSource, Stage, ToGuard, UpstreamReport,
        channel::{self, Sender},
        cluster::StoreReport,
        observer::anomalies::Contributors,
    },
    policy::{
        auth::role_paths::UnseenRoles,
        detect::{
            AskedBan, BanRequest, Contribution, Contributor, Discount, Discounted, Failing, MAX_DISCOUNTED,
            MAX_FAILING, MAX_TAKEN_BACK, NamedContributor, OurFault, ProfileRow,
        },
        limit::{
            quota::{QuotaSpan, UsedRow, Warned},
            quotas::QuotaReport,
            report::LimitRow,
            spent::{Limited, SpentBudgets},
        },
    },
    settings::anomalies::ClientMeasure,
    signal::Signal,
    snapshot::explain::Explanation,
    web::request_id::RequestId,
};
use gateway_common::source::Source;
use serde::Serialize;
use support::random::Random;

/// Whom a ban would cut off: the host, its way out, its servers, itself, everybody, nobody.
const PROTECTED: [&str; 12] = [
    "10.0.0.1",
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "169.254.1.1",
    "192.0.2.200",
    "::1",
    "fd00::1",
    "fe80::1",
    "ff02::1",
    "::",
];

/// A message as it goes over the channel.
pub(crate) fn encoded<T: Serialize>(version: u8, message: &T) -> Vec<u8> {
    let (ours, theirs) = channel::pair().unwrap();
    let mut bytes = vec![0; 1 << 17];
    if Sender::new(ours).try_send(message).is_err() {
        // Too large for the channel: its first bytes are.
        return vec![version; 1 << 16];
    }
    let length = nix::unistd::read(&theirs, &mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// Every kind of message, each with what makes one.
macro_rules! kinds {
    ($($kind:ident: $make:expr,)*) => {
        const KINDS: &[fn(&mut Random) -> ToGuard] = &[$($make),*];

        /// A kind that is missing above does not compile: nobody plays it.
        fn kind_of(message: &ToGuard) -> usize {
            match message {
                $(ToGuard::$kind { .. } => Kind::$kind as usize,)*
            }
        }

        #[derive(Clone, Copy)]
        enum Kind {
            $($kind,)*
        }
    };
}

kinds! {
    Adopt: |random| ToGuard::Adopt {
        configuration: number(random),
        stage: [Stage::Starting, Stage::Serving, Stage::Draining][below(random, 3)],
    },
    Ready: |_| ToGuard::Ready,
    Failed: |random| ToGuard::Failed { reason: name(random) },
    Configured: |random| ToGuard::Configured { reload: number(random) },
    NotConfigured: |random| ToGuard::NotConfigured { reload: number(random), reason: name(random) },
    BanRequest: ask,
    Contributors: contributors,
    OurFault: our_fault,
    Good: good,
    PlanMembers: |random| {
        ToGuard::PlanMembers((0..below(random, MAX_PLAN_MEMBERS + 1)).map(|_| plan_member(random)).collect())
    },
    Lost: |random| ToGuard::Lost(Lost {
        asks: number(random),
        log_lines: std::array::from_fn(|_| number(random)),
        connections: number(random),
        shed: number(random),
        at_accept: number(random),
    }),
    Refused: |random| {
        ToGuard::Refused((0..below(random, MAX_REFUSED)).map(|_| (random.below(100), number(random))).collect())
    },
    Counted: |random| ToGuard::Counted(Box::new(Counted {
        answers: (0..below(random, ANSWERS.len())).map(|_| number(random)).collect(),
        refused: (0..below(random, 64)).map(|_| (name(random), number(random))).collect(),
        signals: (0..below(random, Signal::ALL.len())).map(|_| number(random)).collect(),
        connections: number(random),
    })),
    Upstream: |random| ToGuard::Upstream(Box::new(UpstreamReport {
        name: name(random),
        servers: (0..below(random, 80)).map(|_| (name(random), ServerState::Down)).collect(),
        failing: (0..below(random, 80))
            .map(|_| FailingServer { server: name(random), why: name(random), since: number(random) })
            .collect(),
        without_server: number(random),
        over_limit: number(random),
        retries: number(random),
        limit: u32::try_from(number(random)).ok(),
        discounted: (0..below(random, MAX_DISCOUNTED + 1)).map(|_| discounted(random)).collect(),
    })),
    KeySet: |random| ToGuard::KeySet(Box::new(KeySetReport {
        issuer: issuer(random),
        source: name(random),
        keys: u32::MAX,
        confirmed: number(random),
        usable: below(random, 2) == 0,
        failing_since: number(random),
        why: name(random),
    })),
    Letters: |random| {
        let byte = |random: &mut Random| random.below(256).to_le_bytes()[0];
        let letter = |random: &mut Random| (0..below(random, 200)).map(|_| byte(random)).collect();
        ToGuard::Letters((0..below(random, 5)).map(|_| letter(random)).collect())
    },
    Store: |random| ToGuard::Store(Box::new(StoreReport {
        reachable: below(random, 2) == 0,
        since: number(random),
        why: name(random),
        letters: name(random),
        lost: number(random),
        calls: number(random),
        failures: number(random),
        latency_micros: number(random),
        alone: number(random),
        disbelieved: number(random),
        malformed: number(random),
    })),
    FetchedKeys: |random| ToGuard::FetchedKeys(Box::new(KeptKeys {
        issuer: issuer(random),
        source: name(random),
        document: name(random),
        confirmed: number(random),
    })),
    WouldRefuse: |random| ToGuard::WouldRefuse {
        limit: name(random),
        requests: number(random),
        sources: (0..below(random, 500)).map(|_| ShadowedSource { source: source(random) }).collect(),
    },
    WouldDeny: |random| ToGuard::WouldDeny {
        what: name(random),
        requests: number(random),
        principals: (0..below(random, 500)).map(|_| number(random)).collect(),
    },
    Closed: |random| ToGuard::Closed { ban: number(random), connections: u32::MAX },
    UnseenRoles: |random| {
        let unseen = |random: &mut Random| UnseenRoles {
            issuer: issuer(random),
            path: name(random),
            tokens: number(random),
        };
        ToGuard::UnseenRoles((0..below(random, 9)).map(|_| unseen(random)).collect())
    },
    Ack: |random| ToGuard::Ack { number: number(random) },
    KeysUsed: |random| {
        ToGuard::KeysUsed((0..below(random, MAX_USED)).map(|_| (number(random), u32::MAX)).collect())
    },
    Score: |random| ToGuard::Score {
        number: number(random),
        scores: (0..below(random, 200)).map(|_| (name(random), u32::MAX)).collect(),
        limits: limit_rows(random),
        profile: (below(random, 2) == 0).then(|| Box::new(profile(random))),
        discounted: Some(discounted(random)),
    },
    Profiles: |random| ToGuard::Profiles {
        number: number(random),
        rows: (below(random, 4) > 0).then(|| (0..below(random, 20)).map(|_| profile(random)).collect()),
    },
    Explained: |random| ToGuard::Explained {
        number: number(random),
        explanation: Box::new(Explanation::Refused(name(random))),
    },
    Limits: |random| ToGuard::Limits { number: number(random), rows: limit_rows(random), more: number(random) },
    Pong: |random| ToGuard::Pong { number: number(random) },
    Outdated: |random| ToGuard::Outdated { reason: name(random) },
    Stalled: |random| ToGuard::Stalled { worker: u16::try_from(below(random, 1 << 16)).unwrap() },
    QuotaUsed: quota_used,
    Spent: |random| ToGuard::Spent {
        number: number(random),
        budgets: (below(random, 4) > 0).then(|| Box::new(spent(random))),
    },
}

/// A message of any kind. What ends its proxy comes seldom: the others are to be heard first.
pub(crate) fn any(random: &mut Random) -> ToGuard {
    let kind = below(random, KINDS.len());
    let message = KINDS[kind](random);
    assert_eq!(kind_of(&message), kind, "{message:?}");
    let is_last = matches!(message, ToGuard::Failed { .. } | ToGuard::Outdated { .. } | ToGuard::Stalled { .. });
    if is_last && below(random, 1_000) > 0 { ask(random) } else { message }
}

/// A table of an issuer, mostly of one that is configured.
fn issuer(random: &mut Random) -> String {
    if below(random, 2) == 0 { "jwt".to_owned() } else { name(random) }
}

/// Good clients of everywhere fail, and bans of anybody rest on that.
fn our_fault(random: &mut Random) -> ToGuard {
    let ban = |random: &mut Random| AskedBan {
        source: source(random),
        rule: name(random),
        request: RequestId(number(random).into()),
    };
    ToGuard::OurFault(Box::new(OurFault {
        signal: Signal::ALL[below(random, Signal::ALL.len())],
        route: name(random),
        since: number(random),
        clients: (0..below(random, MAX_FAILING + 1)).map(|_| Failing { source: source(random) }).collect(),
        bans: (0..below(random, MAX_TAKEN_BACK + 1)).map(|_| ban(random)).collect(),
    }))
}

/// Some quota, in some period, is used up or given back.
fn quota_used(random: &mut Random) -> ToGuard {
    let signed = |random: &mut Random| number(random).cast_signed();
    let row = |random: &mut Random| UsedRow {
        key: number(random),
        units: signed(random),
        is_whole: below(random, 4) == 0,
        name: (below(random, 2) == 0).then(|| name(random)),
    };
    let again = u32::try_from(below(random, 3)).unwrap();
    ToGuard::QuotaUsed(Box::new(QuotaReport {
        quota: if below(random, 4) > 0 { "daily".to_owned() } else { name(random) },
        counts: if below(random, 4) > 0 { "requests of address per day in UTC".to_owned() } else { name(random) },
        span: QuotaSpan { start: signed(random), end: signed(random), again, ends: number(random) },
        rows: (0..below(random, 100)).map(|_| row(random)).collect(),
        warned: (0..below(random, 100))
            .map(|_| Warned { key: number(random), percent: u8::MAX, most: number(random) })
            .collect(),
        words: (0..below(random, 100)).map(|_| (number(random), number(random))).collect(),
    }))
}

fn spent(random: &mut Random) -> SpentBudgets {
    SpentBudgets {
        limited: Limited::Requests,
        limit: name(random),
        plan: (below(random, 2) == 0).then(|| name(random)),
        by: name(random),
        unit: number(random),
        rows: (0..below(random, 100)).map(|_| (number(random), number(random))).collect(),
    }
}

fn limit_rows(random: &mut Random) -> Vec<LimitRow> {
    (0..below(random, 100)).map(|_| LimitRow { limit: name(random), ..LimitRow::default() }).collect()
}

fn profile(random: &mut Random) -> ProfileRow {
    ProfileRow { who: name(random), kind: name(random), requests: number(random), ..ProfileRow::default() }
}

/// Anybody at all causes an anomaly.
fn contributors(random: &mut Random) -> ToGuard {
    let measure = [ClientMeasure::Errors, ClientMeasure::Failures, ClientMeasure::Requests][below(random, 3)];
    let named = |random: &mut Random| {
        let address = address(random);
        let who = match below(random, 3) {
            0 => NamedContributor::Principal(name(random)),
            1 => NamedContributor::Source(source(random), address, Some(address)),
            _ => NamedContributor::Source(Source::of(address, 64), address, None),
        };
        let requests = (0..below(random, 5)).map(|_| RequestId(number(random).into())).collect();
        Contributor { who, count: number(random), requests, stands_out: below(random, 2) == 0 }
    };
    let named = (0..below(random, 17)).map(|_| named(random)).collect();
    let contribution = Contribution { total: number(random), sources: u32::MAX, principals: u32::MAX, named };
    let (of, minute) = (name(random), number(random));
    ToGuard::Contributors(Box::new(Contributors { of, measure, minute, contribution }))
}

fn plan_member(random: &mut Random) -> PlanMember {
    PlanMember { source: source(random), principal: number(random), plan: name(random) }
}

fn discounted(random: &mut Random) -> Discounted {
    Discounted { signal: Signal::UpstreamNotFound, count: number(random), why: Discount::NobodyServed }
}

/// More than a message may hold, and small on the channel.
pub(crate) fn too_much(random: &mut Random) -> ToGuard {
    match below(random, 3) {
        0 => ToGuard::Refused(vec![(0, 0); 20_000]),
        1 => ToGuard::Counted(Box::new(Counted { refused: vec![(String::new(), 0); 20_000], ..Counted::default() })),
        _ => ToGuard::Score {
            number: 0,
            scores: vec![(String::new(), 0); 20_000],
            limits: Vec::new(),
            profile: None,
            discounted: None,
        },
    }
}

/// As many clients as a message may name, all of them good.
pub(crate) fn good(random: &mut Random) -> ToGuard {
    let client = |random: &mut Random| GoodClient { source: source(random), principal: number(random) };
    ToGuard::Good((0..below(random, MAX_GOOD + 1)).map(|_| client(random)).collect())
}

/// A ban of anybody at all.
pub(crate) fn ask(random: &mut Random) -> ToGuard {
    let address = address(random);
    let own = Source::of(address, 64);
    ToGuard::BanRequest(Box::new(BanRequest {
        source: if below(random, 8) == 0 { source(random) } else { own },
        address,
        relay: (below(random, 16) == 0).then_some(address),
        rule: if below(random, 8) == 0 {
            name(random)
        } else {
            ["bad-tokens", "limit.address"][below(random, 2)].to_owned()
        },
        signal: if below(random, 8) == 0 { Signal::ALL[below(random, Signal::ALL.len())] } else { Signal::ForgedToken },
        evidence: (0..below(random, 12)).map(|_| RequestId(number(random).into())).collect(),
        seconds: number(random),
        shadow: below(random, 2) == 0,
        noted: number(random),
    }))
}

pub(crate) fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(u64::try_from(bound).unwrap())).unwrap()
}

fn number(random: &mut Random) -> u64 {
    match below(random, 4) {
        0 => 0,
        1 => u64::MAX,
        2 => random.below(100),
        _ => random.below(u64::MAX),
    }
}

fn name(random: &mut Random) -> String {
    match below(random, 4) {
        0 => String::new(),
        1 => "\u{1b}[2J\n\"}\u{202e}".to_owned(),
        2 => format!("name-{}", random.below(u64::MAX)),
        _ => "x".repeat(below(random, 65)),
    }
}

fn address(random: &mut Random) -> IpAddr {
    match below(random, 8) {
        0 => PROTECTED[below(random, PROTECTED.len())].parse().unwrap(),
        1 => IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(random.below(u64::MAX)) << 64 | u128::from(random.below(u64::MAX)),
        )),
        // Of one network, so that they add up.
        2 => {
            IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(random.below(u64::MAX) % 256) << 64 | 1))
        }
        _ => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(random.below(u64::MAX) >> 32).unwrap())),
    }
}

fn source(random: &mut Random) -> Source {
    let address = address(random);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = u8::try_from(below(random, longest + 1)).unwrap();
    Source::network(address, length).unwrap_or_else(|| Source::of(address, 64))
}
