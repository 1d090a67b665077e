//! What becomes of pins that somebody removes, and of a second gateway that would use the same pins or interface.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value;
use support::{
    daemon::{Daemon, binary, gateway, send},
    http1::Client,
    pki::PKI,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World, pin_folder},
};

const SILENCE: Duration = Duration::from_millis(200);

/// Everything that is pinned below a folder.
fn pinned(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(pinned(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

#[test]
fn pins_that_are_removed_are_made_again() {
    if !report::may_run("pins::removed") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let folder = pin_folder(&world.name);
    let before = pinned(&folder);
    assert!(before.len() > 10, "{before:?}");
    before.iter().for_each(|path| fs::remove_file(path).unwrap());
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        fs::remove_dir(entry.path()).unwrap();
    }
    fs::remove_dir(&folder).unwrap();
    until("the pins to be made again", SOON, || (pinned(&folder) == before).then_some(()));
    until("it to be told", SOON, || daemon.status()["warnings"].to_string().contains("repaired").then_some(()));

    // They are what keeps the kernel dropping.
    daemon.kill();
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a guard's death detaches");
    daemon.start_again();
    assert_eq!(daemon.status()["interfaces"][0]["adopted"], true, "{}", daemon.status());
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    daemon.done(&["detach"]);
    assert_eq!(pinned(&folder), Vec::<PathBuf>::new(), "detached, and pinned again");
    daemon.done(&["attach"]);
    assert_eq!(pinned(&folder), before);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
}

/// A BPF file system of a test's own.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(&self) {
        fs::create_dir_all(&self.0).unwrap();
        mount(Some("bpf"), &self.0, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    }

    fn unmount(&self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap_or_default();
    }
}

#[test]
fn pins_are_made_again_where_their_file_system_is_mounted_anew() {
    if !report::may_run("pins::unmounted") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let bpffs = Bpffs(world.folder.join("bpf"));
    bpffs.mount();
    let folder = bpffs.0.join("pins");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["detach"]);
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    daemon.edit(pin_folder(&world.name).to_str().unwrap(), folder.to_str().unwrap());
    daemon.start_again();
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let (before, guard) = (pinned(&folder), daemon.guard_pid());
    assert!(before.len() > 10, "{before:?}");

    bpffs.unmount();
    let remedy = format!("`mount -t bpf -o mode=0700 bpf {}`", bpffs.0.display());
    until("it to be told what to do", SOON, || {
        let warnings = daemon.status()["warnings"].to_string();
        (warnings.contains("no BPF file system is mounted there") && warnings.contains(&remedy)).then_some(())
    });
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "what is held open stays in force");
    bpffs.mount();
    until("the pins to be made again", SOON, || (pinned(&folder) == before).then_some(()));
    until("the warning to go", SOON, || {
        (!daemon.status()["warnings"].to_string().contains("cannot be made again")).then_some(())
    });
    assert_eq!(daemon.guard_pid(), guard, "a restart repairs nothing that this does not");

    // They are as good as the first ones.
    daemon.done(&["detach"]);
    assert_eq!(pinned(&folder), Vec::<PathBuf>::new(), "detached, and pinned again");
    daemon.done(&["attach"]);
    assert_eq!(pinned(&folder), before);
    daemon.kill();
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a guard's death detaches");
    daemon.start_again();
    assert_eq!(daemon.status()["interfaces"][0]["adopted"], true, "{}", daemon.status());
}

