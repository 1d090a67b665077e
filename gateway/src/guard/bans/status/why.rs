//! Tells all that is known about an address: what blocks it, what keeps rules from banning it, and what comes next.

use std::net::IpAddr;

use gateway_common::verdict::Verdict;

use crate::guard::bans::*;
use crate::guard::control::{AddressReport, BanHistory, BlockEntry, Past};

/// What decides about the packets of an address.
struct Decision<'guard> {
    allow: Option<&'guard AllowEntry>,
    /// The ban that decides, unless something else does.
    ban: Option<&'guard BanRecord>,
    /// The list that decides.
    listed: Option<BlockEntry>,
    verdict: Verdict,
    /// What goes on to block it when the ban has ended.
    then: Option<String>,
}

impl Guard {
    /// All that is known about an address.
    pub(in crate::guard::bans) fn why(&self, address: IpAddr, now: Now) -> Result<AddressReport, Refused> {
        let address = address.to_canonical();
        let client = Source::of(address, self.settings.ipv6_prefix);
        let unattached = self.unattached();
        let Decision { allow, ban, listed, verdict, then } = self.decision(address, unattached.is_some(), now);
        let recalled = self.journal.recall(|store| store.history(address, 10));
        let (history, history_unknown) = recalled.map_or_else(|why| (Vec::new(), Some(why)), |history| (history, None));
        // What is not known is not told to be nothing.
        let many = history.len().max(usize::from(history_unknown.is_some()));
        let is_enforced = verdict == Verdict::Blocked && ban.is_none_or(|record| record.relay.is_none());
        let is_listed = listed.as_ref().is_some_and(|listed| listed.mode == "enforce");
        let clamp = self.clamp_entry(client, now);
        let enforced = clamp.as_ref().filter(|clamp| clamp.mode == "enforce" && self.enforcer.detached().is_none());
        let slowed =
            Slowdown { requests: self.slowed_for(client, now), packets: enforced.map(|clamp| clamp.remaining_seconds) };
        Ok(AddressReport {
            unattached: unattached.clone().filter(|_| is_enforced || is_listed),
            country: None,
            asn: None,
            address,
            history_unknown,
            verdict: verdict.name().to_owned(),
            entry: listed.clone().or_else(|| ban.map(|record| self.entry(record, now))),
            evidence: ban.map(|record| record.evidence.clone()).unwrap_or_default(),
            reaction_micros: ban.and_then(|record| record.reaction_micros),
            connections_closed: ban.and_then(|record| record.connections_closed),
            shields: self.shields(address, allow, now),
            score: Vec::new(),
            discounted: None,
            limits: Vec::new(),
            profile: None,
            clamp,
            limited: self.slowed_entry(client, now),
            plan: self.plan_entry(client, now),
            standing: self.ban_history(client, ban, now)?,
            next: match listed {
                Some(listed) => next_of_listed(&listed, slowed, unattached.as_deref()),
                None => next((verdict, slowed), ban, (then.as_deref(), unattached.is_none()), many, now),
            },
            history: history.into_iter().map(past).collect(),
        })
    }

