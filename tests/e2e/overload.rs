//! More than there is room for, and reloads under load: whoever is served goes on being served (D03, M02).

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request},
    http2_call, report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

/// More than a few workers and the guard have open, and far fewer than the flood.
const DESCRIPTORS: &str = "--nofile=200:200";

#[test]
fn d03_descriptors_run_out_and_come_back() {
    if !report::may_run("overload: descriptors") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // A connection to the upstream for each request: the last descriptors are not for clients.
    let servers = "servers = [\"127.0.0.1:9000\"]\nmax_idle = 0".to_owned();
    let proxy = "workers = 2".to_owned();
    let settings = Settings { interfaces: Vec::new(), proxy, upstream: servers, ..Settings::default() };
    let daemon = Daemon::start_under(&world, &settings, &["prlimit", DESCRIPTORS]);
    let proxy = daemon.proxy_pid();
    let (good, other) = (Client::new(&world, GOOD_V4), Client::new(&world, ATTACKER_V4));
    let mut kept = good.connect().unwrap();
    assert_eq!(kept.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    let flood: Vec<_> = (0..300).filter_map(|_| other.tcp(SOON).ok()).collect();
    until("the proxy to be full", SOON, || {
        let open = fs::read_dir(format!("/proc/{proxy}/fd")).unwrap().count();
        (open > 130).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(kept.exchange(&Request::new("GET", "/health")).unwrap().status, 200, "who is here is served");
    }
    let connections: std::collections::HashSet<_> = upstream.received().iter().map(|it| it.connection).collect();
    assert!(connections.len() > 20, "over connections of their own");
    drop(flood);
    until("room for others", SOON, || good.get("/health", "").ok().filter(|answer| answer.status == 200));
    assert_eq!(daemon.proxy_pid(), proxy, "the same proxy");
}

#[test]
fn d03_others_are_served_beside_whoever_connects_all_the_time() {
    if !report::may_run("overload: connects") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let proxy = "max_connections_per_source = 10".to_owned();
    let settings = Settings { interfaces: Vec::new(), proxy, rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let (over, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let other = Client::new(&world, ATTACKER_V4);
                let mut held = std::collections::VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    held.extend(other.tcp(SOON).ok());
                    taken.fetch_add(1, Ordering::Relaxed);
                    if held.len() > 50 {
                        held.pop_front();
                    }
                }
            });
        }
        let good = Client::new(&world, GOOD_V4);
        let served = (0..100).filter(|_| good.get("/health", "").is_ok_and(|answer| answer.status == 200)).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(served, 100, "each over a connection of its own");
    });
    assert!(taken.load(Ordering::Relaxed) > 100);
    until("the refusals in the access log", SOON, || {
        daemon.access_log().iter().any(|line| line["signal"] == "over_limit").then_some(())
    });
}

#[test]
fn memory_runs_short_and_comes_back() {
    if !report::may_run("overload: memory") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let judged = "schema = \"item.schema.json\"\nmax_body = \"256MiB\"";
    let settings = Settings {
        interfaces: Vec::new(),
        proxy: "max_memory = \"96MiB\"".to_owned(),
        routes: [
            route("/health", "[\"GET\"]", "[\"public\"]", ""),
            route("/judged", "[\"POST\"]", "[\"public\"]", judged),
            route("/echo", "[\"POST\"]", "[\"public\"]", ""),
        ]
        .concat(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let proxy = daemon.proxy_pid();
    let (good, other) = (Client::new(&world, GOOD_V4), Client::new(&world, ATTACKER_V4));
    let mut idle = good.connect().unwrap();
    assert_eq!(idle.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    let caller = good.caller().unwrap();
    let mut begun = caller.begin(http2_call::post("/echo", "text/plain"), false).unwrap();
    begun.send(b"half, ").unwrap();
    let health = || {
        let request = http::Request::get("https://api.example.com/health").body(()).unwrap();
        caller.begin(request, true).unwrap().answer().unwrap().head
    };
    assert_eq!(health().status, 200);

    // What a schema judges is in memory until its end, which does not come.
    let mut upload = other.connect().unwrap();
    let head = "POST /judged HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n";
    upload.write(format!("{head}Content-Length: {}\r\n\r\n", 200 << 20).as_bytes()).unwrap();
    for _ in 0..100 {
        upload.write(&vec![b' '; 1 << 20]).unwrap();
    }
    assert!(idle.ends(), "between requests");
    until("new connections to be refused", SOON, || good.get("/health", "").err());
    let refused = health();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    begun.send(b"and half").unwrap();
    begun.end(None).unwrap();
    assert_eq!(begun.answer().unwrap().head.status, 200, "who is being served is served to the end");
    let told = until("it to be told", SOON, || {
        let status = daemon.status();
        (status["lost"]["shed"].as_u64()? > 1).then_some(status)
    });
    assert!(told["warnings"].to_string().contains("over proxy.max_memory"), "{told}");

    drop(upload);
    until("room for others", SOON, || good.get("/health", "").ok().filter(|answer| answer.status == 200));
    assert_eq!(daemon.proxy_pid(), proxy, "the same proxy");
}

/// Requests of one client until it is over. How many were answered with 200, and how the others ended.
fn load(client: Client<'_>, keep: bool, over: &AtomicBool) -> (usize, Vec<String>) {
    let (mut served, mut failed) = (0, Vec::new());
    let mut kept: Option<Connection> = None;
    while !over.load(Ordering::Relaxed) {
        let used = kept.is_some();
        let sent = kept.take().map_or_else(|| client.connect(), Ok).and_then(|mut connection| {
            let answer = connection.exchange(&Request::new("GET", "/health"))?;
            Ok((connection, answer))
        });
        match sent {
            Ok((connection, answer)) if answer.status == 200 => {
                served += 1;
                kept = (keep && answer.header("connection") != Some("close")).then_some(connection);
            }
            // An idle connection may end at any time (RFC 9112 9.3.1): a client asks again over another.
            Err(_) if used => {}
            Ok((_, answer)) => failed.push(answer.status.to_string()),
            Err(error) => failed.push(error.to_string()),
        }
    }
    (served, failed)
}

#[test]
fn m02_reloads_under_load_fail_no_request() {
    if !report::may_run("overload: reload") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), ..Settings::default() });
    let (over, reloads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = Client::new(&world, GOOD_V4);
    let results: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = [true, true, false]
            .map(|keep| {
                scope.spawn({
                    let over = &over;
                    move || load(client, keep, over)
                })
            })
            .into();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            // One that is asked for while another is on its way is refused, and changes nothing.
            let done = daemon.cli(&["reload"]).code == 0;
            reloads.fetch_add(usize::from(done), Ordering::Relaxed);
            pause(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let failed: Vec<_> = results.iter().flat_map(|(_, failed)| failed).collect();
    let served: usize = results.iter().map(|(served, _)| served).sum();
    let reloads = reloads.load(Ordering::Relaxed);
    report::note(&format!("{served} requests over {reloads} reloads, {} failed", failed.len()));
    assert!(failed.is_empty(), "{} of {served} failed over {reloads} reloads: {failed:?}", failed.len());
    assert!(reloads >= 3 && served > 100, "{served} requests, {reloads} reloads");
}
