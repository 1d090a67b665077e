//! What a test prints although it passes: a measurement, or that it was skipped.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
};

/// Names the file that `cargo xtask test` counts skipped tests in.
pub const SKIPPED: &str = "GATEWAY_TESTS_SKIPPED";

/// Prints a line past the test runner's capture.
pub fn note(text: &str) {
    // Nobody to tell if standard error is closed.
    drop(writeln!(io::stderr(), "note: {text}"));
}

/// Says that the calling test cannot run here, and counts it. The caller returns.
///
/// # Panics
/// If it cannot be counted: a skip that nobody counts would look like a test that passed.
pub fn skipped(test: &str, reason: &str) {
    drop(writeln!(io::stderr(), "skipped: {test}: {reason}"));
    if let Some(path) = env::var_os(SKIPPED) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect(SKIPPED);
        writeln!(file, "{test}: {reason}").expect(SKIPPED);
    }
}

/// Whether this process may make namespaces and load programs. Says why not, and counts `test` as skipped.
#[must_use]
pub fn may_run(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        skipped(test, "needs root, for namespaces and XDP");
        return false;
    }
    true
}
