//! The bitmaps in front of the maps (Bloom filters): a packet of a source that no list knows costs no lookup.
//!
//! *Invariant:* the bits of an entry are set before the entry is made, and cleared only once it is gone. Nobody else
//! writes these bitmaps, so the copy here is what is in the kernel.

use std::os::fd::AsFd as _;

use aya::maps::{Array, MapData};
use gateway_common::{maps::name, presence, source::SourceKey};

use super::{
    error::{KernelError, refused},
    sys,
};

/// How bans are hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashed {
    pub(super) seed: u64,
    /// Bits in the bitmap in front of them, less 1.
    pub(super) mask: u32,
}

impl Hashed {
    /// The bit of a key.
    pub(super) const fn bit(self, key: SourceKey) -> u32 {
        presence::ban_bit(presence::hash(key, self.seed), self.mask)
    }

    /// The bits of everything in a map of bans.
    pub(super) fn keys(self, bans: &MapData, capacity: u32) -> Result<Vec<u32>, KernelError> {
        let there = sys::dump::<8, 32>(bans.fd().as_fd(), capacity).map_err(|source| KernelError::Map {
            map: name::BANS,
            operation: "reading",
            source,
        })?;
        Ok(there.iter().map(|(key, _)| self.bit(SourceKey(u64::from_ne_bytes(*key)))).collect())
    }
}

/// One bitmap, and what is known to be in it.
pub(super) struct Bits {
    name: &'static str,
    map: Array<MapData, u64>,
    words: Vec<u64>,
}

impl Bits {
    /// Takes over a bitmap, which is to say what these bits say, whatever it says now.
    pub(super) fn open(
        name: &'static str,
        map: Array<MapData, u64>,
        bits: impl Iterator<Item = u32>,
    ) -> Result<Self, KernelError> {
        let length = map.len() as usize;
        let mut opened = Self { name, map, words: Vec::new() };
        opened.write(words(length, bits))?;
        Ok(opened)
    }

    /// Takes over a bitmap that says what it should.
    pub(super) fn adopt(name: &'static str, map: Array<MapData, u64>) -> Result<Self, KernelError> {
        let words = map.iter().collect::<Result<_, _>>().map_err(refused(name, "reading"))?;
        Ok(Self { name, map, words })
    }

    /// Sets bits.
    pub(super) fn mark(&mut self, bits: impl Iterator<Item = u32>) -> Result<(), KernelError> {
        let mut changed = Vec::new();
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
        for word in changed {
            let value = self.words.get(word as usize).copied().unwrap_or(u64::MAX);
            self.map.set(word, value, 0).map_err(refused(self.name, "marking an entry"))?;
        }
        Ok(())
    }

    /// Clears all but these bits. Whatever has an entry must be among them.
    pub(super) fn keep(&mut self, bits: impl Iterator<Item = u32>) -> Result<(), KernelError> {
        self.write(words(self.words.len(), bits))
    }

    /// As many words as the bitmap has, all clear.
    pub(super) fn none(&self) -> Vec<u64> {
        vec![0; self.words.len()]
    }

    /// Has the bitmap say what these words say. Whatever has an entry must be in them.
    pub(super) fn replace(&mut self, words: Vec<u64>) -> Result<(), KernelError> {
        self.write(words)
    }

    fn write(&mut self, words: Vec<u64>) -> Result<(), KernelError> {
        for (index, word) in words.iter().enumerate() {
            if self.words.get(index) != Some(word) {
                let at = u32::try_from(index).unwrap_or(u32::MAX);
                self.map.set(at, word, 0).map_err(refused(self.name, "clearing what is gone"))?;
            }
        }
        self.words = words;
        Ok(())
    }
}

fn words(length: usize, bits: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut words = vec![0; length];
    set(&mut words, bits);
    words
}

/// Sets bits in a copy of a bitmap.
pub(super) fn set(words: &mut [u64], bits: impl Iterator<Item = u32>) {
    for bit in bits {
        let (word, mask) = presence::word(bit);
        if let Some(word) = words.get_mut(word as usize) {
            *word |= mask;
        }
    }
}
