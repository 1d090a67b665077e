//! Clients that are known to be good, as they were served with a valid token.
//!
//! What the proxy says of them is believed as far as it goes: a proxy in wrong hands can keep its friends from being
//! banned by rules, and can ban or unban nobody else.
//!
//! Who was good once is remembered for `guard.remember_good`, in the store as well: after a restart, and while nobody can
//! be served because a key of ours is wrong, customers are customers still.
//!
//! *Invariant:* at most [`MOST`] clients are known, with at most [`PRINCIPALS`] principals each. Where there is no room,
//! a new client takes the place of one that was not good lately, first of those that never were for long. A new principal
//! takes the place of one that was not good lately, too, and of no other: of the many that share an address, none would be
//! known for long. Whoever has many addresses of IPv6 takes no more than half of the room.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use gateway_common::source::Source;

use crate::{
    guard::store::good::{GoodPrincipal, GoodRow},
    message::GoodClient,
    os::clock::{Now, SECOND},
    settings::guard::Safety,
};

pub(in crate::guard::bans) const MOST: usize = 65_536;
const PRINCIPALS: usize = 16;

/// What one customer may have of IPv6 addresses, and from how many clients of it on no more are learned of where half of the
/// room is taken.
const ONE_CUSTOMER: u8 = 48;
const MANY_OF_ONE: u32 = 4_096;

/// How many make room at once, and how often at most, as all are looked through for it.
const MAKE_ROOM: usize = MOST / 16;
const MAKE_ROOM_EVERY: u64 = 10 * SECOND;

/// The store learns of a client that is still good after so long.
const SAVE_AGAIN: i64 = 300 * 1_000_000_000;

/// Clients that were served with a valid token.
#[derive(Debug, Default)]
pub(in crate::guard::bans) struct Good {
    clients: HashMap<Source, ClientRecord>,
    /// How many of them each network of IPv6 has.
    customers: HashMap<Source, u32>,
    made_room: u64,
    /// What the store does not know yet; each client once.
    unsaved: VecDeque<Source>,
    /// Who was forgotten, and the store does not know yet.
    forgotten: Vec<Source>,
}

#[derive(Debug, Default)]
struct ClientRecord {
    principals: Vec<KnownPrincipal>,
    /// When the store learned of it last.
    saved: Option<i64>,
    is_queued: bool,
}

/// Times are `CLOCK_MONOTONIC`, nanoseconds; below zero: before this boot.
#[derive(Clone, Copy, Debug)]
struct KnownPrincipal {
    hash: u64,
    first: i64,
    last: i64,
}

impl ClientRecord {
    fn last(&self) -> i64 {
        self.principals.iter().map(|principal| principal.last).max().unwrap_or(i64::MIN)
    }

    /// Whether there is room for one more principal: the one that was heard of least lately makes it, unless it was good
    /// lately.
    fn has_room(&mut self, good_for: Duration, now: i64) -> bool {
        if self.principals.len() < PRINCIPALS {
            return true;
        }
        let oldest = self.principals.iter().enumerate().min_by_key(|(_, known)| known.last);
        let oldest = oldest.filter(|(_, known)| !is_recent(known, good_for, now)).map(|(at, _)| at);
        oldest.is_some_and(|at| {
            self.principals.swap_remove(at);
            true
        })
    }

    fn is_established(&self, established: Duration, now: i64) -> bool {
        self.principals.iter().any(|principal| passed(principal.first, now) >= established.as_nanos())
    }
}

