//! An observer in wrong hands, beside a real proxy: whatever it says, nobody is banned that must not be, no command is given
//! that nobody gave, operators are answered, and neither log nor memory is filled.

use std::{
    fs,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    admin,
    daemon::{binary, install},
    http1::Client,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

use crate::hostile_proxy::{self, WATCHED, program};

/// Whom an operator has allowlisted.
const ALLOWED: u8 = 9;

/// Lists, an anchor, and what is done because of anomalies: all of what an observer has a say in.
fn settings() -> Settings {
    let key = include_str!("../fixtures/minisign/minisign.pub").lines().nth(1).unwrap();
    let feed = |name: &str, more: &str| {
        format!(
            "[[feed]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:9200/{name}.txt\"\nallow_http = true\n\
             every = \"1s\"\n{more}\n"
        )
    };
    let (plain, signed) = (feed("plain", ""), feed("signed", &format!("minisign = \"{key}\"")));
    let anchor = "[[audit.anchor]]\nname = \"a\"\nsyslog = \"udp://127.0.0.1:9514\"\nevery = \"1s\"\n";
    let anomalies = "[anomalies]\nminutes = 1\n[anomalies.actions]\nfailures = \"ban\"\n";
    let more = format!("{}{plain}{signed}{anchor}{anomalies}", admin::TABLE);
    Settings { guard: "established = \"1s\"\n".to_owned(), rules: String::new(), more, ..Settings::default() }
}

/// Fails again and again, and with a token is served in between, until it is over. `wrong`: who is not answered as it must be.
fn go_on(world: &World, address: IpAddr, token: Option<&str>, over: &AtomicBool, wrong: &AtomicU32) {
    let client = Client::new(world, address);
    while !over.load(Ordering::Relaxed) {
        let served = token.map(|token| ("/items/1", token, 200));
        for (path, token, status) in served.into_iter().chain([("/nowhere", "", 404)]) {
            if !client.get(path, token).is_ok_and(|response| response.status == status) {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
        pause(Duration::from_millis(300));
    }
}

/// A new observer plays this, for so long at least and until there was enough of it, and nothing that matters happens.
#[track_caller]
fn survives(
    stage: &mut hostile_proxy::Stage<'_>,
    scenario: &str,
    is_enough: impl Fn(&hostile_proxy::Stage<'_>) -> bool,
) {
    stage.play("observer-scenario", scenario);
    let before = stage.before();
    let status = stage.status();
    if let Some(pid) = status["observer_pid"].as_u64() {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().is_ok());
    }
    let begins = format!("hostile: observer: {scenario}");
    until(&begins, SOON, || stage.log().contains(&begins).then_some(()));
    let start = Instant::now();
    while start.elapsed() < WATCHED || !is_enough(stage) {
        assert!(start.elapsed() < 3 * SOON, "{scenario}: there was not enough of it: {}", stage.log());
        stage.is_served(scenario);
        assert_eq!(stage.status()["proxy_pid"], status["proxy_pid"], "{scenario} reaches the proxy");
    }
    stage.is_bounded(scenario, &before);
    for question in [&["alert", "list"][..], &["anomalies"]] {
        let mut command = Command::new(binary());
        let told = command.arg("--config").arg(&stage.daemon.config).args(question).output().unwrap();
        let said = [told.stdout, told.stderr].concat();
        assert!(told.status.code().is_some_and(|code| code < 5), "{scenario} {question:?}: {:?}", told.status);
        assert!(!said.iter().any(|byte| [0x1b, 7, b'\r'].contains(byte)), "{scenario} {question:?}: {said:?}");
    }
}

/// What there is after the observer has said everything.
fn nothing_was_given(stage: &mut hostile_proxy::Stage<'_>) {
    let blocked = stage.daemon.done(&["block", "list"]);
    let of =
        |entry: &Value| (entry["source"].as_str().unwrap().to_owned(), entry["actor"].as_str().unwrap().to_owned());
    let blocked: Vec<_> = blocked["entries"].as_array().unwrap().iter().map(of).collect();
    // Who fails beside others that do not is what an anomaly is about: the observer may say so, and is heard.
    assert_eq!(blocked, [(ATTACKER_V4.to_string(), "rule:anomaly.failures".to_owned())]);
    let allowed = stage.daemon.done(&["allow", "list"]);
    let allowed = allowed["entries"].as_array().unwrap();
    assert!(allowed.iter().any(|entry| entry["source"] == bystander(ALLOWED).to_string()), "{allowed:?}");
    assert!(!allowed.iter().any(|entry| entry["source"] == ATTACKER_V4.to_string()), "{allowed:?}");
    assert_eq!(stage.daemon.done(&["admin-token", "list"])["tokens"].as_array().map(Vec::len), Some(0));
    let status = stage.status();
    assert_eq!(status["interfaces"].as_array().map(Vec::len), Some(1), "it was detached: {status}");
    let feeds = status["feeds"].as_array().unwrap();
    assert!(feeds.iter().all(|feed| feed["name"] != "signed"), "a list without its signature: {status}");
    for address in [GOOD_V4, bystander(ALLOWED), "10.0.0.1".parse().unwrap()] {
        let why = stage.daemon.done(&["why", &address.to_string()]);
        assert_ne!(why["verdict"], "blocked", "{why}");
    }
}

#[test]
fn an_observer_in_wrong_hands_reaches_no_further() {
    if !report::may_run("hostile-observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut stage = hostile_proxy::Stage::with(&world, &settings());
    stage.daemon.done(&["allow", "add", &bystander(ALLOWED).to_string()]);
    let token = tokens::good("ada", &["reader"]);
    until("the good client to be known", SOON, || {
        assert_eq!(Client::new(&world, GOOD_V4).get("/items/1", &token).unwrap().status, 200);
        (stage.daemon.done(&["why", &GOOD_V4.to_string()])["standing"]["good_principals"] == 1).then_some(())
    });
    stage.play("scenario", "honest");
    stage.play("observer-scenario", "silent");
    install(Path::new(env!("CARGO_BIN_EXE_hostile-proxy")), &program(&world), 0o755);
    let told = stage.daemon.done(&["reload"]);
    assert!(told["message"].as_str().unwrap().contains("the program that is on disk"), "{told}");
    let (over, wrong, ignored) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let (world, over, wrong, ignored, token) = (&world, &over, &wrong, &ignored, token.as_str());
        scope.spawn(move || go_on(world, GOOD_V4, Some(token), over, wrong));
        scope.spawn(move || go_on(world, bystander(ALLOWED), None, over, wrong));
        scope.spawn(move || go_on(world, ATTACKER_V4, None, over, ignored));
        // Who shows that the gateway works.
        for number in 0..5 {
            scope.spawn(move || {
                let client = Client::new(world, bystander(number));
                while !over.load(Ordering::Relaxed) {
                    if !client.get("/health", "").is_ok_and(|response| response.status == 200) {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    pause(Duration::from_millis(300));
                }
            });
        }
        let played = catch_unwind(AssertUnwindSafe(|| {
            survives(&mut stage, "talks", |stage| {
                let is_banned = stage.daemon.done(&["block", "list"]).to_string().contains("anomaly.failures");
                let fetches = stage.daemon.status()["fetches"].clone();
                let count = |of: usize, what: &str| fetches[of][what].as_u64().unwrap();
                // The signed list is the second.
                let were_judged = count(0, "changed") + count(0, "refusals") > 0 && count(1, "refusals") > 0;
                is_banned && were_judged && stage.audit_count("\"event\":\"denied\"") > 0
            });
            for scenario in ["breaks", "silent", "dies"] {
                survives(&mut stage, scenario, |_| true);
            }
            nothing_was_given(&mut stage);
        }));
        over.store(true, Ordering::Relaxed);
        played.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "somebody was not served");

    // With the real program in its place again everything is told as before.
    install(Path::new(&binary()), &program(&world), 0o755);
    fs::remove_file(world.folder.join("observer-scenario")).unwrap();
    stage.daemon.done(&["reload"]);
    until("the real observer", 2 * SOON, || {
        admin::get(&world, "/metrics", "").ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(stage.daemon.guard_pid(), stage.guard);
}
