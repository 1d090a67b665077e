//! Several machines and one store: what they let through of a quota together, however late the store answers, while it is
//! away, when it comes back empty, and when a machine begins anew.

use std::collections::{BTreeMap, HashMap};

use super::{shared::in_cluster, *};
use crate::{
    os::clock::Now,
    policy::limit::{
        quota::{QuotaAsk, QuotaCall, QuotaTotal, UsedRow, portion_of_quota},
        quotas::QuotaState,
    },
};

const MILLISECOND: u64 = SECOND / 1_000;

/// Noon of a day in March, at [`START`].
const NOON: u64 = 1_773_144_000;

fn clocks(now: u64) -> Now {
    Now { monotonic: now, unix_millis: NOON * 1_000 + (now - START) / 1_000_000 }
}

/// The store, as `total.lua` does it.
#[derive(Default)]
struct Store {
    counts: HashMap<String, Count>,
    /// Somebody has it who gives everything anew: by this number and tag of a word that nobody said.
    lies: Option<(u64, u64)>,
    /// How often it was asked.
    asked: usize,
}

#[derive(Default)]
struct Count {
    generation: u64,
    tag: u64,
    units: BTreeMap<usize, u64>,
}

impl Store {
    fn ask(&mut self, node: usize, call: &QuotaCall) -> QuotaTotal {
        self.asked += 1;
        if let Some((generation, tag)) = self.lies {
            return QuotaTotal { own: 0, others: 0, generation, tag };
        }
        let Count { generation, tag, units } = self.counts.entry(call.name.clone()).or_default();
        let own = units.get(&node).copied();
        if call.generation > *generation {
            (*generation, *tag) = (call.generation, call.tag);
            units.clear();
            units.insert(node, call.units);
        } else if call.is_set {
            units.insert(node, own.unwrap_or(0));
        } else if call.generation == *generation || call.generation == 0 && own.is_some() {
            units.insert(node, call.units.max(own.unwrap_or(0)));
        } else {
            units.insert(node, own.unwrap_or(0));
        }
        let others = units.iter().filter(|(other, _)| **other != node).map(|(_, units)| units).sum();
        QuotaTotal { own: units[&node], others, generation: *generation, tag: *tag }
    }
}

/// Calls that are under way.
struct UnderWay {
    ask: QuotaAsk,
    call: QuotaCall,
    arrives: u64,
    returns: u64,
    total: Option<QuotaTotal>,
}

struct Machines {
    text: String,
    worlds: Vec<World>,
    under_way: Vec<Vec<UnderWay>>,
    store: Store,
    is_reachable: bool,
    dice: u64,
    now: u64,
    /// When requests were let through.
    admitted: Vec<u64>,
}

impl Machines {
    fn new(nodes: usize, requests: u64) -> Self {
        let quota =
            format!("[quota.address]\nby = [\"address\"]\nrequests = {requests}\nper = \"day\"\nshared = true\n");
        let text = in_cluster(nodes, &quota);
        let mut machines = Self {
            worlds: Vec::new(),
            under_way: Vec::new(),
            store: Store::default(),
            is_reachable: true,
            dice: 0x9e37_79b9,
            now: START,
            admitted: Vec::new(),
            text,
        };
        for _ in 0..nodes {
            let world = machines.world();
            machines.worlds.push(world);
            machines.under_way.push(Vec::new());
        }
        machines
    }

    /// A machine that starts, and knows nothing.
    fn world(&self) -> World {
        let world = World::new(&self.text);
        world.limits.tick(clocks(self.now));
        world.limits.asks().unwrap().set_reachable(self.is_reachable);
        world
    }

    fn roll(&mut self, most: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % most
    }

    fn see(&mut self, is_reachable: bool) {
        self.is_reachable = is_reachable;
        for (world, under_way) in self.worlds.iter().zip(&mut self.under_way) {
            world.limits.asks().unwrap().set_reachable(is_reachable);
            if !is_reachable {
                under_way.clear();
            }
        }
    }

