//! One live connection of a client: what it is doing, since when, and whether and why it is to be closed.

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{min_rate::MinRate, timing::deadline, write_batching::WriteTurn};
use crate::{
    client::Client,
    settings::timeouts::Timeouts,
    tls::{Secured, hello::Ja4},
};

pub(super) mod accept;
mod handshake;
pub(super) mod proxy_protocol;

/// How long a drain leaves a connection for its next request, which may be on its way.
const NEXT_REQUEST: Duration = Duration::from_millis(250);

/// How long an idle HTTP/2 client may take to read our GOAWAY.
const GOODBYE: Duration = Duration::from_secs(1);

/// After how long an idle connection is treated as silent: from then on it keeps little memory.
const SILENT: Duration = Duration::from_secs(2);

/// How a connection is to be closed. It only ever gets more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Close {
    /// Not at all.
    No,
    /// When the requests in flight are answered.
    Graceful,
    /// At once.
    Now,
}

/// Why a connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// Its source was banned.
    Banned,
    /// The worker stops.
    Drain,
    /// It was idle for too long.
    Idle,
    /// Its client certificate has to be verified anew.
    Reverify,
    /// The client was too slow: with the handshake, with a head, or with taking a response.
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// Nothing has come yet.
    Fresh,
    /// A head is arriving.
    Head,
    /// Between requests.
    Idle,
    /// A request is in flight.
    Busy,
    /// We send nothing more, and the client may still be sending. The code that reads from it has a deadline.
    Lingering,
}

