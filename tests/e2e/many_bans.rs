//! What many bans by rules lead to: their network is banned in their place, or rules are kept from banning.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GATE, GOOD_V4, GOOD_V6, OUTSIDE, World, bystander},
};

use super::alerts;

#[test]
fn the_network_of_ipv6_hoppers_is_banned() {
    if !report::may_run("many_bans::widening") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // Clients of six networks of 64 bits: five of them in one of 56, the last in the next.
    let [.., idle, next] = [0x300, 0x301, 0x3fe, 0x3ff, 0x380, 0x400].map(hopper);
    let hoppers = [0x300, 0x301, 0x3fe, 0x3ff].map(hopper);
    let mut lines = String::new();
    for address in hoppers.iter().chain([&idle, &next]) {
        writeln!(lines, "addr add {address}/64 dev {OUTSIDE} nodad").unwrap();
    }
    world.outside.configure(&lines);
    world.gate.configure(&format!("route add fd00:0:0:300::/55 dev {GATE}\nroute add fd00:0:0:400::/56 dev {GATE}\n"));
    let settings = Settings { rules: bad_tokens(2, "10m"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let why = |address: IpAddr| daemon.done(&["why", &address.to_string()]);
    for (number, hopper) in hoppers.into_iter().enumerate() {
        assert_eq!(why(idle)["verdict"], "passed", "widened after {number} bans");
        offend(&Client::new(&world, hopper), 2);
        until("the hopper's ban", SOON, || (why(hopper)["verdict"] == "blocked").then_some(()));
    }
    let told = why(idle);
    assert_eq!(
        (&told["verdict"], &told["entry"]["source"]),
        (&"blocked".into(), &"fd00:0:0:300::/56".into()),
        "{told}"
    );
    let ignored = Duration::from_millis(500);
    assert!(Client::new(&world, idle).is_ignored(ignored), "one that has not hopped to there yet is served");
    assert!(Client::new(&world, hoppers[0]).is_ignored(ignored));
    for served in [next, GOOD_V6] {
        assert_eq!(Client::new(&world, served).get("/health", "").unwrap().status, 200, "{served}");
    }
    // Lifting the network's ban leaves those of the clients before it.
    daemon.done(&["block", "del", "fd00:0:0:300::/56"]);
    assert_eq!(Client::new(&world, idle).get("/health", "").unwrap().status, 200);
}

const fn hopper(network: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, network, 0, 0, 0, 1))
}

#[test]
fn rules_that_ban_too_many_are_paused_until_an_operator_or_time_resumes_them() {
    if !report::may_run("many_bans::breaker") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = "max_bans_per_minute = 2\n[guard.breaker]\npause = \"1h\"\n".to_owned();
    let more = format!("{}{}", admin::TABLE, alerts::NEVER);
    let settings = Settings { guard, rules: bad_tokens(2, "10m"), more, ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let verdict = |number| daemon.done(&["why", &bystander(number).to_string()])["verdict"].clone();
    let is_told = || !alerts::firing(&daemon, "mass_ban_breaker", "severity").is_empty();
    let attack = |number| offend(&Client::new(&world, bystander(number)), 2);
    let banned = |number| until("a ban", SOON, || (verdict(number) == "blocked").then_some(()));
    let is_paused = || daemon.status()["warnings"].to_string().contains("banning by rules is paused");

    for number in [0, 1] {
        attack(number);
        banned(number);
    }
    assert!(!is_paused() && !is_told());
    attack(2);
    until("the pause", SOON, || is_paused().then_some(()));
    until("the alert", SOON, || is_told().then_some(()));
    attack(3);
    for number in [2, 3] {
        assert_eq!(verdict(number), "passed", "a ban during the pause");
    }
    // What is banned stays so, an operator still may, and nobody else is hurt.
    assert_eq!(verdict(0), "blocked");
    daemon.done(&["block", "add", &bystander(4).to_string()]);
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    daemon.done(&["resume"]);
    assert!(!is_paused());
    attack(2);
    banned(2);

    // A shorter pause ends by itself.
    daemon.edit("pause = \"1h\"", "pause = \"2s\"");
    daemon.done(&["reload"]);
    attack(5);
    banned(5);
    attack(6);
    until("the second pause", SOON, || is_paused().then_some(()));
    until("its end", SOON, || (!is_paused()).then_some(()));
    let recorded = until("its end in the record", SOON, || {
        let recorded = pauses(&world);
        (recorded.len() == 4).then_some(recorded)
    });
    let events: Vec<&str> = recorded.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events, ["paused", "resumed", "paused", "resumed"], "{recorded:?}");
    assert!(recorded[1]["actor"].is_string() && recorded[3]["because"].is_string(), "{recorded:?}");
}

/// When rules were paused and resumed, by the audit chain.
fn pauses(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == "paused" || line["event"] == "resumed").collect()
}

fn offend(attacker: &Client<'_>, times: u32) {
    for _ in 0..times {
        let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
        assert_eq!(attacker.send(&bad).unwrap().status, 401);
    }
}
