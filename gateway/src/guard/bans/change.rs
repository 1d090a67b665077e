//! Begins and ends bans that were found safe: store and audit chain first, then the kernel, then the proxy.

use super::{journal::Records, *};
use crate::guard::kernel::KernelError;

/// One of so many places is kept for operators: what rules ban leaves room for blocks by hand.
const RESERVE: u32 = 16;

/// Shadow entries of rules have one of so many places: who is only watched takes no place of who is banned.
const SHADOWS: u32 = 8;

impl Guard {
    /// Records a ban that was found safe, then tells the kernel, then the proxy.
    pub(super) fn ban(&mut self, mut record: BanRecord, now: Now) -> Result<u64, Refused> {
        let source = record.source;
        let replaced = self.find(source).cloned();
        if replaced.is_none() {
            self.judge_room(source)?;
        }
        let counted = replaced.as_ref().map(|old| (old.id, self.enforcer.counted(old)));
        let id = self.ledger.next_id();
        record.id = id;
        let mut members = about(&record, id);
        if let Some((old, _)) = counted {
            members.insert("replaces".to_owned(), old.into());
        }
        let begun = record.clone();
        let write: Write = Box::new(move |change| {
            if let Some((old, (packets, bytes))) = counted {
                let ended = BanEnd { at: now.unix_millis, how: "replaced".to_owned() };
                change.end(old, &ended, packets, bytes)?;
            }
            // It may be in force already when this is written: whatever the store has instead gives way.
            change.keep(&begun)?;
            if begun.rule.is_none() { change.unpardon(source) } else { Ok(()) }
        });
        if record.rule.is_some() {
            self.decide_ahead("ban", now, members, write)?;
        } else {
            self.decide("ban", now, members, write)?;
        }
        self.ledger.number_after(id);
        if record.rule.is_none() {
            self.policy.pardons.forget(source);
        }
        self.ledger.keep(record.clone());
        self.ledger.note_begun(&record);
        if let Err(error) = self.enter(&record) {
            // Unheard of while the store's bounds are the maps' bounds; the record tells of it.
            let how = format!("the kernel would not take it: {error}");
            self.end(&[id], &how, Some("unban"), now, None, nothing())?;
            return Err(Refused::new("kernel_failed", how));
        }
        let (expires, shadow) = (expiry(&record), record.shadow);
        self.note_ban(&record);
        self.log_lines.banned((&record).into(), now.monotonic);
        if record.rule.is_none() {
            self.log_lines.write();
        }
        if !shadow {
            self.notices.push(ToProxy::Banned { id, source, expires });
        } else if replaced.is_some_and(|old| !old.shadow) {
            self.notices.push(ToProxy::Lifted { source });
        }
        Ok(id)
    }

    /// Puts a recorded ban into the kernel.
    pub(super) fn enter(&mut self, record: &BanRecord) -> Result<(), KernelError> {
        let changed = self.enforcer.enter(record, self.wanted(record.source))?;
        self.feeds.touched(&changed);
        Ok(())
    }

