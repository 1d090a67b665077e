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

/// What does not count is told, with its reason: of the source, and of the upstream.
#[test]
fn a_failure_that_counts_against_nobody_is_told() {
    use Discount as D;
    let missing = [Signal::UpstreamNotFound];
    // Each case: whom the upstream serves on which route, whom it answers 404 there, and what is told of source 1 then.
    for (what, rules, served, failed, expect) in [
        ("404 to everybody", &missing[..], vec![], 1..5, Some((4, D::NobodyServed))),
        ("others are served", &missing[..], vec![(0, 10..20)], 1..5, None),
        ("it alone was served", &missing[..], vec![(0, 1..2), (1, 10..20)], 1..2, Some((1, D::NobodyServedHere))),
        ("a route is broken", &missing[..], vec![(0, 1..5), (1, 10..20)], 1..5, Some((4, D::RouteFails))),
        ("no rule counts it", &[Signal::UpstreamError][..], vec![], 1..5, None),
    ] {
        let detector = detector(10, &[rule("r", rules, 3, 60)]);
        let judge = |route, from, status| {
            let answer = UpstreamAnswer { route, upstream: 7, status, is_identified: false };
            let source = Source::of(Ipv4Addr::from_bits(from).into(), 64);
            let _counted = detector.judge_answer(&answer, source, START);
            source
        };
        for (route, from) in served {
            from.for_each(|from| {
                judge(route, from, 200);
            });
        }
        // The first fails last, when it is seen that others fail alike.
        failed.clone().skip(1).for_each(|from| {
            judge(0, from, 404);
        });
        let source = judge(0, 1, 404);
        let told = |one: Discounted| (one.signal, one.why);
        let expected = expect.map(|(_, why)| (Signal::UpstreamNotFound, why));
        assert_eq!(detector.discounted(source, START).map(told), expected, "{what}");
        let of_upstream = detector.discounted_of(7, START);
        assert_eq!(of_upstream.first().copied().map(told), expected, "{what}");
        assert!(of_upstream.first().is_none_or(|it| expect.is_some_and(|(most, _)| it.count <= most)), "{what}");
        assert_eq!(detector.discounted(source, START + 61 * SECOND), None, "{what}, a minute ago");
    }
}
