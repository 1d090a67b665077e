//! What keeps bans from doing harm.

use super::*;

impl World {
    fn add_to_confirm(&mut self, source: &str, seconds: Option<u64>, confirm: u64) -> String {
        let source = source.parse().unwrap();
        let confirm = Some(confirm);
        self.handle(ControlRequest::BlockAdd {
            source,
            seconds,
            reason: "tests".into(),
            shadow: false,
            confirm,
            force: false,
        })
    }

    fn del(&mut self, source: &str) -> String {
        self.handle(ControlRequest::BlockDel { source: source.parse().unwrap() })
    }

    /// As a reboot does: the kernel forgets, the monotonic clock starts anew `seconds` later.
    fn reboot(&mut self, seconds: u64) {
        drop(self.crash());
        self.now = Now { monotonic: 5 * SECOND, unix_millis: self.now.unix_millis + seconds * 1_000 };
        self.boot = "two";
        self.start(Box::new(AtAccept::default()));
    }
}

#[test]
fn an_unconfirmed_block_is_taken_back() {
    let mut world = World::new("confirm");
    assert_eq!(world.add_to_confirm("192.0.2.7", None, 60), "done 1");
    assert_eq!(world.add_to_confirm("192.0.2.7", None, 60), "already_blocked");
    assert_eq!(world.add_to_confirm("198.51.100.0/24", Some(0), 60), "done 1");
    assert_eq!(world.handle(ControlRequest::Confirm { id: None }), "several");
    assert_eq!(world.handle(ControlRequest::Confirm { id: Some(9) }), "not_found");
    let why = world.why("192.0.2.7");
    let entry = why.entry.unwrap();
    assert_eq!((entry.confirm_seconds, entry.remaining_seconds), (Some(60), Some(3_600)));
    assert_eq!(why.next, "The block is taken back in 1m unless `gateway confirm 1` comes.");
    // The kernel ends it by itself.
    let deadline = world.now.monotonic + 60 * SECOND;
    assert_eq!(world.guard().enforcer.path().bans()[0].1.expires, deadline);
    world.pass(59);
    assert_eq!(world.handle(ControlRequest::Confirm { id: Some(2) }), "done 1");
    assert_eq!(world.handle(ControlRequest::Confirm { id: Some(2) }), "not_found");
    world.pass(1);
    let why = world.why("192.0.2.7");
    assert_eq!((why.verdict.as_str(), why.history[0].how.as_str()), ("passed", "taken back: not confirmed in time"));
    let entry = world.why("198.51.100.9").entry.unwrap();
    assert_eq!((entry.confirm_seconds, entry.remaining_seconds), (None, None));
    let rule = world.guard().enforcer.path().rules().into_iter().find(|(source, _)| source.length() == 24).unwrap().1;
    assert_eq!(rule.expires(), NEVER);
    assert_eq!(world.guard().enforcer.repairs(), 0);
    assert_eq!(world.events(), ["start", "ban", "ban", "confirm", "rollback"]);
    assert_eq!(world.handle(ControlRequest::Confirm { id: None }), "not_found");
}

#[test]
fn a_restart_forgets_no_deadline() {
    let mut world = World::new("confirm-restart");
    assert_eq!(world.add_to_confirm("192.0.2.7", None, 60), "done 1");
    let kernel = world.crash();
    world.now.monotonic += 30 * SECOND;
    world.start(kernel);
    assert_eq!(world.why("192.0.2.7").entry.unwrap().confirm_seconds, Some(30));
    let kernel = world.crash();
    world.now.monotonic += 30 * SECOND;
    world.start(kernel);
    assert_eq!(world.why("192.0.2.7").history[0].how, "taken back: not confirmed in time");
    assert_eq!(world.add_to_confirm("192.0.2.8", None, 60), "done 1");
    world.reboot(20);
    assert_eq!(world.why("192.0.2.8").entry.unwrap().confirm_seconds, Some(40));
    // A block that ends before its deadline ends as any other.
    assert_eq!(world.add_to_confirm("192.0.2.9", Some(5), 60), "done 1");
    world.pass(5);
    assert_eq!(world.why("192.0.2.9").history[0].how, "expired");
}

