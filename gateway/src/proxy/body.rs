//! Decides how bodies pass: both ways as they come, with back-pressure, bounded in size and in patience. Trailers pass
//! where both sides speak HTTP/2, those alone that mean nothing to whoever frames, routes or authorises (F11).

use std::{
    cell::Cell,
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

use super::{
    http1, http2,
    min_rate::MinRate,
    raw_head::RawHead,
    request::{exchange::Record, grpc::Messages, problem},
    timing::deadline::{self, Alarm},
    upstream::{Exchange, hygiene},
};
use crate::{
    refusal::{Refusal, Reject},
    settings::timeouts::Timeouts,
};

mod upload;

pub(super) use upload::{Upload, drain};

/// How much of an unread body is read and forgotten, so that the connection can go on, in bytes.
const FORGOTTEN: u64 = 64 * 1_024;

/// Why a request's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Its framing is broken.
    Broken,
    /// The client left.
    Gone,
    /// It is larger than the route takes.
    TooLarge,
    /// The client stopped sending.
    TooSlow,
}

impl fmt::Display for BodyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Broken => "request body broken",
            Self::Gone => "client left",
            Self::TooLarge => "request body too large",
            Self::TooSlow => "request body too slow",
        })
    }
}

impl Error for BodyError {}

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
}

/// A request's body as it is received.
pub(super) enum Incoming {
    /// There is none.
    None,
    Http1(http1::Body),
    Http2(http2::Body),
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
    /// What it consists of, where that is gRPC.
    messages: Option<Messages>,
}

impl RequestBody {
    /// A body of at most `limit` bytes, which comes as fast as `timeouts` say.
    pub(super) fn new(incoming: Incoming, limit: u64, timeouts: &Timeouts, received: Rc<Cell<u64>>) -> Self {
        Self {
            incoming,
            left: limit,
            received,
            between: timeouts.body,
            least_rate: timeouts.least_rate,
            rate: MinRate::default(),
            alarm: Alarm::default(),
            progress: Rc::default(),
            trailers: None,
            messages: None,
        }
    }

    /// The same body, of messages of gRPC that are no longer than it may be. How fast they come is the route's to say,
    /// and not the client's.
    pub(super) fn of_messages(self) -> Self {
        Self { messages: Some(Messages::new(self.left)), ..self }
    }

    pub(super) fn progress(&self) -> Rc<BodyProgress> {
        Rc::clone(&self.progress)
    }

    /// Reads it whole.
    pub(super) async fn whole(mut self) -> Result<Bytes, BodyError> {
        let Some(first) = std::future::poll_fn(|cx| self.poll_piece(cx)).await.transpose()? else {
            return Ok(Bytes::new());
        };
        let mut rest: Option<BytesMut> = None;
        while let Some(piece) = std::future::poll_fn(|cx| self.poll_piece(cx)).await.transpose()? {
            rest.get_or_insert_with(|| BytesMut::from(&*first)).extend_from_slice(&piece);
        }
        Ok(rest.map_or(first, BytesMut::freeze))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = self.poll_unmarked(cx);
        self.progress.waiting.set(piece.is_pending());
        let piece = ready!(piece);
        match &piece {
            Some(Ok(piece)) => {
                let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                self.progress.passed.set(self.progress.passed.get().saturating_add(length));
                self.progress.taken.set(true);
                // Whoever knows the length does not ask for what comes behind the last piece.
                self.progress.ended.set(self.incoming.is_end_stream());
            }
            Some(Err(cut)) => self.progress.error.set(Some(*cut)),
            None => self.progress.ended.set(true),
        }
        Poll::Ready(piece)
    }

