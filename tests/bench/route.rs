//! Times finding a route: tables of ten routes to ten thousand, asked for paths all over them.
//!
//! What a shared machine gives away for a moment is lost; the least of many short measurements is what a lookup costs.
//! `cargo xtask bench route` runs this.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool of the tests: whatever fails names its line")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{env, hint::black_box, time::Instant};

use gateway::{
    route::{Routes, target::Target},
    settings::{
        auth::{Accepted, Methods},
        authz::Requirement,
        route::{Action, Route},
    },
};
use http::{HeaderMap, Method, Request};
use serde_json::json;

/// How many routes a table has.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// How many lookups one measurement is.
const LOOKUPS: usize = 10_000;

/// How often each table is measured.
const ROUNDS: usize = 50;

fn main() {
    let figures: Vec<(usize, f64)> = SIZES.iter().map(|&size| (size, measure(size))).collect();
    if env::args().any(|argument| argument == "--json") {
        let rows: Vec<_> = figures.iter().map(|(routes, ns)| json!({ "routes": routes, "ns": ns })).collect();
        println!("{}", json!(rows));
        return;
    }
    println!("{:>8} {:>14}", "routes", "ns a lookup");
    for (routes, nanoseconds) in figures {
        println!("{routes:>8} {nanoseconds:>14.0}");
    }
}

/// Nanoseconds to find one of `size` routes, which are of ten hosts.
fn measure(size: usize) -> f64 {
    let host = |number: usize| format!("h{}.example.com", number % 10);
    let routes: Vec<_> =
        (0..size).map(|number| route(host(number), format!("/service{number}/items/{{id}}"))).collect();
    let routes = Routes::new(&routes).unwrap_or_else(|faults| panic!("{faults:?}"));
    // Steps of a prime visit all of them, in an order that no cache foresees.
    let targets: Vec<Target> = (0..LOOKUPS)
        .map(|step| {
            let number = (step * 7_919) % size;
            let request = Request::get(format!("/service{number}/items/{step}")).header("host", host(number));
            Target::read(&request.body(()).unwrap().into_parts().0, ([127, 0, 0, 1], 80).into(), 8_192).unwrap()
        })
        .collect();
    let headers = HeaderMap::new();
    let round = |_| {
        let began = Instant::now();
        for target in &targets {
            assert!(black_box(routes.find(black_box(target), &Method::GET, &headers)).is_ok());
        }
        began.elapsed()
    };
    let least = (0..ROUNDS).map(round).min().unwrap_or_default();
    least.as_secs_f64() * 1e9 / f64::from(u32::try_from(LOOKUPS).unwrap())
}

fn route(host: String, path: String) -> Route {
    Route {
        name: None,
        tags: Vec::new(),
        shadow: Vec::new(),
        host: Some(host),
        path,
        methods: vec![Method::GET],
        when: Vec::new(),
        accepted: Accepted { methods: Methods::Any(Vec::new()), bound_tokens: false },
        require: Requirement::Public,
        scopes: Vec::new(),
        claims: Vec::new(),
        sources: None,
        allow_if: Vec::new(),
        action: Action::Forward(0),
        rewrite: None,
        request_headers: None,
        response_headers: None,
        pass_headers: Vec::new(),
        allow_in_path: Default::default(),
        timeouts: None,
        schema: None,
        parameters: Vec::new(),
        refuses_unknown: Default::default(),
        content_types: Vec::new(),
        api: None,
        follows_document: false,
        graphql: None,
        waf: None,
        content_encoding: None,
        form: None,
        max_body: None,
        access_log: true,
        upgrade: None,
        cors: None,
    }
}
