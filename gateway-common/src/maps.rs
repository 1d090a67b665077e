//! The layout of the kernel's maps: names, keys and values, as both sides see them.
//!
//! *Invariant:* whoever changes a type here raises [`LAYOUT`]; pins of another layout are never opened.

use core::mem::{align_of, size_of};

use crate::limit::{ByteRate, Rate};

/// The version of everything in this file. Part of the directory that the maps are pinned under.
pub const LAYOUT: u32 = 5;

/// Names of the maps; the kernel keeps 15 characters.
pub mod name {
    /// Allow and deny prefixes of IPv4: an array of one longest-prefix trie, swapped as a whole.
    pub const RULES4: &str = "RULES4";
    /// As [`RULES4`], of IPv6.
    pub const RULES6: &str = "RULES6";
    /// Bans of what clients are told apart by: `SourceKey` to [`Ban`](super::Ban). Never evicted.
    pub const BANS: &str = "BANS";
    /// What the deny rules dropped, by [`Rule::slot`](super::Rule::slot): an array of [`Hits`](super::Hits).
    pub const HITS: &str = "HITS";
    /// Budgets of busy sources: `SourceKey` to [`Spent`](super::Spent). Least recently used is evicted.
    pub const SRCS: &str = "SRCS";
    /// What is remembered of budgets whose entry may have been evicted: an array of [`Spent`](super::Spent), by hash.
    pub const KEPT: &str = "KEPT";
    /// What each CPU took out of budgets in advance: an array of [`Advance`](super::Advance), by hash.
    pub const ADVANCES: &str = "ADVANCES";
    /// Budgets that single sources have of their own: `SourceKey` to [`Budget`](super::Budget). Never evicted.
    pub const BUDGETS: &str = "BUDGETS";
    /// A two-row per-CPU sketch of how busy each source is; see the packet limit.
    pub const SKETCH: &str = "SKETCH";
    /// Guarded ports, by number: [`port`](super::port) bits.
    pub const PORTS: &str = "PORTS";
    /// The one [`Limits`](super::Limits).
    pub const LIM: &str = "LIM";
    /// Which keys `BANS` and `BUDGETS` may hold: a bitmap in front of both, see [`presence`](crate::presence).
    pub const BANBITS: &str = "BANBITS";
    /// Which IPv4 networks `RULES4` may speak of: a bitmap in front of it.
    pub const RULEBITS4: &str = "RULEBITS4";
    /// As [`RULEBITS4`], of IPv6.
    pub const RULEBITS6: &str = "RULEBITS6";
    /// The global SYN budget: one theoretical arrival time.
    pub const SYNS: &str = "SYNS";
    /// The packet budget of all sources together, then the fast lane's: two theoretical arrival times.
    pub const ALL: &str = "ALL";
    /// What each CPU keeps to itself: one [`Cpu`](super::Cpu).
    pub const CPU: &str = "CPU";
    /// When each CPU tells of each verdict again: one [`Gate`](super::Gate) per verdict and CPU.
    pub const GATES: &str = "GATES";
    /// A ring buffer of [`Event`](super::Event)s.
    pub const EVENTS: &str = "EVENTS";
    /// One [`PacketCount`](super::PacketCount) per verdict and CPU.
    pub const STATS: &str = "STATS";
}

/// Bits of a `PORTS` entry.
pub mod port {
    /// TCP to this port is guarded.
    pub const TCP: u32 = 1;
    /// UDP to this port is guarded.
    pub const UDP: u32 = 2;
}

/// Cells in one row of the sketch, a power of two; two rows lie behind each other.
pub const SKETCH_CELLS: u32 = 65_536;

/// Entries of `KEPT`, a power of two.
pub const KEPT: u32 = 65_536;

/// Entries of `ADVANCES` on each CPU, a power of two.
pub const ADVANCES: u32 = 4_096;

/// Entries of `BUDGETS`.
pub const BUDGETS: u32 = 8_192;

/// `SO_PRIORITY` of a connection that may use the fast lane. Queueing disciplines treat it as they do 0, what sockets have
/// unless told otherwise.
pub const FAST_LANE: u32 = 4;

/// Entries of `STATS`: more than there are verdicts, so that one more does not change the layout.
pub const VERDICTS: u32 = 32;

/// An expiry that never comes.
pub const NEVER: u64 = u64::MAX;

/// A ban in the kernel. The first two words are the daemon's, the last two the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ban {
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds. [`NEVER`] for no end.
    pub expires: u64,
    /// The ban's id in the store, with [`Self::SHADOW`] where it is only counted.
    pub id: u64,
    /// Packets dropped (or, in shadow, that would have been).
    pub packets: u64,
    /// Bytes of those packets, link layer included.
    pub bytes: u64,
}

