//! Answers that come before the request is whole, and clients that end their own side before they have the answer: every
//! answer arrives, the rest of the body is read or the end of the connection is told and drawn out (F14, D04).

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request, TIMEOUT},
    http2_call::post,
    report,
    scripted::{Exchange, Scripted},
    settings::{Settings, route},
    wait::{SOON, pause, until},
    world::{GATEWAY_V4, GOOD_V4, Namespace, World},
};

fn settings() -> Settings {
    let served = Settings::default();
    let own = "[[route]]\npath = \"/own/gone\"\nmethods = []\nrequire = [\"public\"]\nrespond = { status = 410 }\n\
        [[route]]\npath = \"/own/moved\"\nmethods = []\nrequire = [\"public\"]\nredirect = { to = \"/elsewhere\" }\n";
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1\nmax_body = \"64MiB\"".to_owned(),
        listeners: served.listeners.clone() + "[[listener]]\naddress = \"10.0.0.1:80\"\n",
        routes: served.routes.clone()
            + own
            + &route("/early/{how}", "[]", "[\"public\"]", "")
            + &route("/small/{how}", "[]", "[\"public\"]", "max_body = \"1KiB\""),
        ..served
    }
}

/// Answers before it has read the body: then reads on, closes, or reads what comes and closes.
fn early(exchange: &mut Exchange<'_>) -> io::Result<bool> {
    let line = exchange.line.clone();
    let is = |path: &str| line.contains(path);
    if is("/early/keeps") {
        exchange.answer("200 OK", "", "early")?;
        exchange.body(usize::MAX)?;
        return Ok(true);
    }
    if is("/early/slowly") {
        exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")?;
        exchange.body(usize::MAX)?;
        exchange.say(b"0\r\n\r\n")?;
        return Ok(true);
    }
    if is("/early/closes") {
        exchange.answer("413 Too Large", "Connection: close\r\n", "early")?;
        return Ok(false);
    }
    if is("/early/leaves") {
        // Without a word: what it has not read makes it a reset.
        exchange.answer("200 OK", "", "early")?;
        return Ok(false);
    }
    if is("/slow") {
        pause(Duration::from_millis(300));
    }
    exchange.body(usize::MAX)?;
    exchange.answer("200 OK", "", "late")?;
    Ok(true)
}

fn connect(client: &Client<'_>, tls: bool) -> Connection {
    if tls {
        return client.connect().unwrap();
    }
    let stream = client.world.outside.connect(GOOD_V4, SocketAddr::new(GATEWAY_V4, 80), TIMEOUT).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    Connection::plain(stream)
}