#[test]
fn rules_do_not_ban_what_an_operator_unbanned() {
    let mut world = World::new("pardon");
    world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.del("192.0.2.7"), "done 1");
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("operator_unbanned"));
    let why = world.why("192.0.2.7");
    assert_eq!(why.standing.unban_grace_seconds, Some(3_600));
    assert_eq!(why.shields, ["operator:0 unbanned 192.0.2.7: rules may not ban it for another 1h"]);
    world.reboot(600);
    assert_eq!(world.why("192.0.2.7").standing.unban_grace_seconds, Some(3_000));
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("operator_unbanned"));
    // The operator may, and then so may the rules.
    assert_eq!(world.add("192.0.2.7"), "done 1");
    assert_eq!(world.why("192.0.2.7").standing.unban_grace_seconds, None);
    assert_eq!(world.del("192.0.2.7"), "done 1");
    world.pass(3_600);
    assert!(world.ask("192.0.2.7", "bad-tokens").is_ok());
}

#[test]
fn who_comes_back_waits_longer_and_is_watched() {
    let mut world = World::new("ladder");
    for (ban, left, factor) in [(1, 600, 1), (2, 1_800, 3), (3, 6_000, 10)] {
        world.ask("192.0.2.7", "bad-tokens").unwrap();
        let why = world.why("192.0.2.7");
        assert_eq!(why.entry.as_ref().unwrap().remaining_seconds, Some(left), "ban {ban}");
        assert_eq!((why.standing.earlier_bans, why.standing.factor), (ban - 1, Some(factor)));
        world.guard().notices();
        world.pass(left);
        let source = "192.0.2.7".parse().unwrap();
        let until = world.now.monotonic + 600 * SECOND;
        assert_eq!(world.guard().notices(), [ToProxy::Lifted { source }, ToProxy::Probation { source, until }]);
        assert_eq!(world.why("192.0.2.7").standing.probation_seconds, Some(600));
    }
    let why = world.why("192.0.2.7");
    assert_eq!((why.standing.earlier_bans, why.standing.next_factor), (3, 30));
    world.reboot(100);
    assert_eq!(world.why("192.0.2.7").standing.probation_seconds, Some(500));
    let now = world.now.monotonic;
    assert_eq!(world.guard().probations_in_force(now).len(), 1);
    world.pass(500);
    assert_eq!(world.why("192.0.2.7").standing.probation_seconds, None);
    world.pass(3 * 86_400);
    assert_eq!(world.why("192.0.2.7").standing.next_factor, 1);
    // A shadow ban, an operator's and one that was taken back are no offences.
    world.ask("192.0.2.8", "trial").unwrap();
    assert_eq!(world.add("192.0.2.9"), "done 1");
    world.pass(86_400);
    assert_eq!(["192.0.2.8", "192.0.2.9"].map(|text| world.why(text).standing.earlier_bans), [0, 0]);
}

#[test]
fn a_network_is_banned_when_its_clients_are_one_by_one() {
    let mut world = World::new("widen");
    for number in [0, 1] {
        world.ask(&format!("2001:db8:0:{number:x}::1"), "bad-tokens").unwrap();
    }
    // Shadow bans and those of operators do not count.
    world.ask("2001:db8:0:70::1", "trial").unwrap();
    world.ask("2001:db8:0:2::1", "bad-tokens").unwrap();
    world.pass(60);
    assert_eq!(world.del("2001:db8:0:70::/64"), "done 1");
    // What an operator unbanned is in the network: it is not widened to.
    world.ask("2001:db8:0:3::1", "bad-tokens").unwrap();
    assert_eq!(world.why("2001:db8:0:3::1").entry.unwrap().source.to_string(), "2001:db8:0:3::/64");
    for number in 0..=3 {
        assert_eq!(world.del(&format!("2001:db8:0:{number:x}::/64")), "done 1");
    }
    world.pass(3_600);
    for number in 0x10..=0x12 {
        world.ask(&format!("2001:db8:0:{number:x}::1"), "bad-tokens").unwrap();
    }
    world.pass(60);
    world.ask("2001:db8:0:13::1", "bad-tokens").unwrap();
    let why = world.why("2001:db8:0:ff::1");
    assert_eq!(why.entry.unwrap().source.to_string(), "2001:db8::/56");
    assert_eq!(world.ask("2001:db8:0:77::1", "bad-tokens"), Err("already_blocked"));
    assert_eq!(world.why("2001:db8:0:100::1").verdict, "passed");
    // Around an address of the host nothing is widened.
    for number in 0x10..=0x12 {
        world.ask(&format!("2001:db8:5:{number:x}::1"), "bad-tokens").unwrap_or(0);
        world.pass(30);
    }
    assert_eq!(world.why("2001:db8:5:2::1").verdict, "passed");
}

