//! Rate limits on requests: how many a source may make.
//!
//! *Invariant:* the state is bounded. When `capacity` sources are kept count of, a newcomer takes the place of the one
//! closest to idle of a few picked at random (see [`bounded`](crate::bounded)): an idle source's budget is full, as a
//! newcomer's is, so forgetting it changes nothing, while whoever runs at its limit has an arrival time furthest in
//! the future and is kept.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gateway_common::{
    limit::{ArrivalTime, Rate},
    source::Source,
};

use crate::{
    bounded::Sharded,
    refusal::{Refusal, Reject},
    settings::limit::Settings,
};

#[cfg(test)]
mod tests;

/// Requests that a limit in shadow mode would have refused, since the last time it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowRefusals {
    /// How many.
    pub requests: u64,
    /// Whose, as far as they were not told of before; at most [`MOST_TOLD`].
    pub sources: Vec<Source>,
}

/// So many sources are known to have been told of. Over that, their requests are counted alone.
const MOST_KNOWN: usize = 16_384;

/// The most sources that are told of at once.
pub const MOST_TOLD: usize = 500;

/// One budget per source, exact on any number of threads. It outlives configurations: another rate continues the counts.
#[derive(Debug)]
pub struct AddressLimit {
    /// The rate in force: changed while every budget is locked, read while one is.
    interval: AtomicU64,
    burst: AtomicU64,
    capacity: usize,
    budgets: Sharded<Source, ArrivalTime>,
    enforces: AtomicBool,
    /// An operator ended shadow mode.
    is_promoted: AtomicBool,
    would_refuse: AtomicU64,
    told: Mutex<ReportedSources>,
}

#[derive(Debug, Default)]
struct ReportedSources {
    known: HashSet<Source>,
    fresh: Vec<Source>,
}

impl AddressLimit {
    /// Full budgets for everybody.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            interval: AtomicU64::new(settings.rate.interval),
            burst: AtomicU64::new(settings.rate.burst),
            capacity: settings.capacity,
            budgets: Sharded::new(settings.capacity),
            enforces: AtomicBool::new(!settings.shadow),
            is_promoted: AtomicBool::new(false),
            would_refuse: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// The limit of another configuration: this one where it has room for as many sources, else one without counts.
    #[must_use]
    pub fn succeeded_by(self: &Arc<Self>, settings: &Settings) -> Arc<Self> {
        if settings.capacity == self.capacity { Arc::clone(self) } else { Arc::new(Self::new(settings)) }
    }

    /// Goes on by `settings`, with the counts of `before`. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    pub fn put_in_force(&self, settings: &Settings, before: &Self, now: u64) {
        let (old, new) = (before.rate(), settings.rate);
        if !std::ptr::eq(self, before) {
            before.budgets.each(|source, arrival| {
                self.budgets.lock(source).put(*source, new.carried(*arrival, old, now), |_, arrival| *arrival);
            });
            self.is_promoted.store(before.is_promoted.load(Ordering::Relaxed), Ordering::Relaxed);
        } else if old != new {
            let carry = |arrival: &mut ArrivalTime| *arrival = new.carried(*arrival, old, now);
            self.budgets.change_all(carry, || {
                self.interval.store(new.interval, Ordering::Relaxed);
                self.burst.store(new.burst, Ordering::Relaxed);
            });
        }
        // Once the configuration enforces it, the promotion is over.
        let is_promoted = self.is_promoted.fetch_and(settings.shadow, Ordering::Relaxed);
        self.enforces.store(!settings.shadow || is_promoted, Ordering::Relaxed);
    }

    /// Ends shadow mode: an operator says so.
    pub fn enforce(&self) {
        self.is_promoted.store(true, Ordering::Relaxed);
        self.enforces.store(true, Ordering::Relaxed);
    }

    fn rate(&self) -> Rate {
        Rate { interval: self.interval.load(Ordering::Relaxed), burst: self.burst.load(Ordering::Relaxed) }
    }

    /// What would have been refused since the last call; `None`: nothing.
    pub fn would_refuse(&self) -> Option<ShadowRefusals> {
        let requests = self.would_refuse.swap(0, Ordering::Relaxed);
        if requests == 0 {
            return None;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ShadowRefusals { requests, sources: std::mem::take(&mut told.fresh) })
    }

    fn note(&self, source: Source) {
        self.would_refuse.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.fresh.len() < MOST_TOLD && told.known.len() < MOST_KNOWN && told.known.insert(source) {
            told.fresh.push(source);
        }
    }

    /// Takes one request out of the source's budget. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`], with the time to wait; nothing is taken then.
    pub fn spend(&self, source: Source, now: u64) -> Result<(), Refusal> {
        let mut budgets = self.budgets.lock(&source);
        // The rate of this budget, as long as it is locked.
        let rate = self.rate();
        let known = budgets.find(&source);
        let arrival = known.as_deref().copied().unwrap_or_default();
        match (rate.spend(arrival, now, 1), known) {
            (Some(next), Some(known)) => *known = next,
            (Some(next), None) => budgets.put(source, next, |_, arrival| *arrival),
            (None, _) => {
                drop(budgets);
                // Fails open while the limit is in shadow mode.
                if !self.enforces.load(Ordering::Relaxed) {
                    self.note(source);
                    return Ok(());
                }
                return Err(refuse(rate, arrival, now));
            }
        }
        Ok(())
    }
}

fn refuse(rate: Rate, arrival: ArrivalTime, now: u64) -> Refusal {
    let seconds = rate.wait(arrival, now).div_ceil(1_000_000_000);
    let refusal = Refusal::new(Reject::TooManyRequests, "over limit.address");
    Refusal { retry_after: Some(seconds.max(1)), ..refusal }
}
