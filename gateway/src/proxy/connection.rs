//! One live connection of a client: what it is doing, since when, and whether and why it is to be closed.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use self::{
    activity::{Activity, Phase},
    closing::Closing,
    fast_lane::FastLane,
    plan::ProvedPlan,
    write_progress::WriteProgress,
};
use super::{
    interim::InterimQueue,
    timing::{deadline::has_passed, write_batching::WriteBatch},
};
use crate::{
    client::Client,
    policy::{admission::Class, limit::connection::ConnectionPermit},
    settings::timeouts::Timeouts,
    tls::{Secured, hello::Ja4},
};

pub(super) mod accept;
pub(super) mod client_io;
pub(super) mod fast_lane;
mod handshake;
pub(super) mod plan;
pub(super) mod proxy_protocol;

mod activity;
mod closing;
mod write_progress;

pub(super) use self::closing::{Close, CloseReason};

/// How long a drain leaves a connection for its next request, which may be on its way.
const NEXT_REQUEST: Duration = Duration::from_millis(250);

/// How long an idle HTTP/2 client may take to read our GOAWAY.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a client whose head came too late has to be told so.
const LATE_HEAD: Duration = Duration::from_secs(1);

/// After how long an idle connection is treated as silent: from then on it keeps little memory.
const SILENT: Duration = Duration::from_secs(2);

/// One live connection of a client.
///
/// Its own task drives it. Others reach it through the worker's list of connections: the tick, which closes what is overdue,
/// bans, a reload, and every request in flight on it. So what it knows is in cells, not in the task. `ja4` and `secured` are
/// written once and read by each request and its log line, which may outlast the task. `shook` is taken by the first
/// request. `write_batch` and `recheck` are signals between the task and those others. What only the next step needs is
/// returned instead: the tunnel, how a protocol ended, whether the client may still be sending.
pub(super) struct Connection {
    /// The client at the other end, or the one that the PROXY protocol names.
    pub(super) client: Cell<Client>,
    /// The listener's address, as configured.
    pub(super) listener: SocketAddr,
    /// The fingerprint of the TLS hello, once that has come.
    ja4: OnceCell<Ja4>,
    /// The outcome of the TLS handshake, once it is done.
    pub(super) secured: OnceCell<Box<Secured>>,
    /// How long the TLS handshake took, in nanoseconds; 0: that was not measured.
    pub(super) shook: Cell<u64>,
    /// Whether its task waits for nothing but its turn to write.
    pub(super) write_batch: WriteBatch,
    /// What the client is to be sent before the response that is being made.
    pub(super) interim: InterimQueue,
    /// Whether requests in flight are to be looked at: what their clients proved themselves by may be revoked.
    recheck: Cell<bool>,
    /// Whether the kernel serves it before unknown clients.
    pub(super) fast_lane: FastLane,
    /// What plan the client has, where that matters to the kernel.
    pub(super) plan: ProvedPlan,
    /// The highest class of the requests that came by it so far.
    class: Cell<Option<Class>>,
    /// What it takes of limits on connections.
    held: RefCell<ConnectionPermit>,
    /// Whether the client was to be told that the head of its request takes too long.
    is_head_late: Cell<bool>,
    activity: Activity,
    writes: WriteProgress,
    closing: Closing,
}

impl Connection {
    pub(super) fn new(client: Client, listener: SocketAddr) -> Self {
        Self {
            client: Cell::new(client),
            listener,
            ja4: OnceCell::new(),
            secured: OnceCell::new(),
            shook: Cell::new(0),
            write_batch: WriteBatch::default(),
            interim: InterimQueue::default(),
            recheck: Cell::new(false),
            fast_lane: FastLane::default(),
            plan: ProvedPlan::default(),
            class: Cell::new(None),
            held: RefCell::default(),
            is_head_late: Cell::new(false),
            activity: Activity::new(),
            writes: WriteProgress::default(),
            closing: Closing::new(),
        }
    }

    /// It takes this of limits on connections, until it is gone.
    pub(super) fn hold(&self, held: ConnectionPermit) {
        drop(self.held.replace(held));
    }

    /// A request of this class came by it, of a client that `is_known`.
    pub(super) fn note_class(&self, class: Class, is_known: bool) {
        if is_known {
            self.class.set(Some(self.class.get().map_or(class, |before| before.min(class))));
        }
    }

    /// Whether a client proved on it that it is of the highest class.
    pub(super) fn is_highest(&self) -> bool {
        self.class.get() == Some(Class::default())
    }

    /// Whether a client proved on it who it is.
    pub(super) const fn is_known(&self) -> bool {
        self.class.get().is_some()
    }

