//! The bans that the proxy itself enforces: at accept, and request by request behind a trusted proxy. The kernel drops the
//! same sources; this covers machines without XDP, and the moment before a ban is in the kernel's map.
//!
//! *Invariant:* at most [`CAPACITY`] bans of single clients and [`WIDE`] bans of networks are kept here. Expired bans make
//! room first. A ban that still finds no room is enforced by the kernel's map alone, which holds every ban.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gateway_common::source::Source;

use super::slowed::SlowedSources;
use crate::message::{AllowInForce, BanInForce, MAX_REFUSED};

const CAPACITY: usize = 131_072;
const WIDE: usize = 1_024;

/// How often the guard is told how much the bans refused, in nanoseconds.
const TELL_EVERY: u64 = 500_000_000;

/// The bans in force, shared by the workers.
pub(in crate::proxy) struct EnforcedBans {
    ipv6_prefix: u8,
    table: RwLock<BanTable>,
    /// Bans and allowed sources that found no room.
    lost: AtomicU64,
    /// Whether any ban has refused something that the guard was not told.
    has_refused: AtomicBool,
    /// The guard is told not before then.
    tell_at: AtomicU64,
    /// Sources that are limited and not banned.
    pub(in crate::proxy) slowed: SlowedSources,
}

/// A ban in force.
struct EnforcedBan {
    id: u64,
    until: u64,
    /// Refused requests and connections that the guard was not told.
    refused: AtomicU64,
}

#[derive(Default)]
struct BanTable {
    /// Bans of single clients.
    clients: HashMap<Source, EnforcedBan>,
    /// The table was found full, and no ban of it expires before this: it is not searched for room until then.
    full_until: u64,
    /// Bans of everything wider or narrower than a client.
    networks: Vec<(Source, EnforcedBan)>,
    /// Allowed sources: they are let through even if a network around them is banned.
    allowed: HashSet<Source>,
}

impl EnforcedBans {
    pub(in crate::proxy) fn new(ipv6_prefix: u8) -> Self {
        Self {
            ipv6_prefix,
            table: RwLock::default(),
            lost: AtomicU64::default(),
            has_refused: AtomicBool::new(false),
            tell_at: AtomicU64::new(0),
            slowed: SlowedSources::default(),
        }
    }

    /// Refuses those of `bans` and nobody else, and lets those of `allows` through: from one moment to the next. What a
    /// ban has refused so far stays to be told.
    pub(in crate::proxy) fn replace(&self, bans: &[BanInForce], allows: &[AllowInForce], now: u64) {
        let mut table = BanTable::default();
        for allow in allows {
            self.count(table.allow(allow.source));
        }
        for ban in bans {
            self.count(table.enter(ban.id, ban.source, ban.expires, now, self.ipv6_prefix));
        }
        let Ok(mut current) = self.table.write() else { return };
        let before = std::mem::replace(&mut *current, table);
        for (source, ban) in before.clients.into_iter().chain(before.networks) {
            if let Some(same) = current.find(source).filter(|same| same.id == ban.id) {
                same.refused.fetch_add(ban.refused.into_inner(), Ordering::Relaxed);
            }
        }
    }

    /// Refuses `source` until `expires`. `false`: the table is full.
    pub(in crate::proxy) fn add(&self, id: u64, source: Source, expires: u64, now: u64) -> bool {
        self.count(self.enter(id, source, expires, now))
    }

    /// How many bans and allowed sources found no room since the last call.
    pub(in crate::proxy) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn count(&self, fits: bool) -> bool {
        self.lost.fetch_add(u64::from(!fits), Ordering::Relaxed);
        fits
    }

    fn enter(&self, id: u64, source: Source, expires: u64, now: u64) -> bool {
        self.table.write().is_ok_and(|mut table| table.enter(id, source, expires, now, self.ipv6_prefix))
    }

    /// Whether the ban `id` of `source` is still the one in force.
    pub(in crate::proxy) fn holds(&self, id: u64, source: Source) -> bool {
        self.table.read().is_ok_and(|table| table.find(source).is_some_and(|ban| ban.id == id))
    }

    pub(in crate::proxy) fn lift(&self, source: Source) {
        let Ok(mut table) = self.table.write() else { return };
        table.clients.remove(&source);
        table.networks.retain(|(other, _)| *other != source);
    }

