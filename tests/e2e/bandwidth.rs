//! Bandwidth: bodies and tunnels pass as fast as they may, both ways and over both versions of HTTP, and nobody else waits.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    http2_call, report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens::{self, Algorithm},
    wait::{SOON, until},
    world::{GOOD_V4, World, bystander},
};

const KIB: usize = 1_024;

fn token(subject: &str, plan: &str) -> String {
    let mut claims = tokens::claims(subject, &["reader"]);
    claims["plan"] = json!(plan);
    tokens::ISSUERS.token(Algorithm::Es256, &claims)
}

/// A server that answers `/down` with 256 KiB, and everything else once its body is read.
fn serve(exchange: &mut support::scripted::Exchange<'_>) -> io::Result<bool> {
    if exchange.line.contains("/tunnel") {
        exchange.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )?;
        exchange.say(&[b'x'; 256 * KIB])?;
        return exchange.wait_for_the_end().map(|()| false);
    }
    if exchange.line.contains("/up") {
        exchange.body(usize::MAX)?;
    }
    let body = if exchange.line.contains("/down") { "x".repeat(256 * KIB) } else { String::new() };
    exchange.answer("200 OK", "Content-Type: text/plain\r\n", &body).map(|()| true)
}

/// What is over the burst takes its time, and not much more: never less than `least`.
#[track_caller]
fn takes(what: &str, least: Duration, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    let took = start.elapsed();
    // A quarter of a second of burst is taken at once; timers may be late, and are never early.
    assert!(took >= least, "{what}: {took:?}");
}

/// 256 KiB at 128 KiB a second with 64 KiB at once: a second and a half, but for the last piece of 32 KiB.
const LEAST: Duration = Duration::from_millis(1_200);

#[test]
fn d05_bodies_pass_as_fast_as_they_may() {
    if !report::may_run("bandwidth") {
        return;
    }
    let world = World::new();
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", serve);
    let more = format!(
        "{}[bandwidth.client]\nby = [\"principal\"]\nupload = \"128KiB/s\"\ndownload = \"128KiB/s\"\nburst = \"64KiB\"\n\
         [plan.gold]\nclaims = {{ plan = \"gold\" }}\n[plan.gold.bandwidth.client]\nupload = \"64MiB/s\"\n\
         download = \"64MiB/s\"\n",
        admin::TABLE
    );
    let routes = route("/down", "[\"GET\"]", "[\"authenticated\"]", "")
        + &route("/up", "[\"POST\"]", "[\"authenticated\"]", "")
        + &route("/health", "[]", "[\"public\"]", "")
        + &route("/tunnel", "[\"GET\"]", "[\"authenticated\"]", "upgrade = [\"websocket\"]");
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), routes, more, ..Settings::default() };
    let _daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let (body, free) = (vec![b'y'; 256 * KIB], |name: &str| token(name, "free"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            takes("down over HTTP/1.1", LEAST, || {
                let answer = client.get("/down", &free("one")).unwrap();
                assert_eq!((answer.status, answer.body.len()), (200, 256 * KIB));
            });
        });
        scope.spawn(|| {
            takes("up over HTTP/1.1", LEAST, || {
                let request = Request::new("POST", "/up").token(&free("two")).body("text/plain", &body);
                assert_eq!(client.send(&request).unwrap().status, 200);
            });
        });
        scope.spawn(|| {
            takes("through a tunnel", LEAST, || {
                let upgrade = Request::new("GET", "/tunnel")
                    .token(&free("three"))
                    .header("Connection", "Upgrade")
                    .header("Upgrade", "websocket")
                    .header("Sec-WebSocket-Version", "13")
                    .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
                let mut connection = client.connect().unwrap();
                connection.write(&upgrade.bytes()).unwrap();
                assert_eq!(connection.head().unwrap().status, 101);
                assert_eq!(connection.raw(256 * KIB).unwrap().len(), 256 * KIB);
            });
        });
        // On one connection of HTTP/2: both ways at once, and others that do not wait for them.
        scope.spawn(|| {
            let client = Client::new(&world, bystander(0));
            let caller = client.caller().unwrap();
            let get = |path: &str, token: Option<&str>| {
                let request = http::Request::get(format!("https://{}{path}", support::pki::HOST));
                let request = match token {
                    Some(token) => request.header("authorization", format!("Bearer {token}")),
                    None => request,
                };
                request.body(()).unwrap()
            };
            takes("over HTTP/2", LEAST, || {
                let down = caller.begin(get("/down", Some(&free("four"))), true).unwrap();
                let mut request = http2_call::post("/up", "text/plain");
                let value = format!("Bearer {}", free("five")).parse().unwrap();
                request.headers_mut().insert("authorization", value);
                let start = Instant::now();
                for _ in 0..20 {
                    let health = caller.begin(get("/health", None), true).unwrap().answer().unwrap();
                    assert_eq!(health.head.status, 200);
                }
                assert!(start.elapsed() < SOON, "others do not wait");
                let up = caller.call(request, &body, None).unwrap();
                assert_eq!(up.head.status, 200);
                assert_eq!(down.answer().unwrap().body.len(), 256 * KIB);
            });
        });
    });
    // A plan has more, and another request of the same client pays for what the first took.
    let start = Instant::now();
    assert_eq!(client.get("/down", &token("rich", "gold")).unwrap().status, 200);
    assert!(start.elapsed() < SOON);
    takes("two together", LEAST, || {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(client.get("/down", &free("one")).unwrap().status, 200));
            }
        });
    });
    let text = until("the metrics", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let bytes = "gateway_bandwidth_bytes_total{bandwidth=\"client\",direction=\"upload\"}";
        (admin::value(&text, bytes) == Some(512.0 * 1_024.0)).then_some(text)
    });
    let waits = "gateway_bandwidth_waits_total{bandwidth=\"client\",direction=\"download\"}";
    assert!(admin::value(&text, waits).is_some_and(|waits| waits > 0.0), "{text}");
}
