//! `cargo xtask kernels`: tries the kernel program on the kernels that users have. Each is booted under qemu, and runs
//! the tests of `tests/kernel`, and those of `tests/machine`, which run nowhere else; of `tests/e2e`, which run the daemon,
//! those that are named.
//!
//! Kernels, qemu and busybox come from Debian's archive into `target/kernels`; nothing is installed for it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    mem,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    build,
    places::{cargo, root},
    setup, step,
};

mod archive;
mod distribution;
mod image;

use archive::Archive;
use distribution::KERNELS;

/// What `cargo xtask kernels` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Install what is missing without asking.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only what CI runs: loading, and one test of each kind.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only this kernel, as `6.1`.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Only tests whose names contain one of these; also those of the daemon.
    pub(crate) filters: Vec<String>,
}

/// What CI runs of `tests/kernel`: forms of packets, lists, a ban over a cable and a restart, budgets, cookies,
/// the fast lane, lines about packets.
const QUICK: [&str; 8] = [
    "form::x01_ipv4_headers",
    "form::x02_fragments",
    "verdicts::rules_of_prefixes",
    "live::x09",
    "budgets::two_cpus_share_one_budget",
    "budgets::beyond_the_global_budget",
    "lane::connections_that_proved",
    "traced::d05",
];

/// A virtual machine without KVM is ten times slower, and nothing may hang for ever.
const QUICK_LIMIT: Duration = Duration::from_secs(900);
const FULL_LIMIT: Duration = Duration::from_secs(3_600);

/// Boots every kernel; fails if a test fails on one of them.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::run(&setup::Arguments { all: true, yes: arguments.yes })?;
    build::with_tests()?;
    let programs = programs()?;
    let archive = Archive::open(&root().join("target/kernels"))?;
    let (qemu, busybox) = (archive.qemu()?, archive.busybox()?);
    let script = script(arguments);
    let wanted = match arguments.filters.as_slice() {
        [] if arguments.quick => QUICK.map(str::to_owned).to_vec(),
        filters => filters.to_vec(),
    };
    let limit = if arguments.quick { QUICK_LIMIT } else { FULL_LIMIT };
    let mut failed = Vec::new();
    for kernel in KERNELS.iter().filter(|kernel| arguments.only.as_ref().is_none_or(|only| only == kernel.name)) {
        let tree = archive.kernel(kernel)?;
        let binary = image::below(&tree.join("boot"), &|name| name.starts_with("vmlinuz")).context("no kernel")?;
        let image = archive.folder().join(format!("{}.cpio", kernel.name));
        image::write(&image, &tree, &busybox, &programs, &script)?;
        eprintln!("== Linux {} of {}: at most {} s", kernel.name, kernel.users, limit.as_secs());
        let start = Instant::now();
        let outcome = boot(qemu.command(&binary, &image)?, limit)?;
        let seconds = start.elapsed().as_secs();
        eprintln!("== Linux {} of {}: {} in {seconds} s", kernel.name, kernel.users, outcome.told());
        let missing = outcome.missing(&wanted);
        if !missing.is_empty() {
            eprintln!("== no test ran of these names: {}", missing.join(", "));
        }
        if !outcome.is_well() || !missing.is_empty() {
            failed.push(kernel.name);
        }
    }
    if !failed.is_empty() {
        bail!("the tests failed on Linux {}", failed.join(" and "));
    }
    Ok(())
}

/// The tests and the daemon, by the names that they have in the image.
fn programs() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(["test", "--workspace", "--locked", "--no-run"]);
    // All of them: a selection has other features, and would be built once more.
    command.args(["--message-format", "json-render-diagnostics"]);
    eprintln!("== tests: {}", step::text(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let built: BTreeMap<String, PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let name = message.get("target")?.get("name")?.as_str()?;
            Some((name.to_owned(), PathBuf::from(message.get("executable")?.as_str()?)))
        })
        .collect();
    let test = |name: &'static str| -> anyhow::Result<_> {
        Ok((name, built.get(name).with_context(|| format!("cargo built no test {name}"))?.clone()))
    };
    let (kernel, e2e, machine) = (test("kernel")?, test("e2e")?, test("machine")?);
    let folder = e2e.1.ancestors().nth(2).map(Path::to_owned).context("the tests lie nowhere")?;
    Ok(vec![kernel, e2e, machine, ("gateway", folder.join("gateway"))])
}

