//! Ends bans whose time has come, some at a time.

use super::*;
use crate::message::Probation;

impl Guard {
    /// Ends what has expired.
    pub(super) fn sweep(&mut self, now: Now) {
        let all = self.ledger.ended(now);
        let ended = all.iter().filter_map(|(_, id)| self.ledger.get(*id));
        let (overdue, expired): (Vec<&BanRecord>, Vec<&BanRecord>) =
            ended.partition(|record| confirm::is_overdue(record, now));
        let over: Vec<BanRecord> = expired.iter().copied().cloned().collect();
        let ids = |records: Vec<&BanRecord>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
        for (ids, how, event) in
            [(ids(expired), "expired", "expiry"), (ids(overdue), "taken back: not confirmed in time", "rollback")]
        {
            if ids.is_empty() {
                continue;
            }
            if let Err(refused) = self.end(&ids, how, Some(event), now, None, nothing()) {
                tracing::error!(error = %refused, "ended bans stay listed until their end can be recorded");
                return self.ledger.put_back(all);
            }
        }
        self.begin_probation(&over, now);
    }

    /// Bans of rules have expired: probation follows.
    fn begin_probation(&mut self, expired: &[BanRecord], now: Now) {
        let probation = self.settings.safety.probation;
        for record in expired.iter().filter(|record| record.rule.is_some() && !record.shadow) {
            if let Some(until) = self.policy.probations.add(record.source, probation, now.monotonic) {
                self.notices.push(ToProxy::Probation { source: record.source, until });
            }
        }
    }

    /// Who is on probation, for a proxy that starts.
    pub(crate) fn probations_in_force(&self, now: u64) -> Vec<Probation> {
        self.policy.probations.live(now)
    }
}
