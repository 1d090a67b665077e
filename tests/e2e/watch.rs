//! What a watcher is told, through the real socket.

use std::{
    net::IpAddr,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use gateway::guard::kernel::attached_program;
use serde_json::{Value, json};
use support::{
    child_lines::ChildLines,
    daemon::{Daemon, binary, send},
    flood::Flood,
    report,
    settings::Settings,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GATE, GATEWAY_V4, GOOD_V4, World},
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
        let mut lines = ChildLines::of(&mut child);
        let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(first, json!({"event": "watching"}));
        (child, lines)
    };
    let (mut counting, lines) = start(&["--count", "2"]);
    let (mut endless, mut others) = start(&[]);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "seen"]);
    daemon.done(&["block", "del", "10.0.0.66"]);
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["event"], &told[0]["source"]), (&json!("ban"), &json!("10.0.0.66")), "{told:?}");
    assert_eq!(told[1]["event"], "unban", "{told:?}");
    assert!(told[0]["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{told:?}");
    assert!(counting.wait().unwrap().success());

    assert!(others.next().unwrap().contains("10.0.0.66"), "every watcher is told");
    send(endless.id(), nix::sys::signal::Signal::SIGINT);
    assert_eq!(endless.wait().unwrap().code(), Some(0), "Ctrl-C is how one ends it");
    assert_eq!(daemon.done(&["block", "list"])["entries"], json!([]));
}

#[test]
fn d05_packets_are_traced_while_somebody_watches_and_no_ban_is_interrupted() {
    if !report::may_run("watch-kernel") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "seen"]);
    let attached = || world.gate.enter(|| attached_program(GATE).unwrap());
    let untraced = attached();
    let watch = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&daemon.config).args(["watch", "--json", "--kernel"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = ChildLines::of(&mut child);
        assert!(lines.next().unwrap().contains("watching"));
        (child, lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()))
    };
    let IpAddr::V4(attacker) = ATTACKER_V4 else { unreachable!("it is an IPv4 address") };
    let (mut child, told) = watch(&["10.0.0.66"]);
    until("the traced program to be attached", SOON, || (attached() != untraced).then_some(()));
    let seconds = Duration::from_secs(3);
    let (sent, swaps) = thread::scope(|scope| {
        let flood = scope.spawn(|| Flood::from_one(attacker, 443).at(20_000, seconds).send(&world));
        // Others come and go meanwhile: the program is swapped under the flood once the first has gone.
        until("lines", SOON, || (daemon.packets("blocked") > 10_000).then_some(()));
        send(child.id(), nix::sys::signal::Signal::SIGINT);
        let mut swaps = 0;
        while !flood.is_finished() {
            let (mut other, _lines) = watch(&[]);
            pause(Duration::from_millis(20));
            send(other.id(), nix::sys::signal::Signal::SIGINT);
            other.wait().unwrap();
            swaps += 1;
        }
        (flood.join().unwrap(), swaps)
    });
    assert!(child.wait().unwrap().success());
    let told: Vec<Value> = told.collect();
    // The last of them may still be in a queue.
    until("all packets to be counted", SOON, || (daemon.packets("blocked") >= sent.packets).then_some(()));
    assert_eq!(daemon.packets("blocked"), sent.packets, "none got through in {swaps} swaps");
    for (name, expect) in [
        ("event", json!("trace")),
        ("verdict", json!("blocked")),
        ("source", json!("10.0.0.66")),
        ("protocol", json!("tcp")),
        ("port", json!(443)),
        ("interface", json!(GATE)),
        ("reason", json!("seen")),
    ] {
        assert!(told.iter().all(|packet| packet[name] == expect), "{name}: {told:?}");
    }
    let stand: u64 = told.iter().map(|packet| packet["one_in"].as_u64().unwrap()).sum();
    assert!(told.len() < 500 && stand > 1_000 && stand <= sent.packets, "{} lines stand for {stand}", told.len());
    until("the other program to be attached again", SOON, || (attached() == untraced).then_some(()));

    // Passed packets, and a setting that comes and goes with reloads.
    let (mut passed, mut lines) = watch(&[&GOOD_V4.to_string(), "--verdict", "passed", "--count", "1"]);
    let knock = |from| drop(world.outside.knock(from, (GATEWAY_V4, 443).into()).unwrap());
    until("the trace of passed packets", SOON, || (attached() != untraced).then_some(()));
    knock(GOOD_V4);
    let line = lines.next().unwrap();
    assert_eq!((&line["verdict"], &line["source"]), (&json!("passed"), &json!(GOOD_V4.to_string())), "{line}");
    assert!(passed.wait().unwrap().success());
    until("the trace to end", SOON, || (attached() == untraced).then_some(()));
    daemon.edit("[guard]\n", "[guard]\ntrace = \"drops\"\ntrace_source = \"10.0.0.0/24\"\n");
    daemon.done(&["reload"]);
    until("the setting's trace", SOON, || (attached() != untraced).then_some(()));
    knock(ATTACKER_V4);
    until("a line in the log", SOON, || daemon.standard_error().contains("traced a packet").then_some(()));
    daemon.edit("trace = \"drops\"\ntrace_source = \"10.0.0.0/24\"\n", "");
    daemon.done(&["reload"]);
    until("the setting's trace to end", SOON, || (attached() == untraced).then_some(()));
}

