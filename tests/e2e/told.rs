//! What an operator is told of the configuration in force, and by one that is broken.

use std::{fs, process::Command};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, binary},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::World,
};

fn settings() -> Settings {
    Settings { interfaces: Vec::new(), ..Settings::default() }
}

/// What `gateway` says for people: standard output and standard error.
fn said(daemon: &Daemon<'_>, arguments: &[&str]) -> (String, String) {
    let output = Command::new(binary()).arg("--config").arg(&daemon.config).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What is told of upstreams is of the configuration in force, whoever tells it.
#[test]
fn no_reload_loses_the_upstreams() {
    if !report::may_run("told: upstreams") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let names = |daemon: &Daemon<'_>| -> Vec<String> {
        let status = daemon.status();
        let upstreams = status["upstreams"].as_array().unwrap();
        upstreams.iter().map(|upstream| upstream["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&daemon), ["items"], "at the start");
    for round in 0..8 {
        daemon.done(&["reload"]);
        assert_eq!(names(&daemon), ["items"], "reload {round}");
    }
    // Another name, and the old one back: neither outlives its configuration.
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("upstream.items", "upstream.others").replace("\"items\"", "\"others\""))
        .unwrap();
    daemon.done(&["reload"]);
    assert_eq!(names(&daemon), ["others"]);
    fs::write(&daemon.config, text).unwrap();
    daemon.done(&["reload"]);
    assert_eq!(names(&daemon), ["items"]);
    // A proxy that takes the place of one that died.
    let proxy = daemon.proxy_pid();
    support::daemon::send(proxy, Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    assert_eq!(names(&daemon), ["items"], "another proxy");
}

#[test]
fn a_refused_reload_is_told_until_a_good_one() {
    if !report::may_run("told: reloads") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let good = fs::read_to_string(&daemon.config).unwrap();
    let began = daemon.status();
    assert!(began["config_since"].as_str().is_some_and(|since| since.ends_with('Z')), "{began}");
    assert_eq!(began["reload_refused"], Value::Null);
    for (from, to, code, reason) in [
        ("[guard]", "[guard]\nmax_ban = 1", "invalid_configuration", "did you mean `max_bans`?"),
        ("[guard]", "[guard]\nx = [", "invalid_configuration", "not TOML"),
        ("[guard]", "[guard]\nmax_bans = 7000", "needs_restart", "guard.max_bans cannot change while"),
        (
            "jwks = \"jwks.json\"",
            "jwks = \"https://issuer.example/keys\"",
            "invalid_configuration",
            "a file is read here",
        ),
        ("\"server.key\"", "\"jwks.json\"", "invalid_configuration", "private_key"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&daemon.config, good.replacen(from, to, 1)).unwrap();
        // By whichever way it is asked for.
        if code == "needs_restart" {
            daemon.signal(Signal::SIGHUP);
        } else {
            let told = daemon.cli(&["reload"]);
            assert_eq!((told.code, &told.json["code"]), (1, &code.into()), "{}", told.json);
        }
        let status = until("the refusal", SOON, || {
            let status = daemon.status();
            let refused = &status["reload_refused"];
            (refused["code"] == code && refused["reason"].as_str()?.contains(reason)).then_some(status)
        });
        assert!(status["reload_refused"]["at"].as_str().is_some_and(|at| at > began["config_since"].as_str().unwrap()));
        assert_eq!(status["config_since"], began["config_since"], "what is in force is what was");
        let warned = status["warnings"].to_string();
        assert!(warned.contains("the reload at ") && warned.contains(code), "{warned}");
        let (text, _) = said(&daemon, &["status"]);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("WARNING: the reload at ") && words.contains("in force since "), "{text}");
    }
    fs::write(&daemon.config, &good).unwrap();
    daemon.done(&["reload"]);
    let status = daemon.status();
    assert_eq!(status["reload_refused"], Value::Null, "a good one is in force");
    assert!(!status["warnings"].to_string().contains("the reload at"), "{}", status["warnings"]);
    assert!(status["config_since"].as_str() > began["config_since"].as_str());

    // What has changed is told a line each.
    daemon.edit("[guard]", "[guard]\nmax_bans_per_minute = 59");
    let (text, errors) = said(&daemon, &["reload"]);
    let is_told = text.lines().skip(1).any(|line| line.starts_with("  guard.max_bans_per_minute"));
    assert!(is_told, "{text}{errors}");
}

/// Recovering must not wait for somebody to find a missing bracket.
#[test]
fn a_broken_file_keeps_nobody_from_the_gateway() {
    if !report::may_run("told: broken files") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let good = fs::read(&daemon.config).unwrap();
    for broken in [&b"\n[[listener\naddress = 1\n"[..], b"\nx = [1,\n", b"\nx = \"\xff\"\n"] {
        fs::write(&daemon.config, [&good, broken].concat()).unwrap();
        for (arguments, code) in [
            (&["status"][..], 0),
            (&["block", "add", "203.0.113.7"], 0),
            (&["block", "list"], 0),
            (&["why", "203.0.113.7"], 0),
            (&["block", "del", "203.0.113.7"], 0),
            (&["block", "export"], 0),
            (&["allow", "list"], 0),
            (&["shadow", "report"], 0),
            (&["reload"], 1),
        ] {
            let told = daemon.cli(arguments);
            assert_eq!(told.code, code, "{arguments:?}: {} {}", told.json, told.errors);
            let note = told.errors.split_whitespace().collect::<Vec<_>>().join(" ");
            let is_told = note.starts_with("note: ") && note.contains("gateway.toml:");
            assert!(is_told && note.contains("the gateway is looked for at"), "{}", told.errors);
        }
        let detached = daemon.cli(&["detach"]);
        assert!(detached.json["message"].is_string() && detached.code != 2, "{} {}", detached.json, detached.errors);
    }
    // A file that was named and is not there is still a mistake.
    fs::remove_file(&daemon.config).unwrap();
    assert_eq!(daemon.cli(&["status"]).code, 2);
    fs::write(&daemon.config, good).unwrap();
    assert!(daemon.cli(&["status"]).errors.is_empty(), "nothing is noted of a good file");
}

#[test]
fn d03_too_few_descriptors_are_told() {
    if !report::may_run("told: descriptors") {
        return;
    }
    const SAYS: &str = "20000 connections exceed the open-file limit of 600: using 525";
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start_under(&world, &settings(), &["prlimit", "--nofile=600:600"]);
    assert!(daemon.status()["warnings"].to_string().contains(SAYS), "{}", daemon.status()["warnings"]);
    assert!(daemon.standard_error().contains(SAYS), "the log at the start");
    let mut check = Command::new("prlimit");
    check.arg("--nofile=600:600").arg(binary()).arg("--config").arg(&daemon.config).arg("check");
    let checked = check.output().unwrap();
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    let errors = errors.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(checked.status.success() && errors.contains(SAYS) && errors.contains("LimitNOFILE"), "{errors}");
    daemon.edit("[proxy]\n", "[proxy]\nmax_connections = 500\n");
    let errors = String::from_utf8_lossy(&check.output().unwrap().stderr).into_owned();
    assert!(!errors.contains("open-file limit"), "{errors}");
}
