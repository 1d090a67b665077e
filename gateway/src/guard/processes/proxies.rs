//! The proxy processes, as the guard sees them: started, replaced, drained, and what they tell of themselves.

pub(crate) mod barrier;
pub(crate) mod conversation;
pub(crate) mod counts;
pub(crate) mod listeners;
pub(crate) mod pulse;
pub(crate) mod share;
pub(crate) mod supervisor;
pub(crate) mod upstreams;
