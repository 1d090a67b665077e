//! What budgets have spent goes on in another process.

use super::*;
use crate::policy::limit::{
    bandwidth::Bandwidth,
    connection::ConnectionLimits,
    spent::{AllLimits, Limited, MAX_SPENT, MOST_SPENT, SpentBudgets},
};

/// Another process of the same gateway.
fn process(text: &str) -> World {
    let proxy = config(text).proxy;
    let settings = limit::Settings { seed: Some(limit::KeySeed([7; 16])), ..proxy.limits };
    let limits = Limits::new(&settings, &proxy.routes, &kept(), proxy.ipv6_prefix, None).unwrap();
    World { settings, limits }
}

fn all<T>(world: &World, what: impl FnOnce(AllLimits<'_>) -> T) -> T {
    let (bandwidth, connections) = (Bandwidth::default(), ConnectionLimits::default());
    what(AllLimits { requests: Some(&world.limits), bandwidth: &bandwidth, connections: &connections })
}

fn spent(world: &World, now: u64) -> Vec<SpentBudgets> {
    all(world, |limits| limits.spent(now))
}

fn resume(world: &World, spent: &[SpentBudgets], now: u64) {
    all(world, |limits| spent.iter().for_each(|spent| limits.resume(spent, now)));
}

const CLIENT: &str = "[limit.client]\nby = [\"principal\"]\nrequests = 10\nper = \"100s\"\n";

fn ask(name: &str) -> Ask<'static> {
    Ask { identity: principal(name), ..Ask::default() }
}

#[test]
fn d07_the_next_process_gives_no_other_burst() {
    for (text, left) in [
        (CLIENT.to_owned(), 4),
        (format!("{CLIENT}capacity = 77\n"), 4),
        // As many units are taken of another rate.
        (CLIENT.replace("= 10", "= 20"), 14),
        (CLIENT.replace("100s", "1h"), 4),
        (CLIENT.replace("= 10", "= 5"), 0),
        // What is counted otherwise is counted anew.
        (CLIENT.replace("principal", "address"), 10),
        (CLIENT.replace("client", "other"), 10),
        (CLIENT.replace("requests", "concurrent").replace("per = \"100s\"\n", ""), 20),
    ] {
        let (before, after) = (process(CLIENT), process(&text));
        assert_eq!(before.served(&ask("ada"), 6, START), 6);
        resume(&after, &spent(&before, START), START);
        assert_eq!(after.served(&ask("ada"), 20, START), left, "{text}");
    }
    let (before, after) = (process(CLIENT), process(CLIENT));
    assert_eq!(before.served(&ask("ada"), 20, START), 10);
    let told = spent(&before, START);
    // It may come late, twice, and after this process has let something through.
    assert_eq!(after.served(&ask("ada"), 1, START), 1);
    (0..2).for_each(|_| resume(&after, &told, START + 10 * SECOND));
    assert_eq!(after.served(&ask("ada"), 20, START + 10 * SECOND), 1, "what has come back meanwhile");
    assert!(spent(&before, START + 200 * SECOND).is_empty(), "all are full");
    resume(&after, &told, START + 200 * SECOND);
    assert_eq!(after.served(&ask("ada"), 20, START + 200 * SECOND), 10);
}

#[test]
fn d06_what_is_handed_on_is_bounded_and_the_emptiest_budgets_are_among_it() {
    let text = "[limit.address]\nrequests = 10\nper = \"1h\"\ncapacity = 200000\n";
    let (before, after) = (process(text), process(text));
    (0..150_000).for_each(|number| assert!(before.addressed(number, START)));
    let offenders = [7, 77_777, 149_999];
    offenders.iter().for_each(|number| while before.addressed(*number, START) {});
    let told = spent(&before, START);
    let count: usize = told.iter().map(|told| told.rows.len()).sum();
    assert!(count > MOST_SPENT / 2 && count <= MOST_SPENT, "{count}");
    assert!(told.iter().all(|told| told.rows.len() <= MAX_SPENT && told.limited == Limited::Requests));
    resume(&after, &told, START);
    assert!(offenders.iter().all(|number| !after.addressed(*number, START)));
}

/// A proxy in wrong hands tells anything.
#[test]
fn nothing_that_is_told_harms() {
    let world = process(CLIENT);
    assert_eq!(world.served(&ask("ada"), 1, START), 1);
    let mut told = spent(&world, START);
    for (unit, arrival) in [(0, u64::MAX), (1, u64::MAX), (u64::MAX, u64::MAX), (10 * SECOND, 0), (7, START)] {
        told[0].unit = unit;
        told[0].rows = vec![(1, arrival), (u64::MAX, arrival)];
        resume(&world, &told, START);
    }
    assert_eq!(world.served(&ask("ada"), 20, START), 9);
    told[0].plan = Some("nobody".to_owned());
    resume(&world, &told, START);
}
