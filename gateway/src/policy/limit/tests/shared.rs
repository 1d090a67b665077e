//! Several machines and one store: what they let through together, however late the store answers, while it is away,
//! and when it comes back empty.

use std::collections::HashMap;

use super::*;

/// The store, as `spend.lua` does it, by a clock of its own.
#[derive(Default)]
struct Store(HashMap<String, u64>);

impl Store {
    fn ask(&mut self, call: &StoreCall, now: u64) -> Granted {
        if call.is_reset {
            self.0.remove(&call.name);
            return Granted { left: call.burst, ..Granted::default() };
        }
        let cost = |units: u64| units * call.period / call.units;
        let arrival = self.0.entry(call.name.clone()).or_default();
        let start = (*arrival).clamp(now, now + cost(call.burst + call.debt));
        let charged = start + cost(call.charge);
        let free = (now + cost(call.burst)).saturating_sub(charged) * call.units / call.period;
        let units = call.want.min(free);
        *arrival = charged + cost(units);
        let wait = (*arrival + cost(call.least.min(call.burst))).saturating_sub(now + cost(call.burst));
        Granted { units, wait: if units == 0 { wait.max(1) } else { 0 }, left: free - units }
    }
}

/// Calls that are under way: when they get to the store, when the answer comes back, or never.
struct UnderWay {
    ask: BudgetRequest,
    call: StoreCall,
    arrives: u64,
    returns: u64,
    granted: Option<Granted>,
}

struct Machine {
    world: World,
    under_way: Vec<UnderWay>,
}

/// Machines that share a limit of addresses.
struct Machines {
    machines: Vec<Machine>,
    store: Store,
    /// The state of a generator (xorshift).
    dice: u64,
}

const MILLISECOND: u64 = SECOND / 1_000;

fn text(nodes: usize, requests: u64, per: &str, burst: u64, capacity: usize) -> String {
    in_cluster(
        nodes,
        &format!(
            "[limit.address]\nrequests = {requests}\nper = \"{per}\"\nburst = {burst}\ncapacity = {capacity}\n\
             shared = true\n"
        ),
    )
}

/// A configuration of one of so many machines.
pub(super) fn in_cluster(nodes: usize, more: &str) -> String {
    let mut text = format!(
        "{more}[cluster]\nnode = \"n0\"\nkey_file = \"a.key\"\nsecret_file = \"a.secret\"\n\
         store.servers = [\"127.0.0.1:6379\"]\n[cluster.nodes]\n"
    );
    for node in 0..nodes {
        let key = data_encoding::BASE64.encode(&[u8::try_from(node).unwrap(); 32]);
        text.push_str(&format!("n{node} = \"ed25519:{key}\"\n"));
    }
    text
}

impl Machines {
    fn new(nodes: usize, requests: u64, per: &str, burst: u64) -> Self {
        let text = text(nodes, requests, per, burst, 1_000);
        let machine = |_| {
            let world = World::new(&text);
            world.limits.asks().unwrap().set_reachable(true);
            Machine { world, under_way: Vec::new() }
        };
        Self { machines: (0..nodes).map(machine).collect(), store: Store::default(), dice: 0x9e37_79b9 }
    }

    fn roll(&mut self, most: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % most
    }

    /// What is under way goes on; what waits goes out. A call takes up to `longest`, either way. One of `lost` answers
    /// is lost; 0: none.
    fn pass(&mut self, now: u64, longest: u64, lost: u64) {
        for at in 0..self.machines.len() {
            for ask in self.machines[at].world.limits.asks().unwrap().take(usize::MAX) {
                let arrives = now + self.roll(longest + 1);
                let returns = arrives + self.roll(longest + 1);
                let call = ask.call();
                self.machines[at].under_way.push(UnderWay { ask, call, arrives, returns, granted: None });
            }
        }
        let is_lost = lost > 0 && self.roll(lost) == 0;
        for machine in &mut self.machines {
            for under_way in machine.under_way.iter_mut().filter(|it| it.granted.is_none() && it.arrives <= now) {
                under_way.granted = Some(self.store.ask(&under_way.call, now));
            }
            for UnderWay { ask, call, granted, .. } in machine.under_way.extract_if(.., |it| it.returns <= now) {
                match granted {
                    Some(granted) if !is_lost => ask.answered(&call, granted, now),
                    _ => drop(ask),
                }
            }
        }
    }

