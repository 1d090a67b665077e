//! One stream of HTTP/2: the states that it passes through, and how its response is sent as the client's windows allow.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Response, StatusCode, header, response::Parts};

use super::{
    body_buffer::BodyBuffer,
    flood::Flood,
    flow_control::FlowControl,
    frame::{self, END_STREAM, MAX_PAYLOAD},
};
use crate::proxy::{
    framing, hpack,
    memory::buffer_pool,
    service::{BodyError, SendBody},
    timing::{
        date,
        deadline::{self, Alarm},
        min_rate::MinRate,
    },
};

/// Our table of fields is empty (RFC 7541 6.3).
const RESIZED: u8 = 0x20;

/// The head that a client waits for before it sends its body (RFC 9110 15.2.1): `:status` 100, behind [`RESIZED`].
const CONTINUE: &[u8] = b"\x20\x08\x03100";

/// A response that is being made.
pub(super) type Responding<B> = Pin<Box<dyn Future<Output = Response<B>>>>;

/// One stream. `B`: the body of its response.
pub(super) struct Stream<B> {
    pub(super) id: u32,
    pub(super) state: StreamState<B>,
    /// The request's body; `None`: there is none.
    pub(super) body: Option<Rc<BodyBuffer>>,
    /// How much of the response the client takes, in bytes. It may be less than nothing.
    pub(super) window: i64,
}

/// The states of a stream that a client has opened (RFC 9113 5.1).
///
/// ```text
///                             idle
///                              |  HEADERS come
///                              v
///          END_STREAM is   +--------+   END_STREAM
///               sent       |  Open  |   comes
///            +-------------|        |-------------+
///            |             +--------+             |
///            v                                    v
///   +-----------------+                  +------------------+
///   | HalfClosedLocal |                  | HalfClosedRemote |
///   +-----------------+                  +------------------+
///            |  END_STREAM comes                  |  END_STREAM is sent
///            |             +--------+             |
///            +------------>| Closed |<------------+
///                          +--------+
/// ```
///
/// RST_STREAM of either side closes a stream in any state. A stream that is idle or closed has no slot; one that has just
/// closed loses its slot in its next turn.
pub(super) enum StreamState<B> {
    /// The client sends its request, and we make or send the response.
    Open(Work<B>),
    /// The request is complete. We make or send the response.
    HalfClosedRemote(Work<B>),
    /// The response is sent. The client may send the rest of its request, for a time if nobody reads that.
    HalfClosedLocal(Alarm),
    Closed,
}

/// What we do for a stream whose response is not sent.
pub(super) enum Work<B> {
    Responding(Responding<B>),
    // Boxed, as most responses are over at once.
    Sending(Box<ResponseSender<B>>),
}

impl<B> StreamState<B> {
    /// A stream whose request is complete if it `ends`. Without `work` its response is sent already.
    pub(super) fn opened(work: Option<Work<B>>, ends: bool) -> Self {
        match (work, ends) {
            (Some(work), false) => Self::Open(work),
            (Some(work), true) => Self::HalfClosedRemote(work),
            (None, false) => Self::HalfClosedLocal(Alarm::default()),
            (None, true) => Self::Closed,
        }
    }

    /// What is left to be done for the response.
    #[inline]
    pub(super) const fn work(&mut self) -> Option<&mut Work<B>> {
        match self {
            Self::Open(work) | Self::HalfClosedRemote(work) => Some(work),
            Self::HalfClosedLocal(_) | Self::Closed => None,
        }
    }

    /// The response that is being sent.
    pub(super) fn sender(&self) -> Option<&ResponseSender<B>> {
        match self {
            Self::Open(Work::Sending(sender)) | Self::HalfClosedRemote(Work::Sending(sender)) => Some(sender),
            _ => None,
        }
    }

    /// Whether the response is still being made.
    const fn is_responding(&self) -> bool {
        matches!(self, Self::Open(Work::Responding(_)) | Self::HalfClosedRemote(Work::Responding(_)))
    }

    /// Whether the client has not sent all of its request.
    #[inline]
    pub(super) const fn is_receiving(&self) -> bool {
        matches!(self, Self::Open(_) | Self::HalfClosedLocal(_))
    }

    /// The client has sent END_STREAM, or will never send anything again.
    pub(super) fn end_remote(&mut self) {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Open(work) => Self::HalfClosedRemote(work),
            Self::HalfClosedLocal(_) => Self::Closed,
            ended @ (Self::HalfClosedRemote(_) | Self::Closed) => ended,
        };
    }

    /// We have sent END_STREAM.
    pub(super) fn end_local(&mut self) {
        *self = match self {
            Self::Open(_) => Self::HalfClosedLocal(Alarm::default()),
            Self::HalfClosedRemote(_) | Self::Closed => Self::Closed,
            Self::HalfClosedLocal(_) => return,
        };
    }
}

/// A response on its way.
pub(super) struct ResponseSender<B> {
    body: B,
    /// What has to wait for a window.
    piece: Bytes,
    /// When the client has kept it waiting for too long.
    stalled: Alarm,
    rate: MinRate,
}

/// What the streams of a connection share while they send.
pub(super) struct Shared<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) flow: &'a mut FlowControl,
    pub(super) flood: &'a mut Flood,
}

/// How far a stream got with its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It can go on once the others have had their turn.
    Again,
    /// The response broke off.
    Broken,
    /// All of it.
    Over,
    /// Too much is held already.
    Starved,
    /// The client keeps the connection's window shut for too long, or opens it too little; or its own.
    TooSlow { is_shared: bool },
    /// Whoever makes the response wakes the stream.
    Waiting,
    /// The connection's window, or its own, has to open.
    Window { is_shared: bool },
}

