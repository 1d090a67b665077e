//! Tells all that is known about an address: what blocks it, what keeps rules from banning it, and what comes next.

use std::net::IpAddr;

use gateway_common::verdict::Verdict;

use crate::guard::bans::*;
use crate::guard::control::{BanHistory, Entry, Past, Why};

impl Guard {
    /// All that is known about an address.
    pub(in crate::guard::bans) fn why(&self, address: IpAddr, now: Now) -> Result<Why, Refused> {
        let address = address.to_canonical();
        let single = Source::of(address, 128);
        let live = |record: &&Record| expiry(record) > now.monotonic;
        let exact = self.find(Source::of(address, self.settings.ipv6_prefix)).filter(live);
        let around: Vec<Source> = around(single).collect();
        let wider = around.iter().rev().filter_map(|network| self.find(*network)).filter(live);
        let all: Vec<&Record> = exact.into_iter().chain(wider).collect();
        let decides = all.iter().find(|record| !record.shadow).or_else(|| all.first()).copied();
        let allow = self.enforcer.prefixes().allowed(single);
        // What goes on to block it when that has ended.
        let ends = decides.map_or(0, expiry);
        let other =
            all.iter().find(|one| !one.shadow && decides.is_some_and(|it| it.id != one.id) && expiry(one) > ends);
        let other = other.map(|record| format!("ban {} of {}", record.id, record.source));
        let unattached = self.unattached();
        let then = other.or_else(|| {
            let listed = self.fed_entry(address, now).filter(|fed| fed.mode == "enforce" && unattached.is_none());
            listed.map(|fed| format!("{}, which lists {}", fed.actor, fed.source))
        });
        let fed =
            self.fed_entry(address, now).filter(|fed| decides.is_none_or(|it| it.shadow && fed.mode == "enforce"));
        let (verdict, decides) = match (allow, decides) {
            (Some(_), _) => (Verdict::Allowed, None),
            (None, _) if fed.is_some() => {
                let shadow = fed.as_ref().is_some_and(|fed| fed.mode == "shadow");
                let verdict = match (shadow, &unattached) {
                    (true, _) => Verdict::ShadowBlocked,
                    (false, None) => Verdict::Blocked,
                    // Lists are enforced in the kernel alone.
                    (false, Some(_)) => Verdict::Passed,
                };
                (verdict, None)
            }
            (None, Some(record)) if record.shadow => (Verdict::ShadowBlocked, Some(record)),
            (None, Some(record)) => (Verdict::Blocked, Some(record)),
            (None, None) => (Verdict::Passed, None),
        };
        let mut shields = Vec::new();
        if let Some(allow) = allow {
            shields.push(format!("allowlisted {} ({})", allow.source, allow.actor));
        }
        for source in [single, Source::of(address, self.settings.ipv6_prefix)] {
            if let Err(refused) = self.judge(source)
                && refused.code != "allowlisted"
                && !shields.contains(&refused.message)
            {
                shields.push(refused.message);
            }
        }
        let client = Source::of(address, self.settings.ipv6_prefix);
        let ladder = &self.settings.safety.ladder;
        let earlier = self.earlier(decides.map_or(client, |record| record.source), now)?;
        let banned_by_rule = decides.is_some_and(|record| record.rule.is_some() && !record.shadow);
        let standing = BanHistory {
            good_principals: u64::try_from(self.good_principals(client, now)).unwrap_or(u64::MAX),
            earlier_bans: u64::try_from(earlier).unwrap_or(u64::MAX),
            factor: banned_by_rule.then(|| ladder.factor(earlier)),
            next_factor: ladder.factor(if banned_by_rule { earlier + 1 } else { earlier }),
            probation_seconds: self
                .policy
                .probations
                .find(client, now.monotonic)
                .map(|until| until.saturating_sub(now.monotonic).div_ceil(SECOND)),
            unban_grace_seconds: self.policy.pardons.find(client, now.monotonic).map(|(_, _, seconds)| seconds),
        };
        let harm = [
            self.policy.pardons.judge(client, now.monotonic),
            self.judge_shared(client, now),
            self.policy.breaker.judge(now),
        ];
        shields.extend(harm.into_iter().filter_map(Result::err).map(|refused| refused.message));
        shields.extend(self.shields_of_trouble(client, now));
        shields.extend(self.journal.shield());
        let history = self.journal.store().history(address, 10);
        let history = history.map_err(|error| Refused::new("store_failed", error.to_string()))?;
        let is_enforced = matches!(verdict, Verdict::Blocked) && decides.is_none_or(|record| record.relay.is_none());
        let is_listed = fed.as_ref().is_some_and(|fed| fed.mode == "enforce") && allow.is_none();
        Ok(Why {
            unattached: unattached.clone().filter(|_| is_enforced || is_listed),
            country: None,
            asn: None,
            address,
            verdict: verdict.name().to_owned(),
            entry: fed.clone().filter(|_| allow.is_none()).or_else(|| decides.map(|record| self.entry(record, now))),
            evidence: decides.map(|record| record.evidence.clone()).unwrap_or_default(),
            reaction_micros: decides.and_then(|record| record.reaction_micros),
            connections_closed: decides.and_then(|record| record.connections_closed),
            shields,
            score: Vec::new(),
            limits: Vec::new(),
            profile: None,
            clamp: self.clamp_entry(client, now),
            limited: self.slowed_entry(client, now),
            plan: self.plan_entry(client, now),
            standing,
            next: match fed.filter(|_| allow.is_none()) {
                Some(fed) => next_of_listed(&fed, unattached.as_deref()),
                None => next(verdict, decides, (then.as_deref(), unattached.is_none()), history.len(), now),
            },
            history: history.into_iter().map(past).collect(),
        })
    }
}

