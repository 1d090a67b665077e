//! Clamps: sources that went on over a limit on requests, and have less of the kernel's budgets for a while.
//!
//! *Invariant:* at most [`MOST`] sources are clamped. A clamp is no ban: it ends by itself, leaves a part of every budget,
//! and is not kept over the guard's end, as a source that goes on is clamped anew.

use std::collections::BTreeMap;

use gateway_common::{limit::ArrivalTime, source::Source};

use super::breaker;
use crate::{os::clock::Now, settings::limit, web::request_id::RequestId};

/// How many sources are clamped at once: half of the budgets that the kernel has room for.
pub(in crate::guard::bans) const MOST: usize = gateway_common::maps::BUDGETS as usize / 2;

/// One clamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard::bans) struct ActiveClamp {
    /// The limit that the source went on over.
    pub(in crate::guard::bans) limit: String,
    /// By how much its budgets are divided.
    pub(in crate::guard::bans) divide: u32,
    /// Counted only.
    pub(in crate::guard::bans) shadow: bool,
    /// The requests that were refused.
    pub(in crate::guard::bans) evidence: Vec<RequestId>,
    /// Milliseconds since the Unix epoch.
    pub(in crate::guard::bans) started: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(in crate::guard::bans) expires: u64,
}

impl ActiveClamp {
    /// Follows the settings of its limit: it ends no later than one that begins now. Whether it counts only is not changed:
    /// see [`Clamps::refit`].
    fn refit(&mut self, settings: &limit::Clamp, now: Now) {
        self.divide = settings.divide;
        self.expires = self.expires.min(ends(settings, now));
    }
}

