//! Requests and their answers where one of them is not as long as the other side thinks: bodies that nobody reads,
//! expectations, limits, and what ends up in the log (F11, F13 to F16, B02, T08, W01).

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request},
    pki::HOST,
    report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// The largest body, in bytes.
const MOST: usize = 100_000;

fn settings() -> Settings {
    let served = Settings::default();
    let any = "[\"GET\", \"HEAD\", \"DELETE\", \"OPTIONS\", \"POST\"]";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: served.routes.clone()
            + &route("/any/{name}", any, "[\"public\"]", "rewrite = \"/files/{name}\"")
            + &route("/take", "[\"POST\"]", "[\"public\"]", "rewrite = \"/echo\""),
        proxy: format!("max_body = {MOST}"),
        timeouts: "body = \"1s\"".to_owned(),
        ..served
    }
}

/// What a body would be if somebody took it for a request.
fn smuggled() -> String {
    format!("GET /files/smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

fn started<T>(what: &str, test: impl FnOnce(&Client<'_>, &Upstream, &Daemon<'_>) -> T) -> Option<T> {
    if !report::may_run(what) {
        return None;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let tested = test(&Client::new(&world, GOOD_V4), &upstream, &daemon);
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
    Some(tested)
}

/// Whether the connection carries another request, which is answered for itself.
fn goes_on(connection: &mut Connection) -> bool {
    connection.exchange(&Request::new("GET", "/health")).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn f11_f14_f16_bodies_that_nobody_asked_for() {
    started("exchanges: bodies", |client, upstream, _| {
        let body = smuggled();
        let length = ("Content-Length", body.len().to_string());
        let chunked = ("Transfer-Encoding", "chunked".to_owned());
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        // F14: refused before the body has come. What is small is read and forgotten, the rest ends the connection.
        for (framing, after, kept) in [
            (&length, &body, true),
            (&chunked, &chunks, false),
            (&("Content-Length", "90000".to_owned()), &body, false),
        ] {
            upstream.forget();
            let mut connection = client.connect().unwrap();
            connection.write(&Request::new("POST", "/items").header(framing.0, &framing.1).bytes()).unwrap();
            assert_eq!(connection.response("POST").unwrap().status, 401);
            drop(connection.write(after.as_bytes()));
            assert_eq!(goes_on(&mut connection), kept, "{framing:?}");
            assert!(upstream.received().iter().all(|it| it.target == "/health"), "{:?}", upstream.received());
        }
        // F16: a body where none is expected is passed on with its framing, and nothing of it is left behind.
        for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
            for (framing, sent) in [(&length, &body), (&chunked, &chunks)] {
                upstream.forget();
                let mut connection = client.connect().unwrap();
                let head = Request::new(method, "/any/one").header(framing.0, &framing.1).bytes();
                connection.write(&[&head[..], sent.as_bytes()].concat()).unwrap();
                assert_eq!(connection.response(method).unwrap().status, 200, "{method} {framing:?}");
                assert!(goes_on(&mut connection), "{method} {framing:?}");
                let targets: Vec<_> = upstream.received().into_iter().map(|it| it.target).collect();
                assert_eq!(targets, ["/files/one", "/health"], "{method} {framing:?}");
            }
        }
        // F11: trailers are no headers, and too many of them are no request.
        for (trailers, status) in [
            (
                "Content-Length: 5\r\nHost: evil.example\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 203.0.113.1\r\n",
                200,
            ),
            ("X: y\nZ: z\r\n", 400),
            (" X: y\r\n", 400),
            (&*format!("X: {}\r\n", "y".repeat(9_000)), 400),
        ] {
            upstream.forget();
            let mut connection = client.connect().unwrap();
            let head = Request::new("POST", "/take").header("Transfer-Encoding", "chunked").bytes();
            connection.write(&[&head[..], b"5\r\nhello\r\n0\r\n", trailers.as_bytes(), b"\r\n"].concat()).unwrap();
            let answer = connection.response("POST");
            // The answer may have begun before the end was seen to be malformed: then it breaks off.
            let right = answer.as_ref().map_or(status == 400, |answer| answer.status == status);
            assert!(right, "{trailers:?}: {answer:?}");
            assert_eq!(goes_on(&mut connection), status == 200, "{trailers:?}");
            let received = upstream.received();
            assert!(status != 200 || received.iter().any(|it| it.target == "/echo"), "{trailers:?}: {received:?}");
            for received in received {
                assert!(
                    received.headers.iter().all(|(_, value)| !value.contains("evil") && !value.contains("203.0.113.1"))
                );
            }
        }
    });
}

#[test]
fn f15_expectations() {
    started("exchanges: expectations", |client, upstream, _| {
        let expects =
            |method: &str, path: &str, expectation: &str| Request::new(method, path).header("Expect", expectation);
        let with_body = || expects("POST", "/take", "100-continue").header("Content-Length", "5").bytes();
        // Nothing to wait for.
        let mut connection = client.connect().unwrap();
        assert_eq!(connection.exchange(&expects("GET", "/health", "100-continue")).unwrap().status, 200);
        // It waits, is told once, and sends.
        connection.write(&with_body()).unwrap();
        assert_eq!(connection.head().unwrap().status, 100);
        connection.write(b"hello").unwrap();
        let answer = connection.response("POST").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
        let received = upstream.received().pop().unwrap();
        assert_eq!((received.header("content-length"), received.header("expect")), (vec!["5"], vec![]));
        // It does not wait, and need not be told.
        connection.write(&[&with_body()[..], b"hello"].concat()).unwrap();
        assert_eq!(connection.response("POST").unwrap().status, 200);
        assert!(goes_on(&mut connection));
        // HTTP/1.0 knows nothing of it.
        let mut old = client.connect().unwrap();
        let head = String::from_utf8(with_body()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        old.write(head.as_bytes()).unwrap();
        old.write(b"hello").unwrap();
        assert_eq!(old.head().unwrap().status, 200, "the answer comes first");
        // It waits and never sends.
        let mut silent = client.connect().unwrap();
        silent.write(&with_body()).unwrap();
        assert_eq!(silent.head().unwrap().status, 100);
        // The server has begun to answer by then, and is not waited for either.
        assert_eq!(silent.head().unwrap().status, 200);
        assert!(silent.ends());
        // Who is refused is not told to send, and whether it does nobody can tell.
        let mut refused = client.connect().unwrap();
        refused.write(&expects("POST", "/items", "100-continue").header("Content-Length", "5").bytes()).unwrap();
        assert_eq!(refused.response("POST").unwrap().status, 401);
        assert!(refused.ends());
        // No server is asked for anything else.
        upstream.forget();
        for expectation in ["y 100-continue", "100-continue, 100-continue", "200-ok", ""] {
            let mut other = client.connect().unwrap();
            assert_eq!(other.exchange(&expects("GET", "/health", expectation)).unwrap().status, 417, "{expectation:?}");
            other.write(&expects("POST", "/take", expectation).header("Content-Length", "5").bytes()).unwrap();
            assert_eq!(other.response("POST").unwrap().status, 417, "{expectation:?}");
        }
        assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    });
}

#[test]
fn b02_limits_at_the_limit_and_above() {
    started("exchanges: limits", |client, upstream, _| {
        let body = |length: usize| Request::new("POST", "/take").body("text/plain", &vec![b'x'; length]);
        assert_eq!(client.send(&body(MOST)).unwrap().body.len(), MOST);
        assert_eq!(client.send(&body(MOST + 1)).unwrap().status, 413);
        let chunked = |length: usize| {
            let mut connection = client.connect().unwrap();
            connection.write(&Request::new("POST", "/take").header("Transfer-Encoding", "chunked").bytes()).unwrap();
            // Refused, it may be closed before the last byte.
            drop(connection.write(format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length)).as_bytes()));
            connection.response("POST").map(|answer| (answer.status, answer.body.len()))
        };
        assert_eq!(chunked(MOST).unwrap(), (200, MOST));
        // Its answer had begun by then: it breaks off, or it had not.
        let beyond = chunked(MOST + 1);
        assert!(beyond.as_ref().map_or(true, |(status, _)| *status == 413), "{beyond:?}");
        // Nor is a chunk that is announced, behind others or not: nothing of it goes anywhere.
        for before in ["", "5\r\nhello\r\n"] {
            upstream.forget();
            let mut announced = client.connect().unwrap();
            let head = Request::new("POST", "/any/one").header("Transfer-Encoding", "chunked").bytes();
            announced
                .write(&[&head[..], before.as_bytes(), format!("{MOST:x}1\r\n0123456789").as_bytes()].concat())
                .unwrap();
            assert_eq!(announced.response("POST").unwrap().status, 413, "{before:?}");
            assert!(announced.ends());
        }
        // A gigabyte that is announced is not waited for.
        let mut announced = client.connect().unwrap();
        announced.write(&Request::new("POST", "/take").header("Content-Length", "1073741824").bytes()).unwrap();
        assert_eq!(announced.response("POST").unwrap().status, 413);
        assert!(announced.ends());

        let path = |length: usize| Request::new("GET", &format!("/files/{}", "x".repeat(length - 7)));
        for (length, status) in [(8 << 10, 200), ((8 << 10) + 1, 414), (15 << 10, 414), (100 << 10, 414)] {
            let mut connection = client.connect().unwrap();
            drop(connection.write(&path(length).bytes()));
            let answer = connection.response("GET").unwrap();
            assert_eq!(answer.status, status, "a path of {length} bytes");
            assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
        }
        let headers = |count: usize| {
            let plain = Request::new("GET", "/nowhere");
            let there = String::from_utf8(plain.bytes()).unwrap().matches("\r\n").count() - 2;
            (there..count).fold(plain, |request, number| request.header("X-Many", &number.to_string()))
        };
        assert_eq!(client.send(&headers(100)).unwrap().status, 404);
        assert_eq!(client.send(&headers(101)).unwrap().status, 431);
        assert!(upstream.received().iter().all(|it| it.header("x-many").len() < 100));
    });
}

/// Extensions that break the grammar (RFC 9112 7.1.1) are 400, wherever they stand.
#[test]
fn f09_extensions_of_chunks() {
    started("exchanges: extensions", |client, _, _| {
        for (extension, status) in
            [(";a=b;c=\"d;e\"", 200), (";", 400), (";a=", 400), (";a=\"b", 400), (" ;a", 400), (";a b", 400)]
        {
            for chunks in [format!("5{extension}\r\nhello\r\n0\r\n\r\n"), format!("5\r\nhello\r\n0{extension}\r\n\r\n")]
            {
                let mut connection = client.connect().unwrap();
                let head = Request::new("POST", "/any/one").header("Transfer-Encoding", "chunked").bytes();
                connection.write(&[&head[..], chunks.as_bytes()].concat()).unwrap();
                assert_eq!(connection.response("POST").unwrap().status, status, "{chunks:?}");
            }
        }
    });
}

#[test]
fn t08_what_clients_say_stays_in_its_line() {
    started("exchanges: log", |client, _, daemon| {
        let nasty = "ada\"},{\\\u{fc}";
        assert_eq!(client.get("/me", &tokens::good(nasty, &["reader"])).unwrap().status, 200);
        // Characters that nobody sees, or that reorder what is seen, are nobody's name.
        for unseen in ["ada\r\n{}\u{1b}[31m", "ada\u{2028}", "ada\u{202e}"] {
            assert_eq!(client.get("/me", &tokens::good(unseen, &["reader"])).unwrap().status, 401, "{unseen:?}");
        }
        for (target, status) in [("/nowhere/%22%7d%1b%5b31m", 400), ("/nowhere/%e2%80%a8%e2%80%ae", 404)] {
            let answer = client.send(&Request::new("GET", target).header("User-Agent", "a\u{fc}\"}")).unwrap();
            assert_eq!(answer.status, status, "{target}");
        }
        let mut raw = client.connect().unwrap();
        raw.write(format!("GET /a\u{1b}[31m HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(raw.response("GET").unwrap().status, 400);
        // Every line is one object: reading the log fails otherwise.
        let served = until("the line", SOON, || {
            daemon.access_log().into_iter().find(|line| line["path"] == "/me" && line["status"] == 200)
        });
        assert_eq!(served["principal"], nasty);
        until("all lines", SOON, || (daemon.access_log().len() >= 7).then_some(()));
    });
}

/// A server's own words for a status pass, in a head that is passed by lines and in one that is parsed, and in HTTP/1.0.
#[test]
fn reason_phrases_pass() {
    if !report::may_run("exchanges: reasons") {
        return;
    }
    let world = World::new();
    let _upstream = Scripted::start(&world.gate, "127.0.0.1:9000", |exchange| {
        let (status, headers) = match exchange.line.split(' ').nth(1).unwrap_or_default() {
            "/files/own" => ("404 No such item", ""),
            "/files/parsed" => ("404 No such item", "Connection: keep-alive, x\r\n"),
            "/files/none" => ("404 ", ""),
            "/files/foreign" => ("404 Gibt\u{2019}s nicht", ""),
            _ => ("299 Nearly OK", ""),
        };
        exchange.answer(status, headers, "x").map(|()| true)
    });
    let _daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    for (name, version, expect) in [
        ("own", "1.1", "HTTP/1.1 404 No such item\r\n"),
        ("parsed", "1.1", "HTTP/1.1 404 No such item\r\n"),
        ("own", "1.0", "HTTP/1.0 404 No such item\r\n"),
        ("none", "1.1", "HTTP/1.1 404 Not Found\r\n"),
        ("foreign", "1.1", "HTTP/1.1 404 Not Found\r\n"),
        ("unusual", "1.1", "HTTP/1.1 299 Nearly OK\r\n"),
    ] {
        let mut connection = client.connect().unwrap();
        let request = format!("GET /files/{name} HTTP/{version}\r\nHost: {HOST}\r\n\r\n");
        connection.write(request.as_bytes()).unwrap();
        let line = connection.raw(expect.len()).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), expect, "{name} by HTTP/{version}");
    }
}
