//! A request's body on its way in: as it comes, with back-pressure, bounded in size and in time. Trailers pass where both
//! sides speak HTTP/2, and of those only what means nothing to whoever frames, routes or authorises (F11).

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};

use self::grpc_messages::Messages;
use super::{
    http1, http2,
    service::BodyError,
    timing::{
        deadline::{self, Alarm},
        min_rate::MinRate,
        throttle::Throttle,
    },
    upstream::headers,
};
use crate::settings::timeouts::Timeouts;

mod grpc_messages;
mod upload;

pub(super) use upload::{Upload, WholeBody, drain};

/// How much of an unread body is read and forgotten, so that the connection can go on, in bytes.
const FORGOTTEN: u64 = 64 * 1_024;

/// How a request's body is doing, for those who wait behind it.
#[derive(Debug, Default)]
pub(super) struct BodyProgress {
    pub(super) error: Cell<Option<BodyError>>,
    pub(super) ended: Cell<bool>,
    /// Bytes of it that were passed on.
    pub(super) passed: Cell<u64>,
    /// Whether anything of it was taken, be it trailers: it cannot be sent again then.
    pub(super) taken: Cell<bool>,
    /// Whether the client has to send more before anything can be passed on.
    pub(super) waiting: Cell<bool>,
    /// Whether that was ever so.
    pub(super) waited: Cell<bool>,
}

/// A request's body as it is received.
#[derive(Default)]
pub(super) enum Incoming {
    /// There is none.
    #[default]
    None,
    Http1(http1::Body),
    Http2(http2::Body),
}

impl From<http1::Body> for Incoming {
    fn from(body: http1::Body) -> Self {
        Self::Http1(body)
    }
}

impl From<http2::Body> for Incoming {
    fn from(body: http2::Body) -> Self {
        Self::Http2(body)
    }
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    /// Whether nothing is left to read.
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    /// It is read slowly: only a little of it is to be held in memory.
    fn hold_little(&self) {
        if let Self::Http2(body) = self {
            body.hold_little();
        }
    }

    /// How much is known to be still to come.
    fn announced(&self) -> u64 {
        match self {
            Self::None | Self::Http2(_) => 0,
            Self::Http1(body) => body.announced(),
        }
    }

    /// What is known of its length.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A request's body on its way in.
pub(super) struct RequestBody {
    incoming: Incoming,
    /// What was read of it already and not passed on.
    ahead: Bytes,
    left: u64,
    received: Rc<Cell<u64>>,
    between: Duration,
    /// What has to come while it is waited for, in bytes a second.
    least_rate: u64,
    rate: MinRate,
    alarm: Alarm,
    progress: Rc<BodyProgress>,
    /// What came behind it, as far as it may pass.
    trailers: Option<HeaderMap>,
    /// What may not come behind it, as the gateway sets it or would have judged it as a header.
    withheld: Option<Arc<[HeaderName]>>,
    /// Nothing may.
    drops_trailers: bool,
    /// What it consists of, where that is gRPC.
    messages: Option<Messages>,
    /// How it is held back, where it is.
    throttle: Option<Box<Throttle>>,
}

impl RequestBody {
    /// A body of at most `limit` bytes, which comes as fast as `timeouts` say.
    pub(super) fn new(incoming: Incoming, limit: u64, timeouts: &Timeouts, received: Rc<Cell<u64>>) -> Self {
        Self {
            incoming,
            ahead: Bytes::new(),
            left: limit,
            received,
            between: timeouts.body,
            least_rate: timeouts.least_rate,
            rate: MinRate::default(),
            alarm: Alarm::default(),
            progress: Rc::default(),
            trailers: None,
            withheld: None,
            drops_trailers: false,
            messages: None,
            throttle: None,
        }
    }

    /// The same body, of messages of gRPC that are no longer than it may be. How fast they come is the route's to say,
    /// and not the client's.
    /// Those that have come are counted in `count`.
    pub(super) fn of_messages(self, count: Rc<Cell<u64>>) -> Self {
        Self { messages: Some(Messages::new(self.left, count)), ..self }
    }

    /// The same body, behind which none of these headers passes; `None`: none at all.
    pub(super) fn without(self, withheld: Option<&Arc<[HeaderName]>>) -> Self {
        let names = withheld.filter(|names| !names.is_empty()).map(Arc::clone);
        Self { withheld: names, drops_trailers: withheld.is_none(), ..self }
    }

    /// The same body, held back.
    pub(super) fn held_back(self, throttle: Box<Throttle>) -> Self {
        self.incoming.hold_little();
        Self { throttle: Some(throttle), ..self }
    }

    pub(super) fn progress(&self) -> Rc<BodyProgress> {
        Rc::clone(&self.progress)
    }

