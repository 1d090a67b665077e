//! Makes a ban safe that a rule asks for: everything that stands against it is asked here, in order.

use super::*;
use crate::{
    settings::detect::{Distinct, Rule},
    signal::Signal,
    text::counted::counted,
};

mod anomaly;
mod clamp;
mod fault;
mod operators;
mod plans;
mod shields;
mod widen;

impl Guard {
    /// A rule of the proxy asks for a ban. Nothing in the ask is trusted: how long and in which mode is the
    /// configuration's to say, the source must be what its own address makes it.
    ///
    /// # Errors
    /// There is no ban: something stands against it, or it was a clamp that was asked for.
    pub(crate) fn ask(&mut self, ask: &BanRequest, now: Now) -> Result<u64, Refused> {
        if self.asks_for_clamp(ask, now) {
            return Err(Refused::new("clamp", "it is a clamp that a limit asked for"));
        }
        let asked = self.judge_ask(ask, now);
        self.settle_ask(ask, &asked, now);
        asked
    }

    /// What is recorded and told of what became of it.
    fn settle_ask(&mut self, ask: &BanRequest, asked: &Result<u64, Refused>, now: Now) {
        self.note_ask(ask, asked);
        self.shortfalls.note_full(asked);
        match asked {
            Err(refused) if matches!(refused.code, "shadow_full" | "shadow_pace") => self.shortfalls.note_unlisted(),
            Err(refused) if refused.code != "already_blocked" => self.note_refusal(ask, refused, now),
            _ => {}
        }
    }

    /// Keeps what is recorded of it at the end of the minute: the requests behind it, and that a rule in shadow was hit.
    fn note_ask(&mut self, ask: &BanRequest, asked: &Result<u64, Refused>) {
        let is_hostile = matches!(asked, Err(refused) if matches!(refused.code, "unknown_rule" | "not_the_source"
            | "not_trusted" | "no_evidence"));
        if is_hostile {
            return;
        }
        self.security_log.note_evidence(ask.signal, ask.source, &ask.evidence);
        let rule = self.policy.rules.iter().find(|rule| rule.name == ask.rule);
        if rule.is_some_and(|rule| self.is_shadow(rule)) {
            self.security_log.note_shadow(&format!("rule.{}", ask.rule), 1, [ask.source].into_iter(), &ask.evidence);
        }
    }

    fn judge_ask(&mut self, ask: &BanRequest, now: Now) -> Result<u64, Refused> {
        let Some(rule) = self.policy.rules.iter().find(|rule| rule.name == ask.rule).cloned() else {
            return Err(Refused::new("unknown_rule", "no rule of that name is configured"));
        };
        let reason = reason(&rule, ask.evidence.len());
        self.judge_rule(ask, &rule, reason, now)
    }

    /// The same, of a rule that is known.
    fn judge_rule(&mut self, ask: &BanRequest, rule: &Rule, reason: String, now: Now) -> Result<u64, Refused> {
        if ask.source != Source::of(ask.address, self.settings.ipv6_prefix) {
            return Err(Refused::new("not_the_source", "the source is not what clients are told apart by"));
        }
        if let Some(relay) = ask.relay
            && !self.settings.trusted_proxies.iter().any(|network| network.contains(relay))
        {
            return Err(Refused::new("not_trusted", format!("{relay} is not in proxy.trusted_proxies")));
        }
        if ask.evidence.is_empty() || ask.evidence.len() > MAX_EVIDENCE || !rule.signals.contains(&ask.signal) {
            return Err(Refused::new("no_evidence", "the evidence is not what the rule counts"));
        }
        let (shadow, seconds) = (self.is_shadow(rule), rule.ban.as_secs().max(1));
        // A proxy may have waited for a guard. What was noted then is over when a ban of then would be.
        let waited = now.monotonic.saturating_sub(ask.noted) / SECOND;
        if waited >= seconds {
            return Err(Refused::new("too_late", "a ban from when it was noted would be over"));
        }
        // A neighbour in the host's own network shares its prefix with the gateway: only its address is banned.
        let single = Source::of(ask.address, 128);
        let source = match self.judge(ask.source) {
            Err(_protected) if ask.source != single && self.judge(single).is_ok() => single,
            Err(refused) => return Err(refused),
            Ok(()) => ask.source,
        };
        let already = match self.judge_news(source, shadow) {
            // A shadow ban keeps nobody away: whether this rule would ban the source, too, is judged and counted.
            Err(already) if shadow && self.ledger.is_in_shadow_for_another(source, &ask.rule) => Some(already),
            news => news.map(|()| None)?,
        };
        self.policy.pardons.judge(source, now.monotonic)?;
        let fault = self.judge_fault(ask, now);
        self.judge_shared(ask.source, now).and(fault)?;
        if let Some(already) = already {
            self.ledger.note_would_ban(source, &ask.rule);
            return Err(already);
        }
        let source = self.widened(ask, source, shadow, now).unwrap_or(source);
        let earlier = self.earlier(source, now);
        let factor = self.settings.safety.ladder.factor(earlier);
        let seconds = self.settings.safety.ladder.grown(seconds, earlier).saturating_sub(waited).max(1);
        let reason = match factor {
            1 => reason,
            factor => {
                let before = counted(earlier, "ban before counts", "bans before count");
                format!("{reason}; {before}, so {factor} times as long")
            }
        };
        if shadow {
            self.policy.breaker.spend_shadow(self.settings.max_bans_per_minute, now)?;
        } else {
            self.keep_pace(source, now)?;
        }
        self.judge_rules_room(source, shadow)?;
        let record = self.draft(source, reason, &Actor::Rule(ask.rule.clone()), Some(seconds), shadow, now);
        let (rule, evidence) = (Some(ask.rule.clone()), ask.evidence.clone());
        let id = self.ban(BanRecord { rule, evidence, relay: ask.relay, ..record }, now)?;
        self.note_fault(ask, id);
        if !shadow {
            self.policy.unproven.push((id, now.monotonic));
        }
        Ok(id)
    }

