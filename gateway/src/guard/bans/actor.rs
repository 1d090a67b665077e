//! Who decides: the guard itself, an operator or a rule.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who wants something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Actor {
    /// The guard itself.
    Guard,
    /// Whoever speaks to the control socket, by user id.
    Operator(u32),
    /// The guard of another machine, by its name.
    Peer(String),
    /// A rule of the configuration.
    Rule(String),
    /// Whoever has a token of the admin listener, by its name.
    Token(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard => out.write_str("guard"),
            Self::Operator(uid) => write!(out, "operator:{uid}"),
            Self::Peer(name) => write!(out, "cluster:{name}"),
            Self::Rule(name) => write!(out, "rule:{name}"),
            Self::Token(name) => write!(out, "token:{name}"),
        }
    }
}
