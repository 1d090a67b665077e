//! Whose signals are added up, what must differ, what must come before, and what share of the requests they are.

use super::*;
use crate::settings::detect::GroupBy;

/// One request: who signals, and with what.
#[derive(Clone, Copy, Default)]
struct Step<'a> {
    signal: Option<Signal>,
    from: &'a str,
    principal: Option<&'a str>,
    path: Option<&'a str>,
    agent: Option<&'a str>,
    ja4: Option<&'a str>,
    session: Option<u64>,
    second: u64,
}

const fn step<'a>(signal: Signal, from: &'a str) -> Step<'a> {
    Step { signal: Some(signal), from, principal: None, path: None, agent: None, ja4: None, session: None, second: 0 }
}

/// Takes the steps in turn, those without a signal as served; which of them ask for a ban, and by how much evidence.
#[track_caller]
fn check(what: &str, rule: Rule, steps: &[Step<'_>], expect: &[(usize, usize)]) {
    let detector = detector(1_000, &[rule]);
    let mut asked = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let (address, now): (IpAddr, u64) = (step.from.parse().unwrap(), START + step.second * SECOND);
        let source = Source::of(address, 64);
        let Some(signal) = step.signal else {
            let is_identified = step.principal.is_some();
            let answer = UpstreamAnswer { route: 0, upstream: 0, status: 200, is_identified };
            assert_eq!(detector.judge_answer(&answer, source, now), None, "{what}: step {at}");
            continue;
        };
        let agent = step.agent.map(|agent| detector.agent(agent.as_bytes()).unwrap());
        let facts = ObservedFacts { path: step.path, agent, ja4: step.ja4, session: step.session, route: None };
        let (id, limits) = (RequestId(at as u128), &[][..]);
        let observed = Observed { signal, source, address, principal: step.principal, id, limits, facts };
        let asks = detector.note(&observed, now);
        asked.extend(asks.iter().map(|ask| {
            assert_eq!(ask.source, source, "{what}: it bans sources");
            (at, ask.evidence.len())
        }));
    }
    assert_eq!(asked, expect, "{what}");
}

#[test]
fn what_differs() {
    use Signal as S;
    let of = |distinct| Rule { distinct: Some(distinct), ..rule("r", &[S::Forbidden], 3, 60) };
    let at = |path| Step { path: Some(path), ..step(S::Forbidden, "192.0.2.1") };
    let paths = ["/a/1", "/a/2", "/a/3", "/b/1", "/c", "/c", "/d"].map(at);
    check("ids are one path", of(Distinct::Paths), &paths, &[(4, 3)]);
    check("and as many objects", of(Distinct::Objects), &paths[..5], &[(2, 3)]);
    check("one path is one", of(Distinct::Objects), &[at("/c"); 20], &[]);
    check("no path is none", of(Distinct::Objects), &[step(S::Forbidden, "192.0.2.1"); 20], &[]);
    let by = |agent| Step { agent: Some(agent), ..step(S::Forbidden, "192.0.2.1") };
    check("programs", of(Distinct::Agents), &["a", "b", "b", "a", "c"].map(by), &[(4, 3)]);
}

