//! What becomes of bans and of the API when files of the state folder are damaged, gone, or cannot be written.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    time::Duration,
};

use support::{
    admin,
    daemon::Daemon,
    http1::Client,
    report,
    settings::Settings,
    small_disk::SmallDisk,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

const SILENCE: Duration = Duration::from_millis(200);

/// The attacker is dropped, the good client is served.
#[track_caller]
fn enforced(world: &World, name: &str) {
    assert!(Client::new(world, ATTACKER_V4).is_ignored(SILENCE), "{name}: a banned client is answered");
    assert_eq!(Client::new(world, GOOD_V4).get("/health", "").unwrap().status, 200, "{name}");
}

#[track_caller]
fn warns(daemon: &Daemon<'_>, part: &str) {
    let status = daemon.status();
    assert!(status["warnings"].to_string().contains(part), "no {part:?}: {}", status["warnings"]);
}

fn cut(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(9_000).unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

/// Opening it waits for somebody at the other end.
fn pipe(path: &Path) {
    remove(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn no_file_that_is_lost_lifts_a_ban_or_keeps_the_api_down() {
    if !report::may_run("state::lost") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "kept"]);
    daemon.done(&["block", "add", "198.51.100.0/24", "--for", "1h"]);
    daemon.done(&["allow", "add", "192.0.2.7"]);
    let state = world.folder.join("state");
    for (name, spoil, says) in [
        ("bans.db", cut as fn(&Path), "set aside"),
        ("bans.db", remove, "is missing"),
        ("bans.db", |path| fs::write(path, "rubbish").unwrap(), "set aside"),
        ("bans.db", pipe, "no regular file"),
        ("audit.key", remove, "another key signs"),
        ("audit.key", |path| fs::write(path, "").unwrap(), "another key signs"),
        ("audit.jsonl", remove, "chain is broken"),
        ("audit.key", pipe, "no regular file"),
        ("audit.pub", pipe, "no regular file"),
        ("audit.jsonl", pipe, "no regular file"),
        ("lock", pipe, ""),
        (
            "lock",
            |path| {
                remove(path);
                fs::create_dir(path).unwrap();
            },
            "",
        ),
    ] {
        // Ended in order, so that the store is one file.
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.ended();
        spoil(&state.join(name));
        daemon.start_again();
        enforced(&world, name);
        warns(&daemon, says);
        let why = daemon.done(&["why", "10.0.0.66"]);
        assert_eq!(why["verdict"], "blocked", "{name}: {why}");
        assert_eq!(daemon.done(&["why", "198.51.100.9"])["verdict"], "blocked", "{name}");
        assert_eq!(daemon.done(&["why", "192.0.2.7"])["verdict"], "allowed", "{name}");
        let verified = daemon.cli(&["audit", "verify"]);
        assert!(says.is_empty() || !verified.json["notes"].as_array().unwrap().is_empty(), "{name}: {}", verified.json);
    }

    // While it runs.
    for ending in ["bans.db", "bans.db-wal", "bans.db-shm"] {
        fs::remove_file(state.join(ending)).unwrap_or_default();
    }
    until("the store to be made anew", SOON, || {
        daemon.status()["warnings"].to_string().contains("made anew").then_some(())
    });
    daemon.kill();
    daemon.start_again();
    enforced(&world, "gone while running");
    assert_eq!(daemon.done(&["why", "10.0.0.66"])["entry"]["reason"], "kept");
    daemon.done(&["block", "del", "10.0.0.66"]);
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn a_disk_that_cannot_be_written_lets_bans_be_lifted_and_keeps_the_rest() {
    if !report::may_run("state::unwritable") {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::mount(&world.folder.join("state"), 4 << 20);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    for source in ["10.0.0.66", "10.0.0.100", "10.0.0.101", "198.51.100.0/24"] {
        daemon.done(&["block", "add", source, "--for", "1h"]);
    }
    let served = |number: u8| Client::new(&world, bystander(number)).get("/health", "").is_ok();

    disk.fill();
    // Whatever was begun is full, too.
    let full = (1..=200).any(|number| daemon.cli(&["block", "add", &format!("203.0.113.{number}")]).code != 0);
    assert!(full, "a full disk takes no ban");
    let told = daemon.done(&["block", "del", "10.0.0.100"]);
    assert!(told["message"].as_str().unwrap().contains("could not be recorded"), "{told}");
    // What still has to be recorded is no lock that is worth waiting for.
    let list = world.folder.join("list");
    fs::write(&list, "10.0.0.103\n").unwrap();
    let told = daemon.cli(&["block", "import", list.to_str().unwrap(), "--feed", "late"]);
    let message = told.json["message"].as_str().unwrap_or_default();
    assert_eq!((told.code, &told.json["code"]), (1, &"store_failed".into()), "{} {}", told.json, told.errors);
    assert!(
        message.starts_with("nothing was changed") && message.matches("cannot be written").count() < 2,
        "{message}"
    );
    assert!(served(0) && !served(1), "a false ban is lifted, and no other");
    enforced(&world, "full");
    disk.clear();
    until("what was lifted to be recorded", SOON, || {
        (!daemon.status()["warnings"].to_string().contains("cannot be recorded")).then_some(())
    });
    assert_eq!(daemon.status()["feeds"].as_array().map(Vec::len), Some(0), "an import that failed is in force");
    daemon.kill();
    daemon.start_again();
    assert!(served(0) && !served(1), "what was lifted comes back");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);

    daemon.kill();
    disk.protect(true);
    daemon.start_again();
    enforced(&world, "read-only");
    assert!(served(0) && !served(1));
    warns(&daemon, "cannot be");
    assert_ne!(daemon.cli(&["block", "add", "203.0.113.250"]).code, 0, "a ban that cannot be recorded");
    daemon.done(&["block", "del", "10.0.0.101"]);
    assert!(served(1));
    disk.protect(false);
    until("decisions to be recorded again", SOON, || {
        (!daemon.status()["warnings"].to_string().contains("cannot be recorded")).then_some(())
    });
    daemon.done(&["block", "add", "203.0.113.250"]);
    daemon.kill();
    daemon.start_again();
    enforced(&world, "writable again");
    assert!(served(1), "what was lifted comes back");
    assert_eq!(daemon.done(&["why", "203.0.113.250"])["verdict"], "blocked");
    let verified = daemon.cli(&["audit", "verify"]);
    assert_eq!(verified.json["valid"], true, "{}", verified.json);
    drop(daemon);
    drop(disk);
}

/// Each of the observer's files by itself and both: what is whole is used, and what is not is set aside and told.
#[test]
fn what_the_observer_keeps_is_never_lost_in_silence() {
    if !report::may_run("state::observer") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let alert = "[[alert]]\nname = \"blocked\"\nmetric = \"gateway_blocks\"\ncondition = \">= 1\"\n";
    let more = format!("{}{alert}[anomalies]\n", admin::TABLE);
    let mut daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), more, ..Settings::default() });
    let silences = |daemon: &Daemon<'_>| {
        let listed = until("the alerts", SOON, || Some(daemon.cli(&["alert", "list"])).filter(|said| said.code == 0));
        listed.json["silences"].as_array().unwrap().len()
    };
    let folder = world.folder.join("state/observer");
    for (round, (spoil, is_kept)) in (0..).zip([
        (&["alerts.0"][..], true),
        (&["alerts.1"], true),
        (&["alerts.0", "alerts.1"], false),
        (&["usual.0", "usual.1"], true),
    ]) {
        // Two changes, one in each of the files.
        for part in ["first", "second"] {
            let reason = format!("{part} of {round}");
            daemon.done(&["alert", "silence", "blocked", "--for", "1h", "--reason", &reason]);
            until("the silence on the disk", SOON, || {
                let held = ["alerts.0", "alerts.1"].map(|name| fs::read(folder.join(name)).unwrap_or_default());
                held.iter().any(|text| String::from_utf8_lossy(text).contains(&reason)).then_some(())
            });
        }
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.ended();
        for name in spoil {
            let path = folder.join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        }
        daemon.start_again();
        assert_eq!(silences(&daemon) > 0, is_kept, "{spoil:?}");
        for name in spoil {
            warns(&daemon, &format!("{name} is damaged, and was set aside as"));
            let aside = format!("{name}.damaged-");
            let found =
                fs::read_dir(&folder).unwrap().flatten().any(|it| it.file_name().to_string_lossy().starts_with(&aside));
            assert!(found, "{name}");
        }
        assert!(daemon.standard_error().contains("ERROR"), "{spoil:?}");
    }
}
