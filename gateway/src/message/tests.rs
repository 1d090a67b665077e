//! Every message, spoiled in every way that a few changed bytes can: read as what it still says, or refused.

use std::net::IpAddr;

use gateway_common::source::Source;

use super::{
    compiler::{CompileResult, CompileTask},
    observer::{
        AdminTls, ObserverConfig, ToObserver,
        anomalies::{ContributorShown, ContributorsShown},
        delivery::{Delivered, Delivery, Parcel},
        event::Event,
        relay::{Answered, Relayed},
    },
    telemetry::{Metric, Samples, Telemetry},
    *,
};
use crate::{
    policy::{
        auth::{
            api_key::record::{KeyRecord, Profile},
            revocation::Revoked,
            role_paths::UnseenRoles,
        },
        detect::{Contribution, Contributor, Deviating, Discount, Discounted, NamedContributor},
        limit::{
            quota::{QuotaSpan, UsedRow, Warned},
            quotas::QuotaReport,
            spent::Limited,
        },
    },
    settings::anomalies::ClientMeasure,
    signal::Signal,
    web::request_id::RequestId,
};

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

fn discounted() -> Discounted {
    Discounted { signal: Signal::UpstreamNotFound, count: 7, why: Discount::NobodyServed }
}

fn parcel() -> Parcel {
    let url = crate::settings::audit::AnchorUrl {
        is_tls: true,
        host: "audit.example".to_owned(),
        port: 443,
        authority: "audit.example".to_owned(),
        path: "/anchors".to_owned(),
    };
    Parcel::Post { url, content_type: "application/json".to_owned(), body: vec![7; 40] }
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
    let counted = Counted {
        answers: vec![1; 6],
        refused: vec![("banned".to_owned(), 7)],
        signals: vec![1; Signal::ALL.len()],
        connections: 3,
    };
    let upstream = UpstreamReport {
        name: "items".to_owned(),
        servers: vec![("10.0.0.5:9000".to_owned(), ServerState::Ejected)],
        failing: vec![FailingServer { server: "10.0.0.5:9000".to_owned(), why: "refused".to_owned(), since: 4 }],
        without_server: 1,
        over_limit: 2,
        retries: 3,
        limit: Some(40),
        discounted: vec![discounted()],
    };
    let bundle = Bundle {
        path: "/etc/gateway/gateway.toml".into(),
        text: "[guard]".to_owned(),
        files: vec![("a".into(), vec![0; 9])],
        in_force: InForce {
            bans: vec![BanInForce { id: 1, source: source(), expires: 2 }],
            allows: vec![AllowInForce { source: source() }],
            probations: vec![Probation { source: source(), until: 3 }],
            promoted: vec!["rule.a".to_owned()],
            slowed: vec![Slowed { source: source(), per_minute: 60, until: 7 }],
            ranges: vec![CrawlerRanges::new("google", Some(&[source()]))],
        },
        ..Bundle::default()
    };
    let tls = AdminTls { certificate: vec![1; 40], private_key: vec![2; 40], client_ca: Some(vec![3; 40]) };
    let config =
        ObserverConfig { hosts: vec!["a".to_owned()], tls: Some(tls), token: Some(vec![4; 20]), ..Default::default() };
    let key = KeyRecord {
        id: 1,
        tag: [2; 32],
        name: "deploy".to_owned(),
        profile: Profile::default(),
        expires: Some(3),
        is_revoked: false,
        is_replaced: false,
        is_foreign: true,
    };
    let revoked = Revoked::Token { issuer: "a".to_owned(), id: "b".to_owned() };
    let mut samples = Samples::default();
    samples.count(Metric::AdminRequests, &["200"], 7);
    samples.level(Metric::ObserverSeries, &[], u64::MAX);
    let telemetry = Telemetry { serves: true, changed: samples.into_inner(), ..Telemetry::default() };
    let row = LimitRow {
        limit: "a".to_owned(),
        key: Some("address=192.0.2.1".to_owned()),
        left: Some(7),
        ..LimitRow::default()
    };
    let shown = ToObserver::Contributors(Box::new(shown()));
    assert_eq!(postcard::from_bytes::<ToObserver>(&written(&shown)).unwrap(), shown);
    vec![
        written(&ToGuard::Adopt { configuration: 7, stage: Stage::Serving }),
        written(&ToGuard::Ready),
        written(&ToGuard::Failed { reason: "why".to_owned() }),
        written(&ToGuard::BanRequest(Box::new(ask))),
        written(&ToGuard::Good(vec![GoodClient { source: source(), principal: 9 }; 3])),
        written(&ToGuard::Lost(Lost { asks: 1, log_lines: [2; 5], connections: 3, shed: 4, at_accept: 5 })),
        written(&ToGuard::Refused(vec![(1, 2), (3, u64::MAX)])),
        written(&ToGuard::Counted(Box::new(counted))),
        written(&ToGuard::Upstream(Box::new(upstream))),
        written(&ToGuard::WouldRefuse {
            limit: "a".to_owned(),
            requests: 1,
            sources: vec![ShadowedSource { source: source() }],
        }),
        written(&ToGuard::Explained {
            number: 1,
            explanation: Box::new(explain::Explanation::Refused("a".to_owned())),
        }),
        written(&ToProxy::Explain { number: 1, question: Box::new(explain::ExplainQuestion::Request(Box::default())) }),
        written(&ToGuard::UnseenRoles(vec![UnseenRoles {
            issuer: "jwt".to_owned(),
            path: "roles".to_owned(),
            tokens: 100,
        }])),
        written(&ToGuard::WouldDeny { what: "route.a.scopes".to_owned(), requests: 1, principals: vec![1, u64::MAX] }),
        written(&ToGuard::Closed { ban: 1, connections: 2 }),
        written(&ToGuard::KeysUsed(vec![(u64::MAX, 7); 3])),
        written(&ToGuard::Score {
            number: 1,
            scores: vec![("a".to_owned(), 2)],
            limits: vec![row.clone()],
            profile: None,
            discounted: Some(discounted()),
        }),
        written(&ToGuard::Limits { number: 1, rows: vec![row], more: 3 }),
        written(&ToGuard::Contributors(Box::new(contributors(address)))),
        written(&ToProxy::Deviations(deviations())),
        written(&ToProxy::Slowed(Slowed { source: source(), per_minute: 60, until: 7 })),
        written(&ToProxy::CrawlerRanges(CrawlerRanges::new("google", Some(&[source()])))),
        written(&deviations()),
        written(&shown),
        written(&ToGuard::Pong { number: 7 }),
        written(&ToGuard::Outdated { reason: "why".to_owned() }),
        written(&ToGuard::Stalled { worker: 7 }),
        written(&ToProxy::Ping { number: 7, heard: 6 }),
        written(&ToGuard::QuotaUsed(Box::new(quota_report()))),
        written(&ToProxy::QuotaUsed(Box::new(quota_report()))),
        written(&ToGuard::Spent { number: 7, budgets: Some(Box::new(spent())) }),
        written(&ToProxy::TellSpent { number: 7 }),
        written(&ToProxy::Limits {
            number: 1,
            question: LimitQuestion::SetQuota { quota: None, key: vec![("a".to_owned(), "b".to_owned())], used: 7 },
        }),
        written(&ToProxy::Start { workers: 2, listeners: 1 }),
        written(&ToProxy::Banned { id: 1, source: source(), expires: 2 }),
        written(&ToProxy::CredentialChanges(vec![CredentialChange::Key(key), CredentialChange::Revoked(revoked)])),
        written(&ToProxy::Score { number: 1, address }),
        written(&ToProxy::Limits { number: 1, question: LimitQuestion::Show(vec![("a".to_owned(), "b".to_owned())]) }),
        written(&ToObserver::Proxy { generation: 3 }),
        written(&Relayed {
            number: 1,
            address: Some(address),
            token: "gwat_x".to_owned(),
            name: "block_add".to_owned(),
            arguments: b"{}".to_vec(),
        }),
        written(&Answered { number: 1, status: 200 }),
        written(&CompileTask { memory: 1 << 30, seconds: 30 }),
        written(&CompileResult::Refused { faults: "route[0].schema: it is no schema".to_owned() }),
        written(&Delivery { what: parcel(), ca: Some(vec![5; 40]) }),
        written(&Delivered(Ok(vec![6; 40]))),
        written(&Delivered(Err("nobody listens".to_owned()))),
        written(&Event { line: "{\"event\":\"ban\"}".to_owned(), missed: 7 }),
        written(&ToObserver::Telemetry(telemetry.clone())),
        written(&telemetry),
        written(&bundle),
        written(&config),
    ]
}

