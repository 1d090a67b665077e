//! Commands of operators over the admin listener: each token does what its roles allow, and no more; the observer between
//! does nothing by itself.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    admin,
    daemon::{Daemon, send},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::World,
};

fn settings(more: &str) -> Settings {
    Settings { interfaces: Vec::new(), more: format!("{}{more}", admin::TABLE), ..Settings::default() }
}

/// Makes a token.
#[track_caller]
fn new(daemon: &Daemon<'_>, name: &str, roles: &[&str], more: &[&str]) -> String {
    let mut arguments = vec!["admin-token", "new", "--name", name];
    arguments.extend(roles.iter().flat_map(|role| ["--role", role]));
    arguments.extend(more);
    let made = daemon.done(&arguments);
    made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// The status and the answer of a command.
#[track_caller]
fn gives(world: &World, token: &str, name: &str, arguments: &Value) -> (u16, Value) {
    let text = if arguments.is_null() { String::new() } else { arguments.to_string() };
    let answer = until("the observer", SOON, || admin::command(admin::connect(world).ok()?, name, token, &text).ok());
    let said = serde_json::from_slice(&answer.body).unwrap_or_else(|_text| answer.text().into());
    (answer.status, said)
}

fn chain(world: &World) -> String {
    fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap()
}

#[test]
fn a_token_does_what_its_roles_allow() {
    if !report::may_run("admin-tokens") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(""));
    let watcher = new(&daemon, "watcher", &["view"], &[]);
    let on_call = new(&daemon, "on-call", &["view", "block"], &["--expires", "1h"]);
    let lead = new(&daemon, "lead", &["view", "block", "allow", "configure"], &[]);
    let check = |token: &str, name: &str, arguments: Value, status: u16, code: &str| {
        let (is, said) = gives(&world, token, name, &arguments);
        assert_eq!((is, said["code"].as_str().unwrap_or_default()), (status, code), "{name} {arguments}: {said}");
        said
    };
    let block = json!({"source": "203.0.113.7", "seconds": 600, "reason": "by hand", "shadow": false});
    let block_of = json!({"source": "203.0.113.7"});

    for view in ["status", "top", "block_list", "allow_list", "shadow_report", "admin_token_list"] {
        check(&watcher, view, Value::Null, 200, "");
    }
    let status = check(&watcher, "status", json!({}), 200, "");
    assert!(status["answer"] == "status" && status["proxy_pid"].is_u64(), "{status}");
    check(&watcher, "why", json!({"address": "203.0.113.7"}), 200, "");
    check(&watcher, "block_add", block.clone(), 403, "denied");
    check(&watcher, "reload", Value::Null, 403, "denied");
    let who = check(&on_call, "whoami", Value::Null, 200, "");
    assert_eq!((&who["actor"], &who["roles"]), (&json!("token:on-call"), &json!(["view", "block"])), "{who}");

    check(&on_call, "block_add", block.clone(), 200, "");
    let entry = &daemon.done(&["block", "list"])["entries"][0];
    assert_eq!((&entry["source"], &entry["actor"]), (&json!("203.0.113.7"), &json!("token:on-call")), "{entry}");
    // What lets somebody through is another role, by whatever way.
    check(&on_call, "block_del", block_of.clone(), 403, "denied");
    let mut shorter = block;
    shorter["seconds"] = 1.into();
    check(&on_call, "block_add", shorter, 403, "denied");
    check(&lead, "block_del", block_of, 200, "");
    check(&lead, "reload", Value::Null, 200, "");
    check(&lead, "block_add", json!({"source": "127.0.0.1", "reason": "x", "shadow": false}), 409, "special_address");

    // No token makes, ends or follows anything.
    let other = json!({"name": "other", "roles": ["view"], "seconds": 60});
    check(&lead, "admin_token_new", other, 403, "denied");
    check(&lead, "admin_token_revoke", json!({"name": "watcher"}), 403, "denied");
    check(&lead, "watch", Value::Null, 403, "denied");
    check(&lead, "status", json!({"more": 1}), 400, "bad_request");
    check(&lead, "status", json!({"ask": "reload"}), 400, "bad_request");
    check(&lead, "no_such_command", Value::Null, 400, "bad_request");
    check("gwat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "status", Value::Null, 401, "bad_token");

    // Nothing of a token is kept but its hash.
    let kept = fs::read_to_string(world.folder.join("state/admin-tokens.json")).unwrap();
    let mode = fs::metadata(world.folder.join("state/admin-tokens.json")).unwrap().permissions().mode();
    let text = [kept, chain(&world), fs::read_to_string(world.folder.join("stderr.log")).unwrap()].concat();
    assert_eq!(mode & 0o777, 0o600);
    for token in [&watcher, &on_call, &lead] {
        assert!(!text.contains(&**token) && !text.contains(&token[5..]), "{token}");
    }
    for told in [
        r#""actor":"token:on-call","by":["token on-call"],"command":"block_add","from":"127.0.0.1""#,
        r#""event":"denied","actor":"token:watcher","command":"block_add","from":"127.0.0.1","lacks":["block"]"#,
        r#""event":"admin_token","actor":"operator:0","roles":["view"]"#,
        r#""why":"unknown token""#,
    ] {
        assert!(chain(&world).contains(told), "{told} is not in:\n{}", chain(&world));
    }
    let listed = daemon.done(&["admin-token", "list"]);
    let names: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["lead", "on-call", "watcher"], "{listed}");

    // It outlasts the guard; revoked, it is over at once.
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    daemon.start_again();
    check(&on_call, "status", Value::Null, 200, "");
    daemon.done(&["admin-token", "revoke", "on-call"]);
    check(&on_call, "status", Value::Null, 401, "bad_token");
    assert_eq!(daemon.cli(&["admin-token", "revoke", "on-call"]).code, 1);
    let brief = new(&daemon, "brief", &["view"], &["--expires", "1s"]);
    let expired = until("its end", SOON, || {
        let (status, said) = gives(&world, &brief, "status", &Value::Null);
        (status == 401).then_some(said)
    });
    assert!(expired["message"].as_str().is_some_and(|message| message.contains("brief expired")), "{expired}");
    // Guesses fill neither log nor chain, and keep nobody out.
    let guessed: Vec<u16> = (0..40).map(|_| gives(&world, "gwat_guess", "status", &Value::Null).0).collect();
    assert!(guessed.contains(&401) && guessed.contains(&429), "{guessed:?}");
    check(&watcher, "status", Value::Null, 200, "");
}