    /// A millisecond passes.
    fn pass(&mut self, longest: u64, lost: u64) {
        self.now += MILLISECOND;
        let now = self.now;
        for at in 0..self.worlds.len() {
            if now.is_multiple_of(250 * MILLISECOND) {
                drop(self.worlds[at].limits.untold(now));
            }
            if now.is_multiple_of(SECOND) {
                self.worlds[at].limits.tick(clocks(now));
            }
            let asks = self.worlds[at].limits.asks().unwrap().take_quotas(usize::MAX);
            let asks = if self.is_reachable { asks } else { Vec::new() };
            for ask in asks {
                let arrives = now + self.roll(longest + 1);
                let returns = arrives + self.roll(longest + 1);
                let call = ask.call(now).unwrap();
                self.under_way[at].push(UnderWay { ask, call, arrives, returns, total: None });
            }
        }
        let is_lost = lost > 0 && self.roll(lost) == 0;
        for (node, under_way) in self.under_way.iter_mut().enumerate() {
            for it in under_way.iter_mut().filter(|it| it.total.is_none() && it.arrives <= now) {
                it.total = Some(self.store.ask(node, &it.call));
            }
            for UnderWay { ask, call, total, .. } in under_way.extract_if(.., |it| it.returns <= now) {
                match total {
                    Some(total) if !is_lost => ask.answered(&call, total, now),
                    _ => drop(ask),
                }
            }
        }
    }

    fn asks(&mut self, at: usize) -> bool {
        let is_admitted = self.worlds[at].addressed(1, self.now);
        if is_admitted {
            self.admitted.push(self.now);
        }
        is_admitted
    }

    /// Requests to all machines at random for so long; how many were let through.
    fn offer(&mut self, millis: u64, longest: u64, lost: u64) -> usize {
        let before = self.admitted.len();
        for _ in 0..millis {
            self.pass(longest, lost);
            for at in 0..self.worlds.len() {
                if self.roll(3) > 0 {
                    self.asks(at);
                }
            }
        }
        self.admitted.len() - before
    }

    /// As `docs/cluster.md` states it, and the quota.
    fn bound(&self) -> (usize, usize) {
        let nodes = u64::try_from(self.worlds.len()).unwrap();
        let (most, portion) = portion_of_quota(&self.worlds[0].settings.limits[0], nodes).unwrap();
        let in_a_second = |from: &u64| self.admitted.iter().filter(|at| (*from..from + SECOND).contains(at)).count();
        let densest = self.admitted.iter().step_by(7).map(in_a_second).max().unwrap_or(0);
        let most = usize::try_from(most).unwrap();
        (most, most + usize::try_from(2 * nodes * portion).unwrap() + densest / 2)
    }
}

/// All of it is let through, and not more than the bound, however late answers come and however many are lost.
#[test]
fn d05_machines_share_a_quota() {
    for nodes in [1, 3, 8] {
        for requests in [1, 40, 2_000] {
            for (longest, lost) in [(0, 0), (MILLISECOND, 0), (20 * MILLISECOND, 5)] {
                let mut machines = Machines::new(nodes, requests);
                let count = machines.offer(4_000, longest, lost);
                let (most, bound) = machines.bound();
                let what = format!("{nodes} machines, {requests}, {longest}, {lost}");
                assert!((most..=bound).contains(&count), "{what}: {count} of {bound}");
                assert_eq!(machines.offer(1_500, longest, lost), 0, "{what}: it is used up");
            }
        }
    }
}

