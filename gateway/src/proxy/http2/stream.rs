//! Decides how one stream goes from its request to its end: it is answered, what the answer consists of is sent as the
//! client's windows let it, and then it is over.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body as _;

use super::{
    body_buffer::BodyBuffer,
    flood::Flood,
    frame::{self, END_STREAM, MAX_PAYLOAD},
};
use crate::proxy::{
    body::{BodyError, ResponseBody},
    buffer_pool, framing, hpack,
    min_rate::MinRate,
    timing::{
        date,
        deadline::{self, Alarm},
    },
};

/// What of all answers of a connection may be held for want of windows, in bytes: what is over that is left with the
/// upstreams (H04).
pub(super) const HELD: usize = 256 * 1_024;

/// What a client that waits for it is told before it sends its body (RFC 9110 15.2.1): `:status` 100.
const CONTINUE: &[u8] = b"\x08\x03100";

/// The answer to a request, under way.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>>>>;

/// One stream.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) work: Work,
    /// The request's body; `None`: there is none.
    pub(super) buffer: Option<Rc<BodyBuffer>>,
    /// Whether the client has sent all.
    pub(super) is_ended: bool,
    /// What the client takes of the answer, in bytes. It may owe us some.
    pub(super) window: i64,
    /// When it has had the time to see that it was answered before it had sent all.
    pub(super) linger: Alarm,
}

/// What a stream is at.
pub(super) enum Work {
    Answering(Answering),
    Sending(Box<Sending>),
    /// All is sent; what is left of the request's body is still to come.
    Sent,
}

/// An answer on its way.
pub(super) struct Sending {
    body: ResponseBody,
    /// What has to wait for a window.
    piece: Bytes,
    /// When the client has kept it waiting for too long.
    stalled: Alarm,
    rate: MinRate,
}

/// What of the connection the streams share while they send.
pub(super) struct Outlet<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// What the client takes of all answers, in bytes.
    pub(super) window: &'a mut i64,
    /// What waits for windows, of all streams.
    pub(super) held: &'a mut usize,
    pub(super) flood: &'a mut Flood,
}

/// How far a stream got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Others first.
    Again,
    /// The answer broke off.
    Broken,
    /// All of it.
    Over,
    /// Too much is held already.
    Starved,
    /// The client keeps the connection's window shut for too long, or opens it too little; or its own.
    TooSlow { is_shared: bool },
    /// Whoever makes the answer wakes it.
    Waiting,
    /// The connection's window, or its own, has to open.
    Window { is_shared: bool },
}

impl Stream {
    pub(super) fn new(id: u32, work: Work, buffer: Option<Rc<BodyBuffer>>, is_ended: bool, window: i64) -> Self {
        Self { id, work, buffer, is_ended, window, linger: Alarm::default() }
    }

    /// Writes what the client is to know before the answer comes.
    pub(super) fn tell(&self, out: &mut Vec<u8>) {
        let Some(buffer) = &self.buffer else { return };
        let more = buffer.grant();
        if more > 0 {
            frame::window(self.id, more, out);
        }
        if buffer.owes() && matches!(self.work, Work::Answering(_)) {
            frame::headers(CONTINUE, 0, self.id, out);
        }
    }

    /// Nothing more comes of the client, or of the connection.
    pub(super) fn cut(&self, cut: BodyError) {
        if let Some(buffer) = &self.buffer {
            buffer.cut(cut);
        }
    }

    /// Whether nothing more is wanted of the client.
    pub(super) fn is_abandoned(&self) -> bool {
        self.buffer.as_ref().is_none_or(|buffer| buffer.is_abandoned())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Whoever is still sending it upstream.
        self.cut(BodyError::Gone);
    }
}

impl Sending {
    /// Writes the head of `answer`; `None`: that is all of it. `resize`: the client is told that our table is empty.
    pub(super) fn begin(
        answer: Response<ResponseBody>,
        stream: u32,
        resize: bool,
        out: &mut Vec<u8>,
    ) -> Option<Box<Self>> {
        let (head, mut body) = answer.into_parts();
        let flags = if body.is_end_stream() { END_STREAM } else { 0 };
        let mut block = match body.take_lines() {
            Some(mut lines) => {
                let has_date = lines.has_date;
                let mut block = std::mem::take(&mut lines.out);
                fields(&head.headers, has_date, &mut block);
                block
            }
            None => {
                let mut block = buffer_pool::space();
                hpack::status(head.status, &mut block);
                fields(&head.headers, head.headers.contains_key(header::DATE), &mut block);
                if let Some(length) = length(head.status, &head.headers, &body) {
                    hpack::field(header::CONTENT_LENGTH.as_str().as_bytes(), length.to_string().as_bytes(), &mut block);
                }
                block
            }
        };
        if resize {
            // RFC 7541 4.2: before anything else of the block.
            block.insert(0, 0x20);
        }
        frame::headers(&block, flags, stream, out);
        buffer_pool::keep_space(block);
        buffer_pool::keep(head.headers);
        let sending = Self { body, piece: Bytes::new(), stalled: Alarm::default(), rate: MinRate::default() };
        (flags == 0).then(|| Box::new(sending))
    }

