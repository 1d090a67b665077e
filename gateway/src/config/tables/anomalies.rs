//! Reads `[anomalies]`: whether what is usual is learned, and when somebody is told.

use jiff::tz::TimeZone;

use super::quota;
use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::anomalies::Settings,
};

/// The keys of `[anomalies]`.
pub(super) const KEYS: Keys = &[
    (
        "sensitivity",
        "How many standard deviations from what is usual something must be. Less: more is told, and more of it means nothing.",
    ),
    ("minutes", "For how many minutes in a row."),
    ("time_zone", "By whose hours of the week it is judged: the name of a time zone (IANA), such as `Europe/Berlin`."),
];

/// `None`: nothing is learned.
pub(super) fn read(table: Table<'_>, has_admin: bool) -> Option<Settings> {
    let sensitivity = table.or("sensitivity", 6, value::integer(3..=100_u32));
    let minutes = table.or("minutes", 2, value::integer(1..=60_u32));
    let form = described("name of a time zone", quota::zone).written(|(name, _)| format!("{name:?}"));
    let (zone, _) = table.or("time_zone", ("UTC".to_owned(), TimeZone::UTC), form);
    let is_present = table.is_present();
    if is_present && !has_admin {
        let wrong = Diagnostic::bare("needs the observer, which learns what is usual");
        table.report("sensitivity", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
    table.finish();
    is_present.then(|| Settings { sensitivity: sensitivity.into(), minutes, zone })
}
