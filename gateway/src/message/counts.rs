//! What a proxy counts and tells, and sums of counts.

use serde::{Deserialize, Serialize};

use crate::log::drops::DropCounts;

/// What a proxy had no room or no time for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Asks for a ban.
    pub asks: u64,
    /// Lines of the access log, by why: in the order of [`DropReason::ALL`](crate::log::drops::DropReason::ALL).
    pub log_lines: DropCounts,
    /// Connections over `proxy.max_connections`.
    pub connections: u64,
    /// Connections and requests that came while the proxy was over `proxy.max_memory`.
    pub shed: u64,
    /// Bans and allowances that are not known at accept.
    pub at_accept: u64,
}

/// How answers are counted: by the first digit of their status; at last those that nobody waited for.
pub const ANSWERS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "client_left"];

/// Where in [`ANSWERS`] a status is counted; `None`: the client had left. A status that is none may have no place there.
#[must_use]
pub fn place_of_answer(status: Option<u16>) -> usize {
    status.map_or(ANSWERS.len() - 1, |status| usize::from(status / 100).wrapping_sub(1))
}

/// The most labels of refusals. What is told beyond is ignored.
pub const MAX_LABELS: usize = 64;

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// In the order of [`ANSWERS`].
    pub answers: Vec<u64>,
    /// Refusals by their labels.
    pub refused: Vec<(String, u64)>,
    /// Signals, in the order of [`Signal::ALL`](crate::signal::Signal::ALL).
    pub signals: Vec<u64>,
    /// Connections of clients at this moment.
    pub connections: u64,
}

/// Adds counts to sums of the same kinds. What has no place in the sums is ignored.
pub fn add_counts(sums: &mut [u64], counts: &[u64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}
