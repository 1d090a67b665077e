//! Runs the real binary in the gateway's namespace, with its state in the world's folder. It is killed and cleaned up
//! whatever happens to the test.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    pki::PKI,
    settings::Settings,
    wait::{SOON, until},
    world::{World, pin_folder},
};

/// What a command said.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its exit code.
    pub code: i32,
    /// Its standard output, which is one JSON value.
    pub json: Value,
    /// Its standard error.
    pub errors: String,
}

/// The gateway's binary: `GATEWAY_BIN`, or what was built beside the test.
#[must_use]
pub fn binary() -> OsString {
    env::var_os("GATEWAY_BIN").unwrap_or_else(|| {
        let test = env::current_exe().unwrap();
        let built = test.ancestors().skip(1).map(|folder| folder.join("gateway")).find(|path| path.is_file());
        built.expect("no `gateway` beside the test: run `cargo build` first, or `cargo xtask test`").into()
    })
}

/// Puts a copy of `program` into the place of `path`, as package managers do: a file of its own, with `mode`, renamed
/// there. The copy has no symbols, which are most of a debug build: copies that still run take room on the disk.
///
/// # Panics
/// If it cannot be written.
#[track_caller]
pub fn install(program: &Path, path: &Path, mode: u32) {
    let new = path.with_extension("new");
    let is_stripped = Command::new("strip").arg("-o").arg(&new).arg(program).stderr(Stdio::null()).status();
    // What is no program has no symbols.
    if !is_stripped.is_ok_and(|status| status.success()) {
        fs::copy(program, &new).unwrap();
    }
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Runs `gateway ARGUMENTS --json` and reads what it says.
///
/// # Panics
/// If it cannot be started, is killed, or says anything but one JSON value.
#[track_caller]
#[must_use]
pub fn gateway(arguments: &[&str]) -> Told {
    let output = Command::new(binary()).args(arguments).arg("--json").stdin(Stdio::null()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let errors = String::from_utf8_lossy(&stderr).into_owned();
    let text = String::from_utf8_lossy(&stdout);
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    assert!(text.trim().is_empty() || !json.is_null(), "{arguments:?} said no JSON: {text}{errors}");
    Told { code: status.code().expect("not killed"), json, errors }
}

/// A running gateway.
pub struct Daemon<'world> {
    world: &'world World,
    child: Child,
    /// The configuration's path.
    pub config: PathBuf,
    pins: PathBuf,
    /// What the gateway is started by, if not at once.
    under: Vec<String>,
}

impl<'world> Daemon<'world> {
    /// Writes the configuration and what it names, starts the gateway and waits until it serves.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start(world: &'world World, settings: &Settings) -> Self {
        Self::start_under(world, settings, &[])
    }

    /// As [`Self::start`], with the gateway as the last arguments of another program, which must become it.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start_under(world: &'world World, settings: &Settings, under: &[&str]) -> Self {
        let pins = pin_folder(&world.name);
        let config = world.folder.join("gateway.toml");
        PKI.write(&world.folder);
        fs::write(&config, settings.text(&world.folder, &pins)).unwrap();
        let under: Vec<String> = under.iter().map(|&word| word.to_owned()).collect();
        let child = spawn(world, &config, &under);
        let mut daemon = Self { world, child, config, pins, under };
        daemon.wait_until_ready();
        daemon
    }

    /// Starts the gateway again after it ended.
    ///
    /// # Panics
    /// If it does not come up.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(self.world, &self.config, &self.under);
        self.wait_until_ready();
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let child = &mut self.child;
        let config = self.config.to_str().unwrap();
        let log = self.world.folder.join("stderr.log");
        until("the gateway to serve", SOON, || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the gateway ended with {status}:\n{}", tail(&log));
            }
            let told = gateway(&["--config", config, "status"]);
            let is_ours = pid_of(&told.json, "launcher") == Some(child.id());
            // Where there is an observer, commands may ask it at once. One that has ended already is a test's own doing.
            let observes = told.json["admin"].is_null()
                || told.json["observer_pid"].is_u64()
                || told.json["observer_restarts"].as_u64() > Some(0);
            (is_ours && told.json["proxy_pid"].is_u64() && observes).then_some(())
        });
    }

    /// Runs `gateway --config ITS_OWN ARGUMENTS --json`.
    ///
    /// # Panics
    /// As [`gateway`].
    #[track_caller]
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Told {
        gateway(&[&["--config", self.config.to_str().unwrap()], arguments].concat())
    }

    /// As [`Self::cli`], for what must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> Value {
        let told = self.cli(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {} {}", told.json, told.errors);
        told.json
    }

    /// `gateway status`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Value {
        self.done(&["status"])
    }

    /// Packets of one verdict so far.
    ///
    /// # Panics
    /// If there is no such verdict.
    #[track_caller]
    #[must_use]
    pub fn packets(&self, verdict: &str) -> u64 {
        let status = self.status();
        let row = status["verdicts"].as_array().and_then(|rows| rows.iter().find(|row| row["verdict"] == verdict));
        row.and_then(|row| row["packets"].as_u64()).unwrap_or_else(|| panic!("no {verdict}: {status}"))
    }

    /// The launcher: the process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The guard's process.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn guard_pid(&self) -> u32 {
        self.guard_pid_other_than(0)
    }

    /// The guard's process, once there is one that is not `than` and has a proxy that serves.
    ///
    /// # Panics
    /// If none comes up.
    #[track_caller]
    #[must_use]
    pub fn guard_pid_other_than(&self, than: u32) -> u32 {
        until("another guard", SOON, || {
            let told = self.cli(&["status"]).json;
            pid_of(&told, "guard").filter(|pid| *pid != than && told["proxy_pid"].is_u64())
        })
    }

    /// The proxy's process, once there is one that is not `than`.
    ///
    /// # Panics
    /// If none comes up.
    #[track_caller]
    pub fn proxy_pid_other_than(&self, than: u32) -> u32 {
        until("another proxy", SOON, || {
            // A guard that ends right now answers nobody.
            let pid = self.cli(&["status"]).json["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            (pid != than).then_some(pid)
        })
    }

    /// The proxy's process.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn proxy_pid(&self) -> u32 {
        self.proxy_pid_other_than(0)
    }

    /// Sends the launcher a signal.
    ///
    /// # Panics
    /// If it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the launcher to end.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the gateway to end", SOON, || child.try_wait().unwrap())
    }

    /// kill -9 of the launcher: every other process dies with it at once.
    ///
    /// # Panics
    /// If it is gone already.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// The end of what it wrote to standard error.
    #[must_use]
    pub fn standard_error(&self) -> String {
        tail(&self.world.folder.join("stderr.log"))
    }

    /// Replaces a text in the configuration file.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from:?} is not in the configuration");
        fs::write(&self.config, text.replacen(from, to, 1)).unwrap();
    }

    /// The access log so far.
    ///
    /// # Panics
    /// If a line is not JSON.
    #[track_caller]
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.world.folder.join("access.log")).unwrap_or_default();
        // The gateway may be writing the last line right now.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The access log's record of one request, once it is written.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    #[must_use]
    pub fn logged(&self, id: &str) -> Value {
        until("the request in the access log", SOON, || self.access_log().into_iter().find(|line| line["id"] == id))
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- standard error of the gateway\n{}", self.standard_error());
            eprintln!("--- access log\n{}", tail(&self.world.folder.join("access.log")));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        remove_pins(&self.pins);
    }
}

fn spawn(world: &World, config: &Path, under: &[String]) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(world.folder.join("stderr.log")).unwrap();
    let words: Vec<OsString> = under.iter().map(OsString::from).chain([binary()]).collect();
    let mut command = world.gate.command(&words[0]);
    command.args(&words[1..]).arg("--config").arg(config).arg("run").stdin(Stdio::null()).stderr(log);
    command.stdout(File::create(world.folder.join("stdout.log")).unwrap());
    command.spawn().expect("`nsenter` of the package util-linux")
}

/// Sends a process a signal.
///
/// # Panics
/// If it is gone.
#[track_caller]
pub fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).expect("a process to signal");
}

/// The process of a role, as `gateway status` tells it.
fn pid_of(status: &Value, role: &str) -> Option<u32> {
    let process = status["processes"].as_array()?.iter().find(|process| process["role"] == role)?;
    u32::try_from(process["pid"].as_u64()?).ok()
}

/// bpffs has files and folders only, and neither can be removed with content.
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

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
