//! What follows a failure, as a table; and what never follows, whatever comes together.

use std::time::Duration;

use super::{AttemptFailure as F, Blame as B, *};

const KEPT: BodyState = BodyState { is_kept: true, is_coming: false };
/// Nothing of it was read yet.
const COMING: BodyState = BodyState { is_kept: true, is_coming: true };
/// Some of it was read and passed on.
const GONE: BodyState = BodyState { is_kept: false, is_coming: false };
const GOING: BodyState = BodyState { is_kept: false, is_coming: true };

const ENOUGH: RetryAllowance = RetryAllowance { budget: u32::MAX, has_time: true };

/// What is expected, of whatever failed.
fn again(_: F) -> Next {
    Next::Retry { paid: true }
}

/// Without a part of the retry budget.
fn free(_: F) -> Next {
    Next::Retry { paid: false }
}

fn give_up(failure: F) -> Next {
    Next::GiveUp(failure)
}

fn respond(_: F) -> Next {
    Next::Respond
}

/// The server at 0 of two failed at the first of at most two attempts; the second server is up.
struct Case {
    method: Method,
    body: BodyState,
    attempts: u32,
    budget: u32,
    usable: u64,
    has_time: bool,
    needs_new_connection: bool,
}

const USUAL: Case = Case {
    method: Method::GET,
    body: KEPT,
    attempts: 1,
    budget: 100,
    usable: 0b11,
    has_time: true,
    needs_new_connection: false,
};

fn settings() -> Retry {
    Retry { tries: 2, budget: 20, reserve: 10, timeout: Some(Duration::from_secs(1)), statuses: vec![502, 503] }
}

#[track_caller]
fn check(case: &Case, failure: F, expect: impl FnOnce(F) -> Next) {
    let expect = expect(failure);
    let settings = settings();
    let mut retry = RetryState::new(&settings, &case.method);
    (retry.attempts, retry.needs_new_connection) = (case.attempts, case.needs_new_connection);
    let left = RetryAllowance { budget: case.budget, has_time: case.has_time };
    let next = retry.next(failure, 0, case.body, left, || case.usable);
    assert_eq!(next, expect, "{} {failure:?} {:?}", case.method, case.body);
    // What is kept for the attempt after this one.
    let after = (retry.attempts, retry.failed_servers, retry.needs_new_connection);
    let same = (case.attempts, 0, case.needs_new_connection);
    assert_eq!(
        after,
        match next {
            Next::GiveUp(_) | Next::Respond => same,
            // What the server cannot have read is no try.
            Next::Retry { paid: false } => (case.attempts + u32::from(failure.has_left()), 0, true),
            Next::Retry { paid: true } => (case.attempts + 1, 1, false),
        }
    );
}

#[test]
fn failures() {
    let broke = F::Closed { sent: true, reused: false };
    let stale = F::Closed { sent: true, reused: true };
    let refused = F::Closed { sent: false, reused: false };
    let late = F::TimedOut { cut_short: false };
    for failure in [broke, late, F::Truncated, F::Malformed("head breaks HTTP"), F::UnaskedSwitch, F::Unsendable("x")] {
        // Idempotent, and the body is there: on another server.
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            check(&Case { method, ..USUAL }, failure, again);
        }
        check(&Case { body: COMING, ..USUAL }, failure, again);
        check(&Case { method: Method::PUT, body: GONE, ..USUAL }, failure, give_up);
        check(&Case { method: Method::POST, ..USUAL }, failure, give_up);
        check(&Case { method: Method::PATCH, ..USUAL }, failure, give_up);
        // What may be spent.
        check(&Case { attempts: 2, ..USUAL }, failure, give_up);
        check(&Case { budget: 99, ..USUAL }, failure, give_up);
        check(&Case { usable: 0b01, ..USUAL }, failure, give_up);
        check(&Case { usable: 0, ..USUAL }, failure, give_up);
        check(&Case { has_time: false, ..USUAL }, failure, give_up);
        check(&Case { needs_new_connection: true, ..USUAL }, failure, again);
    }
    // A connection that was kept too long, or that takes no more: once for nothing, on a new connection.
    check(&USUAL, stale, free);
    check(&Case { budget: 0, usable: 0, ..USUAL }, stale, free);
    check(&Case { attempts: 2, ..USUAL }, stale, give_up);
    check(&Case { attempts: 2, budget: 0, usable: 0, ..USUAL }, refused, free);
    check(&Case { has_time: false, ..USUAL }, stale, give_up);
    check(&Case { method: Method::POST, has_time: false, ..USUAL }, refused, give_up);
    check(&Case { method: Method::POST, ..USUAL }, stale, give_up);
    check(&Case { body: GONE, ..USUAL }, stale, give_up);
    check(&Case { needs_new_connection: true, ..USUAL }, stale, again);
    check(&Case { needs_new_connection: true, budget: 0, ..USUAL }, stale, give_up);
    check(&Case { method: Method::POST, ..USUAL }, refused, free);
    check(&Case { method: Method::POST, body: GOING, ..USUAL }, refused, give_up);
    check(&Case { method: Method::POST, needs_new_connection: true, ..USUAL }, refused, again);
    // Statuses that are configured are not passed on while another server may be tried.
    check(&USUAL, F::Status(503), again);
    check(&USUAL, F::Status(500), respond);
    check(&Case { method: Method::POST, ..USUAL }, F::Status(503), respond);
    check(&Case { body: GONE, ..USUAL }, F::Status(503), respond);
    check(&Case { attempts: 2, ..USUAL }, F::Status(503), respond);
    check(&Case { budget: 99, ..USUAL }, F::Status(503), respond);
    check(&Case { usable: 0b01, ..USUAL }, F::Status(503), respond);
    check(&Case { has_time: false, ..USUAL }, F::Status(503), respond);
    // The client's own fault.
    check(&USUAL, F::Body(BodyError::TooSlow), give_up);
}

