//! Decides what is forgotten when a table keyed by clients is full.
//!
//! *Invariant:* a table never holds more than it was made for. Whoever comes when it is full takes the place of the
//! least worthy of [`SAMPLES`] entries picked at random; its owner says what worth is. An entry worth more than the
//! crowd is therefore kept, and the cost of a newcomer does not depend on the table's size.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[cfg(test)]
mod tests;

/// How many entries compete for being forgotten. Where one entry in eight is worth more than the crowd, a newcomer
/// costs one of them its place once in 10^14 times; with half of these samples it was once in 10^7, which a flood
/// reaches.
pub const SAMPLES: usize = 16;

/// The most locks that one table is spread over.
const MAX_SHARDS: usize = 64;

/// A table is not spread thinner than this, so that small ones hold exactly what they were made for.
const MIN_PER_SHARD: usize = 256;

/// A table shared by threads: spread over locks by a hash that is seeded at random, so that nobody can choose keys
/// that meet.
pub struct Sharded<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    seed: RandomState,
}

/// The part of a [`Sharded`] table behind one lock.
pub struct Shard<K, V> {
    /// Where in `entries` a key is.
    places: HashMap<K, usize>,
    entries: Vec<(K, V)>,
    capacity: usize,
    /// The state of the generator that picks samples (xorshift, Marsaglia 2003).
    dice: u64,
}

impl<K: Hash + Eq + Clone, V> Sharded<K, V> {
    /// A table of at most `capacity` entries (at least one), none yet.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        // A power of two, so that a hash's low bits pick the lock.
        let shards = (capacity / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let seed = RandomState::new();
        let shard = |at: usize| Mutex::new(Shard::new(capacity / shards, seed.hash_one(at)));
        Self { shards: (0..shards).map(shard).collect(), seed }
    }

    /// Locks the part of the table where `key` belongs.
    pub fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Shard<K, V>>
    where
        K: Borrow<Q>,
    {
        let hash = usize::try_from(self.seed.hash_one(key) & (MAX_SHARDS as u64 - 1)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one shard, and the mask is their number less one"
        )]
        let shard = &self.shards[hash & (self.shards.len() - 1)];
        // A panic while the lock was held left at worst a count behind; the daemon goes on.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> std::fmt::Debug for Sharded<K, V> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys may be secrets.
        write!(out, "Sharded({} locks)", self.shards.len())
    }
}

impl<K: Hash + Eq + Clone, V> Shard<K, V> {
    fn new(capacity: usize, seed: u64) -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), capacity, dice: seed | 1 }
    }

    /// The entry of `key`.
    pub fn find<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = *self.places.get(key)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Adds an entry, or replaces the key's own. If the table is full, what `worth` values least of a sample goes.
    pub fn put<W: Ord>(&mut self, key: K, value: V, worth: impl Fn(&K, &V) -> W) {
        if let Some(there) = self.find(&key) {
            *there = value;
            return;
        }
        if self.entries.len() >= self.capacity {
            let sample: [usize; SAMPLES] = std::array::from_fn(|_| self.roll());
            let entries = &self.entries;
            let worth_of = |place: &usize| entries.get(*place).map(|(key, value)| worth(key, value));
            if let Some(loser) = sample.into_iter().min_by_key(worth_of) {
                self.forget_place(loser);
            }
        }
        self.places.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
    }

    /// Removes the key's entry, if there is one.
    pub fn forget<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(place) = self.places.get(key).copied() {
            self.forget_place(place);
        }
    }

    fn forget_place(&mut self, place: usize) {
        if place >= self.entries.len() {
            return;
        }
        let (key, _) = self.entries.swap_remove(place);
        self.places.remove(&key);
        if let Some((moved, _)) = self.entries.get(place)
            && let Some(its_place) = self.places.get_mut(moved)
        {
            *its_place = place;
        }
    }

    /// The place of a random entry.
    fn roll(&mut self) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        usize::try_from(self.dice >> 16).unwrap_or(0) % self.entries.len().max(1)
    }
}