/// Sends a request with a body of so many bytes, all of it before anything is read: what it is answered, and whether the
/// connection goes on.
fn sent_whole(
    connection: &mut Connection,
    path: &str,
    length: usize,
    chunked: bool,
    paced: bool,
) -> (u16, String, bool) {
    let told = length.to_string();
    let framing = if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", &*told) };
    connection.write(&Request::new("POST", path).header(framing.0, framing.1).bytes()).unwrap();
    let pieces = if paced { 10 } else { length.div_ceil(64 << 10) };
    let piece = vec![b'x'; length / pieces];
    for _ in 0..pieces {
        let bytes = if chunked {
            [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat()
        } else {
            piece.clone()
        };
        connection.write(&bytes).unwrap_or_else(|error| panic!("{path} of {length}, chunked: {chunked}: {error}"));
        if paced {
            pause(Duration::from_millis(20));
        }
    }
    if chunked {
        connection.write(b"0\r\n\r\n").unwrap();
    }
    // Pipelined: it is answered, or its connection was said to end.
    drop(connection.write(&Request::new("GET", "/health").bytes()));
    let answer =
        connection.response("POST").unwrap_or_else(|error| panic!("{path} of {length}, chunked: {chunked}: {error}"));
    let closes = answer.header("connection") == Some("close");
    let goes_on = connection.response("GET").is_ok_and(|answer| answer.status == 200);
    assert_eq!(
        goes_on, !closes,
        "{path} of {length}, chunked: {chunked}, paced: {paced}: what is told is what is done"
    );
    (answer.status, answer.text(), goes_on)
}

#[test]
fn f14_every_early_answer_arrives() {
    if !report::may_run("early: answers") {
        return;
    }
    let world = World::new();
    let server = Scripted::start(&world.gate, "127.0.0.1:9000", early);
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    // What is answered, and whether the server gets the rest, and the client's next request an answer.
    for (path, status, whole) in [
        ("/early/keeps", 200, true),
        ("/early/slowly", 200, true),
        ("/early/closes", 413, false),
        ("/early/leaves", 200, false),
        // Ours.
        ("/nowhere", 404, false),
        ("/me", 405, false),
        ("/echo", 401, false),
        ("/small/one", 413, false),
        ("/own/gone", 410, false),
        ("/own/moved", 308, false),
    ] {
        for tls in [false, true] {
            for (length, chunked, paced) in [
                (20_000, false, true),
                (200_000, false, true),
                (200_000, true, true),
                (16 << 20, false, false),
                (16 << 20, true, false),
            ] {
                server.forget();
                let mut connection = connect(&client, tls);
                let (answered, text, goes_on) = sent_whole(&mut connection, path, length, chunked, paced);
                let context = format!("{path} of {length}, tls: {tls}, chunked: {chunked}, paced: {paced}: {text}");
                assert_eq!(answered, status, "{context}");
                assert!(text.starts_with("early") == path.starts_with("/early"), "{context}");
                if whole {
                    assert!(goes_on, "{context}");
                    let heard = until("all of it", SOON, || {
                        server.heard().into_iter().find(|heard| heard.is_whole && heard.line.contains(path))
                    });
                    assert_eq!(heard.body.len(), length, "{context}");
                }
            }
        }
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// By HTTP/2: the answer is whole, and the stream may end before the body does (RFC 9113 8.1).
#[test]
fn f14_every_early_answer_arrives_by_http2() {
    if !report::may_run("early: HTTP/2") {
        return;
    }
    let world = World::new();
    let server = Scripted::start(&world.gate, "127.0.0.1:9000", early);
    let _daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    for (path, status) in [
        ("/early/keeps", 200),
        ("/early/closes", 413),
        ("/early/leaves", 200),
        ("/echo", 401),
        ("/small/one", 413),
        ("/own/gone", 410),
    ] {
        let caller = client.caller().unwrap();
        let mut call = caller.begin(post(path, "text/plain"), false).unwrap();
        call.send(&vec![b'x'; 1 << 20]).unwrap();
        call.end(None).unwrap();
        let answer = call.answer().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.head.status, status, "{path}");
        // The connection goes on, and what the server reads on reaches it whole.
        let health = || http::Request::get("https://api.example.com/health").body(()).unwrap();
        let is_whole =
            || path != "/early/keeps" || server.heard().iter().any(|it| it.is_whole && it.body.len() == 1 << 20);
        until(path, SOON, || {
            let next = caller.begin(health(), true).unwrap().answer();
            assert_eq!(next.unwrap().head.status, 200, "after {path}");
            is_whole().then_some(())
        });
    }
}

/// A frame of HTTP/2 (RFC 9113 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// Serves HTTP/2: each connection gets the next of these answers as soon as its request begins, in one piece with the end of
/// the connection.
fn answers_and_leaves(namespace: &Namespace, address: &str, answers: Vec<Vec<u8>>) {
    fn serve(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
        stream.read_exact(&mut [0; 24])?;
        stream.write_all(&frame(4, 0, 0, &[]))?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut vec![0; length])?;
            // HEADERS: the request.
            if head[3] == 1 {
                stream.write_all(answer)?;
                stream.shutdown(Shutdown::Write)?;
                return io::copy(&mut stream, &mut io::sink()).map(drop);
            }
        }
    }
    let listener = namespace.enter(|| TcpListener::bind(address)).expect("the server's address");
    thread::spawn(move || {
        for (stream, answer) in listener.incoming().flatten().zip(answers) {
            thread::spawn(move || drop(serve(stream, &answer)));
        }
    });
}

