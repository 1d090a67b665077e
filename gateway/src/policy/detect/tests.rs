//! When signals add up.

use std::{collections::BTreeMap, net::Ipv4Addr, thread, time::Duration};

use super::*;
use crate::settings::detect::{Defaults, MAX_EVIDENCE};

mod answers;
mod defaults;
mod keys;

const SECOND: u64 = 1_000_000_000;
/// Long after boot.
const START: u64 = 3_600 * SECOND;

fn rule(name: &str, signals: &[Signal], count: u32, seconds: u64) -> Rule {
    let (within, ban) = (Duration::from_secs(seconds), Duration::from_millis(600_500));
    let (name, signals) = (name.to_owned(), signals.to_vec());
    Rule { name, signals, count, within, ban, ..Rule::default() }
}

fn settings(capacity: usize, rules: &[Rule]) -> detect::Settings {
    detect::Settings {
        capacity,
        unusual_after: Duration::from_secs(60),
        defaults: Defaults::Off,
        profiles: 0,
        contributors: 0,
        rules: rules.to_vec(),
        clamps: Vec::new(),
    }
}

fn detector(capacity: usize, rules: &[Rule]) -> Detector {
    Detector::new(&settings(capacity, rules))
}

fn note(detector: &Detector, signal: Signal, from: u32, id: u128, now: u64) -> Vec<(String, Vec<u128>)> {
    note_about(detector, signal, from, None, id, now)
}

fn note_about(
    detector: &Detector,
    signal: Signal,
    from: u32,
    principal: Option<&str>,
    id: u128,
    now: u64,
) -> Vec<(String, Vec<u128>)> {
    let address = IpAddr::V4(Ipv4Addr::from_bits(from));
    let source = Source::of(address, 64);
    let asks = detector.note(
        &Observed {
            signal,
            source,
            address,
            principal,
            id: RequestId(id),
            limits: &[],
            facts: ObservedFacts::default(),
        },
        now,
    );
    asks.into_iter().map(|ask| (ask.rule, ask.evidence.into_iter().map(|id| id.0).collect())).collect()
}

/// Notes a bad token at each of the times, in tenths of a second; expects evidence at those numbered.
#[track_caller]
fn check(count: u32, seconds: u64, tenths: &[u64], expect: &[(usize, &[u128])]) {
    let detector = detector(10, &[rule("bad-tokens", &[Signal::ForgedToken], count, seconds)]);
    let mut asked = Vec::new();
    for (at, tenth) in tenths.iter().enumerate() {
        for (_, evidence) in note(&detector, Signal::ForgedToken, 1, at as u128, START + tenth * SECOND / 10) {
            asked.push((at, evidence));
        }
    }
    let expect: Vec<_> = expect.iter().map(|(at, evidence)| (*at, evidence.to_vec())).collect();
    assert_eq!(asked, expect, "{count} within {seconds} s at {tenths:?}");
}

#[test]
fn counts_within_its_time() {
    check(3, 10, &[0, 1, 2], &[(2, &[0, 1, 2])]);
    check(3, 10, &[0, 0, 0], &[(2, &[0, 1, 2])]);
    check(3, 10, &[0, 1], &[]);
    check(1, 10, &[0, 500], &[(0, &[0]), (1, &[1])]);
    // The last moment counts, the one after it does not.
    check(3, 10, &[0, 50, 100], &[(2, &[0, 1, 2])]);
    check(3, 10, &[0, 50, 101], &[]);
    // Sliding: what is too old goes one by one.
    check(3, 10, &[0, 90, 101, 102], &[(3, &[1, 2, 3])]);
    check(3, 10, &[0, 101, 202, 303, 404], &[]);
    // A bucket that overflowed starts anew.
    check(2, 10, &[0, 1, 2, 3, 4], &[(1, &[0, 1]), (3, &[2, 3])]);
    // Settings that the configuration refuses.
    check(0, 10, &[0], &[(0, &[0])]);
    // A clock read before the lock was taken.
    check(3, 10, &[5, 4, 6], &[(2, &[0, 1, 2])]);
}

#[test]
fn no_evidence_over_what_a_ban_can_name() {
    let all: Vec<u128> = (0..MAX_EVIDENCE as u128).collect();
    check(1_000, 10, &[0; MAX_EVIDENCE], &[(MAX_EVIDENCE - 1, &all)]);
}

#[test]
fn a_rule_counts_its_signals_of_one_source() {
    use Signal as S;
    let rules = [
        rule("auth", &[S::ForgedToken, S::Forbidden], 2, 60),
        rule("any-bad", &[S::ForgedToken, S::BadRequest], 3, 60),
    ];
    let detector = detector(100, &rules);
    let asks = |signal, from, id| note(&detector, signal, from, id, START);
    assert_eq!(asks(S::ForgedToken, 1, 1), []);
    assert_eq!(asks(S::Forbidden, 2, 2), []);
    assert_eq!(asks(S::SlowClient, 1, 3), []);
    assert_eq!(asks(S::BadRequest, 1, 4), []);
    let both = [("auth".to_owned(), vec![1, 5]), ("any-bad".to_owned(), vec![1, 4, 5])];
    assert_eq!(asks(S::ForgedToken, 1, 5), both);
    assert_eq!(asks(S::ForgedToken, 2, 6), [("auth".to_owned(), vec![2, 6])]);
}

