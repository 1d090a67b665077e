//! Probation: a source whose ban by a rule has just ended is watched more closely.
//!
//! *Invariant:* at most [`MOST`] sources are on probation; over that, who comes is trusted at once.

use std::{collections::BTreeMap, time::Duration};

use gateway_common::source::Source;

use super::super::enforcer::around;

use crate::{guard::store::Offence, message::Probation, os::clock::Now};

/// How many sources are on probation at once.
pub(in crate::guard::bans) const MOST: usize = 65_536;

/// Sources on probation.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Probations {
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    until: BTreeMap<Source, u64>,
}

impl Probations {
    /// Those whose ban expired before the guard started, with the times that are left by the wall clock.
    pub(in crate::guard::bans) fn read(expired: Vec<Offence>, probation: Duration, now: Now) -> Self {
        let mut probations = Self::default();
        // The latest first: what is older gives no longer time.
        for offence in expired.into_iter().rev() {
            let passed = Duration::from_millis(now.unix_millis.saturating_sub(offence.ended));
            probations.add(offence.source, probation.saturating_sub(passed), now.monotonic);
        }
        probations
    }

    /// Puts a source on probation; until when. `None`: it is trusted at once.
    pub(in crate::guard::bans) fn add(&mut self, source: Source, probation: Duration, now: u64) -> Option<u64> {
        if self.until.len() >= MOST {
            self.until.retain(|_, until| *until > now);
        }
        if probation.is_zero() || self.until.len() >= MOST && !self.until.contains_key(&source) {
            return None;
        }
        let until = now.saturating_add(u64::try_from(probation.as_nanos()).unwrap_or(u64::MAX));
        self.until.insert(source, until);
        Some(until)
    }

    /// Until when `source` or a network around it is on probation.
    pub(in crate::guard::bans) fn find(&self, source: Source, now: u64) -> Option<u64> {
        around(source).filter_map(|network| self.until.get(&network)).copied().filter(|until| *until > now).max()
    }

    /// Who is on probation, and until when.
    pub(in crate::guard::bans) fn live(&self, now: u64) -> Vec<Probation> {
        let live = self.until.iter().filter(|(_, until)| **until > now);
        live.map(|(source, until)| Probation { source: *source, until: *until }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::SECOND;

    #[test]
    fn lasts_as_long_as_it_is_told_and_is_bounded() {
        let source = |text: &str| text.parse().unwrap();
        let now = Now { monotonic: 1_000 * SECOND, unix_millis: 100_000 };
        let offence = |text, ended| Offence { source: source(text), started: 0, ended };
        let expired = vec![offence("192.0.2.7", 95_000), offence("192.0.2.7", 50_000), offence("192.0.2.8", 30_000)];
        let mut probations = Probations::read(expired, Duration::from_secs(60), now);
        assert_eq!(probations.find(source("192.0.2.7"), now.monotonic), Some(1_055 * SECOND));
        assert_eq!(probations.find(source("192.0.2.7"), 1_055 * SECOND), None);
        assert_eq!(probations.find(source("192.0.2.8"), now.monotonic), None);
        assert_eq!(probations.add(source("2001:db8::/56"), Duration::ZERO, 0), None);
        probations.add(source("2001:db8::/56"), Duration::from_secs(1), 0);
        assert_eq!(probations.find(source("2001:db8:0:7::/64"), 0), Some(SECOND));
        for number in 0..u32::try_from(MOST).unwrap() {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
            probations.add(source, Duration::from_secs(60), 2 * SECOND);
        }
        assert!(probations.until.len() <= MOST);
    }
}
