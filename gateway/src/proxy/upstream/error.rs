//! Why a request could not be sent to a server, or why its response is missing or incomplete.

use crate::{
    proxy::service::BodyError,
    refusal::{Refusal, Reject},
};

/// Why there is no response that could be passed on.
pub(in crate::proxy) enum ForwardError {
    /// The client left: nobody is there to be told.
    ClientLeft,
    Refused(Refusal),
}

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

impl From<Refusal> for ForwardError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BodyError> for ForwardError {
    fn from(error: BodyError) -> Self {
        let (reject, detail) = match error {
            BodyError::Gone => return Self::ClientLeft,
            BodyError::Broken => (Reject::BadRequest, "broken body"),
            BodyError::TooLarge => (Reject::BodyTooLarge, "body over its limit"),
            BodyError::TooSlow => (Reject::RequestTimeout, "body too slow"),
        };
        Self::Refused(Refusal::new(reject, detail))
    }
}
