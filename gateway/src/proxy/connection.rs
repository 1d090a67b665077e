//! Decides when a connection has to go: what it is doing, since when, and who wants it closed.

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{min_rate::MinRate, timing::deadline};
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

/// How long an idle HTTP/2 client may take to see that we are leaving.
const GOODBYE: Duration = Duration::from_secs(1);

/// After how long a connection between requests is looked upon as silent: it keeps little memory from then on.
const SILENT: Duration = Duration::from_secs(2);

/// How a connection is to be closed. Only ever gets worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Close {
    /// It is not.
    No,
    /// Once the requests in flight are answered.
    Graceful,
    /// At once.
    Now,
}

/// Why a connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its source was banned.
    Banned,
    /// The worker stops.
    Drain,
    /// It sat idle.
    Idle,
    /// Its client certificate has to be judged anew.
    Reverify,
    /// The client was too slow: with the handshake, a head, or taking an answer.
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
    /// Nothing is to be said, and the client may still be sending. Whoever listens to it has a deadline.
    Lingering,
}

/// One live connection of a client.
pub(super) struct Connection {
    /// Who is at the other end, or whom the PROXY protocol names.
    pub(super) client: Cell<Client>,
    /// Its position in the configuration.
    pub(super) listener: usize,
    /// The TLS hello's fingerprint, once it has come.
    pub(super) ja4: OnceCell<Ja4>,
    /// What the TLS handshake said, once it is done.
    pub(super) secured: OnceCell<Box<Secured>>,
    /// Whether a request was answered before its body was read.
    pub(super) unread: Cell<bool>,
    /// Whether the request that is being answered has no body, and nothing came behind it.
    pub(super) waits: Cell<bool>,
    multiplexed: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    /// Whether it has been between requests for a while.
    rests: Cell<bool>,
    /// When the client stopped taking what we send; 0: it takes it.
    stalled: Cell<u64>,
    /// How fast it takes it.
    rate: Cell<MinRate>,
    /// When the client last took something that had been collected for it.
    taken: Cell<u64>,
    in_flight: Cell<u32>,
    /// Requests that there ever were.
    begun: Cell<u64>,
    /// Whether the trust that its client certificate was judged by has changed since.
    is_stale: Cell<bool>,
    close: Cell<Close>,
    /// Since when.
    closing: Cell<u64>,
    why: Cell<Option<Why>>,
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

    /// What the client still sends is waited for.
    pub(super) fn lingers(&self) {
        if self.phase.get() != Phase::Busy {
            self.enter(Phase::Lingering);
        }
    }

    /// It is not any more.
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

    /// The client takes what we send, so many bytes of it; or has to be waited for: `None`.
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

    /// The client takes what was collected for it.
    pub(super) fn takes(&self) {
        self.taken.set(deadline::now());
    }

    /// Whether a request may be on its way that the client would see fail, were the connection closed now: its first
    /// one, or in a drain any that has not begun. HTTP/2 can say which requests are still served.
    pub(super) fn may_be_asked(&self) -> bool {
        match self.why.get() {
            _ if self.multiplexed.get() => false,
            Some(Why::Drain) => self.in_flight.get() == 0,
            // Answered, though not served.
            Some(Why::Reverify) => self.begun.get() == 0,
            _ => false,
        }
    }

    /// Whether it ends once the request in flight is answered, if there is one.
    pub(super) fn goes(&self) -> bool {
        self.close.get() != Close::No && !self.may_be_asked()
    }

    /// Whether it goes because the worker does.
    fn leaves(&self) -> bool {
        self.close.get() == Close::Graceful && self.why.get() == Some(Why::Drain)
    }

    /// Whether it is between requests.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Idle && self.stalled.get() == 0
    }

    /// Whether it has been between requests for a while, and the client has taken all that it was sent.
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

    /// Closes what is overdue at `now`. `drain`: how long requests in flight may take on a connection that goes.
    pub(super) fn sweep(&self, now: u64, timeouts: &Timeouts, drain: Duration) {
        let mut rate = self.rate.get();
        let is_too_slow = rate.is_too_slow(now, timeouts.body, timeouts.least_rate);
        self.rate.set(rate);
        let over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_nanos();
        let since = self.since.get();
        // A slow client may still be taking the end of an answer of which nothing is left to be made.
        let quiet = |limit: Duration| {
            let last = since.max(self.closing.get()).max(self.taken.get());
            self.stalled.get() == 0 && over(last, limit)
        };
        let (close, why) = match self.phase.get() {
            // Whom its certificate stood for may be nobody any more.
            _ if self.is_stale.get() && over(self.closing.get(), drain) => (Close::Now, Why::Reverify),
            Phase::Handshake if over(since, timeouts.handshake) => (Close::Now, Why::Slow),
            Phase::Head if over(since, timeouts.headers) => (Close::Now, Why::Slow),
            Phase::Fresh if self.close.get() == Close::Graceful && over(since, NEXT_REQUEST) => {
                (Close::Now, Why::Drain)
            }
            Phase::Idle if self.leaves() && !self.multiplexed.get() && quiet(NEXT_REQUEST) => (Close::Now, Why::Drain),
            // Browsers connect ahead of what they may need: no offence.
            Phase::Fresh if over(since, timeouts.headers) => (Close::Now, Why::Idle),
            // An idle connection that does not take our goodbye.
            Phase::Idle if self.close.get() == Close::Graceful && quiet(GOODBYE) => (Close::Now, Why::Idle),
            Phase::Idle if over(since, timeouts.idle) => (Close::Graceful, Why::Idle),
            _ if is_too_slow => (Close::Now, Why::Slow),
            _ if self.stalled.get() != 0 && over(self.stalled.get(), timeouts.body) => (Close::Now, Why::Slow),
            Phase::Idle if !self.rests.get() && over(since, SILENT) => {
                self.rests.set(true);
                return self.wake();
            }
            _ => return,
        };
        self.shut(close, why);
    }

    /// Closes it, the first reason given standing.
    pub(super) fn shut(&self, close: Close, why: Why) {
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

    /// The trust that its client certificate was judged by has changed: what it has begun is served to its end, and
    /// nothing more.
    pub(super) fn reverify(&self) {
        self.is_stale.set(true);
        self.shut(Close::Graceful, Why::Reverify);
    }

    /// Whether its client certificate would have to be judged anew.
    pub(super) const fn is_stale(&self) -> bool {
        self.is_stale.get()
    }

    /// Has whoever drives it look at it again.
    pub(super) fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn why(&self) -> Option<Why> {
        self.why.get()
    }

    /// How it is to be closed; whoever asks is woken when that changes.
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
            // Whoever was accepted before a drain is still served; a banned source is not.
            let over = match self.closing(cx) {
                Close::No => false,
                Close::Graceful => self.why() == Some(Why::Banned),
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
        connection.shut(Close::Graceful, Why::Drain);
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