/// When a clamp ends that begins now: `CLOCK_MONOTONIC`, nanoseconds.
pub(in crate::guard::bans) fn ends(settings: &limit::Clamp, now: Now) -> u64 {
    now.monotonic.saturating_add(u64::try_from(settings.lasts.as_nanos()).unwrap_or(u64::MAX))
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Clamps {
    known: BTreeMap<Source, ActiveClamp>,
    pace: ArrivalTime,
}

impl Clamps {
    pub(in crate::guard::bans) fn find(&self, source: Source) -> Option<&ActiveClamp> {
        self.known.get(&source)
    }

    pub(in crate::guard::bans) fn iter(&self) -> impl Iterator<Item = (Source, &ActiveClamp)> {
        self.known.iter().map(|(source, clamp)| (*source, clamp))
    }

    /// Whether there is room for one more.
    pub(in crate::guard::bans) fn has_room(&self) -> bool {
        self.known.len() < MOST
    }

    /// Spends one of `most` new clamps per minute; `false`: there is none left.
    pub(in crate::guard::bans) fn spend(&mut self, most: u32, now: Now) -> bool {
        breaker::spend(&mut self.pace, most, now)
    }

    pub(in crate::guard::bans) fn insert(&mut self, source: Source, clamp: ActiveClamp) {
        self.known.insert(source, clamp);
    }

    /// A source that is clamped goes on: the clamp lasts as long as one that begins now. `None`: it is not clamped by this
    /// limit.
    pub(in crate::guard::bans) fn renew(
        &mut self,
        source: Source,
        limit: &str,
        settings: &limit::Clamp,
        now: Now,
    ) -> Option<&ActiveClamp> {
        let is_its = |clamp: &&mut ActiveClamp| clamp.limit == limit && clamp.shadow == settings.shadow;
        let clamp = self.known.get_mut(&source).filter(is_its)?;
        (clamp.divide, clamp.expires) = (settings.divide, ends(settings, now));
        Some(clamp)
    }

    /// Limits may have other settings by now: clamps follow those of theirs. Returns those that are over: their limit has
    /// no clamp any more, or its clamp counts only where it did not, or the other way round. Nothing that only counted has
    /// been judged as a clamp is that takes something away: a source that goes on is judged anew.
    pub(in crate::guard::bans) fn refit(
        &mut self,
        settings: &[(String, limit::Clamp)],
        now: Now,
    ) -> Vec<(Source, ActiveClamp)> {
        let of = |clamp: &ActiveClamp| settings.iter().find(|(name, _)| *name == clamp.limit).map(|(_, found)| found);
        let over = self.take(|_, clamp| of(clamp).is_none_or(|found| found.shadow != clamp.shadow));
        for clamp in self.known.values_mut() {
            if let Some(found) = of(clamp) {
                clamp.refit(found, now);
            }
        }
        over
    }

    pub(in crate::guard::bans) fn remove(&mut self, source: Source) -> Option<ActiveClamp> {
        self.known.remove(&source)
    }

    /// Those for which `is_over` holds.
    pub(in crate::guard::bans) fn take(
        &mut self,
        is_over: impl Fn(Source, &ActiveClamp) -> bool,
    ) -> Vec<(Source, ActiveClamp)> {
        self.known.extract_if(.., |source, clamp| is_over(*source, clamp)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::SECOND;

    fn clamp(limit: &str, expires: u64) -> ActiveClamp {
        ActiveClamp { limit: limit.to_owned(), divide: 10, shadow: false, evidence: Vec::new(), started: 0, expires }
    }

    fn settings(divide: u32, seconds: u64, shadow: bool) -> limit::Clamp {
        let second = std::time::Duration::from_secs(1);
        limit::Clamp { after: 3, within: second, divide, lasts: second * u32::try_from(seconds).unwrap(), shadow }
    }

    fn at(seconds: u64) -> Now {
        Now { monotonic: seconds * SECOND, unix_millis: 0 }
    }

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    #[test]
    fn they_are_renewed_by_their_own_limit_and_end() {
        let mut clamps = Clamps::default();
        clamps.insert(source("192.0.2.7"), clamp("a", 10 * SECOND));
        let mut renew = |address: &str, limit: &str, settings, seconds| {
            let renewed = clamps.renew(source(address), limit, &settings, at(seconds));
            renewed.map(|clamp| (clamp.divide, clamp.expires / SECOND))
        };
        assert_eq!(renew("192.0.2.7", "a", settings(10, 10, false), 8), Some((10, 18)));
        assert_eq!(renew("192.0.2.7", "a", settings(20, 10, false), 10), Some((20, 20)), "by what is set now");
        assert_eq!(renew("192.0.2.7", "a", settings(10, 10, true), 10), None, "it does not count only");
        assert_eq!(renew("192.0.2.7", "b", settings(10, 10, false), 20), None);
        assert_eq!(renew("192.0.2.8", "a", settings(10, 10, false), 20), None);
        assert!(clamps.take(|_, clamp| clamp.expires <= 19 * SECOND).is_empty());
        assert_eq!(clamps.take(|_, clamp| clamp.expires <= 20 * SECOND).len(), 1);
        assert!(clamps.find(source("192.0.2.7")).is_none());
    }

    #[test]
    fn they_follow_the_settings_of_their_limit() {
        for (what, now, expect) in [
            ("as before", Some(settings(10, 60, false)), Some((10, 100))),
            ("less is left", Some(settings(50, 60, false)), Some((50, 100))),
            ("shorter", Some(settings(10, 20, false)), Some((10, 70))),
            ("it counts only", Some(settings(10, 60, true)), None),
            ("it is gone", None, None),
        ] {
            let mut clamps = Clamps::default();
            clamps.insert(source("192.0.2.7"), clamp("a", 100 * SECOND));
            let all: Vec<_> = now.into_iter().map(|found| ("a".to_owned(), found)).collect();
            let over = clamps.refit(&all, at(50)).len();
            let found = clamps.find(source("192.0.2.7")).map(|clamp| (clamp.divide, clamp.expires / SECOND));
            assert_eq!((found, over), (expect, usize::from(expect.is_none())), "{what}");
        }
    }

    #[test]
    fn d06_their_number_and_their_pace_are_bounded() {
        let mut clamps = Clamps::default();
        for number in 0..u32::try_from(MOST).unwrap() {
            assert!(clamps.has_room());
            clamps.insert(Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64), clamp("a", 1));
        }
        assert!(!clamps.has_room());
        assert_eq!((0..100).filter(|_| clamps.spend(60, at(100))).count(), 60);
        assert_eq!((0..100).filter(|_| clamps.spend(60, at(110))).count(), 10);
    }
}
