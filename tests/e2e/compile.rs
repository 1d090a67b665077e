//! A configuration that would take much memory or time to compile is refused, and nobody else notices; what a reload
//! would change is told without changing it, and which configuration is in force.

use std::{fmt::Write as _, fs};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::Value;
use support::{
    daemon::Daemon,
    http1::Client,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// So many patterns of some hundred KiB each.
const PATTERNS: u32 = 20_000;

/// By how many KiB guard and proxy may grow while they refuse it: the file itself, and what a machine under load makes of it.
const SMALL: u64 = 48 * 1_024;

/// A schema of some hundred KiB that takes gigabytes and minutes.
fn costly() -> String {
    let mut patterns = String::new();
    for number in 0..PATTERNS {
        write!(patterns, "\"^\\\\w{{12}}x{number}$\": {{}},").unwrap();
    }
    format!("{{\"patternProperties\": {{{patterns}\"^last$\": {{}}}}}}")
}

fn sha256(text: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text).as_ref())
}

/// The most memory that a process ever had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn m02_what_takes_too_much_to_compile_is_refused_and_nobody_notices() {
    if !report::may_run("compile") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let whole = fs::read_to_string(&daemon.config).unwrap();
    let began = daemon.status();
    assert_eq!((&began["config_by"], &began["config_digest"]), (&"start".into(), &sha256(whole.as_bytes()).into()));
    fs::write(world.folder.join("costly.schema.json"), costly()).unwrap();
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    let before = [guard, proxy].map(peak);

    for (limits, says) in [
        ("compile_memory = \"64MiB\"", "more than 64 MiB of memory to compile"),
        ("compile_time = \"1s\"\ncompile_memory = \"64GiB\"", "raise guard.compile_time"),
    ] {
        let text = whole.replace("item.schema.json", "costly.schema.json");
        let text = text.replacen("[guard]", &format!("[guard]\n{limits}"), 1);
        fs::write(&daemon.config, &text).unwrap();
        for arguments in [&["reload"][..], &["reload", "--dry-run"]] {
            let told = daemon.cli(arguments);
            let message = told.json["message"].as_str().unwrap_or_default();
            assert!(told.code == 1 && told.json["code"] == "too_costly" && message.contains(says), "{}", told.json);
            assert_eq!(client.get("/health", "").unwrap().status, 200);
        }
        let status = daemon.status();
        let refused = &status["reload_refused"];
        assert_eq!((&refused["code"], &refused["digest"]), (&"too_costly".into(), &sha256(text.as_bytes()).into()));
        assert_eq!(refused["by"], "operator:0");
        for key in ["config_by", "config_digest", "config_since", "guard_pid", "proxy_pid"] {
            assert_eq!(status[key], began[key], "{key}");
        }
    }
    let after = [guard, proxy].map(peak);
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + SMALL, "{before} KiB grew to {after} KiB");
    }
    let compilers = || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
        children.split_whitespace().count()
    };
    until("what compiled to be gone", SOON, || (compilers() == 2).then_some(()));

    // A schema that is not valid is told of as by `gateway check`, and one that is comes into force.
    fs::write(world.folder.join("costly.schema.json"), "{\"type\": 7}").unwrap();
    fs::write(&daemon.config, whole.replace("item.schema.json", "costly.schema.json")).unwrap();
    let told = daemon.cli(&["reload"]);
    assert!(told.code == 1 && told.json["message"].to_string().contains("costly.schema.json"), "{}", told.json);
    fs::write(world.folder.join("costly.schema.json"), "{}").unwrap();
    daemon.done(&["reload"]);
    assert_eq!(daemon.proxy_pid(), proxy);
}

/// At the first start, too: nobody is served by what is not compiled within the limits.
#[test]
fn m02_what_takes_too_much_to_compile_is_not_started_with() {
    if !report::may_run("compile: start") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    let whole = fs::read_to_string(&daemon.config).unwrap();
    fs::write(world.folder.join("costly.schema.json"), costly()).unwrap();
    let text = whole.replace("item.schema.json", "costly.schema.json");
    fs::write(&daemon.config, text.replacen("[guard]", "[guard]\ncompile_memory = \"64MiB\"", 1)).unwrap();
    // A guard that follows another has compiled it before.
    let guard = daemon.guard_pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let _next = daemon.guard_pid_other_than(guard);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.ended().success());

    let config = daemon.config.to_str().unwrap().to_owned();
    let run = world.gate.command(&support::daemon::binary()).args(["--config", &config, "run"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    let says = "the configuration is not used: it takes more than 64 MiB of memory to compile";
    assert!(run.status.code() == Some(2) && said.contains(says) && said.contains("guard.compile_memory"), "{said}");
    fs::write(&daemon.config, whole).unwrap();
    daemon.start_again();
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn a_dry_run_tells_what_would_change_and_changes_nothing() {
    if !report::may_run("dry run") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    let told = |arguments: &[&str]| {
        let told = daemon.cli(arguments);
        (told.code, told.json["message"].as_str().unwrap_or_default().to_owned())
    };
    let dry = || told(&["reload", "--dry-run"]);
    let in_force = || {
        let status = daemon.status();
        ["config_by", "config_digest", "config_since", "reload_refused"].map(|key| status[key].clone())
    };
    let began = in_force();
    assert_eq!(dry(), (0, "a reload would change nothing".to_owned()));
    daemon.edit("path = \"/health\"", "path = \"/alive\"");
    let (code, message) = dry();
    assert!(
        code == 0 && message.starts_with("nothing has changed; a reload would") && message.contains("/alive"),
        "{message}"
    );
    for (from, to, says) in [
        ("user = \"nobody\"", "user = \"nobody\"\nworkers = 7", "proxy.workers cannot change"),
        ("[guard]", "[guard]\nnonsense = 1", "nonsense"),
    ] {
        let text = fs::read_to_string(&daemon.config).unwrap();
        daemon.edit(from, to);
        let (code, message) = dry();
        assert!(code == 1 && message.contains(says), "{message}");
        fs::write(&daemon.config, text).unwrap();
    }
    assert_eq!(in_force(), began);
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(["/health", "/alive"].map(|path| client.get(path, "").unwrap().status), [200, 404]);

    let (code, message) = told(&["reload"]);
    assert!(code == 0 && message.contains("/alive"), "{message}");
    let digest = sha256(&fs::read(&daemon.config).unwrap());
    let [by, now, since, refused] = in_force();
    assert_eq!((by, now, refused), ("operator:0".into(), digest.clone().into(), Value::Null));
    assert_ne!(since, began[2]);
    let output = std::process::Command::new(support::daemon::binary())
        .args(["--config", daemon.config.to_str().unwrap(), "status"])
        .output()
        .unwrap();
    // Without the ends of lines of a narrow terminal.
    let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("by operator:0, SHA-256 {}", &digest[..16])), "{text}");
}