impl Ban {
    /// Set in `id`: the entry is in shadow mode.
    pub const SHADOW: u64 = 1 << 63;

    /// Whether it is counted only.
    #[inline(always)]
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.id & Self::SHADOW != 0
    }

    /// The same with what `there` has counted, if that is an entry of the same ban.
    #[must_use]
    pub const fn counted_on(self, there: Self) -> Self {
        if there.id & !Self::SHADOW == self.id & !Self::SHADOW {
            return Self { packets: there.packets, bytes: there.bytes, ..self };
        }
        self
    }
}

/// What a prefix in `RULES4`/`RULES6` means. Longest prefix wins; the daemon never loads a deny prefix that an allow
/// prefix covers, so an allowlisted source is always let through.
///
/// Made of 32-bit words because the trie aligns its values no better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// [`Self::ALLOW`], [`Self::DENY`] or [`Self::SHADOW`].
    pub action: u32,
    /// Where a deny rule's drops are counted: an index into `HITS`.
    pub slot: u32,
    /// When it ends, `CLOCK_MONOTONIC` nanoseconds: the low word of what [`Ban::expires`] is.
    pub expires_low: u32,
    /// The high word.
    pub expires_high: u32,
}

impl Rule {
    /// Let through, nothing else asked. Never expires in the kernel.
    pub const ALLOW: u32 = 1;
    /// Drop until it expires.
    pub const DENY: u32 = 2;
    /// Count as [`Self::DENY`] would drop, and let through.
    pub const SHADOW: u32 = 3;

    /// A rule that ends at `expires` (`CLOCK_MONOTONIC`, nanoseconds).
    #[must_use]
    pub const fn new(action: u32, slot: u32, expires: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = expires.to_le_bytes();
        Self {
            action,
            slot,
            expires_low: u32::from_le_bytes([a, b, c, d]),
            expires_high: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    #[inline(always)]
    #[must_use]
    pub const fn expires(&self) -> u64 {
        (self.expires_high as u64) << 32 | self.expires_low as u64
    }
}

/// What one deny rule dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hits {
    /// Packets.
    pub packets: u64,
    /// Bytes, link layer included.
    pub bytes: u64,
}

/// The budgets of one busy source: theoretical arrival times as in [`limit`](crate::limit).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spent {
    /// Of packets per second.
    pub packets: u64,
    /// Of bytes per second.
    pub bytes: u64,
    /// Of SYNs per second.
    pub syns: u64,
}

/// A budget that one source has of its own, in the place of what all have. The first words are the daemon's, `spent` and
/// `over` the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    pub expires: u64,
    /// [`Self::CLAMP`] and the like.
    pub flags: u64,
    /// Packets. `interval` 0: not limited.
    pub packets: Rate,
    /// Bytes, link layer included. `interval` 0: not limited.
    pub bytes: ByteRate,
    /// TCP connection attempts. `interval` 0: not limited.
    pub syns: Rate,
    /// What is spent of it.
    pub spent: Spent,
    /// What did not conform: dropped, or in shadow passed.
    pub over: Hits,
}

impl Budget {
    /// It is a part of what all have: the source went on over a limit on requests.
    pub const CLAMP: u64 = 1;
    /// What does not conform is counted only.
    pub const SHADOW: u64 = 2;

    /// The same with what `there` has spent and counted.
    #[must_use]
    pub const fn counted_on(self, there: Self) -> Self {
        Self { spent: there.spent, over: there.over, ..self }
    }
}

/// What one CPU took out of one source's budgets and has not used yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Advance {
    /// Whose: a [`SourceKey`](crate::source::SourceKey).
    pub source: u64,
    /// When it was taken: `CLOCK_MONOTONIC`, nanoseconds.
    pub taken: u64,
    /// Packets that are left of it.
    pub packets: u64,
    /// Bytes that are left of it.
    pub bytes: u64,
}

