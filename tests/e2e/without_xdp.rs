//! What is left where XDP cannot be attached: bans are enforced when connections are accepted, and status says so.

use std::{fs, net::IpAddr, thread};

use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use support::{
    daemon::{Daemon, send},
    http1::{Client, Request, TIMEOUT},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World, pin_folder},
};

#[test]
fn bans_are_enforced_at_accept_and_status_says_so() {
    if !report::may_run("without_xdp") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { interfaces: Vec::new(), rules: bad_tokens(3, "3s"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let status = daemon.status();
    assert_eq!(status["enforcement"], "accept", "{status}");
    assert!(status["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty()), "{status}");

    let attacker = Client::new(&world, ATTACKER_V4);
    let mut open = attacker.connect().unwrap();
    for _ in 0..3 {
        let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
        assert_eq!(attacker.send(&bad).unwrap().status, 401);
    }
    open.set_timeout(TIMEOUT).unwrap();
    assert!(open.ends(), "a connection of a banned source stays open");
    assert!(is_turned_away(&world, ATTACKER_V4), "the ban is not enforced at accept");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!(why["verdict"], "blocked", "{why}");
    assert_eq!(why["evidence"].as_array().map(Vec::len), Some(3), "{why}");

    until("the ban's end", SOON, || attacker.get("/health", "").ok().filter(|response| response.status == 200));
    // The proxy has heard of a change once there is an answer.
    for round in 0..20 {
        daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
        assert!(is_turned_away(&world, ATTACKER_V4), "round {round}: the operator's block is not enforced at accept");
        daemon.done(&["block", "del", "10.0.0.66"]);
        assert_eq!(attacker.get("/health", "").unwrap().status, 200, "round {round}");
    }

    // A proxy that stands still keeps nobody waiting for long, and hears of it later.
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGSTOP);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    send(proxy, Signal::SIGCONT);
    until("the block", SOON, || is_turned_away(&world, ATTACKER_V4).then_some(()));
}

/// As a kernel would whose verifier does not take the program; for this thread and what it starts.
fn refuse_programs() {
    const PROG_LOAD: u64 = 5;
    let is_load = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PROG_LOAD).unwrap();
    let rules = [(libc::SYS_bpf, vec![SeccompRule::new(vec![is_load]).unwrap()])];
    let refuse = SeccompAction::Errno(u32::try_from(libc::EINVAL).unwrap());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules.into(), SeccompAction::Allow, refuse, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn a_kernel_that_refuses_the_program_keeps_nobody_from_being_served() {
    if !report::may_run("without_xdp") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let pins = pin_folder(&world.name);
    thread::scope(|scope| {
        scope.spawn(|| {
            refuse_programs();
            let mut daemon = Daemon::start(&world, &Settings::default());
            let says = "the kernel refused the program";
            let status = daemon.status();
            assert_eq!(status["enforcement"], "accept", "{status}");
            assert!(status["warnings"].to_string().contains(says), "{status}");
            assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
            daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
            assert!(is_turned_away(&world, ATTACKER_V4));
            assert!(!pins.join("links").exists(), "nothing is left pinned");

            let warnings = daemon.done(&["check"])["warnings"].to_string();
            assert!(warnings.contains(says) && warnings.contains("guard.interfaces"), "{warnings}");
            let doctor = daemon.cli(&["doctor"]).json["checks"].clone();
            let check = doctor.as_array().and_then(|all| all.iter().find(|one| one["name"] == "kernel program"));
            let check = check.unwrap_or_else(|| panic!("{doctor}"));
            assert!(check["state"] == "fail" && check["what"].to_string().contains(says), "{check}");

            // Where a mode is demanded, there is no doing without.
            send(daemon.guard_pid(), Signal::SIGTERM);
            assert_eq!(daemon.ended().code(), Some(0));
            for mode in ["native", "generic"] {
                let settings = Settings { guard: format!("mode = \"{mode}\"\n"), ..Settings::default() };
                fs::write(&daemon.config, settings.text(&world.folder, &pins)).unwrap();
                let told = daemon.cli(&["run"]);
                assert!(told.code == 1 && told.errors.contains(says), "{mode}: {}", told.errors);
                let warnings = daemon.done(&["check"])["warnings"].to_string();
                assert!(warnings.contains("would not start"), "{warnings}");
            }
        });
    });
}

fn is_turned_away(world: &World, source: IpAddr) -> bool {
    Client::new(world, source).get("/health", "").is_err()
}
