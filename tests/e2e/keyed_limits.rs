//! Limits by principal, tenant, route, plan and cost, over both versions of HTTP: who shares a counter, what clients are
//! told, and that a request in flight is counted until it is over, however it ends.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use serde_json::json;
use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    http2, http2_call, report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens::{self, Algorithm},
    upstream::Upstream,
    upstream_http2::{Http2Upstream, Kind},
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, GOOD_V6, World, bystander},
};

/// A gateway without rules and kernel program, with these limits.
fn settings(more: &str) -> Settings {
    Settings { interfaces: Vec::new(), rules: String::new(), more: more.to_owned(), ..Settings::default() }
}

fn token(subject: &str, tenant: &str, plan: &str) -> String {
    let mut claims = tokens::claims(subject, &["reader"]);
    claims["tenant"] = json!(tenant);
    claims["plan"] = json!(plan);
    tokens::ISSUERS.token(Algorithm::Es256, &claims)
}

/// The statuses of so many requests with a token, over HTTP/1.1 and then over HTTP/2 at once.
fn statuses(client: &Client<'_>, path: &str, token: &str, count: usize, is_http2: bool) -> Vec<u16> {
    if is_http2 {
        let answers = client.send_http2((0..count).map(|_| http2::get(path, token)).collect()).unwrap();
        return answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    }
    let mut connection = client.connect().unwrap();
    let request = Request::new("GET", path).token(token);
    (0..count).map(|_| connection.exchange(&request).unwrap().status).collect()
}