/// One live connection of a client.
pub(super) struct Connection {
    /// The client at the other end, or the one that the PROXY protocol names.
    pub(super) client: Cell<Client>,
    /// The listener's position in the configuration.
    pub(super) listener: usize,
    /// The fingerprint of the TLS hello, once that has come. It is kept here, so that a handshake that is given up is
    /// logged with it.
    pub(super) ja4: OnceCell<Ja4>,
    /// The outcome of the TLS handshake, once it is done.
    pub(super) secured: OnceCell<Box<Secured>>,
    /// Whether a request was answered before its body was read.
    pub(super) unread: Cell<bool>,
    /// Whether its task waits for nothing but its turn to write.
    pub(super) write_turn: WriteTurn,
    /// Whether the request that is being answered has no body, and nothing came behind it.
    pub(super) waits: Cell<bool>,
    multiplexed: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    /// Whether it has been idle for a while.
    rests: Cell<bool>,
    /// When the client stopped taking what we send; 0: it has not.
    stalled: Cell<u64>,
    /// How fast the client takes what we send.
    rate: Cell<MinRate>,
    /// When the client last took something of the write buffer.
    taken: Cell<u64>,
    in_flight: Cell<u32>,
    /// How many requests have begun on it.
    begun: Cell<u64>,
    /// Whether the authorities or lists that its client certificate was verified by have changed since.
    is_stale: Cell<bool>,
    close: Cell<Close>,
    /// Since when it is to be closed.
    closing: Cell<u64>,
    why: Cell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    pub(super) fn new(client: Client, listener: usize) -> Self {
        Self {
            client: Cell::new(client),
            listener,
            ja4: OnceCell::new(),
            secured: OnceCell::new(),
            unread: Cell::new(false),
            write_turn: WriteTurn::default(),
            waits: Cell::new(false),
            multiplexed: Cell::new(false),
            phase: Cell::new(Phase::Handshake),
            since: Cell::new(deadline::now()),
            rests: Cell::new(false),
            stalled: Cell::new(0),
            rate: Cell::default(),
            taken: Cell::new(0),
            in_flight: Cell::new(0),
            begun: Cell::new(0),
            is_stale: Cell::new(false),
            close: Cell::new(Close::No),
            closing: Cell::new(0),
            why: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// The handshake is done, or there is none.
    pub(super) fn established(&self, multiplexed: bool) {
        self.multiplexed.set(multiplexed);
        self.enter(if multiplexed { Phase::Idle } else { Phase::Fresh });
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) && !self.multiplexed.get() {
            self.enter(Phase::Head);
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.begun.set(self.begun.get() + 1);
        self.phase.set(Phase::Busy);
        self.rests.set(false);
    }

    /// A request is answered, to the last byte or not.
    pub(super) fn end(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// We wait for what the client still sends.
    pub(super) fn lingers(&self) {
        if self.phase.get() != Phase::Busy {
            self.enter(Phase::Lingering);
        }
    }

    /// We wait for that no more.
    pub(super) fn rests_again(&self) {
        if self.phase.get() == Phase::Lingering {
            self.enter(Phase::Idle);
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(deadline::now());
        self.rests.set(false);
    }

    /// The client takes `taken` bytes of what we send. `None`: it takes nothing, and we wait.
    pub(super) fn writing(&self, taken: Option<usize>) {
        match (taken, self.stalled.get()) {
            (None, 0) => {
                self.stalled.set(deadline::now());
                self.rate.update(|mut rate| {
                    rate.waits(deadline::now());
                    rate
                });
            }
            (Some(taken), since) => {
                if since != 0 {
                    self.stalled.set(0);
                }
                self.rate.update(|mut rate| {
                    rate.moved(u64::try_from(taken).unwrap_or(u64::MAX), deadline::now());
                    rate
                });
            }
            _ => {}
        }
    }

    /// The client takes something of the write buffer.
    pub(super) fn takes(&self) {
        self.taken.set(deadline::now());
    }

    /// Whether a request may be on its way that would fail if the connection were closed now: the first one, or in a
    /// drain any that has not begun. HTTP/2 can tell the client which requests are still served.
    pub(super) fn may_be_asked(&self) -> bool {
        match self.why.get() {
            _ if self.multiplexed.get() => false,
            Some(CloseReason::Drain) => self.in_flight.get() == 0,
            // It is answered, though not served.
            Some(CloseReason::Reverify) => self.begun.get() == 0,
            _ => false,
        }
    }

    /// Whether it ends when the request in flight, if any, is answered.
    pub(super) fn goes(&self) -> bool {
        self.close.get() != Close::No && !self.may_be_asked()
    }

    /// Whether it is closed because the worker drains.
    fn leaves(&self) -> bool {
        self.close.get() == Close::Graceful && self.why.get() == Some(CloseReason::Drain)
    }

    /// Whether it is between requests.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle && self.stalled.get() == 0
    }

    /// Whether it has been idle for a while, and the client has taken all that it was sent.
    pub(super) const fn rests(&self) -> bool {
        self.rests.get() && self.stalled.get() == 0
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secured.get().is_some() { "https" } else { "http" }
    }

    /// The TLS hello's fingerprint.
    pub(super) fn ja4(&self) -> Option<&str> {
        std::str::from_utf8(self.ja4.get()?).ok()
    }

    /// Whether it was asked for a client certificate.
    pub(super) fn is_certified(&self) -> bool {
        self.secured.get().is_some_and(|secured| secured.asked.is_some())
    }

    /// Closes the connection if it is overdue at `now`. `drain`: how long requests in flight may take while it closes.
    pub(super) fn sweep(&self, now: u64, timeouts: &Timeouts, drain: Duration) {
        let mut rate = self.rate.get();
        let is_too_slow = rate.is_too_slow(now, timeouts.body, timeouts.least_rate);
        self.rate.set(rate);
        let over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_nanos();
        let since = self.since.get();
        // A slow client may still be taking the end of a response that is finished on our side.
        let quiet = |limit: Duration| {
            let last = since.max(self.closing.get()).max(self.taken.get());
            self.stalled.get() == 0 && over(last, limit)
        };
        let (close, why) = match self.phase.get() {
            // The certificate may be revoked by now.
            _ if self.is_stale.get() && over(self.closing.get(), drain) => (Close::Now, CloseReason::Reverify),
            Phase::Handshake if over(since, timeouts.handshake) => (Close::Now, CloseReason::Slow),
            Phase::Head if over(since, timeouts.headers) => (Close::Now, CloseReason::Slow),
            Phase::Fresh if self.close.get() == Close::Graceful && over(since, NEXT_REQUEST) => {
                (Close::Now, CloseReason::Drain)
            }
            Phase::Idle if self.leaves() && !self.multiplexed.get() && quiet(NEXT_REQUEST) => {
                (Close::Now, CloseReason::Drain)
            }
            // Browsers open connections in advance: this is no offence.
            Phase::Fresh if over(since, timeouts.headers) => (Close::Now, CloseReason::Idle),
            // An idle client that does not read our goodbye.
            Phase::Idle if self.close.get() == Close::Graceful && quiet(GOODBYE) => (Close::Now, CloseReason::Idle),
            Phase::Idle if over(since, timeouts.idle) => (Close::Graceful, CloseReason::Idle),
            _ if is_too_slow => (Close::Now, CloseReason::Slow),
            _ if self.stalled.get() != 0 && over(self.stalled.get(), timeouts.body) => (Close::Now, CloseReason::Slow),
            Phase::Idle if !self.rests.get() && over(since, SILENT) => {
                self.rests.set(true);
                return self.wake();
            }
            _ => return,
        };
        self.shut(close, why);
    }

    /// Closes it. The first reason that is given stays.
    pub(super) fn shut(&self, close: Close, why: CloseReason) {
        if self.close.get() >= close {
            return;
        }
        self.close.set(close);
        self.closing.set(deadline::now());
        if self.why.get().is_none() {
            self.why.set(Some(why));
        }
        self.wake();
    }

    /// The authorities or lists that its client certificate was verified by have changed: requests that have begun are
    /// served, and no others.
    pub(super) fn reverify(&self) {
        self.is_stale.set(true);
        self.shut(Close::Graceful, CloseReason::Reverify);
    }

    /// Whether its client certificate would have to be verified anew.
    pub(super) const fn is_stale(&self) -> bool {
        self.is_stale.get()
    }

    /// Wakes the task that drives it.
    pub(super) fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.why.get()
    }

    /// How it is to be closed. The task that asks is woken when that changes.
    pub(super) fn closing(&self, cx: &Context<'_>) -> Close {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.close.get()
    }

    /// Runs `future` until it is done. `None`: the connection is to be closed at once.
    pub(super) async fn unless_closed<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            // A client that was accepted before a drain is still served; a banned one is not.
            let over = match self.closing(cx) {
                Close::No => false,
                Close::Graceful => self.close_reason() == Some(CloseReason::Banned),
                Close::Now => true,
            };
            if over {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Trusted, settings::proxy::Trust};

    const TIMEOUTS: Timeouts = {
        let long = Duration::from_secs(60);
        Timeouts {
            handshake: long,
            headers: long,
            idle: long,
            body: long,
            least_rate: 0,
            connect: long,
            response: long,
            tunnel_idle: long,
            tunnel: long,
        }
    };

    /// What becomes of a connection in a drain, some milliseconds after it began.
    #[track_caller]
    fn check(multiplexed: bool, prepare: impl FnOnce(&Connection), after: u64, expect: Close) {
        let trusted = Trusted::new(&Trust::default(), 64);
        let connection = Connection::new(trusted.peer("192.0.2.1:1".parse().unwrap()), 0);
        connection.established(multiplexed);
        prepare(&connection);
        connection.shut(Close::Graceful, CloseReason::Drain);
        let now = deadline::now() + after * 1_000_000;
        connection.sweep(now, &TIMEOUTS, TIMEOUTS.idle);
        assert_eq!(connection.closing(&Context::from_waker(Waker::noop())), expect, "{after} ms");
    }

    fn served(connection: &Connection) {
        connection.begin();
        connection.end();
    }

    #[test]
    fn a_drain_ends_what_is_idle_and_nothing_else() {
        let idle = |connection: &Connection| served(connection);
        check(false, |_new| {}, 100, Close::Graceful);
        check(false, |_new| {}, 300, Close::Now);
        check(false, idle, 100, Close::Graceful);
        check(false, idle, 300, Close::Now);
        check(true, idle, 300, Close::Graceful);
        check(true, idle, 1_100, Close::Now);
        // A request that has begun to arrive, and one that is in flight.
        check(false, |connection| (served(connection), connection.received()).1, 30_000, Close::Graceful);
        check(false, Connection::begin, 50_000, Close::Graceful);
        // The end of an answer that a slow client is still taking.
        check(false, |connection| (served(connection), connection.writing(None)).1, 30_000, Close::Graceful);
        check(true, |connection| (served(connection), connection.writing(None)).1, 30_000, Close::Graceful);
    }
}