/// A moment of the monotonic clock, in the form that reaches back before boot.
fn moment(now: u64) -> i64 {
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// What has passed since `then`, in nanoseconds.
fn passed(then: i64, now: i64) -> u128 {
    u128::try_from(i128::from(now) - i128::from(then)).unwrap_or(0)
}

impl Good {
    /// What the store remembers, by the time that has passed on the wall clock.
    pub(in crate::guard::bans) fn read(rows: Vec<GoodRow>, now: Now) -> Self {
        let at = |unix_millis: u64| {
            let passed = now.unix_millis.saturating_sub(unix_millis).saturating_mul(1_000_000);
            moment(now.monotonic).saturating_sub(moment(passed))
        };
        let mut good = Self::default();
        for GoodRow { source, principals } in rows {
            let principals = principals.into_iter().take(PRINCIPALS);
            let principals: Vec<_> = principals
                .map(|one| KnownPrincipal {
                    hash: one.hash,
                    first: at(one.first).min(at(one.last)),
                    last: at(one.last),
                })
                .collect();
            let client = ClientRecord { principals, saved: None, is_queued: false };
            let saved = Some(client.last());
            good.clients.insert(source, ClientRecord { saved, ..client });
            good.came(source);
        }
        good
    }

    /// `principal` was served at `source`.
    pub(in crate::guard::bans) fn note(&mut self, client: GoodClient, safety: &Safety, now: u64) {
        if !self.clients.contains_key(&client.source) {
            if self.is_crowding(client.source) {
                return;
            }
            if self.clients.len() >= MOST {
                self.make_room(safety, now);
            }
            if self.clients.len() >= MOST {
                return;
            }
            self.came(client.source);
        }
        let now = moment(now);
        let known = self.clients.entry(client.source).or_default();
        known.principals.retain(|principal| passed(principal.last, now) <= safety.remember_good.as_nanos());
        if let Some(principal) = known.principals.iter_mut().find(|known| known.hash == client.principal) {
            principal.last = now;
        } else if known.has_room(safety.good_for, now) {
            known.principals.push(KnownPrincipal { hash: client.principal, first: now, last: now });
            known.saved = None;
        }
        if !known.is_queued && known.saved.is_none_or(|saved| now.saturating_sub(saved) >= SAVE_AGAIN) {
            known.is_queued = true;
            self.unsaved.push_back(client.source);
        }
    }

    fn came(&mut self, source: Source) {
        if let Some(customer) = customer(source) {
            *self.customers.entry(customer).or_default() += 1;
        }
    }

    fn went(&mut self, source: Source) {
        let Some(customer) = customer(source) else { return };
        if let Some(count) = self.customers.get_mut(&customer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.customers.remove(&customer);
            }
        }
    }

    /// Whether a new client would take room that is for others.
    fn is_crowding(&self, source: Source) -> bool {
        let of_one = || customer(source).and_then(|customer| self.customers.get(&customer)).copied().unwrap_or(0);
        self.clients.len() >= MOST / 2 && of_one() >= MANY_OF_ONE
    }

    fn make_room(&mut self, safety: &Safety, now: u64) {
        if now.saturating_sub(self.made_room) < MAKE_ROOM_EVERY {
            return;
        }
        self.made_room = now;
        let now = moment(now);
        let lately = |client: &ClientRecord| client.principals.iter().any(|one| is_recent(one, safety.good_for, now));
        let old = self.clients.iter().filter(|(_, client)| !lately(client));
        let mut old: Vec<(bool, i64, Source)> =
            old.map(|(source, one)| (one.is_established(safety.established, now), one.last(), *source)).collect();
        if old.len() > MAKE_ROOM {
            old.select_nth_unstable(MAKE_ROOM);
            old.truncate(MAKE_ROOM);
        }
        for (.., source) in old {
            self.clients.remove(&source);
            self.went(source);
            self.forgotten.push(source);
        }
    }

    /// Clients that were good lately.
    pub(in crate::guard::bans) fn recent(&self, good_for: Duration, now: u64) -> impl Iterator<Item = Source> {
        let now = moment(now);
        let recent = move |principal: &KnownPrincipal| is_recent(principal, good_for, now);
        self.clients.iter().filter(move |(_, known)| known.principals.iter().any(recent)).map(|(source, _)| *source)
    }

    /// Whether anything is remembered of this very client.
    pub(in crate::guard::bans) fn contains(&self, source: Source) -> bool {
        self.clients.contains_key(&source)
    }

    /// Whether this very client was good within `within`.
    pub(in crate::guard::bans) fn is_recent(&self, source: Source, within: Duration, now: u64) -> bool {
        let known = self.clients.get(&source);
        known.is_some_and(|known| known.principals.iter().any(|one| is_recent(one, within, moment(now))))
    }

    /// Whether this client was ever good, as far as is remembered, and if so, whether it was for long enough.
    pub(in crate::guard::bans) fn knows(&self, source: Source, safety: &Safety, now: u64) -> Option<bool> {
        let known = self.clients.get(&source)?;
        let now = moment(now);
        let is_known = passed(known.last(), now) <= safety.remember_good.as_nanos();
        is_known.then(|| known.is_established(safety.established, now))
    }

    /// How many principals were good for long at these very clients, each counted once: whoever has many addresses is one.
    pub(in crate::guard::bans) fn principals(
        &self,
        clients: impl Iterator<Item = Source>,
        safety: &Safety,
        now: u64,
    ) -> usize {
        let now = moment(now);
        let is_good = |one: &&KnownPrincipal| {
            passed(one.first, now) >= safety.established.as_nanos()
                && passed(one.last, now) <= safety.remember_good.as_nanos()
        };
        let all = clients.filter_map(|client| self.clients.get(&client)).flat_map(|client| &client.principals);
        all.filter(is_good).map(|one| one.hash).collect::<HashSet<_>>().len()
    }

    /// How many principals in `source` are good lately and have been for `established`.
    pub(in crate::guard::bans) fn established(
        &self,
        source: Source,
        good_for: Duration,
        established: Duration,
        now: u64,
    ) -> usize {
        let now = moment(now);
        let counts = |principal: &&KnownPrincipal| {
            is_recent(principal, good_for, now) && passed(principal.first, now) >= established.as_nanos()
        };
        let count = |client: &ClientRecord| client.principals.iter().filter(counts).count();
        if let Some(client) = self.clients.get(&source) {
            return count(client);
        }
        let inside = self.clients.iter().filter(|(client, _)| source.covers(client));
        inside.map(|(_, client)| count(client)).sum()
    }

    /// Some of what the store does not know yet, as it is to be written, and who is to be forgotten.
    pub(in crate::guard::bans) fn unsaved(&mut self, most: usize, now: Now) -> (Vec<GoodRow>, Vec<Source>) {
        let unix = |at: i64| {
            let millis = passed(at, moment(now.monotonic)) / 1_000_000;
            now.unix_millis.saturating_sub(u64::try_from(millis).unwrap_or(u64::MAX))
        };
        let forgotten = self.forgotten.split_off(self.forgotten.len().saturating_sub(most));
        let mut rows = Vec::new();
        while rows.len() + forgotten.len() < most
            && let Some(source) = self.unsaved.pop_front()
        {
            let Some(client) = self.clients.get_mut(&source) else { continue };
            (client.is_queued, client.saved) = (false, Some(client.last()));
            let row =
                |one: &KnownPrincipal| GoodPrincipal { hash: one.hash, first: unix(one.first), last: unix(one.last) };
            rows.push(GoodRow { source, principals: client.principals.iter().map(row).collect() });
        }
        (rows, forgotten)
    }

    /// The store has lost all of them.
    pub(in crate::guard::bans) fn save_again(&mut self) {
        for (source, client) in &mut self.clients {
            if !std::mem::replace(&mut client.is_queued, true) {
                self.unsaved.push_back(*source);
            }
        }
    }

    /// The store did not take it: it is tried again.
    pub(in crate::guard::bans) fn put_back(&mut self, rows: Vec<GoodRow>, forgotten: Vec<Source>) {
        self.forgotten.extend(forgotten);
        for row in rows {
            if let Some(client) = self.clients.get_mut(&row.source) {
                client.is_queued = true;
                self.unsaved.push_back(row.source);
            }
        }
    }
}

