//! The response: of an upstream as it comes, of the gateway itself, or a refusal.

pub(super) mod grpc_status;
pub(super) mod interim;
pub(super) mod local_reply;
pub(in crate::proxy) mod problem;
pub(super) mod respond;
pub(in crate::proxy) mod response_body;
pub(super) mod response_copy;
