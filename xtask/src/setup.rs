//! Decides what must be installed, and installs it.

/// What `cargo xtask setup` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Also what building the kernel program, the tests and CI need.
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Installs what is missing, and touches nothing that is there.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { all: _, yes: _ } = arguments;
    Ok(())
}
