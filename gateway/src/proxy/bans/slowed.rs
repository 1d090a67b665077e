//! Sources whose requests are limited for a while because an anomaly comes from them.
//!
//! *Invariant:* at most [`MAX_SLOWED`] are kept, as many as the guard ever tells of. Where there is none, nothing is locked.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use gateway_common::{
    limit::{ArrivalTime, Rate},
    source::Source,
};

use crate::{
    message::{MAX_SLOWED, Slowed},
    os::clock::{MINUTE, SECOND},
};

/// The sources that are limited.
#[derive(Default)]
pub(in crate::proxy) struct SlowedSources {
    is_any: AtomicBool,
    table: Mutex<HashMap<Source, (Slowed, ArrivalTime)>>,
}

impl SlowedSources {
    /// Limits these and nobody else.
    pub(in crate::proxy) fn replace(&self, all: &[Slowed], now: u64) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.is_any.store(false, Ordering::Relaxed);
        all.iter().for_each(|slowed| self.put(*slowed, now));
    }

    /// Limits one more; no longer, if its time is over.
    pub(in crate::proxy) fn put(&self, slowed: Slowed, now: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if slowed.until <= now {
            table.remove(&slowed.source);
        } else if let Some((known, _)) = table.get_mut(&slowed.source) {
            *known = slowed;
        } else {
            if table.len() >= MAX_SLOWED {
                table.retain(|_, (known, _)| known.until > now);
            }
            if table.len() < MAX_SLOWED {
                table.insert(slowed.source, (slowed, 0));
            }
        }
        self.is_any.store(!table.is_empty(), Ordering::Relaxed);
    }

    /// Counts a request; after how many seconds the next one is let through, if this one is not.
    pub(in crate::proxy) fn refuses(&self, source: Source, now: u64) -> Option<u64> {
        if !self.is_any.load(Ordering::Relaxed) {
            return None;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (slowed, arrival) = table.get_mut(&source)?;
        if slowed.until <= now {
            table.remove(&source);
            self.is_any.store(!table.is_empty(), Ordering::Relaxed);
            return None;
        }
        // Ten seconds' worth at once.
        let rate = Rate::per(slowed.per_minute.into(), MINUTE, u64::from(slowed.per_minute / 6).max(1))?;
        match rate.spend(*arrival, now, 1) {
            Some(spent) => {
                *arrival = spent;
                None
            }
            None => Some(rate.wait(*arrival, now).div_ceil(SECOND).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000 * MINUTE;

    fn slowed(text: &str, until: u64) -> Slowed {
        Slowed { source: text.parse().unwrap(), per_minute: 60, until }
    }

    #[test]
    fn a_source_has_as_many_requests_as_it_may_have() {
        let sources = SlowedSources::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!(sources.refuses(one, NOW), None);
        sources.put(slowed("192.0.2.1", NOW + 5 * MINUTE), NOW);
        let at = |source, at: u64| (0..100).filter(|_| sources.refuses(source, at).is_none()).count();
        assert_eq!((at(one, NOW), at(other, NOW)), (10, 100));
        assert_eq!((sources.refuses(one, NOW), at(one, NOW + 3 * SECOND)), (Some(1), 3));
        // It goes on: what it has used up stays used up.
        sources.put(slowed("192.0.2.1", NOW + 9 * MINUTE), NOW + 3 * SECOND);
        assert_eq!((at(one, NOW + 3 * SECOND), at(one, NOW + 9 * MINUTE)), (0, 100));
        sources.put(slowed("192.0.2.1", NOW + 9 * MINUTE), NOW);
        sources.put(slowed("192.0.2.1", 0), NOW);
        assert_eq!(at(one, NOW), 100);
        sources.replace(&[slowed("192.0.2.2", NOW + MINUTE)], NOW);
        assert_eq!((at(one, NOW), at(other, NOW)), (100, 10));
    }

    #[test]
    fn they_are_bounded() {
        let sources = SlowedSources::default();
        for number in 0..2 * u32::try_from(MAX_SLOWED).unwrap() {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
            sources.put(Slowed { source, per_minute: 1, until: NOW + MINUTE }, NOW);
        }
        assert_eq!(sources.table.lock().unwrap().len(), MAX_SLOWED);
        // Whose time is over makes room.
        sources.put(slowed("192.0.2.1", NOW + 9 * MINUTE), NOW + 2 * MINUTE);
        assert_eq!(sources.table.lock().unwrap().len(), 1);
    }
}
