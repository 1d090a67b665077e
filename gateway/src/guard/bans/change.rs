//! Decides how bans and allowances begin and end: store and audit chain first, then the kernel, then the proxy.

use super::*;
use crate::guard::store::Pardon;

/// One of so many places is kept for operators: what rules ban leaves room for blocks by hand.
const RESERVE: u32 = 16;

/// Shadow entries of rules have one of so many places: who is only watched takes no place of who is banned.
const SHADOWS: u32 = 8;

/// The longest block that ends by itself, in seconds: ten years.
const LONGEST_BAN: u64 = 315_360_000;

/// A block that an operator asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) source: Source,
    /// `None`: the default; 0: until it is removed.
    pub(super) seconds: Option<u64>,
    pub(super) reason: String,
    pub(super) shadow: bool,
    /// Take it back after so many seconds unless it is confirmed.
    pub(super) confirm: Option<u64>,
    /// Good clients that it covers do not stand against it.
    pub(super) force: bool,
}

impl Guard {
    /// Blocks `source`. An entry that is there already is replaced, without a moment in between.
    pub(super) fn add(&mut self, wanted: Wanted, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let Wanted { source, seconds, reason, shadow, confirm, force } = wanted;
        judge_reason(&reason)?;
        match self.judge(source) {
            Err(refused) if refused.code == safety::OPERATOR && (force || shadow) => {}
            judged => judged?,
        }
        if !shadow && !force {
            self.judge_good(source, now)?;
        }
        if confirm.is_some() && self.find(source).is_some() {
            let message = format!("{source} is blocked already, and a block that replaces it cannot be taken back");
            return Err(Refused::new("already_blocked", message));
        }
        if seconds.is_some_and(|seconds| seconds > LONGEST_BAN) {
            let most = span(LONGEST_BAN);
            return Err(Refused::new("too_long", format!("a block lasts {most} at most, or until it is removed")));
        }
        let before = self.find(source).filter(|record| !record.shadow || shadow).map(expiry);
        let seconds = match seconds {
            None => Some(self.settings.default_ban.as_secs().max(1)),
            Some(0) => None,
            Some(seconds) => Some(seconds),
        };
        let record = self.draft(source, reason, actor, seconds, shadow, now);
        let id = self.ban(Record { confirm: confirm.map(|seconds| confirm::deadline(seconds, now)), ..record }, now)?;
        let how = if shadow { " (shadow: counted, not dropped)" } else { "" };
        let long = seconds.map_or_else(|| "until it is removed".to_owned(), |seconds| format!("for {}", span(seconds)));
        let unless = confirm
            .map(|seconds| format!("; it is taken back in {} unless `gateway confirm {id}` comes", span(seconds)));
        let mut message = format!("{source} is blocked {long}{how}, ban {id}{}", unless.unwrap_or_default());
        let ends = seconds.map_or(NEVER, |seconds| now.monotonic.saturating_add(seconds.saturating_mul(SECOND)));
        if let Some(before) = before.filter(|before| *before > ends) {
            let left = match before {
                NEVER => "until it was removed".to_owned(),
                before => format!("for another {}", span(before.saturating_sub(now.monotonic).div_ceil(SECOND))),
            };
            message.push_str(&format!("; that is shorter than before: it was blocked {left}"));
        }
        let client = Source::of(source.address(), self.settings.ipv6_prefix);
        if source.length() > client.length() {
            message.push_str(&format!(
                "; only this: a client may use all of {client}, which `gateway block add {client}` blocks"
            ));
        }
        Ok((message, 1))
    }

    pub(super) fn del(&mut self, source: Source, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let Some(id) = self.find(source).map(|record| record.id) else {
            if let Some(done) = self.unlist(source, actor, now)? {
                return Ok(done);
            }
            let message = match self.still_blocked(source, now) {
                Some(how) => {
                    format!("{source} has no block of its own, and it is {how}: `gateway allow add` lets it through")
                }
                None => format!("{source} is not blocked"),
            };
            return Err(Refused::new("not_found", message));
        };
        let grace = self.settings.safety.unban_grace;
        let pardon = Pardon { source, actor: actor.to_string(), at: now.unix_millis };
        let since = now.unix_millis.saturating_sub(pardon::millis(grace));
        let unrecorded = self.lift(
            &[id],
            &format!("removed by {actor}"),
            Some("unban"),
            now,
            None,
            Box::new(move |change| if grace.is_zero() { Ok(()) } else { change.pardon(&pardon, since, pardon::MOST) }),
        );
        self.pardons.add(source, actor.to_string(), grace, now.monotonic);
        let sticky = if grace.is_zero() {
            String::new()
        } else {
            format!("; rules do not ban it again for {}", span(grace.as_secs()))
        };
        let done = match self.still_blocked(source, now) {
            Some(how) => format!("the block of {source} is removed, and it is still {how}"),
            None => format!("{source} is no longer blocked"),
        };
        Ok((format!("{done}{sticky}{}", unrecorded.unwrap_or_default()), 1))
    }

