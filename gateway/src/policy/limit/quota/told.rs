//! What a proxy and the guard tell each other of quotas: what was used up since the last time, and all of it.

use super::{
    QuotaCounts,
    clock::QuotaSpan,
    row::{QuotaDelta, UsedRow},
    shard::{Newcomer, lock},
};

impl QuotaCounts {
    /// Takes what has changed since the last call, or `most` rows of it.
    pub(in crate::policy::limit) fn untold(&self, most: usize, now: u64) -> QuotaDelta {
        let clock = self.advanced(now);
        let mut untold = QuotaDelta { span: clock.span, ..QuotaDelta::default() };
        for part in &self.parts {
            let mut part = lock(part);
            part.follow(&lock(&self.clock));
            let room = most.saturating_sub(untold.rows.len().max(untold.warned.len()));
            if part.number != clock.number || room == 0 {
                // It has begun anew meanwhile, or there is too much: the next call tells of that.
                continue;
            }
            let (mut names, number) = (part.take_names(), part.number);
            let keys = part.changed.len().saturating_sub(room);
            for key in part.changed.split_off(keys) {
                let Some(used) = part.used.find(key, &key).filter(|used| used.number == number) else { continue };
                let units = signed(used.units).saturating_sub(signed(used.told));
                let is_whole = std::mem::take(&mut used.is_whole);
                (used.told, used.is_changed) = (used.units, false);
                let name = names.remove(&key);
                if units != 0 || name.is_some() {
                    untold.rows.push(UsedRow { key, units, is_whole, name });
                }
            }
            if keys > 0 {
                part.names.extend(names);
            } else {
                // Behind what they have changed: who knows of a word alone would undo it.
                untold.words.append(&mut part.take_words());
            }
            untold.warned.append(&mut part.warned);
        }
        untold
    }

    /// Everything is to be told again: there is a guard that may know nothing of it.
    pub(in crate::policy::limit) fn retell(&self) {
        for part in &self.parts {
            let mut part = lock(part);
            let (number, mut changed) = (part.number, std::mem::take(&mut part.changed));
            for (key, used) in part.used.iter_mut().filter(|(_, used)| !used.is_idle(number)) {
                (used.told, used.is_whole) = (0, true);
                if !std::mem::replace(&mut used.is_changed, true) {
                    changed.push(*key);
                }
            }
            part.changed = changed;
            part.retell_words();
        }
    }

    /// Operators' words of these numbers were heard by this machine.
    pub(in crate::policy::limit) fn know_words(&self, span: &QuotaSpan, words: &[(u64, u64)], now: u64) {
        if words.is_empty() || !self.advanced(now).span.is(span) {
            return;
        }
        for (key, word) in words {
            self.part(*key, now).know_word(*key, *word);
        }
    }

    /// Another proxy has used up this.
    pub(in crate::policy::limit) fn take(&self, span: &QuotaSpan, rows: &[UsedRow], now: u64) {
        if !self.advanced(now).span.is(span) {
            return;
        }
        for row in rows {
            let mut part = self.part(row.key, now);
            if let (Newcomer::No | Newcomer::Yes, used) = part.find_or_add(row.key) {
                used.units = used.units.saturating_add_signed(row.units);
                used.told = used.told.saturating_add_signed(row.units);
            }
        }
    }

    /// The guard knows of this period, and of what keys have used up in it: as much at least counts here.
    pub(in crate::policy::limit) fn restore(&self, span: QuotaSpan, rows: &[(u64, u64)], now: u64) {
        {
            let mut clock = lock(&self.clock);
            if clock.span.end == 0 {
                clock.span = span;
            }
        }
        self.follow();
        if !self.advanced(now).span.is(&span) {
            return;
        }
        for (key, units) in rows {
            let mut part = self.part(*key, now);
            if let (Newcomer::No | Newcomer::Yes, used) = part.find_or_add(*key) {
                let both = units.saturating_add(used.units.saturating_sub(used.told));
                if both > used.units {
                    (used.units, used.told) = (both, *units);
                }
            }
        }
        // The store between machines is to know it as well.
        self.note_sessions(0);
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
