//! Reads the clocks, once per decision; policies are told the time and never ask for it.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of a second: what times of `CLOCK_MONOTONIC` count in.
pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a minute.
pub const MINUTE: u64 = 60 * SECOND;

/// One moment on both clocks: the monotonic one for limits and expiry, the wall clock for tokens and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_MONOTONIC`, nanoseconds: what the kernel program compares expiries with.
    pub monotonic: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_millis: u64,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: monotonic(), unix_millis: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn unix_seconds(&self) -> u64 {
        self.unix_millis / 1_000
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
pub fn monotonic() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// How long the calling thread has had a core: `CLOCK_THREAD_CPUTIME_ID`, nanoseconds.
#[must_use]
pub fn thread() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// What tells one life of the machine from another: in each `CLOCK_MONOTONIC` begins anew. Empty: the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// RFC 3339, UTC, milliseconds.
#[must_use]
pub fn rfc3339(unix_millis: u64) -> String {
    let millis = i64::try_from(unix_millis).unwrap_or(i64::MAX);
    format!("{:.3}", Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX))
}

/// Zero if the kernel refused, which it does for no valid clock.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let (seconds, nanos) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_nsec()));
        seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
    })
}