    /// What is held of it, in bytes.
    pub(super) fn held(&self) -> usize {
        self.piece.len()
    }

    /// Sends on, at most one frame's worth. `window`: the stream's own.
    pub(super) fn send(
        &mut self,
        stream: u32,
        window: &mut i64,
        shared: &mut Outlet<'_>,
        cx: &mut Context<'_>,
    ) -> Sent {
        let mut quota = MAX_PAYLOAD;
        loop {
            if self.piece.is_empty() {
                if *shared.held >= HELD {
                    // The client is waited for here, too: what it leaves untaken of other answers is in the way (H04).
                    return if self.waits(cx) { Sent::TooSlow { is_shared: false } } else { Sent::Starved };
                }
                self.stalled.rest();
                // What is asked for ahead of its window ends the answer where nothing is left of it.
                let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else { return Sent::Waiting };
                match next {
                    None => {
                        frame::head(0, frame::DATA, END_STREAM, stream, shared.out);
                        return Sent::Over;
                    }
                    Some(Err(_broken)) => return Sent::Broken,
                    Some(Ok(next)) => match next.into_data() {
                        Ok(piece) => {
                            *shared.held += piece.len();
                            self.piece = piece;
                        }
                        Err(next) => {
                            let mut block = buffer_pool::space();
                            fields(&next.into_trailers().unwrap_or_default(), true, &mut block);
                            frame::headers(&block, END_STREAM, stream, shared.out);
                            buffer_pool::keep_space(block);
                            return Sent::Over;
                        }
                    },
                }
            }
            let room = usize::try_from((*window).min(*shared.window)).unwrap_or(0);
            let length = self.piece.len().min(room).min(MAX_PAYLOAD);
            let ends = length == self.piece.len() && self.body.is_end_stream();
            if length == 0 && !(ends && self.piece.is_empty()) {
                if self.piece.is_empty() {
                    continue;
                }
                let is_shared = *window > 0;
                return if self.waits(cx) { Sent::TooSlow { is_shared } } else { Sent::Window { is_shared } };
            }
            if length > quota {
                return Sent::Again;
            }
            quota -= length;
            frame::head(length, frame::DATA, if ends { END_STREAM } else { 0 }, stream, shared.out);
            shared.out.extend_from_slice(self.piece.get(..length).unwrap_or_default());
            self.piece.advance(length);
            shared.flood.sent();
            *shared.held = shared.held.saturating_sub(length);
            let sent = i64::try_from(length).unwrap_or(i64::MAX);
            (*window, *shared.window) = (*window - sent, *shared.window - sent);
            if ends {
                return Sent::Over;
            }
            if self.moved(length) {
                return Sent::TooSlow { is_shared: *window > 0 && *shared.window == 0 };
            }
        }
    }

    /// The client is waited for: whether it was for too long. Only bytes that move begin that anew (H07).
    fn waits(&mut self, cx: &Context<'_>) -> bool {
        let Some((patience, _)) = self.body.patience() else { return false };
        self.rate.waits(deadline::now());
        self.stalled.poll(patience, cx).is_ready()
    }

    /// The client takes some: whether it takes too little, which is as bad as nothing (H07).
    fn moved(&mut self, length: usize) -> bool {
        self.stalled.rest();
        let now = deadline::now();
        self.rate.moved(u64::try_from(length).unwrap_or(u64::MAX), now);
        let patience = self.body.patience();
        patience.is_some_and(|(patience, least_rate)| self.rate.is_too_slow(now, patience, least_rate))
    }
}

/// Packs header fields, and the date where that is missing (RFC 9110 6.6.1).
fn fields(headers: &HeaderMap, has_date: bool, block: &mut Vec<u8>) {
    for (name, value) in headers {
        // RFC 9113 8.2.2: they are about connections of HTTP/1.
        if framing::OF_HTTP1.contains(name) {
            continue;
        }
        hpack::field(name.as_str().as_bytes(), value.as_bytes(), block);
    }
    if !has_date {
        hpack::field(header::DATE.as_str().as_bytes(), &date::today(), block);
    }
}

/// What the length of the body is said to be, where that is known and nobody has said it.
fn length(status: StatusCode, headers: &HeaderMap, body: &ResponseBody) -> Option<u64> {
    let is_none = status.is_informational() || status == StatusCode::NO_CONTENT;
    if is_none || headers.contains_key(header::CONTENT_LENGTH) {
        return None;
    }
    body.size_hint().exact().filter(|&length| length > 0)
}
