//! One request from its head to its answer. Read `pipeline` first.

pub(super) mod exchange;
mod forward;
mod grpc;
mod grpc_status;
mod local_reply;
mod pipeline;
mod problem;
pub(super) mod requests;
mod respond;
pub(super) mod response_body;
mod routing;
mod trace;
mod unserved;
