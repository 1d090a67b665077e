//! Where members of plans have connections.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// The most members that one [`ToGuard::PlanMembers`](super::ToGuard::PlanMembers) names.
pub const MAX_PLAN_MEMBERS: usize = 200;

/// A source where a member of a plan has a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanMember {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// A hash of the principal: tells principals apart, names none.
    pub principal: u64,
    /// The plan's name.
    pub plan: String,
}
