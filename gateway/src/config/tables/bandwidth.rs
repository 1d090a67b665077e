//! Reads `[bandwidth.NAME]`: how many bytes of bodies pass in a second.

use std::time::Duration;

use toml::de::DeValue;

use super::limit::{LimitReferences, by, except, routes};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            self,
            form::{Form, described},
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::{
        bandwidth,
        limit::{Allowance, Cost, Limit, MAX_LIMITS, Rate, Speed},
    },
};

/// The keys of `[bandwidth.NAME]`.
pub(super) const KEYS: Keys = &[
    (
        "by",
        "What requests must have in common to share the bandwidth. What a request lacks is replaced by its address.",
    ),
    ("upload", "The bytes of request bodies in a second."),
    ("download", "The bytes of response bodies in a second."),
    ("burst", "The bytes that pass at once after a pause. Without it: as many as in a second."),
    ("routes", "The names and tags of the routes that are limited. Without it: all."),
    ("except", "Who is not limited."),
    ("capacity", "The number of counters that are kept at once."),
];

/// The keys of `[plan.NAME.bandwidth.BANDWIDTH]`.
pub(super) const PLAN_KEYS: Keys = &[
    ("upload", "The bytes of request bodies in a second."),
    ("download", "The bytes of response bodies in a second."),
    ("burst", "The bytes that pass at once after a pause. Without it: as many as in a second."),
];

/// The least speed: a piece of a body takes less than a minute.
const LEAST: u64 = 1 << 10;

/// A burst is at least what passes in this part of a second: timers are late by a millisecond or more.
const LATE: u64 = 20;

/// The highest: a tebibyte a second.
const MOST: u64 = 1 << 40;

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    known: &LimitReferences<'_>,
    reader: &Reader<'_>,
) -> bandwidth::Settings {
    let mut settings = bandwidth::Settings::default();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let routes = table.has("routes").then(|| routes(&table, known.routes));
        let by = by(&table, routes.as_deref(), known);
        let speed = speed(&table);
        let except = except(&table);
        let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
        if !table.has("routes") {
            // For the reference alone.
            table.list("routes", described("name or tag of a route", value::line));
        }
        if !reader.is_reference() && !table.has("upload") && !table.has("download") {
            let wrong = Diagnostic::new(table.own_key(), "limits nothing");
            reader.report(wrong.hint("write `upload`, `download` or both: `download = \"10MiB/s\"`"));
        }
        table.finish();
        for (rate, cost, into) in [
            (speed.upload, Cost::RequestBytes, &mut settings.upload),
            (speed.download, Cost::ResponseBytes, &mut settings.download),
        ] {
            into.limits.extend(rate.map(|rate| Limit {
                by: by.clone(),
                cost,
                routes: routes.clone(),
                except: except.clone(),
                ..Limit::plain(name.clone(), Allowance::Rate(rate), capacity)
            }));
        }
    }
    if settings.upload.limits.len().max(settings.download.limits.len()) > MAX_LIMITS {
        let wrong = Diagnostic::new("bandwidth", format!("there are more than {MAX_LIMITS} of them"));
        reader.report(wrong.hint("count several routes together: `routes` takes tags"));
    }
    settings
}

/// How much passes each way.
pub(super) fn speed(table: &Table<'_>) -> Speed {
    let upload = table.optional("upload", bytes_a_second());
    let download = table.optional("download", bytes_a_second());
    let burst = table.optional("burst", value::size_in(LEAST..=MOST));
    let rate = |units: u64| {
        let rate = Rate { units, per: Duration::from_secs(1), burst: burst.unwrap_or(units).max(units.div_ceil(LATE)) };
        if rate.pace().is_none() {
            table
                .report("burst", Diagnostic::bare("would take over a year to come back").hint("write a smaller burst"));
            return None;
        }
        Some(rate)
    };
    Speed { upload: upload.and_then(rate), download: download.and_then(rate) }
}

/// A size, with or without `/s`.
fn bytes_a_second() -> impl Form<u64> {
    described("size in a second, such as `\"10MiB/s\"`", |value| {
        let DeValue::String(text) = value else { return value::size_in(LEAST..=MOST).read(value) };
        let text = text.strip_suffix("/s").unwrap_or(text);
        value::size_in(LEAST..=MOST).read(&DeValue::String(text.into()))
    })
}
