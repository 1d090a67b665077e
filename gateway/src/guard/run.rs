//! Stub.
use std::{path::Path, process::ExitCode};
/// `gateway run`: becomes the guard and stays until a signal ends it.
pub fn main(config: &Path) -> ExitCode {
    drop(config.to_owned());
    ExitCode::FAILURE
}
