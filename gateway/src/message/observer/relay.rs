//! Commands of operators on their way from the admin listener to the guard, and the answers on their way back.
//!
//! *Invariant:* whoever relays a command can neither give one nor change what its token may do: the guard knows tokens by
//! their hashes, and judges each command.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The longest token, in bytes.
pub const LONGEST_TOKEN: usize = 256;

/// The longest name of a command, in bytes.
pub const LONGEST_NAME: usize = 64;

/// The longest arguments of a command, in bytes.
pub const LONGEST_ARGUMENTS: usize = 48 * 1_024;

/// How many commands are relayed at once.
pub const AT_ONCE: usize = 8;

/// A command, as it came.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// By which the answer is known.
    pub number: u64,
    /// Where it came from; `None`: by the admin listener's Unix socket.
    pub address: Option<IpAddr>,
    /// What was shown as a token.
    pub token: String,
    /// The command's name: `block_add`.
    pub name: String,
    /// Its arguments, a JSON object; empty: none.
    pub arguments: Vec<u8>,
}

/// Without the token.
impl fmt::Debug for Relayed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Relayed({}, {:?})", self.number, self.name)
    }
}

/// The answer to a command. Carries its text, JSON, as a sealed memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// That of [`Relayed`].
    pub number: u64,
    /// The status of the response.
    pub status: u16,
}
