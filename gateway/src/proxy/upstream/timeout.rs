//! How long a request waits for its server: for a connection, and for the head of the response.

use std::{pin::Pin, rc::Rc, task::Poll, time::Duration};

use crate::{
    proxy::{
        body::BodyProgress,
        timing::deadline::{self, Alarm},
    },
    settings::timeouts::Timeouts,
};

/// How long an attempt waits for a connection, and for the head of the response.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct AttemptTimeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    /// Whether the client asked for less time than the route gives.
    pub(super) is_callers: bool,
}

impl AttemptTimeouts {
    /// The route's timeouts. `caller` is how long the client says that it waits.
    pub(in crate::proxy) fn new(timeouts: &Timeouts, caller: Option<Duration>) -> Self {
        let response = caller.map_or(timeouts.response, |caller| caller.min(timeouts.response));
        Self { connect: timeouts.connect, response, is_callers: response < timeouts.response }
    }

    /// When the client stops waiting, if it said that it waits less than the route does.
    pub(super) fn deadline(&self) -> Option<u64> {
        let response = u64::try_from(self.response.as_nanos()).unwrap_or(u64::MAX);
        self.is_callers.then(|| deadline::now().saturating_add(response))
    }
}

/// Waits for `sent`, which is the head of the response, for at most `timeout` from the moment the request is out.
/// `None`: it took longer.
pub(super) async fn in_time<F: Future>(
    mut sent: Pin<&mut F>,
    progress: Option<&Rc<BodyProgress>>,
    timeout: Duration,
) -> Option<F::Output> {
    let mut alarm = Alarm::default();
    let mut passed = 0;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(response) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        if alarm.poll(timeout, cx).is_pending() {
            return Poll::Pending;
        }
        // A body that the client still sends has its own timeout. One that the server does not read has this one.
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
