//! Customers are not banned for what is not their doing: a token that has expired, a key that the issuer has changed.

use std::{fmt::Write as _, net::IpAddr};

use serde_json::json;
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens::{self, Algorithm, FOREIGN, ISSUERS, claims, header, now},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, OUTSIDE, World, bystander},
};

const STRIKES: u32 = 3;

/// How many customers there are, and how many have failed when the guard is killed.
const CUSTOMERS: u8 = 50;
const KILLED_AFTER: u8 = 25;

#[test]
fn what_rules_on_forgeries_count() {
    if !report::may_run("customers::signals") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: bad_tokens(STRIKES, "10m"), ..Settings::default() });
    let es = Algorithm::Es256;
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims("ada", &["reader"]);
        claims[name] = value;
        ISSUERS.token(es, &claims)
    };
    let mut renamed = header(es);
    renamed["kid"] = json!("ec-2");
    let rotated = FOREIGN.sign(es, &renamed.to_string(), &claims("ada", &["reader"]).to_string());
    let none = header(es).to_string().replace("ES256", "none");
    let none =
        format!("{}.{}.AA", tokens::encode(none.as_bytes()), tokens::encode(claims("ada", &[]).to_string().as_bytes()));
    let cases = [
        ("expired_token", tokens::expired("ada", &["reader"]), false),
        ("not_yet_valid", with("nbf", json!(now() + 3_600)), false),
        ("unknown_key", rotated, false),
        ("wrong_audience", with("aud", json!("another")), false),
        ("wrong_issuer", with("iss", json!("https://another.example")), false),
        ("unfit_token", with("sub", json!("")), false),
        ("forged_token", tokens::forged("ada", &["reader"]), true),
        ("forged_token", ISSUERS.confused(&claims("ada", &["reader"])), true),
        ("forged_token", none, true),
        ("malformed_token", "a.b.c".to_owned(), false),
    ];
    for (number, (signal, token, is_banned)) in (0..).zip(&cases) {
        let address = bystander(number);
        let client = Client::new(&world, address);
        let strikes = if *is_banned { STRIKES } else { 4 * STRIKES };
        for _ in 0..strikes {
            let response = client.send(&Request::new("GET", "/items/7").token(token)).unwrap();
            assert_eq!(response.status, 401, "{signal}");
            assert_eq!(daemon.logged(&response.id())["signal"], *signal);
        }
        let verdict = || daemon.done(&["why", &address.to_string()])["verdict"].clone();
        if *is_banned {
            until("the ban", SOON, || (verdict() == "blocked").then_some(()));
        }
    }
    // The last was banned: what came before it was decided before.
    for (number, (signal, _, is_banned)) in (0..).zip(&cases) {
        let why = daemon.done(&["why", &bystander(number).to_string()]);
        assert_eq!(why["verdict"] == "blocked", *is_banned, "{signal}: {why}");
    }
    // The proxy tells once a second what it counts.
    let signals = until("the signals to be counted", SOON, || {
        Some(daemon.status()["requests"]["signals"].clone()).filter(|signals| signals["expired_token"].is_u64())
    });
    assert!(signals["bad_token"].is_null(), "{signals}");
}

#[test]
fn how_far_rules_are_from_a_ban_is_told_before_it() {
    if !report::may_run("customers::score") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: bad_tokens(10, "1s"), ..Settings::default() });
    let attacker = Client::new(&world, ATTACKER_V4);
    let offend = |times: u32| {
        for _ in 0..times {
            let forged = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
            assert_eq!(attacker.send(&forged).unwrap().status, 401);
        }
    };
    let score = |held: u32, needed: u32| {
        let why = daemon.done(&["why", &ATTACKER_V4.to_string()]);
        let expect = json!([{"rule": "bad-tokens", "of": "forged tokens", "held": held, "needed": needed,
            "within_seconds": 60, "shadow": false}]);
        assert_eq!(why["score"], expect, "{why}");
    };
    score(0, 10);
    offend(4);
    score(4, 10);
    offend(6);
    let passed = || (daemon.done(&["why", &ATTACKER_V4.to_string()])["history"][0]["how"] == "expired").then_some(());
    until("the ban's end", SOON, passed);
    // On probation half as many are enough.
    score(0, 5);
    offend(3);
    score(3, 5);
    daemon.done(&["reload"]);
    assert_eq!(daemon.done(&["why", "fd00::7"])["score"][0]["held"], 0);
}

const fn customer(number: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 180 + number))
}

#[test]
fn a_key_that_the_issuer_has_changed_bans_no_customer() {
    if !report::may_run("customers::rotated") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut lines = String::new();
    for number in 0..CUSTOMERS {
        writeln!(lines, "addr add {}/24 dev {OUTSIDE}", customer(number)).unwrap();
    }
    world.outside.configure(&lines);
    let guard = "established = \"1s\"\nmax_bans_per_minute = 1000\n".to_owned();
    let settings = Settings { guard, rules: bad_tokens(STRIKES, "10m"), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let request = |token: &str| Request::new("GET", "/items/7").token(token);
    for number in 0..CUSTOMERS {
        let token = tokens::good(&format!("customer-{number}"), &["reader"]);
        assert_eq!(Client::new(&world, customer(number)).send(&request(&token)).unwrap().status, 200);
    }
    let why = |daemon: &Daemon<'_>, address: IpAddr| daemon.done(&["why", &address.to_string()]);
    for number in 0..CUSTOMERS {
        until("a customer to be known", SOON, || {
            (why(&daemon, customer(number))["standing"]["good_principals"] == 1).then_some(())
        });
    }

    // By the same name the issuer signs with another key from now on, and so does an attacker.
    let token = tokens::forged("ada", &["reader"]);
    let fail = |address: IpAddr| {
        let mut connection = Client::new(&world, address).connect().unwrap();
        for _ in 0..STRIKES {
            assert_eq!(connection.exchange(&request(&token)).unwrap().status, 401);
        }
    };
    let banned = |daemon: &Daemon<'_>, attacker: IpAddr| {
        fail(attacker);
        until("the attacker's ban", SOON, || (why(daemon, attacker)["verdict"] == "blocked").then_some(()));
        attacker
    };
    let mut attackers = Vec::new();
    for number in 0..CUSTOMERS {
        fail(customer(number));
        if number % 10 == 5 {
            attackers.push(banned(&daemon, bystander(number / 10)));
        }
        if number == KILLED_AFTER {
            daemon.kill();
            daemon.start_again();
        }
    }
    attackers.push(banned(&daemon, ATTACKER_V4));
    let warned = until("the operator to be told", SOON, || {
        let warnings = daemon.status()["warnings"].to_string();
        warnings.contains("good clients fail together since").then_some(warnings)
    });
    assert!(warned.contains("jwt.jwks"), "{warned}");
    let banned = daemon.done(&["block", "list"]);
    let mut banned: Vec<IpAddr> = banned["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["source"].as_str().unwrap().parse().unwrap())
        .collect();
    banned.sort_unstable();
    attackers.sort_unstable();
    assert_eq!(banned, attackers, "others than the attackers are banned");
    let shields = why(&daemon, customer(CUSTOMERS - 1))["shields"].to_string();
    assert!(shields.contains("good clients fail together"), "{shields}");
}