#[test]
fn without_an_admin_listener_there_are_no_tokens() {
    if !report::may_run("admin-tokens") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    let told = daemon.cli(&["admin-token", "new", "--name", "ada", "--role", "view"]);
    assert_eq!((told.code, &told.json["code"]), (1, &json!("no_admin_listener")), "{}", told.json);
}

#[test]
fn m01_the_observer_only_relays() {
    if !report::may_run("admin-tokens") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let token = new(&daemon, "lead", &["view", "block", "allow", "configure"], &[]);
    assert_eq!(gives(&world, &token, "status", &Value::Null).0, 200);
    let pid = || daemon.status()["observer_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());

    // Stopped, it holds up nobody but who asks by it.
    let first = pid().unwrap();
    send(first, Signal::SIGSTOP);
    let waiting: Vec<_> = (0..12).map(|_| admin::connect(&world).unwrap()).collect();
    pause(Duration::from_millis(200));
    daemon.done(&["block", "add", "203.0.113.8"]);
    send(first, Signal::SIGCONT);
    drop(waiting);
    assert_eq!(gives(&world, &token, "status", &Value::Null).0, 200);

    // Another one relays as well.
    send(first, Signal::SIGKILL);
    until("another observer", SOON, || pid().filter(|pid| *pid != first));
    until("its relay", SOON, || (gives(&world, &token, "status", &Value::Null).0 == 200).then_some(()));
}
