//! The other processes as the guard sees them: started, watched, replaced.

pub(super) mod launcher;
pub(super) mod observer;
pub(super) mod proxies;