    /// How `source` is blocked by something around it, as `blocked as part of ...`.
    fn still_blocked(&self, source: Source, now: Now) -> Option<String> {
        let around = compose::around(source).filter_map(|network| self.find(network));
        let made = around.filter(|record| expiry(record) > now.monotonic).min_by_key(|record| record.shadow);
        let fed = self.fed_entry(source.address(), now).filter(|entry| entry.source.covers(&source));
        match (made, fed) {
            (Some(record), fed) if !record.shadow || fed.as_ref().is_none_or(|fed| fed.mode == "shadow") => {
                let how = if record.shadow { "counted, not dropped," } else { "blocked" };
                Some(format!("{how} as part of {}, ban {}", record.source, record.id))
            }
            (_, Some(fed)) => {
                let how = if fed.mode == "shadow" { "counted, not dropped," } else { "blocked" };
                let part = if fed.source == source { String::new() } else { format!(" as part of {}", fed.source) };
                Some(format!("{how}{part}, listed by {}", fed.actor))
            }
            _ => None,
        }
    }

    pub(super) fn flush(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let ids: Vec<u64> = self.ledger.ids();
        let summary = members(json!({"actor": actor.to_string(), "entries": ids.len()}));
        let how = format!("flushed by {actor}");
        let lists = self.imported();
        let drop_lists: Write = Box::new(move |change| lists.iter().try_for_each(|id| change.drop_feed(*id)));
        let unrecorded = self.lift(&ids, &how, None, now, Some(("flush", summary)), drop_lists);
        let listed = self.flush_imports(now);
        let kept = self.feed_files();
        let kept = if kept.is_empty() {
            String::new()
        } else {
            format!("; {} stay: remove them from the configuration", kept.join(", "))
        };
        let removed = count(ids.len()).saturating_add(listed);
        Ok((format!("{removed} blocks removed{kept}{}", unrecorded.unwrap_or_default()), removed))
    }

    /// Records a ban that was found safe, then tells the kernel, then the proxy.
    pub(super) fn ban(&mut self, mut record: Record, now: Now) -> Result<u64, Refused> {
        let source = record.source;
        let replaced = self.find(source).cloned();
        if replaced.is_none() {
            self.judge_room(source)?;
        }
        let counted = replaced.as_ref().map(|old| (old.id, self.counted(old)));
        let id = self.ledger.next_id();
        record.id = id;
        let mut members = about(&record, id);
        if let Some((old, _)) = counted {
            members.insert("replaces".to_owned(), old.into());
        }
        let begun = record.clone();
        let write: Write = Box::new(move |change| {
            if let Some((old, (packets, bytes))) = counted {
                let ended = Ended { at: now.unix_millis, how: "replaced".to_owned() };
                change.end(old, &ended, packets, bytes)?;
            }
            change.begin(&begun)?;
            if begun.rule.is_none() { change.unpardon(source) } else { Ok(()) }
        });
        if record.rule.is_some() {
            self.decide_ahead("ban", now, members, write)?;
        } else {
            self.decide("ban", now, members, write)?;
        }
        self.ledger.number_after(id);
        if record.rule.is_none() {
            self.pardons.forget(source);
        }
        self.ledger.keep(record.clone());
        if let Err(error) = self.enter(&record) {
            // Unheard of while the store's bounds are the maps' bounds; the record tells of it.
            let how = format!("the kernel would not take it: {error}");
            self.end(&[id], &how, Some("unban"), now, None, nothing())?;
            return Err(Refused::new("kernel_failed", how));
        }
        let (expires, shadow) = (expiry(&record), record.shadow);
        tracing::warn!(ban = id, %source, reason = record.reason, actor = record.actor, shadow, "banned");
        if !shadow {
            self.notices.push(ToProxy::Banned { id, source, expires });
        } else if replaced.is_some_and(|old| !old.shadow) {
            self.notices.push(ToProxy::Lifted { source });
        }
        Ok(id)
    }

    /// Puts a recorded ban into the kernel.
    pub(super) fn enter(&mut self, record: &Record) -> Result<(), crate::guard::kernel::KernelError> {
        if record.relay.is_some() {
            return self.leave_to_proxy(record.source);
        }
        if let Some(key) = self.key(record.source) {
            return self.drops.ban(key, self.wanted(record.source).unwrap_or_else(|| kernel_ban(record)));
        }
        let slot = self.prefixes.blocked().get(&record.source).map(|blocked| blocked.slot);
        let slot = slot.unwrap_or_else(|| self.prefixes.free_slot());
        self.drops.clear_hits(slot)?;
        let blocked = Blocked { shadow: record.shadow, expires: expiry(record), slot };
        self.prefixes.block(record.source, blocked);
        let Some(rule) = self.prefixes.rule(record.source) else { return Ok(()) };
        self.drops.put_rule(record.source, rule)?;
        self.refresh(record.source);
        Ok(())
    }

