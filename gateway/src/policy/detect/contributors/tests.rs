//! Who is named, and who is blamed: traffic of one minute as a table.

use std::net::IpAddr;

use super::*;

/// Some minute.
const NOW: u64 = 30_000_000;

/// So many of one source alone are no longer usual.
const ALONE: u64 = 14;

/// The client has left, and was not answered.
const LEFT: u16 = 0;

/// One kind of clients: how many of them, how many requests each makes in the minute, and how they are answered. `before`:
/// they were served on the route an hour ago.
#[derive(Clone, Copy)]
struct Crowd {
    many: u8,
    route: &'static str,
    statuses: &'static [(u16, u32)],
    before: bool,
}

const fn crowd(many: u8, route: &'static str, statuses: &'static [(u16, u32)], before: bool) -> Crowd {
    Crowd { many, route, statuses, before }
}

fn address(kind: usize, number: u8) -> IpAddr {
    IpAddr::from([192, 0, u8::try_from(kind).unwrap(), number])
}

fn completed<'a>(
    route: &'a str,
    address: IpAddr,
    principal: Option<&'a str>,
    status: u16,
    minute: u64,
) -> Completed<'a> {
    let (source, id) = (Source::of(address, 64), RequestId(u128::from(status)));
    let status = (status != LEFT).then_some(status);
    Completed { route, source, address, relay: None, principal, status, id, minute }
}

/// The route of somebody who came long before: requests have been counted for an hour.
const ELSEWHERE: &str = "/elsewhere";

fn filled(capacity: usize, crowds: &[Crowd]) -> ContributorStats {
    let contributors = ContributorStats::new(capacity);
    contributors.note(&completed(ELSEWHERE, IpAddr::from([198, 51, 100, 1]), None, 200, NOW - 60));
    new_clients(contributors, crowds)
}

fn new_clients(contributors: ContributorStats, crowds: &[Crowd]) -> ContributorStats {
    for (kind, crowd) in crowds.iter().enumerate() {
        for number in 0..crowd.many {
            let address = address(kind, number);
            if crowd.before {
                contributors.note(&completed(crowd.route, address, None, 200, NOW - 60));
            }
            for (status, times) in crowd.statuses {
                for _ in 0..*times {
                    contributors.note(&completed(crowd.route, address, None, *status, NOW));
                }
            }
            // The minute is over, and clients go on.
            contributors.note(&completed(crowd.route, address, None, 200, NOW + 1));
        }
    }
    contributors
}

fn deviating(of: &str, measure: ClientMeasure) -> Deviating {
    let (of, sentence) = (of.to_owned(), String::new());
    Deviating { of, measure, minute: NOW, since: NOW - 1, alone: ALONE, sentence }
}

/// Who stands out: how many of each crowd.
#[track_caller]
fn check(what: &str, of: &str, measure: ClientMeasure, crowds: &[Crowd], expect: &[usize]) {
    let contribution = filled(10_000, crowds).name(&deviating(of, measure));
    let blamed: Vec<usize> = (0..crowds.len())
        .map(|kind| {
            let is_its = |contributor: &&Contributor| match contributor.who {
                NamedContributor::Source(_, IpAddr::V4(at), _) => {
                    usize::from(at.octets()[2]) == kind && contributor.stands_out
                }
                _ => false,
            };
            contribution.named.iter().filter(is_its).count()
        })
        .collect();
    assert_eq!(blamed, expect, "{what}: {contribution:?}");
}

