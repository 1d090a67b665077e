//! API keys from creation to rotation and revocation, through the real command line, and what becomes of them when
//! processes and files fail.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread, time::Duration};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, gateway, send},
    http1::{Client, Request, Response},
    report,
    settings::{Settings, route},
    small_disk::SmallDisk,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

fn settings() -> Settings {
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/items", "[\"POST\"]", "[\"items:write\"]", ""),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
        route("/open/{*rest}", "[]", "[\"public\"]", ""),
        route("/tokens/{id}", "[\"GET\"]", "[\"authenticated\"]", "authenticate = [\"jwt\"]"),
    ];
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: routes.concat(),
        more: "[api_keys]\n".to_owned(),
        ..Settings::default()
    }
}

fn with(path: &str, key: &str) -> Request {
    Request::new("GET", path).header("X-API-Key", key)
}

/// Makes a key: its id and its text.
#[track_caller]
fn make(daemon: &Daemon<'_>, arguments: &[&str]) -> (String, String) {
    let made = daemon.done(&[&["key", "new"], arguments].concat());
    let text = |member: &str| made[member].as_str().unwrap_or_else(|| panic!("no {member}: {made}")).to_owned();
    (text("id"), text("key"))
}

#[track_caller]
fn refused(daemon: &Daemon<'_>, response: &Response, signal: &str, says: &str) {
    assert_eq!(response.status, 401, "{}", response.text());
    let line = daemon.logged(&response.id());
    assert_eq!((&line["reject"], &line["signal"]), (&json!("invalid_credentials"), &json!(signal)), "{line}");
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{line}, not {says:?}");
    assert!(!response.text().contains(says), "the client is told nothing of why");
}

#[test]
fn k01_a_key_lets_its_client_in_and_nobody_else() {
    if !report::may_run("api_keys") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let pepper = world.folder.join("state/api_keys.pepper");
    assert_eq!(fs::metadata(&pepper).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(world.folder.join("state/credentials.db")).unwrap().permissions().mode() & 0o777, 0o600);

    let (id, key) = make(&daemon, &["--name", "deploy", "--roles", "reader", "--expires", "90d"]);
    assert!(key.starts_with(&format!("gwk_{id}_")) && key.len() == 65, "{key}");
    let served = client.send(&with("/items/7", &key)).unwrap();
    assert_eq!(served.status, 200, "{}", served.text());
    let line = daemon.logged(&served.id());
    assert_eq!(line["principal"], "key:deploy", "{line}");
    let reached = upstream.received().pop().unwrap();
    assert_eq!(reached.header("x-authenticated-principal"), ["key:deploy"]);
    assert!(reached.header("x-api-key").is_empty(), "the upstream gets no key: {reached:?}");
    // Its roles, and no others; a token beside it is one credential too many.
    let post = Request::new("POST", "/items").header("x-api-key", &key).body("application/json", b"{}");
    assert_eq!(client.send(&post).unwrap().status, 403);
    assert_eq!(client.send(&with("/me", &key).token(&tokens::good("ada", &["reader"]))).unwrap().status, 400);
    assert_eq!(client.get("/me", &tokens::good("ada", &["reader"])).unwrap().status, 200, "tokens are as before");
    // A method that the route does not accept.
    assert_eq!(client.send(&with("/tokens/1", &key)).unwrap().status, 401);

    let flipped = if key.ends_with('A') { 'B' } else { 'A' };
    let wrong = format!("{}{flipped}", &key[..key.len() - 1]);
    refused(&daemon, &client.send(&with("/me", &wrong)).unwrap(), "unfit_token", "wrong checksum");
    refused(&daemon, &client.send(&with("/me", "letmein")).unwrap(), "unfit_token", "not in the form");
    let twice = with("/me", &key).header("x-api-key", &key);
    assert_eq!(client.send(&twice).unwrap().status, 400);
    assert_eq!(client.send(&Request::new("GET", "/me")).unwrap().status, 401);

    // Never from the URL, nor written wherever a client puts it.
    for path in [format!("/me?api_key={key}"), format!("/me?x={key}"), format!("/me?{key}")] {
        let response = client.send(&Request::new("GET", &path)).unwrap();
        assert_eq!(
            (response.status, &daemon.logged(&response.id())["signal"]),
            (401, &json!("missing_token")),
            "{path}"
        );
    }
    let open = client.send(&Request::new("GET", &format!("/open/{key}")).header("User-Agent", &key)).unwrap();
    assert!(!daemon.logged(&open.id()).to_string().contains(&key), "a key is in the access log");
    check_nowhere(&world, &[&key]);
}

