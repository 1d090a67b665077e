//! Reads `[upstream.NAME.retry]`: which requests are sent again, to another server.

use std::time::Duration;

use super::ejection::broken_status;
use crate::{
    config::{reader::Keys, table::Table, value},
    settings::upstream::Retry,
};

/// The keys of `[upstream.NAME.retry]`.
pub(super) const KEYS: Keys = &[
    ("tries", "The most tries of one request, the first included. `1` turns retries off. See `docs/upstreams.md`."),
    ("budget", "The share of requests that may be retried, in percent, per worker."),
    ("reserve", "This many retries may be made at once beyond the budget."),
    ("timeout", "The timeout of one try, to the head of its response. All tries together have `timeouts.response`."),
    ("statuses", "The response statuses that are retried."),
];

pub(super) fn read(table: Table<'_>) -> Retry {
    let default = Retry::default();
    let tries = table.or("tries", default.tries, value::integer(1..=10));
    let budget = table.or("budget", default.budget, value::integer(0..=100));
    let reserve = table.or("reserve", default.reserve, value::integer(0..=10_000));
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(3_600));
    let timeout = table.optional("timeout", value::duration_in(least..=most));
    let statuses = table.list("statuses", broken_status());
    table.finish();
    Retry { tries, budget, reserve, timeout, statuses: statuses.into_iter().map(|(_, status)| status).collect() }
}
