//! Why a request gets no response of an upstream: it is refused, answered by the gateway itself, or its client left.

use super::response::local_reply::LocalReply;
use crate::{proxy::upstream::ForwardError, refusal::Refusal};

/// Why a request gets no response of an upstream.
pub(super) enum Unserved {
    /// The client left: nobody reads a response.
    ClientLeft,
    /// The gateway answers by itself.
    LocalReply(Box<LocalReply>),
    Refused(Refusal),
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ForwardError> for Unserved {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::ClientLeft => Self::ClientLeft,
            ForwardError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
