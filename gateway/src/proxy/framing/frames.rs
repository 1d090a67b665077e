//! Decides whether an HTTP/2 connection is kept busy for nothing: frames that only have to be answered or noted
//! (SETTINGS, PING, PRIORITY, PRIORITY_UPDATE, kinds nobody knows) are counted as they come in, before h2 deals with
//! them, and too many of them end the connection (H06). So does DATA without data (H05), and so do streams that are opened only to be reset: h2 counts
//! those that nobody has looked at yet, while each that was on its way upstream costs a connection there (H01).

use gateway_common::limit::{ArrivalTime, Rate};

/// What a connection may send of them: far more than any client does, far less than what costs us anything.
const RATE: Option<Rate> = Rate::per_second(100, 1_000);

/// The length of the client's preface (RFC 9113 3.4) and of a frame's header (4.1).
const PREFACE: usize = 24;
const HEADER: usize = 9;

/// Flags of DATA (RFC 9113 6.1).
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// Where in the stream of frames a connection is.
pub(in crate::proxy) struct Frames {
    /// Bytes to pass over.
    skip: usize,
    /// The header under way.
    header: [u8; HEADER],
    have: usize,
    spent: ArrivalTime,
}

impl Frames {
    pub(in crate::proxy) const fn new() -> Self {
        Self { skip: PREFACE, header: [0; HEADER], have: 0, spent: 0 }
    }

    /// Reads the next bytes of the connection. `false`: it is a flood.
    pub(in crate::proxy) fn read(&mut self, bytes: &[u8], now: u64) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            let wanted = self.header.get_mut(self.have..).unwrap_or_default();
            let taken = wanted.len().min(rest.len());
            wanted.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            rest = rest.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have < HEADER {
                return true;
            }
            self.have = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.skip = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            // DATA, HEADERS, WINDOW_UPDATE and CONTINUATION belong to streams; h2 bounds those. DATA without data, or
            // with what may be padding alone, uses up no window (H05).
            let counts = match kind {
                0 => self.skip == 0 && flags & END_STREAM == 0 || flags & PADDED != 0,
                1 | 8 | 9 => false,
                _ => true,
            };
            if counts && !self.spend(now) {
                return false;
            }
        }
        true
    }

    fn spend(&mut self, now: u64) -> bool {
        let next = RATE.and_then(|rate| rate.spend(self.spent, now, 1));
        self.spent = next.unwrap_or(self.spent);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEADER + usize::from(length), 6);
        frame
    }

    /// Reads the preface and `count` frames in pieces of every size, `gap` nanoseconds apart.
    #[track_caller]
    fn check(kind: u8, length: u8, count: usize, gap: u64, expect: bool) {
        for size in [1, 8, 9, 10, 4_096] {
            let mut frames = Frames::new();
            let mut now = 1_000_000_000;
            let mut good = frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now);
            for _ in 0..count {
                now += gap;
                good = good && frame(kind, length).chunks(size).all(|piece| frames.read(piece, now));
            }
            assert_eq!(good, expect, "{count} frames of kind {kind} with {length} bytes in pieces of {size}");
        }
    }

    #[test]
    fn h01_h05_h06_floods_end_the_connection() {
        for kind in [2, 3, 4, 6, 16, 0xff] {
            check(kind, 8, 1_000, 0, true);
            check(kind, 8, 1_002, 0, false);
            check(kind, 8, 5_000, 11_000_000, true);
        }
        for kind in [0, 1, 8, 9] {
            check(kind, 200, 5_000, 0, true);
        }
        check(0, 0, 1_002, 0, false);
        check(0, 1, 5_000, 0, true);
    }
}
