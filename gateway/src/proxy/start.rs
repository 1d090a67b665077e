//! Stub.
use std::process::ExitCode;
/// `gateway proxy`: the process that the guard starts, with its [`Channel`](crate::message::channel) as standard input.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
