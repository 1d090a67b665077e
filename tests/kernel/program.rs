//! The kernel program under test: loaded from the committed object, its maps as the daemon would fill them.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader, Pod, TestRun as _, TestRunOptions,
    maps::{Array, ArrayOfMaps, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, RingBuf, lpm_trie::Key},
    programs::Xdp,
};
use gateway_common::{
    maps::{Ban, Budget, Cpu, Hits, Limits, NEVER, PacketCount, Rule, name, port},
    presence, sketch,
    source::{Source, SourceKey},
    trace::{self, Trace, TraceCount},
    verdict::Verdict,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

pub(crate) const OBJECT: &[u8] = aya::include_bytes_aligned!("../../gateway/ebpf/guard.bpf.o");

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// A value as both sides lay it out.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Laid<T>(T);

// SAFETY: plain words without padding, valid whatever their bits.
unsafe impl Pod for Laid<Ban> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Budget> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Hits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Cpu> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Limits> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Rule> {}
// SAFETY: as above.
unsafe impl Pod for Laid<PacketCount> {}
// SAFETY: as above.
unsafe impl Pod for Laid<TraceCount> {}
// SAFETY: as above.
unsafe impl Pod for Laid<Trace> {}

/// The program in the kernel.
pub(crate) struct Program {
    ebpf: Ebpf,
    rules4: LpmTrie<MapData, [u8; 4], Laid<Rule>>,
    rules6: LpmTrie<MapData, [u8; 16], Laid<Rule>>,
    // Per-CPU counters are read before and after each packet, and times are measured: one test at a time.
    _turn: MutexGuard<'static, ()>,
    variant: &'static str,
}

static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Which of the object's programs tests of this thread run.
    pub(crate) static VARIANT: Cell<&'static str> = const { Cell::new(UNTRACED) };
}

const UNTRACED: &str = "guard";
const TRACED: &str = "guard_traced";

/// Runs tests with the program that is in force while somebody traces packets, with a trace of everybody.
pub(crate) fn while_traced(tests: impl FnOnce()) {
    VARIANT.set(TRACED);
    tests();
    VARIANT.set(UNTRACED);
}

/// Loads the program with guarded TCP ports 80 and 443, UDP port 443 and no limits. Without root the test is skipped; a
/// program that does not load is a failure.
macro_rules! program {
    () => {{
        if !support::report::may_run(std::thread::current().name().unwrap_or("kernel")) {
            return;
        }
        $crate::program::Program::load()
    }};
}
pub(crate) use program;

/// What becomes of so many packets in a row.
#[track_caller]
pub(crate) fn row(program: &mut Program, what: &str, frame: &[u8], expect: &[(Verdict, usize)]) {
    for (verdict, times) in expect {
        for time in 0..*times {
            assert_eq!(program.judge(frame), *verdict, "{what}: {} no. {time}", verdict.name());
        }
    }
}

