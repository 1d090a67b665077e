//! What is done about the sources that an anomaly comes from, by the configuration: they are limited, clamped or banned, and
//! the same stands against it as against a ban by a rule. Whoever is known to be good is only named.

use crate::{
    guard::bans::{policy::anomalies::ActionResult, *},
    message::{
        Slowed,
        observer::anomalies::{ContributorShown, Contributors, ContributorsShown, Deviations},
    },
    policy::detect::{Contributor, NamedContributor},
    settings::anomalies::{AnomalyAction, ClientMeasure},
    signal::Signal,
};

impl Guard {
    /// The observer says what is not usual. Returns what proxies are asked about.
    pub(crate) fn hear_deviations(&mut self, deviations: Deviations, now: Now) -> Deviations {
        Deviations(self.policy.anomalies.hear(deviations.0, now).to_vec())
    }

    /// A proxy says from whom something comes that is not usual. Does what is to be done about them, and returns what
    /// operators are told; `None`: nobody has asked for it.
    pub(crate) fn hear_contributors(&mut self, told: &Contributors, now: Now) -> Option<ContributorsShown> {
        let Contributors { of, measure, minute, contribution } = told;
        let sentence = self.policy.anomalies.find(of, *measure, *minute, now)?.sentence.clone();
        let list = contribution.named.iter().map(|named| {
            let done = self.act(*measure, named, &sentence, now);
            let (who, kind) = match &named.who {
                NamedContributor::Principal(name) => (name.clone(), "principal"),
                NamedContributor::Source(source, ..) => (source.to_string(), "source"),
            };
            ContributorShown {
                who: one_line(&who),
                kind: kind.to_owned(),
                count: named.count,
                stands_out: named.stands_out,
                done,
                requests: named.requests.iter().map(ToString::to_string).collect(),
            }
        });
        let list = list.collect();
        let (total, sources, principals) = (contribution.total, contribution.sources, contribution.principals);
        Some(ContributorsShown { of: of.clone(), measure: *measure, total, sources, principals, list })
    }

    /// Does what is to be done about one of them; what that was, for operators.
    fn act(&mut self, measure: ClientMeasure, named: &Contributor, sentence: &str, now: Now) -> Option<String> {
        let action = self.settings.anomalies.of(measure);
        let (NamedContributor::Source(source, address, relay), true) = (&named.who, named.stands_out) else {
            return None;
        };
        let what = match action {
            AnomalyAction::Tell => return None,
            AnomalyAction::Ban => "banned".to_owned(),
            AnomalyAction::Clamp => "clamped".to_owned(),
            AnomalyAction::Limit => format!("limited to {} requests a minute", self.settings.anomalies.per_minute),
        };
        let ask = BanRequest {
            source: *source,
            address: *address,
            relay: *relay,
            rule: measure.rule(),
            signal: Signal::Anomaly,
            evidence: named.requests.clone(),
            seconds: 0,
            shadow: false,
            noted: now.monotonic,
        };
        let done = self.judge_known(ask.source, now).and_then(|()| match action {
            AnomalyAction::Ban => self.ban_for_anomaly(&ask, measure, sentence, now).map(|_id| ActionResult::Done),
            AnomalyAction::Clamp => {
                let goes_on = self.policy.clamps.find(ask.source).is_some();
                self.clamp(&ask, &ask.rule, now)?;
                Ok(if goes_on { ActionResult::GoesOn } else { ActionResult::Done })
            }
            AnomalyAction::Limit => self.slow(&ask, measure, sentence, now),
            AnomalyAction::Tell => Ok(ActionResult::Done),
        });
        let (result, text) = match done {
            Ok(result) => (result, what),
            Err(refused) if refused.code == "already_blocked" => (ActionResult::GoesOn, "blocked already".to_owned()),
            Err(refused) => (ActionResult::Refused, format!("not {what}: {}", refused.message)),
        };
        self.policy.anomalies.count(action, result);
        Some(text)
    }

    /// An anomaly takes nothing from a client that is known to be good: rules do, by what it does.
    fn judge_known(&self, source: Source, now: Now) -> Result<(), Refused> {
        match self.policy.good.knows(source, &self.settings.safety, now.monotonic) {
            None => Ok(()),
            Some(_) => {
                let message = format!("{source} is known to be good: it was served with a valid token");
                Err(Refused::new("good_client", message))
            }
        }
    }

