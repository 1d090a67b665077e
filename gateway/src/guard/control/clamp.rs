//! Budgets of single sources as they are told.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::web::request_id::RequestId;

/// A source whose budgets in the kernel are divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClampEntry {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// The limit that it went on over.
    pub limit: String,
    /// By how much its budgets are divided.
    pub divide: u32,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// Seconds left.
    pub remaining_seconds: u64,
    /// Packets that the kernel dropped as they were over what is left of its budgets (in shadow: would have).
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Requests that the limit refused before.
    pub evidence: Vec<RequestId>,
}

/// What the kernel has of budgets besides those that every source has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBudgets {
    /// Of all sources together; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<TotalBudget>,
    /// Sources that are clamped.
    pub clamps: u64,
    /// Sources that would be, were their clamps not in shadow mode.
    pub shadow_clamps: u64,
    /// Sources with the budget of a plan, by the plan's name.
    pub plans: Vec<(String, u64)>,
}

/// The budget of packets of all sources together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalBudget {
    /// Packets in a second.
    pub per_second: u64,
    /// Packets at once.
    pub burst: u64,
    /// So many of those in a second are kept for connections that proved themselves.
    pub fast_lane_per_second: u64,
    /// Counted, not enforced.
    pub shadow: bool,
}

/// A source that has the budget of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// The plan's name.
    pub plan: String,
    /// Packets per second.
    pub packets_per_second: u64,
    /// Seconds until it ends, unless a connection of a member still lives then.
    pub remaining_seconds: u64,
}
