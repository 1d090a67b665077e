//! Decides how the product is built: with cargo, and nothing else.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::setup;

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

/// The cargo that runs this program.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The root of the repository that this program was built from.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
