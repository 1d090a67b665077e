//! Bans as the proxy knows them: which sources it refuses or limits, and which good clients it tells the guard.

pub(super) mod enforced;
pub(super) mod good_clients;
pub(super) mod plan_members;
pub(super) mod slowed;