fn served(statuses: &[u16]) -> usize {
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

#[test]
fn d05_who_shares_a_counter() {
    if !report::may_run("limit: keys") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.client]\nby = [\"principal\"]\nrequests = 4\nper = \"1h\"\nroutes = [\"item\"]\n\
                [limit.tenant]\nby = [\"claim:tenant\"]\nrequests = 6\nper = \"1h\"\nroutes = [\"item\"]\n\
                [plan.gold]\nclaims = { plan = \"gold\" }\n[plan.gold.limits.client]\nrequests = 9\nper = \"1h\"\n";
    let routes = route("/items/{id}", "[\"GET\"]", "[\"authenticated\"]", "name = \"item\"")
        + &route("/me", "[\"GET\"]", "[\"authenticated\"]", "");
    let daemon = Daemon::start(&world, &Settings { routes, ..settings(more) });
    for (is_http2, version) in [(false, "1"), (true, "2")] {
        let name = |name: &str| format!("{name}-{version}");
        let token = |subject: &str, tenant: &str, plan: &str| token(&name(subject), &name(tenant), plan);
        let ask = |from: &Client<'_>, token: &str| served(&statuses(from, "/items/7", token, 12, is_http2));
        let (one, other) = (Client::new(&world, GOOD_V4), Client::new(&world, GOOD_V6));
        assert_eq!(ask(&one, &token("ada", "acme", "free")), 4, "HTTP/{version}");
        assert_eq!(ask(&other, &token("ada", "acme", "free")), 0, "the same client at another address");
        assert_eq!(ask(&other, &token("bob", "acme", "free")), 2, "the tenant's limit is spent");
        assert_eq!(ask(&other, &token("bob", "other", "free")), 2, "two more of its own");
        assert_eq!(ask(&one, &token("kim", "gold", "gold")), 6, "a plan has more, the tenant has not");
        // Other routes are not limited.
        assert_eq!(served(&statuses(&one, "/me", &token("ada", "acme", "free"), 5, is_http2)), 5);
    }
    let refused = Client::new(&world, GOOD_V4).get("/items/7", &token("ada-1", "acme-1", "free")).unwrap();
    assert_eq!((refused.status, &refused.json()["violated-policies"]), (429, &json!(["client", "tenant"])));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(refused.header("ratelimit"), Some(&*format!("\"client\";r=0;t={wait}")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"client\";q=4;w=3600"));
    let line = daemon.logged(&refused.id());
    assert_eq!((&line["limit"], &line["signal"]), (&json!("client"), &json!("over_limit")), "{line}");
    let served = Client::new(&world, GOOD_V4).get("/items/7", &token("new", "new", "free")).unwrap();
    assert_eq!(served.header("ratelimit"), Some("\"client\";r=3;t=900"), "{}", served.text());
    assert_eq!(served.header("ratelimit-policy"), Some("\"client\";q=4;w=3600"));
}

/// A client without what a limit counts by is counted by its address: never not at all.
#[test]
fn d05_a_missing_key_is_no_way_around() {
    if !report::may_run("limit: missing key") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.app]\nby = [\"header:x-app\", \"principal\"]\nrequests = 3\nper = \"1h\"\n\
                [limit.address]\nrequests = 20\nper = \"1h\"\n";
    let _daemon = Daemon::start(&world, &settings(more));
    let send = |address: std::net::IpAddr, app: &[&str]| {
        let client = Client::new(&world, address);
        let request = app.iter().fold(Request::new("GET", "/health"), |request, app| request.header("X-App", app));
        served(&(0..5).map(|_| client.send(&request).unwrap().status).collect::<Vec<_>>())
    };
    assert_eq!(send(GOOD_V4, &[]), 3);
    assert_eq!(send(GOOD_V4, &["a", "a"]), 0, "a header that comes twice is missing");
    assert_eq!(send(GOOD_V4, &[""]), 0);
    assert_eq!(send(ATTACKER_V4, &[]), 3, "another address");
    assert_eq!(send(GOOD_V4, &["a"]), 3);
    // Whoever changes the header gets another counter, until the address has spent its own.
    assert!((0..9).map(|app| send(GOOD_V4, &[&format!("app-{app}")])).sum::<usize>() < 9 * 3);
}

/// A request is in flight until it is over: answered, reset, left by its client, or a tunnel that was closed.
#[test]
fn in_flight_until_it_is_over() {
    if !report::may_run("limit: in flight") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _silent = Scripted::start(&world.gate, "127.0.0.1:9002", |exchange| {
        if exchange.line.contains("/tunnel") {
            exchange.say(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
        }
        exchange.wait_for_the_end().map(|()| false)
    });
    let more = "[limit.in-flight]\nconcurrent = 2\n[upstream.silent]\nservers = [\"127.0.0.1:9002\"]\n";
    let silent = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}\"\nrequire = [\"public\"]\nupstream = \"silent\"\n{more}\n")
    };
    let routes = route("/health", "[\"GET\"]", "[\"public\"]", "")
        + &silent("/silent", "")
        + &silent("/tunnel", "upgrade = [\"websocket\"]");
    let settings = Settings { routes, proxy: "workers = 1".to_owned(), ..settings(more) };
    let _daemon = Daemon::start(&world, &settings);
    let other = Client::new(&world, GOOD_V6);
    for (way, address) in [("left", bystander(0)), ("reset", bystander(1)), ("tunnel", bystander(2))] {
        let client = Client::new(&world, address);
        let is_full = || client.get("/health", "").unwrap().status == 429;
        let is_free = || {
            let answer = client.get("/health", "").unwrap();
            (answer.status == 200 && answer.header("ratelimit") == Some("\"in-flight\";r=1")).then_some(())
        };
        match way {
            "left" => {
                let open: Vec<_> = (0..2)
                    .map(|_| {
                        let mut connection = client.connect().unwrap();
                        connection.write(&Request::new("GET", "/silent").bytes()).unwrap();
                        connection
                    })
                    .collect();
                until("both to be in flight", SOON, || is_full().then_some(()));
                drop(open);
            }
            "reset" => {
                let caller = client.caller().unwrap();
                let calls: Vec<_> =
                    (0..2).map(|_| caller.begin(http2_call::post("/silent", "text/plain"), false).unwrap()).collect();
                let mut third = caller.begin(http2_call::post("/silent", "text/plain"), true).unwrap();
                assert_eq!(third.head().unwrap().status, 429);
                calls.into_iter().for_each(http2_call::Call::cancel);
                // The connection has to go on for the reset to be sent.
                until("the resets to be read", SOON, || {
                    let mut call = caller.begin(http2_call::post("/health", "text/plain"), true).ok()?;
                    (call.head().ok()?.status != 429).then_some(())
                });
            }
            _ => {
                let upgrade = Request::new("GET", "/tunnel")
                    .header("Connection", "Upgrade")
                    .header("Upgrade", "websocket")
                    .header("Sec-WebSocket-Version", "13")
                    .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
                let open: Vec<_> = (0..2)
                    .map(|_| {
                        let mut connection = client.connect().unwrap();
                        connection.write(&upgrade.bytes()).unwrap();
                        connection
                    })
                    .collect();
                until("both to be in flight", SOON, || is_full().then_some(()));
                drop(open);
            }
        }
        until(way, SOON, is_free);
        assert_eq!(other.get("/health", "").unwrap().status, 200);
    }
}

