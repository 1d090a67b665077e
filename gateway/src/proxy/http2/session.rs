//! Decides what a connection does in one turn: it reads what has come, lets every stream that has something to do go
//! on, and sends what that came to in one write.

use std::{
    cell::Cell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Ended,
    body_buffer::{CONNECTION_WINDOW, STREAM_WINDOW},
    flood::Flood,
    frame::{self, PREFACE, Reason},
    ready::{Ready, SLOTS},
    recv::Block,
    stream::Stream,
};
use crate::proxy::{
    body::BodyError,
    buffer_pool,
    client_io::ClientIo,
    connection::{Close, Connection, Why},
    hpack::Decoder,
    timing::deadline::{self, Alarm},
    worker::Worker,
};

/// How often a turn reads, and how often it goes round its streams, before others have their turn.
const READS: usize = 8;
const ROUNDS: usize = 16;

/// What is collected before the client has to take some of it, in bytes.
pub(super) const FULL: usize = 64 * 1_024;

/// What is collected before nothing more is read: replies to what comes need room as well, in bytes.
const OVERFULL: usize = FULL + 32 * 1_024;

/// The window that a client has before it says otherwise (RFC 9113 6.9.2), in bytes.
const FIRST_WINDOW: i64 = 65_535;

/// How many streams that we have reset are remembered: what was on its way to them harms nobody.
const REMEMBERED: usize = 64;

/// What the PING says that is sent along with a goodbye, and the one that asks whether the client is there.
pub(super) const GOODBYE: [u8; 8] = *b"goodbye!";
const HELLO: [u8; 8] = *b"hello?\0\0";

/// How often it is asked whether a client is there that sends no more.
const LOOK: Duration = Duration::from_millis(250);

/// How long a client may take to answer the first.
const PARTING: Duration = Duration::from_secs(1);

/// How a connection goes (RFC 9113 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told to open no more streams, and may have before it heard that.
    Told,
    /// No stream after this one is looked at.
    After(u32),
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) Reason, pub(super) &'static str);

/// A connection of HTTP/2.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) connection: Rc<Connection>,
    pub(super) io: Rc<ClientIo>,
    /// How much of the client's preface has come, and whether its settings have.
    pub(super) greeted: usize,
    pub(super) is_settled: bool,
    /// The beginning of a frame.
    pub(super) partial: Vec<u8>,
    /// Fields whose last frame has not come.
    pub(super) block: Option<Block>,
    /// How many frames have come, those of one block as one.
    pub(super) whole: u64,
    pub(super) decoder: Decoder,
    pub(super) flood: Flood,
    /// The streams there are, each at its place, and their numbers; 0: the place is free.
    pub(super) streams: Vec<Option<Box<Stream>>>,
    pub(super) numbers: Vec<u32>,
    pub(super) wakers: Vec<Waker>,
    pub(super) active: usize,
    /// The last that the client opened.
    pub(super) last: u32,
    /// Some that we have reset.
    pub(super) forgotten: VecDeque<u32>,
    /// What the client may send in all, and what of that was taken and may be sent again.
    pub(super) receivable: u32,
    pub(super) freed: Rc<Cell<u32>>,
    /// What the client takes in all, and at first of each stream.
    pub(super) window: i64,
    pub(super) first_window: i64,
    /// Whether the client is still to be told that our table is empty.
    pub(super) resize: bool,
    pub(super) ready: Arc<Ready>,
    /// Streams that have something to send, once others have had their turn or there is room; once the connection's
    /// window opens; and once less is held.
    pub(super) later: u128,
    pub(super) shut: u128,
    pub(super) starved: u128,
    /// What is held of all answers, in bytes.
    pub(super) held: usize,
    pub(super) leaving: Leaving,
    /// The client opens no more streams.
    pub(super) is_left: bool,
    /// It has sent all that it will ever send, and may still wait for answers; when it is asked next whether it is there.
    is_half: bool,
    look: Alarm,
    pub(super) fault: Option<Fault>,
    /// When the client has had the time to say that it heard of our leaving.
    parting: Alarm,
    /// What is too long in coming; as of which frame.
    late: (Alarm, u64),
    /// Asks a client whose requests take long whether it is there; as of which frame, and whether it was asked.
    quiet: (Alarm, u64, bool),
}

