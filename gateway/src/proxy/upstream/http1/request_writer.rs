//! Writes a request of HTTP/1.1: the head together with what there is of the body, then the rest of the body as it
//! comes and as fast as the server takes it.

use std::{
    cell::RefCell,
    io::Write as _,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, header};
use http_body::Body as _;
use tokio::{io::AsyncWrite as _, task::JoinHandle};

use super::super::{error::SendStopped, request::UpstreamRequest};
use crate::proxy::{
    body::{Upload, drain},
    framing::encoder::{BodyEncoder, WrongLength},
    memory::buffer_pool,
    raw_head::line,
    service::BodyError,
    upstream::connection::dial::MaybeTlsStream,
};

/// How much is buffered before it is written, in bytes.
const COLLECTED: usize = 16 * 1_024;

impl From<WrongLength> for SendStopped {
    fn from(_wrong: WrongLength) -> Self {
        Self::Body(BodyError::Broken)
    }
}

/// A request on its way.
pub(super) struct RequestWriter {
    out: Vec<u8>,
    written: usize,
    framing: BodyEncoder,
    begun: bool,
}

impl RequestWriter {
    pub(super) fn new(request: &UpstreamRequest) -> Self {
        let mut out = buffer_pool::space();
        let framing = head(request, &mut out);
        Self { out, written: 0, framing, begun: false }
    }

    /// Whether any byte has been sent.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes on. Ready once all has been sent, or cannot be.
    pub(super) fn poll(
        &mut self,
        stream: &RefCell<MaybeTlsStream>,
        upload: &mut Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendStopped>> {
        loop {
            while self.framing != BodyEncoder::Ended && self.out.len() - self.written < COLLECTED {
                let Poll::Ready(frame) = Pin::new(&mut *upload).poll_frame(cx) else { break };
                match frame {
                    None => self.framing.end(&mut self.out)?,
                    Some(Err(error)) => return Poll::Ready(Err(SendStopped::Body(error))),
                    Some(Ok(frame)) => {
                        if let Ok(piece) = frame.into_data() {
                            self.add(&piece)?;
                        }
                    }
                }
            }
            let rest = self.out.get(self.written..).unwrap_or_default();
            let mut stream = stream.borrow_mut();
            if rest.is_empty() {
                if self.framing != BodyEncoder::Ended {
                    return Poll::Pending;
                }
                return Pin::new(&mut *stream).poll_flush(cx).map_err(|_gone| SendStopped::Refused);
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest)) {
                Ok(taken) if taken > 0 => self.written += taken,
                _ => return Poll::Ready(Err(SendStopped::Refused)),
            }
            self.begun = true;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), WrongLength> {
        // An empty chunk would be the last.
        if !piece.is_empty() {
            self.framing.begin_piece(piece.len(), &mut self.out)?;
            self.out.extend_from_slice(piece);
            self.framing.end_piece(&mut self.out);
        }
        if self.framing == BodyEncoder::Length(0) {
            self.framing = BodyEncoder::Ended;
        }
        Ok(())
    }

    /// Goes on beside the answer, which came early: whether all has left. `drains`: what the server does not take is
    /// read all the same.
    pub(super) fn go_on(
        mut self: Box<Self>,
        stream: Rc<RefCell<MaybeTlsStream>>,
        mut upload: Upload,
        drains: bool,
    ) -> JoinHandle<bool> {
        tokio::task::spawn_local(async move {
            // The response stands, whatever becomes of this. A server that gets no more of the body is told so.
            match std::future::poll_fn(|cx| self.poll(&stream, &mut upload, cx)).await {
                Ok(()) => return true,
                Err(SendStopped::Body(_)) => {
                    let _gone = std::future::poll_fn(|cx| Pin::new(&mut *stream.borrow_mut()).poll_shutdown(cx)).await;
                }
                Err(SendStopped::Refused) if drains => drain(upload).await,
                Err(SendStopped::Refused) => {}
            }
            false
        })
    }
}

impl Drop for RequestWriter {
    fn drop(&mut self) {
        buffer_pool::keep_space(std::mem::take(&mut self.out));
    }
}

/// Writes a request's head, and decides how its body ends.
pub(super) fn head(request: &UpstreamRequest, out: &mut Vec<u8>) -> BodyEncoder {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    lines(request.headers(), out);
    out.extend_from_slice(request.lines());
    let framing = match (request.body(), request.body().size_hint().exact()) {
        (Upload::Empty, _) => {
            // RFC 9110 8.6: a method that usually has a body says that there is none.
            if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
            BodyEncoder::Ended
        }
        (_, Some(length)) => {
            write!(out, "content-length: {length}\r\n").unwrap_or_default();
            if length == 0 { BodyEncoder::Ended } else { BodyEncoder::Length(length) }
        }
        (_, None) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            BodyEncoder::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    framing
}

fn lines(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        // The framing is ours to write, once; and trailers are not passed on here.
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TE].contains(name) {
            continue;
        }
        line(name.as_str(), value.as_bytes(), out);
    }
}