#[test]
fn an_ask_says_what_the_rule_says() {
    let (address, id) = ("2001:db8::7".parse().unwrap(), RequestId(7));
    let source = Source::of(address, 64);
    let shadow = Rule { shadow: true, ..rule("slow", &[Signal::SlowClient], 1, 60) };
    let observed = Observed {
        signal: Signal::SlowClient,
        source,
        address,
        principal: None,
        id,
        limits: &[],
        facts: ObservedFacts::default(),
    };
    let ask = detector(1, &[shadow]).note(&observed, START).remove(0);
    let expect = BanRequest {
        relay: None,
        source,
        address,
        rule: "slow".to_owned(),
        signal: Signal::SlowClient,
        evidence: vec![id],
        seconds: 601,
        shadow: true,
        noted: START,
    };
    assert_eq!(ask, expect);
}

#[test]
fn d06_an_offender_is_not_forgotten_in_a_crowd() {
    let detector = detector(1_000, &[rule("bad-tokens", &[Signal::ForgedToken], 10, 60)]);
    let mut asked = Vec::new();
    for number in 0..200_000 {
        let now = START + u64::from(number) * 1_000;
        // Two in quick succession, then one each in a flood of others.
        if number == 0 || number % 20_000 == 1 {
            asked.extend(note(&detector, Signal::ForgedToken, u32::MAX, u128::from(number), now));
        }
        if number == 0 {
            asked.extend(note(&detector, Signal::ForgedToken, u32::MAX, 1_000_000, now));
        }
        assert_eq!(note(&detector, Signal::ForgedToken, number, 0, now), []);
    }
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(detector.buckets.len() <= 1_000);
}

