//! Golden lines of every format, and lines that clients try to forge.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;

use super::*;
use crate::{
    log::line::{Noted, Timings, pick},
    settings::access_log::{Field, LineFormat, Statuses, TemplatePart},
};

fn line<'a>() -> LogLine<'a> {
    LogLine {
        unix_millis: 1_764_000_000_123,
        id: RequestId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        client: "203.0.113.7:40000".parse().unwrap(),
        source: "203.0.113.7".parse().unwrap(),
        relay: None,
        listener: "0.0.0.0:443".parse().unwrap(),
        scheme: "https",
        protocol: Some("HTTP/1.1"),
        tls: None,
        ja4: None,
        host: None,
        method: Some("GET"),
        path: None,
        query: None,
        request_id: None,
        status: 200,
        reject: None,
        limit: None,
        detail: None,
        would_deny: None,
        signal: None,
        rule: None,
        principal: None,
        route: None,
        upstream: None,
        server: None,
        retries: None,
        grpc_status: None,
        bytes_in: 0,
        bytes_out: u64::MAX,
        duration_us: 15,
        noted: None,
    }
}

/// A line that has everything.
fn full<'a>(noted: &'a Noted) -> LogLine<'a> {
    LogLine {
        client: "[2001:db8::7]:40000".parse().unwrap(),
        source: "2001:db8::/64".parse().unwrap(),
        relay: Some("192.0.2.1".parse().unwrap()),
        listener: "[::]:443".parse().unwrap(),
        protocol: Some("HTTP/2.0"),
        tls: Some("TLSv1.3"),
        ja4: Some("t13d1516h2_8daaf6152771_b186095e22b6"),
        host: Some("api.example.com"),
        path: Some("/items/7"),
        query: Some("token=abc&page=2"),
        request_id: Some("theirs-1"),
        status: 403,
        reject: Some("forbidden"),
        detail: Some("no permission"),
        would_deny: None,
        signal: Some("forbidden"),
        rule: Some("guessing"),
        principal: Some("alice"),
        route: Some("/items/{id}"),
        upstream: Some("items"),
        server: Some("10.0.0.1:9000"),
        retries: Some(1),
        grpc_status: Some(7),
        bytes_in: 5,
        bytes_out: 120,
        noted: Some(noted),
        ..line()
    }
}

fn noted(log: &AccessLog) -> Noted {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("curl/8.0 \"x\""));
    headers.insert("referer", HeaderValue::from_static("https://a.example/?code=abc"));
    headers.insert("x-version", HeaderValue::from_static("3"));
    Noted {
        request: pick(&log.request_headers, &headers),
        response: pick(&log.response_headers, &headers),
        trace_id: Some(*b"0af7651916cd43dd8448eb211c80319c"),
        timings: Some(Timings {
            tls: Some(1_000_999),
            auth: Some(2_000),
            queue: None,
            connect: Some(3_000_000),
            first_byte: Some(4_000_000),
        }),
    }
}

fn log(format: LineFormat) -> AccessLog {
    AccessLog::new(&access_log::Settings { format, ..access_log::Settings::default() }).unwrap()
}

