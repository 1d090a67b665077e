//! `[api_keys]`: how API keys are written, and where they stand in a request.

use http::HeaderName;

use crate::os::file::NamedFile;

/// How many characters of a key are its id.
pub const ID: usize = 11;

/// How many are its secret.
pub const SECRET: usize = 43;

/// How many are its checksum.
pub const CHECKSUM: usize = 6;

/// Where API keys stand, and by what they are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `header`: the header whose value is the key.
    pub header: HeaderName,
    /// `prefix`: how keys begin, before their first `_`.
    pub prefix: String,
    /// `pepper_file`: by what keys are hashed; `None`: by a file of the state folder, which the guard makes.
    pub pepper: Option<NamedFile>,
}

impl Settings {
    /// What finds keys in texts, as a regular expression.
    #[must_use]
    pub fn pattern(&self) -> String {
        // Cut off, it is as secret.
        format!("{}_[0-9A-Za-z]{{{ID}}}_[0-9A-Za-z]{{8,{}}}", self.prefix, SECRET + CHECKSUM)
    }
}
