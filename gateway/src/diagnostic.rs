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

/// An error with its causes, for people. Many errors tell their cause themselves: each is told once.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("/x: {source}")]
    struct TellsItsCause {
        source: io::Error,
    }

    #[test]
    fn each_cause_is_told_once() {
        let denied = || io::Error::from_raw_os_error(13);
        for (error, expect) in [
            (anyhow!("a"), "a"),
            (anyhow!("a").context("b"), "b: a"),
            (anyhow::Error::new(TellsItsCause { source: denied() }), "/x: Permission denied (os error 13)"),
            (
                anyhow::Error::new(TellsItsCause { source: denied() }).context("b"),
                "b: /x: Permission denied (os error 13)",
            ),
        ] {
            assert_eq!(with_causes(&error), expect);
        }
    }
}
