//! Decides which connection to a server carries a request: a kept one, else a new one. One pool per server and worker,
//! so that no request waits for a lock.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use http::response;

use super::{
    dial::{Dialer, is_ours},
    error::UpstreamError,
    http1::H1Connection,
    http2::{self, H2Connection, StreamSlot, pool::H2Pool, stream::H2Stream},
    in_time,
    request::UpstreamRequest,
    tls::{Alpn, describe},
    transport::Transport,
};
use crate::{
    proxy::{
        body::{BodyProgress, Upload},
        raw_head::HeadFormat,
        timing::deadline::{self, within},
    },
    refusal::{Refusal, Reject},
    settings::upstream::{Protocol, Upstream},
};

/// Connections of one worker to one server.
pub(super) struct Pool {
    dialer: Dialer,
    /// Kept connections, the one used last at the end.
    idle: RefCell<Vec<IdleConnection>>,
    max_idle: usize,
    /// How long they are kept.
    idle_timeout: Duration,
    protocol: Protocol,
    /// Connections of HTTP/2.
    share: H2Pool,
    /// Whether the server chose HTTP/1.1 the last time that it had the choice.
    chose_http1: Cell<bool>,
}

/// What a request asks of a connection.
pub(super) struct LeaseOptions<'a> {
    /// It must be a new one.
    pub(super) fresh: bool,
    /// What one of its own begins with; empty: any will do.
    pub(super) introduction: &'a [u8],
    /// It may become a tunnel, which HTTP/2 has none of.
    pub(super) tunnel: bool,
}

/// A connection that waits for its next request.
struct IdleConnection {
    connection: Box<H1Connection>,
    /// Whom it leads to.
    address: SocketAddr,
    since: u64,
}

/// A connection in use. Dropped: closed.
pub(in crate::proxy) struct Lease {
    pool: Rc<Pool>,
    pub(super) transport: Transport,
    address: SocketAddr,
    kept: bool,
    /// It may carry other clients' requests.
    shared: bool,
    pub(super) rest: BodyRest,
}

/// What becomes of the rest of a request's body once the answer has begun.
pub(super) enum BodyRest {
    /// There is none.
    Over,
    /// It is sent as it comes.
    Sending(Option<Rc<BodyProgress>>),
    /// Nobody reads it.
    Unread,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, settings: &Upstream) -> Self {
        Self {
            dialer,
            idle: RefCell::default(),
            max_idle: settings.max_idle,
            idle_timeout: settings.idle,
            protocol: settings.protocol,
            share: H2Pool::new(settings.http2),
            chose_http1: Cell::new(false),
        }
    }

    pub(super) const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Closes connections that were kept for long enough by `now`, that the server has closed, or that lead to an
    /// address which is the server's no more.
    pub(super) fn sweep(&self, now: u64) {
        let over = |since: u64| u128::from(now.saturating_sub(since)) > self.idle_timeout.as_nanos();
        self.idle
            .borrow_mut()
            .retain(|idle| !over(idle.since) && idle.connection.is_alive() && self.dialer.is_current(idle.address));
        if self.protocol != Protocol::Http1 {
            self.share.sweep(|address, idle| self.dialer.is_current(address) && !idle.is_some_and(over));
        }
        self.dialer.refresh(now);
    }

    /// A connection that is ready for a request. One that is new takes at most `timeout`. With an introduction it
    /// begins with that, and carries this request alone.
    pub(super) async fn lease(self: &Rc<Self>, need: &LeaseOptions<'_>, timeout: Duration) -> Result<Lease, Refusal> {
        let offer = match self.protocol {
            Protocol::Auto if !need.tunnel => Alpn::Any,
            Protocol::Http2 => Alpn::Http2,
            Protocol::Auto | Protocol::Http1 => Alpn::Http1,
        };
        let shared = need.introduction.is_empty();
        if shared && offer != Alpn::Http1 {
            // Boxed, as most requests do without it.
            let joined = within(timeout, Box::pin(self.join(need, offer, timeout)));
            return joined.await.unwrap_or_else(|| Err(self.too_late()));
        }
        if shared
            && !need.fresh
            && let Some((connection, address)) = self.take()
        {
            return Ok(self.lend(Transport::Http1(connection), address, true, shared));
        }
        self.open(need.introduction, offer, timeout).await
    }

    fn lend(self: &Rc<Self>, transport: Transport, address: SocketAddr, kept: bool, shared: bool) -> Lease {
        Lease { pool: Rc::clone(self), transport, address, kept, shared, rest: BodyRest::Over }
    }

    /// Opens a connection. One of HTTP/2 others may use, too, unless it was introduced.
    async fn open(self: &Rc<Self>, introduction: &[u8], offer: Alpn, timeout: Duration) -> Result<Lease, Refusal> {
        let name = &self.dialer.name;
        // Rare, and large: boxed, it takes no room in every request.
        let opened = Box::pin(async {
            let (stream, address) = self.dialer.dial(introduction, offer).await.map_err(|error| {
                // What we lack says nothing about the server.
                let reject = if is_ours(&error) { Reject::Unavailable } else { Reject::UpstreamFailed };
                Refusal::new(reject, format!("{name}: cannot connect: {}", describe(&error)))
            })?;
            let is_http2 = stream.is_http2(offer);
            self.chose_http1.set(!is_http2);
            let shared = introduction.is_empty();
            if !is_http2 {
                return Ok(self.lend(Transport::Http1(Box::new(H1Connection::new(stream))), address, false, shared));
            }
            let settings = &self.share.settings;
            let agreed = Box::pin(http2::agree(stream, settings.streams)).await.map_err(|error| {
                Refusal::new(Reject::UpstreamFailed, format!("{name}: does not speak HTTP/2: {}", describe(&error)))
            })?;
            let scheme = if self.dialer.is_secure() { "https" } else { "http" };
            let connection = H2Connection::start(agreed, address, scheme, settings, &self.share.room);
            let slot = StreamSlot::take(&connection);
            if shared {
                self.share.add(connection);
            }
            Ok(self.lend(Transport::Http2(Box::new(H2Stream::new(slot))), address, false, shared))
        });
        within(timeout, opened).await.unwrap_or_else(|| Err(self.too_slow()))
    }

    /// A place on a connection that others may use, too, as soon as there is one.
    async fn join(self: &Rc<Self>, need: &LeaseOptions<'_>, offer: Alpn, timeout: Duration) -> Result<Lease, Refusal> {
        let (mut waiting, mut refused) = (None, None);
        loop {
            if let Some(slot) = self.share.take(waiting.as_ref()) {
                let (kept, address) = (slot.is_used(), slot.address());
                return Ok(self.lend(Transport::Http2(Box::new(H2Stream::new(slot))), address, kept, true));
            }
            if offer == Alpn::Any {
                if !need.fresh
                    && let Some((connection, address)) = self.take()
                {
                    return Ok(self.lend(Transport::Http1(connection), address, true, true));
                }
                // Nobody else could use what is opened: there is no reason to wait for each other.
                if self.chose_http1.get() {
                    return self.open(&[], offer, timeout).await;
                }
            }
            // With other connections there will be room in time.
            if let Some(refused) = refused.take_if(|_| self.share.is_empty()) {
                return Err(refused);
            }
            let (told, before) = (self.share.room.notified(), self.share.openings());
            if refused.is_none() && self.share.begin() {
                let pool = Rc::clone(self);
                // By itself: it is not only for the one who asked first, and who may leave.
                tokio::task::spawn_local(async move {
                    let opened = pool.open(&[], offer, timeout).await;
                    // One of HTTP/1.1 is kept for the first who wants it.
                    pool.share.end(opened.map(Lease::give_back).err());
                });
            }
            waiting.get_or_insert_with(|| self.share.wait());
            told.await;
            refused = refused.or(self.share.failure(before));
        }
    }

    /// There was no connection for too long.
    fn too_slow(&self) -> Refusal {
        let name = &self.dialer.name;
        let what = if self.dialer.awaits_addresses() { "resolving its name" } else { "connecting" };
        Refusal::new(Reject::UpstreamTimeout, format!("{name}: {what} took too long"))
    }

    /// There was no place for too long.
    fn too_late(&self) -> Refusal {
        let name = &self.dialer.name;
        if self.share.is_full() {
            let refusal = Refusal::new(Reject::Unavailable, format!("{name}: all streams are in use"));
            return Refusal { retry_after: Some(1), ..refusal };
        }
        self.too_slow()
    }

    /// The kept connection that was used last and that the server left open.
    fn take(&self) -> Option<(Box<H1Connection>, SocketAddr)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(IdleConnection { connection, address, .. }) = idle.pop() {
            if connection.is_alive() {
                return Some((connection, address));
            }
        }
        None
    }
}

