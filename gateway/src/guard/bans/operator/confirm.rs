//! Takes back a block that its operator may have locked themselves out with, unless they confirm it in time.
//!
//! Until then the kernel's own entry ends at the deadline: the block goes on time even if the guard is dead by then.

use crate::guard::bans::*;
use crate::guard::{kernel::KernelError, store::BanDeadline};

/// The moment `seconds` from `now`.
pub(in crate::guard::bans) const fn deadline(seconds: u64, now: Now) -> BanDeadline {
    BanDeadline {
        unix_millis: now.unix_millis.saturating_add(seconds.saturating_mul(1_000)),
        monotonic: now.monotonic.saturating_add(seconds.saturating_mul(SECOND)),
    }
}

/// After a reboot: the deadline by what is left of it on the wall clock, never more than there was.
pub(in crate::guard::bans) fn rebased(confirm: BanDeadline, started: u64, now: Now) -> BanDeadline {
    let whole = confirm.unix_millis.saturating_sub(started);
    let left = confirm.unix_millis.saturating_sub(now.unix_millis).min(whole);
    BanDeadline { monotonic: now.monotonic.saturating_add(left.saturating_mul(1_000_000)), ..confirm }
}

/// Whether a ban was to be confirmed and was not.
pub(in crate::guard::bans) fn is_overdue(record: &BanRecord, now: Now) -> bool {
    let whole = record.expires_monotonic.unwrap_or(NEVER);
    record.confirm.is_some_and(|confirm| confirm.monotonic <= now.monotonic && confirm.monotonic < whole)
}

impl Guard {
    /// Lets a block stay for its whole time.
    pub(in crate::guard::bans) fn confirm(
        &mut self,
        id: Option<u64>,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        let record = self.waiting(id)?.clone();
        let id = record.id;
        let members = members(json!({"ban": record.id, "source": record.source.to_string(),
            "actor": actor.to_string()}));
        self.decide("confirm", now, members, Box::new(move |change| change.confirm(id)))?;
        let record = BanRecord { confirm: None, ..record };
        let (id, source, expires) = (record.id, record.source, expiry(&record));
        self.ledger.keep(record.clone());
        if let Err(error) = self.enter_again(&record) {
            // The next comparison with the kernel enters it.
            tracing::error!(ban = id, %error, "a confirmed block has its old end until it can be entered");
        }
        if !record.shadow {
            self.notices.push(ToProxy::Banned { id, source, expires });
        }
        Ok((format!("{source} stays blocked, ban {id}"), 1))
    }

    /// The block that waits for its confirmation.
    fn waiting(&self, id: Option<u64>) -> Result<&BanRecord, Refused> {
        let mut waiting = self.ledger.records().filter(|record| record.confirm.is_some());
        if let Some(id) = id {
            return waiting.find(|record| record.id == id).ok_or_else(|| {
                let message = if self.ledger.contains(id) {
                    format!("ban {id} waits for no confirmation")
                } else {
                    format!("there is no ban {id}: it may have been taken back already, see `gateway block list`")
                };
                Refused::new("not_found", message)
            });
        }
        match (waiting.next(), waiting.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Refused::new("not_found", "no block waits for a confirmation")),
            (Some(one), Some(other)) => {
                let message = format!("several wait, as {} and {}: say which", one.id, other.id);
                Err(Refused::new("several", message))
            }
        }
    }

    /// Gives the kernel's entry of a ban new times or a new mode, and keeps what it has counted.
    pub(in crate::guard::bans) fn enter_again(&mut self, record: &BanRecord) -> Result<(), KernelError> {
        let changed = self.enforcer.enter_again(record, self.wanted(record.source))?;
        self.feeds.touched(&changed);
        Ok(())
    }
}
