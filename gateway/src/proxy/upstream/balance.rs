//! Load balancing: which of several servers gets a request. Pure: it is told which servers are usable, and their load.
//!
//! *Invariant:* a choice takes no lock and allocates nothing, and only a server whose bit is set in `usable` is chosen.

use std::cell::Cell;

use crate::{
    collections::mix::mix,
    settings::upstream::{Balance, UpstreamServer},
};

/// Points on the ring for each server, on average.
const POINTS: usize = 64;

/// How much more than its share a server may have to do before what belongs to it goes to the next: 5/4.
const BOUND: (u64, u64) = (5, 4);

/// A load-balancing algorithm, and what it remembers.
pub(super) struct Balancer {
    algorithm: Algorithm,
    weights: Box<[u32]>,
    /// Servers in the order of their turns, each as often as its weight says.
    schedule: Box<[u8]>,
    turn: Cell<usize>,
    random: Cell<u64>,
}

enum Algorithm {
    Hash(Box<[(u64, u8)]>),
    LeastRequests,
    RoundRobin,
}

impl Balancer {
    /// Workers begin at different servers: `seed` is a random number.
    pub(super) fn new(balance: &Balance, servers: &[UpstreamServer], seed: u64) -> Self {
        let weights: Box<[u32]> = servers.iter().map(|server| server.weight.max(1)).collect();
        let schedule = schedule(&weights);
        let turn = usize::try_from(seed % u64::try_from(schedule.len().max(1)).unwrap_or(1)).unwrap_or(0);
        let algorithm = match balance {
            Balance::Hash(_) => Algorithm::Hash(ring(servers)),
            Balance::LeastRequests => Algorithm::LeastRequests,
            Balance::RoundRobin => Algorithm::RoundRobin,
        };
        Self { algorithm, weights, schedule, turn: Cell::new(turn), random: Cell::new(seed | 1) }
    }

    /// Whether choosing takes how many requests are in flight.
    pub(super) const fn needs_load(&self) -> bool {
        !matches!(self.algorithm, Algorithm::RoundRobin)
    }

    /// A server among those whose bits are set in `usable`. `key` is what requests are alike by, `load` how many are in
    /// flight at a server.
    pub(super) fn choose(&self, usable: u64, key: u64, load: impl Fn(usize) -> u32) -> Option<usize> {
        if usable == 0 {
            return None;
        }
        match &self.algorithm {
            Algorithm::RoundRobin => {
                let turn = self.turn.get();
                self.turn.set(turn.wrapping_add(1));
                self.next(turn, usable)
            }
            Algorithm::LeastRequests => {
                let first = self.next(self.draw(), usable)?;
                let Some(second) = self.next(self.draw(), usable & !bit(first)) else { return Some(first) };
                let cost = |server: usize, other: usize| (u64::from(load(server)) + 1) * self.weight(other);
                Some(if cost(second, first) < cost(first, second) { second } else { first })
            }
            Algorithm::Hash(ring) => self.nearest(ring, usable, key, load),
        }
    }

    /// The first usable server from this place of the schedule on.
    fn next(&self, from: usize, usable: u64) -> Option<usize> {
        let start = from % self.schedule.len().max(1);
        let (before, after) = self.schedule.split_at_checked(start)?;
        after.iter().chain(before).map(|server| usize::from(*server)).find(|server| usable & bit(*server) != 0)
    }

    /// The server that `key` belongs to, or the next on the ring that has not too much to do already.
    fn nearest(&self, ring: &[(u64, u8)], usable: u64, key: u64, load: impl Fn(usize) -> u32) -> Option<usize> {
        let servers = || (0..self.weights.len()).filter(|server| usable & bit(*server) != 0);
        let (mut total, mut weights) = (1_u64, 0_u64);
        for server in servers() {
            total += u64::from(load(server));
            weights += self.weight(server);
        }
        let start = ring.partition_point(|(point, _)| *point < key);
        let (before, after) = ring.split_at_checked(start)?;
        let around = after.iter().chain(before).map(|(_, server)| usize::from(*server));
        let mut around = around.filter(|server| usable & bit(*server) != 0);
        let fits =
            |server: &usize| u64::from(load(*server)) * weights * BOUND.1 < total * self.weight(*server) * BOUND.0;
        around.find(fits).or_else(|| servers().next())
    }

    fn weight(&self, server: usize) -> u64 {
        self.weights.get(server).map_or(1, |weight| u64::from(*weight))
    }

    fn draw(&self) -> usize {
        usize::try_from(self.random() >> 33).unwrap_or(0)
    }

    /// xorshift64*: spread, not secret.
    pub(super) fn random(&self) -> u64 {
        let mut random = self.random.get();
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        self.random.set(random);
        random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The bit of a server.
pub(super) const fn bit(server: usize) -> u64 {
    if server < 64 { 1 << server } else { 0 }
}

/// Each server as often as its weight says, as far apart as can be (smooth weighted round robin).
fn schedule(weights: &[u32]) -> Box<[u8]> {
    let common = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / common)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut schedule = Vec::new();
    for _turn in 0..total {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        // The first among equals.
        let Some((next, most)) = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit) else { break };
        *most -= total;
        schedule.push(u8::try_from(next).unwrap_or(u8::MAX));
    }
    schedule.into()
}

const fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Points of every server in the order of their places. They depend on addresses and weights alone: every worker and
/// every proxy has the same, and a server that comes or goes moves only its own share.
fn ring(servers: &[UpstreamServer]) -> Box<[(u64, u8)]> {
    let total: usize = servers.iter().map(|server| usize::try_from(server.weight).unwrap_or(1)).sum();
    let mut ring = Vec::new();
    for (server, UpstreamServer { address, weight }) in (0_u8..).zip(servers) {
        let share = usize::try_from(*weight).unwrap_or(1) * servers.len() * POINTS / total.max(1);
        let place = hash(address.as_bytes());
        ring.extend((1..=u64::try_from(share.max(1)).unwrap_or(1)).map(|point| (mix(place ^ mix(point)), server)));
    }
    ring.sort_unstable();
    ring.into()
}

/// Where `bytes` lie on the ring: FNV-1a, then mixed. Whoever aims at one server gets there; the bound on its load
/// keeps it from being swamped.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests;
