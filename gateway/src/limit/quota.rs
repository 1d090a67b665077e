//! What each key has used up of a quota in its period: exact on any number of threads, of bounded memory, and told to the
//! guard, which keeps it.
//!
//! *Invariant:* what a key has used up in the period that lasts is never forgotten before that ends. When there is no room,
//! a newcomer takes the place of a key that has used nothing in this period. If there is none (among
//! [`SAMPLES`](crate::bounded::SAMPLES) picked at random), it shares a count with other newcomers, or is refused, as the
//! configuration says. What was used and not told yet is in the table itself, so it takes no memory of its own.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{
    calendar::Calendar,
    shared::{Cap, Seen},
};
pub use self::{
    clock::Span,
    row::{MAX_ROWS_TOLD, UsedRow, Warned},
    shared::{QuotaAsk, QuotaCall, QuotaTotal, portion_of_quota},
};
pub(super) use self::{
    rules::Rules,
    shared::{SharedQuota, WaitingQuota},
};
use super::counter::{Counts, Over};
use crate::{
    bounded::{BoundedTable, Insertion},
    clock::{Now, SECOND},
    settings::limit::quota::{Quota as Configured, WhenFull},
};

mod calendar;
mod clock;
mod row;
mod rules;
mod shared;
mod told;

#[cfg(test)]
mod tests;

/// A table is not spread thinner than this.
const LEAST_PER_PART: usize = 256;

/// The parts that a table of some size has, each with a lock of its own: threads meet seldom.
const PARTS: usize = 256;

/// The most keys of one part that have crossed a threshold and are not told of yet.
const MOST_WARNED: usize = 32;

/// The most keys of one part whose names are not told yet. Over that they are shown by their hashes.
const MOST_NAMES: usize = 128;

/// The bytes that one key takes.
pub const BYTES_PER_KEY: usize = 64;

/// The counts of one quota. They outlive configurations.
pub(super) struct Quota {
    calendar: Calendar,
    /// Locked while a part is, never the other way round.
    clock: Mutex<Clock>,
    parts: Box<[Mutex<QuotaShard>]>,
    /// How often the store between machines had come, when it was told everything.
    sessions: AtomicU64,
}

/// Which period lasts.
#[derive(Clone, Copy, Default)]
struct Clock {
    span: Span,
    /// What follows, should it begin before the next [`Quota::tick`].
    next: Span,
    /// When it has begun before that; 0: it has not.
    ahead_since: u64,
    /// Counts the periods since the process began.
    number: u32,
    /// The last tick.
    last: Option<Now>,
}

struct QuotaShard {
    /// When the period ends, and its number, as the clock has it.
    ends: u64,
    number: u32,
    used: BoundedTable<u64, Used>,
    /// What is known of other machines; `None`: no quota is shared.
    seen: Option<BoundedTable<u64, Seen>>,
    /// What newcomers share that there is no room for.
    shared: Used,
    counts: Counts,
    /// Keys whose counts have changed since they were told.
    changed: Vec<u64>,
    /// Keys that are new, as operators write them.
    names: Vec<(u64, String)>,
    warned: Vec<Warned>,
    /// So many keys have crossed a threshold.
    crossings: u64,
}

/// What a key has used up.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// In which period.
    number: u32,
    /// It is among the changed ones.
    is_changed: bool,
    /// All of its units are to be told, whatever was told before.
    is_whole: bool,
    units: u64,
    /// So many of them the guard knows.
    told: u64,
}

impl Used {
    /// As of this period.
    fn at(&mut self, number: u32) -> &mut Self {
        if self.number != number {
            *self = Self { number, is_changed: self.is_changed, ..Self::default() };
        }
        self
    }

    const fn is_idle(&self, number: u32) -> bool {
        self.number != number || self.units == 0 && self.told == 0
    }
}

/// What is left for a key whose request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) units: u64,
    /// In how many seconds the quota begins anew.
    pub(super) reset: u64,
    /// Nobody knows yet how it is written.
    pub(super) is_new: bool,
}

impl Quota {
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
            clock.span =
                if known.end == 0 { Span::first(&self.calendar, now) } else { known.advanced(&self.calendar, now) };
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
    pub(super) fn span(&self, now: u64) -> Span {
        self.advanced(now).span
    }

