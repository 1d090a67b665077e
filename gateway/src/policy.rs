//! Policies decide and do nothing else: they get data and the time, and have no sockets.

pub mod admission;
pub mod auth;
pub mod authz;
pub mod detect;
pub mod limit;
pub mod validate;
