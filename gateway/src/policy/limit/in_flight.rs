//! How many requests are in flight for each key, where that is limited.
//!
//! *Invariant:* a count is forgotten only when it is 0. Where there is no room for another, newcomers share one count for
//! each part of the table. Whoever [`enters`](InFlight::enter) leaves by what that returned, exactly once. One table counts
//! for all configurations that have the limit: a reload must not let anybody have as many requests again.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::counter::{Counts, Over};
use crate::collections::bounded::{BoundedTable, Insertion};

/// The parts that a table has, each with a lock of its own.
const PARTS: usize = 64;

/// A table is not spread thinner than this.
const LEAST_PER_PART: usize = 256;

/// The requests in flight of one limit.
pub(super) struct InFlight {
    capacity: AtomicUsize,
    parts: Box<[Mutex<InFlightShard>]>,
}

struct InFlightShard {
    most: u64,
    held: BoundedTable<u64, u64>,
    /// What newcomers share that there is no room for.
    shared: u64,
    counts: Counts,
}

/// A request in flight: how it is to be taken out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) key: u64,
    pub(super) weight: u64,
    is_shared: bool,
}

impl InFlight {
    pub(super) fn new(most: u64, capacity: usize, seed: u64) -> Self {
        let capacity = capacity.max(1);
        let parts = (capacity / LEAST_PER_PART).clamp(1, PARTS);
        let parts = if parts.is_power_of_two() { parts } else { parts.next_power_of_two() / 2 };
        let part = |at: u64| {
            let held = BoundedTable::new(capacity / parts, seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Mutex::new(InFlightShard { most, held, shared: 0, counts: Counts::default() })
        };
        Self { capacity: AtomicUsize::new(capacity), parts: (0..parts as u64).map(part).collect() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    fn part(&self, key: u64) -> MutexGuard<'_, InFlightShard> {
        let place = usize::try_from((key >> 32) & (PARTS as u64 - 1)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one part, and the mask is their number less one"
        )]
        lock(&self.parts[place & (self.parts.len() - 1)])
    }

    /// One more request of `key`, which counts as `weight`. `Ok`: how many more there may be. `Err`: the
    /// same, which is too few for it.
    pub(super) fn enter(&self, key: u64, weight: u64, over: Over) -> Result<(Entered, u64), u64> {
        let mut part = self.part(key);
        let part = &mut *part;
        let most = part.most;
        let (is_shared, count) = match part.held.find(key, &key) {
            Some(count) => (false, count),
            None => match part.held.add(key, key, 0, |_, count| *count, |count| *count == 0) {
                Insertion::None => {
                    part.counts.shared += 1;
                    (true, &mut part.shared)
                }
                Insertion::Free | Insertion::Taken => match part.held.find(key, &key) {
                    Some(count) => (false, count),
                    None => (true, &mut part.shared),
                },
            },
        };
        let next = count.saturating_add(weight);
        if next > most {
            match over {
                Over::Refused => part.counts.refused += 1,
                Over::Shadow => part.counts.shadow += 1,
            }
            let left = most.saturating_sub(*count);
            if *count == 0 && !is_shared {
                part.held.forget(key, &key);
            }
            return Err(left);
        }
        *count = next;
        part.counts.admitted += 1;
        Ok((Entered { key, weight, is_shared }, most - next))
    }

    /// A request is over.
    pub(super) fn leave(&self, entered: Entered) {
        let Entered { key, weight, is_shared } = entered;
        let mut part = self.part(key);
        let part = &mut *part;
        if is_shared {
            part.shared = part.shared.saturating_sub(weight);
            return;
        }
        if let Some(count) = part.held.find(key, &key) {
            *count = count.saturating_sub(weight);
            if *count == 0 {
                part.held.forget(key, &key);
            }
        }
    }

    /// A request that entered was refused by another limit: it was never admitted.
    pub(super) fn refund(&self, entered: Entered) {
        self.leave(entered);
        let mut part = self.part(entered.key);
        part.counts.admitted = part.counts.admitted.saturating_sub(1);
    }

    /// How many there are of `key`, and how many there may be, if any is known.
    pub(super) fn find(&self, key: u64) -> Option<(u64, u64)> {
        let mut part = self.part(key);
        let most = part.most;
        part.held.find(key, &key).map(|count| (*count, most))
    }

    /// Goes on with another number, and room for so many keys. Whoever is in stays. The parts are those that there are: each
    /// keeps room for one key.
    pub(super) fn change(&self, most: u64, capacity: usize) {
        self.capacity.store(capacity.max(1), Ordering::Relaxed);
        for part in &self.parts {
            let mut part = lock(part);
            part.most = most;
            part.held.resize(capacity / self.parts.len().max(1));
        }
    }

    /// What became of requests, and how many keys have any in flight.
    pub(super) fn counts(&self) -> (Counts, usize) {
        self.parts.iter().fold((Counts::default(), 0), |(counts, keys), part| {
            let part = lock(part);
            (counts.and(part.counts), keys + part.held.len())
        })
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "InFlight({} parts)", self.parts.len())
    }
}

