//! Drives a connection of HTTP/2. In one turn it reads what has come, lets every stream that has something to do go on, and
//! sends what that came to in one write.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    body_buffer::Body,
    frame,
    keep_alive::{HELLO, Liveness},
    session::{Ended, FULL, Session},
};
use crate::proxy::{
    connection::{Close, CloseReason},
    memory::buffer_pool,
    service::{BodyError, Service},
};

/// How often a turn reads, and how often it goes round its streams, before others have their turn.
const READS: usize = 8;
const ROUNDS: usize = 16;

/// How much is collected before nothing more is read, in bytes: replies to what comes need room as well.
const OVERFULL: usize = FULL + 32 * 1_024;

impl<S: Service> Session<S>
where
    S::RequestBody: From<Body>,
{
    /// One turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.connection.closing(cx) {
            Close::Now => return Poll::Ready(Ended::Cut),
            Close::Graceful if self.shutdown.is_untold() => self.begin_shutdown(),
            Close::Graceful | Close::No => {}
        }
        if self.connection.takes_recheck() {
            self.streams.schedule_all(u128::MAX);
        }
        self.streams.ready().begin(cx.waker());
        let mut rounds = 0;
        loop {
            // What comes may have to be replied to: first the client has to take some.
            let is_overfull = self.io.collected() > OVERFULL;
            let read = if is_overfull { Poll::Pending } else { self.read(cx) };
            let is_at_end = matches!(read, Poll::Ready(Err(_)));
            if !is_at_end && self.error.is_none() {
                self.go_round();
            }
            if let Some(error) = self.error {
                return Poll::Ready(self.fail(error));
            }
            // Everything that was written in this turn leaves in one go.
            let pushed = self.io.push(cx);
            if is_at_end || matches!(pushed, Poll::Ready(Err(_))) {
                return Poll::Ready(Ended::Cut);
            }
            if self.streams.active() == 0 && self.shutdown.takes_no_streams() {
                return Poll::Ready(Ended::Done { unread: self.unread });
            }
            rounds += 1;
            let has_more = read.is_ready() || (is_overfull || self.streams.is_scheduled()) && pushed.is_ready();
            if has_more || !self.streams.ready().end() {
                if rounds < ROUNDS {
                    continue;
                }
                // Others have waited for long enough.
                self.streams.ready().end();
                cx.waker().wake_by_ref();
            }
            break;
        }
        if self.is_given_up(cx) {
            return Poll::Ready(Ended::Cut);
        }
        if self.streams.active() == 0 && self.connection.rests() {
            self.shrink();
        }
        Poll::Pending
    }

    /// Reads what has come. Ready: there may be more; the error: there will be none.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.shutdown.is_half_closed() {
            return Poll::Pending;
        }
        for _ in 0..READS {
            if self.error.is_some() || self.io.collected() > OVERFULL {
                break;
            }
            let io = Rc::clone(&self.io);
            let read = buffer_pool::with_space(|space| {
                let mut buffer = tokio::io::ReadBuf::new(space);
                std::task::ready!(io.poll_read(cx, &mut buffer)).map_err(|_gone| ())?;
                if buffer.filled().is_empty() {
                    self.half_close();
                    return Poll::Pending;
                }
                self.connection.received();
                if let Err(error) = self.receive(buffer.filled()) {
                    self.error = Some(error);
                }
                Poll::Ready(Ok(()))
            });
            match read {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The client has ended its own side alone, or has closed: it may wait for responses (RFC 8446 6.1). What it has begun
    /// to send will never be complete.
    pub(super) fn half_close(&mut self) {
        self.shutdown.half_close();
        self.block = None;
        self.frames.clear();
        let mut ended = 0_u128;
        for (slot, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.state.is_receiving()) {
            stream.cut(BodyError::Gone);
            stream.state.end_remote();
            ended |= 1 << slot;
        }
        self.streams.schedule_all(ended);
        // A client that has closed answers by a reset.
        frame::ping(0, &HELLO, &mut self.io.out());
    }

    /// Lets every stream that has something to do go on.
    pub(super) fn go_round(&mut self) {
        for _ in 0..ROUNDS {
            let mut slots = self.streams.round();
            if slots == 0 {
                break;
            }
            while slots != 0 {
                let slot = slots.trailing_zeros();
                slots &= slots - 1;
                self.visit(slot as usize);
            }
            if self.io.collected() >= FULL {
                break;
            }
        }
        if let Some(more) = self.flow.grant() {
            frame::window(0, more, &mut self.io.out());
        }
    }

    /// Tells the client that the connection ends.
    fn begin_shutdown(&mut self) {
        if self.connection.close_reason() == Some(CloseReason::Banned) {
            self.io.give_up_soon();
        }
        self.shutdown.announce(&mut self.io.out());
    }

    /// Looks at the deadlines. `true`: the client is gone, or too slow.
    fn is_given_up(&mut self, cx: &Context<'_>) -> bool {
        if self.shutdown.probes(cx) && self.io.is_broken() {
            return true;
        }
        if self.shutdown.is_overdue(cx) {
            self.finish_shutdown();
            cx.waker().wake_by_ref();
        }
        let timeouts = self.service.timeouts();
        let is_arriving = self.frames.is_within_head() || self.block.is_some();
        if self.head_deadline.is_over(is_arriving, self.frames_read, timeouts.headers, cx) {
            self.connection.shut(Close::Now, CloseReason::Slow);
            return true;
        }
        if self.streams.active() == 0 || self.shutdown.is_half_closed() {
            self.keep_alive.rest();
            return false;
        }
        match self.keep_alive.poll(self.frames_read, timeouts.idle, timeouts.headers, cx) {
            Liveness::Alive => false,
            Liveness::Ping => {
                frame::ping(0, &HELLO, &mut self.io.out());
                cx.waker().wake_by_ref();
                false
            }
            Liveness::Gone => true,
        }
    }
}
