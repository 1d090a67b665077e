//! Decides which bans have ended, without looking at all of them.

use super::*;

/// How many bans end at once, in about a millisecond; the kernel ends them on time anyway.
const SWEEP: usize = 20;

impl Guard {
    /// A ban is in force, or otherwise than before.
    pub(super) fn keep(&mut self, record: Record) {
        // Bans that ended early leave their ends behind.
        if self.ends.len() > 2 * self.in_force.len() + PRUNE_EVERY {
            self.ends = self.in_force.values().map(|record| Reverse((expiry(record), record.id))).collect();
        }
        self.ends.push(Reverse((expiry(&record), record.id)));
        self.shadows += usize::from(is_shadow_of_rule(&record));
        if let Some(before) = self.in_force.insert(record.id, record) {
            self.shadows = self.shadows.saturating_sub(usize::from(is_shadow_of_rule(&before)));
        }
    }

    /// A ban is no longer in force.
    pub(super) fn drop_record(&mut self, id: u64) {
        self.figures.remove(&id);
        if let Some(record) = self.in_force.remove(&id) {
            self.shadows = self.shadows.saturating_sub(usize::from(is_shadow_of_rule(&record)));
        }
    }

    /// Ends what has expired.
    pub(super) fn sweep(&mut self, now: Now) {
        let all = self.ended(now);
        self.is_sweeping = all.len() >= SWEEP;
        let ended = all.iter().filter_map(|(_, id)| self.in_force.get(id));
        let (overdue, expired): (Vec<&Record>, Vec<&Record>) =
            ended.partition(|record| confirm::is_overdue(record, now));
        let over: Vec<Record> = expired.iter().copied().cloned().collect();
        let ids = |records: Vec<&Record>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
        for (ids, how, event) in
            [(ids(expired), "expired", "expiry"), (ids(overdue), "taken back: not confirmed in time", "rollback")]
        {
            if ids.is_empty() {
                continue;
            }
            if let Err(refused) = self.end(&ids, how, Some(event), now, None, nothing()) {
                tracing::error!(error = %refused, "ended bans stay listed until their end can be recorded");
                let left = all.into_iter().filter(|(_, id)| self.in_force.contains_key(id));
                self.ends.extend(left.map(Reverse));
                self.is_sweeping = false;
                return;
            }
        }
        self.begin_probation(&over, now);
    }

    /// Some bans that have ended, and when.
    fn ended(&mut self, now: Now) -> Vec<(u64, u64)> {
        let mut ended = Vec::new();
        while ended.len() < SWEEP
            && let Some(Reverse((at, id))) = self.ends.peek().copied()
            && at <= now.monotonic
        {
            self.ends.pop();
            if self.in_force.get(&id).is_some_and(|record| expiry(record) == at) && !ended.contains(&(at, id)) {
                ended.push((at, id));
            }
        }
        ended
    }
}

const fn is_shadow_of_rule(record: &Record) -> bool {
    record.shadow && record.rule.is_some()
}
