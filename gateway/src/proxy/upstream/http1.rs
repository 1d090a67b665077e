//! Decides how a request is written to an HTTP/1.1 server and how its answer is read: one exchange at a time, driven by
//! whoever waits for it, so that it costs no task and no channel.
//!
//! *Invariant:* a connection carries another exchange only if the last one was written and read to its end, nothing
//! came behind it, and the server did not say that it closes. An answer that two parsers could read differently is
//! refused, and its connection ends (F22, F23).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, response::Parts};
use http_body::SizeHint;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    task::JoinHandle,
};

use self::{request_writer::RequestWriter, response::Head};
use super::{
    dial::MaybeTlsStream,
    error::{SendStopped, UpstreamError},
    request::UpstreamRequest,
    tls,
};
use crate::proxy::{
    body::Upload,
    buffer_pool,
    framing::length::Framing,
    raw_head::{HeadFormat, RawHead},
    write_batching,
};

mod request_writer;
mod response;

#[cfg(test)]
mod tests;

/// The most interim answers before the answer (F22).
const MAX_INTERIM: usize = 16;

/// A connection. Dropped: closed, whatever it was at.
pub(super) struct H1Connection {
    stream: Rc<RefCell<MaybeTlsStream>>,
    /// Read, and not yet taken.
    unread: Bytes,
    /// The answer's lines, where they pass as they came.
    lines: Option<RawHead>,
    framing: Framing,
    reusable: bool,
    /// What is left of the request, whose answer has come already.
    // Boxed, as most requests are out by then.
    writer: Option<Box<RequestWriter>>,
    /// What goes on sending it.
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
            writer: None,
            sending: None,
        }
    }

    /// Whether the server left an idle connection open, and unused as it should.
    pub(super) fn is_alive(&self) -> bool {
        let mut space = [0; 1];
        let mut buffer = ReadBuf::new(&mut space);
        // Nothing that has been heard of since the last exchange: no system call.
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

    /// Whether nothing of the answer's body is left to read.
    pub(super) const fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// The stream of a connection that became a tunnel, and what was read of it already.
    pub(super) fn switched(&mut self) -> (Rc<RefCell<MaybeTlsStream>>, Bytes) {
        (Rc::clone(&self.stream), std::mem::take(&mut self.unread))
    }

    /// The lines of the answer's head, where they pass as they came.
    pub(super) const fn lines(&mut self) -> Option<RawHead> {
        self.lines.take()
    }

    /// How much of the answer's body is left.
    pub(super) fn left(&self) -> SizeHint {
        self.framing.size_hint()
    }

    /// Sends `request` and waits for the head of its answer. Until then the body is taken from `request` as the server
    /// takes it; what is left of it when the answer comes stays there until [`go_on`](Self::go_on).
    pub(super) async fn send(
        &mut self,
        request: &mut UpstreamRequest,
        form: HeadFormat,
    ) -> Result<Parts, UpstreamError> {
        let method = request.method().clone();
        let mut writer = RequestWriter::new(request);
        write_batching::others_first().await;
        let mut partial = BytesMut::new();
        let mut interim = 0;
        let mut sent = None;
        let head = std::future::poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(done) = writer.poll(&self.stream, request.body_mut(), cx)
            {
                // A server may answer and close without reading on: the answer counts.
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
                match self.head(&mut partial, &method, form) {
                    Ok(Some(head)) if head.is_interim() => interim += 1,
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(detail) => return Poll::Ready(Err(UpstreamError::Malformed(detail))),
                }
                if interim > MAX_INTERIM {
                    return Poll::Ready(Err(UpstreamError::Malformed("too many interim answers")));
                }
            }
        })
        .await?;
        (self.framing, self.lines) = (head.framing, head.lines);
        // What came with the head is looked at before anybody is told of the answer.
        if matches!(self.framing, Framing::Chunked(_)) {
            let mut look = Framing::Chunked(Box::default());
            look.take(&mut self.unread.clone()).map_err(UpstreamError::Malformed)?;
        }
        self.reusable = head.keeps && sent != Some(false) && !head.parts.status.is_informational();
        self.writer = sent.is_none().then(|| Box::new(writer));
        Ok(head.parts)
    }

    /// Sends what is left of `request` beside its answer. `false`: nothing is.
    pub(super) fn go_on(&mut self, request: &mut UpstreamRequest) -> bool {
        let Some(writer) = self.writer.take() else { return false };
        let upload = std::mem::replace(request.body_mut(), Upload::Empty);
        self.sending = Some(writer.go_on(Rc::clone(&self.stream), upload, self.reusable));
        true
    }

    /// Waits until all of the request has left. `false`: it never will.
    pub(super) async fn finish(&mut self) -> bool {
        let Some(sending) = &mut self.sending else { return false };
        let is_sent = sending.await.unwrap_or(false);
        self.sending = None;
        is_sent
    }

    /// Takes a head off what was read. `None`: it is not complete.
    fn head(
        &mut self,
        partial: &mut BytesMut,
        method: &Method,
        form: HeadFormat,
    ) -> Result<Option<Head>, &'static str> {
        if partial.is_empty() {
            if let Some(head) = response::read(&mut self.unread, method, form)? {
                return Ok(Some(head));
            }
            partial.extend_from_slice(&self.unread);
        } else {
            let before = partial.len().saturating_sub(3);
            partial.extend_from_slice(&self.unread);
            // Looked at again only when it is complete: a server that sends byte by byte costs no more than others.
            if partial.get(before..).is_some_and(|fresh| fresh.windows(4).any(|end| end == b"\r\n\r\n")) {
                let mut whole = partial.split().freeze();
                let head = response::read(&mut whole, method, form)?.ok_or("no head")?;
                self.unread = whole;
                return Ok(Some(head));
            }
        }
        self.unread = Bytes::new();
        if partial.len() > response::MAX_HEAD { Err("head too large") } else { Ok(None) }
    }

    /// The next piece of the answer's body. `None`: it is whole.
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

impl Head {
    /// 100, 102, 103: what comes before the answer. 101 is an answer.
    fn is_interim(&self) -> bool {
        self.parts.status.is_informational() && self.parts.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// What the server sent; nothing: it closed.
fn read(stream: &RefCell<MaybeTlsStream>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    buffer_pool::read(|buffer| Pin::new(&mut *stream.borrow_mut()).poll_read(cx, buffer))
}
