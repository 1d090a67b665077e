//! One request on a stream of HTTP/2, and its response, each as fast as the slower side takes it.
//!
//! *Invariant:* a stream that is dropped before its end is reset (RST_STREAM), and the connection goes on. A response
//! whose length can be read differently is refused (F22, F23).

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header, response, uri};
use http_body::{Body as _, SizeHint};
use tokio::task::JoinHandle;

use super::{
    super::{
        error::{SendStopped, UpstreamError},
        request::UpstreamRequest,
    },
    StreamSlot,
};
use crate::proxy::{
    body::{Upload, drain},
    framing::length::content_length,
    interim::InterimSink,
};

/// The most header lines of a response, and the most interim responses before it.
const MAX_HEADERS: usize = 100;
const MAX_INTERIM: usize = 16;

/// How much of a body is sent at once, in bytes.
const PIECE: usize = 16 * 1_024;

/// A request and its response. Dropped before its end: reset.
pub(in crate::proxy::upstream) struct H2Stream {
    slot: StreamSlot,
    /// `None`: the response has been read to its end.
    body: Option<RecvStream>,
    /// How much of it is left, where that is known.
    left: Option<u64>,
    /// Its trailers.
    trailers: Option<HeaderMap>,
    /// The rest of the request, if the response came before it was sent.
    writer: Option<BodyWriter>,
    /// The task that sends it.
    sending: Option<JoinHandle<bool>>,
}

impl H2Stream {
    pub(in crate::proxy::upstream) const fn new(slot: StreamSlot) -> Self {
        Self { slot, body: None, left: None, trailers: None, writer: None, sending: None }
    }

    /// As [`StreamSlot::doubt`].
    pub(in crate::proxy::upstream) fn doubt(&self) {
        self.slot.doubt();
    }

    /// As [`StreamSlot::is_to_blame`].
    pub(in crate::proxy::upstream) fn is_to_blame(&self) -> bool {
        self.slot.is_to_blame()
    }

    /// Whether the response has been read to its end.
    pub(in crate::proxy::upstream) const fn is_over(&self) -> bool {
        self.body.is_none()
    }

    /// How much of the response body is left.
    pub(in crate::proxy::upstream) fn left(&self) -> SizeHint {
        match (&self.body, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::new(),
        }
    }

    /// The trailers, once the body is over.
    pub(in crate::proxy::upstream) const fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Sends `request` and waits for the head of the response. Until then the body is read from `request` as fast as the
    /// server takes it. What is left when the response comes stays there until [`go_on`](Self::go_on). Interim responses
    /// are passed on as they come.
    pub(in crate::proxy::upstream) async fn send(
        &mut self,
        request: &mut UpstreamRequest,
        passed_on: &dyn InterimSink,
    ) -> Result<response::Parts, UpstreamError> {
        let method = request.method().clone();
        let head = head(request, self.slot.0.scheme).ok_or(UpstreamError::Unsendable(UNFIT))?;
        let ends = request.body().is_end_stream();
        let mut sender = self.slot.begin();
        let (mut answer, stream) = sender.send_request(head, ends).map_err(|error| broken(&error, false))?;
        let mut writer = (!ends).then(|| BodyWriter { stream, pending: Bytes::new(), ended: false });
        let mut interim = 0;
        let answer = poll_fn(|cx| {
            if let Some(sending) = &mut writer
                && let Poll::Ready(done) = sending.poll(request.body_mut(), cx)
            {
                if let Err(SendStopped::Body(error)) = done {
                    return Poll::Ready(Err(UpstreamError::Body(error)));
                }
                writer = None;
            }
            while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
                interim += 1;
                if interim > MAX_INTERIM {
                    return Poll::Ready(Err(UpstreamError::Malformed("too many interim responses")));
                }
                if head.headers().len() > MAX_HEADERS {
                    return Poll::Ready(Err(UpstreamError::Malformed("too many headers")));
                }
                passed_on.pass(head.into_parts().0);
            }
            Pin::new(&mut answer).poll(cx).map_err(|error| match broken(&error, true) {
                // A server that has begun to respond has read the request.
                UpstreamError::Closed { .. } if interim > 0 => UpstreamError::Truncated,
                error => error,
            })
        })
        .await?;
        let (mut parts, body) = answer.into_parts();
        parts.version = Version::HTTP_11;
        if parts.headers.len() > MAX_HEADERS {
            return Err(UpstreamError::Malformed("too many headers"));
        }
        self.left = length(&parts.headers)?;
        let has_none = method == Method::HEAD
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || body.is_end_stream();
        self.body = (!has_none).then_some(body);
        self.writer = writer;
        Ok(parts)
    }

    /// Sends the rest of `request` while the response is read. `false`: there is none.
    pub(in crate::proxy::upstream) fn go_on(&mut self, request: &mut UpstreamRequest) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let upload = std::mem::replace(request.body_mut(), Upload::Empty);
        self.sending = Some(writer.go_on(upload));
        true
    }

    /// Waits until the request has been sent. `false`: it could not be.
    pub(in crate::proxy::upstream) async fn finish(&mut self) -> bool {
        let Some(sending) = &mut self.sending else { return false };
        let is_sent = sending.await.unwrap_or(false);
        self.sending = None;
        is_sent
    }

    /// The next piece of the response body. `None`: it is complete.
    pub(in crate::proxy::upstream) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(piece)) => {
                // This is called only when the client takes more: the server may send as much again.
                if body.flow_control().release_capacity(piece.len()).is_err() {
                    return Poll::Ready(Some(Err(UpstreamError::Truncated)));
                }
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                }
                if body.is_end_stream() {
                    self.body = None;
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Some(Err(error)) if self.left == Some(0) && cuts_nothing(&error) => {
                self.body = None;
                Poll::Ready(None)
            }
            Some(Err(error)) if error.is_remote() && error.is_reset() => {
                Poll::Ready(Some(Err(UpstreamError::Malformed("the server reset the response"))))
            }
            Some(Err(_)) => Poll::Ready(Some(Err(UpstreamError::Truncated))),
            None => match ready!(body.poll_trailers(cx)) {
                Ok(trailers) => {
                    (self.body, self.trailers) = (None, trailers);
                    Poll::Ready(None)
                }
                Err(error) if self.left == Some(0) && cuts_nothing(&error) => {
                    self.body = None;
                    Poll::Ready(None)
                }
                Err(_) => Poll::Ready(Some(Err(UpstreamError::Truncated))),
            },
        }
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

