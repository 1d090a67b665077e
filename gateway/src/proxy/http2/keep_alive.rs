//! Finds clients that are gone or too slow: heads that have begun and do not end, and clients that say nothing while their
//! requests take long.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use crate::proxy::timing::deadline::Alarm;

/// The payload of the PING that asks whether a client is there.
pub(super) const HELLO: [u8; 8] = *b"hello?\0\0";

/// The deadline of a head, or of any other frame but DATA, that has begun to arrive.
#[derive(Default)]
pub(super) struct HeadDeadline {
    alarm: Alarm,
    /// As of which frame it runs.
    frames: u64,
}

impl HeadDeadline {
    /// Whether something has been arriving for longer than `limit`. Each of the `frames` that came has a time of its own.
    pub(super) fn is_over(&mut self, is_arriving: bool, frames: u64, limit: Duration, cx: &Context<'_>) -> bool {
        if !is_arriving || std::mem::replace(&mut self.frames, frames) != frames {
            self.alarm.rest();
        }
        is_arriving && self.alarm.poll(limit, cx).is_ready()
    }
}

/// Asks a client that is silent while it waits for responses whether it is there.
#[derive(Default)]
pub(super) struct KeepAlive {
    alarm: Alarm,
    /// As of which frame the client is silent.
    frames: u64,
    is_asked: bool,
}

/// What is known of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Alive,
    /// It is to be asked by a PING.
    Ping,
    Gone,
}

impl KeepAlive {
    /// Nothing is waited for.
    pub(super) fn rest(&mut self) {
        self.alarm.rest();
    }

    /// How a client is doing that has sent so many `frames`. It may be silent for `idle`, and then has `reply` to answer
    /// the PING.
    pub(super) fn poll(&mut self, frames: u64, idle: Duration, reply: Duration, cx: &Context<'_>) -> Liveness {
        if self.frames != frames && self.is_asked {
            self.alarm.rest();
            self.is_asked = false;
        }
        let limit = if self.is_asked { reply } else { idle };
        if self.alarm.poll(limit, cx).is_pending() {
            return Liveness::Alive;
        }
        self.alarm.rest();
        if std::mem::replace(&mut self.frames, frames) != frames {
            // It was heard of in the meantime: it may be silent for as long again.
            self.is_asked = false;
            let _armed = self.alarm.poll(idle, cx);
            return Liveness::Alive;
        }
        if self.is_asked {
            return Liveness::Gone;
        }
        self.is_asked = true;
        Liveness::Ping
    }
}

/// Ready every `period` from the first call on.
pub(super) fn poll_every(alarm: &mut Alarm, period: Duration, cx: &Context<'_>) -> Poll<()> {
    if alarm.poll(period, cx).is_pending() {
        return Poll::Pending;
    }
    alarm.rest();
    let _armed = alarm.poll(period, cx);
    Poll::Ready(())
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::proxy::timing::deadline::tick;

    const SECOND: u64 = 1_000_000_000;
    const IDLE: Duration = Duration::from_secs(60);
    const REPLY: Duration = Duration::from_secs(10);

    #[test]
    fn a_silent_client_is_asked_and_then_given_up() {
        use Liveness as L;
        let cx = Context::from_waker(Waker::noop());
        let mut alive = KeepAlive::default();
        // Seconds, the frames that came by then, and what becomes of the client.
        for (second, frames, expect) in [
            (0, 1, L::Alive),
            (61, 1, L::Alive),
            (122, 1, L::Ping),
            (123, 1, L::Alive),
            (131, 2, L::Alive),
            (192, 2, L::Alive),
            (253, 2, L::Ping),
            (254, 2, L::Alive),
            (265, 2, L::Gone),
        ] {
            tick(SECOND * (1_000 + second));
            assert_eq!(alive.poll(frames, IDLE, REPLY, &cx), expect, "at {second}");
            tick(SECOND * (1_000 + second) + 1);
        }
    }

    #[test]
    fn each_head_has_a_time_of_its_own() {
        let cx = Context::from_waker(Waker::noop());
        let mut deadline = HeadDeadline::default();
        for (second, is_arriving, frames, expect) in [
            (0, true, 1, false),
            (9, true, 1, false),
            (10, true, 2, false),
            (19, true, 2, false),
            (20, false, 2, false),
            (21, true, 2, false),
            (32, true, 2, true),
        ] {
            tick(SECOND * (1_000 + second));
            assert_eq!(deadline.is_over(is_arriving, frames, REPLY, &cx), expect, "at {second}");
            tick(SECOND * (1_000 + second) + 1);
        }
    }
}
