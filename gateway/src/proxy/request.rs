//! One request from its head to its answer. Read `pipeline` first.

mod contract;
mod encoded;
pub(super) mod exchange;
mod forward;
mod grpc;
mod grpc_status;
mod inspect;
mod interim;
mod limited;
mod local_reply;
mod looked;
mod lookup;
mod observe;
mod outcome;
mod pipeline;
mod priority;
pub(in crate::proxy) mod problem;
pub(super) mod requests;
mod respond;
pub(super) mod response_body;
mod response_copy;
mod routing;
mod trace;
mod unserved;
mod withdrawn;