    /// A client behind a trusted proxy sends no packets of its own: the kernel keeps no entry of it. Another one that
    /// the ban replaces goes.
    fn leave_to_proxy(&mut self, source: Source) -> Result<(), crate::guard::kernel::KernelError> {
        if let Some(key) = self.key(source) {
            return match self.wanted(source) {
                Some(listed) => self.drops.ban(key, listed),
                None => self.drops.unban(key).map(|_| ()),
            };
        }
        if let Some(blocked) = self.prefixes.unblock(source) {
            self.refresh(source);
            self.drops.clear_hits(blocked.slot)?;
        }
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
        let unrecorded = self.decide_anyway(lines, now, write);
        self.forget_all(&records);
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
        let records: Vec<Record> = ids.iter().filter_map(|id| self.ledger.get(*id)).cloned().collect();
        let counts: Vec<(u64, u64, u64)> = records
            .iter()
            .map(|record| (record.id, self.counted(record)))
            .map(|(id, (packets, bytes))| (id, packets, bytes))
            .collect();
        let ended = Ended { at: now.unix_millis, how: how.to_owned() };
        // The chain is one line per ban; all lines and the store's change are kept together, or none.
        let mut lines: Vec<(&'static str, Map<String, Value>)> = summary.into_iter().collect();
        if let Some(event) = event {
            lines.extend(records.iter().zip(&counts).map(|(record, (_, packets, bytes))| {
                let told = json!({"ban": record.id, "source": record.source.to_string(), "how": how,
                    "packets": packets, "bytes": bytes});
                (event, members(told))
            }));
        }
        let unsaved: Vec<Record> = records.iter().filter(|record| self.ledger.is_unsaved(record.id)).cloned().collect();
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

    fn forget_all(&mut self, records: &[Record]) {
        self.ledger.note_ended(records.len());
        for record in records {
            self.forget(record);
        }
    }

    /// Takes an ended ban out of the kernel and the proxy. What the kernel will not let go of, the next comparison
    /// finds.
    fn forget(&mut self, record: &Record) {
        let source = record.source;
        self.ledger.remove(record.id);
        let removed = if record.relay.is_some() {
            Ok(())
        } else if let Some(key) = self.key(source) {
            match self.wanted(source) {
                Some(listed) => self.drops.ban(key, listed),
                None => self.drops.unban(key).map(|_| ()),
            }
        } else {
            let blocked = self.prefixes.unblock(source);
            let removed = if self.prefixes.fed.contains_key(&source) { Ok(()) } else { self.drops.remove_rule(source) };
            self.refresh(source);
            removed.and(blocked.map_or(Ok(()), |blocked| self.drops.clear_hits(blocked.slot)))
        };
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
        let mut sources = self.prefixes.inside(source);
        sources.push(source);
        self.feeds.touched(&sources);
        sources.into_iter().for_each(|source| self.put_right(source));
    }

    /// Puts right the rule of `source` alone.
    pub(super) fn put_right(&mut self, source: Source) {
        let put = match self.prefixes.rule(source) {
            Some(rule) => self.drops.put_rule(source, rule),
            None => self.drops.remove_rule(source),
        };
        if let Err(error) = put {
            tracing::error!(%source, %error, "a rule is not in force until it can be entered");
        }
    }

    /// What the kernel has counted on a ban.
    pub(super) fn counted(&self, record: &Record) -> (u64, u64) {
        if let Some(key) = self.key(record.source) {
            let found = self.drops.find_ban(key).filter(|ban| ban.id & !maps::Ban::SHADOW == record.id);
            return found.map_or((0, 0), |ban| (ban.packets, ban.bytes));
        }
        let slot = self.prefixes.blocked().get(&record.source).map(|blocked| blocked.slot);
        slot.map_or((0, 0), |slot| {
            let hits = self.drops.hits(slot);
            (hits.packets, hits.bytes)
        })
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
            let exact = self.ledger.len().saturating_sub(self.prefixes.blocked().len());
            (exact.saturating_add(self.feeds.exact), self.settings.max_bans, "guard.max_bans")
        } else {
            (self.prefixes.count(source.address().is_ipv4()), self.settings.max_rules, "guard.max_rules")
        };
        let countable = self.key(source).is_some() || self.prefixes.free_slot() < self.drops.slots();
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
    records: Vec<Record>,
    lines: Vec<(&'static str, Map<String, Value>)>,
    write: Write,
}

/// What a record says about a ban.
fn about(record: &Record, id: u64) -> Map<String, Value> {
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

pub(super) fn judge_reason(reason: &str) -> Result<(), Refused> {
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        let message = format!("a reason is one line of at most {LONGEST_REASON} bytes");
        return Err(Refused::new("bad_reason", message));
    }
    Ok(())
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