    fn asks(&self, at: usize, now: u64) -> bool {
        self.machines[at].world.addressed(1, now)
    }

    fn set_reachable(&self, is_reachable: bool) {
        self.machines.iter().for_each(|machine| machine.world.limits.asks().unwrap().set_reachable(is_reachable));
    }

    /// The stated bound, of so much time.
    fn bound(&self, time: u64) -> u64 {
        let limit = &self.machines[0].world.settings.limits[0];
        let Allowance::Rate(rate) = limit.allowance else { panic!("a rate") };
        let nodes = u64::try_from(self.machines.len()).unwrap();
        let period = u64::try_from(rate.per.as_nanos()).unwrap();
        let of_time = u64::try_from(u128::from(time) * u128::from(rate.units) / u128::from(period)).unwrap();
        of_time + rate.burst + 2 * nodes * portion_of(limit, nodes).unwrap()
    }
}

/// Offers more than the limit to all machines at once for some seconds; what they let through, in any window.
#[track_caller]
fn check(nodes: usize, (requests, per, burst): (u64, &str, u64), longest: u64, lost: u64, idle: u64) {
    let mut machines = Machines::new(nodes, requests, per, burst);
    let (step, seconds) = (MILLISECOND, 4);
    let (mut admitted, mut offered) = (Vec::<u64>::new(), 0_u64);
    let mut now = START;
    while now < START + seconds * SECOND {
        machines.pass(now, longest, lost);
        // Bursts, and pauses in which leases stay where they are.
        if idle == 0 || (now / idle).is_multiple_of(2) {
            for at in 0..nodes {
                if machines.roll(3) > 0 {
                    offered += 1;
                    if machines.asks(at, now) {
                        admitted.push(now);
                    }
                }
            }
        }
        now += step;
    }
    for (first, from) in admitted.iter().enumerate() {
        // Every window that begins with an admission and ends with one.
        for ahead in [1, 2, 5, 10, 50, 200, 1_000, 5_000] {
            let Some(until) = admitted.get(first + ahead) else { continue };
            let (count, bound) = (u64::try_from(ahead).unwrap() + 1, machines.bound(until - from));
            assert!(count <= bound, "{nodes} machines, {requests} per {per}, burst {burst}: {count} > {bound}");
        }
    }
    if idle == 0 && lost == 0 {
        // Nor much less than the rate, or than is asked for.
        let rate = offered.min(machines.bound(seconds * SECOND) - machines.bound(0));
        let count = u64::try_from(admitted.len()).unwrap();
        assert!(count * 100 >= rate * 90, "{nodes} machines, {requests} per {per}: {count} of {rate}");
    }
}

/// The race of machines: none waits for another, and all together keep to the bound.
#[test]
fn d05_the_race_of_machines_is_bounded() {
    for nodes in [1, 3, 8] {
        for limit in [(100, "1s", 100), (1, "1s", 1), (1_000, "1s", 10), (20, "1s", 200), (5, "1m", 5)] {
            for (longest, lost) in [(0, 0), (MILLISECOND, 0), (20 * MILLISECOND, 7), (200 * MILLISECOND, 3)] {
                for idle in [0, 700 * MILLISECOND] {
                    // A store that takes longer than a portion lasts refuses too much.
                    let lost = if longest > 2 * MILLISECOND { lost.max(3) } else { lost };
                    check(nodes, limit, longest, lost, idle);
                }
            }
        }
    }
}

/// What a machine was granted it spends, also when the store has nothing left for anybody.
#[test]
fn all_of_a_budget_is_spent() {
    for (nodes, burst) in [(2, 30), (3, 30), (3, 7), (8, 100)] {
        let mut machines = Machines::new(nodes, burst, "1h", burst);
        let mut admitted = 0;
        for step in 0..2_000 {
            let now = START + step * MILLISECOND;
            machines.pass(now, MILLISECOND, 0);
            admitted += (0..nodes).filter(|at| machines.asks(*at, now)).count();
        }
        let admitted = u64::try_from(admitted).unwrap();
        assert!((burst..=machines.bound(2 * SECOND)).contains(&admitted), "{nodes} machines, {burst}: {admitted}");
    }
}

