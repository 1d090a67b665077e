//! The rules of one address family: two tries, one in force and one spare.
//!
//! Both are made at start, because making a map needs rights that the guard gives up. A replacement fills the spare
//! one and swaps them in one step; packets see all of the old rules or all of the new.

use std::{
    io,
    ops::RangeInclusive,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    thread,
    time::Duration,
};

use aya::{
    Ebpf, Pod,
    maps::{ArrayOfMaps, IterableMap as _, LpmTrie, Map, MapData, MapError, MapType, lpm_trie::Key},
};
use gateway_common::{maps::Rule, presence, source::Source};

use super::bits::{self, Bits};
use crate::guard::kernel::{
    error::{KernelError, refused},
    load::{
        MapShape,
        object::{Laid, map, take},
    },
    sys,
};

/// `BPF_F_NO_PREALLOC`, which tries demand.
pub(in crate::guard::kernel) const NO_PREALLOC: u32 = 1;

/// How often an entry is tried again for which the kernel has no memory at the moment (seen since Linux 6.13, although
/// memory is free), and how long it waits between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_micros(100);

/// How many rules are read at once where others wait.
const PIECE: u32 = 1_024;

type Trie<const N: usize> = LpmTrie<MapData, [u8; N], Laid<Rule>>;

/// A prefix as it is in the map: the address, and how many of its bits count.
pub(in crate::guard::kernel) type Prefix<const N: usize> = ([u8; N], u8);

/// The rules of one family.
pub(in crate::guard::kernel) struct Tries<const N: usize>
where
    [u8; N]: Pod,
{
    name: &'static str,
    outer: ArrayOfMaps<MapData, Trie<N>>,
    tries: [Trie<N>; 2],
    /// Which of the two is in force.
    active: usize,
    capacity: u32,
    bits: Bits,
    /// Bits of rules that were swapped away are still set: how far those in force were counted again.
    stale: Option<Recount>,
}

/// The bits of the rules in force, as far as they were read.
struct Recount {
    place: sys::BatchCursor,
    words: Vec<u64>,
}

