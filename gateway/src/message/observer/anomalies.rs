//! What is not usual: on its way from the observer by the guard to the proxies, who says on its way back from whom it comes,
//! and as the observer tells operators.

use serde::{Deserialize, Serialize};

use crate::{
    policy::detect::{Contribution, Deviating},
    settings::anomalies::ClientMeasure,
};

/// What the observer has found in one minute: at most [`MAX_DEVIATING`](crate::policy::detect::MAX_DEVIATING).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviations(pub Vec<Deviating>);

/// From whom one of them comes, as a proxy says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contributors {
    /// As [`Deviating`] says it.
    pub of: String,
    /// As above.
    pub measure: ClientMeasure,
    /// As above.
    pub minute: u64,
    /// From whom.
    pub contribution: Contribution,
}

/// The same, and what the guard has done about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContributorsShown {
    /// As [`Deviating`] says it.
    pub of: String,
    /// As above.
    pub measure: ClientMeasure,
    /// How many there were of what is counted, in the last minute.
    pub total: u64,
    /// Of how many sources.
    pub sources: u32,
    /// Of how many principals.
    pub principals: u32,
    /// Those with most first.
    pub list: Vec<ContributorShown>,
}

/// One of those that an anomaly comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContributorShown {
    /// A source, or a principal's name.
    pub who: String,
    /// `source` or `principal`.
    pub kind: String,
    /// How many it has of the total, in the last minute; 0: it has stood out in a minute before and is gone.
    pub count: u64,
    /// It alone is more than is usual of all together, and it is no fault of ours; or it was so in a minute before.
    pub stands_out: bool,
    /// What was done about it, or why nothing was; `null`: nothing was to be done.
    pub done: Option<String>,
    /// Its last requests of that kind.
    pub requests: Vec<String>,
}

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
    /// `error_share`, `failures`, `latency`, `principals`, `requests`, `request_size`, `response_size` or `sources`.
    pub measure: String,
    /// In words.
    pub sentence: String,
    /// RFC 3339, UTC.
    pub began: String,
    /// When it was over; absent: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Of how many sources it comes; 0: that is not known.
    #[serde(default)]
    pub sources: u32,
    /// Of how many principals.
    #[serde(default)]
    pub principals: u32,
    /// From whom it comes, those with most first.
    #[serde(default)]
    pub contributors: Vec<ContributorShown>,
}
