//! Frames that cost the server more than the client: the connection ends, and nobody else notices (H01 to H06).

use std::time::{Duration, Instant};

use support::{
    daemon::Daemon,
    http1::{Client, TIMEOUT},
    report, tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

use crate::h2_hostile::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, frame, get, has_status, post, settings,
};

/// How many pieces of a flood are sent, unless the connection ends before.
const PIECES: u32 = 20_000;
/// How many requests of a flood may reach the upstream.
const FORWARDED: usize = 2_000;

/// Runs a test against a gateway of its own; afterwards it still serves and nothing panicked.
fn flooded(name: &str, test: impl FnOnce(&Client<'_>, &Upstream)) {
    if !report::may_run(name) {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    test(&client, &upstream);
    assert_eq!(client.get("/health", "").unwrap().status, 200, "{name}");
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

/// Sends `before` and then one `piece` after the other; the connection has to end before the last.
#[track_caller]
fn ends(client: &Client<'_>, upstream: &Upstream, name: &str, before: &[u8], piece: impl Fn(u32) -> Vec<u8>) {
    upstream.forget();
    let mut raw = Raw::open(client, &[]).unwrap();
    let mut sent = raw.write(before);
    for number in 0..PIECES {
        if sent.is_err() {
            break;
        }
        sent = raw.write(&piece(number));
    }
    let heard = raw.hear(TIMEOUT, |_| false);
    assert!(heard.ended, "{name}: the connection goes on: {} resets, {:?}", heard.resets.len(), heard.goaway);
    let forwarded = upstream.received().len();
    assert!(forwarded <= FORWARDED, "{name}: {forwarded} requests reached the upstream");
    assert_eq!(client.get("/health", "").unwrap().status, 200, "{name}: nobody else is served");
}

fn slow(number: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get("/slow?3000", &[]))
}

fn reset(number: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes())
}

#[test]
fn h01_h02_requests_that_are_reset() {
    flooded("h2_floods: resets", |client, upstream| {
        ends(client, upstream, "H01", b"", |number| [slow(number), reset(number)].concat());
        // The server resets it, because the window must not grow by nothing.
        let provoke = |number: u32| frame(WINDOW_UPDATE, 0, 2 * number + 1, &[0; 4]);
        ends(client, upstream, "H02", b"", |number| [slow(number), provoke(number)].concat());
    });
}

/// All are on their way to the upstream before they are reset.
#[test]
fn h01_requests_that_are_reset_after_they_were_forwarded() {
    flooded("h2_floods: late resets", |client, upstream| {
        let mut raw = Raw::open(client, &[]).unwrap();
        let mut asked: u32 = 0;
        let started = Instant::now();
        // A thousand at once and a hundred a second are let through, however slow this machine is; and the last batch.
        let allowed = || 1_300 + 100 * u32::try_from(started.elapsed().as_secs()).unwrap();
        while asked < allowed() {
            let numbers = asked..asked + 100;
            if raw.write(&numbers.clone().flat_map(slow).collect::<Vec<_>>()).is_err() {
                break;
            }
            asked += 100;
            let arrived = || upstream.received().len() >= asked as usize;
            while !arrived() && !raw.hear(Duration::from_millis(10), |_| arrived()).ended {}
            if !arrived() || raw.write(&numbers.flat_map(reset).collect::<Vec<_>>()).is_err() {
                break;
            }
        }
        assert!(asked < allowed(), "{asked} requests reached the upstream");
    });
}

#[test]
fn h03_heads_without_an_end() {
    flooded("h2_floods: CONTINUATION", |client, upstream| {
        let begun = frame(HEADERS, END_STREAM, 1, &get("/health", &[("cookie", "a"), ("x", "")]));
        let more = fields(&[("x", &"y".repeat(1_000))]);
        ends(client, upstream, "H03 with fields", &begun, |_| frame(CONTINUATION, 0, 1, &more));
        ends(client, upstream, "H03 empty", &begun, |_| frame(CONTINUATION, 0, 1, b""));
    });
}

/// Refused by the size of what the references stand for, not by what they take on the wire.
#[test]
fn h04_one_byte_references_to_a_field() {
    flooded("h2_floods: references", |client, upstream| {
        let bomb = |number: u32| {
            // One small field in the table, then thousands of one-byte references to it.
            let mut block = get("/health", &[]);
            block.extend_from_slice(&[0x40, 1, b'x', 1, b'y']);
            block.resize(block.len() + 12_000, 0x80 | 62);
            frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block)
        };
        let mut raw = Raw::open(client, &[]).unwrap();
        for number in 0..10 {
            drop(raw.write(&bomb(number)));
        }
        let heard = raw.hear(TIMEOUT, |heard| heard.heads.len() + heard.resets.len() >= 10);
        let refused = heard.heads.iter().all(|(_, block)| has_status(block, "431"));
        assert!(!heard.heads.is_empty() && refused, "{heard:?}");
        assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    });
}

#[test]
fn h05_data_without_content() {
    flooded("h2_floods: DATA", |client, upstream| {
        let begun = frame(HEADERS, END_HEADERS, 1, &post(&[], &tokens::good("ada", &["editor"])));
        ends(client, upstream, "H05 empty", &begun, |_| frame(DATA, 0, 1, b""));
        // The second comes for a stream that has ended, which resets it. The others come for one that was reset.
        ends(client, upstream, "H08 ends", &begun, |_| frame(DATA, END_STREAM, 1, b""));
        ends(client, upstream, "H05 padding", &begun, |_| frame(DATA, PADDED, 1, &[3, 0, 0, 0]));
    });
}

#[test]
fn h06_frames_about_the_connection() {
    flooded("h2_floods: control frames", |client, upstream| {
        for (name, piece) in [
            ("H06 PING", frame(PING, 0, 0, &[0; 8])),
            ("H06 SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
            ("H06 PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            ("H06 PRIORITY_UPDATE", frame(16, 0, 0, &[0, 0, 0, 1, b'u'])),
            ("H06 unknown kinds", frame(0xbe, 0, 0, b"?")),
            ("H06 WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ] {
            ends(client, upstream, name, b"", |_| piece.clone());
        }
    });
}

/// Clients of gRPC send a PING for each piece of a response, to measure their line, and open windows for it.
#[test]
fn h06_frames_that_responses_give_reason_for() {
    flooded("h2_floods: replies", |client, _upstream| {
        let mut raw = Raw::open(client, &[]).unwrap();
        let reply = [frame(PING, 0, 0, &[0; 8]), frame(WINDOW_UPDATE, 0, 0, &1_000_u32.to_be_bytes())].concat();
        for number in 0..2_000 {
            let request = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get("/health", &[]));
            raw.write(&request).unwrap();
            let heard = raw.hear(TIMEOUT, |heard| !heard.heads.is_empty() || heard.goaway.is_some());
            assert!(heard.goaway.is_none() && !heard.heads.is_empty(), "after {number} responses: {heard:?}");
            raw.write(&reply).unwrap();
        }
    });
}