impl<const N: usize> Tries<N>
where
    [u8; N]: Pod,
{
    /// Takes over the tries pinned under `folder`, or makes them. Rules in force stay in force.
    pub(in crate::guard::kernel) fn open(
        ebpf: &mut Ebpf,
        [name, bits]: [&'static str; 2],
        folder: &Path,
        capacity: u32,
    ) -> Result<Self, KernelError> {
        let (outer, bits_map) = (take(ebpf, name)?, map(ebpf, bits)?);
        let shape = shape::<N>(name, capacity);
        let in_force = match &outer {
            Map::ArrayOfMaps(data) => sys::inner_id(data.fd().as_fd()),
            _ => Err(io::Error::other("not an array of maps")),
        }
        .map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
        let paths = ["A", "B"].map(|letter| folder.join(format!("{name}_{letter}")));
        let mut active = None;
        let mut carried = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let Some(pinned) = shape.pinned(path)? else { continue };
            let is_active = in_force.is_some_and(|id| pinned.id == Some(id));
            if pinned.fits {
                active = if is_active { Some(index) } else { active };
            } else {
                if is_active && pinned.is_readable {
                    carried = entries::<N>(pinned.map.fd().as_fd(), pinned.entries)
                        .map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
                }
                shape.unpin(path)?;
            }
        }
        let [a, b] = paths.map(|path| Self::trie(name, &path, capacity));
        let outer = outer.try_into().map_err(refused(name, "opening"))?;
        let (tries, mut there) = ([a?, b?], carried.clone());
        if let Some(trie) = active.and_then(|active| tries.get(active)) {
            let read = entries::<N>(trie.map().fd().as_fd(), capacity);
            there = read.map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
        }
        // A trie that is about to be replaced is in force a moment longer.
        let bits = Bits::open(bits, bits_map, there.iter().flat_map(|(prefix, _)| bits_of(*prefix)))?;
        let mut tries = Self { name, outer, tries, active: active.unwrap_or(1), capacity, bits, stale: None };
        if active.is_none() {
            // Also where a trie was resized: the rules that were in force come along, and the program that is attached
            // sees them throughout.
            tries.swap(&carried)?;
        }
        Ok(tries)
    }

    /// Opens the tries pinned under `folder` and makes none.
    pub(in crate::guard::kernel) fn open_pinned(
        name: &'static str,
        outer: Map,
        bits: Bits,
        folder: &Path,
    ) -> Result<Self, KernelError> {
        let Map::ArrayOfMaps(data) = &outer else {
            return Err(KernelError::Object(format!("{name} is not an array of maps")));
        };
        let in_force = sys::inner_id(data.fd().as_fd()).map_err(|source| KernelError::Map {
            map: name,
            operation: "reading",
            source,
        })?;
        let mut shape = shape::<N>(name, 0);
        let (mut tries, mut active) = (Vec::new(), 0);
        for (index, letter) in ["A", "B"].into_iter().enumerate() {
            let path = folder.join(format!("{name}_{letter}"));
            let pinned = shape.pinned(&path)?.filter(|pinned| pinned.is_readable);
            let Some(pinned) = pinned else {
                let reason = "no trie of this program's layout is pinned there".to_owned();
                return Err(KernelError::Pin { path: path.display().to_string(), reason });
            };
            if in_force.is_some() && pinned.id == in_force {
                active = index;
            }
            shape.entries = pinned.entries;
            tries.push(Map::LpmTrie(pinned.map).try_into().map_err(refused(name, "opening"))?);
        }
        let outer = outer.try_into().map_err(refused(name, "opening"))?;
        let tries = tries.try_into().map_err(|_two| KernelError::Object(format!("{name} has no two tries")))?;
        Ok(Self { name, outer, tries, active, capacity: shape.entries, bits, stale: None })
    }

    /// How many rules fit.
    pub(in crate::guard::kernel) const fn capacity(&self) -> u32 {
        self.capacity
    }

    fn trie(name: &'static str, path: &Path, capacity: u32) -> Result<Trie<N>, KernelError> {
        if !path.exists() {
            let trie: Trie<N> = LpmTrie::create(capacity, NO_PREALLOC).map_err(refused(name, "making"))?;
            trie.pin(path)
                .map_err(|error| KernelError::Pin { path: path.display().to_string(), reason: error.to_string() })?;
        }
        let pinned = MapData::from_pin(path).map_err(refused(name, "opening"))?;
        Map::LpmTrie(pinned).try_into().map_err(refused(name, "opening"))
    }

    /// Enters or replaces one rule.
    pub(in crate::guard::kernel) fn put(&mut self, prefix: Prefix<N>, rule: Rule) -> Result<(), KernelError> {
        let (name, capacity) = (self.name, self.capacity);
        self.mark(bits_of(prefix))?;
        put(self.active(), name, capacity, &[(prefix, rule)])
    }

    /// Removes one rule, if it is there.
    pub(in crate::guard::kernel) fn remove(&self, (address, length): Prefix<N>) -> Result<(), KernelError> {
        remove(self.active(), self.name, &[Key::new(u32::from(length), address)])
    }

    /// The rules in force.
    pub(in crate::guard::kernel) fn all(&self) -> io::Result<Vec<(Prefix<N>, Rule)>> {
        entries(self.active().map().fd().as_fd(), self.capacity)
    }

    /// Whether so many rules fit.
    pub(in crate::guard::kernel) const fn check(&self, rules: usize) -> Result<(), KernelError> {
        if rules > self.capacity as usize { Err(full(self.name, self.capacity)) } else { Ok(()) }
    }

    /// Puts these rules in force, and no others.
    pub(in crate::guard::kernel) fn swap(&mut self, rules: &[(Prefix<N>, Rule)]) -> Result<(), KernelError> {
        self.check(rules.len())?;
        let (name, capacity) = (self.name, self.capacity);
        let bits = || rules.iter().flat_map(|(prefix, _)| bits_of(*prefix));
        self.bits.mark(bits())?;
        let spare = self.spare();
        // A guard that was killed in the middle may have left something.
        clear(spare, name, capacity)?;
        put(spare, name, capacity, rules)?;
        let [a, b] = &self.tries;
        let (active, spare) = if self.active == 0 { (a, b) } else { (b, a) };
        self.outer.set(0, spare, 0).map_err(refused(name, "swapping"))?;
        self.active = 1 - self.active;
        clear(active, name, capacity)?;
        self.bits.keep(bits())
    }

    /// Enters rules into the spare trie.
    pub(in crate::guard::kernel) fn stage(&mut self, rules: &[(Prefix<N>, Rule)]) -> Result<(), KernelError> {
        let (name, capacity) = (self.name, self.capacity);
        self.mark(rules.iter().flat_map(|(prefix, _)| bits_of(*prefix)))?;
        put(self.spare(), name, capacity, rules)
    }

    /// Removes at most `most` rules from the spare trie; whether it is empty now.
    pub(in crate::guard::kernel) fn clear_staged(&mut self, most: usize) -> Result<bool, KernelError> {
        let name = self.name;
        let read = |source| KernelError::Map { map: name, operation: "reading", source };
        let spare = self.spare();
        let mut place = sys::BatchCursor::default();
        let some = some::<N>(spare.map().fd().as_fd(), &mut place, u32::try_from(most.max(1)).unwrap_or(u32::MAX));
        remove(spare, name, &keys(&some.map_err(read)?))?;
        if !place.done {
            return Ok(false);
        }
        let Some(mut stale) = self.stale.take() else { return Ok(true) };
        let some = self.some(&mut stale.place).map_err(read)?;
        for (prefix, _) in &some {
            bits::set(&mut stale.words, bits_of::<N>(*prefix));
        }
        if stale.place.done {
            self.bits.replace(stale.words)?;
            return Ok(true);
        }
        self.stale = Some(stale);
        Ok(false)
    }

    /// Some of the rules in force, from where the last call ended.
    pub(in crate::guard::kernel) fn some(&self, place: &mut sys::BatchCursor) -> io::Result<Vec<(Prefix<N>, Rule)>> {
        some(self.active().map().fd().as_fd(), place, PIECE)
    }

    /// Sets bits, also of those that are being counted.
    fn mark(&mut self, bits: impl Iterator<Item = u32> + Clone) -> Result<(), KernelError> {
        if let Some(stale) = &mut self.stale {
            bits::set(&mut stale.words, bits.clone());
        }
        self.bits.mark(bits)
    }

    /// Swaps the tries: what was in force is spare, and is still to be cleared.
    pub(in crate::guard::kernel) fn commit_staged(&mut self) -> Result<(), KernelError> {
        let [a, b] = &self.tries;
        let spare = if self.active == 0 { b } else { a };
        self.outer.set(0, spare, 0).map_err(refused(self.name, "swapping"))?;
        self.active = 1 - self.active;
        self.stale = Some(Recount { place: sys::BatchCursor::default(), words: self.bits.none() });
        Ok(())
    }

    const fn active(&self) -> &Trie<N> {
        let [a, b] = &self.tries;
        if self.active == 0 { a } else { b }
    }

    const fn spare(&self) -> &Trie<N> {
        let [a, b] = &self.tries;
        if self.active == 0 { b } else { a }
    }
}

