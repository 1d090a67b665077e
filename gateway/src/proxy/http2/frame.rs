//! The frames of HTTP/2 as they are written and read (RFC 9113 4.1, 6, 7).

/// How a client begins (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's header, and of the longest payload that either side sends: what nobody has to agree on.
pub(super) const HEADER: usize = 9;
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// The largest window, and the largest number of a stream.
pub(super) const MOST: u32 = (1 << 31) - 1;

/// Kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// Settings (RFC 9113 6.5.2).
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Why a stream or a connection ends (RFC 9113 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// Why a connection cannot go on (RFC 9113 5.4.1), for the client and for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionError(pub(super) Reason, pub(super) &'static str);

impl ConnectionError {
    /// The client breaks the protocol.
    pub(super) const fn protocol(detail: &'static str) -> Self {
        Self(Reason::Protocol, detail)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) fn read(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        Self { length, kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & MOST }
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes the header of a frame of at most [`MAX_PAYLOAD`] bytes.
pub(super) fn head(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Writes the fields of `block`, in as many frames as they need (RFC 9113 4.3).
pub(super) fn headers(block: &[u8], flags: u8, stream: u32, out: &mut Vec<u8>) {
    let (mut kind, mut flags, mut rest) = (HEADERS, flags, block);
    while let Some((piece, behind)) = rest.split_at_checked(MAX_PAYLOAD).filter(|(_, behind)| !behind.is_empty()) {
        head(piece.len(), kind, flags, stream, out);
        out.extend_from_slice(piece);
        (kind, flags, rest) = (CONTINUATION, 0, behind);
    }
    head(rest.len(), kind, flags | END_HEADERS, stream, out);
    out.extend_from_slice(rest);
}

/// Writes what we are like.
pub(super) fn settings(all: &[(u16, u32)], out: &mut Vec<u8>) {
    head(all.len() * 6, SETTINGS, 0, 0, out);
    for (setting, value) in all {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes that a client's settings are in force.
pub(super) fn settled(out: &mut Vec<u8>) {
    head(0, SETTINGS, ACK, 0, out);
}

pub(super) fn ping(flags: u8, content: &[u8], out: &mut Vec<u8>) {
    head(content.len(), PING, flags, 0, out);
    out.extend_from_slice(content);
}

pub(super) fn reset(stream: u32, reason: Reason, out: &mut Vec<u8>) {
    head(4, RST_STREAM, 0, stream, out);
    out.extend_from_slice(&(reason as u32).to_be_bytes());
}

/// Writes that `more` bytes may come, on a stream or, `0`, the connection.
pub(super) fn window(stream: u32, more: u32, out: &mut Vec<u8>) {
    head(4, WINDOW_UPDATE, 0, stream, out);
    out.extend_from_slice(&more.to_be_bytes());
}

/// Writes that no stream after `last` is looked at.
pub(super) fn goaway(last: u32, reason: Reason, out: &mut Vec<u8>) {
    head(8, GOAWAY, 0, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(reason as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: usize, expect: &[(u8, u8, usize)]) {
        let block: Vec<_> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut out = Vec::new();
        headers(&block, END_STREAM, 7, &mut out);
        let (mut rest, mut found, mut whole) = (&out[..], Vec::new(), Vec::new());
        while let Some((head, behind)) = rest.split_first_chunk() {
            let head = FrameHead::read(head);
            assert_eq!(head.stream, 7);
            found.push((head.kind, head.flags, head.length));
            let (payload, behind) = behind.split_at(head.length);
            whole.extend_from_slice(payload);
            rest = behind;
        }
        assert_eq!(found, expect, "{length}");
        assert_eq!(whole, block, "{length}");
    }

    #[test]
    fn fields_take_as_many_frames_as_they_need() {
        let both = END_STREAM | END_HEADERS;
        check(0, &[(HEADERS, both, 0)]);
        check(MAX_PAYLOAD, &[(HEADERS, both, MAX_PAYLOAD)]);
        check(MAX_PAYLOAD + 1, &[(HEADERS, END_STREAM, MAX_PAYLOAD), (CONTINUATION, END_HEADERS, 1)]);
        let three =
            [(HEADERS, END_STREAM, MAX_PAYLOAD), (CONTINUATION, 0, MAX_PAYLOAD), (CONTINUATION, END_HEADERS, 2)];
        check(2 * MAX_PAYLOAD + 2, &three);
    }
}
