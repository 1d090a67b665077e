//! Stub.
use std::{path::Path, process::ExitCode};
/// `gateway run`: becomes the guard and stays until a signal ends it. A clean stop leaves link and maps pinned, so
/// that bans go on, unless `detach_on_exit`.
pub fn main(config: &Path, detach_on_exit: bool) -> ExitCode {
    drop((config.to_owned(), detach_on_exit));
    ExitCode::FAILURE
}
