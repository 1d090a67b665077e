//! Decisions of the guard on their way to the observer, which sends them on as log records.

use serde::{Deserialize, Serialize};

/// The longest line, in bytes. What is longer is not sent on: the audit chain has it.
pub const LONGEST: usize = 32 * 1_024;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// As `gateway watch --json` shows it.
    pub line: String,
    /// How many could not be sent before it, since the last one.
    pub missed: u64,
}