/// While the store is away each machine has its share: never nothing, and never everything.
#[test]
fn d05_the_store_is_away_and_comes_back() {
    for nodes in [1, 2, 3, 8] {
        let mut machines = Machines::new(nodes, 90, "1s", 90);
        let mut admitted = 0_u64;
        let mut now = START;
        // Away twice, for two seconds each; the second time it comes back empty.
        while now < START + 10 * SECOND {
            let second = (now - START) / SECOND;
            let is_away = matches!(second, 2 | 3 | 6 | 7);
            machines.set_reachable(!is_away);
            if second == 8 && (now - START).is_multiple_of(SECOND) {
                machines.store.0.clear();
            }
            if !is_away {
                machines.pass(now, MILLISECOND, 0);
            }
            for at in 0..nodes {
                admitted += u64::from(machines.asks(at, now));
            }
            now += MILLISECOND;
        }
        // Each outage may let a burst through as it begins, and one as it ends.
        let most = machines.bound(10 * SECOND) + 2 * 2 * 90;
        let least = 10 * 90 * 9 / 10;
        assert!((least..=most).contains(&admitted), "{nodes} machines: {admitted} of {least} to {most}");
        assert!(machines.machines[0].world.limits.asks().unwrap().alone() > 3_000, "it counts how often it was alone");
    }
}

/// Machines call a key the same, and others do not know how.
#[test]
fn machines_call_a_key_the_same() {
    let names = |_| {
        let machines = Machines::new(2, 10, "1s", 10);
        assert!(machines.asks(0, START) && machines.asks(1, START));
        let name = |machine: &Machine| machine.world.limits.asks().unwrap().take(9)[0].call().name;
        let names: Vec<_> = machines.machines.iter().map(name).collect();
        assert_eq!(names[0], names[1]);
        names[0].clone()
    };
    let again: Vec<_> = (0..2).map(names).collect();
    assert_eq!(again[0], again[1], "after a restart, too");
    assert!(again[0].starts_with("address:") && !again[0].contains("0.0.0.1"), "{}", again[0]);
}

/// What was refused is refused here until its time, without asking; then it is let through, as `Retry-After` said.
#[test]
fn a_spent_key_is_cached_until_its_time() {
    let mut machines = Machines::new(2, 1, "1m", 1);
    assert!(machines.asks(0, START));
    machines.pass(START, 0, 0);
    machines.pass(START, 0, 0);
    for second in 0..59 {
        assert!(!machines.asks(0, START + second * SECOND), "{second}");
        assert!(machines.machines[0].world.limits.asks().unwrap().take(9).is_empty(), "{second}: it asks");
    }
    assert!(machines.asks(0, START + 60 * SECOND));
}

/// Newcomers take nobody's place who is refused or owes anything.
#[test]
fn d06_an_active_offender_is_not_forgotten() {
    let text = text(2, 1, "1h", 1, 300);
    let world = World::new(&text);
    let asks = world.limits.asks().unwrap();
    asks.set_reachable(true);
    let mut store = Store::default();
    let answer = |now, store: &mut Store| {
        for ask in asks.take(usize::MAX) {
            let call = ask.call();
            let granted = store.ask(&call, now);
            ask.answered(&call, granted, now);
        }
    };
    assert!(world.addressed(1, START));
    answer(START, &mut store);
    assert!(!world.addressed(1, START + SECOND));
    for number in 2..5_000 {
        world.addressed(number, START + SECOND + u64::from(number));
        answer(START + SECOND + u64::from(number), &mut store);
    }
    assert!(!world.addressed(1, START + 2 * SECOND));
    assert!(world.sum("address").keys <= 600, "{}", world.sum("address").keys);
}

/// An operator's reset reaches the store.
#[test]
fn a_reset_reaches_the_store() {
    let mut machines = Machines::new(2, 1, "1h", 1);
    assert!(machines.asks(0, START));
    machines.pass(START, 0, 0);
    machines.pass(START, 0, 0);
    assert!(!machines.asks(0, START + SECOND));
    let question = LimitQuestion::Reset(vec![("address".to_owned(), "0.0.0.1".to_owned())]);
    assert_eq!(report::answer(Some(&machines.machines[0].world.limits), &question, START).len(), 1);
    machines.pass(START + SECOND, 0, 0);
    machines.pass(START + SECOND, 0, 0);
    assert!(machines.store.0.is_empty());
    assert!(machines.asks(0, START + 2 * SECOND));
}

