//! The response of a server: its connection, the rest of the body, and the counts that it holds until it is over.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::SizeHint;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::pool::{BodyRest, PooledConnection},
    error::UpstreamError,
    slots::{InFlight, RequestSlot},
};
use crate::proxy::raw_head::RawHead;

/// A response that is being read, and the slots of its request. Dropped before its end: the connection is closed.
pub(in crate::proxy) struct UpstreamResponse {
    lease: PooledConnection,
    _in_flight: Option<InFlight>,
    _slot: Option<RequestSlot>,
}

impl UpstreamResponse {
    pub(super) const fn new(lease: PooledConnection, in_flight: Option<InFlight>, slot: Option<RequestSlot>) -> Self {
        Self { lease, _in_flight: in_flight, _slot: slot }
    }

    /// Whether the response body has been read to its end.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.lease.transport.is_over()
    }

    /// How much of the response body is left.
    pub(in crate::proxy) fn left(&self) -> SizeHint {
        self.lease.transport.left()
    }

    /// The lines of the head, if they are passed on as they came. The header map is empty then.
    pub(in crate::proxy) const fn lines(&mut self) -> Option<RawHead> {
        self.lease.transport.lines()
    }

    /// The next piece of the response body, or why it is incomplete. `None`: it is complete.
    pub(in crate::proxy) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        self.lease.transport.poll_piece(cx).map_err(|broken| match broken {
            UpstreamError::Malformed(detail) | UpstreamError::Unsendable(detail) => detail,
            UpstreamError::Body(_) | UpstreamError::Closed { .. } | UpstreamError::Truncated => "upstream broke off",
        })
    }

    /// The trailers, once the body is over.
    pub(in crate::proxy) fn trailers(&self) -> Option<HeaderMap> {
        self.lease.transport.trailers()
    }

    /// The stream of a connection that became a tunnel, and what was read of it already. `None`: it cannot become one.
    pub(in crate::proxy) fn switched(
        &mut self,
    ) -> Option<(Rc<RefCell<impl AsyncRead + AsyncWrite + Unpin + use<>>>, Bytes)> {
        self.lease.transport.switched()
    }

    /// Whether what is left of the request's body is read by nobody: the server took no more of it.
    pub(in crate::proxy) const fn leaves_unread(&self) -> bool {
        matches!(self.lease.rest, BodyRest::Unread)
    }

    /// Whether the request is still being sent to a server that says it closes.
    pub(in crate::proxy) fn ends_early(&self) -> bool {
        matches!(self.lease.rest, BodyRest::Sending(_)) && !self.lease.transport.keeps()
    }

    /// As [`PooledConnection::give_back`]. `Some`: the request is still being sent.
    pub(in crate::proxy) fn give_back(self) -> Option<Self> {
        if matches!(self.lease.rest, BodyRest::Sending(_)) {
            return Some(self);
        }
        self.lease.give_back();
        None
    }

    /// Waits until the request has been sent, and gives its connection back. `timeout`: how long the server may take
    /// nothing of it.
    pub(in crate::proxy) async fn finish(self, timeout: Duration) {
        self.lease.finish(timeout).await;
    }
}
