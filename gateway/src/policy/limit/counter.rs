//! The budgets of one limit, one for each key: exact on any number of threads, and of bounded memory.
//!
//! *Invariant:* a budget that is in use is never forgotten. When there is no room, a newcomer takes the place of a budget
//! that is full again: forgetting it changes nothing, as a newcomer's is full, too. If there is none (among
//! [`SAMPLES`](crate::collections::bounded::SAMPLES) picked at random), newcomers share one budget for each part of the table.
//!
//! Each part of the table has a lock and the rate that its budgets are counted by. A changed rate comes to one part after
//! the other, so that nobody waits for more than [`MOST_PER_PART`] budgets.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gateway_common::limit::{ArrivalTime, Pace};

use crate::collections::bounded::{BoundedTable, Insertion};

/// A table is not spread thinner than this, so that small ones hold exactly what they were made for.
const LEAST_PER_PART: usize = 256;

/// So many budgets are locked at once at most, but where there are over [`MOST_PARTS`] times as many.
const MOST_PER_PART: usize = 4_096;

const MOST_PARTS: usize = 4_096;

/// The parts that a table of some size has at least: threads that are served at once meet seldom.
const USUAL_PARTS: usize = 64;

/// The bytes that one budget takes: its key twice, as its own hash, the budget, and its place, as far as tables grow by
/// doubling.
pub const BYTES_PER_KEY: usize = 48;

/// The budgets of one limit.
pub(super) struct Counter {
    capacity: usize,
    parts: Box<[Mutex<CounterShard>]>,
}

struct CounterShard {
    pace: Pace,
    budgets: BoundedTable<u64, ArrivalTime>,
    /// What newcomers share that there is no room for.
    shared: ArrivalTime,
    counts: Counts,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were let through.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that would have been refused, were the limit not in shadow mode.
    pub shadow: u64,
    /// Budgets that were full again and made room for others.
    pub evicted: u64,
    /// Requests that waited for their turn.
    pub delayed: u64,
    /// Requests that shared a budget, as there was no room for one of their own.
    pub shared: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self {
            admitted: self.admitted.saturating_add(more.admitted),
            refused: self.refused.saturating_add(more.refused),
            shadow: self.shadow.saturating_add(more.shadow),
            evicted: self.evicted.saturating_add(more.evicted),
            delayed: self.delayed.saturating_add(more.delayed),
            shared: self.shared.saturating_add(more.shared),
        }
    }
}

/// One budget at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) arrival: ArrivalTime,
    pub(super) pace: Pace,
}

/// What becomes of a request that is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Refused,
    Shadow,
}

impl Counter {
    /// Full budgets for everybody.
    pub(super) fn new(pace: Pace, capacity: usize, seed: u64) -> Self {
        let capacity = capacity.max(1);
        let parts = parts(capacity);
        let part = |at: u64| {
            let budgets = BoundedTable::new(capacity / parts, seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Mutex::new(CounterShard { pace, budgets, shared: 0, counts: Counts::default() })
        };
        Self { capacity, parts: (0..parts as u64).map(part).collect() }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    fn part(&self, key: u64) -> MutexGuard<'_, CounterShard> {
        // Others than the bits that a part tells its keys apart by.
        let place = usize::try_from((key >> 32) & (MOST_PARTS as u64 - 1)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one part, and the mask is their number less one"
        )]
        lock(&self.parts[place & (self.parts.len() - 1)])
    }

    /// Takes `cost` out of the budget of `key`, which may be overdrawn by what comes back within `delay` nanoseconds.
    /// `Err`: it is not there, and nothing is taken; `over` says what becomes of the request then.
    pub(super) fn spend(&self, key: u64, cost: u64, delay: u64, now: u64, over: Over) -> Result<Budget, Budget> {
        let mut part = self.part(key);
        let part = &mut *part;
        let pace = part.pace;
        let taken = part.change(key, now, |arrival| pace.spend_ahead(arrival, now, cost, delay));
        match taken {
            Ok(arrival) => {
                part.counts.admitted += 1;
                part.counts.delayed += u64::from(delay > 0 && pace.overdrawn(arrival, now) > 0);
            }
            Err(_) if over == Over::Shadow => part.counts.shadow += 1,
            Err(_) => part.counts.refused += 1,
        }
        match taken {
            Ok(arrival) => Ok(Budget { arrival, pace }),
            Err(arrival) => Err(Budget { arrival, pace }),
        }
    }

    /// Gives back what [`Self::spend`] took for a request that was refused by another limit: it was never admitted.
    pub(super) fn refund(&self, key: u64, cost: u64) {
        let mut part = self.part(key);
        let part = &mut *part;
        part.counts.admitted = part.counts.admitted.saturating_sub(1);
        match part.budgets.find(key, &key) {
            Some(arrival) => *arrival = Pace::refund(*arrival, cost),
            None => part.shared = Pace::refund(part.shared, cost),
        }
    }

    /// Takes `cost` out of the budget of `key` as far as it is there: somebody else judges the request, and counts it.
    pub(super) fn drain(&self, key: u64, cost: u64, now: u64) {
        let mut part = self.part(key);
        let pace = part.pace;
        let drained = |arrival| Some(Pace::charge(arrival, now, cost).min(now.saturating_add(pace.refill())));
        // It always conforms.
        part.change(key, now, drained).unwrap_or_default();
    }

