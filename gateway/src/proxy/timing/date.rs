//! The `Date` header of responses that have none.

use std::cell::Cell;

use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use super::deadline;
use crate::os::clock;

/// The length of a date (RFC 9110 5.6.7).
const DATE: usize = 29;

/// The current date (RFC 9110 5.6.7), formatted once a second.
pub(in crate::proxy) fn today() -> [u8; DATE] {
    thread_local! {
        static TODAY: Cell<(u64, [u8; DATE])> = const { Cell::new((0, [b' '; DATE])) };
    }
    let now = deadline::now();
    let (until, known) = TODAY.get();
    if now < until {
        return known;
    }
    let wall = clock::Now::read().unix_millis;
    let (seconds, passed) = (wall / 1_000, wall % 1_000);
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&moment.unwrap_or_default()).unwrap_or_default();
    let date = <[u8; DATE]>::try_from(text.as_bytes()).unwrap_or([b' '; DATE]);
    TODAY.set((now.saturating_add((1_000 - passed) * 1_000_000), date));
    date
}
