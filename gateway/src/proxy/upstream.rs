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
    body::{BodyProgress, Upload},
    raw_head::HeadFormat,
    service::BodyError,
    timing::deadline::Alarm,
    tunnel::upgrade::Wanted,
};
use crate::{
    authz::Permit,
    refusal::{Refusal, Reject},
    settings::timeouts::Timeouts,
};

mod balance;
mod dial;
mod error;
mod group;
pub(super) mod headers;
mod health;
mod http1;
mod http2;
mod pool;
mod request;
mod server;
mod state;
pub(super) mod tls;
mod transport;

pub(super) use group::{LbContext, ServerGroup};
pub(super) use health::watch;
pub(super) use request::UpstreamRequest;
pub(super) use server::{SharedUpstream, UpstreamResponse};

use self::{balance::bit, error::UpstreamError, group::Attempt};

/// Why there is no answer.
pub(super) enum ForwardError {
    /// The client left: nobody is there to be told.
    ClientLeft,
    Refused(Refusal),
}

impl From<Refusal> for ForwardError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BodyError> for ForwardError {
    fn from(cut: BodyError) -> Self {
        let reject = match cut {
            BodyError::Gone => return Self::ClientLeft,
            BodyError::Broken => Reject::BadRequest,
            BodyError::TooLarge => Reject::BodyTooLarge,
            BodyError::TooSlow => Reject::RequestTimeout,
        };
        let detail = match cut {
            BodyError::Broken | BodyError::Gone => "broken body",
            BodyError::TooLarge => "body over its limit",
            BodyError::TooSlow => "body too slow",
        };
        Self::Refused(Refusal::new(reject, detail))
    }
}

/// How long is waited for a connection, and for the head of an answer.
#[derive(Clone, Copy)]
pub(super) struct AttemptTimeouts {
    connect: Duration,
    answer: Duration,
    /// Whether it is the caller who waits no longer.
    is_callers: bool,
}

impl AttemptTimeouts {
    /// As long as a route waits, or its caller, who may say that he waits less.
    pub(super) fn new(timeouts: &Timeouts, caller: Option<Duration>) -> Self {
        let answer = caller.map_or(timeouts.response, |caller| caller.min(timeouts.response));
        Self { connect: timeouts.connect, answer, is_callers: answer < timeouts.response }
    }
}

/// What is carried to a server, and how.
// By reference, as every argument of an asynchronous function is kept twice.
pub(super) struct ForwardJob<'a> {
    pub(super) group: &'a ServerGroup,
    pub(super) context: LbContext,
    pub(super) request: UpstreamRequest,
    pub(super) wanted: Option<Box<Wanted>>,
    pub(super) form: HeadFormat,
    pub(super) timeouts: AttemptTimeouts,
}

