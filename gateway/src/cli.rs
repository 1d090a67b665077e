//! Decides what the command line means: one file per command, exit codes in one place.

use std::process::ExitCode;

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
