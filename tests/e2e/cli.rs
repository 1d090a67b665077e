//! What every command says and how it ends, through the real socket.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary, gateway},
    report,
    settings::Settings,
    world::World,
};

#[test]
fn commands_that_need_no_daemon() {
    if !report::may_run("cli::alone") {
        return;
    }
    let version = gateway(&["version"]);
    assert_eq!(version.code, 0);
    assert!(version.json["version"].as_str().is_some_and(|version| version.starts_with(char::is_numeric)));

    let folder = std::env::temp_dir().join(format!("gwt-{}-cli", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let missing = folder.join("none.toml");
    let missing = missing.to_str().unwrap();
    let socket = folder.join("none.sock");
    let wrong = folder.join("wrong.toml");
    fs::write(&wrong, "[guard]\nmax_bans = 0\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (arguments, code) in [
        (vec!["dance"], 2),
        (vec!["block", "add"], 2),
        (vec!["block", "add", "10.0.0"], 2),
        (vec!["block", "add", "10.0.0.1/24"], 2),
        (vec!["why", "10.0.0.0/8"], 2),
        (vec!["--config", missing, "check"], 2),
        (vec!["--config", missing, "run"], 2),
        (vec!["--config", missing, "route", "GET", "https://a.example/"], 2),
        // What can be read and is not valid is refused.
        (vec!["--config", wrong, "check"], 1),
        (vec!["--config", wrong, "doctor"], 1),
        (vec!["--config", wrong, "logs"], 1),
        (vec!["--config", wrong, "route", "GET", "https://a.example/"], 1),
        (vec!["logs", "--file", missing], 2),
        (vec!["route", "GET", "a.example"], 2),
        (vec!["route", "get", "https://a.example/"], 2),
        (vec!["--socket", socket.to_str().unwrap(), "status"], 3),
        (vec!["--socket", socket.to_str().unwrap(), "block", "add", "10.0.0.66"], 3),
    ] {
        let told = gateway(&arguments);
        assert_eq!(told.code, code, "{arguments:?}: {} {}", told.json, told.errors);
        // `run` has its log for that.
        if !arguments.contains(&"run") {
            let text = told.json.to_string();
            assert!(told.json.is_object() && !text.contains("\\u001b"), "{arguments:?}: {text} {}", told.errors);
        }
    }
    for arguments in [
        vec![],
        vec!["dance"],
        vec!["block"],
        vec!["block", "add"],
        vec!["block", "add", "10.0.0"],
        vec!["block", "add", "10.0.0.1", "--for", "soon"],
        vec!["status", "--no-such-thing"],
        vec!["why"],
        vec!["--config"],
    ] {
        let told = gateway(&arguments);
        assert_eq!((told.code, &told.json["answer"], &told.json["code"]), (2, &"refused".into(), &"usage".into()));
        let message = told.json["message"].as_str().unwrap();
        assert!(message.contains("help") && !message.starts_with("error"), "{arguments:?}: {message}");
    }
    // What comes after `--` is no option.
    let told = Command::new(binary()).args(["dance", "--", "--json"]).output().unwrap();
    assert!(told.stdout.is_empty() && told.status.code() == Some(2), "{told:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn commands_through_the_socket() {
    if !report::may_run("cli") {
        return;
    }
    let world = World::new();
    let settings = Settings {
        guard: "allow = [\"10.0.0.110\", \"10.0.0.112/30\"]\ndefault_ban = \"10m\"".to_owned(),
        ..Settings::default()
    };
    let mut daemon = Daemon::start(&world, &settings);

    let status = daemon.status();
    assert_eq!(status["answer"], "status");
    assert_eq!(status["guard_pid"], daemon.guard_pid());
    assert_eq!(status["listeners"].as_array().map(Vec::len), Some(2), "{status}");
    assert_eq!(status["verdicts"].as_array().map(Vec::len), Some(gateway_common::verdict::Verdict::ALL.len()));
    let check = daemon.done(&["check"]);
    assert_eq!(check["valid"], true, "{check}");
    assert!(check["config"].is_object() && !check.to_string().contains("PRIVATE KEY"), "{check}");

    blocks(&daemon);
    refusals(&daemon);
    allows(&daemon);

    let why = daemon.done(&["why", "10.0.0.2"]);
    assert_eq!(why["answer"], "why");
    assert_eq!(why["verdict"], "passed", "{why}");
    assert_eq!(why["entry"], Value::Null, "{why}");
    assert_eq!(daemon.done(&["why", "10.0.0.110"])["verdict"], "allowed");
    let own = daemon.done(&["why", "10.0.0.1"]);
    assert!(own["shields"].as_array().is_some_and(|shields| !shields.is_empty()), "{own}");

    assert_eq!(daemon.done(&["reload"])["answer"], "done");
    audit(&world, &mut daemon);
}

#[test]
fn an_empty_variable_names_no_configuration() {
    let rows: [(&str, &[&str], i32); 4] = [
        ("", &["version"], 0),
        ("", &["--config", "", "version"], 2),
        ("/nowhere.toml", &["version"], 0),
        ("/nowhere.toml", &["check"], 2),
    ];
    for (variable, arguments, expect) in rows {
        let told = Command::new(binary()).env("GATEWAY_CONFIG", variable).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(expect), "{variable:?} {arguments:?}: {said}");
        assert_eq!(said.contains("/nowhere.toml"), arguments == ["check"], "{said}");
    }
}

/// How each command ends that is not for this user, while the gateway runs and while it does not.
const WITHOUT_RIGHTS: [(&[&str], i32, i32); 35] = [
    (&["status"], 4, 3),
    (&["top", "--once"], 4, 3),
    (&["top", "--l7", "--once"], 4, 3),
    (&["why", "10.0.0.66"], 4, 4),
    (&["block", "add", "10.0.0.66"], 4, 4),
    (&["block", "add", "10.0.0.66", "--confirm", "1m"], 4, 3),
    (&["block", "del", "10.0.0.66"], 4, 4),
    (&["block", "list"], 4, 4),
    (&["block", "flush", "--yes"], 4, 4),
    (&["block", "export"], 4, 3),
    (&["allow", "add", "10.0.0.66"], 4, 4),
    (&["allow", "del", "10.0.0.66"], 4, 4),
    (&["allow", "list"], 4, 4),
    (&["confirm"], 4, 3),
    (&["feed", "list"], 4, 3),
    (&["feed", "refresh", "a"], 4, 3),
    (&["key", "new", "--name", "a"], 4, 3),
    (&["key", "list"], 4, 3),
    (&["token", "revocations", "list"], 4, 3),
    (&["admin-token", "list"], 4, 3),
    (&["alert", "list"], 4, 3),
    (&["anomalies"], 4, 3),
    (&["cluster", "status"], 4, 3),
    (&["shadow", "report"], 4, 3),
    (&["resume"], 4, 3),
    (&["reload"], 4, 3),
    (&["upgrade"], 4, 3),
    (&["watch"], 4, 3),
    (&["whoami"], 4, 3),
    (&["attach"], 4, 3),
    (&["detach"], 4, 4),
    (&["audit", "verify"], 4, 4),
    (&["audit", "show"], 4, 4),
    // What was kept elsewhere may be denied, too.
    (&["audit", "verify", "--anchor", "/etc/shadow"], 4, 4),
    (&["audit", "verify", "--tsr", "/etc/shadow"], 4, 4),
];

#[test]
fn commands_without_rights_end_as_documented() {
    if !report::may_run("cli::rights") {
        return;
    }
    let world = World::new();
    let mut daemon = Daemon::start(&world, &Settings::default());
    for is_up in [true, false] {
        for (arguments, up, down) in WITHOUT_RIGHTS {
            let mut command = Command::new(binary());
            command.arg("--config").arg(&daemon.config).args(arguments).uid(65_534).gid(65_534);
            let told = command.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(if is_up { up } else { down }), "{arguments:?}, up: {is_up}: {said}");
            assert!(told.stdout.is_empty() && !said.trim().is_empty(), "{arguments:?}, up: {is_up}: {told:?}");
        }
        if is_up {
            daemon.signal(Signal::SIGTERM);
            daemon.ended();
        }
    }
    // The cause is told once, with the setting and what to do.
    fs::set_permissions(world.folder.join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(binary());
    command.arg("--config").arg(&daemon.config).arg("run").uid(65_534).gid(65_534);
    let told = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&told.stderr);
    assert_eq!((told.status.code(), said.matches("Permission denied").count()), (Some(1), 1), "{said}");
    assert!(said.contains("guard.state_dir: ") && said.contains("started as root"), "{said}");
}

fn blocks(daemon: &Daemon<'_>) {
    assert_eq!(daemon.done(&["block", "list"]), json!({"answer": "blocks", "entries": [], "lists": []}));
    for (arguments, source, remaining) in [
        (vec!["10.0.0.66"], "10.0.0.66", Some(600)),
        (vec!["10.0.0.67", "--for", "1h30m"], "10.0.0.67", Some(5_400)),
        (vec!["10.0.0.68", "--forever", "--reason", "seen before"], "10.0.0.68", None),
        (vec!["10.0.0.72/30", "--for", "1m", "--shadow"], "10.0.0.72/30", Some(60)),
        (vec!["fd00:0:0:2::/64"], "fd00:0:0:2::/64", Some(600)),
        (vec!["::ffff:10.0.0.69"], "10.0.0.69", Some(600)),
        (vec!["2001:db8::/32", "--for", "1d"], "2001:db8::/32", Some(86_400)),
    ] {
        let told = daemon.done(&[&["block", "add"], arguments.as_slice()].concat());
        assert_eq!((&told["answer"], &told["changed"]), (&json!("done"), &json!(1)), "{told}");
        let list = daemon.done(&["block", "list"]);
        let entries = list["entries"].as_array().unwrap();
        let entry =
            entries.iter().find(|entry| entry["source"] == source).unwrap_or_else(|| panic!("{source}: {list}"));
        assert_eq!(entry["actor"], "operator:0", "{entry}");
        let left = entry["remaining_seconds"].as_u64();
        assert!(
            left.is_none() == remaining.is_none() && left <= remaining && left >= remaining.map(|s| s - 10),
            "{entry}"
        );
    }
    let why = daemon.done(&["why", "10.0.0.68"]);
    assert_eq!((&why["verdict"], &why["entry"]["reason"]), (&json!("blocked"), &json!("seen before")), "{why}");
    let why = daemon.done(&["why", "10.0.0.73"]);
    assert_eq!((&why["verdict"], &why["entry"]["mode"]), (&json!("shadow_blocked"), &json!("shadow")), "{why}");
    assert_eq!(daemon.status()["blocks"], 7);

    assert_eq!(daemon.done(&["block", "del", "10.0.0.66"])["changed"], 1);
    assert_eq!(daemon.done(&["why", "10.0.0.66"])["verdict"], "passed");
    let gone = daemon.cli(&["block", "del", "10.0.0.66"]);
    assert_eq!((gone.code, &gone.json["code"]), (1, &json!("not_found")), "{}", gone.json);
    assert_ne!(daemon.cli(&["block", "flush"]).code, 0, "flushing wants --yes");
    assert_eq!(daemon.done(&["block", "flush", "--yes"])["changed"], 6);
    assert_eq!(daemon.done(&["block", "list"])["entries"], json!([]));
}

fn refusals(daemon: &Daemon<'_>) {
    for (source, code) in [
        ("10.0.0.1", "own_address"),
        ("fd00::/64", "own_address"),
        ("10.0.0.0/24", "own_address"),
        ("10.0.0.110", "allowlisted"),
        ("10.0.0.113", "allowlisted"),
        ("0.0.0.0/0", "too_wide"),
        ("11.0.0.0/8", "too_wide"),
        ("::/0", "too_wide"),
        ("2001::/16", "too_wide"),
        ("127.0.0.1", ""),
        ("127.0.0.0/24", ""),
        ("::1", ""),
        ("0.0.0.0", ""),
        ("224.0.0.1", ""),
        ("255.255.255.255", ""),
        ("fe80::/64", ""),
    ] {
        let told = daemon.cli(&["block", "add", source, "--for", "1m"]);
        assert_eq!((told.code, &told.json["answer"]), (1, &json!("refused")), "{source}: {}", told.json);
        assert!(told.json["message"].as_str().is_some_and(|message| message.len() > 10), "{source}: {}", told.json);
        if !code.is_empty() {
            assert_eq!(told.json["code"], code, "{source}: {}", told.json);
        }
    }
    assert_eq!(daemon.done(&["block", "list"])["entries"], json!([]));
}

fn allows(daemon: &Daemon<'_>) {
    let list = daemon.done(&["allow", "list"]);
    assert_eq!(list["entries"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(list["entries"][0]["actor"], "config", "{list}");
    daemon.done(&["block", "add", "10.0.0.120", "--for", "1h"]);
    daemon.done(&["allow", "add", "10.0.0.120/29", "--reason", "the office"]);
    assert_eq!(daemon.done(&["allow", "list"])["entries"][2]["reason"], "the office");
    assert_eq!(daemon.done(&["why", "10.0.0.120"])["verdict"], "allowed");
    assert_eq!(daemon.cli(&["block", "add", "10.0.0.121"]).json["code"], "allowlisted");
    daemon.done(&["allow", "del", "10.0.0.120/29"]);
    assert_eq!(daemon.cli(&["allow", "del", "10.0.0.120/29"]).code, 1);
    let timed = daemon.cli(&["allow", "add", "10.0.0.120", "--for", "-1h"]);
    assert!(timed.code == 2 && timed.json["message"].to_string().contains("gateway allow del"), "{}", timed.json);
    // What the configuration allows is removed in the configuration.
    assert_eq!(daemon.cli(&["allow", "del", "10.0.0.110"]).code, 1);
    daemon.done(&["block", "flush", "--yes"]);
}

fn audit(world: &World, daemon: &mut Daemon<'_>) {
    let told = daemon.done(&["audit", "verify"]);
    assert_eq!((&told["valid"], &told["first_bad"]), (&json!(true), &Value::Null), "{told}");
    let records = told["records"].as_u64().unwrap();
    assert!(records > 10, "{told}");

    // A copy with one byte changed, in the middle of its largest file. Nothing comes or goes while it is made.
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    let copy = world.folder.join("copy");
    fs::create_dir_all(&copy).unwrap();
    let mut chains = Vec::new();
    let files = fs::read_dir(world.folder.join("state")).unwrap().flatten();
    for entry in files.filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        fs::copy(entry.path(), copy.join(&name)).unwrap();
        if name.contains("audit") {
            chains.push(copy.join(name));
        }
    }
    let copied = gateway(&["audit", "verify", "--state-dir", copy.to_str().unwrap()]);
    assert_eq!((copied.code, &copied.json["valid"]), (0, &json!(true)), "{} {}", copied.json, copied.errors);
    let chain = chains.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).expect("an audit chain");
    let text = fs::read_to_string(&chain).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let line = lines[lines.len() / 2];
    fs::write(&chain, text.replace(line, &line.replacen("10.0.0", "10.9.0", 1).replacen("operator", "0perator", 1)))
        .unwrap();
    let told = gateway(&["audit", "verify", "--state-dir", copy.to_str().unwrap()]);
    assert_eq!((told.code, &told.json["valid"]), (1, &json!(false)), "{} {}", told.json, told.errors);
    assert!(told.json["first_bad"]["line"].as_u64().is_some(), "{}", told.json);
    assert!(told.json["first_bad"]["reason"].as_str().is_some(), "{}", told.json);
}
