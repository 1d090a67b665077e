//! Decides when bytes go out to a client: at once, or once per turn of the connection, and notices when they do not.
//!
//! h2 flushes after every response whose body is larger than a few hundred bytes. A *deferred* wire collects what is
//! written, says that it is flushed, and is pushed once the connection has done all it can: many answers, one write.
//! *Invariant:* at most [`HIGH`] bytes are collected, and a client that takes nothing is seen as such whatever was said
//! to h2.

use std::{
    cell::RefCell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    connection::{Close, Connection, Why},
    deadline,
    framing::{frames::Frames, strict::Strict},
};

/// The most bytes that are collected before the client has to take some.
const HIGH: usize = 64 * 1_024;

/// What an idle connection may keep of its buffer, in bytes.
const KEPT: usize = 4 * 1_024;

/// What is taken of a client that sends on while it is being answered, in bytes.
const AHEAD: usize = 512;

/// A client's stream, plain or encrypted.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
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

struct Inner {
    stream: Stream,
    collected: Vec<u8>,
    sent: usize,
    reader: Reader,
    /// What came while hyper had a request to answer. It is read before anything else.
    ahead: Vec<u8>,
}

/// Reads along before hyper does.
enum Reader {
    Http1(Strict),
    Http2(Frames),
}

/// One client's stream, shared by hyper and whoever drives it.
pub(super) struct Wire {
    inner: RefCell<Inner>,
    connection: Rc<Connection>,
    deferred: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream, connection: Rc<Connection>, deferred: bool) -> Rc<Self> {
        let reader = if deferred { Reader::Http2(Frames::new()) } else { Reader::Http1(Strict::new()) };
        let inner = RefCell::new(Inner { stream, collected: Vec::new(), sent: 0, reader, ahead: Vec::new() });
        Rc::new(Self { inner, connection, deferred })
    }

    /// Sends what was collected, as far as the client takes it.
    pub(super) fn push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        if !inner.collected.is_empty() {
            self.connection.takes();
        }
        let pushed = inner.push(cx);
        drop(inner);
        self.connection.writing(pushed.is_pending());
        pushed
    }

    /// Whether hyper may believe that what it wrote is on its way.
    pub(super) const fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Looks whether a client left whose request is being answered. Ready: it did. hyper would do that as well, with
    /// 8 KiB for every request: it cannot use its buffer while the request's head is in it.
    pub(super) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        let Reader::Http1(strict) = &inner.reader else { return Poll::Pending };
        // A body is read by hyper.
        if !inner.ahead.is_empty() || !strict.is_between() || self.connection.switched.get() {
            return Poll::Pending;
        }
        let mut space = [MaybeUninit::uninit(); AHEAD];
        let mut buffer = ReadBuf::uninit(&mut space);
        let read = ready!(inner.stream.poll_read(cx, &mut buffer));
        if read.is_err() || buffer.filled().is_empty() {
            return Poll::Ready(());
        }
        inner.read_along(buffer.filled_mut(), &self.connection);
        inner.ahead.extend_from_slice(buffer.filled());
        Poll::Pending
    }

    /// Whether nothing of a request has come that hyper would have to know of.
    pub(super) fn may_rest(&self) -> bool {
        let inner = self.inner.borrow();
        inner.ahead.is_empty() && matches!(&inner.reader, Reader::Http1(strict) if strict.is_between())
    }

    /// Gives back what a silent connection needs no more.
    pub(super) fn shrink(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.collected.is_empty() {
            inner.collected = Vec::new();
        }
    }

    /// Ready once there is something to read, or nothing ever will be.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = self.inner.borrow();
        if !inner.ahead.is_empty() {
            return Poll::Ready(());
        }
        inner.stream.socket().poll_read_ready(cx).map(|_ready_or_broken| ())
    }

    /// What hyper has read and not looked at.
    pub(super) fn put_back(&self, unread: &[u8]) {
        self.inner.borrow_mut().ahead.extend_from_slice(unread);
    }

    /// Tells the client that nothing more will come.
    pub(super) fn poll_goodbye(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.borrow_mut().stream.poll_shutdown(cx)
    }

    /// Reads and forgets what still comes in. Ready at the end of the stream.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>, left: &mut usize) -> Poll<io::Result<()>> {
        let mut space = [0; 4 * 1_024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(self.inner.borrow_mut().stream.poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 || *left < read {
                return Poll::Ready(Ok(()));
            }
            *left -= read;
        }
    }

    /// Lets the kernel give up soon on what the client does not acknowledge: a banned one never will again.
    pub(super) fn give_up_after(&self, time: Duration) {
        let inner = self.inner.borrow();
        // Without it the kernel's own patience ends it.
        socket2::SockRef::from(inner.stream.socket()).set_tcp_user_timeout(Some(time)).unwrap_or_default();
    }
}

impl Inner {
    /// Reads what came in before hyper does.
    fn read_along(&mut self, fresh: &mut [u8], connection: &Connection) {
        match &mut self.reader {
            Reader::Http1(strict) => {
                strict.read(fresh);
                connection.waits.set(strict.waits());
            }
            Reader::Http2(frames) => {
                if !frames.read(fresh, deadline::now()) {
                    connection.shut(Close::Now, Why::Flood);
                }
            }
        }
    }

    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.collected.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(self.stream.poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        // What has become larger than it needs to be is given back; a busy connection keeps what it uses.
        if self.collected.len() < self.collected.capacity() / 8 {
            self.collected.shrink_to(KEPT);
        }
        self.sent = 0;
        self.collected.clear();
        self.stream.poll_flush(cx)
    }
}

/// hyper's end of a [`Wire`].
pub(super) struct Io(pub(super) Rc<Wire>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &self.0.connection;
        let mut inner = self.0.inner.borrow_mut();
        if !inner.ahead.is_empty() {
            connection.received();
            let taken = inner.ahead.len().min(buffer.remaining());
            buffer.put_slice(inner.ahead.get(..taken).unwrap_or_default());
            inner.ahead.drain(..taken);
            if inner.ahead.is_empty() {
                inner.ahead = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = inner.stream.poll_read(cx, buffer);
        let fresh = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if !fresh.is_empty() && !connection.switched.get() {
            connection.received();
            inner.read_along(fresh, connection);
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        if !wire.deferred {
            let written = wire.inner.borrow_mut().stream.poll_write(cx, bytes);
            wire.connection.writing(written.is_pending());
            return written;
        }
        ready!(wire.room(cx))?;
        let mut inner = wire.inner.borrow_mut();
        let taken = bytes.len().min(HIGH - inner.collected.len());
        inner.collected.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        if !wire.deferred {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        ready!(wire.room(cx))?;
        let mut inner = wire.inner.borrow_mut();
        let before = inner.collected.len();
        for slice in slices {
            let taken = slice.len().min(HIGH - inner.collected.len());
            inner.collected.extend_from_slice(slice.get(..taken).unwrap_or_default());
        }
        Poll::Ready(Ok(inner.collected.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.deferred
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0;
        if wire.deferred {
            return Poll::Ready(Ok(()));
        }
        let flushed = wire.inner.borrow_mut().stream.poll_flush(cx);
        wire.connection.writing(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0;
        ready!(wire.push(cx))?;
        wire.inner.borrow_mut().stream.poll_shutdown(cx)
    }
}

impl Wire {
    /// Ready once something more can be collected.
    fn room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.borrow().collected.len() < HIGH { Poll::Ready(Ok(())) } else { self.push(cx) }
    }
}
