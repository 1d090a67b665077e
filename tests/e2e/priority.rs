//! Requests at once to an upstream, and who is served first when they are too many: the highest class whole, the lowest
//! what is left.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{
    admin,
    daemon::{Daemon, send},
    http1::{Client, Connection, Request},
    http2_call::{self, Caller},
    report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens::{self, Algorithm},
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World, bystander},
};

fn token(subject: &str, plan: &str) -> String {
    let mut claims = tokens::claims(subject, &["reader"]);
    claims["plan"] = json!(plan);
    tokens::ISSUERS.token(Algorithm::Es256, &claims)
}

fn settings(upstream: &str, more: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        upstream: format!("servers = [\"127.0.0.1:9000\"]\n{upstream}"),
        more: more.to_owned(),
        ..Settings::default()
    }
}

/// Ends the threads of a test, however it ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `gateway limit list` says of a limit.
fn listed(daemon: &Daemon<'_>, limit: &str) -> serde_json::Value {
    let rows = daemon.done(&["limit", "list"]);
    let found = rows["rows"].as_array().and_then(|rows| rows.iter().find(|row| row["limit"] == limit).cloned());
    found.unwrap_or_else(|| panic!("{limit}: {rows}"))
}

/// Five requests at once are served; three clients of the highest class ask all the time, and so do many others: over
/// twice what can be served, of which the highest class is less than a third.
#[test]
fn d05_the_highest_class_is_served_whole_at_twice_the_capacity() {
    if !report::may_run("priority: upstream") {
        return;
    }
    let world = World::new();
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        pause(Duration::from_millis(20));
        exchange.answer("200 OK", "Content-Type: text/plain\r\n", "served").map(|()| true)
    });
    let more = "[plan.gold]\nclaims = { plan = \"gold\" }\n[priority.paying]\nplans = [\"gold\"]\n";
    let concurrency = "concurrency = { limit = 5, queue = 8, wait = \"5s\" }";
    let daemon = Daemon::start(&world, &settings(concurrency, more));
    let (over, refused, served) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ends = Ends(&over);
        for number in 0..14 {
            let (world, over, refused, served) = (&world, &over, &refused, &served);
            scope.spawn(move || {
                let client = Client::new(world, bystander(number));
                // Half of them are known, and are nobody special.
                let free = token(&format!("free-{number}"), "free");
                let request = match number % 2 {
                    0 => Request::new("GET", "/health"),
                    _ => Request::new("GET", "/me").token(&free),
                };
                let mut connection = client.connect().unwrap();
                while !over.load(Ordering::Relaxed) {
                    let answer = connection.exchange(&request).unwrap();
                    match answer.status {
                        200 => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => {
                            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                            assert!(answer.text().contains("urn:gateway:problem:unavailable"), "{}", answer.text());
                            refused.fetch_add(1, Ordering::Relaxed);
                            pause(Duration::from_millis(10));
                        }
                        status => panic!("{status}"),
                    }
                }
            });
        }
        until("others to be refused", SOON, || (refused.load(Ordering::Relaxed) > 20).then_some(()));
        let paying: Vec<_> = (0..3)
            .map(|number| {
                let world = &world;
                scope.spawn(move || {
                    let client = Client::new(world, GOOD_V4);
                    let gold = token(&format!("gold-{number}"), "gold");
                    let mut statuses = Vec::new();
                    if number == 0 {
                        let caller = client.caller().unwrap();
                        for _ in 0..60 {
                            let request = http::Request::get(format!("https://{}/me", support::pki::HOST))
                                .header("authorization", format!("Bearer {gold}"))
                                .body(())
                                .unwrap();
                            statuses.push(caller.begin(request, true).unwrap().answer().unwrap().head.status.as_u16());
                        }
                        return statuses;
                    }
                    let mut connection = client.connect().unwrap();
                    let request = Request::new("GET", "/me").token(&gold);
                    statuses.extend((0..60).map(|_| connection.exchange(&request).unwrap().status));
                    statuses
                })
            })
            .collect();
        let statuses: Vec<u16> = paying.into_iter().flat_map(|it| it.join().unwrap()).collect();
        drop(ends);
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
    let row = |class: &str| listed(&daemon, &format!("priority.{class}"));
    let (paying, known, unknown) = (row("paying"), row("authenticated"), row("unknown"));
    assert_eq!((&paying["refused"], &paying["admitted"]), (&json!(0), &json!(180)), "{paying}");
    assert!(unknown["refused"].as_u64() > known["refused"].as_u64(), "the lowest first: {known} {unknown}");
    let gate = listed(&daemon, "upstream.items.concurrency");
    assert_eq!((&gate["capacity"], &gate["in_flight"]), (&json!(5), &json!(0)), "{gate}");
    let counted = refused.load(Ordering::Relaxed);
    assert_eq!(gate["refused"].as_u64(), u64::try_from(counted).ok(), "{gate}");
    assert!(served.load(Ordering::Relaxed) > 0);
    let line = until("a refusal in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["status"] == 503)
    });
    assert_eq!((&line["reject"], &line["detail"]), (&json!("unavailable"), &json!("over upstream.concurrency")));
}

