//! What of GraphQL is over a limit.

use super::*;

const LIMITS: GraphqlLimits =
    GraphqlLimits { max_depth: 4, max_aliases: 2, max_cost: 100, max_batch: 2, introspection: false };

#[track_caller]
fn check(query: &str, expect: Option<Reject>) {
    let json = HeaderValue::from_static("application/json");
    let body =
        serde_json::json!({ "query": query, "variables": { "n": 50, "o": {"all": [{"take": 200}]} } }).to_string();
    let refused = judge(&LIMITS, None, Some(&json), body.as_bytes()).err();
    assert_eq!(refused.as_ref().map(|refusal| refusal.reject), expect, "{query}: {refused:?}");
    let target: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("query", query)
        .append_pair("variables", "{\"n\":50,\"o\":{\"all\":[{\"take\":200}]}}")
        .finish();
    let refused = judge(&LIMITS, Some(&target), None, b"").err();
    assert_eq!(refused.as_ref().map(|refusal| refusal.reject), expect, "{query} in the target: {refused:?}");
}

#[test]
fn queries_are_measured() {
    use Reject::{BadRequest, BodyTooComplex, Forbidden};
    for (query, expect) in [
        ("{ a { b { c { d } } } }", None),
        ("{ a { b { c { d { e } } } } }", Some(BodyTooComplex)),
        ("query Q($n: Int = 3, $l: [Int!]!) @d(a: 1) { x: a(first: 2, s: \"}\", o: {k: [1, $n]}) { b } }", None),
        ("{ x: a y: b }", None),
        ("{ x: a y: b z: c }", Some(BodyTooComplex)),
        ("{ a(first: 99) { b } }", None),
        ("{ a(first: 10) { b(first: 10) { c } } }", Some(BodyTooComplex)),
        ("query($n: Int) { a(first: $n) { b c } }", Some(BodyTooComplex)),
        ("query($m: Int = 60) { a(limit: $m) { b c } }", Some(BodyTooComplex)),
        ("{ a(first: 99999999999999999999) { b } }", Some(BodyTooComplex)),
        ("{ a(first: 1e6) { b } }", Some(BodyTooComplex)),
        ("{ a(first: 1000000.5) { b } }", Some(BodyTooComplex)),
        ("{ a(first: -1) { b } }", None),
        ("{ a(first: 1000, last: 1) { b } }", Some(BodyTooComplex)),
        ("{ a(first: \"1000\") { b } }", Some(BadRequest)),
        ("{ a(first: \"\"\" 1000\"\"\") { b } }", Some(BadRequest)),
        ("{ a(size: LARGE) { b } c(size: \"large\") { d } }", None),
        ("query($m: Int = \"60\") { a(limit: $m) { b } }", Some(BodyTooComplex)),
        ("{ a(page: {first: 99}) { b } }", None),
        ("{ a(page: {first: 100}) { b } }", Some(BodyTooComplex)),
        ("{ a(input: {pages: [{page: {last: 1e3}}]}) { b } }", Some(BodyTooComplex)),
        ("{ a(page: {first: \"100 \"}) { b } }", Some(BodyTooComplex)),
        ("{ a(shirt: {size: \"42\", limit: \"none\"}) { b } }", None),
        ("query($p: P = {first: 100}) { a(page: $p) { b } }", Some(BodyTooComplex)),
        ("query($p: P = {first: 99}) { a(page: $p) { b } }", None),
        ("query($n: Int) { a(page: {first: $n}) { b c } }", Some(BodyTooComplex)),
        ("query($o: P) { a(page: $o) { b } }", Some(BodyTooComplex)),
        ("query($o: P) { a(in: {pages: [$o]}) { b } }", Some(BodyTooComplex)),
        ("query($o: P) { x: a y: b(in: {page: $o}) }", None),
        ("{ a } { b }", Some(BadRequest)),
        ("query { a } query { b }", Some(BadRequest)),
        ("{ ...F } fragment F on Q { a { ... on B { ...G } } } fragment G on B { b { c } }", None),
        ("{ ...F } fragment F on Q { a { b { c { d { e } } } } }", Some(BodyTooComplex)),
        ("{ ...F } fragment F on Q { a { ...F } }", Some(BadRequest)),
        ("{ ...F }", Some(BadRequest)),
        ("{ __schema { types { name } } }", Some(Forbidden)),
        ("{ a { x: __type(name: \"A\") { name } } }", Some(Forbidden)),
        ("{ a { __typename } }", None),
        ("# { __schema }\n{ a(s: \"\"\"__schema \\\"\"\" }\"\"\") }", None),
        ("mutation { a } subscription S { b }", None),
        ("", Some(BadRequest)),
        ("{", Some(BadRequest)),
        ("{ }", Some(BadRequest)),
        ("{ a(b: \"x }", Some(BadRequest)),
        ("type A { b: C }", Some(BadRequest)),
        ("{ a ; b }", Some(BadRequest)),
    ] {
        check(query, expect);
    }
}

