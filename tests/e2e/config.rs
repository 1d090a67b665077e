//! What a broken configuration is answered: file, line and key, nothing started, nothing changed.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, Told, binary, gateway},
    http1::{Client, Request},
    pki::PKI,
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

/// What is spoiled, and the key that must be named.
const SPOILED: [(&str, &str, &str); 12] = [
    ("interfaces = [", "interfases = [", "guard.interfases"),
    ("[jwt]", "[jwt", ""),
    ("issuer = ", "isuer = ", "jwt.isuer"),
    ("certificate = \"server.crt\"", "certificate = \"none.crt\"", "listener[0].certificate"),
    ("private_key = \"server.key\"", "private_key = \"server.crt\"", "listener[0].private_key"),
    ("jwks = \"jwks.json\"", "jwks = \"server.crt\"", "jwt.jwks"),
    ("schema = \"item.schema.json\"", "schema = \"server.crt\"", "route[2].schema"),
    ("[\"items:write\"]\nupstream", "[\"items:wrote\"]\nupstream", "route[2].require"),
    ("upstream = \"items\"", "upstream = \"iitems\"", "route[0].upstream"),
    ("path = \"/items/{id}\"", "path = \"/items/{id\"", "route[1].path"),
    ("signals = [\"forged_token\"]", "signals = [\"forged_tokens\"]", "rule[0].signals"),
    ("ban = \"10m\"", "ban = \"10 minutes\"", "rule[0].ban"),
];

#[test]
fn broken_configurations_are_refused_by_file_line_and_key() {
    if !report::may_run("config::check") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("gwt-{}-config", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    PKI.write(&folder);
    let file = folder.join("gateway.toml");
    // As many connections as any limit on open files allows.
    let settings = Settings { proxy: "max_connections = 100".to_owned(), ..Settings::default() };
    let text = settings.text(&folder, "/sys/fs/bpf/none".as_ref());
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        gateway(&["--config", file.to_str().unwrap(), "check"])
    };
    let told = check(&text);
    assert_eq!((told.code, &told.json["valid"]), (0, &Value::Bool(true)), "{} {}", told.json, told.errors);

    for (from, to, key) in SPOILED {
        assert!(text.contains(from), "{from:?} is not in the configuration");
        let told = check(&text.replacen(from, to, 1));
        let line = text.lines().count() - text[text.find(from).unwrap()..].lines().count() + 1;
        assert_eq!((told.code, &told.json["valid"]), (1, &Value::Bool(false)), "{to}: {}", told.json);
        names(&told, file.to_str().unwrap(), line, key, to);
    }

    // What works here and not elsewhere, or not for long, is told and refuses nothing.
    let told = check(&text.replacen("user = \"nobody\"", "user = \"nobody-at-all\"", 1));
    let warned = |key: &str| told.json["warnings"].as_array().unwrap().iter().any(|warning| warning["key"] == key);
    for key in ["proxy.user", "guard.interfaces[0]", "listener[0].address", "listener[1].address"] {
        assert!(told.code == 0 && warned(key), "{key}: {}", told.json);
    }
    let mut old = rcgen::CertificateParams::new(["api.example.com".to_owned()]).unwrap();
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("old.crt"), old.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("old.key"), key.serialize_pem()).unwrap();
    let told = check(&text.replacen("server.crt", "old.crt", 1).replacen("server.key", "old.key", 1));
    let warned = told.json["warnings"].as_array().unwrap();
    let warned = warned.iter().find(|warning| warning["key"] == "listener[0].certificate");
    assert!(told.code == 0 && warned.is_some_and(|it| it["message"] == "expired at 2020-01-01T00:00:00Z"), "{told:?}");

    // For people, warnings come last and what is in force only where it is asked for.
    let shown = |arguments: &[&str]| {
        fs::write(&file, &text).unwrap();
        let output = Command::new(binary()).arg("--config").arg(&file).arg("check").args(arguments).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [said, warned] = shown(&[]);
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("is valid, with 4 warnings. See what is in force with --show."), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{said}");
    assert!(warned.contains("there is no interface gate0 here"), "{warned}");
    let [said, warned] = shown(&["--show"]);
    assert!(said.contains("\n[guard]\n") && said.contains("widest_ipv4 = 16"), "{said}");
    assert!(warned.contains("there is no interface gate0 here"), "{warned}");

    // All faults at once, for people too.
    let twice = text.replacen("issuer = ", "isuer = ", 1).replacen("user = \"nobody\"", "users = \"nobody\"", 1);
    assert!(check(&twice).json["errors"].as_array().is_some_and(|errors| errors.len() >= 2));
    let output = Command::new(binary()).arg("--config").arg(&file).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains(&format!("{}:", file.display())) && said.contains("isuer"), "{said}");
    // Also those of files, which are found by compiling.
    fs::write(folder.join("item.schema.json"), "{\"type\": 5}").unwrap();
    let told = check(&text.replacen("user = \"nobody\"", "users = \"nobody\"", 1));
    let keys: Vec<_> =
        told.json["errors"].as_array().unwrap().iter().map(|error| error["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"proxy.users") && keys.iter().any(|key| key.ends_with("].schema")), "{keys:?}");
    let run = gateway(&["--config", file.to_str().unwrap(), "run"]);
    assert_ne!(run.code, 0, "a broken configuration is run");
    fs::remove_dir_all(folder).unwrap();
}