/// One worker, and more clients than it can serve in time: unknown ones are refused, the highest class never is, and once
/// it is quiet everybody is served again.
#[test]
fn d05_a_worker_that_is_late_refuses_the_lowest_class() {
    if !report::may_run("priority: overload") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!(
        "{}[overload]\ndelay = \"5ms\"\n[plan.gold]\nclaims = {{ plan = \"gold\" }}\n[priority.paying]\nplans = [\"gold\"]\n",
        admin::TABLE
    );
    let daemon = Daemon::start(&world, &Settings { proxy: "workers = 1".to_owned(), ..settings("", &more) });
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request = Request::new("GET", "/health");
    thread::scope(|scope| {
        let ends = Ends(&over);
        for number in 0..60 {
            let (world, over, refused, request) = (&world, &over, &refused, &request);
            scope.spawn(move || {
                let client = Client::new(world, bystander(number % 20));
                let mut connection = client.connect().unwrap();
                while !over.load(Ordering::Relaxed) {
                    match connection.exchange(request).unwrap().status {
                        200 => {}
                        503 => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        status => panic!("{status}"),
                    }
                }
            });
        }
        // How late a worker is by itself depends on the machine: here it stands still for most of the time, so that each of
        // its ticks, 50 ms after the one before, comes late.
        let (proxy, over) = (daemon.proxy_pid(), &over);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                send(proxy, Signal::SIGSTOP);
                pause(Duration::from_millis(80));
                send(proxy, Signal::SIGCONT);
                pause(Duration::from_millis(10));
            }
        });
        until("unknown clients to be refused", SOON, || (refused.load(Ordering::Relaxed) > 100).then_some(()));
        let paying = Client::new(&world, GOOD_V4);
        let gold = Request::new("GET", "/me").token(&token("gold", "gold"));
        let mut connection = paying.connect().unwrap();
        for number in 0..100 {
            let answer = connection.exchange(&gold).unwrap();
            assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        }
        drop(ends);
    });
    let (paying, unknown) = (listed(&daemon, "priority.paying"), listed(&daemon, "priority.unknown"));
    assert_eq!((&paying["refused"], &paying["admitted"]), (&json!(0), &json!(100)), "{paying}");
    assert!(unknown["refused"].as_u64() > Some(100), "{unknown}");
    let line = until("a refusal in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["status"] == 503)
    });
    assert_eq!(line["detail"], "the worker has too much to do: [overload]");
    until("the metrics to tell", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let row = "gateway_priority_requests_total{class=\"unknown\",result=\"cpu\"}";
        admin::value(&text, row).filter(|count| *count > 100.0)
    });
    until("everybody to be served again", 2 * SOON, || {
        let all = (0..20).all(|number| Client::new(&world, bystander(number)).send(&request).unwrap().status == 200);
        all.then_some(())
    });
}

/// What a metric counts for a class, as soon as it is so much.
fn counted(world: &World, row: &str, least: f64) -> f64 {
    until("the metrics to tell", SOON, || {
        let text = admin::get(world, "/metrics", "").ok()?.text();
        admin::value(&text, row).filter(|count| *count >= least)
    })
}

