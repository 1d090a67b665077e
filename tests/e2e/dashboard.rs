//! The dashboard in a real browser: whoever signs in sees and does what their token allows, by the keyboard too; nothing
//! that clients send becomes part of the page.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{
    admin::{self, ADDRESS, Answer},
    browser::Browser,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

/// What a browser would run.
const HOSTILE: &str = "<img/src=x/onerror=window.pwned=1>";

/// What turns the direction of the text after it.
const TURNED: &str = "\u{202e}";

fn settings() -> Settings {
    let more = format!(
        "{}dashboard = true\n[detect]\nprofiles = 1000\n[anomalies]\n[limit.per-address]\nrequests = 1000\nper = \"1s\"\n",
        admin::TABLE
    );
    Settings { more, ..Settings::default() }
}

fn token(daemon: &Daemon<'_>, name: &str, roles: &[&str]) -> String {
    let mut arguments = vec!["admin-token", "new", "--name", name];
    arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
    daemon.done(&arguments)["token"].as_str().unwrap().to_owned()
}

#[test]
fn an_operator_sees_and_acts_in_a_browser() {
    if !report::may_run("dashboard") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings());
    let [lead, watcher, blind] =
        [("lead", &["view", "block", "allow"][..]), ("watcher", &["view"]), ("blind", &["block"])]
            .map(|(name, roles)| token(&daemon, name, roles));
    let good = Client::new(&world, GOOD_V4);
    let attacker = Client::new(&world, ATTACKER_V4);
    for _ in 0..5 {
        let request = Request::new("GET", "/me").token(&tokens::good(HOSTILE, &[])).header("user-agent", "<script>");
        assert_eq!(good.send(&request).unwrap().status, 200);
        let request =
            Request::new("GET", "/me?<script>").token(&tokens::forged("ada", &[])).header("user-agent", "<b>");
        assert!(matches!(attacker.send(&request).unwrap().status, 400 | 401));
        let request = Request::new("GET", "/me").token(&tokens::forged("ada", &[])).header("user-agent", "<b>");
        assert_eq!(attacker.send(&request).unwrap().status, 401);
    }

    let given = json!({ "lead": lead, "watcher": watcher, "blind": blind });
    let mut browser = Browser::start(&world, "dashboard/drive.mjs", &format!("http://{ADDRESS}"), &given);
    loop {
        match browser.wants()["do"].as_str() {
            Some("many") => {
                for number in 0..70 {
                    let ban = json!({
                        "source": format!("198.51.100.{number}"), "reason": format!("number {number}, {HOSTILE}{TURNED}"), "shadow": false,
                    });
                    let done =
                        admin::command(admin::connect(&world).unwrap(), "block_add", &lead, &ban.to_string()).unwrap();
                    assert_eq!(done.status, 200, "{}", done.text());
                }
            }
            Some("list") => import_many(&world, &daemon),
            Some("stored") => ban_many(&world, &mut daemon),
            Some("revoke") => {
                daemon.done(&["admin-token", "revoke", "watcher"]);
            }
            _ => break,
        }
        browser.is_done();
    }
    // All of it was judged and recorded as what the operator did.
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    for command in ["block_add", "block_del", "confirm", "allow_add", "allow_del"] {
        let told = format!(r#""actor":"token:lead","by":["token lead"],"command":"{command}","from":"127.0.0.1""#);
        assert!(chain.contains(&told), "{told} is not in:\n{chain}");
    }
}

/// Imports a list of so many addresses that no page shows them all.
fn import_many(world: &World, daemon: &Daemon<'_>) {
    let list = world.folder.join("many.txt");
    let lines: String =
        (0..100_000_u32).map(|number| format!("{}\n", Ipv4Addr::from_bits(0xc612_0000 + number))).collect();
    fs::write(&list, lines).unwrap();
    let told = daemon.done(&["block", "import", list.to_str().unwrap(), "--feed", "many"]);
    assert_eq!(told["listed"], 100_000, "{told}");
}

/// Puts 100,000 bans into the store while the gateway is down, one of the oldest with a reason of its own.
fn ban_many(world: &World, daemon: &mut Daemon<'_>) {
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    let store = rusqlite::Connection::open(world.folder.join("state/bans.db")).unwrap();
    let added = store.execute(
        "WITH RECURSIVE counted(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < 99999)
         INSERT INTO ban (source, reason, actor, evidence, shadow, started, boot)
         SELECT '11.' || (n >> 16) || '.' || (n >> 8 & 255) || '.' || (n & 255),
                iif(n = 10, 'a rare word', 'number ' || n), 'operator:0', '', 0, started, boot
         FROM counted, (SELECT started, boot FROM ban WHERE ended IS NULL LIMIT 1)",
        [],
    );
    assert_eq!(added.unwrap(), 100_000);
    drop(store);
    daemon.start_again();
}

/// The head of a response and the first bytes of its body, of a connection that stays open.
fn follow(world: &World, token: &str) -> (TcpStream, String) {
    let mut stream = admin::connect(world).unwrap();
    let request = format!("GET /dashboard/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut told = Vec::new();
    until("the first event, or the end", SOON, || {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).unwrap();
        told.extend_from_slice(&piece[..length]);
        (length == 0 || String::from_utf8_lossy(&told).contains("event: status")).then_some(())
    });
    (stream, String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn few_are_told_what_happens_and_nobody_without_a_token() {
    if !report::may_run("dashboard-streams") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..settings() };
    let daemon = Daemon::start(&world, &settings);
    let [watcher, blind, other] =
        [("watcher", "view"), ("blind", "block"), ("other", "view")].map(|(name, role)| token(&daemon, name, &[role]));
    let get = |path: &str, more: &str| -> Answer { admin::get(&world, path, more).unwrap() };
    let page = get("/dashboard", "");
    assert_eq!(page.status, 200);
    let head = page.head.to_lowercase();
    for line in [
        "content-security-policy: default-src 'none'; script-src 'self';",
        "cache-control: no-store",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    for file in ["style.css", "script.js", "icon.svg"] {
        assert_eq!(get(&format!("/dashboard/{file}"), "").status, 200, "{file}");
    }
    assert_eq!(get("/dashboard/../metrics", "").status, 404);
    assert_eq!(get("/dashboard", "Host: evil.example\r\n").status, 403);
    assert_eq!(get("/dashboard/events", "").status, 401);
    for (token, status) in [("gwat_unknown", 401), (&*blind, 403)] {
        assert_eq!(get("/dashboard/events", &format!("Authorization: Bearer {token}\r\n")).status, status, "{token}");
    }

    let mut streams: Vec<_> = (0..4).map(|_| follow(&world, &watcher)).collect();
    for (_, told) in &streams {
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("\"answer\":\"status\""), "{told}");
    }
    let (_, told) = follow(&world, &watcher);
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    // However many one token has, others have room.
    let (_, told) = follow(&world, &other);
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    // Whoever goes makes room, and strangers are in nobody's way.
    drop(streams.pop());
    until("a place", SOON, || follow(&world, &watcher).1.starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(get("/metrics", "").status, 200);

    // A token that is revoked ends what it began.
    daemon.done(&["admin-token", "revoke", "watcher"]);
    for (stream, _) in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("event: end\ndata: {\"status\":401}"), "{rest}");
    }
    daemon.edit("dashboard = true", "dashboard = false");
    daemon.done(&["reload"]);
    until("no dashboard", SOON, || (get("/dashboard", "").status == 404).then_some(()));
}
