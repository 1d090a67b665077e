//! A table of fixed capacity, keyed by clients, and what it evicts when it is full.
//!
//! *Invariant:* a table never holds more than it was made for. Whoever comes when it is full takes the place of the
//! least worthy of [`SAMPLES`] entries picked at random; its owner says what worth is. An entry worth more than the
//! crowd is therefore kept, and the cost of a newcomer does not depend on the table's size.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashTable;

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
/// that meet. Another `S` than the usual one is for keys that no client can choose.
pub struct Sharded<K, V, S = RandomState> {
    shards: Box<[Mutex<BoundedTable<K, V>>]>,
    seed: S,
}

/// A table of one thread, or the part of a [`Sharded`] one behind one lock. Whoever uses it brings the hashes of its
/// keys, which no client may be able to choose.
pub struct BoundedTable<K, V> {
    /// Where in `entries` keys are, by their hashes.
    places: HashTable<usize>,
    entries: Vec<Entry<K, V>>,
    capacity: usize,
    /// The state of the generator that picks samples (xorshift, Marsaglia 2003).
    dice: u64,
}

/// How a newcomer got its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// There was room.
    Free,
    /// None: whoever was picked must stay.
    None,
    /// Another entry was forgotten.
    Taken,
}

struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

/// The part of a [`Sharded`] table where one key belongs, locked for it: it is hashed once, whatever is done.
pub struct Locked<'a, K, V> {
    shard: MutexGuard<'a, BoundedTable<K, V>>,
    hash: u64,
}

impl<K: Hash + Eq, V, S: BuildHasher + Default> Sharded<K, V, S> {
    /// A table of at most `capacity` entries (at least one), none yet.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        // A power of two, so that a hash's low bits pick the lock.
        let shards = (capacity / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let seed = S::default();
        let shard = |at: usize| Mutex::new(BoundedTable::new(capacity / shards, seed.hash_one(at)));
        Self { shards: (0..shards).map(shard).collect(), seed }
    }

    /// Locks the part of the table where `key` belongs, for that key alone.
    pub fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> Locked<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let hash = self.seed.hash_one(key);
        // Others than the bits that the part itself tells its keys apart by.
        let place = usize::try_from((hash >> 32) & (MAX_SHARDS as u64 - 1)).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "there is at least one shard, and the mask is their number less one"
        )]
        let shard = &self.shards[place & (self.shards.len() - 1)];
        Locked { shard: lock(shard), hash }
    }

    /// Shows every entry. What is locked meanwhile is one part of the table at a time.
    pub fn each(&self, mut what: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            lock(shard).entries.iter().for_each(|entry| what(&entry.key, &entry.value));
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V, S> std::fmt::Debug for Sharded<K, V, S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys may be secrets.
        write!(out, "Sharded({} locks)", self.shards.len())
    }
}

impl<K: Eq, V> Locked<'_, K, V> {
    /// The entry of the key.
    pub fn find<Q: Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.shard.find(self.hash, key)
    }

    /// Adds an entry, or replaces the key's own. If the table is full, what `worth` values least of a sample goes.
    pub fn put<W: Ord>(&mut self, key: K, value: V, worth: impl Fn(&K, &V) -> W) {
        if let Some(there) = self.find(&key) {
            *there = value;
            return;
        }
        self.shard.add(self.hash, key, value, worth, |_| true);
    }

    /// Removes the key's entry, if there is one.
    pub fn forget<Q: Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.shard.forget(self.hash, key);
    }
}

impl<K: Eq, V> BoundedTable<K, V> {
    /// A table of at most `capacity` entries, none yet. `seed` is a random number.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { places: HashTable::new(), entries: Vec::new(), capacity: capacity.max(1), dice: seed | 1 }
    }

    /// How many entries there may be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// From now on it has room for `capacity` entries. Those that are there stay: what is too much is not replaced once it
    /// is forgotten.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// Every entry, whose value may be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|entry| (&entry.key, &mut entry.value))
    }

    /// Every value, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// The entry of a key.
    pub fn find<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(hash, key)?;
        self.entries.get_mut(place).map(|entry| &mut entry.value)
    }

    /// Removes a key's entry; whether there was one.
    pub fn forget<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let place = self.place(hash, key);
        if let Some(place) = place {
            self.forget_place(place);
        }
        place.is_some()
    }

    /// Forgets every entry.
    pub fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
    }

    fn place<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let is_it = |&place: &usize| {
            self.entries.get(place).is_some_and(|entry| entry.hash == hash && entry.key.borrow() == key)
        };
        self.places.find(hash, is_it).copied()
    }

    /// Adds the entry of a key that has none. If the table is full, what `worth` values least of a sample goes, if it
    /// `may_go`; if not, nothing is added.
    pub fn add<W: Ord>(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        worth: impl Fn(&K, &V) -> W,
        may_go: impl Fn(&V) -> bool,
    ) -> Insertion {
        let mut found = Insertion::Free;
        if self.entries.len() >= self.capacity {
            let sample: [usize; SAMPLES] = std::array::from_fn(|_| self.roll());
            let entries = &self.entries;
            let worth_of = |place: &usize| entries.get(*place).map(|entry| worth(&entry.key, &entry.value));
            let loser = sample.into_iter().min_by_key(worth_of);
            match loser.filter(|place| entries.get(*place).is_some_and(|entry| may_go(&entry.value))) {
                Some(loser) => self.forget_place(loser),
                None => return Insertion::None,
            }
            found = Insertion::Taken;
        }
        let entries = &self.entries;
        let hash_of = |&place: &usize| entries.get(place).map_or(0, |entry| entry.hash);
        self.places.insert_unique(hash, entries.len(), hash_of);
        self.entries.push(Entry { hash, key, value });
        found
    }

    fn forget_place(&mut self, place: usize) {
        let Some(last) = self.entries.len().checked_sub(1).filter(|_| place < self.entries.len()) else { return };
        let entry = self.entries.swap_remove(place);
        if let Ok(known) = self.places.find_entry(entry.hash, |&known| known == place) {
            known.remove();
        }
        // What was the last has come to its place.
        if let Some(moved) = self.entries.get(place)
            && let Some(its_place) = self.places.find_mut(moved.hash, |&known| known == last)
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
