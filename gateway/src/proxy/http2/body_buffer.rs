//! Keeps what has come of a request's body until somebody asks for it: as much as the client's window lets it send, and no
//! more.
//!
//! *Invariant:* a client may send again only what somebody has taken. A body that nobody wants any more is forgotten as
//! it comes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::flow_control::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::proxy::{memory::buffer_pool, service::BodyError};

/// Pieces smaller than this are put together, so that many of them take no more room than what they hold, in bytes.
const SMALL: usize = 4 * 1_024;

/// How much a client may send of a body that is read slowly, in bytes.
const SLOW_WINDOW: u32 = 64 * 1_024;

/// What has come of one body.
pub(super) struct BodyBuffer {
    inner: RefCell<Inner>,
    /// What of the connection's window was taken, and may be sent again.
    freed: Rc<Cell<u32>>,
    /// Wakes the stream.
    stream: Waker,
}

#[derive(Default)]
struct Inner {
    pieces: VecDeque<Bytes>,
    /// What came behind those, in small pieces.
    small: BytesMut,
    /// The length of all these.
    kept: u32,
    /// What the client says is still to come.
    left: Option<u64>,
    trailers: Option<HeaderMap>,
    ended: bool,
    cut: Option<BodyError>,
    reader: Option<Waker>,
    /// What the client may send.
    window: u32,
    /// What it may be told to send again.
    freed: u32,
    /// Whether the client waits to be told that it may send (RFC 9110 10.1.1), and whether it is to be told now.
    expects: bool,
    owed: bool,
    /// Nobody reads it.
    abandoned: bool,
    /// It is read slowly: the connection's window is left to others.
    is_slow: bool,
}

/// What is wrong with the DATA of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataError {
    /// It is not as long as it said.
    Length,
    /// It is more than the window lets be sent.
    Window,
}

impl BodyBuffer {
    /// For a body of `length`, where that is known. `freed`: what of the connection's window may be sent again.
    pub(super) fn new(length: Option<u64>, expects: bool, freed: &Rc<Cell<u32>>, stream: Waker) -> Rc<Self> {
        let inner = Inner { left: length, expects, window: STREAM_WINDOW, ..Inner::default() };
        Rc::new(Self { inner: RefCell::new(inner), freed: Rc::clone(freed), stream })
    }

    /// Takes what came, and so many bytes of padding with it.
    pub(super) fn push(&self, payload: &[u8], padding: u32) -> Result<(), DataError> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let window = inner.window.checked_sub(length.saturating_add(padding));
        let left = inner.left.map(|left| left.checked_sub(u64::from(length)).ok_or(DataError::Length)).transpose();
        if window.is_none() || left.is_err() {
            self.free(length.saturating_add(padding));
        }
        inner.window = window.ok_or(DataError::Window)?;
        inner.left = left?;
        inner.expects = false;
        inner.freed += padding;
        self.free(padding);
        if inner.abandoned || inner.cut.is_some() {
            self.free(length);
            return Ok(());
        }
        if payload.is_empty() {
            return Ok(());
        }
        inner.kept += length;
        if payload.len() < SMALL {
            inner.small.extend_from_slice(payload);
        } else {
            inner.gather();
            inner.pieces.push_back(buffer_pool::copy(payload));
        }
        if inner.small.len() >= SMALL {
            inner.gather();
        }
        inner.wake();
        Ok(())
    }

    /// The body is whole, but for what came behind it.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) -> Result<(), DataError> {
        let mut inner = self.inner.borrow_mut();
        if inner.left.is_some_and(|left| left > 0) {
            return Err(DataError::Length);
        }
        (inner.trailers, inner.ended) = (trailers, true);
        inner.wake();
        Ok(())
    }

    /// Nothing more will come of it.
    pub(super) fn cut(&self, cut: BodyError) {
        let mut inner = self.inner.borrow_mut();
        if !inner.ended && inner.cut.is_none() {
            inner.cut = Some(cut);
            inner.wake();
        }
    }

    /// How much the client may be told to send again now; nothing while it would not be worth a frame.
    pub(super) fn grant(&self) -> u32 {
        let mut inner = self.inner.borrow_mut();
        if inner.ended || inner.abandoned || !inner.is_due() {
            return 0;
        }
        let granted = match inner.is_slow {
            true => SLOW_WINDOW.saturating_sub(inner.window.saturating_add(inner.kept)).min(inner.freed),
            false => inner.freed,
        };
        inner.window += granted;
        inner.freed -= granted;
        granted
    }

    /// Whether the client is to be told that it may send.
    pub(super) fn owes(&self) -> bool {
        std::mem::take(&mut self.inner.borrow_mut().owed)
    }

    /// How much of it is kept, in bytes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> u32 {
        self.inner.borrow().kept
    }

    /// Whether nobody reads it.
    pub(super) fn is_abandoned(&self) -> bool {
        self.inner.borrow().abandoned
    }

    fn free(&self, bytes: u32) {
        self.freed.set(self.freed.get().saturating_add(bytes));
    }
}

impl Inner {
    /// Whether it is worth a frame to tell the client that it may send again.
    const fn is_due(&self) -> bool {
        match self.is_slow {
            // What was sent before that was known is taken first.
            true => self.freed >= SLOW_WINDOW / 2 && self.window.saturating_add(self.kept) <= SLOW_WINDOW / 2,
            false => self.freed >= STREAM_WINDOW / 2,
        }
    }

    /// Makes one piece of the small ones.
    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front();
        piece.or_else(|| (!self.small.is_empty()).then(|| self.small.split().freeze()))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The body of a request on its way in.
pub(in crate::proxy) struct Body(Rc<BodyBuffer>);

impl Body {
    pub(super) fn new(buffer: &Rc<BodyBuffer>) -> Self {
        Self(Rc::clone(buffer))
    }

