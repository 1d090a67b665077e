//! gRPC through the gateway: calls of every kind, their status, and what becomes of those that are refused (G01 to G03).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use support::{
    daemon::Daemon,
    http1::Client,
    http2_call::{self, Answer, Caller},
    report,
    settings::{Settings, route},
    tokens,
    upstream_http2::{Http2Upstream, Kind},
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// The largest body, and so the largest message, in bytes.
const MOST: usize = 64 << 10;

fn settings() -> Settings {
    let served = Settings::default();
    let small = format!("max_body = \"{}KiB\"", MOST >> 10);
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: route("/pkg.Open/{method}", "[\"POST\"]", "[\"public\"]", &small)
            + &route("/pkg.Closed/{method}", "[\"POST\"]", "[\"items:write\"]", &small),
        proxy: "workers = 1".to_owned(),
        timeouts: "response = \"5s\"\nconnect = \"2s\"".to_owned(),
        upstream: "servers = [\"127.0.0.1:9001\"]\nprotocol = \"http2\"".to_owned(),
        ..served
    }
}

fn call(method: &str) -> Request<()> {
    let mut request = http2_call::post(method, "application/grpc+proto");
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}

fn with(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

/// A message, compressed or not, which says that it is so long.
fn message(flag: u8, length: u32, content: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), content].concat()
}

fn hello() -> Vec<u8> {
    message(0, 5, b"hello")
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
}

/// A refusal in gRPC's own words.
#[track_caller]
fn refused(answer: &Answer, code: &str) {
    let header = |name: &str| answer.head.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let told = (answer.head.status.as_u16(), header("content-type"), header("grpc-status"));
    assert_eq!(told, (200, "application/grpc", code), "{answer:?}");
    assert!(!header("grpc-message").is_empty() && header("x-request-id").len() == 32, "{answer:?}");
    assert!(answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
}

#[test]
fn calls_of_every_kind_and_refusals() {
    if !report::may_run("grpc") {
        return;
    }
    let world = World::new();
    let upstream = Http2Upstream::start(&world.gate, "127.0.0.1:9001", &Kind::default());
    let daemon = Daemon::start(&world, &settings());
    let caller = Client::new(&world, GOOD_V4).caller().unwrap();

    // One message and its answer; the status comes behind it.
    let answer = caller.call(call("/pkg.Open/echo"), &hello(), Some(status("0"))).unwrap();
    assert_eq!((answer.head.status.as_u16(), &answer.body, answer.trailers), (200, &hello(), Some(status("0"))));
    let received = upstream.of("/pkg.Open/echo").pop().unwrap();
    assert_eq!((received.header("te"), received.header("content-type")), ("trailers", "application/grpc+proto"));
    // An error without a message: head and trailers are one.
    let failed = caller.call(call("/pkg.Open/fail"), &hello(), None).unwrap();
    let told = |name: &str| failed.head.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!((told("grpc-status"), told("grpc-message"), failed.body.len()), ("5", "no such thing", 0));

    // Both sides talk at once.
    let mut talk = caller.begin(call("/pkg.Open/echo"), false).unwrap();
    for word in ["one", "two", "six"] {
        let said = message(1, 3, word.as_bytes());
        talk.send(&said).unwrap();
        if word == "one" {
            assert_eq!(talk.head().unwrap().status, 200, "before the caller has ended");
        }
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            heard.extend_from_slice(&talk.piece().unwrap().unwrap());
        }
        assert_eq!(heard, said);
    }
    talk.end(Some(status("0"))).unwrap();
    assert_eq!((talk.piece().unwrap(), talk.trailers().unwrap()), (None::<Bytes>, Some(status("0"))));

    refusals(&daemon, &upstream, &caller);
    g02_messages(&upstream, &caller);
    g03_timeouts(&upstream, &caller);
    assert!(!daemon.standard_error().contains("panicked"), "{}", daemon.standard_error());
}

