//! What limits have said of a request, and what is still to be done of that when it is over.

use super::{in_flight::Entered, key::Key, tell::rate_limit_headers::RateLimitHeaders};

/// What limits have said of one request so far.
#[derive(Debug, Default)]
pub struct LimitResult {
    pub(super) told: RateLimitHeaders,
    pub(super) owed: Vec<PendingCharge>,
    /// How long it has to wait, in nanoseconds.
    pub(super) wait: u64,
}

/// What is to be done when the request is over.
#[derive(Debug)]
pub(super) struct PendingCharge {
    pub(super) limit: usize,
    pub(super) allowed: usize,
    pub(super) due: Due,
}

/// What that is.
#[derive(Debug)]
pub(super) enum Due {
    Leave(Entered),
    /// To be charged; `units` where they are known already.
    Units {
        key: Key,
        weight: u64,
        units: Option<u64>,
    },
}

/// What a request has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestUsage {
    /// Bytes of its body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Messages of gRPC that the client sent.
    pub grpc_messages: u64,
}

impl LimitResult {
    /// What the client is told.
    #[must_use]
    pub fn told(&self) -> Option<RateLimitHeaders> {
        self.told.any()
    }

    /// How long it has to wait for its turn, in nanoseconds. Asked once.
    #[must_use]
    pub const fn take_wait(&mut self) -> u64 {
        std::mem::replace(&mut self.wait, 0)
    }

    /// Whether anything is to be done when the request is over.
    #[must_use]
    pub const fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }
}
