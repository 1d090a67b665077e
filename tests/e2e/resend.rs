//! Requests that are sent again: the same request both times, or not at all (D04).

use std::{io, time::Duration};

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    http2_call::post,
    report,
    scripted::{Exchange, Heard, Scripted},
    settings::{Settings, route},
    upstream_http2::{Http2Upstream, Kind},
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

const NAIL: &str = r#"{"name":"nail"}"#;

fn settings(upstream: &str) -> Settings {
    let methods = "[\"PUT\", \"POST\", \"DELETE\"]";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1".to_owned(),
        routes: Settings::default().routes
            + &route("/judged/{id}", methods, "[\"public\"]", "schema = \"item.schema.json\"")
            + &route("/streamed/{id}", methods, "[\"public\"]", ""),
        upstream: upstream.to_owned(),
        ..Settings::default()
    }
}

/// What of the requests at this path a server got: the bodies, and whether they were whole.
fn bodies(server: &Scripted, path: &str) -> Vec<(String, bool)> {
    let text = |heard: Heard| (String::from_utf8_lossy(&heard.body).into_owned(), heard.is_whole);
    server.heard().into_iter().filter(|heard| heard.line.contains(path)).map(text).collect()
}

fn json(method: &str, path: &str) -> Request {
    Request::new(method, path).body("application/json", NAIL.as_bytes())
}

/// A server that closes a kept connection as the next request arrives.
fn closes_when_kept(exchange: &mut Exchange<'_>) -> io::Result<bool> {
    if exchange.nth > 1 {
        exchange.body(usize::MAX)?;
        return Ok(false);
    }
    exchange.body(usize::MAX)?;
    exchange.answer("200 OK", "", "ok")?;
    Ok(true)
}

