//! How often a receiver is written to: not more than so many times an hour, and after a failure later and later.

use serde::{Deserialize, Serialize};

use super::outcome::NotificationOutcome;
use crate::os::clock::Now;

/// The first pause after a failure, in milliseconds. Each further one is twice as long.
const FIRST: u64 = 1_000;

/// The longest pause after a failure, in milliseconds.
pub(super) const LONGEST: u64 = 300_000;

/// The longest time that a receiver may ask for.
const LONGEST_ASKED: u64 = 3_600_000;

const HOUR: u64 = 3_600_000;

/// The pace of one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::observer::alert) struct RateLimiter {
    /// Failures in a row.
    pub(in crate::observer::alert) failures: u32,
    /// Why the last one failed.
    pub(in crate::observer::alert) why: Option<String>,
    /// Nothing is sent before that: milliseconds since 1970.
    not_before: u64,
    /// When the budget of an hour is whole again (GCRA).
    whole_at: u64,
}

impl RateLimiter {
    /// Whether something may be sent as far as failures are concerned.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        // A clock that was set back keeps nobody silent for longer than a pause.
        now.unix_millis >= self.not_before || self.not_before - now.unix_millis > LONGEST_ASKED
    }

    /// The clock was set back: nobody knows how much of a pause is over.
    pub(super) fn clock_was_set_back(&mut self, now: Now) {
        self.not_before = self.not_before.min(now.unix_millis);
        self.whole_at = self.whole_at.min(now.unix_millis);
    }

    /// Whether more than half of the budget of an hour is left.
    pub(super) const fn has_spare(&self, now: Now) -> bool {
        self.whole_at < now.unix_millis.saturating_add(HOUR / 2)
    }

    /// Takes one notification of the budget; whether there was one.
    pub(super) fn spend(&mut self, per_hour: u32, now: Now) -> bool {
        let each = HOUR / u64::from(per_hour.max(1));
        let latest = now.unix_millis.saturating_add(HOUR);
        // Later than that it cannot be, but for a clock that was set back.
        let known = if self.whole_at > latest { 0 } else { self.whole_at };
        let whole_at = known.max(now.unix_millis);
        if whole_at.saturating_add(each) > latest {
            return false;
        }
        self.whole_at = whole_at.saturating_add(each);
        true
    }

    /// Something was sent, or could not be.
    pub(super) fn done(&mut self, outcome: &NotificationOutcome, now: Now) {
        match outcome {
            NotificationOutcome::Failed { why, wait, .. } => {
                let pause =
                    FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST).max((*wait).min(LONGEST_ASKED));
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.unix_millis.saturating_add(pause);
                self.why = Some(why.clone());
            }
            NotificationOutcome::Refused { why, .. } => {
                self.failures = self.failures.saturating_add(1);
                self.why = Some(why.clone());
            }
            NotificationOutcome::Sent => *self = Self { whole_at: self.whole_at, ..Self::default() },
        }
    }
}