impl World {
    /// `principals` good ones at each address.
    fn serve(&mut self, addresses: &[&str], principals: u64) {
        let now = self.now;
        for address in addresses {
            let source = Source::of(address.parse().unwrap(), 64);
            let clients = (0..principals).map(|principal| crate::message::GoodClient { source, principal });
            self.guard().hear_good(&clients.collect::<Vec<_>>(), now);
        }
    }
}

#[test]
fn good_clients_are_shielded() {
    let mut world = World::new("good");
    let many: Vec<String> = (1..=11).map(|number| format!("192.0.2.{number}")).collect();
    world.serve(&many.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    world.serve(&["198.51.100.7"], 5);
    assert_eq!(world.add("192.0.2.0/24"), "good_clients");
    assert_eq!(world.add("192.0.2.0/28"), "good_clients");
    assert_eq!(world.add("192.0.2.0/29"), "done 1");
    let add = |shadow, force| ControlRequest::BlockAdd {
        source: "192.0.2.0/24".parse().unwrap(),
        seconds: None,
        reason: "tests".into(),
        shadow,
        confirm: None,
        force,
    };
    assert_eq!(world.handle(add(true, false)), "done 1");
    assert_eq!(world.handle(add(false, true)), "done 1");
    assert_eq!(world.handle(ControlRequest::BlockFlush), "done 2");
    // Established only after a while.
    world.pass(60);
    assert_eq!(world.ask("198.51.100.7", "bad-tokens"), Err("shared_source"));
    let why = world.why("198.51.100.7");
    assert_eq!(why.standing.good_principals, 5);
    assert_eq!(why.shields, ["5 established good principals share 198.51.100.7: rules may not ban it"]);
    assert_eq!(world.add("198.51.100.7"), "done 1", "operators may");
    let one = world.ask_for(Signal::OverLimit, "192.0.2.1", "bad-tokens");
    assert!(one.is_ok(), "one good principal is no shield");
    world.pass(600);
    assert_eq!(world.add("192.0.2.0/24"), "done 1");
}

#[test]
fn banning_many_good_clients_pauses_until_resumed() {
    let mut world = World::new("share");
    let many: Vec<String> = (1..=20).map(|number| format!("192.0.2.{number}")).collect();
    world.serve(&many.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    world.guard().settings.max_bans_per_minute = 100;
    world.guard().settings.max_bans = 100;
    for number in 1..=4 {
        world.ask_for(Signal::OverLimit, &format!("192.0.2.{number}"), "bad-tokens").unwrap();
    }
    // Others are no customers.
    world.ask_for(Signal::OverLimit, "198.51.100.1", "bad-tokens").unwrap();
    assert_eq!(world.handle(ControlRequest::Resume), "not_paused");
    assert_eq!(world.ask_for(Signal::OverLimit, "192.0.2.5", "bad-tokens"), Err("paused"));
    assert_eq!(world.ask_for(Signal::OverLimit, "198.51.100.2", "bad-tokens"), Err("paused"));
    let why = world.why("198.51.100.2");
    assert!(why.shields[0].contains("too many of the recently good clients"), "{:?}", why.shields);
    assert_eq!(world.handle(ControlRequest::Resume), "done 1");
    world.ask_for(Signal::OverLimit, "198.51.100.2", "bad-tokens").unwrap();
    assert_eq!(world.ask_for(Signal::OverLimit, "192.0.2.5", "bad-tokens"), Err("paused"));
    world.pass(60);
    world.ask_for(Signal::OverLimit, "198.51.100.3", "bad-tokens").unwrap();
}

#[test]
fn limits_in_shadow_are_reported_and_promoted() {
    let mut world = World::new("promote-limits");
    let limit = |shadow| Some(guard::SourceLimit { per_second: 10, burst: 10, shadow });
    let settings = &mut world.guard().settings;
    settings.shadow_limits = vec!["connection_limit.address".to_owned(), "limit.address".to_owned()];
    (settings.packet_limit, settings.syn_limit, settings.byte_limit) = (limit(true), limit(true), limit(false));
    let shadowed = |text: &str| crate::message::ShadowedSource { source: text.parse().unwrap() };
    world.serve(&["192.0.2.7"], 1);
    world.guard().hear_would_refuse("address", 7, &[shadowed("192.0.2.7"), shadowed("192.0.2.8")]);
    world.guard().hear_would_refuse("address", u64::MAX, &[shadowed("192.0.2.7")]);
    world.guard().hear_would_refuse("connection_limit.address", 3, &[shadowed("192.0.2.9")]);
    world.guard().hear_would_refuse("connection_limit.no-such", 3, &[shadowed("192.0.2.9")]);
    let report = |world: &mut World| {
        let now = world.now;
        let rows = world.guard().shadowed(now).into_iter();
        rows.map(|row| (row.what, row.sources, row.requests, row.good_clients)).collect::<Vec<_>>()
    };
    let row = |what: &str| (what.to_owned(), None, 0, None);
    let packets = row("guard.packet_limit");
    let (syns, rule) = (row("guard.syn_limit"), ("rule.trial".to_owned(), Some(0), 0, Some(0)));
    let address = ("limit.address".to_owned(), Some(2), u64::MAX, Some(1));
    let connections = ("connection_limit.address".to_owned(), Some(1), 3, Some(0));
    assert_eq!(report(&mut world), [connections, address, packets, syns.clone(), rule.clone()]);
    let promote = |what: &str| ControlRequest::ShadowPromote { what: what.to_owned() };
    assert_eq!(world.handle(promote("guard.byte_limit")), "not_found", "enforced already");
    assert_eq!(world.handle(promote("connection_limit.address")), "done 1");
    assert!(matches!(&world.guard().notices()[..], [ToProxy::Promoted { what }] if what == "connection_limit.address"));
    assert_eq!(world.handle(promote("limit.address")), "done 1");
    assert!(matches!(&world.guard().notices()[..], [ToProxy::Promoted { what }] if what == "limit.address"));
    assert_eq!(world.handle(promote("limit.address")), "not_found", "done");
    assert_eq!(world.handle(promote("guard.packet_limit")), "done 1");
    assert_eq!(report(&mut world), [syns, rule]);
    let enforced = world.guard().enforced_settings();
    assert_eq!((enforced.packet_limit, enforced.syn_limit), (limit(false), limit(true)));
    assert_eq!(world.guard().promoted(), ["connection_limit.address", "guard.packet_limit", "limit.address"]);
    world.guard().settings.shadow_limits.clear();
    let now = world.now;
    world.guard().settle_promotions(now);
    assert_eq!(world.guard().promoted(), ["guard.packet_limit"]);
}

#[test]
fn what_is_in_shadow_is_reported_and_promoted() {
    let mut world = World::new("promote");
    world.serve(&["192.0.2.7"], 1);
    let id = world.ask("192.0.2.7", "trial").unwrap();
    let now = world.now;
    let rows = world.guard().shadowed(now);
    let told: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.sources, row.good_clients)).collect();
    assert_eq!(told, [("rule.trial", Some(1), Some(1)), (id.to_string().as_str(), Some(1), Some(1))]);
    let promote = |what: &str| ControlRequest::ShadowPromote { what: what.to_owned() };
    assert_eq!(world.handle(promote("99")), "not_found");
    assert_eq!(world.handle(promote("rule.bad-tokens")), "not_found");
    assert_eq!(world.handle(promote(&id.to_string())), "done 1");
    assert_eq!(world.why("192.0.2.7").verdict, "blocked");
    assert!(matches!(world.guard().notices()[..], [ToProxy::Banned { .. }]));
    world.pass(1);
    assert_eq!(world.guard().enforcer.repairs(), 0);
    assert_eq!(world.handle(promote("all")), "done 1");
    let kernel = world.crash();
    world.start(kernel);
    world.ask("192.0.2.8", "trial").unwrap();
    assert_eq!(world.why("192.0.2.8").verdict, "blocked");
    world.guard().policy.rules.iter_mut().for_each(|rule| rule.shadow = false);
    let now = world.now;
    world.guard().settle_promotions(now);
    assert!(world.guard().policy.promoted.is_empty());
}

