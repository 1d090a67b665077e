//! The bitmaps in front of the maps (Bloom filters): a packet of a source that no list knows costs no lookup.
//!
//! *Invariant:* the bits of an entry are set before the entry is made, and cleared only once it is gone. Nobody else
//! writes these bitmaps, so the copy here is what is in the kernel.

use std::os::fd::AsFd as _;

use aya::maps::{Array, IterableMap as _, MapData};
use gateway_common::{maps::name, presence, source::SourceKey};

use crate::guard::kernel::{error::KernelError, sys};

/// How bans are hashed.
#[derive(Clone, Copy, Debug)]
pub(in crate::guard::kernel) struct Hashed {
    pub(in crate::guard::kernel) seed: u64,
    /// Bits in the bitmap in front of them, less 1.
    pub(in crate::guard::kernel) mask: u32,
}

impl Hashed {
    /// The bit of a key.
    pub(in crate::guard::kernel) const fn bit(self, key: SourceKey) -> u32 {
        presence::ban_bit(presence::hash(key, self.seed), self.mask)
    }

    /// The bits of everything in a map of bans.
    pub(in crate::guard::kernel) fn keys(self, bans: &MapData, capacity: u32) -> Result<Vec<u32>, KernelError> {
        let there = sys::dump::<8, 32>(bans.fd().as_fd(), capacity).map_err(|source| KernelError::Map {
            map: name::BANS,
            operation: "reading",
            source,
        })?;
        Ok(there.iter().map(|(key, _)| self.bit(SourceKey(u64::from_ne_bytes(*key)))).collect())
    }
}

/// One bitmap, and what is known to be in it.
pub(in crate::guard::kernel) struct Bits {
    name: &'static str,
    map: Array<MapData, u64>,
    words: Vec<u64>,
}

impl Bits {
    /// Takes over a bitmap, which is to say what these bits say, whatever it says now.
    pub(in crate::guard::kernel) fn open(
        name: &'static str,
        map: Array<MapData, u64>,
        bits: impl Iterator<Item = u32>,
    ) -> Result<Self, KernelError> {
        let mut opened = Self::adopt(name, map)?;
        opened.keep(bits)?;
        Ok(opened)
    }

    /// Takes over a bitmap that says what it should.
    pub(in crate::guard::kernel) fn adopt(name: &'static str, map: Array<MapData, u64>) -> Result<Self, KernelError> {
        let words = sys::elements(map.map().fd().as_fd(), map.len());
        let words = words.map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
        Ok(Self { name, map, words: words.into_iter().map(u64::from_ne_bytes).collect() })
    }

    /// Sets bits.
    pub(in crate::guard::kernel) fn mark(&mut self, bits: impl Iterator<Item = u32>) -> Result<(), KernelError> {
        let mut changed: Vec<u32> = Vec::new();
        for bit in bits {
            let (word, mask) = presence::word(bit);
            if let Some(there) = self.words.get_mut(word as usize)
                && *there & mask == 0
            {
                *there |= mask;
                // Neighbours often share a word, and follow each other.
                if changed.last() != Some(&word) {
                    changed.push(word);
                }
            }
        }
        let value = |word: &u32| self.words.get(*word as usize).copied().unwrap_or(u64::MAX);
        let values: Vec<u64> = changed.iter().map(value).collect();
        self.enter(&changed, &values)
    }

    /// Clears all but these bits. Whatever has an entry must be among them.
    pub(in crate::guard::kernel) fn keep(&mut self, bits: impl Iterator<Item = u32>) -> Result<(), KernelError> {
        self.write(words(self.words.len(), bits))
    }

    /// As many words as the bitmap has, all clear.
    pub(in crate::guard::kernel) fn none(&self) -> Vec<u64> {
        vec![0; self.words.len()]
    }

    /// Has the bitmap say what these words say. Whatever has an entry must be in them.
    pub(in crate::guard::kernel) fn replace(&mut self, words: Vec<u64>) -> Result<(), KernelError> {
        self.write(words)
    }

    fn write(&mut self, words: Vec<u64>) -> Result<(), KernelError> {
        let (mut changed, mut values) = (Vec::new(), Vec::new());
        for (index, (word, there)) in (0..).zip(words.iter().zip(&self.words)) {
            if word != there {
                changed.push(index);
                values.push(*word);
            }
        }
        self.enter(&changed, &values)?;
        self.words = words;
        Ok(())
    }

    fn enter(&self, indices: &[u32], words: &[u64]) -> Result<(), KernelError> {
        sys::enter(self.map.map().fd().as_fd(), indices, words).map_err(|(_, source)| KernelError::Map {
            map: self.name,
            operation: "marking entries",
            source,
        })
    }
}

fn words(length: usize, bits: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut words = vec![0; length];
    set(&mut words, bits);
    words
}

/// Sets bits in a copy of a bitmap.
pub(in crate::guard::kernel) fn set(words: &mut [u64], bits: impl Iterator<Item = u32>) {
    for bit in bits {
        let (word, mask) = presence::word(bit);
        if let Some(word) = words.get_mut(word as usize) {
            *word |= mask;
        }
    }
}
