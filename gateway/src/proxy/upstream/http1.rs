//! The HTTP/1.1 client: writes a request to a server and reads the response. One exchange at a time, driven by whoever
//! waits for it, so it costs no task and no channel.
//!
//! *Invariant:* a connection is reused only if the last exchange was written and read to its end, nothing came after
//! it, and the server did not announce that it closes. A response that two parsers could read differently is refused,
//! and its connection is closed (F22, F23).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, response::Parts};
use http_body::SizeHint;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    task::JoinHandle,
};

use self::{request_writer::RequestWriter, response::ResponseHead};
use super::{
    connection::{dial::MaybeTlsStream, tls},
    error::{SendStopped, UpstreamError},
    request::{ClientSide, UpstreamRequest},
};
use crate::proxy::{
    body::Upload,
    framing::length::Framing,
    memory::buffer_pool,
    raw_head::{HeadFormat, RawHead},
};

mod request_writer;
mod response;

#[cfg(any(test, fuzzing))]
#[path = "http1/tests/reading.rs"]
pub(in crate::proxy) mod reading;
#[cfg(test)]
mod tests;

/// The most interim responses before the final one (F22).
const MAX_INTERIM: usize = 16;

/// An HTTP/1.1 connection to a server. Dropped: closed, even within an exchange.
pub(super) struct H1Connection {
    stream: Rc<RefCell<MaybeTlsStream>>,
    /// Bytes that were read and not used yet.
    unread: Bytes,
    /// The lines of the head, if they are passed on as they came.
    lines: Option<RawHead>,
    framing: Framing,
    reusable: bool,
    /// How long the server says that it keeps the connection when nothing passes.
    keeps_for: Option<Duration>,
    /// The rest of the request, if the response came before it was sent.
    // Boxed, as most requests are out by then.
    writer: Option<Box<RequestWriter>>,
    /// The task that sends it.
    sending: Option<JoinHandle<bool>>,
}

impl H1Connection {
    pub(super) fn new(stream: MaybeTlsStream) -> Self {
        let stream = Rc::new(RefCell::new(stream));
        Self {
            stream,
            unread: Bytes::new(),
            lines: None,
            framing: Framing::None,
            reusable: true,
            keeps_for: None,
            writer: None,
            sending: None,
        }
    }