#[test]
fn nothing_is_made_twice_and_nothing_is_lost() {
    let settings = settings();
    let failures = [
        F::Body(BodyError::Gone),
        F::Closed { sent: false, reused: false },
        F::Closed { sent: false, reused: true },
        F::Closed { sent: true, reused: false },
        F::Closed { sent: true, reused: true },
        F::Malformed("x"),
        F::Status(503),
        F::TimedOut { cut_short: false },
        F::TimedOut { cut_short: true },
        F::Truncated,
        F::UnaskedSwitch,
        F::Unsendable("x"),
    ];
    for (failure, method) in failures.iter().flat_map(|failure| [Method::POST, Method::GET].map(|it| (*failure, it))) {
        for body in [KEPT, COMING, GONE, GOING] {
            let mut retry = RetryState::new(&settings, &method);
            let next = retry.next(failure, 0, body, ENOUGH, || u64::MAX);
            let is_again = matches!(next, Next::Retry { .. });
            let never_left = matches!(failure, F::Closed { sent: false, .. });
            assert!(!is_again || body.is_kept, "{failure:?} {method} {body:?}");
            assert!(!is_again || never_left || method == Method::GET, "{failure:?} {method} {body:?}");
        }
    }
}

/// Every attempt fails in the same way, on a kept connection wherever one may be used. `reads`: how many of the requests
/// a server may have read.
#[test]
fn a_request_ends() {
    let stale = F::Closed { sent: true, reused: true };
    let fresh = F::Closed { sent: true, reused: false };
    let refused = F::Closed { sent: false, reused: true };
    for (tries, failure, sends, reads) in [
        (1, stale, 1, 1),
        (2, stale, 2, 2),
        (3, stale, 3, 3),
        (10, stale, 10, 10),
        (1, fresh, 1, 1),
        (2, fresh, 2, 2),
        // One for nothing with each try. None of them was read.
        (1, refused, 2, 0),
        (2, refused, 4, 0),
        (4, refused, 8, 0),
        (1, F::TimedOut { cut_short: false }, 1, 1),
        (4, F::Truncated, 4, 4),
        (4, F::Status(503), 4, 4),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let settings = Retry { tries, ..settings() };
            let mut retry = RetryState::new(&settings, &method);
            let (mut all, mut read) = (0, 0);
            loop {
                // A new connection has carried nothing before.
                let failure = match failure {
                    F::Closed { sent, reused } => F::Closed { sent, reused: reused && !retry.needs_new_connection },
                    other => other,
                };
                all += 1;
                read += u32::from(failure.has_left());
                if !matches!(retry.next(failure, 0, KEPT, ENOUGH, || u64::MAX), Next::Retry { .. }) {
                    break;
                }
            }
            assert_eq!((all, read), (sends, reads), "{method} {tries} {failure:?}");
        }
    }
}

/// With `tries = 1` a request that was written is never written again.
#[test]
fn one_try_is_one() {
    let settings = Retry { tries: 1, ..settings() };
    type Expect = fn(F) -> Next;
    let cases: [(F, Expect); 6] = [
        (F::Closed { sent: true, reused: true }, give_up),
        (F::Closed { sent: true, reused: false }, give_up),
        (F::Closed { sent: false, reused: true }, free),
        (F::Closed { sent: false, reused: false }, free),
        (F::Status(503), respond),
        (F::Truncated, give_up),
    ];
    for (failure, expect) in cases {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let mut retry = RetryState::new(&settings, &method);
            assert_eq!(retry.next(failure, 0, KEPT, ENOUGH, || u64::MAX), expect(failure), "{method} {failure:?}");
        }
    }
    // What is not sent again is the connection's fault, as it is for a POST.
    let retry = RetryState::new(&settings, &Method::GET);
    assert_eq!(retry.blame(F::Closed { sent: true, reused: true }, KEPT), B::Connection);
}

#[test]
fn blame() {
    let settings = settings();
    for (failure, body, expect) in [
        (F::Body(BodyError::TooLarge), KEPT, B::Nobody),
        (F::Closed { sent: true, reused: true }, KEPT, B::Nobody),
        (F::Closed { sent: false, reused: false }, KEPT, B::Nobody),
        (F::Closed { sent: true, reused: true }, GONE, B::Connection),
        (F::Closed { sent: true, reused: true }, GOING, B::Nobody),
        (F::Closed { sent: true, reused: false }, KEPT, B::Connection),
        (F::Closed { sent: true, reused: false }, COMING, B::Nobody),
        (F::Malformed("x"), GOING, B::Server),
        (F::Status(503), KEPT, B::Status(503)),
        (F::TimedOut { cut_short: false }, GOING, B::Server),
        (F::TimedOut { cut_short: true }, KEPT, B::Nobody),
        (F::Truncated, KEPT, B::Server),
        (F::Truncated, GOING, B::Nobody),
        (F::UnaskedSwitch, KEPT, B::Server),
        (F::Unsendable("x"), KEPT, B::Nobody),
    ] {
        let retry = RetryState::new(&settings, &Method::GET);
        assert_eq!(retry.blame(failure, body), expect, "{failure:?} {body:?}");
    }
}