#[test]
fn batches_are_limited_and_persisted_queries_pass() {
    let json = HeaderValue::from_static("application/json");
    for (body, expect) in [
        ("[{\"query\":\"{a}\"},{\"query\":\"{b}\"}]", None),
        ("[{\"query\":\"{a}\"},{\"query\":\"{b}\"},{\"query\":\"{c}\"}]", Some(Reject::BodyTooComplex)),
        ("[{\"query\":\"{a}\"},{\"query\":\"{__schema{a}}\"}]", Some(Reject::Forbidden)),
        ("{\"extensions\":{\"persistedQuery\":{\"version\":1}}}", None),
        ("{\"query\":\"{a}\",\"query\":\"{__schema{a}}\"}", Some(Reject::BadRequest)),
        ("{\"query\":\"{a}\",\"Query\":\"{__schema{a}}\"}", Some(Reject::BadRequest)),
        ("{\"query\":\"{a}\",\"variable\u{17f}\":{}}", Some(Reject::BadRequest)),
        ("{\"query\":\"{a}\",\"variables\":null,\"operationName\":\"A\"}", None),
        ("{\"query\":7}", Some(Reject::BadRequest)),
        ("7", Some(Reject::BadRequest)),
        ("[7]", Some(Reject::BadRequest)),
        ("[]", Some(Reject::BadRequest)),
        ("[{}]", Some(Reject::BadRequest)),
        ("{}", Some(Reject::BadRequest)),
    ] {
        let refused = judge(&LIMITS, None, Some(&json), body.as_bytes()).err().map(|refusal| refusal.reject);
        assert_eq!(refused, expect, "{body}");
    }
    let plain = HeaderValue::from_static("application/graphql; charset=utf-8");
    assert!(judge(&LIMITS, None, Some(&plain), b"{a}").is_ok());
    let other = HeaderValue::from_static("text/plain");
    let refused = judge(&LIMITS, None, Some(&other), b"{a}").unwrap_err();
    assert_eq!(refused.reject, Reject::UnsupportedMediaType);
    assert!(judge(&LIMITS, Some("query={a}&query={b}"), None, b"").is_err());
}