const fn shape<const N: usize>(name: &'static str, entries: u32) -> MapShape {
    // Not cut off: an address has 4 or 16 bytes.
    let key = if N == 4 { 8 } else { 20 };
    MapShape { name, kind: MapType::LpmTrie, key, value: 16, entries, flags: NO_PREALLOC }
}

/// The bits of a prefix, in the bitmap of its family.
fn bits_of<const N: usize>((address, length): Prefix<N>) -> RangeInclusive<u32> {
    let Some(upper) = address.first_chunk::<8>() else {
        let address = address.first_chunk().copied().map_or(0, u32::from_be_bytes);
        let (first, last) = presence::rule_bits4(address, length);
        return first..=last;
    };
    match length {
        32.. => {
            let bit = presence::rule_bit6(u64::from_be_bytes(*upper));
            bit..=bit
        }
        // Shorter than what a bit is of: all of them.
        _ => 0..=presence::RULE_BITS - 1,
    }
}

fn put<const N: usize>(
    trie: &Trie<N>,
    name: &'static str,
    capacity: u32,
    rules: &[(Prefix<N>, Rule)],
) -> Result<(), KernelError>
where
    [u8; N]: Pod,
{
    for some in rules.chunks(PIECE as usize) {
        let (keys, values) = (keys(some), some.iter().map(|(_, rule)| *rule).collect::<Vec<_>>());
        let (mut done, mut tried) = (0, 0);
        while let (Some(keys), Some(values)) = (keys.get(done..), values.get(done..)) {
            let Err((more, source)) = sys::enter(trie.map().fd().as_fd(), keys, values) else { break };
            (done, tried) = (done + more, if more > 0 { 0 } else { tried });
            match source.raw_os_error() {
                Some(libc::ENOMEM) if tried < TRIES => {
                    tried += 1;
                    thread::sleep(PAUSE);
                }
                Some(libc::ENOSPC) => return Err(full(name, capacity)),
                _ => return Err(KernelError::Map { map: name, operation: "adding rules", source }),
            }
        }
    }
    Ok(())
}

