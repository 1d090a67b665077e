//! Windows and bodies of HTTP/2 on a client's side: both sides send as much as they were let, and no more.

use std::time::Duration;

use support::{
    daemon::Daemon,
    http1::{Client, TIMEOUT},
    http2_call::post,
    report, tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

use crate::h2_hostile::{
    self as hostile, DATA, END_HEADERS, END_STREAM, HEADERS, Raw, SETTINGS, WINDOW_UPDATE, frame, get, has_status,
    settings,
};

/// More than what a stream may send at once; several are more than what a connection may.
const LARGE: usize = 600_000;

#[test]
fn bodies_pass_whole_however_the_windows_are() {
    if !report::may_run("h2_flow") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let token = tokens::good("ada", &["editor"]);

    // Both ways through windows that have to be opened again and again.
    let caller = client.caller().unwrap();
    for seed in 0..6_u8 {
        let body: Vec<_> = (0..LARGE).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect();
        let mut request = post("/echo", "application/octet-stream");
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = caller.call(request, &body, None).unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.body.len()), (200, LARGE), "{seed}");
        assert!(answer.body == body, "{seed}: other bytes came back");
    }

    // A client that takes ten bytes is sent ten bytes, and the rest once it takes that: by its settings, or by a window.
    let all = client.get("/health", "").unwrap().body.len();
    assert!(all > 10);
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/health", &[]));
    for more in [frame(WINDOW_UPDATE, 0, 1, &[0, 0, 4, 0]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 4, 0])] {
        let mut raw = Raw::open(&client, &[0, 4, 0, 0, 0, 10]).unwrap();
        raw.write(&request).unwrap();
        assert_eq!(raw.hear(TIMEOUT, |heard| heard.data >= 10).data, 10);
        assert_eq!(raw.hear(Duration::from_millis(300), |_| false).data, 0, "more than it takes");
        raw.write(&more).unwrap();
        assert_eq!(raw.hear(TIMEOUT, |heard| heard.data >= all - 10).data, all - 10);
    }

    // RFC 9110 10.1.1: whoever asks first is told to go on, and is served.
    let head = hostile::post(&[("expect", "100-continue"), ("content-length", "5")], &token);
    let mut raw = Raw::open(&client, &[]).unwrap();
    raw.write(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty());
    assert_eq!(heard.heads, [(1, b"\x08\x03100".to_vec())]);
    raw.write(&frame(DATA, END_STREAM, 1, b"hello")).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| heard.data >= 5);
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "200")), "{heard:?}");
    assert_eq!(heard.data, 5);

    // Whoever is answered early, and sends on, gets the answer and no reset, and the others are served.
    let head = hostile::post(&[("content-length", "100000")], "no token");
    let mut raw = Raw::open(&client, &[]).unwrap();
    raw.write(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty() && heard.data > 0);
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "401")), "{heard:?}");
    (0..6).for_each(|_| raw.write(&frame(DATA, 0, 1, &[0; 16_000])).unwrap());
    raw.write(&frame(DATA, END_STREAM, 1, &[0; 4_000])).unwrap();
    raw.write(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/health", &[]))).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty());
    assert!(heard.heads.first().is_some_and(|(_, block)| has_status(block, "200")), "{heard:?}");
    assert_eq!((&heard.resets[..], heard.goaway), (&[][..], None));
    // Whoever never ends is told to stop, once.
    raw.write(&frame(HEADERS, END_HEADERS, 5, &head)).unwrap();
    let heard = raw.hear(TIMEOUT, |heard| !heard.resets.is_empty());
    assert_eq!((heard.heads.len(), &heard.resets[..]), (1, &[(5, 0)][..]));

    // A body in small pieces, with padding, and fields in pieces: one request all the same.
    upstream.forget();
    let block = hostile::post(&[], &token);
    let (first, rest) = block.split_at(20);
    let pieces: Vec<_> = (0..200).flat_map(|_| frame(DATA, 8, 1, &[2, b'a', b'b', 0, 0])).collect();
    let head = [frame(HEADERS, 0, 1, first), frame(9, 0, 1, &[]), frame(9, END_HEADERS, 1, rest)].concat();
    let mut raw = Raw::open(&client, &[]).unwrap();
    raw.write(&[head, pieces, frame(DATA, END_STREAM, 1, &[])].concat()).unwrap();
    assert_eq!(raw.hear(TIMEOUT, |heard| heard.data >= 400).data, 400);
    assert_eq!(upstream.received().len(), 1);
}
