//! What other machines say, judged by this one's own safety rules.

use super::*;
use crate::{
    guard::bans::peers::{AppliedFacts, MOST_FACTS},
    message::GoodClient,
};

impl World {
    fn block(&self, source: &str, seconds: u64) -> ClusterFact {
        ClusterFact::Block {
            source: source.parse().unwrap(),
            started: self.now.unix_millis,
            until: Some(self.now.unix_millis + seconds * 1_000),
            by: "rule:bad-tokens".to_owned(),
            reason: "3 forged tokens".to_owned(),
        }
    }

    /// How many facts changed something, and how many were refused.
    fn says(&mut self, node: &str, facts: &[ClusterFact], is_whole: bool) -> (u64, u64) {
        let now = self.now;
        let AppliedFacts { changed, refused } = self.guard().peer_says(node, facts, is_whole, now);
        (changed, refused)
    }

    fn is_blocked(&mut self, address: &str) -> bool {
        self.why(address).verdict == "blocked"
    }

    fn own(&mut self) -> Vec<ClusterFact> {
        let now = self.now;
        self.guard().own_facts(now)
    }
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

#[test]
fn a_ban_of_another_machine_counts_and_ends() {
    let mut world = World::new("peers-ban");
    let fact = world.block("192.0.2.7", 60);
    assert_eq!(world.says("edge-2", std::slice::from_ref(&fact), false), (1, 0));
    assert_eq!(world.says("edge-2", std::slice::from_ref(&fact), false), (0, 0), "it is told again");
    assert_eq!(world.says("edge-3", &[fact], false), (0, 0), "by another one, too");
    let entry = world.why("192.0.2.7").entry.unwrap();
    assert_eq!((entry.actor.as_str(), entry.remaining_seconds), ("cluster:edge-2", Some(60)));
    assert_eq!(entry.reason, "3 forged tokens (rule:bad-tokens)");
    assert!(world.own().is_empty(), "it is not passed on");
    world.pass(61);
    assert!(!world.is_blocked("192.0.2.7"));
    let over = world.block("192.0.2.8", 0);
    assert_eq!(world.says("edge-2", &[over], false), (0, 0), "it has ended already");
    assert!(world.events().contains(&"ban".to_owned()));
}

/// A stolen machine can ban nobody whom no rule here could ban.
#[test]
fn x07_safety_rules_are_this_machines_own() {
    let mut world = World::new("peers-safety");
    for refused in ["10.1.2.3", "203.0.113.2", "192.0.0.0/8", "127.0.0.1", "0.0.0.0/0"] {
        let fact = world.block(refused, 60);
        assert_eq!(world.says("edge-2", &[fact], false), (0, 1), "{refused}");
    }
    // What an operator here has unblocked stays so for a while.
    assert_eq!(world.add("192.0.2.7"), "done 1");
    assert_eq!(world.handle(ControlRequest::BlockDel { source: source("192.0.2.7") }), "done 1");
    let fact = world.block("192.0.2.7", 60);
    assert_eq!(world.says("edge-2", &[fact], false), (0, 1));
    // Nobody is let through who is blocked by hand here, and nothing that is too wide.
    assert_eq!(world.add("192.0.2.9"), "done 1");
    for allowed in ["192.0.2.9", "192.0.2.0/24", "0.0.0.0/0"] {
        let fact = ClusterFact::Allow { source: source(allowed), reason: "theirs".to_owned() };
        assert_eq!(world.says("edge-2", &[fact], false), (0, 1), "{allowed}");
    }
    assert!(world.is_blocked("192.0.2.9"));
}

#[test]
fn the_room_for_operators_is_kept() {
    let mut world = World::new("peers-room");
    let facts: Vec<ClusterFact> = (1..=40).map(|last| world.block(&format!("192.0.2.{last}"), 600)).collect();
    let (changed, refused) = world.says("edge-2", &facts, true);
    assert!(changed <= 4 && changed + refused == 40, "{changed} {refused}");
}

#[test]
fn a_whole_takes_the_place_of_what_was_said() {
    let mut world = World::new("peers-whole");
    let (one, two) = (world.block("192.0.2.1", 600), world.block("192.0.2.2", 600));
    let allow = ClusterFact::Allow { source: source("198.51.100.7"), reason: "theirs".to_owned() };
    assert_eq!(world.says("edge-2", &[one.clone(), two, allow], true), (3, 0));
    let other = world.block("192.0.2.3", 600);
    assert_eq!(world.says("edge-3", &[other], true), (1, 0), "another machine's are its own");
    assert_eq!(world.why("198.51.100.7").verdict, "allowed");
    assert_eq!(world.says("edge-2", &[one], true), (2, 0));
    assert!(world.is_blocked("192.0.2.1") && !world.is_blocked("192.0.2.2") && world.is_blocked("192.0.2.3"));
    assert_eq!(world.why("198.51.100.7").verdict, "passed");
    // Machines that are gone have nothing to say.
    let now = world.now;
    world.guard().forget_peers(&["edge-2".to_owned()], now);
    assert!(world.is_blocked("192.0.2.1") && !world.is_blocked("192.0.2.3"));
}

/// What was left out because there was no room for it has not ended.
#[test]
fn a_whole_that_was_cut_ends_nothing() {
    let mut world = World::new("peers-cut");
    let old = world.block("192.0.2.1", 600);
    let allow = ClusterFact::Allow { source: source("198.51.100.7"), reason: "theirs".to_owned() };
    assert_eq!(world.says("edge-2", &[old, allow], true), (2, 0));
    let over = world.block("192.0.2.2", 0);
    assert_eq!(world.says("edge-2", &vec![over.clone(); MOST_FACTS], true), (0, 0));
    assert!(world.is_blocked("192.0.2.1"));
    assert_eq!(world.why("198.51.100.7").verdict, "allowed");
    assert_eq!(world.says("edge-2", &vec![over; MOST_FACTS - 1], true), (2, 0), "one that has all of it ends both");
    assert!(!world.is_blocked("192.0.2.1"));
}

/// What is deleted here alone would be back as soon as the other machine says so again.
#[test]
fn an_allowance_of_another_machine_is_deleted_there() {
    let mut world = World::new("peers-allow-del");
    let allow = ClusterFact::Allow { source: source("198.51.100.7"), reason: "theirs".to_owned() };
    assert_eq!(world.says("edge-2", std::slice::from_ref(&allow), true), (1, 0));
    let request = || ControlRequest::AllowDel { source: source("198.51.100.7") };
    let now = world.now;
    let ControlAnswer::Refused { code, message } = world.guard().handle(request(), &OPERATOR, now) else {
        panic!("deleted")
    };
    assert_eq!(code, "of_another_machine");
    assert!(message.contains("run `gateway allow del 198.51.100.7` there") && message.contains("edge-2"), "{message}");
    assert_eq!(
        world.says("edge-3", &[ClusterFact::Disallow { source: source("198.51.100.7") }], false),
        (0, 0),
        "nor by others"
    );
    assert_eq!(world.says("edge-2", &[ClusterFact::Disallow { source: source("198.51.100.7") }], false), (1, 0));
    assert_eq!(world.handle(request()), "not_found");
}

/// Who asks for too much is refused for that, before good clients are looked through.
#[test]
fn the_pace_of_other_machines_is_judged_first() {
    let mut world = World::new("peers-pace");
    world.guard().settings.max_bans = 100;
    let now = world.now;
    for number in 1..=30 {
        let fact = world.block(&format!("192.0.2.{number}"), 600);
        world.says("edge-2", &[fact], false);
    }
    let actor = Actor::Peer("edge-2".to_owned());
    let code = |world: &mut World, address: &str, now| {
        let refused = world.guard().peer_block(source(address), 0, Some(60), "tests".to_owned(), &actor, now);
        refused.map_err(|refused| refused.code)
    };
    assert_eq!(code(&mut world, "203.0.113.2", now), Err("peers_pace"), "though it could never be banned");
    assert_eq!(code(&mut world, "192.0.2.1", now), Ok(false), "what is known costs nothing");
    world.pass(60);
    let now = world.now;
    assert_eq!(code(&mut world, "203.0.113.2", now), Err("own_address"));
}

/// One client is looked up, and a network is looked through: both find the same.
#[test]
fn good_clients_are_kept_from_blocks() {
    let mut world = World::new("peers-good");
    world.guard().settings.safety.shield_clients = 0;
    let now = world.now;
    let good = ["192.0.2.7", "2001:db8:1:2::/64"].map(|text| GoodClient { source: source(text), principal: 1 });
    world.guard().hear_good(&good, now);
    for (blocked, is_good) in [
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("192.0.2.0/24", true),
        ("2001:db8:1:2::/64", true),
        ("2001:db8:1:3::/64", false),
        ("2001:db8:1::/48", true),
        ("2001:db8:2::/48", false),
    ] {
        let judged = world.guard().judge_good(source(blocked), now).map_err(|refused| refused.code);
        assert_eq!(judged, if is_good { Err("good_clients") } else { Ok(()) }, "{blocked}");
    }
}

#[test]
fn an_operator_anywhere_lifts_what_rules_have_banned() {
    let mut world = World::new("peers-unblock");
    world.ask("192.0.2.7", "bad-tokens").unwrap();
    assert_eq!(world.add("192.0.2.8"), "done 1");
    let early = ClusterFact::Unblock { source: source("192.0.2.7"), at: world.now.unix_millis - 1 };
    world.says("edge-2", &[early], false);
    assert!(world.is_blocked("192.0.2.7"), "it was lifted before this ban began");
    let at = world.now.unix_millis;
    for (address, is_blocked) in [("192.0.2.7", false), ("192.0.2.8", true)] {
        world.says("edge-2", &[ClusterFact::Unblock { source: source(address), at }], false);
        assert_eq!(world.is_blocked(address), is_blocked, "{address}");
    }
    let fact = ClusterFact::Unblock { source: source("192.0.2.7"), at };
    assert_eq!(world.says("edge-2", &[fact], true), (0, 0), "it is told again");
    assert_eq!(world.ask("192.0.2.7", "bad-tokens"), Err("operator_unbanned"));
}

/// What others are told: what was decided here, and nothing that came from them or that only counts.
#[test]
fn what_is_told() {
    let mut world = World::new("peers-told");
    world.ask("192.0.2.1", "bad-tokens").unwrap();
    world.ask("192.0.2.2", "trial").unwrap();
    assert_eq!(world.add("192.0.2.3"), "done 1");
    assert_eq!(world.handle(ControlRequest::BlockDel { source: source("192.0.2.3") }), "done 1");
    let allow = ControlRequest::AllowAdd { source: source("198.51.100.1"), reason: "ours".into(), yes: false };
    assert_eq!(world.handle(allow), "done 1");
    let of = |facts: Vec<ClusterFact>| -> Vec<String> {
        let name = |fact: &ClusterFact| match fact {
            ClusterFact::Allow { source, .. } => format!("allow {source}"),
            ClusterFact::Block { source, by, .. } => format!("block {source} {by}"),
            ClusterFact::Disallow { source } => format!("disallow {source}"),
            ClusterFact::Unblock { source, .. } => format!("unblock {source}"),
            other => format!("{other:?}"),
        };
        facts.iter().map(name).collect()
    };
    let changes = of(world.guard().take_facts());
    let expect =
        ["block 192.0.2.1 rule:bad-tokens", "block 192.0.2.3 operator:0", "unblock 192.0.2.3", "allow 198.51.100.1"];
    assert_eq!(changes, expect);
    assert!(world.guard().take_facts().is_empty());
    let expect = ["allow 198.51.100.1", "unblock 192.0.2.3", "block 192.0.2.1 rule:bad-tokens"];
    assert_eq!(of(world.own()), expect);
    let fact = world.block("192.0.2.9", 60);
    world.says("edge-2", &[fact], false);
    assert_eq!(of(world.own()), expect);
    assert!(world.guard().take_facts().is_empty());
}
