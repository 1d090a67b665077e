//! What each key has used up of a quota in its period: exact on any number of threads, of bounded memory, and told to the
//! guard, which keeps it.
//!
//! *Invariant:* what a key has used up in the period that lasts is never forgotten before that ends. When there is no room,
//! a newcomer takes the place of a key that has used nothing in this period. If there is none (among
//! [`SAMPLES`](crate::collections::bounded::SAMPLES) picked at random), it shares a count with other newcomers, or is refused, as the
//! configuration says. What was used and not told yet is in the table itself, so it takes no memory of its own.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use self::{
    calendar::Calendar,
    clock::Clock,
    shard::{QuotaShard, Used, lock},
};
pub use self::{
    clock::QuotaSpan,
    periods::QuotaPeriods,
    row::{MAX_ROWS_TOLD, UsedRow, Warned},
    shared::{QuotaAsk, QuotaCall, QuotaTotal, portion_of_quota},
};
pub(super) use self::{
    rules::QuotaRules,
    seal::Seal,
    spend::{Left, TooFew},
};
use super::counter::Counts;
use crate::{collections::bounded::BoundedTable, os::clock::Now, settings::limit::quota::Quota as Configured};

mod calendar;
mod clock;
mod periods;
mod row;
mod rules;
mod seal;
mod seen;
mod shard;
mod shared;
mod spend;
mod told;

#[cfg(test)]
mod tests;

/// A table is not spread thinner than this.
const LEAST_PER_PART: usize = 256;

/// The parts that a table of some size has, each with a lock of its own: threads meet seldom.
const PARTS: usize = 256;

/// The most keys of one part whose names are not told yet. Over that they are shown by their hashes.
const MOST_NAMES: usize = 128;

/// The bytes that one key takes.
pub const BYTES_PER_KEY: usize = 64;

/// The counts of one quota. They outlive configurations.
pub(super) struct QuotaCounts {
    calendar: Calendar,
    /// Locked while a part is, never the other way round.
    clock: Mutex<Clock>,
    parts: Box<[Mutex<QuotaShard>]>,
    /// How often the store between machines had come, when it was told everything.
    sessions: AtomicU64,
}

impl QuotaCounts {
    pub(super) fn new(configured: &Configured, capacity: usize, seed: u64) -> Self {
        let capacity = capacity.max(1);
        let parts = number_of_parts(capacity);
        let part = |at: u64| {
            let used = BoundedTable::new(capacity / parts, seed ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Mutex::new(QuotaShard {
                ends: 0,
                number: 0,
                used,
                seen: None,
                shared: Used::default(),
                counts: Counts::default(),
                changed: Vec::new(),
                names: Vec::new(),
                warned: Vec::new(),
                words: Vec::new(),
                later: Vec::new(),
                crossings: 0,
            })
        };
        Self {
            calendar: Calendar::new(configured.period, configured.zone.clone()),
            clock: Mutex::default(),
            parts: (0..parts as u64).map(part).collect(),
            sessions: AtomicU64::new(0),
        }
    }

    fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    fn note_sessions(&self, sessions: u64) {
        self.sessions.store(sessions, Ordering::Relaxed);
    }

    /// How many keys there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.parts.iter().map(|part| lock(part).used.capacity()).sum()
    }

    /// Has room for so many keys from now on. Who is known stays.
    pub(super) fn resize(&self, capacity: usize) {
        let each = (capacity.max(1) / self.parts.len()).max(1);
        for part in &self.parts {
            let mut part = lock(part);
            part.used.resize(each);
            part.seen.iter_mut().for_each(|seen| seen.resize(each));
        }
    }

