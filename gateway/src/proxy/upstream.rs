//! Forwards an authorised request to a server of its upstream, and tries again where that is safe.
//!
//! *Invariant:* nothing is forwarded without a [`Permit`]. [`retry`] says when a request is sent a second time. No byte
//! of a final response has been passed on by then. Interim responses may have been: the client takes any number of them.

use std::pin::pin;

use http::{header, response::Parts};

use super::{
    raw_head::HeadFormat,
    timing::deadline::{self, within},
    tunnel::upgrade::UpgradeRequest,
};
use crate::{
    os::clock,
    policy::{admission::Class, authz::Permit},
    refusal::{Refusal, Reject},
};

mod balance;
pub(super) mod connection;
mod error;
mod gate;
mod group;
pub(super) mod headers;
mod http1;
mod http2;
mod request;
mod response;
mod retry;
mod server;
mod slots;
mod timeout;

#[cfg(any(test, fuzzing))]
pub(super) use self::http1::reading;
use self::{
    connection::pool::PooledConnection,
    gate::Passage,
    group::Attempt,
    request::OriginalBody,
    retry::{AttemptFailure, Blame, Next, RetryAllowance, RetryState},
    timeout::{TimeLeft, in_time},
};
pub(super) use self::{
    error::ForwardError,
    group::{LbContext, ServerGroup},
    request::{ClientSide, UpstreamRequest},
    response::UpstreamResponse,
    server::{SharedUpstream, health::watch},
    timeout::AttemptTimeouts,
};

/// A request, and what its server has to know and do.
// By reference, as every argument of an asynchronous function is kept twice.
pub(super) struct ForwardJob<'a> {
    pub(super) group: &'a ServerGroup,
    pub(super) context: LbContext,
    pub(super) request: UpstreamRequest,
    pub(super) wanted: Option<Box<UpgradeRequest>>,
    pub(super) form: HeadFormat,
    pub(super) timeouts: AttemptTimeouts,
    pub(super) attempts: Attempts,
    /// How early it is served where not all can be.
    pub(super) class: Class,
    /// A number of its client, where requests at once are limited.
    pub(super) client: u64,
}

/// How a request was sent, for the access log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts {
    /// The server that it was sent to last: an index.
    pub(super) server: Option<usize>,
    /// How often it was sent again.
    pub(super) retries: u32,
    /// Whether the clock is read.
    pub(super) is_timed: bool,
    /// How long it waited for a connection that there was, and for connections that were opened. Nanoseconds.
    pub(super) queue: Option<u64>,
    pub(super) connect: Option<u64>,
    /// When the first of these began to be opened: `CLOCK_MONOTONIC`, nanoseconds; 0: none was.
    pub(super) opened_at: u64,
    /// Whether `concurrency` refused it.
    pub(super) is_shed: bool,
}

impl Attempts {
    /// It was not sent.
    pub(super) const fn none() -> Self {
        Self { server: None, retries: 0, is_timed: false, queue: None, connect: None, opened_at: 0, is_shed: false }
    }

    /// A connection to `server` was got, `kept` or new, `before` being when it was asked for.
    fn leased(&mut self, server: usize, kept: bool, before: Option<u64>) {
        if self.server.replace(server).is_some() {
            self.retries += 1;
        }
        let Some(before) = before else { return };
        let took = clock::monotonic().saturating_sub(before);
        if !kept && self.opened_at == 0 {
            self.opened_at = before;
        }
        let sum = if kept { &mut self.queue } else { &mut self.connect };
        *sum = Some(sum.unwrap_or_default().saturating_add(took));
    }
}

