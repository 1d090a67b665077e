//! The log lines of bans that rules have asked for. They are written once a burst of asks is over: a log that is read
//! slowly, or by a process that needs the same core, keeps no ban waiting.
//!
//! *Invariant:* at most [`MOST`] lines wait, and none longer than [`SETTLED`]. A guard that is killed meanwhile loses them;
//! the audit chain has had every ban before the kernel had it.

use gateway_common::source::Source;

use super::journal::{SETTLE, SETTLED};
use crate::guard::store::BanRecord;

/// How many lines wait at most.
const MOST: usize = 256;

/// What a line tells.
pub(super) struct Line {
    ban: u64,
    source: Source,
    reason: String,
    actor: String,
    shadow: bool,
}

impl From<&BanRecord> for Line {
    fn from(record: &BanRecord) -> Self {
        let (reason, actor) = (record.reason.clone(), record.actor.clone());
        Self { ban: record.id, source: record.source, reason, actor, shadow: record.shadow }
    }
}

/// Lines that wait.
#[derive(Default)]
pub(super) struct LogLines {
    waiting: Vec<Line>,
    /// When they are to be written: `CLOCK_MONOTONIC`, nanoseconds.
    due: u64,
    /// When the first of them is to be written, however many come.
    latest: u64,
}

impl LogLines {
    /// A ban is in force since `now`: `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) fn banned(&mut self, line: Line, now: u64) {
        if self.waiting.len() >= MOST {
            self.write();
        }
        if self.waiting.is_empty() {
            self.latest = now.saturating_add(SETTLED);
        }
        self.due = now.saturating_add(SETTLE).min(self.latest);
        self.waiting.push(line);
    }

    /// When they are to be written; `None`: there are none.
    pub(super) fn due(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.due)
    }

    /// Writes them.
    pub(super) fn write(&mut self) {
        for Line { ban, source, reason, actor, shadow } in self.waiting.drain(..) {
            tracing::warn!(ban, %source, reason, actor, shadow, "banned");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_for_the_end_of_a_burst_and_not_for_ever() {
        let mut lines = LogLines::default();
        let line = |ban| {
            let (source, reason, actor) = ("192.0.2.1".parse().unwrap(), String::new(), String::new());
            Line { ban, source, reason, actor, shadow: false }
        };
        assert_eq!(lines.due(), None);
        for (now, due) in [(1_000, 1_000 + SETTLE), (2_000, 2_000 + SETTLE), (SETTLED, 1_000 + SETTLED)] {
            lines.banned(line(now), now);
            assert_eq!(lines.due(), Some(due), "at {now}");
        }
        lines.write();
        assert_eq!(lines.due(), None);
        for id in 0..1_000 {
            lines.banned(line(id), 0);
            assert!(lines.waiting.len() <= MOST);
        }
    }
}
