//! Why a request could not be sent to a server, or why its response is missing or incomplete.

use crate::proxy::service::BodyError;

/// Why there is no response, or only a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamError {
    /// The request body ended early. The client caused it.
    Body(BodyError),
    /// The connection ended before any byte of the response arrived.
    Closed {
        /// Whether a part of the request had been sent.
        sent: bool,
    },
    /// The response violates HTTP.
    Malformed(&'static str),
    /// The connection ended in the middle of the response.
    Truncated,
    /// This request cannot be served. It says nothing about other requests.
    Unsendable(&'static str),
}

/// Why sending a request body stopped.
pub(super) enum SendStopped {
    /// The client did not deliver all of it.
    Body(BodyError),
    /// The server does not read it.
    Refused,
}
