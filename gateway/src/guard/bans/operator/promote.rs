//! Reports what shadow mode would have hit, and enforces what was counted only.

use crate::guard::bans::*;

use gateway_common::verdict::Verdict;

use crate::{
    guard::{control::Shadowed, store::Promotion},
    message::{self, ADDRESS_LIMIT, MAX_SHADOWED},
    settings::guard::SourceLimit,
};

impl Guard {
    /// What shadow entries and shadow rules would have hit so far, by what is in force now.
    pub(in crate::guard::bans) fn shadowed(&self, now: Now) -> Vec<Shadowed> {
        let good: Vec<Source> = self.policy.good.recent(self.settings.safety.good_for, now.monotonic).collect();
        let about = |what: String, name: String, records: Vec<&Record>| Shadowed {
            what,
            name,
            sources: Some(u64::try_from(records.len()).unwrap_or(u64::MAX)),
            requests: 0,
            packets: records.iter().map(|record| self.enforcer.counted(record).0).sum(),
            good_clients: Some(count(good.iter().filter(|client| records.iter().any(|it| it.source.covers(client))))),
        };
        let limit = |what: &str| Shadowed {
            what: what.to_owned(),
            name: "limit".to_owned(),
            sources: None,
            packets: 0,
            requests: 0,
            good_clients: None,
        };
        let mut limits = Vec::new();
        if self.settings.shadow_address_limit && !self.policy.promoted.contains_key(ADDRESS_LIMIT) {
            let WouldRefuse { requests, sources } = &self.would_refuse;
            limits.push(Shadowed {
                sources: u64::try_from(sources.len()).ok(),
                requests: *requests,
                good_clients: Some(count(good.iter().filter(|client| sources.contains(client)))),
                ..limit(ADDRESS_LIMIT)
            });
        }
        let verdicts = self.enforcer.path().verdicts();
        for (what, _, verdict) in self.shadow_limits().filter(|(what, ..)| !self.policy.promoted.contains_key(*what)) {
            let packets = verdicts.iter().find(|(one, _)| *one == verdict).map_or(0, |(_, tally)| tally.packets);
            limits.push(Shadowed { packets, ..limit(what) });
        }
        let shadow = || self.ledger.records().filter(|record| record.shadow);
        let rules = self.policy.rules.iter().filter(|rule| self.is_shadow(rule)).map(|rule| {
            let of_rule = |record: &&Record| record.rule.as_deref() == Some(rule.name.as_str());
            about(format!("rule.{}", rule.name), "rule".to_owned(), shadow().filter(of_rule).collect())
        });
        let entries = shadow().map(|record| about(record.id.to_string(), record.source.to_string(), vec![record]));
        limits.into_iter().chain(rules).chain(entries).collect()
    }

    /// The kernel's limits that the configuration has in shadow mode: their names, themselves, and what they count in.
    fn shadow_limits(&self) -> impl Iterator<Item = (&'static str, SourceLimit, Verdict)> {
        let Settings { packet_limit, byte_limit, syn_limit, .. } = self.settings;
        let all = [
            ("guard.packet_limit", packet_limit, Verdict::ShadowOverPackets),
            ("guard.byte_limit", byte_limit, Verdict::ShadowOverBytes),
            ("guard.syn_limit", syn_limit, Verdict::ShadowOverSyns),
        ];
        let in_shadow = |(what, limit, verdict)| {
            let limit: Option<SourceLimit> = limit;
            limit.filter(|limit| limit.shadow).map(|limit| (what, limit, verdict))
        };
        all.into_iter().filter_map(in_shadow)
    }