/// Memory runs short: whoever has proved to be of the highest class is served on, over both versions, and all others are
/// refused.
#[test]
fn d05_memory_runs_short_and_the_highest_class_is_served() {
    if !report::may_run("priority: memory") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!(
        "{}[overload]\ndelay = \"10s\"\n[plan.gold]\nclaims = {{ plan = \"gold\" }}\n[priority.paying]\nplans = [\"gold\"]\n",
        admin::TABLE
    );
    let judged = "schema = \"item.schema.json\"\nmax_body = \"256MiB\"";
    let routes = route("/health", "[\"GET\"]", "[\"public\"]", "")
        + &route("/me", "[\"GET\"]", "[\"authenticated\"]", "")
        + &route("/judged", "[\"POST\"]", "[\"public\"]", judged)
        + &route("/echo", "[\"POST\"]", "[\"public\"]", "");
    let proxy = "workers = 1\nmax_memory = \"96MiB\"".to_owned();
    let daemon = Daemon::start(&world, &Settings { proxy, routes, ..settings("", &more) });
    let (gold, free) = (token("gold", "gold"), token("free", "free"));
    let [paying, known, other] = [0, 1, 2].map(|number| Client::new(&world, bystander(number)));
    let mut connection = paying.connect().unwrap();
    let ask = Request::new("GET", "/me").token(&gold);
    assert_eq!(connection.exchange(&ask).unwrap().status, 200);
    let (callers, get) = ([paying.caller().unwrap(), known.caller().unwrap()], |caller: &Caller, token: &str| {
        let path = if token.is_empty() { "/health" } else { "/me" };
        let request = http::Request::get(format!("https://{}{path}", support::pki::HOST));
        let request =
            if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) };
        caller.begin(request.body(()).unwrap(), true).unwrap().answer().unwrap().head.status.as_u16()
    });
    assert_eq!((get(&callers[0], &gold), get(&callers[1], &free)), (200, 200));
    // It is in use, so that it is not closed as an idle one.
    let begun = callers[1].begin(http2_call::post("/echo", "text/plain"), false).unwrap();
    assert_eq!(get(&callers[1], &free), 200);

    let mut upload = other.connect().unwrap();
    let head = "POST /judged HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n";
    upload.write(format!("{head}Content-Length: {}\r\n\r\n", 200 << 20).as_bytes()).unwrap();
    for _ in 0..100 {
        upload.write(&vec![b' '; 1 << 20]).unwrap();
    }
    until("new connections to be refused", SOON, || other.get("/health", "").err());
    for _ in 0..10 {
        assert_eq!(connection.exchange(&ask).unwrap().status, 200, "who pays, over HTTP/1.1");
        assert_eq!(get(&callers[0], &gold), 200, "who pays, over HTTP/2");
        assert_eq!(get(&callers[1], &free), 503, "who is known");
    }
    assert_eq!(get(&callers[0], ""), 503, "without its token it is nobody, on the same connection");
    counted(&world, "gateway_priority_requests_total{class=\"unknown\",result=\"memory\"}", 11.0);
    assert_eq!(listed(&daemon, "priority.paying")["refused"], 0);
    drop((upload, begun));
    until("room for others", SOON, || other.get("/health", "").ok().filter(|answer| answer.status == 200));
}

/// Connections run short: idle ones of clients that nobody knows make room, and those of known clients stay.
#[test]
fn d03_connections_run_short_and_known_clients_stay() {
    if !report::may_run("priority: connections") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!("{}[overload]\ndelay = \"10s\"\n", admin::TABLE);
    let proxy = "workers = 1\nmax_connections = 32".to_owned();
    let _daemon = Daemon::start(&world, &Settings { proxy, ..settings("", &more) });
    let (known, other) = (Client::new(&world, bystander(0)), Client::new(&world, bystander(1)));
    let mut kept = known.connect().unwrap();
    let ask = Request::new("GET", "/me").token(&token("ada", "free"));
    assert_eq!(kept.exchange(&ask).unwrap().status, 200);
    let health = Request::new("GET", "/health");
    let connect = || {
        let mut connection = other.connect().unwrap();
        assert_eq!(connection.exchange(&health).unwrap().status, 200);
        connection
    };
    let mut idle: Vec<_> = (0..20).map(|_| connect()).collect();
    assert!(idle.iter_mut().all(|connection| connection.exchange(&health).unwrap().status == 200), "there is room");
    // Fifteen sixteenths are thirty. These are not idle: a head has begun.
    let _begun: Vec<_> = (0..9)
        .map(|_| {
            let mut connection = other.connect().unwrap();
            connection.write(b"GET /health HTTP/1.1\r\n").unwrap();
            connection
        })
        .collect();
    assert!(idle.iter_mut().all(Connection::ends), "who is not known makes room");
    assert_eq!(kept.exchange(&ask).unwrap().status, 200, "who is known stays");
    drop(connect());
    let row = "gateway_priority_closed_connections_total{class=\"unknown\"}";
    assert!(counted(&world, row, 20.0) >= 20.0);
}