    /// Whether an ask would change anything: a network around the source may be banned as well.
    pub(super) fn judge_news(&self, source: Source, shadow: bool) -> Result<(), Refused> {
        let there = |network| self.find(network).filter(|record| !record.shadow || shadow && record.source == source);
        match around(source).find_map(there) {
            None => Ok(()),
            Some(record) => {
                let (around, id) = (record.source, record.id);
                Err(Refused::new("already_blocked", format!("{source} is blocked already, by ban {id} of {around}")))
            }
        }
    }

    /// The mass-ban breaker: a broken upstream or a stale key must not ban the customers.
    fn keep_pace(&mut self, source: Source, now: Now) -> Result<(), Refused> {
        self.policy.breaker.judge(now)?;
        if self.is_too_large_a_share(source, now) {
            return self.pause("too many of the recently good clients were banned", now);
        }
        if !self.policy.breaker.spend(self.settings.max_bans_per_minute, now) {
            return self.pause("they asked for more than guard.max_bans_per_minute", now);
        }
        Ok(())
    }

    fn pause(&mut self, because: &'static str, now: Now) -> Result<(), Refused> {
        let pause = self.settings.safety.breaker.pause;
        self.policy.breaker.pause(because, pause, now);
        tracing::error!(because, seconds = pause.as_secs(), "banning by rules is paused: look at the access log");
        self.tell(
            "paused",
            now,
            members(json!({"because": because, "seconds": pause.as_secs(),
            "max_bans_per_minute": self.settings.max_bans_per_minute})),
        );
        self.policy.breaker.judge(now)
    }

    /// An operator lets rules ban again.
    pub(super) fn resume(&mut self, actor: &Actor, now: Now) -> Result<(String, u64), Refused> {
        if self.policy.breaker.judge(now).is_ok() {
            return Err(Refused::new("not_paused", "rules are not paused"));
        }
        self.decide("resumed", now, members(json!({"actor": actor.to_string()})), nothing())?;
        self.policy.breaker.resume();
        Ok(("rules may ban again".to_owned(), 1))
    }

    fn note_refusal(&mut self, ask: &BanRequest, refused: &Refused, now: Now) {
        if let Some(others) = self.policy.refusals.is_log_due(now) {
            tracing::info!(source = %ask.source, code = refused.code, others, "a ban that a rule asked for was refused");
        }
        if !self.policy.refusals.is_record_due(now) {
            return;
        }
        let rule: String = ask.rule.chars().take(100).collect();
        let members = json!({"source": ask.source.to_string(), "actor": format!("rule:{rule}"),
            "code": refused.code, "reason": refused.message});
        self.tell("refusal", now, self::members(members));
    }
}

/// What a rule has counted: all of its signals, as any of them may be among the evidence.
fn reason(rule: &Rule, evidence: usize) -> String {
    let name = |signal: &Signal| if evidence == 1 { signal.singular() } else { signal.plural() };
    let names: Vec<&str> = rule.signals.iter().map(name).collect();
    let (names, within) = (names.join(" or "), span(rule.within.as_secs()));
    let by = rule.by.of_one();
    let counted = match rule.distinct {
        None if rule.weights.is_empty() => format!("{evidence} {names}{by} within {within}"),
        None => format!("{evidence} {names}{by}, which weigh {} points or more, within {within}", rule.count),
        Some(Distinct::Sources) => {
            format!(
                "{evidence} {names} of one principal from different sources within {within}, this source among them"
            )
        }
        Some(distinct) => {
            let of = if distinct == Distinct::Principals { "of" } else { "for" };
            format!("{evidence} {names}{by} {of} different {} within {within}", distinct.plural())
        }
    };
    format!("{counted}{}", rule.conditions())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    #[test]
    fn what_a_rule_has_counted() {
        let weights = || BTreeMap::from([(Signal::WrongPassword, 6)]);
        for (weights, distinct, expect) in [
            (BTreeMap::new(), None, "5 forged tokens or wrong passwords within 1m"),
            (weights(), None, "5 forged tokens or wrong passwords, which weigh 20 points or more, within 1m"),
            (
                BTreeMap::new(),
                Some(Distinct::Principals),
                "5 forged tokens or wrong passwords of different principals within 1m",
            ),
            (
                BTreeMap::new(),
                Some(Distinct::Sources),
                "5 forged tokens or wrong passwords of one principal from different sources within 1m, this source among \
                 them",
            ),
        ] {
            let (signals, within) = (vec![Signal::ForgedToken, Signal::WrongPassword], Duration::from_secs(60));
            let (name, ban, shadow) = ("spray".to_owned(), within, false);
            let rule = Rule { name, signals, count: 20, weights, distinct, within, ban, shadow, ..Rule::default() };
            assert_eq!(reason(&rule, 5), expect);
        }
    }
}