#[test]
fn whose_signals_are_added_up() {
    use Signal as S;
    let of = |by| Rule { by, ..rule("r", &[S::Forbidden], 3, 60) };
    let from = |from| step(S::Forbidden, from);
    // Four of one network fill it; from then on whoever comes again is asked to be banned.
    let network = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.3", "192.0.3.3"].map(from);
    check("a network", of(GroupBy::Prefix), &network, &[(4, 3)]);
    let network = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:3::1"].map(from);
    check("a network of IPv6", of(GroupBy::Prefix), &network, &[(3, 3)]);
    check("others are not of it", of(GroupBy::Prefix), &["192.0.2.1", "192.0.3.1", "192.0.4.1"].map(from), &[]);
    let of_ja4 = |at: usize| Step { ja4: Some(["x", "y"][at % 2]), ..step(S::Forbidden, "192.0.2.1") };
    check("a fingerprint", of(GroupBy::Ja4), &[0, 0, 1, 0, 0, 1].map(of_ja4), &[(4, 3)]);
    let of_principal = |principal| Step { principal: Some(principal), ..step(S::Forbidden, "192.0.2.1") };
    check("a principal", of(GroupBy::Principal), &["a", "b", "a", "a", "b", "a"].map(of_principal), &[(5, 3)]);
    check("nobody", of(GroupBy::Principal), &["192.0.2.1"; 9].map(from), &[]);
    let of_session = |session| Step { principal: Some("a"), session: Some(session), ..step(S::Forbidden, "192.0.2.1") };
    check("a session", of(GroupBy::Session), &[1, 2, 1, 2, 1, 1, 2].map(of_session), &[(5, 3)]);
}

/// A key was published after tokens by it: what its clients were blamed for is taken back, whatever a rule adds up.
#[test]
fn what_our_stale_keys_caused_is_taken_back() {
    for (by, from) in [
        (GroupBy::Source, "192.0.2.1"),
        (GroupBy::Source, "2001:db8:1:2::1"),
        (GroupBy::Prefix, "192.0.2.1"),
        (GroupBy::Prefix, "2001:db8:1:2::1"),
        (GroupBy::Ja4, "192.0.2.1"),
    ] {
        let detector = detector(10, &[Rule { by, ..rule("r", &[Signal::UnknownKey], 3, 60) }]);
        let address: IpAddr = from.parse().unwrap();
        let source = Source::of(address, 64);
        let observed = |id| Observed {
            signal: Signal::UnknownKey,
            source,
            address,
            principal: None,
            id: RequestId(id),
            limits: &[],
            facts: ObservedFacts { ja4: Some("t13d1516h2_8daaf6152771_b186095e22b6"), ..ObservedFacts::default() },
        };
        let asks = |id| !detector.note(&observed(id), START).is_empty();
        assert!(!asks(0) && !asks(1), "{by:?} {from}");
        let held: u32 = detector.scores(source, START).iter().map(|(_, held)| held).sum();
        assert_eq!(held, if by == GroupBy::Ja4 { 0 } else { 2 }, "{by:?} {from}");
        (0..2).for_each(|id| detector.take_back(&observed(id)));
        assert!(detector.scores(source, START).is_empty(), "{by:?} {from}");
        assert!(!asks(2) && !asks(3), "{by:?} {from}: it is as if there had been none");
        if by != GroupBy::Source {
            // It fills what others may share, and is not asked to be banned unless it comes again.
            assert!(!asks(4), "{by:?} {from}");
            detector.take_back(&observed(4));
            assert!(!asks(5), "{by:?} {from}: it has come once");
        }
        assert!(asks(6), "{by:?} {from}");
    }
}

#[test]
fn what_must_come_before() {
    use Signal as S;
    let after = Rule { after: vec![S::WrongPassword], ..rule("r", &[S::Forbidden], 2, 60) };
    let at = |(signal, second)| Step { second, ..step(signal, "192.0.2.1") };
    let (first, then) = (S::WrongPassword, S::Forbidden);
    check("the second alone", after.clone(), &[(then, 0), (then, 1), (then, 2)].map(at), &[]);
    check("the first alone", after.clone(), &[(first, 0), (first, 1), (first, 2)].map(at), &[]);
    check("one after the other", after.clone(), &[(first, 0), (then, 1), (first, 2), (then, 3)].map(at), &[(3, 3)]);
    check("too long after", after.clone(), &[(first, 0), (then, 61), (then, 62)].map(at), &[]);
    let other = [step(first, "192.0.2.2"), step(then, "192.0.2.1"), step(then, "192.0.2.1")];
    check("after what another did", after, &other, &[]);
}

