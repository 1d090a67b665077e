//! What clients who proved who they are have of it in the kernel: the fast lane, the budget of a plan; and what a client has
//! that goes on over a limit.
//!
//! Counts are asserted, never times. The table of times is made by `cargo xtask bench flood --only lane`.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    flood::{Flood, pin},
    http1::{Client, Connection, Request},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

const SECOND: Duration = Duration::from_secs(1);

/// Connections of clients who proved who they are.
const PROVEN: usize = 50;

/// How long a client waits for an answer: longer than TCP takes to send twice what was lost once.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// Packets per second, of random sources. The budget of all is a 25th of it, of which nine tenths are
/// the fast lane's: a flood that pauses for a moment lets few others through.
const FLOOD: u32 = 40_000;

/// Whether the clients of connections prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    Proven,
    Unknown,
}

/// What became of the requests of proven connections.
#[derive(Debug, Default)]
struct Luck {
    times: Vec<Duration>,
    /// Connections that got no answer; each of them gives up then.
    failed: usize,
}

impl Luck {
    fn text(&self) -> String {
        let mut times = self.times.clone();
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let (served, failed) = (times.len(), self.failed);
        format!("{served} requests served, {failed} of {PROVEN} connections failed, p50 {:?}, p99 {:?}", at(50), at(99))
    }
}

/// Fifty connections over which a request was served, from ten addresses.
fn connected(world: &World, clients: Clients) -> Vec<(Connection, Request)> {
    let connect = |number: usize| {
        let host = u8::try_from(number % 10).unwrap();
        let request = match clients {
            Clients::Proven => {
                Request::new("GET", "/me").token(&tokens::good(&format!("client-{number}"), &["reader"]))
            }
            Clients::Unknown => Request::new("GET", "/health"),
        };
        let mut connection = Client::new(world, bystander(host)).connect().unwrap();
        assert_eq!(connection.exchange(&request).unwrap().status, 200);
        connection.set_timeout(TIMEOUT).unwrap();
        (connection, request)
    };
    (0..PROVEN).map(connect).collect()
}

/// What becomes of them beside a flood, or beside nothing for as long.
fn beside(world: &World, flood: Option<&Flood>, clients: Clients) -> Luck {
    let connections = connected(world, clients);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            match flood {
                Some(flood) => drop(flood.send(world)),
                None => pause(SECOND),
            }
            over.store(true, Ordering::Relaxed);
        });
        // The budget is spent by then.
        pause(Duration::from_millis(250));
        let clients: Vec<_> = (connections.into_iter())
            .map(|(mut connection, request)| {
                let over = &over;
                scope.spawn(move || {
                    let mut luck = Luck::default();
                    while !over.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        match connection.exchange(&request) {
                            Ok(answer) if answer.status == 200 => luck.times.push(start.elapsed()),
                            _ => {
                                luck.failed = 1;
                                break;
                            }
                        }
                        pause(Duration::from_millis(100));
                    }
                    luck
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(Luck::default(), |mut all, luck| {
            all.times.extend(luck.times);
            all.failed += luck.failed;
            all
        })
    })
}

/// The luck of connections beside a flood of random sources, and what the kernel counted.
fn flooded(clients: Clients, flood: Option<&Flood>, rate: u32) -> (Luck, u64, u64) {
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = format!("[guard.total_limit]\npackets = {}\nburst = 1000\nfast_lane = 0.9\n", rate / 25);
    let daemon = Daemon::start(&world, &Settings { guard, rules: String::new(), ..Settings::default() });
    let luck = beside(&world, flood, clients);
    (luck, daemon.packets("fast_lane"), daemon.packets("over_total"))
}

#[test]
fn proven_connections_go_on_beside_a_flood_of_random_sources_and_others_fail() {
    if !report::may_run("fast lane: flood") {
        return;
    }
    let flood = Flood::spoofed_acks(443).at(FLOOD, 2 * SECOND);
    let (unknown, none, dropped) = flooded(Clients::Unknown, Some(&flood), FLOOD);
    report::note(&format!("flood of {FLOOD}/s, unknown clients: {}; {dropped} dropped", unknown.text()));
    assert!(none == 0 && unknown.failed > PROVEN / 2, "the flood does not bite: {}", unknown.text());
    let (proven, passed, dropped) = flooded(Clients::Proven, Some(&flood), FLOOD);
    report::note(&format!("proven ones: {}; {dropped} dropped, {passed} passed in the lane", proven.text()));
    assert_eq!(proven.failed, 0, "{}", proven.text());
    assert!(proven.times.len() >= 3 * PROVEN, "{}", proven.text());
    assert!(passed > 0 && dropped > u64::from(FLOOD) / 2, "{passed} in the lane, {dropped} dropped");
    if let Some(rate) = measured() {
        measure(rate);
    }
}

