//! Times what detection costs a request: with no rule, with the default rules, with profiles, and with a rule that looks at
//! every request; of clients that are served, and of one that fails.
//!
//! What a shared machine gives away for a moment is lost; the least of many short measurements is what a request costs.

use std::{hint::black_box, net::Ipv4Addr, time::Instant};

use gateway::{
    config::Config,
    policy::detect::{Detector, Finished, Observed, ObservedFacts, UpstreamAnswer},
    web::request_id::RequestId,
};
use gateway_common::source::Source;
use serde_json::{Value, json};

/// What is configured.
const CASES: [(&str, &str); 4] = [
    ("no rule", ""),
    ("default rules", "[detect]\ndefaults = \"shadow\"\nprofiles = 0\n"),
    ("default rules, profiles", "[detect]\ndefaults = \"shadow\"\n"),
    ("the same, scraping", "[detect]\ndefaults = \"shadow\"\n[[rule]]\nname = \"scraping\"\n"),
];

/// How many clients there are.
const CLIENTS: [u32; 3] = [1, 10_000, 1_000_000];

/// How many requests one measurement is, and how often each case is measured.
const REQUESTS: u32 = 20_000;
const ROUNDS: u32 = 30;

/// Rules, clients, the status, and nanoseconds.
pub(super) type Figure = (&'static str, u32, u16, f64);

pub(super) fn measure(config: &dyn Fn(&str) -> Config) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, tables) in CASES {
        for clients in CLIENTS {
            for status in [200, 404] {
                figures.push((name, clients, status, nanoseconds(&config(tables), clients, status)));
            }
        }
    }
    figures
}

pub(super) fn value(figures: &[Figure]) -> Value {
    let row =
        |(name, clients, status, ns): &Figure| json!({ "rules": name, "clients": clients, "status": status, "ns": ns });
    figures.iter().map(row).collect()
}

pub(super) fn print(figures: &[Figure]) {
    println!("\n{:>26} {:>10} {:>8} {:>14}", "rules", "clients", "status", "ns a request");
    for (name, clients, status, nanoseconds) in figures {
        println!("{name:>26} {clients:>10} {status:>8} {nanoseconds:>14.0}");
    }
}

/// Nanoseconds of a request, with all that the proxy asks of the detector for it: of so many clients in turn, all of them
/// served, or all of them but every sixteenth answered by 404.
fn nanoseconds(config: &Config, clients: u32, status: u16) -> f64 {
    let detector = Detector::new(&config.proxy.detect);
    let (mut now, mut next) = (3_600_000_000_000, 0_u32);
    let mut round = |requests: u32| {
        let began = Instant::now();
        for _ in 0..requests {
            // Steps of a prime visit all of them, in an order that no cache foresees.
            next = next.wrapping_add(7_919);
            now += 1_000;
            let address = Ipv4Addr::from_bits(0x0a00_0000 | (next % clients)).into();
            let source = Source::of(address, 64);
            let status = if status == 404 && next % 16 == 0 { 404 } else { 200 };
            request(&detector, source, status, now);
        }
        began.elapsed()
    };
    round(clients.max(REQUESTS));
    let least = (0..ROUNDS).map(|_| round(REQUESTS)).min().unwrap_or_default();
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

fn request(detector: &Detector, source: Source, status: u16, now: u64) {
    let agent = detector.agent(black_box(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"));
    let path = black_box("/orders/7c9e6679-7425-40de-944b-e07fc1f90ae7/items/17");
    let mut seen = None;
    if detector.looks_at_answers() {
        let answer = UpstreamAnswer { route: 0, upstream: 0, status, is_identified: true };
        seen = detector.judge_answer(&answer, source, now);
        if let Some(signal) = seen {
            let facts = ObservedFacts { path: Some(path), agent, ..ObservedFacts::default() };
            let (address, id, principal) = (source.address(), RequestId(1), Some("ada"));
            let observed = Observed { signal, source, address, principal, id, limits: &[], facts };
            black_box(detector.note(&observed, now));
        }
    }
    if detector.keeps_profiles() {
        let (principal, path) = (Some("ada"), Some(path));
        let finished =
            Finished { id: None, principal, path, agent, status, signal: seen, bytes_in: 0, bytes_out: 500, hour: 14 };
        detector.finished(source, &finished, now);
    }
}
