//! Good clients that fail, one by one and together.

use super::*;
use crate::{
    message::GoodClient,
    policy::detect::{self, AskedBan, OurFault},
};

impl World {
    /// With rules on forgeries, on what may be customers' bad luck, and on conduct.
    fn with_customers(name: &str) -> Self {
        let mut world = Self::new(name);
        world.configure();
        world
    }

    fn configure(&mut self) {
        let rule = |signal: Signal| Rule {
            name: signal.name().to_owned(),
            signals: vec![signal],
            count: 3,
            within: Duration::from_secs(60),
            ban: Duration::from_secs(3_600),
            ..Rule::default()
        };
        let guard = self.guard();
        guard.policy.rules = Signal::ALL.map(rule).to_vec();
        (guard.settings.max_bans, guard.settings.max_bans_per_minute) = (1_000, 1_000);
    }

    /// As `kill -9` and a start do.
    fn restart(&mut self) {
        let kernel = self.crash();
        self.start(kernel);
        self.configure();
    }

    /// Serves the clients of these numbers.
    fn serve_all(&mut self, numbers: std::ops::Range<u32>) {
        self.serve_as(numbers, u64::from);
    }

    fn serve_as(&mut self, numbers: std::ops::Range<u32>, principal: impl Fn(u32) -> u64) {
        let now = self.now;
        let client = |number| GoodClient { source: source(number), principal: principal(number) };
        self.guard().hear_good(&numbers.map(client).collect::<Vec<_>>(), now);
    }

    /// Time passes, long enough for everything that is looked at now and then.
    fn pass_many(&mut self, seconds: u64) {
        self.now.monotonic += seconds * SECOND;
        self.now.unix_millis += seconds * 1_000;
        let now = self.now;
        self.guard().tick(now, 10);
    }

    /// What becomes of a rule's ask: `banned`, or the code of the refusal.
    fn fail(&mut self, number: u32, signal: Signal) -> &'static str {
        let ask = BanRequest {
            relay: None,
            source: source(number),
            address: source(number).address(),
            rule: signal.name().to_owned(),
            signal,
            evidence: vec![RequestId(1)],
            seconds: 0,
            shadow: false,
            noted: self.now.monotonic,
        };
        let now = self.now;
        self.guard().ask(&ask, now).map_or_else(|refused| refused.code, |_| "banned")
    }

    /// Which of the clients are banned.
    fn banned(&mut self, numbers: std::ops::Range<u32>) -> Vec<u32> {
        let guard = self.guard();
        numbers.filter(|number| guard.find(source(*number)).is_some()).collect()
    }

    fn warning(&mut self) -> String {
        let now = self.now;
        self.guard().trouble_warnings(now).collect()
    }
}

fn source(number: u32) -> Source {
    Source::of(std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into(), 64)
}

/// Fifty good clients, then `meanwhile`, then each of them fails by `signal` as an attacker does: none is banned but the
/// attacker.
#[track_caller]
fn check(case: &str, signal: Signal, meanwhile: impl Fn(&mut World), between: u64) {
    let mut world = World::with_customers(case);
    world.serve_all(0..50);
    world.pass_many(60);
    world.serve_all(0..50);
    world.pass_many(1);
    meanwhile(&mut world);
    for number in 0..50 {
        assert_ne!(world.fail(number, signal), "banned", "{case}: {number}");
        assert_eq!(world.fail(1_000 + number, signal), "banned", "{case}: an attacker");
        world.pass_many(between);
        if number == 25 {
            world.restart();
        }
    }
    for number in 0..50 {
        assert_ne!(world.fail(number, signal), "banned", "{case}: {number}, later");
    }
    assert_eq!(world.banned(0..50), Vec::<u32>::new(), "{case}");
    assert!(world.warning().contains("good clients fail together since"), "{case}: {}", world.warning());
}

#[test]
fn what_good_clients_have_in_common_is_not_their_fault() {
    check("at-once", Signal::ForgedToken, |_| {}, 0);
    check("one-by-one", Signal::ForgedToken, |_| {}, 15);
    check("after-restart", Signal::ForgedToken, World::restart, 0);
    check("after-good-for", Signal::ForgedToken, |world| world.pass_many(3_600), 0);
    check("days-later", Signal::ForgedToken, |world| world.pass_many(3 * 86_400), 0);
    check("after-both", Signal::ForgedToken, |world| (world.pass_many(3_600), world.restart()).1, 1);
    for signal in Signal::ALL.into_iter().filter(|signal| signal.may_be_ours()) {
        check(signal.name(), signal, |_| {}, 1);
    }
}

#[test]
fn how_a_client_behaves_is_its_own_fault() {
    for signal in Signal::ALL.into_iter().filter(|signal| !signal.may_be_ours()) {
        let mut world = World::with_customers(signal.name());
        world.serve_all(0..10);
        world.pass_many(100);
        assert_eq!(world.fail(1, signal), "banned", "{signal:?}");
    }
}

#[test]
fn a_good_client_that_fails_alone_is_banned_after_a_while() {
    let mut world = World::with_customers("alone");
    world.serve_all(0..50);
    world.pass_many(100);
    assert_eq!(world.fail(1, Signal::ForgedToken), "good_client");
    // To be good in between changes nothing.
    world.pass_many(30);
    world.serve_all(0..50);
    assert_eq!(world.fail(1, Signal::ForgedToken), "good_client");
    world.pass_many(30);
    assert_eq!(world.fail(1, Signal::ForgedToken), "banned");
    assert_eq!(world.warning(), "");
    // Nor does it to fail by something else each time.
    for (signal, expect) in [
        (Signal::ForgedToken, "good_client"),
        (Signal::UnknownRoute, "good_client"),
        (Signal::Forbidden, "good_client"),
        (Signal::ForgedToken, "banned"),
    ] {
        assert_eq!(world.fail(2, signal), expect, "{signal:?}");
        world.pass_many(20);
    }
}

