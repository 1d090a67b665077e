//! What a watcher is told, through the real socket.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary, send},
    report,
    settings::Settings,
    world::World,
};

#[test]
fn decisions_are_told_as_they_are_made() {
    if !report::may_run("watch") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings::default());
    let start = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&daemon.config).args(["watch", "--json"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(first, json!({"event": "watching"}));
        (child, lines)
    };
    let (mut counting, lines) = start(&["--count", "2"]);
    let (mut endless, mut others) = start(&[]);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "seen"]);
    daemon.done(&["block", "del", "10.0.0.66"]);
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["event"], &told[0]["source"]), (&json!("ban"), &json!("10.0.0.66")), "{told:?}");
    assert_eq!(told[1]["event"], "unban", "{told:?}");
    assert!(told[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{told:?}");
    assert!(counting.wait().unwrap().success());

    assert!(others.next().unwrap().unwrap().contains("10.0.0.66"), "every watcher is told");
    send(endless.id(), nix::sys::signal::Signal::SIGINT);
    assert_eq!(endless.wait().unwrap().code(), Some(0), "Ctrl-C is how one ends it");
    assert_eq!(daemon.done(&["block", "list"])["entries"], json!([]));
}
