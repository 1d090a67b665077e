//! Writes a response: its head and what there is of its body in one write where they fit, the rest as it
//! comes and as the client takes it, framed by what is known of its length.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header, response::Parts};

use crate::proxy::{
    connection::client_io::ClientIo,
    framing::encoder::{BodyEncoder, WrongLength},
    memory::buffer_pool,
    raw_head::{RawHead, ReasonPhrase, line, status_line},
    service::SendBody,
    timing::date::today,
};

/// How much is collected before it is written, in bytes.
const COLLECTED: usize = 16 * 1_024;

/// What of the request decides how it is answered.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// Whether the connection may carry another request.
    pub(super) keeps: bool,
}

/// A response on its way.
pub(super) struct ResponseWriter<B> {
    out: Vec<u8>,
    written: usize,
    begun: bool,
    /// Whether some of it was sent since [`is_silent`](Self::is_silent) was asked last.
    moves: bool,
    /// Whether all that has come of it was sent.
    rests: bool,
    /// A piece too large to be copied, which comes after what is collected.
    piece: Bytes,
    framing: BodyEncoder,
    body: B,
    /// Whether the connection may carry another request.
    pub(super) keeps: bool,
}

/// Why a response did not arrive whole.
#[derive(Debug)]
pub(super) enum SendError {
    /// Its body broke off.
    Body,
    /// The same, before any of it was sent: another response may be.
    Unbegun,
    /// The client does not take it.
    Client,
}

impl From<WrongLength> for SendError {
    fn from(_wrong: WrongLength) -> Self {
        Self::Body
    }
}

impl From<io::Error> for SendError {
    fn from(_gone: io::Error) -> Self {
        Self::Client
    }
}

impl<B: SendBody> ResponseWriter<B> {
    pub(super) fn new(response: Response<B>, manner: Manner) -> Self {
        let (head, mut body) = response.into_parts();
        let (out, framing, keeps) = match body.take_raw_head() {
            Some(lines) => end_lines(lines, &head.headers, manner),
            None => {
                let mut out = buffer_pool::space();
                let length = body.size_hint().exact();
                let status = (head.status, head.extensions.get());
                let (framing, keeps) = write_head(status, &head.headers, length, manner, &mut out);
                (out, framing, keeps)
            }
        };
        buffer_pool::keep(head.headers);
        Self { out, written: 0, begun: false, moves: false, rests: false, piece: Bytes::new(), framing, body, keeps }
    }

