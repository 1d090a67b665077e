//! The HTTP/2 client: how long a connection to a server lives, and how many requests it carries at once.
//!
//! *Invariant:* a connection is used only after the SETTINGS of the server arrived, and never for more requests at once
//! than they allow. The connection window has room for the windows of all streams, so no client that reads its
//! response slowly blocks another.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{self, Builder, SendRequest},
};
use tokio::sync::Notify;

use self::ignore_write_errors::IgnoreWriteErrors;
use super::connection::dial::MaybeTlsStream;
use crate::{
    proxy::timing::deadline::{self, Alarm},
    settings::upstream::Http2,
};

mod ignore_write_errors;
pub(super) mod pool;
mod received_body;
pub(super) mod stream;

/// The receive window of a stream, in bytes.
const WINDOW: u32 = 64 * 1_024;

/// The largest head and the largest trailers of a response, in bytes.
const MAX_HEAD: u32 = 64 * 1_024;

/// How much of a request body is buffered for a server that does not take it, in bytes.
const SEND_BUFFER: usize = 64 * 1_024;

/// How many reset streams are remembered, and how long: frames that the server had sent for them are ignored.
const FORGOTTEN: (usize, Duration) = (1_000, Duration::from_secs(10));

/// An HTTP/2 connection to a server. It closes once nobody holds it and its streams have ended.
pub(super) struct H2Connection {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    scheme: &'static str,
    most: usize,
    active: Cell<usize>,
    /// When it last had a request.
    since: Cell<u64>,
    used: Cell<bool>,
    liveness: Rc<PeerLiveness>,
}

/// Whether the server is still there, as the connection's task finds out.
#[derive(Default)]
struct PeerLiveness {
    closed: Cell<bool>,
    /// Its end was counted as a failure of the server.
    blamed: Cell<bool>,
    /// A response did not come in time: a PING is to tell whether the server is there.
    doubted: Cell<bool>,
    driver: RefCell<Option<Waker>>,
    /// Wakes requests that wait for a free stream.
    room: Rc<Notify>,
}

/// A stream of a connection that is reserved for a request, until dropped.
pub(super) struct StreamSlot(Rc<H2Connection>);

/// The future that reads and writes a connection.
pub(super) type H2Driver = client::Connection<IgnoreWriteErrors<MaybeTlsStream>, Bytes>;

/// The HTTP/2 handshake: waits until the SETTINGS of the server are here.
pub(super) async fn handshake(stream: MaybeTlsStream, streams: u32) -> io::Result<(SendRequest<Bytes>, H2Driver)> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW.saturating_mul(streams.saturating_add(1)))
        // Until its SETTINGS are here no stream may be opened. That is how their arrival is noticed.
        .initial_max_send_streams(0)
        .max_header_list_size(MAX_HEAD)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(FORGOTTEN.0)
        .reset_stream_duration(FORGOTTEN.1)
        // The faults of one client must not end the streams of others.
        .max_local_error_reset_streams(None);
    let (sender, mut driver) = builder.handshake(IgnoreWriteErrors::new(stream)).await.map_err(says)?;
    poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(NOT_HTTP2.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(says(error))),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, driver))
}

/// Sends one request for a health check, and returns the status of the response.
pub(super) async fn check(stream: MaybeTlsStream, request: http::Request<()>) -> io::Result<u16> {
    let (mut sender, mut driver) = handshake(stream, 1).await?;
    let (mut answer, _stream) = sender.send_request(request, true).map_err(says)?;
    let answer = poll_fn(|cx| {
        if Pin::new(&mut driver).poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut answer).poll(cx).map_err(says)
    });
    Ok(answer.await?.status().as_u16())
}

/// The server closed, or sent something else.
const NOT_HTTP2: io::ErrorKind = io::ErrorKind::InvalidData;

fn says(error: h2::Error) -> io::Error {
    if error.is_io() {
        // It closed at once, as servers of HTTP/1.1 do on the preface of HTTP/2.
        return error
            .into_io()
            .filter(|error| error.kind() != io::ErrorKind::UnexpectedEof)
            .unwrap_or(NOT_HTTP2.into());
    }
    NOT_HTTP2.into()
}

