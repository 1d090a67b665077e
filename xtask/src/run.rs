//! Decides how the daemon is demonstrated.

use anyhow::bail;

/// What `cargo xtask run` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    bail!("run: not built yet")
}
