//! What operators and rules have in force, as a proxy is told of it at once.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// What operators and rules have in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Bans: who, until when (`CLOCK_MONOTONIC`, nanoseconds).
    pub bans: Vec<BanInForce>,
    /// Allowances, configured and added.
    pub allows: Vec<AllowInForce>,
    /// Who is on probation.
    pub probations: Vec<Probation>,
    /// What operators have promoted, as `gateway shadow promote` names it.
    pub promoted: Vec<String>,
    /// Whose requests are limited because of an anomaly.
    pub slowed: Vec<Slowed>,
}

/// The most sources whose requests are limited at once because of anomalies.
pub const MAX_SLOWED: usize = 1_024;

/// A source whose requests are limited because of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowed {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// How many requests a minute it has.
    pub per_minute: u32,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    pub until: u64,
}

/// A source that was banned until a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    pub until: u64,
}

/// An allowance that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowInForce {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

/// A ban that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInForce {
    /// The ban.
    pub id: u64,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    pub expires: u64,
}
