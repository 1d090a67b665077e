//! What guards of other machines have decided, judged by this machine's own safety rules; and what this guard tells them.
//!
//! *Invariant:* what another machine says is never stronger than what a rule of this one could ask for: it is refused
//! where that would be, has a pace of its own, and is lifted by an operator here. It is not passed on.

use std::collections::BTreeSet;

use super::*;
use crate::guard::{
    cluster::fact::{ACTOR, ClusterFact},
    store::Pardon,
};

/// How many times `guard.max_bans_per_minute` other machines may ask for: each of them has kept to it before.
const PACE: u32 = 10;

/// The most changes that wait to be told. Over it they come with the next whole.
const MOST_CHANGES: usize = 1_000;

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// The most facts of one whole: what was decided first is left out.
pub(super) const MOST_FACTS: usize = 20_000;

/// What became of what another machine has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppliedFacts {
    /// Facts that changed something.
    pub(crate) changed: u64,
    /// Facts that safety rules of this machine refuse.
    pub(crate) refused: u64,
}

impl Guard {
    /// All that this guard has decided itself.
    pub(crate) fn own_facts(&self, now: Now) -> Vec<ClusterFact> {
        let is_own = |actor: &str| !actor.starts_with(ACTOR);
        let blocks = self.ledger.records().rev().filter(|record| expiry(record) > now.monotonic);
        let blocks = blocks.filter_map(|record| {
            let mut fact = block(record)?;
            // By what is left of it: the wall clock may have been set since.
            if let (ClusterFact::Block { until: Some(until), .. }, Some(ends)) = (&mut fact, record.expires_monotonic) {
                *until = now.unix_millis.saturating_add(ends.saturating_sub(now.monotonic) / MILLISECOND);
            }
            Some(fact)
        });
        let allows = self.enforcer.prefixes().operators().filter(|allow| is_own(&allow.actor));
        let allows = allows.map(|allow| ClusterFact::Allow { source: allow.source, reason: allow.reason.clone() });
        let pardons = self.policy.pardons.stored(self.settings.safety.unban_grace).into_iter();
        let pardons = pardons.filter(|pardon| is_own(&pardon.actor));
        let pardons = pardons.map(|pardon| ClusterFact::Unblock { source: pardon.source, at: pardon.at });
        allows.chain(pardons).chain(blocks).take(MOST_FACTS).collect()
    }

    /// What it has decided since the last call.
    pub(crate) fn take_facts(&mut self) -> Vec<ClusterFact> {
        std::mem::take(&mut self.facts)
    }

    pub(super) fn note_fact(&mut self, fact: ClusterFact) {
        if self.facts.len() < MOST_CHANGES {
            self.facts.push(fact);
        }
    }

    /// The same, of a ban that has begun.
    pub(super) fn note_ban(&mut self, record: &BanRecord) {
        if let Some(fact) = block(record) {
            self.note_fact(fact);
        }
    }

    /// Another machine has decided this; where `is_whole`, nothing else is in force there, unless it may have been cut.
    pub(crate) fn peer_says(&mut self, node: &str, facts: &[ClusterFact], is_whole: bool, now: Now) -> AppliedFacts {
        self.catch_up();
        let actor = Actor::Peer(node.to_owned());
        let mut taken = AppliedFacts::default();
        // What a list that was cut lacks may be in force there all the same: it ends by its own time.
        if is_whole && facts.len() < MOST_FACTS {
            taken.changed += self.leave_out(&actor, facts, now);
        }
        for fact in facts {
            match self.peer_fact(fact, &actor, now) {
                Ok(changed) => taken.changed += u64::from(changed),
                Err(refused) => {
                    tracing::debug!(%actor, code = refused.code, "not taken from another machine: {}", refused.message);
                    taken.refused += 1;
                }
            }
        }
        taken
    }

