//! Decides how many requests a source may make.
//!
//! *Invariant:* the state is bounded. When `capacity` sources are kept count of, a newcomer takes the place of the one
//! closest to idle of a few picked at random (see [`bounded`](crate::bounded)): an idle source's budget is full, as a
//! newcomer's is, so forgetting it changes nothing, while whoever runs at its limit has an arrival time furthest in
//! the future and is kept.

use gateway_common::{limit::ArrivalTime, source::Source};

use crate::{
    bounded::Sharded,
    proxy::reject::{Refusal, Reject},
};

#[cfg(test)]
mod tests;

/// `[limit.address]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `requests` per `per`, with bursts of up to `burst`.
    pub rate: gateway_common::limit::Rate,
    /// `capacity`: how many sources are kept count of at once.
    pub capacity: usize,
}

/// One budget per source, exact on any number of threads.
#[derive(Debug)]
pub struct AddressLimit {
    rate: gateway_common::limit::Rate,
    budgets: Sharded<Source, ArrivalTime>,
}

impl AddressLimit {
    /// Full budgets for everybody.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { rate: settings.rate, budgets: Sharded::new(settings.capacity) }
    }

    /// Takes one request out of the source's budget. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`], with the time to wait; nothing is taken then.
    pub fn spend(&self, source: Source, now: u64) -> Result<(), Refusal> {
        let mut budgets = self.budgets.lock(&source);
        let known = budgets.find(&source);
        let arrival = known.as_deref().copied().unwrap_or_default();
        match (self.rate.spend(arrival, now, 1), known) {
            (Some(next), Some(known)) => *known = next,
            (Some(next), None) => budgets.put(source, next, |_, arrival| *arrival),
            (None, _) => {
                drop(budgets);
                return Err(self.refuse(arrival, now));
            }
        }
        Ok(())
    }

    fn refuse(&self, arrival: ArrivalTime, now: u64) -> Refusal {
        let seconds = self.rate.wait(arrival, now).div_ceil(1_000_000_000);
        let refusal = Refusal::new(Reject::TooManyRequests, "over limit.address");
        Refusal { retry_after: Some(seconds.max(1)), ..refusal }
    }
}
