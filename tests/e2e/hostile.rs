//! What bytes that are no HTTP, or HTTP that two parsers read differently, come to: the rows F01 to F20 and P01 to P06
//! of the threats, over the wire.
//!
//! Behind every malformed request follows a good one in the same write. Whoever reads the first one's end elsewhere
//! would answer it: nothing may reach the upstream, and the connection must end.

use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request, TIMEOUT},
    pki::HOST,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

/// What follows each malformed request.
const SMUGGLED: &str = "GET /files/smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

/// One malformed request and the status that it is answered.
struct Row {
    name: String,
    bytes: Vec<u8>,
    expect: u16,
}

fn row(name: impl Into<String>, bytes: impl AsRef<[u8]>, expect: u16) -> Row {
    Row { name: name.into(), bytes: bytes.as_ref().to_vec(), expect }
}

/// The subject is what each request comes to: the kernel has no part in it, and nobody is banned for the many.
fn settings() -> Settings {
    Settings { interfaces: Vec::new(), rules: String::new(), ..Settings::default() }
}

/// What became of a malformed request.
fn send(mut connection: Connection, bytes: &[u8]) -> Result<(u16, bool), String> {
    connection.set_timeout(TIMEOUT).map_err(|error| error.to_string())?;
    // The gateway may have heard enough, and closed, before the last byte of it.
    drop(connection.write(&[bytes, SMUGGLED.as_bytes()].concat()));
    let response = connection.response("GET").map_err(|error| format!("no answer: {error}"))?;
    // Every refusal is ours, whoever noticed.
    if response.status >= 400 {
        let problem: serde_json::Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
        let (id, status) = (&problem["request_id"], &problem["status"]);
        if *status != response.status || response.header("x-request-id") != id.as_str() {
            return Err(format!("{} with {problem}", response.status));
        }
    }
    Ok((response.status, connection.ends()))
}

