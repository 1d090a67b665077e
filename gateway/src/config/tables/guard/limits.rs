//! Reads the budgets of packets: `[guard.packet_limit]`, `[guard.byte_limit]`, `[guard.syn_limit]`,
//! `[guard.total_limit]` and `[guard.syn_cookies]`.

use std::ops::RangeInclusive;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{
            self,
            form::{Form, described},
        },
    },
    diagnostic::Diagnostic,
    settings::guard::{SourceLimit, SynCookies, TotalLimit},
};

/// The keys of `[guard.packet_limit]`.
pub(super) const PACKETS_KEYS: Keys = &[
    ("packets", "The packets that a source may send per second."),
    ("burst", "The packets that a source may send at once. Without it: as many as `packets`."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

/// The keys of `[guard.byte_limit]`.
pub(super) const BYTE_KEYS: Keys = &[
    ("bytes", "The bytes that a source may send per second."),
    ("burst", "The bytes that a source may send at once. Without it: as many as `bytes`, and at least 64KiB."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

/// The keys of `[guard.syn_limit]`.
pub(super) const SYN_KEYS: Keys = &[
    ("syns", "The SYNs that a source may send per second."),
    ("burst", "The SYNs that a source may send at once. Without it: as many as `syns`."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

/// The keys of `[guard.total_limit]`.
pub(super) const TOTAL_KEYS: Keys = &[
    ("packets", "The packets of all sources together per second to ports where the gateway listens."),
    ("burst", "How many of them may come at once. Without it: as many as `packets`."),
    (
        "fast_lane",
        "The share of this budget that is kept for connections of clients who proved who they are, from 0 to 0.9. They use \
         it while the rest is spent. `0` turns it off.",
    ),
    ("fast_lane_connections", "The most connections of one principal that may use the fast lane at once."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

/// The keys of `[guard.syn_cookies]`.
pub(super) const COOKIES_KEYS: Keys = &[
    ("per_second", "The SYNs of all sources per second that are passed on as they are."),
    ("burst", "The SYNs that are passed on at once. Without it: as many as `per_second`."),
];

/// How many of anything a second's limit may be.
pub(super) const UNITS: RangeInclusive<u64> = 1..=1_000_000_000;

/// As [`UNITS`], of bytes: up to a terabit.
pub(super) const BYTES: RangeInclusive<u64> = 1..=1 << 37;

/// The largest packet that the kernel program is given: a smaller burst would never let it pass.
pub(super) const FRAME: u64 = 65_536;

pub(super) fn source(
    table: Table<'_>,
    unit: &'static str,
    example: &str,
    form: impl Form<u64> + Clone,
    least_burst: u64,
) -> Option<SourceLimit> {
    if !table.is_present() {
        return None;
    }
    let per_second = table.required(unit, example, form.clone());
    let burst = table.optional("burst", form);
    let shadow = table.or("shadow", false, value::boolean());
    let limit = per_second.map(|per_second| SourceLimit {
        per_second,
        burst: burst.unwrap_or_else(|| per_second.max(least_burst)),
        shadow,
    });
    if let Some(limit) = limit
        && limit.burst < least_burst
    {
        let message = format!("{} is less than the largest packet", limit.burst);
        table.report("burst", Diagnostic::bare(message).hint(format!("write at least {least_burst}, or leave it out")));
    }
    table.finish();
    limit
}

/// What of the budget is kept for connections that proved themselves: a fifth. They need little, and what they do not use is
/// lost to others only while the rest is spent.
const FAST_LANE: u32 = 200_000;

/// Something must be left for who has yet to prove itself.
const MOST_FAST_LANE: u32 = 900_000;

/// The least budget that can be shared: a hundred packets for each part.
const LEAST_TOTAL: u64 = 1_000;

pub(super) fn total(table: Table<'_>) -> Option<TotalLimit> {
    if !table.is_present() {
        return None;
    }
    let form = || value::integer(LEAST_TOTAL..=*UNITS.end());
    let per_second = table.required("packets", "500000", form());
    let burst = table.optional("burst", form());
    let share =
        described("number from 0 to 0.9", value::share).written(|share: &u32| format!("{}", f64::from(*share) / 1e6));
    let mut fast_lane = table.or("fast_lane", FAST_LANE, share);
    if fast_lane > MOST_FAST_LANE {
        let wrong = Diagnostic::bare("leaves too little for clients that have yet to prove who they are");
        table.report("fast_lane", wrong.hint("write at most 0.9"));
        fast_lane = MOST_FAST_LANE;
    }
    let fast_lane_connections = table.or("fast_lane_connections", 64, value::integer(1..=65_536));
    let shadow = table.or("shadow", false, value::boolean());
    table.finish();
    let per_second = per_second?;
    let burst = burst.unwrap_or(per_second);
    Some(TotalLimit { per_second, burst, fast_lane, fast_lane_connections, shadow })
}

pub(super) fn syn_cookies(table: Table<'_>) -> Option<SynCookies> {
    if !table.is_present() {
        return None;
    }
    let per_second = table.required("per_second", "1000", value::integer(UNITS));
    let burst = table.optional("burst", value::integer(UNITS));
    table.finish();
    let per_second = per_second?;
    Some(SynCookies { per_second, burst: burst.unwrap_or(per_second) })
}
