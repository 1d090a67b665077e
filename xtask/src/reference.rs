//! Writes `docs/reference/`, the pages about every key, command and metric, from the code that reads them.

use std::process::Command;

use crate::{places, step};

/// What `cargo xtask reference` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Writes the pages anew. The test that does so also finds, without `UPDATE_REFERENCE`, that they are stale.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    let mut test = Command::new(places::cargo());
    test.args(["test", "--locked", "--package", "gateway", "--lib", "the_reference_pages_are_current"]);
    test.env("UPDATE_REFERENCE", "1").current_dir(places::root());
    step::step("reference", &mut test)
}