fn remove<const N: usize>(trie: &Trie<N>, name: &'static str, keys: &[Key<[u8; N]>]) -> Result<(), KernelError>
where
    [u8; N]: Pod,
{
    let removed = sys::remove(trie.map().fd().as_fd(), keys);
    removed.map_err(|source| KernelError::Map { map: name, operation: "removing rules", source })
}

fn clear<const N: usize>(trie: &Trie<N>, name: &'static str, capacity: u32) -> Result<(), KernelError>
where
    [u8; N]: Pod,
{
    let left = entries::<N>(trie.map().fd().as_fd(), capacity);
    let left = left.map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
    left.chunks(PIECE as usize).try_for_each(|some| remove(trie, name, &keys(some)))
}

/// Prefixes as the kernel takes them.
fn keys<const N: usize>(rules: &[(Prefix<N>, Rule)]) -> Vec<Key<[u8; N]>>
where
    [u8; N]: Pod,
{
    rules.iter().map(|((address, length), _)| Key::new(u32::from(*length), *address)).collect()
}

/// Everything in a trie, which must have been checked to be of this key and value size.
fn entries<const N: usize>(trie: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<(Prefix<N>, Rule)>> {
    let (mut all, mut place) = (Vec::new(), sys::BatchCursor::default());
    while !place.done && all.len() < 2 * capacity as usize + 1 {
        all.extend(some(trie, &mut place, 8 * PIECE)?);
    }
    Ok(all)
}

/// At most `most` entries of a trie, from where the last call ended.
fn some<const N: usize>(
    trie: BorrowedFd<'_>,
    place: &mut sys::BatchCursor,
    most: u32,
) -> io::Result<Vec<(Prefix<N>, Rule)>> {
    let read = |key: &[u8], value: &[u8; 16]| {
        let (length, address) = key.split_first_chunk::<4>()?;
        let words = [0, 4, 8, 12].map(|at| value.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes));
        let [Some(action), Some(slot), Some(expires_low), Some(expires_high)] = words else { return None };
        let length = u8::try_from(u32::from_ne_bytes(*length)).ok()?;
        Some(((*address.first_chunk()?, length), Rule { action, slot, expires_low, expires_high }))
    };
    Ok(if N == 4 {
        sys::some::<8, 16>(trie, place, most)?.iter().filter_map(|(key, value)| read(key, value)).collect()
    } else {
        sys::some::<20, 16>(trie, place, most)?.iter().filter_map(|(key, value)| read(key, value)).collect()
    })
}

const fn full(map: &'static str, capacity: u32) -> KernelError {
    KernelError::Full { map, capacity, setting: "guard.max_rules" }
}

/// Rules by their sources.
pub(in crate::guard::kernel) fn sources<const N: usize>(
    all: Vec<(Prefix<N>, Rule)>,
) -> impl Iterator<Item = (Source, Rule)>
where
    std::net::IpAddr: From<[u8; N]>,
{
    all.into_iter().filter_map(|((address, length), rule)| Some((Source::network(address.into(), length)?, rule)))
}

/// The kernel's own word for an error.
pub(in crate::guard::kernel) fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::KeyNotFound => Some(libc::ENOENT),
        _ => None,
    }
}
