//! Facts and what is said about them.

use super::*;
use crate::os::sandbox::Confinement;

#[track_caller]
fn says(check: &Check, state: CheckState, text: &str) {
    assert_eq!(check.state, state, "{check:?}");
    assert!(check.what.contains(text), "{check:?}");
    assert_eq!(state == CheckState::Ok, check.fix.is_empty(), "{check:?}");
}

fn link(program: u32, native: bool) -> PinnedAt {
    PinnedAt { interface: "eth0".to_owned(), native, program, in_force: true }
}

fn at(program: Option<u32>) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        is_there: true,
        is_up: Some(true),
        driver: Some("virtio_net".to_owned()),
        mtu: Some(1_500),
        queues: Some(2),
        program: Ok(program),
        program_named: Some("xdp_dispatcher, tag 00".to_owned()),
        joins_packets: Some(false),
    }
}

#[test]
fn the_host() {
    for (release, state) in [
        ("6.12.1-amd64", CheckState::Ok),
        ("6.1.0", CheckState::Ok),
        ("5.15.0", CheckState::Warn),
        ("what", CheckState::Warn),
    ] {
        says(&kernel(release), state, release);
    }
    for (name, value, state) in [
        ("net.core.bpf_jit_enable", 1, CheckState::Ok),
        ("net.core.bpf_jit_enable", 0, CheckState::Warn),
        ("kernel.unprivileged_bpf_disabled", 0, CheckState::Warn),
        ("kernel.unprivileged_bpf_disabled", 2, CheckState::Ok),
        ("net.ipv4.tcp_syncookies", 0, CheckState::Warn),
        ("net.core.somaxconn", 128, CheckState::Warn),
    ] {
        says(&sysctl(name, &Ok(value)), state, &value.to_string());
    }
    says(&sysctl("net.core.somaxconn", &Err("hidden".to_owned())), CheckState::Warn, "not looked at: hidden");
    says(&rights(false), CheckState::Warn, "not root");
    says(&bpffs(false, false), CheckState::Warn, "not mounted");
    says(&bpffs(false, true), CheckState::Ok, "not needed");
    for (found, state, text) in [
        (Ok(Ok(vec![])), CheckState::Ok, "whole"),
        (Ok(Ok(vec!["no cookies (R4 invalid)".to_owned()])), CheckState::Warn, "R4 invalid"),
        (Ok(Err("refused: R4 invalid".to_owned())), CheckState::Fail, "R4 invalid"),
        (Err("needs root".to_owned()), CheckState::Warn, "not looked at: needs root"),
    ] {
        says(&program(&found, false)[0], state, text);
    }
    says(&program(&Ok(Err("refused: R4 invalid".to_owned())), true)[0], CheckState::Warn, "not needed");
    says(&disk(&Ok((1 << 40, 1 << 41))), CheckState::Ok, "1048576 MiB");
    says(&disk(&Ok((100 << 20, 1 << 41))), CheckState::Warn, "100 MiB");
    says(&disk(&Ok((15 << 20, 1 << 41))), CheckState::Fail, "15 MiB");
    says(&clock(&Ok((0, 1_970))), CheckState::Fail, "1970");
    says(&clock(&Ok((61, 2_026))), CheckState::Warn, "61 s in the future");
    says(&clock(&Ok((60, 2_026))), CheckState::Ok, "no record");
    says(&ntp(&Ok(true)), CheckState::Ok, "kept right");
    says(&ntp(&Ok(false)), CheckState::Warn, "nobody");
    says(&files(&Ok((1_024, 10_000))), CheckState::Warn, "1024");
    says(&files(&Ok((1 << 20, 10_000))), CheckState::Ok, "10000");
}

#[test]
fn attachment() {
    let judged = |at: &Interface, links: Fact<Vec<PinnedAt>>| interface(at, &links, true, &[]).pop().unwrap();
    says(&judged(&at(Some(7)), Ok(vec![link(7, true)])), CheckState::Ok, "in the driver");
    says(&judged(&at(Some(7)), Ok(vec![link(7, false)])), CheckState::Warn, "virtio_net");
    let jumbo = Interface { mtu: Some(9_000), ..at(Some(7)) };
    says(&judged(&jumbo, Ok(vec![link(7, false)])), CheckState::Warn, "MTU is too large");
    says(
        &judged(&at(Some(8)), Ok(vec![link(7, true)])),
        CheckState::Fail,
        "another XDP program (id 8, xdp_dispatcher, tag 00)",
    );
    says(&judged(&at(Some(8)), Err("no".to_owned())), CheckState::Warn, "whose cannot be seen");
    says(&judged(&at(None), Ok(vec![])), CheckState::Fail, "nothing is attached");
    says(&judged(&Interface { is_there: false, ..at(None) }, Ok(vec![])), CheckState::Fail, "not there");
    says(
        &interface(&Interface { is_up: Some(false), ..at(None) }, &Ok(vec![]), true, &[])[0],
        CheckState::Warn,
        "down",
    );
    says(
        &interface(&Interface { joins_packets: Some(true), ..at(None) }, &Ok(vec![]), true, &[])[1],
        CheckState::Warn,
        "receive offload",
    );
    says(&earlier(&["/sys/fs/bpf/gateway/v1".to_owned()]).unwrap(), CheckState::Warn, "gateway/v1");
    assert_eq!(earlier(&[]), None);
    says(&links(&Ok(vec![]), &[at(None)]), CheckState::Fail, "no link");
    says(&links(&Ok(vec![]), &[]), CheckState::Ok, "none is needed");
    says(&links(&Ok(vec![link(7, true)]), &[]), CheckState::Fail, "1 link of an earlier gateway is pinned");
    says(&links(&Ok(vec![link(7, true)]), &[at(Some(7))]), CheckState::Ok, "1 link, all");
    says(&links(&Err("this needs root".to_owned()), &[]), CheckState::Warn, "not looked at");
}

