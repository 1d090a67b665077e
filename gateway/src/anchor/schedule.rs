//! When an anchor is sent the newest checkpoint, and when again after a failure. Pure.
//!
//! *Invariant:* nothing is queued but the newest checkpoint, which vouches for all before it: a target that is down for a
//! month costs no memory.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SignedHead;

/// The first wait after a failure; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// How an anchor is, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorState {
    /// Its name.
    pub name: String,
    /// `file`, `syslog`, `webhook` or `timestamp`.
    pub kind: String,
    /// The last record that a checkpoint was sent of; 0: none was.
    pub seq: u64,
    /// When that was: RFC 3339, UTC; empty: none was.
    pub sent: String,
    /// Why the last try failed; absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// How many tries have failed since one succeeded.
    #[serde(default)]
    pub failures: u32,
}

/// When the next try is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    every: Duration,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    next: u64,
    is_sending: bool,
    state: AnchorState,
}

impl Schedule {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(name: &str, kind: &str, every: Duration) -> Self {
        let state = AnchorState { name: name.to_owned(), kind: kind.to_owned(), ..AnchorState::default() };
        Self { every, next: 0, is_sending: false, state }
    }

    /// Whether `head` is to be sent now. If so it counts as being sent until [`Self::sent`] or [`Self::failed`].
    pub fn begin(&mut self, head: &SignedHead, now: u64) -> bool {
        let is_due = !self.is_sending && now >= self.next && head.seq > self.state.seq;
        self.is_sending |= is_due;
        is_due
    }

    /// Whether `head`, the last of a gateway that stops, is to be sent, if not so often as usual. It counts as being sent.
    pub fn begin_last(&mut self, head: &SignedHead) -> bool {
        let is_new = head.seq > self.state.seq;
        self.is_sending |= is_new;
        is_new
    }

    /// Checkpoint `seq` has arrived.
    pub fn sent(&mut self, seq: u64, time: String, now: u64) {
        self.is_sending = false;
        self.next = now.saturating_add(nanos(self.every));
        (self.state.seq, self.state.sent, self.state.failing, self.state.failures) = (seq, time, None, 0);
    }

    /// It could not be sent.
    pub fn failed(&mut self, reason: &str, now: u64) {
        self.is_sending = false;
        let wait = FIRST.saturating_mul(1 << self.state.failures.min(16)).min(LONGEST).max(self.every.min(LONGEST));
        self.next = now.saturating_add(nanos(wait));
        self.state.failures = self.state.failures.saturating_add(1);
        // It may be of whoever was written to.
        self.state.failing = Some(reason.chars().filter(|letter| !letter.is_control()).take(300).collect());
    }

    /// It could not be sent for a reason of the gateway's own, which says nothing about the target: it is tried again soon,
    /// however seldom the target is written to.
    pub fn interrupted(&mut self, reason: &str, now: u64) {
        let tried = self.state.failures;
        self.failed(reason, now);
        self.next = now.saturating_add(nanos(FIRST.saturating_mul(1 << tried.min(16)).min(LONGEST)));
    }

    /// How it is.
    #[must_use]
    pub const fn state(&self) -> &AnchorState {
        &self.state
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::SECOND;

    fn head(seq: u64) -> SignedHead {
        let text = String::new;
        SignedHead { anchor: 1, chain: text(), seq, hash: text(), time: text(), key: text(), signature: text() }
    }

    #[test]
    fn the_newest_is_sent_as_often_as_asked_and_failures_wait_longer() {
        let mut schedule = Schedule::new("vault", "file", Duration::from_secs(10));
        assert!(schedule.begin(&head(5), 0));
        assert!(!schedule.begin(&head(6), SECOND), "one at a time");
        schedule.sent(5, "T".to_owned(), SECOND);
        assert!(!schedule.begin(&head(5), 60 * SECOND), "nothing new");
        assert!(!schedule.begin(&head(6), 10 * SECOND), "too soon");
        assert!(schedule.begin(&head(7), 11 * SECOND));
        let mut now = 11 * SECOND;
        let mut waits = Vec::new();
        for _ in 0..9 {
            schedule.failed("down\n", now);
            let begun = now;
            while !schedule.begin(&head(8), now) {
                now += SECOND;
            }
            waits.push((now - begun) / SECOND);
        }
        assert_eq!(waits, [10, 10, 10, 10, 16, 32, 64, 128, 256]);
        assert_eq!((schedule.state().failing.as_deref(), schedule.state().failures), (Some("down"), 9));
        schedule.sent(8, "T".to_owned(), now);
        assert_eq!((schedule.state().failing.as_deref(), schedule.state().failures), (None, 0));
    }

    /// Whoever is written to once a day is not written to a day later because a process of ours was just being started.
    #[test]
    fn what_is_no_fault_of_the_target_is_tried_again_soon() {
        let mut schedule = Schedule::new("vault", "webhook", Duration::from_secs(86_400));
        let mut now = 0;
        for wait in [1, 2, 4, 8] {
            assert!(schedule.begin(&head(5), now));
            schedule.interrupted("the observer is not running", now);
            assert_eq!(schedule.state().failing.as_deref(), Some("the observer is not running"));
            assert!(!schedule.begin(&head(5), now + (wait - 1) * SECOND), "{wait}");
            now += wait * SECOND;
        }
        assert!(schedule.begin(&head(5), now));
        schedule.sent(5, "T".to_owned(), now);
        assert!(!schedule.begin(&head(6), now + 86_399 * SECOND) && schedule.begin(&head(6), now + 86_400 * SECOND));
    }
}