fn next_of_listed(fed: &Entry, unattached: Option<&str>) -> String {
    let actor = &fed.actor;
    match (fed.mode == "shadow", unattached) {
        (true, _) => format!("It is served. In shadow its packets are counted for as long as {actor} lists it."),
        (false, None) => format!("Its packets are dropped for as long as {actor} lists it."),
        (false, Some(_)) => {
            format!("It is served. Its packets are dropped once XDP is attached, for as long as {actor} lists it.")
        }
    }
}

/// `then`: what goes on to block it. `drops`: packets are dropped in the kernel.
fn next(
    verdict: Verdict,
    decides: Option<&Record>,
    (then, drops): (Option<&str>, bool),
    earlier: usize,
    now: Now,
) -> String {
    let Some(record) = decides else {
        return match (verdict, earlier) {
            (Verdict::Allowed, _) => "It is let through for as long as it is allowed.".to_owned(),
            (_, 0) => "Nothing: it was never banned, and is served as everybody is.".to_owned(),
            _ => "It is served as everybody is.".to_owned(),
        };
    };
    if let Some(confirm) = record.confirm {
        let left = span(confirm.monotonic.saturating_sub(now.monotonic).div_ceil(SECOND));
        return format!("The block is taken back in {left} unless `gateway confirm {}` comes.", record.id);
    }
    let dropped = if record.relay.is_some() && !record.shadow {
        "Its requests are refused by the proxy"
    } else if record.shadow {
        "It is served. In shadow its packets are counted"
    } else if drops {
        "Its packets are dropped"
    } else {
        "Its connections are refused at accept"
    };
    match record.expires_monotonic {
        None => format!("{dropped} until an operator removes the block: `gateway block del {}`.", record.source),
        Some(at) => {
            let left = span(at.saturating_sub(now.monotonic).div_ceil(SECOND));
            match then {
                Some(other) if record.shadow => format!("{dropped} for another {left}; then {other} blocks it."),
                Some(other) => format!("{dropped} for another {left}; then it is still blocked, by {other}."),
                None if record.shadow => format!("{dropped} for another {left}."),
                None => format!("{dropped} for another {left}; then it is served again."),
            }
        }
    }
}

fn past(record: Record) -> Past {
    let ended = record.ended.unwrap_or(Ended { at: 0, how: String::new() });
    Past {
        id: record.id,
        reason: record.reason,
        actor: record.actor,
        started: clock::rfc3339(record.started),
        ended: clock::rfc3339(ended.at),
        how: ended.how,
        packets: record.packets,
        bytes: record.bytes,
    }
}
