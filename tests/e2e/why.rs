//! `gateway why` names who was behind an address, and its last requests, by ids that the access log has.

use std::process::Command;

use serde_json::json;
use support::{
    daemon::{Daemon, binary},
    http1::{Client, Request},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// As many as are kept, and more.
const REQUESTS: usize = 10;
const KEPT: usize = 8;

const NAMES: [&str; 5] = ["ada", "bob", "cy", "dee", "eve"];

fn settings(more: &str) -> Settings {
    Settings { more: format!("[detect]\nprofiles = 1000\n{more}"), ..Settings::default() }
}

/// Requests of several principals, the last of them forged; their ids and statuses, the last first.
fn ask(world: &World) -> Vec<(String, u64)> {
    let client = Client::new(world, GOOD_V4);
    let mut asked = Vec::new();
    for number in 0..REQUESTS {
        let is_last = number + 1 == REQUESTS;
        let name = NAMES[number % NAMES.len()];
        let token = if is_last { tokens::forged(name, &[]) } else { tokens::good(name, &[]) };
        let answer = client.send(&Request::new("GET", "/me").token(&token)).unwrap();
        assert_eq!(answer.status, if is_last { 401 } else { 200 }, "{}", answer.text());
        asked.insert(0, (answer.id(), answer.status.into()));
    }
    asked
}

#[test]
fn who_was_behind_an_address_and_its_last_requests() {
    if !report::may_run("why") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let asked = ask(&world);
    let profile = || daemon.done(&["why", &GOOD_V4.to_string()])["profile"].clone();
    // A request is noted once it is over, which may be after its answer.
    until("the last request", SOON, || (profile()["last_requests"][0]["id"] == asked[0].0).then_some(()));
    let profile = profile();
    let last = profile["last_requests"].as_array().unwrap();
    let told = last.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), one["status"].as_u64().unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), asked[..KEPT], "{profile}");
    assert_eq!(daemon.logged(&asked[0].0)["status"], 401);
    // The last four; nobody has proved to be the last one.
    assert_eq!(profile["principals"], json!(["dee", "cy", "bob", "ada"]), "{profile}");

    let mut command = Command::new(binary());
    let output = command.arg("--config").arg(&daemon.config).args(["why", &GOOD_V4.to_string()]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("dee, cy, bob, ada") && told.contains(&format!("{} 401, ", asked[0].0)), "{told}");
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    // Tables of many name neither.
    let top = daemon.done(&["top", "--l7"]).to_string();
    assert!(top.contains("\"who\":\"dee\"") && !top.contains("\"last_requests\":[{"), "{top}");
}

#[test]
fn principals_are_hashed_where_the_log_hashes_them() {
    if !report::may_run("why::hashed") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings("[access_log]\nprincipal = \"hashed\"\n"));
    let asked = ask(&world);
    let line = daemon.logged(&asked[1].0);
    let hash = line["principal"].as_str().unwrap();
    let why = || daemon.done(&["why", &GOOD_V4.to_string()]);
    until("the last request", SOON, || (why()["profile"]["last_requests"][0]["id"] == asked[0].0).then_some(()));
    let why = why();
    assert_eq!(why["profile"]["principals"][0], hash, "{why}");
    let top = daemon.done(&["top", "--l7"]).to_string();
    assert!(top.contains(hash), "{top}");
    for name in NAMES {
        let quoted = format!("\"{name}\"");
        assert!(!why.to_string().contains(&quoted) && !top.contains(&quoted), "{name}: {why} {top}");
    }
}
