//! Reports what shadow mode would have hit, and enforces what was counted only.

use crate::guard::bans::*;

use gateway_common::verdict::Verdict;

use crate::{
    config::value::closest,
    guard::{control::Shadowed, store::Promotion},
    message::{self, MAX_SHADOWED},
    policy::authz::shadow::MOST_KNOWN,
    settings::guard::SourceLimit,
};

impl Guard {
    /// What shadow entries and shadow rules would have hit so far, by what is in force now.
    pub(in crate::guard::bans) fn shadowed(&self, now: Now) -> Vec<Shadowed> {
        let good: Vec<Source> = self.policy.good.recent(self.settings.safety.good_for, now.monotonic).collect();
        let about = |what: String, name: String, records: Vec<&BanRecord>| Shadowed {
            what,
            name,
            sources: Some(u64::try_from(records.len()).unwrap_or(u64::MAX)),
            requests: 0,
            principals: None,
            packets: records.iter().map(|record| self.enforcer.counted(record).0).sum(),
            good_clients: Some(count(good.iter().filter(|client| records.iter().any(|it| it.source.covers(client))))),
        };
        let limit = |what: &str| Shadowed {
            what: what.to_owned(),
            name: "limit".to_owned(),
            sources: None,
            principals: None,
            packets: 0,
            requests: 0,
            good_clients: None,
        };
        let mut limits = Vec::new();
        for what in self.settings.shadow_limits.iter().filter(|what| !self.policy.promoted.contains_key(*what)) {
            let none = WouldRefuse::default();
            let WouldRefuse { requests, sources } = self.would_refuse.get(what).unwrap_or(&none);
            limits.push(Shadowed {
                sources: u64::try_from(sources.len()).ok(),
                requests: *requests,
                good_clients: Some(count(good.iter().filter(|client| sources.contains(client)))),
                ..limit(what)
            });
        }
        let verdicts = self.enforcer.path().verdicts();
        for (what, _, verdict) in self.shadow_limits().filter(|(what, ..)| !self.policy.promoted.contains_key(*what)) {
            let packets = verdicts.iter().find(|(one, _)| *one == verdict).map_or(0, |(_, count)| count.packets);
            limits.push(Shadowed { packets, ..limit(what) });
        }
        for (what, requests, principals) in self.denied_in_shadow() {
            let (name, principals) = ("route".to_owned(), Some(principals));
            limits.push(Shadowed { name, principals, requests, ..limit(what) });
        }
        let shadow = || self.ledger.records().filter(|record| record.shadow);
        let rules = self.policy.rules.iter().filter(|rule| self.is_shadow(rule)).map(|rule| {
            let of_rule = |record: &&BanRecord| self.ledger.would_ban(record, &rule.name);
            about(format!("rule.{}", rule.name), "rule".to_owned(), shadow().filter(of_rule).collect())
        });
        let entries = shadow().map(|record| about(record.id.to_string(), record.source.to_string(), vec![record]));
        limits.into_iter().chain(rules).chain(entries).collect()
    }

    /// Of each requirement of a route in shadow: what promotes it, how many requests it would have denied, and of how many
    /// principals.
    pub(crate) fn denied_in_shadow(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let in_shadow = self.settings.shadow_routes.iter().filter(|what| !self.policy.promoted.contains_key(*what));
        in_shadow.map(|what| {
            let denied = self.would_deny.get(what).map(|denied| (denied.requests, denied.principals.len()));
            let (requests, principals) = denied.unwrap_or_default();
            (what.as_str(), requests, u64::try_from(principals).unwrap_or(u64::MAX))
        })
    }

    /// The kernel's limits that the configuration has in shadow mode: their names, themselves, and what they count in.
    fn shadow_limits(&self) -> impl Iterator<Item = (&'static str, SourceLimit, Verdict)> {
        let guard::Settings { packet_limit, byte_limit, syn_limit, total_limit, .. } = self.settings;
        let total = total_limit.map(|limit| SourceLimit {
            per_second: limit.per_second,
            burst: limit.burst,
            shadow: limit.shadow,
        });
        let all = [
            ("guard.packet_limit", packet_limit, Verdict::ShadowOverPackets),
            ("guard.byte_limit", byte_limit, Verdict::ShadowOverBytes),
            ("guard.syn_limit", syn_limit, Verdict::ShadowOverSyns),
            ("guard.total_limit", total, Verdict::ShadowOverTotal),
        ];
        let in_shadow = |(what, limit, verdict)| {
            let limit: Option<SourceLimit> = limit;
            limit.filter(|limit| limit.shadow).map(|limit| (what, limit, verdict))
        };
        all.into_iter().filter_map(in_shadow)
    }

