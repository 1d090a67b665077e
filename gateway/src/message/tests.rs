//! Every message, spoiled in every way that a few changed bytes can: read as what it still says, or refused.

use std::net::IpAddr;

use gateway_common::source::Source;

use super::{
    observer::{AdminTls, ObserverConfig, ToObserver},
    telemetry::{Metric, Samples, Telemetry},
    *,
};
use crate::{request_id::RequestId, signal::Signal};

mod reading;

/// How often each message is spoiled.
const SPOILED: u64 = 3_000;

/// What the changes follow from: the same in every run.
const SEED: u64 = 0x5eed_0f0f_c0ff_ee05;

fn source() -> Source {
    "2001:db8:1::/48".parse().unwrap()
}

fn written(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap()
}

/// One of each kind, as it goes over a channel.
fn messages() -> Vec<Vec<u8>> {
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let ask = BanRequest {
        source: Source::of(address, 64),
        address,
        relay: Some(address),
        rule: "forged-tokens".to_owned(),
        signal: Signal::ForgedToken,
        evidence: vec![RequestId(1), RequestId(u128::MAX)],
        seconds: 600,
        shadow: false,
        noted: 1,
    };
    let counted =
        Counted { answers: vec![1; 6], refused: vec![("banned".to_owned(), 7)], signals: vec![1; 16], connections: 3 };
    let upstream = UpstreamReport {
        name: "items".to_owned(),
        servers: vec![("10.0.0.5:9000".to_owned(), ServerState::Ejected)],
        without_server: 1,
        over_limit: 2,
        retries: 3,
    };
    let bundle = Bundle {
        path: "/etc/gateway/gateway.toml".into(),
        text: "[guard]".to_owned(),
        files: vec![("a".into(), vec![0; 9])],
        bans: vec![BanInForce { id: 1, source: source(), expires: 2 }],
        allows: vec![AllowInForce { source: source() }],
        probations: vec![Probation { source: source(), until: 3 }],
        tickets: None,
        promoted: vec!["rule.a".to_owned()],
        ..Bundle::default()
    };
    let tls = AdminTls { certificate: vec![1; 40], private_key: vec![2; 40], client_ca: Some(vec![3; 40]) };
    let config =
        ObserverConfig { hosts: vec!["a".to_owned()], tls: Some(tls), token: Some(vec![4; 20]), ..Default::default() };
    let mut samples = Samples::default();
    samples.count(Metric::AdminRequests, &["200"], 7);
    samples.level(Metric::ObserverSeries, &[], u64::MAX);
    let telemetry = Telemetry { serves: true, changed: samples.into_inner(), ..Telemetry::default() };
    vec![
        written(&ToGuard::Ready),
        written(&ToGuard::Failed { reason: "why".to_owned() }),
        written(&ToGuard::BanRequest(Box::new(ask))),
        written(&ToGuard::Good(vec![GoodClient { source: source(), principal: 9 }; 3])),
        written(&ToGuard::Lost(Lost { asks: 1, log_lines: [2; 5], connections: 3, shed: 4, at_accept: 5 })),
        written(&ToGuard::Refused(vec![(1, 2), (3, u64::MAX)])),
        written(&ToGuard::Counted(Box::new(counted))),
        written(&ToGuard::Upstream(Box::new(upstream))),
        written(&ToGuard::WouldRefuse { requests: 1, sources: vec![Shadowed { source: source() }] }),
        written(&ToGuard::Closed { ban: 1, connections: 2 }),
        written(&ToGuard::Score { number: 1, scores: vec![("a".to_owned(), 2)] }),
        written(&ToProxy::Start { workers: 2, listeners: 1 }),
        written(&ToProxy::Banned { id: 1, source: source(), expires: 2 }),
        written(&ToProxy::Score { number: 1, address }),
        written(&ToObserver::Proxy { generation: 3 }),
        written(&ToObserver::Telemetry(telemetry.clone())),
        written(&telemetry),
        written(&bundle),
        written(&config),
    ]
}

/// Numbers that look like chance and are the same each time (splitmix64, by Sebastiano Vigna).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) >> 33).unwrap() % end.max(1)
    }
}

/// The message with one to four things wrong.
fn spoiled(message: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut message = message.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(message.len());
        match numbers.below(5) {
            // Lengths are written in seven bits a byte: such bytes make them enormous.
            0 => message.insert(at, 0xff),
            1 => message.truncate(at),
            2 if !message.is_empty() => message[at] = numbers.below(256).to_le_bytes()[0],
            3 if !message.is_empty() => message[at] ^= 1 << numbers.below(8),
            _ => message.extend_from_within(at..),
        }
    }
    message
}

#[test]
fn spoiled_messages_are_read_safely() {
    let mut numbers = Numbers(SEED);
    let mut read: u64 = 0;
    for message in messages() {
        assert_eq!(reading::fault(&message), None);
        for _ in 0..SPOILED {
            let spoiled = spoiled(&message, &mut numbers);
            assert_eq!(reading::fault(&spoiled), None, "{spoiled:?}");
            read += u64::from(postcard::from_bytes::<ToGuard>(&spoiled).is_ok());
        }
    }
    assert!(read > 1_000, "{read} are messages still");
}
