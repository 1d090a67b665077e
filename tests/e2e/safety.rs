//! What keeps bans from doing harm, through the real socket.

use std::{io, time::Duration};

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, World},
};

const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn an_unconfirmed_block_is_taken_back_even_without_a_guard() {
    if !report::may_run("safety::confirm") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let attacker = Client::new(&world, ATTACKER_V4);
    let knock = || attacker.tcp(SILENCE).map(|_stream| ()).map_err(|error| error.kind());

    let added = daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--confirm", "5s"]);
    assert!(added["message"].as_str().is_some_and(|text| text.contains("gateway confirm")), "{added}");
    assert_eq!(knock(), Err(io::ErrorKind::TimedOut));
    daemon.kill();
    until("the kernel to let it go by itself", SOON, || (knock() != Err(io::ErrorKind::TimedOut)).then_some(()));
    daemon.start_again();
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!(why["history"][0]["how"], "taken back: not confirmed in time", "{why}");

    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--confirm", "5s"]);
    daemon.done(&["confirm"]);
    assert_eq!(daemon.cli(&["confirm"]).json["code"], "not_found");
    pause(Duration::from_millis(5_500));
    assert_eq!(knock(), Err(io::ErrorKind::TimedOut), "a confirmed block was taken back");
}

#[test]
fn rules_do_not_ban_what_an_operator_unbanned() {
    if !report::may_run("safety::unban") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: bad_tokens(3, "10m"), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let attacker = Client::new(&world, ATTACKER_V4);
    offend(&attacker, 3);
    until("the ban", SOON, || (daemon.done(&["why", "10.0.0.66"])["verdict"] == "blocked").then_some(()));
    daemon.done(&["block", "del", "10.0.0.66"]);
    offend(&attacker, 6);
    daemon.kill();
    daemon.start_again();
    offend(&attacker, 6);
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!(why["verdict"], "passed", "{why}");
    assert!(why["standing"]["unban_grace_seconds"].as_u64().is_some_and(|left| left > 3_500), "{why}");
}

#[test]
fn whoever_is_logged_in_is_not_blocked_by_accident() {
    if !report::may_run("safety::session") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: bad_tokens(3, "10m"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    assert!(!daemon.cli(&["block", "add", "10.0.0.66", "--shadow"]).json["code"].is_string());
    let _sshd = world.gate.enter(|| std::net::TcpListener::bind("10.0.0.1:22").unwrap());
    let session = world.outside.connect(ATTACKER_V4, "10.0.0.1:22".parse().unwrap(), SOON).unwrap();
    for source in ["10.0.0.66", "10.0.0.64/30"] {
        let told = daemon.cli(&["block", "add", source]).json;
        assert_eq!(told["code"], "operator_session", "{told}");
        assert!(told["message"].as_str().is_some_and(|text| text.contains("--force")), "{told}");
    }
    let shields = daemon.done(&["why", "10.0.0.66"])["shields"].to_string();
    assert!(shields.contains("SSH"), "{shields}");
    // Nor by a rule, however lately the session began.
    let attacker = Client::new(&world, ATTACKER_V4);
    offend(&attacker, 4);
    until("the rule to be refused", SOON, || {
        let audit = std::fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
        audit.contains("operator_session").then_some(())
    });
    offend(&attacker, 4);
    daemon.done(&["block", "add", "10.0.0.66", "--force", "--for", "1h"]);
    drop(session);
    daemon.done(&["block", "del", "10.0.0.66"]);
    until("the session to be over", SOON, || {
        daemon.cli(&["block", "add", "10.0.0.66"]).json["code"].is_null().then_some(())
    });

    // The issuer's host is found beside the loop.
    let idp = "198.51.100.99";
    daemon.edit(tokens::ISSUER, &format!("https://{idp}/realm"));
    daemon.done(&["reload"]);
    until("the identity provider to be known", SOON, || {
        let told = daemon.cli(&["block", "add", idp, "--shadow"]).json;
        (told["code"] == "identity_provider").then_some(())
    });
}

fn offend(attacker: &Client<'_>, times: u32) {
    for _ in 0..times {
        let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
        assert_eq!(attacker.send(&bad).unwrap().status, 401);
    }
}

#[test]
fn who_comes_back_is_banned_sooner_and_longer() {
    if !report::may_run("safety::ladder") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: bad_tokens(4, "3s"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let attacker = Client::new(&world, ATTACKER_V4);
    let why = || daemon.done(&["why", "10.0.0.66"]);
    offend(&attacker, 4);
    until("the end of the first ban", SOON, || (why()["history"][0]["how"] == "expired").then_some(()));
    let past = why();
    assert!(past["standing"]["probation_seconds"].is_u64(), "{past}");
    assert_eq!(past["standing"]["next_factor"], 3, "{past}");
    // On probation two are enough.
    offend(&attacker, 2);
    let banned = until("the second ban", SOON, || Some(why()).filter(|why| why["verdict"] == "blocked"));
    assert_eq!(banned["standing"]["factor"], 3, "{banned}");
    // Three times as long, of which some has gone by.
    assert!(banned["entry"]["remaining_seconds"].as_u64().is_some_and(|left| (4..=9).contains(&left)), "{banned}");
    assert_eq!(banned["evidence"].as_array().map(Vec::len), Some(2), "{banned}");
}

#[test]
fn good_clients_stand_against_a_block_and_a_ban() {
    if !report::may_run("safety::good") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let guard = "shield_clients = 0\nshared_principals = 2\nestablished = \"1s\"\n".to_owned();
    let settings = Settings { guard, rules: bad_tokens(3, "10m"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let shared = Client::new(&world, ATTACKER_V4);
    for name in ["ada", "bob"] {
        let request = Request::new("GET", "/items/7").token(&tokens::good(name, &["reader"]));
        assert_eq!(shared.send(&request).unwrap().status, 200);
    }
    until("two principals to be established", SOON, || {
        (daemon.done(&["why", "10.0.0.66"])["standing"]["good_principals"] == 2).then_some(())
    });
    offend(&shared, 6);
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!(why["verdict"], "passed", "{why}");
    assert!(why["shields"][0].as_str().is_some_and(|text| text.contains("share")), "{why}");
    assert_eq!(daemon.cli(&["block", "add", "10.0.0.66"]).json["code"], "good_clients");
    daemon.done(&["block", "add", "10.0.0.66", "--force"]);
    assert_eq!(daemon.cli(&["resume"]).json["code"], "not_paused");
}
