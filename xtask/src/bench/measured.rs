//! What is measured: the gateway that would be in service, and the end-to-end tests that drive it.

use std::{env, path::PathBuf, process::Command};

use crate::{
    places::{cargo, root},
    step::step,
};

/// The gateway that would be in service, once it is built.
pub(super) fn release() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("release/gateway")
}

/// The end-to-end tests of this name, as a measurement.
pub(super) fn end_to_end(tests: &str) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command.args(["test", "--quiet", "--locked", "--package", "gateway-tests", "--test", "e2e", tests]);
    command
}

/// A part of the gateway by itself.
pub(super) fn library(part: &str, json: bool, more: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(["run", "--quiet", "--locked", "--profile", "profiling"]);
    command.args(["--package", "gateway-tests", "--example", &format!("bench-{part}"), "--"]);
    step(part, command.args(json.then_some("--json")).args(more))
}
