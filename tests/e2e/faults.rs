//! What goes wrong around the guard while it serves: maps and disk full, bpffs missing, an interface that is gone.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, Told},
    http1::Client,
    report,
    settings::Settings,
    small_disk::SmallDisk,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn a_full_map_refuses_the_next_block_and_says_so() {
    if !report::may_run("faults::full_map") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { guard: "max_bans = 4\nmax_rules = 2\n".to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    for number in 1..=4 {
        daemon.done(&["block", "add", &format!("203.0.113.{number}"), "--for", "1h"]);
    }
    assert!(!warns(&daemon.status(), "refused"), "{}", daemon.status());
    refused(&daemon.cli(&["block", "add", "10.0.0.66", "--for", "1h"]), "full", "guard.max_bans");
    for number in 1..=2 {
        daemon.done(&["block", "add", &format!("198.51.{number}.0/24"), "--for", "1h"]);
    }
    refused(&daemon.cli(&["block", "add", "198.51.3.0/24"]), "full", "guard.max_rules");
    assert!(warns(&daemon.status(), "2 blocks were refused"), "{}", daemon.status());

    // Nobody was evicted for it, one that is there can be made longer, and one that goes makes room.
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().map(Vec::len), Some(6));
    daemon.done(&["block", "add", "203.0.113.4", "--for", "2h"]);
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
    daemon.done(&["block", "del", "203.0.113.1"]);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn a_full_disk_makes_no_bans_and_keeps_serving() {
    if !report::may_run("faults::full_disk") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(&world.folder.join("state"), 4 << 20);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "203.0.113.1", "--for", "1h"]);
    disk.fill();

    // The first few may still find room in pages that are begun.
    let attempts = (1..=200).map(|number| format!("198.51.100.{number}"));
    let mut made = vec!["203.0.113.1".to_owned()];
    let mut refusal = None;
    for source in attempts {
        let told = daemon.cli(&["block", "add", &source, "--for", "1h"]);
        if told.code != 0 {
            refusal = Some((source, told));
            break;
        }
        made.push(source);
    }
    let (source, told) = refusal.expect("a full disk takes no ban");
    let code = told.json["code"].as_str().unwrap_or_default();
    assert!(matches!(code, "store_failed" | "audit_failed"), "{}", told.json);
    assert!(warns(&daemon.status(), "cannot be recorded"), "{}", daemon.status());
    let listed = |daemon: &Daemon<'_>| {
        let list = daemon.done(&["block", "list"]);
        let entries = list["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["source"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&daemon), made);
    assert_eq!(daemon.done(&["why", &source])["verdict"], "passed");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);

    disk.clear();
    until("the guard to notice that there is room", SOON, || {
        (!warns(&daemon.status(), "cannot be recorded")).then_some(())
    });
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    made.push("10.0.0.66".to_owned());
    assert_eq!(listed(&daemon), made);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    let audit = std::fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let verified = daemon.cli(&["audit", "verify"]);
    assert_eq!(verified.json["valid"], true, "{}\n{audit:?}", verified.json);
    assert!(audit.contains("\"event\":\"recovered\""), "{audit}");
    // What was not done is not told as done.
    assert!(!audit.contains(&format!("\"source\":\"{source}\"")), "{audit}");
    drop(daemon);
    drop(disk);
}