/// Carries a request to a server of its group. The answer's connection is in the [`UpstreamResponse`]: it goes back to the pool
/// once the body has been read to its end, and is closed otherwise.
pub(super) async fn forward(
    permit: Permit,
    job: &mut ForwardJob<'_>,
) -> Result<(response::Parts, UpstreamResponse), ForwardError> {
    // What it proves has been used up.
    drop(permit);
    let group = job.group;
    let had = Had::of(job.request.body());
    let slot = group.admit()?;
    let retry = &group.state.settings.retry;
    let answer_within = retry.timeout.map_or(job.timeouts.answer, |timeout| timeout.min(job.timeouts.answer));
    let (mut fresh, mut tries, mut tried) = (false, 1, 0);
    loop {
        let Attempt { mut lease, in_flight, server } =
            group.lease(&job.context, fresh, &mut tried, job.timeouts.connect).await?;
        if let Some(host) = group.host(server) {
            job.request.headers_mut().insert(header::HOST, host.clone());
        }
        let answer = in_time(pin!(lease.send(&mut job.request, job.form)), had.progress(), answer_within).await;
        // Whether it says anything of the server that this request failed.
        let (mut left, mut counts) = (true, true);
        let (reject, detail) = match answer {
            None => {
                counts = !job.timeouts.is_callers || answer_within < job.timeouts.answer;
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
                    group.state.succeeded(server);
                    return Ok((head, UpstreamResponse::new(lease.go_on(&mut job.request), in_flight, slot)));
                }
                if group.state.is_failure(head.status.as_u16()) {
                    group.answered(server, &job.context);
                } else {
                    group.state.succeeded(server);
                }
                let again = retry.statuses.contains(&head.status.as_u16()) && had.is_repeatable(&job.request, true);
                if !again || !group.may_retry(tries, tried | bit(server)) {
                    return Ok((head, UpstreamResponse::new(lease.go_on(&mut job.request), in_flight, slot)));
                }
                had.restore(&mut job.request);
                (fresh, tries, tried) = (false, tries + 1, tried | bit(server));
                continue;
            }
            Some(Err(UpstreamError::Body(error))) => return Err(error.into()),
            Some(Err(UpstreamError::Malformed(detail))) => (Reject::UpstreamFailed, detail),
            Some(Err(UpstreamError::Unsendable(detail))) => {
                counts = false;
                (Reject::UpstreamFailed, detail)
            }
            // It closed a connection that it had kept for long enough, or takes no more on one that others use as well
            // (GOAWAY, REFUSED_STREAM): no fault, and nothing to pay for.
            Some(Err(UpstreamError::Closed { sent }))
                if (lease.is_kept() || !sent) && !fresh && had.is_repeatable(&job.request, sent) =>
            {
                had.restore(&mut job.request);
                fresh = true;
                continue;
            }
            Some(Err(UpstreamError::Closed { sent })) => {
                // A server need not wait for a body that does not come.
                (left, counts) = (sent, !had.is_coming() && lease.is_to_blame());
                (Reject::UpstreamFailed, "connection broke off")
            }
            Some(Err(UpstreamError::Truncated)) => {
                counts = !had.is_coming();
                (Reject::UpstreamFailed, "connection broke off")
            }
        };
        if counts {
            group.failed(server);
        }
        tried |= bit(server);
        if !had.is_repeatable(&job.request, left) || !group.may_retry(tries, tried) {
            return Err(Refusal::new(reject, detail).into());
        }
        had.restore(&mut job.request);
        (fresh, tries) = (false, tries + 1);
    }
}

/// Waits for `sent`, which is the head of the answer, for at most `timeout` from the moment the request is out. `None`:
/// it took longer.
async fn in_time<F: Future>(
    mut sent: Pin<&mut F>,
    progress: Option<&Rc<BodyProgress>>,
    timeout: Duration,
) -> Option<F::Output> {
    let mut alarm = Alarm::default();
    let mut passed = 0;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if alarm.poll(timeout, cx).is_pending() {
            return Poll::Pending;
        }
        // A body that is still coming has its own deadline; one that the upstream does not take has this one.
        let is_coming = progress.is_some_and(|progress| {
            let before = std::mem::replace(&mut passed, progress.passed.get());
            let moved = before != passed;
            !progress.ended.get() && progress.error.get().is_none() && (moved || progress.waiting.get())
        });
        if !is_coming {
            return Poll::Ready(None);
        }
        alarm.rest();
        alarm.poll(timeout, cx).map(|()| None)
    })
    .await
}

/// What a request had for a body before it was first sent.
enum Had {
    Nothing,
    Streaming(Rc<BodyProgress>),
    Whole(Bytes),
}

impl Had {
    fn of(body: &Upload) -> Self {
        match body {
            Upload::Empty => Self::Nothing,
            Upload::Streaming(request_body) => Self::Streaming(request_body.progress()),
            Upload::Whole(bytes) => Self::Whole(bytes.clone()),
        }
    }

    const fn progress(&self) -> Option<&Rc<BodyProgress>> {
        match self {
            Self::Streaming(progress) => Some(progress),
            Self::Nothing | Self::Whole(_) => None,
        }
    }

    /// Whether the client has not sent all of it.
    fn is_coming(&self) -> bool {
        self.progress().is_some_and(|progress| !progress.ended.get())
    }

    /// Nothing that was read from the client is gone, and the request never left or may be made twice (RFC 9110 9.2.2).
    fn is_repeatable(&self, request: &UpstreamRequest, sent: bool) -> bool {
        let idempotent =
            matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        let is_there = match self {
            Self::Nothing | Self::Whole(_) => true,
            Self::Streaming(progress) => !progress.taken.get() && progress.error.get().is_none(),
        };
        is_there && (idempotent || !sent)
    }

    /// Makes the request what it was.
    fn restore(&self, request: &mut UpstreamRequest) {
        if let Self::Whole(bytes) = self {
            *request.body_mut() = Upload::Whole(bytes.clone());
        }
    }
}
