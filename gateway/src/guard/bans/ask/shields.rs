//! What good clients keep from being banned: an office or a carrier's address that they share with an offender, and all of
//! them together.

use crate::guard::bans::*;
use crate::{
    message::{GoodClient, MAX_GOOD},
    text::counted::counted,
};

/// How many the store learns of at a time: about a millisecond's work.
const SAVED_AT_ONCE: usize = 100;

impl Guard {
    /// The proxy tells of clients that it served.
    pub(crate) fn hear_good(&mut self, clients: &[GoodClient], now: Now) {
        for client in clients.iter().take(MAX_GOOD) {
            if self.key(client.source).is_some() {
                self.policy.good.note(*client, &self.settings.safety, now.monotonic);
                self.policy.trouble.recovered(client.source);
            }
        }
    }

    /// Tells the store of some clients that are good, a few at a time; of all of them at the end.
    pub(in crate::guard::bans) fn save_good(&mut self, all: bool, now: Now) {
        loop {
            let (rows, forgotten) = self.policy.good.unsaved(SAVED_AT_ONCE, now);
            if rows.is_empty() && forgotten.is_empty() {
                return;
            }
            let written = (rows.clone(), forgotten.clone());
            let saved = self.amend(move |change| {
                change.forget_good(&written.1)?;
                change.remember_good(&written.0)
            });
            if !saved {
                return self.policy.good.put_back(rows, forgotten);
            }
            if !all {
                return;
            }
        }
    }

    /// An operator's block would cover good clients.
    pub(in crate::guard::bans) fn judge_good(&self, source: Source, now: Now) -> Result<(), Refused> {
        let safety = &self.settings.safety;
        let good = &self.policy.good;
        // One client is looked up: other machines tell of many, and of each again and again.
        let covered = match self.key(source) {
            Some(_) => usize::from(good.is_recent(source, safety.good_for, now.monotonic)),
            None => good.recent(safety.good_for, now.monotonic).filter(|client| source.covers(client)).count(),
        };
        if covered <= usize::try_from(safety.shield_clients).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let long = span(safety.good_for.as_secs());
        let message = format!(
            "{source} covers {} served with a valid token within {long}, more than guard.shield_clients: --shadow shows \
             what it would hit, --force blocks it all the same",
            counted(covered, "client that was", "clients that were")
        );
        Err(Refused::new("good_clients", message))
    }

    /// How many established good principals there are in `source`.
    pub(in crate::guard::bans) fn good_principals(&self, source: Source, now: Now) -> usize {
        let safety = &self.settings.safety;
        // One that is no client is looked for among all of them.
        if self.key(source).is_some() && !self.policy.good.contains(source) {
            return 0;
        }
        self.policy.good.established(source, safety.good_for, safety.established, now.monotonic)
    }

    /// A rule's ban would hit several good principals: an office or a carrier's address, not one offender.
    pub(in crate::guard::bans) fn judge_shared(&self, source: Source, now: Now) -> Result<(), Refused> {
        let most = usize::try_from(self.settings.safety.shared_principals).unwrap_or(usize::MAX);
        let good = self.good_principals(source, now);
        if most == 0 || good < most {
            return Ok(());
        }
        let good = counted(good, "established good principal uses", "established good principals share");
        let message = format!("{good} {source}: rules may not ban it");
        Err(Refused::new("shared_source", message))
    }

    /// Whether a ban of `source` makes the share of good clients that are banned too large.
    pub(in crate::guard::bans) fn is_too_large_a_share(&self, source: Source, now: Now) -> bool {
        let by_rule = |record: &BanRecord| record.rule.is_some() && !record.shadow;
        self.hits_too_many(source, now, |client| self.find(client).is_some_and(by_rule))
    }

    /// Whether too large a share of the recently good clients would be hit: those in `source`, and those of whom `is_hit`
    /// says that they are already.
    pub(super) fn hits_too_many(&self, source: Source, now: Now, is_hit: impl Fn(Source) -> bool) -> bool {
        let (safety, breaker) = (&self.settings.safety, self.settings.safety.breaker);
        let (mut active, mut hit, mut hits) = (0_u64, 0_u64, false);
        let is_stranger = || !self.policy.good.is_recent(source, safety.good_for, now.monotonic);
        if breaker.share >= 100 || self.key(source).is_some() && is_stranger() {
            return false;
        }
        for client in self.policy.good.recent(safety.good_for, now.monotonic) {
            active += 1;
            let covers = source.covers(&client);
            hits |= covers;
            hit += u64::from(covers || is_hit(client));
        }
        hits && active >= u64::from(breaker.at_least) && hit * 100 > active * u64::from(breaker.share)
    }
}
