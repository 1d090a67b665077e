//! What preflights and answers are told.

use http::Request;

use super::*;
use crate::settings::cors::Origins;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn these(names: &[&'static str]) -> HeaderNames {
    HeaderNames::These(names.iter().map(|name| HeaderName::from_static(name)).collect())
}

fn group(origins: &[&str], credentials: bool) -> CorsPolicy {
    CorsPolicy::new(&Cors {
        name: "x".to_owned(),
        origins: Origins::new(strings(origins)),
        methods: Vec::new(),
        headers: these(&["x-a"]),
        expose: these(&["x-b", "x-c"]),
        credentials,
        max_age: std::time::Duration::from_secs(60),
        refuse_others: true,
    })
}

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    headers.iter().map(pair).collect()
}

/// What becomes of an upstream's headers.
#[track_caller]
fn check(
    group: &CorsPolicy,
    origin: Option<&'static str>,
    theirs: &[(&'static str, &'static str)],
    expect: &[(&'static str, &'static str)],
) {
    let mut headers = HeaderMap::new();
    for &(name, value) in theirs {
        headers.append(name, HeaderValue::from_static(value));
    }
    group.tell(origin.map(HeaderValue::from_static).as_ref(), true, &mut headers);
    let mut expected = HeaderMap::new();
    for &(name, value) in expect {
        expected.append(name, HeaderValue::from_static(value));
    }
    assert_eq!(headers, expected, "{origin:?} {theirs:?}");
}

#[test]
fn what_answers_are_told() {
    const PAGE: Option<&str> = Some("https://a.example");
    const ALLOWED: (&str, &str) = ("access-control-allow-origin", "https://a.example");
    const EXPOSED: (&str, &str) = ("access-control-expose-headers", "x-b, x-c");
    const VARIES: (&str, &str) = ("vary", "Origin");
    let one = group(&["https://a.example"], false);
    check(&one, PAGE, &[], &[VARIES, ALLOWED, EXPOSED]);
    check(&one, None, &[], &[VARIES]);
    for foreign in ["https://b.example", "null", "", "*", "http://a.example"] {
        check(&one, Some(foreign), &[], &[VARIES]);
    }
    // The upstream's own word does not count, whatever it says.
    let theirs = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "*"),
        ("access-control-max-age", "9"),
        ("x-own", "1"),
    ];
    check(&one, PAGE, &theirs, &[("x-own", "1"), VARIES, ALLOWED, EXPOSED]);
    check(&one, Some("https://evil.example"), &theirs, &[("x-own", "1"), VARIES]);
    for (theirs, expect) in [
        (&["Accept-Encoding"][..], &["Accept-Encoding, Origin"][..]),
        (&["accept, origin"], &["accept, origin"]),
        (&["ORIGIN"], &["ORIGIN"]),
        (&["*"], &["*"]),
        (&["accept", "accept-encoding"], &["accept", "accept-encoding", "Origin"]),
        (&["accept", "origin"], &["accept", "origin"]),
        (&["x-original"], &["x-original, Origin"]),
        (&[""], &["", "Origin"]),
    ] {
        let lines = |values: &[&'static str]| values.iter().map(|value| ("vary", *value)).collect::<Vec<_>>();
        check(&one, None, &lines(theirs), &lines(expect));
    }
    let credentials = group(&["https://*.example"], true);
    check(&credentials, PAGE, &[], &[VARIES, ALLOWED, EXPOSED, ("access-control-allow-credentials", "true")]);
    let any = group(&["*"], false);
    check(&any, PAGE, &[], &[("access-control-allow-origin", "*"), EXPOSED]);
    check(&any, Some("null"), &[], &[("access-control-allow-origin", "*"), EXPOSED]);
    check(&any, None, &[], &[]);
}

#[test]
fn what_preflights_ask_for() {
    for (line, expect) in [
        (&[("access-control-request-method", "PUT")][..], Some("PUT")),
        (&[("access-control-request-method", "put")], Some("put")),
        (&[("access-control-request-method", "TRACE")], None),
        (&[("access-control-request-method", "CONNECT")], None),
        (&[("access-control-request-method", "a b")], None),
        (&[("access-control-request-method", "")], None),
        (&[], None),
    ] {
        assert_eq!(asked_method(&map(line)).as_ref().map(Method::as_str), expect);
    }
    let mut twice = map(&[("access-control-request-method", "PUT")]);
    twice.append("access-control-request-method", HeaderValue::from_static("PUT"));
    assert_eq!(asked_method(&twice), None);
    let names = map(&[("access-control-request-headers", "x-a,X-B , ,a b")]);
    assert_eq!(asked_names(&names), ["x-a", "X-B"]);
    let long = "x,".repeat(8_000);
    let headers =
        HeaderMap::from_iter([(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::try_from(long).unwrap())]);
    assert_eq!(asked_names(&headers).len(), MOST_NAMES);
}

#[test]
fn whose_pages_are_refused() {
    let one = group(&["https://a.example"], false);
    let request = Request::builder().uri("/").header("host", "api.example:8443").body(()).unwrap();
    let target = Target::read(&request.into_parts().0, ([127, 0, 0, 1], 443).into(), 8_192).unwrap();
    for (origin, expect) in [
        ("https://a.example", false),
        ("https://api.example:8443", false),
        ("https://API.example:8443", false),
        ("https://api.example", true),
        ("https://b.example", true),
        ("null", true),
    ] {
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        assert_eq!(one.refuses(&headers, &target), expect, "{origin}");
    }
    assert!(!one.refuses(&HeaderMap::new(), &target), "no page asks");
}
