//! Reads `[limit.NAME.clamp]`: when the kernel lets a source that goes on over a limit send less.

use std::time::Duration;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value,
    },
    diagnostic::Diagnostic,
    settings::{
        detect::{MAX_EVIDENCE, Rule},
        guard,
        limit::Clamp,
    },
    signal::Signal,
};

/// The keys of `[limit.NAME.clamp]`.
pub(super) const KEYS: Keys = &[
    ("after", "So many requests of a source that this limit refuses within `within` clamp the source."),
    ("within", "The time in which they count."),
    ("divide", "By how much the source's packet, byte and SYN budgets are divided."),
    ("for", "How long a clamp lasts. A source that goes on is clamped anew."),
    ("shadow", "`true` counts the packets that a clamp would drop and drops none."),
];

const SECOND: Duration = Duration::from_secs(1);

/// The longest clamp: whoever is to be kept away for longer is for a rule to ban.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The requests that led to a clamp are its evidence, and no more of them are kept.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const MOST: u32 = MAX_EVIDENCE as u32;

/// What limits of packets there are to divide.
#[derive(Clone, Copy)]
pub(in crate::config::tables) struct PacketLimits {
    pub(in crate::config::tables) has_limits: bool,
    pub(in crate::config::tables) has_interfaces: bool,
}

impl PacketLimits {
    pub(in crate::config::tables) fn of(guard: &guard::Settings) -> Self {
        Self {
            has_limits: guard.packet_limit.or(guard.byte_limit).or(guard.syn_limit).is_some(),
            has_interfaces: !guard.interfaces.is_empty(),
        }
    }
}

pub(super) fn read(table: &Table<'_>, kernel: PacketLimits, reader: &Reader<'_>) -> Option<Clamp> {
    let own = table.table("clamp", KEYS);
    let clamp = Clamp {
        after: own.or("after", 50, value::integer(1..=MOST)),
        within: own.or("within", 10 * SECOND, value::duration_in(SECOND..=LONGEST)),
        divide: own.or("divide", 10, value::integer(2..=10_000)),
        lasts: own.or("for", 60 * SECOND, value::duration_in(SECOND..=LONGEST)),
        shadow: own.or("shadow", false, value::boolean()),
    };
    let is_present = own.is_present();
    own.finish();
    if !is_present {
        return None;
    }
    if !kernel.has_limits {
        let wrong = Diagnostic::bare("has no budget to divide: packets are not limited");
        table.report("clamp", wrong.hint("add [guard.packet_limit], [guard.byte_limit] or [guard.syn_limit]"));
    } else if !kernel.has_interfaces {
        let warning = Diagnostic::bare("has no effect: no interface is guarded").at(table.key("clamp"));
        reader.warn(warning.hint("name an interface in guard.interfaces"));
    }
    Some(clamp)
}

/// What counts the refusals of a limit.
pub(in crate::config::tables) fn rule(limit: &str, clamp: Clamp) -> Rule {
    Rule {
        name: format!("{}{limit}", Clamp::PREFIX),
        signals: vec![Signal::OverLimit],
        count: clamp.after,
        within: clamp.within,
        ban: clamp.lasts,
        shadow: clamp.shadow,
        ..Rule::default()
    }
}