/// The pins of the running gateway cannot be seen: another file system is mounted over them.
#[test]
fn a_link_of_the_running_gateway_is_its_own_without_a_pin() {
    for (named, attached, links, state, text) in [
        ("guard, tag 00", &["eth0"][..], vec![], CheckState::Warn, "attached by the running gateway (program 8)"),
        ("guard, tag 00", &["eth0"][..], vec![link(7, true)], CheckState::Warn, "attached by the running gateway"),
        ("guard, tag 00", &["eth0"][..], vec![link(8, true)], CheckState::Ok, "in the driver"),
        ("guard, tag 00", &["eth1"][..], vec![], CheckState::Fail, "another XDP program (id 8, guard"),
        ("guard, tag 00", &[][..], vec![], CheckState::Fail, "another XDP program (id 8, guard"),
        (
            "xdp_dispatcher, tag 00",
            &["eth0"][..],
            vec![],
            CheckState::Fail,
            "another XDP program (id 8, xdp_dispatcher",
        ),
    ] {
        let at = Interface { program_named: Some(named.to_owned()), ..at(Some(8)) };
        let attached: Vec<String> = attached.iter().map(|&name| name.to_owned()).collect();
        says(&interface(&at, &Ok(links), true, &attached).pop().unwrap(), state, text);
    }
}

/// Before the first start, and what is the matter even then.
#[test]
fn where_no_gateway_ran_yet_nothing_is_missing() {
    let denied = "/etc/gateway/server.key".to_owned();
    let mut facts = Facts {
        has_run: false,
        kernel: "6.12.1".to_owned(),
        is_root: true,
        sysctls: Vec::new(),
        program: Ok(Ok(Vec::new())),
        has_btf: true,
        is_bpffs: true,
        interfaces: vec![at(None)],
        links: Ok(Vec::new()),
        maps: Err("no map is pinned there".to_owned()),
        drift: Err("no map is pinned there".to_owned()),
        audit: Ok((0, Some("record 1: the anchor cannot be read".to_owned()))),
        clock: Err("there is no store".to_owned()),
        clock_is_kept: Ok(true),
        earlier: Vec::new(),
        modes: vec![("/var/lib/gateway".to_owned(), Err("no such file".to_owned()))],
        disk: Ok((1 << 40, 1 << 41)),
        certificates: Vec::new(),
        proxy_user: ("gateway".to_owned(), Some(999)),
        observer_user: None,
        files: Ok((1 << 20, 10_000)),
        daemon: Err(Unanswered::Down("nobody answers".to_owned())),
        denied: vec![denied],
    };
    let states = |facts: &Facts| -> Vec<(String, CheckState)> {
        let checks = judge(facts).into_iter().filter(|check| check.state != CheckState::Ok);
        checks.map(|check| (check.name, check.state)).collect()
    };
    let warned = |name: &str| (name.to_owned(), CheckState::Warn);
    assert_eq!(states(&facts), [warned("file /etc/gateway/server.key"), warned("daemon")]);
    facts.proxy_user.1 = None;
    facts.interfaces = vec![at(Some(8))];
    let failed = |name: &str| (name.to_owned(), CheckState::Fail);
    let expect = [failed("xdp eth0"), warned("file /etc/gateway/server.key"), failed("proxy user"), warned("daemon")];
    assert_eq!(states(&facts), expect);
    // With a store and without anything else, it all counts.
    facts.has_run = true;
    let damaged = "the ban store: file is not a database";
    (facts.drift, facts.clock) = (Err("no map is pinned there".to_owned()), Err(damaged.to_owned()));
    for (is_root, runs, drift, clock) in [
        (false, false, AS_ROOT, AS_ROOT),
        (true, false, "pins its maps", "repairs a damaged store"),
        (true, true, "restart the gateway", "see `gateway status`"),
    ] {
        facts.is_root = is_root;
        facts.daemon = if runs { Ok(Daemon::default()) } else { Err(Unanswered::Down("nobody answers".to_owned())) };
        let checks = judge(&facts);
        for (name, fix) in [("drift", drift), ("maps", drift), ("clock", clock)] {
            let check = checks.iter().find(|check| check.name == name).unwrap();
            assert!(check.state == CheckState::Warn && check.fix.contains(fix), "{is_root} {runs}: {check:?}");
        }
        assert!(checks.iter().all(|check| !is_root || check.fix != AS_ROOT), "{checks:?}");
    }
    facts.daemon = Err(Unanswered::Down("nobody answers".to_owned()));
    assert!(states(&facts).contains(&failed("audit")) && states(&facts).contains(&failed("daemon")));
    // Without an interface nothing has to be pinned.
    (facts.interfaces, facts.is_bpffs) = (Vec::new(), false);
    let spoken: Vec<String> = judge(&facts).into_iter().map(|check| format!("{check:?}")).collect();
    let of_pins = |text: &&String| text.contains("no map is pinned") || text.contains("pins its maps");
    assert_eq!(spoken.iter().find(of_pins), None);
    assert!(states(&facts).contains(&warned("interfaces")) && !states(&facts).contains(&warned("bpffs")));
}