    /// Machines that are no longer of the cluster have nothing to say: what they said before is lifted.
    pub(crate) fn forget_peers(&mut self, nodes: &[String], now: Now) {
        let of_ledger = self.ledger.records().map(|record| record.actor.clone());
        let of_allows = self.enforcer.prefixes().operators().map(|allow| allow.actor.clone());
        let gone: BTreeSet<String> = of_ledger
            .chain(of_allows)
            .filter_map(|actor| actor.strip_prefix(ACTOR).map(str::to_owned))
            .filter(|node| !nodes.contains(node))
            .collect();
        for node in gone {
            self.peer_says(&node, &[], true, now);
        }
    }

    /// Lifts what a machine had said before and says no more; how much that was.
    fn leave_out(&mut self, actor: &Actor, facts: &[ClusterFact], now: Now) -> u64 {
        let name = actor.to_string();
        let (mut blocks, mut allows) = (BTreeSet::new(), BTreeSet::new());
        for fact in facts {
            match fact {
                ClusterFact::Block { source, .. } => drop(blocks.insert(*source)),
                ClusterFact::Allow { source, .. } => drop(allows.insert(*source)),
                _ => {}
            }
        }
        let is_gone = |record: &&BanRecord| record.actor == name && !blocks.contains(&record.source);
        let ids: Vec<u64> = self.ledger.records().filter(is_gone).map(|record| record.id).collect();
        let mut changed = ids.len();
        if !ids.is_empty()
            && let Err(refused) = self.end(&ids, &format!("lifted by {name}"), Some("unban"), now, None, nothing())
        {
            tracing::error!(actor = name, "what another machine lifted stays blocked: {}", refused.message);
        }
        let operators = self.enforcer.prefixes().operators();
        let is_gone = |allow: &&AllowEntry| allow.actor == name && !allows.contains(&allow.source);
        let gone: Vec<Source> = operators.filter(is_gone).map(|allow| allow.source).collect();
        for source in gone {
            changed += usize::from(self.disallow(source, actor, now).is_ok());
        }
        change::count(changed)
    }

    /// Whether it changed anything.
    fn peer_fact(&mut self, fact: &ClusterFact, actor: &Actor, now: Now) -> Result<bool, Refused> {
        match fact {
            ClusterFact::Block { source, started, until, by, reason } => {
                let seconds = match until {
                    Some(until) if *until <= now.unix_millis => return Ok(false),
                    Some(until) => Some((until - now.unix_millis).div_ceil(1_000).min(LONGEST)),
                    None => None,
                };
                self.peer_block(*source, *started, seconds, format!("{reason} ({by})"), actor, now)
            }
            ClusterFact::Unblock { source, at } => Ok(self.peer_unblock(*source, *at, actor, now)),
            ClusterFact::Allow { source, reason } => {
                if self.enforcer.prefixes().allows.contains_key(source) {
                    return Ok(false);
                }
                let is_operators = |id: &u64| self.ledger.get(*id).is_some_and(|record| record.rule.is_none());
                if self.ledger.covered_by(*source).iter().any(is_operators) {
                    let message = format!("an operator of this machine has blocked {source}, or something in it");
                    return Err(Refused::new("operator_block", message));
                }
                self.allow(*source, reason, false, actor, now).map(|_done| true)
            }
            ClusterFact::Disallow { source } => {
                let name = actor.to_string();
                let is_its = |allow: &AllowEntry| allow.actor == name;
                if !self.enforcer.prefixes().allows.get(source).is_some_and(is_its) {
                    return Ok(false);
                }
                self.disallow(*source, actor, now).map(|_done| true)
            }
            // The store of credentials has them, or whoever keeps ticket keys.
            ClusterFact::Cut
            | ClusterFact::Key { .. }
            | ClusterFact::MoreRevoked
            | ClusterFact::Restore { .. }
            | ClusterFact::Revoke { .. }
            | ClusterFact::TicketBox { .. }
            | ClusterFact::TicketKeys { .. } => Ok(false),
        }
    }