    fn ban_for_anomaly(
        &mut self,
        ask: &BanRequest,
        measure: ClientMeasure,
        sentence: &str,
        now: Now,
    ) -> Result<u64, Refused> {
        let (rule, count) = (self.settings.anomalies.rule(measure), ask.evidence.len());
        let reason = format!("an anomaly comes from it: {}; {count} of its requests are named", one_line(sentence));
        let asked = self.judge_rule(ask, &rule, reason, now);
        self.settle_ask(ask, &asked, now);
        asked
    }

    /// Limits the requests of a source.
    fn slow(
        &mut self,
        ask: &BanRequest,
        measure: ClientMeasure,
        sentence: &str,
        now: Now,
    ) -> Result<ActionResult, Refused> {
        let source = ask.source;
        if source != Source::of(ask.address, self.settings.ipv6_prefix) {
            return Err(Refused::new("not_the_source", "the source is not what clients are told apart by"));
        }
        if ask.evidence.is_empty() {
            return Err(Refused::new("no_evidence", "no request of it is named"));
        }
        self.judge(source)?;
        self.judge_news(source, false)?;
        self.policy.pardons.judge(source, now.monotonic)?;
        self.judge_shared(source, now)?;
        let actions = self.settings.anomalies;
        let lasts = u64::try_from(actions.lasts.as_nanos()).unwrap_or(u64::MAX);
        let slowed = Slowed { source, per_minute: actions.per_minute, until: now.monotonic.saturating_add(lasts) };
        let is_new = self.policy.anomalies.slows(source).is_none();
        if is_new {
            if !self.policy.anomalies.spend(self.settings.max_bans_per_minute, now) {
                let message = "anomalies asked for more limits than guard.max_bans_per_minute";
                return Err(Refused::new("pace", message));
            }
            let evidence: Vec<String> = ask.evidence.iter().map(ToString::to_string).collect();
            let about = json!({"source": source.to_string(), "actor": format!("rule:{}", ask.rule),
                "reason": one_line(sentence), "per_minute": actions.per_minute,
                "seconds": actions.lasts.as_secs(), "evidence": evidence});
            self.decide("anomaly_limit", now, members(about), nothing())?;
        }
        if !self.policy.anomalies.slow(slowed, measure) {
            return Err(Refused::new("full", "no more sources can be limited at once"));
        }
        if is_new {
            tracing::info!(%source, per_minute = actions.per_minute, "a source is limited because of an anomaly");
        }
        self.notices.push(ToProxy::Slowed(slowed));
        Ok(if is_new { ActionResult::Done } else { ActionResult::GoesOn })
    }

    /// Once a second, and after a reload: ends limits that are over.
    pub(in crate::guard::bans) fn tick_slowed(&mut self, now: Now) {
        let Self { policy, enforcer, settings, .. } = self;
        let is_allowed = |source| enforcer.prefixes().allowed(source).is_some();
        for over in policy.anomalies.end(&settings.anomalies, is_allowed, now) {
            self.notices.push(ToProxy::Slowed(Slowed { until: 0, ..over }));
            self.tell("anomaly_limit_over", now, members(json!({"source": over.source.to_string()})));
        }
    }

    /// Whose requests are limited, for a proxy that starts.
    pub(crate) fn slowed_in_force(&self) -> Vec<Slowed> {
        self.policy.anomalies.slowed().collect()
    }

    /// How often each action was to be done about sources of anomalies, by what became of it.
    pub(crate) fn anomaly_actions(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.policy.anomalies.counts().collect()
    }

    /// How a client is limited, for operators.
    pub(in crate::guard::bans) fn slowed_entry(&self, source: Source, now: Now) -> Option<String> {
        let left = span(self.slowed_for(source, now)?);
        let per_minute = self.policy.anomalies.slows(source)?.per_minute;
        Some(format!("{per_minute} requests a minute for another {left}, as an anomaly comes from it"))
    }

    /// For how many seconds the requests of a source are limited.
    pub(in crate::guard::bans) fn slowed_for(&self, source: Source, now: Now) -> Option<u64> {
        let slowed = self.policy.anomalies.slows(source).filter(|slowed| slowed.until > now.monotonic)?;
        Some(slowed.until.saturating_sub(now.monotonic).div_ceil(SECOND))
    }
}

/// What another process says, in one line.
fn one_line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}