/// Nothing can be pinned: who demands no mode is served all the same, and is told why.
#[test]
fn pins_that_cannot_be_made_keep_nobody_from_being_served() {
    if !report::may_run("pins::read_only") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let bpffs = Bpffs(world.folder.join("bpf"));
    bpffs.mount();
    mount(
        None::<&str>,
        &bpffs.0,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .unwrap();
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["detach"]);
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    daemon.edit(pin_folder(&world.name).to_str().unwrap(), bpffs.0.join("pins").to_str().unwrap());
    daemon.start_again();
    let status = daemon.status();
    let warnings = status["warnings"].to_string();
    assert_eq!(status["enforcement"], "accept", "{status}");
    assert!(warnings.contains("the folder for pins cannot be made") && warnings.contains("os error 30"), "{warnings}");
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).get("/health", "").is_err(), "the ban is not enforced at accept");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    let attach = daemon.cli(&["attach"]);
    assert!(attach.code != 0 && attach.json["code"] == "not_attached", "{}", attach.json);
    assert!(daemon.done(&["check"])["warnings"].to_string().contains("guard.pin_dir"));

    // Where a mode is demanded, there is no doing without.
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    daemon.edit("[guard]", "[guard]\nmode = \"generic\"");
    let told = daemon.cli(&["run"]);
    assert!(told.code == 1 && told.errors.contains("the folder for pins cannot be made"), "{}", told.errors);
}

