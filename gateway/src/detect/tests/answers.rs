//! What upstreams' answers say about their clients.

use super::*;

fn answer(detector: &Detector, from: u32, status: u16, second: u64) -> Option<Signal> {
    let source = Source::of(Ipv4Addr::from_bits(from).into(), 64);
    detector.judge_answer(
        &UpstreamAnswer { route: 0, upstream: 0, status, is_identified: false },
        source,
        START + second * SECOND,
    )
}

#[test]
fn a_failure_counts_where_others_are_served() {
    use Signal as S;
    let all = [S::UpstreamError, S::UpstreamForbidden, S::UpstreamNotFound, S::UpstreamUnauthorized];
    let detector = detector(10, &[rule("r", &all, 3, 60)]);
    assert!(detector.looks_at_answers());
    assert_eq!(answer(&detector, 1, 401, 0), None, "nobody shows that the upstream works");
    for from in 10..20 {
        assert_eq!(answer(&detector, from, 200, 0), None, "no rule counts what is served");
    }
    for (status, expect) in [
        (401, Some(S::UpstreamUnauthorized)),
        (403, Some(S::UpstreamForbidden)),
        (404, Some(S::UpstreamNotFound)),
        (410, Some(S::UpstreamNotFound)),
        (500, Some(S::UpstreamError)),
        (400, None),
        (405, None),
        (429, None),
        (304, None),
    ] {
        assert_eq!(answer(&detector, 1, status, 1), expect, "{status}");
    }
    // A bad deployment: everybody gets 404, and nothing counts any more.
    for from in 10..20 {
        answer(&detector, from, 404, 2);
    }
    for from in 10..20 {
        assert_eq!(answer(&detector, from, 404, 3), None, "{from}");
    }
    assert_eq!(answer(&detector, 1, 404, 3), None);
}

#[test]
fn nothing_is_looked_at_unless_a_rule_asks() {
    let without = detector(10, &[rule("r", &[Signal::ForgedToken], 3, 60)]);
    assert!(!without.looks_at_answers() && without.counts(Signal::ForgedToken) && !without.counts(Signal::ScanPath));
    assert_eq!(answer(&without, 1, 404, 0), None);
    assert_eq!(without.agent(b"curl"), None);
    let served = detector(10, &[rule("r", &[Signal::Served], 3, 60)]);
    assert_eq!(answer(&served, 1, 200, 0), Some(Signal::Served));
    // What follows one another may begin with it.
    let after = Rule { after: vec![Signal::UpstreamForbidden], ..rule("r", &[Signal::Served], 3, 60) };
    assert!(detector(10, &[after]).counts(Signal::UpstreamForbidden));
}
