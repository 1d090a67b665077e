//! `cargo xtask build`: builds the product, with cargo and nothing else.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{
    places::{cargo, root},
    setup,
    step::step,
};

/// What `cargo xtask build` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Build with optimisations.
    #[arg(long)]
    pub(crate) release: bool,
}

/// Builds the daemon. The kernel program is embedded as committed; `cargo xtask ebpf` renews it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure(setup::Level::Build, setup::Consent::Ask)?;
    let mut cargo = Command::new(cargo());
    cargo.current_dir(root()).args(["build", "--package", "gateway", "--locked"]);
    if arguments.release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cargo does not start")?;
    if !status.success() {
        bail!("the product does not build");
    }
    Ok(())
}

/// Builds the daemon and every test with the features that `cargo test --workspace` has: a selection of packages has
/// others, and whatever depends on them would be built once more.
pub(crate) fn with_tests() -> anyhow::Result<()> {
    setup::ensure(setup::Level::Build, setup::Consent::Ask)?;
    let mut build = Command::new(cargo());
    build.current_dir(root()).args(["build", "--workspace", "--bins", "--tests", "--examples", "--locked"]);
    step("build", &mut build)
}