/// The network of whoever has an address of IPv6.
fn customer(source: Source) -> Option<Source> {
    let address = source.address();
    if address.is_ipv4() { None } else { Source::network(address, ONE_CUSTOMER) }
}

fn is_recent(principal: &KnownPrincipal, good_for: Duration, now: i64) -> bool {
    now >= principal.first && passed(principal.last, now) <= good_for.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::MINUTE;

    const TEN: Duration = Duration::from_secs(10);

    fn safety() -> Safety {
        let remember_good = Duration::from_secs(1_000);
        Safety { good_for: TEN, established: Duration::from_secs(5), remember_good, ..Safety::default() }
    }

    fn client(number: u32, principal: u64) -> GoodClient {
        GoodClient { source: Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64), principal }
    }

    fn at(seconds: u64) -> Now {
        Now { monotonic: seconds * SECOND, unix_millis: 1_700_000_000_000 + seconds * 1_000 }
    }

    /// The same clients as the next guard reads them, on a clock that started anew after a reboot.
    fn reread(good: &mut Good, now: Now, then: Now) -> Good {
        let (rows, forgotten) = good.unsaved(usize::MAX, now);
        assert_eq!(forgotten, []);
        Good::read(rows, then)
    }

    #[track_caller]
    fn check(notes: &[(u32, u64, u64)], source: &str, seconds: u64, expect: (usize, usize, Option<bool>)) {
        let mut good = Good::default();
        for (number, principal, seconds) in notes {
            good.note(client(*number, *principal), &safety(), seconds * SECOND);
        }
        let source: Source = source.parse().unwrap();
        let (before, rebooted) = (at(200), Now { monotonic: 1_000_000, unix_millis: at(seconds).unix_millis });
        let stored = reread(&mut good, before, rebooted);
        for (good, now, case) in [(good, at(seconds), "running"), (stored, rebooted, "after a reboot")] {
            let found = (
                good.recent(TEN, now.monotonic).filter(|client| source.covers(client)).count(),
                good.established(source, TEN, Duration::from_secs(5), now.monotonic),
                good.knows(source, &safety(), now.monotonic),
            );
            assert_eq!(found, expect, "{source} at {seconds}, {case}");
        }
    }

    #[test]
    fn good_for_a_while_and_established_after_one() {
        let notes = [(7, 1, 100), (7, 2, 100), (7, 1, 106), (8, 1, 106)];
        check(&notes, "0.0.0.7", 106, (1, 2, Some(true)));
        check(&notes, "0.0.0.8", 106, (1, 0, Some(false)));
        check(&notes, "0.0.0.7", 110, (1, 2, Some(true)));
        check(&notes, "0.0.0.7", 111, (1, 1, Some(true)));
        check(&notes, "0.0.0.7", 117, (0, 0, Some(true)));
        check(&notes, "0.0.0.9", 106, (0, 0, None));
        check(&notes, "0.0.0.0/24", 106, (2, 2, None));
        check(&notes, "0.0.0.0/24", 111, (2, 2, None));
        check(&notes, "0.0.1.0/24", 111, (0, 0, None));
        // Remembered for long, not for ever.
        check(&notes, "0.0.0.7", 1_106, (0, 0, Some(true)));
        check(&notes, "0.0.0.7", 1_107, (0, 0, None));
        check(&[(7, 1, 100), (7, 1, 120)], "0.0.0.7", 121, (1, 1, Some(true)));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut good = Good::default();
        let most = u32::try_from(MOST).unwrap();
        for number in 0..most + 10 {
            good.note(client(number, 1), &safety(), 100 * SECOND);
        }
        for principal in 0..100 {
            good.note(client(7, principal), &safety(), (101 + principal / 20) * SECOND);
        }
        assert_eq!((good.clients.len(), good.clients[&client(7, 0).source].principals.len()), (MOST, PRINCIPALS));
        assert_eq!(good.unsaved.len(), MOST, "each once");
        // Nobody goes who was good lately; then those that never were for long go first.
        good.note(client(u32::MAX, 1), &safety(), 105 * SECOND);
        assert!(!good.clients.contains_key(&client(u32::MAX, 1).source));
        good.note(client(u32::MAX, 1), &safety(), 200 * SECOND);
        assert!(good.clients.contains_key(&client(u32::MAX, 1).source));
        assert_eq!((good.clients.len(), good.forgotten.len()), (MOST - MAKE_ROOM + 1, MAKE_ROOM));
        good.note(client(most + 100, 1), &safety(), 201 * SECOND);
        assert_eq!(good.clients.len(), MOST - MAKE_ROOM + 2);
    }

    /// However many principals share an address, some of them are known for long: each is told of every 20 seconds, in any
    /// order.
    #[test]
    fn n01_a_crowd_that_shares_an_address_shields_it() {
        let safety = Safety::default();
        let source = client(7, 0).source;
        for (principals, expect) in [(1_u64, 1), (5, 5), (16, 16), (17, 16), (60, 16), (1_000, 16)] {
            let mut good = Good::default();
            let mut seconds = 100;
            for round in 0..30 {
                for number in 0..principals {
                    let principal = (number * 7 + round) % principals;
                    good.note(client(7, principal), &safety, (seconds + number * 20 / principals) * SECOND);
                }
                seconds += 20;
            }
            let now = seconds * SECOND;
            let found = good.established(source, safety.good_for, safety.established, now);
            assert_eq!((found, good.knows(source, &safety, now)), (expect, Some(true)), "{principals}");
            // Others come once those have left.
            let later = now + u64::try_from(safety.good_for.as_nanos()).unwrap() + SECOND;
            for principal in 0..5 {
                good.note(client(7, 10_000 + principal), &safety, later);
            }
            let now = later + 2 * MINUTE;
            assert_eq!(good.established(source, safety.good_for, safety.established, now), 5, "{principals}, later");
        }
    }

    #[test]
    fn whoever_has_many_addresses_leaves_room_for_others() {
        let mut good = Good::default();
        let of = |network: u16, host: u16| GoodClient {
            source: Source::of(std::net::Ipv6Addr::new(0x2001, 0xdb8, network, host, 0, 0, 0, 1).into(), 64),
            principal: 1,
        };
        for host in 0..u16::MAX {
            good.note(of(1, host), &safety(), 100 * SECOND);
        }
        assert_eq!(good.clients.len(), MOST / 2);
        for host in 0..4_200 {
            good.note(of(2, host), &safety(), 100 * SECOND);
        }
        for number in 0..u32::try_from(MOST).unwrap() / 4 {
            good.note(client(number, 1), &safety(), 100 * SECOND);
        }
        let many = usize::try_from(MANY_OF_ONE).unwrap();
        assert_eq!(good.clients.len(), MOST / 2 + many + MOST / 4);
        // What is forgotten makes room.
        good.note(of(1, 0), &safety(), 105 * SECOND);
        for number in 0..u32::try_from(MOST).unwrap() {
            good.note(client(number, 1), &safety(), 200 * SECOND);
        }
        let counted: u32 = good.customers.values().sum();
        let there = good.clients.keys().filter(|source| !source.address().is_ipv4()).count();
        assert_eq!(usize::try_from(counted).unwrap(), there);
        assert!(there < MOST / 2 + many);
    }

    #[test]
    fn the_store_learns_of_each_now_and_then() {
        let mut good = Good::default();
        let mut written = |seconds: u64| {
            good.note(client(7, 1), &safety(), seconds * SECOND);
            good.unsaved(10, at(seconds)).0.len()
        };
        assert_eq!([100, 101, 399, 400, 401].map(&mut written), [1, 0, 0, 1, 0]);
        good.note(client(7, 2), &safety(), 402 * SECOND);
        let (rows, forgotten) = good.unsaved(10, at(402));
        assert_eq!((rows.len(), rows[0].principals.len()), (1, 2));
        good.put_back(rows.clone(), forgotten);
        assert_eq!(good.unsaved(10, at(402)).0, rows);
    }
}
