//! The maps: their statics, and one function for each question that is asked of them.
//!
//! Capacities here are placeholders where the daemon sets its own when it loads the object.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_ns},
    macros::btf_map,
};
use gateway_common::{
    limit::Rate,
    maps::{Ban, Cpu, Gate, Hits, Limits, PacketCount, Rule, VERDICTS},
    packet::Headers,
    presence::{self, RULE_BITS},
    sketch,
    source::SourceKey,
    verdict::Verdict,
};

/// A [`Rule`], as words. Linux 6.1 takes into an array of maps only what is described as the array's pattern is, or where
/// neither is described as a struct; the daemon's tries are not described at all.
type RuleWords = [u32; size_of::<Rule>() / size_of::<u32>()];

#[btf_map]
static RULES4: ArrayOfMaps<LpmTrie<[u8; 4], RuleWords, 1024>, 1> = ArrayOfMaps::new();
#[btf_map]
static RULES6: ArrayOfMaps<LpmTrie<[u8; 16], RuleWords, 1024>, 1> = ArrayOfMaps::new();
#[btf_map]
static BANS: HashMap<u64, Ban, 1024> = HashMap::new();
#[btf_map]
static HITS: Array<Hits, 1024> = Array::new();
#[btf_map]
static BANBITS: Array<u64, 1024> = Array::new();
#[btf_map]
static RULEBITS4: Array<u64, { RULE_BITS as usize / 64 }> = Array::new();
#[btf_map]
static RULEBITS6: Array<u64, { RULE_BITS as usize / 64 }> = Array::new();
#[btf_map]
static PORTS: Array<u32, 65536> = Array::new();
#[btf_map]
static LIM: Array<Limits, 1> = Array::new();
#[btf_map]
static STATS: PerCpuArray<PacketCount, { VERDICTS as usize }> = PerCpuArray::new();
#[btf_map]
static CPU: PerCpuArray<Cpu, 1> = PerCpuArray::new();
#[btf_map]
static GATES: PerCpuArray<Gate, { VERDICTS as usize }> = PerCpuArray::new();

/// The limits in force.
#[inline(always)]
pub(crate) fn limits() -> Option<&'static Limits> {
    LIM.get(0)
}

/// What is said of a port: bits of `port`.
#[inline(always)]
pub(crate) fn port(number: u16) -> u32 {
    PORTS.get(u32::from(number)).copied().unwrap_or(0)
}

/// The rule of the longest prefix that covers the source.
#[inline(always)]
pub(crate) fn rule(headers: &Headers) -> Option<&'static Rule> {
    if headers.is_ipv4 {
        let address = headers.upper as u32;
        if !may_hold(&RULEBITS4, presence::rule_bit4(address)) {
            return None;
        }
        return RULES4.get(0)?.get(&Key::new(32, address.to_be_bytes())).map(laid);
    }
    if !may_hold(&RULEBITS6, presence::rule_bit6(headers.upper)) {
        return None;
    }
    RULES6.get(0)?.get(&Key::new(128, join(headers.upper, headers.lower))).map(laid)
}

#[inline(always)]
fn laid(words: &RuleWords) -> &Rule {
    // SAFETY: a rule is as many words, of the same alignment, and valid whatever their bits.
    unsafe { &*words.as_ptr().cast() }
}

/// What a bitmap says. Whoever has no bit in it is not in the map behind; a bit beyond its end says that he may be.
#[inline(always)]
fn may_hold<const N: usize>(bits: &Array<u64, N>, bit: u32) -> bool {
    let (word, mask) = presence::word(bit);
    bits.get(word).is_none_or(|word| word & mask != 0)
}

/// The sixteen bytes of an address, built from two words: the compiler would fill an array byte by byte.
#[inline(always)]
fn join(upper: u64, lower: u64) -> [u8; 16] {
    (u128::from(lower.to_be()) << 64 | u128::from(upper.to_be())).to_le_bytes()
}

/// Counts a packet on the slot of a deny rule. A slot that does not exist is not counted.
#[inline(always)]
pub(crate) fn hit(slot: u32, bytes: u64) {
    if let Some(hits) = HITS.get_ptr_mut(slot) {
        // SAFETY: the kernel gave the pointer, to memory that lives as long as the map; only atomics touch it.
        unsafe {
            add(&raw mut (*hits).packets, 1);
            add(&raw mut (*hits).bytes, bytes);
        }
    }
}

/// The entry of a source, in place.
pub(crate) struct Banned(*mut Ban);

/// Whether there may be a ban or a budget of this source alone. Most sources have neither, and neither is looked up.
#[inline(always)]
pub(crate) fn may_know(hash: u64, limits: &Limits) -> bool {
    may_hold(&BANBITS, presence::ban_bit(hash, limits.ban_bits))
}

