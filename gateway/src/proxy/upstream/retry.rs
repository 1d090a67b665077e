//! What follows a failed attempt: the request is sent again, the server's response is passed on, or the gateway gives
//! up. This is pure: it is told what happened and what may still be spent. [`forward`](super::forward) does as it says.
//!
//! *Invariant:* a request is sent again only if every byte that was read of its body is still held, and only if it
//! never left or its method is idempotent (RFC 9110 9.2.2). So the second request is the same as the first, byte for
//! byte, and no server acts on it twice where that matters. Servers read at most `tries` of them.

use http::{Method, StatusCode, response};

use super::{
    balance::bit,
    error::{ForwardError, UpstreamError},
};
use crate::{
    proxy::{service::BodyError, tunnel::upgrade::UpgradeRequest},
    refusal::{Refusal, Reject},
    settings::upstream::Retry,
};

/// One attempt costs so much of the retry budget, which is counted in hundredths.
pub(super) const COST: u32 = 100;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptFailure {
    /// The request body ended early. The client caused it.
    Body(BodyError),
    /// The server closed the connection, or refused the request, before it sent any byte of a response. `reused`: the
    /// connection had carried other requests before.
    Closed { sent: bool, reused: bool },
    /// The response violates HTTP.
    Malformed(&'static str),
    /// A response with a status that says that the server is broken.
    Status(u16),
    /// No response in time. `cut_short`: it had too little time to blame the server, as the client said that it waits
    /// less, or earlier attempts have used most of it.
    TimedOut { cut_short: bool },
    /// The connection ended in the middle of the response.
    Truncated,
    /// The server switched to a protocol that was not asked for.
    UnaskedSwitch,
    /// The server cannot serve this request. It says nothing about other requests.
    Unsendable(&'static str),
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The end of a connection counts once, for the first of the requests that it carried.
    Connection,
    Nobody,
    Server,
    /// The server says itself that it is broken. Whether that counts is a setting.
    Status(u16),
}

/// How much of the request body there still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyState {
    /// Every byte that was read from the client is still held.
    pub(super) is_kept: bool,
    /// The client has not sent all of it.
    pub(super) is_coming: bool,
}

/// What may still be spent on a request.
#[derive(Clone, Copy)]
pub(super) struct RetryAllowance {
    /// The retry budget, in hundredths of an attempt.
    pub(super) budget: u32,
    /// Whether the client and the route still wait.
    pub(super) has_time: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// No server is left to try, or none may be.
    GiveUp(AttemptFailure),
    /// The response is passed on as it is.
    Respond,
    /// The request is sent again. `paid`: it costs a part of the retry budget. It counts as a try, unless the server
    /// cannot have read any of it.
    Retry { paid: bool },
}

/// The attempts of one request.
pub(super) struct RetryState<'a> {
    settings: &'a Retry,
    is_idempotent: bool,
    /// Attempts that count against `tries`, the one under way included: all whose request the server may have read.
    attempts: u32,
    /// The servers that failed, as bits.
    pub(super) failed_servers: u64,
    /// Whether the next attempt needs a new connection.
    pub(super) needs_new_connection: bool,
}

impl<'a> RetryState<'a> {
    /// Before the first attempt.
    pub(super) fn new(settings: &'a Retry, method: &Method) -> Self {
        let is_idempotent =
            matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        Self { settings, is_idempotent, attempts: 1, failed_servers: 0, needs_new_connection: false }
    }

    /// Whose fault it is that an attempt failed.
    pub(super) fn blame(&self, failure: AttemptFailure, body: BodyState) -> Blame {
        match failure {
            AttemptFailure::Closed { .. } if self.is_free(failure, body) => Blame::Nobody,
            // A server need not wait for a body that does not come.
            AttemptFailure::Closed { .. } | AttemptFailure::Truncated if body.is_coming => Blame::Nobody,
            AttemptFailure::Closed { .. } => Blame::Connection,
            AttemptFailure::Body(_) | AttemptFailure::TimedOut { cut_short: true } | AttemptFailure::Unsendable(_) => {
                Blame::Nobody
            }
            AttemptFailure::Status(status) => Blame::Status(status),
            AttemptFailure::Malformed(_)
            | AttemptFailure::TimedOut { cut_short: false }
            | AttemptFailure::Truncated
            | AttemptFailure::UnaskedSwitch => Blame::Server,
        }
    }

