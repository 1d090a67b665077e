//! Decides what becomes of a ban that a rule asks for.

use super::*;

/// How many refused asks are recorded one by one, per minute; the rest are recorded as a number.
const REFUSALS: Rate = Rate { interval: SECOND, burst: MINUTE };

impl Guard {
    /// A rule of the proxy asks for a ban. Nothing in the ask is trusted: how long and in which mode is the
    /// configuration's to say, the source must be what its own address makes it.
    pub(crate) fn ask(&mut self, ask: &Ask, now: Now) -> Result<u64, Refused> {
        let asked = self.judge_ask(ask, now);
        self.note_full(&asked);
        if let Err(refused) = &asked
            && refused.code != "already_blocked"
        {
            self.note_refusal(ask, refused, now);
        }
        asked
    }

    fn judge_ask(&mut self, ask: &Ask, now: Now) -> Result<u64, Refused> {
        let Some(rule) = self.rules.iter().find(|rule| rule.name == ask.rule) else {
            return Err(Refused::new("unknown_rule", "no rule of that name is configured"));
        };
        if ask.source != Source::of(ask.address, self.settings.ipv6_prefix) {
            return Err(Refused::new("not_the_source", "the source is not what clients are told apart by"));
        }
        if ask.evidence.is_empty() || ask.evidence.len() > MAX_EVIDENCE || !rule.signals.contains(&ask.signal) {
            return Err(Refused::new("no_evidence", "the evidence is not what the rule counts"));
        }
        let (shadow, seconds) = (rule.shadow, rule.ban.as_secs().max(1));
        let signals = ask.evidence.len();
        let reason =
            format!("{signals} {} within {}", ask.signal.name().replace('_', " "), span(rule.within.as_secs()));
        // A neighbour in the host's own network shares its prefix with the gateway: only its address is banned.
        let single = Source::of(ask.address, 128);
        let source = match self.judge(ask.source) {
            Err(_protected) if ask.source != single && self.judge(single).is_ok() => single,
            Err(refused) => return Err(refused),
            Ok(()) => ask.source,
        };
        self.judge_news(source, shadow)?;
        self.pardons.judge(source, now.monotonic)?;
        let source = self.widened(ask, source, shadow, now).unwrap_or(source);
        let earlier = self.earlier(source, now)?;
        let factor = self.settings.safety.ladder.factor(earlier);
        let seconds = self.settings.safety.ladder.grown(seconds, earlier);
        let reason = match factor {
            1 => reason,
            factor => format!("{reason}; {earlier} bans before count, so {factor} times as long"),
        };
        if !shadow {
            self.keep_pace(now)?;
        }
        let record = self.draft(source, reason, &Actor::Rule(ask.rule.clone()), Some(seconds), shadow, now);
        self.ban(Record { rule: Some(ask.rule.clone()), evidence: ask.evidence.clone(), ..record }, now)
    }

    /// Whether an ask would change anything: a network around the source may be banned as well.
    pub(super) fn judge_news(&self, source: Source, shadow: bool) -> Result<(), Refused> {
        let there = |network| self.find(network).filter(|record| !record.shadow || shadow && record.source == source);
        match compose::around(source).find_map(there) {
            None => Ok(()),
            Some(record) => {
                let (around, id) = (record.source, record.id);
                Err(Refused::new("already_blocked", format!("{source} is blocked already, by ban {id} of {around}")))
            }
        }
    }

    /// The mass-ban breaker: a broken upstream or a stale key must not ban the customers.
    fn keep_pace(&mut self, now: Now) -> Result<(), Refused> {
        let most = u64::from(self.settings.max_bans_per_minute);
        let paused = || {
            let message =
                format!("rules asked for more than {most} bans a minute: banning is paused, look at the access log");
            Refused::new("paused", message)
        };
        if self.paused_until.is_some_and(|until| now.monotonic < until) {
            return Err(paused());
        }
        let rate = Rate::per(most, MINUTE, most).unwrap_or(Rate { interval: 1, burst: 0 });
        if let Some(next) = rate.spend(self.pace, now.monotonic, 1) {
            self.pace = next;
            return Ok(());
        }
        self.paused_until = Some(now.monotonic.saturating_add(MINUTE));
        tracing::warn!(max_bans_per_minute = most, "banning by rules is paused for a minute");
        let members = members(json!({"max_bans_per_minute": most, "seconds": 60}));
        self.tell("paused", now, members);
        Err(paused())
    }

    /// Nothing is evicted to make room: who looks at the status must see that blocks are missing.
    pub(super) fn note_full<T>(&mut self, done: &Result<T, Refused>) {
        if let Err(refused) = done
            && refused.code == "full"
        {
            self.full += 1;
            tracing::error!(refused = self.full, "a block was refused: {}", refused.message);
        }
    }

    fn note_refusal(&mut self, ask: &Ask, refused: &Refused, now: Now) {
        tracing::info!(source = %ask.source, code = refused.code, "a ban that a rule asked for was refused");
        let Some(next) = REFUSALS.spend(self.refusals, now.monotonic, 1) else {
            self.refusals_unrecorded += 1;
            return;
        };
        self.refusals = next;
        let rule: String = ask.rule.chars().take(100).collect();
        let members = json!({"source": ask.source.to_string(), "actor": format!("rule:{rule}"),
            "code": refused.code, "reason": refused.message});
        self.tell("refusal", now, self::members(members));
    }
}
