//! How much is told of commands that were denied: whoever tries many must not fill the log, nor the audit chain.

use gateway_common::limit::{ArrivalTime, Rate};

use crate::os::{
    clock::{MINUTE, Now, SECOND},
    program_log::sparse::Sparse,
};

/// How many are recorded one by one: one a second, 60 at once. The rest are recorded as a number.
const RATE: Rate = Rate { interval: SECOND, burst: MINUTE };

/// What was told of denied commands.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct Denials {
    pace: ArrivalTime,
    unrecorded: u64,
    told: Sparse,
}

impl Denials {
    /// Whether one is to be logged, and how many were not since the last; once a second at most.
    pub(in crate::guard::lifecycle) fn is_log_due(&self, now: Now) -> Option<u64> {
        self.told.is_due(now.monotonic)
    }

    /// Whether one is to be recorded by itself, and how many were not since the last.
    pub(in crate::guard::lifecycle) fn is_record_due(&mut self, now: Now) -> Option<u64> {
        match RATE.spend(self.pace, now.monotonic, 1) {
            Some(next) => {
                self.pace = next;
                Some(std::mem::take(&mut self.unrecorded))
            }
            None => {
                self.unrecorded += 1;
                None
            }
        }
    }
}
