//! Decides what shadow mode tells, and how what was counted only begins to be enforced.

use super::*;
use crate::guard::{control::Shadowed, store::Promotion};

impl Guard {
    /// What shadow entries and shadow rules would have hit so far, by what is in force now.
    pub(super) fn shadowed(&self, now: Now) -> Vec<Shadowed> {
        let good: Vec<Source> = self.good.recent(self.settings.safety.good_for, now.monotonic).collect();
        let about = |what: String, name: String, records: Vec<&Record>| Shadowed {
            what,
            name,
            sources: u64::try_from(records.len()).unwrap_or(u64::MAX),
            packets: records.iter().map(|record| self.counted(record).0).sum(),
            good_clients: count(good.iter().filter(|client| records.iter().any(|it| it.source.covers(client)))),
        };
        let shadow = || self.in_force.values().filter(|record| record.shadow);
        let rules = self.rules.iter().filter(|rule| self.is_shadow(rule)).map(|rule| {
            let of_rule = |record: &&Record| record.rule.as_deref() == Some(rule.name.as_str());
            about(format!("rule.{}", rule.name), "rule".to_owned(), shadow().filter(of_rule).collect())
        });
        let entries = shadow().map(|record| about(record.id.to_string(), record.source.to_string(), vec![record]));
        rules.chain(entries).collect()
    }

    /// Whether a rule counts only: the configuration says so and no operator has promoted it.
    pub(super) fn is_shadow(&self, rule: &Rule) -> bool {
        rule.shadow && !self.promoted.contains_key(&format!("rule.{}", rule.name))
    }

    /// Enforces a shadow entry (by its id), a shadow rule (`rule.NAME`), or all of them.
    pub(super) fn promote(&mut self, what: &str, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
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
        let name = what.strip_prefix("rule.").unwrap_or(what);
        let Some(rule) = self.rules.iter().find(|rule| rule.name == name && self.is_shadow(rule)) else {
            return Err(Refused::new("not_found", format!("{what} is no shadow rule: see `gateway shadow report`")));
        };
        let promotion =
            Promotion { what: format!("rule.{}", rule.name), actor: actor.to_string(), at: now.unix_millis };
        let members = members(json!({"what": promotion.what, "actor": promotion.actor}));
        self.decide("promote", now, |change| Ok((change.promote(&promotion)?, members)))?;
        let message = format!("{} enforces from its next ban on; write shadow = false to keep it so", promotion.what);
        self.promoted.insert(promotion.what, promotion.actor);
        Ok((message, 1))
    }

    fn promote_entry(&mut self, id: u64, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        let Some(record) = self.in_force.get(&id).filter(|record| record.shadow).cloned() else {
            return Err(Refused::new("not_found", format!("{id} is no shadow entry: see `gateway shadow report`")));
        };
        self.judge(record.source)?;
        self.judge_good(record.source, now)?;
        let members = members(json!({"what": id, "source": record.source.to_string(), "actor": actor.to_string()}));
        self.decide("promote", now, |change| Ok((change.enforce(id)?, members)))?;
        let record = Record { shadow: false, ..record };
        let (source, expires) = (record.source, expiry(&record));
        self.in_force.insert(id, record.clone());
        if let Err(error) = self.enter_again(&record) {
            // The next comparison with the kernel enters it.
            tracing::error!(ban = id, %error, "a promoted block is in shadow until it can be entered");
        }
        self.notices.push(ToProxy::Banned { id, source, expires });
        Ok((format!("{source} is blocked, ban {id}"), 1))
    }

    /// Promotions that the configuration has caught up with, or whose rule is gone, are over.
    pub(super) fn settle_promotions(&mut self, now: Now) {
        let open = |what: &str| self.rules.iter().any(|rule| rule.shadow && what == format!("rule.{}", rule.name));
        let over: Vec<String> = self.promoted.keys().filter(|what| !open(what)).cloned().collect();
        for what in over {
            let members = members(json!({"what": what}));
            if self.decide("promotion_over", now, |change| Ok((change.demote(&what)?, members))).is_ok() {
                self.promoted.remove(&what);
            }
        }
    }
}

fn count<T>(those: impl Iterator<Item = T>) -> u64 {
    u64::try_from(those.count()).unwrap_or(u64::MAX)
}