    /// Ends bans: with what the kernel counted in the store, then out of the kernel, then out of the proxy.
    ///
    /// `event` is recorded for each, `summary` once for all.
    pub(super) fn end(
        &mut self,
        ids: &[u64],
        how: &str,
        event: Option<&'static str>,
        now: Now,
        summary: Option<(&'static str, Map<String, Value>)>,
        and: Write,
    ) -> Result<(), Refused> {
        let Ending { records, lines, write } = self.ending(ids, how, event, now, summary, and);
        if lines.is_empty() {
            return Ok(());
        }
        self.settle(lines, now, write)?;
        self.forget_all(&records);
        Ok(())
    }

    /// As [`Self::end`], at an operator's word: also where it cannot be recorded. What to say of that then.
    pub(super) fn lift(
        &mut self,
        ids: &[u64],
        how: &str,
        event: Option<&'static str>,
        now: Now,
        summary: Option<(&'static str, Map<String, Value>)>,
        and: Write,
    ) -> Option<String> {
        let Ending { records, lines, write } = self.ending(ids, how, event, now, summary, and);
        let unrecorded = self.record_lift(lines, now, write);
        self.forget_all(&records);
        unrecorded
    }

    /// Records what an operator lifts, also where it cannot be. What to say of that then.
    pub(super) fn record_lift(&mut self, lines: Records, now: Now, write: Write) -> Option<String> {
        let unrecorded = self.decide_anyway(lines, now, write);
        let what = if self.journal.may_owe() {
            "it is recorded once it can be, and undone if the gateway starts anew before that"
        } else {
            "it is undone when the gateway starts"
        };
        unrecorded.map(|error| format!("; it could not be recorded ({error}): {what}"))
    }

    fn ending(
        &self,
        ids: &[u64],
        how: &str,
        event: Option<&'static str>,
        now: Now,
        summary: Option<(&'static str, Map<String, Value>)>,
        and: Write,
    ) -> Ending {
        let records: Vec<BanRecord> = ids.iter().filter_map(|id| self.ledger.get(*id)).cloned().collect();
        let counts: Vec<(u64, u64, u64)> = records
            .iter()
            .map(|record| (record.id, self.enforcer.counted(record)))
            .map(|(id, (packets, bytes))| (id, packets, bytes))
            .collect();
        let ended = BanEnd { at: now.unix_millis, how: how.to_owned() };
        // The chain is one line per ban; all lines and the store's change are kept together, or none.
        let mut lines: Vec<(&'static str, Map<String, Value>)> = summary.into_iter().collect();
        if let Some(event) = event {
            lines.extend(records.iter().zip(&counts).map(|(record, (_, packets, bytes))| {
                let told = json!({"ban": record.id, "source": record.source.to_string(), "how": how,
                    "packets": packets, "bytes": bytes});
                (event, members(told))
            }));
        }
        let unsaved: Vec<BanRecord> =
            records.iter().filter(|record| self.ledger.is_unsaved(record.id)).cloned().collect();
        let prune = self.ledger.is_prune_due(records.len());
        let write: Write = Box::new(move |change| {
            unsaved.iter().try_for_each(|record| write_figures(change, record))?;
            for (id, packets, bytes) in &counts {
                change.end(*id, &ended, *packets, *bytes)?;
            }
            and(change)?;
            if prune {
                change.prune(crate::guard::store::HISTORY)?;
            }
            Ok(())
        });
        Ending { records, lines, write }
    }

    fn forget_all(&mut self, records: &[BanRecord]) {
        self.ledger.note_ended(records.len());
        self.log_lines.write();
        for record in records {
            self.forget(record);
        }
    }

    /// Takes an ended ban out of the kernel and the proxy. What the kernel will not let go of, the next comparison
    /// finds.
    fn forget(&mut self, record: &BanRecord) {
        let source = record.source;
        self.ledger.remove(record.id);
        let (changed, removed) = self.enforcer.leave(record, self.wanted(source));
        self.feeds.touched(&changed);
        if let Err(error) = removed {
            tracing::error!(ban = record.id, %error, "an ended ban stays in the kernel until it can be removed");
        }
        tracing::info!(ban = record.id, %source, "no longer banned");
        if !record.shadow {
            self.notices.push(ToProxy::Lifted { source });
        }
    }

    /// Puts right the rules of `source` and of every prefix inside it.
    pub(super) fn refresh(&mut self, source: Source) {
        let changed = self.enforcer.refresh(source);
        self.feeds.touched(&changed);
    }

    pub(super) fn judge_room(&self, source: Source) -> Result<(), Refused> {
        self.judge_room_but(source, 0)
    }

    /// Whether there is room for what a rule asks for: one in [`RESERVE`] is kept for operators, and shadow entries have
    /// one in [`SHADOWS`] at most. An entry that is there already takes no room.
    pub(super) fn judge_rules_room(&self, source: Source, shadow: bool) -> Result<(), Refused> {
        if self.find(source).is_some() {
            return Ok(());
        }
        self.judge_room_but(source, RESERVE)?;
        let most = (self.settings.max_bans / SHADOWS).max(1);
        if shadow && count(self.ledger.shadows()) >= u64::from(most) {
            let message = format!("shadow rules have {most} entries, their share of guard.max_bans");
            return Err(Refused::new("shadow_full", message));
        }
        Ok(())
    }

    /// Whether there is room, and one part in `reserve` stays free; 0: none.
    fn judge_room_but(&self, source: Source, reserve: u32) -> Result<(), Refused> {
        let (taken, most, setting) = if self.key(source).is_some() {
            let exact = self.ledger.len().saturating_sub(self.enforcer.prefixes().blocked().len());
            (exact.saturating_add(self.feeds.exact), self.settings.max_bans, "guard.max_bans")
        } else {
            (self.enforcer.prefixes().count(source.address().is_ipv4()), self.settings.max_rules, "guard.max_rules")
        };
        let countable =
            self.key(source).is_some() || self.enforcer.prefixes().free_slot() < self.enforcer.path().slots();
        let kept = most.checked_div(reserve).unwrap_or(0);
        if count(taken) < u64::from(most - kept) && countable {
            return Ok(());
        }
        if kept > 0 && count(taken) < u64::from(most) {
            let message =
                format!("the last {kept} of {setting} ({most}) are kept for operators: remove some, or raise it");
            return Err(Refused::new("full", message));
        }
        Err(Refused::new("full", format!("{setting} entries ({most}) are in force: remove some, or raise {setting}")))
    }
}

/// Bans that end, and what is recorded of it.
struct Ending {
    records: Vec<BanRecord>,
    lines: Vec<(&'static str, Map<String, Value>)>,
    write: Write,
}

/// What a record says about a ban.
fn about(record: &BanRecord, id: u64) -> Map<String, Value> {
    let mut about = members(json!({"ban": id, "source": record.source.to_string(), "reason": record.reason,
        "actor": record.actor, "mode": if record.shadow { "shadow" } else { "enforce" },
        "expires": record.expires.map(clock::rfc3339)}));
    if let Some(confirm) = record.confirm {
        about.insert("confirm_by".to_owned(), clock::rfc3339(confirm.unix_millis).into());
    }
    if let Some(relay) = record.relay {
        about.insert("relay".to_owned(), relay.to_string().into());
    }
    if !record.evidence.is_empty() {
        about.insert("evidence".to_owned(), record.evidence.iter().map(ToString::to_string).collect());
    }
    about
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
