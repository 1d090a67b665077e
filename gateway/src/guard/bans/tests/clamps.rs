//! What a limit may clamp, what stands against it, and what becomes of the budget of a source in the end.

use gateway_common::maps::Budget;

use super::*;
use crate::{
    message::{GoodClient, PlanMember},
    settings::limit::{Clamp, PlanBudget},
};

const MINUTES: u64 = 60;

pub(super) fn settings() -> Vec<(String, Clamp)> {
    let clamp = |shadow| Clamp {
        after: 3,
        within: Duration::from_secs(10),
        divide: 10,
        lasts: Duration::from_secs(MINUTES),
        shadow,
    };
    [("address", false), ("other", false), ("trial", true)].map(|(name, it)| (name.to_owned(), clamp(it))).into()
}

pub(super) fn plans() -> Vec<PlanBudget> {
    let plan = |plan: &str, per_second| PlanBudget { plan: plan.to_owned(), per_second, burst: per_second };
    vec![plan("gold", 100_000), plan("silver", 50_000)]
}

impl World {
    pub(super) fn with_budgets(name: &str) -> Self {
        let mut world = Self::new(name);
        drop(world.crash());
        world.start(Box::new(AtAccept::with_budgets()));
        world
    }

    fn limit_asks(&mut self, address: &str, limit: &str) -> Result<(), &'static str> {
        self.limit_asks_with(address, limit, |ask| ask)
    }

    fn limit_asks_with(
        &mut self,
        address: &str,
        limit: &str,
        change: impl FnOnce(BanRequest) -> BanRequest,
    ) -> Result<(), &'static str> {
        let address: IpAddr = address.parse().unwrap();
        let ask = change(BanRequest {
            relay: None,
            source: Source::of(address, 64),
            address,
            rule: format!("limit.{limit}"),
            signal: Signal::OverLimit,
            evidence: vec![RequestId(1), RequestId(2), RequestId(3)],
            seconds: u64::MAX,
            shadow: true,
            noted: 0,
        });
        let now = self.now;
        self.guard().clamp(&ask, limit, now).map_err(|refused| refused.code)
    }

    /// The flags of the budget that a source has of its own.
    fn budget(&mut self, address: &str) -> Option<u64> {
        let key = Source::of(address.parse().unwrap(), 64).key(64).unwrap();
        self.guard().enforcer.path().find_budget(key).map(|budget| budget.flags)
    }
}

#[test]
fn d05_a_clamp_is_renewed_ends_and_is_recorded() {
    let mut world = World::with_budgets("clamp");
    assert_eq!(world.limit_asks("2001:db8:1:2:3::4", "address"), Ok(()));
    assert_eq!(world.budget("2001:db8:1:2::9"), Some(Budget::CLAMP), "the whole prefix");
    assert_eq!(world.budget("2001:db8:1:3::9"), None);
    let clamp = world.why("2001:db8:1:2::5").clamp.unwrap();
    assert_eq!((clamp.limit.as_str(), clamp.divide, clamp.remaining_seconds), ("address", 10, MINUTES));
    assert_eq!(clamp.evidence, [RequestId(1), RequestId(2), RequestId(3)]);
    let next = world.why("2001:db8:1:2::5").next;
    assert_eq!(next, "Its packets are limited for another 1m; then it is served as everybody is.");
    assert_eq!(world.limit_asks("2001:db8:1:2::5", "other"), Err("already_clamped"));
    world.pass(MINUTES / 2);
    assert_eq!(world.limit_asks("2001:db8:1:2::5", "address"), Ok(()), "it goes on");
    world.pass(MINUTES - 1);
    assert_eq!(world.budget("2001:db8:1:2::5"), Some(Budget::CLAMP));
    world.pass(1);
    assert_eq!((world.budget("2001:db8:1:2::5"), world.why("2001:db8:1:2::5").clamp), (None, None));
    assert_eq!(world.limit_asks("192.0.2.7", "trial"), Ok(()));
    assert_eq!(world.budget("192.0.2.7"), Some(Budget::CLAMP | Budget::SHADOW));
    assert!(world.why("192.0.2.7").next.ends_with("served as everybody is."), "in shadow it is not limited");
    // A ban that was asked for is a ban: nothing of it is a clamp.
    assert!(world.ask("192.0.2.8", "bad-tokens").is_ok() && world.budget("192.0.2.8").is_none());
    assert_eq!(world.ask("192.0.2.9", "limit.address"), Err("clamp"));
    assert_eq!(world.ask("192.0.2.9", "limit.no-such"), Err("clamp"));
    assert_eq!(world.handle(ControlRequest::ClampDel { source: "192.0.2.7".parse().unwrap() }), "done 1");
    assert_eq!(world.handle(ControlRequest::ClampDel { source: "192.0.2.7".parse().unwrap() }), "not_found");
    assert_eq!(world.limit_asks("192.0.2.7", "address"), Err("operator_unbanned"));
    let events = world.events();
    let of = |event: &str| events.iter().filter(|one| *one == event).count();
    assert_eq!((of("clamp"), of("unclamp")), (2, 2), "{events:?}");
}

