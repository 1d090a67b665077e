//! How long a request waits for its server: for a connection, and for the head of the response.

use std::{pin::Pin, rc::Rc, task::Poll, time::Duration};

use crate::{
    proxy::{
        body::BodyProgress,
        timing::deadline::{self, Alarm},
    },
    settings::timeouts::Timeouts,
};

/// How long a request waits for connections, and for the head of the response.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct AttemptTimeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    /// When the client stops waiting, if it said so.
    deadline: Option<u64>,
}

impl AttemptTimeouts {
    /// The route's timeouts. `caller` is how long the client says that it waits.
    pub(in crate::proxy) fn new(timeouts: &Timeouts, caller: Option<Duration>) -> Self {
        let deadline = caller.map(|caller| deadline::after(deadline::now(), caller.saturating_add(deadline::TICK)));
        Self { connect: timeouts.connect, response: timeouts.response, deadline }
    }
}

/// The time that is left for the attempts of one request: together they wait no longer than the route says, and than the
/// client does.
#[derive(Clone, Copy)]
pub(super) struct TimeLeft {
    /// How long one attempt waits if the others have left it the time.
    attempt: Duration,
    response: Duration,
    deadline: Option<u64>,
}

impl TimeLeft {
    /// `attempt`: how long one attempt may wait, if not as long as all of them.
    pub(super) fn new(timeouts: &AttemptTimeouts, attempt: Option<Duration>) -> Self {
        let AttemptTimeouts { response, deadline, .. } = *timeouts;
        Self { attempt: attempt.map_or(response, |attempt| attempt.min(response)), response, deadline }
    }

    /// How long the client still waits. `None`: it did not say.
    pub(super) fn of_caller(&self, now: u64) -> Option<Duration> {
        Some(Duration::from_nanos(self.deadline?.saturating_sub(now)))
    }

    /// How long the next attempt may wait, and whether that is too short to blame a server for: the client's own limit,
    /// or less than half of what an attempt usually has.
    pub(super) fn of_attempt(&self, now: u64) -> (Duration, bool) {
        let routes = self.response.min(self.attempt);
        let left = self.of_caller(now).map_or(routes, |caller| caller.min(routes));
        (left, left < routes || routes < self.attempt / 2)
    }

    /// An attempt that began at `began` has failed.
    pub(super) fn spend(&mut self, began: u64, now: u64) {
        self.response = self.response.saturating_sub(Duration::from_nanos(now.saturating_sub(began)));
    }

    /// Whether there is none left.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.of_attempt(now).0.is_zero()
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
    let (mut passed, mut has_ended) = (0, false);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(response) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        if !has_ended && progress.is_some_and(|progress| progress.ended.get()) {
            has_ended = true;
            alarm.rest();
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

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::poll_fn,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    const MILLI: u64 = 1_000_000;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A body of which a piece comes every 100 ms until `ends`, and a response at `responds`, with a timeout of one second:
    /// whether the response is still waited for.
    #[track_caller]
    fn check(ends: u64, responds: u64, expect: bool) {
        let start = deadline::now();
        let (progress, response) = (Rc::new(BodyProgress::default()), Cell::new(false));
        let sent = pin!(poll_fn(|_cx| if response.get() { Poll::Ready(()) } else { Poll::Pending }));
        let mut waiting = pin!(in_time(sent, Some(&progress), millis(1_000)));
        let cx = &mut Context::from_waker(Waker::noop());
        for now in (0..=responds).step_by(50) {
            deadline::tick(start + now * MILLI);
            progress.passed.set(now.min(ends) / 100);
            progress.ended.set(now >= ends);
            response.set(now == responds);
            if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
                assert_eq!(
                    done.is_some(),
                    expect,
                    "ends after {ends} ms, responds after {responds} ms: ready at {now}"
                );
                return;
            }
        }
        panic!("neither a response nor a timeout: ends after {ends} ms, responds after {responds} ms");
    }

    #[test]
    fn the_time_begins_at_the_end_of_the_request() {
        check(0, 950, true);
        check(0, 1_200, false);
        check(900, 1_850, true);
        check(1_400, 2_350, true);
        check(1_400, 2_600, false);
        check(5_300, 6_250, true);
        check(5_300, 6_500, false);
    }

    /// What is left for an attempt of half a second, of a request of one second, that begins at 1,000 ms after attempts that
    /// took so long.
    #[track_caller]
    fn left(caller: Option<u64>, took: &[u64], expect: (u64, bool)) {
        let timeouts = AttemptTimeouts {
            connect: millis(1_000),
            response: millis(1_000),
            deadline: caller.map(|caller| caller * MILLI),
        };
        let mut time = TimeLeft::new(&timeouts, Some(millis(500)));
        took.iter().for_each(|took| time.spend(0, took * MILLI));
        let now = 1_000 * MILLI;
        assert_eq!(time.of_attempt(now), (millis(expect.0), expect.1), "{caller:?} {took:?}");
        assert_eq!(time.is_over(now), expect.0 == 0, "{caller:?} {took:?}");
    }

    #[test]
    fn attempts_share_their_time() {
        left(None, &[], (500, false));
        left(None, &[500], (500, false));
        left(None, &[50], (500, false));
        left(None, &[300, 300], (400, false));
        left(None, &[300, 500], (200, true));
        left(None, &[500, 600], (0, true));
        left(Some(5_000), &[300], (500, false));
        left(Some(1_200), &[], (200, true));
        left(Some(1_200), &[900], (100, true));
        left(Some(900), &[], (0, true));
    }
}
