//! The status of a gRPC call, as its server says it.

use http::HeaderMap;

use crate::text::digits;

/// What `grpc-status` says; `None`: nothing, or no number.
pub(in crate::proxy::request) fn status(headers: &HeaderMap) -> Option<u32> {
    digits::decimal(headers.get("grpc-status")?.to_str().ok()?)
}
