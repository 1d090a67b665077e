//! What is measured: the gateway that would be in service, and the end-to-end tests that drive it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    build,
    places::{cargo, root},
    step::step,
};

/// The gateway that would be in service, once it is built.
pub(super) fn release() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("release/gateway")
}

/// The gateway that is measured: the program that is named, or the one that would be in service, built first.
pub(super) fn gateway(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(program) => fs::canonicalize(program).with_context(|| program.display().to_string()),
        None => {
            build::run(&build::Arguments { release: true })?;
            Ok(release())
        }
    }
}

/// The folder of what no package of Debian has.
pub(super) fn peers() -> PathBuf {
    env::var_os("PEERS").map_or_else(|| env::temp_dir().join("bench-peers"), PathBuf::from)
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

/// The files of a folder that end so.
pub(super) fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