    /// What follows the failure of an attempt at `server`. `usable` tells the servers that may be used, as bits.
    pub(super) fn next(
        &mut self,
        failure: AttemptFailure,
        server: usize,
        body: BodyState,
        left: RetryAllowance,
        usable: impl FnOnce() -> u64,
    ) -> Next {
        if left.has_time && self.is_free(failure, body) {
            self.needs_new_connection = true;
            if failure.has_left() {
                self.attempts += 1;
            }
            return Next::Retry { paid: false };
        }
        let (is_allowed, otherwise) = match failure {
            AttemptFailure::Body(_) => (false, Next::GiveUp(failure)),
            AttemptFailure::Status(status) => (self.settings.statuses.contains(&status), Next::Respond),
            _ => (true, Next::GiveUp(failure)),
        };
        let failed_servers = self.failed_servers | bit(server);
        let is_left = is_allowed
            && self.is_repeatable(failure, body)
            && self.attempts < self.settings.tries
            && left.budget >= COST
            && left.has_time
            && usable() & !failed_servers != 0;
        if !is_left {
            return otherwise;
        }
        self.failed_servers = failed_servers;
        self.needs_new_connection = false;
        self.attempts += 1;
        Next::Retry { paid: true }
    }

    /// The server closed a connection that it had kept for long enough, or takes no more requests on one that others
    /// use as well (GOAWAY, REFUSED_STREAM). That is no fault, so the repeat costs nothing of the retry budget, but only
    /// one does.
    ///
    /// A request that was written may have been read before the connection closed: nobody can tell an idle connection
    /// that closes from a server that reads and closes. So that repeat counts as a try, and `tries = 1` allows none.
    fn is_free(&self, failure: AttemptFailure, body: BodyState) -> bool {
        let AttemptFailure::Closed { sent, reused } = failure else { return false };
        let is_allowed = if sent { reused && self.attempts < self.settings.tries } else { true };
        is_allowed && !self.needs_new_connection && self.is_repeatable(failure, body)
    }

    fn is_repeatable(&self, failure: AttemptFailure, body: BodyState) -> bool {
        body.is_kept && (self.is_idempotent || !failure.has_left())
    }
}

impl AttemptFailure {
    /// Whether the server may have read any of the request.
    const fn has_left(self) -> bool {
        !matches!(self, Self::Closed { sent: false, .. })
    }

    /// What the error of a connection means. `reused`: it had carried other requests before.
    pub(super) const fn of_error(error: UpstreamError, reused: bool) -> Self {
        match error {
            UpstreamError::Body(error) => Self::Body(error),
            UpstreamError::Closed { sent } => Self::Closed { sent, reused },
            UpstreamError::Malformed(detail) => Self::Malformed(detail),
            UpstreamError::Truncated => Self::Truncated,
            UpstreamError::Unsendable(detail) => Self::Unsendable(detail),
        }
    }

    /// What a response says of the attempt. `wanted`: the protocol that the client wants to switch to. `None`: the
    /// server did not fail.
    pub(super) fn of_head(head: &response::Parts, wanted: Option<&UpgradeRequest>) -> Option<Self> {
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if !wanted.is_some_and(|wanted| wanted.is_granted(head)) => {
                Some(Self::UnaskedSwitch)
            }
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Some(Self::Status(head.status.as_u16())),
            _ => None,
        }
    }
}

impl From<AttemptFailure> for ForwardError {
    fn from(failure: AttemptFailure) -> Self {
        let (reject, detail) = match failure {
            AttemptFailure::Body(error) => return error.into(),
            AttemptFailure::Closed { .. } | AttemptFailure::Truncated => {
                (Reject::UpstreamFailed, "connection broke off")
            }
            AttemptFailure::Malformed(detail) | AttemptFailure::Unsendable(detail) => (Reject::UpstreamFailed, detail),
            AttemptFailure::Status(_) => (Reject::UpstreamFailed, "server error"),
            AttemptFailure::TimedOut { .. } => (Reject::UpstreamTimeout, "no answer in time"),
            AttemptFailure::UnaskedSwitch => (Reject::UpstreamFailed, "switched to a protocol that was not asked for"),
        };
        Refusal::new(reject, detail).into()
    }
}

#[cfg(test)]
mod tests;
