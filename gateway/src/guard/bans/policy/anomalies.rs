//! What the observer says is not usual, and whose requests are limited because of that.
//!
//! *Invariant:* nothing is done about sources for longer than [`FRESH`] after the observer has said that something deviates:
//! a proxy alone cannot have anybody limited, clamped or banned for an anomaly. At most [`MAX_SLOWED`] sources are limited.

use std::collections::BTreeMap;

use gateway_common::{limit::ArrivalTime, source::Source};

use super::breaker;
use crate::{
    clock::{MINUTE, Now},
    detect::{Deviating, MAX_DEVIATING},
    message::{MAX_SLOWED, Slowed},
    settings::anomalies::{Action, Actions, ClientMeasure},
};

/// How long what the observer says is believed: it says it again every minute.
const FRESH: u64 = 2 * MINUTE;

/// What became of what was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::guard::bans) enum ActionResult {
    Done,
    /// It was done before.
    GoesOn,
    Refused,
}

impl ActionResult {
    pub(in crate::guard::bans) const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::GoesOn => "goes_on",
            Self::Refused => "refused",
        }
    }
}

/// What is known of anomalies.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Anomalies {
    told: Vec<Deviating>,
    /// When they were told: `CLOCK_MONOTONIC`, nanoseconds.
    at: u64,
    slowed: BTreeMap<Source, (Slowed, ClientMeasure)>,
    pace: ArrivalTime,
    counts: BTreeMap<(&'static str, ActionResult), u64>,
}

impl Anomalies {
    /// The observer says what is not usual, in the place of what it said before.
    pub(in crate::guard::bans) fn hear(&mut self, mut told: Vec<Deviating>, now: Now) {
        told.truncate(MAX_DEVIATING);
        (self.told, self.at) = (told, now.monotonic);
    }

    /// What the observer has said of a series lately.
    pub(in crate::guard::bans) fn find(
        &self,
        of: &str,
        measure: ClientMeasure,
        minute: u64,
        now: Now,
    ) -> Option<&Deviating> {
        let is_fresh = now.monotonic.saturating_sub(self.at) < FRESH;
        let is_it = |one: &&Deviating| one.of == of && one.measure == measure && one.minute == minute;
        self.told.iter().find(is_it).filter(|_| is_fresh)
    }

    /// Counts what became of what was to be done.
    pub(in crate::guard::bans) fn count(&mut self, action: Action, result: ActionResult) {
        *self.counts.entry((action.name(), result)).or_default() += 1;
    }

    /// How often each action was to be done, by what became of it.
    pub(in crate::guard::bans) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().map(|((action, result), count)| (*action, result.name(), *count))
    }

    pub(in crate::guard::bans) fn slowed(&self) -> impl Iterator<Item = Slowed> {
        self.slowed.values().map(|(slowed, _)| *slowed)
    }

    /// How a source is limited.
    pub(in crate::guard::bans) fn slows(&self, source: Source) -> Option<Slowed> {
        self.slowed.get(&source).map(|(slowed, _)| *slowed)
    }

    /// Limits a source, or goes on limiting it. `false`: there is no room for one more.
    pub(in crate::guard::bans) fn slow(&mut self, slowed: Slowed, measure: ClientMeasure) -> bool {
        let has_room = self.slowed.len() < MAX_SLOWED || self.slowed.contains_key(&slowed.source);
        if has_room {
            self.slowed.insert(slowed.source, (slowed, measure));
        }
        has_room
    }

    /// Spends one of `most` new limits per minute; `false`: there is none left.
    pub(in crate::guard::bans) fn spend(&mut self, most: u32, now: Now) -> bool {
        breaker::spend(&mut self.pace, most, now)
    }

    /// Ends limits that are over, or not wanted any more. Returns them.
    pub(in crate::guard::bans) fn end(
        &mut self,
        actions: &Actions,
        is_allowed: impl Fn(Source) -> bool,
        now: Now,
    ) -> Vec<Slowed> {
        let is_over = |source: &Source, (slowed, measure): &mut (Slowed, ClientMeasure)| {
            let is_wanted = actions.of(*measure) == Action::Limit && actions.per_minute == slowed.per_minute;
            slowed.until <= now.monotonic || !is_wanted || is_allowed(*source)
        };
        self.slowed.extract_if(.., is_over).map(|(_, (slowed, _))| slowed).collect()
    }
}