#[test]
fn k01_keys_are_bound_to_sources_hosts_and_time() {
    if !report::may_run("api_keys: bounds") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let (client, other) = (Client::new(&world, GOOD_V4), Client::new(&world, ATTACKER_V4));

    let (_, bound) = make(&daemon, &["--name", "ci", "--roles", "reader", "--from", "10.0.0.2,192.0.2.0/24"]);
    assert_eq!(client.send(&with("/me", &bound)).unwrap().status, 200);
    refused(&daemon, &other.send(&with("/me", &bound)).unwrap(), "forbidden", "may not be used from 10.0.0.66");
    let (_, hosted) = make(&daemon, &["--name", "web", "--roles", "reader", "--hosts", "other.example"]);
    refused(&daemon, &client.send(&with("/me", &hosted)).unwrap(), "forbidden", "may not be used for");
    assert_eq!(client.send(&with("/me", &hosted).host("other.example")).unwrap().status, 200);
    let (_, short) = make(&daemon, &["--name", "short", "--roles", "reader", "--expires", "1s"]);
    until("the key to expire", SOON, || (client.send(&with("/me", &short)).unwrap().status == 401).then_some(()));
    refused(&daemon, &client.send(&with("/me", &short)).unwrap(), "expired_token", "has expired");

    // What cannot be made.
    for (arguments, code) in [
        (&["--name", "ci", "--roles", "reader"][..], "exists"),
        (&["--name", "x", "--roles", "king"], "no_such_role"),
        (&["--name", "x", "--hosts", "http://a"], "bad_host"),
    ] {
        let told = daemon.cli(&[&["key", "new"], arguments].concat());
        assert_eq!((told.code, &told.json["code"]), (1, &json!(code)), "{arguments:?}: {}", told.json);
    }
    let listed = daemon.done(&["key", "list"]);
    let ci = of(&listed, "ci");
    assert_eq!((ci.len(), &ci[0]["from"]), (1, &json!(["10.0.0.2", "192.0.2.0/24"])), "{listed}");
    let shown = until("the proxy to tell that the key was used", SOON, || {
        let shown = daemon.done(&["key", "show", "ci"]);
        shown["keys"][0]["used"].is_string().then_some(shown)
    });
    assert_eq!(shown["keys"][0]["actor"], "operator:0");
    check_nowhere(&world, &[&bound, &hosted, &short]);
}

#[test]
fn k01_keys_are_rotated_and_revoked() {
    if !report::may_run("api_keys: rotation") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let (id, key) = make(&daemon, &["--name", "deploy", "--roles", "reader", "--expires", "90d"]);

    // Rotation: both are good for a while, then the new one alone.
    let rotated = daemon.done(&["key", "rotate", "deploy", "--overlap", "1h"]);
    let second = rotated["key"].as_str().unwrap().to_owned();
    assert_eq!(rotated["replaces"], json!(id));
    for good in [&key, &second] {
        assert_eq!(client.send(&with("/me", good)).unwrap().status, 200);
    }
    let third = daemon.done(&["key", "rotate", "deploy", "--overlap", "0s"])["key"].as_str().unwrap().to_owned();
    refused(&daemon, &client.send(&with("/me", &second)).unwrap(), "expired_token", "has expired");
    assert_eq!(client.send(&with("/me", &third)).unwrap().status, 200);

    // Revocation is said once it is so.
    daemon.done(&["key", "revoke", "deploy", "--reason", "seen in a log"]);
    for gone in [&key, &third] {
        refused(&daemon, &client.send(&with("/me", gone)).unwrap(), "revoked_token", "is revoked");
    }
    assert_eq!(daemon.cli(&["key", "revoke", "deploy"]).json["code"], "revoked_already");
    assert_eq!(daemon.cli(&["key", "revoke", "nobody"]).json["code"], "not_found");
    // Its name is free again.
    let (_, again) = make(&daemon, &["--name", "deploy", "--roles", "editor"]);
    assert_eq!(client.send(&post_with(&again)).unwrap().status, 201);
    let listed = daemon.done(&["key", "list"]);
    assert_eq!(of(&listed, "deploy").len(), 4, "{listed}");

    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    for event in
        ["\"event\":\"api_key_new\"", "\"event\":\"api_key_rotate\"", "\"event\":\"api_key_revoke\"", "seen in a log"]
    {
        assert!(chain.contains(event), "{event} is not in the chain");
    }
    daemon.done(&["audit", "verify", "--state-dir", world.folder.join("state").to_str().unwrap()]);
    check_nowhere(&world, &[&key, &second, &third, &again]);

    // A proxy that is started anew knows them, and so does another guard.
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    let after = |daemon: &Daemon<'_>| {
        let served = until("the gateway to serve", SOON, || client.send(&with("/me", &again)).ok());
        assert_eq!(served.status, 200, "{}", served.text());
        refused(daemon, &client.send(&with("/me", &third)).unwrap(), "revoked_token", "is revoked");
    };
    after(&daemon);
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    assert_ne!(daemon.guard_pid_other_than(guard), guard);
    after(&daemon);
}

