//! Servers that speak HTTP/2: what reaches them, over how many connections, and what becomes of it when they refuse,
//! leave, stall or say nothing (D04).

use std::{collections::BTreeSet, fs, io::Read as _, io::Write as _, net::TcpListener, thread};

use h2::Reason;
use http::{HeaderMap, HeaderName};
use support::{
    authority::Authority,
    daemon::Daemon,
    http1::{Client, Request},
    http2, http2_call, report,
    settings::{Settings, route},
    tls_upstream::TlsUpstream,
    tokens,
    upstream::Upstream,
    upstream_http2::{Http2Upstream, Kind, MIDDLE},
    wait::{SOON, until},
    world::{GOOD_V4, GOOD_V6, World},
};

/// One worker, so that its connections can be counted.
fn settings(upstream: &str) -> Settings {
    let served = Settings::default();
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: served.routes.clone()
            + &route("/bare/{name}", "[\"HEAD\"]", "[\"public\"]", "")
            + &route("/sink", "[\"POST\"]", "[\"public\"]", "max_body = \"1MiB\"")
            + &route("/listed/echo", "[\"POST\"]", "[\"public\"]", "unknown_headers = \"refuse\"")
            + &route("/bounded/echo", "[\"POST\"]", "[\"public\"]", "header.x-checksum = { max_length = 2 }")
            + &route("/judged/{name}", "[\"POST\"]", "[\"public\"]", "schema = \"item.schema.json\"")
            + &route("/inspected/{name}", "[\"POST\"]", "[\"public\"]", "waf = \"calm\""),
        more: "[waf.calm]\ninspect_body = \"64KiB\"\n".to_owned(),
        proxy: "workers = 1\nmax_body = \"8MiB\"".to_owned(),
        timeouts: "response = \"1s\"\nconnect = \"2s\"".to_owned(),
        upstream: format!("servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"\n{upstream}"),
        ..served
    }
}

fn connections(upstream: &Http2Upstream) -> usize {
    upstream.received().iter().map(|request| request.connection).collect::<BTreeSet<_>>().len()
}

#[test]
fn requests_share_a_connection_and_pass_as_they_must() {
    if !report::may_run("upstream_http2: passing") {
        return;
    }
    let world = World::new();
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let daemon = Daemon::start(&world, &settings(""));
    let (client, token) = (Client::new(&world, GOOD_V4), tokens::good("ada", &[]));

    let request = Request::new("GET", "/files/%61?b=2&a=1")
        .header("Connection", "keep-alive, X-Hop")
        .header("X-Hop", "1")
        .header("Upgrade", "h2c")
        .header("X-Forwarded-For", "203.0.113.1")
        .header("Cookie", "a=1")
        .header("X-Plain", "kept");
    let answer = client.send(&request).unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.target, "http://api.example.com/files/a?b=2&a=1", "one reading of the path");
    for (name, value) in [
        ("host", ""),
        ("connection", ""),
        ("upgrade", ""),
        ("te", ""),
        ("content-length", ""),
        ("x-hop", ""),
        ("x-plain", "kept"),
        ("cookie", "a=1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-host", "api.example.com"),
        ("x-request-id", &answer.id()),
    ] {
        assert_eq!(received.header(name), value, "{name} of {:?}", received.headers);
    }

    // Bodies pass both ways, whole and in time, of known length and not.
    let large = vec![b'x'; 3 << 20];
    let echo = Request::new("POST", "/echo").token(&token);
    let answer = client.send(&echo.clone().body("text/plain", &large)).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, large.len()));
    let received = upstream.of("/echo").pop().unwrap();
    assert_eq!((received.header("content-length"), received.length), (&*large.len().to_string(), large.len()));
    let mut chunked = client.connect().unwrap();
    chunked.write(&echo.header("Transfer-Encoding", "chunked").bytes()).unwrap();
    for piece in ["one", "two"] {
        chunked.write(format!("3\r\n{piece}\r\n").as_bytes()).unwrap();
        if piece == "one" {
            assert_eq!(chunked.head().unwrap().status, 200, "the answer begins before the request ends");
        }
        assert_eq!(chunked.chunk().unwrap().unwrap(), piece.as_bytes());
    }
    chunked.write(b"0\r\n\r\n").unwrap();
    assert_eq!(chunked.chunk().unwrap(), None);
    assert_eq!(upstream.of("/echo").pop().unwrap().header("content-length"), "");
    assert_eq!(client.get("/files/big", "").unwrap().body.len(), 4 << 20);
    for (method, path, status) in [("GET", "/files/empty", 204), ("HEAD", "/bare/big", 200)] {
        let mut connection = client.connect().unwrap();
        let answer = connection.exchange(&Request::new(method, path)).unwrap();
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
        assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200, "after {path}");
    }
    // A body over the limit is refused, and the server is told that nothing more comes.
    let mut long = client.connect().unwrap();
    long.write(&Request::new("POST", "/sink").header("Transfer-Encoding", "chunked").bytes()).unwrap();
    until("its arrival", SOON, || upstream.of("/sink").pop());
    let piece = [b"100001\r\n".as_slice(), &vec![b'x'; (1 << 20) + 1], b"\r\n"].concat();
    drop(long.write(&piece));
    assert_eq!(long.response("POST").unwrap().status, 413);
    until("the reset", SOON, || upstream.of("/sink").pop().and_then(|it| it.reset));

    trailers(&world, &upstream, &token);

    // Many at once, from HTTP/2 too: still one connection.
    let many = (0..60).map(|_| http2::get("/files/middle", "")).collect();
    let answers = Client::new(&world, GOOD_V6).send_http2(many).unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.body().len() == MIDDLE)));
    assert_eq!(connections(&upstream), 1, "of {} requests", upstream.received().len());
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// What the route of `/judged` takes.
const ITEM: &[u8] = b"{\"name\":\"nail\"}";

