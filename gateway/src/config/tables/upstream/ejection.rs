//! Reads `[upstream.NAME.ejection]`: when a server that fails requests is left out.

use std::time::Duration;

use toml::de::DeValue;

use crate::{
    config::{
        reader::Table,
        value::{self},
    },
    diagnostic::Diagnostic,
    settings::upstream::Ejection,
};

pub(super) fn read(mut table: Table<'_>) -> Option<Ejection> {
    if !table.is_present() {
        return None;
    }
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let failures = table.or("failures", 5, value::integer(1..=1_000));
    let clients = table.or("clients", 3, value::integer(1..=16));
    let is_told = table.has("statuses");
    let statuses = table.list("statuses", broken_status);
    let told = statuses.into_iter().map(|(_, status)| status).collect();
    let statuses = if is_told { told } else { BROKEN.to_vec() };
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
pub(super) fn broken_status(value: &DeValue<'_>) -> Result<u16, Diagnostic> {
    let status = value::integer(500..=599)(value)?;
    if BROKEN.contains(&status) {
        return Ok(status);
    }
    Err(Diagnostic::bare(format!("{status} says nothing about the server")).hint("write 500, 502, 503 or 504"))
}
