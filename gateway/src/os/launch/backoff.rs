//! How long a process that keeps dying is down before it is started again.

use std::time::Duration;

/// None, then doubling up to the last.
const BACK_OFF: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A process that was ready for so long is started again at once: those that died before it do not count any more.
pub const SETTLED: Duration = Duration::from_secs(10);

/// The wait before the next start, after so many deaths in a row before this one.
#[must_use]
pub fn back_off(deaths: usize) -> Duration {
    BACK_OFF.get(deaths).or(BACK_OFF.last()).copied().unwrap_or_default()
}