/// What the machine runs.
fn script(arguments: &Arguments) -> String {
    let (filters, quick) = (arguments.filters.join(" "), QUICK.join(" "));
    let wanted = match (filters.is_empty(), arguments.quick) {
        (false, _) => filters.as_str(),
        (true, true) => quick.as_str(),
        (true, false) => "",
    };
    // The daemon's own tests have deadlines, and are many: only those that were asked for.
    let e2e =
        if filters.is_empty() { String::new() } else { format!("./e2e --test-threads 1 {filters} 2>&1 || failed=1") };
    format!(
        "cd /tests\nexport RUST_BACKTRACE=0 GATEWAY_BIN=/tests/gateway GATEWAY_TESTS_SKIPPED=/tmp/skipped\nfailed=0\n\
         export GATEWAY_TESTS_PATIENCE=10\n./kernel --test-threads 1 {wanted} 2>&1 || failed=1\n\
         ./machine {wanted} 2>&1 || failed=1\n{e2e}\n\
         # What cannot run here is not tried.\n[ ! -s /tmp/skipped ] || failed=1\nexit $failed\n"
    )
}

/// What a machine said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: Vec<String>,
    failed: Vec<String>,
    /// The test whose outcome comes on a line of its own, behind what it noted.
    running: String,
    /// The script's exit code; `None`: the machine did not come so far.
    ended: Option<i32>,
}

impl Outcome {
    fn hear(&mut self, line: &str) {
        if let Some(code) = line.strip_prefix("== the tests ended with ") {
            self.ended = code.trim().parse().ok();
        }
        let test = line.strip_prefix("test ").and_then(|test| test.split_once(" ... "));
        let outcome = test.map_or(line, |(name, outcome)| {
            name.clone_into(&mut self.running);
            outcome
        });
        match outcome {
            "ok" if !self.running.is_empty() => self.passed.push(mem::take(&mut self.running)),
            "FAILED" if !self.running.is_empty() => self.failed.push(mem::take(&mut self.running)),
            _ => {}
        }
    }

    fn is_well(&self) -> bool {
        self.ended == Some(0) && self.failed.is_empty() && !self.passed.is_empty()
    }

    /// What was asked for and is the name of no test that ran.
    fn missing(&self, wanted: &[String]) -> Vec<String> {
        wanted.iter().filter(|filter| !self.passed.iter().any(|name| name.contains(*filter))).cloned().collect()
    }

    fn told(&self) -> String {
        let Self { passed, failed, ended, .. } = self;
        let names = if failed.is_empty() { String::new() } else { format!(" ({})", failed.join(", ")) };
        let end = if ended.is_none() { ", and it did not come to an end" } else { "" };
        format!("{} passed, {} failed{names}{end}", passed.len(), failed.len())
    }
}

/// Boots a machine, shows what it says, and ends it if it takes longer than `limit`.
fn boot(mut command: Command, limit: Duration) -> anyhow::Result<Outcome> {
    let mut machine = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("qemu does not start")?;
    let (lines, said) = mpsc::channel();
    if let Some(output) = machine.stdout.take() {
        thread::spawn(move || read(output, &lines));
    }
    let deadline = Instant::now() + limit;
    let (mut outcome, mut is_up) = (Outcome::default(), false);
    while let Ok(line) = said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        // What firmware says before that is not for people.
        is_up |= line.contains("== Linux ");
        if is_up {
            eprintln!("   {line}");
        }
        outcome.hear(&line);
    }
    // It may have ended by itself.
    drop(machine.kill());
    machine.wait()?;
    Ok(outcome)
}

fn read(output: impl Read, lines: &mpsc::Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if lines.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_what_a_machine_says() {
        let heard = |lines: &[&str]| {
            let mut outcome = Outcome::default();
            lines.iter().for_each(|line| outcome.hear(line));
            outcome
        };
        let well = ["test form::x01 ... ok", "test result: ok. 1 passed; 0 failed", "== the tests ended with 0"];
        assert!(heard(&well).is_well());
        assert!(!heard(&well[..2]).is_well(), "it did not come to an end");
        assert!(!heard(&well[1..]).is_well(), "nothing was tried");
        let bad = heard(&[well[0], "test live::x09 ... FAILED", "== the tests ended with 1"]);
        assert!(!bad.is_well());
        assert_eq!(bad.told(), "1 passed, 1 failed (live::x09)");
        // What a test notes stands between its name and its outcome.
        let noted = heard(&["test live::x09 ... note: 2 ms", "ok", well[0], well[2]]);
        assert_eq!(noted.missing(&["x09".to_owned(), "x01".to_owned()]), [""; 0]);
        assert_eq!(noted.missing(&["x0".to_owned(), "x02".to_owned()]), ["x02"]);
    }
}
