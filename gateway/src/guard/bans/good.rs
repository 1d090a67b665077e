//! Decides which clients are known to be good, and what that keeps from being banned.
//!
//! What the proxy says of them is believed as far as it goes: a proxy in wrong hands can keep its friends from being
//! banned by rules, and can ban or unban nobody else.
//!
//! *Invariant:* at most [`MOST`] clients are known, with at most [`PRINCIPALS`] principals each. Where all are recent,
//! a new client is not known until some are not, and a new principal takes the place of the one heard of least lately.

use std::time::Duration;

use super::*;
use crate::message::{GoodClient, MAX_GOOD};

const MOST: usize = 65_536;
const PRINCIPALS: usize = 16;

/// Clients that were served with a valid token lately.
#[derive(Debug, Default)]
pub(super) struct Good {
    clients: HashMap<Source, Vec<Principal>>,
    pruned: u64,
}

#[derive(Clone, Copy, Debug)]
struct Principal {
    hash: u64,
    first: u64,
    last: u64,
}

impl Good {
    /// `principal` was served at `source`.
    pub(super) fn note(&mut self, client: GoodClient, good_for: Duration, now: u64) {
        let recent = |principal: &Principal| is_recent(principal, good_for, now);
        if self.clients.len() >= MOST && !self.clients.contains_key(&client.source) {
            if now.saturating_sub(self.pruned) < SECOND {
                return;
            }
            self.pruned = now;
            self.clients.retain(|_, principals| principals.iter().any(recent));
            if self.clients.len() >= MOST {
                return;
            }
        }
        let principals = self.clients.entry(client.source).or_default();
        principals.retain(recent);
        if let Some(known) = principals.iter_mut().find(|known| known.hash == client.principal) {
            known.last = now;
            return;
        }
        if principals.len() >= PRINCIPALS
            && let Some(oldest) = (0..principals.len()).min_by_key(|at| principals.get(*at).map(|known| known.last))
        {
            principals.swap_remove(oldest);
        }
        principals.push(Principal { hash: client.principal, first: now, last: now });
    }

    /// Clients that were good lately.
    pub(super) fn recent(&self, good_for: Duration, now: u64) -> impl Iterator<Item = Source> {
        let recent = move |principal: &Principal| is_recent(principal, good_for, now);
        self.clients.iter().filter(move |(_, known)| known.iter().any(recent)).map(|(source, _)| *source)
    }

    /// How many principals in `source` are good lately and have been for `established`.
    pub(super) fn established(&self, source: Source, good_for: Duration, established: Duration, now: u64) -> usize {
        let counts = |principal: &&Principal| {
            is_recent(principal, good_for, now) && u128::from(now - principal.first) >= established.as_nanos()
        };
        let count = |principals: &Vec<Principal>| principals.iter().filter(counts).count();
        if let Some(principals) = self.clients.get(&source) {
            return count(principals);
        }
        let inside = self.clients.iter().filter(|(client, _)| source.covers(client));
        inside.map(|(_, principals)| count(principals)).sum()
    }
}

fn is_recent(principal: &Principal, good_for: Duration, now: u64) -> bool {
    now >= principal.first && u128::from(now.saturating_sub(principal.last)) <= good_for.as_nanos()
}

impl Guard {
    /// The proxy tells of clients that it served.
    pub(crate) fn hear_good(&mut self, clients: &[GoodClient], now: Now) {
        let good_for = self.settings.safety.good_for;
        for client in clients.iter().take(MAX_GOOD) {
            if self.key(client.source).is_some() {
                self.good.note(*client, good_for, now.monotonic);
            }
        }
    }