/// At `line`, or within the few lines of the table that a missing key belongs to.
#[track_caller]
fn names(told: &Told, file: &str, line: usize, key: &str, case: &str) {
    let errors = told.json["errors"].as_array().unwrap_or_else(|| panic!("{case}: {}", told.json));
    let named = errors.iter().any(|error| {
        let near = error["line"].as_u64().is_some_and(|at| at.abs_diff(line as u64) <= 1);
        let same = error["key"].as_str().is_some_and(|named| named == key || named.starts_with(&format!("{key}[")));
        error["file"] == file && near && same
    });
    assert!(named, "{case}: {file}:{line} {key} is not named in {}", told.json);
}

#[test]
fn reloads() {
    if !report::may_run("config::reload") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    let client = Client::new(&world, GOOD_V4);
    let proxy = daemon.proxy_pid();
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);

    // A bad one changes nothing, whoever asks for it.
    daemon.edit("issuer = ", "isuer = ");
    let told = daemon.cli(&["reload"]);
    assert_eq!((told.code, &told.json["answer"]), (1, &"refused".into()), "{}", told.json);
    let message = told.json["message"].as_str().unwrap();
    assert!(message.contains("isuer") && message.contains("gateway.toml:"), "{message}");
    daemon.signal(Signal::SIGHUP);
    until("the refusal to be told", SOON, || daemon.standard_error().contains("isuer").then_some(()));
    assert_eq!(daemon.status()["proxy_pid"], proxy);
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    daemon.edit("isuer = ", "issuer = ");

    // The user is not for a reload.
    daemon.edit("user = \"nobody\"", "user = \"daemon\"");
    assert_eq!(daemon.cli(&["reload"]).json["code"], "needs_restart");
    daemon.edit("user = \"daemon\"", "user = \"nobody\"");

    // A good one takes effect, while requests go on, on the same connection too.
    let token = tokens::good("ada", &["reader"]);
    assert_eq!(client.get("/novel", &token).unwrap().status, 404);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                let response = client.send(&Request::new("GET", "/items/1").token(&token));
                let response = response.unwrap_or_else(|error| panic!("after {served} answers: {error}"));
                assert_eq!(response.status, 200, "{}", response.text());
                served += 1;
                pause(Duration::from_millis(5));
            }
            served
        });
        let reload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            daemon.edit("[[rule]]", &format!("{}[[rule]]", route("/novel", "[\"GET\"]", "[\"public\"]", "")));
            daemon.done(&["reload"]);
            // Whoever connects now is served by the new configuration, whatever is in flight.
            assert_eq!(client.get("/novel", "").unwrap().status, 404);
            for round in 0..10 {
                let [before, after] = if round % 2 == 0 { ["/novel", "/other"] } else { ["/other", "/novel"] };
                daemon.edit(&format!("path = \"{before}\""), &format!("path = \"{after}\""));
                daemon.done(&["reload"]);
                let statuses = [0; 4].map(|_| client.get(after, "").unwrap().status);
                assert_eq!(statuses, [404; 4], "round {round}: its route is new");
            }
        }));
        over.store(true, Ordering::Relaxed);
        let served: u32 = requests.join().unwrap();
        reload.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report::note(&format!("config: {served} requests during a reload, none failed"));
    });
    let response = client.get("/novel", "").unwrap();
    assert_eq!(response.json()["error"], "no such thing", "the upstream answers now: {}", response.text());
    assert_eq!(daemon.status()["blocks"], 1, "a reload loses no ban");
}
