//! Keys of issuers that are fetched: what a gateway does with an issuer that answers badly, late or not at all, and with
//! clients whose tokens are by keys that nobody has.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    daemon::Daemon,
    fake_issuer::{FakeIssuer, Reply, key_set},
    http1::{Client, Request},
    report,
    settings::Settings,
    tokens::{Algorithm, FOREIGN, ISSUERS, Keys},
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

static OLD: &LazyLock<Keys> = &ISSUERS;
static NEW: &LazyLock<Keys> = &FOREIGN;

/// The shortest that can be configured.
const COOLDOWN: Duration = Duration::from_secs(1);

fn settings(source: &str, fetch: &str, rules: &str) -> Settings {
    let more = format!(
        "[issuer.idp]\nissuer = \"http://127.0.0.1:9100/realm\"\naudience = \"api\"\n{source}\nroles = [\"reader\"]\n\
         [issuer.idp.fetch]\nallow_http = true\ntimeout = \"1s\"\nwait = \"3s\"\ncooldown = \"1s\"\n{fetch}\n"
    );
    Settings {
        jwt: "roles = [\"reader\", \"editor\"]".to_owned(),
        more,
        rules: rules.to_owned(),
        ..Settings::default()
    }
}

const BY_URL: &str = "jwks_url = \"http://127.0.0.1:9100/keys\"";
const DISCOVERED: &str = "discovery = true";

fn status(client: &Client<'_>, token: &str) -> u16 {
    client.get("/items/7", token).unwrap().status
}

/// J06: whatever an issuer answers, keys that are good stay so, and nobody is told that a token is not valid because of it.
#[test]
fn j06_broken_answers_change_nothing() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let daemon = Daemon::start(&world, &settings(BY_URL, "", ""));
    let client = Client::new(&world, GOOD_V4);
    let good = issuer.token("ada", "old", OLD);
    assert_eq!(status(&client, &good), 200);

    let both = key_set(&[("old", OLD), ("new", NEW)]);
    let member = |name: &str, value: &str| both.replacen("{\"", &format!("{{\"{name}\":{value},\""), 2);
    let json = "Content-Type: application/json\r\n";
    for (case, reply) in [
        ("truncated", Reply::Truncated),
        ("500", Reply::Status("500 Internal Server Error".to_owned(), String::new())),
        ("404", Reply::Status("404 Not Found".to_owned(), String::new())),
        ("204", Reply::Status("204 No Content".to_owned(), String::new())),
        (
            "a redirect to metadata of a cloud",
            Reply::Status("302 Found".to_owned(), "Location: http://169.254.169.254/latest\r\n".to_owned()),
        ),
        ("a redirect to itself", Reply::Status("307 Again".to_owned(), "Location: /keys\r\n".to_owned())),
        ("304 that nobody asked for", Reply::Status("304 Not Modified".to_owned(), String::new())),
        ("a page", Reply::Headed("<html>".to_owned(), "Content-Type: text/html\r\n".to_owned())),
        ("keys as a page", Reply::Headed(both.clone(), "Content-Type: text/html\r\n".to_owned())),
        ("compressed", Reply::Headed(both.clone(), format!("{json}Content-Encoding: gzip\r\n"))),
        ("huge", Reply::Huge(1 << 30)),
        ("slow", Reply::Slow),
        ("silent", Reply::Silent),
        ("nothing", Reply::Body(String::new())),
        ("no set", Reply::Body("[]".to_owned())),
        ("no keys", Reply::Body("{\"keys\":[]}".to_owned())),
        ("deep", Reply::Body("[".repeat(100_000))),
        ("many keys", Reply::Body(format!("{{\"keys\":[{}{{}}]}}", "{},".repeat(60_000)))),
        ("the same name twice", Reply::Body(key_set(&[("new", OLD), ("new", NEW)]))),
        ("a secret", Reply::Body(both.replace("]}", ",{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}"))),
        ("a private key", Reply::Body(both.replace("\"kty\":\"EC\"", "\"kty\":\"EC\",\"d\":\"AAAA\""))),
        ("another algorithm", Reply::Body(both.replace("ES256", "ES384"))),
        ("a member twice", Reply::Body(member("kid", "\"new\""))),
    ] {
        pause(COOLDOWN);
        issuer.reply(reply);
        let fresh = client.send(&Request::new("GET", "/items/7").token(&issuer.token("eve", "new", NEW))).unwrap();
        let line = daemon.logged(&fresh.id());
        assert_eq!((fresh.status, &line["signal"]), (503, &json!(null)), "{case}: {line}");
        assert!(fresh.header("retry-after").is_some(), "{case}");
        assert_eq!(status(&client, &good), 200, "{case}");
    }
    let shown = &daemon.status()["key_sets"][0];
    assert_eq!((&shown["issuer"], &shown["usable"]), (&json!("issuer.idp"), &json!(true)), "{shown}");
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("issuer.idp: the keys at") && warnings.contains("cannot be fetched since"), "{warnings}");

    issuer.reply(Reply::Headed(both, format!("{json}ETag: \"1\"\r\nCache-Control: max-age=600\r\n")));
    until("new keys", SOON, || (status(&client, &issuer.token("ada", "new", NEW)) == 200).then_some(()));
    assert_eq!(status(&client, &good), 200);
    // A key that goes vouches for nothing from then on, and for no token that was good by it.
    issuer.publish(&[("new", NEW)]);
    pause(COOLDOWN);
    let nobodys = client.send(&Request::new("GET", "/items/7").token(&issuer.token("eve", "gone", OLD))).unwrap();
    assert_eq!((nobodys.status, &daemon.logged(&nobodys.id())["signal"]), (401, &json!("unknown_key")));
    assert!(issuer.last().to_ascii_lowercase().contains("if-none-match: \"1\""), "{}", issuer.last());
    assert_eq!(status(&client, &issuer.token("ada", "new", NEW)), 200);
    // It may be looked for once more, and until then nothing is said of the token.
    let gone = until("that it is believed", SOON, || {
        let gone = client.send(&Request::new("GET", "/items/7").token(&good)).unwrap();
        assert!([401, 503].contains(&gone.status), "{}", daemon.logged(&gone.id()));
        (gone.status == 401).then_some(gone)
    });
    assert_eq!(daemon.logged(&gone.id())["signal"], "unknown_key");
}