#[test]
fn who_is_blamed() {
    use ClientMeasure::{Errors, Failures, Requests};
    const GOOD: Crowd = crowd(20, "/login", &[(200, 5), (401, 1)], true);
    check(
        "one guesses beside 20 others",
        "/login",
        Failures,
        &[GOOD, crowd(1, "/login", &[(401, 31)], false)],
        &[0, 1],
    );
    check("all routes together", "all", Failures, &[GOOD, crowd(1, "/login", &[(401, 31)], false)], &[0, 1]);
    check("another route", "/items", Failures, &[GOOD, crowd(1, "/login", &[(401, 31)], false)], &[0, 0]);
    check("within what is usual", "/login", Failures, &[GOOD, crowd(1, "/login", &[(401, 13)], false)], &[0, 0]);
    check("a crowd of small ones", "/login", Failures, &[crowd(200, "/login", &[(401, 13)], false)], &[0]);
    check(
        "a bot net that was never served",
        "/login",
        Failures,
        &[GOOD, crowd(9, "/login", &[(401, 20)], false)],
        &[0, 9],
    );
    check(
        "a version of a client that broke",
        "/login",
        Failures,
        &[GOOD, crowd(9, "/login", &[(401, 20)], true)],
        &[0, 0],
    );
    check("two customers that broke", "/login", Failures, &[GOOD, crowd(2, "/login", &[(401, 20)], true)], &[0, 2]);
    check("a key set that expired", "/login", Failures, &[crowd(20, "/login", &[(401, 20)], true)], &[0]);
    check("the same, for new clients", "/login", Failures, &[crowd(20, "/login", &[(401, 20)], false)], &[0]);
    check("nobody else, never served", "/login", Failures, &[crowd(1, "/login", &[(401, 20)], false)], &[1]);
    check("nobody else, a customer", "/login", Failures, &[crowd(1, "/login", &[(401, 20)], true)], &[0]);
    let scan = crowd(1, "(none)", &[(404, 40)], false);
    check("a scan beside clients elsewhere", "(none)", Failures, &[GOOD, scan], &[0, 1]);
    check("a route that is gone", "(none)", Failures, &[crowd(20, "(none)", &[(404, 40)], true)], &[0]);
    let over = crowd(1, "/login", &[(429, 40)], false);
    check("refused by a limit", "/login", Failures, &[GOOD, over], &[0, 0]);
    let over = crowd(1, "(limited)", &[(429, 40)], false);
    check("refused before the route", "(limited)", Failures, &[GOOD, over], &[0, 0]);
    let over = crowd(1, "(limited)", &[(429, 40)], false);
    check("a flood over a limit of addresses", "(limited)", Requests, &[GOOD, over], &[0, 1]);
    let over = crowd(1, "/login", &[(429, 40)], false);
    check("a flood over a limit", "/login", Requests, &[GOOD, over], &[0, 1]);
    check("a limit that refuses everybody", "/login", Requests, &[crowd(20, "/login", &[(429, 40)], true)], &[0]);
    check("errors are ours", "/login", Errors, &[GOOD, crowd(1, "/login", &[(500, 40)], false)], &[0, 0]);
    check("retries after errors", "/login", Requests, &[GOOD, crowd(1, "/login", &[(503, 40)], false)], &[0, 0]);
    check("a flood beside others", "/login", Requests, &[GOOD, crowd(1, "/login", &[(200, 90)], false)], &[0, 1]);
    check("a flood at night", "/login", Requests, &[crowd(1, "/login", &[(200, 90)], true)], &[1]);
    check("a flash crowd", "/login", Requests, &[crowd(250, "/login", &[(200, 13)], false)], &[0]);
    check("a flash crowd of regulars", "/login", Requests, &[GOOD, crowd(20, "/login", &[(200, 20)], true)], &[0, 0]);
    let hangs = [crowd(20, "/login", &[(LEFT, 1)], true), crowd(1, "/login", &[(LEFT, 20)], true)];
    check("an upstream that hangs", "/login", Requests, &hangs, &[0, 0]);
    check("an upstream that fails", "/login", Requests, &[crowd(20, "/login", &[(200, 1), (502, 20)], true)], &[0]);
}

#[test]
fn nobody_is_new_to_a_process_that_has_just_begun() {
    let bots = crowd(9, "/login", &[(401, 20)], false);
    let good = crowd(20, "/login", &[(200, 5)], false);
    for (first, expect) in [(NOW - 60, 9), (NOW - 31, 9), (NOW - 30, 0), (NOW, 0)] {
        let contributors = ContributorStats::new(10_000);
        contributors.note(&completed(ELSEWHERE, IpAddr::from([198, 51, 100, 1]), None, 200, first));
        let contributors = new_clients(contributors, &[good, bots]);
        let contribution = contributors.name(&deviating("/login", ClientMeasure::Failures));
        let blamed = contribution.named.iter().filter(|contributor| contributor.stands_out).count();
        assert_eq!(blamed, expect, "{} minutes", NOW - first);
    }
}

