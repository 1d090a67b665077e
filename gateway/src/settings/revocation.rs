//! `[revocation]`: where revocations come from besides commands.

use std::path::PathBuf;

/// Where revocations come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `file`: a file with one revocation a line, read again when it changes; `None`: none.
    pub file: Option<PathBuf>,
}
