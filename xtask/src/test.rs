//! `cargo xtask test`: every test, through one `cargo test` of the workspace, with what was skipped counted.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{
    build, ebpf,
    places::{cargo, root},
    setup, step,
};

/// What `cargo xtask test` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Install what is missing without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Fail if a test is skipped. On by itself where `CI` is set.
    #[arg(long)]
    pub(crate) no_skips: bool,
    /// Only tests whose names contain this.
    pub(crate) filter: Option<String>,
}

/// Sets up, checks the kernel program against its source, builds the daemon and runs every test.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::run(&setup::Arguments { all: true, yes: arguments.yes })?;
    ebpf::check_if_comparable()?;
    // Cargo builds no binary for the tests of another package, and those in tests/ run the real one.
    build::run(&build::Arguments::default())?;
    let no_skips = arguments.no_skips || env::var_os("CI").is_some();
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
    eprintln!("== tests: {}", step::text(&command));
    let start = Instant::now();
    let mut child = command.spawn().context("cargo does not start")?;
    let mut tally = Tally::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines) {
        let line = line?;
        eprintln!("{line}");
        tally.read(&line);
    }
    let status = child.wait()?;

    let skipped = fs::read_to_string(&skipped)?;
    for line in skipped.lines() {
        eprintln!("skipped: {line}");
    }
    for name in &tally.failures {
        eprintln!("failed: {name}");
    }
    let Tally { passed, failed, ignored, .. } = tally;
    let (skipped, seconds) = (skipped.lines().count(), start.elapsed().as_secs());
    eprintln!("== tests: {passed} passed, {failed} failed, {skipped} skipped, {ignored} ignored in {seconds} s");
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

/// What the test binaries reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
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
        let mut tally = Tally::default();
        for line in [
            "test jwt::expired ... ok",
            "test jwt::forged ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.04s",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.04s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 6, failed: 1, ignored: 1, failures: vec!["jwt::forged".to_owned()] });
    }
}
