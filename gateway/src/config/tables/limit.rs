//! Reads `[limit]`: how many requests an address may make.

use std::time::Duration;

use gateway_common::limit::Rate;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self},
    },
    diagnostic::Diagnostic,
    settings::limit::Settings,
};

/// The keys of `[limit]`.
pub(super) const KEYS: Keys =
    &[("address", "A rate limit of requests per source. Without this table requests are not limited.")];

/// The keys of `[limit.address]`.
const ADDRESS_KEYS: Keys = &[
    ("requests", "The requests that a source may make per `per`."),
    ("per", "The period of `requests`."),
    ("burst", "The requests that a source may make at once. Without it: as many as `requests`."),
    ("capacity", "The number of sources that are tracked at once."),
    ("shadow", "`true` counts what would be refused and serves it."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(table: Table<'_>) -> Option<Settings> {
    let address = table.table("address", ADDRESS_KEYS);
    table.finish();
    if !address.is_present() {
        return None;
    }
    let requests = address.required("requests", "100", value::integer(1..=1_000_000_000));
    let per = address.or("per", SECOND, value::duration_in(Duration::from_millis(1)..=DAY));
    let burst = address.optional("burst", value::integer(1..=1_000_000_000));
    let capacity = address.or("capacity", 100_000, value::count(1..=10_000_000));
    let shadow = address.or("shadow", false, value::boolean());
    let requests: u64 = match requests {
        Some(requests) => requests,
        None => {
            address.finish();
            return None;
        }
    };
    let period = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
    let rate = Rate::per(requests, period, burst.unwrap_or(requests));
    if rate.is_none() {
        let wrong = Diagnostic::bare("is more than one request per nanosecond");
        address.report("requests", wrong.hint("write fewer requests, or a longer `per`"));
    }
    address.finish();
    Some(Settings { rate: rate?, capacity, shadow })
}