#[test]
fn variables_are_counted_however_they_come() {
    use Reject::{BadRequest, BodyTooComplex};
    let json = HeaderValue::from_static("application/json");
    let text = "query Q($n: Int = 3) { a(first: $n) { b c } }";
    for (variables, expect) in [
        ("{\"n\":3}", None),
        ("null", None),
        ("{\"n\":null}", None),
        ("{\"n\":-1}", None),
        ("{\"n\":\"LARGE\"}", None),
        ("{\"n\":50,\"o\":{\"all\":[{\"take\":200}]}}", Some(BodyTooComplex)),
        ("{\"n\":1e6}", Some(BodyTooComplex)),
        ("{\"n\":1000000.0}", Some(BodyTooComplex)),
        ("{\"n\":1e300}", Some(BodyTooComplex)),
        ("{\"n\":\"50\"}", Some(BadRequest)),
        ("{\"n\":\" 50\"}", Some(BadRequest)),
        ("\"{\\\"n\\\":50}\"", Some(BadRequest)),
        ("[]", Some(BadRequest)),
    ] {
        let body = format!("{{\"query\":\"{text}\",\"variables\":{variables}}}");
        let refused = judge(&LIMITS, None, Some(&json), body.as_bytes()).err().map(|refusal| refusal.reject);
        assert_eq!(refused, expect, "{variables}");
        let target: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", text)
            .append_pair("variables", variables)
            .finish();
        let refused = judge(&LIMITS, Some(&target), None, b"").err().map(|refusal| refusal.reject);
        assert_eq!(refused, expect, "{variables} in the target");
    }
}

#[test]
fn a_target_beside_a_body_is_refused() {
    let json = HeaderValue::from_static("application/json");
    let plain = HeaderValue::from_static("application/graphql");
    let body = "{\"query\":\"{a}\"}";
    for (target, content_type, body, expect) in [
        ("page=1", &json, body, None),
        ("query={a}", &json, body, Some(Reject::BadRequest)),
        ("variables={}", &json, body, Some(Reject::BadRequest)),
        ("variables={}", &plain, "{a}", Some(Reject::BadRequest)),
        ("query={a}&variables={}&variables={}", &json, "", Some(Reject::BadRequest)),
        ("extensions={\"persistedQuery\":{\"version\":1}}", &json, "", None),
        ("extensions=x", &json, "", Some(Reject::BadRequest)),
        ("extensions={}&extensions={}", &json, "", Some(Reject::BadRequest)),
        ("extensions={}", &json, body, Some(Reject::BadRequest)),
        ("variables={}", &json, "", Some(Reject::BadRequest)),
        ("Query={a}", &json, body, Some(Reject::BadRequest)),
        ("query={a}&QUERY={b}", &json, "", Some(Reject::BadRequest)),
        ("queries=1", &json, body, None),
    ] {
        let refused = judge(&LIMITS, Some(target), Some(content_type), body.as_bytes()).err();
        assert_eq!(refused.map(|refusal| refusal.reject), expect, "{target} {body}");
    }
}

#[test]
fn fragments_of_many_operations_are_bounded() {
    let large = GraphqlLimits { max_cost: 1_000_000, max_aliases: 1_000_000, ..LIMITS };
    let document = |operations: usize| {
        let operations: String = (0..operations).map(|index| format!("query Q{index} {{ ...F }} ")).collect();
        format!("{operations} fragment F on A {{ {} }}", "a ".repeat(10_000))
    };
    for (operations, expect) in [(5, None), (500, Some("graphql: the operations use too many fragments"))] {
        let body = serde_json::json!({ "query": document(operations) }).to_string();
        let json = HeaderValue::from_static("application/json");
        let refused = judge(&large, None, Some(&json), body.as_bytes()).err();
        assert_eq!(refused.as_ref().map(|refusal| &*refusal.detail), expect, "{operations}");
    }
}

#[test]
fn hostile_documents_are_bounded() {
    let deep = "{a".repeat(100_000);
    let wide = format!("{{{}}}", "a ".repeat(100_000));
    // Each fragment has the next one twice: 2^40 fields.
    let mut doubling = "{ ...F0 }".to_owned();
    for index in 0..40 {
        let next = index + 1;
        doubling.push_str(&format!(" fragment F{index} on A {{ ...F{next} x: a ...F{next} }}"));
    }
    doubling.push_str(" fragment F40 on A { a }");
    for query in [deep, wide, doubling, "[".repeat(10_000), "\"".to_owned()] {
        let json = HeaderValue::from_static("application/json");
        let body = serde_json::json!({ "query": query }).to_string();
        assert!(judge(&LIMITS, None, Some(&json), body.as_bytes()).is_err());
    }
}
