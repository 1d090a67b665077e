//! Tests that change the machine they run on. `cargo xtask kernels` boots a virtual machine for them; `cargo test` does not
//! have them, as it could only skip them.
//!
//! Names as arguments choose tests. The output is that of a test runner: `cargo xtask kernels` reads it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests: whatever fails here panics and names its line"
)]

use std::{env, fs, panic, process::ExitCode};

mod clock;
mod load;

/// Every test, by its name.
const TESTS: [(&str, fn()); 1] = [("clock::d07_limits_and_bans_last_while_the_wall_clock_steps", clock::steps)];

/// What the kernel is told where the machine is there for these tests.
const OUR_MACHINE: &str = "gateway.tests=may-change-this-machine";

fn main() -> anyhow::Result<ExitCode> {
    let told = fs::read_to_string("/proc/cmdline")?;
    anyhow::ensure!(
        told.split_whitespace().any(|word| word == OUR_MACHINE),
        "these tests set the machine's clock: run them by `cargo xtask kernels clock`"
    );
    let filters: Vec<String> = env::args().skip(1).collect();
    let mut code = ExitCode::SUCCESS;
    for (name, test) in TESTS {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            let is_well = panic::catch_unwind(test).is_ok();
            println!("test {name} ... {}", if is_well { "ok" } else { "FAILED" });
            if !is_well {
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