#[test]
fn what_a_kept_connection_loses_is_sent_again_whole() {
    if !report::may_run("resend: kept") {
        return;
    }
    let world = World::new();
    let server = Scripted::start(&world.gate, "127.0.0.1:9001", closes_when_kept);
    let daemon = Daemon::start(&world, &settings("servers = [\"127.0.0.1:9001\"]\n"));
    let client = Client::new(&world, GOOD_V4);
    for (method, path, body, expect) in [
        ("PUT", "/judged/1", true, (200, 2)),
        ("DELETE", "/judged/2", true, (200, 2)),
        // It may have been acted on.
        ("POST", "/judged/3", true, (502, 1)),
        // It is gone.
        ("PUT", "/streamed/4", true, (502, 1)),
        ("PUT", "/streamed/5", false, (200, 2)),
        ("POST", "/streamed/6", false, (502, 1)),
    ] {
        // So that there is a connection that is kept.
        assert_eq!(client.get("/health", "").unwrap().status, 200);
        let request = if body { json(method, path) } else { Request::new(method, path).header("Content-Length", "0") };
        let answer = client.send(&request).unwrap();
        let sent = bodies(&server, path);
        assert_eq!((answer.status, sent.len()), expect, "{method} {path}: {sent:?}");
        let whole = if body { NAIL } else { "" };
        assert!(sent.iter().all(|sent| *sent == (whole.to_owned(), true)), "{method} {path}: {sent:?}");
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// Whatever closes, kept connections or new ones: servers read a request at most `tries` times.
#[test]
fn servers_read_a_request_no_more_often_than_it_may_be_tried() {
    if !report::may_run("resend: tries") {
        return;
    }
    let drops = |exchange: &mut Exchange<'_>| {
        exchange.body(usize::MAX)?;
        if exchange.line.contains("/drop") {
            return Ok(false);
        }
        exchange.answer("200 OK", "", "ok")?;
        Ok(true)
    };
    for tries in [1, 2, 3] {
        let world = World::new();
        let servers = ["127.0.0.1:9001", "127.0.0.1:9002"].map(|address| Scripted::start(&world.gate, address, drops));
        let upstream = format!(
            "servers = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]\n\
             [upstream.items.retry]\ntries = {tries}\nbudget = 100\nreserve = 100\n"
        );
        let _daemon = Daemon::start(&world, &settings(&upstream));
        let client = Client::new(&world, GOOD_V4);
        for method in ["DELETE", "PUT"] {
            // So that each server has a connection that is kept.
            for _ in 0..4 {
                assert_eq!(client.get("/health", "").unwrap().status, 200);
            }
            let path = format!("/judged/drop-{method}");
            let status = client.send(&json(method, &path)).unwrap().status;
            let sent: usize = servers.iter().map(|server| bodies(server, &path).len()).sum();
            assert_eq!((status, sent), (502, tries), "{method}, {tries} tries");
        }
    }
}

/// An answer that is not taken: the other server gets the same request, or none.
#[test]
fn what_is_answered_early_is_sent_again_whole_or_not() {
    if !report::may_run("resend: early") {
        return;
    }
    let world = World::new();
    let busy = |exchange: &mut Exchange<'_>| {
        let (early, most) = match () {
            () if exchange.line.contains("/ten") => (true, 10),
            () if exchange.line.contains("/none") => (true, 0),
            () => (false, usize::MAX),
        };
        exchange.body(most)?;
        exchange.answer("503 Busy", "", "busy")?;
        if early {
            exchange.wait_for_the_end()?;
        }
        Ok(!early)
    };
    let good = |exchange: &mut Exchange<'_>| {
        exchange.body(usize::MAX)?;
        exchange.answer("200 OK", "", "good")?;
        Ok(true)
    };
    let first = Scripted::start(&world.gate, "127.0.0.1:9001", busy);
    let second = Scripted::start(&world.gate, "127.0.0.1:9002", good);
    let upstream = "servers = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]\n\
        [upstream.items.retry]\nstatuses = [503]\nbudget = 100\nreserve = 100\n";
    let daemon = Daemon::start(&world, &settings(upstream));
    let client = Client::new(&world, GOOD_V4);
    let fifty = "0123456789".repeat(5);

    // In turn: one of two meets the busy one first.
    let until_first = |send: &dyn Fn() -> u16, path: &str| loop {
        let status = send();
        if !bodies(&first, path).is_empty() {
            return status;
        }
        second.forget();
    };
    let judged = until_first(&|| client.send(&json("PUT", "/judged/1")).unwrap().status, "/judged/1");
    assert_eq!((judged, bodies(&second, "/judged/1")), (200, vec![(NAIL.to_owned(), true)]));

    for chunked in [false, true] {
        let begin = |path: &str, some: &str| {
            let mut connection = client.connect().unwrap();
            let framing = if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", "50") };
            let head = Request::new("PUT", path).header(framing.0, framing.1).bytes();
            let some = if some.is_empty() || !chunked { some.to_owned() } else { format!("a\r\n{some}\r\n") };
            connection.write(&[&head[..], some.as_bytes()].concat()).unwrap();
            connection
        };
        let piece =
            |text: &str| if chunked { format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()) } else { text.to_owned() };
        // Ten of fifty bytes have gone to the first.
        let path = format!("/streamed/ten-{chunked}");
        let status = until_first(
            &|| {
                let mut connection = begin(&path, &fifty[..10]);
                if bodies(&first, &path).is_empty() {
                    until("its arrival", SOON, || {
                        (!bodies(&first, &path).is_empty() || !bodies(&second, &path).is_empty()).then_some(())
                    });
                }
                if bodies(&first, &path).is_empty() {
                    connection.write(piece(&fifty[10..]).as_bytes()).unwrap();
                }
                connection.response("PUT").unwrap().status
            },
            &path,
        );
        assert_eq!((status, bodies(&second, &path)), (503, Vec::new()), "chunked: {chunked}");
        // Nothing was taken: all of it goes to the second.
        let path = format!("/streamed/none-{chunked}");
        let status = until_first(
            &|| {
                let mut connection = begin(&path, "");
                until("the second", SOON, || (!bodies(&second, &path).is_empty()).then_some(()));
                connection.write(piece(&fifty).as_bytes()).unwrap();
                connection.response("PUT").unwrap().status
            },
            &path,
        );
        assert_eq!((status, bodies(&second, &path)), (200, vec![(fifty.clone(), true)]), "chunked: {chunked}");
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// REFUSED_STREAM: it was not acted on, so that anything may be sent again that is still there.
#[test]
fn what_http2_refuses_is_sent_again_whole_or_not() {
    if !report::may_run("resend: refused") {
        return;
    }
    for (method, path, expect) in [
        ("PUT", "/judged/refuse", (200, vec![0, NAIL.len()])),
        ("POST", "/judged/refuse", (200, vec![0, NAIL.len()])),
        ("PUT", "/streamed/refuse", (502, vec![0])),
    ] {
        let world = World::new();
        let server = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
        let _daemon = Daemon::start(&world, &settings("servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"\n"));
        let answer = Client::new(&world, GOOD_V4).send(&json(method, path)).unwrap();
        let lengths: Vec<_> = server.of("/refuse").iter().map(|request| request.length).collect();
        assert_eq!((answer.status, lengths), expect, "{method} {path}");
    }
    // Of which nothing has come.
    let world = World::new();
    let server = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let _daemon = Daemon::start(&world, &settings("servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"\n"));
    let caller = Client::new(&world, GOOD_V4).caller().unwrap();
    let mut call = caller.begin(post("/streamed/refuse", "text/plain"), false).unwrap();
    // The client's end is driven while something is waited for.
    assert!(call.head_within(Duration::from_millis(300)).is_none());
    until("the second try", SOON, || (server.of("/refuse").len() == 2).then_some(()));
    pause(Duration::from_millis(50));
    call.send(NAIL.as_bytes()).unwrap();
    call.end(None).unwrap();
    assert_eq!(call.answer().unwrap().head.status, 200);
    assert_eq!(server.of("/refuse")[1].length, NAIL.len());
}
