//! When the guard wakes up by itself.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::os::clock;

/// A time of `CLOCK_MONOTONIC`, in nanoseconds, as the runtime counts.
pub(super) fn instant(monotonic: u64) -> Instant {
    Instant::now() + Duration::from_nanos(monotonic.saturating_sub(clock::monotonic()))
}

/// Waits until then; without a time, not at all.
pub(super) async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