/// A tunnel, a stream that has begun and a client that reads slowly take no place: the upstream has responded. A request
/// that is given up leaves its place, and its place in the queue.
#[test]
fn a_place_is_free_once_the_response_begins() {
    if !report::may_run("priority: places") {
        return;
    }
    let world = World::new();
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        if exchange.line.contains("/tunnel") {
            exchange.say(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
        } else if exchange.line.contains("/stream") {
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        } else if exchange.line.contains("/health") {
            return exchange.answer("200 OK", "", "").map(|()| true);
        }
        exchange.wait_for_the_end().map(|()| false)
    });
    let routes = route("/health", "[\"GET\"]", "[\"public\"]", "")
        + &route("/stream", "[\"GET\"]", "[\"public\"]", "")
        + &route("/silent", "[\"GET\"]", "[\"public\"]", "")
        + &route("/tunnel", "[\"GET\"]", "[\"public\"]", "upgrade = [\"websocket\"]");
    let concurrency = "concurrency = { limit = 1, queue = 2, wait = \"60s\" }";
    let daemon = Daemon::start(&world, &Settings { routes, ..settings(concurrency, admin::TABLE) });
    let client = Client::new(&world, GOOD_V4);
    let ask = |path: &str| {
        let mut connection = client.connect().unwrap();
        connection.write(&Request::new("GET", path).bytes()).unwrap();
        connection
    };
    let mut stream = ask("/stream");
    assert_eq!(stream.head().unwrap().status, 200);
    let upgrade = Request::new("GET", "/tunnel")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut tunnel = client.connect().unwrap();
    tunnel.write(&upgrade.bytes()).unwrap();
    assert_eq!(tunnel.head().unwrap().status, 101);
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    let in_flight = |expect: u64| {
        until("requests in flight", SOON, || {
            (listed(&daemon, "upstream.items.concurrency")["in_flight"] == expect).then_some(())
        });
    };
    in_flight(0);
    let silent = ask("/silent");
    in_flight(1);
    // Two wait, and a third is refused.
    let waiting = [ask("/silent"), ask("/silent")];
    until("two to wait", SOON, || {
        let text = admin::get(&world, "/metrics", "").ok()?.text();
        let waiting = "gateway_upstream_concurrency_requests{upstream=\"items\",state=\"waiting\"}";
        (admin::value(&text, waiting) == Some(2.0)).then_some(())
    });
    assert_eq!(client.get("/health", "").unwrap().status, 503);
    drop(waiting);
    drop(silent);
    in_flight(0);
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    drop((stream, tunnel));
}

/// The limit of an upstream whose responses take longer the more there are at once comes down, and is told.
#[test]
fn the_limit_follows_what_an_upstream_can_do() {
    if !report::may_run("priority: adaptive") {
        return;
    }
    let world = World::new();
    let one = std::sync::Mutex::new(());
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", move |exchange| {
        // One after the other: so many at once take so many times as long.
        {
            let _turn = one.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pause(Duration::from_millis(4));
        }
        exchange.answer("200 OK", "", "").map(|()| true)
    });
    let daemon = Daemon::start(&world, &settings("concurrency = { min = 1, max = 24 }", ""));
    let limit = || listed(&daemon, "upstream.items.concurrency")["capacity"].as_u64().unwrap();
    assert_eq!(limit(), 20, "where it begins");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&over);
        for number in 0..25 {
            let (world, over) = (&world, &over);
            scope.spawn(move || {
                let mut connection = Client::new(world, bystander(number)).connect().unwrap();
                while !over.load(Ordering::Relaxed) {
                    let status = connection.exchange(&Request::new("GET", "/health")).unwrap().status;
                    assert!(matches!(status, 200 | 503), "{status}");
                }
            });
        }
        let found = until("the limit to come down", SOON * 2, || Some(limit()).filter(|limit| *limit <= 16));
        assert!(found >= 1);
    });
    // The proxy tells once a second.
    until("the limit in the status", SOON, || {
        daemon.status()["upstreams"][0]["limit"].as_u64().filter(|limit| *limit <= 24)
    });
}
