//! Budgets of packets, bytes and SYNs: of each source, and of all sources together.
//!
//! Most sources are quiet and have no budgets of their own: the sketch knows that of them, at no cost in memory. The
//! table of those who are not is bounded, and evicts whoever was silent longest. What an eviction gives back:
//!
//! * To one who was over a budget, or near it: nothing, on whichever CPU his next packet arrives. What was last taken out
//!   of each budget is remembered beside the table, by hash and for all CPUs; whoever is entered goes on from there.
//! * Whoever shares that place with a busier source goes on from what is left to that one, and earns back from there: he
//!   may miss a burst once, when he is entered, and is let through at the rate.
//! * Who is not in the table is not limited: up to the sketch's threshold on each CPU and second, and for as long as no
//!   entry is made for him. Sources that come and go (a spoofed flood) get at most [`ENTRIES`] new entries a second on
//!   each CPU, so it takes them that long to turn the table over; meanwhile whoever is looked up stays in it.
//! * In a flood, what the sketch holds of everybody is not counted as anybody's, so sources that send once get no entry.
//!   One who is busy in it is noticed within what a cell differs from the others: some ten of the flood's packets. Where
//!   more sources than there are cells send all they can, each is noticed before he has sent what a second's budget holds,
//!   and charged little of that.
//! * One whom the sketch had counted over the threshold before this packet has had an entry, or none was to be made for
//!   him: he is entered with nothing left in any budget. The sketch carries half of what it counted into the next epoch.
//!
//! A CPU may take some packets out of a busy source's budgets at once, and passes as many without asking again. That
//! moves packets by moments and makes none conform that would not: what is taken was there to be taken.

