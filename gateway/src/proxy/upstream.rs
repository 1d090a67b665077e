//! Decides how an authorised request is carried to its upstream, and what counts as an answer.
//!
//! *Invariant:* nothing is forwarded without a [`Permit`]. A request is sent twice only if it cannot have been acted on
//! twice: it never left, or it is idempotent, has no body, and met a kept connection that the upstream was closing.

use std::{pin::pin, rc::Rc, task::Poll, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    body::{Cut, Flow, Upload},
    deadline::Alarm,
    reject::{Refusal, Reject},
    settings::Timeouts,
};
use crate::authz::Permit;

mod balance;
mod dial;
mod group;
pub(super) mod hygiene;
mod pool;
mod server;

pub(super) use group::Group;
pub(super) use server::{Exchange, Standing};

/// Why there is no answer.
pub(super) enum Failure {
    /// The client left: nobody is there to be told.
    ClientLeft,
    /// The client is to come back there.
    Redirected(HeaderValue),
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

/// Carries `request` to a server of `group`. `key` is what makes it alike to others (see [`Group::key`]). The
/// answer's connection is in the [`Exchange`]: it goes back to the pool once the body has been read to its end, and is
/// closed otherwise.
pub(super) async fn forward(
    permit: Permit,
    group: &Group,
    key: u64,
    mut request: Request<Upload>,
    timeouts: &Timeouts,
) -> Result<(Response<Incoming>, Exchange), Failure> {
    // What it proves has been used up.
    drop(permit);
    let flow = match request.body() {
        Upload::Streaming(arriving) => Some(arriving.flow()),
        Upload::Empty | Upload::Whole(_) => None,
    };
    let mut fresh = false;
    loop {
        let (mut lease, place) = group.lease(key, fresh, timeouts.connect).await?;
        let spare = (lease.is_kept() && is_repeatable(&request)).then(|| copy(&request));
        let sent = lease.send(request);
        let Some(answer) = answered(sent, flow.as_ref(), timeouts.response).await else {
            return Err(Refusal::new(Reject::UpstreamTimeout, "no answer in time").into());
        };
        let mut error = match answer {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Refusal::new(Reject::UpstreamFailed, "switched protocols unasked").into());
            }
            // RFC 9112 6.3: one of the two is a lie. The connection ends with the lease.
            Ok(response) if is_framed_twice(response.headers()) => {
                return Err(Refusal::new(Reject::UpstreamFailed, "Content-Length beside Transfer-Encoding").into());
            }
            Ok(response) => return Ok((response, Exchange::new(lease.with(flow), place))),
            Err(error) => error,
        };
        if let Some(cut) = flow.as_ref().and_then(|flow| flow.cut.get()) {
            return Err(cut.into());
        }
        let again = error.take_message().or(spare);
        match again {
            Some(again) if lease.is_kept() && !fresh => request = again,
            _ => {
                let detail = if error.error().is_parse() { "answer breaks HTTP" } else { "connection broke off" };
                return Err(Refusal::new(Reject::UpstreamFailed, detail).into());
            }
        }
        fresh = true;
    }
}

/// Waits for the head of the answer, for at most `patience` from the moment the request is out. `None`: it took longer.
async fn answered<F: Future>(sent: F, flow: Option<&Rc<Flow>>, patience: Duration) -> Option<F::Output> {
    let mut sent = pin!(sent);
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

fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// RFC 9110 9.2.2, and nothing that was read from the client is gone.
fn is_repeatable(request: &Request<Upload>) -> bool {
    matches!(request.body(), Upload::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}