#[test]
fn packets_are_told_as_they_are_dropped() {
    if !report::may_run("watch-packets") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "seen"]);
    let knock = || drop(world.outside.knock(ATTACKER_V4, (GATEWAY_V4, 443).into()).unwrap());
    // Before anybody watches: not to be shown later.
    knock();
    until("the packet before", SOON, || (daemon.packets("blocked") > 0).then_some(()));
    pause(Duration::from_millis(20));
    daemon.done(&["block", "add", "10.0.0.67", "--for", "1h"]);
    let begun = daemon.done(&["why", "10.0.0.67"])["entry"]["started"].clone();
    let watch = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&daemon.config).args(["watch", "--json"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = ChildLines::of(&mut child);
        assert!(lines.next().unwrap().contains("watching"));
        (child, lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()))
    };
    let filters = ["--packets", "--source", "10.0.0.0/24", "--verdict", "blocked"];
    let (mut first, mut told) = watch(&[&filters[..], &["--count", "1"]].concat());
    let (mut decisions, mut decided) = watch(&["--decisions", "--count", "1"]);
    let packet = thread::scope(|scope| {
        let told = scope.spawn(|| told.next().unwrap());
        until("a packet to be told of", SOON, || {
            knock();
            pause(Duration::from_millis(50));
            told.is_finished().then_some(())
        });
        told.join().unwrap()
    });
    for (name, expect) in [
        ("event", json!("packet")),
        ("verdict", json!("blocked")),
        ("source", json!("10.0.0.66")),
        ("protocol", json!("tcp")),
        ("port", json!(443)),
        ("interface", json!(GATE)),
        ("ban", json!(1)),
        ("reason", json!("seen")),
    ] {
        assert_eq!(packet[name], expect, "{packet}");
    }
    assert!(packet["time"].as_str() > begun.as_str(), "{packet} is of before {begun}");
    assert!(first.wait().unwrap().success());

    // Of a flood a few are told, and how many each stands for.
    let (mut flooded, told) = watch(&[&filters[..], &["--count", "20"]].concat());
    let IpAddr::V4(attacker) = ATTACKER_V4 else { unreachable!("it is an IPv4 address") };
    let sent = Flood::from_one(attacker, 443).at(20_000, Duration::from_millis(1_500)).send(&world);
    let stand: Vec<u64> = told.map(|packet| packet["one_in"].as_u64().unwrap()).collect();
    assert_eq!(stand.len(), 20);
    assert!(stand.iter().any(|many| *many > 10), "{stand:?} of {sent:?}");
    assert!(flooded.wait().unwrap().success());

    daemon.done(&["block", "del", "10.0.0.66"]);
    assert_eq!(decided.next().unwrap()["event"], "unban", "no packet before it");
    assert!(decisions.wait().unwrap().success());
}
