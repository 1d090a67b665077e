//! What a hostile proxy says: every message of the channel, with fields as far out as they go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway::{
    message::{
        ANSWERS, Counted, FailingServer, GoodClient, Lost, MAX_GOOD, MAX_PLAN_MEMBERS, MAX_REFUSED, MAX_USED,
        PlanMember, ServerState, ShadowedSource, ToGuard, UpstreamReport,
        channel::{self, Sender},
        observer::anomalies::Contributors,
    },
    policy::{
        detect::{BanRequest, Contribution, Contributor, Discount, Discounted, NamedContributor},
        limit::report::LimitRow,
    },
    settings::anomalies::ClientMeasure,
    signal::Signal,
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

pub(crate) fn any(random: &mut Random) -> ToGuard {
    match below(random, 17) {
        0 => ToGuard::Ready,
        1 => ask(random),
        2 => good(random),
        3 => ToGuard::Lost(Lost {
            asks: number(random),
            log_lines: std::array::from_fn(|_| number(random)),
            connections: number(random),
            shed: number(random),
            at_accept: number(random),
        }),
        4 => ToGuard::Refused((0..below(random, MAX_REFUSED)).map(|_| (random.below(100), number(random))).collect()),
        5 => ToGuard::Counted(Box::new(Counted {
            answers: (0..below(random, ANSWERS.len())).map(|_| number(random)).collect(),
            refused: (0..below(random, 64)).map(|_| (name(random), number(random))).collect(),
            signals: (0..below(random, Signal::ALL.len())).map(|_| number(random)).collect(),
            connections: number(random),
        })),
        6 => ToGuard::Upstream(Box::new(UpstreamReport {
            name: name(random),
            servers: (0..below(random, 80)).map(|_| (name(random), ServerState::Down)).collect(),
            failing: (0..below(random, 80))
                .map(|_| FailingServer { server: name(random), why: name(random), since: number(random) })
                .collect(),
            without_server: number(random),
            over_limit: number(random),
            retries: number(random),
            limit: u32::try_from(number(random)).ok(),
            discounted: (0..below(random, 8)).map(|_| discounted(random)).collect(),
        })),
        7 => ToGuard::WouldRefuse {
            limit: name(random),
            requests: number(random),
            sources: (0..below(random, 500)).map(|_| ShadowedSource { source: source(random) }).collect(),
        },
        8 => ToGuard::Closed { ban: number(random), connections: u32::MAX },
        9 => ToGuard::Ack { number: number(random) },
        10 => ToGuard::Score {
            number: number(random),
            scores: (0..below(random, 200)).map(|_| (name(random), u32::MAX)).collect(),
            limits: (0..below(random, 100)).map(|_| LimitRow { limit: name(random), ..LimitRow::default() }).collect(),
            profile: None,
            discounted: Some(discounted(random)),
        },
        11 => ToGuard::WouldDeny {
            what: name(random),
            requests: number(random),
            principals: (0..below(random, 500)).map(|_| number(random)).collect(),
        },
        12 => ToGuard::KeysUsed((0..below(random, MAX_USED)).map(|_| (number(random), u32::MAX)).collect()),
        13 => ToGuard::Pong { number: number(random) },
        14 => ToGuard::PlanMembers((0..below(random, MAX_PLAN_MEMBERS + 1)).map(|_| plan_member(random)).collect()),
        15 => contributors(random),
        _ => ask(random),
    }
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
