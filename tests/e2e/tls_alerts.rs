//! Whoever breaks the rules of TLS is told so by an alert, and has the time to read it.

use std::io::{Read as _, Write as _};

use support::{
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    pki::HOST,
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;

/// ECDSA on P-256 with SHA-256, and on P-384 with SHA-384.
const SHA256: u16 = 0x0403;
const SHA384: u16 = 0x0503;

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3, high, low], content].concat()
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], content].concat()
}

/// A hello of TLS 1.2 that takes signatures by this algorithm alone.
fn hello(signature: u16) -> Vec<u8> {
    let [high, low] = signature.to_be_bytes();
    let extensions = [
        // The groups: P-256.
        &[0, 10, 0, 4, 0, 2, 0, 23][..],
        &[0, 13, 0, 4, 0, 2, high, low],
    ]
    .concat();
    let mut content = vec![3, 3];
    content.extend([7; 32]);
    // No session; ECDHE-ECDSA-AES128-GCM-SHA256; no compression.
    content.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, u8::try_from(extensions.len()).unwrap()]);
    content.extend(extensions);
    message(1, &content)
}

#[test]
fn handshakes_that_are_refused_are_answered_by_an_alert() {
    if !report::may_run("tls_alerts::handshakes") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let good = hello(SHA256);
    let (begin, rest) = good.split_at(20);
    let huge: Vec<u8> = message(1, &[0; 65_000]).chunks(16_384).flat_map(|part| record(HANDSHAKE, part)).collect();
    for (what, bytes, expect) in [
        ("another message first", record(HANDSHAKE, &message(20, &[7; 12])), 10),
        ("another record first", record(CHANGE_CIPHER_SPEC, &[1]), 10),
        ("data first", record(APPLICATION_DATA, b"GET / HTTP/1.1\r\n\r\n"), 10),
        (
            "a record within a hello",
            [record(HANDSHAKE, begin), record(CHANGE_CIPHER_SPEC, &[1]), record(HANDSHAKE, rest)].concat(),
            10,
        ),
        ("a hello of 64 KB", huge, 50),
        ("a signature that the key cannot make", record(HANDSHAKE, &hello(SHA384)), 40),
        // Behind the answer to the hello.
        ("data right behind a hello", [record(HANDSHAKE, &good), record(APPLICATION_DATA, b"GET")].concat(), 10),
    ] {
        let mut socket = client.tcp(TIMEOUT).unwrap();
        socket.write_all(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut told = Vec::new();
        socket.read_to_end(&mut told).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(told.ends_with(&[21, 3, 3, 0, 2, 2, expect]), "{what}: {told:?}");
    }
    until("the hello that is too large in the log", SOON, || {
        let log = daemon.access_log();
        let is_told =
            |line: &serde_json::Value| line["detail"] == "TLS hello too large" && line["signal"] == "bad_handshake";
        log.iter().any(is_told).then_some(())
    });
}

#[test]
fn records_that_cannot_be_decrypted_are_answered_by_an_alert() {
    if !report::may_run("tls_alerts::records") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &Settings::default());
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["editor"]);
    let begun = format!(
        "POST /items HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{"
    );
    for (what, sends) in [("between requests", ""), ("in a body", begun.as_str())] {
        let mut connection = client.connect().unwrap();
        // The tickets come before the first answer.
        assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
        connection.write(sends.as_bytes()).unwrap();
        let mut socket = connection.tcp();
        socket.write_all(&record(APPLICATION_DATA, &[7; 40])).unwrap();
        // The alert has come, and nobody has read it yet.
        assert!(socket.peek(&mut [0]).unwrap() > 0, "{what}");
        socket.write_all(&vec![7; 1 << 20]).unwrap_or_else(|error| panic!("{what}: {error}"));
        let told = connection.begins().unwrap_err().to_string();
        assert!(told.contains("BadRecordMac"), "{what}: {told}");
    }
}