fn refusals(daemon: &Daemon<'_>, upstream: &Http2Upstream, caller: &Caller) {
    let before = upstream.received().len();
    let reader = format!("Bearer {}", tokens::good("ada", &["reader"]));
    for (request, code) in [
        (call("/pkg.Closed/echo"), "16"),
        (with(call("/pkg.Closed/echo"), "authorization", "Bearer x"), "16"),
        (with(call("/pkg.Closed/echo"), "authorization", &reader), "7"),
        (call("/pkg.Other/echo"), "12"),
    ] {
        let text = format!("{request:?}");
        let answer = caller.call(request, &hello(), None).unwrap();
        assert_eq!(answer.head.headers.get("grpc-status").unwrap(), code, "{text}");
        refused(&answer, code);
    }
    // What is no gRPC is answered in HTTP, and so is what breaks it (G01).
    for (request, status) in [
        (http2_call::post("/pkg.Closed/echo", "application/json"), 401),
        (http2_call::post("/pkg.Closed/echo", "application/grpc-web"), 401),
        (call("//pkg.Open/echo"), 400),
        (call("/pkg.Open//echo"), 400),
        (call("/pkg.Open%2fecho"), 400),
        (call("/pkg.Open/../pkg.Open/echo"), 400),
    ] {
        let text = format!("{request:?}");
        assert_eq!(caller.call(request, &hello(), None).unwrap().head.status, status, "{text}");
    }
    assert_eq!(upstream.received().len(), before, "nothing of these was passed on");
    // G01: what was judged is what arrives, however it was spelt.
    refused(&caller.call(call("/pkg.%43losed/echo"), &hello(), None).unwrap(), "16");
    caller.call(call("/pkg.Open/%65cho"), &hello(), None).unwrap();
    assert!(upstream.received().pop().unwrap().target.ends_with("/pkg.Open/echo"));
    // The log tells what it was, whatever it was told.
    let refusal = until("the refusal in the log", SOON, || {
        daemon
            .access_log()
            .into_iter()
            .find(|line| line["reject"] == "missing_token" && line["path"] == "/pkg.Closed/echo")
    });
    assert_eq!(refusal["status"], 401, "{refusal}");
}

fn g02_messages(upstream: &Http2Upstream, caller: &Caller) {
    for (body, code) in [
        (message(0, u32::MAX, b"x"), "8"),
        ([hello(), message(1, u32::try_from(MOST).unwrap() + 1, b"x")].concat(), "8"),
        (vec![message(0, 1_000, &[b'x'; 1_000]); 100].concat(), "8"),
    ] {
        let mut sent = caller.begin(call("/pkg.Open/sink"), false).unwrap();
        // It may be refused before all of it has left.
        drop(sent.send(&body));
        refused(&sent.answer().unwrap(), code);
        until("the end of what had arrived", SOON, || upstream.of("/pkg.Open/sink").pop()?.reset);
    }
    for body in [message(2, 1, b"x"), message(0, 5, b"hell")] {
        let answer = caller.call(call("/pkg.Open/none"), &body, None).unwrap();
        assert_eq!(answer.head.status, 400, "{body:?}");
    }
    let most = message(0, u32::try_from(MOST - 5).unwrap(), &vec![b'x'; MOST - 5]);
    let mut largest = caller.begin(call("/pkg.Open/echo"), false).unwrap();
    largest.send(&most).unwrap();
    largest.end(None).unwrap();
    assert_eq!(largest.answer().unwrap().body, most);
}

fn g03_timeouts(upstream: &Http2Upstream, caller: &Caller) {
    let asked = |value: &str| with(call("/pkg.Open/hold"), "grpc-timeout", value);
    // Sooner than `timeouts.response`, and never later.
    refused(&caller.call(asked("100m"), &hello(), None).unwrap(), "4");
    refused(&caller.call(asked("99999999H"), &hello(), None).unwrap(), "4");
    let before = upstream.received().len();
    for value in ["", "S", "1", "123456789S", "-1S", "1.5S", "1s", "1 S"] {
        let answer = caller.call(asked(value), &hello(), None).unwrap();
        assert_eq!(answer.head.status, 400, "{value:?}");
    }
    let twice = with(asked("1S"), "grpc-timeout", "2S");
    assert_eq!(caller.call(twice, &hello(), None).unwrap().head.status, 400);
    assert_eq!(upstream.received().len(), before);
}