impl Program {
    pub(crate) fn load() -> Self {
        // Each CPU knows what it has seen itself: a test stays on one.
        let mut set = CpuSet::new();
        set.set(0).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).ok();
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
        let variant = VARIANT.get();
        let program: &mut Xdp = ebpf.program_mut(variant).unwrap().try_into().unwrap();
        program.load().unwrap();
        let (rules4, rules6) = (LpmTrie::create(1024, 1).unwrap(), LpmTrie::create(1024, 1).unwrap());
        let mut outer: ArrayOfMaps<_, LpmTrie<MapData, [u8; 4], Laid<Rule>>> =
            ebpf.map_mut(name::RULES4).unwrap().try_into().unwrap();
        outer.set(0, &rules4, 0).unwrap();
        let mut outer: ArrayOfMaps<_, LpmTrie<MapData, [u8; 16], Laid<Rule>>> =
            ebpf.map_mut(name::RULES6).unwrap().try_into().unwrap();
        outer.set(0, &rules6, 0).unwrap();
        let mut ports: Array<_, u32> = ebpf.map_mut(name::PORTS).unwrap().try_into().unwrap();
        ports.set(80, port::TCP, 0).unwrap();
        ports.set(443, port::TCP | port::UDP, 0).unwrap();
        let mut program = Self { ebpf, rules4, rules6, _turn: turn, variant };
        program.limits(limits());
        if variant == TRACED {
            program.trace(0, Trace::new(1, None, false));
        }
        program
    }

    pub(crate) fn limits(&mut self, limits: Limits) {
        let mut map: Array<_, Laid<Limits>> = self.ebpf.map_mut(name::LIM).unwrap().try_into().unwrap();
        map.set(0, Laid(limits), 0).unwrap();
    }

    /// Has lines written, as the daemon would.
    pub(crate) fn trace(&mut self, number: u32, trace: Trace) {
        let mut map: Array<_, Laid<Trace>> = self.ebpf.map_mut(trace::name::TRACES).unwrap().try_into().unwrap();
        map.set(number, Laid(trace), 0).unwrap();
    }

    /// Forgets which lines were written, as the daemon does for a new trace.
    pub(crate) fn tell_anew(&mut self) {
        let mut map: PerCpuArray<_, Laid<TraceCount>> =
            self.ebpf.map_mut(trace::name::TOLD).unwrap().try_into().unwrap();
        for number in 0..map.len() {
            let each = vec![Laid(TraceCount::default()); aya::util::nr_cpus().unwrap()];
            map.set(number, PerCpuValues::try_from(each).unwrap(), 0).unwrap();
        }
        drop(self.lines());
    }

    /// The lines about packets since the last call.
    pub(crate) fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut ring: RingBuf<_> = self.ebpf.map_mut(trace::name::LINES).unwrap().try_into().unwrap();
        let mut lines = Vec::new();
        while let Some(line) = ring.next() {
            lines.push(line.to_vec());
        }
        lines
    }

    /// Forgets what was sent so far: nothing of it is taken for a flood.
    pub(crate) fn calm(&mut self) {
        self.weighed(0);
    }

    /// Lets every CPU have seen packets that weighed so much just now.
    pub(crate) fn weighed(&mut self, weight: u64) {
        let mut map: PerCpuArray<_, Laid<Cpu>> = self.ebpf.map_mut(name::CPU).unwrap().try_into().unwrap();
        let total = sketch::total(0, seconds_from_now(0), 0) | weight;
        let each = vec![Laid(Cpu { weighed: total, ..Cpu::default() }); aya::util::nr_cpus().unwrap()];
        map.set(0, PerCpuValues::try_from(each).unwrap(), 0).unwrap();
    }

    pub(crate) fn rule(&mut self, source: &str, action: u32, slot: u32, expires: u64) {
        let source: Source = source.parse().unwrap();
        let rule = Laid(Rule::new(action, slot, expires));
        match source.address() {
            IpAddr::V4(address) => {
                let (first, last) = presence::rule_bits4(address.to_bits(), source.length());
                (first..=last).for_each(|bit| self.mark(name::RULEBITS4, bit));
            }
            IpAddr::V6(address) => {
                let upper = u64::try_from(address.to_bits() >> 64).unwrap();
                self.mark(name::RULEBITS6, presence::rule_bit6(upper));
            }
        }
        match source.address() {
            IpAddr::V4(address) => self.rules4.insert(&Key::new(source.length().into(), address.octets()), rule, 0),
            IpAddr::V6(address) => self.rules6.insert(&Key::new(source.length().into(), address.octets()), rule, 0),
        }
        .unwrap();
    }

    fn bans(&mut self) -> HashMap<&mut MapData, u64, Laid<Ban>> {
        self.ebpf.map_mut(name::BANS).unwrap().try_into().unwrap()
    }

    /// Sets a bit of a bitmap that lies before a map, as the daemon would.
    fn mark(&mut self, map: &str, bit: u32) {
        let mut map: Array<_, u64> = self.ebpf.map_mut(map).unwrap().try_into().unwrap();
        let (word, mask) = presence::word(bit);
        map.set(word, map.get(&word, 0).unwrap() | mask, 0).unwrap();
    }

    /// Bans the source of an address, as the daemon would.
    pub(crate) fn ban(&mut self, address: &str, id: u64, expires: u64) {
        let bit = presence::ban_bit(presence::hash(key(address), limits().seed), limits().ban_bits);
        self.mark(name::BANBITS, bit);
        self.bans().insert(key(address).0, Laid(Ban { expires, id, packets: 0, bytes: 0 }), 0).unwrap();
    }

    /// Takes it back.
    pub(crate) fn unban(&mut self, address: &str) {
        self.bans().remove(&key(address).0).unwrap();
    }

    pub(crate) fn find_ban(&mut self, address: &str) -> Ban {
        self.bans().get(&key(address).0, 0).unwrap().0
    }

    fn budgets(&mut self) -> HashMap<&mut MapData, u64, Laid<Budget>> {
        self.ebpf.map_mut(name::BUDGETS).unwrap().try_into().unwrap()
    }

    /// Gives the source of an address a budget of its own, as the daemon would.
    pub(crate) fn budget(&mut self, address: &str, budget: Budget) {
        let bit = presence::ban_bit(presence::hash(key(address), limits().seed), limits().ban_bits);
        self.mark(name::BANBITS, bit);
        self.budgets().insert(key(address).0, Laid(budget), 0).unwrap();
    }

    pub(crate) fn remove_budget(&mut self, address: &str) {
        self.budgets().remove(&key(address).0).unwrap();
    }

    pub(crate) fn find_budget(&mut self, address: &str) -> Budget {
        self.budgets().get(&key(address).0, 0).unwrap().0
    }

    pub(crate) fn hits(&mut self, slot: u32) -> Hits {
        let map: Array<_, Laid<Hits>> = self.ebpf.map_mut(name::HITS).unwrap().try_into().unwrap();
        map.get(&slot, 0).unwrap().0
    }

    /// Packets and bytes of each verdict so far.
    pub(crate) fn packet_counts(&mut self) -> Vec<PacketCount> {
        let map: PerCpuArray<_, Laid<PacketCount>> = self.ebpf.map_mut(name::STATS).unwrap().try_into().unwrap();
        map.iter()
            .map(|cpus| {
                cpus.unwrap().iter().fold(PacketCount::default(), |sum, Laid(count)| PacketCount {
                    packets: sum.packets + count.packets,
                    bytes: sum.bytes + count.bytes,
                })
            })
            .collect()
    }

    /// Runs a frame through the program so many times: its last action, and nanoseconds for each on average.
    pub(crate) fn run(&mut self, frame: &[u8], repeat: u32) -> (u32, u128) {
        let program: &mut Xdp = self.ebpf.program_mut(self.variant).unwrap().try_into().unwrap();
        let result =
            program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() }).unwrap();
        (result.return_value, result.duration.as_nanos())
    }

    /// What a frame has become once the program has judged it.
    pub(crate) fn becomes(&mut self, frame: &[u8]) -> Vec<u8> {
        let program: &mut Xdp = self.ebpf.program_mut(self.variant).unwrap().try_into().unwrap();
        let mut out = vec![0; 2_048];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: 1, ..TestRunOptions::default() };
        let length = program.test_run(options).unwrap().data_size_out;
        out.truncate(usize::try_from(length).unwrap());
        out
    }

    /// Samples of what was dropped or answered since the last call.
    pub(crate) fn events(&mut self) -> Vec<[u8; 32]> {
        let mut ring: RingBuf<_> = self.ebpf.map_mut(name::EVENTS).unwrap().try_into().unwrap();
        let mut events = Vec::new();
        while let Some(event) = ring.next() {
            events.push(<[u8; 32]>::try_from(&*event).unwrap());
        }
        events
    }

    /// Takes away the budgets of a source, as the kernel does where there are too many.
    pub(crate) fn evict(&mut self, address: &str) {
        let mut map: HashMap<_, u64, [u64; 3]> = self.ebpf.map_mut(name::SRCS).unwrap().try_into().unwrap();
        // It may have none.
        drop(map.remove(&key(address).0));
    }

    /// Goes on on another CPU; `false` if there is none. Its sketch knows nobody yet.
    pub(crate) fn move_to(&self, cpu: usize) -> bool {
        let mut set = CpuSet::new();
        set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).is_ok()
    }

    /// Runs a frame on several CPUs at once, so many times on each: how many passed, and how long it took.
    pub(crate) fn hammer(&mut self, frame: &[u8], cpus: usize, repeat: u32) -> (u64, Duration) {
        let before = self.packet_counts()[Verdict::Passed as usize].packets;
        let program: &Xdp = self.ebpf.program(self.variant).unwrap().try_into().unwrap();
        let started = Instant::now();
        thread::scope(|scope| {
            for cpu in 0..cpus {
                scope.spawn(move || {
                    let mut set = CpuSet::new();
                    // Where there are fewer, they share.
                    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).ok();
                    let options =
                        || TestRunOptions { data_in: Some(frame), repeat: repeat / 10, ..TestRunOptions::default() };
                    for _ in 0..10 {
                        program.test_run(options()).unwrap();
                    }
                });
            }
        });
        let elapsed = started.elapsed();
        (self.packet_counts()[Verdict::Passed as usize].packets - before, elapsed)
    }

    /// The verdict on one frame.
    ///
    /// Whatever the frame: exactly one verdict is counted, with the frame's bytes, and the action is what it says.
    #[track_caller]
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Verdict {
        let before = self.packet_counts();
        let (action, _) = self.run(frame, 1);
        let after = self.packet_counts();
        let changed: Vec<usize> = (0..after.len()).filter(|&index| after[index] != before[index]).collect();
        let [index] = changed[..] else { panic!("not one verdict was counted but {changed:?}, frame {frame:02x?}") };
        assert_eq!(after[index].packets, before[index].packets + 1);
        assert_eq!(after[index].bytes, before[index].bytes + frame.len() as u64);
        let verdict = Verdict::ALL[index];
        let expect = match verdict {
            verdict if verdict.drops() => XDP_DROP,
            verdict if verdict.answers() => XDP_TX,
            _ => XDP_PASS,
        };
        assert_eq!(action, expect, "{}: {frame:02x?}", verdict.name());
        verdict
    }

    /// Expects verdicts: one line a row.
    #[track_caller]
    pub(crate) fn check(&mut self, rows: &[(&str, Vec<u8>, Verdict)]) {
        for (what, frame, expect) in rows {
            let verdict = self.judge(frame);
            assert_eq!(verdict, *expect, "{what}: {frame:02x?}");
        }
    }
}

/// Limits that limit nothing; scope listeners; clients told apart by /64.
pub(crate) fn limits() -> Limits {
    Limits {
        seed: 7,
        ipv6_mask: SourceKey::ipv6_mask(64),
        ban_bits: presence::ban_bits(1024) - 1,
        // Whoever is seen has budgets of his own, and bytes do not matter to that.
        sketch_threshold: 1,
        byte_shift: 31,
        ..Limits::default()
    }
}

fn key(address: &str) -> SourceKey {
    Source::of(address.parse().unwrap(), 64).key(64).unwrap()
}

/// A time that far from now, as entries end.
pub(crate) fn seconds_from_now(seconds: i64) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    let nanos = (now.tv_sec() + seconds) * 1_000_000_000 + now.tv_nsec();
    u64::try_from(nanos).unwrap()
}

/// An end that never comes.
pub(crate) const FOREVER: u64 = NEVER;