/// What is over a rate waits for its turn, over both versions, and is refused only beyond that.
#[test]
fn requests_wait_for_their_turn() {
    if !report::may_run("limit: delay") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.steady]\nrequests = 50\nburst = 1\ndelay = \"20s\"\nroutes = [\"steady\"]\n\
                [limit.brief]\nrequests = 1\nper = \"1h\"\ndelay = \"100ms\"\nroutes = [\"brief\"]\n";
    let routes = route("/health", "[\"GET\"]", "[\"public\"]", "name = \"steady\"")
        + &route("/me", "[\"GET\"]", "[\"public\"]", "name = \"brief\"");
    let _daemon = Daemon::start(&world, &Settings { routes, proxy: "workers = 1".to_owned(), ..settings(more) });
    for (is_http2, address) in [(false, GOOD_V4), (true, GOOD_V6)] {
        let client = Client::new(&world, address);
        upstream.forget();
        assert_eq!(served(&statuses(&client, "/health", "", 10, is_http2)), 10);
        assert_eq!(upstream.received().len(), 10);
        assert_eq!(served(&statuses(&client, "/me", "", 5, is_http2)), 1, "its turn would not come in time");
    }
    // Whoever leaves while it waits is not in the way of others.
    let impatient = Client::new(&world, ATTACKER_V4);
    for _ in 0..20 {
        drop(impatient.connect().map(|mut connection| connection.write(&Request::new("GET", "/health").bytes())));
    }
    assert_eq!(Client::new(&world, bystander(4)).get("/health", "").unwrap().status, 200);
}

/// While an upload waits for its turn, nothing of it is read: the client is held back, over both versions.
#[test]
fn an_upload_that_waits_is_not_read() {
    if !report::may_run("limit: back-pressure") {
        return;
    }
    const MIB: usize = 1 << 20;
    const WHOLE: usize = 48 * MIB;
    let (sent, on_arrival) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let world = World::new();
    let (counted, noted) = (Arc::clone(&sent), Arc::clone(&on_arrival));
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", move |exchange| {
        noted.store(counted.load(Ordering::Relaxed), Ordering::Relaxed);
        exchange.body(usize::MAX)?;
        exchange.answer("200 OK", "Content-Type: text/plain\r\n", "read").map(|()| true)
    });
    let more = "[limit.steady]\nrequests = 1\nper = \"3s\"\nburst = 1\ndelay = \"20s\"\n";
    let routes = route("/up", "[\"POST\"]", "[\"public\"]", "max_body = \"64MiB\"");
    let _daemon = Daemon::start(&world, &Settings { routes, ..settings(more) });
    for (is_http2, address) in [(false, GOOD_V4), (true, GOOD_V6)] {
        let client = Client::new(&world, address);
        let first = client.send(&Request::new("POST", "/up").body("text/plain", b"y")).unwrap();
        assert_eq!(first.status, 200);
        sent.store(0, Ordering::Relaxed);
        on_arrival.store(0, Ordering::Relaxed);
        let status = if is_http2 {
            let caller = client.caller().unwrap();
            let mut call = caller.begin(http2_call::post("/up", "text/plain"), false).unwrap();
            let began = Instant::now();
            while sent.load(Ordering::Relaxed) < WHOLE {
                assert!(began.elapsed() < SOON * 6, "its turn does not come");
                let fits = MIB.min(WHOLE - sent.load(Ordering::Relaxed));
                let fits = call.send_what_fits(fits, Duration::from_millis(100)).unwrap();
                sent.fetch_add(fits, Ordering::Relaxed);
            }
            call.end(None).unwrap();
            call.answer().unwrap().head.status.as_u16()
        } else {
            let mut connection = client.connect().unwrap();
            let head = "POST /up HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: text/plain\r\n";
            connection.write(format!("{head}Content-Length: {WHOLE}\r\n\r\n").as_bytes()).unwrap();
            for _ in 0..WHOLE / MIB {
                connection.write(&vec![b'y'; MIB]).unwrap();
                sent.fetch_add(MIB, Ordering::Relaxed);
            }
            connection.response("POST").unwrap().status
        };
        assert_eq!(status, 200);
        // What sockets and windows have room for, and no more.
        let before = on_arrival.load(Ordering::Relaxed);
        assert!(before < WHOLE / 2, "HTTP/2 {is_http2}: {before} bytes were taken before its turn came");
    }
}