#[test]
fn the_gateway() {
    says(&usage(("BANS", 79, 100)), CheckState::Ok, "79 %");
    says(&usage(("BANS", 80, 100)), CheckState::Warn, "80 of 100");
    says(&usage(("RULES4", 100, 100)), CheckState::Fail, "100 %");
    says(&drift(&Ok((0, 0))), CheckState::Ok, "what the store says");
    says(&drift(&Ok((1, 2))), CheckState::Fail, "1 entry is missing in the kernel, 2");
    says(&audit(&Ok((9, None))), CheckState::Ok, "9 records");
    says(&audit(&Ok((9, Some("record 3: changed".to_owned())))), CheckState::Fail, "record 3");
    for (mode, state) in
        [(0o100_600, CheckState::Ok), (0o750, CheckState::Ok), (0o644, CheckState::Warn), (0o620, CheckState::Fail)]
    {
        says(&permissions("/x", &Ok(mode)), state, "");
    }
    for (days, state) in [
        (90, CheckState::Ok),
        (21, CheckState::Ok),
        (20, CheckState::Warn),
        (0, CheckState::Warn),
        (-1, CheckState::Fail),
    ] {
        says(&certificate_days("/x", &Ok(days)), state, "");
    }
    says(&proxy_user(&("gateway".to_owned(), Some(999))), CheckState::Ok, "999");
    says(&proxy_user(&("gateway".to_owned(), None)), CheckState::Fail, "there is no gateway");
    says(&proxy_user(&("root".to_owned(), Some(0))), CheckState::Fail, "root");
    let proxy = ("gateway".to_owned(), Some(999));
    for (name, uid, state, text) in [
        ("gateway-observer", Some(998), CheckState::Ok, "998"),
        ("gateway", Some(999), CheckState::Warn, "as the proxy"),
        ("root", Some(0), CheckState::Fail, "root"),
        ("nobody-there", None, CheckState::Fail, "there is no nobody-there"),
    ] {
        says(&observer_user(&(name.to_owned(), uid), &proxy), state, text);
    }
    for (unanswered, state, text, fix) in [
        (Unanswered::Down("nobody answers".to_owned()), CheckState::Fail, "nobody answers", "start it"),
        (
            Unanswered::Denied("is not for this user".to_owned()),
            CheckState::Warn,
            "not looked at: is not for",
            "run as root",
        ),
        (Unanswered::Silent("no answer in time".to_owned()), CheckState::Fail, "no answer in time", "log"),
    ] {
        let check = daemon(&Err(unanswered)).remove(0);
        says(&check, state, text);
        assert!(check.fix.contains(fix), "{check:?}");
    }
    says(&daemon(&Ok(Daemon::default()))[1], CheckState::Fail, "none");
    let warned = Daemon { proxy: Some(5), warnings: vec!["DETACHED".to_owned()], ..Daemon::default() };
    says(&daemon(&Ok(warned))[2], CheckState::Warn, "DETACHED");
    let seen = |capabilities: &[&str], no_new_privs, seccomp_filters| {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        Some(Confinement { uid: 0, capabilities, no_new_privs, seccomp_filters })
    };
    for (role, seen, state, text) in [
        ("launcher", seen(&["CAP_BPF"], true, 1), CheckState::Ok, "CAP_BPF; no_new_privs; 1 filter of"),
        ("guard", seen(&[], true, 2), CheckState::Ok, "no capability"),
        ("guard", seen(&["CAP_BPF"], true, 2), CheckState::Fail, "CAP_BPF"),
        ("proxy", seen(&[], false, 2), CheckState::Fail, "new privileges are possible"),
        ("observer", seen(&[], true, 0), CheckState::Fail, "0 filters"),
        ("proxy", None, CheckState::Warn, "cannot be seen"),
    ] {
        let process = ProcessStatus { role: role.to_owned(), pid: 7, state: None, sandbox: seen };
        let running = Daemon { proxy: Some(5), processes: vec![process], ..Daemon::default() };
        says(&daemon(&Ok(running))[2], state, text);
    }
}
