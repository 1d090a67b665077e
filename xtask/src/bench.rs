//! Decides what is measured.

use anyhow::bail;

/// What `cargo xtask bench` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    bail!("bench: not built yet")
}