/// The keys of a list that have this name.
fn of(listed: &Value, name: &str) -> Vec<Value> {
    listed["keys"].as_array().unwrap().iter().filter(|key| key["name"] == name).cloned().collect()
}

/// No key is anywhere but with the clients.
#[track_caller]
fn check_nowhere(world: &World, keys: &[&String]) {
    let written = written(world);
    for key in keys {
        let secret = &key[16..key.len() - 6];
        for (name, content) in &written {
            assert!(!content.windows(secret.len()).any(|part| part == secret.as_bytes()), "a key is in {name}");
        }
    }
}

fn post_with(key: &str) -> Request {
    Request::new("POST", "/items").header("x-api-key", key).body("application/json", b"{\"name\":\"a\"}")
}

/// Everything that the gateway has written, by name.
fn written(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![world.folder.clone()];
    while let Some(folder) = folders.pop() {
        // What the gateway has taken away meanwhile holds nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Ok(content) = fs::read(&path) {
                all.push((path.display().to_string(), content));
            }
        }
    }
    assert!(all.len() > 5, "{} files", all.len());
    all
}

#[test]
fn a_hundred_thousand_keys_are_imported() {
    if !report::may_run("api_keys-import") {
        return;
    }
    const MANY: usize = 100_000;
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let text = |number: usize| format!("sk_live_{number:032x}");
    let line = |number: usize| {
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, text(number).as_bytes()).as_ref());
        format!("{{\"name\":\"customer-{number}\",\"sha256\":\"{hash}\",\"roles\":[\"reader\"]}}\n")
    };
    let file = world.folder.join("keys.jsonl");
    let path = file.to_str().unwrap();
    fs::write(&file, format!("{}{{\"name\":\"a\"}}\n", line(0))).unwrap();
    let told = daemon.cli(&["key", "import", path]);
    assert!(told.json["message"].as_str().unwrap().contains("line 2"), "{}", told.json);
    assert_eq!(client.send(&with("/me", &text(0))).unwrap().status, 401, "nothing was imported");

    fs::write(&file, (0..MANY).map(line).collect::<String>()).unwrap();
    assert_eq!(daemon.done(&["key", "import", path])["changed"], MANY);
    assert_eq!(daemon.done(&["key", "import", path])["changed"], 0, "again, nothing changes");
    for number in [0, 1, MANY / 2, MANY - 1] {
        let response = client.send(&with("/me", &text(number))).unwrap();
        assert_eq!(response.status, 200, "{number}: {}", response.text());
        assert_eq!(daemon.logged(&response.id())["principal"], format!("key:customer-{number}"));
    }
    refused(&daemon, &client.send(&with("/me", &text(MANY))).unwrap(), "unknown_key", "there is no API key");
    daemon.done(&["key", "revoke", "customer-1"]);
    refused(&daemon, &client.send(&with("/me", &text(1))).unwrap(), "revoked_token", "is revoked");
    assert_eq!(daemon.done(&["key", "list"])["keys"].as_array().unwrap().len(), MANY);
}