    /// The TLS hello has come: its fingerprint, where that is wanted.
    fn note_ja4(&self, ja4: Option<Ja4>) {
        if let Some(ja4) = ja4 {
            self.ja4.set(ja4).unwrap_or_default();
        }
    }

    /// The handshake is done, or there is none.
    pub(super) fn established(&self, multiplexed: bool) {
        self.activity.established(multiplexed);
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        self.activity.received();
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.is_head_late.set(false);
        self.activity.begin();
    }

    /// Whether the head that is arriving takes too long: the client is told so if any of it has come.
    pub(super) const fn is_head_late(&self) -> bool {
        self.is_head_late.get()
    }

    /// A request is answered, to the last byte or not.
    pub(super) fn end(&self) {
        self.activity.end();
    }

    /// We wait for what the client still sends.
    pub(super) fn lingers(&self) {
        self.activity.lingers();
    }

    /// We wait for that no more.
    pub(super) fn rests_again(&self) {
        self.activity.rests_again();
    }

    /// The client takes `taken` bytes of what we send. `None`: it takes nothing, and we wait.
    pub(super) fn writing(&self, taken: Option<usize>) {
        self.writes.writing(taken);
    }

    /// The client takes something of the write buffer.
    pub(super) fn takes(&self) {
        self.writes.takes();
    }

    /// Whether a request may be on its way that would fail if the connection were closed now: the first one, or in a
    /// drain any that has not begun. HTTP/2 can tell the client which requests are still served.
    pub(super) fn may_be_asked(&self) -> bool {
        match self.closing.why() {
            _ if self.activity.is_multiplexed() => false,
            Some(CloseReason::Drain) => self.activity.in_flight() == 0,
            // It is answered, though not served.
            Some(CloseReason::Reverify) => !self.activity.has_begun(),
            _ => false,
        }
    }

    /// Whether it ends when the request in flight, if any, is answered.
    pub(super) fn goes(&self) -> bool {
        self.closing.close() != Close::No && !self.may_be_asked()
    }

    /// Whether it is closed because the worker drains, or the listener is gone.
    pub(super) fn leaves(&self) -> bool {
        self.closing.close() == Close::Graceful && self.closing.why() == Some(CloseReason::Drain)
    }

    /// Whether it is between requests.
    pub(super) fn is_idle(&self) -> bool {
        self.activity.phase().0 == Phase::Idle && self.writes.stalled().is_none()
    }

    /// Whether it has been idle for a while, and the client has taken all that it was sent.
    pub(super) const fn rests(&self) -> bool {
        self.activity.is_silent() && self.writes.stalled().is_none()
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secured.get().is_some() { "https" } else { "http" }
    }

    /// How long the TLS handshake took, for the first request, which had to wait for it.
    pub(super) fn handshake(&self) -> Option<u64> {
        Some(self.shook.take()).filter(|took| *took > 0)
    }

    /// The TLS hello's fingerprint.
    pub(super) fn ja4(&self) -> Option<&str> {
        std::str::from_utf8(self.ja4.get()?).ok()
    }

    /// The same, for what outlives the connection.
    pub(super) fn own_ja4(&self) -> Option<Ja4> {
        self.ja4.get().copied()
    }

    /// Whether it was asked for a client certificate.
    pub(super) fn is_certified(&self) -> bool {
        self.secured.get().is_some_and(|secured| secured.asked.is_some())
    }

    /// Closes the connection if it is overdue at `now`. `drain`: how long requests in flight may take while it closes.
    pub(super) fn sweep(&self, now: u64, timeouts: &Timeouts, drain: Duration) {
        let is_too_slow = self.writes.is_too_slow(now, timeouts.body, timeouts.least_rate);
        let over = |since: u64, limit: Duration| has_passed(now, since, limit);
        let (phase, since) = self.activity.phase();
        let (close, closing, stalled) = (self.closing.close(), self.closing.since(), self.writes.stalled());
        let is_multiplexed = self.activity.is_multiplexed();
        // A slow client may still be taking the end of a response that is finished on our side.
        let quiet = |limit: Duration| stalled.is_none() && over(since.max(closing).max(self.writes.last()), limit);
        let (close, why) = match phase {
            // The certificate may be revoked by now.
            _ if self.is_stale() && over(closing, drain) => (Close::Now, CloseReason::Reverify),
            Phase::Handshake if over(since, timeouts.handshake) => (Close::Now, CloseReason::Slow),
            // An answer first, for a client that is slow and still there.
            Phase::Head if over(since, timeouts.headers.saturating_add(LATE_HEAD)) => (Close::Now, CloseReason::Slow),
            Phase::Head if over(since, timeouts.headers) && !self.is_head_late.replace(true) => return self.wake(),
            Phase::Fresh if close == Close::Graceful && over(since, NEXT_REQUEST) => (Close::Now, CloseReason::Drain),
            Phase::Idle if self.leaves() && !is_multiplexed && quiet(NEXT_REQUEST) => (Close::Now, CloseReason::Drain),
            // Browsers open connections in advance: this is no offence.
            Phase::Fresh if over(since, timeouts.headers) => (Close::Now, CloseReason::Idle),
            // An idle client that does not read our goodbye.
            Phase::Idle if close == Close::Graceful && quiet(GOODBYE) => (Close::Now, CloseReason::Idle),
            Phase::Idle if over(since, timeouts.idle) => (Close::Graceful, CloseReason::Idle),
            _ if is_too_slow => (Close::Now, CloseReason::Slow),
            _ if stalled.is_some_and(|stalled| over(stalled, timeouts.body)) => (Close::Now, CloseReason::Slow),
            Phase::Idle if !self.activity.is_silent() && over(since, SILENT) => {
                self.activity.fall_silent();
                return self.wake();
            }
            _ => return,
        };
        self.shut(close, why);
    }