#[test]
fn threads_share_a_bucket() {
    let detector = detector(1_000, &[rule("bad-tokens", &[Signal::ForgedToken], 10, 60)]);
    let asks: usize = thread::scope(|scope| {
        let noting = || (0..1_000).map(|id| note(&detector, Signal::ForgedToken, 1, id, START).len()).sum::<usize>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(noting)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(asks, 400);
}

#[test]
fn half_is_enough_on_probation() {
    let detector = detector(100, &[rule("bad-tokens", &[Signal::ForgedToken], 5, 60)]);
    let (watched, until) = (Source::network(Ipv4Addr::from_bits(256).into(), 24).unwrap(), START + 10 * SECOND);
    detector.watch(watched, until, START);
    let asked = |from: u32, now| {
        let notes = (0..5).map(|id| note(&detector, Signal::ForgedToken, from, id, now));
        notes.map(|asks| asks.first().map_or(0, |(_, evidence)| evidence.len())).max().unwrap()
    };
    assert_eq!(asked(256 + 7, START), 3);
    assert_eq!(asked(7, START), 5);
    assert_eq!(asked(256 + 8, until), 5);
}

#[test]
fn what_is_held_against_a_source_is_told() {
    use Signal as S;
    let rules = [rule("auth", &[S::ForgedToken], 5, 10), rule("any", &[S::ForgedToken, S::BadRequest], 9, 60)];
    let detector = detector(100, &rules);
    let source = |from: u32| Source::of(Ipv4Addr::from_bits(from).into(), 64);
    for second in [0, 4, 8] {
        assert_eq!(note(&detector, S::ForgedToken, 1, 1, START + second * SECOND), []);
    }
    assert_eq!(note(&detector, S::BadRequest, 1, 2, START + 8 * SECOND), []);
    let told = |from, second| detector.scores(source(from), START + second * SECOND);
    assert_eq!(told(1, 8), [("auth".to_owned(), 3), ("any".to_owned(), 4)]);
    assert_eq!(told(1, 14), [("auth".to_owned(), 2), ("any".to_owned(), 4)]);
    assert_eq!(told(1, 100), []);
    assert_eq!(told(2, 8), []);
}

#[test]
fn signals_weigh_what_the_rule_says() {
    use Signal as S;
    let weights = BTreeMap::from([(S::ForgedToken, 4), (S::RevokedToken, 10)]);
    let rule = Rule { weights, ..rule("auth", &[S::ForgedToken, S::ExpiredToken, S::RevokedToken], 10, 60) };
    let detector = detector(100, &[rule]);
    let asks = |signal, from, id| note(&detector, signal, from, id, START);
    assert_eq!(asks(S::RevokedToken, 1, 1), [("auth".to_owned(), vec![1])]);
    for (id, signal) in [(2, S::ForgedToken), (3, S::ExpiredToken), (4, S::ForgedToken)] {
        assert_eq!(asks(signal, 1, id), []);
    }
    assert_eq!(detector.scores(Source::of(Ipv4Addr::from_bits(1).into(), 64), START), [("auth".to_owned(), 9)]);
    assert_eq!(asks(S::ExpiredToken, 1, 5), [("auth".to_owned(), vec![2, 3, 4, 5])]);
}

#[test]
fn one_source_that_tries_many_principals() {
    let rule = Rule { distinct: Some(Distinct::Principals), ..rule("spray", &[Signal::WrongPassword], 3, 60) };
    let detector = detector(100, &[rule]);
    let asks = |from, principal, id, second| {
        note_about(&detector, Signal::WrongPassword, from, principal, id, START + second * SECOND)
    };
    // One who has forgotten a password, and requests of nobody, are one or none.
    for id in 0..100 {
        assert_eq!(asks(1, Some("ada"), id, 0), []);
        assert_eq!(asks(1, None, id, 0), []);
    }
    assert_eq!(asks(1, Some("bob"), 100, 1), []);
    assert_eq!(asks(2, Some("cay"), 101, 1), [], "another source");
    assert_eq!(asks(1, Some("cay"), 102, 61), [], "the first has leaked out");
    assert_eq!(asks(1, Some("dan"), 103, 61), [("spray".to_owned(), vec![100, 102, 103])]);
    assert_eq!(asks(1, Some("dan"), 104, 61), [], "and the bucket starts anew");
}

#[test]
fn many_sources_that_try_one_principal() {
    let rule = Rule { distinct: Some(Distinct::Sources), ..rule("botnet", &[Signal::WrongPassword], 3, 60) };
    let detector = detector(1_000, &[rule]);
    let asked = |from, principal, second| {
        let asks = note_about(&detector, Signal::WrongPassword, from, Some(principal), 7, START + second * SECOND);
        !asks.is_empty()
    };
    for _ in 0..100 {
        assert!(!asked(1, "ada", 0));
    }
    assert!(!asked(2, "ada", 1) && !asked(3, "bob", 1));
    for from in 3..200 {
        assert!(!asked(from, "ada", 2), "source {from} has come once");
    }
    for from in 3..200 {
        assert!(asked(from, "ada", 3), "source {from}");
    }
    assert!(!asked(1, "ada", 3) && asked(1, "ada", 3), "the first, too, once it comes again");
    assert!(!asked(4, "bob", 2), "another principal");
    assert!(!asked(5, "ada", 100), "all has leaked out");
    assert_eq!(detector.scores(Source::of(Ipv4Addr::from_bits(3).into(), 64), START), []);
    let settings = settings(1_000, &[]);
    detector.succeeded_by(&settings).put_in_force(&detector, START);
}

/// One machine has many prefixes of IPv6, and the principal's own mistake is not theirs.
#[test]
fn one_customer_is_one_source() {
    let rule = Rule { distinct: Some(Distinct::Sources), ..rule("botnet", &[Signal::WrongPassword], 3, 60) };
    let detector = detector(1_000, &[rule]);
    let asked = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let source = Source::of(address, 64);
        let (signal, principal, id) = (Signal::WrongPassword, Some("ada"), RequestId(7));
        !detector
            .note(
                &Observed { signal, source, address, principal, id, limits: &[], facts: ObservedFacts::default() },
                START,
            )
            .is_empty()
    };
    for subnet in 0..100 {
        assert!(!asked(&format!("2001:db8:1:{subnet:x}::1")), "{subnet}");
    }
    assert!(!asked("192.0.2.7") && !asked("2001:db8:2::1"), "each has come once");
    assert!(asked("192.0.2.7") && asked("2001:db8:1:fff::1"), "these come again");
}

#[test]
fn what_is_unusual_bans_nobody_by_itself() {
    let both = [Signal::ForgedToken, Signal::Unusual];
    let quiet = detector(10, &[rule("a", &both, 3, 60)]);
    for number in 0..50 {
        assert_eq!(note_about(&quiet, Signal::Unusual, 1, Some("ada"), number, START), []);
    }
    assert!(quiet.scores(Source::of(Ipv4Addr::from_bits(1).into(), 64), START).is_empty(), "it is not evidence either");
    let weights = BTreeMap::from([(Signal::Unusual, 1)]);
    let loud = detector(10, &[Rule { weights, ..rule("a", &both, 3, 60) }]);
    let asked: Vec<_> = (0..3).flat_map(|id| note_about(&loud, Signal::Unusual, 1, Some("ada"), id, START)).collect();
    assert_eq!(asked, [("a".to_owned(), vec![0, 1, 2])]);
}

#[test]
fn nothing_is_unusual_unless_a_rule_asks() {
    let from = |source| ObservedValues { source: Some(source), ..ObservedValues::default() };
    let without = detector(10, &[rule("a", &[Signal::ForgedToken], 3, 60)]);
    assert!(!without.looks_for_unusual());
    let with = rule("b", &[Signal::Unusual], 3, 60);
    let before = detector(10, std::slice::from_ref(&with));
    assert_eq!(before.unusual("ada", &from("192.0.2.1"), START), None);
    // A reload forgets nothing.
    let after = before.succeeded_by(&settings(10, &[with, rule("c", &[Signal::Forbidden], 3, 60)]));
    assert!(after.unusual("ada", &from("192.0.2.2"), START + 60 * SECOND).is_some());
    assert_eq!(without.unusual("ada", &from("192.0.2.1"), START), None);
}
