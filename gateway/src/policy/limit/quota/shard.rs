//! A part of the counts of a quota: what some of its keys have used up, behind a lock of its own.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{clock::Clock, row::Warned, seen::PeerUsage};
use crate::{
    collections::bounded::{BoundedTable, Insertion},
    policy::limit::counter::Counts,
};

/// The counts of the keys of one part.
pub(super) struct QuotaShard {
    /// When the period ends, and its number, as the clock has it.
    pub(super) ends: u64,
    pub(super) number: u32,
    pub(super) used: BoundedTable<u64, Used>,
    /// What is known of other machines; `None`: no quota is shared.
    pub(super) seen: Option<BoundedTable<u64, PeerUsage>>,
    /// What newcomers share that there is no room for.
    pub(super) shared: Used,
    pub(super) counts: Counts,
    /// Keys whose counts have changed since they were told.
    pub(super) changed: Vec<u64>,
    /// Keys that are new, as operators write them.
    pub(super) names: Vec<(u64, String)>,
    pub(super) warned: Vec<Warned>,
    /// Keys about which an operator's word was heard that the guard was not told of.
    pub(super) words: Vec<u64>,
    /// Keys about which the store is asked again later.
    pub(super) later: Vec<u64>,
    /// So many keys have crossed a threshold.
    pub(super) crossings: u64,
}

/// What a key has used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// In which period.
    pub(super) number: u32,
    /// It is among the changed ones.
    pub(super) is_changed: bool,
    /// All of its units are to be told, whatever was told before.
    pub(super) is_whole: bool,
    pub(super) units: u64,
    /// So many of them the guard knows.
    pub(super) told: u64,
}

impl Used {
    /// As of this period.
    pub(super) fn at(&mut self, number: u32) -> &mut Self {
        if self.number != number {
            *self = Self { number, is_changed: self.is_changed, ..Self::default() };
        }
        self
    }

    pub(super) const fn is_idle(&self, number: u32) -> bool {
        self.number != number || self.units == 0 && self.told == 0
    }
}

/// Who comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Newcomer {
    No,
    /// There is no room for a count of its own.
    Shared,
    Yes,
}

impl QuotaShard {
    /// Goes on as the clock says.
    pub(super) fn follow(&mut self, clock: &Clock) {
        self.ends = clock.span.ends;
        if self.number != clock.number {
            self.number = clock.number;
            self.names.clear();
            self.words.clear();
            self.later.clear();
            for key in mem::take(&mut self.changed) {
                if let Some(used) = self.used.find(key, &key) {
                    used.is_changed = false;
                }
            }
        }
    }

    pub(super) fn find_or_add(&mut self, key: u64) -> (Newcomer, &mut Used) {
        let number = self.number;
        let known = match self.used.find(key, &key) {
            Some(used) if used.is_idle(number) => Newcomer::Yes,
            Some(_) => Newcomer::No,
            None => {
                let worth = |_: &u64, used: &Used| if used.is_idle(number) { 0 } else { used.units.max(1) };
                let fresh = Used { number, ..Used::default() };
                match self.used.add(key, key, fresh, worth, |used| used.is_idle(number)) {
                    Insertion::Free => Newcomer::Yes,
                    Insertion::Taken => {
                        self.counts.evicted += 1;
                        Newcomer::Yes
                    }
                    Insertion::None => {
                        self.counts.shared += 1;
                        Newcomer::Shared
                    }
                }
            }
        };
        match known {
            Newcomer::Shared => (known, self.shared.at(number)),
            Newcomer::No | Newcomer::Yes => match self.used.find(key, &key) {
                Some(used) => (known, used.at(number)),
                None => (Newcomer::Shared, self.shared.at(number)),
            },
        }
    }

    /// The guard is to be told of a key.
    pub(super) fn note_told(&mut self, key: u64) {
        if let Some(used) = self.used.find(key, &key)
            && !mem::replace(&mut used.is_changed, true)
        {
            self.changed.push(key);
            self.tidy_changed();
        }
    }

    /// Keeps what is to be told from growing beyond the table: keys may have been forgotten that had used nothing.
    fn tidy_changed(&mut self) {
        let Self { changed, used, .. } = self;
        if changed.len() <= used.capacity().saturating_mul(2) {
            return;
        }
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|key| used.find(*key, key).is_some_and(|used| used.is_changed));
    }

    pub(super) fn take_names(&mut self) -> HashMap<u64, String> {
        mem::take(&mut self.names).into_iter().collect()
    }
}

pub(super) fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