/// Away from the start each has its share; what it used up alone counts once the store is there, once.
#[test]
fn d05_the_store_is_away() {
    for (nodes, requests) in [(2, 40), (3, 1_000), (3, 7)] {
        let mut machines = Machines::new(nodes, requests);
        machines.see(false);
        let alone = machines.offer(1_500, 0, 0);
        let shares = nodes * usize::try_from(requests).unwrap().div_ceil(nodes);
        assert_eq!(alone, shares, "{nodes} machines, {requests}");
        assert!(machines.worlds[0].limits.asks().unwrap().alone() > 0);
        machines.see(true);
        // The first to tell what it has used up has not heard of the others yet.
        let more = machines.offer(2_000, MILLISECOND, 0);
        let (_, bound) = machines.bound();
        assert!(alone + more <= bound, "{nodes} machines, {requests}: {alone} and {more} of {bound}");
        assert_eq!(machines.offer(1_500, MILLISECOND, 0), 0, "nothing is left, and nothing is counted twice");
    }
    // It goes when some is used up: each has its share of what is left, and together they have all of it.
    let mut machines = Machines::new(3, 3_000);
    let mut count = machines.offer(300, MILLISECOND, 0);
    for round in 0..4 {
        machines.see(false);
        count += machines.offer(300, 0, 0);
        if round % 2 == 1 {
            // And all that it knew is lost.
            machines.store = Store::default();
        }
        machines.see(true);
        count += machines.offer(300, MILLISECOND, 0);
    }
    count += machines.offer(6_000, MILLISECOND, 0);
    let (most, bound) = machines.bound();
    assert!((most..=bound).contains(&count), "{count} of {most} to {bound}");
}

/// A machine that begins anew, and has lost what was on its disk, hears from the store what it had used up.
#[test]
fn a_machine_begins_anew() {
    let mut machines = Machines::new(2, 1_000);
    let mut count = machines.offer(500, MILLISECOND, 0);
    for _ in 0..3 {
        machines.under_way[1].clear();
        machines.worlds[1] = machines.world();
        machines.worlds[1].limits.asks().unwrap().set_first(true);
        count += machines.offer(100, MILLISECOND, 0);
    }
    count += machines.offer(6_000, MILLISECOND, 0);
    let (most, bound) = machines.bound();
    // What it had not told is lost: a portion, or its part of what was left.
    assert!((most..=bound + 3 * 125).contains(&count), "{count} of {most} to {bound}");
}

/// An operator's word on one machine is that of all, also where the store was away or has lost it.
#[test]
fn an_operator_sets_a_quota() {
    let (most, is_about) = (1_000_usize, |count: usize, expect: usize| (expect..expect + 300).contains(&count));
    let mut machines = Machines::new(3, 1_000);
    assert!(is_about(machines.offer(6_000, MILLISECOND, 0), most));
    set(&machines, 1, 0);
    let count = machines.offer(6_000, MILLISECOND, 0);
    assert!(is_about(count, most), "{count}");
    set(&machines, 0, 600);
    let count = machines.offer(6_000, MILLISECOND, 0);
    assert!(is_about(count, 400), "{count}");
    // Others know of it only once the store is back.
    machines.see(false);
    set(&machines, 2, 0);
    let alone = machines.offer(1_000, 0, 0);
    machines.see(true);
    let count = alone + machines.offer(6_000, MILLISECOND, 0);
    assert!(is_about(count, most), "{count}");
    // The store has lost it: the machines know it.
    machines.see(false);
    machines.store = Store::default();
    machines.see(true);
    assert_eq!(machines.offer(2_000, MILLISECOND, 0), 0);
    let question = LimitQuestion::ShowQuota(vec![("address".to_owned(), "0.0.0.1".to_owned())]);
    let rows = report::answer(Some(&machines.worlds[0].limits), &question, machines.now);
    let sum = rows[0].used.unwrap() + rows[0].elsewhere.unwrap();
    assert_eq!((rows[0].left, rows[0].machines, sum >= 1_000), (Some(0), Some(3), true), "{rows:?}");
}

/// Whoever has the store gives nobody a quota anew: a machine's own count goes down by the word of an operator alone, and that
/// has a tag which the store cannot make. Nor does an earlier word count again.
#[test]
fn d05_a_store_that_lies_gives_nothing_back() {
    let mut machines = Machines::new(3, 1_000);
    machines.offer(6_000, MILLISECOND, 0);
    let disbelieved = |machines: &Machines| {
        machines.worlds.iter().map(|world| world.limits.asks().unwrap().disbelieved()).sum::<u64>()
    };
    assert_eq!(disbelieved(&machines), 0);
    for lies in [(0, 0), (1, 0), (1, 7), (u64::MAX, 7)] {
        machines.store.lies = Some(lies);
        assert_eq!(machines.offer(2_000, MILLISECOND, 0), 0, "{lies:?}");
    }
    assert!(disbelieved(&machines) > 0);
    // What an operator says counts all the same, once; the store may say it again.
    machines.store.lies = None;
    set(&machines, 1, 0);
    let count = machines.offer(6_000, MILLISECOND, 0);
    assert!((1_000..1_300).contains(&count), "{count}");
    let word = machines.store.counts.values().map(|count| (count.generation, count.tag)).max().unwrap();
    machines.store.lies = Some(word);
    assert_eq!(machines.offer(2_000, MILLISECOND, 0), 0);
}