    fn poll_unmarked(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
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
                    self.trailers = other.into_trailers().ok().and_then(hygiene::trailers);
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

/// An answer on its way out. The exchange is over when it is dropped.
// Boxed, it is moved as a pointer from hand to hand.
pub(super) struct ResponseBody(Box<Inner>);

struct Inner {
    content: Content,
    /// What its head consists of, besides its headers.
    lines: Option<RawHead>,
    /// Why it broke off, if it did.
    broke: &'static str,
    /// `None`: the exchange goes on as a tunnel.
    record: Option<Box<Record>>,
    /// How long the upstream may pause.
    pause: Duration,
    upstream: Alarm,
}

enum Content {
    Done,
    /// All of it has been passed on, while the request is still being sent.
    Rest(Exchange),
    /// All but these has been passed on.
    Trailers(Box<(HeaderMap, Option<Exchange>)>),
    Upstream(Exchange),
    Whole(Bytes),
}

impl ResponseBody {
    /// An answer of our own.
    pub(super) fn whole(bytes: Bytes, record: Box<Record>) -> Self {
        Self::new(if bytes.is_empty() { Content::Done } else { Content::Whole(bytes) }, record)
    }

    /// An upstream's.
    pub(super) fn relayed(exchange: Exchange, record: Box<Record>) -> Self {
        if !exchange.is_over() {
            return Self::new(Content::Upstream(exchange), record);
        }
        Self::new(exchange.give_back().map_or(Content::Done, Content::Rest), record)
    }

    /// The same, behind a head of `lines`.
    pub(super) fn with(self, lines: RawHead) -> Self {
        let Self(mut inner) = self;
        inner.lines = Some(lines);
        Self(inner)
    }

    /// What its head consists of, besides its headers.
    pub(super) const fn take_lines(&mut self) -> Option<RawHead> {
        self.0.lines.take()
    }

    /// What stands where a tunnel begins.
    pub(super) fn switched() -> Self {
        Self::of(Content::Done, None, Duration::ZERO)
    }

    fn new(content: Content, record: Box<Record>) -> Self {
        let pause = record.timeouts().response;
        Self::of(content, Some(record), pause)
    }

    fn of(content: Content, record: Option<Box<Record>>, pause: Duration) -> Self {
        Self(Box::new(Inner { content, lines: None, broke: "", record, pause, upstream: Alarm::default() }))
    }

    /// The refusal in its place: it broke off before any of it was sent.
    pub(super) fn refuse(&mut self) -> Option<Response<Self>> {
        let mut record = self.0.record.take()?;
        record.bytes_out = 0;
        Some(problem::refuse(record, Refusal::new(Reject::UpstreamFailed, self.0.broke), true))
    }

    /// How long a client may take nothing of it, and what it has to take a second while it is waited for. `None`: it
    /// is none that is logged.
    pub(super) fn patience(&self) -> Option<(Duration, u64)> {
        let timeouts = self.0.record.as_ref()?.timeouts();
        Some((timeouts.body, timeouts.least_rate))
    }
}

impl Inner {
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Content::Upstream(exchange) = &mut self.content else { return Poll::Ready(None) };
        let Poll::Ready(piece) = exchange.poll_piece(cx) else {
            return self
                .upstream
                .poll(self.pause, cx)
                .map(|()| Some(Err(Broken(Reject::UpstreamFailed, "upstream stopped sending"))));
        };
        self.upstream.rest();
        if exchange.is_over()
            && let Content::Upstream(mut exchange) = std::mem::replace(&mut self.content, Content::Done)
        {
            let trailers = exchange.trailers().and_then(hygiene::trailers);
            self.content = match (trailers, exchange.give_back()) {
                (Some(trailers), rest) => Content::Trailers(Box::new((trailers, rest))),
                (None, Some(rest)) => Content::Rest(rest),
                (None, None) => Content::Done,
            };
        }
        Poll::Ready(piece.map(|piece| piece.map_err(|detail| Broken(Reject::UpstreamFailed, detail))))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let rest = match std::mem::replace(&mut self.content, Content::Done) {
            Content::Rest(rest) => Some(rest),
            Content::Trailers(trailers) => trailers.1,
            Content::Done | Content::Upstream(_) | Content::Whole(_) => None,
        };
        // The client was answered early. What it still sends belongs to the request: it is passed on.
        if let (Some(rest), Some(record)) = (rest, self.record.take()) {
            tokio::task::spawn_local(async move {
                rest.finish(record.timeouts().response).await;
                drop(record);
            });
        }
    }
}

/// The answer cannot be completed: the client must not take what it has for the whole.
#[derive(Debug)]
pub(super) struct Broken(Reject, &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.1)
    }
}

impl Error for Broken {}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self.get_mut().0;
        let piece = match &mut this.content {
            Content::Done | Content::Rest(_) | Content::Trailers(_) => None,
            Content::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::Upstream(..) => match ready!(this.poll_upstream(cx)) {
                Some(Ok(_)) if this.record.as_ref().is_some_and(|record| record.is_banned()) => {
                    Some(Err(Broken(Reject::Banned, "banned while it was served")))
                }
                piece => piece,
            },
        };
        let Some(record) = &mut this.record else { return Poll::Ready(None) };
        match &piece {
            Some(Ok(piece)) => record.bytes_out += u64::try_from(piece.len()).unwrap_or(u64::MAX),
            Some(Err(Broken(reject, detail))) => {
                this.broke = detail;
                record.broke_off(Refusal::new(*reject, *detail));
            }
            None => {}
        }
        let before = std::mem::replace(&mut this.content, Content::Done);
        Poll::Ready(match (piece, before) {
            (None, Content::Trailers(trailers)) => {
                let (trailers, rest) = *trailers;
                this.content = rest.map_or(Content::Done, Content::Rest);
                Some(Ok(Frame::trailers(trailers)))
            }
            (Some(Ok(piece)), Content::Whole(_)) => Some(Ok(Frame::data(piece))),
            (Some(Err(broken)), _) => Some(Err(broken)),
            (piece, before) => {
                this.content = before;
                piece.map(|piece| piece.map(Frame::data))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0.content {
            Content::Done | Content::Rest(_) => true,
            Content::Trailers(_) => false,
            Content::Upstream(exchange) => exchange.is_over(),
            Content::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0.content {
            Content::Done | Content::Rest(_) | Content::Trailers(_) => SizeHint::with_exact(0),
            Content::Upstream(exchange) => exchange.left(),
            Content::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }
}
