//! Which interim responses (1xx) of an upstream a client gets, and with which headers (RFC 9110 15.2).
//!
//! *Invariant:* the final response does not depend on them. So a request may be sent again after some of them have been
//! passed on, and the access log has the final status alone.

use std::cell::Cell;

use http::{StatusCode, Version, response::Parts};

use crate::{
    proxy::{connection::Connection, interim::InterimSink, request::exchange::Exchange, upstream::headers},
    settings::upstream::InterimResponses,
};

/// The most interim responses that are passed on for one request, however often it is sent.
const MOST: usize = 16;

/// The most bytes of all their headers together.
const MOST_BYTES: usize = 64 * 1_024;

/// Passes the interim responses to one request on to its client.
pub(in crate::proxy::request) struct InterimRelay<'a> {
    exchange: &'a Exchange,
    connection: &'a Connection,
    passed: Cell<usize>,
    passed_bytes: Cell<usize>,
}

impl<'a> InterimRelay<'a> {
    pub(in crate::proxy::request) const fn new(exchange: &'a Exchange, connection: &'a Connection) -> Self {
        Self { exchange, connection, passed: Cell::new(0), passed_bytes: Cell::new(0) }
    }

    /// Whether this client gets any. HTTP/1.0 does not know them, and a call of gRPC has no use for them.
    fn is_wanted(&self) -> bool {
        let Some((_, version, _)) = &self.exchange.request.line else { return false };
        let setting = self.exchange.upstream().map(|upstream| upstream.interim_responses);
        let by_setting = match setting.unwrap_or_default() {
            InterimResponses::Drop => false,
            InterimResponses::Forward => *version != Version::HTTP_10,
            InterimResponses::Http2 => *version == Version::HTTP_2,
        };
        by_setting && !self.exchange.request.is_grpc
    }

    /// Counts one more of so many bytes. `false`: that would be too many.
    fn spend(&self, bytes: usize) -> bool {
        let (passed, passed_bytes) = (self.passed.get() + 1, self.passed_bytes.get().saturating_add(bytes));
        let fits = passed <= MOST && passed_bytes <= MOST_BYTES;
        if fits {
            self.passed.set(passed);
            self.passed_bytes.set(passed_bytes);
        }
        fits
    }
}

impl InterimSink for InterimRelay<'_> {
    fn pass(&self, mut head: Parts) {
        // No upstream is sent `Expect`: the gateway sends its own 100. And 101 is no interim response.
        let is_ours = matches!(head.status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
        if is_ours || !self.is_wanted() || self.exchange.is_withdrawn() {
            return;
        }
        headers::interim(&mut head.headers, self.exchange.told_id());
        if let Some(edits) = self.exchange.compiled_route().and_then(|route| route.response_headers.as_ref()) {
            edits.apply(&mut head.headers);
        }
        let bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if self.spend(bytes) {
            self.connection.interim.push(head);
        }
    }
}
