//! The store between machines, as the proxy tells the guard of it.

use serde::{Deserialize, Serialize};

/// The longest reason, in bytes.
pub const MAX_WHY: usize = 400;

/// The longest letter of a guard, in bytes.
pub const LONGEST_LETTER: usize = 32 * 1_024;

/// The most letters that one message has, and the most bytes that they take together.
pub const MAX_LETTERS: usize = 64;
/// See [`MAX_LETTERS`].
pub const LETTERS_BYTES: usize = 48 * 1_024;

/// How it is with the store between machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// Whether it answers.
    pub reachable: bool,
    /// Since when: milliseconds since the Unix epoch; 0: it was not asked yet.
    pub since: u64,
    /// Why it does not answer; empty: it does.
    pub why: String,
    /// Why the store does not carry letters between guards; empty: it does.
    #[serde(default)]
    pub letters: String,
    /// Letters between guards that were thrown away since the proxy started: nobody had room for them.
    #[serde(default)]
    pub lost: u64,
    /// Calls since the proxy started.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How long the last call took that was answered, in microseconds.
    pub latency_micros: u64,
    /// Requests that shared limits judged by this machine's share alone, as the store did not answer.
    pub alone: u64,
    /// Answers of the store that would have given back what was used up of a quota, without an operator's word.
    #[serde(default)]
    pub disbelieved: u64,
    /// Answers of the store that answered nothing that was asked.
    #[serde(default)]
    pub malformed: u64,
}

impl StoreReport {
    /// Whether it is as long as it may be.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.why.len() <= MAX_WHY && self.letters.len() <= MAX_WHY
    }
}
