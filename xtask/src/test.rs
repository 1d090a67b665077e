//! `cargo xtask test`: every test, through one `cargo test` of the workspace, with what was skipped counted.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader, IsTerminal as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    build, ebpf,
    places::{cargo, root},
    setup, step,
};

/// After so long without a test that ended, those that run hang: no test takes a fifth of it.
const HANGING: Duration = Duration::from_secs(600);

/// What `cargo xtask test` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Install what is missing without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Fail if a test is skipped, or the compiled kernel program cannot be checked. On by itself where `CI` is set.
    #[arg(long)]
    pub(crate) no_skips: bool,
    /// Only tests whose names contain this.
    pub(crate) filter: Option<String>,
}

/// Sets up, checks the kernel program against its source, builds the daemon and runs every test.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::run(&setup::Arguments { all: true, yes: arguments.yes })?;
    let no_skips = arguments.no_skips || env::var_os("CI").is_some();
    ebpf::check_if_comparable(no_skips)?;
    // Cargo builds no binary for the tests of another package, and those in tests/ run the real one.
    build::with_tests()?;
    if !step::is_root() {
        if no_skips {
            bail!("no test may be skipped, and those in namespaces and in the kernel need root");
        }
        eprintln!("== not root: tests in namespaces and in the kernel will be skipped");
    }

    let skipped = root().join("target/skipped-tests");
    fs::create_dir_all(root().join("target"))?;
    fs::write(&skipped, "")?;
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.env("GATEWAY_TESTS_SKIPPED", &skipped).args(&arguments.filter).stdout(Stdio::piped());
    // With its tests, so that they can be ended together. At a terminal somebody ends them by Ctrl-C.
    if !std::io::stdin().is_terminal() {
        command.process_group(0);
    }
    eprintln!("== tests: {}", step::text(&command));
    let start = Instant::now();
    let mut child = command.spawn().context("cargo does not start")?;
    let mut counts = TestCounts::default();
    let hanging = follow(&mut child, &mut counts)?;
    let status = child.wait()?;

    let skipped = fs::read_to_string(&skipped)?;
    for line in skipped.lines() {
        eprintln!("skipped: {line}");
    }
    for name in &counts.failures {
        eprintln!("failed: {name}");
    }
    let TestCounts { passed, failed, ignored, slow, .. } = counts;
    let (skipped, seconds) = (skipped.lines().count(), start.elapsed().as_secs());
    eprintln!("== tests: {passed} passed, {failed} failed, {skipped} skipped, {ignored} ignored in {seconds} s");
    if hanging {
        let names = slow.into_iter().collect::<Vec<_>>().join(", ");
        bail!("no test ended for {} s; these run longer than a minute: {names}", HANGING.as_secs());
    }
    if !status.success() {
        bail!("tests failed");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    if no_skips && (skipped > 0 || ignored > 0) {
        bail!("{} tests were skipped: here each of them has to run", skipped as u64 + ignored);
    }
    Ok(())
}

/// Prints and counts what the tests report until they have ended, or are killed because they hang: then it says so.
fn follow(child: &mut Child, counts: &mut TestCounts) -> anyhow::Result<bool> {
    let (sender, lines) = channel();
    let output = child.stdout.take().map(BufReader::new);
    thread::spawn(move || output.into_iter().flat_map(BufReader::lines).all(|line| sender.send(line).is_ok()));
    loop {
        match lines.recv_timeout(HANGING) {
            Ok(line) => {
                let line = line?;
                eprintln!("{line}");
                counts.read(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => {
                let cargo = Pid::from_raw(i32::try_from(child.id())?);
                // Where it has no group of its own, its tests are left to whoever sits at the terminal.
                let _ended = killpg(cargo, Signal::SIGKILL).or_else(|_no_group| kill(cargo, Signal::SIGKILL));
                return Ok(true);
            }
        }
    }
}

/// What the test binaries reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct TestCounts {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
    /// Those that have run for more than a minute and have not ended.
    slow: BTreeSet<String>,
}

impl TestCounts {
    fn read(&mut self, line: &str) {
        let test = line.strip_prefix("test ").unwrap_or_default();
        if let Some(name) = test.strip_suffix(" has been running for over 60 seconds") {
            self.slow.insert(name.to_owned());
        }
        if let Some((name, result)) = test.split_once(" ... ") {
            self.slow.remove(name);
            if result == "FAILED" {
                self.failures.push(name.to_owned());
            }
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (count, what) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next());
            match (count, what) {
                (Some(count), Some("passed")) => self.passed += count,
                (Some(count), Some("failed")) => self.failed += count,
                (Some(count), Some("ignored")) => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut counts = TestCounts::default();
        for line in [
            "test jwt::forged has been running for over 60 seconds",
            "test jwt::slow has been running for over 60 seconds",
            "test jwt::expired ... ok",
            "test jwt::forged ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
        ] {
            counts.read(line);
        }
        let (failures, slow) = (vec!["jwt::forged".to_owned()], BTreeSet::from(["jwt::slow".to_owned()]));
        assert_eq!(counts, TestCounts { passed: 6, failed: 1, ignored: 1, failures, slow });
    }
}
