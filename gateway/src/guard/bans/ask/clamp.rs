//! Makes a clamp safe that a limit asks for: the same stands against it as against a ban, though it takes less.

use crate::guard::{
    bans::{policy::clamps, policy::clamps::ActiveClamp, *},
    kernel::BudgetOverride,
    store,
};
use crate::{settings::limit, signal::Signal};

impl Guard {
    /// Whether this asks for a clamp, and not for a ban. If so, it is decided here.
    pub(super) fn asks_for_clamp(&mut self, ask: &BanRequest, now: Now) -> bool {
        // Those of anomalies come by another way.
        let Some(limit) = ask.rule.strip_prefix(limit::Clamp::PREFIX).filter(|it| !it.starts_with("anomaly.")) else {
            return false;
        };
        let is_rule = self.policy.rules.iter().any(|rule| rule.name == ask.rule);
        if is_rule {
            return false;
        }
        if let Err(refused) = self.clamp(ask, limit, now)
            && let Some(others) = self.policy.refusals.is_log_due(now)
        {
            let code = refused.code;
            tracing::info!(source = %ask.source, limit, code, others, "a clamp that a limit asked for was refused");
        }
        true
    }

    /// As with a ban, nothing in the ask is trusted.
    pub(in crate::guard::bans) fn clamp(&mut self, ask: &BanRequest, limit: &str, now: Now) -> Result<(), Refused> {
        let Some((_, settings)) = self.settings.clamps.iter().find(|(name, _)| name == limit).cloned() else {
            return Err(Refused::new("unknown_rule", "no limit of that name has a clamp"));
        };
        let source = ask.source;
        if source != Source::of(ask.address, self.settings.ipv6_prefix) {
            return Err(Refused::new("not_the_source", "the source is not what clients are told apart by"));
        }
        let is_counted = matches!(ask.signal, Signal::Anomaly | Signal::OverLimit);
        if ask.evidence.is_empty() || ask.evidence.len() > MAX_EVIDENCE || !is_counted {
            return Err(Refused::new("no_evidence", "the evidence is not what the limit refused"));
        }
        if ask.relay.is_some() {
            return Err(Refused::new(
                "behind_proxy",
                "its packets are those of a trusted proxy, and of others behind it",
            ));
        }
        let Some(key) = self.key(source).filter(|_| self.enforcer.path().gives_budgets()) else {
            return Err(Refused::new("not_guarded", "no interface is guarded: there is no budget to divide"));
        };
        let expires = clamps::ends(&settings, now);
        // What stands against it may have come since: it is asked again for each renewal.
        self.judge(source)?;
        self.judge_news(source, settings.shadow)?;
        self.policy.pardons.judge(source, now.monotonic)?;
        self.judge_shared(source, now)?;
        if let Some(clamp) = self.policy.clamps.renew(source, limit, &settings, now) {
            let (share, expires) = (share(clamp), clamp.expires);
            return self.give_budget(key, share, expires);
        }
        if let Some(clamp) = self.policy.clamps.find(source).filter(|clamp| clamp.expires > now.monotonic) {
            let message = format!("{source} is clamped already, by limit.{}", clamp.limit);
            return Err(Refused::new("already_clamped", message));
        }
        if !settings.shadow && self.would_clamp_too_many(source, now) {
            return Err(Refused::new("good_clients", "too many of the recently good clients would be clamped"));
        }
        if !self.policy.clamps.has_room() {
            return Err(Refused::new("full", "no more sources can be clamped at once"));
        }
        if !self.policy.clamps.spend(self.settings.max_bans_per_minute, now) {
            return Err(Refused::new("pace", "limits asked for more clamps than guard.max_bans_per_minute"));
        }
        let clamp = ActiveClamp {
            limit: limit.to_owned(),
            divide: settings.divide,
            shadow: settings.shadow,
            evidence: ask.evidence.clone(),
            started: now.unix_millis,
            expires,
        };
        let evidence: Vec<String> = ask.evidence.iter().map(ToString::to_string).collect();
        let about = json!({"source": source.to_string(), "actor": format!("limit:{limit}"), "divide": clamp.divide,
            "shadow": clamp.shadow, "seconds": settings.lasts.as_secs(), "evidence": evidence});
        self.decide("clamp", now, members(about), nothing())?;
        self.give_budget(key, share(&clamp), expires)?;
        tracing::info!(%source, limit, divide = clamp.divide, shadow = clamp.shadow, "a source is clamped");
        self.policy.clamps.insert(source, clamp);
        Ok(())
    }

    /// Whether a clamp of `source` makes the share of good clients that are clamped too large.
    fn would_clamp_too_many(&self, source: Source, now: Now) -> bool {
        self.hits_too_many(source, now, |client| self.policy.clamps.find(client).is_some_and(|clamp| !clamp.shadow))
    }