    /// What decides: an allowance before bans, a ban that is enforced before lists, and lists before bans in shadow.
    fn decision(&self, address: IpAddr, is_unattached: bool, now: Now) -> Decision<'_> {
        let single = Source::of(address, 128);
        let live = |record: &&BanRecord| expiry(record) > now.monotonic;
        let exact = self.find(Source::of(address, self.settings.ipv6_prefix)).filter(live);
        let around: Vec<Source> = around(single).collect();
        let wider = around.iter().rev().filter_map(|network| self.find(*network)).filter(live);
        let all: Vec<&BanRecord> = exact.into_iter().chain(wider).collect();
        let ban = all.iter().find(|record| !record.shadow).or_else(|| all.first()).copied();
        let ends = ban.map_or(0, expiry);
        let other = all.iter().find(|one| !one.shadow && ban.is_some_and(|it| it.id != one.id) && expiry(one) > ends);
        let listed = self.fed_entry(address, now);
        let then = other.map(|record| format!("ban {} of {}", record.id, record.source)).or_else(|| {
            let (list, source) = self.listed_after(address, ends).filter(|_| !is_unattached)?;
            Some(format!("{list}, which lists {source}"))
        });
        let allow = self.enforcer.prefixes().allowed(single);
        if allow.is_some() {
            return Decision { allow, ban: None, listed: None, verdict: Verdict::Allowed, then };
        }
        let decides = |listed: &BlockEntry| ban.is_none_or(|ban| ban.shadow && listed.mode == "enforce");
        if let Some(listed) = listed.filter(decides) {
            let verdict = match (listed.mode == "shadow", is_unattached) {
                (true, _) => Verdict::ShadowBlocked,
                (false, false) => Verdict::Blocked,
                // Lists are enforced in the kernel alone.
                (false, true) => Verdict::Passed,
            };
            return Decision { allow, ban: None, listed: Some(listed), verdict, then };
        }
        let verdict = match ban {
            Some(ban) if ban.shadow => Verdict::ShadowBlocked,
            Some(_) => Verdict::Blocked,
            None => Verdict::Passed,
        };
        Decision { allow, ban, listed: None, verdict, then }
    }

    /// What keeps rules from banning it.
    fn shields(&self, address: IpAddr, allow: Option<&AllowEntry>, now: Now) -> Vec<String> {
        let client = Source::of(address, self.settings.ipv6_prefix);
        let mut shields: Vec<String> =
            allow.map(|allow| format!("allowlisted {} ({})", allow.source, allow.actor)).into_iter().collect();
        for source in [Source::of(address, 128), client] {
            if let Err(refused) = self.judge(source)
                && refused.code != "allowlisted"
                && !shields.contains(&refused.message)
            {
                shields.push(refused.message);
            }
        }
        let harm = [
            self.policy.pardons.judge(client, now.monotonic),
            self.judge_shared(client, now),
            self.policy.breaker.judge(now),
        ];
        shields.extend(harm.into_iter().filter_map(Result::err).map(|refused| refused.message));
        shields.extend(self.shields_of_trouble(client, now));
        shields.extend(self.journal.shield());
        shields
    }

    /// What earlier bans of a client mean for the next one. `ban`: the one that is in force.
    fn ban_history(&self, client: Source, ban: Option<&BanRecord>, now: Now) -> Result<BanHistory, Refused> {
        let ladder = &self.settings.safety.ladder;
        let earlier = self.earlier(ban.map_or(client, |record| record.source), now);
        let banned_by_rule = ban.is_some_and(|record| record.rule.is_some() && !record.shadow);
        let probation = self.policy.probations.find(client, now.monotonic);
        Ok(BanHistory {
            good_principals: u64::try_from(self.good_principals(client, now)).unwrap_or(u64::MAX),
            earlier_bans: u64::try_from(earlier).unwrap_or(u64::MAX),
            factor: banned_by_rule.then(|| ladder.factor(earlier)),
            next_factor: ladder.factor(if banned_by_rule { earlier + 1 } else { earlier }),
            probation_seconds: probation.map(|until| until.saturating_sub(now.monotonic).div_ceil(SECOND)),
            unban_grace_seconds: self.policy.pardons.find(client, now.monotonic).map(|(_, _, seconds)| seconds),
        })
    }
}

/// For how many seconds its requests are limited because of an anomaly, and its budgets in the kernel are smaller.
#[derive(Clone, Copy, Debug, Default)]
struct Slowdown {
    requests: Option<u64>,
    packets: Option<u64>,
}

impl Slowdown {
    /// What is left of it in so many seconds.
    fn after(self, seconds: u64) -> Self {
        let left = |of: Option<u64>| of.map(|of| of.saturating_sub(seconds)).filter(|left| *left > 0);
        Self { requests: left(self.requests), packets: left(self.packets) }
    }

