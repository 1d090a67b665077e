//! What is not usual, as the observer tells operators.

use serde::{Deserialize, Serialize};

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomalies {
    /// Whether there is `[anomalies]`.
    pub is_on: bool,
    /// How many series are watched.
    pub series: u64,
    /// Of how many it is not known yet what is usual.
    pub learning: u64,
    /// What goes on first, then what is over, the latest first.
    pub list: Vec<AnomalyShown>,
}

/// Something that is not usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnomalyShown {
    /// Of what: `all`, a route, or `upstream:NAME`.
    pub of: String,
    /// `error_share`, `failures`, `latency`, `requests`, `request_size` or `response_size`.
    pub measure: String,
    /// In words.
    pub sentence: String,
    /// RFC 3339, UTC.
    pub began: String,
    /// When it was over; absent: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}