/// Sends every row, and tells all that is off at once.
#[track_caller]
fn check(client: &Client<'_>, upstream: &Upstream, rows: &[Row]) {
    let mut wrong = Vec::new();
    for Row { name, bytes, expect } in rows {
        upstream.forget();
        let outcome = client.connect().map_err(|error| error.to_string()).and_then(|tls| send(tls, bytes));
        match outcome {
            Ok((status, true)) if status == *expect => {}
            other => wrong.push(format!("{name}: {other:?}, not {expect} and the end")),
        }
        for request in upstream.received() {
            wrong.push(format!("{name}: reached the upstream as {} {}", request.method, request.target));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// `GET /health` with these header lines.
fn with(lines: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")
}

/// `POST /items` with a good token, these header lines and this body.
fn post(lines: &str, body: &str) -> String {
    let token = tokens::good("ada", &["editor"]);
    format!(
        "POST /items HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{lines}\r\n{body}"
    )
}

fn framing() -> Vec<Row> {
    let mut rows = Vec::new();
    let good = r#"{"name":"nail"}"#;
    for lengths in
        ["Content-Length: 15\r\nContent-Length: 16\r\n", "Content-Length: 15, 16\r\n", "Content-Length: 15, 15\r\n"]
    {
        rows.push(row(format!("F02 {lengths:?}"), post(lengths, good), 400));
    }
    for length in ["+15", "-15", "0xf", "1_5", "15e0", "15.0", "", "1 5", "18446744073709551631"] {
        rows.push(row(format!("F03 {length:?}"), post(&format!("Content-Length: {length}\r\n"), good), 400));
    }
    let giant = "Content-Length: 9223372036854775808\r\n";
    rows.push(row("F03 a length that is a number", post(giant, good), 413));
    let chunked = "f\r\n{\"name\":\"nail\"}\r\n0\r\n\r\n";
    for coding in
        ["chunked, identity", "identity, chunked", "xchunked", ",chunked", "\"chunked\"", "chunked, chunked", "gzip"]
    {
        let lines = format!("Transfer-Encoding: {coding}\r\n");
        rows.push(row(format!("F04 {coding:?}"), post(&lines, chunked), 400));
    }
    rows.push(row("F04 two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked), 400));
    let old = post("Transfer-Encoding: chunked\r\n", chunked).replace("HTTP/1.1", "HTTP/1.0");
    rows.push(row("F05 chunked in HTTP/1.0", old, 400));
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{c}",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding: chunked\u{a0}",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r: chunked",
        " Transfer-Encoding: chunked",
    ] {
        rows.push(row(format!("F06 {line:?}"), post(&format!("{line}\r\n"), chunked), 400));
    }
    for lines in ["X: a\rb\r\n", "X: a\0b\r\n", "X\0: a\r\n", "X: a\r\r\n", "X: \u{1}\r\n", "X: \u{7f}\r\n"] {
        rows.push(row(format!("F07 {lines:?}"), with(lines), 400));
    }
    for lines in ["X: a\nY: b\r\n", "X: a\n", "\nX: a\r\n"] {
        rows.push(row(format!("F07 {lines:?}"), with(lines), 400));
    }
    rows.push(row("F07 bare line feeds", with("").replace("\r\n", "\n"), 400));
    for size in ["0xf", "+f", "-1", "f ", "f\t", "f_", "", "10000000000000000f", "fffffffffffffffff", "g"] {
        let body = chunked.replacen("f\r\n", &format!("{size}\r\n"), 1);
        rows.push(row(format!("F08 {size:?}"), post("Transfer-Encoding: chunked\r\n", &body), 400));
    }
    for extension in [";a\nb", ";a\rb", "\n"] {
        let body = chunked.replacen("f\r\n", &format!("f{extension}\r\n"), 1);
        rows.push(row(format!("F09 {extension:?}"), post("Transfer-Encoding: chunked\r\n", &body), 400));
    }
    let long = chunked.replacen("f\r\n", &format!("f;{}\r\n", "a".repeat(64 << 10)), 1);
    rows.push(row("F09 a long extension", post("Transfer-Encoding: chunked\r\n", &long), 400));
    for end in ["xx", "\n\n", "", "\r"] {
        let body = format!("f\r\n{good}{end}0\r\n\r\n");
        rows.push(row(format!("F10 {end:?}"), post("Transfer-Encoding: chunked\r\n", &body), 400));
    }
    rows
}

fn heads() -> Vec<Row> {
    let mut rows = Vec::new();
    let host = format!("Host: {HOST}\r\n");
    for version in
        ["HTTP/1.32", "HTTP/2.0", "HTTP/3.0", "HTTP/01.1", "HTTP/1.1.1", "http/1.1", "ICY", "HTTP/\r\r1.1", "HTTP/1.2"]
    {
        rows.push(row(format!("F17 {version:?}"), format!("GET /health {version}\r\n{host}\r\n"), 400));
    }
    rows.push(row("F17 HTTP/0.9", "GET /health\r\n\r\n", 400));
    for hosts in [
        "",
        "Host:\r\n",
        &format!("{host}{host}"),
        &format!("{host}Host: other.example\r\n"),
        "Host: user@api.example.com\r\n",
        "Host: api.example.com, other.example\r\n",
        "Host: api.example.com other.example\r\n",
        "Host: api.example.com/files\r\n",
        "Host: api.example.com?x\r\n",
        "Host: api.example.com#x\r\n",
        "Host: api.example.com..\r\n",
        "Host: api.example.com:65536\r\n",
        "Host: api.example.com:4x3\r\n",
        "Host: http://api.example.com\r\n",
        "Host: [::1\r\n",
        "Host: ..\r\n",
    ] {
        rows.push(row(format!("F18 {hosts:?}"), format!("GET /health HTTP/1.1\r\n{hosts}\r\n"), 400));
    }
    for target in [
        "https://other.example/health",
        "https://x@api.example.com/health",
        "ftp://api.example.com/health",
        "//other.example/health",
        "*",
        "health",
        "",
    ] {
        rows.push(row(format!("F18 {target:?}"), format!("GET {target} HTTP/1.1\r\n{host}\r\n"), 400));
    }
    for target in [
        &b"/files/a b"[..],
        b"/files/a\tb",
        b"/files/a\x01",
        b"/files/a\x7f",
        b"/files/\xc3\xa9",
        b"/files/\xff",
        b"/files/a\"",
        b"/files/<a>",
        b"/files/a#b",
        b"/files/a?b#c",
        b"/files/a\\b",
        b"/files/a?b c",
        b"/files/a?\xff",
    ] {
        let bytes = [b"GET ", target, b" HTTP/1.1\r\n", host.as_bytes(), b"\r\n"].concat();
        rows.push(row(format!("F19 {:?}", String::from_utf8_lossy(target)), bytes, 400));
    }
    for target in ["api.example.com:443", "api.example.com", "/files/a", "*"] {
        // What follows would be the tunnel's first bytes.
        rows.push(row(format!("F13 {target:?}"), format!("CONNECT {target} HTTP/1.1\r\n{host}\r\n"), 400));
    }
    rows.push(row("F20 no name", with(": x\r\n"), 400));
    rows.push(row("F20 no colon", with("NoColon\r\n"), 400));
    rows.push(row("F20 long name", with(&format!("{}: x\r\n", "n".repeat(65 * 1024))), 431));
    rows.push(row("F20 long value", with(&format!("X: {}\r\n", "v".repeat(65 * 1024))), 431));
    rows.push(row("F20 many", with(&"X: y\r\n".repeat(10_000)), 431));
    rows
}

fn paths() -> Vec<Row> {
    [
        "P01 /files/../nobody",
        "P01 /files/%2e%2e/nobody",
        "P01 /files/%2E%2E/nobody",
        "P01 /files/.%2e/nobody",
        "P01 /files/./a",
        "P01 //nobody",
        "P01 /files//nobody",
        "P01 /nobody/.",
        "P01 /nobody/..",
        "P01 /files/..",
        "P01 /.",
        "P02 /files/%2fnobody",
        "P02 /files/..%2fnobody",
        "P02 /files%2f..%2fnobody",
        "P02 /files/%5cnobody",
        "P02 /files/..%5Cnobody",
        "P03 /nobody;x=1",
        "P03 /files/..;/nobody",
        "P03 /files/.;/nobody",
        "P03 /;/nobody",
        "P04 /files/%252e%252e/nobody",
        "P04 /files/%c0%ae%c0%ae/nobody",
        "P04 /files/%e0%80%ae",
        "P04 /files/%00",
        "P04 /files/a%0d%0ab",
        "P04 /files/%zz",
        "P04 /files/%2",
        "P04 /files/%",
        "P04 /files/%u002e",
    ]
    .into_iter()
    .map(|name| {
        let target = &name[4..];
        row(name, format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 400)
    })
    .collect()
}

#[test]
fn what_is_malformed_is_refused_and_ends_the_connection() {
    if !report::may_run("hostile") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let rows: Vec<Row> = [framing(), heads(), paths()].into_iter().flatten().collect();
    check(&client, &upstream, &rows);

    // Whoever behaves is served all the while.
    assert_eq!(client.send(&Request::new("GET", "/health")).unwrap().status, 200);
    assert!(daemon.standard_error().lines().all(|line| !line.contains("panicked")), "{}", daemon.standard_error());
}

#[test]
fn what_could_be_read_in_two_ways_is_read_in_one() {
    if !report::may_run("hostile: one reading") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);

    // F01: never both forwarded, and the connection ends with the answer.
    let (chunked, length) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 6\r\n");
    for lines in [format!("{chunked}{length}"), format!("{length}{chunked}")] {
        upstream.forget();
        let (status, ended) = send(client.connect().unwrap(), post(&lines, "0\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((status, ended), (400, true), "F01 {lines:?}");
        let body = "f\r\n{\"name\":\"nail\"}\r\n0\r\n\r\n";
        let (status, ended) = send(client.connect().unwrap(), post(&lines, body).as_bytes()).unwrap();
        assert_eq!((status, ended), (400, true), "F01 {lines:?}");
        assert!(upstream.received().is_empty(), "F01 {lines:?}: {:?}", upstream.received());
    }

    // P05: what is not listed exactly is not there; P06: no header names another path or method.
    for (case, method, path, header, status) in [
        ("P05", "GET", "/Health", "", 404),
        ("P05", "GET", "/HEALTH", "", 404),
        ("P05", "GET", "/health.", "", 404),
        ("P05", "GET", "/health%20", "", 404),
        ("P05", "GET", "/Nobody", "", 404),
        ("P01", "GET", "/nobody", "", 403),
        ("P01", "GET", "/%6eobody", "", 403),
        ("P01", "GET", "/nobody/", "", 404),
        ("P06", "GET", "/nobody", "X-Original-URL", 403),
        ("P06", "GET", "/nobody", "X-Rewrite-URL", 403),
        ("P06", "GET", "/health", "X-Original-URL", 200),
        ("P06", "GET", "/health", "X-HTTP-Method-Override", 200),
        ("P06", "GET", "/health", "X-HTTP-Method", 200),
        ("P06", "GET", "/health", "X-Method-Override", 200),
        ("P06", "DELETE", "/health", "X-HTTP-Method-Override", 405),
    ] {
        upstream.forget();
        let mut request = Request::new(method, path);
        if !header.is_empty() {
            request = request.header(header, if header.contains("Method") { "GET" } else { "/health" });
        }
        let response = client.send(&request).unwrap();
        assert_eq!(response.status, status, "{case} {method} {path} {header}");
        let received = upstream.received();
        assert_eq!(received.len(), usize::from(status == 200), "{case} {method} {path} {header}: {received:?}");
        for request in received {
            assert_eq!(request.target, "/health", "{case}");
            assert!(request.header(&header.to_ascii_lowercase()).is_empty(), "{case} {header} was passed on");
        }
    }

    // F06: a name that others read as Transfer-Encoding is not passed on, and frames nothing.
    upstream.forget();
    let response = client.send(&Request::new("GET", "/health").header("Transfer_Encoding", "chunked")).unwrap();
    assert_eq!(response.status, 200);
    let received = upstream.received();
    assert_eq!(received.len(), 1, "F06: {received:?}");
    assert!(received[0].headers.iter().all(|(name, _)| !name.contains("transfer")), "F06: {received:?}");

    // B05: two media types are none: the schema's reader and the upstream's could take different ones.
    upstream.forget();
    let token = tokens::good("ada", &["editor"]);
    let twice = Request::new("POST", "/items").token(&token).header("Content-Type", "application/json");
    let response = client.send(&twice.body("text/plain", br#"{"name":"nail"}"#)).unwrap();
    assert_eq!(response.status, 400, "B05 two Content-Types");
    assert!(upstream.received().is_empty());
}