impl H2Connection {
    /// Drives a connection in a task of its own. `room` is notified whenever a stream becomes free.
    pub(super) fn start(
        (sender, driver): (SendRequest<Bytes>, H2Driver),
        address: SocketAddr,
        scheme: &'static str,
        settings: &Http2,
        room: &Rc<Notify>,
    ) -> Rc<Self> {
        let liveness = Rc::new(PeerLiveness { room: Rc::clone(room), ..PeerLiveness::default() });
        tokio::task::spawn_local(drive(driver, Rc::clone(&liveness), address, *settings));
        Rc::new(Self {
            sender,
            address,
            scheme,
            most: usize::try_from(settings.streams).unwrap_or(usize::MAX),
            active: Cell::new(0),
            since: Cell::new(deadline::now()),
            used: Cell::new(false),
            liveness,
        })
    }

    /// Whether the server has neither closed it nor said that it takes no more requests on it.
    fn is_open(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.liveness.closed.get() && matches!(self.sender.clone().poll_ready(&mut context), Poll::Ready(Ok(())))
    }

    /// How many more streams may be opened now.
    fn room(&self) -> usize {
        if self.liveness.doubted.get() || !self.is_open() {
            return 0;
        }
        self.most.min(self.sender.current_max_send_streams()).saturating_sub(self.active.get())
    }
}

impl StreamSlot {
    /// Reserves a stream of `connection`, which has room.
    pub(super) fn take(connection: &Rc<H2Connection>) -> Self {
        connection.active.set(connection.active.get() + 1);
        Self(Rc::clone(connection))
    }

    /// The address of the server.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Whether its connection carried requests before.
    pub(super) fn is_used(&self) -> bool {
        self.0.used.get()
    }

    /// The request is about to be sent.
    fn begin(&self) -> SendRequest<Bytes> {
        self.0.used.set(true);
        self.0.sender.clone()
    }

    /// Whether the end of the connection has not been counted as a failure yet. It is from now on.
    pub(super) fn is_to_blame(&self) -> bool {
        !self.0.liveness.blamed.replace(true)
    }

    /// Has a PING sent. The connection gets no more requests before it is answered.
    pub(super) fn doubt(&self) {
        let liveness = &self.0.liveness;
        liveness.doubted.set(true);
        if let Some(driver) = liveness.driver.borrow_mut().take() {
            driver.wake();
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.active.set(connection.active.get().saturating_sub(1));
        connection.since.set(deadline::now());
        connection.liveness.room.notify_one();
    }
}

/// Drives a connection to its end.
async fn drive(mut driver: H2Driver, liveness: Rc<PeerLiveness>, address: SocketAddr, settings: Http2) {
    let mut pings = driver.ping_pong();
    let (mut asked, mut alarm) = (false, Alarm::default());
    let answers = poll_fn(|cx| {
        *liveness.driver.borrow_mut() = Some(cx.waker().clone());
        loop {
            if Pin::new(&mut driver).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let Some(pings) = &mut pings else { return Poll::Pending };
            if !asked {
                let is_time = settings.ping.is_some_and(|ping| alarm.poll(ping, cx).is_ready());
                if !(liveness.doubted.get() || is_time) || pings.send_ping(Ping::opaque()).is_err() {
                    return Poll::Pending;
                }
                asked = true;
                alarm.rest();
                continue;
            }
            match heard(pings, cx) {
                Poll::Ready(()) => {
                    asked = false;
                    alarm.rest();
                    if liveness.doubted.replace(false) {
                        liveness.room.notify_waiters();
                    }
                }
                Poll::Pending => return alarm.poll(settings.ping_timeout, cx).map(|()| false),
            }
        }
    })
    .await;
    if !answers {
        tracing::warn!(server = %address, "closing an HTTP/2 connection: its PING was not answered");
    }
    liveness.closed.set(true);
    drop(driver);
    liveness.room.notify_waiters();
}

/// Ready once the answer to a PING is there; an error ends the connection by itself.
fn heard(pings: &mut PingPong, cx: &mut Context<'_>) -> Poll<()> {
    pings.poll_pong(cx).map(drop)
}
