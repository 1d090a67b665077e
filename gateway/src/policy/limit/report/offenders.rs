//! Whose requests a limit refused most often: a few keys with their text, so that an operator can read them.
//!
//! *Invariant:* at most [`MOST`] keys are known. A newcomer takes the place of the least, and its count with it (the
//! space-saving algorithm, Metwally 2005): whoever is refused often is never missed, and a count may be too high.

use std::sync::{Mutex, TryLockError};

/// So many keys are known.
pub(in crate::policy::limit) const MOST: usize = 128;

/// A key that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::limit) struct Offender {
    pub(in crate::policy::limit) key: u64,
    /// The key, as `gateway limit show` takes it.
    pub(in crate::policy::limit) text: String,
    /// How often it was refused, or would have been; too high where others had its place before.
    pub(in crate::policy::limit) refused: u64,
    /// When it was refused last: `CLOCK_MONOTONIC`, nanoseconds.
    pub(in crate::policy::limit) last: u64,
}

#[derive(Debug, Default)]
pub(in crate::policy::limit) struct Offenders(Mutex<Vec<Offender>>);

impl Offenders {
    /// A key was refused. Where another thread notes one at the same moment, this one is not counted: nobody waits.
    pub(in crate::policy::limit) fn note(&self, key: u64, now: u64, text: impl FnOnce() -> String) {
        let mut known = match self.0.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(offender) = known.iter_mut().find(|offender| offender.key == key) {
            (offender.refused, offender.last) = (offender.refused.saturating_add(1), now);
        } else if known.len() < MOST {
            known.push(Offender { key, text: text(), refused: 1, last: now });
        } else if let Some(least) = known.iter_mut().min_by_key(|offender| (offender.refused, offender.last)) {
            *least = Offender { key, text: text(), refused: least.refused.saturating_add(1), last: now };
        }
    }

    pub(in crate::policy::limit) fn forget(&self, key: u64) {
        if let Ok(mut known) = self.0.lock() {
            known.retain(|offender| offender.key != key);
        }
    }

    /// Those that were refused most often first.
    pub(in crate::policy::limit) fn top(&self) -> Vec<Offender> {
        let mut top = self.0.lock().map(|known| known.clone()).unwrap_or_default();
        top.sort_by_key(|offender| (std::cmp::Reverse(offender.refused), std::cmp::Reverse(offender.last)));
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d06_a_crowd_does_not_hide_who_is_refused_most() {
        let offenders = Offenders::default();
        for number in 0..10_000_u64 {
            offenders.note(number + 10, number, || format!("principal=p{number}"));
            (0..2).for_each(|_| offenders.note(1, number, || "principal=mallory".to_owned()));
        }
        let top = offenders.top();
        assert_eq!((top.len(), top[0].text.as_str()), (MOST, "principal=mallory"));
        assert!(top[0].refused >= 20_000);
        offenders.forget(1);
        assert!(offenders.top().iter().all(|offender| offender.key != 1));
    }
}
