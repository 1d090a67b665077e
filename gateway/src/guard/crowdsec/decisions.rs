//! The decisions of CrowdSec that are known, by their numbers. Pure.
//!
//! *Invariant:* one source may have several decisions: it is listed until the last of them ends. There are at most [`MOST`].

use std::collections::HashMap;

use gateway_common::source::Source;

use crate::{
    guard::control::ImportEntry,
    lists::{DecisionStream, Listed},
    os::clock::SECOND,
};

/// The most decisions that are kept.
const MOST: usize = 2_000_000;

/// Seconds: what ends so soon is left to end by itself.
const SOON: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    source: Source,
    /// `CLOCK_MONOTONIC`, in whole seconds.
    expires: u64,
    reason: Option<String>,
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    known: HashMap<i64, Decision>,
    /// How many had no room.
    pub(crate) dropped: u64,
}

impl Decisions {
    /// Takes what was streamed, with `is_all` in the place of what was known. Whether that changes anything.
    /// `now`: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) fn take(&mut self, stream: DecisionStream, is_all: bool, now: u64) -> bool {
        let now = now / SECOND;
        // The kernel ends what ends by itself: that alone is no reason to write the list anew.
        self.known.retain(|_, decision| decision.expires > now);
        let mut is_changed = false;
        let mut old = if is_all { std::mem::take(&mut self.known) } else { HashMap::new() };
        for id in stream.deleted {
            is_changed |= self.known.remove(&id).is_some_and(|decision| decision.expires > now + SOON);
        }
        for (id, Listed { source, seconds, reason }) in stream.new {
            let Some(seconds) = seconds else { continue };
            if let Some(known) = old.remove(&id).filter(|known| known.source == source) {
                // As it was: its end is told to a fraction of a second.
                self.known.insert(id, known);
                continue;
            }
            if self.known.len() >= MOST {
                self.dropped += 1;
                continue;
            }
            let decision = Decision { source, expires: now.saturating_add(seconds), reason };
            let is_known = self.known.get(&id).is_some_and(|known| known.source == decision.source);
            if !is_known {
                self.known.insert(id, decision);
                is_changed = true;
            }
        }
        is_changed || !old.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// What is to be listed, and until when.
    pub(crate) fn entries(&self, now: u64) -> Vec<ImportEntry> {
        let now = now / SECOND;
        let left = |decision: &Decision| decision.expires.checked_sub(now).filter(|left| *left > 0);
        let entry = |(_, decision): (&i64, &Decision)| {
            Some(ImportEntry(0, decision.source, Some(left(decision)?), decision.reason.clone()))
        };
        self.known.iter().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(new: &[(i64, &str, u64)], deleted: &[i64]) -> DecisionStream {
        let listed =
            |source: &str, seconds| Listed { source: source.parse().unwrap(), seconds: Some(seconds), reason: None };
        let new = new.iter().map(|(id, source, seconds)| (*id, listed(source, *seconds))).collect();
        DecisionStream { new, deleted: deleted.to_vec(), ..DecisionStream::default() }
    }

    #[track_caller]
    fn check(decisions: &Decisions, now: u64, expect: &[(&str, u64)]) {
        let mut entries: Vec<(String, u64)> =
            decisions.entries(now * SECOND).into_iter().map(|entry| (entry.1.to_string(), entry.2.unwrap())).collect();
        entries.sort();
        let expect: Vec<_> = expect.iter().map(|(source, seconds)| ((*source).to_owned(), *seconds)).collect();
        assert_eq!(entries, expect);
    }

    #[test]
    fn come_go_and_end() {
        let mut decisions = Decisions::default();
        let half = SECOND / 2;
        assert!(decisions.take(stream(&[(1, "192.0.2.1", 60), (2, "192.0.2.1", 90)], &[]), true, 10 * SECOND + half));
        check(&decisions, 10, &[("192.0.2.1", 60), ("192.0.2.1", 90)]);
        // LAPI tells of the last seconds again.
        assert!(!decisions.take(stream(&[(2, "192.0.2.1", 85)], &[7]), false, 15 * SECOND));
        assert!(decisions.take(stream(&[(3, "192.0.2.3", 5)], &[2]), false, 20 * SECOND));
        check(&decisions, 20, &[("192.0.2.1", 50), ("192.0.2.3", 5)]);
        check(&decisions, 25, &[("192.0.2.1", 45)]);
        // All of them again: what stayed has the end that it had.
        assert!(!decisions.take(stream(&[(1, "192.0.2.1", 44)], &[]), true, 26 * SECOND), "one has ended by itself");
        assert!(!decisions.take(stream(&[(1, "192.0.2.1", 43)], &[]), true, 27 * SECOND));
        check(&decisions, 27, &[("192.0.2.1", 43)]);
        assert!(decisions.take(stream(&[(4, "192.0.2.4", 10)], &[]), true, 30 * SECOND));
        check(&decisions, 30, &[("192.0.2.4", 10)]);
        assert!(decisions.take(stream(&[], &[]), true, 31 * SECOND), "nobody is listed any more");
        assert_eq!(decisions.len(), 0);
    }
}