#[test]
fn a_guard_starts_on_a_full_disk_and_drops_what_it_dropped() {
    if !report::may_run("faults::full_disk_start") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(&world.folder.join("state"), 4 << 20);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    for stop in [Signal::SIGKILL, Signal::SIGTERM] {
        disk.fill();
        daemon.signal(stop);
        daemon.ended();
        // Whatever the end has left room for.
        disk.fill();
        daemon.start_again();
        let status = daemon.status();
        assert_eq!((&status["enforcement"], status["interfaces"][0]["adopted"].as_bool()), (&"xdp".into(), Some(true)));
        assert!(warns(&status, "cannot be recorded"), "{stop}: {status}");
        assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "{stop}");
        assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200, "{stop}");
        assert_eq!(daemon.cli(&["block", "add", "203.0.113.1"]).code, 1, "{stop}");
        disk.clear();
        until("the guard to notice that there is room", SOON, || {
            (!warns(&daemon.status(), "cannot be recorded")).then_some(())
        });
        daemon.done(&["block", "add", "203.0.113.1"]);
        let verified = daemon.cli(&["audit", "verify"]);
        assert_eq!(verified.json["valid"], true, "{stop}: {}", verified.json);
    }
    let audit = std::fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"event\":\"start\"").count(), 3, "{audit}");
    drop(daemon);
    drop(disk);
}

/// A mount namespace of the gateway's own, without a bpffs, and then the gateway.
const WITHOUT_BPFFS: [&str; 6] =
    ["unshare", "--mount", "--propagation=private", "sh", "-c", "umount -a -t bpf; exec \"$0\" \"$@\""];
/// As above, and no right to mount one.
const WITHOUT_MOUNT: [&str; 6] = [
    "unshare",
    "--mount",
    "--propagation=private",
    "sh",
    "-c",
    "umount -a -t bpf; exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" \"$@\"",
];

#[test]
fn a_missing_bpffs_is_mounted() {
    if !report::may_run("faults::bpffs") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start_under(&world, &Settings::default(), &WITHOUT_BPFFS);
    let status = daemon.status();
    assert_eq!(status["enforcement"], "xdp", "{status}");
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
}

#[test]
fn where_bpffs_cannot_be_mounted_the_command_is_named_and_bans_are_enforced_at_accept() {
    if !report::may_run("faults::no_bpffs") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start_under(&world, &Settings::default(), &WITHOUT_MOUNT);
    let status = daemon.status();
    assert_eq!(status["enforcement"], "accept", "{status}");
    assert!(warns(&status, "mount -t bpf -o mode=0700 bpf /sys/fs/bpf"), "{status}");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).get("/health", "").is_err());
}

#[test]
fn an_interface_that_goes_is_told_and_guarded_again_when_it_returns() {
    if !report::may_run("faults::interface") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));

    world.unplug();
    let start = Instant::now();
    until("a warning that the interface is gone", SOON, || warns(&daemon.status(), "gate0").then_some(()));
    report::note(&format!("faults: a warning {:?} after the interface went", start.elapsed()));
    // The guard itself goes on: what is decided meanwhile counts when the interface is back.
    daemon.done(&["block", "add", "10.0.0.100", "--for", "1h"]);
    daemon.done(&["block", "del", "10.0.0.66"]);

    world.plug();
    let start = Instant::now();
    until("the guard to be attached again", SOON, || {
        let status = daemon.status();
        (status["enforcement"] == "xdp" && !warns(&status, "no network interface")).then_some(())
    });
    report::note(&format!("faults: attached again {:?} after the interface was back", start.elapsed()));
    assert!(Client::new(&world, support::world::bystander(0)).is_ignored(SILENCE));
    for address in [GOOD_V4, ATTACKER_V4] {
        assert_eq!(Client::new(&world, address).get("/health", "").unwrap().status, 200, "{address}");
    }
    let audit = std::fs::read_to_string(Path::new(&world.folder).join("state/audit.jsonl")).unwrap();
    assert!(audit.contains("\"attached_again\":[\"gate0\"]"), "{audit}");
}

#[track_caller]
fn refused(told: &Told, code: &str, hint: &str) {
    assert_eq!((told.code, told.json["code"].as_str()), (1, Some(code)), "{}", told.json);
    assert!(told.json["message"].as_str().is_some_and(|message| message.contains(hint)), "{}", told.json);
}

fn warns(status: &Value, text: &str) -> bool {
    let warnings = status["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning.as_str().is_some_and(|warning| warning.contains(text)))
}