/// The limits in force, and what else the program is told at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limits {
    /// Packets per source. `interval` 0: not limited.
    pub packets: Rate,
    /// Bytes per source, link layer included. `interval` 0: not limited.
    pub bytes: ByteRate,
    /// TCP connection attempts (SYN without ACK) per source. `interval` 0: not limited.
    pub syns: Rate,
    /// TCP connection attempts of all sources, beyond which they are answered with cookies. `interval` 0: never.
    pub all_syns: Rate,
    /// Seeds the sketch, so that nobody can aim at a cell.
    pub seed: u64,
    /// Which bits of an IPv6 address' upper half tell clients apart: [`SourceKey::ipv6_mask`](crate::source::SourceKey::ipv6_mask).
    pub ipv6_mask: u64,
    /// What a source may weigh in about one second, per CPU, before it is worth budgets of its own. A packet weighs 1.
    pub sketch_threshold: u32,
    /// What a SYN weighs more than another packet.
    pub syn_weight: u32,
    /// A packet of 2 to the power of this many bytes weighs 1 more, and so on.
    pub byte_shift: u32,
    /// [`Self::PASS_MALFORMED`] and the like.
    pub flags: u32,
    /// Bits in the bitmap in front of `BANS`, a power of two, less 1.
    pub ban_bits: u32,
    /// How many packets a CPU takes out of a source's budgets at once; 0 and 1: each by itself.
    pub advance: u32,
    /// How many packets a CPU takes out of the budget of all sources at once; 0 and 1: each by itself.
    pub all_advance: u32,
    /// Unused, 0.
    pub reserved: u32,
    /// Packets of all sources together to guarded ports. `interval` 0: not limited.
    pub all_packets: Rate,
    /// What connections that proved themselves may send beyond that. `interval` 0: nothing.
    pub fast_lane: Rate,
}

impl Limits {
    /// Pass malformed packets instead of dropping them.
    pub const PASS_MALFORMED: u32 = 1;
    /// Every packet is in scope, not only those to guarded ports.
    pub const SCOPE_HOST: u32 = 2;
    /// The packet limit is in shadow: counted, not enforced.
    pub const SHADOW_PACKETS: u32 = 4;
    /// The byte limit is.
    pub const SHADOW_BYTES: u32 = 8;
    /// The SYN limit is.
    pub const SHADOW_SYNS: u32 = 16;
    /// The limit of all sources together is.
    pub const SHADOW_ALL: u32 = 32;
}

/// What a CPU keeps to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cpu {
    /// The kernel's tick that `now` was read in.
    pub tick: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds, as of that tick.
    pub now: u64,
    /// What all packets together weighed in the sketch lately: the epoch it is of in the upper 12 bits, as a cell.
    pub weighed: u64,
    /// The budget for new entries in `SRCS`: a theoretical arrival time.
    pub entries: u64,
    /// Packets that are left of what it took out of the budget of all sources.
    pub left: u64,
}

/// Which packet of a verdict is the next that a CPU tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// None before this: `CLOCK_MONOTONIC`, nanoseconds.
    pub opens: u64,
    /// Packets since the last one that was told of.
    pub seen: u32,
    /// How many more are left out once it is open.
    pub skips: u32,
}

/// A sample of what was dropped or answered: at most [`EVENTS_PER_SECOND`] of these of each verdict, on each CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When: `CLOCK_MONOTONIC`, nanoseconds, as of the last tick.
    pub time: u64,
    /// Who: a [`SourceKey`](crate::source::SourceKey); 0 where no source could be read.
    pub source: u64,
    /// Why: a [`Verdict`](crate::verdict::Verdict)'s number.
    pub verdict: u32,
    /// Bytes of the packet, link layer included.
    pub length: u32,
    /// The destination's port; 0 where there is none, or it cannot be known.
    pub port: u16,
    /// The protocol that the port is of: 6 TCP, 17 UDP, 0 another or none known.
    pub protocol: u8,
    /// Unused, 0.
    pub reserved: u8,
    /// The index of the interface that it came in by.
    pub interface: u32,
}

/// How many events of one verdict a CPU tells in a second, at most.
pub const EVENTS_PER_SECOND: u64 = 100;

/// Bytes of the ring of events: some thousand of them.
pub const EVENT_BYTES: u32 = 256 * 1024;

/// Packets and bytes of one verdict on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PacketCount {
    /// Packets.
    pub packets: u64,
    /// Bytes, link layer included.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Ban>() == 32 && size_of::<Rule>() == 16 && align_of::<Rule>() == 4);
const _: () = assert!(size_of::<Hits>() == 16 && size_of::<PacketCount>() == 16 && size_of::<Spent>() == 24);
const _: () = assert!(size_of::<Advance>() == 32 && size_of::<Budget>() == 104);
const _: () = assert!(size_of::<Limits>() == 144 && size_of::<Cpu>() == 40 && size_of::<Event>() == 32);
const _: () = assert!(size_of::<Gate>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_survives_its_two_words() {
        for expires in [0, 1, u64::from(u32::MAX), 1 << 32, NEVER] {
            assert_eq!(Rule::new(Rule::DENY, 7, expires).expires(), expires);
        }
    }
}
