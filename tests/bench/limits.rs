//! Times the judging of a request by limits: one, four and sixteen of them, of few clients and of many.
//!
//! What a shared machine gives away for a moment is lost; the least of many short measurements is what a request costs.
//! `cargo xtask bench limits` runs this.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool of the tests: whatever fails names its line")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{env, hint::black_box, net::Ipv4Addr, time::Instant};

use gateway::{
    policy::limit::{LimitFacts, LimitResult, Limits, When},
    settings::limit::{Allowance, Cost, Except, KeyPart, Limit, Rate, Settings},
};
use gateway_common::source::Source;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// How many limits a request has.
const LIMITS: [usize; 3] = [1, 4, 16];

/// How many clients there are: those of the last no longer fit the caches.
const CLIENTS: [u32; 3] = [1, 10_000, 1_000_000];

/// How many requests one measurement is.
const REQUESTS: u32 = 20_000;

/// How often each case is measured.
const ROUNDS: u32 = 30;

fn main() {
    let cases = LIMITS.iter().flat_map(|limits| CLIENTS.iter().map(move |clients| (*limits, *clients)));
    let figures: Vec<(usize, u32, f64)> =
        cases.map(|(limits, clients)| (limits, clients, measure(limits, clients))).collect();
    if env::args().any(|argument| argument == "--json") {
        let row = |(limits, clients, ns): &(usize, u32, f64)| json!({ "limits": limits, "clients": clients, "ns": ns });
        println!("{}", json!(figures.iter().map(row).collect::<Vec<_>>()));
        return;
    }
    println!("{:>8} {:>10} {:>14}", "limits", "clients", "ns a request");
    for (limits, clients, nanoseconds) in figures {
        println!("{limits:>8} {clients:>10} {nanoseconds:>14.0}");
    }
}

/// Limits that let everything through, by the address, by prefixes and by a header.
fn settings(count: usize) -> Settings {
    let by = |number: usize| match number % 4 {
        0 => vec![KeyPart::Address(None)],
        1 => vec![KeyPart::Address(Some(48))],
        2 => vec![KeyPart::Header(HeaderName::from_static("x-tenant"))],
        _ => vec![KeyPart::Address(None), KeyPart::Header(HeaderName::from_static("x-tenant"))],
    };
    let limit = |number: usize| Limit {
        name: format!("l{number}"),
        by: by(number),
        allowance: Allowance::Rate(Rate {
            units: 1_000_000_000,
            per: std::time::Duration::from_secs(1),
            burst: 1_000_000_000,
        }),
        cost: Cost::Requests,
        routes: None,
        weights: Vec::new(),
        except: Except::default(),
        capacity: 2_000_000,
        delay: std::time::Duration::ZERO,
        clamp: None,
        headers: true,
        shadow: false,
        shared: false,
        quota: None,
    };
    Settings { limits: (0..count).map(limit).collect(), ..Settings::default() }
}

/// Nanoseconds to judge a request by so many limits, of so many clients in turn.
fn measure(count: usize, clients: u32) -> f64 {
    let limits = Limits::new(&settings(count), &[], &[], 64, None).unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), HeaderValue::from_static("acme"))]);
    let mut now = 3_600_000_000_000;
    let mut next = 0_u32;
    let mut round = |requests: u32| {
        let began = Instant::now();
        for _ in 0..requests {
            // Steps of a prime visit all of them, in an order that no cache foresees.
            next = next.wrapping_add(7_919);
            now += 1_000;
            let address = Ipv4Addr::from_bits(0x0a00_0000 | (next % clients)).into();
            let facts = LimitFacts {
                source: Source::of(address, 64),
                address,
                ja4: None,
                headers: &headers,
                target: None,
                route: None,
                identity: None,
                plan: None,
            };
            let mut judged = LimitResult::default();
            black_box(limits.judge(When::Arrived, black_box(&facts), now, &mut judged)).unwrap();
        }
        began.elapsed()
    };
    // Everybody is known.
    round(clients);
    let least = (0..ROUNDS).map(|_| round(REQUESTS)).min().unwrap_or_default();
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}