#[test]
fn what_fails_never_lets_a_key_in() {
    if !report::may_run("api_keys-failures") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(&world.folder.join("state"), 4 << 20);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let (_, first) = make(&daemon, &["--name", "first", "--roles", "reader"]);
    let (_, second) = make(&daemon, &["--name", "second", "--roles", "reader"]);
    let status = |key: &str| client.send(&with("/me", key)).unwrap().status;

    // A proxy that is stopped cannot confirm: nothing is said to be so that may not be.
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGSTOP);
    let told = daemon.cli(&["key", "revoke", "first"]);
    send(proxy, Signal::SIGCONT);
    assert_eq!((told.code, &told.json["code"]), (1, &json!("not_confirmed")), "{}", told.json);
    until("the proxy to hear of it", SOON, || (status(&first) == 401).then_some(()));

    // The guard dies between the store and the answer: what is stored counts from its next start.
    send(proxy, Signal::SIGSTOP);
    let config = daemon.config.to_str().unwrap().to_owned();
    let revoking = thread::spawn(move || gateway(&["--config", &config, "key", "revoke", "second"]));
    until("the revocation in the audit chain", SOON, || {
        let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
        chain.contains("\"name\":\"second\",\"reason\"").then_some(())
    });
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    send(proxy, Signal::SIGCONT);
    assert_ne!(revoking.join().unwrap().code, 0);
    assert_ne!(daemon.guard_pid_other_than(guard), guard);
    until("the next guard to have its word", SOON, || (status(&second) == 401).then_some(()));

    // The pepper is gone: nothing is known of any key, and clients are not to blame.
    let (_, third) = make(&daemon, &["--name", "third", "--roles", "reader"]);
    let pepper = world.folder.join("state/api_keys.pepper");
    let aside = world.folder.join("state/pepper");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    fs::rename(&pepper, &aside).unwrap();
    daemon.start_again();
    let response = client.send(&with("/me", &third)).unwrap();
    assert_eq!(response.status, 503, "{}", response.text());
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("api_keys.pepper is missing"), "{warnings}");
    assert_eq!(client.get("/me", &tokens::good("ada", &[])).unwrap().status, 200, "tokens are as before");
    assert_eq!(daemon.cli(&["key", "new", "--name", "x"]).json["code"], "keys_unavailable");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    fs::rename(&aside, &pepper).unwrap();
    daemon.start_again();
    assert_eq!(status(&third), 200);

    // A damaged store is set aside, and told. What cannot be read is no key.
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    let store = world.folder.join("state/credentials.db");
    fs::write(&store, b"no database at all, whatever it may have been before this").unwrap();
    drop(fs::remove_file(world.folder.join("state/credentials.db-wal")));
    daemon.start_again();
    assert_eq!(status(&third), 401);
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("credentials.db was set aside"), "{warnings}");
    let (_, fourth) = make(&daemon, &["--name", "fourth", "--roles", "reader"]);
    assert_eq!(status(&fourth), 200);

    // A disk that is full: no key is made, and those that there are stay good.
    disk.fill();
    let told =
        (0..1_000).map(|number| daemon.cli(&["key", "new", "--name", &format!("n{number}"), "--roles", "reader"]));
    let told = told.into_iter().find(|told| told.code != 0).expect("a full disk");
    assert_eq!((told.code, &told.json["code"]), (1, &json!("store_failed")), "{}", told.json);
    assert_eq!(status(&fourth), 200);
    disk.clear();
    until("room", SOON, || (daemon.cli(&["key", "revoke", "fourth"]).code == 0).then_some(()));
    assert_eq!(status(&fourth), 401);
}

#[test]
fn wrong_configurations() {
    if !report::may_run("api_keys-wrong") {
        return;
    }
    let world = World::new();
    let folder = &world.folder;
    fs::write(folder.join("short"), "short").unwrap();
    let base = "[[listener]]\naddress = \"127.0.0.1:80\"\n[[route]]\npath = \"/\"\nrequire = [\"authenticated\"]\n\
                respond = { status = 200 }\n";
    for (table, says) in [
        ("[api_keys]\nheader = \"authorization\"\n", "is a header of its own meaning"),
        ("[api_keys]\nheader = \"x-real-ip\"\n", "is a header of its own meaning"),
        ("[api_keys]\nheader = \"a b\"\n", "is not a header name"),
        ("[api_keys]\nprefix = \"GWK_\"\n", "is no prefix of keys"),
        ("[api_keys]\nprefix = \"a\"\n", "is no prefix of keys"),
        ("[api_keys]\npepper_file = \"short\"\n", "could be guessed"),
        ("[api_keys]\npepper_file = \"missing\"\n", "missing"),
        ("[api_keys]\npepper = \"secret\"\n", "did you mean `pepper_file`?"),
    ] {
        let file = folder.join("wrong.toml");
        fs::write(&file, format!("{base}{table}")).unwrap();
        let told = gateway(&["--config", file.to_str().unwrap(), "check"]);
        assert!(told.code != 0 && told.json.to_string().contains(says), "{table}: {}", told.json);
    }
    let help = Command::new(support::daemon::binary()).args(["key", "new", "--help"]).output().unwrap();
    assert!(help.status.success());
}

