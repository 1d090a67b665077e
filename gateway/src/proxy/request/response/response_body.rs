//! The body of a response on its way out: our own, or an upstream's as it comes. The exchange is over when it is dropped.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{grpc_status as grpc, response_copy::ResponseCopy};
use crate::{
    proxy::{
        raw_head::RawHead,
        request::exchange::Exchange,
        service::SendBody,
        timing::{deadline::Alarm, throttle::Throttle},
        tunnel::Tunnel,
        upstream::{UpstreamResponse, headers},
    },
    refusal::{Refusal, Reject, TokenFault},
};

/// What is said of a response whose client's token or key was revoked while it was served.
pub(in crate::proxy::request) const REVOKED: &str = "revoked while it was served";

/// The body of a response on its way out. The exchange is over when it is dropped.
// Boxed, it is moved as a pointer from hand to hand.
pub(in crate::proxy) struct ResponseBody(Box<Inner>);

struct Inner {
    content: BodyContent,
    /// The head, if it passes as it came.
    raw_head: Option<RawHead>,
    /// Whether the request was answered before its body was read.
    leaves_unread: bool,
    /// Why it broke off, if it did.
    broke: &'static str,
    /// `None`: the exchange goes on as a tunnel.
    exchange: Option<Box<Exchange>>,
    /// How long the upstream may pause.
    pause: Duration,
    upstream: Alarm,
    /// How it is held back, where it is.
    throttle: Option<Box<Throttle>>,
    /// What of it has passed, where it is held against a document.
    copy: Option<Box<ResponseCopy>>,
}

enum BodyContent {
    Done,
    /// None: the connection becomes a tunnel behind the head.
    Switched(Box<Tunnel>),
    /// All of it has been passed on; the request is still being sent.
    Rest(UpstreamResponse),
    /// All but the trailers has been passed on.
    Trailers(Box<(HeaderMap, Option<UpstreamResponse>)>),
    Upstream(UpstreamResponse),
    Whole(Bytes),
}

impl ResponseBody {
    /// A body of our own.
    pub(in crate::proxy) fn whole(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self::new(if bytes.is_empty() { BodyContent::Done } else { BodyContent::Whole(bytes) }, exchange)
    }

    /// An upstream's.
    pub(in crate::proxy) fn relayed(response: UpstreamResponse, exchange: Box<Exchange>) -> Self {
        let leaves_unread = response.leaves_unread();
        let content = if response.is_over() {
            response.give_back().map_or(BodyContent::Done, BodyContent::Rest)
        } else {
            BodyContent::Upstream(response)
        };
        let mut body = Self::new(content, exchange);
        body.0.leaves_unread = leaves_unread;
        body
    }

    /// The same, behind a head that passes as it came.
    pub(in crate::proxy) fn with(self, head: RawHead) -> Self {
        let Self(mut inner) = self;
        inner.raw_head = Some(head);
        Self(inner)
    }

    /// The same, held against a document.
    pub(in crate::proxy::request) fn copied(mut self, copy: Option<Box<ResponseCopy>>) -> Self {
        self.0.copy = copy;
        self
    }

    /// The head, if it passes as it came.
    pub(in crate::proxy::request) fn raw_head(&mut self) -> Option<&mut RawHead> {
        self.0.raw_head.as_mut()
    }

    /// Tells that the request's body was not read, and that the client may still be sending it.
    pub(in crate::proxy) fn leave_unread(&mut self) {
        self.0.leaves_unread = true;
    }

    /// No body: behind the head the connection becomes `tunnel`, which has the exchange.
    pub(in crate::proxy) fn switched(tunnel: Box<Tunnel>) -> Self {
        Self::of(BodyContent::Switched(tunnel), None, Duration::ZERO)
    }

    /// Notes the headers that it goes out with, for the access log.
    pub(in crate::proxy) fn note(&mut self, headers: &HeaderMap) {
        if let Some(exchange) = &mut self.0.exchange {
            exchange.note_response(headers);
        }
    }

    fn new(content: BodyContent, mut exchange: Box<Exchange>) -> Self {
        let pause = exchange.timeouts().response;
        let throttle = exchange.throttles.download.take();
        let mut body = Self::of(content, Some(exchange), pause);
        body.0.throttle = throttle;
        body
    }

    fn of(content: BodyContent, exchange: Option<Box<Exchange>>, pause: Duration) -> Self {
        Self(Box::new(Inner {
            content,
            raw_head: None,
            leaves_unread: false,
            broke: "",
            exchange,
            pause,
            upstream: Alarm::default(),
            throttle: None,
            copy: None,
        }))
    }

    /// The exchange of a response that broke off before any of it was sent, and why it did. `None`: it is none that is
    /// logged.
    pub(in crate::proxy) fn take_broken(&mut self) -> Option<(Box<Exchange>, &'static str)> {
        let mut exchange = self.0.exchange.take()?;
        exchange.outcome.bytes_out = 0;
        Some((exchange, self.0.broke))
    }
}

impl SendBody for ResponseBody {
    type Tunnel = Box<Tunnel>;

    fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if !matches!(self.0.content, BodyContent::Switched(_)) {
            return None;
        }
        match std::mem::replace(&mut self.0.content, BodyContent::Done) {
            BodyContent::Switched(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    fn leaves_unread(&self) -> bool {
        self.0.leaves_unread
    }

    fn take_raw_head(&mut self) -> Option<RawHead> {
        self.0.raw_head.take()
    }

    fn stall_limits(&self) -> Option<(Duration, u64)> {
        let timeouts = self.0.exchange.as_ref()?.timeouts();
        Some((timeouts.body, timeouts.least_rate))
    }
}

impl Inner {
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, IncompleteResponse>>> {
        let BodyContent::Upstream(response) = &mut self.content else { return Poll::Ready(None) };
        let Poll::Ready(piece) = response.poll_piece(cx) else {
            return self
                .upstream
                .poll(self.pause, cx)
                .map(|()| Some(Err(IncompleteResponse(Reject::UpstreamFailed, "upstream stopped sending"))));
        };
        self.upstream.rest();
        if response.is_over()
            && let BodyContent::Upstream(response) = std::mem::replace(&mut self.content, BodyContent::Done)
        {
            let trailers = response.trailers().and_then(|all| headers::trailers(all, &[]));
            self.content = match (trailers, response.give_back()) {
                (Some(trailers), rest) => BodyContent::Trailers(Box::new((trailers, rest))),
                (None, Some(rest)) => BodyContent::Rest(rest),
                (None, None) => BodyContent::Done,
            };
        }
        Poll::Ready(piece.map(|piece| piece.map_err(|detail| IncompleteResponse(Reject::UpstreamFailed, detail))))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let rest = match std::mem::replace(&mut self.content, BodyContent::Done) {
            BodyContent::Rest(rest) => Some(rest),
            BodyContent::Trailers(trailers) => trailers.1,
            BodyContent::Done | BodyContent::Switched(_) | BodyContent::Upstream(_) | BodyContent::Whole(_) => None,
        };
        // The client was answered early. What it still sends belongs to the request, and is passed on.
        if let (Some(rest), Some(exchange)) = (rest, self.exchange.take()) {
            tokio::task::spawn_local(async move {
                rest.finish(exchange.timeouts().response).await;
                drop(exchange);
            });
        }
    }
}

/// The response cannot be completed: the client must not take what it got for the whole.
#[derive(Debug)]
pub(in crate::proxy) struct IncompleteResponse(Reject, &'static str);

impl fmt::Display for IncompleteResponse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.1)
    }
}

impl Error for IncompleteResponse {}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = IncompleteResponse;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompleteResponse>>> {
        let this = &mut *self.get_mut().0;
        if let Some(throttle) = &mut this.throttle
            && matches!(this.content, BodyContent::Upstream(_) | BodyContent::Whole(_))
        {
            ready!(throttle.poll(cx));
        }
        let piece = match &mut this.content {
            BodyContent::Done | BodyContent::Rest(_) | BodyContent::Switched(_) | BodyContent::Trailers(_) => None,
            BodyContent::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            BodyContent::Upstream(_) if this.exchange.as_mut().is_some_and(|exchange| exchange.is_revoked()) => {
                Some(Err(IncompleteResponse(Reject::InvalidToken, REVOKED)))
            }
            BodyContent::Upstream(..) => match ready!(this.poll_upstream(cx)) {
                Some(Ok(_)) if this.exchange.as_ref().is_some_and(|exchange| exchange.is_banned()) => {
                    Some(Err(IncompleteResponse(Reject::Banned, "banned while it was served")))
                }
                piece => piece,
            },
        };
        let Some(exchange) = &mut this.exchange else { return Poll::Ready(None) };
        match &piece {
            Some(Ok(piece)) => {
                exchange.outcome.bytes_out += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                if let Some(throttle) = &mut this.throttle {
                    throttle.pass(piece.len());
                }
                drop(this.copy.take_if(|copy| !copy.add(piece)));
            }
            Some(Err(IncompleteResponse(reject, detail))) => {
                this.broke = detail;
                this.copy = None;
                exchange.broke_off(match reject {
                    Reject::InvalidToken => Refusal::token(TokenFault::Revoked, detail),
                    reject => Refusal::new(*reject, *detail),
                });
            }
            None => {}
        }
        if let Some(copy) = this.copy.take_if(|_| !matches!(this.content, BodyContent::Upstream(_))) {
            // Its last piece does not wait.
            tokio::task::spawn_local(async move { copy.judge() });
        }
        let before = std::mem::replace(&mut this.content, BodyContent::Done);
        Poll::Ready(match (piece, before) {
            (None, BodyContent::Trailers(trailers)) => {
                let (trailers, rest) = *trailers;
                if exchange.request.is_grpc {
                    exchange.outcome.grpc_status = grpc::status(&trailers);
                }
                this.content = rest.map_or(BodyContent::Done, BodyContent::Rest);
                Some(Ok(Frame::trailers(trailers)))
            }
            (Some(Ok(piece)), BodyContent::Whole(_)) => Some(Ok(Frame::data(piece))),
            (Some(Err(broken)), _) => Some(Err(broken)),
            (piece, before) => {
                this.content = before;
                piece.map(|piece| piece.map(Frame::data))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0.content {
            BodyContent::Done | BodyContent::Rest(_) | BodyContent::Switched(_) => true,
            BodyContent::Trailers(_) => false,
            BodyContent::Upstream(response) => response.is_over(),
            BodyContent::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0.content {
            BodyContent::Done | BodyContent::Rest(_) | BodyContent::Switched(_) | BodyContent::Trailers(_) => {
                SizeHint::with_exact(0)
            }
            BodyContent::Upstream(response) => response.left(),
            BodyContent::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }
}
