//! Decides what a tidy source tree is.

use anyhow::bail;

/// What `cargo xtask tidy` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    bail!("tidy: not built yet")
}
