//! Decides what one worker has of the servers of an upstream: their connections, and the places of its requests among
//! those of all workers.

use std::{
    cell::RefCell,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::SizeHint;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    dial::Dialer,
    error::UpstreamError,
    pool::{BodyRest, Lease, Pool},
    state::UpstreamState,
    tls::ServerTls,
};
use crate::{
    proxy::raw_head::RawHead,
    settings::upstream::{self, Upstream},
    swap::Swap,
    tls::Tls,
};

/// What the workers make their views of one upstream from.
pub(in crate::proxy) struct SharedUpstream {
    pub(in crate::proxy) state: Arc<UpstreamState>,
    tls: Arc<Swap<Tls>>,
    /// Its position in the settings.
    index: usize,
}

/// One server, seen from one worker.
pub(super) struct Server {
    pub(super) pool: Rc<Pool>,
}

/// What all workers know, as one worker hands it around: that touches no word which other workers touch.
pub(super) struct StateHandle(pub(super) Arc<UpstreamState>);

impl Deref for StateHandle {
    type Target = UpstreamState;

    fn deref(&self) -> &UpstreamState {
        &self.0
    }
}

/// A request in flight at a server, until dropped.
pub(super) struct InFlight {
    state: Rc<StateHandle>,
    server: usize,
}

/// One of the requests that an upstream may have in flight, until dropped.
pub(super) struct RequestSlot(Rc<StateHandle>);

/// One of the requests that may wait for a connection, until dropped.
pub(super) struct PendingSlot<'a>(&'a UpstreamState);

/// A request at its server: the connection, and the in_flight among those in flight. Dropped: both are given up.
pub(in crate::proxy) struct UpstreamResponse {
    lease: Lease,
    _in_flight: Option<InFlight>,
    _slot: Option<RequestSlot>,
}

impl SharedUpstream {
    pub(in crate::proxy) fn new(settings: &Upstream, index: usize, tls: &Arc<Swap<Tls>>) -> Self {
        Self { state: Arc::new(UpstreamState::new(settings)), tls: Arc::clone(tls), index }
    }

    /// How the server at `address` is spoken to; `None`: without TLS.
    pub(super) fn secure(&self, address: &str) -> Option<ServerTls> {
        let tls = self.state.settings.tls.as_ref()?;
        ServerTls::new(&self.tls, self.index, tls, address)
    }

    /// One worker's view of each server.
    pub(super) fn servers(&self) -> Box<[Server]> {
        let settings = &self.state.settings;
        let server = |server: &upstream::Server| {
            let dialer = Dialer::new(&server.address, self.secure(&server.address), settings.resolve);
            Server { pool: Rc::new(Pool::new(dialer, settings)) }
        };
        settings.servers.iter().map(server).collect()
    }
}

impl InFlight {
    /// ServerCounters a request at a server.
    pub(super) fn new(state: &Rc<StateHandle>, server: usize) -> Self {
        state.enter(server);
        Self { state: Rc::clone(state), server }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.leave(self.server);
    }
}

impl RequestSlot {
    /// `None`: there are as many as there may be.
    pub(super) fn take(state: &Rc<StateHandle>) -> Option<Self> {
        state.begin().then(|| Self(Rc::clone(state)))
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<'a> PendingSlot<'a> {
    /// `None`: there are as many as there may be.
    pub(super) fn take(state: &'a UpstreamState) -> Option<Self> {
        state.wait().then_some(Self(state))
    }
}

impl Drop for PendingSlot<'_> {
    fn drop(&mut self) {
        self.0.wait_no_more();
    }
}

impl UpstreamResponse {
    pub(super) const fn new(lease: Lease, in_flight: Option<InFlight>, slot: Option<RequestSlot>) -> Self {
        Self { lease, _in_flight: in_flight, _slot: slot }
    }

    /// Whether the answer's body has been read to its end.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        self.lease.transport.is_over()
    }

    /// How much of the answer's body is left.
    pub(in crate::proxy) fn left(&self) -> SizeHint {
        self.lease.transport.left()
    }

    /// The lines of the answer's head, where they pass as they came: it has no headers then.
    pub(in crate::proxy) const fn lines(&mut self) -> Option<RawHead> {
        self.lease.transport.lines()
    }

    /// The next piece of the answer's body, or why it will never be whole. `None`: it is whole.
    pub(in crate::proxy) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        self.lease.transport.poll_piece(cx).map_err(|broken| match broken {
            UpstreamError::Malformed(detail) | UpstreamError::Unsendable(detail) => detail,
            UpstreamError::Body(_) | UpstreamError::Closed { .. } | UpstreamError::Truncated => "upstream broke off",
        })
    }

    /// What came behind the answer's body, once that is over.
    pub(in crate::proxy) fn trailers(&mut self) -> Option<HeaderMap> {
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

    /// As [`Lease::give_back`]. `Some`: the request is still being sent.
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
