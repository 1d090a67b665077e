//! Decides how bans are kept from doing harm and how they grow, as `[guard]` says it.

use std::time::Duration;

use super::{
    process::LONGEST_BAN,
    table::Table,
    value::{self, Wrong},
};
use crate::settings::guard::{Breaker, Ladder, Safety};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// By how many bits a ban may widen at most: as many client prefixes are looked up as they make.
const WIDEST: u8 = 12;

/// Reads those settings of `[guard]` that are about the safety of bans.
pub(super) fn read(guard: &mut Table<'_>, ipv6_prefix: u8, widest_ipv6: u8) -> Safety {
    let defaults = Safety::default();
    let day = || value::duration_in(Duration::ZERO..=30 * DAY);
    Safety {
        unban_grace: guard.or("unban_grace", defaults.unban_grace, day()),
        probation: guard.or("probation", defaults.probation, day()),
        shield_clients: guard.or("shield_clients", defaults.shield_clients, value::integer(0..=1_000_000)),
        shared_principals: guard.or("shared_principals", defaults.shared_principals, value::integer(0..=16)),
        good_for: guard.or("good_for", defaults.good_for, value::duration_in(60 * SECOND..=DAY)),
        remember_good: guard.or("remember_good", defaults.remember_good, day()),
        established: guard.or("established", defaults.established, value::duration_in(Duration::ZERO..=DAY)),
        breaker: breaker(guard.table("breaker"), defaults.breaker),
        ladder: ladder(guard.table("ladder"), ipv6_prefix, widest_ipv6),
    }
}

fn breaker(mut table: Table<'_>, defaults: Breaker) -> Breaker {
    let breaker = Breaker {
        share: table.or("share", defaults.share, value::integer(0..=100)),
        at_least: table.or("at_least", defaults.at_least, value::integer(1..=1_000_000)),
        pause: table.or("pause", defaults.pause, value::duration_in(SECOND..=DAY)),
    };
    table.finish();
    breaker
}

fn ladder(mut table: Table<'_>, ipv6_prefix: u8, widest_ipv6: u8) -> Ladder {
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
        table.report("factors", Wrong::new("is empty").hint("write [1] for bans that do not grow"));
    } else if !ladder.factors.is_sorted() {
        table.report("factors", Wrong::new("shrinks").hint("write them from the smallest: [1, 3, 10]"));
    }
    table.finish();
    ladder
}
