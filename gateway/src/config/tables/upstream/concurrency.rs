//! Reads `[upstream.NAME.concurrency]`: how many requests at once an upstream is to respond to.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::{Switch, Table},
        value,
    },
    diagnostic::Diagnostic,
    settings::upstream::Concurrency,
};

/// The keys of `[upstream.NAME.concurrency]`.
const KEYS: Keys = &[
    ("min", "The lowest limit that is tried."),
    ("max", "The highest limit that is tried."),
    ("limit", "A fixed limit, in the place of `min` and `max`."),
    (
        "queue",
        "The most requests that wait for their turn. Without it: as many as the limit is at that time, at least 10.",
    ),
    ("wait", "How long a request waits for its turn. `0s`: none waits."),
];

/// The highest limit.
const MOST: u32 = 1_000_000;

/// The limits that are tried where nothing else is said.
const USUAL: (u32, u32) = (5, 1_000);

const WAIT: Duration = Duration::from_millis(500);

/// `upstream.NAME.concurrency`: `true`, or a table.
pub(super) fn read(table: &Table<'_>) -> Option<Concurrency> {
    let inner = match table.switch("concurrency", KEYS) {
        Switch::Table(inner) => inner,
        Switch::Plain(false) => return None,
        Switch::Plain(true) => return Some(Concurrency { min: USUAL.0, max: USUAL.1, queue: None, wait: WAIT }),
    };
    let min = inner.or("min", USUAL.0, value::integer(1..=MOST));
    let max = inner.or("max", USUAL.1.max(min), value::integer(1..=MOST));
    let limit = inner.optional("limit", value::integer(1..=MOST));
    if let Some(key) = ["min", "max"].into_iter().find(|key| limit.is_some() && inner.has(key)) {
        inner.report(key, Diagnostic::bare("has no effect beside `limit`").hint("leave one of both out"));
    }
    if max < min {
        let wrong = Diagnostic::bare("is less than `min`");
        inner.report("max", wrong.hint("write at least as much, or leave it out"));
    }
    let queue = inner.optional("queue", value::count(0..=100_000));
    let wait = inner.or("wait", WAIT, value::duration_in(Duration::ZERO..=Duration::from_secs(60)));
    inner.finish();
    let (min, max) = limit.map_or((min, max.max(min)), |limit| (limit, limit));
    let queue = if wait.is_zero() { Some(0) } else { queue };
    Some(Concurrency { min, max, queue, wait })
}
