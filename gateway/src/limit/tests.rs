//! How many requests get through.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use gateway_common::limit::Rate;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// Long after boot.
const START: u64 = 3_600 * SECOND;

fn limit(per_second: u64, burst: u64, capacity: usize) -> AddressLimit {
    AddressLimit::new(&Settings { rate: Rate::per_second(per_second, burst).unwrap(), capacity, shadow: false })
}

fn source(number: u32) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::from_bits(number)), 64)
}

fn sources(addresses: &[&str]) -> Vec<Source> {
    addresses.iter().map(|address| Source::of(address.parse().unwrap(), 64)).collect()
}

/// Offers a request every `gap` for `seconds`, from each source in turn, and counts those let through.
#[track_caller]
fn check(limit: &AddressLimit, from: &[Source], gap: u64, seconds: u64, expect: u64) {
    let turns = (START..START + seconds * SECOND).step_by(usize::try_from(gap).unwrap());
    let admitted =
        turns.zip(from.iter().cycle()).filter(|(now, from)| limit.spend(**from, *now).is_ok()).count() as u64;
    assert!(admitted.abs_diff(expect) <= expect / 100 + 1, "{admitted}, not {expect}");
}

#[test]
fn d05_one_budget_however_a_source_spells_itself() {
    let one = |addresses| check(&limit(100, 10, 1_000), &sources(addresses), SECOND / 1_000, 10, 1_010);
    one(&["192.0.2.1"]);
    one(&["192.0.2.1", "::ffff:192.0.2.1"]);
    one(&["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::", "2001:db8:0:0:1:2:3:4"]);
    let two = &sources(&["2001:db8::1", "2001:db8:0:1::1"]);
    check(&limit(100, 10, 1_000), two, SECOND / 1_000, 10, 2 * 1_010);
}

#[test]
fn d05_exact_across_threads() {
    let (limit, admitted, threads) = (limit(1_000, 100, 10_000), AtomicU64::new(0), 8);
    let ticks = 20_000;
    let tick = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = tick.fetch_add(1, Ordering::Relaxed);
                    if at >= ticks {
                        return;
                    }
                    // One hot source, and company that moves the tables about.
                    drop(limit.spend(source(u32::try_from(at).unwrap()), START));
                    if limit.spend(source(u32::MAX), START).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 100, "time stood still: the burst and not one more");
}

#[test]
fn d06_an_offender_is_not_forgotten_in_a_crowd() {
    let limit = limit(1, 20, 1_000);
    let offender = source(u32::MAX);
    let mut admitted = 0;
    for number in 0..1_000_000 {
        let now = START + u64::from(number) * 1_000;
        drop(limit.spend(source(number), now));
        if number % 100 == 0 && limit.spend(offender, now).is_ok() {
            admitted += 1;
        }
    }
    assert_eq!(admitted, 20, "one second: the burst alone");
    assert!(limit.budgets.len() <= 1_000);
}

#[test]
fn d07_no_window_whose_edge_doubles_the_burst() {
    let limit = limit(10, 10, 100);
    let from = source(1);
    let burst = |now: u64| (0..100).filter(|_| limit.spend(from, now).is_ok()).count();
    assert_eq!(burst(START), 10);
    assert_eq!(burst(START + SECOND / 2), 5);
    assert_eq!(burst(START + SECOND - 1), 4);
    assert_eq!(burst(START + SECOND), 1);
    assert_eq!(burst(START + 86_400 * SECOND), 10, "idleness earns the burst and no more");
}

#[test]
fn tells_when_to_come_back() {
    for (per_second, burst, wait) in [(1, 1, 1), (10, 1, 1), (1_000, 1_000, 1)] {
        let limit = limit(per_second, burst, 10);
        let refusal = (0..=burst).find_map(|_| limit.spend(source(1), START).err()).unwrap();
        assert_eq!((refusal.reject, refusal.retry_after), (Reject::TooManyRequests, Some(wait)));
    }
    let slow =
        AddressLimit::new(&Settings { rate: Rate::per(1, 60 * SECOND, 1).unwrap(), capacity: 10, shadow: false });
    slow.spend(source(1), START).unwrap();
    let refusal = slow.spend(source(1), START + SECOND / 2).unwrap_err();
    assert_eq!(refusal.retry_after, Some(60));
}

#[test]
fn in_shadow_it_counts_and_serves() {
    let rate = Rate::per_second(1, 2).unwrap();
    let limit = AddressLimit::new(&Settings { rate, capacity: 100_000, shadow: true });
    for from in [source(1), source(2)] {
        assert!((0..10).all(|_| limit.spend(from, START).is_ok()));
    }
    limit.spend(source(3), START).unwrap();
    assert_eq!(limit.would_refuse(), Some(ShadowRefusals { requests: 16, sources: vec![source(1), source(2)] }));
    assert_eq!(limit.would_refuse(), None);
    limit.spend(source(1), START).unwrap();
    assert_eq!(limit.would_refuse(), Some(ShadowRefusals { requests: 1, sources: vec![] }), "told of once");
    for number in 10..50_000 {
        (0..3).for_each(|_| limit.spend(source(number), START).unwrap());
    }
    let would = limit.would_refuse().unwrap();
    assert_eq!((would.requests, would.sources.len()), (49_990, MOST_TOLD));
    assert!(limit.told.lock().unwrap().known.len() <= MOST_KNOWN);
    limit.enforce();
    assert!(limit.spend(source(1), START).is_err(), "promoted");
    assert_eq!(limit.would_refuse(), None);
}

/// A clock that steps back (it is monotonic, but threads read it and then wait for a lock) takes nothing away.
#[test]
fn an_earlier_now_is_harmless() {
    let limit = limit(10, 10, 10);
    limit.spend(source(1), START).unwrap();
    limit.spend(source(1), START - SECOND / 20).unwrap();
    limit.spend(source(1), START).unwrap();
}