    pub(super) fn peer_block(
        &mut self,
        source: Source,
        started: u64,
        seconds: Option<u64>,
        reason: String,
        actor: &Actor,
        now: Now,
    ) -> Result<bool, Refused> {
        let ends = seconds.map_or(NEVER, |seconds| now.monotonic.saturating_add(seconds.saturating_mul(SECOND)));
        let name = actor.to_string();
        if let Some(record) = self.find(source) {
            // By the second: it is told again and again.
            let is_longer = ends > expiry(record).saturating_add(2 * SECOND);
            if record.actor != name || !is_longer {
                return Ok(false);
            }
        } else if self.judge_news(source, false).is_err() {
            // A network around it is blocked.
            return Ok(false);
        }
        // The pace first: whoever asks for too much is refused before all good clients are looked through for it.
        let pace = self.settings.max_bans_per_minute.saturating_mul(PACE);
        self.policy.breaker.judge(now)?;
        self.policy.breaker.judge_peers(pace, now)?;
        self.judge(source)?;
        self.policy.pardons.judge(source, now.monotonic)?;
        self.judge_shared(source, now)?;
        self.judge_good(source, now)?;
        if self.is_too_large_a_share(source, now) {
            let message = format!("with {source} too many of the recently good clients would be banned");
            return Err(Refused::new("good_clients", message));
        }
        self.judge_rules_room(source, false)?;
        self.policy.breaker.spend_peers(pace, now)?;
        let record = self.draft(source, reason, actor, seconds, false, now);
        let started = started.min(now.unix_millis);
        let id = self.ban(BanRecord { rule: Some(name), started, ..record }, now)?;
        self.policy.unproven.push((id, now.monotonic));
        Ok(true)
    }

    /// An operator of another machine has unblocked a source: what rules and other machines have blocked is lifted, and
    /// not banned again for a while. What operators here have blocked stays.
    fn peer_unblock(&mut self, source: Source, at: u64, actor: &Actor, now: Now) -> bool {
        let grace = self.settings.safety.unban_grace;
        let passed = std::time::Duration::from_millis(now.unix_millis.saturating_sub(at));
        let left = grace.saturating_sub(passed);
        let is_known = self.policy.pardons.find(source, now.monotonic).is_some_and(|(known, ..)| known == source);
        let lifted = self.find(source).filter(|record| record.rule.is_some() && record.started <= at);
        let lifted: Vec<u64> = lifted.map(|record| record.id).into_iter().collect();
        if lifted.is_empty() && (is_known || left.is_zero()) {
            return false;
        }
        let pardon = Pardon { source, actor: actor.to_string(), at: at.min(now.unix_millis) };
        let since = now.unix_millis.saturating_sub(pardons::millis(grace));
        let summary = (lifted.is_empty())
            .then(|| ("pardon", members(json!({"source": source.to_string(), "actor": actor.to_string()}))));
        let how = format!("removed by {actor}");
        let write: Write =
            Box::new(move |change| if left.is_zero() { Ok(()) } else { change.pardon(&pardon, since, pardons::MOST) });
        drop(self.lift(&lifted, &how, Some("unban"), now, summary, write));
        self.policy.pardons.add(source, actor.to_string(), left, now.monotonic);
        true
    }
}

/// The longest that a block of another machine lasts at a time, in seconds.
const LONGEST: u64 = guard::LONGEST_BAN.as_secs();

/// What others are told of a ban; `None`: nothing.
fn block(record: &BanRecord) -> Option<ClusterFact> {
    if record.shadow || record.confirm.is_some() || record.actor.starts_with(ACTOR) {
        return None;
    }
    Some(ClusterFact::Block {
        source: record.source,
        started: record.started,
        until: record.expires,
        by: record.actor.clone(),
        reason: record.reason.clone(),
    })
}
