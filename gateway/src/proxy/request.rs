//! One request from its head to its answer. Read `pipeline` first.

mod checks;
mod connection_fault;
pub(super) mod exchange;
mod forward;
mod grpc;
mod observe;
mod outcome;
mod pipeline;
pub(super) mod requests;
pub(super) mod response;
mod routing;
mod trace;
mod unserved;
