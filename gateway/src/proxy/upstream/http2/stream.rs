//! One request on a stream of HTTP/2, and its response, each as fast as the slower side takes it.
//!
//! *Invariant:* a stream that is dropped before its end is reset (RST_STREAM), and the connection goes on. A response
//! whose length can be read differently is refused (F22, F23).

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header, response, uri};
use http_body::{Body as _, SizeHint};
use tokio::task::JoinHandle;

use super::{
    super::{
        error::{SendStopped, UpstreamError},
        request::UpstreamRequest,
    },
    StreamSlot,
    received_body::ReceivedBody,
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
    body: ResponseBodyCell,
    /// The rest of the request, if the response came before it was sent.
    writer: Option<BodyWriter>,
    /// The task that sends it.
    sending: Option<JoinHandle<bool>>,
}

/// The body of the response. It is shared while the task that sends the request reads it, too.
enum ResponseBodyCell {
    Own(RefCell<ReceivedBody>),
    Shared(Rc<RefCell<ReceivedBody>>),
}

impl ResponseBodyCell {
    fn own(body: ReceivedBody) -> Self {
        Self::Own(RefCell::new(body))
    }

    fn cell(&self) -> &RefCell<ReceivedBody> {
        match self {
            Self::Own(body) => body,
            Self::Shared(body) => body,
        }
    }
}

impl H2Stream {
    pub(in crate::proxy::upstream) fn new(slot: StreamSlot) -> Self {
        Self { slot, body: ResponseBodyCell::own(ReceivedBody::default()), writer: None, sending: None }
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
    pub(in crate::proxy::upstream) fn is_over(&self) -> bool {
        self.body.cell().borrow().is_over()
    }

    /// How much of the response body is left.
    pub(in crate::proxy::upstream) fn left(&self) -> SizeHint {
        self.body.cell().borrow().size_hint()
    }

    /// The trailers, once the body is over.
    pub(in crate::proxy::upstream) fn trailers(&self) -> Option<HeaderMap> {
        self.body.cell().borrow_mut().trailers()
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
        let length = length(&parts.headers)?;
        let has_none = method == Method::HEAD
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || body.is_end_stream();
        let mut body = if has_none { ReceivedBody::default() } else { ReceivedBody::new(body, length) };
        if writer.is_some() {
            // What came with the head, before the end of the connection that may have come as well. The rest is read by the
            // task that sends on.
            let _rest = body.read_ahead(&mut Context::from_waker(Waker::noop()));
        }
        (self.body, self.writer) = (ResponseBodyCell::own(body), writer);
        Ok(parts)
    }

    /// Sends the rest of `request` while the response is read. `false`: there is none.
    pub(in crate::proxy::upstream) fn go_on(&mut self, request: &mut UpstreamRequest) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let upload = std::mem::replace(request.body_mut(), Upload::Empty);
        let mut body = self.body.cell().take();
        body.begin_reading_ahead();
        let body = Rc::new(RefCell::new(body));
        self.sending = Some(writer.go_on(upload, Rc::clone(&body)));
        self.body = ResponseBodyCell::Shared(body);
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
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        self.body.cell().borrow_mut().poll_piece(cx)
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

    /// Goes on in a task of its own, as the response came early, whose `body` it reads meanwhile. Its result is whether all
    /// was sent.
    fn go_on(self, upload: Upload, body: Rc<RefCell<ReceivedBody>>) -> JoinHandle<bool> {
        tokio::task::spawn_local(async move {
            let is_sent = {
                let mut sending = pin!(self.finish(upload));
                poll_fn(|cx| {
                    let _rest = body.borrow_mut().read_ahead(cx);
                    sending.as_mut().poll(cx)
                })
                .await
            };
            if !is_sent {
                // The stream of the request stays open.
                poll_fn(|cx| body.borrow_mut().read_ahead(cx)).await;
            }
            body.borrow_mut().end_reading_ahead();
            is_sent
        })
    }

    /// Sends the rest. The response stands, whatever becomes of this.
    async fn finish(mut self, mut upload: Upload) -> bool {
        match poll_fn(|cx| self.poll(&mut upload, cx)).await {
            Ok(()) => return true,
            Err(SendStopped::Body(_)) => {}
            Err(SendStopped::Refused) => drain(upload).await,
        }
        false
    }
}
