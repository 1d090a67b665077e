//! Counts what keeps an HTTP/2 connection busy for nothing: frames that only have to be answered or noted
//! (SETTINGS, PING, PRIORITY, PRIORITY_UPDATE, kinds nobody knows) are counted, and too many of them end the connection
//! (H06). So does DATA without data (H05), so do streams that are opened only to be reset, each of which costs an
//! upstream a connection (H01). What provokes a reset of ours counts as many (H02).
//!
//! Frames of streams that we have reset or refused may have been on their way: one END_STREAM for each that had not ended,
//! and DATA as far as its window was open. More than that counts. Streams over the limit count once there are more of
//! them than a client can have begun before it knew the limit (H08).
//!
//! What a response gives reason for counts nothing: a client opens windows for what it was sent, and clients of gRPC
//! measure their line by a PING for each piece of a response, thousands of them a second if they are near.

use gateway_common::limit::{ArrivalTime, Rate};

use super::{
    flow_control::STREAM_WINDOW,
    frame::{DATA, END_STREAM, FrameHead, PADDED, PING, WINDOW_UPDATE},
};

/// What a connection may send of them: far more than any client does, far less than what costs us anything.
const RATE: Option<Rate> = Rate::per_second(100, 1_000);

/// What a fault counts that a stream is reset for.
const FAULT: u32 = 10;

/// How many windows and PINGs each frame of a response gives a client reason for, and how many are saved up.
const REPLIES: u32 = 4;
const MOST_REPLIES: u32 = 10_000;

/// How many streams over the limit count nothing.
const MOST_UNSERVED: u32 = 5_000;

/// What a connection has sent for nothing.
#[derive(Debug, Default)]
pub(super) struct Flood {
    spent: ArrivalTime,
    /// How many windows and PINGs responses have given it reason for.
    replies: u32,
    /// What may still come for streams that we have reset: ends, and bytes of DATA.
    late_ends: u32,
    late_bytes: u32,
    /// How many streams over the limit have counted nothing.
    unserved: u32,
}

impl Flood {
    /// Notes a frame of the client's. `false`: it is a flood.
    pub(super) fn frame(&mut self, head: &FrameHead, payload: &[u8], now: u64) -> bool {
        let counts = match head.kind {
            // Padding alone uses up no window.
            DATA => !head.has(END_STREAM) && !has_content(head, payload),
            // Those of streams are bounded with the streams.
            super::frame::HEADERS | super::frame::CONTINUATION => false,
            PING | WINDOW_UPDATE if self.replies > 0 => {
                self.replies -= 1;
                false
            }
            _ => true,
        };
        !counts || self.spend(1, now)
    }

    /// Notes a frame of a response that the client was sent.
    pub(super) const fn sent(&mut self) {
        if self.replies < MOST_REPLIES {
            self.replies += REPLIES;
        }
    }

    /// Notes that a stream was reset for the client's fault. `false`: it is a flood.
    pub(super) fn fault(&mut self, now: u64) -> bool {
        self.spend(FAULT, now)
    }

    /// Notes a stream that had not ended and that we have reset, or that the client was told we would not serve.
    pub(super) const fn passed_over(&mut self) {
        self.late_ends = self.late_ends.saturating_add(1);
        self.late_bytes = self.late_bytes.saturating_add(STREAM_WINDOW);
    }

    /// Notes a frame of such a stream, with so many bytes of DATA. `ends`: it ends its stream. `false`: it is a flood.
    pub(super) fn late(&mut self, bytes: u32, ends: bool, now: u64) -> bool {
        let (ends, bytes) = (self.late_ends.checked_sub(u32::from(ends)), self.late_bytes.checked_sub(bytes));
        let (Some(ends), Some(bytes)) = (ends, bytes) else { return self.spend(1, now) };
        (self.late_ends, self.late_bytes) = (ends, bytes);
        true
    }

    /// Notes a stream over the limit. `false`: it is a flood.
    pub(super) fn unserved(&mut self, now: u64) -> bool {
        if self.unserved < MOST_UNSERVED {
            self.unserved += 1;
            return true;
        }
        self.spend(1, now)
    }

    fn spend(&mut self, count: u32, now: u64) -> bool {
        let next = RATE.and_then(|rate| rate.spend(self.spent, now, u64::from(count)));
        self.spent = next.unwrap_or(self.spent);
        next.is_some()
    }
}