/// Not lost where the store goes away meanwhile, and told as it is.
#[test]
fn a_reset_is_made_again_until_the_store_has_answered() {
    let machines = Machines::new(2, 10, "1h", 10);
    let limits = &machines.machines[0].world.limits;
    let asks = limits.asks().unwrap();
    assert!(machines.asks(0, START));
    drop(asks.take(9));
    let parts = || vec![("address".to_owned(), "0.0.0.1".to_owned())];
    assert_eq!(report::answer(Some(limits), &LimitQuestion::Reset(parts()), START).len(), 1);
    // Somebody comes before the store knows: that is to be charged.
    assert!(machines.asks(0, START));
    for time in 0..3 {
        let taken = asks.take(9);
        assert!(taken.iter().any(|ask| ask.call().is_reset), "{time}: it is lost");
        drop(taken);
    }
    assert!(machines.asks(0, START));
    let mut store = Store::default();
    for ask in asks.take(9) {
        let call = ask.call();
        let granted = store.ask(&call, START);
        if call.is_reset {
            ask.answered(&call, granted, START);
        }
    }
    assert!(asks.take(9).iter().all(|ask| !ask.call().is_reset), "once is enough");
    let rows = report::answer(Some(limits), &LimitQuestion::Show(parts()), START);
    assert_eq!(rows[0].left, Some(8), "all but the two that came since");
}

/// A key that the store cannot count is this machine's share to decide, and no other key's matter.
#[test]
fn d05_a_key_that_the_store_cannot_count_is_counted_here() {
    let machines = Machines::new(2, 20, "1h", 20);
    let asks = machines.machines[0].world.limits.asks().unwrap();
    let mut admitted = 0;
    for request in 0..60 {
        admitted += u32::from(machines.asks(0, START + request * MILLISECOND));
        for ask in asks.take(9) {
            ask.failed(START + request * MILLISECOND);
        }
    }
    // A portion or two before it was known, and half of the burst.
    assert!((10..=20).contains(&admitted), "{admitted} of 60");
    assert!(asks.is_reachable() && asks.alone() > 30, "{} alone", asks.alone());
    // Later it is asked for again.
    machines.asks(0, START + 2 * SECOND);
    assert_eq!(asks.take(9).len(), 1);
}

/// A reload keeps what is known of keys.
#[test]
fn d07_a_reload_keeps_leases() {
    let text = text(2, 1, "1h", 1, 1_000);
    let mut world = World::new(&text);
    world.limits.asks().unwrap().set_reachable(true);
    assert!(world.addressed(1, START));
    let mut store = Store::default();
    for ask in world.limits.asks().unwrap().take(9) {
        let call = ask.call();
        let granted = store.ask(&call, START);
        ask.answered(&call, granted, START);
    }
    for _ in 0..3 {
        world.reload(&text, START + SECOND);
        assert!(!world.addressed(1, START + SECOND));
    }
}

/// A machine goes on by its own share, whatever the secret is by which machines call their keys.
#[test]
fn d07_another_secret_keeps_the_share() {
    let text = text(2, 10, "1h", 10, 1_000);
    let mut world = World::new(&text);
    assert_eq!(world.served(&Ask::default(), 20, START), 5, "the store is away");
    world.reload(&text.replace("a.secret", "b.secret"), START);
    assert_eq!(world.served(&Ask::default(), 20, START), 0);
    // The store knows nothing of the keys of the new secret.
    let asks = Arc::clone(world.limits.asks().unwrap());
    let name = |asks: &Arc<BudgetQueue>| asks.take(usize::MAX).into_iter().map(|ask| ask.call().name).next().unwrap();
    asks.set_reachable(true);
    assert!(world.served(&Ask::default(), 1, START) > 0);
    let second = name(&asks);
    world.reload(&text, START);
    assert!(world.served(&Ask::default(), 1, START) > 0);
    assert_ne!(second, name(&asks));
}