    /// Closes it. The first reason that is given stays.
    pub(super) fn shut(&self, close: Close, why: CloseReason) {
        self.closing.shut(close, why);
    }

    /// The authorities or lists that its client certificate was verified by have changed: requests that have begun are
    /// served, and no others.
    pub(super) fn reverify(&self) {
        self.closing.grow_stale();
        self.shut(Close::Graceful, CloseReason::Reverify);
    }

    /// Whether its client certificate would have to be verified anew.
    pub(super) const fn is_stale(&self) -> bool {
        self.closing.is_stale()
    }

    /// Something was revoked: whatever is in flight is looked at now, also if nothing comes.
    pub(super) fn recheck(&self) {
        self.recheck.set(true);
        self.wake();
    }

    /// Whether it is to be looked at; once.
    pub(super) fn takes_recheck(&self) -> bool {
        self.recheck.take()
    }

    /// Wakes the task that drives it.
    pub(super) fn wake(&self) {
        self.closing.wake();
    }

    pub(super) const fn close_reason(&self) -> Option<CloseReason> {
        self.closing.why()
    }

    /// How it is to be closed. The task that asks is woken when that changes.
    pub(super) fn closing(&self, cx: &Context<'_>) -> Close {
        self.closing.poll(cx)
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
    use std::task::Waker;

    use super::*;
    use crate::{client::Trusted, proxy::timing::deadline, settings::proxy::Trust};

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
        let connection =
            Connection::new(trusted.peer("192.0.2.1:1".parse().unwrap()), "192.0.2.2:443".parse().unwrap());
        connection.established(multiplexed);
        prepare(&connection);
        connection.shut(Close::Graceful, CloseReason::Drain);
        let now = deadline::now() + after * 1_000_000;
        connection.sweep(now, &TIMEOUTS, TIMEOUTS.idle);
        assert_eq!(connection.closing(&Context::from_waker(Waker::noop())), expect, "{after} ms");
    }

    /// Whose head takes too long is told so, and is cut off a little later.
    #[test]
    fn a_late_head_is_told_before_it_is_cut() {
        type Prepare = fn(&Connection);
        let rows: [(Prepare, u64, (bool, Close)); 6] = [
            (Connection::received, 59_000, (false, Close::No)),
            (Connection::received, 60_700, (true, Close::No)),
            (Connection::received, 61_700, (false, Close::Now)),
            // A connection without a request is closed without a word, and no offence.
            (|_fresh| {}, 60_700, (false, Close::Now)),
            (served, 60_700, (false, Close::Graceful)),
            (Connection::begin, 61_700, (false, Close::No)),
        ];
        for (prepare, after, expect) in rows {
            let trusted = Trusted::new(&Trust::default(), 64);
            let client = trusted.peer("192.0.2.1:1".parse().unwrap());
            let connection = Connection::new(client, "192.0.2.2:443".parse().unwrap());
            connection.established(false);
            prepare(&connection);
            let now = deadline::now() + after * 1_000_000;
            connection.sweep(now, &TIMEOUTS, TIMEOUTS.idle);
            let close = connection.closing(&Context::from_waker(Waker::noop()));
            assert_eq!((connection.is_head_late(), close), expect, "{after} ms");
            connection.begin();
            assert!(!connection.is_head_late());
        }
    }

    fn served(connection: &Connection) {
        connection.begin();
        connection.end();
    }

    #[test]
    fn a_drain_ends_what_is_idle_and_nothing_else() {
        let idle = |connection: &Connection| served(connection);
        check(false, |_new| {}, 100, Close::Graceful);
        check(false, |_new| {}, 350, Close::Now);
        check(false, idle, 100, Close::Graceful);
        check(false, idle, 350, Close::Now);
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