    /// An operator's block would cover good clients.
    pub(super) fn judge_good(&self, source: Source, now: Now) -> Result<(), Refused> {
        let safety = &self.settings.safety;
        let covered = self.good.recent(safety.good_for, now.monotonic).filter(|client| source.covers(client)).count();
        if covered <= usize::try_from(safety.shield_clients).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let long = span(safety.good_for.as_secs());
        let message = format!(
            "{source} covers {covered} clients that were served with a valid token within {long}, more than \
             guard.shield_clients: --shadow shows what it would hit, --force blocks it all the same"
        );
        Err(Refused::new("good_clients", message))
    }

    /// How many established good principals there are in `source`.
    pub(super) fn good_principals(&self, source: Source, now: Now) -> usize {
        let safety = &self.settings.safety;
        self.good.established(source, safety.good_for, safety.established, now.monotonic)
    }

    /// A rule's ban would hit several good principals: an office or a carrier's address, not one offender.
    pub(super) fn judge_shared(&self, source: Source, now: Now) -> Result<(), Refused> {
        let most = usize::try_from(self.settings.safety.shared_principals).unwrap_or(usize::MAX);
        let good = self.good_principals(source, now);
        if most == 0 || good < most {
            return Ok(());
        }
        let message = format!("{good} established good principals share {source}: rules may not ban it");
        Err(Refused::new("shared_source", message))
    }

    /// Whether a ban of `source` makes the share of good clients that are banned too large.
    pub(super) fn is_too_large_a_share(&self, source: Source, now: Now) -> bool {
        let (safety, breaker) = (&self.settings.safety, self.settings.safety.breaker);
        let (mut active, mut banned, mut hits) = (0_u64, 0_u64, false);
        if breaker.share >= 100 {
            return false;
        }
        for client in self.good.recent(safety.good_for, now.monotonic) {
            active += 1;
            let hit = source.covers(&client);
            hits |= hit;
            let by_rule = |record: &Record| record.rule.is_some() && !record.shadow;
            banned += u64::from(hit || self.find(client).is_some_and(by_rule));
        }
        hits && active >= u64::from(breaker.at_least) && banned * 100 > active * u64::from(breaker.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn client(number: u32, principal: u64) -> GoodClient {
        GoodClient { source: Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64), principal }
    }

    #[track_caller]
    fn check(notes: &[(u32, u64, u64)], source: &str, at: u64, recent: usize, established: usize) {
        let mut good = Good::default();
        for (number, principal, seconds) in notes {
            good.note(client(*number, *principal), TEN, seconds * SECOND);
        }
        let (source, now): (Source, u64) = (source.parse().unwrap(), at * SECOND);
        assert_eq!(good.recent(TEN, now).filter(|client| source.covers(client)).count(), recent, "{source} at {at}");
        assert_eq!(good.established(source, TEN, Duration::from_secs(5), now), established, "{source} at {at}");
    }

    #[test]
    fn good_for_a_while_and_established_after_one() {
        let notes = [(7, 1, 100), (7, 2, 100), (7, 1, 106), (8, 1, 106)];
        check(&notes, "0.0.0.7", 106, 1, 2);
        check(&notes, "0.0.0.7", 110, 1, 2);
        check(&notes, "0.0.0.7", 111, 1, 1);
        check(&notes, "0.0.0.7", 117, 0, 0);
        check(&notes, "0.0.0.0/24", 106, 2, 2);
        check(&notes, "0.0.0.0/24", 111, 2, 2);
        check(&notes, "0.0.1.0/24", 111, 0, 0);
        // Whoever was away begins anew.
        check(&[(7, 1, 100), (7, 1, 120)], "0.0.0.7", 121, 1, 0);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut good = Good::default();
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            good.note(client(number, 1), TEN, 100 * SECOND);
        }
        for principal in 0..100 {
            good.note(client(7, principal), TEN, (101 + principal / 20) * SECOND);
        }
        assert_eq!((good.clients.len(), good.clients[&client(7, 0).source].len()), (MOST, PRINCIPALS));
        good.note(client(u32::MAX, 1), TEN, 200 * SECOND);
        assert_eq!(good.clients.len(), 1);
    }
}