#[test]
fn what_was_banned_of_them_is_taken_back() {
    let mut world = World::with_customers("back");
    world.serve_all(2..5);
    world.pass_many(60);
    // Good for a moment only: no reason to wait, and nothing for others to rest on.
    world.serve_all(0..5);
    for number in [100, 0, 1] {
        assert_eq!(world.fail(number, Signal::ForgedToken), "banned");
    }
    assert_eq!([2, 3].map(|number| world.fail(number, Signal::ForgedToken)), ["good_client"; 2]);
    assert_eq!(world.fail(4, Signal::ForgedToken), "good_clients_fail");
    assert_eq!((world.banned(0..3), world.banned(100..101)), (Vec::<u32>::new(), vec![100]));
    let (source, now) = (source(0), world.now);
    let how = &world.guard().why(source.address(), now).unwrap().history[0].how;
    assert_eq!(how, "taken back: good clients fail together by forged_token");
    assert_eq!(world.guard().earlier(source, now), 0, "it does not count");
    // Another signal is another matter, and strangers are banned all the while.
    assert_eq!(world.fail(0, Signal::OverLimit), "banned");
    assert_eq!(world.fail(101, Signal::ForgedToken), "banned");
    // Served again, they fail no more.
    world.serve_all(1..5);
    world.pass_many(1);
    assert_eq!(world.warning(), "");
    assert_eq!(world.fail(1, Signal::ForgedToken), "banned");
}

/// An attacker has few accounts, each at many addresses: they shield none of them.
#[track_caller]
fn check_accounts(case: &str, accounts: u64, expect: &str) {
    let mut world = World::with_customers(case);
    world.guard().settings.safety.breaker.share = 100;
    let account = |number: u32| 1_000_000 + u64::from(number) % accounts;
    world.serve_as(0..30, account);
    world.pass_many(60);
    world.serve_as(0..30, account);
    for number in 0..30 {
        assert_ne!(world.fail(number, Signal::ForgedToken), "banned", "{case}: {number}, at first");
    }
    world.pass_many(60);
    let found: Vec<_> = (0..30).map(|number| world.fail(number, Signal::ForgedToken)).collect();
    assert_eq!(found, [expect; 30], "{case}");
}

#[test]
fn few_accounts_at_many_addresses_are_no_crowd() {
    check_accounts("one", 1, "banned");
    check_accounts("two", 2, "banned");
    check_accounts("three", 3, "good_clients_fail");
}

/// A proxy tells of clients that fail on a route, and of bans that rest on it.
fn tell_fault(world: &mut World, signal: Signal, clients: std::ops::Range<u32>, banned: &[(u32, Signal)]) {
    let now = world.now;
    let fault = OurFault {
        signal,
        route: "/items".to_owned(),
        since: now.monotonic.saturating_sub(3_600 * SECOND),
        clients: clients.map(|number| detect::Failing { source: source(number) }).collect(),
        bans: banned
            .iter()
            .map(|(number, by)| AskedBan { source: source(*number), rule: by.name().to_owned(), request: RequestId(1) })
            .collect(),
    };
    world.guard().hear_our_fault(&fault, now);
}

#[test]
fn what_rests_on_a_route_that_fails_for_all_is_taken_back() {
    const FAILS: Signal = Signal::UpstreamError;
    let mut world = World::with_customers("route");
    world.serve_all(0..5);
    world.serve_as(20..60, |_| 7);
    world.pass_many(60);
    world.serve_all(0..5);
    world.serve_as(20..60, |_| 7);
    assert_eq!(world.fail(100, FAILS), "banned", "long before");
    world.pass_many(601);
    for number in [101, 102, 103] {
        assert_eq!(world.fail(number, FAILS), "banned");
    }
    assert_eq!(world.fail(104, Signal::ForgedToken), "banned");
    let add = ControlRequest::BlockAdd {
        source: source(105),
        seconds: Some(600),
        reason: "by hand".to_owned(),
        shadow: false,
        force: false,
        confirm: None,
    };
    assert_eq!(world.handle(add), "done 1");
    let all = [
        (100, FAILS),
        (101, FAILS),
        (102, Signal::UpstreamNotFound),
        (104, FAILS),
        (104, Signal::ForgedToken),
        (105, FAILS),
    ];
    let banned = |world: &mut World| world.banned(100..106);
    // Too few, strangers, one principal at many addresses, or another signal: nothing is lifted.
    tell_fault(&mut world, FAILS, 0..2, &all);
    tell_fault(&mut world, FAILS, 10..20, &all);
    tell_fault(&mut world, FAILS, 20..60, &all);
    tell_fault(&mut world, Signal::ForgedToken, 0..5, &all);
    assert_eq!((banned(&mut world), world.warning()), (vec![100, 101, 102, 103, 104, 105], String::new()));
    tell_fault(&mut world, FAILS, 0..5, &all);
    assert_eq!(banned(&mut world), [100, 102, 103, 104, 105], "what is older, of others, or an operator's stays");
    let now = world.now;
    let how = &world.guard().why(source(101).address(), now).unwrap().history[0].how;
    assert_eq!(how, "taken back: good clients fail together on /items by upstream_error");
    assert!(world.warning().starts_with("5 good clients fail together on /items since"), "{}", world.warning());
    assert_eq!(world.guard().failing_together(now), [("upstream_error", "/items".to_owned(), 5)]);
    // Nobody tells of it any more.
    world.pass_many(31);
    assert_eq!(world.warning(), "");
}