/// The head of a request: canonical target, checked headers, and the framing as it is.
fn head(request: &UpstreamRequest, scheme: &str) -> Option<Request<()>> {
    let mut headers = request.headers().clone();
    let authority = headers.remove(header::HOST)?;
    let mut target = uri::Parts::default();
    target.scheme = Some(scheme.parse().ok()?);
    target.authority = Some(uri::Authority::try_from(authority.as_bytes()).ok()?);
    target.path_and_query = request.uri().path_and_query().cloned();
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
    let expects_content = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(length) = request.body().size_hint().exact()
        && (length > 0 || expects_content)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = Uri::from_parts(target).ok()?;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = headers;
    Some(head)
}

/// The `Content-Length` of a response: one value, digits only.
fn length(headers: &HeaderMap) -> Result<Option<u64>, UpstreamError> {
    content_length(headers).map_err(|wrong| UpstreamError::Malformed(wrong.of_response()))
}

/// Whether a response whose body has arrived in its full length is complete although this error came next. While a request
/// is still being sent, the library forgets that the stream of its response had ended once the connection ends.
fn cuts_nothing(error: &h2::Error) -> bool {
    let is_left = error.is_go_away() || error.reason() == Some(Reason::NO_ERROR);
    error.is_io() || error.is_remote() && is_left
}

/// What an error of the library means. `sent`: whether the request may have been sent.
fn broken(error: &h2::Error, sent: bool) -> UpstreamError {
    // RFC 9113 6.8, 8.7: the server did not act on streams that a GOAWAY leaves out or that it refuses.
    if error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)) {
        return UpstreamError::Closed { sent: false };
    }
    if error.is_io() {
        return UpstreamError::Closed { sent };
    }
    match error.reason() {
        Some(Reason::HTTP_1_1_REQUIRED) => UpstreamError::Unsendable("the server wants HTTP/1.1"),
        Some(Reason::INTERNAL_ERROR) if error.is_remote() => UpstreamError::Malformed(RESET),
        // The reset of a stream does not say whose fault it is.
        _ if error.is_remote() => UpstreamError::Unsendable(RESET),
        // It was never sent.
        _ if !sent && error.is_library() => UpstreamError::Closed { sent },
        _ if !sent => UpstreamError::Unsendable(UNFIT),
        _ => UpstreamError::Malformed("answer breaks HTTP/2"),
    }
}

const RESET: &str = "the server reset the request";
const UNFIT: &str = "the request fits no HTTP/2";

/// Sends a request body.
struct BodyWriter {
    stream: SendStream<Bytes>,
    /// Read from the client, not taken by the server yet.
    pending: Bytes,
    ended: bool,
}

impl BodyWriter {
    /// Sends on. Ready once all has been sent, or the server takes no more. Then its response is to explain why.
    fn poll(&mut self, upload: &mut Upload, cx: &mut Context<'_>) -> Poll<Result<(), SendStopped>> {
        loop {
            while !self.pending.is_empty() {
                self.stream.reserve_capacity(self.pending.len().min(PIECE));
                let Some(Ok(room)) = ready!(self.stream.poll_capacity(cx)) else {
                    return Poll::Ready(Err(SendStopped::Refused));
                };
                let piece = self.pending.split_to(room.min(self.pending.len()));
                self.ended = self.pending.is_empty() && upload.is_end_stream();
                if self.stream.send_data(piece, self.ended).is_err() {
                    return Poll::Ready(Err(SendStopped::Refused));
                }
                if self.ended {
                    return Poll::Ready(Ok(()));
                }
            }
            // A server may reset the stream while the client is silent.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(SendStopped::Refused));
            }
            match ready!(Pin::new(&mut *upload).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.pending = piece,
                    Err(other) => {
                        // Trailers end the body. An error here means that the stream is gone already.
                        self.stream.send_trailers(other.into_trailers().unwrap_or_default()).unwrap_or_default();
                        return Poll::Ready(Ok(()));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Err(SendStopped::Body(error))),
                None => {
                    self.ended = true;
                    // An error here means that the stream is gone already.
                    self.stream.send_data(Bytes::new(), true).unwrap_or_default();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Goes on in a task of its own, as the response came early. Its result is whether all was sent.
    fn go_on(mut self, mut upload: Upload) -> JoinHandle<bool> {
        tokio::task::spawn_local(async move {
            // The response stands, whatever becomes of this.
            match poll_fn(|cx| self.poll(&mut upload, cx)).await {
                Ok(()) => return true,
                Err(SendStopped::Body(_)) => {}
                Err(SendStopped::Refused) => drain(upload).await,
            }
            false
        })
    }
}