#[test]
fn a_rule_in_shadow_counts_whom_another_has_in_shadow() {
    let mut world = World::new("shadow-both");
    world.guard().settings.max_bans = 100;
    let other = Rule { name: "second".to_owned(), ..world.guard().policy.rules[1].clone() };
    world.guard().policy.rules.push(other);
    let block = |source: &str| ControlRequest::BlockAdd {
        source: source.parse().unwrap(),
        seconds: None,
        reason: "tests".into(),
        shadow: true,
        confirm: None,
        force: false,
    };
    assert_eq!(world.handle(block("192.0.2.9")), "done 1");
    let rows = |world: &mut World| {
        let now = world.now;
        let rows = world.guard().shadowed(now).into_iter().filter(|row| row.name == "rule");
        rows.map(|row| (row.what, row.sources)).collect::<Vec<_>>()
    };
    for (address, rule, asked, [trial, second]) in [
        ("192.0.2.7", "trial", Ok(2), [1, 0]),
        ("192.0.2.7", "second", Err("already_blocked"), [1, 1]),
        ("192.0.2.7", "second", Err("already_blocked"), [1, 1]),
        ("192.0.2.7", "trial", Err("already_blocked"), [1, 1]),
        ("192.0.2.8", "second", Ok(3), [1, 2]),
        ("192.0.2.9", "second", Err("already_blocked"), [1, 3]),
        // It is banned: no rule would do more.
        ("192.0.2.8", "bad-tokens", Ok(4), [1, 2]),
        ("192.0.2.8", "trial", Err("already_blocked"), [1, 2]),
    ] {
        assert_eq!(world.ask(address, rule), asked, "{address} {rule}");
        let expect = [("rule.trial".to_owned(), Some(trial)), ("rule.second".to_owned(), Some(second))];
        assert_eq!(rows(&mut world), expect, "after {address} {rule}");
    }
    world.pass(600);
    let expect = [("rule.trial".to_owned(), Some(0)), ("rule.second".to_owned(), Some(1))];
    assert_eq!(rows(&mut world), expect, "the block of 192.0.2.9 is in force yet");
}

