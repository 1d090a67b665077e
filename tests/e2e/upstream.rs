//! What an upstream that misbehaves comes to: the rows F22, F23 and D04 of the threats. The client gets a good answer
//! or is told that there is none, and nobody gets what was meant for somebody else.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    http2,
    pki::HOST,
    report,
    scripted::Scripted,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, Namespace, World},
};

/// What is said after the end of an answer, and must never be taken for another.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// The head of `late` has arrived at the client.
static IS_PASSED: AtomicBool = AtomicBool::new(false);

/// Serves on `port` of the loopback in `namespace`, until the test process ends, whatever the path asks for.
fn misbehave(namespace: &Namespace, port: u16) {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let listener = namespace.enter(|| TcpListener::bind(address)).expect("the upstream's address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(converse(stream)));
        }
    });
}

/// Answers requests on one connection until it has to end.
fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let head = head(&mut stream)?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (answer, goes_on) = match path.rsplit('/').next().unwrap_or_default() {
            "both" => ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(), true),
            "lengths" => ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".into(), true),
            "cr" => ("X: a\rSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello".into(), true),
            "nul" => ("X: a\0b\r\nContent-Length: 5\r\n\r\nhello".into(), true),
            "fold" => ("X: a\r\n Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello".into(), true),
            "more" => (format!("Content-Length: 5\r\n\r\nhello{POISON}"), true),
            "head" => (format!("Content-Length: 100\r\n\r\n{POISON}"), true),
            "short" => ("Content-Length: 10\r\n\r\nhello".into(), false),
            "closing" => ("Content-Length: 5\r\n\r\nhello".into(), false),
            "good" => ("Content-Length: 4\r\n\r\ngood".into(), true),
            "empty" => {
                stream.write_all(format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}").as_bytes())?;
                continue;
            }
            "switch" => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")?;
                continue;
            }
            "endless" => loop {
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
                pause(Duration::from_millis(1));
            },
            "chunk" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n0\r\n\r\n")?;
                continue;
            }
            "late" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                until("the head", SOON, || IS_PASSED.load(Ordering::Relaxed).then_some(()));
                stream.write_all(b"hello\r\n0\r\n\r\n")?;
                continue;
            }
            "extension" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n0\r\n\r\n")?;
                continue;
            }
            "cut" => return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "echo" if head.contains("x-case: early") => ("Content-Length: 5\r\n\r\nearly".into(), true),
            // Silent, and takes nothing, until the other side leaves.
            _ => {
                let mut left = [PollFd::new(stream.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
                poll(&mut left, PollTimeout::NONE)?;
                return Ok(());
            }
        };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes())?;
        if !goes_on {
            return Ok(());
        }
    }
}

fn head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn settings(timeouts: &str) -> Settings {
    let served = Settings::default();
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: served.routes.clone() + &route("/bare/{name}", "[\"HEAD\"]", "[\"public\"]", ""),
        proxy: "workers = 1\nmax_body = \"64MiB\"".to_owned(),
        timeouts: timeouts.to_owned(),
        // By its name, which has an address of each family here or there.
        upstream: "servers = [\"localhost:9001\"]\n".to_owned(),
        ..served
    }
}

