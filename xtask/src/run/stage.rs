//! Sets up the demonstration and takes it down: namespace, veth pair, folder, sample API, gateway.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::places::root;

/// The namespace that plays the outside world.
pub(super) const OUTSIDE: &str = "gateway-demo";
/// As in examples/demo.toml.
const INTERFACE: &str = "gateway-demo0";
const PINS: &str = "/sys/fs/bpf/gateway-demo";
const UPSTREAM: &str = "127.0.0.1:9088";
const GATEWAY: [&str; 2] = ["10.88.0.1", "fd00:88::1"];
/// Where the gateway serves.
pub(super) const URL: &str = "https://10.88.0.1:8443";
/// The good client.
pub(super) const GOOD: &str = "10.88.0.2";
/// The attacker.
pub(super) const ATTACKER: &str = "10.88.0.66";

/// A running demonstration; dropping it removes everything.
pub(super) struct Stage {
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// The daemon's binary.
    pub(super) gateway: PathBuf,
    daemon: Option<Child>,
    sample: Option<Child>,
}

impl Stage {
    /// Makes everything and waits until the gateway serves.
    pub(super) fn build(release: bool) -> anyhow::Result<Self> {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let folder = env::temp_dir().join("gateway-demo");
        if Path::new("/run/netns").join(OUTSIDE).exists() && still_runs(&folder) {
            bail!("a demonstration runs already: end it first ({} exists)", folder.display());
        }
        let gateway = target.join(if release { "release/gateway" } else { "debug/gateway" });
        let sample = target.join("debug/examples/sample-api");
        let mut stage = Self { folder, gateway, daemon: None, sample: None };
        // What a demonstration that was killed left behind.
        stage.clear();
        stage.fixtures(&sample)?;
        network()?;
        stage.sample = Some(stage.spawn("sample-api", Command::new(&sample).args(["serve", UPSTREAM]))?);
        let mut daemon = Command::new(&stage.gateway);
        daemon.arg("--config").arg(stage.config()).args(["run", "--detach-on-exit"]);
        stage.daemon = Some(stage.spawn("gateway", &mut daemon)?);
        stage.wait_until_ready()?;
        Ok(stage)
    }

    /// The configuration's path.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// Fails if one of the processes has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for (name, child) in [("gateway", &mut self.daemon), ("sample-api", &mut self.sample)] {
            if let Some(status) = child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                let log = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
                bail!("{name} ended ({status}):\n{log}");
            }
        }
        Ok(())
    }

    /// A program that runs in the outside world.
    pub(super) fn outside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", OUTSIDE, program]);
        command
    }

    /// `gateway ...` against this daemon.
    pub(super) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.gateway);
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Commands to paste into another terminal.
    pub(super) fn commands(&self) -> String {
        let folder = self.folder.display();
        let gateway = format!("{} --config {folder}/gateway.toml", self.gateway.display());
        let curl = |source: &str, token: &str, more: &str| {
            format!(
                "ip netns exec {OUTSIDE} curl -sS -m 3 {more}--cacert {folder}/ca.crt --interface {source} \\\n    \
                 -H \"Authorization: Bearer $(cat {folder}/{token}.token)\" {URL}/items/7"
            )
        };
        format!(
            "\nThe gateway serves {URL}. In another terminal, as root:\n\n\
             # a good client\n{}\n\n\
             # an attacker: five forged tokens are answered 401, then nothing comes back at all\n\
             for n in 1 2 3 4 5 6; do {}; done\n\n\
             # why, and how things are\n{gateway} why {ATTACKER}\n{gateway} status\n\n\
             # let it in again\n{gateway} block del {ATTACKER}\n\n\
             # what was served and refused\ntail -f {folder}/access.log\n\n\
             # metrics, from the observer\n\
             curl -sS --unix-socket {folder}/admin.sock http://localhost/metrics",
            curl(GOOD, "good", "-w '\\n' "),
            curl(ATTACKER, "forged", "-o /dev/null -w '%{http_code}\\n' "),
        )
    }

    fn fixtures(&self, sample: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        quietly(Command::new(sample).arg("fixtures").arg(&self.folder).args(GATEWAY))?;
        fs::copy(root().join("examples/demo.toml"), self.config()).context("examples/demo.toml")?;
        fs::write(self.folder.join("pid"), std::process::id().to_string())?;
        Ok(())
    }

    /// Starts a process in a group of its own, so that Ctrl-C reaches us alone and we end it in good order.
    fn spawn(&self, name: &str, command: &mut Command) -> anyhow::Result<Child> {
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.process_group(0).spawn().with_context(|| format!("{name} does not start"))
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            self.check()?;
            let output = self.cli(&["status", "--json"]).output()?;
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if status.get("proxy_pid").is_some_and(serde_json::Value::is_u64) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("gateway.log")).unwrap_or_default();
                bail!("the gateway does not come up:\n{log}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Removes everything, and does not mind what is not there.
    fn clear(&mut self) {
        for child in [self.daemon.take(), self.sample.take()].into_iter().flatten() {
            end(child);
        }
        for arguments in [["netns", "del", OUTSIDE], ["link", "del", INTERFACE]] {
            drop(Command::new("ip").args(arguments).stderr(Stdio::null()).status());
        }
        remove_pins(Path::new(PINS));
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The veth pair: one end here, the other in the namespace, with the addresses of its two clients.
fn network() -> anyhow::Result<()> {
    quietly(Command::new("ip").args(["netns", "add", OUTSIDE]))?;
    let ours = format!(
        "link add {INTERFACE} type veth peer name outside0 netns {OUTSIDE}\n\
         addr add {}/24 dev {INTERFACE}\n\
         addr add {}/64 dev {INTERFACE} nodad\n\
         link set {INTERFACE} up\n\
         route add fd00:88:0:1::/64 dev {INTERFACE}\n\
         route add fd00:88:0:2::/64 dev {INTERFACE}\n",
        GATEWAY[0], GATEWAY[1]
    );
    let theirs = format!(
        "link set lo up\n\
         addr add {GOOD}/24 dev outside0\n\
         addr add {ATTACKER}/24 dev outside0\n\
         addr add fd00:88:0:1::2/64 dev outside0 nodad\n\
         addr add fd00:88:0:2::66/64 dev outside0 nodad\n\
         link set outside0 up\n\
         route add fd00:88::/64 dev outside0\n"
    );
    batch(&["-batch", "-"], &ours)?;
    batch(&["-n", OUTSIDE, "-batch", "-"], &theirs)
}

fn batch(arguments: &[&str], lines: &str) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    let mut child = command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs a command whose output matters only if it fails.
fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("{}: {}", crate::step::text(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// SIGTERM, some time to go, then SIGKILL.
fn end(mut child: Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have gone by itself.
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_default();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    drop(child.kill());
    drop(child.wait());
}

fn still_runs(folder: &Path) -> bool {
    let pid = fs::read_to_string(folder.join("pid")).unwrap_or_default();
    let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    !pid.trim().is_empty() && command.contains("xtask")
}

/// bpffs has files and folders only, and no folder can be removed with content.
fn remove_pins(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_pins(&entry.path());
        } else {
            drop(fs::remove_file(entry.path()));
        }
    }
    drop(fs::remove_dir(folder));
}
