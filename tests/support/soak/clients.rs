//! The HTTP/1.1 clients of a soak, and which ends of a conversation they expect.
//!
//! A server may close a connection between two requests at any time (RFC 9112 9.5); a client that is answered not one
//! byte on a connection that it has used before asks again on another, once, as every HTTP client does. Nothing else is
//! asked twice.

use std::{
    io,
    net::Shutdown,
    time::{Duration, Instant},
};

use super::{
    multiplexed,
    servers::{KEY, big},
    stage::{DRAIN, Stage},
};
use crate::{
    http1::{Client, Connection, Request, Response, TIMEOUT},
    random::Random,
    tokens,
    wait::pause,
    world::ATTACKER_V4,
};

/// One visit of a client.
type Visit = fn(&Stage<'_>, &mut Random);

/// Who comes, and how many of them at once.
pub(super) const CLIENTS: [(Visit, usize); 11] = [
    (keeps_its_connection, 3),
    (comes_anew, 2),
    (orders, 1),
    (talks_long, 3),
    (reads_slowly, 2),
    (writes_slowly, 2),
    (stalls, 1),
    (leaves, 2),
    (is_refused, 1),
    (multiplexed::asks_much_at_once, 2),
    (multiplexed::reads_slowly, 1),
];

/// What may pass from when a proxy is told to leave until a tunnel over a connection that it has taken begins.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// What is wrong with an answer.
fn expect(response: &Response, status: u16, body: &[u8]) -> Result<(), String> {
    if response.status != status {
        return Err(format!("{} instead of {status}: {}", response.status, response.text()));
    }
    if response.body != body {
        return Err(format!("another body: {} instead of {} bytes", response.body.len(), body.len()));
    }
    Ok(())
}

fn keeps_its_connection(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "HTTP/1.1, kept";
    let client = stage.client(random);
    let mut kept: Option<Connection> = None;
    for _ in 0..=random.below(100) {
        if stage.is_over() {
            return;
        }
        let number = random.below(1_000_000);
        let request = Request::new("GET", &format!("/items/{number}")).token(stage.token);
        let outcome = ask(stage, NAME, &client, &mut kept, &request);
        let outcome = outcome.map_err(|error| error.to_string());
        stage.tell(NAME, outcome.and_then(|response| expect(&response, 200, format!("item {number}").as_bytes())));
        pause(Duration::from_millis(5 + random.below(20)));
    }
}

/// Asks on the connection that is kept, or on a new one.
fn ask(
    stage: &Stage<'_>,
    name: &'static str,
    client: &Client<'_>,
    kept: &mut Option<Connection>,
    request: &Request,
) -> io::Result<Response> {
    if let Some(mut connection) = kept.take() {
        if connection.has_ended() {
            stage.request_counts.by_design(name, "connection closed while it was idle");
            return ask(stage, name, client, kept, request);
        }
        let begun = connection.write(&request.bytes()).and_then(|()| connection.begins());
        match begun {
            Ok(true) => return finish(connection, kept),
            Err(error) if is_late(&error) => return Err(error),
            // Closed between requests.
            Ok(false) | Err(_) => stage.request_counts.by_design(name, "connection closed as a request was on its way"),
        }
    }
    let mut connection = client.connect()?;
    connection.write(&request.bytes())?;
    finish(connection, kept)
}

fn finish(mut connection: Connection, kept: &mut Option<Connection>) -> io::Result<Response> {
    let response = connection.response("GET")?;
    if response.header("connection") != Some("close") {
        *kept = Some(connection);
    }
    Ok(response)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn comes_anew(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "HTTP/1.1, short";
    let number = random.below(1_000_000);
    let request = Request::new("GET", &format!("/items/{number}")).token(stage.token).header("Connection", "close");
    let outcome = stage.client(random).send(&request).map_err(|error| error.to_string());
    stage.tell(NAME, outcome.and_then(|response| expect(&response, 200, format!("item {number}").as_bytes())));
    pause(Duration::from_millis(10 + random.below(30)));
}

/// Posts to servers that are killed. What they may have begun is not tried again.
fn orders(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "orders";
    let body = vec![b'o'; usize::try_from(random.below(4_000)).unwrap()];
    let request = Request::new("POST", "/orders").token(stage.token).body("text/plain", &body);
    match stage.client(random).send(&request) {
        Ok(response) if response.status == 502 => {
            stage.request_counts.by_design(NAME, "upstream_failed: a POST that a killed server may have begun");
        }
        Ok(response) => stage.tell(NAME, expect(&response, 201, &body)),
        Err(error) => stage.request_counts.failed(NAME, &error.to_string()),
    }
    pause(Duration::from_millis(10 + random.below(30)));
}

/// A tunnel, for some seconds.
fn talks_long(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "WebSocket";
    let request = Request::new("GET", "/chat").header("Connection", "Upgrade").header("Upgrade", "websocket");
    let request = request.header("Sec-WebSocket-Key", KEY).header("Sec-WebSocket-Version", "13").token(stage.token);
    let opened = stage.client(random).connect().and_then(|mut connection| {
        connection.write(&request.bytes())?;
        let head = connection.head()?;
        Ok((connection, head.status))
    });
    let mut connection = match opened {
        Ok((connection, 101)) => connection,
        Ok((_, status)) => return stage.request_counts.failed(NAME, &format!("{status} instead of 101")),
        Err(error) => return stage.request_counts.failed(NAME, &error.to_string()),
    };
    let (since, turns) = (Instant::now(), 1 + random.below(200));
    for turn in 0..turns {
        if stage.is_over() {
            break;
        }
        let length = usize::try_from(1 + random.below(5_000)).unwrap();
        let said: Vec<u8> = (0..length).map(|at| big(at + usize::try_from(turn).unwrap())).collect();
        let heard = connection.write(&said).and_then(|()| connection.raw(said.len()));
        match heard {
            Ok(heard) if heard == said => {}
            Ok(_) => return stage.request_counts.failed(NAME, "a tunnel changed what was said"),
            Err(error) if since.elapsed() + HANDSHAKE < DRAIN || is_late(&error) => {
                let how = format!("a tunnel broke after {:.1?}: {error}", since.elapsed());
                return stage.request_counts.failed(NAME, &how);
            }
            Err(_) => return stage.request_counts.by_design(NAME, "tunnel ended, as a drain had lasted proxy.drain"),
        }
        pause(Duration::from_millis(100));
    }
    stage.request_counts.served(NAME);
}

/// Takes an answer in small pieces.
fn reads_slowly(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "slow reader";
    const PIECE: usize = 16 * 1_024;
    let length = PIECE * usize::try_from(32 + random.below(64)).unwrap();
    let started = Instant::now();
    let outcome = (|| {
        let mut connection = stage.client(random).connect()?;
        socket2::SockRef::from(connection.tcp()).set_recv_buffer_size(PIECE)?;
        connection.write(&Request::new("GET", &format!("/big/{length}")).token(stage.token).bytes())?;
        let head = connection.head()?;
        if head.status != 200 {
            return Ok(Err(format!("{} instead of 200", head.status)));
        }
        let mut position = 0;
        while let Some(chunk) = connection.chunk()? {
            if chunk.iter().zip(position..).any(|(byte, at)| *byte != big(at)) {
                return Ok(Err(format!("another byte after {position}")));
            }
            position += chunk.len();
            pause(Duration::from_millis(20));
        }
        Ok(if position == length { Ok(()) } else { Err(format!("{position} instead of {length} bytes")) })
    })();
    let outcome = outcome.unwrap_or_else(|error: io::Error| Err(error.to_string()));
    stage.tell(NAME, outcome.map_err(|error| format!("{error} after {:.1?}", started.elapsed())));
}

/// Sends a head and a body in small pieces.
fn writes_slowly(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "slow writer";
    let body: Vec<u8> = (0..usize::try_from(1 + random.below(20_000)).unwrap()).map(big).collect();
    let bytes = Request::new("POST", "/echo").token(stage.token).body("text/plain", &body).bytes();
    let head = bytes.len() - body.len();
    let outcome = (|| {
        let mut connection = stage.client(random).connect()?;
        for piece in bytes[..head].chunks(head / 12 + 1).chain(bytes[head..].chunks(1_000)) {
            connection.write(piece)?;
            pause(Duration::from_millis(30 + random.below(40)));
        }
        connection.response("POST")
    })();
    stage.tell(NAME, outcome.map_err(|error| error.to_string()).and_then(|response| expect(&response, 200, &body)));
}

/// Never sends the rest of its head.
fn stalls(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "stalled client";
    let outcome = (|| {
        let mut connection = stage.client(random).connect()?;
        connection.write(b"GET /items/1 HTTP/1.1\r\nHost: api.exa")?;
        connection.begins()
    })();
    match outcome {
        Err(error) if is_late(&error) => {
            stage.request_counts.failed(NAME, &format!("not let go within {TIMEOUT:?}, with timeouts.headers of 2 s"));
        }
        Err(_) | Ok(false) => stage.request_counts.by_design(NAME, "request_timeout: let go without a word"),
        Ok(true) => stage.request_counts.by_design(NAME, "request_timeout: let go with an answer"),
    }
}

/// Resets its connection in the middle of something.
fn leaves(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "client that resets";
    let left = (|| {
        let client = stage.client(random);
        if random.below(6) == 0 {
            let tcp = client.tcp(TIMEOUT)?;
            io::Write::write_all(&mut &tcp, b"\x16\x03\x01\x02\x00\x01")?;
            return reset(&tcp);
        }
        let mut connection = client.connect()?;
        let head = |target: &str| Request::new("GET", target).token(stage.token).bytes();
        match random.below(6) {
            0 => {}
            1 => connection.write(b"GET /items/1 HTTP/1.1\r\nHo")?,
            2 => connection.write(&head("/items/1"))?,
            3 => {
                connection.write(&head("/big/10000000"))?;
                connection.head()?;
            }
            4 => {
                let request = Request::new("POST", "/echo").token(stage.token).header("Content-Length", "100000");
                connection.write(&request.bytes())?;
                connection.write(&[b'x'; 20_000])?;
            }
            _ => {
                let request = Request::new("GET", "/chat").header("Connection", "Upgrade").token(stage.token);
                let request = request.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
                connection.write(&request.header("Sec-WebSocket-Key", KEY).bytes())?;
                connection.head()?;
                connection.write(b"abc")?;
            }
        }
        pause(Duration::from_millis(random.below(20)));
        reset(connection.tcp())
    })();
    // Only what it asked for before it left can fail.
    stage.tell(NAME, left.map_err(|error: io::Error| error.to_string()));
    pause(Duration::from_millis(20 + random.below(30)));
}

fn reset(tcp: &std::net::TcpStream) -> io::Result<()> {
    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO))?;
    // What is closed with unsent bytes and no time for them is reset.
    tcp.shutdown(Shutdown::Read)
}