    /// The settings with every promoted limit enforced.
    pub(in crate::guard::bans) fn enforced_settings(&self) -> guard::Settings {
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
        if let Some(limit) = &mut settings.total_limit
            && self.policy.promoted.contains_key("guard.total_limit")
        {
            limit.shadow = false;
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

    /// A limit of the proxy would have refused requests. It is believed about limits that there are.
    pub(crate) fn hear_would_refuse(&mut self, limit: &str, requests: u64, sources: &[message::ShadowedSource]) {
        // No quota has the name of a limit; one on connections says what it is.
        let is_it = |what: &&String| {
            let is_request = |(table, name)| table != "connection_limit" && name == limit;
            **what == limit || what.split_once('.').is_some_and(is_request)
        };
        let Some(what) = self.settings.shadow_limits.iter().find(is_it) else { return };
        let hit = sources.iter().map(|shadowed| shadowed.source);
        self.security_log.note_shadow(what, requests, hit, &[]);
        let would = self.would_refuse.entry(what.clone()).or_default();
        would.requests = would.requests.saturating_add(requests);
        let room = MAX_SHADOWED.saturating_sub(would.sources.len());
        would.sources.extend(sources.iter().take(room).map(|shadowed| shadowed.source));
    }

    /// A requirement of a route would have denied requests. It is believed about those that there are.
    pub(crate) fn hear_would_deny(&mut self, what: &str, requests: u64, principals: &[u64]) {
        if !self.settings.shadow_routes.iter().any(|one| one == what) {
            return;
        }
        self.security_log.note_shadow(what, requests, std::iter::empty(), &[]);
        let denied = self.would_deny.entry(what.to_owned()).or_default();
        denied.requests = denied.requests.saturating_add(requests);
        let room = MOST_KNOWN.saturating_sub(denied.principals.len());
        denied.principals.extend(principals.iter().take(room));
    }

    fn promote_limit(&mut self, what: &str, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let promotion = Promotion { what: what.to_owned(), actor: actor.to_string(), at: now.unix_millis };
        let members = members(json!({"what": promotion.what, "actor": promotion.actor}));
        let written = promotion.clone();
        self.decide("promote", now, members, Box::new(move |change| change.promote(&written)))?;
        self.policy.promoted.insert(promotion.what, promotion.actor);
        if self.settings.shadow_limits.iter().chain(&self.settings.shadow_routes).any(|one| one == what) {
            self.notices.push(ToProxy::Promoted { what: what.to_owned() });
        } else {
            self.apply_promotions()?;
        }
        let keep =
            if what.starts_with("route.") { "take it out of the route's `shadow`" } else { "write shadow = false" };
        Ok((format!("{what} is enforced; {keep} to keep it so"), 1))
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
        let is_limit = self.settings.shadow_limits.iter().chain(&self.settings.shadow_routes).any(|one| one == what)
            || self.shadow_limits().any(|(name, ..)| name == what);
        if is_limit && !self.policy.promoted.contains_key(what) {
            return self.promote_limit(what, actor, now);
        }
        let name = what.strip_prefix("rule.").unwrap_or(what);
        let Some(rule) = self.policy.rules.iter().find(|rule| rule.name == name && self.is_shadow(rule)) else {
            let known: Vec<String> = self.shadowed(now).into_iter().map(|row| row.what).collect();
            let rule = format!("rule.{name}");
            let names = || known.iter().map(String::as_str).filter(|known| known.parse::<u64>().is_err());
            let hint = match closest(what, names()).or_else(|| closest(&rule, names())) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "see `gateway shadow report`".to_owned(),
            };
            return Err(Refused::new("not_found", format!("nothing of the name {what} is in shadow: {hint}")));
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
        let record = BanRecord { shadow: false, ..record };
        let (source, expires) = (record.source, expiry(&record));
        self.ledger.keep(record.clone());
        if let Err(error) = self.enter_again(&record) {
            // The next comparison with the kernel enters it.
            tracing::error!(ban = id, %error, "a promoted block is in shadow until it can be entered");
        }
        self.notices.push(ToProxy::Banned { id, source, expires });
        Ok((format!("{source} is blocked, ban {id}"), 1))
    }

    /// Whether the configuration has a rule, a limit or a route's requirement in shadow that is promoted by this name.
    pub(in crate::guard::bans) fn is_in_shadow(&self, what: &str) -> bool {
        self.policy.rules.iter().any(|rule| rule.shadow && what == format!("rule.{}", rule.name))
            || self.settings.shadow_limits.iter().chain(&self.settings.shadow_routes).any(|one| one == what)
            || self.shadow_limits().any(|(name, ..)| name == what)
    }

    /// Promotions that the configuration has caught up with, or whose rule is gone, are over.
    pub(in crate::guard::bans) fn settle_promotions(&mut self, now: Now) {
        let settings = &self.settings;
        self.would_refuse.retain(|what, _| settings.shadow_limits.contains(what));
        self.would_deny.retain(|what, _| settings.shadow_routes.contains(what));
        let over: Vec<String> = self.policy.promoted.keys().filter(|what| !self.is_in_shadow(what)).cloned().collect();
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
