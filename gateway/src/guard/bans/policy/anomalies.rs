//! What the observer says is not usual, and whose requests are limited because of that.
//!
//! *Invariant:* nothing is done about sources for longer than [`FRESH`] after the observer has said that something deviates:
//! a proxy alone cannot have anybody limited, clamped or banned for an anomaly. At most [`MAX_SLOWED`] sources are limited.
//!
//! *Invariant:* what the observer says is held against what it can know before anybody acts by it: one in wrong hands could
//! call everybody new, or one request too many.

use std::collections::BTreeMap;

use gateway_common::{limit::ArrivalTime, source::Source};

use super::breaker;
use crate::{
    message::{MAX_SLOWED, Slowed},
    os::clock::{MINUTE, Now},
    policy::detect::{Deviating, MAX_DEVIATING},
    settings::anomalies::{AnomalyAction, AnomalyActions, ClientMeasure},
};

/// How long what the observer says is believed: it says it again every minute.
const FRESH: u64 = 2 * MINUTE;

/// The longest that something deviates, in minutes: by then it has been learned.
const LONGEST: u64 = 28 * 24 * 60;

/// So few of one source are never more than usual of all.
const LEAST: u64 = 3;

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
pub(in crate::guard::bans) struct AnomalyPolicy {
    told: Vec<Deviating>,
    /// When they were told: `CLOCK_MONOTONIC`, nanoseconds.
    at: u64,
    slowed: BTreeMap<Source, (Slowed, ClientMeasure)>,
    pace: ArrivalTime,
    counts: BTreeMap<(&'static str, ActionResult), u64>,
}

impl AnomalyPolicy {
    /// The observer says what is not usual, in the place of what it said before. Returns as much of it as may be so.
    pub(in crate::guard::bans) fn hear(&mut self, told: Vec<Deviating>, now: Now) -> &[Deviating] {
        // Its clock and this one are those of the same host; a minute may begin meanwhile.
        let latest = now.unix_millis / 60_000 + 1;
        let told = told.into_iter().take(MAX_DEVIATING).filter(|one| one.minute <= latest).map(sane);
        (self.told, self.at) = (told.collect(), now.monotonic);
        &self.told
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
    pub(in crate::guard::bans) fn count(&mut self, action: AnomalyAction, result: ActionResult) {
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
        actions: &AnomalyActions,
        is_allowed: impl Fn(Source) -> bool,
        now: Now,
    ) -> Vec<Slowed> {
        let is_over = |source: &Source, (slowed, measure): &mut (Slowed, ClientMeasure)| {
            let is_wanted = actions.of(*measure) == AnomalyAction::Limit && actions.per_minute == slowed.per_minute;
            slowed.until <= now.monotonic || !is_wanted || is_allowed(*source)
        };
        self.slowed.extract_if(.., is_over).map(|(_, (slowed, _))| slowed).collect()
    }
}

/// What the observer says of one series, as far as it may be so: it began before it was found, not too long ago, and some
/// requests are never too many. Texts are one line.
fn sane(told: Deviating) -> Deviating {
    let one_line = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect();
    Deviating {
        of: one_line(&told.of),
        since: told.since.clamp(told.minute.saturating_sub(LONGEST), told.minute),
        alone: told.alone.max(LEAST),
        sentence: one_line(&told.sentence),
        ..told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_observer_in_wrong_hands_says() {
        let now = Now { monotonic: 0, unix_millis: 1_000_000 * 60_000 };
        for (minute, since, alone, expect) in [
            (999_999, 999_990, 14, Some((999_990, 14))),
            (1_000_001, 1_000_001, 14, Some((1_000_001, 14))),
            // Everybody was first served after it began.
            (999_999, 0, 14, Some((999_999 - LONGEST, 14))),
            // Nobody was.
            (999_999, u64::MAX, 14, Some((999_999, 14))),
            (5, 0, 14, Some((0, 14))),
            (999_999, 999_999, 0, Some((999_999, LEAST))),
            (999_999, 999_999, u64::MAX, Some((999_999, u64::MAX))),
            (1_000_002, 999_999, 14, None),
            (u64::MAX, u64::MAX, 14, None),
        ] {
            let (of, sentence) = ("/a\n\u{1b}[2J".to_owned(), "41 failures\r\nall is well".to_owned());
            let told = Deviating { of, measure: ClientMeasure::Failures, minute, since, alone, sentence };
            let mut anomalies = AnomalyPolicy::default();
            let heard = anomalies.hear(vec![told; MAX_DEVIATING + 1], now);
            assert_eq!(heard.first().map(|one| (one.since, one.alone)), expect, "{minute} {since} {alone}");
            assert_eq!(heard.len(), if expect.is_some() { MAX_DEVIATING } else { 0 });
            let is_clean = |one: &Deviating| one.of == "/a[2J" && one.sentence == "41 failuresall is well";
            assert!(heard.iter().all(is_clean), "{heard:?}");
        }
    }
}
