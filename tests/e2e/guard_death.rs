//! What the death of the guard leaves: everything but the guard (M02).

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use support::{
    admin,
    daemon::{Daemon, send},
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

use super::alerts;

const SILENCE: Duration = Duration::from_millis(200);
const ROUNDS: u8 = 5;

#[test]
fn m02_a_killed_guard_is_not_noticed_by_clients() {
    if !report::may_run("guard death") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: bad_tokens(3, "1h"), ..Settings::default() });
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let mut streamed = Client::new(&world, bystander(9)).connect().unwrap();
    streamed.write(&Request::new("GET", "/stream?600").bytes()).unwrap();
    assert_eq!(streamed.head().unwrap().status, 200);

    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let kept = scope.spawn(|| {
            let mut kept = Client::new(&world, GOOD_V4).connect().unwrap();
            while !over.load(Ordering::Relaxed) {
                let answer = kept.exchange(&Request::new("GET", "/health"));
                assert_eq!(answer.unwrap_or_else(|error| panic!("a kept connection: {error}")).status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let new = scope.spawn(|| {
            let client = Client::new(&world, bystander(0));
            while !over.load(Ordering::Relaxed) {
                let answer = client.get("/health", "").unwrap_or_else(|error| panic!("a new connection: {error}"));
                assert_eq!(answer.status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let proxy = daemon.status()["proxy_pid"].clone();
            for round in 1..=ROUNDS {
                let guard = daemon.guard_pid();
                send(guard, Signal::SIGKILL);
                // What it was asked in its last moment would die with it.
                until("the guard to be gone", SOON, || (!lives(guard)).then_some(()));
                // Nobody decides now. Who offends is banned by the next guard, and not forgotten meanwhile.
                let offender = Client::new(&world, bystander(round));
                for _ in 0..3 {
                    assert_eq!(offender.get("/items/7", &tokens::forged("mallory", &[])).unwrap().status, 401);
                }
                assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "round {round}: a ban has a gap");
                let next = daemon.guard_pid_other_than(guard);
                until("the ban that was asked for without a guard", SOON, || {
                    offender.is_ignored(SILENCE).then_some(())
                });
                let status = daemon.status();
                assert_eq!((&status["proxy_pid"], &status["guard_restarts"]), (&proxy, &round.into()), "{status}");
                assert_ne!(guard, next);
            }
        }));
        over.store(true, Ordering::Relaxed);
        let served_all = [kept.join(), new.join()];
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served_all.into_iter().for_each(|load| load.unwrap());
    });
    assert!(streamed.chunk().unwrap().is_some(), "a download was cut");
    report::note(&format!("guard death: {served:?} requests in {ROUNDS} deaths, none failed"));

    // What was decided lasts, and what is decided later is in force.
    let listed = daemon.done(&["block", "list"])["entries"].as_array().map(Vec::len);
    assert_eq!(listed, Some(1 + usize::from(ROUNDS)));
    daemon.done(&["block", "del", "10.0.0.66"]);
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn m02_a_guard_after_another_comes_up_with_what_was_in_force() {
    if !report::may_run("guard death: configuration") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings =
        Settings { interfaces: Vec::new(), guard: "allow = [\"10.0.0.90\"]".to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    daemon.edit("10.0.0.90", "10.0.0.91");
    daemon.done(&["reload"]);
    let allowed = || daemon.done(&["allow", "list"])["entries"][0]["source"].clone();
    let (since, proxy) = (daemon.status()["config_since"].clone(), daemon.status()["proxy_pid"].clone());
    assert_eq!(allowed(), "10.0.0.91");

    // Neither what is on disk now, nor nothing at all.
    let whole = fs::read_to_string(&daemon.config).unwrap();
    for broken in [whole.replace("10.0.0.91", "10.0.0.92"), "[guard".to_owned()] {
        let guard = daemon.guard_pid();
        fs::write(&daemon.config, broken).unwrap();
        send(guard, Signal::SIGKILL);
        until("another guard", SOON, || {
            let socket = world.folder.join("control.sock");
            let told = support::daemon::gateway(&["--socket", socket.to_str().unwrap(), "status"]);
            told.json["guard_pid"].as_u64().filter(|pid| *pid != u64::from(guard))
        });
        fs::write(&daemon.config, &whole).unwrap();
        let status = daemon.status();
        assert_eq!((&status["config_since"], &status["proxy_pid"]), (&since, &proxy), "{status}");
        assert_eq!(allowed(), "10.0.0.91");
    }
    daemon.edit("10.0.0.91", "10.0.0.93");
    daemon.done(&["reload"]);
    assert_eq!(allowed(), "10.0.0.93", "the next reload reads the file");
}

#[test]
fn m02_a_guard_that_stands_still_or_dies_as_it_starts_is_not_noticed_by_clients() {
    if !report::may_run("guard death: start") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let client = Client::new(&world, GOOD_V4);
    let serves = |what: &str| {
        assert_eq!(client.get("/health", "").unwrap_or_else(|error| panic!("{what}: {error}")).status, 200, "{what}");
        assert!(Client::new(&world, ATTACKER_V4).get("/health", "").is_err(), "{what}: a banned source is served");
    };
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGSTOP);
    for _ in 0..20 {
        serves("stopped");
    }
    send(guard, Signal::SIGCONT);
    assert_eq!(daemon.guard_pid(), guard, "a guard that stood still is the same");

    send(guard, Signal::SIGKILL);
    let (mut killed, mut last) = (0_u64, guard);
    while killed < 6 {
        // Before it is ready, whenever that is.
        let next = until("the launcher to start another guard", SOON, || {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
            let guards = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
            let is_guard = |pid: &u32| {
                fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().ends_with(b"\0guard\0") && *pid != last
            };
            guards.into_iter().find(is_guard)
        });
        pause(Duration::from_millis(killed * 20));
        send(next, Signal::SIGKILL);
        serves("a guard that never got ready");
        (killed, last) = (killed + 1, next);
    }
    let _guard = daemon.guard_pid_other_than(last);
    serves("in the end");
}

/// An alert that fires once the observer looks back at restarts: at the first look it knows none.
const LOOKS: &str = "[[alert]]\nname = \"looks\"\nmetric = \"gateway_process_restarts_total\"\nmeasure = \"increase\"\n\
                     condition = \">= 0\"\n";

/// How often processes had to be started again is known to the next guard, and told.
#[test]
fn restarts_are_counted_over_the_guards_death() {
    if !report::may_run("guard death: restarts") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!("{}{LOOKS}", admin::TABLE);
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), more, ..Settings::default() });
    until("the first look", SOON, || (!alerts::firing(&daemon, "looks", "severity").is_empty()).then_some(()));
    let counted = |status: &serde_json::Value| ["proxy_restarts", "observer_restarts"].map(|name| status[name].clone());
    for (number, role) in [(1_u64, "proxy_pid"), (2, "observer_pid"), (3, "proxy_pid")] {
        let pid = until(role, SOON, || daemon.status()[role].as_u64().and_then(|pid| u32::try_from(pid).ok()));
        send(pid, Signal::SIGKILL);
        let expect = [number.div_ceil(2), number / 2].map(serde_json::Value::from);
        until("the restart", SOON, || (counted(&daemon.status()) == expect).then_some(()));
        let guard = daemon.guard_pid();
        send(guard, Signal::SIGKILL);
        let next = daemon.guard_pid_other_than(guard);
        let status = daemon.status();
        let restarts = (counted(&status), &status["guard_restarts"]);
        assert_eq!(restarts, (expect, &number.into()), "pid {next}: {status}");
        // The next round ends the observer, which knows them.
        if number == 1 {
            until("the alerts", SOON, || {
                let roles = alerts::firing(&daemon, "process_restarted", "role");
                roles.iter().eq(["guard", "proxy"]).then_some(())
            });
        }
    }
}

/// Whether a process has not ended.
fn lives(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

/// Nothing outlives the launcher, whatever state it is in, and the next gateway finds everything free.
#[test]
fn a_killed_launcher_takes_everything_with_it() {
    if !report::may_run("launcher death") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    send(proxy, Signal::SIGSTOP);
    daemon.kill();
    until("guard and proxy to end", SOON, || (!lives(guard) && !lives(proxy)).then_some(()));
    daemon.start_again();
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}