    /// Lets `source` through, even if a network around it is banned. `false`: the table is full.
    pub(in crate::proxy) fn allow(&self, source: Source) -> bool {
        self.count(self.table.write().is_ok_and(|mut table| table.allow(source)))
    }

    pub(in crate::proxy) fn disallow(&self, source: Source) {
        let Ok(mut table) = self.table.write() else { return };
        table.allowed.remove(&source);
    }

    pub(in crate::proxy) fn allows(&self, address: IpAddr) -> bool {
        self.table.read().is_ok_and(|table| table.allows(address))
    }

    /// Whether `address` is banned now. Counts the refusal on its ban.
    pub(in crate::proxy) fn refuses(&self, address: IpAddr, now: u64) -> bool {
        // A poisoned lock means that a thread panicked while it held it; the kernel still enforces the bans.
        let Ok(table) = self.table.read() else { return false };
        let Some(ban) = table.ban_of(address, self.ipv6_prefix, now) else { return false };
        ban.refused.fetch_add(1, Ordering::Relaxed);
        self.has_refused.store(true, Ordering::Relaxed);
        true
    }

    /// Whether `address` is banned now.
    pub(in crate::proxy) fn bans(&self, address: IpAddr, now: u64) -> bool {
        self.table.read().is_ok_and(|table| table.ban_of(address, self.ipv6_prefix, now).is_some())
    }

    /// How much each ban has refused since the last call. At most [`MAX_REFUSED`] bans are told at a time, and usually
    /// none.
    pub(in crate::proxy) fn take_refused(&self, now: u64) -> Vec<(u64, u64)> {
        if now < self.tell_at.load(Ordering::Relaxed) || !self.has_refused.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        self.tell_at.store(now.saturating_add(TELL_EVERY), Ordering::Relaxed);
        let Ok(table) = self.table.read() else { return Vec::new() };
        let bans = table.clients.values().chain(table.networks.iter().map(|(_, ban)| ban));
        let taken = bans.filter(|ban| ban.refused.load(Ordering::Relaxed) > 0).take(MAX_REFUSED);
        let taken: Vec<_> = taken.map(|ban| (ban.id, ban.refused.swap(0, Ordering::Relaxed))).collect();
        if taken.len() == MAX_REFUSED {
            self.has_refused.store(true, Ordering::Relaxed);
        }
        taken
    }
}

impl BanTable {
    /// Refuses `source` until `expires`. `false`: it is full.
    fn enter(&mut self, id: u64, source: Source, expires: u64, now: u64, ipv6_prefix: u8) -> bool {
        let ban = EnforcedBan { id, until: expires, refused: AtomicU64::new(0) };
        if source.key(ipv6_prefix).is_none() {
            self.networks.retain(|(other, ban)| *other != source && ban.until > now);
            if self.networks.len() >= WIDE {
                return false;
            }
            self.networks.push((source, ban));
            return true;
        }
        if self.clients.len() >= CAPACITY && !self.clients.contains_key(&source) {
            if now < self.full_until {
                return false;
            }
            self.clients.retain(|_, ban| ban.until > now);
            if self.clients.len() >= CAPACITY {
                self.full_until = self.clients.values().map(|ban| ban.until).min().unwrap_or(0);
                return false;
            }
        }
        self.clients.insert(source, ban);
        true
    }

    /// Lets `source` through. `false`: it is full.
    fn allow(&mut self, source: Source) -> bool {
        let fits = self.allowed.len() < CAPACITY || self.allowed.contains(&source);
        if fits {
            self.allowed.insert(source);
        }
        fits
    }

    /// The ban of exactly this source.
    fn find(&self, source: Source) -> Option<&EnforcedBan> {
        let network = || self.networks.iter().find(|(network, _)| *network == source).map(|(_, ban)| ban);
        self.clients.get(&source).or_else(network)
    }

    /// The ban that an address is refused by.
    fn ban_of(&self, address: IpAddr, ipv6_prefix: u8, now: u64) -> Option<&EnforcedBan> {
        let client = Source::of(address, ipv6_prefix);
        let narrow = self.clients.get(&client).filter(|ban| ban.until > now);
        let wide = || self.networks.iter().find(|(network, ban)| ban.until > now && network.contains(address));
        narrow.or_else(|| wide().map(|(_, ban)| ban)).filter(|_| !self.allows(address))
    }

