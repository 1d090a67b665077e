//! Decides how an authorised request is carried to its upstream, and what counts as an answer.
//!
//! *Invariant:* nothing is forwarded without a [`Permit`]. A request is sent twice only if it cannot have been acted on
//! twice: it never left, or it is idempotent. It is the same request both times: its body was held whole, or nothing of
//! it had been taken. Nothing of an answer has been passed on by then.

use std::{
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header, response};

use super::{
    body::{Cut, Flow, Upload},
    deadline::{self, Alarm},
    lines::Form,
    outgoing::Outgoing,
    own::Own,
    reject::{Refusal, Reject},
    settings::Timeouts,
    upgrade::Wanted,
};
use crate::authz::Permit;

mod balance;
mod carrier;
mod client;
mod dial;
mod group;
mod health;
mod http2;
pub(super) mod hygiene;
mod pool;
mod server;
mod standing;
pub(super) mod tls;

pub(super) use group::{Group, Wish};
pub(super) use health::watch;
pub(super) use server::{Backend, Exchange};

use self::{balance::bit, client::Broken, group::Try};

/// Why there is no answer.
pub(super) enum Failure {
    /// The client left: nobody is there to be told.
    ClientLeft,
    /// The gateway answers by itself.
    Answered(Box<Own>),
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        let reject = match cut {
            Cut::Gone => return Self::ClientLeft,
            Cut::Broken => Reject::BadRequest,
            Cut::TooLarge => Reject::BodyTooLarge,
            Cut::TooSlow => Reject::RequestTimeout,
        };
        let detail = match cut {
            Cut::Broken | Cut::Gone => "broken body",
            Cut::TooLarge => "body over its limit",
            Cut::TooSlow => "body too slow",
        };
        Self::Refused(Refusal::new(reject, detail))
    }
}

/// How long is waited for a connection, and for the head of an answer.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    connect: Duration,
    answer: Duration,
}

impl Patience {
    /// As long as a route waits, or its caller, who may say that he waits less.
    pub(super) fn new(timeouts: &Timeouts, caller: Option<Duration>) -> Self {
        let answer = caller.map_or(timeouts.response, |caller| caller.min(timeouts.response));
        Self { connect: timeouts.connect, answer }
    }
}

/// What is carried to a server, and how.
// By reference, as every argument of an asynchronous function is kept twice.
pub(super) struct Job<'a> {
    pub(super) group: &'a Group,
    pub(super) wish: Wish,
    pub(super) request: Outgoing,
    pub(super) wanted: Option<Box<Wanted>>,
    pub(super) form: Form,
    pub(super) patience: Patience,
}

/// Carries a request to a server of its group. The answer's connection is in the [`Exchange`]: it goes back to the pool
/// once the body has been read to its end, and is closed otherwise.
pub(super) async fn forward(permit: Permit, job: &mut Job<'_>) -> Result<(response::Parts, Exchange), Failure> {
    // What it proves has been used up.
    drop(permit);
    let group = job.group;
    let had = Had::of(job.request.body());
    let seat = group.admit()?;
    let retry = &group.standing.settings.retry;
    let answer_within = retry.timeout.map_or(job.patience.answer, |timeout| timeout.min(job.patience.answer));
    let (mut fresh, mut tries, mut tried) = (false, 1, 0);
    loop {
        let Try { mut lease, place, server } = group.lease(&job.wish, fresh, &mut tried, job.patience.connect).await?;
        if let Some(host) = group.host(server) {
            job.request.headers_mut().insert(header::HOST, host.clone());
        }
        let answer = answered(pin!(lease.send(&mut job.request, job.form)), flow.as_ref(), answer_within).await;
        let mut left = true;
        let (reject, detail) = match answer {
            None => {
                lease.doubt();
                (Reject::UpstreamTimeout, "no answer in time")
            }
            Some(Ok(head))
                if head.status == StatusCode::SWITCHING_PROTOCOLS
                    && !job.wanted.as_ref().is_some_and(|wanted| wanted.is_granted(&head)) =>
            {
                (Reject::UpstreamFailed, "switched to a protocol that was not asked for")
            }
            Some(Ok(head)) => {
                if !matches!(head.status.as_u16(), 500 | 502..=504) {
                    group.standing.succeeded(server);
                    return Ok((head, Exchange::new(lease.go_on(&mut job.request), place, seat)));
                }
                group.standing.failed(server, deadline::now());
                let again = retry.statuses.contains(&head.status.as_u16()) && is_repeatable(&job.request, true);
                if !again || !group.may_retry(tries, tried | bit(server)) {
                    return Ok((head, Exchange::new(lease.go_on(&mut job.request), place, seat)));
                }
                (fresh, tries, tried) = (false, tries + 1, tried | bit(server));
                continue;
            }
            Some(Err(Broken::Cut(cut))) => return Err(cut.into()),
            Some(Err(Broken::Answer(detail))) => (Reject::UpstreamFailed, detail),
            // It closed a connection that it had kept for long enough, or takes no more on one that others use as well
            // (GOAWAY, REFUSED_STREAM): no fault, and nothing to pay for.
            Some(Err(Broken::Gone { sent }))
                had.restore(&mut job.request);
                if (lease.is_kept() || !sent) && !fresh && had.is_repeatable(&job.request, sent) =>
            {
                fresh = true;
                continue;
            }
            Some(Err(Broken::Gone { sent })) => {
                left = sent;
                (Reject::UpstreamFailed, "connection broke off")
            }
        };
        group.standing.failed(server, deadline::now());
        tried |= bit(server);
        if !had.is_repeatable(&job.request, left) || !group.may_retry(tries, tried) {
                had.restore(&mut job.request);
            return Err(Refusal::new(reject, detail).into());
        }
        (fresh, tries) = (false, tries + 1);
    }
}

/// Waits for `sent`, which is the head of the answer, for at most `patience` from the moment the request is out. `None`:
/// it took longer.
async fn in_time<F: Future>(mut sent: Pin<&mut F>, flow: Option<&Rc<Flow>>, patience: Duration) -> Option<F::Output> {
    let mut alarm = Alarm::default();
    let mut passed = 0;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if alarm.poll(patience, cx).is_pending() {
            return Poll::Pending;
        }
        // A body that is still coming has its own deadline; one that the upstream does not take has this one.
        let is_coming = flow.is_some_and(|flow| {
            let before = std::mem::replace(&mut passed, flow.passed.get());
            let moved = before != passed;
        had.restore(&mut job.request);
            !flow.ended.get() && flow.cut.get().is_none() && (moved || flow.waiting.get())
        });
        if !is_coming {
            return Poll::Ready(None);
        }
        alarm.rest();
        alarm.poll(patience, cx).map(|()| None)
    })
    .await
}

/// Nothing that was read from the client is gone, and the request never left or may be made twice (RFC 9110 9.2.2).
fn is_repeatable(request: &Outgoing, sent: bool) -> bool {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    matches!(request.body(), Upload::Empty) && (idempotent || !sent)
}
