//! Gives streams their turn: each that was woken goes on as far as it can, one frame at a time, so that no response keeps
//! another waiting.

use std::{task::Context, task::Poll, time::Duration};

use super::{
    frame::Reason,
    session::{FULL, Session},
    stream::{ResponseSender, Sent, Shared, Stream, StreamState, Work, write_interim},
};
use crate::proxy::{
    connection::{Close, CloseReason},
    service::{SendBody as _, Service},
};

/// How long a client that was answered early may go on sending what nobody reads.
const LINGER: Duration = Duration::from_secs(1);

impl<S: Service> Session<S> {
    /// Lets the stream at `slot` go on.
    pub(super) fn visit(&mut self, slot: usize) {
        // Taken out of its slot: what it does may be its end.
        let Some(mut stream) = self.streams.take(slot) else { return };
        if self.advance(&mut stream, slot) {
            self.streams.put_back(slot, stream);
        } else {
            self.streams.vacate(slot);
        }
    }

    /// `false`: the stream is over.
    fn advance(&mut self, stream: &mut Stream<S::ResponseBody>, slot: usize) -> bool {
        let Some(waker) = self.streams.waker(slot) else { return false };
        let mut cx = Context::from_waker(waker);
        stream.tell(&mut self.peer.resizes_table, &mut self.io.out());
        if let Some(work) = stream.state.work()
            && let Work::Responding(responding) = work
        {
            let response = responding.as_mut().poll(&mut cx);
            if !self.connection.interim.is_empty() {
                let heads = self.connection.interim.take();
                // A client that does not take what it was sent is told nothing more before its response.
                if self.io.collected() < FULL {
                    write_interim(&heads, stream.id, &mut self.peer.resizes_table, &mut self.io.out());
                }
            }
            let Poll::Ready(response) = response else { return true };
            self.unread |= response.body().leaves_unread();
            let resize = std::mem::take(&mut self.peer.resizes_table);
            match ResponseSender::begin(response, stream.id, resize, &mut self.io.out()) {
                Some(sender) => *work = Work::Sending(sender),
                None => stream.state.end_local(),
            }
            self.flood.sent();
        }
        if let Some(Work::Sending(sender)) = stream.state.work() {
            if self.io.collected() >= FULL {
                self.streams.schedule(slot);
                return true;
            }
            let mut out = self.io.out();
            let mut shared = Shared { out: &mut out, flow: &mut self.flow, flood: &mut self.flood };
            let sent = sender.send(stream.id, &mut stream.window, &mut shared, &mut cx);
            drop(out);
            match sent {
                Sent::Again => self.streams.schedule(slot),
                Sent::Window { is_shared: true } => self.flow.wait_for_window(slot),
                Sent::Starved => self.flow.wait_for_memory(slot),
                Sent::Waiting | Sent::Window { is_shared: false } => {}
                Sent::Over => stream.state.end_local(),
                // All responses wait for the same.
                Sent::TooSlow { is_shared: true } => self.connection.shut(Close::Now, CloseReason::Slow),
                Sent::TooSlow { is_shared: false } => {
                    // A page that has paused one download goes on with all its others.
                    self.service.too_slow("too slow with taking an answer");
                    self.release(stream);
                    let ends = !stream.state.is_receiving();
                    self.error = self.reset_for_fault(stream.id, ends, Reason::Cancel).err().or(self.error);
                    return false;
                }
                Sent::Broken => {
                    self.release(stream);
                    self.reset(stream.id, !stream.state.is_receiving(), Reason::Internal);
                    return false;
                }
            }
            self.streams.schedule_all(self.flow.with_memory());
        }
        match &mut stream.state {
            StreamState::Open(_) | StreamState::HalfClosedRemote(_) => true,
            StreamState::Closed => false,
            StreamState::HalfClosedLocal(linger) => {
                if stream.body.as_ref().is_some_and(|body| !body.is_abandoned()) {
                    return true;
                }
                // Told at once that it may stop, some clients never look at the response that they have got.
                let Some(waker) = self.streams.waker(slot) else { return false };
                if linger.poll(LINGER, &Context::from_waker(waker)).is_pending() {
                    return true;
                }
                // RFC 9113 8.1: it may stop sending what nobody reads.
                self.reset(stream.id, false, Reason::NoError);
                false
            }
        }
    }
}
