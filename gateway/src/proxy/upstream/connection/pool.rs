//! The connection pool of one server and one worker: a request gets an idle connection, or else a new one. No lock is
//! needed, as every worker has its own pool.

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
    tls::{Alpn, describe},
    transport::Transport,
};
use crate::{
    proxy::{
        body::{BodyProgress, Upload},
        raw_head::HeadFormat,
        timing::deadline::{self, within},
        upstream::{
            error::UpstreamError,
            http1::H1Connection,
            http2::{self, H2Connection, StreamSlot, pool::H2Pool, stream::H2Stream},
            request::{ClientSide, UpstreamRequest},
            timeout::in_time,
        },
    },
    refusal::{Refusal, Reject},
    settings::upstream::{Protocol, Upstream},
};

/// How much earlier an idle connection is closed than its server says that it would.
const MARGIN: Duration = Duration::from_secs(1);

/// Connections of one worker to one server.
pub(in crate::proxy::upstream) struct Pool {
    dialer: Dialer,
    /// Idle connections of HTTP/1.1, the one used last at the end.
    idle: RefCell<Vec<IdleConnection>>,
    max_idle: usize,
    /// How long they stay idle before they are closed.
    idle_timeout: Duration,
    protocol: Protocol,
    /// How many connections of HTTP/1.1 are in use.
    busy: Rc<Cell<usize>>,
    /// Connections of HTTP/2.
    http2: H2Pool,
    /// Whether the server chose HTTP/1.1 the last time that it had the choice.
    chose_http1: Cell<bool>,
    /// Only requests of a configuration that is over still use it.
    is_retired: Cell<bool>,
}

/// What a request needs of its connection.
pub(in crate::proxy::upstream) struct LeaseOptions<'a> {
    /// It has to be a new one.
    pub(in crate::proxy::upstream) fresh: bool,
    /// A PROXY protocol header: the connection begins with it and carries this request only. Empty: any will do.
    pub(in crate::proxy::upstream) introduction: &'a [u8],
    /// It may become a tunnel, so it has to speak HTTP/1.1.
    pub(in crate::proxy::upstream) tunnel: bool,
}

/// An idle connection.
struct IdleConnection {
    connection: Box<H1Connection>,
    /// The address of the server.
    address: SocketAddr,
    /// When it is to be closed.
    until: u64,
}

/// A connection in use. Dropped: closed.
pub(in crate::proxy) struct PooledConnection {
    pool: Rc<Pool>,
    pub(in crate::proxy::upstream) transport: Transport,
    address: SocketAddr,
    kept: bool,
    /// Other clients' requests may use it, too.
    shared: bool,
    pub(in crate::proxy::upstream) rest: BodyRest,
    /// `None`: it is shared, and counted where it is.
    _in_use: Option<InUse>,
}

/// One more connection is in use, until this is dropped.
struct InUse(Rc<Cell<usize>>);

impl InUse {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The rest of a request body once the response has begun.
pub(in crate::proxy::upstream) enum BodyRest {
    /// There is none.
    Over,
    /// It is sent as it comes.
    Sending(Option<Rc<BodyProgress>>),
    /// Nobody reads it.
    Unread,
}

impl Pool {
    pub(in crate::proxy::upstream) fn new(dialer: Dialer, settings: &Upstream) -> Self {
        Self {
            dialer,
            idle: RefCell::default(),
            busy: Rc::default(),
            max_idle: settings.max_idle,
            idle_timeout: settings.idle,
            protocol: settings.protocol,
            http2: H2Pool::new(settings.http2),
            chose_http1: Cell::new(false),
            is_retired: Cell::new(false),
        }
    }

    /// Keeps no idle connections from now on.
    pub(in crate::proxy::upstream) fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
    }

    pub(in crate::proxy::upstream) const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Closes connections that have been idle for too long at `now`, that the server has closed, or whose address is no
    /// longer the server's.
    pub(in crate::proxy::upstream) fn sweep(&self, now: u64) {
        let is_retired = self.is_retired.get();
        let over = |since: u64| is_retired || u128::from(now.saturating_sub(since)) > self.idle_timeout.as_nanos();
        // None of HTTP/1.1 is idle once it is retired.
        self.idle
            .borrow_mut()
            .retain(|idle| now < idle.until && idle.connection.is_alive() && self.dialer.is_current(idle.address));
        if self.protocol != Protocol::Http1 {
            self.http2.sweep(|address, idle| self.dialer.is_current(address) && !idle.is_some_and(over));
        }
        self.dialer.refresh(now);
    }

