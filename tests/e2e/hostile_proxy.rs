//! A proxy in wrong hands, beside an observer: whatever it says, the guard lives, bans nobody that must not be banned,
//! answers its operators, and fills neither log nor memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    daemon::{Daemon, binary, install},
    http1::Client,
    random::Random,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

/// How many bans rules may ask for within a minute here.
const PACE: u64 = 20;

/// How long each scenario is watched.
pub(crate) const WATCHED: Duration = Duration::from_secs(3);

/// What no rule may ban, by the start of what `block list` says.
const PROTECTED: [&str; 13] = [
    "10.0.0.1", "127.", "0.", "255.", "224.", "169.254.", "192.0.2.", "::", "::1", "fd00::/", "fd00::1", "fe80:",
    "ff02:",
];

/// A gateway, some processes of which are hostile.
pub(crate) struct Stage<'world> {
    pub(crate) world: &'world World,
    pub(crate) daemon: Daemon<'world>,
    pub(crate) guard: u32,
    random: Random,
    slowest: Duration,
}

/// What there was before a scenario.
pub(crate) struct Before {
    lines: usize,
    audited: usize,
    descriptors: usize,
    at: Instant,
}

impl<'world> Stage<'world> {
    /// Starts the real gateway; its next proxy is hostile.
    fn new(world: &'world World) -> Self {
        let guard = format!("allow = [\"192.0.2.0/24\"]\nmax_bans_per_minute = {PACE}\nladder = {{ widen_at = 2 }}");
        // The observer is made from the same program, and as hostile.
        let quota = "[quota.daily]\nby = [\"address\"]\nrequests = 1000\nper = \"day\"\n";
        let more = format!("[admin]\naddress = \"127.0.0.1:9901\"\n{quota}");
        Self::with(world, &Settings { guard, more, ..Settings::default() })
    }

    /// Starts the real gateway, whose program [`program`] is.
    pub(crate) fn with(world: &'world World, settings: &Settings) -> Self {
        let path = program(world);
        install(Path::new(&binary()), &path, 0o755);
        let exec = format!("exec {} \"$@\"", path.display());
        let daemon = Daemon::start_under(world, settings, &["sh", "-c", &exec]);
        let guard = daemon.guard_pid();
        Self { world, daemon, guard, random: Random::new(), slowest: Duration::ZERO }
    }

    /// The next proxies do this.
    fn plays(&mut self, scenario: &str) {
        self.play("scenario", scenario);
    }

    /// What is in this file is played by the next of its processes.
    pub(crate) fn play(&mut self, file: &str, scenario: &str) {
        fs::write(self.world.folder.join(file), format!("{scenario} {}", self.random.below(1 << 32))).unwrap();
    }

    /// The guard's `status`, as its operator gets it; how long that took is kept.
    #[track_caller]
    pub(crate) fn status(&mut self) -> Value {
        let start = Instant::now();
        let status = self.daemon.status();
        self.slowest = self.slowest.max(start.elapsed());
        status
    }

