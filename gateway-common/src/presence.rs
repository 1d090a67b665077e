//! The Bloom filters (of one hash each) in front of the maps of bans and rules: a bit says that there may be an entry.
//!
//! Most packets come from sources on no list. A lookup in a map of a million entries misses the cache, a bit does not.
//! *Invariant:* the bits of an entry are set before it is added, and cleared only when no entry is left that needs them.
//! A false positive costs one lookup. A false negative would let a banned source in, so there is none.

use crate::source::SourceKey;

/// Bits in the filter of each family's rules: one for each IPv4 network of 20 bits, and one for each hash of an IPv6
/// network of 32 bits.
pub const RULE_BITS: u32 = 1 << 20;

/// The hash of a key: multiplication by a factor that a secret `seed` decides, so nobody can choose sources that
/// collide. Every bit of the key changes the upper half of the hash, and that changes the lower one.
#[inline(always)]
#[must_use]
pub const fn hash(key: SourceKey, seed: u64) -> u64 {
    let folded = key.0 ^ key.0 >> 32;
    let hash = (folded ^ seed).wrapping_mul(seed ^ 0x9e37_79b9_7f4a_7c15 | 1);
    hash ^ hash >> 32
}

/// The size of the filter for so many bans, in bits: at least eight for each, so that false positives are rare.
#[must_use]
pub const fn ban_bits(entries: u32) -> u32 {
    let wanted = entries.saturating_mul(8);
    if wanted > 1 << 27 {
        1 << 27
    } else if wanted < 1 << 16 {
        1 << 16
    } else {
        wanted.next_power_of_two()
    }
}

/// The bit of a banned key, given its [`hash`] and the number of bits less 1.
#[inline(always)]
#[must_use]
pub const fn ban_bit(hash: u64, mask: u32) -> u32 {
    (hash >> 32) as u32 & mask
}

/// The bit of an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn rule_bit4(address: u32) -> u32 {
    address >> 12
}

/// The bit of an IPv6 address, given its first half.
#[inline(always)]
#[must_use]
pub const fn rule_bit6(upper: u64) -> u32 {
    // Fibonacci hashing: networks that lie beside each other get bits of their own.
    ((upper >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as u32
}

/// The bits, first and last, of an IPv4 prefix.
#[must_use]
pub const fn rule_bits4(address: u32, length: u8) -> (u32, u32) {
    let host = if length >= 32 { 0 } else { u32::MAX >> length };
    (rule_bit4(address & !host), rule_bit4(address | host))
}

/// The word of a bit, and its mask in it.
#[inline(always)]
#[must_use]
pub const fn word(bit: u32) -> (u32, u64) {
    (bit >> 6, 1 << (bit & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_prefix_has_a_bit_of_it() {
        for (address, length) in [(0xcb00_7107, 32), (0xcb00_7100, 24), (0xcb00_0000, 16), (0x0a00_0000, 8), (0, 0)] {
            let (first, last) = rule_bits4(address, length);
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            for offset in [0, 1, host / 3, host / 2, host] {
                let bit = rule_bit4(address | offset & host);
                assert!((first..=last).contains(&bit) && last < RULE_BITS, "{address:x}/{length}");
            }
        }
        assert!(rule_bit6(u64::MAX) < RULE_BITS);
    }

    #[test]
    fn there_are_bits_enough() {
        for (entries, expect) in [(1, 1 << 16), (100_000, 1 << 20), (1 << 20, 1 << 23), (u32::MAX, 1 << 27)] {
            assert_eq!(ban_bits(entries), expect);
        }
    }
}
