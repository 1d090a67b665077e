//! The default rules, as the configuration has them: what sets each of them off, and what does not.

use std::{io, path::Path};

use super::*;
use crate::config::{Config, Files};

const BASE: &str = "[proxy]\nuser = \"gateway\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n[upstream.a]\nservers = \
                    [\"127.0.0.1:81\"]\n[[route]]\npath = \"/{*rest}\"\nrequire = [\"public\"]\nupstream = \"a\"\n";

struct Text(String);

impl Files for Text {
    fn read(&self, _path: &Path) -> io::Result<Arc<[u8]>> {
        Ok(self.0.as_bytes().into())
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

/// The rules of a configuration with these tables.
#[track_caller]
fn rules(tables: &str) -> Vec<Rule> {
    match Config::load(Path::new("/gateway.toml"), &Text(format!("{BASE}{tables}"))) {
        Ok(config) => config.proxy.detect.rules,
        Err(errors) => panic!("{tables}: {errors}"),
    }
}

fn enforced() -> Detector {
    detector(10_000, &rules("[detect]\ndefaults = \"enforce\"\n"))
}

/// What asks for a ban of one source that sends `signal` so often, once every so many milliseconds, from another path or as
/// another principal each time where that is said: the rule, and at which request. After each so many are served.
#[track_caller]
fn check(signal: Signal, times: u64, every: u64, varies: bool, served: u64, expect: &[(&str, u64)]) {
    let (detector, address) = (enforced(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let source = Source::of(address, 64);
    let mut asked = Vec::new();
    for number in 0..times {
        let now = START + number * every * (SECOND / 1_000);
        let word: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        let (path, principal) =
            if varies { (format!("/{word}/{number}"), format!("user-{number}")) } else { ("/a".into(), "ada".into()) };
        let facts = ObservedFacts { path: Some(&path), session: Some(1), ..ObservedFacts::default() };
        let (principal, id, limits) = (Some(principal.as_str()), RequestId(u128::from(number)), &[][..]);
        let asks = detector.note(&Observed { signal, source, address, principal, id, limits, facts }, now);
        asked.extend(asks.into_iter().filter(|ask| !ask.shadow).map(|ask| (ask.rule, number + 1)));
        for _ in 0..served {
            let answer = UpstreamAnswer { route: 0, upstream: 0, status: 200, is_identified: true };
            let _nothing = detector.judge_answer(&answer, source, now);
        }
    }
    let asked: Vec<_> = asked.iter().map(|(rule, at)| (rule.as_str(), *at)).collect();
    assert_eq!(asked, expect, "{signal:?} {times} times, every {every} ms, varies: {varies}, served: {served}");
}

#[test]
fn what_sets_each_off() {
    use Signal as S;
    check(S::WrongPassword, 10, 100, true, 0, &[("credential-stuffing", 10)]);
    check(S::WrongPassword, 30, 100, false, 0, &[("password-guessing", 30)]);
    check(S::ForgedToken, 10, 100, false, 0, &[("token-forging", 10)]);
    check(S::Forbidden, 10, 100, true, 0, &[("forbidden-probing", 10)]);
    check(S::UpstreamForbidden, 10, 100, true, 0, &[("forbidden-probing", 10)]);
    check(S::UnknownRoute, 20, 100, true, 0, &[("path-scan", 20)]);
    check(S::UpstreamNotFound, 20, 100, true, 0, &[("path-scan", 20)]);
    check(S::ScanPath, 5, 100, true, 0, &[("vulnerability-scan", 5)]);
    check(S::Injection, 20, 100, false, 0, &[("injection", 20)]);
    check(S::BadRequest, 20, 100, false, 0, &[("malformed-requests", 20)]);
    check(S::SlowClient, 10, 5_000, false, 0, &[("slow-clients", 10)]);
    check(S::HandshakeAbuse, 30, 100, false, 0, &[("handshake-abuse", 30)]);
}

/// What happens to customers, and what would happen to all of them at once if something of ours were wrong.
#[test]
fn what_sets_none_off() {
    use Signal as S;
    for signal in [
        S::ExpiredToken,
        S::InactiveToken,
        S::InvalidBody,
        S::MalformedToken,
        S::MissingToken,
        S::NotYetValid,
        S::OverLimit,
        S::RevokedToken,
        S::TooLarge,
        S::UnfitToken,
        S::UnknownKey,
        S::Unusual,
        S::UpstreamError,
        S::UpstreamUnauthorized,
        S::WrongAudience,
        S::WrongIssuer,
        S::Served,
    ] {
        for varies in [false, true] {
            check(signal, 500, 20, varies, 0, &[]);
        }
    }
    // One who has forgotten a password, a program that goes on asking for what is gone, a customer without a right.
    check(S::WrongPassword, 29, 100, false, 0, &[]);
    for signal in [S::UpstreamNotFound, S::UnknownRoute, S::Forbidden, S::UpstreamForbidden, S::ScanPath] {
        check(signal, 5_000, 20, false, 0, &[]);
    }
    // An office: most is served.
    for signal in [
        S::WrongPassword,
        S::Forbidden,
        S::Injection,
        S::UnknownRoute,
        S::UpstreamNotFound,
        S::BadRequest,
        S::SlowClient,
    ] {
        check(signal, 500, 20, true, 5, &[]);
    }
    // A text that looks like an attack, saved now and then.
    check(S::Injection, 500, 3_200, false, 0, &[]);
}

/// Each object of others that it asks for, by one path: BOLA.
#[test]
fn objects_of_others() {
    let (detector, address) = (enforced(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let asked = (0..30_u64).flat_map(|number| {
        let path = format!("/orders/{number}");
        let facts = ObservedFacts { path: Some(&path), ..ObservedFacts::default() };
        let (signal, source, limits) = (Signal::Forbidden, Source::of(address, 64), &[][..]);
        let (principal, id) = (Some("mallory"), RequestId(u128::from(number)));
        detector.note(&Observed { signal, source, address, principal, id, limits, facts }, START + number * SECOND)
    });
    let asked: Vec<_> = asked.map(|ask| (ask.rule, ask.evidence.len(), ask.shadow)).collect();
    assert_eq!(asked, [("object-enumeration".to_owned(), 30, false)]);
}

#[test]
fn they_are_in_force_by_one_line() {
    let shadows =
        |tables: &str| rules(tables).iter().map(|rule| (rule.name.clone(), rule.shadow)).collect::<BTreeMap<_, _>>();
    assert!(rules("").is_empty(), "none is unless asked for");
    let shadow = shadows("[detect]\ndefaults = \"shadow\"\n");
    assert!(shadow.len() >= 15 && shadow.values().all(|shadow| *shadow), "{shadow:?}");
    assert!(!shadow.contains_key("scraping"), "it looks at every request");
    let enforced = shadows("[detect]\ndefaults = \"enforce\"\n");
    let stay: Vec<_> = enforced.iter().filter(|(_, shadow)| **shadow).map(|(name, _)| name.as_str()).collect();
    let expect = [
        "account-under-attack",
        "error-storm",
        "false-crawler",
        "object-guessing",
        "refused-tokens",
        "upstream-logins",
    ];
    assert_eq!(stay, expect);
    assert_eq!(shadow.keys().collect::<Vec<_>>(), enforced.keys().collect::<Vec<_>>());
    for (tables, name, expect) in [
        ("[[rule]]\nname = \"path-scan\"\n", "path-scan", Some(true)),
        ("[[rule]]\nname = \"path-scan\"\nshadow = false\n", "path-scan", Some(false)),
        ("[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"path-scan\"\ncount = 40\n", "path-scan", Some(false)),
        ("[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"path-scan\"\nshadow = true\n", "path-scan", Some(true)),
        ("[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"path-scan\"\nenabled = false\n", "path-scan", None),
        ("[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"scraping\"\n", "scraping", Some(true)),
    ] {
        assert_eq!(shadows(tables).get(name).copied(), expect, "{tables}");
    }
    let changed =
        rules("[[rule]]\nname = \"path-scan\"\ncount = 40\nwithin = \"5m\"\nshare = 90\nban = \"1h\"\n").remove(0);
    let kept = rules("[[rule]]\nname = \"path-scan\"\n").remove(0);
    assert_eq!((changed.count, changed.within, changed.share), (40, Duration::from_secs(300), Some(90)));
    assert_eq!((&changed.signals, changed.distinct), (&kept.signals, Some(Distinct::Paths)));
    // A rule with signals is whole, whatever its name.
    let whole = "[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"path-scan\"\nsignals = [\"unknown_route\"]\ncount = 5\n\
                 within = \"1m\"\nban = \"1m\"\n";
    let whole: Vec<_> = rules(whole).into_iter().filter(|rule| rule.name == "path-scan").collect();
    assert_eq!((whole.len(), whole[0].distinct, whole[0].share), (1, None, None));
}

#[test]
fn the_page_explains_each() {
    let page = include_str!("../../../../../docs/detection.md");
    for rule in rules("[detect]\ndefaults = \"enforce\"\n[[rule]]\nname = \"scraping\"\n") {
        assert!(page.contains(&format!("| `{}` |", rule.name)), "docs/detection.md lacks {}", rule.name);
    }
}
