//! Decides whether a source is over one of its budgets, and whether all of them together are over theirs.
//!
//! Most sources are quiet and have no budgets of their own: the sketch knows that of them, at no cost in memory. The
//! table of those who are not is bounded, and evicts whoever was silent longest. An active offender gains nothing by it:
//!
//! * He is looked up with every packet, dropped ones too, and so is never the one that was silent longest, as long as
//!   fewer than the table's entries are more active than he.
//! * Sources that come and go (a spoofed flood) get at most [`ENTRIES`] new entries a second on each CPU, so it takes
//!   them that long to turn the whole table over; who finds no entry meanwhile is not limited by that packet.
//! * Whoever is entered is charged what the sketch has counted of him. If that was over the threshold before this
//!   packet, he had an entry and lost it: he gets it back with nothing left in any budget. (One who only shares both
//!   cells with a busy source gets the same, and is let through at the rate, without a burst.)
//! * The sketch carries half of what it counted into the next epoch, so he is known across them.

use aya_ebpf::{
    btf_maps::{Array, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use gateway_common::{
    limit::{ArrivalTime, Rate},
    maps::{Limits, SKETCH_CELLS, Spent},
    sketch,
    source::SourceKey,
    verdict::Verdict,
};

use crate::maps;

#[btf_map]
static SRCS: LruHashMap<u64, Spent, 65536> = LruHashMap::new();
#[btf_map]
static SKETCH: PerCpuArray<sketch::Cell, { 2 * SKETCH_CELLS as usize }> = PerCpuArray::new();
#[btf_map]
static SYNS: Array<u64, 1> = Array::new();

/// How many entries a CPU makes: 100,000 a second, 10,000 at once. An entry costs as much as several packets.
const ENTRIES: Rate = Rate { interval: 10_000, burst: 100_000_000 };

/// How often a compare-and-swap that another CPU won is tried again.
const TRIES: usize = 4;

/// Takes one packet out of the source's budgets: the verdict of the limit that it is over, if it is. Where that limit is
/// in shadow mode, the verdict passes the packet.
#[inline(always)]
pub(crate) fn over(key: SourceKey, hash: u64, limits: &Limits, now: u64, bytes: u64, is_syn: bool) -> Option<Verdict> {
    if limits.packets.interval | limits.bytes.interval | limits.syns.interval == 0 {
        return None;
    }
    let weight = 1 + (bytes >> limits.byte_shift) as u32 + if is_syn { limits.syn_weight } else { 0 };
    let weighed = noted(hash, weight, now);
    if weighed < limits.sketch_threshold {
        return None;
    }
    let Some(spent) = SRCS.get_ptr_mut(key.0) else {
        enter(key, limits, now, weighed, weight);
        return None;
    };
    let mut shadow = None;
    if is_syn && limits.syns.interval != 0 {
        // SAFETY: the kernel gave the pointer; an entry that is evicted meanwhile is reused, never freed, before the
        // program ends, and whoever reuses it starts from a state that conforms.
        let conforms = unsafe { take(&raw mut (*spent).syns, |arrival| limits.syns.spend(arrival, now, 1)) };
        if !conforms {
            if limits.flags & Limits::SHADOW_SYNS == 0 {
                return Some(Verdict::OverSyns);
            }
            shadow = Some(Verdict::ShadowOverSyns);
        }
    }
    if limits.packets.interval != 0 {
        // SAFETY: as above.
        let conforms = unsafe { take(&raw mut (*spent).packets, |arrival| limits.packets.spend(arrival, now, 1)) };
        if !conforms {
            if limits.flags & Limits::SHADOW_PACKETS == 0 {
                return Some(Verdict::OverPackets);
            }
            shadow = Some(Verdict::ShadowOverPackets);
        }
    }
    if limits.bytes.interval != 0 {
        // SAFETY: as above.
        let conforms = unsafe { take(&raw mut (*spent).bytes, |arrival| limits.bytes.spend(arrival, now, bytes)) };
        if !conforms {
            if limits.flags & Limits::SHADOW_BYTES == 0 {
                return Some(Verdict::OverBytes);
            }
            shadow = Some(Verdict::ShadowOverBytes);
        }
    }
    shadow
}

/// Whether one more connection of anybody's fits the global budget; takes it if so.
#[inline(always)]
pub(crate) fn opens(limits: &Limits, now: u64) -> bool {
    let Some(word) = SYNS.get_ptr_mut(0) else { return true };
    // SAFETY: the kernel gave the pointer, to memory that lives as long as the map.
    unsafe { take(word, |arrival| limits.all_syns.spend(arrival, now, 1)) }
}

/// Gives a source budgets of its own, charged with what is known of it.
#[inline(always)]
fn enter(key: SourceKey, limits: &Limits, now: u64, weighed: u32, weight: u32) {
    if !maps::may_enter(&ENTRIES) {
        return;
    }
    let was_busy = weighed.saturating_sub(weight) >= limits.sketch_threshold;
    let units = if was_busy { u64::from(u32::MAX) } else { u64::from(weighed) };
    let first = Spent {
        packets: limits.packets.spent(now, units),
        bytes: limits.bytes.spent(now, units << (limits.byte_shift & 31)),
        // A SYN is 1 as a packet and more as a SYN.
        syns: limits.syns.spent(now, if was_busy { units } else { units / (u64::from(limits.syn_weight) + 1) }),
    };
    // Fails open: where even the least recently used entry cannot be had, the packet passes.
    let _ = SRCS.insert(key.0, first, 0);
}

/// Moves a budget that other CPUs move: whether what is taken conforms.
///
/// # Safety
/// `word` points into a map's value.
#[inline(always)]
unsafe fn take(word: *mut ArrivalTime, spend: impl Fn(ArrivalTime) -> Option<ArrivalTime>) -> bool {
    // SAFETY: the caller's. Volatile: the word is read once, whatever the optimizer thinks of it.
    let mut arrival = unsafe { core::ptr::read_volatile(word) };
    for _ in 0..TRIES {
        let Some(next) = spend(arrival) else { return false };
        // SAFETY: the caller's.
        let (seen, swapped) = unsafe { maps::swap(word, arrival, next) };
        if swapped {
            return true;
        }
        arrival = seen;
    }
    // Fails open: so many CPUs at once fight for one budget that some have already been refused.
    true
}

/// Counts a packet of a source in the sketch: at most what it weighed lately, on this CPU.
#[inline(always)]
fn noted(hash: u64, weight: u32, now: u64) -> u32 {
    let (first, second) = sketch::cells(hash);
    u32::min(noted_at(first, weight, now), noted_at(second, weight, now))
}

#[inline(always)]
fn noted_at(index: u32, weight: u32, now: u64) -> u32 {
    let Some(cell) = SKETCH.get_ptr_mut(index) else { return 0 };
    // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
    unsafe {
        let (next, counted) = sketch::count(*cell, now, weight);
        *cell = next;
        counted
    }
}
