//! What HTTP/2 frames that break the rules, or only cost work, come to: the rows H01 to H08 and H10 to H14 of the
//! threats, as bytes over TLS.
//!
//! Whatever a connection is sent, nothing of it reaches the upstream that was not asked for in proper form, and
//! whoever behaves is served all the while. No row says how long anything takes.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use support::{
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    pki::{HOST, PKI},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame (RFC 9113 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as HPACK literals without indexing, nothing compressed (RFC 7541 6.2.2).
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        match u8::try_from(text.len()) {
            Ok(length) if length < 127 => out.push(length),
            _ => {
                out.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    out.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                out.push(u8::try_from(rest).unwrap());
            }
        }
        out.extend_from_slice(text.as_bytes());
    };
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

/// The head of `GET path`, and more fields behind it.
pub(crate) fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut all = vec![(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)];
    all.extend_from_slice(more);
    fields(&all)
}

pub(crate) fn post(more: &[(&str, &str)], token: &str) -> Vec<u8> {
    let mut all = vec![(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/echo")];
    let bearer = format!("Bearer {token}");
    all.push(("authorization", &bearer));
    all.extend_from_slice(more);
    fields(&all)
}

/// A connection after the preface and both sides' settings.
pub(crate) struct Raw {
    tls: StreamOwned<ClientConnection, TcpStream>,
    /// What came of a frame that is not whole yet.
    part: Vec<u8>,
}

/// What came back, until the connection ended or nothing more came.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Streams that got an answer, and how: the first byte of an indexed `:status`, or of a literal.
    pub(crate) heads: Vec<(u32, Vec<u8>)>,
    /// Streams that were reset, and the error.
    pub(crate) resets: Vec<(u32, u32)>,
    /// The error of a GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// Bytes of DATA.
    pub(crate) data: usize,
    pub(crate) ended: bool,
}

impl Raw {
    pub(crate) fn open(client: &Client<'_>, settings: &[u8]) -> io::Result<Self> {
        Self::open_with(client, settings, PKI.client(rustls::ALL_VERSIONS, &[b"h2"]))
    }

    pub(crate) fn open_with(client: &Client<'_>, settings: &[u8], config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut tcp = client.tcp(TIMEOUT)?;
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let mut raw = Self { tls: StreamOwned::new(tls, tcp), part: Vec::new() };
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        raw.write(&frame(SETTINGS, 0, 0, settings))?;
        Ok(raw)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// The next frame; one that patience ends within goes on the next time.
    fn next(&mut self) -> io::Result<([u8; 9], Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.part.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = (*head, payload.to_vec());
                    self.part.drain(..9 + length);
                    return Ok(frame);
                }
            }
            let mut bytes = [0; 16_384];
            match self.tls.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.part.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Reads until `enough`, the end, or `timeout` without a byte.
    pub(crate) fn hear(&mut self, timeout: Duration, enough: impl Fn(&Heard) -> bool) -> Heard {
        self.tls.sock.set_read_timeout(Some(timeout)).unwrap();
        let mut heard = Heard::default();
        while !enough(&heard) {
            let (head, payload) = match self.next() {
                Ok(frame) => frame,
                Err(error) => {
                    heard.ended = !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                    break;
                }
            };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match head[3] {
                DATA => heard.data += payload.len(),
                HEADERS => heard.heads.push((stream, payload)),
                RST_STREAM => heard.resets.push((stream, word(0))),
                GOAWAY => heard.goaway = Some(word(4)),
                _ => {}
            }
        }
        heard
    }
}

/// Whether a header block begins with this status: one of the static table's, or a literal value of the same name.
pub(crate) fn has_status(block: &[u8], status: &str) -> bool {
    let index = ["200", "204", "206", "304", "400", "404", "500"].iter().position(|known| *known == status);
    // The decoder may be told to change its table first (RFC 7541 6.3).
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
    let block = &block[start..];
    match index {
        Some(index) => block.first() == Some(&(0x88 + u8::try_from(index).unwrap())),
        // Indexed name 8, then the value plain or as Huffman codes, which digits have five or six bits of.
        None => block.first().is_some_and(|byte| *byte & 0x0f == 8 || *byte & 0x3f == 8) && status.len() == 3,
    }
}

pub(crate) fn settings(more: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1".to_owned(),
        timeouts: more.to_owned(),
        ..Settings::default()
    }
}

