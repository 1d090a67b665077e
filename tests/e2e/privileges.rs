//! What the processes may still do once they run, as the kernel sees it, and that this is enough for their work.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, binary, send},
    http1::Client,
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, World},
};

/// What the launcher gives on: `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP`,
/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_PERFMON`, `CAP_BPF` (capabilities(7)).
const LAUNCHER: u64 = 1 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39;
const NOBODY: &str = "65534";

#[test]
fn the_processes_hold_no_more_than_they_need_and_still_work() {
    if !report::may_run("privileges") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { guard: "allow = []".to_owned(), rules: bad_tokens(3, "2s"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);

    for thread in threads(daemon.proxy_pid()) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities(&thread, set), 0, "{set} of the proxy: {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "the proxy: {thread:?}");
        assert_eq!(thread["Seccomp"], "2", "the proxy: {thread:?}");
        for ids in ["Uid", "Gid"] {
            assert!(thread[ids].split_whitespace().all(|id| id == NOBODY), "{ids} of the proxy: {thread:?}");
        }
        assert!(thread["Groups"].split_whitespace().all(|id| id == NOBODY), "groups of the proxy: {thread:?}");
    }
    // What belongs to root there, no other process of the proxy's user may read: it has the private keys.
    let memory = fs::metadata(format!("/proc/{}/mem", daemon.proxy_pid())).unwrap();
    assert_eq!(memory.uid(), 0, "the proxy's memory is open to its user's other processes");
    for thread in threads(daemon.guard_pid()) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
            assert_eq!(capabilities(&thread, set), 0, "{set} of the guard: {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "the guard: {thread:?}");
        assert_eq!(thread["Seccomp"], "2", "the guard: {thread:?}");
    }
    let launcher = threads(daemon.pid());
    assert_eq!(launcher.len(), 1, "the launcher has one thread");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
        assert_eq!(capabilities(&launcher[0], set), LAUNCHER, "{set} of the launcher: {launcher:?}");
    }
    assert_eq!((launcher[0]["NoNewPrivs"].as_str(), launcher[0]["Seccomp"].as_str()), ("1", "2"), "{launcher:?}");

    // `status` says what the kernel says.
    let status = daemon.status();
    let told = status["processes"].as_array().unwrap().iter().map(|process| {
        let sandbox = &process["sandbox"];
        assert!(sandbox["no_new_privs"] == true && sandbox["seccomp_filters"].as_u64() >= Some(3), "{process}");
        (process["role"].as_str().unwrap(), sandbox["capabilities"].as_array().unwrap().len())
    });
    assert_eq!(told.collect::<Vec<_>>(), [("launcher", 10), ("guard", 0), ("proxy", 0)], "{status}");

    // A ban by a rule, and its end.
    let attacker = Client::new(&world, ATTACKER_V4);
    for _ in 0..3 {
        assert_eq!(attacker.get("/items/7", &tokens::forged("mallory", &[])).unwrap().status, 401);
    }
    until("the ban", SOON, || attacker.is_ignored(Duration::from_millis(200)).then_some(()));
    until("the ban's end", SOON, || {
        let stream = attacker.tcp(Duration::from_millis(200)).ok()?;
        drop(stream);
        Some(())
    });

    // Lists reloaded by signal and by command: an allowed source cannot be blocked.
    let refused = || daemon.cli(&["block", "add", "10.0.0.66", "--for", "1m"]).json["code"] == "allowlisted";
    assert!(!refused());
    assert!(attacker.is_ignored(Duration::from_millis(200)));
    daemon.edit("allow = []", "allow = [\"10.0.0.66\"]");
    daemon.signal(Signal::SIGHUP);
    until("the list of the reload by signal", SOON, || refused().then_some(()));
    // Nobody has waited for the proxy, as the answer of a command does.
    until("an allowed source to be served, blocked or not", SOON, || {
        attacker.get("/health", "").ok().filter(|answer| answer.status == 200).map(drop)
    });
    daemon.edit("allow = [\"10.0.0.66\"]", "allow = []");
    daemon.done(&["reload"]);
    assert!(!refused());
    until("the block", SOON, || attacker.is_ignored(Duration::from_millis(200)).then_some(()));
    assert_eq!(Client::new(&world, support::world::GOOD_V4).get("/health", "").unwrap().status, 200);
}

#[test]
fn four_roles_are_shown_as_the_kernel_has_them() {
    if !report::may_run("privileges::roles") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let admin = format!("{}user = \"daemon\"\n", admin::TABLE);
    let daemon = Daemon::start(&world, &Settings { more: admin, ..Settings::default() });
    const ROLES: [(&str, &str, usize); 4] =
        [("launcher", "0", 10), ("guard", "0", 0), ("proxy", NOBODY, 0), ("observer", "1", 0)];
    let status = until("four processes", SOON, || {
        Some(daemon.status()).filter(|status| status["processes"].as_array().is_some_and(|all| all.len() == 4))
    });

    // `status` says of each what /proc does.
    let processes = status["processes"].as_array().unwrap();
    let text = |arguments: &[&str]| {
        let command = std::process::Command::new(binary()).arg("--config").arg(&daemon.config).args(arguments).output();
        String::from_utf8(command.unwrap().stdout).unwrap()
    };
    let (shown, doctor) = (text(&["status"]), daemon.cli(&["doctor"]).json);
    let mut pids = Vec::new();
    for (process, (role, user, capabilities)) in processes.iter().zip(ROLES) {
        assert_eq!(process["role"], role, "{status}");
        let pid = u32::try_from(process["pid"].as_u64().unwrap()).unwrap();
        let thread = &threads(pid)[0];
        let sandbox = &process["sandbox"];
        let of_kernel = (thread["Uid"].split_whitespace().nth(1), thread["Seccomp_filters"].parse().ok());
        assert_eq!(of_kernel, (Some(user), sandbox["seccomp_filters"].as_u64()), "{role}: {process} {thread:?}");
        assert_eq!((sandbox["uid"].to_string().as_str(), &sandbox["no_new_privs"]), (user, &true.into()), "{process}");
        assert_eq!(sandbox["capabilities"].as_array().map(Vec::len), Some(capabilities), "{process}");
        // For a person, too.
        let is_row = |line: &&str| line.trim_start().starts_with(&format!("{role} ")) && line.contains("filters");
        let line = shown.lines().find(is_row);
        let line = line.unwrap_or_else(|| panic!("no {role}: {shown}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.contains(&pid.to_string().as_str()) && words.contains(&user), "{line}");
        assert!(capabilities > 0 || line.contains("none"), "{line}");
        let name = format!("sandbox of the {role} (pid {pid})");
        let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == name.as_str());
        assert_eq!(check.map(|check| &check["state"]), Some(&"ok".into()), "{name}: {doctor}");
        pids.push((role, pid));
    }
    // So does whoever looks at what `gateway run` writes.
    let told = |role: &str, pid: u32| {
        let log = fs::read_to_string(world.folder.join("stderr.log")).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of = lines.filter(|line| line["role"] == role && line["pid"] == pid && line["rights"].is_string());
        of.filter(|line| line["rights"].as_str().unwrap().contains("no_new_privs")).count()
    };
    for (role, pid) in &pids {
        until(&format!("a line about the {role}"), SOON, || (told(role, *pid) > 0).then_some(()));
    }
    // Another observer is told of as well, and the others are not told of again.
    let (_, observer) = pids.pop().unwrap();
    send(observer, Signal::SIGKILL);
    let another = until("another observer", SOON, || {
        let pid = daemon.status()["observer_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
        (pid != observer).then_some(pid)
    });
    until("a line about another observer", SOON, || (told("observer", another) == 1).then_some(()));
    for (role, pid) in pids {
        assert_eq!(told(role, pid), 1, "{role}");
    }
}

#[test]
fn a_reload_moves_the_access_log_where_the_guard_may_write() {
    if !report::may_run("privileges::log") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let client = Client::new(&world, support::world::GOOD_V4);
    let proxy = daemon.proxy_pid();
    // Not below any folder that the configuration names.
    let elsewhere = std::env::temp_dir().join(format!("{}-elsewhere", world.name));
    fs::create_dir_all(&elsewhere).unwrap();
    let log = |daemon: &Daemon<'_>, name: &str| {
        let from = fs::read_to_string(&daemon.config).unwrap();
        let from = from.lines().find(|line| line.starts_with("access_log = ")).unwrap().to_owned();
        daemon.edit(&from, &format!("access_log = {name:?}"));
    };

    // What cannot be written is refused, and nothing of the rest comes into force.
    for (path, names) in
        [(elsewhere.join("access.log"), "elsewhere/access.log"), ("/proc/no/access.log".into(), "/proc/no")]
    {
        log(&daemon, path.to_str().unwrap());
        let told = daemon.cli(&["reload"]);
        assert_eq!((told.code, &told.json["code"]), (1, &"access_log".into()), "{}", told.json);
        let message = told.json["message"].as_str().unwrap();
        assert!(message.contains(names), "{message}");
        assert_eq!(daemon.status()["proxy_pid"], proxy);
    }
    log(&daemon, elsewhere.join("access.log").to_str().unwrap());
    let told = daemon.cli(&["reload"]);
    assert!(told.json["message"].as_str().is_some_and(|message| message.contains("restart it")), "{}", told.json);

    // Beside the one before it is made, and made again after it was moved away.
    let moved = world.folder.join("moved.log");
    log(&daemon, moved.to_str().unwrap());
    daemon.done(&["reload"]);
    let lines = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    until("the line in the new log", SOON, || (lines(&moved) > 0).then_some(()));
    fs::rename(&moved, world.folder.join("moved.log.1")).unwrap();
    daemon.signal(Signal::SIGUSR1);
    until("the log to be made again", SOON, || moved.exists().then_some(()));

    // Started anew, it may write there.
    log(&daemon, elsewhere.join("access.log").to_str().unwrap());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    until("the line elsewhere", SOON, || (lines(&elsewhere.join("access.log")) > 0).then_some(()));
    fs::remove_dir_all(elsewhere).unwrap();
}

fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that has ended between the listing and the reading holds nothing.
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok());
    let read = texts.map(|text| {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    });
    read.collect()
}

fn capabilities(thread: &BTreeMap<String, String>, set: &str) -> u64 {
    u64::from_str_radix(&thread[set], 16).unwrap()
}
