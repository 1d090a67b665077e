//! What requests take of a quota, by the rules that it is enforced by.

use super::{
    QuotaCounts,
    row::Warned,
    rules::QuotaRules,
    seen::Cap,
    shard::{Newcomer, QuotaShard},
};
use crate::{os::clock::SECOND, policy::limit::counter::Over, settings::limit::quota::WhenFull};

/// The most keys of one part that have crossed a threshold and are not told of yet.
pub(super) const MOST_WARNED: usize = 32;

/// What is left for a key whose request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::limit) struct Left {
    pub(in crate::policy::limit) units: u64,
    /// In how many seconds the quota begins anew.
    pub(in crate::policy::limit) reset: u64,
    /// Nobody knows yet how it is written.
    pub(in crate::policy::limit) is_new: bool,
}

/// What is left for a key whose request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::limit) struct TooFew {
    pub(in crate::policy::limit) units: u64,
    /// In how many seconds there may be enough.
    pub(in crate::policy::limit) reset: u64,
}

impl QuotaCounts {
    /// Takes units of the quota of `key`. `Err`: there are not as many left, and nothing is taken. `over` says what becomes
    /// of the request then. What is known only later takes 0 units, and is admitted while any is left.
    pub(in crate::policy::limit) fn spend(
        &self,
        key: u64,
        units: u64,
        rules: &QuotaRules,
        now: u64,
        over: Over,
    ) -> Result<Left, TooFew> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let reset = part.ends.saturating_sub(now).div_ceil(SECOND).max(1);
        let Cap { most, others } = rules.cap(part, key, now);
        let (is_new, used) = part.find_or_add(key);
        let has_room = is_new != Newcomer::Shared || rules.when_full == WhenFull::Share;
        let most = if is_new == Newcomer::Shared { rules.of_newcomers() } else { most };
        let before = used.units;
        let after = before.saturating_add(units);
        let left = rules.most.saturating_sub(others);
        if !has_room || after > most || units == 0 && before >= most {
            match over {
                Over::Refused => part.counts.refused += 1,
                Over::Shadow => part.counts.shadow += 1,
            }
            // There may be more as soon as the store has said so.
            let is_ahead = most < left && after.max(before.saturating_add(1)) <= left;
            return Err(TooFew { units: left.saturating_sub(before), reset: if is_ahead { 1 } else { reset } });
        }
        used.units = after;
        part.counts.admitted += 1;
        if is_new != Newcomer::Shared {
            part.note_change(key, before.saturating_add(others), after.saturating_add(others), rules);
        }
        Ok(Left { units: left.saturating_sub(after), reset, is_new: is_new == Newcomer::Yes })
    }

    /// Gives back what [`Self::spend`] took for a request that was refused by another limit: it was never admitted.
    pub(in crate::policy::limit) fn refund(&self, key: u64, units: u64, rules: &QuotaRules, now: u64) {
        let mut part = self.part(key, now);
        let part = &mut *part;
        part.counts.admitted = part.counts.admitted.saturating_sub(1);
        let number = part.number;
        match part.used.find(key, &key).filter(|used| used.number == number) {
            Some(used) => {
                used.units = used.units.saturating_sub(units);
                let after = used.units;
                part.note_change(key, after, after, rules);
            }
            None => {
                let shared = part.shared.at(number);
                shared.units = shared.units.saturating_sub(units);
            }
        }
    }

    /// Takes units that are known only now, however few are left.
    pub(in crate::policy::limit) fn charge(&self, key: u64, units: u64, rules: &QuotaRules, now: u64) {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let (is_new, used) = part.find_or_add(key);
        let before = used.units;
        used.units = before.saturating_add(units);
        let after = used.units;
        if is_new != Newcomer::Shared {
            let others = part.elsewhere(key);
            part.note_change(key, before.saturating_add(others), after.saturating_add(others), rules);
        }
    }

    /// From now on a key has used up so much; `None`: it was not known, and there is no room for it.
    pub(in crate::policy::limit) fn set(&self, key: u64, units: u64, rules: &QuotaRules, now: u64) -> Option<u64> {
        let mut part = self.part(key, now);
        let part = &mut *part;
        let (is_new, used) = part.find_or_add(key);
        if is_new == Newcomer::Shared {
            return None;
        }
        used.units = units;
        // An operator knows what there is to be warned of.
        part.note_change(key, units, units, rules);
        if let Some(shared) = &rules.shared {
            part.set_everywhere(shared, key, units);
        }
        Some(units)
    }
}

impl QuotaShard {
    fn note_change(&mut self, key: u64, before: u64, after: u64, rules: &QuotaRules) {
        self.note_told(key);
        if let Some(percent) = rules.crossed(before, after) {
            self.crossings += 1;
            if self.warned.len() < MOST_WARNED {
                self.warned.push(Warned { key, percent, most: rules.most });
            }
        }
    }
}