fn lock(part: &Mutex<InFlightShard>) -> MutexGuard<'_, InFlightShard> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once() {
        let limit = InFlight::new(3, 1_000, 1);
        let enter = |key| limit.enter(key, 1, Over::Refused);
        let held: Vec<_> = (0..3).map(|_| enter(7).unwrap()).collect();
        assert_eq!(held.iter().map(|(_, left)| *left).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!((enter(7), limit.find(7)), (Err(0), Some((3, 3))));
        assert!(enter(8).is_ok(), "another key");
        limit.leave(held[0].0);
        let again = enter(7).unwrap().0;
        limit.change(1, 1_000);
        held[1..].iter().map(|(entered, _)| *entered).chain([again]).for_each(|entered| limit.leave(entered));
        assert!(enter(7).is_ok() && enter(7).is_err(), "another number");
        assert!(limit.enter(9, 2, Over::Refused).is_err(), "a weight that does not fit");
        let (counts, keys) = limit.counts();
        assert_eq!((counts.admitted, counts.refused, keys), (6, 3, 2));
    }

    /// Whoever is in is counted on, whatever becomes of the room.
    #[test]
    fn another_capacity() {
        let limit = InFlight::new(2, 1_000, 1);
        // Spread over both parts.
        let spread = |number: u64| number * ((1 << 32) + 1);
        let enter = |number| limit.enter(spread(number), 1, Over::Refused);
        let held: Vec<_> = (0..600).map(|key| enter(key).unwrap().0).collect();
        limit.change(2, 300);
        assert_eq!((limit.capacity(), limit.counts().1), (300, 600));
        assert!((0..600).all(|key| limit.find(spread(key)) == Some((1, 2))));
        assert!(enter(0).is_ok() && enter(0).is_err());
        let shared: Vec<_> = (1_000..1_100).filter_map(|key| enter(key).ok()).map(|(entered, _)| entered).collect();
        assert_eq!((shared.len(), limit.counts().1), (4, 600), "newcomers share a count for each part");
        held.into_iter().chain(shared).for_each(|entered| limit.leave(entered));
        assert_eq!(limit.counts().1, 1, "one of the first is still in");
        limit.change(2, 1_000_000);
        assert!((2_000..8_000).all(|key| enter(key).is_ok()));
        assert_eq!(limit.counts().1, 6_001);
    }

    #[test]
    fn d06_newcomers_share_what_is_left() {
        let limit = InFlight::new(2, 10, 1);
        let held: Vec<_> = (0..10).map(|key| limit.enter(key, 1, Over::Refused).unwrap().0).collect();
        let newcomers: Vec<_> = (100..110).filter_map(|key| limit.enter(key, 1, Over::Refused).ok()).collect();
        assert_eq!(newcomers.len(), 2, "one count for all of them");
        held.into_iter().for_each(|entered| limit.leave(entered));
        assert!((200..210).all(|key| limit.enter(key, 1, Over::Refused).is_ok()));
        newcomers.into_iter().for_each(|(entered, _)| limit.leave(entered));
        assert_eq!(limit.counts().1, 10);
    }
}
