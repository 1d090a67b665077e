//! Reads from a client: the next head between requests, a body as somebody asks for it, and a little while a response is made,
//! to see a client that leaves. What the client is told before its response is written here too.
//!
//! *Invariant:* bytes behind a body are never taken for a part of it. A body that nobody reads to its end ends the
//! connection (F14).

use std::{
    cell::{Cell, RefCell},
    io,
    mem::MaybeUninit,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::response::Parts;
use http_body::{Frame, SizeHint};
use tokio::io::ReadBuf;

use super::{
    head::{HeadReader, MalformedHead, RequestHead},
    response_writer::write_interim,
};
use crate::{
    proxy::{
        connection::{CloseReason, Connection, client_io::ClientIo},
        framing::length::Framing,
        memory::buffer_pool,
        service::BodyError,
        timing::deadline::{self, Alarm, has_passed},
    },
    refusal::{Refusal, Reject},
    settings::proxy::HeadLimits,
};

/// What is taken of a client that sends on while it is being answered, in bytes.
const AHEAD: usize = 512;

/// How often it is asked whether a client is there that sends no more.
const LOOK: Duration = Duration::from_millis(250);

/// A client that closes its sending side in the middle of a response of unknown length counts as gone if it is sent
/// nothing for this long.
const SILENCE: Duration = Duration::from_secs(2);

/// A client cannot have had any of the response yet if it closes its sending side so soon behind its request: it has sent
/// all that it wanted to send, and waits.
const BEHIND: Duration = Duration::from_secs(1);

/// What a client that waits for it is told before it sends its body (RFC 9110 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What comes of one client.
pub(in crate::proxy) struct RequestReader {
    io: Rc<ClientIo>,
    connection: Rc<Connection>,
    inner: RefCell<Inner>,
    /// Whether [`CONTINUE`] is to be sent before the body is read.
    owed: Cell<bool>,
    interim: RefCell<InterimOutput>,
    /// Whoever had the body let go of it before its end.
    abandoned: Cell<bool>,
    /// Since when the client has sent all that it will ever send, and may still wait for its answer.
    half_since: Cell<Option<u64>>,
    /// When a read first showed, since the response began, that the client's sending side was still open.
    seen_open: Cell<Option<u64>>,
    /// When it is asked next whether such a client is still there.
    look: RefCell<Alarm>,
    /// When such a client counts as gone.
    silence: RefCell<Alarm>,
    /// The connection is over, whoever still reads a body of it.
    is_over: Cell<bool>,
    /// Whoever waits for more of a body.
    reader: RefCell<Option<Waker>>,
}

/// What is sent to the client before its response: [`CONTINUE`], and interim responses of the upstream. One after the
/// other, so that none begins in the middle of another.
#[derive(Default)]
struct InterimOutput {
    out: Vec<u8>,
    written: usize,
}

struct Inner {
    /// Read, and not yet taken.
    unread: Bytes,
    head: HeadReader,
    /// How much of the body is left.
    framing: Framing,
}

impl Inner {
    fn poll_fill(&mut self, io: &ClientIo, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.unread = ready!(buffer_pool::read(|buffer| io.poll_read(cx, buffer)))?;
        Poll::Ready(Ok(!self.unread.is_empty()))
    }
}

impl RequestReader {
    pub(super) fn new(io: &Rc<ClientIo>, connection: &Rc<Connection>) -> Rc<Self> {
        let inner = Inner { unread: Bytes::new(), head: HeadReader::default(), framing: Framing::None };
        Rc::new(Self {
            io: Rc::clone(io),
            connection: Rc::clone(connection),
            inner: RefCell::new(inner),
            owed: Cell::new(false),
            interim: RefCell::default(),
            abandoned: Cell::new(false),
            half_since: Cell::new(None),
            seen_open: Cell::new(None),
            look: RefCell::default(),
            silence: RefCell::default(),
            is_over: Cell::new(false),
            reader: RefCell::new(None),
        })
    }

    /// The next request's head. `None`: there is no other request.
    pub(super) fn poll_head(
        &self,
        limits: HeadLimits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<RequestHead>, MalformedHead>> {
        // While nothing is answered, reading tells of the client: nobody has to look.
        self.look.borrow_mut().rest();
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        loop {
            // A request that a banned client has begun is not waited for.
            if self.connection.goes() && (self.connection.close_reason() == Some(CloseReason::Banned)) {
                return Poll::Ready(Ok(None));
            }
            if !inner.unread.is_empty() {
                self.connection.received();
                if let Some(mut head) = inner.head.take(&mut inner.unread, limits)? {
                    inner.framing = std::mem::take(&mut head.framing);
                    let has_body = !inner.framing.is_over();
                    self.owed.set(head.expects && has_body);
                    return Poll::Ready(Ok(Some(head)));
                }
            }
            if inner.head.is_fresh() && self.connection.goes() {
                return Poll::Ready(Ok(None));
            }
            let Poll::Ready(filled) = inner.poll_fill(&self.io, cx) else {
                if self.connection.is_head_late() && !inner.head.is_fresh() {
                    return Poll::Ready(Err(Refusal::new(Reject::RequestTimeout, "head too slow").into()));
                }
                // TLS may have something of its own to say, such as that it does not renegotiate.
                return match self.io.poll_flush(cx) {
                    Poll::Ready(Err(_gone)) => Poll::Ready(Ok(None)),
                    _ => Poll::Pending,
                };
            };
            if !filled.unwrap_or(false) {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// The body of the request whose head was read last; `None`: it has none.
    pub(super) fn body(self: &Rc<Self>) -> Option<Body> {
        (!self.inner.borrow().framing.is_over()).then(|| Body { reader: Rc::clone(self), trailers: true })
    }

    /// The answer begins: whoever has not been told to send its body by now is not told any more. `true`: there is such a
    /// client. It may send the body or not, so what follows could be either (F15).
    pub(super) fn answers(&self) -> bool {
        self.seen_open.set(None);
        self.owed.take() && !self.is_read_out()
    }

    /// The client is told this before its response.
    pub(super) fn tell(&self, heads: &[Parts]) {
        let mut interim = self.interim.borrow_mut();
        heads.iter().for_each(|head| write_interim(head, &mut interim.out));
    }

    /// Writes what the client is told before its response. Ready: all of it has left, or never will.
    pub(super) fn poll_told(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.interim.borrow_mut();
        if interim.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = interim.out.get(interim.written..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(self.io.poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            interim.written += taken;
        }
        // The client may wait for nothing but this.
        ready!(self.io.poll_flush(cx))?;
        *interim = InterimOutput::default();
        Poll::Ready(Ok(()))
    }

    /// Looks whether a client left whose request is being answered. Ready: it did. One that has ended its own side
    /// alone waits for the answer (RFC 9112 9.6, RFC 8446 6.1); without `close_notify` it was cut off.
    pub(super) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.half_since.get().is_some() {
            return self.poll_broken(cx);
        }
        let mut inner = self.inner.borrow_mut();
        // A body is read by whoever has it.
        if !inner.framing.is_over() {
            return Poll::Pending;
        }
        // Nothing is read behind the next request, so only a reset can tell.
        if !inner.unread.is_empty() {
            return self.poll_broken(cx);
        }
        let mut space = [MaybeUninit::uninit(); AHEAD];
        let mut buffer = ReadBuf::uninit(&mut space);
        // A task that has done enough for now is told of no bytes, whether there are any or not.
        let could_read = tokio::task::coop::has_budget_remaining();
        let Poll::Ready(read) = self.io.poll_read(cx, &mut buffer) else {
            if could_read && self.seen_open.get().is_none() {
                self.seen_open.set(Some(deadline::now()));
            }
            return Poll::Pending;
        };
        if read.is_err() {
            return Poll::Ready(());
        }
        if buffer.filled().is_empty() {
            self.half_since.set(Some(deadline::now()));
            self.io.keep_alive();
            return self.poll_broken(cx);
        }
        inner.unread = Bytes::copy_from_slice(buffer.filled());
        self.poll_broken(cx)
    }

    /// The same while a response is sent. `is_silent`: its length is unknown, and nothing was sent since the last look.
    ///
    /// A client that closes its sending side in the middle of a stream has mostly closed the connection, as when a user
    /// leaves a page. It answers the next bytes by a reset. While there are none, only the kernel's probes tell it from a
    /// client that still reads, and that takes a minute. nginx and Envoy take every such client for gone at once.
    pub(super) fn poll_left_response(&self, is_silent: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_left(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut silence = self.silence.borrow_mut();
        if is_silent && self.is_half_closed_within_the_response() {
            return silence.poll(SILENCE, cx);
        }
        silence.rest();
        Poll::Pending
    }

    /// Whether the client has sent all that it will ever send.
    #[cfg(test)]
    pub(super) fn is_half_closed(&self) -> bool {
        self.half_since.get().is_some()
    }

    /// Whether the client has closed its sending side when it can have had some of the response.
    fn is_half_closed_within_the_response(&self) -> bool {
        let (Some(half), Some(open)) = (self.half_since.get(), self.seen_open.get()) else { return false };
        has_passed(half, open, BEHIND)
    }

    /// Looks whether the connection of a client that sends no more has broken. Ready: it has.
    fn poll_broken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut look = self.look.borrow_mut();
        while look.poll(LOOK, cx).is_ready() {
            look.rest();
            if self.io.is_broken() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Whether all of the body has been read.
    pub(super) fn is_read_out(&self) -> bool {
        self.inner.borrow().framing.is_over()
    }

    /// Whether bytes that came behind the request have been read already.
    pub(super) fn has_early(&self) -> bool {
        !self.inner.borrow().unread.is_empty()
    }

    /// Whether there is more than the requests that were answered.
    pub(super) fn has_more(&self) -> bool {
        !self.inner.borrow().unread.is_empty() || self.io.has_more()
    }

    /// Nothing more is read for anybody.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ready once the body has been read to its end, or never will be: `false`.
    pub(super) fn poll_read_out(&self) -> Poll<bool> {
        if self.inner.borrow().framing.is_over() {
            return Poll::Ready(true);
        }
        if self.abandoned.get() { Poll::Ready(false) } else { Poll::Pending }
    }

    /// What was read, and is no HTTP any more.
    pub(super) fn take_unread(&self) -> Bytes {
        std::mem::take(&mut self.inner.borrow_mut().unread)
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.is_over.get() {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        loop {
            match inner.framing.take(&mut inner.unread) {
                Ok(Some(piece)) => {
                    // Whoever sends without being told need not be.
                    self.owed.set(false);
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) if inner.framing.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_broken) => return Poll::Ready(Some(Err(BodyError::Broken))),
            }
            if inner.unread.is_empty() {
                let Poll::Ready(filled) = inner.poll_fill(&self.io, cx) else {
                    // It leaves at the end of this turn of whoever makes the response.
                    if self.owed.take() {
                        self.interim.borrow_mut().out.extend_from_slice(CONTINUE);
                    }
                    let mut reader = self.reader.borrow_mut();
                    if !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                        *reader = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                };
                if !filled.unwrap_or(false) {
                    return Poll::Ready(Some(Err(BodyError::Gone)));
                }
                // Whoever sends without being told need not be.
                self.owed.set(false);
            }
        }
    }
}

/// The body of a request on its way in.
pub(in crate::proxy) struct Body {
    reader: Rc<RequestReader>,
    /// Whether those are still to be asked for.
    trailers: bool,
}

impl Body {
    /// The next piece, or the trailers. `None`: that was all.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = ready!(self.reader.poll_piece(cx)) {
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        if !std::mem::take(&mut self.trailers) {
            return Poll::Ready(None);
        }
        let trailers = self.reader.inner.borrow_mut().framing.trailers();
        self.reader.connection.wake();
        Poll::Ready(
            trailers.map_err(|_broken| BodyError::Broken).transpose().map(|trailers| trailers.map(Frame::trailers)),
        )
    }

    /// Whether all of it has been taken.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        let inner = self.reader.inner.borrow();
        inner.framing.is_over() && !(self.trailers && matches!(inner.framing, Framing::Chunked(_)))
    }

    /// How much is known to be still to come.
    pub(in crate::proxy) fn announced(&self) -> u64 {
        self.reader.inner.borrow().framing.announced()
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.reader.inner.borrow().framing.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.reader.inner.borrow().framing.is_over() {
            self.reader.abandoned.set(true);
        }
        // Whoever drives the connection may wait for this.
        self.reader.connection.wake();
    }
}