fn deviations() -> Deviations {
    let (of, sentence) = ("/login".to_owned(), "/login: 41 failures a minute, usually 0 to 3".to_owned());
    let measure = ClientMeasure::Failures;
    Deviations(vec![Deviating { of, measure, minute: 7, since: 6, alone: 14, sentence }; 2])
}

fn shown() -> ContributorsShown {
    let list = [None, Some("banned".to_owned())].map(|done| {
        let (who, kind, requests) = ("192.0.2.7".to_owned(), "source".to_owned(), vec!["07".to_owned(); 4]);
        ContributorShown { who, kind, count: 31, stands_out: done.is_some(), done, requests }
    });
    let (of, measure, list) = ("/login".to_owned(), ClientMeasure::Failures, list.into());
    ContributorsShown { of, measure, total: 41, sources: 9, principals: 1, list }
}

fn contributors(address: IpAddr) -> Contributors {
    let contributor = |who| Contributor { who, count: 31, requests: vec![RequestId(7); 4], stands_out: true };
    let named = vec![
        contributor(NamedContributor::Source(Source::of(address, 64), address, None)),
        contributor(NamedContributor::Principal("ada".to_owned())),
    ];
    let contribution = Contribution { total: 41, sources: 9, principals: 1, named };
    Contributors { of: "/login".to_owned(), measure: ClientMeasure::Failures, minute: 7, contribution }
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
    // Where `cargo xtask fuzz message` begins.
    if let Some(folder) = std::env::var_os("GATEWAY_FUZZ_SEEDS").map(PathBuf::from) {
        for (number, message) in messages().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), message).unwrap();
        }
    }
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

fn spent() -> SpentBudgets {
    SpentBudgets {
        limited: Limited::Requests,
        limit: "a".to_owned(),
        plan: Some("gold".to_owned()),
        by: "principal".to_owned(),
        unit: 1_000,
        rows: vec![(u64::MAX, 1), (2, u64::MAX)],
    }
}

fn quota_report() -> QuotaReport {
    let row = |key, name: Option<&str>| UsedRow { key, units: -3, is_whole: true, name: name.map(Into::into) };
    QuotaReport {
        quota: "monthly".to_owned(),
        counts: "requests of principal per month in UTC".to_owned(),
        span: QuotaSpan { start: -1, end: i64::MAX, again: 1, ends: u64::MAX },
        rows: vec![row(u64::MAX, None), row(1, Some("principal=ada"))],
        warned: vec![Warned { key: 1, percent: 80, most: 100 }],
        words: vec![(1, u64::MAX)],
    }
}