/// Runs a gateway that cannot start; what it says of that.
fn refused(world: &World, config: &Path) -> String {
    let output = world.gate.command(&binary()).arg("--config").arg(config).arg("run").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Each fault names its setting, and where that stands.
#[test]
fn a_first_start_that_fails_leaves_nothing_pinned() {
    if !report::may_run("pins::first") {
        return;
    }
    let world = World::new();
    PKI.write(&world.folder);
    let (config, pins) = (world.folder.join("gateway.toml"), pin_folder(&world.name));
    let text = Settings::default().text(&world.folder, &pins);
    let with_admin = format!("{text}\n[admin]\naddress = \"127.0.0.1:9901\"\n");
    let socket = text.lines().position(|line| line.starts_with("control_socket")).unwrap() + 1;
    let state = text.lines().position(|line| line.starts_with("state_dir")).unwrap() + 1;
    fs::write(world.folder.join("file"), "").unwrap();
    let file = world.folder.join("file").display().to_string();
    for (taken, text, says) in [
        (Some("10.0.0.1:443"), text.clone(), vec!["listener.address: 10.0.0.1:443", "or change listener.address"]),
        (Some("127.0.0.1:9901"), with_admin, vec!["admin.address: 127.0.0.1:9901", "or change admin.address"]),
        (
            None,
            replaced_line(&text, socket, &format!("control_socket = {:?}", format!("{file}/a.sock"))),
            vec!["guard.control_socket: ", "control_socket = "],
        ),
        (
            None,
            replaced_line(&text, state, &format!("state_dir = {file:?}")),
            vec!["guard.state_dir: ", "state_dir = "],
        ),
        (
            None,
            text.replace("/access.log\"", "/file/access.log\""),
            vec!["proxy.access_log: ", "file cannot be made", "write the path of a file"],
        ),
        (
            None,
            format!(
                "{}\n[[access_log.output]]\ntype = \"stdout\"\n[[access_log.output]]\ntype = \"file\"\n\
                 path = {:?}\nrotate = false\n",
                without_line(&text, "access_log = "),
                format!("{file}/access.log")
            ),
            vec!["access_log.output[1].path: ", "file cannot be made", "write the path of a file"],
        ),
    ] {
        let listener = taken.map(|address| world.gate.enter(|| TcpListener::bind(address).unwrap()));
        fs::write(&config, text).unwrap();
        let said = refused(&world, &config);
        // In a log quotes are escaped.
        let plain = said.replace('\\', "");
        assert!(says.iter().all(|word| plain.contains(word)), "{says:?}: {said}");
        if listener.is_none() {
            assert!(plain.contains("gateway.toml:"), "{said}");
        }
        assert_eq!(pinned(&pins), Vec::<PathBuf>::new(), "{said}");
    }
}

fn without_line(text: &str, start: &str) -> String {
    text.lines().filter(|line| !line.starts_with(start)).collect::<Vec<_>>().join("\n")
}

fn replaced_line(text: &str, number: usize, by: &str) -> String {
    let lines = text.lines().enumerate().map(|(at, line)| if at + 1 == number { by } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_start_that_fails_keeps_what_was_pinned() {
    if !report::may_run("pins::kept") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    daemon.kill();
    let before = pinned(&pin_folder(&world.name));
    // The proxy of what was killed ends a moment later.
    let bind = || world.gate.enter(|| TcpListener::bind("10.0.0.1:443").ok());
    let listener = until("the address to be free", SOON, bind);
    let said = refused(&world, &daemon.config);
    assert_eq!(pinned(&pin_folder(&world.name)), before, "{said}");
    drop(listener);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "{said}");
    daemon.start_again();
    assert_eq!(daemon.status()["interfaces"][0]["adopted"], true, "{}", daemon.status());
}

/// A second gateway in the same world: other state, other ports.
struct Second {
    child: Child,
    config: String,
}

impl Second {
    fn start(world: &World, mode: &str, pins: &str) -> Self {
        let text = fs::read_to_string(world.folder.join("gateway.toml")).unwrap();
        let own = pin_folder(&world.name);
        let text = [
            ("/state\"", "/state-b\""),
            ("/control.sock\"", "/b.sock\""),
            ("/access.log\"", "/b.log\""),
            (":443\"", ":8443\""),
            (own.to_str().unwrap(), pins),
            ("[guard]\n", &format!("[guard]\nmode = \"{mode}\"\n")),
        ]
        .into_iter()
        .fold(text, |text, (from, to)| text.replace(from, to));
        let config = world.folder.join("b.toml");
        fs::write(&config, text).unwrap();
        let log = fs::File::create(world.folder.join("b.stderr")).unwrap();
        let mut command = world.gate.command(&binary());
        command.arg("--config").arg(&config).arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap(), config: config.to_str().unwrap().to_owned() }
    }

    fn warnings(&mut self) -> String {
        until("the second gateway to serve and to warn", SOON, || {
            assert!(self.child.try_wait().unwrap().is_none(), "the second gateway ended");
            let told = gateway(&["--config", &self.config, "status"]);
            let serves = told.json["proxy_pid"].is_u64() && told.json["processes"][0]["pid"] == self.child.id();
            let warnings = told.json["warnings"].to_string();
            (serves && warnings.contains("another")).then_some(warnings)
        })
    }

    fn stop(mut self) {
        send(self.child.id(), Signal::SIGTERM);
        until("the second gateway to end", SOON, || self.child.try_wait().unwrap());
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_second_gateway_takes_nothing_from_the_first() {
    if !report::may_run("pins::second") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let same = pin_folder(&world.name);
    let same = same.to_str().unwrap();
    let other = format!("{same}-b");
    let whole = |what: &str| {
        assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "{what}: a ban of the first is gone");
        let status = daemon.status();
        assert!(!status["warnings"].to_string().contains("repaired"), "{what}: {status}");
        assert_eq!(status["interfaces"].as_array().map(Vec::len), Some(1), "{what}: {status}");
    };
    for (mode, pins, says) in [("native", same, "guard.pin_dir"), ("native", other.as_str(), "bpftool link detach")] {
        let mut second = Second::start(&world, mode, pins);
        let status = until("the second gateway to be refused", SOON, || second.child.try_wait().unwrap());
        let log = fs::read_to_string(world.folder.join("b.stderr")).unwrap();
        assert!(status.code() == Some(1) && log.contains(says), "{mode} {pins}: {status} {log}");
        whole("refused");
    }
    for (pins, says) in [(same, "guard.pin_dir"), (other.as_str(), "bpftool link detach")] {
        let mut second = Second::start(&world, "auto", pins);
        let warnings = second.warnings();
        assert!(warnings.contains(says), "{pins}: {warnings}");
        whole("beside");
        let detached: Value = gateway(&["--config", &second.config, "block", "add", "10.0.0.67"]).json;
        assert_eq!(detached["answer"], "done", "{detached}");
        second.stop();
        whole("after");
    }
    // Not by the command of the one that runs beside it, either.
    let refused = gateway(&["--config", world.folder.join("b.toml").to_str().unwrap(), "detach"]);
    assert_eq!(refused.code, 0, "its own pins are its own: {}", refused.json);
    whole("detached");
}