    /// How many connections of HTTP/1.1 are idle.
    pub(in crate::proxy::upstream) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// How many connections carry requests.
    pub(in crate::proxy::upstream) fn busy(&self) -> usize {
        self.busy.get() + self.http2.busy()
    }

    /// Gets a connection for a request. Opening a new one takes at most `timeout`.
    pub(in crate::proxy::upstream) async fn lease(
        self: &Rc<Self>,
        need: &LeaseOptions<'_>,
        timeout: Duration,
    ) -> Result<PooledConnection, Refusal> {
        let offer = match self.protocol {
            Protocol::Auto if !need.tunnel => Alpn::Any,
            Protocol::Http2 => Alpn::Http2,
            Protocol::Auto | Protocol::Http1 => Alpn::Http1,
        };
        let shared = need.introduction.is_empty();
        if shared && offer != Alpn::Http1 {
            // Boxed, as most requests do not need it.
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

    fn lend(self: &Rc<Self>, transport: Transport, address: SocketAddr, kept: bool, shared: bool) -> PooledConnection {
        let _in_use = matches!(transport, Transport::Http1(_)).then(|| InUse::new(&self.busy));
        PooledConnection { pool: Rc::clone(self), transport, address, kept, shared, rest: BodyRest::Over, _in_use }
    }

    /// Opens a connection. Without a PROXY protocol header, one of HTTP/2 is shared with other requests.
    async fn open(
        self: &Rc<Self>,
        introduction: &[u8],
        offer: Alpn,
        timeout: Duration,
    ) -> Result<PooledConnection, Refusal> {
        let name = &self.dialer.name;
        // Rare, and large: boxed, it takes no room in every request.
        let opened = Box::pin(async {
            let (stream, address) = self.dialer.dial(introduction, offer).await.map_err(|error| {
                // If the gateway lacks something, that says nothing about the server.
                let reject = if is_ours(&error) { Reject::Unavailable } else { Reject::UpstreamFailed };
                Refusal::new(reject, format!("{name}: cannot connect: {}", describe(&error)))
            })?;
            let is_http2 = stream.is_http2(offer);
            self.chose_http1.set(!is_http2);
            let shared = introduction.is_empty();
            if !is_http2 {
                return Ok(self.lend(Transport::Http1(Box::new(H1Connection::new(stream))), address, false, shared));
            }
            let settings = &self.http2.settings;
            let agreed = Box::pin(http2::handshake(stream, settings.streams)).await.map_err(|error| {
                Refusal::new(Reject::UpstreamFailed, format!("{name}: does not speak HTTP/2: {}", describe(&error)))
            })?;
            let scheme = if self.dialer.is_secure() { "https" } else { "http" };
            let connection = H2Connection::start(agreed, address, scheme, settings, &self.http2.room);
            let slot = StreamSlot::take(&connection);
            if shared {
                self.http2.add(connection);
            }
            Ok(self.lend(Transport::Http2(Box::new(H2Stream::new(slot))), address, false, shared))
        });
        within(timeout, opened).await.unwrap_or_else(|| Err(self.too_slow()))
    }

    /// Gets a stream of a shared connection as soon as one is free, or a connection of HTTP/1.1 if the server chose
    /// that.
    async fn join(
        self: &Rc<Self>,
        need: &LeaseOptions<'_>,
        offer: Alpn,
        timeout: Duration,
    ) -> Result<PooledConnection, Refusal> {
        let (mut waiting, mut refused) = (None, None);
        loop {
            if let Some(slot) = self.http2.take(waiting.as_ref()) {
                let (kept, address) = (slot.is_used(), slot.address());
                return Ok(self.lend(Transport::Http2(Box::new(H2Stream::new(slot))), address, kept, true));
            }
            if offer == Alpn::Any {
                if !need.fresh
                    && let Some((connection, address)) = self.take()
                {
                    return Ok(self.lend(Transport::Http1(connection), address, true, true));
                }
                // Nobody else could use a connection of HTTP/1.1: there is no reason to wait for each other.
                if self.chose_http1.get() {
                    return self.open(&[], offer, timeout).await;
                }
            }
            // As long as there are other connections, a stream will become free.
            if let Some(refused) = refused.take_if(|_| self.http2.is_empty()) {
                return Err(refused);
            }
            let (told, before) = (self.http2.room.notified(), self.http2.openings());
            if refused.is_none() && self.http2.begin() {
                let pool = Rc::clone(self);
                // In a task of its own: the connection is for all who wait, and the first may leave.
                tokio::task::spawn_local(async move {
                    let opened = pool.open(&[], offer, timeout).await;
                    // One of HTTP/1.1 is kept for the first who wants it.
                    pool.http2.end(opened.map(PooledConnection::give_back).err());
                });
            }
            waiting.get_or_insert_with(|| self.http2.wait());
            told.await;
            refused = refused.or(self.http2.failure(before));
        }
    }

    /// Opening a connection took too long.
    fn too_slow(&self) -> Refusal {
        let name = &self.dialer.name;
        let what = if self.dialer.awaits_addresses() { "resolving its name" } else { "connecting" };
        Refusal::new(Reject::UpstreamTimeout, format!("{name}: {what} took too long"))
    }

    /// No stream became free in time.
    fn too_late(&self) -> Refusal {
        let name = &self.dialer.name;
        if self.http2.is_full() {
            let refusal = Refusal::new(Reject::Unavailable, format!("{name}: all streams are in use"));
            return Refusal { retry_after: Some(1), ..refusal };
        }
        self.too_slow()
    }

    /// The idle connection that was used last, if the server left it open.
    fn take(&self) -> Option<(Box<H1Connection>, SocketAddr)> {
        let mut idle = self.idle.borrow_mut();
        let now = deadline::now();
        while let Some(IdleConnection { connection, address, until }) = idle.pop() {
            if now < until && connection.is_alive() {
                return Some((connection, address));
            }
        }
        None
    }
}

/// How long a connection may be idle for which the server says so much. A request must not meet the server's close: it is
/// closed on our side a little before.
fn idle_time(most: Duration, keeps_for: Option<Duration>) -> Duration {
    keeps_for.map_or(most, |kept| most.min(kept.saturating_sub(MARGIN).max(kept / 2)))
}

impl PooledConnection {
    /// Whether the connection carried requests before: the server may be about to close it.
    pub(in crate::proxy::upstream) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// As [`Transport::send`].
    pub(in crate::proxy::upstream) fn send(
        &mut self,
        request: &mut UpstreamRequest,
        form: HeadFormat,
        client: &ClientSide<'_>,
    ) -> impl Future<Output = Result<response::Parts, UpstreamError>> {
        self.transport.send(request, form, client)
    }

    /// Whether the end of the connection counts as a failure of the server. That of a shared connection counts once.
    pub(in crate::proxy::upstream) fn is_to_blame(&self) -> bool {
        match &self.transport {
            Transport::Http1(_) => true,
            Transport::Http2(stream) => stream.is_to_blame(),
        }
    }

    /// The response did not come in time. A shared connection is probed by a PING.
    pub(in crate::proxy::upstream) fn doubt(&self) {
        if let Transport::Http2(stream) = &self.transport {
            stream.doubt();
        }
    }

    /// The response has begun and is passed on. The rest of the request body is sent meanwhile.
    pub(in crate::proxy::upstream) fn go_on(mut self, request: &mut UpstreamRequest) -> Self {
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

    /// Waits until the request has been sent, and gives the connection back. It is closed if the server takes nothing
    /// for `timeout`.
    pub(in crate::proxy::upstream) async fn finish(mut self, timeout: Duration) {
        let BodyRest::Sending(progress) = &self.rest else { return };
        let sent = in_time(pin!(self.transport.finish()), progress.as_ref(), timeout).await;
        if sent == Some(true) {
            self.give_back();
        }
    }

    /// The response was read to its end, and the request was sent: the connection goes back to the pool.
    pub(in crate::proxy) fn give_back(self) {
        // A stream of HTTP/2 ends by itself.
        let Transport::Http1(connection) = self.transport else { return };
        if self.shared
            && !self.pool.is_retired.get()
            && connection.is_reusable()
            && self.pool.dialer.is_current(self.address)
        {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() >= self.pool.max_idle {
                idle.retain(|idle| idle.connection.is_alive());
            }
            if idle.len() < self.pool.max_idle {
                let kept = idle_time(self.pool.idle_timeout, connection.keeps_for());
                idle.push(IdleConnection {
                    connection,
                    address: self.address,
                    until: deadline::after(deadline::now(), kept),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_closed_before_their_servers_do() {
        let most = Duration::from_secs(30);
        for (keeps_for, expect) in
            [(None, 30_000), (Some(65), 30_000), (Some(5), 4_000), (Some(2), 1_000), (Some(1), 500), (Some(0), 0)]
        {
            let idle = idle_time(most, keeps_for.map(Duration::from_secs));
            assert_eq!(idle.as_millis(), expect, "{keeps_for:?}");
        }
    }
}
