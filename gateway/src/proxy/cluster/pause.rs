//! How long is waited until the store is tried again.

use std::time::Duration;

use tokio::time::{self, Interval, MissedTickBehavior};

use crate::{clock::Now, mix::mix};

/// After the first failure.
const SOON: Duration = Duration::from_millis(50);

/// After many.
const LATE: Duration = Duration::from_secs(1);

/// How long is waited next.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(SOON)
    }
}

impl Pause {
    /// Waits, the next time longer.
    pub(super) async fn wait(&mut self) {
        time::sleep(jittered(self.0)).await;
        self.0 = (self.0 * 2).min(LATE);
    }

    /// The store answers.
    pub(super) const fn reset(&mut self) {
        self.0 = SOON;
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
