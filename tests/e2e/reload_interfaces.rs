//! Interfaces come and go by a reload: the maps stay, nobody slips through meanwhile, and a configuration whose interface
//! cannot be guarded changes nothing.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, send},
    http1::{Client, Request},
    kernel_view::{Bans, blocked},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GATE, GATEWAY_V4, GOOD_V4, World, pin_folder},
};

const SILENCE: Duration = Duration::from_millis(200);

const fn side(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 9, last))
}

/// A second way into the gateway: `side0`, with the address 10.0.9.1, from 10.0.9.2, 66 and 97.
fn lay_side(world: &World) {
    let outside = world.outside.path();
    let outside = outside.file_name().unwrap().to_str().unwrap();
    world.gate.configure(&format!(
        "link add side0 type veth peer name side1 netns {outside}\naddr add 10.0.9.1/24 dev side0\nlink set side0 up\n"
    ));
    let addresses = [2, 66, 97].map(|last| format!("addr add {}/24 dev side1\n", side(last)));
    world.outside.configure(&format!("link set side1 up\n{}", addresses.concat()));
}

/// Whether packets of this address get no answer by the second way.
fn is_dropped(world: &World, last: u8) -> bool {
    let connected = world.outside.connect(side(last), SocketAddr::new(side(1), 443), SILENCE);
    connected.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

/// Whether they get one. On a busy machine it may be late.
fn is_answered(world: &World, last: u8) -> bool {
    let connected = world.outside.connect(side(last), SocketAddr::new(side(1), 443), SOON);
    !connected.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

fn names(status: &Value) -> Vec<&str> {
    status["interfaces"].as_array().unwrap().iter().map(|at| at["name"].as_str().unwrap()).collect()
}

/// Puts these interfaces into the configuration, in the place of those that it has.
fn write(daemon: &Daemon<'_>, interfaces: &[&str]) {
    let text = fs::read_to_string(&daemon.config).unwrap();
    let line = text.lines().find(|line| line.starts_with("interfaces = ")).unwrap();
    fs::write(&daemon.config, text.replacen(line, &format!("interfaces = {interfaces:?}"), 1)).unwrap();
}

fn warns(status: &Value, text: &str) -> bool {
    status["warnings"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str().unwrap().contains(text)))
}

/// Says that it is over when it is dropped.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn settings(guard: &str) -> Settings {
    let default = Settings::default();
    let side = "[[listener]]\naddress = \"10.0.9.1:443\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    Settings { guard: guard.to_owned(), listeners: format!("{}{side}", default.listeners), ..default }
}

/// While `meanwhile` runs, a banned source gets no answer by the interface that stays, and everybody else is served.
fn while_clients_come(world: &World, meanwhile: impl FnOnce()) {
    let (over, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        // Also where a check fails: the scope waits for both.
        let ended = Ended(&over);
        let attacker = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let target = SocketAddr::new(GATEWAY_V4, 443);
                let connected = world.outside.connect(ATTACKER_V4, target, Duration::from_millis(20));
                assert_eq!(connected.unwrap_err().kind(), ErrorKind::TimedOut, "a banned source was answered");
                tried.fetch_add(1, Ordering::Relaxed);
            }
        });
        let good = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(Client::new(world, GOOD_V4).get("/health", "").unwrap().status, 200);
            }
        });
        meanwhile();
        drop(ended);
        attacker.join().unwrap();
        good.join().unwrap();
    });
    assert!(tried.load(Ordering::Relaxed) > 10);
}

/// One of two cannot be guarded: neither is, and all stays as it was.
#[track_caller]
fn refused_as_a_whole(world: &World, daemon: &Daemon<'_>) {
    let since = daemon.status()["config_since"].clone();
    write(daemon, &[GATE, "side0", "lo"]);
    let told = daemon.cli(&["reload"]);
    assert_eq!((told.code, &told.json["code"]), (1, &json!("interface")), "{}", told.json);
    assert!(told.json["message"].as_str().unwrap().contains("the driver of lo "), "{}", told.json);
    let status = daemon.status();
    assert_eq!((names(&status), &status["config_since"]), (vec![GATE], &since), "{status}");
    assert_eq!(status["reload_refused"]["code"], "interface", "{status}");
    assert!(is_answered(world, 66), "an interface of a refused configuration is guarded");
    assert_eq!(fs::read_dir(pin_folder(&world.name).join("links")).unwrap().count(), 1);
}

