//! `cargo xtask bench soak`: everything at once against the real gateway, for so many minutes, in a network namespace
//! of its own; whatever breaks a rule ends it with 1.

use std::process::Command;

use super::measured;
use crate::{
    build,
    places::{cargo, root},
    step::step,
};

/// What `cargo xtask bench soak` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// So long with a reload every second, new certificates and killed servers every few seconds; then a third of it
    /// without reloads, so that one proxy bears it all.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Print the figures as one JSON value on one line.
    #[arg(long)]
    json: bool,
    /// Use the build that would be in service, which takes minutes to make. Results are the same, at more requests.
    #[arg(long)]
    release: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    build::run(&build::Arguments { release: arguments.release })?;
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command.args(["run", "--quiet", "--locked", "--package", "gateway-tests", "--example", "soak", "--"]);
    let seconds = |minutes: f64| format!("{:.0}", (minutes * 60.0).max(1.0));
    command.args(["--seconds", &seconds(arguments.minutes), "--steady", &seconds(arguments.minutes / 3.0)]);
    if arguments.json {
        command.arg("--json");
    }
    if arguments.release {
        command.env("GATEWAY_BIN", measured::release());
    }
    step("soak", &mut command)
}