#[test]
fn what_share_of_the_requests_they_are() {
    use Signal as S;
    let half = Rule { share: Some(50), ..rule("r", &[S::Forbidden], 4, 60) };
    let at = |(bad, second): (bool, u64)| Step {
        second,
        signal: bad.then_some(S::Forbidden),
        ..step(S::Forbidden, "192.0.2.1")
    };
    check("all of them", half.clone(), &[(true, 0); 4].map(at), &[(3, 4)]);
    let mixed = [true, false, true, false, true, false, true, true];
    check("half of them", half.clone(), &mixed.map(|bad| at((bad, 0))), &[(6, 4)]);
    let few: Vec<_> = (0..100).map(|number| at((number % 3 == 0, 0))).collect();
    check("a third of them", half.clone(), &few, &[]);
    let later =
        [(true, 0), (false, 0), (false, 0), (false, 0), (false, 0), (true, 61), (true, 61), (true, 61), (true, 61)];
    check("what was served long ago says nothing", half.clone(), &later.map(at), &[(8, 4)]);
    // A burst of failures behind an address that many are served by.
    let burst = |second: u64| {
        let served = std::iter::repeat_n((false, 0), 10);
        served.chain(std::iter::repeat_n((true, second), 4)).map(at).collect::<Vec<_>>()
    };
    check("most was served shortly before", half.clone(), &burst(0), &[]);
    check("most was served in the half minute before", half.clone(), &burst(31), &[]);
    check("most was served long ago", half.clone(), &burst(61), &[(13, 4)]);
    // Requests that count again in the place of what they were before are requests all the same.
    let paths = Rule { distinct: Some(Distinct::Objects), ..half };
    let again = ["/a", "/a", "/a", "/b", "/c", "/d"].map(|path| Step { path: Some(path), ..at((true, 0)) });
    check("of what differs", paths, &again, &[(5, 4)]);
}

/// Whoever guesses can ask for public pages in between. Only what is served to others who have signed in tells of an office.
#[test]
fn guesses_between_public_pages() {
    use Signal as S;
    let guesses = Rule { share: Some(50), ..rule("r", &[S::WrongPassword, S::ForgedToken], 4, 60) };
    let guess = Step { principal: Some("ada"), ..step(S::WrongPassword, "192.0.2.1") };
    let public = Step { signal: None, ..step(S::WrongPassword, "192.0.2.1") };
    let own = Step { principal: Some("bob"), ..public };
    check("public pages between", guesses.clone(), &[guess, public, public].repeat(4), &[(9, 4)]);
    check("public pages before", guesses.clone(), &[[public; 10].as_slice(), &[guess; 4]].concat(), &[(13, 4)]);
    check("others between", guesses.clone(), &[guess, own, own].repeat(4), &[]);
    check("others before", guesses, &[[own; 10].as_slice(), &[guess; 4]].concat(), &[]);
    let other = Rule { share: Some(50), ..rule("r", &[S::Forbidden, S::WrongPassword], 4, 60) };
    check("a rule that counts more than guesses", other, &[guess, public, public].repeat(4), &[]);
}

/// N01: a scanner among many users behind one address does not make them all banned, as most of what they do is served.
#[test]
fn n01_a_scanner_among_many_users() {
    let rule =
        Rule { distinct: Some(Distinct::Paths), share: Some(80), ..rule("path-scan", &[Signal::UnknownRoute], 20, 60) };
    let paths: Vec<String> = (0..60)
        .map(|number| format!("/scan-{}", char::from(b'A' + number % 26)).repeat(1 + usize::from(number / 26)))
        .collect();
    let scan = paths.iter().map(|path| Step { path: Some(path), ..step(Signal::UnknownRoute, "192.0.2.1") });
    let served = Step { signal: None, ..step(Signal::UnknownRoute, "192.0.2.1") };
    let beside: Vec<_> = scan.clone().flat_map(|scan| [scan, served, served]).collect();
    check("beside twenty users", rule.clone(), &beside, &[]);
    let alone: Vec<_> = scan.collect();
    check("by itself", rule, &alone, &[(19, 20), (39, 20), (59, 20)]);
}