/// Sends a request to a server of its group, and returns the head of the response. The connection is in the
/// [`UpstreamResponse`]: it goes back to the pool once the body has been read to its end, and is closed otherwise.
pub(super) async fn forward(
    permit: Permit,
    job: &mut ForwardJob<'_>,
    client: &ClientSide<'_>,
) -> Result<(Parts, UpstreamResponse), ForwardError> {
    // What it proves has been used up.
    drop(permit);
    let (group, timeouts) = (job.group, job.timeouts);
    let body = OriginalBody::of(job.request.body());
    let slot = group.admit()?;
    let mut passage = None;
    if group.state.gate.is_some() {
        let left = TimeLeft::new(&timeouts, None).of_caller(deadline::now());
        // Boxed, as most requests do without it.
        let passed = Box::pin(group.pass(job.class, job.client, left)).await;
        job.attempts.is_shed = passed.is_err();
        passage = passed?;
    }
    let settings = &group.state.settings.retry;
    let mut time = TimeLeft::new(&timeouts, settings.timeout);
    let mut retry = RetryState::new(settings, job.request.method());
    loop {
        let before = job.attempts.is_timed.then(clock::monotonic);
        let leased = {
            let (fresh, failed) = (retry.needs_new_connection, &mut retry.failed_servers);
            let leasing = pin!(group.lease(&job.context, fresh, failed, timeouts.connect));
            match time.of_caller(deadline::now()) {
                None => Some(leasing.await),
                Some(left) => within(left, leasing).await,
            }
        };
        let Some(leased) = leased else { return Err(AttemptFailure::TimedOut { cut_short: true }.into()) };
        let Attempt { mut lease, in_flight, server } = leased?;
        job.attempts.leased(server, lease.is_kept(), before);
        if let Some(host) = group.host(server) {
            job.request.headers_mut().insert(header::HOST, host.clone());
        }
        let began = deadline::now();
        let (timeout, cut_short) = time.of_attempt(began);
        passage.iter_mut().for_each(Passage::send);
        let sent = in_time(pin!(lease.send(&mut job.request, job.form, client)), body.progress(), timeout).await;
        let failure = match &sent {
            None => Some(AttemptFailure::TimedOut { cut_short }),
            Some(Ok(head)) => AttemptFailure::of_head(head, job.wanted.as_deref()),
            Some(Err(error)) => Some(AttemptFailure::of_error(*error, lease.is_kept())),
        };
        if let Some(passage) = &mut passage {
            let status = sent.as_ref().and_then(|sent| sent.as_ref().ok()).map(|head| head.status);
            let is_late = matches!(failure, Some(AttemptFailure::TimedOut { cut_short: false }));
            passage.sent(status, is_late, job.wanted.is_none() && !body.is_slow());
        }
        let next = match failure {
            None => {
                group.state.succeeded(server);
                Next::Respond
            }
            Some(failure) => {
                note(failure, retry.blame(failure, body.state()), server, &lease, job);
                let now = deadline::now();
                time.spend(began, now);
                let left = RetryAllowance { budget: group.budget(), has_time: !time.is_over(now) };
                retry.next(failure, server, body.state(), left, || group.state.usable())
            }
        };
        match next {
            Next::GiveUp(failure) => return Err(failure.into()),
            Next::Respond => {
                let Some(Ok(head)) = sent else {
                    return Err(Refusal::new(Reject::UpstreamFailed, "no response").into());
                };
                return Ok((head, UpstreamResponse::new(lease.go_on(&mut job.request), in_flight, slot)));
            }
            Next::Retry { paid } => {
                if paid {
                    group.pay_retry();
                }
                body.restore(&mut job.request);
            }
        }
    }
}

/// Counts a failure against the server, if it is to blame.
fn note(failure: AttemptFailure, blame: Blame, server: usize, lease: &PooledConnection, job: &ForwardJob<'_>) {
    let group = job.group;
    if matches!(failure, AttemptFailure::TimedOut { .. }) {
        lease.doubt();
    }
    match blame {
        Blame::Connection if lease.is_to_blame() => group.failed(server),
        Blame::Connection | Blame::Nobody => {}
        Blame::Server => group.failed(server),
        Blame::Status(status) if group.state.is_failure(status) => group.answered(server, &job.context),
        Blame::Status(_) => group.state.succeeded(server),
    }
}