/// A reload changes what is in force, not only what comes after it.
#[test]
fn a_clamp_follows_its_settings() {
    let mut world = World::with_budgets("clamp-reload");
    assert_eq!(world.limit_asks("192.0.2.7", "address"), Ok(()));
    assert_eq!(world.limit_asks("192.0.2.8", "trial"), Ok(()));
    for (_, clamp) in &mut world.guard().settings.clamps {
        (clamp.divide, clamp.lasts, clamp.shadow) = (50, Duration::from_secs(MINUTES / 2), false);
    }
    let now = world.now;
    world.guard().refit_budgets(now);
    let clamp = world.why("192.0.2.7").clamp.unwrap();
    assert_eq!((clamp.divide, clamp.remaining_seconds), (50, MINUTES / 2));
    // What counted only takes nothing away before it is judged as what does.
    assert_eq!((world.budget("192.0.2.8"), world.why("192.0.2.8").clamp), (None, None));
    assert_eq!(world.limit_asks("192.0.2.8", "trial"), Ok(()));
    assert_eq!(world.budget("192.0.2.8"), Some(Budget::CLAMP));
    world.guard().settings.clamps.retain(|(name, _)| name != "address");
    world.guard().refit_budgets(now);
    assert_eq!(world.budget("192.0.2.7"), None);
}

#[test]
fn what_stands_against_a_clamp() {
    let mut world = World::new("no-clamp");
    assert_eq!(world.limit_asks("192.0.2.7", "address"), Err("not_guarded"), "there are no budgets");
    drop(world.crash());
    world.start(Box::new(AtAccept::with_budgets()));
    for (address, limit, expect) in [
        ("192.0.2.7", "no-such", "unknown_rule"),
        ("10.1.2.3", "address", "allowlisted"),
        ("203.0.113.2", "address", "own_address"),
        ("2001:db8:5::7", "address", "own_address"),
        ("127.0.0.1", "address", "special_address"),
    ] {
        assert_eq!(world.limit_asks(address, limit), Err(expect), "{address} by {limit}");
    }
    let other = "192.0.2.99".parse().unwrap();
    type Change = fn(BanRequest) -> BanRequest;
    for (what, change, expect) in [
        ("a relay", (|ask| BanRequest { relay: Some(ask.address), ..ask }) as Change, "behind_proxy"),
        ("no evidence", |ask| BanRequest { evidence: Vec::new(), ..ask }, "no_evidence"),
        ("another signal", |ask| BanRequest { signal: Signal::Forbidden, ..ask }, "no_evidence"),
        ("a wider source", |ask| BanRequest { source: "192.0.2.0/24".parse().unwrap(), ..ask }, "not_the_source"),
    ] {
        assert_eq!(world.limit_asks_with("192.0.2.7", "address", change), Err(expect), "{what}");
    }
    assert_eq!(
        world.limit_asks_with("192.0.2.7", "address", |ask| BanRequest { address: other, ..ask }),
        Err("not_the_source")
    );
    world.add("192.0.2.20");
    assert_eq!(world.limit_asks("192.0.2.20", "address"), Err("already_blocked"));
    assert!(world.guard().kernel_budgets().clamps == 0);
}

#[test]
fn a_broken_limit_clamps_not_half_of_the_customers() {
    let mut world = World::with_budgets("clamp-share");
    let client = |number: u32| Source::of(std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into(), 64);
    let clients: Vec<_> =
        (0..40).map(|number| GoodClient { source: client(number), principal: number.into() }).collect();
    let now = world.now;
    world.guard().settings.max_bans_per_minute = 60;
    world.guard().hear_good(&clients, now);
    let clamped = (0..40).filter(|number| world.limit_asks(&client(*number).address().to_string(), "address").is_ok());
    // A fifth, as of bans.
    assert_eq!(clamped.count(), 8);
    assert_eq!(world.limit_asks("198.51.100.1", "address"), Ok(()), "whoever is no customer");
    // Nor, of those, more than there may be bans in a minute.
    let strangers = (0..200).filter(|number| world.limit_asks(&format!("198.51.101.{number}"), "address").is_ok());
    assert!(strangers.count() <= 60);
}

#[test]
fn a_source_has_the_budget_of_a_plan_for_as_long_as_it_is_told_of() {
    let mut world = World::with_budgets("plans");
    let member = |address: &str, plan: &str, principal| PlanMember {
        source: Source::of(address.parse().unwrap(), 64),
        principal,
        plan: plan.to_owned(),
    };
    let hear = |world: &mut World, member: PlanMember| {
        let now = world.now;
        world.guard().hear_plan_members(&[member], now);
    };
    hear(&mut world, member("192.0.2.7", "gold", 1));
    hear(&mut world, member("10.1.2.3", "gold", 2));
    hear(&mut world, member("192.0.2.9", "no-such", 3));
    assert_eq!(world.budget("192.0.2.7"), Some(0));
    assert_eq!((world.budget("10.1.2.3"), world.budget("192.0.2.9")), (None, None));
    let plan = world.why("192.0.2.7").plan.unwrap();
    assert_eq!((plan.plan.as_str(), plan.packets_per_second), ("gold", 100_000));
    world.pass(50);
    hear(&mut world, member("192.0.2.7", "gold", 1));
    world.pass(50);
    // A clamp comes before it, and leaves it as it was.
    assert_eq!(world.limit_asks("192.0.2.7", "address"), Ok(()));
    hear(&mut world, member("192.0.2.7", "gold", 1));
    assert_eq!(world.budget("192.0.2.7"), Some(Budget::CLAMP));
    world.pass(50);
    // Another member, whose plan gives less.
    hear(&mut world, member("192.0.2.7", "silver", 4));
    hear(&mut world, member("192.0.2.7", "gold", 1));
    world.pass(10);
    assert_eq!(world.budget("192.0.2.7"), Some(0), "the clamp is over");
    assert_eq!(world.why("192.0.2.7").plan.map(|plan| plan.plan).as_deref(), Some("gold"));
    world.pass(50);
    assert_eq!((world.budget("192.0.2.7"), world.why("192.0.2.7").plan), (None, None));
    hear(&mut world, member("192.0.2.7", "silver", 4));
    assert_eq!(world.why("192.0.2.7").plan.map(|plan| plan.plan).as_deref(), Some("silver"));
}
