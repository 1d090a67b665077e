//! `cargo xtask ci`: everything that must hold before a change is accepted, cheapest first.

use std::process::Command;

use crate::{
    docs, kernels,
    places::{cargo, root},
    setup,
    step::step,
    test, tidy,
};

/// What `cargo xtask ci` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
}

/// Runs every check and stops at the first that fails. `xtask`: the whole command line.
pub(crate) fn run(arguments: &Arguments, xtask: &clap::Command) -> anyhow::Result<()> {
    setup::run(&setup::Arguments { all: true, yes: arguments.yes })?;
    step("format", in_root().args(["fmt", "--all", "--check"]))?;
    // Outside the workspace, because it is built for another machine.
    step(
        "format of the kernel program",
        in_root().args(["fmt", "--check", "--manifest-path", "gateway-ebpf/Cargo.toml"]),
    )?;
    // Outside it too, because libFuzzer is linked into it.
    step("format of the fuzz target", in_root().args(["fmt", "--check", "--manifest-path", "tests/fuzz/Cargo.toml"]))?;
    tidy::run(&tidy::Arguments {})?;
    docs::run(&docs::Arguments::default(), xtask)?;
    step("lints", in_root().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    // Not advisories: they are fetched, and a build must not fail because of what was found out elsewhere today.
    step(
        "dependencies",
        Command::new(setup::cargo_deny()).current_dir(root()).args(["check", "bans", "licenses", "sources"]),
    )?;
    print_room();
    test::run(&test::Arguments { yes: arguments.yes, no_skips: true, filter: None })?;
    print_room();
    kernels::run(&kernels::Arguments { yes: arguments.yes, quick: true, ..kernels::Arguments::default() })
}

/// A full disk fails tests that have no other fault.
fn print_room() {
    if let Ok(disk) = nix::sys::statvfs::statvfs(&root()) {
        let free = disk.blocks_available().saturating_mul(disk.fragment_size()) >> 20;
        eprintln!("== free on the disk: {free} MiB");
    }
}

fn in_root() -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command
}