    /// It is read slowly: from now on the client may send only a little of it at a time.
    pub(in crate::proxy) fn hold_little(&self) {
        self.0.inner.borrow_mut().is_slow = true;
    }

    /// The next piece, or the trailers. `None`: that was all.
    pub(in crate::proxy) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut inner = self.0.inner.borrow_mut();
        if let Some(piece) = inner.next() {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            inner.kept = inner.kept.saturating_sub(length);
            inner.freed += length;
            self.0.free(length);
            let is_due = inner.is_due() || self.0.freed.get() >= CONNECTION_WINDOW / 2;
            drop(inner);
            if is_due {
                self.0.stream.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(cut) = inner.cut {
            return Poll::Ready(Some(Err(cut)));
        }
        if inner.ended {
            return Poll::Ready(inner.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if !inner.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        if std::mem::take(&mut inner.expects) {
            inner.owed = true;
            drop(inner);
            self.0.stream.wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether all of it has been taken.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        let inner = self.0.inner.borrow();
        inner.ended && inner.kept == 0 && inner.trailers.is_none()
    }

    /// How much is left, where that is known.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        let inner = self.0.inner.borrow();
        let kept = u64::from(inner.kept);
        match inner.left {
            Some(left) => SizeHint::with_exact(left.saturating_add(kept)),
            None if inner.ended => SizeHint::with_exact(kept),
            None => SizeHint::new(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut inner = self.0.inner.borrow_mut();
        inner.abandoned = true;
        (inner.pieces, inner.small) = (VecDeque::new(), BytesMut::new());
        let kept = std::mem::take(&mut inner.kept);
        drop(inner);
        self.0.free(kept);
        // It may have been all that the stream waited for.
        self.0.stream.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(length: Option<u64>) -> (Rc<BodyBuffer>, Body, Rc<Cell<u32>>) {
        let freed = Rc::new(Cell::new(0));
        let buffer = BodyBuffer::new(length, false, &freed, Waker::noop().clone());
        let body = Body::new(&buffer);
        (buffer, body, freed)
    }

    fn next(body: &Body) -> Poll<Option<Result<usize, BodyError>>> {
        let cx = Context::from_waker(Waker::noop());
        body.poll_frame(&cx).map(|frame| frame.map(|frame| frame.map(|it| it.into_data().map_or(0, |it| it.len()))))
    }

    #[test]
    fn windows_open_by_what_was_taken() {
        let (buffer, body, freed) = buffer(None);
        let piece = vec![7; 16_384];
        let all = STREAM_WINDOW / 16_384;
        assert!((0..all).all(|_| buffer.push(&piece, 0).is_ok()));
        assert_eq!((buffer.push(&[1], 0), freed.take()), (Err(DataError::Window), 1));
        assert_eq!((buffer.grant(), freed.get()), (0, 0), "nobody took any");
        for _ in 0..all / 2 {
            assert_eq!(next(&body), Poll::Ready(Some(Ok(16_384))));
        }
        assert_eq!((buffer.grant(), freed.get()), (STREAM_WINDOW / 2, STREAM_WINDOW / 2));
        assert_eq!(buffer.grant(), 0, "told once");
        buffer.push(&piece, 100).unwrap();
        assert_eq!(freed.get(), STREAM_WINDOW / 2 + 100, "padding is taken by nobody");
        drop(body);
        assert_eq!(freed.get(), STREAM_WINDOW + 16_384 + 100, "what nobody wants is free");
        buffer.push(&piece, 0).unwrap();
        assert_eq!((buffer.grant(), freed.get()), (0, STREAM_WINDOW + 2 * 16_384 + 100));
    }

    #[test]
    fn h05_small_pieces_are_put_together() {
        let (buffer, body, _) = buffer(None);
        (0..10_000).for_each(|_| buffer.push(&[1], 0).unwrap());
        assert_eq!(buffer.inner.borrow().pieces.len(), 2);
        buffer.push(&[2; SMALL], 0).unwrap();
        buffer.push(&[], 0).unwrap();
        buffer.end(None).unwrap();
        let lengths: Vec<_> = std::iter::from_fn(|| match next(&body) {
            Poll::Ready(Some(Ok(length))) => Some(length),
            _ => None,
        })
        .collect();
        assert_eq!(lengths, [4_096, 4_096, 1_808, 4_096]);
        assert!(body.is_end_stream());
    }

    #[test]
    fn h10_a_body_is_as_long_as_it_says() {
        let (buffer, body, _) = buffer(Some(5));
        assert_eq!(body.size_hint().exact(), Some(5));
        buffer.push(b"abc", 0).unwrap();
        assert_eq!((body.size_hint().exact(), buffer.end(None)), (Some(5), Err(DataError::Length)));
        assert_eq!(next(&body), Poll::Ready(Some(Ok(3))));
        assert_eq!((body.size_hint().exact(), next(&body)), (Some(2), Poll::Pending));
        assert_eq!(buffer.push(b"def", 0), Err(DataError::Length));
        buffer.cut(BodyError::Broken);
        assert_eq!(next(&body), Poll::Ready(Some(Err(BodyError::Broken))));
    }

    #[test]
    fn whoever_waits_is_told_once_to_send() {
        let freed = Rc::new(Cell::new(0));
        let buffer = BodyBuffer::new(Some(1), true, &freed, Waker::noop().clone());
        let body = Body::new(&buffer);
        assert!(!buffer.owes(), "nobody wants it");
        assert_eq!(next(&body), Poll::Pending);
        assert!(buffer.owes());
        assert_eq!(next(&body), Poll::Pending);
        assert!(!buffer.owes());
    }
}
