//! What this machine knows of the budgets that it shares with others: what it was granted of each, and what it has spent
//! ahead of the store's word.
//!
//! *Invariant:* the table is bounded, and a key that owes anything, is refused or waits for an answer is never forgotten:
//! nobody begins anew by coming with many keys.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    collections::bounded::{BoundedTable, Insertion},
    os::clock::SECOND,
    policy::limit::counter::{self, Counts, Over},
};

/// How long a key is remembered at most that is not used, in nanoseconds.
const LONGEST_IDLE: u64 = 60 * SECOND;

/// What the store says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Units that are this machine's now.
    pub units: u64,
    /// In so many nanoseconds there are some; 0 if any were granted.
    pub wait: u64,
    /// Units that are left to everybody.
    pub left: u64,
}

/// What this machine knows of each key.
pub(in crate::policy::limit) struct Leases {
    pub(in crate::policy::limit) capacity: usize,
    parts: Box<[Mutex<LeaseShard>]>,
}

pub(in crate::policy::limit) struct LeaseShard {
    pub(in crate::policy::limit) keys: BoundedTable<u64, Lease>,
    pub(in crate::policy::limit) counts: Counts,
}

/// What this machine knows of one key. Times are `CLOCK_MONOTONIC` in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::policy::limit) struct Lease {
    /// Units that were granted and are not spent; below zero: units that were spent ahead.
    pub(in crate::policy::limit) balance: i64,
    /// What was left to everybody when the store spoke last.
    pub(in crate::policy::limit) left: u64,
    /// Until then, everything is refused.
    pub(in crate::policy::limit) refused_until: u64,
    /// When it was asked for last.
    pub(in crate::policy::limit) used: u64,
    /// The store has said something of it.
    pub(in crate::policy::limit) is_known: bool,
    /// It waits for the store's answer.
    pub(in crate::policy::limit) is_asked: bool,
    /// The store cannot count it: until `refused_until` this machine's share decides.
    pub(in crate::policy::limit) is_alone: bool,
}

impl Leases {
    pub(in crate::policy::limit) fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.max(1);
        let parts = counter::parts(capacity);
        let part = |at: u64| {
            let keys = BoundedTable::new(capacity / parts, seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Mutex::new(LeaseShard { keys, counts: Counts::default() })
        };
        Self { capacity, parts: (0..parts as u64).map(part).collect() }
    }

    pub(in crate::policy::limit) fn part(&self, key: u64) -> MutexGuard<'_, LeaseShard> {
        // As the tables of limits of one machine do.
        let place = usize::try_from(key >> 32).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one part, and the mask is their number less one"
        )]
        lock(&self.parts[place & (self.parts.len() - 1)])
    }

    /// What became of requests, and how many keys are known.
    pub(in crate::policy::limit) fn counts(&self) -> (Counts, usize) {
        self.parts.iter().fold((Counts::default(), 0), |(counts, keys), part| {
            let part = lock(part);
            (counts.and(part.counts), keys + part.keys.len())
        })
    }
}

impl LeaseShard {
    /// What is known of a key; nothing yet, if there was room for it. `None`: there is none.
    pub(in crate::policy::limit) fn of(&mut self, key: u64, now: u64, refill: u64) -> Option<Lease> {
        if let Some(lease) = self.keys.find(key, &key) {
            return Some(*lease);
        }
        let may_go = |lease: &Lease| {
            // What is owed has come back once the whole budget has.
            let idle = if lease.balance < 0 { refill } else { refill.min(LONGEST_IDLE) };
            !lease.is_asked && lease.refused_until <= now && lease.used.saturating_add(idle) <= now
        };
        match self.keys.add(key, key, Lease::default(), |_, lease| lease.used, may_go) {
            Insertion::Free => {}
            Insertion::Taken => self.counts.evicted += 1,
            Insertion::None => {
                self.counts.shared += 1;
                return None;
            }
        }
        Some(Lease::default())
    }

    pub(in crate::policy::limit) fn put(&mut self, key: u64, lease: Lease) {
        if let Some(place) = self.keys.find(key, &key) {
            *place = lease;
        }
    }

    pub(in crate::policy::limit) const fn count_over(&mut self, over: Over) {
        match over {
            Over::Shadow => self.counts.shadow += 1,
            Over::Refused => self.counts.refused += 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
