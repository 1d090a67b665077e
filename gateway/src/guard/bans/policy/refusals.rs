//! How much is told of bans that rules asked for and that were refused: an attacker must not fill the log.

use gateway_common::limit::{ArrivalTime, Rate};

use crate::os::{
    clock::{MINUTE, Now, SECOND},
    program_log::sparse::Sparse,
};

/// How many refused asks are recorded one by one, per minute; the rest are recorded as a number.
const RATE: Rate = Rate { interval: SECOND, burst: MINUTE };

/// What was told of refusals.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Refusals {
    pace: ArrivalTime,
    unrecorded: u64,
    told: Sparse,
}

impl Refusals {
    /// Whether one is to be logged, and how many were not since the last; once a second at most.
    pub(in crate::guard::bans) fn is_log_due(&self, now: Now) -> Option<u64> {
        self.told.is_due(now.monotonic)
    }

    /// Whether one is to be recorded by itself.
    pub(in crate::guard::bans) fn is_record_due(&mut self, now: Now) -> bool {
        let next = RATE.spend(self.pace, now.monotonic, 1);
        self.pace = next.unwrap_or(self.pace);
        self.unrecorded += u64::from(next.is_none());
        next.is_some()
    }

    /// How many were not recorded by themselves since this was asked last.
    pub(in crate::guard::bans) const fn take_unrecorded(&mut self) -> u64 {
        std::mem::replace(&mut self.unrecorded, 0)
    }
}
