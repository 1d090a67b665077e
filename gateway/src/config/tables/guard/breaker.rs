//! Reads `[guard.breaker]`: when rules are kept from banning for a while.

use std::time::Duration;

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::guard::BreakerLimits,
};

/// The keys of `[guard.breaker]`.
pub(super) const KEYS: Keys = &[
    ("share", "Rules pause when they have banned this percentage of the good clients. `100` never pauses them."),
    ("at_least", "With fewer good clients than this, their share is not looked at."),
    ("pause", "How long rules stay paused. `gateway resume` ends the pause early."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(table: Table<'_>, defaults: BreakerLimits) -> BreakerLimits {
    let breaker = BreakerLimits {
        share: table.or("share", defaults.share, value::integer(0..=100)),
        at_least: table.or("at_least", defaults.at_least, value::integer(1..=1_000_000)),
        pause: table.or("pause", defaults.pause, value::duration_in(SECOND..=DAY)),
    };
    table.finish();
    breaker
}