/// A second interface comes, by what was in force already, and goes. `guard` dies in between in one round.
#[track_caller]
fn comes_and_goes(world: &World, daemon: &Daemon<'_>, guard: u32) {
    for round in 0..3 {
        write(daemon, &[GATE, "side0"]);
        let told = daemon.done(&["reload"]);
        assert!(told["message"].as_str().unwrap().contains("guard.interfaces"), "{told}");
        // At once, by what was in force already.
        let found = [is_dropped(world, 66), is_dropped(world, 97), is_answered(world, 2)];
        assert_eq!(found, [true; 3], "{round}");
        let status = daemon.status();
        assert_eq!(names(&status), [GATE, "side0"], "{status}");

        // A guard after this one knows it as well.
        if round == 1 {
            send(daemon.guard_pid(), Signal::SIGKILL);
            let _next = daemon.guard_pid_other_than(guard);
            assert!(is_dropped(world, 66));
            assert_eq!(names(&daemon.status()), [GATE, "side0"]);
        }

        write(daemon, &[GATE]);
        daemon.done(&["reload"]);
        assert!(is_answered(world, 66), "{round}: an interface that is no longer named is guarded");
        assert_eq!(names(&daemon.status()), [GATE]);
    }
}

/// One that is not there yet is waited for, and one that is named no more is not.
#[track_caller]
fn a_late_one_is_waited_for(world: &World, daemon: &Daemon<'_>) {
    write(daemon, &[GATE, "late0"]);
    daemon.done(&["reload"]);
    until("a warning that an interface is missing", SOON, || {
        warns(&daemon.status(), "no network interface late0").then_some(())
    });
    world.gate.configure("link add late0 type veth peer name late1\n");
    until("the late interface to be guarded", SOON, || (names(&daemon.status()) == [GATE, "late0"]).then_some(()));
    world.gate.configure("link del late0\n");
    until("the late interface to be gone", SOON, || (names(&daemon.status()) == [GATE]).then_some(()));
    write(daemon, &[GATE]);
    daemon.done(&["reload"]);
    until("the warning to end", SOON, || (!warns(&daemon.status(), "late0")).then_some(()));
}

/// None, and one again. Bans are enforced at accept meanwhile, and `status` says so.
#[track_caller]
fn none_and_one_again(world: &World, daemon: &Daemon<'_>) {
    write(daemon, &[]);
    daemon.done(&["reload"]);
    let status = daemon.status();
    assert_eq!(
        (&status["enforcement"], warns(&status, "guard.interfaces is empty")),
        (&json!("accept"), true),
        "{status}"
    );
    assert!(Client::new(world, ATTACKER_V4).is_answered());
    assert!(Client::new(world, ATTACKER_V4).get("/health", "").is_err(), "the ban is not enforced at accept");
    write(daemon, &["side0", GATE]);
    daemon.done(&["reload"]);
    let status = daemon.status();
    assert_eq!((names(&status), warns(&status, "is empty")), (vec!["side0", GATE], false), "{status}");
    assert!(Client::new(world, ATTACKER_V4).is_ignored(SILENCE) && is_dropped(world, 66));
}

/// While an operator has detached the program it goes to no interface, and then to those of the configuration in force.
#[track_caller]
fn a_detached_program_goes_nowhere(world: &World, daemon: &Daemon<'_>) {
    daemon.done(&["detach"]);
    write(daemon, &["side0"]);
    daemon.done(&["reload"]);
    assert!(is_answered(world, 66));
    daemon.done(&["attach"]);
    assert_eq!(names(&daemon.status()), ["side0"]);
    assert!(is_dropped(world, 66) && Client::new(world, ATTACKER_V4).is_answered());
}