#[test]
fn whom_it_comes_from() {
    let contributors = ContributorStats::new(1_000);
    for number in 0..60_u8 {
        let who = if number < 31 { 7 } else { number };
        let principal = ["ada", "bob"].get(usize::from(who) - 7).copied();
        contributors.note(&completed("/login", address(0, who), principal, 401, NOW));
    }
    let found = contributors.name(&deviating("/login", ClientMeasure::Failures));
    assert_eq!((found.total, found.sources, found.principals, found.named.len()), (60, 30, 1, MAX_NAMED));
    let first = &found.named[0];
    let source = Source::of(address(0, 7), 64);
    assert_eq!((&first.who, first.count), (&NamedContributor::Source(source, address(0, 7), None), 31));
    assert_eq!(first.requests, [RequestId(401); MAX_REQUESTS]);
    assert_eq!((&found.named[1].who, found.named[1].count), (&NamedContributor::Principal("ada".to_owned()), 31));
    assert!(found.fits());
    // Nothing is known of the minutes before the last.
    let long_ago = Deviating { minute: NOW - 2, ..deviating("/login", ClientMeasure::Failures) };
    assert_eq!(contributors.name(&long_ago), Contribution::default());
    let sums = contributors.distinct();
    let of = |name: &str| sums.iter().find(|(of, _)| of == name).map(|(_, both)| *both).unwrap();
    assert_eq!(of("/login"), of(ALL_ROUTES));
    assert!((20..=40).contains(&of("/login")[0]) && of("/login")[1] == 1, "{sums:?}");
}

#[test]
fn a_crowd_pushes_no_attacker_out() {
    let contributors = ContributorStats::new(256);
    (0..40).for_each(|_| contributors.note(&completed("/login", address(0, 1), None, 401, NOW)));
    for number in 0..50_000_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        contributors.note(&completed("/login", address, None, 401, NOW));
    }
    let found = contributors.name(&deviating("/login", ClientMeasure::Failures));
    assert_eq!((found.named[0].count, found.sources <= 256), (40, true));
    // They are counted all the same: what is pushed out and comes again is nobody new.
    let sources = contributors.distinct()[0].1[0];
    assert!((35_000..65_000).contains(&sources), "{sources}");
}

#[test]
fn routes_are_bounded() {
    let contributors = ContributorStats::new(1_000);
    for number in 0..1_000 {
        contributors.note(&completed(&format!("/{number}"), address(0, 1), None, 200, NOW));
    }
    assert_eq!(contributors.distinct().len(), MOST_ROUTES);
}

/// A count is never too high, wherever the wall clock was set; and nobody is new who was served before.
#[test]
fn a_clock_that_is_set_back_begins_anew() {
    let address = address(1, 7);
    for (case, minutes, expect) in [
        ("the clock goes on", &[(NOW - 1, 40), (NOW, 3)][..], 3),
        ("noted late", &[(NOW, 3), (NOW - 1, 1), (NOW, 1)], 5),
        ("set back by an hour", &[(NOW + 60, 40), (NOW, 3)], 3),
        ("set back by a minute more than requests are late", &[(NOW + 2, 40), (NOW, 3)], 3),
        ("set back, and the minute is over", &[(NOW + 60, 40), (NOW, 3), (NOW + 1, 5)], 3),
        ("set back twice", &[(NOW + 60, 40), (NOW + 30, 9), (NOW, 3)], 3),
        ("and forward", &[(NOW + 60, 40), (NOW - 60, 9), (NOW, 3)], 3),
    ] {
        let contributors = ContributorStats::new(1_000);
        for (minute, times) in minutes {
            (0..*times).for_each(|_| contributors.note(&completed("/login", address, None, 401, *minute)));
        }
        let total = contributors.name(&deviating("/login", ClientMeasure::Failures)).total;
        assert_eq!(total, expect, "{case}");
    }
    let mut stats = ClientStats::new(None, &completed("/login", address, None, 200, NOW + 60));
    for minute in [NOW + 60, NOW] {
        stats.note(&completed("/login", address, None, 200, minute));
    }
    assert_eq!(stats.served, NOW - 1);
}
