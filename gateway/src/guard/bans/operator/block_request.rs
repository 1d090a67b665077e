//! What operators ask for.

use gateway_common::source::Source;

/// A block that an operator asks for.
#[derive(Clone, Debug)]
pub(in crate::guard::bans) struct BlockRequest {
    pub(in crate::guard::bans) source: Source,
    /// `None`: the default; 0: until it is removed.
    pub(in crate::guard::bans) seconds: Option<u64>,
    pub(in crate::guard::bans) reason: String,
    pub(in crate::guard::bans) shadow: bool,
    /// Take it back after so many seconds unless it is confirmed.
    pub(in crate::guard::bans) confirm: Option<u64>,
    /// Good clients that it covers do not stand against it.
    pub(in crate::guard::bans) force: bool,
}