    /// Writes on. Ready once all has left, or never will.
    pub(super) fn poll(&mut self, io: &ClientIo, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.rests = false;
        loop {
            if let Err(failed) = self.collect(cx) {
                return Poll::Ready(Err(if self.begun { failed } else { SendError::Unbegun }));
            }
            if let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                let taken = ready!(io.poll_write(cx, rest))?;
                if taken == 0 {
                    return Poll::Ready(Err(SendError::Client));
                }
                (self.begun, self.moves) = (true, true);
                self.written += taken;
                if self.written == self.out.len() {
                    self.out.clear();
                    self.written = 0;
                }
            } else if !self.piece.is_empty() {
                let taken = ready!(io.poll_write(cx, &self.piece))?;
                if taken == 0 {
                    return Poll::Ready(Err(SendError::Client));
                }
                self.moves = true;
                self.piece.advance(taken);
                if self.piece.is_empty() {
                    self.framing.end_piece(&mut self.out);
                }
            } else if self.framing == BodyEncoder::Ended {
                return io.poll_flush(cx).map_err(SendError::from);
            } else {
                // More may be long in coming.
                self.rests = io.poll_flush(cx)?.is_ready();
                return Poll::Pending;
            }
        }
    }

    /// The body that is being sent.
    pub(super) const fn body(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether the length is unknown, and nothing was sent since this was asked last, as there was nothing to send.
    pub(super) fn is_silent(&mut self) -> bool {
        let is_endless = matches!(self.framing, BodyEncoder::Chunked | BodyEncoder::UntilClose);
        !std::mem::take(&mut self.moves) && self.rests && is_endless
    }

    /// Whether a client could take what broke off for the whole.
    pub(super) const fn ends_with_the_connection(&self) -> bool {
        matches!(self.framing, BodyEncoder::UntilClose)
    }

    /// Takes what there is of the body, as far as it is to be collected.
    fn collect(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        while self.framing != BodyEncoder::Ended && self.piece.is_empty() && self.out.len() < COLLECTED {
            if self.body.is_end_stream() {
                return Ok(self.framing.end(&mut self.out)?);
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Ok(()) };
            match frame {
                None => self.framing.end(&mut self.out)?,
                Some(Err(_broken)) => return Err(SendError::Body),
                Some(Ok(frame)) => {
                    // Trailers are for clients that were told of them.
                    if let Ok(piece) = frame.into_data() {
                        self.add(piece)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, piece: Bytes) -> Result<(), SendError> {
        // An empty chunk would be the last.
        if piece.is_empty() {
            return Ok(());
        }
        self.framing.begin_piece(piece.len(), &mut self.out)?;
        if self.out.len() + piece.len() > COLLECTED {
            self.piece = piece;
            return Ok(());
        }
        self.out.extend_from_slice(&piece);
        self.framing.end_piece(&mut self.out);
        Ok(())
    }
}

impl<B> Drop for ResponseWriter<B> {
    fn drop(&mut self) {
        buffer_pool::keep_space(std::mem::take(&mut self.out));
    }
}

/// Writes an interim response. It has no body, and says nothing about the connection.
pub(super) fn write_interim(head: &Parts, out: &mut Vec<u8>) {
    status_line(b"HTTP/1.1 ", head.status, head.extensions.get(), out);
    for (name, value) in &head.headers {
        line(name.as_str(), value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an answer's head. How its body ends, and whether the connection outlasts it.
pub(super) fn write_head(
    (status, reason): (StatusCode, Option<&ReasonPhrase>),
    headers: &HeaderMap,
    length: Option<u64>,
    manner: Manner,
    out: &mut Vec<u8>,
) -> (BodyEncoder, bool) {
    let is_old = manner.version == Version::HTTP_10;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let has_none = status.is_informational() || status == StatusCode::NO_CONTENT;
    let framing = match length {
        _ if has_none || manner.is_head || status == StatusCode::NOT_MODIFIED => BodyEncoder::Ended,
        Some(length) => BodyEncoder::Length(length),
        None if is_old => BodyEncoder::UntilClose,
        None => BodyEncoder::Chunked,
    };
    let keeps = manner.keeps && framing != BodyEncoder::UntilClose && !closes(headers);
    // RFC 9110 7.8: whoever says by which protocol to come names the header as the connection's own.
    let offers = status == StatusCode::UPGRADE_REQUIRED && headers.contains_key(header::UPGRADE);
    status_line(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " }, status, reason, out);
    let (mut date, mut told) = (None, None);
    for (name, value) in headers {
        match *name {
            header::CONNECTION if !switches => continue,
            header::TRANSFER_ENCODING => continue,
            // The framing is ours to write, once.
            header::CONTENT_LENGTH => {
                told = Some(value);
                continue;
            }
            header::DATE => date = Some(value),
            _ => {}
        }
        line(name.as_str(), value.as_bytes(), out);
    }
    // RFC 9110 6.6.1: whoever passes a message on adds what is missing.
    if date.is_none() && !status.is_informational() {
        line("date", &today(), out);
    }
    match framing {
        BodyEncoder::Length(length) => write_length(length, told, out),
        BodyEncoder::Chunked => line("transfer-encoding", b"chunked", out),
        // RFC 9110 8.6: what a GET would have been answered, if that is known.
        BodyEncoder::Ended if !has_none => match (told, length.filter(|&length| manner.is_head && length > 0)) {
            (Some(told), _) => line("content-length", told.as_bytes(), out),
            (None, Some(length)) => write_length(length, None, out),
            (None, None) => {}
        },
        BodyEncoder::Ended | BodyEncoder::UntilClose => {}
    }
    match (keeps, offers) {
        _ if switches => {}
        (true, true) => line("connection", b"upgrade", out),
        (true, false) if is_old => line("connection", b"keep-alive", out),
        (true, false) => {}
        (false, true) => line("connection", b"upgrade, close", out),
        (false, false) => line("connection", b"close", out),
    }
    out.extend_from_slice(b"\r\n");
    (framing, keeps)
}

/// Adds what is ours to a head of lines that passed as they came, for a client of HTTP/1.1.
pub(super) fn end_lines(mut lines: RawHead, headers: &HeaderMap, manner: Manner) -> (Vec<u8>, BodyEncoder, bool) {
    let keeps = manner.keeps && !closes(headers);
    for (name, value) in headers.iter().filter(|(name, _)| **name != header::CONNECTION) {
        lines.add(name.as_str(), value.as_bytes());
    }
    if !lines.has_date {
        lines.add("date", &today());
    }
    if !keeps {
        lines.add("connection", b"close");
    }
    lines.out.extend_from_slice(b"\r\n");
    (std::mem::take(&mut lines.out), BodyEncoder::Length(lines.length), keeps)
}

/// Writes the length; `told`: the upstream's own word for it.
fn write_length(length: u64, told: Option<&HeaderValue>, out: &mut Vec<u8>) {
    match told {
        Some(told) => line("content-length", told.as_bytes(), out),
        // A vector takes everything.
        None => write!(out, "content-length: {length}\r\n").unwrap_or_default(),
    }
}

/// Whether the answer says that nothing comes after it.
fn closes(headers: &HeaderMap) -> bool {
    headers.get(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
