//! Reads `[guard.ladder]`: how bans by rules grow.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::{Table, values},
        value,
    },
    diagnostic::Diagnostic,
    settings::guard::{LONGEST_BAN, Ladder},
};

/// The keys of `[guard.ladder]`.
pub(super) const KEYS: Keys = &[
    (
        "factors",
        "The first ban is as long as the rule says times the first factor, the second ban times the second, and so on.",
    ),
    ("decay", "A source that stays without a ban for this long goes one step down."),
    ("longest", "No ban grows longer than this."),
    ("widen_at", "When this many IPv6 clients of one network are banned, the network is banned. `0` turns this off."),
    (
        "widen_to",
        "The prefix length of that network. Without it: 8 bits wider than `ipv6_prefix`. At most 12 bits wider.",
    ),
];

const SECOND: Duration = Duration::from_secs(1);

/// By how many bits a ban may widen at most: as many client prefixes are looked up as they make.
const WIDEST: u8 = 12;

pub(super) fn read(table: Table<'_>, ipv6_prefix: u8, widest_ipv6: u8) -> Ladder {
    let defaults = Ladder::default();
    let factors = values(table.list_or("factors", defaults.factors, value::integer(1..=1_000_000)));
    let longest = ipv6_prefix.saturating_sub(WIDEST).max(widest_ipv6).min(ipv6_prefix);
    let usual = ipv6_prefix.saturating_sub(8).max(longest);
    let ladder = Ladder {
        decay: table.or("decay", defaults.decay, value::duration_in(SECOND..=LONGEST_BAN)),
        longest: table.or("longest", defaults.longest, value::duration_in(SECOND..=LONGEST_BAN)),
        widen_at: table.or("widen_at", defaults.widen_at, value::integer(0..=1 << WIDEST)),
        widen_to: table.or("widen_to", usual, value::integer(longest..=ipv6_prefix)),
        factors,
    };
    if ladder.factors.is_empty() {
        table.report("factors", Diagnostic::bare("is empty").hint("write [1] for bans that do not grow"));
    } else if !ladder.factors.is_sorted() {
        table.report(
            "factors",
            Diagnostic::bare("is not in ascending order").hint("write them from the smallest: [1, 3, 10]"),
        );
    }
    table.finish();
    ladder
}
