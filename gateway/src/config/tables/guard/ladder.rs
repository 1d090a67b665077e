//! Reads `[guard.ladder]`: how bans by rules grow.

use std::time::Duration;

use crate::{
    config::{
        reader::Table,
        value::{self, LONGEST_BAN},
    },
    diagnostic::Diagnostic,
    settings::guard::Ladder,
};

const SECOND: Duration = Duration::from_secs(1);

/// By how many bits a ban may widen at most: as many client prefixes are looked up as they make.
const WIDEST: u8 = 12;

pub(super) fn read(mut table: Table<'_>, ipv6_prefix: u8, widest_ipv6: u8) -> Ladder {
    let defaults = Ladder::default();
    let factors = table.list("factors", value::integer(1..=1_000_000));
    let factors: Vec<u32> = factors.into_iter().map(|(_, factor)| factor).collect();
    let longest = ipv6_prefix.saturating_sub(WIDEST).max(widest_ipv6).min(ipv6_prefix);
    let usual = ipv6_prefix.saturating_sub(8).max(longest);
    let ladder = Ladder {
        decay: table.or("decay", defaults.decay, value::duration_in(SECOND..=LONGEST_BAN)),
        longest: table.or("longest", defaults.longest, value::duration_in(SECOND..=LONGEST_BAN)),
        widen_at: table.or("widen_at", defaults.widen_at, value::integer(0..=1 << WIDEST)),
        widen_to: table.or("widen_to", usual, value::integer(longest..=ipv6_prefix)),
        factors: if table.has("factors") { factors } else { defaults.factors },
    };
    if ladder.factors.is_empty() {
        table.report("factors", Diagnostic::bare("is empty").hint("write [1] for bans that do not grow"));
    } else if !ladder.factors.is_sorted() {
        table.report("factors", Diagnostic::bare("shrinks").hint("write them from the smallest: [1, 3, 10]"));
    }
    table.finish();
    ladder
}
