//! One error or warning of a configuration: which key, what is wrong, what would be right.

use std::fmt;

/// One error or warning of a configuration. `config` adds the file and the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key as written in TOML, array elements counted from 0: `listener[0].certificate`.
    pub key: String,
    /// What is wrong, as a sentence without a full stop. Never holds a secret.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// What is wrong at `key`.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), hint: None }
    }

    /// What is wrong with a value, wherever it stands: whoever knows the key adds it ([`Self::at`]).
    #[must_use]
    pub fn bare(message: impl Into<String>) -> Self {
        Self::new("", message)
    }

    /// The same at `key`.
    #[must_use]
    pub fn at(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// Puts the key under another: `schema` under `route[2]` is `route[2].schema`.
    #[must_use]
    pub fn under(self, parent: &str) -> Self {
        Self { key: format!("{parent}.{}", self.key), ..self }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Diagnostic {}