/// Malformed requests: each is answered 400 or ends in PROTOCOL_ERROR, and nothing goes upstream.
#[test]
fn what_is_malformed_goes_nowhere() {
    if !report::may_run("h2_hostile: malformed") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let mut wrong = Vec::new();
    for (name, bytes) in malformed() {
        upstream.forget();
        let mut raw = Raw::open(&client, &[]).unwrap();
        drop(raw.write(&bytes));
        let heard = raw.hear(TIMEOUT, |heard| {
            !heard.resets.is_empty() || heard.goaway.is_some_and(|error| error != 0) || !heard.heads.is_empty()
        });
        let refused = heard.heads.first().is_some_and(|(_, block)| has_status(block, "400"));
        // To the stream, or to the whole connection: PROTOCOL_ERROR.
        let error = heard.resets.first().map(|(_, error)| *error).or(heard.goaway);
        if !(refused || error == Some(1)) {
            wrong.push(format!("{name}: {heard:?}"));
        }
        for request in upstream.received() {
            wrong.push(format!("{name}: reached the upstream as {} {}", request.method, request.target));
        }
    }
    check_served(&daemon, &client, &wrong);
}

/// Malformed requests, by name.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let end = END_STREAM | END_HEADERS;
    let request = |block: Vec<u8>| frame(HEADERS, end, 1, &block);
    let health = |more: &[(&str, &str)]| request(get("/health", more));
    let pseudo = |all: &[(&str, &str)]| request(fields(all));
    let m = (":method", "GET");
    let s = (":scheme", "https");
    let a = (":authority", HOST);
    let p = (":path", "/health");
    let mut rows = vec![
        ("H11 CR in a value".to_owned(), health(&[("x", "a\rb")])),
        ("H11 LF in a value".to_owned(), health(&[("x", "a\nb: c")])),
        ("H11 NUL in a value".to_owned(), health(&[("x", "a\0b")])),
        ("H11 a colon in a name".to_owned(), health(&[("x:y", "a")])),
        ("H11 a blank in a name".to_owned(), health(&[("x y", "a")])),
        ("H11 CRLF in a name".to_owned(), health(&[("x\r\ny", "a")])),
        ("H11 no name".to_owned(), health(&[("", "a")])),
        ("H11 a blank before a value".to_owned(), health(&[("x", " a")])),
        ("H11 a blank behind a value".to_owned(), health(&[("x", "a\t")])),
        ("H12 transfer-encoding".to_owned(), health(&[("transfer-encoding", "chunked")])),
        ("H12 connection".to_owned(), health(&[("connection", "close")])),
        ("H12 keep-alive".to_owned(), health(&[("keep-alive", "1")])),
        ("H12 proxy-connection".to_owned(), health(&[("proxy-connection", "close")])),
        ("H12 upgrade".to_owned(), health(&[("upgrade", "h2c")])),
        ("H12 te".to_owned(), health(&[("te", "gzip")])),
        ("H13 upper case".to_owned(), health(&[("X-Upper", "a")])),
        ("H13 a pseudo header last".to_owned(), pseudo(&[m, s, a, ("x", "y"), p])),
        ("H13 two paths".to_owned(), pseudo(&[m, s, a, p, (":path", "/me")])),
        ("H13 two methods".to_owned(), pseudo(&[m, (":method", "POST"), s, a, p])),
        ("H13 two authorities".to_owned(), pseudo(&[m, s, a, (":authority", "other.example"), p])),
        ("H13 an unknown one".to_owned(), pseudo(&[m, s, a, p, (":other", "x")])),
        ("H13 a response's".to_owned(), pseudo(&[m, s, a, p, (":status", "200")])),
        ("H13 no path".to_owned(), pseudo(&[m, s, a])),
        ("H13 no method".to_owned(), pseudo(&[s, a, p])),
        ("H13 no authority".to_owned(), pseudo(&[m, s, p])),
        ("H13 method".to_owned(), pseudo(&[(":method", "GET /me HTTP/1.1"), s, a, p])),
        ("H13 method with lines".to_owned(), pseudo(&[(":method", "GET\r\nX: y"), s, a, p])),
        ("H13 scheme".to_owned(), pseudo(&[m, (":scheme", "ftp"), a, p])),
        ("H13 path without a path".to_owned(), pseudo(&[m, s, a, (":path", "?x=1")])),
        ("H13 scheme with more".to_owned(), pseudo(&[m, (":scheme", "https://x"), a, p])),
        ("H14 host".to_owned(), health(&[("host", "other.example")])),
        ("H14 two hosts".to_owned(), health(&[("host", HOST), ("host", HOST)])),
        ("H14 user".to_owned(), pseudo(&[m, s, (":authority", "user@api.example.com"), p])),
        ("H13 CONNECT".to_owned(), pseudo(&[(":method", "CONNECT"), a])),
        (
            "H16 extended CONNECT".to_owned(),
            pseudo(&[(":method", "CONNECT"), (":protocol", "websocket"), s, a, ("sec-websocket-version", "13"), p]),
        ),
        ("H10 DATA before HEADERS".to_owned(), frame(DATA, END_STREAM, 1, b"hello")),
        ("H10 a length without a body".to_owned(), health(&[("content-length", "5")])),
    ];
    for path in ["health", "/hea lth", "", "*", "https://x/health", "/health\r\nX: y", "/health#/../me", "/health#"] {
        rows.push((format!("H13 path {path:?}"), pseudo(&[m, s, a, (":path", path)])));
    }
    rows
}

