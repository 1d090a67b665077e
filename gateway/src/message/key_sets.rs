//! The keys of issuers as guard and proxy speak of them: how they are, and the last good ones, which the guard keeps for
//! the next proxy.

use serde::{Deserialize, Serialize};

/// The longest name of an issuer's table, in bytes: `issuer.` and a name.
const MAX_ISSUER: usize = 80;
/// The longest source, in bytes.
const MAX_SOURCE: usize = 4_096;
/// The longest reason, in bytes.
pub const MAX_WHY: usize = 400;
/// The largest keys that are kept, in bytes: a message has room for them.
pub const MAX_KEPT: usize = 56 * 1_024;
/// The most issuers whose keys are kept.
pub const MAX_KEY_SETS: usize = 256;

/// How the keys of an issuer are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySetReport {
    /// The issuer's table: `jwt`, or `issuer.NAME`.
    pub issuer: String,
    /// Where they are fetched.
    pub source: String,
    /// How many there are.
    pub keys: u32,
    /// When the issuer last confirmed them: milliseconds since the Unix epoch; 0: never.
    pub confirmed: u64,
    /// Whether tokens are still verified by them.
    pub usable: bool,
    /// Since when fetching fails: milliseconds since the Unix epoch; 0: it does not.
    pub failing_since: u64,
    /// Why; empty: it does not.
    pub why: String,
}

/// Keys as they were fetched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKeys {
    /// The issuer's table: `jwt`, or `issuer.NAME`.
    pub issuer: String,
    /// Of whom, and from where they were fetched: other settings do not take them.
    pub source: String,
    /// The key set (RFC 7517).
    pub document: String,
    /// When the issuer last confirmed them: milliseconds since the Unix epoch.
    pub confirmed: u64,
}

impl std::fmt::Debug for KeptKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "KeptKeys({:?}, {} bytes)", self.issuer, self.document.len())
    }
}

impl KeySetReport {
    /// Whether it is as long as it may be.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.issuer.len() <= MAX_ISSUER && self.source.len() <= MAX_SOURCE && self.why.len() <= MAX_WHY
    }
}

impl KeptKeys {
    /// Whether they are as long as they may be.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.issuer.len() <= MAX_ISSUER && self.source.len() <= MAX_SOURCE && self.document.len() <= MAX_KEPT
    }
}
