//! Reads `[upstream.NAME.ejection]`: when a server that fails requests is left out.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::{Table, values},
        value::{
            self,
            form::{Form, described},
        },
    },
    diagnostic::Diagnostic,
    settings::upstream::Ejection,
};

/// The keys of `[upstream.NAME.ejection]`.
pub(super) const KEYS: Keys = &[
    ("failures", "This many failed requests in a row eject a server."),
    (
        "clients",
        "Responses with one of `statuses` eject a server once this many clients got one. Before that, the server is checked first.",
    ),
    ("statuses", "The response statuses that count as failures."),
    ("time", "How long a server is left out. The time doubles with each ejection in a row."),
    ("longest", "The longest ejection. A server without failures for this long starts afresh."),
    ("share", "The most servers that can be ejected, in percent."),
];

pub(super) fn read(table: Table<'_>) -> Option<Ejection> {
    if !table.is_present() {
        return None;
    }
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let failures = table.or("failures", 5, value::integer(1..=1_000));
    let clients = table.or("clients", 3, value::integer(1..=16));
    let statuses = values(table.list_or("statuses", BROKEN.to_vec(), broken_status()));
    let time = table.or("time", 10 * second, value::duration_in(Duration::from_millis(100)..=day));
    let longest = table.or("longest", time.max(300 * second), value::duration_in(Duration::from_millis(100)..=day));
    if longest < time {
        table.report(
            "longest",
            Diagnostic::bare("is shorter than `time`").hint("write at least as much, or leave it out"),
        );
    }
    let share = table.or("share", 50, value::integer(1..=100));
    table.finish();
    Some(Ejection { failures, clients, statuses, time, longest, share })
}

/// The answers that may say that a server is broken.
const BROKEN: [u16; 4] = [500, 502, 503, 504];

/// One of [`BROKEN`].
pub(super) fn broken_status() -> impl Form<u16> {
    described("500, 502, 503 or 504", |value| {
        let status = value::integer(500..=599_u16).read(value)?;
        if BROKEN.contains(&status) {
            return Ok(status);
        }
        Err(Diagnostic::bare(format!("{status} does not mean that the server failed"))
            .hint("write 500, 502, 503 or 504"))
    })
    .written(u16::to_string)
}
