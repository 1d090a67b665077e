//! Frames that break HTTP/2 itself: the error that RFC 9113 names for each, to the stream or to the connection (H09), and
//! heads that are too large however they are counted (H17).

use support::{
    daemon::Daemon,
    http1::{Client, TIMEOUT},
    pki::HOST,
    report, tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

use crate::h2_hostile::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, frame, get, has_status, post, settings,
};

const PUSH_PROMISE: u8 = 5;

/// What ends its stream alone, where everything else ends the connection.
const STREAMS: [&str; 5] = [
    "DATA behind the end",
    "HEADERS that depend on themselves",
    "trailers that are not the end",
    "WINDOW_UPDATE by nothing on a stream",
    "WINDOW_UPDATE beyond what there can be on a stream",
];

/// RFC 9113 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const REFUSED_STREAM: u32 = 7;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// What is sent, and the errors that will do.
fn rows() -> Vec<(&'static str, Vec<u8>, &'static [u32])> {
    let end = END_STREAM | END_HEADERS;
    let request = |stream: u32| frame(HEADERS, end, stream, &get("/health", &[]));
    let setting = |number: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, number][..], &value.to_be_bytes()].concat());
    let headers = get("/health", &[]);
    let slow = frame(HEADERS, end, 1, &get("/slow?300", &[]));
    let (protocol, size): (&[u32], &[u32]) = (&[PROTOCOL_ERROR], &[FRAME_SIZE_ERROR]);
    // Where the RFC lets the server choose between two, either will do.
    let closed: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    vec![
        ("HEADERS on the connection", frame(HEADERS, end, 0, &headers), protocol),
        ("HEADERS on a stream of the server's", request(2), protocol),
        ("HEADERS on a stream that was passed over", [request(5), request(3)].concat(), closed),
        ("HEADERS on a stream that ended", [request(1), request(1)].concat(), closed),
        ("HEADERS with more padding than there is", frame(HEADERS, end | PADDED, 1, &[200, 0x82]), protocol),
        (
            "HEADERS that depend on themselves",
            frame(HEADERS, end | 0x20, 1, &[&[0, 0, 0, 1, 9][..], &headers].concat()),
            protocol,
        ),
        ("HEADERS that cannot be decoded", frame(HEADERS, end, 1, &[0xff; 20]), &[COMPRESSION_ERROR]),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &headers), protocol),
        ("HEADERS within HEADERS", [frame(HEADERS, END_STREAM, 1, &headers), request(3)].concat(), protocol),
        ("DATA on the connection", frame(DATA, 0, 0, b"x"), protocol),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), closed),
        (
            "DATA with more padding than there is",
            [frame(HEADERS, END_HEADERS, 1, &headers), frame(DATA, PADDED, 1, &[9])].concat(),
            protocol,
        ),
        ("a frame of 16,385 bytes", frame(DATA, 0, 1, &[0; 16_385]), size),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), protocol),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), size),
        ("SETTINGS that acknowledge with content", frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 9]), size),
        ("SETTINGS that push twice", setting(2, 2), protocol),
        ("SETTINGS with a window too large", setting(4, 1 << 31), &[FLOW_CONTROL_ERROR]),
        ("SETTINGS with frames too small", setting(5, 100), protocol),
        ("SETTINGS with frames too large", setting(5, 1 << 24), protocol),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), size),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), protocol),
        ("PRIORITY of four bytes", [request(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(), size),
        ("PRIORITY on the connection", frame(PRIORITY, 0, 0, &[0; 5]), protocol),
        ("RST_STREAM of three bytes", [request(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), size),
        ("RST_STREAM on the connection", frame(RST_STREAM, 0, 0, &[0; 4]), protocol),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), protocol),
        (
            "PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &headers].concat()),
            protocol,
        ),
        ("WINDOW_UPDATE by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), protocol),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), size),
        (
            "WINDOW_UPDATE beyond what there can be",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            &[FLOW_CONTROL_ERROR],
        ),
        ("WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), protocol),
        ("DATA behind the end", [slow.clone(), frame(DATA, 0, 1, b"x")].concat(), &[STREAM_CLOSED]),
        (
            "trailers that are not the end",
            [frame(HEADERS, END_HEADERS, 1, &headers), frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")]))].concat(),
            protocol,
        ),
        (
            "WINDOW_UPDATE by nothing on a stream",
            [slow.clone(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            protocol,
        ),
        (
            "WINDOW_UPDATE beyond what there can be on a stream",
            [slow, frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            &[FLOW_CONTROL_ERROR],
        ),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), protocol),
        ("GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), size),
    ]
}

#[test]
fn h09_errors_are_those_of_the_protocol() {
    if !report::may_run("h2_protocol") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let mut wrong = Vec::new();
    for (name, bytes, expect) in rows() {
        let mut raw = Raw::open(&client, &[]).unwrap();
        drop(raw.write(&bytes));
        let heard = raw.hear(TIMEOUT, |heard| {
            heard.goaway.is_some_and(|error| error != 0) || heard.resets.iter().any(|(_, error)| *error != 0)
        });
        let error = heard.goaway.filter(|error| *error != 0).or(heard.resets.first().map(|(_, error)| *error));
        let told = error.is_some_and(|error| expect.contains(&error));
        if !told || heard.goaway.is_none() != STREAMS.contains(&name) {
            wrong.push(format!("{name}: {error:?}, not {expect:?}: {heard:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// The authority and the host count against one limit, by whatever name they come.
#[test]
fn h17_a_head_that_is_too_large_with_both_names_of_its_host() {
    if !report::may_run("h2_protocol: large") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    // Neither by itself is too large.
    let long = format!("{}.{HOST}", "x".repeat(9_000));
    let large = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &long),
        (":path", "/health"),
        ("host", &long),
    ]);
    let (first, rest) = large.split_at(16_000);
    let mut raw = Raw::open(&client, &[]).unwrap();
    raw.write(&[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty() || !heard.resets.is_empty());
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "431")), "{heard:?}");
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// RFC 9113 5.1.2: whoever asks for more at once than it may, before it can know how much that is, can ask for it again.
#[test]
fn h08_uploads_over_the_limit_are_refused_one_by_one() {
    const UPLOADS: u32 = 600;
    if !report::may_run("h2_protocol: uploads") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["reader"]);
    let numbers = || (0..UPLOADS).map(|number| 2 * number + 1);
    let head = post(&[], &token);
    let heads: Vec<u8> = numbers().flat_map(|number| frame(HEADERS, END_HEADERS, number, &head)).collect();
    // All heads, then all bodies: what is refused is told long before the last of it has come.
    let bodies: Vec<u8> = numbers().flat_map(|number| frame(DATA, END_STREAM, number, b"x")).collect();
    let mut raw = Raw::open(&client, &[]).unwrap();
    raw.write(&heads).unwrap();
    raw.write(&bodies).unwrap();
    let all = usize::try_from(UPLOADS).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| heard.heads.len() + heard.resets.len() >= all || heard.goaway.is_some());
    assert_eq!((heard.goaway, heard.heads.len() + heard.resets.len()), (None, all), "{heard:?}");
    assert!(heard.resets.len() > 256, "{}", heard.resets.len());
    assert!(heard.resets.iter().all(|(_, error)| *error == REFUSED_STREAM), "{:?}", heard.resets);
    assert!(heard.heads.iter().any(|(_, block)| has_status(block, "200")), "{:?}", heard.heads);
    raw.write(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * UPLOADS + 1, &get("/health", &[]))).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty() || heard.goaway.is_some());
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "200")), "{heard:?}");
    assert!(daemon.access_log().iter().all(|line| line["signal"].is_null()), "a refused stream caused a signal");
}