    /// Reads it whole, its trailers too.
    pub(super) async fn whole(&mut self) -> Result<Bytes, BodyError> {
        let Some(first) = std::future::poll_fn(|cx| self.poll_piece(cx)).await.transpose()? else {
            return Ok(Bytes::new());
        };
        let mut rest: Option<BytesMut> = None;
        while let Some(piece) = std::future::poll_fn(|cx| self.poll_piece(cx)).await.transpose()? {
            rest.get_or_insert_with(|| BytesMut::from(&*first)).extend_from_slice(&piece);
        }
        Ok(rest.map_or(first, BytesMut::freeze))
    }

    /// Reads it whole, if it has no more than `most` bytes. `None`: it has more, and passes as it comes.
    pub(super) async fn read_ahead(&mut self, most: u64) -> Result<Option<Bytes>, BodyError> {
        let mut read = BytesMut::new();
        while let Some(piece) = std::future::poll_fn(|cx| self.poll_unmarked(cx)).await.transpose()? {
            read.extend_from_slice(&piece);
            if u64::try_from(read.len()).map_or(true, |length| length > most) {
                self.ahead = read.freeze();
                return Ok(None);
            }
        }
        Ok(Some(read.freeze()))
    }

    /// What came behind it, once it has been read whole.
    pub(super) fn take_trailers(&mut self) -> Option<Box<HeaderMap>> {
        self.trailers.take().map(Box::new)
    }

    /// Whether nothing is left to pass on but trailers.
    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    /// What is known of the length of what is left.
    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let ahead = u64::try_from(self.ahead.len()).unwrap_or(u64::MAX);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(hint.lower().saturating_add(ahead));
        hint
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = self.poll_unmarked(cx);
        self.progress.waiting.set(piece.is_pending());
        if piece.is_pending() {
            self.progress.waited.set(true);
        }
        let piece = ready!(piece);
        match &piece {
            Some(Ok(piece)) => {
                let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                self.progress.passed.set(self.progress.passed.get().saturating_add(length));
                self.progress.taken.set(true);
                // Whoever knows the length does not ask for what comes behind the last piece.
                self.progress.ended.set(self.is_end_stream());
            }
            Some(Err(cut)) => self.progress.error.set(Some(*cut)),
            None => self.progress.ended.set(true),
        }
        Poll::Ready(piece)
    }

    fn poll_unmarked(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.ahead))));
        }
        if let Some(throttle) = &mut self.throttle {
            // Meanwhile the client is not waited for.
            ready!(throttle.poll(cx));
        }
        loop {
            let Poll::Ready(frame) = self.incoming.poll_frame(cx) else {
                if self.incoming.announced() > self.left {
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                self.rate.waits(deadline::now());
                return self.alarm.poll(self.between, cx).map(|()| Some(Err(BodyError::TooSlow)));
            };
            self.alarm.rest();
            let Some(frame) = frame else {
                let broken = self.messages.as_ref().is_some_and(|messages| !messages.may_end());
                return Poll::Ready(broken.then_some(Err(BodyError::Broken)));
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(cut) => return Poll::Ready(Some(Err(cut))),
            };
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                Err(other) => {
                    let withheld = self.withheld.as_deref().unwrap_or_default();
                    let sent = other.into_trailers().ok().filter(|_| !self.drops_trailers);
                    self.trailers = sent.and_then(|all| headers::trailers(all, withheld));
                    continue;
                }
            };
            if let Some(messages) = &mut self.messages {
                if let Err(cut) = messages.read(&piece) {
                    return Poll::Ready(Some(Err(cut)));
                }
                // Whoever knows that it ends here does not ask for what comes behind.
                if self.incoming.is_end_stream() && !messages.may_end() {
                    return Poll::Ready(Some(Err(BodyError::Broken)));
                }
            }
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.received.set(self.received.get().saturating_add(length));
            let now = deadline::now();
            self.rate.moved(length, now);
            if self.rate.is_too_slow(now, self.between, self.least_rate) {
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            }
            let left = self.left.checked_sub(length);
            // What is announced is not waited for.
            let Some(left) = left.filter(|left| self.incoming.announced() <= *left) else {
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.left = left;
            if let Some(throttle) = &mut self.throttle {
                throttle.pass(piece.len());
            }
            return Poll::Ready(Some(Ok(piece)));
        }
    }
}

/// Reads a little of a body that nobody wants, so that the connection can carry the next request.
pub(super) async fn forget(incoming: Incoming, timeouts: Timeouts) {
    let mut request_body = RequestBody::new(incoming, FORGOTTEN, &timeouts, Rc::default());
    while let Some(Ok(_)) = std::future::poll_fn(|cx| request_body.poll_piece(cx)).await {}
}

/// Whether an unread body is small enough to be read and forgotten.
pub(super) fn is_forgettable(incoming: &Incoming) -> bool {
    incoming.size_hint().upper().is_some_and(|length| length <= FORGOTTEN)
}
