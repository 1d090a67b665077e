//! Takes over what the audit chain and the kernel hold and the store does not know: where the store is behind, it is in
//! force as before.
//!
//! The store is behind where its file was damaged or missing, or is a copy from before. Numbers of bans and of lists
//! only grow: an entry of the kernel with a number that the store never gave is proof.
//!
//! *Invariant:* nothing is lifted here. What has no name in the kernel is taken for a list if it was counted as one.

use std::sync::Arc;

use crate::guard::{
    audit::Redo,
    feeds::content::{FeedContent, FeedDraft},
    store::{AllowanceRecord, Promotion, feeds::FeedRow},
};
use crate::{
    guard::bans::{feeds::ListsBehind, *},
    text::counted::counted,
};

/// What is said of what was taken over.
const REASON: &str = "taken over from the kernel: the store did not know it";

/// What the lists are called that entries of lost lists become.
const LISTS: [(&str, bool); 2] = [("taken-over", false), ("taken-over-shadow", true)];

impl Guard {
    /// Does again what the audit chain tells of and the store does not. What became of lists is for
    /// [`Self::take_from_kernel`].
    pub(in crate::guard::bans) fn redo(&mut self, redo: Redo, now: Now) -> ListsBehind {
        if redo.is_empty() {
            return ListsBehind::default();
        }
        let Redo { begun, ended, confirmed, flushed, allowed, promoted, lists } = redo;
        let lists = self.redo_lists(lists, flushed);
        self.shortfalls.add(lists.warning());
        let over = self.ledger.ids().into_iter().filter(|id| flushed || ended.contains(id)).collect::<Vec<u64>>();
        let records = self.begun_again(begun, now);
        let confirmed: Vec<u64> = confirmed.into_iter().filter(|id| self.ledger.contains(*id)).collect();
        for id in &over {
            let Some(record) = self.ledger.remove(*id) else { continue };
            self.enforcer.prefixes_mut().unblock(record.source);
        }
        for id in &confirmed {
            if let Some(record) = self.ledger.get(*id).cloned() {
                self.ledger.keep(BanRecord { confirm: None, ..record });
            }
        }
        for record in &records {
            self.hold(record);
        }
        let allows = self.allowed_again(allowed);
        let promotions = self.promoted_again(promoted, now);
        let counts = json!({"bans": records.len(), "ended": over.len(), "allowances": allows.len(),
            "promotions": promotions.len(), "lists": lists.count_removed()});
        tracing::warn!(%counts, "the audit chain told of what the store did not know");
        let ended = BanEnd { at: now.unix_millis, how: "ended before the store heard of it".to_owned() };
        let write_lists = lists.write();
        let write: Write = Box::new(move |change| {
            write_lists(change)?;
            over.iter().try_for_each(|id| change.end(*id, &ended, 0, 0))?;
            confirmed.iter().try_for_each(|id| change.confirm(*id))?;
            records.iter().try_for_each(|record| change.keep(record))?;
            allows.iter().try_for_each(|(source, allowed)| match allowed {
                Some(allowed) => change.allow(allowed, now.unix_millis),
                None => change.disallow(*source).map(drop),
            })?;
            promotions.iter().try_for_each(|(what, promotion)| match promotion {
                Some(promotion) => change.promote(promotion),
                None => change.demote(what),
            })
        });
        if let Some(error) = self.decide_anyway(vec![("redone", members(counts))], now, write) {
            tracing::error!(error, "what the audit chain told could not be recorded: it is tried again");
        }
        lists
    }

    /// Bans that the store does not know and that have not ended. The kernel knows best when they end.
    fn begun_again(&self, told: BTreeMap<u64, Map<String, Value>>, now: Now) -> Vec<BanRecord> {
        let kernel: HashMap<u64, u64> = match told.is_empty() {
            true => HashMap::new(),
            false => self
                .enforcer
                .path()
                .bans()
                .into_iter()
                .map(|(_, ban)| (ban.id & !maps::Ban::SHADOW, ban.expires))
                .collect(),
        };
        let again = told.into_iter().filter_map(|(id, told)| {
            let mut record = recorded(id, &told)?;
            self.rebased(&mut record, now);
            if let Some(expires) = kernel.get(&id).filter(|_| record.confirm.is_none()) {
                record.expires_monotonic = (*expires != NEVER).then_some(*expires);
            }
            (expiry(&record) > now.monotonic).then_some(record)
        });
        again.collect()
    }

    /// Allowances that the store does not know, and `None` of those that are over. They are in force from here on.
    fn allowed_again(
        &mut self,
        told: BTreeMap<String, Option<Map<String, Value>>>,
    ) -> Vec<(Source, Option<AllowanceRecord>)> {
        let mut changed = Vec::new();
        for (source, told) in told {
            let Ok(source) = source.parse::<Source>() else { continue };
            let is_known = self.enforcer.prefixes().operators().any(|allow| allow.source == source);
            match told {
                Some(told) if !is_known => {
                    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                    let allow = AllowEntry { source, reason: text("reason"), actor: text("actor") };
                    self.enforcer.prefixes_mut().allow(allow.clone());
                    changed.push((source, Some(AllowanceRecord { source, reason: allow.reason, actor: allow.actor })));
                }
                None if is_known => {
                    self.enforcer.prefixes_mut().disallow(source);
                    changed.push((source, None));
                }
                _ => {}
            }
        }
        changed
    }

