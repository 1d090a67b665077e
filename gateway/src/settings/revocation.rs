//! `[revocation]`: where revocations come from besides commands, and what counts while they cannot be read.

use std::path::PathBuf;

/// Where revocations come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `file`: a file with one revocation a line, read again when it changes; `None`: none.
    pub file: Option<PathBuf>,
    /// `unavailable`: what becomes of tokens while it is not known which are revoked.
    pub unavailable: Unavailable,
}

/// What becomes of tokens while it is not known which are revoked: their store cannot be opened or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unavailable {
    /// They are refused.
    #[default]
    Refuse,
    /// They are good, as far as is known.
    Serve,
}

impl Unavailable {
    /// As it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Serve => "serve",
        }
    }
}