    /// Looks up every network that could hold the address: at most 129, and only for an address that is banned.
    fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        !self.allowed.is_empty()
            && (0..=width)
                .any(|length| Source::network(address, length).is_some_and(|network| self.allowed.contains(&network)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_put_in_the_place_of_what_was() {
        let ban = |id, text: &str| BanInForce { id, source: text.parse().unwrap(), expires: 100 };
        let allow = |text: &str| AllowInForce { source: text.parse().unwrap() };
        let banned = EnforcedBans::new(64);
        let refuses = |address: &str| banned.refuses(address.parse().unwrap(), 0);
        let before = [ban(1, "203.0.113.7"), ban(2, "203.0.113.8"), ban(3, "198.51.100.0/24"), ban(4, "192.0.2.1")];
        banned.replace(&before, &[allow("192.0.2.1")], 0);
        assert!(refuses("203.0.113.7") && refuses("203.0.113.8") && refuses("198.51.100.9") && !refuses("192.0.2.1"));
        // One is lifted, one is another ban, one is new; nobody is allowed any more.
        let after = [ban(1, "203.0.113.7"), ban(7, "198.51.100.0/24"), ban(4, "192.0.2.1"), ban(8, "192.0.2.2")];
        banned.replace(&after, &[], 0);
        assert!(!banned.bans("203.0.113.8".parse().unwrap(), 0) && banned.bans("192.0.2.2".parse().unwrap(), 0));
        assert!(refuses("203.0.113.7") && refuses("192.0.2.1"));
        let mut refused = banned.take_refused(0);
        refused.sort_unstable();
        assert_eq!(refused, [(1, 2), (4, 1)], "what the first had refused is told, and of no other");
    }

    #[test]
    fn refuses_until_the_end() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        let ban = |text: &str| BanInForce { id: 1, source: source(text), expires: 100 };
        let banned = EnforcedBans::new(64);
        banned.replace(&[ban("203.0.113.7"), ban("2001:db8::/64"), ban("198.51.100.0/24")], &[], 0);
        let check = |address: &str, now: u64, expect: bool| {
            assert_eq!(banned.refuses(address.parse().unwrap(), now), expect, "{address} at {now}");
        };
        check("203.0.113.7", 99, true);
        check("::ffff:203.0.113.7", 99, true);
        check("203.0.113.7", 100, false);
        check("203.0.113.8", 0, false);
        check("2001:db8::1234", 0, true);
        check("2001:db8:0:1::1234", 0, false);
        check("198.51.100.200", 0, true);
        check("198.51.100.200", 100, false);
        banned.allow(source("198.51.100.128/25"));
        check("198.51.100.200", 0, false);
        check("198.51.100.7", 0, true);
        banned.disallow(source("198.51.100.128/25"));
        check("198.51.100.200", 0, true);
        assert_eq!(banned.take_refused(0).iter().map(|(_, refused)| refused).sum::<u64>(), 6, "each refusal counts");
        assert_eq!(banned.take_refused(u64::MAX), []);
        for (id, of, expect) in [
            (1, "203.0.113.7", true),
            (1, "198.51.100.0/24", true),
            (2, "203.0.113.7", false),
            (1, "203.0.113.8", false),
        ] {
            assert_eq!(banned.holds(id, source(of)), expect, "{id} of {of}");
        }
        banned.lift(source("203.0.113.7"));
        banned.lift(source("198.51.100.0/24"));
        assert!(!banned.holds(1, source("203.0.113.7")) && !banned.holds(1, source("198.51.100.0/24")));
        check("203.0.113.7", 0, false);
        check("198.51.100.200", 0, false);
        for index in 0..=u32::try_from(CAPACITY).unwrap() {
            let address = IpAddr::V4((0x0a00_0000 + index).into());
            let added = banned.add(1, Source::of(address, 64), u64::from(index) + 1, 0);
            assert_eq!(added, usize::try_from(index).unwrap() < CAPACITY - 1, "{address}");
        }
        assert_eq!((banned.take_lost(), banned.take_lost()), (2, 0));
        let late = source("203.0.113.99");
        assert!(banned.add(2, late, 1_000_000, 1_000));
        check("203.0.113.99", 1_000, true);
    }
}