    /// Promotions that the store does not know, and `None` of those that are over. What the configuration has in shadow no
    /// longer needs none.
    fn promoted_again(&mut self, told: BTreeMap<String, Option<String>>, now: Now) -> Vec<(String, Option<Promotion>)> {
        let mut changed = Vec::new();
        for (what, actor) in told {
            let promotion = match actor {
                Some(actor) if self.is_in_shadow(&what) && !self.policy.promoted.contains_key(&what) => {
                    self.policy.promoted.insert(what.clone(), actor.clone());
                    Some(Promotion { what: what.clone(), actor, at: now.unix_millis })
                }
                None if self.policy.promoted.remove(&what).is_some() => None,
                _ => continue,
            };
            changed.push((what, promotion));
        }
        changed
    }

    /// Takes a ban as in force that the kernel may have already.
    fn hold(&mut self, record: &BanRecord) {
        if self.key(record.source).is_none() && record.relay.is_none() {
            let known = self.enforcer.prefixes().blocked().get(&record.source).map(|blocked| blocked.slot);
            let rules = || self.enforcer.path().rules().into_iter().find(|(source, _)| *source == record.source);
            let counted = known
                .or_else(|| rules().map(|(_, rule)| rule.slot).filter(|slot| self.enforcer.prefixes().is_free(*slot)));
            let slot = counted.unwrap_or_else(|| self.enforcer.prefixes().free_slot());
            self.enforcer
                .prefixes_mut()
                .block(record.source, Blocked { shadow: record.shadow, expires: expiry(record), slot });
        }
        self.ledger.keep(record.clone());
    }

    /// Takes over what the kernel holds and the store does not know. `is_behind`: the store is known to know too little.
    /// `behind`: what the audit chain told of lists.
    pub(in crate::guard::bans) fn take_from_kernel(&mut self, is_behind: bool, behind: &ListsBehind, now: Now) {
        let newest = self.journal.store().newest().unwrap_or(0);
        let newest_list = self.journal.store().newest_feed().unwrap_or(0);
        let live = self.enforcer.path().bans().into_iter().filter(|(_, ban)| ban.expires > now.monotonic);
        let prefix = self.settings.ipv6_prefix;
        let live: Vec<(Source, u64, maps::Ban)> =
            live.map(|(key, ban)| (Source::from_key(key, prefix), ban.id & !maps::Ban::SHADOW, ban)).collect();
        let is_newer = |source: Source, id: u64| self.find(source).is_none_or(|known| known.id < id);
        // Decided before anything is taken over: entries and prefixes alike are, or are not.
        let is_behind = is_behind
            || live.iter().any(|(source, id, _)| id & feeds::FED == 0 && *id > newest && is_newer(*source, *id));
        let are_lists_behind = is_behind
            || self.feeds.is_broken
            || behind.are_behind()
            || live.iter().any(|(source, id, _)| {
                id & feeds::FED != 0 && id & !feeds::FED > newest_list && self.wanted(*source).is_none()
            });
        let mut highest = self.ledger.ids().last().copied().unwrap_or(0).max(newest);
        let (mut records, mut lists) = (Vec::new(), [FeedDraft::new(now.monotonic), FeedDraft::new(now.monotonic)]);
        for (source, id, ban) in live {
            if id & feeds::FED != 0 {
                let is_removed = || behind.is_removed(id & !feeds::FED);
                if are_lists_behind && self.wanted(source).is_none() && !is_removed() {
                    list(&mut lists, source, ban.is_shadow(), ban.expires, now);
                }
                continue;
            }
            highest = highest.max(id);
            if is_newer(source, id) && (id > newest || is_behind) {
                records.push(self.taken(id, source, ban.is_shadow(), ban.expires, now));
            }
        }
        self.ledger.number_after(highest);
        if !are_lists_behind {
            return;
        }
        let mut allowed = Vec::new();
        let lists_from = feeds::list_slots_from(self.enforcer.path().slots());
        for (source, rule) in
            self.enforcer.path().rules().into_iter().filter(|(_, rule)| rule.expires() > now.monotonic)
        {
            if rule.action == maps::Rule::ALLOW {
                if is_behind && !self.enforcer.prefixes().allows.contains_key(&source) {
                    allowed.push(AllowEntry { source, reason: REASON.to_owned(), actor: Actor::Guard.to_string() });
                }
                continue;
            }
            if self.find(source).is_some() || self.enforcer.prefixes().fed.contains_key(&source) {
                continue;
            }
            let shadow = rule.action == maps::Rule::SHADOW;
            if rule.slot == 0 || rule.slot > lists_from {
                if !behind.had_prefix(source) {
                    list(&mut lists, source, shadow, rule.expires(), now);
                }
            } else if is_behind {
                let record = self.taken(self.ledger.next_id(), source, shadow, rule.expires(), now);
                self.ledger.number_after(record.id);
                let blocked = Blocked { shadow, expires: rule.expires(), slot: rule.slot };
                self.enforcer.prefixes_mut().block(source, blocked);
                records.push(record);
            }
        }
        let lists: Vec<(FeedRow, Arc<FeedContent>)> = LISTS
            .into_iter()
            .zip(lists)
            .filter(|(_, draft)| draft.len() > 0)
            .map(|((name, shadow), draft)| self.hold_list(name, shadow, draft, now))
            .collect();
        self.told_taken(records, allowed, lists, now);
    }