/// Whether DATA holds anything but padding.
fn has_content(head: &FrameHead, payload: &[u8]) -> bool {
    let padding = if head.has(PADDED) { payload.first().map_or(1, |&length| usize::from(length) + 1) } else { 0 };
    head.length > padding
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{CONTINUATION, HEADERS, PRIORITY, RST_STREAM, SETTINGS},
        *,
    };

    /// So many frames, `gap` nanoseconds apart.
    #[track_caller]
    fn check(kind: u8, flags: u8, payload: &[u8], count: u32, gap: u64, expect: bool) {
        let (mut flood, mut now) = (Flood::default(), 1_000_000_000);
        let head = FrameHead { length: payload.len(), kind, flags, stream: 1 };
        let good = (0..count).all(|_| {
            now += gap;
            flood.frame(&head, payload, now)
        });
        assert_eq!(good, expect, "{count} frames of kind {kind} with {payload:?}");
    }

    #[test]
    fn h01_h05_h06_floods_end_the_connection() {
        for kind in [PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, 16, 0xff] {
            check(kind, 0, &[0; 8], 1_000, 0, true);
            check(kind, 0, &[0; 8], 1_002, 0, false);
            check(kind, 0, &[0; 8], 5_000, 11_000_000, true);
        }
        for kind in [DATA, HEADERS, CONTINUATION] {
            check(kind, 0, &[0; 200], 5_000, 0, true);
        }
        // DATA, and how much of it is padding: only what has no content counts.
        for (payload, expect) in [
            (&[][..], false),
            (&[0], false),
            (&[3, 0, 0, 0], false),
            (&[9, 0], false),
            (&[0, b'x'], true),
            (&[2, b'x', 0, 0], true),
        ] {
            check(DATA, if payload.is_empty() { 0 } else { PADDED }, payload, 1_002, 0, expect);
        }
        check(DATA, 0, &[0], 5_000, 0, true);
        check(DATA, END_STREAM, &[], 5_000, 0, true);
    }

    #[test]
    fn h02_faults_count_more() {
        let mut flood = Flood::default();
        assert_eq!((0..1_000).take_while(|_| flood.fault(1)).count(), 100);
    }

    /// How many frames pass that come for streams that were reset, so many of them.
    #[test]
    fn h08_what_was_on_its_way_counts_nothing() {
        for (resets, bytes, ends, expect) in [
            (0, 0, true, 1_000),
            (0, 1, false, 1_000),
            // Nothing at all counts where it comes in.
            (0, 0, false, 9_000),
            (1, 0, true, 1_001),
            (1, STREAM_WINDOW, false, 1_001),
            (1, STREAM_WINDOW / 2, false, 1_002),
            (5, STREAM_WINDOW, true, 1_005),
            (7_000, 1, true, 8_000),
        ] {
            let mut flood = Flood::default();
            (0..resets).for_each(|_| flood.passed_over());
            let passed = (0..9_000).take_while(|_| flood.late(bytes, ends, 1)).count();
            assert_eq!(passed, expect, "{resets} resets, {bytes} bytes, ends: {ends}");
        }
        let mut flood = Flood::default();
        assert_eq!((0..9_000).take_while(|_| flood.unserved(1)).count(), 6_000);
    }

    #[test]
    fn h06_what_responses_give_reason_for_counts_nothing() {
        for (kind, counts) in
            [(PING, false), (WINDOW_UPDATE, false), (PRIORITY, true), (RST_STREAM, true), (SETTINGS, true)]
        {
            let mut flood = Flood::default();
            let frame = FrameHead { length: 8, kind, flags: 0, stream: 0 };
            let answered = (0..5_000).take_while(|_| {
                flood.sent();
                (0..3).all(|_| flood.frame(&frame, &[0; 8], 1))
            });
            assert_eq!(answered.count() < 5_000, counts, "kind {kind}");
            assert!(flood.replies <= MOST_REPLIES + REPLIES);
            let left = if counts { 0 } else { usize::try_from(flood.replies).unwrap() + 1_000 };
            assert_eq!((0..50_000).take_while(|_| flood.frame(&frame, &[0; 8], 1)).count(), left, "kind {kind}");
        }
    }
}