fn written(log: &AccessLog, line: &LogLine<'_>) -> String {
    let mut out = Vec::new();
    log.write(line, &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(log: &AccessLog, line: &LogLine<'_>, expect: &str) {
    assert_eq!(written(log, line), format!("{expect}\n"));
}

#[test]
fn json_lines() {
    let log = AccessLog::new(&access_log::Settings::default()).unwrap();
    assert!(!log.notes() && !log.is_timed);
    check(
        &log,
        &line(),
        "{\"time\":\"2025-11-24T16:00:00.123Z\",\"id\":\"0123456789abcdef0011223344556677\",\
         \"client\":\"203.0.113.7\",\"client_port\":40000,\"listener\":\"0.0.0.0:443\",\"protocol\":\"HTTP/1.1\",\
         \"method\":\"GET\",\"status\":200,\"bytes_in\":0,\"bytes_out\":18446744073709551615,\"duration_us\":15}",
    );
    let all = Field::ALL.map(|(_, field, _)| field).to_vec();
    let x_version = HeaderName::from_static("x-version");
    let log = AccessLog::new(&access_log::Settings {
        format: LineFormat::Json(all),
        request_headers: vec![http::header::USER_AGENT],
        response_headers: vec![x_version],
        ..access_log::Settings::default()
    })
    .unwrap();
    assert!(log.notes() && log.is_timed && log.has_trace_id);
    check(
        &log,
        &full(&noted(&log)),
        "{\"time\":\"2025-11-24T16:00:00.123Z\",\"time_clf\":\"24/Nov/2025:16:00:00 +0000\",\
         \"id\":\"0123456789abcdef0011223344556677\",\"client\":\"2001:db8::7\",\"client_port\":40000,\
         \"source\":\"2001:db8::/64\",\"relay\":\"192.0.2.1\",\"listener\":\"[::]:443\",\"scheme\":\"https\",\
         \"protocol\":\"HTTP/2.0\",\"tls\":\"TLSv1.3\",\"ja4\":\"t13d1516h2_8daaf6152771_b186095e22b6\",\
         \"host\":\"api.example.com\",\"method\":\"GET\",\"path\":\"/items/7\",\"query\":\"token=REDACTED&page=2\",\
         \"uri\":\"/items/7?token=REDACTED&page=2\",\"request_id\":\"theirs-1\",\
         \"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"status\":403,\"verdict\":\"refused\",\
         \"reject\":\"forbidden\",\"detail\":\"no permission\",\"signal\":\"forbidden\",\"rule\":\"guessing\",\
         \"principal\":\"alice\",\"route\":\"/items/{id}\",\"upstream\":\"items\",\"server\":\"10.0.0.1:9000\",\
         \"retries\":1,\"grpc_status\":7,\"bytes_in\":5,\"bytes_out\":120,\"tls_us\":1000,\"auth_us\":2,\
         \"connect_us\":3000,\"first_byte_us\":4000,\"duration_us\":15,\
         \"request.user-agent\":\"curl/8.0 \\\"x\\\"\",\"response.x-version\":\"3\"}",
    );
}

/// The line that is written by hand says what the list of its fields says, for whatever there is to say.
#[test]
fn the_standard_line_is_that_of_its_fields() {
    let standard = AccessLog::new(&access_log::Settings::default()).unwrap();
    // One field more, at the end, takes the other way.
    let fields = Field::DEFAULT.iter().copied().chain([Field::QueueUs]).collect();
    let by_fields = log(LineFormat::Json(fields));
    let (noted, jwt) = (Noted::default(), "/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl/x");
    let lines = [
        line(),
        full(&noted),
        LogLine { path: Some(jwt), ..full(&noted) },
        LogLine { relay: None, grpc_status: None, server: None, ..full(&noted) },
        LogLine { principal: Some("a\"\nb"), path: Some("\u{1b}"), rule: Some("\\"), ..full(&noted) },
    ];
    for line in lines {
        assert_eq!(written(&standard, &line), written(&by_fields, &line));
    }
    assert!(!written(&standard, &lines[2]).contains("eyJ"));
}

#[test]
fn ecs_lines() {
    let log = log(LineFormat::Ecs);
    assert!(!log.is_timed, "no clock is read for it");
    check(
        &log,
        &full(&noted(&log)),
        "{\"ecs.version\":\"8.17.0\",\"event.kind\":\"event\",\"event.category\":[\"web\"],\
         \"event.type\":[\"access\"],\"event.dataset\":\"gateway.access\",\"@timestamp\":\"2025-11-24T16:00:00.123Z\",\
         \"event.duration\":15000,\"event.outcome\":\"failure\",\"event.reason\":\"no permission\",\
         \"source.ip\":\"2001:db8::7\",\"source.port\":40000,\"http.request.id\":\"0123456789abcdef0011223344556677\",\
         \"http.request.method\":\"GET\",\"http.request.body.bytes\":5,\
         \"http.request.referrer\":\"https://a.example/?code=REDACTED\",\"http.version\":\"2\",\
         \"http.response.status_code\":403,\"http.response.body.bytes\":120,\"url.scheme\":\"https\",\
         \"url.domain\":\"api.example.com\",\"url.path\":\"/items/7\",\"url.query\":\"token=REDACTED&page=2\",\
         \"user_agent.original\":\"curl/8.0 \\\"x\\\"\",\"user.name\":\"alice\",\"tls.version\":\"1.3\",\
         \"tls.version_protocol\":\"tls\",\"trace.id\":\"0af7651916cd43dd8448eb211c80319c\",\"rule.name\":\"guessing\",\
         \"gateway.verdict\":\"refused\",\"gateway.reject\":\"forbidden\",\"gateway.signal\":\"forbidden\",\
         \"gateway.route\":\"/items/{id}\",\"gateway.upstream\":\"items\",\"gateway.server\":\"10.0.0.1:9000\",\
         \"gateway.retries\":1,\"gateway.grpc_status\":7,\"gateway.listener\":\"[::]:443\",\
         \"gateway.relay\":\"192.0.2.1\",\"gateway.request_id\":\"theirs-1\",\
         \"gateway.ja4\":\"t13d1516h2_8daaf6152771_b186095e22b6\"}",
    );
}

/// As Apache's documentation has it: `"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\""`.
const COMBINED: &str = r#"^[0-9a-f.:]+ - (-|[^ "\\]|\\.)+ \[\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4}\] "(-|([^"\\]|\\.)*)" \d{3} (-|[1-9]\d*) "([^"\\]|\\.)*" "([^"\\]|\\.)*"\n$"#;

#[test]
fn combined_lines() {
    let log = log(LineFormat::Combined);
    check(
        &log,
        &full(&noted(&log)),
        "2001:db8::7 - alice [24/Nov/2025:16:00:00 +0000] \"GET /items/7?token=REDACTED&page=2 HTTP/2.0\" 403 120 \
         \"https://a.example/?code=REDACTED\" \"curl/8.0 \\\"x\\\"\"",
    );
    let nothing = LogLine { method: None, protocol: None, status: 0, bytes_out: 0, ..line() };
    check(&log, &nothing, "203.0.113.7 - - [24/Nov/2025:16:00:00 +0000] \"-\" 000 - \"-\" \"-\"");
}

#[test]
fn templates() {
    let text = |text: &str| TemplatePart::Text(text.to_owned());
    let log = log(LineFormat::Template(vec![
        TemplatePart::Field(Field::Client),
        text("\t"),
        TemplatePart::Field(Field::Principal),
        text(" \""),
        TemplatePart::Field(Field::Detail),
        text("\" "),
        TemplatePart::RequestHeader(http::header::USER_AGENT),
        text(" "),
        TemplatePart::ResponseHeader(HeaderName::from_static("x-missing")),
        text(" "),
        TemplatePart::Field(Field::QueueUs),
        text(" $"),
    ]));
    assert!(log.is_timed);
    let noted = noted(&log);
    let line = LogLine { principal: Some("a b\""), ..full(&noted) };
    check(&log, &line, "2001:db8::7\ta\\x20b\\\" \"no permission\" curl/8.0\\x20\\\"x\\\" - - $");
}

const HOSTILE: [&str; 14] = [
    "plain",
    "quote\" back\\slash",
    "line\r\nbreak\ttab",
    "\u{1b}[31mred\u{9b}31m",
    "nul\0del\u{7f}",
    "separators\u{2028}\u{2029}",
    "caf\u{e9} \u{20ac} \u{1f600}",
    "\",\"status\":200,\"x\":\"",
    "\\",
    "\\\"",
    "x\n203.0.113.9 - admin [24/Nov/2025:16:00:00 +0000] \"GET /admin HTTP/1.1\" 200 5 \"-\" \"-\"",
    "${status} %s {} $",
    "\u{feff}\u{202e}reversed",
    "a b  c",
];

#[test]
fn t08_hostile_text_stays_in_its_string() {
    let all = LineFormat::Json(Field::ALL.map(|(_, field, _)| field).to_vec());
    for (format, path, principal) in [(all, "path", "principal"), (LineFormat::Ecs, "url.path", "user.name")] {
        let log = log(format);
        for text in HOSTILE {
            let mut headers = HeaderMap::new();
            let raw = HeaderValue::from_bytes(text.replace(['\r', '\n', '\0', '\u{7f}', '\u{1b}'], "").as_bytes());
            headers.insert("user-agent", raw.unwrap());
            let noted = Noted { request: pick(&log.request_headers, &headers), ..noted(&log) };
            let some = Some(text);
            let line = LogLine {
                path: some,
                principal: some,
                method: some,
                host: some,
                detail: some,
                query: some,
                request_id: some,
                ..full(&noted)
            };
            let out = written(&log, &line);
            let (rest, last) = out.split_at(out.len() - 1);
            assert_eq!(last, "\n");
            assert!(!rest.chars().any(|letter| letter.is_control() || letter == '\u{2028}'), "{text:?}");
            let read: serde_json::Value = serde_json::from_str(rest).unwrap();
            assert_eq!((&read[path], &read[principal]), (&text.into(), &text.into()));
            let status = if read["status"].is_null() { &read["http.response.status_code"] } else { &read["status"] };
            assert_eq!(*status, 403);
        }
    }
}

#[test]
fn t08_hostile_text_forges_no_line_of_text() {
    let combined = log(LineFormat::Combined);
    let field = |field| TemplatePart::Field(field);
    let space = || TemplatePart::Text(" ".to_owned());
    let template = log(LineFormat::Template(vec![
        field(Field::Path),
        space(),
        field(Field::Principal),
        space(),
        field(Field::Detail),
        space(),
        field(Field::Status),
    ]));
    let form = Regex::new(COMBINED).unwrap();
    let invalid = HeaderValue::from_bytes(b"\xff\xfe\"\\ \x80").unwrap();
    for text in HOSTILE {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", invalid.clone());
        headers.insert("referer", invalid.clone());
        let noted = Noted { request: pick(&combined.request_headers, &headers), ..Noted::default() };
        let some = Some(text);
        let line = LogLine { path: some, principal: some, method: some, detail: some, query: some, ..full(&noted) };
        for (log, is_combined) in [(&combined, true), (&template, false)] {
            let out = written(log, &line);
            assert!(out.is_ascii() && out.ends_with('\n'), "{out:?}");
            assert!(!out.trim_end_matches('\n').contains(|letter: char| letter.is_control()), "{out:?}");
            if is_combined {
                assert!(form.is_match(&out), "{out:?}");
            } else {
                assert_eq!(out.split(' ').count(), 4, "{out:?}");
            }
        }
    }
}

#[test]
fn principals_are_hashed_by_one_key() {
    let mut settings = access_log::Settings { principal: Principal::Hashed(None), ..access_log::Settings::default() };
    settings.format = LineFormat::Json(vec![Field::Principal]);
    let line = LogLine { principal: Some("alice"), ..line() };
    let (one, other) = (AccessLog::new(&settings).unwrap(), AccessLog::new(&settings).unwrap());
    assert_ne!(written(&one, &line), written(&other, &line), "each has a key of its own");
    let adopted = [one, other].map(|mut log| {
        log.adopt(b"0123456789abcdef");
        written(&log, &line)
    });
    assert_eq!(adopted[0], adopted[1]);
    assert!(!adopted[0].contains("alice"));
    // A key of a file stays.
    let bytes: std::sync::Arc<[u8]> = b"fedcba9876543210".as_slice().into();
    settings.principal = Principal::Hashed(Some(crate::os::file::NamedFile { path: "key".into(), bytes }));
    let mut own = AccessLog::new(&settings).unwrap();
    let before = written(&own, &line);
    own.adopt(b"0123456789abcdef");
    assert_eq!(written(&own, &line), before);
}

#[test]
fn conditions() {
    let statuses = |texts: &[&str]| texts.iter().map(|text| Statuses::parse(text).unwrap()).collect::<Vec<_>>();
    let slow = Some(std::time::Duration::from_millis(10));
    let all = LineFilter::default;
    let routes = || vec!["/a".to_owned()];
    for (keep, status, duration_us, route, expect) in [
        (all(), 200, 5, None, true),
        (LineFilter { only_refused: true, ..all() }, 200, 5, None, false),
        (LineFilter { statuses: statuses(&["5xx", "404"]), ..all() }, 503, 5, None, true),
        (LineFilter { statuses: statuses(&["5xx", "404"]), ..all() }, 404, 5, None, true),
        (LineFilter { statuses: statuses(&["5xx", "404"]), ..all() }, 403, 5, None, false),
        (LineFilter { slower_than: slow, ..all() }, 200, 10_000, None, false),
        (LineFilter { slower_than: slow, ..all() }, 200, 10_001, None, true),
        (LineFilter { slower_than: slow, statuses: statuses(&["5xx"]), ..all() }, 500, 1, None, true),
        (LineFilter { slower_than: slow, statuses: statuses(&["5xx"]), ..all() }, 200, 10_001, None, true),
        (LineFilter { slower_than: slow, statuses: statuses(&["5xx"]), ..all() }, 200, 1, None, false),
        (LineFilter { routes: routes(), ..all() }, 200, 1, Some("/a"), true),
        (LineFilter { routes: routes(), ..all() }, 200, 1, Some("/b"), false),
        (LineFilter { routes: routes(), ..all() }, 200, 1, None, false),
        (LineFilter { routes: routes(), statuses: statuses(&["5xx"]), ..all() }, 500, 1, Some("/b"), false),
        (LineFilter { sample: Some(0), ..all() }, 200, 1, None, false),
        (LineFilter { sample: Some(0), ..all() }, 404, 1, None, true),
        (LineFilter { sample: Some(0), ..all() }, 500, 1, None, true),
        (LineFilter { sample: Some(0), slower_than: slow, ..all() }, 200, 10_001, None, true),
    ] {
        let served = ServedRequest { id: RequestId(7), status, duration_us, route, is_reported: false };
        assert_eq!(keeps(&keep, &served), expect, "{keep:?} {served:?}");
        // What would have been refused always has a line.
        let reported = ServedRequest { is_reported: true, ..served };
        assert!(keeps(&keep, &reported), "{keep:?} {reported:?}");
    }
}

#[test]
fn samples_are_the_same_for_the_same_id_and_have_their_share() {
    let base = 0x1234_5678_9abc_def0_u128 << 64;
    let sampled: HashSet<u128> = (0..100_000).filter(|number| is_sampled(RequestId(base + number), 10_000)).collect();
    assert!((800..1_200).contains(&sampled.len()), "{}", sampled.len());
    assert!(sampled.iter().all(|number| is_sampled(RequestId(base + number), 10_000)));
    assert!(sampled.iter().all(|number| is_sampled(RequestId(base + number), 500_000)), "a larger share has them too");
}
