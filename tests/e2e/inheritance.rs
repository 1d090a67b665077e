//! What a guard goes on with that follows one which died: numbers of users and groups, proxies that are short of something,
//! requests for bans that nobody had read (M02). And a proxy that stands still.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    admin,
    daemon::{Daemon, send},
    http1::Client,
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World, bystander},
};

/// Whom proxy and observer run as.
const NOBODY: u32 = 65_534;

/// Longer than the guard takes to find that a proxy stands still.
const STANDSTILL: Duration = Duration::from_secs(60);

/// The guard that the launcher has started in the place of `before`.
#[track_caller]
fn next_guard(daemon: &Daemon<'_>, before: u32) -> u32 {
    until("the launcher to start another guard", SOON, || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
        let guards = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
        let is_guard = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().ends_with(b"\0guard\0");
        guards.into_iter().find(|pid| *pid != before && is_guard(pid))
    })
}

/// Groups and users may have gone from the machine since the configuration came into force.
#[test]
fn m02_a_guard_starts_again_though_an_operators_group_is_gone() {
    if !report::may_run("inheritance: groups") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let groups = world.folder.join("group");
    let known = fs::read_to_string("/etc/group").unwrap();
    fs::write(&groups, format!("{known}gwt-watchers:x:64001:\ngwt-control:x:64002:\n")).unwrap();
    let settings = Settings {
        interfaces: Vec::new(),
        guard: "control_group = \"gwt-control\"\ncontrol_mode = \"0660\"".to_owned(),
        more: "[[operator]]\ngroup = \"gwt-watchers\"\nroles = [\"view\"]\n".to_owned(),
        ..Settings::default()
    };
    // The gateway alone sees these groups.
    let own = format!("mount --bind {} /etc/group && exec \"$@\"", groups.display());
    let daemon = Daemon::start_under(&world, &settings, &["unshare", "--mount", "sh", "-c", &own, "sh"]);
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    // In place: the mount is of this file.
    fs::write(&groups, known).unwrap();
    send(guard, Signal::SIGKILL);
    let next = daemon.guard_pid_other_than(guard);
    assert_eq!(daemon.proxy_pid(), proxy);
    // A reload looks again, and says so; nothing changes.
    let told = daemon.cli(&["reload"]);
    assert!(told.code == 1 && told.json["message"].to_string().contains("gwt-watchers"), "{}", told.json);
    assert_eq!(daemon.guard_pid(), next);
}

/// A proxy or observer that may open no more files hears of the next guard as soon as it may: neither ends.
#[test]
fn m02_whoever_is_short_of_descriptors_meets_the_next_guard_later() {
    if !report::may_run("inheritance: descriptors") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), more: admin::TABLE.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let observer = || daemon.status()["observer_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let observer_pid = until("the observer", SOON, observer);
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    let limit = |pid: u32, files: &str| {
        // As the user of both: root may be without the right to change the limits of others.
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--nofile={files}:")]).uid(NOBODY).gid(NOBODY);
        assert!(command.status().is_ok_and(|status| status.success()), "prlimit {pid} {files}");
    };
    let both = [proxy, observer_pid];
    for pid in both {
        limit(pid, "3");
    }
    send(guard, Signal::SIGKILL);
    next_guard(&daemon, guard);
    // It has been introduced, and waits to hear of them.
    pause(Duration::from_millis(300));
    for pid in both {
        limit(pid, "1024");
    }
    let _next = daemon.guard_pid_other_than(guard);
    assert_eq!((daemon.proxy_pid(), until("the observer", SOON, observer)), (proxy, observer_pid));
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}

/// What lies unread in the guard's socket as it dies is decided by the next one.
#[test]
fn m02_a_ban_that_a_dying_guard_was_asked_for_is_made_by_the_next() {
    if !report::may_run("inheritance: asks") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { rules: bad_tokens(3, "1h"), ..Settings::default() });
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    send(guard, Signal::SIGSTOP);
    let offender = Client::new(&world, bystander(1));
    for _ in 0..3 {
        assert_eq!(offender.get("/items/7", &tokens::forged("mallory", &[])).unwrap().status, 401);
    }
    send(guard, Signal::SIGKILL);
    let _next = daemon.guard_pid_other_than(guard);
    until("the ban that nobody had read of", SOON, || offender.is_ignored(Duration::from_millis(200)).then_some(()));
    assert_eq!(daemon.proxy_pid(), proxy);
    // Once, though it was said to both.
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().map(Vec::len), Some(1));
    let unbanned = daemon.done(&["block", "del", &bystander(1).to_string()]);
    assert_eq!(unbanned["changed"], 1, "{unbanned}");
    let guard = daemon.guard_pid();
    send(guard, Signal::SIGKILL);
    let _next = daemon.guard_pid_other_than(guard);
    assert_eq!(offender.get("/health", "").unwrap().status, 200, "what an operator lifted stays lifted");
}