/// A key has the limits of its plan, and what rests on it ends with the overlap of its rotation.
#[test]
fn plans_and_the_end_of_an_overlap() {
    if !report::may_run("api_keys-plans") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let base = settings();
    let more = "[api_keys]\n[limit.client]\nby = [\"principal\"]\nrequests = 2\nper = \"1h\"\n\
        [plan.gold.limits.client]\nrequests = 5\nper = \"1h\"\n";
    let routes = base.routes.clone() + &route("/stream", "[\"GET\"]", "[\"authenticated\"]", "");
    let daemon = Daemon::start(&world, &Settings { more: more.to_owned(), routes, ..base });
    let client = Client::new(&world, GOOD_V4);
    let (_, plain) = make(&daemon, &["--name", "plain", "--roles", "reader"]);
    let (_, gold) = make(&daemon, &["--name", "acme", "--roles", "reader", "--plan", "gold"]);
    let (_, alias) = make(&daemon, &["--name", "beta", "--roles", "reader", "--limit", "gold"]);
    for (key, most) in [(&plain, 2), (&gold, 5), (&alias, 5)] {
        let served = (0..8).filter(|_| client.send(&with("/items/7", key)).unwrap().status == 200).count();
        assert_eq!(served, most);
    }
    let told = daemon.cli(&["key", "new", "--name", "x", "--plan", "silver"]);
    assert_eq!((told.code, &told.json["code"]), (1, &json!("no_such_plan")), "{}", told.json);
    assert_eq!(daemon.done(&["key", "show", "acme"])["keys"][0]["plan"], "gold");
    // The key in its place has the plan, too, whose budget is its principal's; so it is after a restart of the guard.
    let rotated = daemon.done(&["key", "rotate", "acme", "--overlap", "0s"])["key"].as_str().unwrap().to_owned();
    assert_eq!(client.send(&with("/items/7", &rotated)).unwrap().status, 429);
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    assert_ne!(daemon.guard_pid_other_than(guard), guard);
    let shown =
        until("the next guard", SOON, || Some(daemon.cli(&["key", "show", "beta"])).filter(|told| told.code == 0));
    assert_eq!(shown.json["keys"][0]["plan"], "gold", "{}", shown.json);

    // A stream by a key that is replaced meanwhile, and one that begins with it in its last seconds.
    let (_, old) = make(&daemon, &["--name", "streams", "--roles", "reader"]);
    let stream = || {
        let mut stream = client.connect().unwrap();
        stream.write(&with("/stream?100000", &old).bytes()).unwrap();
        assert_eq!(stream.head().unwrap().status, 200);
        stream.set_timeout(Duration::from_secs(10)).unwrap();
        stream
    };
    let mut before = stream();
    let new = daemon.done(&["key", "rotate", "streams", "--overlap", "5s"])["key"].as_str().unwrap().to_owned();
    let mut during = stream();
    for stream in [&mut before, &mut during] {
        until("the stream to end", SOON, || stream.has_ended().then_some(()));
    }
    refused(&daemon, &client.send(&with("/me", &old)).unwrap(), "expired_token", "has expired");
    assert_eq!(client.send(&with("/me", &new)).unwrap().status, 429, "it is the same principal, which has had its two");
    let cut = until("both streams in the access log", SOON, || {
        let lines: Vec<Value> = daemon.access_log().into_iter().filter(|line| line["route"] == "/stream").collect();
        (lines.len() == 2).then_some(lines)
    });
    assert!(cut.iter().all(|line| line["detail"] == "revoked while it was served"), "{cut:?}");
}
