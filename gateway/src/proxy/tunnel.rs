//! A connection that became a tunnel: its bytes are carried both ways, as fast as the slower side takes them, until it is
//! over.
//!
//! *Invariant:* a tunnel ends when its client is banned, its token or key is revoked, its token expires (unless the route
//! says otherwise), nothing passes for `timeouts.tunnel_idle`, it is older than `timeouts.tunnel`, or a drain is over (W02).

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    connection::{
        Close, CloseReason,
        client_io::{ClientIo, TunnelIo},
    },
    request::exchange::Exchange,
    timing::{
        deadline::{self, Alarm},
        throttle::Throttle,
    },
    upstream::UpstreamResponse,
};

pub(super) mod token;
pub(super) mod upgrade;

/// The most bytes under way in each direction.
const UNDER_WAY: usize = 16 * 1_024;

/// How often the tunnel is checked for its end.
const LOOK: Duration = Duration::from_millis(250);

/// How long one direction may be silent once the other has ended.
const HALF: Duration = Duration::from_secs(30);

/// A connection that became a tunnel. It is logged when it ends.
pub(super) struct Tunnel {
    response: UpstreamResponse,
    exchange: Box<Exchange>,
    /// The latest end, and the reason for it.
    until: (u64, &'static str),
}

impl Tunnel {
    /// `outlives_token`: the tunnel goes on when the token that opened it has expired.
    pub(super) fn new(response: UpstreamResponse, exchange: Box<Exchange>, outlives_token: bool) -> Self {
        let now = deadline::now();
        let lifetime = after(now, exchange.timeouts().tunnel.saturating_add(deadline::TICK));
        let mut until = (lifetime, "timeouts.tunnel");
        if let Some(identity) = exchange.identity.as_ref().filter(|_| !outlives_token) {
            let left = identity.expires().saturating_mul(1_000).saturating_sub(exchange.began.unix_millis);
            let expires = exchange.began.monotonic.saturating_add(left.saturating_mul(1_000_000));
            if expires < until.0 {
                until = (expires, "token expired");
            }
        }
        Self { response, exchange, until }
    }

    /// Carries bytes until the tunnel is over. `early` is what the client sent right after the response.
    pub(super) async fn run(mut self, early: Bytes, io: &Rc<ClientIo>) {
        let Some((stream, first)) = self.response.switched() else { return };
        let bytes_in = Rc::clone(self.exchange.outcome.bytes_in.get_or_insert_default());
        let throttles = std::mem::take(&mut self.exchange.throttles);
        let (mut up, mut down) = (Direction::new(early, throttles.upload), Direction::new(first, throttles.download));
        let mut client = TunnelIo(Rc::clone(io));
        let mut alarm = Alarm::default();
        let mut active = deadline::now();
        let ended = std::future::poll_fn(|cx| {
            let before = (up.passed, down.passed);
            let sent = up.poll(&mut client, &mut *stream.borrow_mut(), cx);
            let received = down.poll(&mut *stream.borrow_mut(), &mut client, cx);
            bytes_in.set(up.passed);
            self.exchange.outcome.bytes_out = down.passed;
            if before != (up.passed, down.passed) {
                active = deadline::now();
            }
            match (sent, received) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(Some("broke off")),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(None),
                _ => {}
            }
            if let Some(why) = self.closed(cx) {
                return Poll::Ready(Some(why));
            }
            if self.exchange.is_revoked() {
                return Poll::Ready(Some("revoked"));
            }
            while alarm.poll(LOOK, cx).is_ready() {
                alarm.rest();
                if let Some(why) = self.over(active, up.is_over() || down.is_over()) {
                    return Poll::Ready(Some(why));
                }
            }
            Poll::Pending
        })
        .await;
        self.exchange.outcome.ended = ended;
    }

    /// The exchange of a tunnel that is not to be.
    pub(super) fn give_up(self) -> Box<Exchange> {
        self.exchange
    }

    /// Why its connection is to be closed; `None`: it is not.
    fn closed(&self, cx: &Context<'_>) -> Option<&'static str> {
        let connection = &self.exchange.connection;
        let close = connection.closing(cx);
        match (close, connection.close_reason()) {
            (Close::No, _) => None,
            (_, Some(CloseReason::Banned)) => Some("banned"),
            (Close::Now, Some(CloseReason::Slow)) => Some("client too slow"),
            (Close::Now, _) => Some("drained"),
            // The trust that its client certificate was verified by has changed.
            (Close::Graceful, _) if connection.is_stale() => Some("certificates judged anew"),
            (Close::Graceful, _) => None,
        }
    }

    /// Why the tunnel is over by now; `None`: it is not.
    fn over(&self, active: u64, half: bool) -> Option<&'static str> {
        let now = deadline::now();
        let idle = self.exchange.timeouts().tunnel_idle;
        if now >= self.until.0 {
            return Some(self.until.1);
        }
        if deadline::has_passed(now, active, if half { idle.min(HALF) } else { idle }) {
            return Some("timeouts.tunnel_idle");
        }
        self.exchange.is_banned().then_some("banned")
    }
}

fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// One direction.
struct Direction {
    under_way: Bytes,
    space: Box<[u8]>,
    passed: u64,
    state: DirectionState,
    /// How it is held back, where it is.
    throttle: Option<Box<Throttle>>,
}

#[derive(PartialEq, Eq)]
enum DirectionState {
    /// The other side is not yet told that nothing more comes.
    Ending,
    Open,
    Over,
}

impl Direction {
    fn new(first: Bytes, throttle: Option<Box<Throttle>>) -> Self {
        Self { under_way: first, space: vec![0; UNDER_WAY].into(), passed: 0, state: DirectionState::Open, throttle }
    }

    fn is_over(&self) -> bool {
        self.state == DirectionState::Over
    }

    /// Carries what there is. Ready once the end has been carried, too.
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.under_way.is_empty() {
                let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.under_way))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let _taken = self.under_way.split_to(taken);
                self.passed = self.passed.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            }
            match self.state {
                DirectionState::Over => return Poll::Ready(Ok(())),
                DirectionState::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = DirectionState::Over;
                    continue;
                }
                DirectionState::Open => {}
            }
            if let Some(throttle) = &mut self.throttle
                && throttle.poll(cx).is_pending()
            {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut self.space);
            if Pin::new(&mut *from).poll_read(cx, &mut buffer)?.is_pending() {
                // Flush now: the next bytes may take long.
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            }
            if buffer.filled().is_empty() {
                self.state = DirectionState::Ending;
            } else {
                self.under_way = Bytes::copy_from_slice(buffer.filled());
                if let Some(throttle) = &mut self.throttle {
                    throttle.pass(self.under_way.len());
                }
            }
        }
    }
}
