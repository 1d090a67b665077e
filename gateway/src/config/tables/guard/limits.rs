//! Reads the budgets of packets: `[guard.packet_limit]`, `[guard.byte_limit]`, `[guard.syn_limit]` and
//! `[guard.syn_cookies]`.

use std::ops::RangeInclusive;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, form::Form},
    },
    diagnostic::Diagnostic,
    settings::guard::{SourceLimit, SynCookies},
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
