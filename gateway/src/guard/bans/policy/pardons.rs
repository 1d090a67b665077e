//! Pardons: a source that an operator unbanned is not banned again by a rule at once.
//!
//! *Invariant:* at most [`MOST`] sources are remembered; the one unbanned first goes.

use std::{collections::BTreeMap, time::Duration};

use gateway_common::source::Source;

use super::super::{refused::Refused, span::span};
use crate::{
    guard::store,
    os::clock::{Now, SECOND},
};

/// How many unbanned sources are remembered.
pub(in crate::guard::bans) const MOST: usize = 10_000;

/// Sources that operators unbanned.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Pardons {
    /// By whom and until when: `CLOCK_MONOTONIC`, nanoseconds.
    known: BTreeMap<Source, (String, u64)>,
}

impl Pardons {
    /// What the store remembers, with the times that are left by the wall clock.
    pub(in crate::guard::bans) fn read(stored: Vec<store::Pardon>, grace: Duration, now: Now) -> Self {
        let mut pardons = Self::default();
        for pardon in stored {
            let passed = Duration::from_millis(now.unix_millis.saturating_sub(pardon.at));
            pardons.add(pardon.source, pardon.actor, grace.saturating_sub(passed), now.monotonic);
        }
        pardons
    }

    /// What the store is to remember. When they began is told by when they end.
    pub(in crate::guard::bans) fn stored(&self, grace: Duration) -> Vec<store::Pardon> {
        let now = Now::read();
        let at = |until: u64| {
            let left = Duration::from_nanos(until.saturating_sub(now.monotonic));
            now.unix_millis.saturating_sub(millis(grace.saturating_sub(left)))
        };
        let one = |(source, (actor, until)): (&Source, &(String, u64))| store::Pardon {
            source: *source,
            actor: actor.clone(),
            at: at(*until),
        };
        self.known.iter().map(one).collect()
    }

    /// Remembers that `actor` unbanned `source`.
    pub(in crate::guard::bans) fn add(&mut self, source: Source, actor: String, grace: Duration, now: u64) {
        self.known.retain(|_, (_, until)| *until > now);
        if grace.is_zero() {
            return;
        }
        if self.known.len() >= MOST
            && let Some(first) = self.known.iter().min_by_key(|(_, (_, until))| *until).map(|(source, _)| *source)
        {
            self.known.remove(&first);
        }
        let grace = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        self.known.insert(source, (actor, now.saturating_add(grace)));
    }

    /// An operator has banned it again.
    pub(in crate::guard::bans) fn forget(&mut self, source: Source) {
        self.known.remove(&source);
    }

    /// Whether rules may ban `source`: not what was unbanned, nothing inside it, nothing around it. By whom otherwise,
    /// and for how many seconds from `now`.
    pub(in crate::guard::bans) fn find(&self, source: Source, now: u64) -> Option<(Source, &str, u64)> {
        let overlaps = |other: &Source| other.covers(&source) || source.covers(other);
        let (other, (actor, until)) = self.known.iter().find(|(other, (_, until))| *until > now && overlaps(other))?;
        Some((*other, actor, (until - now).div_ceil(SECOND)))
    }

    /// [`Self::find`] as a refusal.
    pub(in crate::guard::bans) fn judge(&self, source: Source, now: u64) -> Result<(), Refused> {
        let Some((other, actor, seconds)) = self.find(source, now) else { return Ok(()) };
        let left = span(seconds);
        let message = format!("{actor} unbanned {other}: rules may not ban it for another {left}");
        Err(Refused::new("operator_unbanned", message))
    }
}

/// Whole milliseconds.
pub(in crate::guard::bans) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, at: u64, expect: Option<u64>) {
        let now = |seconds: u64| Now { monotonic: seconds * SECOND, unix_millis: 1_000_000 + seconds * 1_000 };
        let stored = |source: &str, seconds: u64| store::Pardon {
            source: source.parse().unwrap(),
            actor: "operator:0".to_owned(),
            at: 1_000_000 + seconds * 1_000,
        };
        let stored = vec![
            stored("192.0.2.7", 100),
            stored("198.51.100.0/24", 50),
            stored("2001:db8:0:7::/64", 100),
            // The clock was set back since.
            stored("203.0.113.1", 1_000),
        ];
        let pardons = Pardons::read(stored, Duration::from_secs(60), now(100));
        let found = pardons.find(source.parse().unwrap(), now(at).monotonic);
        assert_eq!(found.map(|(_, _, seconds)| seconds), expect, "{source} at {at}");
    }

    #[test]
    fn an_operators_word_stands_for_a_while() {
        check("192.0.2.7", 100, Some(60));
        check("192.0.2.7", 159, Some(1));
        check("192.0.2.7", 160, None);
        check("192.0.2.8", 100, None);
        check("192.0.2.0/24", 100, Some(60));
        check("198.51.100.9", 100, Some(10));
        check("198.51.100.9", 110, None);
        check("2001:db8::/56", 100, Some(60));
        check("2001:db8:0:8::/64", 100, None);
        check("203.0.113.1", 100, Some(60));
    }

    #[test]
    fn the_number_is_bounded() {
        let mut pardons = Pardons::default();
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
            pardons.add(source, String::new(), Duration::from_secs(3_600), u64::from(number));
        }
        assert_eq!(pardons.known.len(), MOST);
        assert!(pardons.find("0.0.0.3".parse().unwrap(), 0).is_none());
    }
}