#[test]
fn requirements_of_routes_in_shadow_are_reported_and_promoted() {
    let mut world = World::new("promote-routes");
    let what = "route.items.allow_if";
    world.guard().settings.shadow_routes = vec![what.to_owned()];
    world.guard().hear_would_deny(what, 7, &[1, 2, 2]);
    world.guard().hear_would_deny(what, u64::MAX, &[2, 3]);
    world.guard().hear_would_deny("route.items.sources", 7, &[1]);
    let report = |world: &mut World| {
        let now = world.now;
        let rows = world.guard().shadowed(now).into_iter().filter(|row| row.name == "route");
        rows.map(|row| (row.what, row.principals, row.requests)).collect::<Vec<_>>()
    };
    assert_eq!(report(&mut world), [(what.to_owned(), Some(3), u64::MAX)]);
    let many: Vec<u64> = (10..10_000).collect();
    world.guard().hear_would_deny(what, 1, &many);
    assert_eq!(report(&mut world), [(what.to_owned(), Some(4_096), u64::MAX)]);
    let promote = |what: &str| ControlRequest::ShadowPromote { what: what.to_owned() };
    assert_eq!(world.handle(promote("route.items.sources")), "not_found");
    assert_eq!(world.handle(promote(what)), "done 1");
    assert!(matches!(&world.guard().notices()[..], [ToProxy::Promoted { what: told }] if told == what));
    assert_eq!((report(&mut world), world.guard().promoted()), (vec![], vec![what.to_owned()]));
    let now = world.now;
    world.guard().settle_promotions(now);
    assert_eq!(world.guard().promoted(), [what], "the configuration still says shadow");
    world.guard().settings.shadow_routes.clear();
    world.guard().settle_promotions(now);
    assert!(world.guard().promoted().is_empty());
}