/// A proxy that answers nothing is replaced, as a guard is.
#[test]
fn m02_a_proxy_that_stands_still_is_replaced() {
    if !report::may_run("inheritance: standstill") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), more: admin::TABLE.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    // For a moment nobody minds.
    send(proxy, Signal::SIGSTOP);
    pause(Duration::from_secs(1));
    send(proxy, Signal::SIGCONT);
    pause(Duration::from_secs(2));
    assert_eq!((daemon.proxy_pid(), &daemon.status()["proxy_standstills"]), (proxy, &0.into()));

    send(proxy, Signal::SIGSTOP);
    let start = Instant::now();
    let next = until("another proxy", STANDSTILL, || {
        let status = daemon.status();
        status["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != proxy)
    });
    report::note(&format!("inheritance: another proxy served {:?} after one had stopped", start.elapsed()));
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    until("the one that stood still to be gone", SOON, || {
        (!fs::exists(format!("/proc/{proxy}")).unwrap_or(false)).then_some(())
    });
    let status = daemon.status();
    assert_eq!((&status["proxy_standstills"], &status["proxy_restarts"]), (&1.into(), &1.into()), "{status}");
    assert_eq!((daemon.guard_pid(), daemon.proxy_pid()), (guard, next));
    assert!(daemon.standard_error().contains("has come to a standstill"));
    until("the metrics", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let rows = ["gateway_proxy_standstills_total 1", "gateway_process_restarts_total{role=\"proxy\"} 1"];
        rows.iter().all(|row| text.contains(row)).then_some(())
    });
    let recorded = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(recorded.contains("it has come to a standstill"), "{recorded}");
}

/// Holds one thread of a process still, as an endless loop does, until this is dropped. The others run on.
struct Held(Child);

impl Held {
    fn thread(pid: u32, name: &str) -> Self {
        const HOLD: &str = "import ctypes, os, sys, time\ntid = int(sys.argv[1])\n\
            failed = ctypes.CDLL(None, use_errno=True).ptrace(16, tid, 0, 0)\n\
            os.waitpid(tid, 0x40000000) if failed == 0 else sys.exit(1)\ntime.sleep(600)\n";
        let is_it =
            |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        let task = tasks.into_iter().find(is_it).expect("a thread of that name");
        let held = Self(Command::new("python3").args(["-c", HOLD]).arg(task.file_name()).spawn().unwrap());
        until("the thread to be held", SOON, || {
            fs::read_to_string(task.path().join("status")).ok().filter(|it| it.contains("State:\tt")).map(drop)
        });
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A worker in an endless loop serves nobody, while the process answers the guard: the proxy is replaced, too.
#[test]
fn m02_a_worker_that_stands_still_is_found() {
    if !report::may_run("inheritance: worker") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings {
        interfaces: Vec::new(),
        proxy: "workers = 2\ndrain = \"2s\"".to_owned(),
        more: admin::TABLE.to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
    let held = Held::thread(proxy, "worker-1");
    let metrics = |line: &str| {
        until(line, SOON, || admin::get(&world, "/metrics", "").ok()?.text().contains(line).then_some(()));
    };
    metrics("gateway_proxy_workers_stalled 1");
    metrics("gateway_proxy_worker_stalls_total 1");
    assert_eq!(daemon.proxy_pid(), proxy, "not for a moment");
    let next = until("another proxy", STANDSTILL, || {
        let status = daemon.status();
        status["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != proxy)
    });
    let client = Client::new(&world, GOOD_V4);
    (0..8).for_each(|_| assert_eq!(client.get("/health", "").unwrap().status, 200));
    let killed = "it did not drain in time";
    until(killed, SOON, || daemon.standard_error().contains(killed).then_some(()));
    // Whoever holds a thread keeps what is left of its process.
    drop(held);
    until("the one with the worker to be gone", SOON, || {
        (!fs::exists(format!("/proc/{proxy}")).unwrap_or(false)).then_some(())
    });
    let status = daemon.status();
    assert_eq!((&status["proxy_standstills"], &status["proxy_restarts"]), (&1.into(), &1.into()), "{status}");
    assert_eq!((daemon.guard_pid(), daemon.proxy_pid()), (guard, next));
    let recorded = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(recorded.contains("worker 1 has come to a standstill"), "{recorded}");
    metrics("gateway_proxy_standstills_total 1");
    metrics("gateway_proxy_workers_stalled 0");
}