/// How many requests by keys of nobody one client sends.
const FLOOD: u32 = 10_000;

/// J07: a flood of tokens by keys that nobody has. The issuer is asked once a cool-down, the flooder is banned, and
/// nobody else is.
#[test]
fn j07_a_flood_of_unknown_keys_while_keys_rotate() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let rule =
        "[[rule]]\nname = \"unknown-keys\"\nsignals = [\"unknown_key\"]\ncount = 50\nwithin = \"60s\"\nban = \"10m\"\n";
    let daemon = Daemon::start(&world, &settings(DISCOVERED, "", rule));
    daemon.done(&["allow", "add", &bystander(31).to_string()]);
    let (began, before) = (Instant::now(), issuer.fetches());
    let (over, by_new) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut answers = BTreeMap::<u16, u32>::new();
    let refused = thread::scope(|scope| {
        let (world, issuer, over, by_new) = (&world, &issuer, &over, &by_new);
        // Good clients, whose tokens are by the old key, then by the new one.
        let good: Vec<_> = (0..4_u8)
            .map(|number| {
                scope.spawn(move || {
                    let client = Client::new(world, bystander(number));
                    let mut connection = client.connect().unwrap();
                    let (mut refused, mut kid, mut turn) = (Vec::new(), "old", 0_u32);
                    while !over.load(Ordering::Relaxed) {
                        turn += 1;
                        if issuer.is_rotated() {
                            kid = "new";
                        }
                        let token =
                            issuer.token(&format!("user-{number}-{turn}"), kid, if kid == "old" { OLD } else { NEW });
                        let response = connection.exchange(&Request::new("GET", "/items/7").token(&token)).unwrap();
                        match response.status {
                            200 if kid == "new" => drop(by_new.fetch_add(1, Ordering::Relaxed)),
                            200 => {}
                            503 => pause(Duration::from_millis(200)),
                            other => refused.push((other, response.id())),
                        }
                        // Most of the machine is for the flood.
                        pause(Duration::from_millis(5));
                    }
                    refused
                })
            })
            .collect();
        // One that operators let go on: it is never banned, and all that it sends arrives.
        let patient = Client::new(world, bystander(31));
        let mut connection = patient.connect().unwrap();
        for number in 0..FLOOD {
            if number == FLOOD / 10 {
                issuer.rotate(&[("old", OLD), ("new", NEW)]);
            }
            let token = issuer.token("eve", &format!("nobody-{number}"), NEW);
            let request = Request::new("GET", "/items/7").token(&token);
            let response = connection.exchange(&request).expect("who is never banned is answered");
            if response.header("connection") == Some("close") {
                connection = patient.connect().unwrap();
            }
            *answers.entry(response.status).or_default() += 1;
        }
        // Another, whom nobody lets go on.
        let attacker = Client::new(world, ATTACKER_V4);
        let mut connection = attacker.connect().ok();
        until("the flooder to be banned", SOON, || {
            for number in 0..100 {
                let token = issuer.token("eve", &format!("nobody-{number}"), NEW);
                let Some(open) = &mut connection else { break };
                if open.exchange(&Request::new("GET", "/items/7").token(&token)).is_err() {
                    connection = attacker.connect().ok();
                }
            }
            daemon.done(&["block", "list"]).to_string().contains("10.0.0.66").then_some(())
        });
        pause(2 * COOLDOWN);
        over.store(true, Ordering::Relaxed);
        good.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let refused: Vec<_> =
        refused.iter().map(|(status, id)| (*status, daemon.logged(id)["detail"].to_string())).collect();
    assert!(refused.is_empty(), "good clients were refused: {refused:?}");
    assert_eq!(answers.values().sum::<u32>(), FLOOD, "{answers:?}");
    assert!(answers.keys().all(|status| [401, 503].contains(status)), "{answers:?}");
    assert!(by_new.into_inner() > 0, "the keys were rotated, and tokens by the new one are good");
    let (fetches, most) = (issuer.fetches() - before, began.elapsed().as_secs() + 1);
    assert!(fetches as u64 <= most, "{fetches} fetches within {most} s");
    report::note(&format!("key_sets: {FLOOD} requests by keys of nobody, answered {answers:?}, {fetches} fetches"));
    let bans = daemon.done(&["block", "list"]).to_string();
    assert!(bans.contains("10.0.0.66"), "the flooder is banned: {bans}");
    assert!((0..4).all(|number| !bans.contains(&bystander(number).to_string())), "and nobody else: {bans}");
}

/// An issuer signs by a key before it publishes it: after the one request that had the keys fetched, nobody is told that his
/// token is not valid.
#[test]
fn a_key_that_is_published_late() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let rule = "[[rule]]\nname = \"unknown-keys\"\nsignals = [\"unknown_key\"]\ncount = 50\nwithin = \"10m\"\nban = \"10m\"\n\
                shadow = true\n";
    let daemon = Daemon::start(&world, &settings(BY_URL, "", rule));
    let held = || {
        let why = daemon.done(&["why", &GOOD_V4.to_string()]);
        let scores = why["score"].as_array().unwrap();
        scores.iter().find(|score| score["rule"] == "unknown-keys").map_or(0, |score| score["held"].as_u64().unwrap())
    };
    let client = Client::new(&world, GOOD_V4);
    let (began, before) = (Instant::now(), issuer.fetches());
    pause(COOLDOWN);
    let token = issuer.token("ada", "new", NEW);
    assert_eq!(status(&client, &token), 401, "the issuer does not have it yet");
    assert_eq!(held(), 1, "nobody has such a key");
    issuer.publish(&[("old", OLD), ("new", NEW)]);
    let mut told = Vec::new();
    until("the new key", SOON, || {
        told.push(status(&client, &token));
        (told.last() == Some(&200)).then_some(())
    });
    assert!(told.iter().all(|status| [200, 503].contains(status)), "{told:?}");
    until("that nothing is held against the client", SOON, || (held() == 0).then_some(()));
    // What is nobody's stays so once it was looked for twice.
    let nobodys = issuer.token("eve", "nobodys", NEW);
    let mut asked = Vec::new();
    until("that it is believed", SOON, || {
        asked.push(status(&client, &nobodys));
        asked.ends_with(&[401, 401, 401]).then_some(())
    });
    // A key that goes is gone at once.
    issuer.publish(&[("new", NEW)]);
    let old = issuer.token("bob", "old", OLD);
    until("that it has gone", SOON, || {
        // The keys are fetched for whoever asks for another.
        status(&client, &issuer.token("eve", "another", NEW));
        (status(&client, &old) == 401).then_some(())
    });
    assert_eq!([(); 3].map(|()| status(&client, &old)), [401; 3]);
    let (fetches, most) = (issuer.fetches() - before, began.elapsed().as_secs() + 1);
    assert!(fetches as u64 <= most, "{fetches} fetches within {most} s");
    let refused = told.iter().filter(|status| **status == 401).count();
    report::note(&format!("key_sets: {} requests until a late key was known, {refused} of them 401", told.len()));
}