    /// The settings with every promoted limit enforced.
    pub(in crate::guard::bans) fn enforced_settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        let limits = [
            ("guard.packet_limit", &mut settings.packet_limit),
            ("guard.byte_limit", &mut settings.byte_limit),
            ("guard.syn_limit", &mut settings.syn_limit),
        ];
        for (what, limit) in limits {
            if let Some(limit) = limit.as_mut().filter(|_| self.policy.promoted.contains_key(what)) {
                limit.shadow = false;
            }
        }
        settings
    }

    /// After a start: the kernel was given the limits as the configuration has them.
    pub(in crate::guard::bans) fn apply_promotions(&mut self) -> Result<(), Refused> {
        let settings = self.enforced_settings();
        if settings == self.settings {
            return Ok(());
        }
        self.enforcer.path_mut().limit(&settings).map_err(|error| Refused::new("kernel_failed", error.to_string()))
    }

    /// What operators have promoted.
    pub(crate) fn promoted(&self) -> Vec<String> {
        self.policy.promoted.keys().cloned().collect()
    }

    /// The proxy's limit of addresses would have refused requests.
    pub(crate) fn hear_would_refuse(&mut self, requests: u64, sources: &[message::Shadowed]) {
        let hit = sources.iter().map(|shadowed| shadowed.source);
        self.security_log.note_shadow("limit.address", requests, hit, &[]);
        let would = &mut self.would_refuse;
        would.requests = would.requests.saturating_add(requests);
        let room = MAX_SHADOWED.saturating_sub(would.sources.len());
        would.sources.extend(sources.iter().take(room).map(|shadowed| shadowed.source));
    }

    fn promote_limit(&mut self, what: &str, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let promotion = Promotion { what: what.to_owned(), actor: actor.to_string(), at: now.unix_millis };
        let members = members(json!({"what": promotion.what, "actor": promotion.actor}));
        let written = promotion.clone();
        self.decide("promote", now, members, Box::new(move |change| change.promote(&written)))?;
        self.policy.promoted.insert(promotion.what, promotion.actor);
        if what == ADDRESS_LIMIT {
            self.notices.push(ToProxy::Promoted { what: what.to_owned() });
        } else {
            self.apply_promotions()?;
        }
        Ok((format!("{what} is enforced; write shadow = false to keep it so"), 1))
    }

    /// Whether a rule counts only: the configuration says so and no operator has promoted it.
    pub(in crate::guard::bans) fn is_shadow(&self, rule: &Rule) -> bool {
        rule.shadow && !self.policy.promoted.contains_key(&format!("rule.{}", rule.name))
    }

    /// Enforces a shadow entry (by its id), a shadow rule (`rule.NAME`), or all of them.
    pub(in crate::guard::bans) fn promote(
        &mut self,
        what: &str,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        if what == "all" {
            let all: Vec<String> = self.shadowed(now).into_iter().map(|row| row.what).collect();
            let mut done: u64 = 0;
            for what in all {
                done += self.promote(&what, actor, now).map(|(_, changed)| changed).map_err(|refused| {
                    Refused::new(refused.code, format!("{what} stays in shadow: {}", refused.message))
                })?;
            }
            return Ok((format!("{done} promoted"), done));
        }
        if let Ok(id) = what.parse::<u64>() {
            return self.promote_entry(id, actor, now);
        }
        let is_limit = what == ADDRESS_LIMIT && self.settings.shadow_address_limit
            || self.shadow_limits().any(|(name, ..)| name == what);
        if is_limit && !self.policy.promoted.contains_key(what) {
            return self.promote_limit(what, actor, now);
        }
        let name = what.strip_prefix("rule.").unwrap_or(what);
        let Some(rule) = self.policy.rules.iter().find(|rule| rule.name == name && self.is_shadow(rule)) else {
            return Err(Refused::new(
                "not_found",
                format!("nothing of the name {what} is in shadow: see `gateway shadow report`"),
            ));
        };
        let promotion =
            Promotion { what: format!("rule.{}", rule.name), actor: actor.to_string(), at: now.unix_millis };
        let members = members(json!({"what": promotion.what, "actor": promotion.actor}));
        let written = promotion.clone();
        self.decide("promote", now, members, Box::new(move |change| change.promote(&written)))?;
        let message = format!("{} enforces from its next ban on; write shadow = false to keep it so", promotion.what);
        self.policy.promoted.insert(promotion.what, promotion.actor);
        Ok((message, 1))
    }

    fn promote_entry(&mut self, id: u64, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let Some(record) = self.ledger.get(id).filter(|record| record.shadow).cloned() else {
            return Err(Refused::new("not_found", format!("{id} is no shadow entry: see `gateway shadow report`")));
        };
        self.judge(record.source)?;
        self.judge_good(record.source, now)?;
        let members = members(json!({"what": id, "source": record.source.to_string(), "actor": actor.to_string()}));
        self.decide("promote", now, members, Box::new(move |change| change.enforce(id)))?;
        let record = Record { shadow: false, ..record };
        let (source, expires) = (record.source, expiry(&record));
        self.ledger.keep(record.clone());
        if let Err(error) = self.enter_again(&record) {
            // The next comparison with the kernel enters it.
            tracing::error!(ban = id, %error, "a promoted block is in shadow until it can be entered");
        }
        self.notices.push(ToProxy::Banned { id, source, expires });
        Ok((format!("{source} is blocked, ban {id}"), 1))
    }

    /// Promotions that the configuration has caught up with, or whose rule is gone, are over.
    pub(in crate::guard::bans) fn settle_promotions(&mut self, now: Now) {
        if !self.settings.shadow_address_limit {
            self.would_refuse = WouldRefuse::default();
        }
        let open = |what: &str| {
            self.policy.rules.iter().any(|rule| rule.shadow && what == format!("rule.{}", rule.name))
                || what == ADDRESS_LIMIT && self.settings.shadow_address_limit
                || self.shadow_limits().any(|(name, ..)| name == what)
        };
        let over: Vec<String> = self.policy.promoted.keys().filter(|what| !open(what)).cloned().collect();
        for what in over {
            let members = members(json!({"what": what}));
            let demoted = what.clone();
            let demote: Write = Box::new(move |change| change.demote(&demoted));
            if self.decide("promotion_over", now, members, demote).is_ok() {
                self.policy.promoted.remove(&what);
            }
        }
    }
}

fn count<T>(those: impl Iterator<Item = T>) -> u64 {
    u64::try_from(those.count()).unwrap_or(u64::MAX)
}