use aya_ebpf::{
    btf_maps::{Array, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use gateway_common::{
    limit::{ArrivalTime, Rate},
    maps::{self as layout, Advance, Limits, SKETCH_CELLS, Spent},
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
static KEPT: Array<Spent, { layout::KEPT as usize }> = Array::new();
#[btf_map]
static ADVANCES: PerCpuArray<Advance, { layout::ADVANCES as usize }> = PerCpuArray::new();
#[btf_map]
static SYNS: Array<u64, 1> = Array::new();

/// How many entries a CPU makes: 100,000 a second, 10,000 at once. An entry costs as much as several packets.
const ENTRIES: Rate = Rate { interval: 10_000, burst: 100_000_000 };

/// How long a source that fell silent keeps others from taking in advance: nanoseconds.
const LAPSE: u64 = 1_000_000_000;

/// How often a compare-and-swap that another CPU won is tried again.
const TRIES: usize = 4;

/// Takes one packet out of the source's budgets: the verdict of the limit that it is over, if it is. Where that limit is
/// in shadow mode, the verdict passes the packet.
#[inline(always)]
pub(crate) fn over(key: SourceKey, hash: u64, limits: &Limits, now: u64, bytes: u64, is_syn: bool) -> Option<Verdict> {
    if limits.packets.interval | limits.bytes.interval | limits.syns.interval == 0 {
        return None;
    }
    let Some(advance) = ADVANCES.get_ptr_mut(hash as u32 & (layout::ADVANCES - 1)) else { return None };
    if !is_syn && uses(advance, key, bytes) {
        return None;
    }
    let weight = 1 + (bytes >> limits.byte_shift) as u32 + if is_syn { limits.syn_weight } else { 0 };
    let weighed = noted(hash, weight, now, limits.sketch_threshold);
    if weighed < limits.sketch_threshold {
        return None;
    }
    let charge = Charge { weighed, weight: weight.min(sketch::COUNT), is_syn };
    Charged::verdict(charge_busy(key.0, hash, now, bytes, charge.packed()))
}

/// What is known of a packet of a busy source, in the one word that there is room for in a call.
struct Charge {
    weighed: u32,
    weight: u32,
    is_syn: bool,
}

impl Charge {
    #[inline(always)]
    const fn packed(&self) -> u64 {
        (self.weighed as u64) << 32 | (self.weight as u64) << 1 | self.is_syn as u64
    }

    #[inline(always)]
    const fn unpacked(word: u64) -> Self {
        Self { weighed: (word >> 32) as u32, weight: (word as u32) >> 1, is_syn: word & 1 != 0 }
    }
}

/// What became of a packet of a busy source, in one word.
struct Charged;

impl Charged {
    const CONFORMS: u64 = 0;

    #[inline(always)]
    const fn verdict(word: u64) -> Option<Verdict> {
        match word {
            9 => Some(Verdict::OverBytes),
            10 => Some(Verdict::OverSyns),
            5 => Some(Verdict::OverPackets),
            11 => Some(Verdict::ShadowOverPackets),
            12 => Some(Verdict::ShadowOverBytes),
            13 => Some(Verdict::ShadowOverSyns),
            _ => None,
        }
    }
}

/// Takes a packet out of the budgets of a source that is worth some: the number of the verdict, or 0 if it conforms.
///
/// A function of its own that the whole kernel may call: the verifier follows it once, and not from every way that a
/// packet may have come.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn charge_busy(key: u64, hash: u64, now: u64, bytes: u64, charge: u64) -> u64 {
    let Charge { weighed, weight, is_syn } = Charge::unpacked(charge);
    let key = SourceKey(key);
    let Some(limits) = maps::limits() else { return Charged::CONFORMS };
    let Some(advance) = ADVANCES.get_ptr_mut(hash as u32 & (layout::ADVANCES - 1)) else { return Charged::CONFORMS };
    let Some(spent) = SRCS.get_ptr_mut(key.0) else {
        enter(key, hash, limits, now, weighed, weight);
        return Charged::CONFORMS;
    };
    let Some(kept) = KEPT.get_ptr_mut(hash as u32 & (layout::KEPT - 1)) else { return Charged::CONFORMS };
    let most = if !is_syn && limits.advance > 1 && is_free(advance, key, now) { u64::from(limits.advance) } else { 1 };
    let mut verdict = Charged::CONFORMS;
    if is_syn && limits.syns.interval != 0 {
        let rate = |arrival, _| limits.syns.spend(arrival, now, 1);
        // SAFETY: the kernel gave both pointers; an entry that is evicted meanwhile is reused, never freed, before the
        // program ends, and whoever reuses it starts from a state that conforms.
        if unsafe { take(&raw mut (*spent).syns, &raw mut (*kept).syns, 1, rate) } == 0 {
            if limits.flags & Limits::SHADOW_SYNS == 0 {
                return Verdict::OverSyns as u64;
            }
            verdict = Verdict::ShadowOverSyns as u64;
        }
    }
    let mut packets = most;
    if limits.packets.interval != 0 {
        let rate = |arrival, times| limits.packets.spend_few(arrival, now, times as u8);
        // SAFETY: as above.
        packets = unsafe { take(&raw mut (*spent).packets, &raw mut (*kept).packets, most, rate) };
        if packets == 0 {
            if limits.flags & Limits::SHADOW_PACKETS == 0 {
                return Verdict::OverPackets as u64;
            }
            verdict = Verdict::ShadowOverPackets as u64;
        }
    }
    let mut times = most;
    if limits.bytes.interval != 0 {
        let rate = |arrival, times| limits.bytes.spend(arrival, now, bytes * times);
        // SAFETY: as above.
        times = unsafe { take(&raw mut (*spent).bytes, &raw mut (*kept).bytes, most, rate) };
        if times == 0 {
            if limits.flags & Limits::SHADOW_BYTES == 0 {
                return Verdict::OverBytes as u64;
            }
            verdict = Verdict::ShadowOverBytes as u64;
        }
    }
    if packets > 1 && times > 1 {
        let left = Advance { source: key.0, taken: now, packets: packets - 1, bytes: bytes * (times - 1) };
        // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
        unsafe { *advance = left };
    }
    verdict
}

/// Whether what was taken in advance is the source's, and covers a packet of so many bytes; takes it if so.
#[inline(always)]
fn uses(advance: *mut Advance, key: SourceKey, bytes: u64) -> bool {
    // SAFETY: the pointer is to this CPU's own copy, which nothing else writes while the program runs.
    unsafe {
        if (*advance).source != key.0 || (*advance).packets == 0 || (*advance).bytes < bytes {
            return false;
        }
        (*advance).packets -= 1;
        (*advance).bytes -= bytes;
    }
    true
}

/// Whether a source may take in advance: not while another one holds what it has taken, or that would be lost to it.
#[inline(always)]
fn is_free(advance: *mut Advance, key: SourceKey, now: u64) -> bool {
    // SAFETY: as in `uses`.
    unsafe { (*advance).source == key.0 || (*advance).packets == 0 || (*advance).taken + LAPSE < now }
}

/// Whether one more connection of anybody's fits the global budget; takes it if so.
#[inline(always)]
pub(crate) fn opens(limits: &Limits, now: u64) -> bool {
    let Some(word) = SYNS.get_ptr_mut(0) else { return true };
    // SAFETY: the kernel gave the pointer, to memory that lives as long as the map.
    unsafe { take(word, &raw mut *word, 1, |arrival, _| limits.all_syns.spend(arrival, now, 1)) != 0 }
}

/// Gives a source budgets of its own, charged with what is known of it.
#[inline(always)]
fn enter(key: SourceKey, hash: u64, limits: &Limits, now: u64, weighed: u32, weight: u32) {
    if !maps::may_enter(&ENTRIES) {
        return;
    }
    let Some(kept) = KEPT.get(hash as u32 & (layout::KEPT - 1)) else { return };
    let was_busy = weighed.saturating_sub(weight) >= limits.sketch_threshold;
    // What is left of it without the flood's share may be less than this packet.
    let units = if was_busy { u64::from(u32::MAX) } else { u64::from(weighed.max(weight)) };
    // A SYN is 1 as a packet and more as a SYN.
    let syns = if was_busy { units } else { units / (u64::from(limits.syn_weight) + 1) };
    let first = Spent {
        packets: u64::max(limits.packets.spent(now, units), limits.packets.resumed(now, kept.packets)),
        bytes: u64::max(
            limits.bytes.spent(now, units << (limits.byte_shift & 31)),
            limits.bytes.resumed(now, kept.bytes),
        ),
        syns: u64::max(limits.syns.spent(now, syns), limits.syns.resumed(now, kept.syns)),
    };
    // Fails open: where even the least recently used entry cannot be had, the packet passes.
    let _ = SRCS.insert(key.0, first, 0);
}

/// Moves a budget that other CPUs move, by `most` units or else by one, and remembers it: how many units conformed.
///
/// # Safety
/// Both point into a map's value.
#[inline(always)]
unsafe fn take(
    word: *mut ArrivalTime,
    kept: *mut ArrivalTime,
    most: u64,
    spend: impl Fn(ArrivalTime, u64) -> Option<ArrivalTime>,
) -> u64 {
    // SAFETY: the caller's. Volatile: the word is read once, whatever the optimizer thinks of it.
    let mut arrival = unsafe { core::ptr::read_volatile(word) };
    for _ in 0..TRIES {
        let (next, units) = match spend(arrival, most) {
            Some(next) => (next, most),
            None => match spend(arrival, 1) {
                Some(next) => (next, 1),
                None => return 0,
            },
        };
        // SAFETY: the caller's.
        let (seen, swapped) = unsafe { maps::swap(word, arrival, next) };
        if swapped {
            // SAFETY: the caller's. Another CPU may write between; either time is one that was true.
            unsafe {
                if core::ptr::read_volatile(kept) < next {
                    core::ptr::write_volatile(kept, next);
                }
            }
            return units;
        }
        arrival = seen;
    }
    // Fails open: so many CPUs at once fight for one budget that some have already been refused.
    1
}

/// Counts a packet of a source in the sketch: what it weighed lately, on this CPU, give or take a share of a flood.
#[inline(always)]
fn noted(hash: u64, weight: u32, now: u64, threshold: u32) -> u32 {
    let (first, second) = sketch::cells(hash);
    let counted = u32::min(noted_at(first, weight, now), noted_at(second, weight, now));
    counted.saturating_sub(sketch::noise(maps::weighed(weight, now), threshold))
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