/// What a request costs is known once it is over: the next one has to wait for it.
#[test]
fn costs_are_charged_afterwards() {
    if !report::may_run("limit: costs") {
        return;
    }
    let world = World::new();
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        let body = "x".repeat(600);
        exchange.answer("200 OK", "X-Cost: 40\r\nContent-Type: text/plain\r\n", &body).map(|()| true)
    });
    let more = "[limit.bytes]\nunits = 1000\nper = \"1h\"\ncost = \"response_bytes\"\nroutes = [\"bytes\"]\n\
                [limit.said]\nunits = 100\nper = \"1h\"\ncost = \"header:x-cost\"\nroutes = [\"said\"]\n\
                [limit.sent]\nunits = \"1KiB\"\nper = \"1h\"\ncost = \"request_bytes\"\nroutes = [\"sent\"]\n";
    let routes = route("/bytes", "[]", "[\"public\"]", "name = \"bytes\"")
        + &route("/said", "[]", "[\"public\"]", "name = \"said\"")
        + &route("/sent", "[]", "[\"public\"]", "name = \"sent\"");
    let _daemon = Daemon::start(&world, &Settings { routes, proxy: "workers = 1".to_owned(), ..settings(more) });
    for (path, expect) in [("/bytes", 2), ("/said", 3), ("/sent", 2)] {
        let client = Client::new(&world, GOOD_V4);
        let request = Request::new("POST", path).body("text/plain", &[b'y'; 600]);
        let statuses: Vec<u16> = (0..5).map(|_| client.send(&request).unwrap().status).collect();
        assert_eq!(served(&statuses), expect, "{path}: {statuses:?}");
        let client = Client::new(&world, ATTACKER_V4);
        let post = |_| {
            http::Request::post(format!("https://{}{path}", support::pki::HOST))
                .body(Full::from(Bytes::from(vec![b'y'; 600])))
                .unwrap()
        };
        let statuses: Vec<u16> = (0..5)
            .map(|number| client.send_http2(vec![post(number)]).unwrap().remove(0).unwrap().status().as_u16())
            .collect();
        assert_eq!(served(&statuses), expect, "{path} over HTTP/2: {statuses:?}");
    }
}

#[test]
fn calls_of_grpc_are_refused_in_its_own_words() {
    if !report::may_run("limit: grpc") {
        return;
    }
    let world = World::new();
    let _upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let more = "[limit.messages]\nunits = 5\nper = \"1h\"\ncost = \"grpc_messages\"\n";
    let settings = Settings {
        routes: route("/pkg.Open/{method}", "[\"POST\"]", "[\"public\"]", ""),
        upstream: "servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"".to_owned(),
        ..settings(more)
    };
    let _daemon = Daemon::start(&world, &settings);
    let caller = Client::new(&world, GOOD_V4).caller().unwrap();
    let call = || {
        let mut request = http2_call::post("/pkg.Open/echo", "application/grpc+proto");
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        // Three messages of one byte.
        let body = [0, 0, 0, 0, 1, b'x'].repeat(3);
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        caller.call(request, &body, Some(trailers)).unwrap()
    };
    assert!((0..2).all(|_| call().head.headers.get("grpc-status").is_none_or(|status| status == "0")));
    let refused = until("the messages to be charged", SOON, || {
        let answer = call();
        answer.head.headers.get("grpc-status").is_some_and(|status| status == "8").then_some(answer)
    });
    assert_eq!(refused.head.headers["ratelimit-policy"], "\"messages\";q=5;w=3600");
    assert!(refused.head.headers["ratelimit"].to_str().unwrap().starts_with("\"messages\";r=0;t="));
}