    /// The part of a key, in the period of `now`.
    fn part(&self, key: u64, now: u64) -> MutexGuard<'_, QuotaShard> {
        let mut part = lock(self.place(key));
        if now >= part.ends && part.ends != 0 {
            part.follow(&self.advanced(now));
        }
        part
    }

    fn place(&self, key: u64) -> &Mutex<QuotaShard> {
        // Others than the bits that a part tells its keys apart by.
        let place = usize::try_from((key >> 32) & (PARTS as u64 - 1)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one part, and the mask is their number less one"
        )]
        let part = &self.parts[place & (self.parts.len() - 1)];
        part
    }

    /// The clock at `now`: a period begins at its moment, whenever the next tick comes.
    fn advanced(&self, now: u64) -> Clock {
        let mut clock = lock(&self.clock);
        if now >= clock.span.ends && clock.span.ends != 0 && clock.ahead_since == 0 {
            (clock.span, clock.ahead_since) = (clock.next, now);
            clock.number = clock.number.wrapping_add(1);
        }
        *clock
    }

    /// Looks at both clocks: to be called every second, and before the first request. Returns by how many seconds the wall
    /// clock was set since the last time, if it was by more than a minute.
    pub(super) fn tick(&self, now: Now) -> Option<i64> {
        let before = {
            let mut clock = lock(&self.clock);
            if now.monotonic < clock.ahead_since {
                return None;
            }
            let known = clock.span;
            clock.span = if known.end == 0 {
                QuotaSpan::first(&self.calendar, now)
            } else {
                known.advanced(&self.calendar, now)
            };
            if !known.is(&clock.span) {
                clock.number = clock.number.wrapping_add(1);
            }
            let end = u64::try_from(clock.span.end).unwrap_or(0);
            let end = Now { monotonic: clock.span.ends, unix_millis: end };
            (clock.next, clock.ahead_since) = (clock.span.advanced(&self.calendar, end), 0);
            clock.last.replace(now)
        };
        self.follow();
        let before = before?;
        let went = i128::from(now.monotonic) - i128::from(before.monotonic);
        let stepped = i128::from(now.unix_millis) - i128::from(before.unix_millis) - went / 1_000_000;
        (stepped.abs() > 60_000).then(|| i64::try_from(stepped / 1_000).unwrap_or(0))
    }

    fn follow(&self) {
        for part in &self.parts {
            let mut part = lock(part);
            part.follow(&lock(&self.clock));
        }
    }

    /// When the period ends by the calendar, in seconds since the Unix epoch.
    pub(super) fn end(&self) -> u64 {
        u64::try_from(lock(&self.clock).span.end / 1_000).unwrap_or(0)
    }

    /// The period that lasts.
    pub(super) fn span(&self, now: u64) -> QuotaSpan {
        self.advanced(now).span
    }

    /// How a key is written that is new.
    pub(super) fn name(&self, key: u64, name: String, now: u64) {
        let mut part = self.part(key, now);
        if part.names.len() < MOST_NAMES {
            part.names.push((key, name));
        }
    }

    /// What a key has used up, if it is known.
    pub(super) fn find(&self, key: u64, now: u64) -> Option<u64> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let number = part.number;
        part.used.find(key, &key).filter(|used| !used.is_idle(number)).map(|used| used.units)
    }

    /// What became of requests, and how many keys have used anything.
    pub(super) fn counts(&self) -> (Counts, usize) {
        self.parts.iter().fold((Counts::default(), 0), |(counts, keys), part| {
            let part = lock(part);
            let known = part.used.iter().filter(|(_, used)| !used.is_idle(part.number)).count();
            (counts.and(part.counts), keys + known)
        })
    }

    /// So many keys have crossed a threshold of the warnings.
    pub(super) fn crossings(&self) -> u64 {
        self.parts.iter().map(|part| lock(part).crossings).sum()
    }
}

fn number_of_parts(capacity: usize) -> usize {
    let parts = (capacity / LEAST_PER_PART).clamp(1, PARTS);
    if parts.is_power_of_two() { parts } else { parts.next_power_of_two() / 2 }
}

impl std::fmt::Debug for QuotaCounts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Quota({} parts)", self.parts.len())
    }
}