/// A server of HTTP/2 that answers in full before it has the request, and then ends the connection, has answered.
#[test]
fn early_answers_of_http2_servers_that_leave_arrive() {
    if !report::may_run("early: HTTP/2 servers that leave") {
        return;
    }
    let world = World::new();
    // `:status: 413`, and `content-length: 5`.
    let (status, length) = (b"\x08\x03413", b"\x0f\x0d\x015");
    let with_length = frame(1, 4, 1, &[&status[..], length].concat());
    let (data, last) = (frame(0, 0, 1, b"early"), frame(0, 1, 1, b"early"));
    let goes_away = frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let reset = frame(3, 0, 1, &[0; 4]);
    let rows = [
        ("the end", [&with_length[..], &last].concat(), "early"),
        ("GOAWAY", [&with_length[..], &last, &goes_away].concat(), "early"),
        ("a reset (NO_ERROR)", [&with_length[..], &last, &reset].concat(), "early"),
        ("a reset (NO_ERROR) that ends the answer", [&with_length[..], &data, &reset].concat(), "early"),
        ("no length", [&frame(1, 4, 1, status)[..], &data, &last].concat(), "earlyearly"),
        ("no length, and GOAWAY", [&frame(1, 4, 1, status)[..], &last, &goes_away].concat(), "early"),
        ("a head alone", frame(1, 5, 1, status), ""),
        ("a head alone, and GOAWAY", [frame(1, 5, 1, status), goes_away].concat(), ""),
    ];
    answers_and_leaves(&world.gate, "127.0.0.1:9000", rows.iter().map(|(_, answer, _)| answer.clone()).collect());
    let upstream = "servers = [\"127.0.0.1:9000\"]\nprotocol = \"http2\"\n".to_owned();
    let daemon = Daemon::start(&world, &Settings { upstream, ..settings() });
    let client = Client::new(&world, GOOD_V4);
    for (name, _, text) in &rows {
        let mut connection = connect(&client, false);
        let request = Request::new("POST", "/early/any").header("Content-Length", "1048576");
        connection.write(&request.bytes()).unwrap();
        connection.write(&vec![b'x'; 1 << 20]).unwrap();
        let answer = connection.response("POST").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((answer.status, &*answer.text()), (413, *text), "{name}");
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// RFC 9112 9.6, RFC 8446 6.1: who has ended his own side waits for the answer all the same. Who has closed is gone.
#[test]
fn half_closed_is_not_gone() {
    if !report::may_run("early: half-closed") {
        return;
    }
    let world = World::new();
    let hold = |exchange: &mut Exchange<'_>| {
        if exchange.line.contains("/files/hold") {
            exchange.wait_for_the_end()?;
            return Ok(false);
        }
        if exchange.line.contains("/files/stream") {
            exchange.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for _ in 0..if exchange.line.contains("endless") { 10_000 } else { 5 } {
                exchange.say(b"5\r\npiece\r\n")?;
                pause(Duration::from_millis(30));
            }
            exchange.say(b"0\r\n\r\n")?;
            return Ok(true);
        }
        early(exchange)
    };
    let server = Scripted::start(&world.gate, "127.0.0.1:9000", hold);
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    for tls in [false, true] {
        for (request, status, length) in [
            (Request::new("GET", "/slow"), 200, 4),
            (Request::new("POST", "/early/slow").body("text/plain", b"hi"), 200, 4),
            (Request::new("GET", "/files/stream"), 200, 25),
            (Request::new("GET", "/nowhere"), 404, 0),
        ] {
            let mut connection = connect(&client, tls);
            connection.write(&request.bytes()).unwrap();
            connection.end_sending().unwrap();
            let answer = connection.response("GET").unwrap_or_else(|error| panic!("{request:?}, tls: {tls}: {error}"));
            assert_eq!(answer.status, status, "{request:?}, tls: {tls}");
            assert!(length == 0 || answer.body.len() == length, "{request:?}, tls: {tls}");
            assert!(connection.ends());
        }
        // The end of a body that is not there yet: the usual form, and no offence.
        for framing in [("Content-Length", "10"), ("Transfer-Encoding", "chunked")] {
            let mut short = connect(&client, tls);
            short.write(&Request::new("POST", "/early/whole").header(framing.0, framing.1).bytes()).unwrap();
            short.write(b"3\r\nab").unwrap();
            short.end_sending().unwrap();
            let answer = short.response("POST").unwrap_or_else(|error| panic!("{framing:?}, tls: {tls}: {error}"));
            assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{framing:?}, tls: {tls}");
            assert_eq!(answer.json()["request_id"], answer.id(), "{framing:?}, tls: {tls}");
            assert!(short.ends());
            let line = daemon.logged(&answer.id());
            assert_eq!((&line["status"], &line["signal"]), (&499.into(), &serde_json::Value::Null), "{line}");
        }
        // All of what came before the end is answered.
        let mut piped = connect(&client, tls);
        piped.write(&[Request::new("GET", "/slow").bytes(), Request::new("GET", "/health").bytes()].concat()).unwrap();
        piped.end_sending().unwrap();
        assert!((0..2).all(|_| piped.response("GET").unwrap().status == 200), "tls: {tls}");
        // Whoever is gone is not waited for: cut off, and closed while the answer goes on.
        for (path, half, piped) in [
            ("/files/hold", false, false),
            ("/files/hold", true, false),
            ("/files/hold", false, true),
            ("/files/stream-endless", false, false),
        ] {
            server.forget();
            let mut gone = connect(&client, tls);
            let next = if piped { Request::new("GET", "/health").bytes() } else { Vec::new() };
            gone.write(&[Request::new("GET", path).bytes(), next].concat()).unwrap();
            until("its arrival", SOON, || (!server.heard().is_empty()).then_some(()));
            if half {
                gone.end_sending().unwrap();
                pause(Duration::from_millis(100));
            }
            let logged = || daemon.access_log().iter().filter(|line| line["path"] == path).count();
            let before = logged();
            socket2::SockRef::from(gone.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
            drop(gone);
            until("the end of what nobody waits for", SOON, || (logged() > before).then_some(()));
        }
    }
    // By HTTP/2, too: the answer to what was asked.
    let caller = client.caller().unwrap();
    let call = caller.begin(http::Request::get("https://api.example.com/slow").body(()).unwrap(), true).unwrap();
    assert_eq!(call.answer().unwrap().head.status, 200);
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// A client that closes in the middle of a stream is gone, even if nothing is sent that its kernel could refuse. One
/// that closes its sending side before the response, moments later, or in the middle of one of known length, gets all of it.
#[test]
fn whoever_closes_while_a_stream_is_silent_is_gone() {
    if !report::may_run("early: closed streams") {
        return;
    }
    let world = World::new();
    // What the server may go on with: the lines of requests, once for each step.
    let steps = Arc::new(Mutex::new(Vec::<String>::new()));
    let allowed = Arc::clone(&steps);
    let stream = move |exchange: &mut Exchange<'_>| {
        let line = exchange.line.clone();
        let wait = |count: usize| {
            let is_allowed =
                || allowed.lock().unwrap().iter().filter(|path| line.contains(path.as_str())).count() >= count;
            until("the client", SOON, || is_allowed().then_some(()));
        };
        let is_sized = line.contains("sized");
        let framing = if is_sized { "Content-Length: 15" } else { "Transfer-Encoding: chunked" };
        let piece = if is_sized { "piece" } else { "5\r\npiece\r\n" };
        wait(1);
        exchange.say(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{piece}").as_bytes())?;
        wait(2);
        exchange.say(piece.as_bytes())?;
        if line.contains("silent") {
            exchange.wait_for_the_end()?;
            return Ok(false);
        }
        // Longer than any silence of a stream whose client may be gone.
        pause(Duration::from_secs(4));
        exchange.say(piece.as_bytes())?;
        exchange.say(if is_sized { &[] } else { &b"0\r\n\r\n"[..] })?;
        Ok(true)
    };
    let _server = Scripted::start(&world.gate, "127.0.0.1:9000", stream);
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let go_on = |path: &str| steps.lock().unwrap().push(path.to_owned());
    let begin = |path: &str, tls: bool, ends_first: bool| {
        let mut connection = connect(&client, tls);
        connection.write(&Request::new("GET", path).bytes()).unwrap();
        if ends_first {
            connection.end_sending().unwrap();
        }
        go_on(path);
        assert_eq!(connection.head().unwrap().status, 200, "{path}");
        connection
    };
    for tls in [false, true] {
        // Closed by FIN; by TLS behind `close_notify`, and without it.
        for is_told in [true, false] {
            let path = format!("/files/silent-{tls}-{is_told}");
            let mut page = begin(&path, tls, false);
            assert_eq!(page.chunk().unwrap().unwrap(), b"piece", "{path}");
            // The gateway has looked after the client since it sent the first piece, or it does not send the second.
            go_on(&path);
            assert_eq!(page.chunk().unwrap().unwrap(), b"piece", "{path}");
            // Before, it may have closed its sending side behind its request.
            pause(Duration::from_millis(1_200));
            if is_told {
                page.end_sending().unwrap();
            }
            drop(page);
            until("the end of a stream that nobody reads", SOON, || {
                daemon.access_log().iter().any(|line| line["path"] == path.as_str()).then_some(())
            });
        }
        let [ended, behind, sized] = ["pauses", "behind", "sized"].map(|name| format!("/files/{name}-{tls}"));
        let (mut early, mut late) = (begin(&ended, tls, true), begin(&sized, tls, false));
        let mut soon = begin(&behind, tls, false);
        soon.end_sending().unwrap();
        assert_eq!(late.raw(5).unwrap(), b"piece", "{sized}");
        go_on(&ended);
        go_on(&behind);
        go_on(&sized);
        assert_eq!(late.raw(5).unwrap(), b"piece", "{sized}");
        late.end_sending().unwrap();
        for stream in [&mut early, &mut soon] {
            for _ in 0..3 {
                assert_eq!(stream.chunk().unwrap().unwrap(), b"piece", "{ended} {behind}");
            }
            assert_eq!(stream.chunk().unwrap(), None, "{ended} {behind}");
        }
        assert_eq!(late.raw(5).unwrap(), b"piece", "{sized}");
        assert!(early.ends() && soon.ends() && late.ends(), "tls: {tls}");
    }
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}
