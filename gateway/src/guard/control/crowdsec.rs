//! How CrowdSec is.

use serde::{Deserialize, Serialize};

/// How CrowdSec is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdsecStatus {
    /// Its Local API.
    pub url: String,
    /// Whether it answered last.
    pub is_up: bool,
    /// When it last answered: RFC 3339, UTC; empty: never.
    pub answered: String,
    /// Why it did not; absent: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Decisions that are known.
    pub decisions: u64,
    /// How often it was asked for decisions, since the guard started.
    pub pulled: u64,
    /// How often that failed.
    pub pull_failures: u64,
    /// Decisions that this gateway told itself.
    pub skipped_own: u64,
    /// Decisions that are no bans of addresses.
    pub skipped_other: u64,
    /// Decisions that are only simulated.
    pub skipped_simulated: u64,
    /// Bans that wait to be told, and bans that were lifted and of which that waits to be told.
    pub waiting: u64,
    /// Bans that were told.
    pub told: u64,
    /// Bans of which it was told that they were lifted.
    #[serde(default)]
    pub lifted: u64,
    /// How often bans could not be told.
    pub tell_failures: u64,
    /// Bans that were not told, for want of room, or because it does not take them.
    pub dropped: u64,
}