    /// What is said of it; `None`: there is none.
    fn sentence(self) -> Option<String> {
        let requests = self.requests.map(|left| format!("its requests are limited for another {}", span(left)));
        let packets = self.packets.map(|left| format!("its packets are limited for another {}", span(left)));
        let both: Vec<String> = requests.into_iter().chain(packets).collect();
        (!both.is_empty()).then(|| both.join(", and "))
    }

    /// How somebody is served whom nothing blocks.
    fn served(self) -> String {
        self.sentence().map_or_else(|| "It is served".to_owned(), |slow| format!("It is served, but {slow}"))
    }
}

fn next_of_listed(fed: &BlockEntry, slowed: Slowdown, unattached: Option<&str>) -> String {
    let actor = &fed.actor;
    let long = match fed.remaining_seconds {
        Some(left) => format!("for another {}, or until {actor} no longer lists it", span(left)),
        None => format!("for as long as {actor} lists it"),
    };
    let served = slowed.served();
    match (fed.mode == "shadow", unattached) {
        (true, _) => format!("{served}. In shadow its packets are counted {long}."),
        (false, None) => format!("Its packets are dropped {long}."),
        (false, Some(_)) => format!("{served}. Its packets are dropped once XDP is attached, {long}."),
    }
}

/// `then`: what goes on to block it. `drops`: packets are dropped in the kernel.
fn next(
    (verdict, slowed): (Verdict, Slowdown),
    decides: Option<&BanRecord>,
    (then, drops): (Option<&str>, bool),
    earlier: usize,
    now: Now,
) -> String {
    let Some(record) = decides else {
        return match (verdict, slowed.sentence(), earlier) {
            (Verdict::Allowed, None, _) => "It is let through for as long as it is allowed.".to_owned(),
            (Verdict::Allowed, Some(slow), _) => {
                format!("It is let through for as long as it is allowed, but {slow}.")
            }
            (_, Some(slow), _) => format!("{}; then it is served as everybody is.", sentence_case(&slow)),
            (_, None, 0) => "Nothing: it was never banned, and is served as everybody is.".to_owned(),
            (_, None, _) => "It is served as everybody is.".to_owned(),
        };
    };
    if let Some(confirm) = record.confirm {
        let left = span(confirm.monotonic.saturating_sub(now.monotonic).div_ceil(SECOND));
        return format!("The block is taken back in {left} unless `gateway confirm {}` comes.", record.id);
    }
    let dropped = if record.relay.is_some() && !record.shadow {
        "Its requests are refused by the proxy".to_owned()
    } else if record.shadow {
        format!("{}. In shadow its packets are counted", slowed.served())
    } else if drops {
        "Its packets are dropped".to_owned()
    } else {
        "Its connections are refused at accept".to_owned()
    };
    match record.expires_monotonic {
        None => format!("{dropped} until an operator removes the block: `gateway block del {}`.", record.source),
        Some(at) => {
            let seconds = at.saturating_sub(now.monotonic).div_ceil(SECOND);
            let left = span(seconds);
            match (then, slowed.after(seconds).sentence()) {
                (Some(other), _) if record.shadow => format!("{dropped} for another {left}; then {other} blocks it."),
                (Some(other), _) => format!("{dropped} for another {left}; then it is still blocked, by {other}."),
                (None, _) if record.shadow => format!("{dropped} for another {left}."),
                (None, Some(slow)) => format!("{dropped} for another {left}; then it is served again, but {slow}."),
                (None, None) => format!("{dropped} for another {left}; then it is served again."),
            }
        }
    }
}

/// The same with a capital letter.
fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn past(record: BanRecord) -> Past {
    let ended = record.ended.unwrap_or(BanEnd { at: 0, how: String::new() });
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