/// F02: what is no length in HTTP/1.1 is none here either.
#[test]
fn what_is_no_length_is_refused() {
    if !report::may_run("h2_hostile: lengths") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["editor"]);
    let mut wrong = Vec::new();
    for (length, status) in [
        ("18446744073709551616", "400"),
        ("99999999999999999999", "400"),
        ("-1", "400"),
        ("+5", "400"),
        ("0x5", "400"),
        ("5,6", "400"),
        ("18446744073709551615", "413"),
    ] {
        upstream.forget();
        let mut raw = Raw::open(&client, &[]).unwrap();
        let head = frame(HEADERS, END_HEADERS, 1, &post(&[("content-length", length)], &token));
        drop(raw.write(&[head, frame(DATA, 0, 1, b"hello")].concat()));
        let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty() || heard.goaway.is_some());
        if !heard.heads.first().is_some_and(|(_, block)| has_status(block, status)) || !upstream.received().is_empty() {
            wrong.push(format!("F02 Content-Length {length}: {heard:?}"));
        }
    }
    check_served(&daemon, &client, &wrong);
}

/// H10: a body that is not as long as it says is never a shorter request.
#[test]
fn a_body_is_as_long_as_it_says() {
    if !report::may_run("h2_hostile: bodies") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["editor"]);
    let mut wrong = Vec::new();
    let head = post(&[("content-length", "10")], &token);
    for (name, rest) in [
        ("short", frame(DATA, END_STREAM, 1, b"hello")),
        ("long", frame(DATA, END_STREAM, 1, b"hello hello hello")),
        ("trailers that do not end it", frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")]))),
    ] {
        let mut raw = Raw::open(&client, &[]).unwrap();
        drop(raw.write(&[frame(HEADERS, END_HEADERS, 1, &head), rest].concat()));
        let heard = raw.hear(TIMEOUT, |heard| !heard.resets.is_empty() || heard.goaway.is_some());
        if heard.resets != [(1, 1)] {
            wrong.push(format!("H10 {name}: {heard:?}"));
        }
    }
    check_served(&daemon, &client, &wrong);
}

/// Nothing was wrong, and the gateway serves on.
#[track_caller]
fn check_served(daemon: &Daemon<'_>, client: &Client<'_>, wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(client.send(&Request::new("GET", "/health")).unwrap().status, 200);
    assert!(daemon.standard_error().lines().all(|line| !line.contains("panicked")), "{}", daemon.standard_error());
}

/// What is asked for and not taken, or more than may be asked for at once.
#[test]
fn streams_are_bounded_in_number_and_patience() {
    if !report::may_run("h2_hostile: streams") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings("body = \"700ms\""));
    let client = Client::new(&world, GOOD_V4);
    let end = END_STREAM | END_HEADERS;

    // H08: too many are refused, one by one, and the connection goes on.
    let mut raw = Raw::open(&client, &[]).unwrap();
    let many: Vec<u8> =
        (0..168).flat_map(|number| frame(HEADERS, end, 2 * number + 1, &get("/slow?300", &[]))).collect();
    raw.write(&many).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| heard.heads.len() + heard.resets.len() >= 168);
    assert_eq!(heard.heads.len() + heard.resets.len(), 168, "H08: {heard:?}");
    assert!(!heard.resets.is_empty() && heard.resets.iter().all(|(_, error)| *error == 7), "H08: {:?}", heard.resets);
    raw.write(&frame(HEADERS, end, 401, &get("/health", &[]))).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty());
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "200")), "H08: {heard:?}");

    // H07: a window that never opens, and one that opens byte by byte and then no more.
    for (name, dribble) in [("zero", 0), ("one byte at a time", 3)] {
        let mut raw = Raw::open(&client, &[0, 4, 0, 0, 0, 0]).unwrap();
        raw.write(&frame(HEADERS, end, 1, &get("/stream?3", &[]))).unwrap();
        for _ in 0..dribble {
            raw.write(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).unwrap();
        }
        let heard = raw.hear(TIMEOUT, |heard| !heard.resets.is_empty());
        // Its own window alone is shut: the stream ends, the connection goes on.
        assert!(!heard.resets.is_empty() && !heard.ended, "H07 {name}: {heard:?}");
        assert!(heard.data <= dribble, "H07 {name}: {heard:?}");
    }

    // Connections on which nothing was asked do not hold up the end.
    let idle = Raw::open(&client, &[]).unwrap();
    assert_eq!(client.get("/health", "").unwrap().status, 200);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success(), "{}", daemon.standard_error());
    drop(idle);
}