    /// Takes so many units that are known only now, however few are left. What is owed comes back within
    /// [`Pace::LONGEST`].
    pub(super) fn charge(&self, key: u64, units: u64, now: u64) {
        let mut part = self.part(key);
        let cost = part.pace.cost(units);
        let charge = |arrival| Some(Pace::charge(arrival, now, cost).min(now.saturating_add(Pace::LONGEST)));
        // It always conforms.
        part.change(key, now, charge).unwrap_or_default();
    }

    /// Takes so many units that have passed, and says how long the next ones wait, in nanoseconds.
    pub(super) fn pass(&self, key: u64, units: u64, now: u64) -> u64 {
        let mut part = self.part(key);
        let part = &mut *part;
        let (pace, cost) = (part.pace, part.pace.cost(units));
        let charge = |arrival| Some(Pace::charge(arrival, now, cost).min(now.saturating_add(Pace::LONGEST)));
        let arrival = part.change(key, now, charge).unwrap_or_default();
        let wait = pace.overdrawn(arrival, now);
        part.counts.admitted = part.counts.admitted.saturating_add(units);
        part.counts.delayed += u64::from(wait > 0 && units > 0);
        wait
    }

    /// The budget of `key`, if it is known.
    pub(super) fn find(&self, key: u64) -> Option<Budget> {
        let mut part = self.part(key);
        let pace = part.pace;
        part.budgets.find(key, &key).map(|arrival| Budget { arrival: *arrival, pace })
    }

    /// Makes the budget of `key` full again; whether it was known.
    pub(super) fn reset(&self, key: u64) -> bool {
        self.part(key).budgets.forget(key, &key)
    }

    /// Goes on by another rate: as many units are taken of each budget as before.
    pub(super) fn change(&self, pace: Pace, now: u64) {
        for part in &self.parts {
            let mut part = lock(part);
            let before = std::mem::replace(&mut part.pace, pace);
            if before != pace {
                part.shared = pace.carried(part.shared, &before, now);
                part.budgets.values_mut().for_each(|arrival| *arrival = pace.carried(*arrival, &before, now));
            }
        }
    }

    /// Goes on with the counts of a table of another size.
    pub(super) fn take_over(&self, before: &Self, now: u64) {
        for old in &before.parts {
            let old = lock(old);
            for (key, arrival) in old.budgets.iter() {
                let mut part = self.part(*key);
                let arrival = part.pace.carried(*arrival, &old.pace, now);
                part.change(*key, now, |_| Some(arrival)).unwrap_or_default();
            }
            if let Some(first) = self.parts.first() {
                let mut first = lock(first);
                first.counts = first.counts.and(old.counts);
            }
        }
    }

    /// Shows every key, and when its budget is full again.
    pub(super) fn each_arrival(&self, mut what: impl FnMut(u64, ArrivalTime)) {
        for part in &self.parts {
            lock(part).budgets.iter().for_each(|(key, arrival)| what(*key, *arrival));
        }
    }

    /// The budget of `key` is full again in `owed` nanoseconds at the earliest.
    pub(super) fn owe(&self, key: u64, owed: u64, now: u64) {
        let arrival = now.saturating_add(owed.min(Pace::LONGEST));
        // It always conforms.
        self.part(key).change(key, now, |known| Some(known.max(arrival))).unwrap_or_default();
    }

    /// What became of requests, and how many budgets are known.
    pub(super) fn counts(&self) -> (Counts, usize) {
        self.parts.iter().fold((Counts::default(), 0), |(counts, keys), part| {
            let part = lock(part);
            (counts.and(part.counts), keys + part.budgets.len())
        })
    }
}

impl CounterShard {
    /// Changes the budget of `key`, or the one that newcomers share. `Err`: it does not change.
    #[inline]
    fn change(
        &mut self,
        key: u64,
        now: u64,
        change: impl Fn(ArrivalTime) -> Option<ArrivalTime>,
    ) -> Result<ArrivalTime, ArrivalTime> {
        if let Some(arrival) = self.budgets.find(key, &key) {
            let next = change(*arrival).ok_or(*arrival)?;
            *arrival = next;
            return Ok(next);
        }
        let next = change(0).ok_or(0_u64)?;
        match self.budgets.add(key, key, next, |_, arrival| *arrival, |arrival| *arrival <= now) {
            Insertion::Free => return Ok(next),
            Insertion::Taken => {
                self.counts.evicted += 1;
                return Ok(next);
            }
            Insertion::None => self.counts.shared += 1,
        }
        let next = change(self.shared).ok_or(self.shared)?;
        self.shared = next;
        Ok(next)
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Counter({} parts)", self.parts.len())
    }
}

/// How many parts a table of this capacity has: a power of two, so that bits of a key pick one.
pub(super) fn parts(capacity: usize) -> usize {
    let usual = (capacity / LEAST_PER_PART).min(USUAL_PARTS);
    let parts = usual.max(capacity / MOST_PER_PART).clamp(1, MOST_PARTS);
    if parts.is_power_of_two() { parts } else { parts.next_power_of_two() / 2 }
}

fn lock(part: &Mutex<CounterShard>) -> MutexGuard<'_, CounterShard> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