impl Lease {
    /// Whether the connection carried requests before: the upstream may be about to close it.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// As [`Transport::send`].
    pub(super) fn send(
        &mut self,
        request: &mut UpstreamRequest,
        form: HeadFormat,
    ) -> impl Future<Output = Result<response::Parts, UpstreamError>> {
        self.transport.send(request, form)
    }

    /// Whether its end is put down to the request that it carried: that of a connection which others used as well is,
    /// for the first of them.
    pub(super) fn is_to_blame(&self) -> bool {
        match &self.transport {
            Transport::Http1(_) => true,
            Transport::Http2(stream) => stream.is_to_blame(),
        }
    }

    /// The answer did not come in time. What others use as well is asked whether it still works.
    pub(super) fn doubt(&self) {
        if let Transport::Http2(stream) = &self.transport {
            stream.doubt();
        }
    }

    /// The answer that has begun is taken: what is left of the request's body is sent beside it.
    pub(super) fn go_on(mut self, request: &mut UpstreamRequest) -> Self {
        let progress = match request.body() {
            Upload::Streaming(request_body) => Some(request_body.progress()),
            Upload::Empty | Upload::Whole(_) => None,
        };
        let is_read = progress.as_ref().is_none_or(|progress| progress.ended.get());
        self.rest = match self.transport.go_on(request) {
            true => BodyRest::Sending(progress),
            false if is_read => BodyRest::Over,
            false => BodyRest::Unread,
        };
        self
    }

    /// Waits until the request has been sent, and gives the connection back. Nobody else is to wait for a server that
    /// takes nothing for as long as `timeout`.
    pub(super) async fn finish(mut self, timeout: Duration) {
        let BodyRest::Sending(progress) = &self.rest else { return };
        let sent = in_time(pin!(self.transport.finish()), progress.as_ref(), timeout).await;
        if sent == Some(true) {
            self.give_back();
        }
    }

    /// The answer was read to its end, and the request was sent: the connection may carry another.
    pub(in crate::proxy) fn give_back(self) {
        // A stream of HTTP/2 ends by itself.
        let Transport::Http1(connection) = self.transport else { return };
        if self.shared && connection.is_reusable() && self.pool.dialer.is_current(self.address) {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() >= self.pool.max_idle {
                idle.retain(|idle| idle.connection.is_alive());
            }
            if idle.len() < self.pool.max_idle {
                idle.push(IdleConnection { connection, address: self.address, since: deadline::now() });
            }
        }
    }
}
