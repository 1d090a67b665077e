//! What a client of HTTP/2 knows of its connection: which frames it may be sent by RFC 9113, after what it has sent itself.

use std::collections::{BTreeMap, VecDeque};

use super::super::{
    frame::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, GOAWAY, HEADER, HEADERS, MAX_PAYLOAD, PING,
        RST_STREAM, SETTINGS, WINDOW_UPDATE,
    },
    frame_reader::{Frame, FrameReader},
};
use crate::proxy::hpack::Decoder;

/// The window of a connection, and of a stream, before anybody says otherwise.
const DEFAULT: i64 = 65_535;

/// `:status` 100, as it is written.
const CONTINUE: &[u8] = b"\x08\x03100";

/// A client.
pub(super) struct Observer {
    /// Reads what the client sends.
    sent: FrameReader,
    decoder: Decoder,
    streams: BTreeMap<u32, SeenStream>,
    /// How much it takes in all, and at first of a response.
    window: i64,
    initial: i64,
    last: u32,
    /// What it has sent and wants acknowledged.
    settings: usize,
    pings: VecDeque<Vec<u8>>,
    /// A block of fields that goes on.
    block: Option<(FrameHead, Vec<u8>)>,
}

/// A stream, as its client sees it.
struct SeenStream {
    window: i64,
    has_head: bool,
    has_ended: bool,
    is_reset: bool,
}

impl Observer {
    pub(super) fn new() -> Self {
        Self {
            sent: FrameReader::default(),
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            window: DEFAULT,
            initial: DEFAULT,
            last: 0,
            settings: 0,
            pings: VecDeque::new(),
            block: None,
        }
    }

    /// The client sends this.
    pub(super) fn sends(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        // What is no frame ends the connection.
        while let Ok(Some(frame)) = self.sent.next(&mut rest) {
            match frame {
                Frame::Whole(head, payload) => self.sends_frame(&head, payload),
                Frame::Joined(head, joined) => self.sends_frame(&head, joined.get(HEADER..).unwrap_or_default()),
            }
        }
    }

    fn sends_frame(&mut self, head: &FrameHead, payload: &[u8]) {
        match head.kind {
            HEADERS if head.stream > self.last && !head.stream.is_multiple_of(2) => {
                self.last = head.stream;
                let seen = SeenStream { window: self.initial, has_head: false, has_ended: false, is_reset: false };
                self.streams.insert(head.stream, seen);
            }
            SETTINGS if !head.has(ACK) => {
                self.settings += 1;
                for setting in payload.as_chunks::<6>().0 {
                    let [a, b, c, d, e, f] = *setting;
                    if u16::from_be_bytes([a, b]) == frame::INITIAL_WINDOW_SIZE {
                        let value = i64::from(u32::from_be_bytes([c, d, e, f]));
                        let change = value - std::mem::replace(&mut self.initial, value);
                        self.streams.values_mut().for_each(|stream| stream.window += change);
                    }
                }
            }
            PING if !head.has(ACK) => self.pings.push_back(payload.to_vec()),
            WINDOW_UPDATE => {
                let more = payload.first_chunk().map_or(0, |more| u32::from_be_bytes(*more) & frame::MOST);
                match self.streams.get_mut(&head.stream) {
                    Some(stream) => stream.window += i64::from(more),
                    None if head.stream == 0 => self.window += i64::from(more),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// The client gets this, which is whole frames.
    ///
    /// # Errors
    /// What may not be sent.
    pub(super) fn gets(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        while let Some((head, behind)) = rest.split_first_chunk() {
            let head = FrameHead::read(head);
            let (payload, behind) = behind.split_at_checked(head.length).ok_or("a frame is cut")?;
            rest = behind;
            let is_known = head.stream <= self.last && (head.stream == 0 || !head.stream.is_multiple_of(2));
            let is_next = self.block.as_ref().is_some_and(|(begin, _)| begin.stream == head.stream);
            let is_in_order = if head.kind == CONTINUATION { is_next } else { self.block.is_none() };
            if !is_known || !is_in_order || head.length > MAX_PAYLOAD {
                return Err(format!("a frame that may not come: {head:?}"));
            }
            self.frame(&head, payload).map_err(|what| format!("{what}: {head:?}"))?;
        }
        if rest.is_empty() { Ok(()) } else { Err("the head of a frame is cut".to_owned()) }
    }

    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), &'static str> {
        match head.kind {
            DATA => self.data(head),
            HEADERS | CONTINUATION => {
                let (begin, mut block) = self.block.take().unwrap_or((*head, Vec::new()));
                block.extend_from_slice(payload);
                if head.has(END_HEADERS) {
                    return self.fields(&begin, &block);
                }
                self.block = Some((begin, block));
                Ok(())
            }
            RST_STREAM => {
                // Those that were passed over by the client are closed.
                self.streams.get_mut(&head.stream).into_iter().for_each(|stream| stream.is_reset = true);
                Ok(())
            }
            SETTINGS if head.has(ACK) => {
                self.settings = self.settings.checked_sub(1).ok_or("settings are acknowledged that were not sent")?;
                Ok(())
            }
            PING if head.has(ACK) => match self.pings.pop_front() {
                Some(sent) if sent == payload => Ok(()),
                _ => Err("a ping is answered that was not sent"),
            },
            WINDOW_UPDATE => match payload.first_chunk() {
                Some([0, 0, 0, 0]) | None => Err("a window is opened by nothing"),
                Some(_) => Ok(()),
            },
            SETTINGS | PING | GOAWAY if head.stream == 0 => Ok(()),
            _ => Err("a frame that no server sends"),
        }
    }

    /// A stream that a response is sent on.
    fn stream(&mut self, number: u32) -> Result<&mut SeenStream, &'static str> {
        let stream = self.streams.get_mut(&number).ok_or("no such stream")?;
        if stream.is_reset || stream.has_ended { Err("a stream that is over") } else { Ok(stream) }
    }

    fn data(&mut self, head: &FrameHead) -> Result<(), &'static str> {
        let length = i64::try_from(head.length).unwrap_or(i64::MAX);
        let connection = self.window - length;
        let stream = self.stream(head.stream)?;
        stream.window -= length;
        if !stream.has_head {
            return Err("data without a head");
        }
        if length > 0 && (stream.window < 0 || connection < 0) {
            return Err("more than a window takes");
        }
        stream.has_ended = head.has(END_STREAM);
        self.window = connection;
        Ok(())
    }

    fn fields(&mut self, head: &FrameHead, block: &[u8]) -> Result<(), &'static str> {
        let decoded = self.decoder.decode(block, |_field| {});
        let stream = self.stream(head.stream)?;
        let ends = head.has(END_STREAM);
        if decoded.is_err() {
            return Err("fields that cannot be decoded");
        }
        if stream.has_head && !ends || ends && block == CONTINUE {
            return Err("a second head");
        }
        stream.has_head |= block != CONTINUE;
        stream.has_ended = ends;
        Ok(())
    }

    /// What it has sent and was not acknowledged.
    ///
    /// # Errors
    /// There is some.
    pub(super) fn is_answered(&self) -> Result<(), String> {
        if self.settings == 0 && self.pings.is_empty() && self.block.is_none() {
            return Ok(());
        }
        Err(format!("{} settings and {} pings are not acknowledged", self.settings, self.pings.len()))
    }
}