    /// Takes units of the quota of `key`. `Err`: there are not as many left, and nothing is taken; in how many seconds it
    /// begins anew. `over` says what becomes of the request then. What is known only later takes 0 units, and is admitted
    /// while any is left.
    pub(super) fn spend(&self, key: u64, units: u64, rules: &Rules, now: u64, over: Over) -> Result<Left, u64> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let reset = part.ends.saturating_sub(now).div_ceil(SECOND).max(1);
        let Cap { most, others } = rules.cap(part, key, now);
        let (is_new, used) = part.find_or_add(key);
        let has_room = is_new != Newcomer::Shared || rules.when_full == WhenFull::Share;
        let most = if is_new == Newcomer::Shared { rules.of_newcomers() } else { most };
        let before = used.units;
        let after = before.saturating_add(units);
        let left = rules.most.saturating_sub(others);
        if !has_room || after > most || units == 0 && before >= most {
            match over {
                Over::Refused => part.counts.refused += 1,
                Over::Shadow => part.counts.shadow += 1,
            }
            // There may be more as soon as the store has said so.
            let is_ahead = most < left && after.max(before.saturating_add(1)) <= left;
            return Err(if is_ahead { 1 } else { reset });
        }
        used.units = after;
        part.counts.admitted += 1;
        if is_new != Newcomer::Shared {
            part.note_change(key, before.saturating_add(others), after.saturating_add(others), rules);
        }
        Ok(Left { units: left.saturating_sub(after), reset, is_new: is_new == Newcomer::Yes })
    }

    /// How a key is written that is new.
    pub(super) fn name(&self, key: u64, name: String, now: u64) {
        let mut part = self.part(key, now);
        if part.names.len() < MOST_NAMES {
            part.names.push((key, name));
        }
    }

    /// Gives back what [`Self::spend`] took for a request that was refused by another limit: it was never admitted.
    pub(super) fn refund(&self, key: u64, units: u64, rules: &Rules, now: u64) {
        let mut part = self.part(key, now);
        let part = &mut *part;
        part.counts.admitted = part.counts.admitted.saturating_sub(1);
        let number = part.number;
        match part.used.find(key, &key).filter(|used| used.number == number) {
            Some(used) => {
                used.units = used.units.saturating_sub(units);
                let after = used.units;
                part.note_change(key, after, after, rules);
            }
            None => {
                let shared = part.shared.at(number);
                shared.units = shared.units.saturating_sub(units);
            }
        }
    }

    /// Takes units that are known only now, however few are left.
    pub(super) fn charge(&self, key: u64, units: u64, rules: &Rules, now: u64) {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let (is_new, used) = part.find_or_add(key);
        let before = used.units;
        used.units = before.saturating_add(units);
        let after = used.units;
        if is_new != Newcomer::Shared {
            let others = part.elsewhere(key);
            part.note_change(key, before.saturating_add(others), after.saturating_add(others), rules);
        }
    }

    /// What a key has used up, if it is known.
    pub(super) fn find(&self, key: u64, now: u64) -> Option<u64> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let number = part.number;
        part.used.find(key, &key).filter(|used| !used.is_idle(number)).map(|used| used.units)
    }

    /// From now on a key has used up so much; `None`: it was not known, and there is no room for it.
    pub(super) fn set(&self, key: u64, units: u64, rules: &Rules, now: u64) -> Option<u64> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let (is_new, used) = part.find_or_add(key);
        if is_new == Newcomer::Shared {
            return None;
        }
        used.units = units;
        // An operator knows what there is to be warned of.
        part.note_change(key, units, units, rules);
        if let Some(shared) = &rules.shared {
            part.set_everywhere(shared, key, units);
        }
        Some(units)
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

/// Who comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newcomer {
    No,
    /// There is no room for a count of its own.
    Shared,
    Yes,
}

impl QuotaShard {
    /// Goes on as the clock says.
    fn follow(&mut self, clock: &Clock) {
        self.ends = clock.span.ends;
        if self.number != clock.number {
            self.number = clock.number;
            self.names.clear();
            for key in mem::take(&mut self.changed) {
                if let Some(used) = self.used.find(key, &key) {
                    used.is_changed = false;
                }
            }
        }
    }

    fn find_or_add(&mut self, key: u64) -> (Newcomer, &mut Used) {
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
    fn note_told(&mut self, key: u64) {
        if let Some(used) = self.used.find(key, &key)
            && !mem::replace(&mut used.is_changed, true)
        {
            self.changed.push(key);
            self.tidy_changed();
        }
    }

    fn note_change(&mut self, key: u64, before: u64, after: u64, rules: &Rules) {
        self.note_told(key);
        if let Some(percent) = rules.crossed(before, after) {
            self.crossings += 1;
            if self.warned.len() < MOST_WARNED {
                self.warned.push(Warned { key, percent, most: rules.most });
            }
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

    fn take_names(&mut self) -> HashMap<u64, String> {
        mem::take(&mut self.names).into_iter().collect()
    }
}

fn number_of_parts(capacity: usize) -> usize {
    let parts = (capacity / LEAST_PER_PART).clamp(1, PARTS);
    if parts.is_power_of_two() { parts } else { parts.next_power_of_two() / 2 }
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Quota({} parts)", self.parts.len())
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
