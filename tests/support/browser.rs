//! A script that drives Chromium, in the gateway's own namespace. Dropped: gone, with the browser.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;

use crate::{child_lines::ChildLines, provider::node, wait::SOON, world::World};

/// Where `cargo xtask setup --all` installs what the script needs.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/browser/node_modules");

/// A running script.
pub struct Browser<'world> {
    child: Child,
    to: ChildStdin,
    lines: ChildLines,
    world: &'world World,
}

impl<'world> Browser<'world> {
    /// Runs a script of `tests/e2e`, which is told where its modules are, this address, a folder of its own, and `given`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(world: &'world World, script: &str, address: &str, given: &Value) -> Self {
        assert!(Path::new(MODULES).exists(), "what drives Chromium is missing: `cargo xtask setup --all`");
        let folder = world.folder.join("browser");
        fs::create_dir_all(&folder).unwrap();
        let script = format!("{}/e2e/{script}", env!("CARGO_MANIFEST_DIR"));
        let log = fs::File::create(world.folder.join("browser.log")).unwrap();
        let mut command: Command = world.gate.command(node().as_os_str());
        command.arg(script).arg(MODULES).arg(address).arg(&folder).arg(given.to_string()).env("HOME", &folder);
        // The browser is ended with the script, whatever becomes of that.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (to, lines) = (child.stdin.take().unwrap(), ChildLines::of(&mut child).patient(3 * SOON));
        Self { child, to, lines, world }
    }

    /// What the script wants to be done next; it waits for [`Self::is_done`].
    ///
    /// # Panics
    /// If it has failed.
    pub fn wants(&mut self) -> Value {
        let line = self.lines.find_map(|line| serde_json::from_str(&line).ok());
        line.unwrap_or_else(|| panic!("{}", fs::read_to_string(self.world.folder.join("browser.log")).unwrap()))
    }

    /// Has it go on.
    ///
    /// # Panics
    /// If it is gone.
    pub fn is_done(&mut self) {
        writeln!(self.to).unwrap();
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            killpg(Pid::from_raw(group), Signal::SIGKILL).unwrap_or_default();
        }
        drop(self.child.wait());
    }
}
