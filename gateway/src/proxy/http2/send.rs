//! Decides how streams get their turn: each that was woken goes on as far as it can, one frame at a time, so that no
//! answer keeps another waiting.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::Response;

use super::{
    frame::{self, Reason},
    session::{FULL, Session},
    stream::{HELD, Outlet, Sending, Sent, Stream, Work},
};
use crate::{
    proxy::{
        body::ResponseBody,
        connection::{Close, Why},
        request::exchange::Record,
    },
    signal::Signal,
};

/// How long a client that was answered early may go on sending what nobody reads.
const LINGER: Duration = Duration::from_secs(1);

impl Session {
    /// Lets the stream at `slot` go on.
    pub(super) fn visit(&mut self, slot: usize) {
        // Taken out of its place: what it does may be its end.
        let Some(mut stream) = self.streams.get_mut(slot).and_then(Option::take) else { return };
        if self.advance(&mut stream, slot) {
            if let Some(place) = self.streams.get_mut(slot) {
                *place = Some(stream);
            }
        } else {
            self.vacate(slot);
        }
    }

    /// `false`: the stream is over.
    fn advance(&mut self, stream: &mut Stream, slot: usize) -> bool {
        let Some(waker) = self.wakers.get(slot) else { return false };
        let mut cx = Context::from_waker(waker);
        stream.tell(&mut self.io.out());
        if let Work::Answering(answering) = &mut stream.work {
            let Ok(answer) = match answering.as_mut().poll(&mut cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => return true,
            };
            stream.work = begin(answer, stream.id, &mut self.resize, &mut self.io.out());
        }
        if let Work::Sending(sending) = &mut stream.work {
            if self.io.collected() >= FULL {
                self.later |= 1 << slot;
                return true;
            }
            let mut out = self.io.out();
            let mut outlet =
                Outlet { out: &mut out, window: &mut self.window, held: &mut self.held, flood: &mut self.flood };
            let sent = sending.send(stream.id, &mut stream.window, &mut outlet, &mut cx);
            drop(out);
            match sent {
                Sent::Again => self.later |= 1 << slot,
                Sent::Window { is_shared: true } => self.shut |= 1 << slot,
                Sent::Starved => self.starved |= 1 << slot,
                Sent::Waiting | Sent::Window { is_shared: false } => {}
                Sent::Over => stream.work = Work::Sent,
                // All answers wait for the same.
                Sent::TooSlow { is_shared: true } => self.connection.shut(Close::Now, Why::Slow),
                Sent::TooSlow { is_shared: false } => {
                    // A page that has paused one download goes on with all its others.
                    let what = "too slow with taking an answer";
                    Record::observe(&self.worker, &self.connection, Signal::SlowClient, what);
                    self.let_go(stream);
                    if let Err(fault) = self.reproach(stream.id, Reason::Cancel) {
                        self.fault = Some(fault);
                    }
                    return false;
                }
                Sent::Broken => {
                    self.let_go(stream);
                    frame::reset(stream.id, Reason::Internal, &mut self.io.out());
                    self.forget(stream.id);
                    return false;
                }
            }
            self.feed();
        }
        if !matches!(stream.work, Work::Sent) {
            return true;
        }
        if stream.is_ended {
            return false;
        }
        if stream.is_abandoned() {
            // Told at once that it may stop, some clients never look at the answer that they have got.
            let Some(waker) = self.wakers.get(slot) else { return false };
            if stream.linger.poll(LINGER, &Context::from_waker(waker)).is_pending() {
                return true;
            }
            // RFC 9113 8.1: it may stop sending what nobody reads.
            frame::reset(stream.id, Reason::NoError, &mut self.io.out());
            self.forget(stream.id);
            return false;
        }
        true
    }

    /// Begins a stream with an answer that is there already.
    pub(super) fn answer(&mut self, answer: Response<ResponseBody>, stream: u32) -> Work {
        begin(answer, stream, &mut self.resize, &mut self.io.out())
    }

    /// What a stream holds is held no more.
    pub(super) fn let_go(&mut self, stream: &Stream) {
        if let Work::Sending(sending) = &stream.work {
            self.held = self.held.saturating_sub(sending.held());
        }
        self.feed();
    }

    /// Lets those go on for which too much was held.
    fn feed(&mut self) {
        if self.held < HELD {
            self.later |= std::mem::take(&mut self.starved);
        }
    }

    /// Frees the place of a stream that is over.
    pub(super) fn vacate(&mut self, slot: usize) {
        if let Some(number) = self.numbers.get_mut(slot).filter(|number| **number != 0) {
            *number = 0;
            self.active -= 1;
        }
    }
}

/// Writes the head of an answer.
fn begin(answer: Response<ResponseBody>, stream: u32, resize: &mut bool, out: &mut Vec<u8>) -> Work {
    Sending::begin(answer, stream, std::mem::take(resize), out).map_or(Work::Sent, Work::Sending)
}