/// A token expires while its request waits for the keys.
#[test]
fn a_token_that_expires_while_its_key_is_looked_for() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let slow = settings(&format!("{BY_URL}\nleeway = \"0s\""), "", "");
    let more = slow.more.replace("timeout = \"1s\"\nwait = \"3s\"", "timeout = \"20s\"\nwait = \"20s\"");
    let daemon = Daemon::start(&world, &Settings { more, ..slow });
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(status(&client, &issuer.token("ada", "old", OLD)), 200);
    pause(COOLDOWN);
    let end = support::tokens::now() + 3;
    issuer.reply(Reply::Late(key_set(&[("old", OLD), ("new", NEW)]), end + 1));
    let token = issuer.token_until(end, "ada", "new", NEW);
    let response = client.send(&Request::new("GET", "/items/7").token(&token)).unwrap();
    assert_eq!((response.status, &daemon.logged(&response.id())["signal"]), (401, &json!("expired_token")));
    assert_eq!(status(&client, &issuer.token("ada", "new", NEW)), 200);
}

/// The issuer is down when the gateway starts again: it goes on with the keys that it had.
#[test]
fn known_keys_serve_after_a_restart_without_the_issuer() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let mut daemon = Daemon::start(&world, &settings(DISCOVERED, "", ""));
    let client = Client::new(&world, GOOD_V4);
    let good = issuer.token("ada", "old", OLD);
    assert_eq!(status(&client, &good), 200);
    let kept = world.folder.join("state/keys.json");
    until("kept keys", SOON, || kept.exists().then_some(()));
    issuer.reply(Reply::Silent);
    let proxy = daemon.proxy_pid();
    support::daemon::send(proxy, nix::sys::signal::Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    until("the next proxy", SOON, || client.get("/items/7", &good).ok().filter(|got| got.status == 200).map(drop));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    daemon.start_again();
    assert_eq!(status(&client, &good), 200);
    let fresh = client.send(&Request::new("GET", "/items/7").token(&issuer.token("ada", "new", NEW))).unwrap();
    assert_eq!((fresh.status, &daemon.logged(&fresh.id())["signal"]), (503, &json!(null)));
    // Other settings do not take them: who is believed has changed.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    daemon.edit("discovery = true", BY_URL);
    daemon.start_again();
    let refused = client.send(&Request::new("GET", "/items/7").token(&good)).unwrap();
    assert_eq!((refused.status, &daemon.logged(&refused.id())["signal"]), (503, &json!(null)));
    // Damage costs nothing but the keys.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    std::fs::write(&kept, "{").unwrap();
    issuer.publish(&[("old", OLD)]);
    daemon.start_again();
    assert_eq!(status(&client, &good), 200);
}

