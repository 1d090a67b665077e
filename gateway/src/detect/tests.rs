//! When signals add up.

use std::{net::Ipv4Addr, thread, time::Duration};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// Long after boot.
const START: u64 = 3_600 * SECOND;

fn rule(name: &str, signals: &[Signal], count: u32, seconds: u64) -> Rule {
    let (within, ban) = (Duration::from_secs(seconds), Duration::from_millis(600_500));
    Rule { name: name.to_owned(), signals: signals.to_vec(), count, within, ban, shadow: false }
}

fn detector(capacity: usize, rules: &[Rule]) -> Detector {
    Detector::new(&Settings { capacity, rules: rules.to_vec() })
}

fn note(detector: &Detector, signal: Signal, from: u32, id: u128, now: u64) -> Vec<(String, Vec<u128>)> {
    let address = IpAddr::V4(Ipv4Addr::from_bits(from));
    let asks = detector.note(signal, Source::of(address, 64), address, RequestId(id), now);
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
    let ask = detector(1, &[shadow]).note(Signal::SlowClient, source, address, id, START).remove(0);
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
