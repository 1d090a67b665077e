//! How long is waited until the store is tried again.

use std::time::Duration;

use tokio::time::{self, Interval, MissedTickBehavior};

use super::connection::Failure;
use crate::{collections::mix::mix, os::clock::Now};

/// After the first failure.
const SOON: Duration = Duration::from_millis(50);

/// After many.
const LATE: Duration = Duration::from_secs(1);

/// After many answers that are none: who gives such answers is not asked often, and comes back less soon.
const LATE_MALFORMED: Duration = Duration::from_secs(30);

/// How long a store has to answer whether it is there until that counts for good answers to everything.
pub(super) const STEADY: Duration = Duration::from_secs(60);

/// How long is waited next, and at most.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pause {
    next: Duration,
    most: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: SOON, most: LATE }
    }
}

impl Pause {
    /// Waits, the next time longer.
    pub(super) async fn wait(&mut self) {
        time::sleep(jittered(self.next)).await;
        self.lengthen();
    }

    fn lengthen(&mut self) {
        self.next = (self.next * 2).min(self.most);
    }

    /// The store has failed.
    pub(super) const fn note(&mut self, failure: &Failure) {
        if failure.is_malformed {
            self.most = LATE_MALFORMED;
        }
    }

    /// The store answers as it should.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Between half of it and all: machines that lost the store together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let Now { monotonic, unix_millis } = Now::read();
    let share = u32::try_from(mix(monotonic ^ unix_millis) % 512).unwrap_or(0);
    pause / 2 + pause / 1_024 * share
}

/// Ticks at once and then so often, at most: ticks that were missed are not made up for.
pub(super) fn delayed(period: Duration) -> Interval {
    let mut interval = time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_nonsense_is_asked_less_and_less() {
        let longest = |failures: &[Failure]| {
            let mut pause = Pause::default();
            for failure in failures {
                pause.note(failure);
                pause.lengthen();
            }
            pause.next
        };
        let (away, nonsense) = (Failure::new("it is away"), Failure::malformed("it is no reply"));
        assert_eq!(longest(&vec![away.clone(); 20]), LATE);
        assert_eq!(longest(&vec![nonsense.clone(); 20]), LATE_MALFORMED);
        assert_eq!(longest(&vec![nonsense; 3]), SOON * 8);
        let mut pause = Pause { next: LATE_MALFORMED, most: LATE_MALFORMED };
        pause.note(&away);
        assert_eq!(pause.most, LATE_MALFORMED, "it has given no good answer since");
        pause.reset();
        assert_eq!(pause, Pause::default());
        for pause in [SOON, LATE, LATE_MALFORMED] {
            assert!((pause / 2..=pause).contains(&jittered(pause)));
        }
    }
}