/// A reload every little while earns nobody anything, whether the rate stays or changes.
#[test]
fn d07_reloads_keep_the_counts() {
    if !report::may_run("limit: reloads") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = "[limit.client]\nby = [\"principal\"]\nrequests = 8\nper = \"1h\"\n[limit.address]\nrequests = 100\nper = \"1h\"\n";
    let daemon = Daemon::start(&world, &settings(more));
    let client = Client::new(&world, GOOD_V4);
    let token = token("ada", "acme", "free");
    let mut connection = client.connect().unwrap();
    let mut served = 0;
    for round in 0..12 {
        let status = connection.exchange(&Request::new("GET", "/me").token(&token)).unwrap().status;
        served += usize::from(status == 200);
        match round {
            3 => daemon.edit("requests = 100", "requests = 200"),
            9 => daemon.edit("requests = 8", "requests = 80"),
            _ => {}
        }
        daemon.done(&["reload"]);
    }
    // The burst, and of the last two those that ten times as much allows.
    assert_eq!(served, 8 + 2);
    let answer = connection.exchange(&Request::new("GET", "/me").token(&token)).unwrap();
    // As many are taken as before.
    assert_eq!(
        answer.header("ratelimit").map(|it| it.split(";t=").next().unwrap().to_owned()),
        Some("\"client\";r=69".to_owned())
    );
}

#[test]
fn d06_operators_see_what_a_limit_does() {
    if !report::may_run("limit: metrics") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!(
        "{}[limit.client]\nby = [\"principal\"]\nrequests = 2\nper = \"1h\"\nshadow = true\n\
         [limit.address]\nrequests = 5\nper = \"1h\"\ncapacity = 1\n",
        admin::TABLE
    );
    let daemon = Daemon::start(&world, &settings(&more));
    let client = Client::new(&world, GOOD_V4);
    let statuses = statuses(&client, "/me", &token("ada", "acme", "free"), 7, false);
    assert_eq!(served(&statuses), 5);
    // The table is full of one who is active.
    assert_eq!(Client::new(&world, ATTACKER_V4).get("/health", "").unwrap().status, 200);
    for (row, expect) in [
        ("gateway_limit_shared_total{limit=\"address\"}", 1.0),
        ("gateway_limit_requests_total{limit=\"address\",result=\"admitted\"}", 6.0),
        ("gateway_limit_requests_total{limit=\"address\",result=\"refused\"}", 2.0),
        ("gateway_limit_requests_total{limit=\"client\",result=\"shadow\"}", 3.0),
        ("gateway_limit_keys{limit=\"address\"}", 1.0),
        ("gateway_limit_capacity{limit=\"address\"}", 1.0),
        ("gateway_limit_evictions_total{limit=\"address\"}", 0.0),
    ] {
        // Each worker tells in its own time what it counts.
        until(&format!("{row} to be {expect}"), SOON, || {
            let text = admin::get(&world, "/metrics", "").ok()?.text();
            (admin::value(&text, row) == Some(expect)).then_some(())
        });
    }
    // The commands ask the proxy in service.
    let rows = |arguments: &[&str]| daemon.done(arguments)["rows"].as_array().cloned().unwrap_or_default();
    let list = rows(&["limit", "list"]);
    // Of the client without a principal the address stands in for it.
    let counted: Vec<_> = list.iter().map(|row| (&row["limit"], &row["admitted"], &row["refused"])).collect();
    assert_eq!(counted, [(&json!("address"), &json!(6), &json!(2)), (&json!("client"), &json!(3), &json!(3))]);
    let top = rows(&["limit", "top"]);
    assert_eq!((&top[0]["key"], &top[0]["refused"]), (&json!("principal=ada"), &json!(3)), "{top:?}");
    assert_eq!(rows(&["limit", "show", "ada"])[0]["left"], 0);
    let why = daemon.done(&["why", "10.0.0.2"]);
    assert_eq!((&why["limits"][0]["limit"], &why["limits"][0]["left"]), (&json!("address"), &json!(0)), "{why}");
    assert_eq!(rows(&["limit", "reset", "10.0.0.2"]).len(), 1);
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(chain.lines().any(|line| line.contains("limit_reset") && line.contains("address=10.0.0.2")), "{chain}");
    assert!(rows(&["limit", "show", "10.0.0.2"]).is_empty());
    assert_eq!(client.get("/health", "").unwrap().status, 200, "its budget is full again");
    let row = until("the report", SOON, || {
        let report = daemon.done(&["shadow", "report"]);
        let row = report["rows"].as_array()?.iter().find(|row| row["what"] == "limit.client")?.clone();
        (row["requests"] == 3).then_some(row)
    });
    assert_eq!(row["sources"], 1, "{row}");
    daemon.done(&["shadow", "promote", "limit.client"]);
    let other = Client::new(&world, bystander(3));
    until("it to be enforced", SOON, || {
        (other.get("/me", &token("ada", "acme", "free")).unwrap().status == 429).then_some(())
    });
}