/// Asks for what it is not given.
fn is_refused(stage: &Stage<'_>, random: &mut Random) {
    const NAME: &str = "refused client";
    let forged = format!("{}AAAA", &stage.token[..stage.token.len() - 4]);
    let (request, label) = match random.below(6) {
        0 => (Request::new("GET", "/items/1"), "missing_token"),
        1 => (Request::new("GET", "/items/1").token(&forged), "invalid_token"),
        2 => (Request::new("GET", "/nowhere"), "not_found"),
        3 => (Request::new("DELETE", "/items/1").token(stage.token), "method_not_allowed"),
        4 => (Request::new("GET", "/items/1").token(&tokens::good("eve", &[])), "forbidden"),
        _ => (Request::new("POST", "/echo").token(stage.token).body("text/plain", &[b'x'; 70_000]), "body_too_large"),
    };
    match Client::new(stage.world, ATTACKER_V4).send(&request) {
        Ok(response) if response.text().contains(&format!(":{label}\"")) => stage.request_counts.by_design(NAME, label),
        Ok(response) => stage.request_counts.failed(NAME, &format!("{} instead of {label}", response.text())),
        Err(error) => stage.request_counts.failed(NAME, &format!("{error} instead of {label}")),
    }
    pause(Duration::from_millis(20 + random.below(30)));
}
