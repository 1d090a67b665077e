//! What survives kill -9: the kernel goes on dropping without a guard, a new guard takes over what it finds, and a new
//! proxy serves on the same listeners.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, send},
    http1::Client,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, ATTACKER_V6, GOOD_V4, World, bystander},
};

const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn the_kernel_drops_without_a_guard_and_a_new_guard_takes_over() {
    if !report::may_run("crash::guard") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "one"]);
    daemon.done(&["block", "add", "fd00:0:0:2::/64", "--forever", "--reason", "prefix"]);
    daemon.done(&["block", "add", "10.0.0.100/31", "--for", "1h", "--reason", "network"]);
    daemon.done(&["block", "add", "10.0.0.110", "--for", "2s", "--reason", "soon over"]);
    daemon.done(&["allow", "add", "10.0.0.2", "--reason", "good"]);
    let blocked = [ATTACKER_V4, ATTACKER_V6, bystander(0), bystander(1)];
    let ignored = || {
        for address in blocked {
            let answer = Client::new(&world, address).tcp(SILENCE).map(|_stream| ()).map_err(|error| error.kind());
            assert_eq!(answer, Err(io::ErrorKind::TimedOut), "{address} gets something back");
        }
    };
    ignored();
    let before = daemon.done(&["block", "list"]);

    daemon.kill();
    // A host without a listener answers a SYN with a reset: silence is the kernel program's doing.
    ignored();

    let (over, knocks) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let gap = scope.spawn(|| {
            let attacker = Client::new(&world, ATTACKER_V4);
            while !over.load(Ordering::Relaxed) {
                let answer = attacker.tcp(Duration::from_millis(20)).map(|_stream| ()).map_err(|error| error.kind());
                assert_eq!(answer, Err(io::ErrorKind::TimedOut), "a gap after {knocks:?} knocks");
                knocks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| daemon.start_again()));
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        gap.join().unwrap();
        restarted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report::note(&format!("crash: a new guard serves after {took:?}; {knocks:?} knocks meanwhile, none answered"));
    });

    let status = daemon.status();
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    assert_eq!(status["enforcement"], "xdp", "{status}");
    let after = daemon.done(&["block", "list"]);
    let of = |list: &serde_json::Value, source: &str| {
        let entries = list["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["source"] == source).cloned().unwrap_or_else(|| panic!("{source}: {list}"))
    };
    for source in ["10.0.0.66", "fd00:0:0:2::/64", "10.0.0.100/31"] {
        let (before, after) = (of(&before, source), of(&after, source));
        for same in ["id", "reason", "actor", "mode", "started"] {
            assert_eq!(before[same], after[same], "{same} of {source}");
        }
        assert!(after["packets"].as_u64() > before["packets"].as_u64(), "{source} is not counted on: {after}");
        let (had, has) = (before["remaining_seconds"].as_u64(), after["remaining_seconds"].as_u64());
        assert_eq!(had.is_some(), has.is_some(), "{source}: {before} {after}");
        if let (Some(had), Some(has)) = (had, has) {
            assert!(has <= had && had - has < 60, "{source} had {had} s left, now {has} s");
        }
    }
    ignored();
    assert_eq!(daemon.done(&["allow", "list"])["entries"].as_array().map(Vec::len), Some(1));
    until("the short ban to end as it would have", SOON, || {
        Client::new(&world, bystander(10)).get("/health", "").ok().filter(|response| response.status == 200)
    });
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    // What was taken over can be lifted.
    daemon.done(&["block", "del", "10.0.0.66"]);
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn a_new_proxy_serves_on_the_same_listeners() {
    if !report::may_run("crash::proxy") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let connects = scope.spawn(|| {
            let client = Client::new(&world, bystander(0));
            let mut connects = 0;
            while !over.load(Ordering::Relaxed) {
                client.tcp(SOON).unwrap_or_else(|error| panic!("refused after {connects}: {error}"));
                connects += 1;
                pause(Duration::from_millis(2));
            }
            connects
        });
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let client = Client::new(&world, GOOD_V4);
            assert_eq!(client.get("/health", "").unwrap().status, 200);
            let old = daemon.proxy_pid();
            send(old, Signal::SIGKILL);
            let start = Instant::now();
            until("service to be back", SOON, || {
                client.get("/health", "").ok().filter(|response| response.status == 200)
            });
            report::note(&format!("crash: service is back {:?} after kill -9 of the proxy", start.elapsed()));
            let new = daemon.proxy_pid_other_than(old);
            assert_ne!(new, old);
            assert_eq!(daemon.status()["proxy_restarts"], 1);
        }));
        over.store(true, Ordering::Relaxed);
        let connects: u32 = connects.join().unwrap();
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report::note(&format!("crash: {connects} connects meanwhile, none refused"));
    });
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
}