/// A store that answers an operator's word with other numbers is asked less and less, whatever is used up meanwhile.
#[test]
fn d05_a_store_that_lies_is_asked_less_and_less() {
    let mut machines = Machines::new(1, 1_000);
    machines.offer(500, MILLISECOND, 0);
    machines.store.lies = Some((1, 7));
    set(&machines, 0, 0);
    let asked: Vec<usize> = (0..40)
        .map(|_| {
            let before = machines.store.asked;
            machines.offer(1_000, MILLISECOND, 0);
            machines.store.asked - before
        })
        .collect();
    assert!(asked.iter().sum::<usize>() < 30, "{asked:?}");
    assert!(asked[20..].iter().sum::<usize>() < 6, "{asked:?}");
    // It is told all the same once it answers as it should.
    machines.store.lies = None;
    machines.offer(61_000, MILLISECOND, 0);
    assert!(machines.store.counts.values().any(|count| count.generation > 1_000), "the word is there");
    let before = machines.store.asked;
    machines.offer(2_000, MILLISECOND, 0);
    assert!(machines.store.asked > before, "and the store is asked as ever");
}

/// A machine that begins anew has from its disk which words of operators it has heard: none of them counts again.
#[test]
fn d05_a_word_counts_once_in_all_lives_of_a_machine() {
    let mut machines = Machines::new(1, 1_000);
    machines.offer(4_000, MILLISECOND, 0);
    set(&machines, 0, 0);
    let count = machines.offer(4_000, MILLISECOND, 0);
    assert!((1_000..1_300).contains(&count), "{count}");
    let word = machines.store.counts.values().map(|count| (count.generation, count.tag)).max().unwrap();
    for _ in 0..2 {
        let limits = &machines.worlds[0].limits;
        limits.retell();
        let told = limits.untold(machines.now);
        assert!(told.iter().any(|report| !report.words.is_empty()), "{told:?}");
        let (quota, counts, span) = (told[0].quota.clone(), told[0].counts.clone(), told[0].span);
        let units = |row: &UsedRow| (row.key, row.units.unsigned_abs());
        let rows = told.iter().flat_map(|report| &report.rows).map(units).collect();
        let words = told.iter().flat_map(|report| report.words.clone()).collect();
        machines.under_way[0].clear();
        machines.worlds[0] = machines.world();
        machines.worlds[0].limits.restore(&QuotaState { quota, counts, span, rows, words }, machines.now);
        machines.store.lies = Some(word);
        assert_eq!(machines.offer(2_000, MILLISECOND, 0), 0);
    }
    // A later one counts.
    machines.store.lies = None;
    set(&machines, 0, 0);
    let count = machines.offer(4_000, MILLISECOND, 0);
    assert!((1_000..1_300).contains(&count), "{count}");
}

fn set(machines: &Machines, at: usize, used: u64) {
    let key = vec![("address".to_owned(), "0.0.0.1".to_owned())];
    let question = LimitQuestion::SetQuota { quota: None, key, used };
    let rows = report::answer(Some(&machines.worlds[at].limits), &question, machines.now);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

/// Without a cluster nothing is asked, and a quota that is not shared counts on each machine alone.
#[test]
fn not_shared() {
    let world = World::new("[quota.address]\nby = [\"address\"]\nrequests = 5\nper = \"day\"\n");
    world.limits.tick(clocks(START));
    assert!(world.limits.asks().is_none());
    assert_eq!((0..9).filter(|_| world.addressed(1, START)).count(), 5);
}
