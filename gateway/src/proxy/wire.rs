//! Decides when bytes go out to a client: at once, or once per turn of the connection, and notices when they do not.
//!
//! h2 flushes after every response whose body is larger than a few hundred bytes. A *deferred* wire collects what is
//! written, says that it is flushed, and is pushed once the connection has done all it can: many answers, one write.
//! *Invariant:* at most [`HIGH`] bytes are collected, and a client that takes nothing is seen as such whatever was said
//! to h2.

use std::{
    cell::RefCell,
    io,
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
    framing::frames::Frames,
};

/// The most bytes that are collected before the client has to take some.
const HIGH: usize = 64 * 1_024;

/// What an idle connection may keep of its buffer, in bytes.
const KEPT: usize = 4 * 1_024;

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
    /// Reads HTTP/2 along before hyper does.
    frames: Option<Frames>,
}

/// One client's stream, shared by whoever speaks HTTP on it and whoever drives it.
pub(super) struct Wire {
    inner: RefCell<Inner>,
    connection: Rc<Connection>,
    deferred: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream, connection: Rc<Connection>, deferred: bool) -> Rc<Self> {
        let inner = Inner { stream, collected: Vec::new(), sent: 0, frames: deferred.then(Frames::new) };
        Rc::new(Self { inner: RefCell::new(inner), connection, deferred })
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.borrow_mut().stream.poll_read(cx, buffer)
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.inner.borrow_mut().stream.poll_write(cx, bytes);
        self.connection.writing(taken(&written));
        written
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner.borrow_mut().stream.poll_flush(cx);
        self.connection.writing(flushed.is_ready().then_some(0));
        flushed
    }

    /// Sends what was collected, as far as the client takes it.
    pub(super) fn push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        if !inner.collected.is_empty() {
            self.connection.takes();
        }
        let before = inner.sent;
        let pushed = inner.push(cx);
        let taken = inner.sent.saturating_sub(before);
        drop(inner);
        if pushed.is_pending() && taken > 0 {
            self.connection.writing(Some(taken));
        }
        self.connection.writing(pushed.is_ready().then_some(0));
        pushed
    }

    /// Gives back what a silent connection needs no more.
    pub(super) fn shrink(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.collected.is_empty() {
            inner.collected = Vec::new();
        }
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

    /// Lets the end of the connection be no end of what was sent.
    pub(super) fn reset_on_close(&self) {
        let inner = self.inner.borrow();
        // Without it the client sees an end, and no failure.
        socket2::SockRef::from(inner.stream.socket()).set_linger(Some(Duration::ZERO)).unwrap_or_default();
    }

    /// Lets the kernel give up soon on what the client does not acknowledge: a banned one never will again.
    pub(super) fn give_up_after(&self, time: Duration) {
        let inner = self.inner.borrow();
        // Without it the kernel's own patience ends it.
        socket2::SockRef::from(inner.stream.socket()).set_tcp_user_timeout(Some(time)).unwrap_or_default();
    }
}

/// What a client took of what it was sent; `None`: it has to be waited for.
fn taken(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
        Poll::Pending => None,
    }
}

impl Inner {
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

/// A [`Wire`] as a stream: hyper's for HTTP/2, a tunnel's.
pub(super) struct Io(pub(super) Rc<Wire>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &self.0.connection;
        let mut inner = self.0.inner.borrow_mut();
        let before = buffer.filled().len();
        let read = inner.stream.poll_read(cx, buffer);
        if let Some(frames) = &mut inner.frames
            && let Some(fresh) = buffer.filled().get(before..).filter(|fresh| !fresh.is_empty())
            && !frames.read(fresh, deadline::now())
        {
            connection.shut(Close::Now, Why::Flood);
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        if !wire.deferred {
            return wire.poll_write(cx, bytes);
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
        if wire.deferred { Poll::Ready(Ok(())) } else { wire.poll_flush(cx) }
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
