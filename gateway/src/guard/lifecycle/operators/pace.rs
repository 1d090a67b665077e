//! How much operators may have recorded: whoever may block sources must not be able to fill the disk with that.
//!
//! Root is not held up: who can write to the disk as they like needs no commands for it.

use std::collections::HashMap;

use gateway_common::limit::{ArrivalTime, Rate};

use crate::os::clock::{Now, SECOND};

/// One command that is recorded a second, and 600 at once. Many sources at once are a list: `gateway block import`.
const RATE: Rate = Rate { interval: SECOND, burst: 600 * SECOND };

/// How many operators are kept in mind. Only those who have a role get here.
const MOST: usize = 4_096;

/// What each operator has had recorded lately, by the name that records have for them.
#[derive(Default)]
pub(in crate::guard::lifecycle) struct RecordLimiter(HashMap<String, ArrivalTime>);

impl RecordLimiter {
    /// Whether one command more of this operator may be recorded.
    pub(in crate::guard::lifecycle) fn allows(&mut self, actor: &str, now: Now) -> bool {
        let known = self.0.get(actor).copied();
        let Some(next) = RATE.spend(known.unwrap_or_default(), now.monotonic, 1) else { return false };
        if known.is_none() && self.0.len() >= MOST {
            // Whoever owes nothing is as good as new.
            self.0.retain(|_, arrival| *arrival > now.monotonic);
            if self.0.len() >= MOST {
                return false;
            }
        }
        self.0.insert(actor.to_owned(), next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic: seconds * SECOND, unix_millis: 0 }
    }

    #[test]
    fn one_a_second_and_many_at_once() {
        let mut pace = RecordLimiter::default();
        let now = at(10_000);
        let many = (0..2_000).filter(|_| pace.allows("operator:7", now)).count();
        assert_eq!(many, 600);
        assert!(pace.allows("operator:8", now), "another operator is not held up");
        assert!(pace.allows("operator:7", at(10_001)) && !pace.allows("operator:7", at(10_001)));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut pace = RecordLimiter::default();
        let now = at(10_000);
        assert!((0..MOST).all(|number| pace.allows(&number.to_string(), now)));
        assert!(!pace.allows("one more", now) && pace.allows("7", now));
        assert!(pace.allows("one more", at(20_000)));
        assert_eq!(pace.0.len(), 1);
    }
}
