//! Reads `[detect]`: how many sources rules keep count of.

use std::time::Duration;

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::detect::{self, Defaults},
};

/// The keys of `[detect]`.
pub(super) const KEYS: Keys = &[
    ("capacity", "The number of sources whose signals are counted at once."),
    (
        "defaults",
        "The default rules. `shadow`: they count and report. `enforce`: they ban, but for those that stay in shadow mode. A \
         `[[rule]]` with the name of a default rule changes it, and puts it in force by itself.",
    ),
    (
        "profiles",
        "Of how many sources and principals it is kept what they do, for `gateway top --l7` and `gateway why`. `0` keeps \
         nothing. Not set: 10,000 with `defaults`, else 0.",
    ),
    (
        "unusual_after",
        "How long a principal is known before a new source, `User-Agent` or JA4 is `unusual`. Only where a rule names that \
         signal.",
    ),
];

const PROFILES: u32 = 10_000;
const MOST_PROFILES: u32 = 1_000_000;

const HOUR: Duration = Duration::from_secs(3_600);

/// The rules are read after it: they are nothing without `defaults`.
pub(super) fn read(table: Table<'_>) -> detect::Settings {
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    let defaults = table.or("defaults", Defaults::Off, value::choice(&Defaults::NAMES));
    let kept = if defaults == Defaults::Off { 0 } else { PROFILES };
    let profiles = table.or("profiles", kept, value::integer(0..=MOST_PROFILES));
    let longest = 90 * 24 * HOUR;
    let unusual_after = table.or("unusual_after", 24 * HOUR, value::duration_in(Duration::ZERO..=longest));
    table.finish();
    let profiles = usize::try_from(profiles).unwrap_or(usize::MAX);
    detect::Settings { capacity, unusual_after, defaults, profiles, ..detect::Settings::default() }
}