fn measured() -> Option<u32> {
    let only = env::var("GATEWAY_FLOOD_ONLY").ok();
    env::var("GATEWAY_FLOOD_RATE").ok().filter(|_| only.is_none_or(|only| only == "lane"))?.parse().ok()
}

/// The last processor makes the flood and does the kernel's part of receiving it; everything else shares the others.
fn measure(rate: u32) {
    let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
    pin(|number| number != last || last == 0);
    let flood = Flood::spoofed_acks(443).at(rate, 3 * SECOND).on(Some(last));
    for (what, clients, flood) in [
        ("idle", Clients::Proven, None),
        ("flood, proven", Clients::Proven, Some(&flood)),
        ("flood, unknown", Clients::Unknown, Some(&flood)),
    ] {
        for _ in 0..3 {
            let (luck, passed, dropped) = flooded(clients, flood, rate);
            report::note(&format!("{what:<15} {}; {passed} passed in the lane, {dropped} dropped", luck.text()));
        }
    }
}

/// A mark is what one connection has proved: not another of the same address, and not for longer than it holds.
#[test]
fn a_mark_is_taken_back_with_what_it_rests_on() {
    if !report::may_run("fast lane: marks") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = "[guard.total_limit]\npackets = 1000000\nfast_lane_connections = 2\n".to_owned();
    let more = "[limit.me]\nby = [\"principal\"]\nrequests = 6\nper = \"1h\"\n";
    let settings = Settings { guard, rules: String::new(), more: more.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let marked = |count: usize| until("marked sockets", SOON, || (priorities(&world) == count).then_some(()));
    let connect = |address: IpAddr| Client::new(&world, address).connect().unwrap();
    let ask = |connection: &mut Connection, path: &str, subject: &str| {
        connection.exchange(&Request::new("GET", path).token(&tokens::good(subject, &["reader"]))).unwrap().status
    };
    let mut stranger = connect(GOOD_V4);
    assert_eq!(stranger.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    marked(0);
    let mut ada: Vec<Connection> = (0..3).map(|_| connect(GOOD_V4)).collect();
    ada.iter_mut().for_each(|connection| assert_eq!(ask(connection, "/me", "ada"), 200));
    // Two of a principal, and no more.
    marked(2);
    drop(ada.remove(0));
    marked(1);
    assert_eq!(ask(&mut ada[1], "/me", "ada"), 200);
    marked(2);
    // Over its limit, both lose it as they are refused.
    while ask(&mut ada[0], "/me", "ada") == 200 {}
    assert_eq!(ask(&mut ada[1], "/me", "ada"), 429);
    marked(0);
    let mut bob = connect(GOOD_V4);
    assert_eq!(ask(&mut bob, "/me", "bob"), 200);
    marked(1);
    daemon.done(&["token", "revoke", "--issuer", tokens::ISSUER, "--subject", "bob", "--reason", "test"]);
    marked(0);
    // Whoever may not do what it asks is not marked, nor whoever forges a token.
    let mut eve = connect(ATTACKER_V4);
    assert_eq!(ask(&mut eve, "/nobody", "eve"), 403);
    let forged = Request::new("GET", "/me").token(&tokens::forged("eve", &["reader"]));
    assert_eq!(eve.exchange(&forged).unwrap().status, 401);
    marked(0);
}

/// Connections of the gateway's port whose priority marks them, as `ss` shows it.
fn priorities(world: &World) -> usize {
    let output = world
        .gate
        .command("ss".as_ref())
        .args(["-Htn", "--tos", "state", "established", "sport", "=", ":443"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).matches("class_id:0x4").count()
}

fn clamps(daemon: &Daemon<'_>) -> Vec<Value> {
    daemon.done(&["limit", "clamps"])["entries"].as_array().unwrap().clone()
}

#[test]
fn d05_a_source_that_goes_on_over_a_limit_is_clamped_and_never_banned() {
    if !report::may_run("clamp") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = "[guard.packet_limit]\npackets = 5000\n".to_owned();
    let more = "[limit.address]\nrequests = 5\nper = \"1h\"\n[limit.address.clamp]\nafter = 10\nwithin = \"1m\"\n\
                divide = 100\nfor = \"1h\"\n";
    let settings = Settings { guard, rules: String::new(), more: more.to_owned(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let offend = |address: IpAddr| {
        let mut connection = Client::new(&world, address).connect().unwrap();
        let request = Request::new("GET", "/health");
        let refused = (0..15).filter(|_| connection.exchange(&request).unwrap().status == 429).count();
        assert_eq!(refused, 10);
    };
    daemon.done(&["allow", "add", "10.0.0.2"]);
    offend(GOOD_V4);
    offend(ATTACKER_V4);
    until("a clamp", SOON, || (!clamps(&daemon).is_empty()).then_some(()));
    let all = clamps(&daemon);
    let [clamp] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(
        (&clamp["source"], &clamp["limit"], &clamp["divide"], &clamp["mode"]),
        (&json!("10.0.0.66"), &json!("address"), &json!(100), &json!("enforce")),
        "an allowlisted source is never clamped"
    );
    assert_eq!(clamp["evidence"].as_array().map(Vec::len), Some(10));
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!((&why["clamp"]["limit"], &why["verdict"]), (&json!("address"), &json!("passed")), "{why}");
    // Nothing of it would be over the budget that all have.
    let attacker = Ipv4Addr::new(10, 0, 0, 66);
    let sent = Flood::acks_from_one(attacker, 443).at(2_000, SECOND).send(&world);
    assert!(daemon.packets("clamped") > sent.packets / 2 && daemon.packets("over_packets") == 0, "{sent:?}");
    assert_eq!(daemon.packets("blocked"), 0);
    assert_eq!(Client::new(&world, bystander(0)).send(&Request::new("GET", "/health")).unwrap().status, 200);
    // A reload keeps it, by the new configuration.
    daemon.edit("divide = 100", "divide = 50");
    daemon.done(&["reload"]);
    assert_eq!(clamps(&daemon).len(), 1);
    daemon.done(&["limit", "unclamp", "10.0.0.66"]);
    assert!(clamps(&daemon).is_empty());
    let before = daemon.packets("clamped");
    let _more = Flood::acks_from_one(attacker, 443).at(1_000, SECOND / 2).send(&world);
    assert_eq!(daemon.packets("clamped"), before, "it has what all have");
    // An operator's word stands: the same source is not clamped again at once.
    offend_again(&world, ATTACKER_V4);
    offend_again(&world, bystander(1));
    until("another clamp", SOON, || (!clamps(&daemon).is_empty()).then_some(()));
    let sources: Vec<Value> = clamps(&daemon).into_iter().map(|clamp| clamp["source"].clone()).collect();
    assert_eq!(sources, [json!("10.0.0.101")]);
    let shown = std::fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    for event in ["clamp", "unclamp"] {
        assert!(shown.contains(&format!("\"event\":\"{event}\"")), "{shown}");
    }
    daemon.kill();
}

/// Whatever it is answered, it goes on.
fn offend_again(world: &World, address: IpAddr) {
    let mut connection = Client::new(world, address).connect().unwrap();
    let request = Request::new("GET", "/health");
    for _ in 0..15 {
        connection.exchange(&request).unwrap();
    }
}

#[test]
fn the_budget_of_a_plan_lasts_while_a_member_is_connected() {
    if !report::may_run("plan: packets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = "[guard.packet_limit]\npackets = 500\n".to_owned();
    let more = "[plan.gold]\nroles = [\"editor\"]\npackets = 100000\n".to_owned();
    let daemon = Daemon::start(&world, &Settings { guard, rules: String::new(), more, ..Settings::default() });
    let ask = |address: IpAddr, role: &str| {
        let mut connection = Client::new(&world, address).connect().unwrap();
        let request = Request::new("GET", "/me").token(&tokens::good("ada", &[role]));
        assert_eq!(connection.exchange(&request).unwrap().status, 200);
        connection
    };
    let (_member, _other) = (ask(GOOD_V4, "editor"), ask(ATTACKER_V4, "reader"));
    let plan = |address: &str| daemon.done(&["why", address])["plan"]["plan"].clone();
    until("the budget of a plan", SOON, || (plan("10.0.0.2") == json!("gold")).then_some(()));
    assert_eq!(plan("10.0.0.66"), Value::Null);
    let over = |host: u8| {
        let before = daemon.packets("over_packets");
        let flood = Flood::acks_from_one(Ipv4Addr::new(10, 0, 0, host), 443).at(4_000, SECOND);
        assert!(flood.send(&world).packets > 2_000);
        daemon.packets("over_packets") - before
    };
    assert_eq!(over(2), 0);
    assert!(over(66) > 1_000);
}
