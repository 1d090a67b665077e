//! What `gateway doctor` finds, on a host that is well and on one that is not.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use gateway_common::maps::{NEVER, Rule};
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary},
    kernel_view::{pin_as_earlier, tamper},
    pki::PKI,
    report,
    settings::Settings,
    world::{GATE, World, pin_folder},
};

/// Asks where the gateway is: interfaces are those of a namespace.
fn doctor(world: &World, daemon: &Daemon<'_>) -> (i32, Value) {
    let mut command: Command = world.gate.command(&binary());
    let output = command.arg("--config").arg(&daemon.config).args(["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[track_caller]
fn state(told: &Value, name: &str, expect: &str) {
    let check = told["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    assert_eq!(check.map(|check| &check["state"]), Some(&json!(expect)), "{name}: {told}");
}

/// Nothing that a gateway leaves behind is missed, by root or by somebody who may not read the keys.
fn before_the_first_start(world: &World) {
    let config = world.folder.join("first.toml");
    PKI.write(&world.folder);
    fs::write(&config, Settings::default().text(&world.folder, &pin_folder(&world.name))).unwrap();
    fs::set_permissions(world.folder.join("server.key"), Permissions::from_mode(0o600)).unwrap();
    for user in [0, 65_534] {
        let mut command: Command = world.gate.command("setpriv".as_ref());
        command.arg(format!("--reuid={user}")).args(["--clear-groups"]).arg(binary());
        let output = command.arg("--config").arg(&config).args(["doctor", "--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((output.status.code(), &told["failed"]), (Some(0), &json!(0)), "{user}: {told}");
        state(&told, "daemon", "warn");
        let key = format!("file {}", world.folder.join("server.key").display());
        let is_told = told["checks"].as_array().unwrap().iter().any(|check| check["name"] == key.as_str());
        assert_eq!(is_told, user != 0, "{user}: {told}");
    }
    // What a user may not look into is not said to be empty.
    let mut command: Command = world.gate.command("setpriv".as_ref());
    command.args(["--reuid=65534", "--clear-groups"]).arg(binary()).arg("--config").arg(&config);
    let output = command.args(["detach", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("root"), "{output:?}");
}

#[test]
fn what_is_off_is_named() {
    if !report::may_run("doctor") {
        return;
    }
    let world = World::new();
    before_the_first_start(&world);
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    daemon.done(&["block", "add", "10.0.0.72/30", "--for", "1h"]);
    let (code, told) = doctor(&world, &daemon);
    assert_eq!((code, &told["well"], &told["failed"]), (0, &json!(true), &json!(0)), "{told}");
    let xdp = format!("xdp {GATE}");
    for name in ["kernel", "rights", "bpffs", &xdp, "pins", "map BANS", "drift", "audit", "disk", "daemon", "proxy"] {
        state(&told, name, "ok");
    }

    daemon.done(&["detach"]);
    let (code, told) = doctor(&world, &daemon);
    assert_eq!((code, &told["well"]), (1, &json!(false)), "{told}");
    state(&told, &xdp, "fail");
    state(&told, "warning", "warn");
    daemon.done(&["attach"]);

    daemon.kill();
    let (code, told) = doctor(&world, &daemon);
    assert_eq!(code, 1, "{told}");
    state(&told, "daemon", "fail");
    for name in [&*xdp, "pins", "drift", "audit"] {
        state(&told, name, "ok");
    }
    // Without a guard nobody repairs what is changed behind its back.
    tamper(&world, "192.0.2.0/24", Some(Rule::new(Rule::DENY, 0, NEVER)));
    tamper(&world, "10.0.0.72/30", None);
    let earlier = pin_as_earlier(&world);
    let (_, told) = doctor(&world, &daemon);
    state(&told, "drift", "fail");
    assert!(told.to_string().contains("1 entry is missing in the kernel, 1 "), "{told}");
    state(&told, "earlier pins", "warn");
    daemon.start_again();
    assert!(!earlier.exists(), "maps of an earlier version stay");
    let (code, told) = doctor(&world, &daemon);
    assert_eq!(code, 0, "{told}");
    state(&told, "drift", "ok");
    daemon.kill();

    // Neither the daemon nor anybody else, for what a user may see.
    let elsewhere = daemon.cli(&["doctor"]);
    assert_eq!(elsewhere.code, 1);
    state(&elsewhere.json, &format!("interface {GATE}"), "fail");
}
