//! Reads from and writes to one client. Writes go out at once or are collected, and a client that takes nothing is
//! noticed.
//!
//! HTTP/2 collects all frames of a turn and pushes them at once: many responses, one write.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::TcpKeepalive;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{Connection, fast_lane::Prioritized};
use crate::proxy::{memory::buffer_pool, tcp::Tcp};

/// What an idle connection may keep of its buffer, in bytes.
const KEPT: usize = 4 * 1_024;

/// How long the kernel keeps trying to reach a banned client.
const BANNED_TIMEOUT: Duration = Duration::from_secs(1);

/// After how long the kernel asks a client that sends no more whether it is there, how often it asks then, and how often
/// it asks in vain. The kernel of a client that has closed forgets the connection after a minute, and answers by a reset
/// from then on.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(15), 4);

/// A client's stream, plain or encrypted.
pub(in crate::proxy) enum Stream {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl Stream {
    pub(in crate::proxy) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket.get(),
            Self::Tls(stream) => stream.get_ref().0.get(),
        }
    }

    fn socket_mut(&mut self) -> &mut Tcp {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// One client's stream, shared by the HTTP code and the code that drives the connection.
pub(in crate::proxy) struct ClientIo {
    stream: RefCell<Stream>,
    connection: Rc<Connection>,
    /// The write buffer, and how much of it has been sent.
    out: RefCell<Vec<u8>>,
    sent: Cell<usize>,
    /// What came broke the rules of TLS. The alert that says so is the last that the client is sent (RFC 8446 6.2).
    is_tls_broken: Cell<bool>,
}

impl ClientIo {
    pub(in crate::proxy) fn new(stream: Stream, connection: Rc<Connection>) -> Rc<Self> {
        let io = Rc::new(Self {
            stream: RefCell::new(stream),
            connection,
            out: RefCell::default(),
            sent: Cell::new(0),
            is_tls_broken: Cell::new(false),
        });
        let socket: Weak<Self> = Rc::downgrade(&io);
        io.connection.fast_lane.opened(socket);
        io
    }

    pub(in crate::proxy) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.stream.borrow_mut().poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &read
            && breaks_tls(error)
        {
            self.is_tls_broken.set(true);
        }
        read
    }

    /// Whether what came broke the rules of TLS.
    pub(in crate::proxy) const fn is_tls_broken(&self) -> bool {
        self.is_tls_broken.get()
    }

    pub(in crate::proxy) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_tls_broken.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = self.stream.borrow_mut().poll_write(cx, bytes);
        self.connection.writing(taken(&written));
        written
    }

    pub(in crate::proxy) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream.borrow_mut().poll_flush(cx);
        self.connection.writing(flushed.is_ready().then_some(0));
        flushed
    }

    /// The write buffer, to be appended to.
    pub(in crate::proxy) fn out(&self) -> RefMut<'_, Vec<u8>> {
        self.out.borrow_mut()
    }

    /// How many bytes of the write buffer have not been sent.
    pub(in crate::proxy) fn collected(&self) -> usize {
        self.out.borrow().len().saturating_sub(self.sent.get())
    }

    /// Sends the write buffer, as far as the client takes it.
    pub(in crate::proxy) fn push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.sent.get();
        let is_silent = self.out.borrow().is_empty();
        if !is_silent {
            self.connection.takes();
        }
        let pushed = self.push_all(cx);
        let taken = self.sent.get().saturating_sub(before);
        if pushed.is_pending() && taken > 0 {
            self.connection.writing(Some(taken));
        }
        self.connection.writing(pushed.is_ready().then_some(0));
        pushed
    }

    fn push_all(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_tls_broken.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let mut out = self.out.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while let Some(rest) = out.get(self.sent.get()..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(stream.poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent.set(self.sent.get() + taken);
        }
        // A buffer that has become too large is shrunk. A busy connection keeps what it uses.
        if out.len() < out.capacity() / 8 {
            out.shrink_to(KEPT);
        }
        self.sent.set(0);
        out.clear();
        stream.poll_flush(cx)
    }

    /// Frees the buffer of an idle connection.
    pub(in crate::proxy) fn shrink(&self) {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            *out = Vec::new();
        }
    }

    /// Tells the client that nothing more will come.
    pub(in crate::proxy) fn poll_goodbye(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        if !self.is_tls_broken.get() {
            return stream.poll_shutdown(cx);
        }
        // No `close_notify`: it would say that the response which breaks off is whole.
        // Once what is left of the alert is written, this tells the same fault again.
        let _fault = ready!(stream.poll_flush(cx));
        Pin::new(stream.socket_mut()).poll_shutdown(cx)
    }

    /// Reads and discards bytes that still come in, without decrypting them. Ready with their number; 0: the end.
    pub(in crate::proxy) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        buffer_pool::with_space(|space| {
            let mut buffer = ReadBuf::new(space);
            ready!(Pin::new(self.stream.borrow_mut().socket_mut()).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Whether bytes have come that nobody will read. Takes one of them.
    pub(in crate::proxy) fn has_more(&self) -> bool {
        let mut space = [0];
        let mut buffer = ReadBuf::new(&mut space);
        let mut stream = self.stream.borrow_mut();
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(stream.socket_mut()).poll_read(cx, &mut buffer).is_ready() && !buffer.filled().is_empty()
    }

    /// Whether the connection has broken. After the client has ended its own side, no read tells that.
    pub(in crate::proxy) fn is_broken(&self) -> bool {
        let stream = self.stream.borrow();
        !matches!(socket2::SockRef::from(stream.socket()).take_error(), Ok(None))
    }

    /// Has the kernel ask from time to time whether a client is there that sends no more.
    pub(in crate::proxy) fn keep_alive(&self) {
        let (time, interval, retries) = PROBES;
        let probes = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
        let stream = self.stream.borrow();
        // If that fails, it is noticed once it is sent something.
        socket2::SockRef::from(stream.socket()).set_tcp_keepalive(&probes).unwrap_or_default();
    }

    /// Closes with a reset, so that the client cannot take a response that broke off for a whole one.
    pub(in crate::proxy) fn reset_on_close(&self) {
        let stream = self.stream.borrow();
        // If that fails, the client sees a normal end.
        socket2::SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO)).unwrap_or_default();
    }

    /// Lets the kernel give up early on unacknowledged bytes: a banned client never acknowledges them.
    pub(in crate::proxy) fn give_up_soon(&self) {
        let stream = self.stream.borrow();
        // If that fails, the kernel's own timeout ends it.
        socket2::SockRef::from(stream.socket()).set_tcp_user_timeout(Some(BANNED_TIMEOUT)).unwrap_or_default();
    }
}

impl Prioritized for ClientIo {
    fn set_priority(&self, priority: u32) -> bool {
        let Ok(stream) = self.stream.try_borrow() else { return false };
        socket2::SockRef::from(stream.socket()).set_priority(priority).is_ok()
    }
}

/// Whether a client broke the rules of TLS. One that sends an alert itself does not.
fn breaks_tls(error: &io::Error) -> bool {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    fault.is_some_and(|fault| !matches!(fault, rustls::Error::AlertReceived(_)))
}

/// How many bytes a client took; `None`: we have to wait for it.
fn taken(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
        Poll::Pending => None,
    }
}

/// A [`ClientIo`] as a stream, for tunnels.
pub(in crate::proxy) struct TunnelIo(pub(in crate::proxy) Rc<ClientIo>);

impl AsyncRead for TunnelIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}

impl AsyncWrite for TunnelIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_goodbye(cx)
    }
}