#[test]
fn what_an_upstream_says_wrong_reaches_nobody() {
    if !report::may_run("upstream") {
        return;
    }
    let world = World::new();
    misbehave(&world.gate, 9001);
    let daemon = Daemon::start(&world, &settings("response = \"700ms\""));
    let client = Client::new(&world, GOOD_V4);
    let mut wrong = Vec::new();
    for (case, method, name, expect) in [
        ("F22", "GET", "both", 502),
        ("F22", "GET", "lengths", 502),
        ("F22", "GET", "cr", 502),
        ("F22", "GET", "nul", 502),
        ("F22", "GET", "fold", 502),
        ("F22", "GET", "more", 200),
        ("F22", "GET", "endless", 502),
        ("F22", "GET", "switch", 502),
        ("F23", "HEAD", "head", 200),
        ("F23", "GET", "empty", 204),
        ("F08", "GET", "chunk", 502),
        ("F09", "GET", "extension", 502),
        ("D04", "GET", "cut", 502),
        ("D04", "GET", "hang", 504),
        ("D04", "GET", "closing", 200),
        ("D04", "GET", "closing", 200),
    ] {
        let mut connection = client.connect().unwrap();
        let folder = if method == "HEAD" { "bare" } else { "files" };
        match connection.exchange(&Request::new(method, &format!("/{folder}/{name}"))) {
            Ok(answer) if answer.status == expect && (expect != 200 || matches!(&*answer.text(), "hello" | "")) => {}
            other => wrong.push(format!("{case} {method} {name}: {other:?}, not {expect}")),
        }
        // Whoever comes next, on this connection or another, gets an answer of their own.
        for answer in [connection.exchange(&Request::new("GET", "/files/good")), client.get("/files/good", "")] {
            match answer {
                Ok(answer) if answer.status == 200 && answer.text() == "good" => {}
                other => wrong.push(format!("{case} after {method} {name}: {other:?}")),
            }
        }
    }
    for name in ["chunk", "extension", "both", "cut"] {
        let mut answers = client.send_http2(vec![http2::get(&format!("/files/{name}"), "")]).unwrap();
        match answers.pop().unwrap() {
            Ok(answer) if answer.status() == 502 => {}
            other => wrong.push(format!("{name} by HTTP/2: {other:?}, not 502")),
        }
    }
    // A head that comes alone is passed on, and what follows it is cut off where it is wrong.
    let mut late = client.connect().unwrap();
    late.write(&Request::new("GET", "/files/late").bytes()).unwrap();
    let status = late.head().unwrap().status;
    IS_PASSED.store(true, Ordering::Relaxed);
    let chunk = late.chunk();
    if status != 200 || chunk.is_ok() {
        wrong.push(format!("F08 late: {status}, then {chunk:?}"));
    }
    // A body that broke off is not taken for the whole.
    let short = client.get("/files/short", "");
    if short.as_ref().is_ok_and(|answer| answer.status == 200) {
        wrong.push(format!("D04 short: {short:?}"));
    }
    // What was asked with a body ends as well: whether the upstream took it, or takes nothing.
    let token = tokens::good("ada", &[]);
    for size in [5, 10 << 20] {
        let request = Request::new("POST", "/echo").token(&token).body("text/plain", &vec![b'x'; size]);
        let mut connection = client.connect().unwrap();
        drop(connection.write(&request.bytes()));
        match connection.response("POST") {
            Ok(answer) if answer.status == 504 => {}
            // Still writing, a client may see the end of the connection first.
            Err(error) if size > 5 && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => wrong.push(format!("D04 POST of {size} bytes: {other:?}, not 504")),
        }
        until("the 504 in the access log", SOON, || {
            let log = daemon.access_log();
            log.iter().rfind(|line| line["method"] == "POST" && line["status"] == 504 && line["bytes_in"] != 0).cloned()
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(daemon.standard_error().lines().all(|line| !line.contains("panicked")), "{}", daemon.standard_error());
}

/// A client that was answered early, and sends its body byte by byte, has its upstream connection to itself.
#[test]
fn nobody_waits_for_another_clients_body() {
    if !report::may_run("upstream: early answer") {
        return;
    }
    let world = World::new();
    misbehave(&world.gate, 9001);
    let _daemon = Daemon::start(&world, &settings("connect = \"60s\""));
    let client = Client::new(&world, GOOD_V4);
    let early = Request::new("POST", "/echo").token(&tokens::good("ada", &[])).header("x-case", "early");
    let mut slow = client.connect().unwrap();
    slow.write(&early.header("Content-Length", "100000").bytes()).unwrap();
    slow.write(b"some of it").unwrap();
    let answer = slow.response("POST").unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "early"));
    let next = client.get("/files/good", "").expect("an answer while somebody else is still sending");
    assert_eq!((next.status, &*next.text()), (200, "good"));
}

/// A connection that the upstream may be about to close is not kept.
#[test]
fn kept_connections_do_not_grow_old() {
    if !report::may_run("upstream: idle") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let servers = "servers = [\"127.0.0.1:9000\"]\nidle = \"200ms\"".to_owned();
    let _daemon = Daemon::start(&world, &Settings { upstream: servers, ..settings("") });
    let client = Client::new(&world, GOOD_V4);
    let used = || {
        assert_eq!(client.get("/health", "").unwrap().status, 200);
        upstream.received().pop().expect("a request").connection
    };
    let first = used();
    pause(Duration::from_millis(600));
    assert_ne!(used(), first, "an old connection was used again");
}

/// Nor is one that the server has said that it is about to close.
#[test]
fn kept_connections_end_before_their_servers_end_them() {
    if !report::may_run("upstream: told") {
        return;
    }
    let world = World::new();
    let _server = Scripted::start(&world.gate, "127.0.0.1:9001", |exchange| {
        let nth = exchange.nth.to_string();
        exchange.answer("200 OK", "Keep-Alive: timeout=2, max=9\r\n", &nth)?;
        Ok(true)
    });
    let _daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let nth = || client.get("/health", "").unwrap().text();
    assert_eq!((nth(), nth()), ("1".to_owned(), "2".to_owned()));
    pause(Duration::from_millis(1_300));
    assert_eq!(nth(), "1", "a new connection");
}

/// RFC 9110 8.6: a 204 has no length, whatever its server says. Clients of HTTP/2 refuse it otherwise.
#[test]
fn a_204_has_no_length() {
    if !report::may_run("upstream: 204") {
        return;
    }
    let world = World::new();
    let _server = Scripted::start(&world.gate, "127.0.0.1:9001", |exchange| {
        exchange.say(b"HTTP/1.1 204 No Content\r\nContent-Length: 34\r\nX-Own: 1\r\n\r\n")?;
        Ok(true)
    });
    let _daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let request = http::Request::get(format!("https://{HOST}/health")).body(http_body_util::Full::default()).unwrap();
    let answers = client.send_http2(vec![request]).unwrap();
    let answer = answers.into_iter().next().unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-own"].as_bytes()), (204, &b"1"[..]));
    assert!(!answer.headers().contains_key("content-length"), "{answer:?}");
}