/// The metadata of another issuer, and servers that the gateway must not be made to ask.
#[test]
fn metadata_of_others_is_not_believed() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("old", OLD)]);
    let table = |iss: &str, source: &str, fetch: &str| {
        let own = settings(source, fetch, "");
        Settings { more: own.more.replace("http://127.0.0.1:9100/realm", iss), ..own }
    };
    for (case, settings, why) in [
        ("another issuer", table("http://127.0.0.1:9100/realm/", DISCOVERED, ""), "which is not `issuer`"),
        ("no metadata", table("http://127.0.0.1:9101/realm", DISCOVERED, ""), "Connection refused"),
        (
            "a server that waits for more than a TLS hello",
            table("https://127.0.0.1:9100/realm", DISCOVERED, "ca = \"ca.crt\"\nallow_private = true"),
            "no answer within 1 s",
        ),
    ] {
        let daemon = Daemon::start(&world, &settings);
        let warning = until(case, SOON, || {
            let warnings = daemon.status()["warnings"].clone();
            let found = warnings.as_array()?.iter().find(|it| it.as_str().is_some_and(|it| it.contains("issuer.idp")));
            found.map(ToString::to_string)
        });
        assert!(warning.contains(why) && warning.contains("503"), "{case}: {warning}");
    }
    // A stranger's algorithm is not looked for.
    let daemon = Daemon::start(&world, &settings(DISCOVERED, "", ""));
    let client = Client::new(&world, GOOD_V4);
    let confused = ISSUERS.sign(
        Algorithm::Es256,
        &json!({"alg": "HS256", "kid": "new"}).to_string(),
        &json!({"iss": issuer.issuer, "aud": "api", "sub": "eve", "exp": support::tokens::now() + 60}).to_string(),
    );
    let response = client.send(&Request::new("GET", "/items/7").token(&confused)).unwrap();
    assert_eq!((response.status, &daemon.logged(&response.id())["signal"]), (401, &json!("forged_token")));
}

/// A key set in a file is read again when it changes. One that cannot be used changes nothing.
#[test]
fn a_key_set_in_a_file_is_watched() {
    if !report::may_run("key_sets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let claims = support::tokens::claims("ada", &["reader"]);
    let (old, new) = (OLD.token(Algorithm::Es256, &claims), NEW.token(Algorithm::Es256, &claims));
    assert_eq!([&old, &new].map(|token| status(&client, token)), [200, 401]);
    let put = |content: &str| {
        std::fs::write(world.folder.join("next"), content).unwrap();
        std::fs::rename(world.folder.join("next"), world.folder.join("jwks.json")).unwrap();
    };
    put("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}");
    let warned = || daemon.status()["warnings"].to_string().contains("is a shared secret").then_some(());
    until("a warning", SOON, warned);
    assert_eq!([&old, &new].map(|token| status(&client, token)), [200, 401]);
    put(&NEW.jwks().to_string());
    until("the new keys", SOON, || (status(&client, &new) == 200).then_some(()));
    assert_eq!(status(&client, &old), 401, "a key that is gone vouches for no token, remembered or not");
    assert!(!daemon.status()["warnings"].to_string().contains("is a shared secret"));
}