    fn lines(&self) -> usize {
        self.log().lines().count()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.world.folder.join("stderr.log")).unwrap()
    }

    fn audited(&self) -> usize {
        fs::read_to_string(self.world.folder.join("state/audit.jsonl")).unwrap().lines().count()
    }

    /// One part of the guard's memory, in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.guard)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.guard)).unwrap().count()
    }

    /// A new proxy plays this scenario for a while, and nothing that matters happens.
    #[track_caller]
    fn survives(&mut self, scenario: &str) {
        self.plays(scenario);
        let before = self.before();
        if let Some(pid) = self.status()["proxy_pid"].as_u64() {
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.is_ok());
        }
        // Proxies that keep dying are started again after a while only.
        let begins = format!("hostile: {scenario}");
        until(&begins, SOON, || self.log().contains(&begins).then_some(()));
        let start = Instant::now();
        while start.elapsed() < WATCHED {
            self.is_served(scenario);
        }
        self.bans_are_safe(scenario);
        self.is_bounded(scenario, &before);
    }

    pub(crate) fn before(&self) -> Before {
        let (lines, audited, descriptors) = (self.lines(), self.audited(), self.descriptors());
        Before { lines, audited, descriptors, at: Instant::now() }
    }

    /// The guard lives, and an operator's word counts.
    #[track_caller]
    pub(crate) fn is_served(&mut self, scenario: &str) {
        let status = self.status();
        assert_eq!(status["guard_pid"], self.guard, "{scenario}: {status}");
        self.daemon.done(&["block", "add", "198.51.100.7", "--for", "1h", "--force"]);
        self.daemon.done(&["block", "del", "198.51.100.7"]);
        pause(Duration::from_millis(20));
    }

    /// Neither log nor chain, memory nor descriptors grow by what is said.
    #[track_caller]
    pub(crate) fn is_bounded(&self, scenario: &str, before: &Before) {
        let seconds = before.at.elapsed().as_secs() + 1;
        let (told, recorded) = (self.lines() - before.lines, self.audited() - before.audited);
        let most = usize::try_from(60 + 20 * seconds).unwrap();
        // Each block and unblock by hand is a line and a record.
        let by_hand = 2 * self.audit_count("operator:0");
        assert!(told <= most + by_hand, "{scenario}: {told} lines within {seconds} s");
        assert!(recorded <= 2 * most + by_hand, "{scenario}: {recorded} records within {seconds} s");
        assert!(self.memory() < 400 * 1_024, "{scenario}: {} KiB", self.memory());
        let open = self.descriptors();
        assert!(open < before.descriptors + 64, "{scenario}: {open} descriptors, {} before", before.descriptors);
    }

    pub(crate) fn audit_count(&self, what: &str) -> usize {
        fs::read_to_string(self.world.folder.join("state/audit.jsonl")).unwrap().matches(what).count()
    }

    /// Nobody is banned who must not be, and no more than the pace lets be.
    #[track_caller]
    fn bans_are_safe(&self, scenario: &str) {
        let blocks = self.daemon.done(&["block", "list"]);
        let entries = blocks["entries"].as_array().unwrap();
        for entry in entries {
            let source = entry["source"].as_str().unwrap();
            assert!(!PROTECTED.iter().any(|start| source.starts_with(start)), "{scenario}: {entry}");
            let length = source.split_once('/').map_or(128, |(_, length)| length.parse().unwrap());
            let widest = if source.contains(':') { 56 } else { 32 };
            assert!(length >= widest, "{scenario}: {entry}");
        }
        let minutes = 2 + self.status_uptime() / 60;
        assert!(u64::try_from(entries.len()).unwrap() <= PACE * minutes, "{scenario}: {} bans", entries.len());
    }

    fn status_uptime(&self) -> u64 {
        self.daemon.status()["uptime_seconds"].as_u64().unwrap()
    }
}

/// The program that the gateway runs.
pub(crate) fn program(world: &World) -> PathBuf {
    world.folder.join("gateway")
}

#[test]
fn a_proxy_in_wrong_hands_reaches_no_further() {
    if !report::may_run("hostile-proxy") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut stage = Stage::new(&world);
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    // What the real proxy has banned stays banned, whatever comes after it.
    stage.daemon.done(&["block", "add", "203.0.113.9", "--for", "1h"]);

    stage.plays("silent");
    install(Path::new(env!("CARGO_BIN_EXE_hostile-proxy")), &program(&world), 0o755);
    let told = stage.daemon.done(&["reload"]);
    assert!(told["message"].as_str().unwrap().contains("the program that is on disk"), "{told}");
    // The observer goes on by itself; the next one is hostile as well.
    if let Some(pid) = stage.status()["observer_pid"].as_u64() {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().is_ok());
    }
    for scenario in [
        "silent",
        "bytes",
        "half",
        "other-version",
        "too-much",
        "closed",
        "ready-and-failed",
        "acks",
        "flood",
        "bans",
        "shuts",
        "descriptors",
    ] {
        stage.survives(scenario);
        let listed = stage.daemon.done(&["block", "list"]).to_string();
        assert!(listed.contains("203.0.113.9"), "{scenario} lifted a block: {listed}");
    }
    // Observers have come and gone all the while.
    let status = stage.status();
    assert!(status["observer_restarts"].as_u64().is_some_and(|restarts| restarts >= 2), "{status}");
    assert!(stage.log().contains("hostile: observer: "), "the observer has said what it could");
    report::note(&format!("hostile-proxy: the slowest `gateway status` took {:?}", stage.slowest));

    // With the real program in its place again everything is as it was.
    install(Path::new(&binary()), &program(&world), 0o755);
    stage.plays("silent");
    until("a proxy to reload in place of", SOON, || stage.status()["proxy_pid"].as_u64());
    until("the real proxy", SOON, || (stage.daemon.cli(&["reload"]).code == 0).then_some(()));
    stage.daemon.done(&["allow", "add", "10.0.0.2"]);
    until("to be served", SOON, || {
        Client::new(&world, GOOD_V4).get("/health", "").is_ok_and(|answer| answer.status == 200).then_some(())
    });
    assert_eq!(stage.daemon.guard_pid(), stage.guard);
    // No proxy had a say in how long a quota lasts.
    let quotas = stage.daemon.done(&["quota", "top"]);
    for row in quotas["rows"].as_array().into_iter().flatten() {
        assert!(row["resets"].as_u64().is_some_and(|at| at <= tokens::now() + 86_400), "{row}");
    }
}