    /// Whether the server left an idle connection open, and sent nothing on it.
    pub(super) fn is_alive(&self) -> bool {
        let mut space = [0; 1];
        let mut buffer = ReadBuf::new(&mut space);
        // No system call, as long as nothing arrived since the last exchange.
        Pin::new(&mut *self.stream.borrow_mut())
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer)
            .is_pending()
    }

    /// Whether the exchange is over and the connection may carry another.
    pub(super) fn is_reusable(&self) -> bool {
        let is_sent = self.writer.is_none() && self.sending.is_none();
        self.reusable && is_sent && self.is_over() && self.unread.is_empty()
    }

    /// Whether the server takes another request once it has this one.
    pub(super) const fn keeps(&self) -> bool {
        self.reusable
    }

    /// How long the server says that it keeps the connection when nothing passes. `None`: it does not say.
    pub(super) const fn keeps_for(&self) -> Option<Duration> {
        self.keeps_for
    }

    /// Whether the response body has been read to its end.
    pub(super) const fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// The stream of a connection that became a tunnel, and what was read of it already.
    pub(super) fn switched(&mut self) -> (Rc<RefCell<MaybeTlsStream>>, Bytes) {
        (Rc::clone(&self.stream), std::mem::take(&mut self.unread))
    }

    /// The lines of the head, if they are passed on as they came.
    pub(super) const fn lines(&mut self) -> Option<RawHead> {
        self.lines.take()
    }

    /// How much of the response body is left.
    pub(super) fn left(&self) -> SizeHint {
        self.framing.size_hint()
    }

    /// Sends `request` and waits for the head of the response. Until then the body is read from `request` as fast as the
    /// server takes it. What is left when the response comes stays there until [`go_on`](Self::go_on). Interim responses
    /// are passed on as they come.
    pub(super) async fn send(
        &mut self,
        request: &mut UpstreamRequest,
        form: HeadFormat,
        client: &ClientSide<'_>,
    ) -> Result<Parts, UpstreamError> {
        let method = request.method().clone();
        let mut writer = RequestWriter::new(request);
        client.write_batch.after_readers().await;
        let mut partial = BytesMut::new();
        let (mut interim, mut keeps) = (0, true);
        let mut sent = None;
        let head = std::future::poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(done) = writer.poll(&self.stream, request.body_mut(), cx)
            {
                // A server may respond and close without reading on: the response counts.
                if let Err(SendStopped::Body(error)) = done {
                    return Poll::Ready(Err(UpstreamError::Body(error)));
                }
                sent = Some(done.is_ok());
            }
            loop {
                if self.unread.is_empty() {
                    let more = match ready!(read(&self.stream, cx)) {
                        Ok(more) if !more.is_empty() => more,
                        Err(error) if partial.is_empty() && interim == 0 && tls::refusal(&error).is_some() => {
                            return Poll::Ready(Err(UpstreamError::Malformed(
                                tls::refusal(&error).unwrap_or_default(),
                            )));
                        }
                        _ if partial.is_empty() && interim == 0 => {
                            return Poll::Ready(Err(UpstreamError::Closed { sent: writer.has_begun() }));
                        }
                        _ => return Poll::Ready(Err(UpstreamError::Truncated)),
                    };
                    self.unread = more;
                }
                match response::take(&mut self.unread, &mut partial, &method, form) {
                    Ok(Some(head)) if head.is_interim() => {
                        interim += 1;
                        if interim > MAX_INTERIM {
                            return Poll::Ready(Err(UpstreamError::Malformed("too many interim responses")));
                        }
                        keeps &= head.keeps;
                        client.interim.pass(head.parts);
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(detail) => return Poll::Ready(Err(UpstreamError::Malformed(detail))),
                }
            }
        })
        .await?;
        (self.framing, self.lines, self.keeps_for) = (head.framing, head.lines, head.keeps_for);
        // A broken first chunk is found before the head is passed on.
        if matches!(self.framing, Framing::Chunked(_)) {
            let mut look = Framing::Chunked(Box::default());
            look.take(&mut self.unread.clone()).map_err(UpstreamError::Malformed)?;
        }
        self.reusable = keeps && head.keeps && sent != Some(false) && !head.parts.status.is_informational();
        self.writer = sent.is_none().then(|| Box::new(writer));
        Ok(head.parts)
    }

    /// Sends the rest of `request` while the response is read. `false`: there is none.
    pub(super) fn go_on(&mut self, request: &mut UpstreamRequest) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let upload = std::mem::replace(request.body_mut(), Upload::Empty);
        self.sending = Some(writer.go_on(Rc::clone(&self.stream), upload, self.reusable));
        true
    }

    /// Waits until the request has been sent. `false`: it could not be.
    pub(super) async fn finish(&mut self) -> bool {
        let Some(sending) = &mut self.sending else { return false };
        let is_sent = sending.await.unwrap_or(false);
        self.sending = None;
        is_sent
    }

    /// The next piece of the response body. `None`: it is complete.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        loop {
            match self.framing.take(&mut self.unread) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if self.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(detail) => return Poll::Ready(Some(Err(UpstreamError::Malformed(detail)))),
            }
            match ready!(read(&self.stream, cx)) {
                Ok(more) if !more.is_empty() => self.unread = more,
                Ok(_) if matches!(self.framing, Framing::UntilClose) => self.framing = Framing::None,
                _ => return Poll::Ready(Some(Err(UpstreamError::Truncated))),
            }
        }
    }
}

impl Drop for H1Connection {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

impl ResponseHead {
    /// 100, 102, 103: what comes before the response. 101 is a response.
    fn is_interim(&self) -> bool {
        self.parts.status.is_informational() && self.parts.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// What the server sent. Empty: it closed.
fn read(stream: &RefCell<MaybeTlsStream>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    buffer_pool::read(|buffer| Pin::new(&mut *stream.borrow_mut()).poll_read(cx, buffer))
}
