//! Counts what keeps an HTTP/2 connection busy for nothing: frames that only have to be answered or noted
//! (SETTINGS, PING, PRIORITY, PRIORITY_UPDATE, kinds nobody knows) are counted, and too many of them end the connection
//! (H06). So does DATA without data (H05), so do streams that are opened only to be reset, each of which costs an
//! upstream a connection (H01), and windows that are opened for nothing that was sent. What provokes a reset of ours
//! counts as many (H02).

use gateway_common::limit::{ArrivalTime, Rate};

use super::frame::{DATA, END_STREAM, FrameHead, PADDED, WINDOW_UPDATE};

/// What a connection may send of them: far more than any client does, far less than what costs us anything.
const RATE: Option<Rate> = Rate::per_second(100, 1_000);

/// What a fault counts that a stream is reset for.
const FAULT: u32 = 10;

/// How many windows a client may open for each frame of DATA that it was sent, and how many are saved up.
const WINDOWS: u32 = 4;
const MOST_WINDOWS: u32 = 10_000;

/// What a connection has sent for nothing.
#[derive(Debug, Default)]
pub(super) struct Flood {
    spent: ArrivalTime,
    windows: u32,
}

impl Flood {
    /// Notes a frame of the client's. `false`: it is a flood.
    pub(super) fn frame(&mut self, head: &FrameHead, now: u64) -> bool {
        let counts = match head.kind {
            // What may be padding alone uses up no window.
            DATA => head.length == 0 && !head.has(END_STREAM) || head.has(PADDED),
            // Those of streams are bounded with the streams.
            super::frame::HEADERS | super::frame::CONTINUATION => false,
            WINDOW_UPDATE if self.windows > 0 => {
                self.windows -= 1;
                false
            }
            _ => true,
        };
        !counts || self.spend(1, now)
    }

    /// Notes a frame of DATA that the client was sent.
    pub(super) const fn sent(&mut self) {
        if self.windows < MOST_WINDOWS {
            self.windows += WINDOWS;
        }
    }

    /// Notes that a stream was reset for the client's fault. `false`: it is a flood.
    pub(super) fn fault(&mut self, now: u64) -> bool {
        self.spend(FAULT, now)
    }

    fn spend(&mut self, count: u32, now: u64) -> bool {
        let next = RATE.and_then(|rate| rate.spend(self.spent, now, u64::from(count)));
        self.spent = next.unwrap_or(self.spent);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{CONTINUATION, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS},
        *,
    };

    /// So many frames, `gap` nanoseconds apart.
    #[track_caller]
    fn check(kind: u8, flags: u8, length: usize, count: u32, gap: u64, expect: bool) {
        let (mut flood, mut now) = (Flood::default(), 1_000_000_000);
        let head = FrameHead { length, kind, flags, stream: 1 };
        let good = (0..count).all(|_| {
            now += gap;
            flood.frame(&head, now)
        });
        assert_eq!(good, expect, "{count} frames of kind {kind} with {length} bytes");
    }

    #[test]
    fn h01_h05_h06_floods_end_the_connection() {
        for kind in [PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, 16, 0xff] {
            check(kind, 0, 8, 1_000, 0, true);
            check(kind, 0, 8, 1_002, 0, false);
            check(kind, 0, 8, 5_000, 11_000_000, true);
        }
        for kind in [DATA, HEADERS, CONTINUATION] {
            check(kind, 0, 200, 5_000, 0, true);
        }
        check(DATA, 0, 0, 1_002, 0, false);
        check(DATA, PADDED, 9, 1_002, 0, false);
        check(DATA, 0, 1, 5_000, 0, true);
    }

    #[test]
    fn h02_h06_faults_count_more_and_windows_less() {
        let mut flood = Flood::default();
        assert_eq!((0..1_000).take_while(|_| flood.fault(1)).count(), 100);
        let mut flood = Flood::default();
        let window = FrameHead { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 0 };
        for _ in 0..5_000 {
            flood.sent();
            assert!((0..3).all(|_| flood.frame(&window, 1)));
        }
        assert!(flood.windows <= MOST_WINDOWS + WINDOWS);
        let left = usize::try_from(flood.windows).unwrap();
        assert_eq!((0..50_000).take_while(|_| flood.frame(&window, 1)).count(), left + 1_000);
    }
}
