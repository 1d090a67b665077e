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
//! A few sources have a budget of their own: less than others while they go on over a limit on requests, or what the plan
//! of a client there gives them. Such a budget is in a table that evicts nobody, and the sketch is not asked before it.
//!
//! A CPU may take some packets out of a busy source's budgets at once, and passes as many without asking again. That
//! moves packets by moments and makes none conform that would not: what is taken was there to be taken.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use gateway_common::{
    limit::{ArrivalTime, Rate},
    maps::{self as layout, Advance, Budget, Limits, SKETCH_CELLS, Spent},
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
#[btf_map]
static ALL: Array<u64, 2> = Array::new();
#[btf_map]
static BUDGETS: HashMap<u64, Budget, { layout::BUDGETS as usize }> = HashMap::new();

/// How many entries a CPU makes: 100,000 a second, 10,000 at once. An entry costs as much as several packets.
const ENTRIES: Rate = Rate { interval: 10_000, burst: 100_000_000 };

/// How long a source that fell silent keeps others from taking in advance: nanoseconds.
const LAPSE: u64 = 1_000_000_000;

/// How often a compare-and-swap that another CPU won is tried again.
const TRIES: usize = 4;

/// Takes one packet out of the source's budgets: the verdict of the limit that it is over, if it is. Where that limit is
/// in shadow mode, the verdict passes the packet. `is_known`: the source may have a budget of its own.
///
/// What became of it is a number until the end: the verifier follows every verdict that it can tell from others to the
/// end of the program, by itself.
#[inline(always)]
pub(crate) fn over(
    key: SourceKey,
    hash: u64,
    limits: &Limits,
    now: u64,
    bytes: u64,
    is_syn: bool,
    is_known: bool,
) -> Option<Verdict> {
    let own = if is_known { charge_own(key.0, now, bytes, is_syn as u64) } else { Charged::CONFORMS };
    let mut word = own;
    if own & Charged::DECIDED == 0 {
        let all = over_all(key, hash, limits, now, bytes, is_syn);
        if all != Charged::CONFORMS {
            word = all;
        }
    }
    Charged::verdict(word & !Charged::DECIDED)
}