/// F11: trailers pass both ways, but for those that would have been judged as headers. It makes no difference whether a
/// body is read whole before it is sent.
fn trailers(world: &World, upstream: &Http2Upstream, token: &str) {
    let map = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    };
    let good = [("x-checksum", "1"), ("x-checksum", "2"), ("grpc-status", "0")];
    let bad = [
        ("authorization", "Bearer x"),
        ("content-length", "5"),
        ("host", "evil.example"),
        ("set-cookie", "a=1"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-authenticated-principal", "root"),
    ];
    let caller = Client::new(world, GOOD_V4).caller().unwrap();
    let rows = [
        ("trailers", [&good[..], &bad].concat(), Some(map(&good))),
        ("", good.to_vec(), Some(map(&good))),
        ("trailers", bad.to_vec(), None),
        ("trailers", Vec::new(), None),
    ];
    let paths = ["/echo", "/judged/echo", "/inspected/echo"];
    for (path, (te, sent, expect)) in paths.iter().flat_map(|path| rows.iter().map(move |row| (*path, row))) {
        let mut request = http2_call::post(path, "application/json");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        if !te.is_empty() {
            request.headers_mut().insert("te", te.parse().unwrap());
        }
        let answer = caller.call(request, ITEM, (!sent.is_empty()).then(|| map(sent))).unwrap();
        assert_eq!((answer.head.status.as_u16(), &answer.body[..]), (200, ITEM), "{path}");
        let received = upstream.of(path).pop().unwrap();
        assert_eq!((received.header("te"), received.ended), (*te, true), "{path}: {:?}", received.headers);
        assert_eq!(received.trailers, *expect, "to the server, of {sent:?} to {path}");
        assert_eq!(answer.trailers, *expect, "to the client, of {sent:?} to {path}");
    }
    // What would have been judged as a header, or refused, comes too late: no server gets it.
    for (path, expect) in [("/listed/echo", None), ("/bounded/echo", Some(map(&[("grpc-status", "0")])))] {
        let answer = caller.call(http2_call::post(path, "text/plain"), b"hello", Some(map(&good))).unwrap();
        assert_eq!((answer.head.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]), "{path}");
        assert_eq!(upstream.of(path).pop().unwrap().trailers, expect, "{path}");
    }
    // What is sent again is sent with them.
    let again = http2_call::post("/judged/refuse", "application/json");
    assert_eq!(caller.call(again, ITEM, Some(map(&good))).unwrap().head.status, 200);
    let received = upstream.of("/judged/refuse");
    assert_eq!((received.len(), received[1].length, &received[1].trailers), (2, ITEM.len(), &Some(map(&good))));
    // Those of HTTP/1.1 end with the body; its clients get none that they were not told of.
    for path in paths {
        let mut chunked = Client::new(world, GOOD_V4).connect().unwrap();
        let head = Request::new("POST", path).token(token).header("TE", "trailers");
        let head = head.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked").bytes();
        let length = format!("{:x}\r\n", ITEM.len());
        let end = b"\r\n0\r\nX-Checksum: 1\r\nHost: evil.example\r\n\r\n";
        chunked.write(&[&head[..], length.as_bytes(), ITEM, &end[..]].concat()).unwrap();
        assert_eq!((chunked.head().unwrap().status, chunked.chunk().unwrap()), (200, Some(ITEM.to_vec())), "{path}");
        assert_eq!(chunked.chunk().unwrap(), None, "{path}");
        assert_eq!(chunked.exchange(&Request::new("GET", "/health")).unwrap().status, 200, "{path}");
        assert_eq!(upstream.of(path).pop().unwrap().trailers, Some(map(&[("x-checksum", "1")])), "{path}");
    }
}