impl Session {
    pub(super) fn new(worker: &Rc<Worker>, connection: &Rc<Connection>, io: &Rc<ClientIo>) -> Self {
        let limit = worker.shared.snapshot.settings.head.bytes;
        let ours = [
            (frame::MAX_CONCURRENT_STREAMS, u32::try_from(SLOTS).unwrap_or(u32::MAX)),
            (frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frame::MAX_HEADER_LIST_SIZE, u32::try_from(limit).unwrap_or(u32::MAX)),
        ];
        let mut out = io.out();
        frame::settings(&ours, &mut out);
        let more = CONNECTION_WINDOW.saturating_sub(u32::try_from(FIRST_WINDOW).unwrap_or(0));
        frame::window(0, more, &mut out);
        drop(out);
        Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            io: Rc::clone(io),
            greeted: 0,
            is_settled: false,
            partial: Vec::new(),
            block: None,
            whole: 0,
            decoder: Decoder::new(),
            flood: Flood::default(),
            streams: Vec::new(),
            numbers: Vec::new(),
            wakers: Vec::new(),
            active: 0,
            last: 0,
            forgotten: VecDeque::new(),
            receivable: CONNECTION_WINDOW,
            freed: Rc::default(),
            window: FIRST_WINDOW,
            first_window: FIRST_WINDOW,
            resize: false,
            ready: Arc::default(),
            later: 0,
            shut: 0,
            starved: 0,
            held: 0,
            leaving: Leaving::No,
            is_left: false,
            is_half: false,
            look: Alarm::default(),
            fault: None,
            parting: Alarm::default(),
            late: (Alarm::default(), 0),
            quiet: (Alarm::default(), 0, false),
        }
    }

    /// One turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.connection.closing(cx) {
            Close::Now => return Poll::Ready(Ended::Cut),
            Close::Graceful if self.leaving == Leaving::No => self.leave(),
            Close::Graceful | Close::No => {}
        }
        self.ready.begin(cx.waker());
        let mut rounds = 0;
        loop {
            // What comes may have to be replied to: first the client has to take some.
            let is_overfull = self.io.collected() > OVERFULL;
            let read = if is_overfull { Poll::Pending } else { self.read(cx) };
            let is_at_end = matches!(read, Poll::Ready(Err(_)));
            if !is_at_end && self.fault.is_none() {
                self.go_round();
            }
            if let Some(Fault(reason, detail)) = self.fault {
                return Poll::Ready(self.fail(reason, detail));
            }
            // Everything that was written in this turn leaves in one go.
            let pushed = self.io.push(cx);
            if is_at_end || matches!(pushed, Poll::Ready(Err(_))) {
                return Poll::Ready(Ended::Cut);
            }
            if self.is_over() {
                return Poll::Ready(Ended::Done);
            }
            rounds += 1;
            let has_more = read.is_ready() || (is_overfull || self.later != 0) && pushed.is_ready();
            if has_more || !self.ready.end() {
                if rounds < ROUNDS {
                    continue;
                }
                // Others have waited for long enough.
                self.ready.end();
                cx.waker().wake_by_ref();
            }
            break;
        }
        if self.look_at_the_clock(cx) {
            return Poll::Ready(Ended::Cut);
        }
        if self.active == 0 && self.connection.rests() {
            self.shrink();
        }
        Poll::Pending
    }

    /// Reads what has come. Ready: there may be more; the error: there will be none.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.is_half {
            return Poll::Pending;
        }
        for _ in 0..READS {
            if self.fault.is_some() || self.io.collected() > OVERFULL {
                break;
            }
            let io = Rc::clone(&self.io);
            let read = buffer_pool::with_space(|space| {
                let mut buffer = tokio::io::ReadBuf::new(space);
                std::task::ready!(io.poll_read(cx, &mut buffer)).map_err(|_gone| ())?;
                if buffer.filled().is_empty() {
                    self.end();
                    return Poll::Pending;
                }
                self.connection.received();
                if let Err(fault) = self.take(buffer.filled()) {
                    self.fault = Some(fault);
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

    /// The client has ended its own side alone, or has closed: it may wait for answers (RFC 8446 6.1). What it has begun
    /// to send will never be whole.
    fn end(&mut self) {
        (self.is_half, self.is_left, self.block) = (true, true, None);
        self.partial.clear();
        for (slot, stream) in self.streams.iter_mut().enumerate() {
            let Some(stream) = stream.as_mut().filter(|stream| !stream.is_ended) else { continue };
            stream.cut(BodyError::Gone);
            stream.is_ended = true;
            self.later |= 1 << slot;
        }
        // Whoever has closed answers by a reset.
        frame::ping(0, &HELLO, &mut self.io.out());
    }

    /// Lets every stream that has something to do go on.
    fn go_round(&mut self) {
        for _ in 0..ROUNDS {
            let mut turn = self.ready.take() | std::mem::take(&mut self.later);
            if turn == 0 {
                break;
            }
            while turn != 0 {
                let slot = turn.trailing_zeros();
                turn &= turn - 1;
                self.visit(slot as usize);
            }
            if self.io.collected() >= FULL {
                break;
            }
        }
        let freed = self.freed.get();
        if freed >= CONNECTION_WINDOW / 2 {
            self.freed.set(0);
            self.receivable = self.receivable.saturating_add(freed);
            frame::window(0, freed, &mut self.io.out());
        }
    }

    /// Tells the client that we are leaving.
    fn leave(&mut self) {
        if self.connection.why() == Some(Why::Banned) {
            self.io.give_up_soon();
        }
        let mut out = self.io.out();
        frame::goaway(frame::MOST, Reason::NoError, &mut out);
        // What it sent before it heard that comes before its answer to this.
        frame::ping(0, &GOODBYE, &mut out);
        drop(out);
        self.leaving = Leaving::Told;
    }

    /// Looks at no more streams than there are.
    pub(super) fn part(&mut self) {
        self.parting.rest();
        frame::goaway(self.last, Reason::NoError, &mut self.io.out());
        self.leaving = Leaving::After(self.last);
    }

    /// Whether nothing is left to be done.
    fn is_over(&self) -> bool {
        self.active == 0 && (self.is_left || matches!(self.leaving, Leaving::After(_)))
    }

    /// Tells the client why the connection cannot go on.
    fn fail(&self, reason: Reason, detail: &'static str) -> Ended {
        frame::goaway(self.last, reason, &mut self.io.out());
        match reason {
            Reason::NoError => Ended::Done,
            Reason::EnhanceYourCalm => Ended::Flood(detail),
            _ => Ended::Broken(detail),
        }
    }

    /// Whether something took too long; and asks who has been silent for long whether he is there.
    fn look_at_the_clock(&mut self, cx: &Context<'_>) -> bool {
        if self.is_half && self.look.poll(LOOK, cx).is_ready() {
            self.look.rest();
            let _armed = self.look.poll(LOOK, cx);
            if self.io.is_broken() {
                return true;
            }
        }
        // Whoever does not answer the PING has heard of it all the same.
        if self.leaving == Leaving::Told && self.parting.poll(PARTING, cx).is_ready() {
            self.part();
            cx.waker().wake_by_ref();
        }
        let timeouts = &self.worker.shared.snapshot.settings.timeouts;
        // Bodies have deadlines of their own.
        let is_data = self.partial.get(3).is_some_and(|&kind| kind == frame::DATA);
        let is_partial = !self.partial.is_empty() && !is_data;
        let is_preface = (1..PREFACE.len()).contains(&self.greeted);
        let is_coming = is_partial || is_preface || self.block.is_some();
        let (late, since) = &mut self.late;
        if !is_coming || std::mem::replace(since, self.whole) != self.whole {
            late.rest();
        }
        if is_coming && late.poll(timeouts.headers, cx).is_ready() {
            self.connection.shut(Close::Now, Why::Slow);
            return true;
        }
        let (quiet, since, is_asked) = &mut self.quiet;
        if self.active == 0 || self.is_half {
            quiet.rest();
            return false;
        }
        if *since != self.whole && *is_asked {
            quiet.rest();
            *is_asked = false;
        }
        let patience = if *is_asked { timeouts.headers } else { timeouts.idle };
        if quiet.poll(patience, cx).is_pending() {
            return false;
        }
        quiet.rest();
        if std::mem::replace(since, self.whole) != self.whole {
            // It was heard of in the meantime: another while begins.
            *is_asked = false;
            let _armed = quiet.poll(timeouts.idle, cx);
            return false;
        }
        if *is_asked {
            return true;
        }
        *is_asked = true;
        frame::ping(0, &HELLO, &mut self.io.out());
        cx.waker().wake_by_ref();
        false
    }

    /// Gives back what a silent connection needs no more.
    fn shrink(&mut self) {
        self.io.shrink();
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        (self.streams, self.numbers, self.wakers) = (Vec::new(), Vec::new(), Vec::new());
    }

    /// Remembers a stream that was reset.
    pub(super) fn forget(&mut self, stream: u32) {
        if self.forgotten.len() >= REMEMBERED {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(stream);
    }

    /// Resets a stream for a fault of the client's.
    pub(super) fn reproach(&mut self, stream: u32, reason: Reason) -> Result<(), Fault> {
        frame::reset(stream, reason, &mut self.io.out());
        self.forget(stream);
        if self.flood.fault(deadline::now()) {
            Ok(())
        } else {
            Err(Fault(Reason::EnhanceYourCalm, "streams that have to be reset"))
        }
    }
}
