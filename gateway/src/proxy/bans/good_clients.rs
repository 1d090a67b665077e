//! The clients that were served with a valid token. The guard is told each of them once in a while: it bans none of them
//! lightly.
//!
//! *Invariant:* a worker remembers at most [`REMEMBERED`] of them, and tells at most [`MAX_GOOD`] at a time. Over that
//! some are not told until the memory is emptied: the guard knows fewer good clients, never wrong ones.

use std::{
    cell::RefCell,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _},
};

use foldhash::quality::RandomState;
use gateway_common::source::Source;
use hashbrown::HashTable;

use crate::{
    message::{GoodClient, MAX_GOOD},
    os::clock::SECOND,
};

const REMEMBERED: usize = 16_384;

/// After so long a client is told again.
const AGAIN: u64 = 20 * SECOND;

/// The good clients that one worker has seen.
#[derive(Default)]
pub(in crate::proxy) struct GoodClients(RefCell<KnownClient>);

#[derive(Default)]
struct KnownClient {
    /// Their hashes. If two clients collide, which takes billions of them, the second is told later.
    told: HashTable<u64>,
    seed: RandomState,
    fresh: Vec<GoodClient>,
    emptied: u64,
    sent: u64,
}

impl GoodClients {
    /// A request of `source` with a token of `principal` succeeded.
    pub(in crate::proxy) fn note(&self, source: Source, principal: &str) {
        // Without a random key: the next proxy must give the same principals the same numbers.
        let mut hasher = DefaultHasher::new();
        principal.hash(&mut hasher);
        let client = GoodClient { source, principal: hasher.finish() };
        let mut known = self.0.borrow_mut();
        let hash = known.seed.hash_one(client);
        if known.fresh.len() >= MAX_GOOD || known.told.len() >= REMEMBERED {
            return;
        }
        if known.told.find(hash, |&told| told == hash).is_none() {
            known.told.insert_unique(hash, hash, |&told| told);
            known.fresh.push(client);
        }
    }

    /// What to tell the guard, about once a second. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    pub(in crate::proxy) fn take(&self, now: u64) -> Option<Vec<GoodClient>> {
        let mut known = self.0.borrow_mut();
        if now.saturating_sub(known.sent) < SECOND {
            return None;
        }
        known.sent = now;
        if now.saturating_sub(known.emptied) >= AGAIN {
            known.emptied = now;
            known.told.clear();
            let KnownClient { told, fresh, seed, .. } = &mut *known;
            for hash in fresh.iter().map(|client| seed.hash_one(client)) {
                told.insert_unique(hash, hash, |&told| told);
            }
        }
        (!known.fresh.is_empty()).then(|| std::mem::take(&mut known.fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_in_a_while() {
        let good = GoodClients::default();
        let source = |number: u32| Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
        let told = |now| good.take(now * SECOND).map_or(0, |told| told.len());
        for (now, expect) in [(100, 2), (101, 0), (119, 0), (120, 0), (121, 2)] {
            for principal in ["ada", "bob", "ada"] {
                good.note(source(1), principal);
            }
            assert_eq!(told(now), expect, "at {now}");
        }
        for number in 0..1_000_000 {
            good.note(source(number), "ada");
        }
        assert_eq!(told(122), MAX_GOOD);
        assert!(good.0.borrow().told.len() <= REMEMBERED);
    }
}