impl<B> Stream<B> {
    pub(super) const fn new(id: u32, state: StreamState<B>, body: Option<Rc<BodyBuffer>>, window: i64) -> Self {
        Self { id, state, body, window }
    }

    /// Writes what the client is to know before the response comes. `resize`: it is to be told that our table is empty.
    #[inline]
    pub(super) fn tell(&self, resize: &mut bool, out: &mut Vec<u8>) {
        let Some(body) = &self.body else { return };
        let more = body.grant();
        if more > 0 {
            frame::window(self.id, more, out);
        }
        if body.owes() && self.state.is_responding() {
            let start = usize::from(!std::mem::take(resize));
            frame::headers(CONTINUE.get(start..).unwrap_or_default(), 0, self.id, out);
        }
    }

    /// The request's body will never be complete.
    pub(super) fn cut(&self, error: BodyError) {
        if let Some(body) = &self.body {
            body.cut(error);
        }
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        // Whoever is still sending it upstream.
        self.cut(BodyError::Gone);
    }
}

impl<B: SendBody> ResponseSender<B> {
    /// Writes the head of `response`; `None`: that is all of it. `resize`: the client is told that our table is empty.
    pub(super) fn begin(response: Response<B>, stream: u32, resize: bool, out: &mut Vec<u8>) -> Option<Box<Self>> {
        let (mut head, mut body) = response.into_parts();
        let flags = if body.is_end_stream() { END_STREAM } else { 0 };
        let mut block = match body.take_raw_head() {
            Some(mut lines) => {
                let has_date = lines.has_date;
                let mut block = std::mem::take(&mut lines.out);
                fields(&head.headers, has_date, &mut block);
                block
            }
            None => {
                if has_no_length(head.status) {
                    // Some servers say one, and some clients take that for a lie (RFC 9110 8.6).
                    head.headers.remove(header::CONTENT_LENGTH);
                }
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
            block.insert(0, RESIZED);
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
        shared: &mut Shared<'_>,
        cx: &mut Context<'_>,
    ) -> Sent {
        let mut quota = MAX_PAYLOAD;
        loop {
            if self.piece.is_empty() {
                if shared.flow.is_full() {
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
                            shared.flow.hold(piece.len());
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
            let room = shared.flow.sendable(*window);
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
            shared.flow.sent(length, window);
            if ends {
                return Sent::Over;
            }
            if self.moved(length) {
                return Sent::TooSlow { is_shared: *window > 0 && shared.flow.is_shut() };
            }
        }
    }

    /// The client is waited for: whether it was for too long. Only bytes that move begin that anew (H07).
    fn waits(&mut self, cx: &Context<'_>) -> bool {
        let Some((timeout, _)) = self.body.stall_limits() else { return false };
        self.rate.waits(deadline::now());
        self.stalled.poll(timeout, cx).is_ready()
    }

    /// The client takes some: whether it takes too little, which is as bad as nothing (H07).
    fn moved(&mut self, length: usize) -> bool {
        self.stalled.rest();
        let now = deadline::now();
        self.rate.moved(u64::try_from(length).unwrap_or(u64::MAX), now);
        let limits = self.body.stall_limits();
        limits.is_some_and(|(timeout, least_rate)| self.rate.is_too_slow(now, timeout, least_rate))
    }
}

/// Writes interim responses, which end nothing. `resize`: as with [`ResponseSender::begin`]; whoever writes first tells it.
pub(super) fn write_interim(heads: &[Parts], stream: u32, resize: &mut bool, out: &mut Vec<u8>) {
    for head in heads {
        let mut block = buffer_pool::space();
        if std::mem::take(resize) {
            block.push(RESIZED);
        }
        hpack::status(head.status, &mut block);
        fields(&head.headers, true, &mut block);
        frame::headers(&block, 0, stream, out);
        buffer_pool::keep_space(block);
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

/// Whether nothing is said of the length, as there is nothing that could have one.
fn has_no_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// What the length of the body is said to be, where that is known and nobody has said it.
fn length(status: StatusCode, headers: &HeaderMap, body: &impl SendBody) -> Option<u64> {
    if has_no_length(status) || headers.contains_key(header::CONTENT_LENGTH) {
        return None;
    }
    body.size_hint().exact().filter(|&length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a state.
    fn name(state: &StreamState<()>) -> &'static str {
        match state {
            StreamState::Open(_) => "open",
            StreamState::HalfClosedRemote(_) => "half-closed (remote)",
            StreamState::HalfClosedLocal(_) => "half-closed (local)",
            StreamState::Closed => "closed",
        }
    }

    #[test]
    fn streams_close_when_both_sides_have_ended() {
        let state = |work: bool, ends: bool| {
            let responding = || Work::Responding(Box::pin(std::future::pending()));
            StreamState::<()>::opened(work.then(responding), ends)
        };
        // Whether the response is still to be made, whether the request ends; the state at first, once the client has
        // ended, and once we have.
        for (work, ends, first, remote, local) in [
            (true, false, "open", "half-closed (remote)", "half-closed (local)"),
            (true, true, "half-closed (remote)", "half-closed (remote)", "closed"),
            (false, false, "half-closed (local)", "closed", "half-closed (local)"),
            (false, true, "closed", "closed", "closed"),
        ] {
            let (mut by_client, mut by_us) = (state(work, ends), state(work, ends));
            assert_eq!((name(&by_client), by_client.is_receiving()), (first, !ends));
            by_client.end_remote();
            by_us.end_local();
            assert_eq!((name(&by_client), name(&by_us)), (remote, local), "from {first}");
            by_client.end_local();
            by_us.end_remote();
            assert_eq!((name(&by_client), name(&by_us)), ("closed", "closed"), "from {first}");
        }
    }
}
