//! Why the guard does not do what it was asked: a word for programs and a sentence for people.

use std::fmt;

use crate::guard::control::ControlAnswer;

/// Why the guard does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// One word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl From<Refused> for ControlAnswer {
    fn from(refused: Refused) -> Self {
        Self::Refused { code: refused.code.to_owned(), message: refused.message }
    }
}
