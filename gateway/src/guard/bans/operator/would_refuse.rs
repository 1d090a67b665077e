//! What a limit in shadow mode would have refused.

use std::collections::HashSet;

use gateway_common::source::Source;

/// What one limit would have refused since this guard began to count.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct WouldRefuse {
    pub(in crate::guard::bans) requests: u64,
    /// At most [`MAX_SHADOWED`](crate::message::MAX_SHADOWED): whoever comes later is counted by requests alone.
    pub(in crate::guard::bans) sources: HashSet<Source>,
}

/// What one requirement of a route would have denied since this guard began to count.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct DeniedInShadow {
    pub(in crate::guard::bans) requests: u64,
    /// Hashes; at most [`MOST_KNOWN`](crate::policy::authz::shadow::MOST_KNOWN).
    pub(in crate::guard::bans) principals: HashSet<u64>,
}