/// Finds the entry of a source.
#[inline(always)]
pub(crate) fn ban(key: SourceKey) -> Option<Banned> {
    BANS.get_ptr_mut(key.0).map(Banned)
}

impl Banned {
    #[inline(always)]
    pub(crate) fn expires(&self) -> u64 {
        // SAFETY: the kernel gave the pointer; entries are freed after the program has ended.
        unsafe { (*self.0).expires }
    }

    #[inline(always)]
    pub(crate) fn is_shadow(&self) -> bool {
        // SAFETY: as in `expires`.
        unsafe { (*self.0).id & Ban::SHADOW != 0 }
    }

    #[inline(always)]
    pub(crate) fn count(&self, bytes: u64) {
        // SAFETY: as in `expires`; these two words are only ever touched by atomics here.
        unsafe {
            add(&raw mut (*self.0).packets, 1);
            add(&raw mut (*self.0).bytes, bytes);
        }
    }
}

/// `CLOCK_MONOTONIC` as of the last tick: at most 10 ms late, so an entry ends a tick late and never early.
///
/// The clock is read once a tick and CPU; to ask for the tick costs nothing.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    let Some(cpu) = CPU.get_ptr_mut(0) else {
        // SAFETY: as above.
        return unsafe { bpf_ktime_get_ns() };
    };
    // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
    unsafe {
        if (*cpu).tick != tick {
            (*cpu).now = bpf_ktime_get_ns();
            (*cpu).tick = tick;
        }
        (*cpu).now
    }
}

/// Whether this packet is one that the daemon is told of: at most one of each verdict in `gap` nanoseconds.
///
/// Once a gap is over it is not the first packet, which may always be the same source's (packets come in bursts), but any
/// of as many as came in the last one. Where they come no more so fast, the next one after another gap.
#[inline(always)]
pub(crate) fn may_tell(verdict: Verdict, now: u64, gap: u64) -> bool {
    let Some(gate) = GATES.get_ptr_mut(verdict as u32) else { return false };
    // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
    unsafe { lets_through(gate, now, gap) }
}

/// Whether a gate lets this packet through: see [`may_tell`].
///
/// # Safety
/// `gate` points to this CPU's own copy of a map's value.
#[inline(always)]
pub(crate) unsafe fn lets_through(gate: *mut Gate, now: u64, gap: u64) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (*gate).seen = (*gate).seen.wrapping_add(1);
        if now < (*gate).opens {
            return false;
        }
        if (*gate).skips > 0 && now < (*gate).opens + gap {
            (*gate).skips -= 1;
            return false;
        }
        let drawn = u64::from(bpf_get_prandom_u32());
        (*gate).skips = (drawn * u64::from((*gate).seen) >> 32) as u32;
        (*gate).opens = now + gap;
        (*gate).seen = 0;
    }
    true
}

/// What everybody's packets put into this CPU's sketch, with one more of this weight.
#[inline(always)]
pub(crate) fn weighed(weight: u32, now: u64) -> u64 {
    let Some(cpu) = CPU.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `now`.
    unsafe {
        (*cpu).weighed = sketch::total((*cpu).weighed, now, weight);
        (*cpu).weighed
    }
}

/// Whether this CPU may make one more entry at this rate; takes it if so.
#[inline(always)]
pub(crate) fn may_enter(rate: &Rate) -> bool {
    let Some(cpu) = CPU.get_ptr_mut(0) else { return false };
    // SAFETY: as in `now`, which has just been asked.
    unsafe {
        let Some(next) = rate.spend((*cpu).entries, (*cpu).now, 1) else { return false };
        (*cpu).entries = next;
    }
    true
}

/// What this CPU has left of the packets that it took out of the budget of all sources.
#[inline(always)]
pub(crate) fn left() -> Option<*mut u64> {
    let cpu = CPU.get_ptr_mut(0)?;
    // SAFETY: as in `now`.
    Some(unsafe { &raw mut (*cpu).left })
}

/// Replaces a word if it is what it was thought to be: what it was, and whether it was replaced.
///
/// # Safety
/// `word` points into a map's value.
#[inline(always)]
pub(crate) unsafe fn swap(word: *mut u64, expected: u64, next: u64) -> (u64, bool) {
    // SAFETY: the caller's.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, expected, next) }
}

/// Counts a verdict, on this CPU.
#[inline(always)]
pub(crate) fn tally(verdict: Verdict, bytes: u64) {
    if let Some(tally) = STATS.get_ptr_mut(verdict as u32) {
        // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
        unsafe {
            (*tally).packets += 1;
            (*tally).bytes += bytes;
        }
    }
}

/// Adds to a word that other CPUs add to.
///
/// # Safety
/// `word` points into a map's value.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, amount) };
}
