//! Reads `[anomalies]`: whether what is usual is learned, when somebody is told, and what is done about the clients that an
//! anomaly comes from.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{limit::clamp::PacketLimits, quota};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::anomalies::{self, AnomalyAction, AnomalyActions},
};

/// The keys of `[anomalies]`.
pub(super) const KEYS: Keys = &[
    (
        "sensitivity",
        "How many standard deviations from what is usual something must be. Less: more is told, and more of it means nothing.",
    ),
    ("minutes", "For how many minutes in a row."),
    ("time_zone", "By whose hours of the week it is judged: the name of a time zone (IANA), such as `Europe/Berlin`."),
    (
        "action",
        "What is done about sources that an anomaly comes from: `tell` names them, `limit` limits their requests, `clamp` \
         divides their packet budgets in the kernel, `ban` bans them. Clients that are known to be good are only named.",
    ),
    ("for", "How long a limit, clamp or ban lasts. A source that goes on is limited or clamped anew."),
    ("per_minute", "How many requests a minute `limit` leaves a source."),
    ("divide", "By how much `clamp` divides the packet, byte and SYN budgets of a source."),
    ("capacity", "Of how many sources and principals, each on one route, requests are counted. About 300 bytes each."),
    ("actions", "Other actions for one measure."),
];

/// The keys of `[anomalies.actions]`.
const ACTION_KEYS: Keys = &[
    ("failures", "As `action`, where a route has more failures (4xx) than usual."),
    ("requests", "As `action`, where a route has more requests than usual."),
];

const SECOND: Duration = Duration::from_secs(1);

/// The longest that anything lasts because of an anomaly.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// The longest clamp, as that of a limit.
const LONGEST_CLAMP: Duration = Duration::from_secs(3_600);

/// `None`: nothing is learned.
pub(super) fn read(
    table: Table<'_>,
    has_admin: bool,
    kernel: PacketLimits,
    reader: &Reader<'_>,
) -> Option<anomalies::Settings> {
    let sensitivity = table.or("sensitivity", 6, value::integer(3..=100_u32));
    let minutes = table.or("minutes", 2, value::integer(1..=60_u32));
    let form = described("name of a time zone", quota::zone).written(|(name, _)| format!("{name:?}"));
    let (zone, _) = table.or("time_zone", ("UTC".to_owned(), TimeZone::UTC), form);
    let action = table.or("action", AnomalyAction::Tell, value::choice(&AnomalyAction::NAMES));
    let usual = AnomalyActions::default();
    let lasts = table.or("for", usual.lasts, value::duration_in(SECOND..=LONGEST));
    let per_minute = table.or("per_minute", usual.per_minute, value::integer(1..=1_000_000_u32));
    let divide = table.or("divide", usual.divide, value::integer(2..=10_000_u32));
    let capacity = table.or("capacity", 20_000, value::count(256..=1_000_000));
    let own = table.table("actions", ACTION_KEYS);
    let failures = own.or("failures", action, value::choice(&AnomalyAction::NAMES));
    let requests = own.or("requests", action, value::choice(&AnomalyAction::NAMES));
    own.finish();
    let is_present = table.is_present();
    if is_present && !has_admin {
        let wrong = Diagnostic::bare("needs the observer, which learns what is usual");
        table.report("sensitivity", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
    }
    if is_present && !reader.is_reference() && [failures, requests].contains(&AnomalyAction::Clamp) {
        judge_clamp(&table, lasts, kernel, reader);
    }
    table.finish();
    let actions = AnomalyActions { failures, requests, lasts, per_minute, divide };
    is_present.then(|| anomalies::Settings { sensitivity: sensitivity.into(), minutes, zone, actions, capacity })
}

/// A clamp divides budgets in the kernel: there have to be some.
fn judge_clamp(table: &Table<'_>, lasts: Duration, kernel: PacketLimits, reader: &Reader<'_>) {
    if lasts > LONGEST_CLAMP {
        let wrong = Diagnostic::bare("is longer than the hour that a clamp lasts at most");
        table.report("for", wrong.hint("write \"1h\" or less, or `ban` whoever is to be kept away for longer"));
    }
    if !kernel.has_limits {
        let wrong = Diagnostic::bare("says `clamp`, and there is no budget to divide: packets are not limited");
        table.report("action", wrong.hint("add [guard.packet_limit], [guard.byte_limit] or [guard.syn_limit]"));
    } else if !kernel.has_interfaces {
        let warning = Diagnostic::bare("says `clamp`, which has no effect: no interface is guarded");
        reader.warn(warning.at(table.key("action")).hint("name an interface in guard.interfaces"));
    }
}
