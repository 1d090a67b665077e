//! `cargo xtask bench reloads`: so many reloads while connections, streams, tunnels and clients that are limited go on, by
//! the end-to-end tests of that, with the gateway that would be in service. What fails ends it with 1; what it measures it
//! prints.

use super::measured;
use crate::{build, step::step};

/// What `cargo xtask bench reloads` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many reloads.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(12..=100_000))]
    reloads: u32,
    /// How many routes there are beside the one that changes.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    routes: u32,
    /// Use the gateway that is built for debugging: built in no time, and slower.
    #[arg(long)]
    debug: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    build::run(&build::Arguments { release: !arguments.debug })?;
    let mut command = measured::end_to_end("reload::");
    // One after the other: they measure memory and time.
    command.args(["--", "--test-threads", "1"]);
    command.env("GATEWAY_RELOADS", arguments.reloads.to_string()).env("GATEWAY_ROUTES", arguments.routes.to_string());
    if !arguments.debug {
        command.env("GATEWAY_BIN", measured::release());
    }
    step("reloads", &mut command)
}
