//! How long after the end of a minute the sources of an anomaly are banned, by when `gateway why --json` says that each ban
//! began.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use support::{
    daemon::Daemon,
    http1::Client,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::until,
    world::{World, bystander},
};

use crate::anomalies::{MINUTES, acting, after_the_minute, go_on, habit};

/// How many are served meanwhile: they show that the gateway works.
const GOOD: u8 = 5;

/// So many attack in each round. More are a crowd.
const ATTACKERS: u8 = 3;

/// So many minutes end.
const ROUNDS: u8 = 3;

/// Microseconds that each ban began after the end of its minute.
pub(super) fn measure() -> Vec<u64> {
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { guard: "max_bans_per_minute = 100".to_owned(), ..acting(&world) });
    let (over, counted) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let (world, daemon, over, counted) = (&world, &daemon, &over, &counted);
        for number in 0..GOOD {
            scope.spawn(move || {
                let token = tokens::good(&format!("good-{number}"), &["reader"]);
                let served = habit("/items", 1_000, |status| status == 200);
                go_on(&Client::new(world, bystander(number)), Some(&token), &served, over, counted);
            });
        }
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..ROUNDS).flat_map(|round| banned(world, daemon, GOOD + round * ATTACKERS)).collect()
        }));
        over.store(true, Ordering::Relaxed);
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Attackers, of whom this is the first, go on until all of them are banned.
fn banned(world: &World, daemon: &Daemon<'_>, first: u8) -> Vec<u64> {
    let attackers = first..first + ATTACKERS;
    let (over, counted) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let (over, counted) = (&over, &counted);
        for number in attackers.clone() {
            let scan = habit("/nowhere", 400, |_| true);
            scope.spawn(move || go_on(&Client::new(world, bystander(number)), None, &scan, over, counted));
        }
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            attackers.map(|number| micros(daemon, bystander(number))).collect()
        }));
        over.store(true, Ordering::Relaxed);
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn micros(daemon: &Daemon<'_>, address: IpAddr) -> u64 {
    let long = until("the ban", MINUTES, || {
        let why = daemon.done(&["why", &address.to_string()]);
        (why["verdict"] == "blocked").then(|| after_the_minute(why["entry"]["started"].as_str().unwrap()))
    });
    u64::try_from(long.min(Duration::from_secs(60)).as_micros()).unwrap()
}