/// One client's resets, slowness or leaving is nobody else's.
#[test]
fn d04_servers_that_refuse_stall_and_leave() {
    if !report::may_run("upstream_http2: failing") {
        return;
    }
    let world = World::new();
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    for (path, status, detail) in [
        ("/files/refuse", 200, ""),
        ("/files/reset", 502, "the server reset the request"),
        ("/files/hold", 504, "no answer in time"),
    ] {
        let answer = client.get(path, "").unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(daemon.logged(&answer.id())["detail"].as_str().unwrap_or_default(), detail, "{path}");
    }
    assert_eq!(upstream.of("/refuse").len(), 2, "what was refused is sent again");
    until("the reset of what took too long", SOON, || upstream.of("/hold")[0].reset.filter(|it| *it == Reason::CANCEL));
    // Half an answer is none, whether some of it had been sent by then or not.
    assert!(client.get("/files/broken", "").map_or(true, |answer| answer.status == 502));

    // A client that leaves takes its request back.
    let mut leaving = client.connect().unwrap();
    leaving.write(&Request::new("GET", "/files/until").bytes()).unwrap();
    assert_eq!(leaving.head().unwrap().status, 200);
    drop(leaving);
    until("the reset of what nobody waits for", SOON, || upstream.of("/until")[0].reset);

    // One that takes nothing of its answer holds up nobody.
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut slow = client.connect().unwrap();
            slow.write(&Request::new("GET", "/files/big").bytes()).unwrap();
            slow
        })
        .collect();
    until("the slow ones", SOON, || (upstream.of("/big").len() == slow.len()).then_some(()));
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    drop(slow);
    assert_eq!(connections(&upstream), 1, "all of that is no reason for another connection");

    // A connection that the server ends is replaced, and nobody notices.
    assert_eq!(client.get("/files/leave", "").unwrap().status, 200);
    let answers =
        Client::new(&world, GOOD_V6).send_http2((0..30).map(|_| http2::get("/health", "")).collect()).unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.status() == 200)), "{answers:?}");
    assert_eq!(connections(&upstream), 2);

    // One that is gone is found out, and what is back is used again.
    drop(upstream);
    let answer = client.get("/health", "").unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    let _again = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

#[test]
fn requests_wait_for_room_within_their_limits() {
    if !report::may_run("upstream_http2: room") {
        return;
    }
    let world = World::new();
    let kind = Kind { streams: Some(2), ..Kind::default() };
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &kind);
    let limits = "max_pending = 1\n[upstream.items.http2]\nconnections = 2\n";
    let settings = Settings { timeouts: "connect = \"30s\"\nresponse = \"30s\"".to_owned(), ..settings(limits) };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let begin = |path: &str| {
        let mut connection = client.connect().unwrap();
        connection.write(&Request::new("GET", path).bytes()).unwrap();
        connection
    };
    let mut held = Vec::new();
    for number in 1..=4 {
        held.push(begin("/files/until"));
        until("its arrival", SOON, || (upstream.of("/until").len() == number).then_some(()));
    }
    assert_eq!(connections(&upstream), 2, "two on each");
    let mut waiting = begin("/health");
    // Whoever comes when one waits already is refused, and may come again.
    let refused = until("a refusal", SOON, || Some(client.get("/health", "").unwrap()).filter(|it| it.status == 503));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(daemon.logged(&refused.id())["detail"], "over upstream.max_pending");
    assert!(upstream.of("/health").is_empty(), "more than the server takes was sent");
    drop(held.pop());
    assert_eq!(waiting.response("GET").unwrap().status, 200, "room for who waits");
}

/// Speaks HTTP/2 once: says what it takes, and then nothing more, ever.
fn mute(world: &World, address: &str) {
    let listener = world.gate.enter(|| TcpListener::bind(address)).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                if stream.write_all(&settings).is_ok() {
                    drop(stream.read_to_end(&mut Vec::new()));
                }
            });
        }
    });
}

#[test]
fn d04_a_connection_that_does_not_answer_is_given_up() {
    if !report::may_run("upstream_http2: silence") {
        return;
    }
    let world = World::new();
    mute(&world, "127.0.0.1:9001");
    mute(&world, "127.0.0.1:9002");
    let ping = |more: &str| format!("[upstream.NAME.http2]\nping_timeout = \"200ms\"\n{more}");
    let items = format!("[upstream.items.retry]\ntimeout = \"500ms\"\n{}", ping("").replace("NAME", "items"));
    let mut settings = Settings { timeouts: "response = \"60s\"".to_owned(), ..settings(&items) };
    settings.more += &format!(
        "[upstream.pinged]\nservers = [\"127.0.0.1:9002\"]\nprotocol = \"http2\"\n{}",
        ping("ping = \"1s\"\n").replace("NAME", "pinged")
    );
    settings.routes.push_str(&route("/pinged", "[]", "[\"public\"]", "").replace("\"items\"", "\"pinged\""));
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let given_up = || daemon.standard_error().matches("PING was not answered").count();
    assert_eq!(client.get("/health", "").unwrap().status, 504);
    until("the end of the connection", SOON, || (given_up() == 1).then_some(()));
    let answer = client.get("/pinged", "").unwrap();
    assert_eq!(answer.status, 502, "well before timeouts.response: {}", answer.text());
    until("the end of the other connection", SOON, || (given_up() == 2).then_some(()));
}

