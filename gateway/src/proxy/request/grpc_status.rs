//! The status of a gRPC call, as its server says it.

use http::HeaderMap;

/// What `grpc-status` says; `None`: nothing, or no number.
pub(super) fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