/// Takes one packet out of the budgets that every source has, in one word.
#[inline(always)]
fn over_all(key: SourceKey, hash: u64, limits: &Limits, now: u64, bytes: u64, is_syn: bool) -> u64 {
    if limits.packets.interval | limits.bytes.interval | limits.syns.interval == 0 {
        return Charged::CONFORMS;
    }
    let Some(advance) = ADVANCES.get_ptr_mut(hash as u32 & (layout::ADVANCES - 1)) else { return Charged::CONFORMS };
    if !is_syn && uses(advance, key, bytes) {
        return Charged::CONFORMS;
    }
    let weight = 1 + (bytes >> limits.byte_shift) as u32 + if is_syn { limits.syn_weight } else { 0 };
    let weighed = noted(hash, weight, now, limits.sketch_threshold);
    if weighed < limits.sketch_threshold {
        return Charged::CONFORMS;
    }
    let charge = Charge { weighed, weight: weight.min(sketch::COUNT), is_syn };
    charge_busy(key.0, hash, now, bytes, charge.packed())
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

/// What became of a packet by a source's budgets, in one word: the number of a verdict, or 0.
struct Charged;

impl Charged {
    const CONFORMS: u64 = 0;
    /// The source has a budget of its own, and those that all have are not asked.
    const DECIDED: u64 = 1 << 8;

    #[inline(always)]
    const fn verdict(word: u64) -> Option<Verdict> {
        match word {
            9 => Some(Verdict::OverBytes),
            10 => Some(Verdict::OverSyns),
            5 => Some(Verdict::OverPackets),
            11 => Some(Verdict::ShadowOverPackets),
            12 => Some(Verdict::ShadowOverBytes),
            13 => Some(Verdict::ShadowOverSyns),
            16 => Some(Verdict::Clamped),
            17 => Some(Verdict::ShadowClamped),
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

/// Takes one packet out of the budget that the source alone has, if it has one: as [`charge_busy`]. A clamp in shadow mode
/// does not decide.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn charge_own(key: u64, now: u64, bytes: u64, is_syn: u64) -> u64 {
    let Some(limits) = maps::limits() else { return Charged::CONFORMS };
    let Some(own) = BUDGETS.get_ptr_mut(key) else { return Charged::CONFORMS };
    // SAFETY: the kernel gave the pointer; entries are freed after the program has ended. What the daemon writes is read
    // word by word; what is spent and counted is touched by atomics.
    unsafe {
        if (*own).expires <= now {
            return Charged::CONFORMS;
        }
        let (flags, packets, byte_rate, syns) = ((*own).flags, (*own).packets, (*own).bytes, (*own).syns);
        let spent = &raw mut (*own).spent;
        let takes = |word: *mut ArrivalTime, rate: &Rate| {
            rate.interval == 0 || take(word, word, 1, |arrival, _| rate.spend_few(arrival, now, 1)) != 0
        };
        // A clamp is in shadow as a whole, whatever the limits of all are.
        let in_shadow = if flags & Budget::CLAMP != 0 { 0 } else { limits.flags };
        let mut over = Charged::CONFORMS;
        let mut is_enforced = false;
        if is_syn != 0 && !takes(&raw mut (*spent).syns, &syns) {
            is_enforced = in_shadow & Limits::SHADOW_SYNS == 0;
            over = if is_enforced { Verdict::OverSyns } else { Verdict::ShadowOverSyns } as u64;
        }
        // A budget in shadow turns off none of those behind it.
        if !is_enforced && !takes(&raw mut (*spent).packets, &packets) {
            is_enforced = in_shadow & Limits::SHADOW_PACKETS == 0;
            over = if is_enforced { Verdict::OverPackets } else { Verdict::ShadowOverPackets } as u64;
        }
        let word = &raw mut (*spent).bytes;
        if !is_enforced
            && byte_rate.interval != 0
            && take(word, word, 1, |arrival, _| byte_rate.spend(arrival, now, bytes)) == 0
        {
            is_enforced = in_shadow & Limits::SHADOW_BYTES == 0;
            over = if is_enforced { Verdict::OverBytes } else { Verdict::ShadowOverBytes } as u64;
        }
        if over == Charged::CONFORMS {
            return Charged::DECIDED;
        }
        maps::add(&raw mut (*own).over.packets, 1);
        maps::add(&raw mut (*own).over.bytes, bytes);
        if flags & Budget::CLAMP != 0 {
            if flags & Budget::SHADOW != 0 {
                return Verdict::ShadowClamped as u64;
            }
            over = Verdict::Clamped as u64;
        }
        Charged::DECIDED | over
    }
}

/// Whether one more packet of anybody's fits the budget of all sources; takes it if so.
#[inline(always)]
pub(crate) fn fits(now: u64) -> bool {
    charge_all(now) != 0
}

/// Whether one more packet fits the fast lane; takes it if so.
#[inline(always)]
pub(crate) fn overtakes(now: u64) -> bool {
    charge_lane(now) != 0
}

/// As [`fits`]; a function of its own as [`charge_busy`] is.
///
/// A CPU takes some at once, and what it has left does not expire: it was there to be taken.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn charge_all(now: u64) -> u64 {
    let Some(limits) = maps::limits() else { return 1 };
    let Some(left) = maps::left() else { return 1 };
    // SAFETY: the pointer is to this CPU's own copy, which nothing else writes while the program runs.
    unsafe {
        if *left > 0 {
            *left -= 1;
            return 1;
        }
        let Some(word) = ALL.get_ptr_mut(0) else { return 1 };
        let most = if limits.all_advance > 1 { u64::from(limits.all_advance) } else { 1 };
        let rate = |arrival, times| limits.all_packets.spend_few(arrival, now, times as u8);
        // SAFETY: the kernel gave the pointer, to memory that lives as long as the map.
        let taken = take(word, word, most, rate);
        if taken > 1 {
            *left = taken - 1;
        }
        (taken != 0) as u64
    }
}

/// As [`overtakes`]; a function of its own as [`charge_busy`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn charge_lane(now: u64) -> u64 {
    let Some(limits) = maps::limits() else { return 0 };
    let Some(word) = ALL.get_ptr_mut(1) else { return 0 };
    // SAFETY: the kernel gave the pointer, to memory that lives as long as the map.
    unsafe { (take(word, word, 1, |arrival, _| limits.fast_lane.spend_few(arrival, now, 1)) != 0) as u64 }
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
