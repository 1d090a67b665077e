//! Decides how the maps are asked: their statics, and one verb for each question.
//!
//! Capacities here are placeholders where the daemon sets its own when it loads the object.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use gateway_common::{
    maps::{Ban, Hits, Limits, Rule, SKETCH_CELLS, Spent, Tally, VERDICTS},
    packet::Address,
    sketch,
    source::SourceKey,
    verdict::Verdict,
};

#[btf_map]
static RULES4: ArrayOfMaps<LpmTrie<[u8; 4], Rule, 1024>, 1> = ArrayOfMaps::new();
#[btf_map]
static RULES6: ArrayOfMaps<LpmTrie<[u8; 16], Rule, 1024>, 1> = ArrayOfMaps::new();
#[btf_map]
static BANS: HashMap<u64, Ban, 1024> = HashMap::new();
#[btf_map]
static HITS: Array<Hits, 1024> = Array::new();
#[btf_map]
static SRCS: LruHashMap<u64, Spent, 65536> = LruHashMap::new();
#[btf_map]
static SKETCH: PerCpuArray<sketch::Cell, { 2 * SKETCH_CELLS as usize }> = PerCpuArray::new();
#[btf_map]
static PORTS: Array<u32, 65536> = Array::new();
#[btf_map]
static LIM: Array<Limits, 1> = Array::new();
#[btf_map]
static STATS: PerCpuArray<Tally, { VERDICTS as usize }> = PerCpuArray::new();

/// How often a compare-and-swap that another CPU won is tried again.
const TRIES: usize = 4;

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
pub(crate) fn rule(source: Address) -> Option<&'static Rule> {
    match source {
        Address::V4(address) => RULES4.get(0)?.get(&Key::new(32, address.to_be_bytes())),
        Address::V6(upper, lower) => RULES6.get(0)?.get(&Key::new(128, join(upper, lower))),
    }
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

/// Takes one packet out of the source's budget: whether it conforms. Quiet sources have no budget and always do.
#[inline(always)]
pub(crate) fn conforms(key: SourceKey, limits: &Limits, now: u64) -> bool {
    if limits.packets.interval == 0 || noted(key, limits, now) < limits.sketch_threshold {
        return true;
    }
    let Some(spent) = SRCS.get_ptr_mut(key.0) else {
        let first = Spent { packets: now + limits.packets.interval, bytes: 0, syns: 0 };
        // Fails open: where even the least recently used entry cannot be had, the packet passes.
        let _ = SRCS.insert(key.0, first, 0);
        return true;
    };
    // SAFETY: the kernel gave the pointer; an entry that is evicted meanwhile is reused, never freed, before the
    // program ends, and whoever reuses it starts from a state that conforms.
    let word = unsafe { &raw mut (*spent).packets };
    // SAFETY: as above. Volatile: the word is read once, whatever the optimizer thinks of it.
    let mut arrival = unsafe { core::ptr::read_volatile(word) };
    for _ in 0..TRIES {
        let Some(next) = limits.packets.spend(arrival, now, 1) else { return false };
        // SAFETY: as above.
        let (seen, swapped) =
            unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, arrival, next) };
        if swapped {
            return true;
        }
        arrival = seen;
    }
    // Fails open: so many CPUs at once fight for one source's budget that some have already been refused.
    true
}

/// Counts a packet of a source in the sketch: at most how many it sent in this epoch, on this CPU.
#[inline(always)]
fn noted(key: SourceKey, limits: &Limits, now: u64) -> u32 {
    let (first, second) = sketch::cells(key, limits.seed);
    u32::min(noted_at(first, now), noted_at(second, now))
}

#[inline(always)]
fn noted_at(index: u32, now: u64) -> u32 {
    let Some(cell) = SKETCH.get_ptr_mut(index) else { return 0 };
    // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
    unsafe {
        let (next, counted) = sketch::count(*cell, now);
        *cell = next;
        counted
    }
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
unsafe fn add(word: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, amount) };
}
