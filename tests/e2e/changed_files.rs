//! Files that the configuration names come into force when they change, without a reload: schemas, passwords, tokens. One
//! that cannot be used changes nothing, and is told.

use std::fs;

use data_encoding::BASE64;
use serde_json::Value;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// The schema of `POST /items` with another member that is required.
const STRICTER: &str = r#"{"type": "object", "required": ["name", "price"]}"#;

/// Of whoever knows `U*U`: a test vector of crypt_blowfish.
const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Replaces a file as editors and package managers do.
fn put(world: &World, name: &str, content: &str) {
    fs::write(world.folder.join("next"), content).unwrap();
    fs::rename(world.folder.join("next"), world.folder.join(name)).unwrap();
}

#[test]
fn m02_changed_files_come_into_force_and_broken_ones_are_told() {
    if !report::may_run("changed_files") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    put(&world, "token", "first-token-of-the-scraper\n");
    put(&world, "users", &format!("bob:{HASH}\n"));
    let more = format!("{}token_file = \"token\"\n[basic]\nusers = \"users\"\n", admin::TABLE);
    let door = route("/door", "[\"GET\"]", "[\"authenticated\"]", "authenticate = [\"basic\"]");
    let routes = Settings::default().routes + &door;
    let settings = Settings { rules: String::new(), more, routes, ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let (client, token) = (Client::new(&world, GOOD_V4), tokens::good("ada", &["editor"]));
    let mut kept = client.connect().unwrap();
    let began = daemon.status();
    let mut status = |body: &str| {
        let request = Request::new("POST", "/items").token(&token).body("application/json", body.as_bytes());
        kept.exchange(&request).unwrap().status
    };
    let (cheap, dear) = (r#"{"name":"nail"}"#, r#"{"name":"nail","price":1}"#);
    assert_eq!([cheap, dear].map(&mut status), [201, 201]);

    // What somebody is still writing to the configuration has no part in it.
    let good = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, format!("{good}[half")).unwrap();
    put(&world, "item.schema.json", STRICTER);
    until("the stricter schema", SOON, || (status(cheap) == 422).then_some(()));
    assert_eq!(status(dear), 201);
    fs::write(&daemon.config, &good).unwrap();

    // Broken, too costly, and gone: the one before stays, and everybody is told.
    for (why, content) in [("broken", Some("{\"type\": \"objekt\"}")), ("gone", None)] {
        match content {
            Some(content) => put(&world, "item.schema.json", content),
            None => fs::remove_file(world.folder.join("item.schema.json")).unwrap(),
        }
        let warns = || daemon.status()["warnings"].to_string().contains("changed files are not in force").then_some(());
        until(why, SOON, warns);
        assert_eq!([cheap, dear].map(&mut status), [422, 201], "{why}");
        // What is told must be told of this one.
        put(&world, "item.schema.json", STRICTER);
        until("no warning", SOON, || (!daemon.status()["warnings"].to_string().contains("not in force")).then_some(()));
    }
    let log = daemon.standard_error();
    assert!(log.contains("changed files cannot be used") && log.contains("item.schema.json"), "{log}");
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let told = |event: &str| chain.lines().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count();
    assert_eq!((told("files"), told("files_refused"), told("reload")), (1, 2, 0), "{chain}");

    // A password is known as soon as its file has it, and no longer.
    let enter = |name: &str| {
        let basic = format!("Basic {}", BASE64.encode(format!("{name}:U*U").as_bytes()));
        client.send(&Request::new("GET", "/door").header("authorization", &basic)).unwrap().status
    };
    // What the sample upstream says of a path that it does not know.
    assert_eq!([enter("bob"), enter("ada")], [404, 401]);
    put(&world, "users", &format!("ada:{HASH}\n"));
    until("the next users", SOON, || (enter("ada") == 404).then_some(()));
    assert_eq!(enter("bob"), 401);

    // The metrics, by the token of a file that changes as well.
    let ask = |token: &str| admin::get(&world, "/metrics", &format!("Authorization: Bearer {token}\r\n")).unwrap();
    assert_eq!(ask("first-token-of-the-scraper").status, 200);
    put(&world, "token", "second-token-of-the-scraper\n");
    let text = until("the second token", SOON, || {
        Some(ask("second-token-of-the-scraper")).filter(|answer| answer.status == 200).map(|answer| answer.text())
    });
    assert_eq!(ask("first-token-of-the-scraper").status, 401);
    for line in ["gateway_files_refused 0", "gateway_file_changes_total{result=\"refused\"} 2"] {
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }

    // A broken file keeps no other out, and is told alone.
    put(&world, "item.schema.json", "{\"type\": \"objekt\"}");
    put(&world, "users", &format!("bob:{HASH}\n"));
    until("the users beside a broken schema", SOON, || (enter("bob") == 404).then_some(()));
    let told = until("the broken schema", SOON, || {
        let warnings = daemon.status()["warnings"].as_array().cloned().unwrap_or_default();
        let told: Vec<Value> = warnings.into_iter().filter(|it| it.to_string().contains("are not in force")).collect();
        (!told.is_empty()).then_some(told)
    });
    assert!(told.len() == 1 && told[0].to_string().contains("item.schema.json): "), "{told:?}");
    assert_eq!([cheap, dear].map(&mut status), [422, 201]);

    // A reload that comes in between waits; nothing else was reloaded, and nobody was replaced.
    put(&world, "item.schema.json", "{}");
    assert_eq!(daemon.cli(&["reload"]).code, 0);
    until("the loose schema", SOON, || (status(cheap) == 201).then_some(()));
    let ended = daemon.status();
    assert_eq!(ended["proxy_pid"], began["proxy_pid"]);
    assert_eq!(ended["config_digest"], began["config_digest"]);
    assert_eq!(ended["reload_refused"], Value::Null);
}
