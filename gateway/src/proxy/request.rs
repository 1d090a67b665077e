//! One request from its head to its answer. Read `pipeline` first.

pub(super) mod exchange;
pub(super) mod grpc;
pub(super) mod local_reply;
pub(super) mod pipeline;
pub(super) mod problem;
pub(super) mod requests;
pub(super) mod response_body;