    /// Puts it in force, records it and warns of it.
    fn told_taken(
        &mut self,
        records: Vec<BanRecord>,
        allowed: Vec<AllowEntry>,
        lists: Vec<(FeedRow, Arc<FeedContent>)>,
        now: Now,
    ) {
        let listed: usize = lists.iter().map(|(_, content)| content.entries.len()).sum();
        if records.is_empty() && allowed.is_empty() && listed == 0 {
            return;
        }
        for record in &records {
            self.hold(record);
        }
        for allow in &allowed {
            self.enforcer.prefixes_mut().allow(allow.clone());
        }
        let text = format!(
            "the ban store did not know all that was in force: {}, {} and {} of lists were taken over from the kernel; see \
             `gateway block list`, `gateway allow list` and `gateway status`",
            counted(records.len(), "ban", "bans"),
            counted(allowed.len(), "allowance", "allowances"),
            counted(listed, "entry", "entries")
        );
        tracing::warn!("{text}");
        let names = |sources: Vec<Source>| sources.iter().take(100).map(ToString::to_string).collect::<Vec<_>>();
        let told = json!({"bans": records.len(), "allowances": allowed.len(), "listed": listed,
            "sources": names(records.iter().map(|record| record.source).collect()),
            "allowed": names(allowed.iter().map(|allow| allow.source).collect())});
        self.shortfalls.add([text]);
        let allowed: Vec<AllowanceRecord> = allowed
            .into_iter()
            .map(|allow| AllowanceRecord { source: allow.source, reason: allow.reason, actor: allow.actor })
            .collect();
        let write: Write = Box::new(move |change| {
            records.iter().try_for_each(|record| change.keep(record))?;
            allowed.iter().try_for_each(|allowed| change.allow(allowed, now.unix_millis))?;
            lists.iter().try_for_each(|(row, content)| change.keep_feed(row, content))
        });
        if let Some(error) = self.decide_anyway(vec![("taken_over", members(told))], now, write) {
            tracing::error!(error, "what was taken over could not be recorded: it is tried again");
        }
    }

    fn taken(&self, id: u64, source: Source, shadow: bool, expires: u64, now: Now) -> BanRecord {
        let left = (expires != NEVER).then(|| expires.saturating_sub(now.monotonic));
        let record = self.draft(source, REASON.to_owned(), &Actor::Guard, None, shadow, now);
        BanRecord {
            id,
            expires: left.map(|left| now.unix_millis.saturating_add(left / 1_000_000)),
            expires_monotonic: (expires != NEVER).then_some(expires),
            ..record
        }
    }
}

/// A ban as its record in the audit chain tells it.
fn recorded(id: u64, told: &Map<String, Value>) -> Option<BanRecord> {
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let millis = |name: &str| {
        let at: jiff::Timestamp = text(name)?.parse().ok()?;
        u64::try_from(at.as_millisecond()).ok()
    };
    let actor = text("actor")?.to_owned();
    let evidence = told.get("evidence").and_then(Value::as_array).into_iter().flatten();
    Some(BanRecord {
        id,
        source: text("source")?.parse().ok()?,
        reason: text("reason")?.to_owned(),
        rule: actor.strip_prefix("rule:").map(str::to_owned),
        actor,
        relay: text("relay").and_then(|relay| relay.parse().ok()),
        evidence: evidence.filter_map(|id| id.as_str()?.parse().ok()).collect(),
        shadow: text("mode") == Some("shadow"),
        started: millis("time")?,
        expires: millis("expires"),
        // On no boot: its times are by the wall clock alone.
        boot: String::new(),
        expires_monotonic: None,
        reaction_micros: None,
        connections_closed: None,
        ended: None,
        confirm: millis("confirm_by").map(|unix_millis| crate::guard::store::BanDeadline { unix_millis, monotonic: 0 }),
        packets: 0,
        bytes: 0,
    })
}

fn list(lists: &mut [FeedDraft; 2], source: Source, shadow: bool, expires: u64, now: Now) {
    let [enforced, counted] = lists;
    let seconds = (expires != NEVER).then(|| expires.saturating_sub(now.monotonic).div_ceil(SECOND));
    if shadow { counted } else { enforced }.push(source, seconds, Some(REASON));
}
