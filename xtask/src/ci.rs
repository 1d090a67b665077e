//! Decides what must hold before a change is accepted.

use anyhow::bail;

/// What `cargo xtask ci` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    bail!("ci: not built yet")
}