#[test]
fn what_is_spoken_is_agreed_on() {
    if !report::may_run("upstream_http2: agreement") {
        return;
    }
    let world = World::new();
    let inside = Authority::new("inside");
    fs::write(world.folder.join("inside.pem"), inside.pem()).unwrap();
    let issued = inside.server(&["127.0.0.1"]);
    let tls = Kind { tls: Some(issued.clone()), streams: None };
    let secure = Http2Upstream::start(&world.gate, "127.0.0.1:9443", &tls);
    let old = TlsUpstream::start(&world.gate, "127.0.0.1:9444", &issued, None);
    let plain = Upstream::start(&world.gate, "127.0.0.1:9000");
    let plain_http2 = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let (mut settings, ca) = (Settings { rules: String::new(), ..settings("") }, "tls = { ca = \"inside.pem\" }");
    for (name, port, lines) in [
        ("demanded", 9443, format!("protocol = \"http2\"\n{ca}")),
        ("chosen", 9443, format!("protocol = \"auto\"\n{ca}")),
        ("fallen", 9444, format!("protocol = \"auto\"\n{ca}")),
        ("missing", 9444, format!("protocol = \"http2\"\n{ca}")),
        ("unwanted", 9443, format!("protocol = \"http1\"\n{ca}")),
        ("mistaken", 9000, "protocol = \"http2\"".to_owned()),
        ("reversed", 9001, "protocol = \"http1\"".to_owned()),
        ("introduced", 9001, "protocol = \"http2\"\nproxy_protocol = \"v1\"".to_owned()),
    ] {
        settings.more.push_str(&format!("[upstream.{name}]\nservers = [\"127.0.0.1:{port}\"]\n{lines}\n"));
        let upgrade = if name == "chosen" || name == "fallen" { "upgrade = [\"own\"]" } else { "" };
        let route = route(&format!("/{name}"), "[]", "[\"public\"]", upgrade);
        settings.routes.push_str(&route.replace("\"items\"", &format!("{name:?}")));
    }
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    for (path, status, detail) in [
        ("/demanded", 200, ""),
        ("/chosen", 200, ""),
        ("/fallen", 200, ""),
        ("/fallen", 200, ""),
        ("/missing", 502, "does not agree to the version of HTTP"),
        ("/unwanted", 502, "does not agree to the version of HTTP"),
        ("/mistaken", 502, "does not speak HTTP/2"),
        ("/reversed", 502, ""),
    ] {
        let answer = client.get(path, "").unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let line = daemon.logged(&answer.id());
        assert!(line["detail"].as_str().unwrap_or_default().contains(detail), "{path}: {line}");
    }
    assert_eq!(secure.of("/demanded")[0].target, "https://api.example.com/demanded");
    assert_eq!(connections(&secure), 2, "one of each upstream");
    let fallen = old.seen();
    assert!(fallen.iter().all(|seen| seen.protocol.as_deref() == Some("http/1.1")), "{fallen:?}");
    assert!(fallen.iter().any(|seen| seen.requests == 2), "{fallen:?}");
    assert!(plain.received().is_empty() && plain_http2.received().is_empty());

    // What may become a tunnel is asked for by HTTP/1.1, which one of the two does not speak.
    for (path, status) in [("/chosen", 502), ("/fallen", 200)] {
        let request = Request::new("GET", path).header("Connection", "upgrade").header("Upgrade", "own");
        assert_eq!(client.send(&request).unwrap().status, status, "{path}");
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

#[test]
fn health_is_asked_by_http2() {
    if !report::may_run("upstream_http2: health") {
        return;
    }
    let world = World::new();
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let check = "[upstream.items.health]\npath = \"/healthy\"\ninterval = \"100ms\"\nunhealthy = 2\n";
    let daemon = Daemon::start(&world, &settings(check));
    let state = || daemon.status()["upstreams"][0]["servers"][0][1].clone();
    let asked = until("checks", SOON, || upstream.of("/healthy").pop());
    assert_eq!((asked.header("user-agent"), &*asked.target), ("gateway-health", "http://127.0.0.1:9001/healthy"));
    assert_eq!(state(), "up");
    drop(upstream);
    until("the server to be down", SOON, || (state() == "down").then_some(()));
    let _again = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    until("the server to come back", SOON, || (state() == "up").then_some(()));
}
