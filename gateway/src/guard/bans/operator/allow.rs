//! Adds and removes allowances: what is allowed is never limited, blocked or banned, and blocks of it are lifted.

use super::block::{judge_own_reason, judge_reason};
use crate::{
    guard::{
        bans::{change::count, *},
        cluster::fact,
    },
    text::counted::counted,
};

impl Guard {
    pub(in crate::guard::bans) fn allow(
        &mut self,
        source: Source,
        reason: &str,
        yes: bool,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        if matches!(actor, Actor::Peer(_)) {
            judge_reason(reason)?
        } else {
            judge_own_reason(reason)?
        }
        if self.enforcer.prefixes().allows.get(&source).is_some_and(|allow| allow.actor == "config") {
            return Err(Refused::new("in_configuration", format!("{source} is in guard.allow already")));
        }
        let widest = self.settings.widest(source);
        if source.length() < widest && !yes {
            let message = format!(
                "{source} is wider than /{widest}: nobody in it would be limited, blocked or banned, whatever they do; \
                 use --yes if you mean it"
            );
            return Err(Refused::new("too_wide", message));
        }
        let known = self.enforcer.prefixes().allows.contains_key(&source)
            || self.enforcer.prefixes().blocked().contains_key(&source);
        if !known {
            self.judge_room(source)?;
        }
        let ids = self.ledger.covered_by(source);
        let allow = AllowEntry { source, reason: reason.to_owned(), actor: actor.to_string() };
        let allowed =
            crate::guard::store::AllowanceRecord { source, reason: allow.reason.clone(), actor: allow.actor.clone() };
        let summary = members(json!({"source": source.to_string(), "actor": allow.actor, "reason": reason,
            "lifted": ids.len()}));
        let how = format!("lifted: {source} was allowed by {actor}");
        let write: Write = Box::new(move |change| change.allow(&allowed, now.unix_millis));
        let unrecorded = self.lift(&ids, &how, Some("unban"), now, Some(("allow_add", summary)), write);
        self.enforcer.prefixes_mut().allow(allow);
        self.notices.push(ToProxy::Allowed { source });
        if !matches!(actor, Actor::Peer(_)) {
            self.note_fact(ClusterFact::Allow { source, reason: reason.to_owned() });
        }
        self.refresh(source);
        let lifted =
            if ids.is_empty() { String::new() } else { format!(", {} lifted", counted(ids.len(), "block", "blocks")) };
        let unrecorded = unrecorded.unwrap_or_default();
        Ok((format!("{source} is always let through{lifted}{unrecorded}"), 1 + count(ids.len())))
    }

    pub(in crate::guard::bans) fn disallow(
        &mut self,
        source: Source,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        match self.enforcer.prefixes().allows.get(&source) {
            None => {
                let message = match self.still_allowed(source) {
                    Some(how) => format!("{source} has no allowance of its own, and it is {how}"),
                    None => format!("{source} is not allowed"),
                };
                return Err(Refused::new("not_found", message));
            }
            Some(allow) if allow.actor == "config" => {
                let message = format!("{source} is in {}: remove it there and reload", allow.reason);
                return Err(Refused::new("in_configuration", message));
            }
            // It says so again and again: deleted here alone, it would be back within seconds.
            Some(allow)
                if let Some(node) = allow.actor.strip_prefix(fact::ACTOR)
                    && *actor != Actor::Peer(node.to_owned()) =>
            {
                let message = format!(
                    "{source} was allowed on {node}, another machine of the cluster: run `gateway allow del {source}` there; \
                     where that machine is not to be believed, remove it from [cluster.nodes]"
                );
                return Err(Refused::new("of_another_machine", message));
            }
            Some(_) => {}
        }
        let members = members(json!({"source": source.to_string(), "actor": actor.to_string()}));
        self.decide("allow_del", now, members, Box::new(move |change| change.disallow(source).map(drop)))?;
        self.enforcer.prefixes_mut().disallow(source);
        self.notices.push(ToProxy::Disallowed { source });
        if !matches!(actor, Actor::Peer(_)) {
            self.note_fact(ClusterFact::Disallow { source });
        }
        self.refresh(source);
        let done = match self.still_allowed(source) {
            Some(how) => format!("the allowance of {source} is removed, and it is still {how}"),
            None => format!("{source} is no longer always let through"),
        };
        Ok((format!("{done}; blocks that it lifted stay lifted"), 1))
    }

    /// How `source` is allowed by something around it, as `allowed as part of ...`.
    fn still_allowed(&self, source: Source) -> Option<String> {
        let AllowEntry { source: wide, actor, reason } = self.enforcer.prefixes().allowed(source)?;
        Some(match actor == enforcer::CONFIG {
            true => format!("allowed as part of {wide} in {reason}"),
            false => format!("allowed as part of {wide}, by {actor}"),
        })
    }
}