    pub(in crate::guard::bans) fn give_budget(
        &mut self,
        key: SourceKey,
        share: BudgetOverride,
        expires: u64,
    ) -> Result<(), Refused> {
        let given = self.enforcer.path_mut().put_budget(key, share, expires);
        given.map_err(|error| Refused::new("kernel_failed", error.to_string()))
    }

    /// Gives a source that is clamped no more what it has otherwise.
    pub(in crate::guard::bans) fn restore_budget(&mut self, source: Source) {
        let Some(key) = self.key(source) else { return };
        let done = match self.plan_share(source) {
            Some((share, expires)) => self.enforcer.path_mut().put_budget(key, share, expires),
            None => self.enforcer.path_mut().remove_budget(key),
        };
        if let Err(error) = done {
            tracing::error!(%source, %error, "the budget of a source stays as it is until it ends");
        }
    }

    /// Once a second: ends clamps and budgets of plans that are over, and those of sources that are allowlisted by now.
    pub(in crate::guard::bans) fn tick_budgets(&mut self, now: Now) {
        let Self { policy, enforcer, settings, .. } = self;
        let is_allowed = |source| enforcer.prefixes().allowed(source).is_some();
        let is_configured = |limit: &str| settings.clamps.iter().any(|(name, _)| name == limit);
        let over = policy
            .clamps
            .take(|source, clamp| clamp.expires <= now.monotonic || is_allowed(source) || !is_configured(&clamp.limit));
        let is_plan = |plan: &str| settings.plan_budgets.iter().any(|budget| budget.plan == plan);
        let plans = policy
            .plan_budgets
            .take(|source, lease| lease.expires <= now.monotonic || is_allowed(source) || !is_plan(&lease.plan));
        for (source, clamp) in over {
            self.end_clamp(source, &clamp, "it was over", now);
        }
        for source in plans {
            if self.policy.clamps.find(source).is_none() {
                self.restore_budget(source);
            }
        }
    }

    fn end_clamp(&mut self, source: Source, clamp: &ActiveClamp, how: &str, now: Now) {
        let over =
            self.key(source).and_then(|key| self.enforcer.path().find_budget(key)).map_or(0, |it| it.over.packets);
        self.restore_budget(source);
        let about = json!({"source": source.to_string(), "limit": clamp.limit, "packets": over, "how": how});
        self.tell("unclamp", now, members(about));
    }

    /// After a reload: limits of packets, clamps and plans may have changed.
    pub(in crate::guard::bans) fn refit_budgets(&mut self, now: Now) {
        for (source, clamp) in self.policy.clamps.refit(&self.settings.clamps, now) {
            self.end_clamp(source, &clamp, "the configuration has changed", now);
        }
        self.tick_budgets(now);
        let clamps = self.policy.clamps.iter().map(|(source, clamp)| (source, share(clamp), clamp.expires));
        let plans = self.policy.plan_budgets.iter().filter(|(source, _)| self.policy.clamps.find(*source).is_none());
        let plans = plans.filter_map(|(source, _)| {
            let (share, expires) = self.plan_share(source)?;
            Some((source, share, expires))
        });
        let all: Vec<_> = clamps.chain(plans).collect();
        for (source, share, expires) in all {
            let Some(key) = self.key(source) else { continue };
            if let Err(refused) = self.give_budget(key, share, expires) {
                tracing::error!(%source, error = %refused, "a source keeps the budget that it had until it ends");
            }
        }
    }

    /// An operator ends a clamp: limits may not clamp the source again for a while, nor rules ban it.
    pub(in crate::guard::bans) fn unclamp(
        &mut self,
        source: Source,
        actor: &Actor,
        now: Now,
    ) -> Result<(String, u64), Refused> {
        if self.policy.clamps.find(source).is_none() {
            let message = format!("{source} is not clamped: see `gateway limit clamps`");
            return Err(Refused::new("not_found", message));
        }
        let about = json!({"source": source.to_string(), "actor": actor.to_string()});
        let grace = self.settings.safety.unban_grace;
        let pardon = store::Pardon { source, actor: actor.to_string(), at: now.unix_millis };
        let since = now.unix_millis.saturating_sub(pardons::millis(grace));
        let write: Write =
            Box::new(move |change| if grace.is_zero() { Ok(()) } else { change.pardon(&pardon, since, pardons::MOST) });
        self.decide("unclamp", now, members(about), write)?;
        self.policy.clamps.remove(source);
        self.restore_budget(source);
        self.policy.pardons.add(source, actor.to_string(), grace, now.monotonic);
        Ok((format!("{source} is clamped no more"), 1))
    }
}

/// A clamp as the kernel is told of it.
const fn share(clamp: &ActiveClamp) -> BudgetOverride {
    BudgetOverride::Part { divide: clamp.divide as u64, shadow: clamp.shadow }
}