#[test]
fn m02_interfaces_come_and_go_by_a_reload() {
    if !report::may_run("reload_interfaces") {
        return;
    }
    let world = World::new();
    lay_side(&world);
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // The driver of the loopback interface runs no XDP.
    let mut daemon = Daemon::start(&world, &settings("mode = \"native\"\nallow = [\"10.0.9.2\"]"));
    for banned in ["10.0.0.66", "10.0.9.66", "10.0.9.96/28"] {
        daemon.done(&["block", "add", banned, "--for", "1h"]);
    }
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    assert!(is_answered(&world, 66), "nobody guards the second way yet");
    let (guard, proxy, right) = (daemon.guard_pid(), daemon.proxy_pid(), blocked(&world));
    let packets = Bans::open(&world).packets("10.0.0.66");
    assert!(packets > 0);
    while_clients_come(&world, || {
        refused_as_a_whole(&world, &daemon);
        comes_and_goes(&world, &daemon, guard);
    });
    assert_eq!((daemon.proxy_pid(), blocked(&world)), (proxy, right));
    assert!(Bans::open(&world).packets("10.0.0.66") > packets, "the counters of a ban began anew");
    a_late_one_is_waited_for(&world, &daemon);
    none_and_one_again(&world, &daemon);
    a_detached_program_goes_nowhere(&world, &daemon);
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
    daemon.kill();
}

/// Whoever starts without an interface does not leave the program of an earlier guard in the kernel, with bans that nobody
/// would end.
#[test]
fn a_start_without_interfaces_detaches_what_was_left() {
    if !report::may_run("reload_interfaces::left") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "bans stay in force after a stop");
    write(&daemon, &[]);
    daemon.start_again();
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "the program of the earlier guard drops");
    assert!(Client::new(&world, ATTACKER_V4).get("/health", "").is_err(), "the ban is not enforced at accept");
    daemon.done(&["block", "del", "10.0.0.66"]);
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
}

/// Without an interface the kernel program is not loaded, and the guard has no right to load it later: another guard does.
#[test]
fn m02_the_first_interface_comes_by_another_guard() {
    if !report::may_run("reload_interfaces::first") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), guard: "mode = \"native\"".to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_answered());
    let mut kept = Client::new(&world, GOOD_V4).connect().unwrap();
    let health = Request::new("GET", "/health");
    assert_eq!(kept.exchange(&health).unwrap().status, 200);
    let (guard, proxy, since) = (daemon.guard_pid(), daemon.proxy_pid(), daemon.status()["config_since"].clone());

    // One that cannot be guarded leaves everything as it was.
    write(&daemon, &[GATE, "lo"]);
    let told = daemon.cli(&["reload"]);
    assert_eq!((told.code, &told.json["code"]), (1, &json!("interface")), "{}", told.json);
    let status = daemon.status();
    assert_eq!((&status["enforcement"], &status["config_since"]), (&json!("accept"), &since), "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "an interface of a refused configuration is guarded");
    assert_eq!(kept.exchange(&health).unwrap().status, 200);

    write(&daemon, &[GATE]);
    daemon.done(&["reload"]);
    let status = daemon.status();
    assert_eq!((names(&status), &status["config_by"]), (vec![GATE], &json!("operator:0")), "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    assert_ne!(daemon.guard_pid(), guard, "the guard has no right to load the program");
    assert_eq!(kept.exchange(&health).unwrap().status, 200, "the connection is cut");
    assert_eq!((daemon.proxy_pid(), &status["guard_restarts"]), (proxy, &json!(0)));
    let confined = status["processes"].as_array().unwrap().iter().find(|process| process["role"] == "guard").unwrap();
    assert_eq!(confined["sandbox"]["capabilities"], json!([]), "{status}");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

/// Where the program cannot be loaded at all, the configuration in force stays, and nobody tries again and again.
#[test]
fn a_program_that_cannot_be_loaded_changes_nothing() {
    if !report::may_run("reload_interfaces::unloadable") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    daemon.edit(&format!("pin_dir = \"{}\"", pin_folder(&world.name).display()), "pin_dir = \"/run/no-bpffs\"");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
    let before = daemon.status();
    write(&daemon, &[GATE]);
    for _ in 0..2 {
        let told = daemon.cli(&["reload"]);
        assert_eq!((told.code, &told.json["code"]), (1, &json!("interface")), "{}", told.json);
        assert!(told.json["message"].as_str().unwrap().contains("is not on a BPF file system"), "{}", told.json);
    }
    let status = daemon.status();
    let same = ["config_since", "proxy_pid", "enforcement", "guard_restarts"];
    assert_eq!(same.map(|key| &status[key]), same.map(|key| &before[key]), "{status}");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}
