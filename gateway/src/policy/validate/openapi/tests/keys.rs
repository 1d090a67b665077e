//! Keys of `content`: which body is judged by which, and types of several JSON texts.

use http::StatusCode;

use super::*;

fn document(content: &str) -> String {
    format!(
        "openapi: 3.2.0\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    post:\n      requestBody: {{content: \
         {{{content}}}}}\n      responses: {{'200': {{description: ok, content: {{{content}}}}}}}\n"
    )
}

/// A key, and the member that its schema asks for.
fn key(range: &str, member: &str) -> String {
    format!("'{range}': {{schema: {{type: object, required: [{member}]}}}}")
}

#[test]
fn parameters_tell_keys_apart_that_say_different_things() {
    let versions = [key("application/json;version=1", "a"), key("application/json; version=2", "b")].join(", ");
    let and_plain = format!("{versions}, {}", key("application/json", "c"));
    let same = [key("application/json;odata=minimal", "a"), key("application/json;odata=full", "a")].join(", ");
    let undeclared = Err((415, "Content-Type is not declared"));
    let missing = Err((422, "body: required"));
    for (content, content_type, body, expect) in [
        (&versions, "application/json; version=1", r#"{"a":1}"#, Ok(())),
        (&versions, "application/json; version=1", r#"{"b":1}"#, missing),
        (&versions, "application/json;VERSION=\"2\"; charset=utf-8", r#"{"b":1}"#, Ok(())),
        (&versions, "application/json; version=2", r#"{"a":1}"#, missing),
        (&versions, "application/json; version=3", r#"{"a":1}"#, undeclared),
        (&versions, "application/json", r#"{"a":1}"#, undeclared),
        (&and_plain, "application/json; version=2", r#"{"c":1}"#, missing),
        (&and_plain, "application/json; version=3", r#"{"c":1}"#, Ok(())),
        (&and_plain, "application/json", r#"{"c":1}"#, Ok(())),
        // Where they say the same, clients need not have the parameter.
        (&same, "application/json", r#"{"a":1}"#, Ok(())),
        (&same, "application/json; odata=none", "{}", missing),
    ] {
        let contract = compile(&document(content)).unwrap();
        check(&contract, &format!("POST /a\nContent-Type: {content_type}\n\n{body}"), expect);
    }
}

#[test]
fn keys_that_nothing_tells_apart() {
    let place = "shop.yaml#/paths/~1a/post/requestBody/content/";
    for (one, other, end) in [
        ("Application/JSON; charset=utf-8", "application/json", "application~1json"),
        ("application/json;a=1", "application/json;b=1", "application~1json;b=1"),
        ("application/json;a=B", "application/json;a=b", "application~1json;a=b"),
        ("*/*", "*/*;q=?", "*~1*;q=?"),
    ] {
        let content = [key(one, "a"), key(other, "b")].join(", ");
        let fault = compile(&document(&content)).unwrap_err();
        assert!(fault.message.contains("another key of `content`"), "{fault:?}");
        assert_eq!(fault.place, format!("{place}{end}"));
        compile(&document(&[key(one, "a"), key(other, "a")].join(", "))).unwrap();
        // Nothing of responses keeps a document from being used.
        let text = document(&content).replace(&format!("requestBody: {{content: {{{content}}}}}"), "x-no: body");
        let reading = DocumentReading { responses: true, ..DocumentReading::default() };
        let contract = compile_as(&text, &reading).unwrap();
        let operation = contract.find(&Method::POST, "/a", "", &HeaderMap::new()).unwrap().operation;
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        assert_eq!(contract.judge_response(operation, StatusCode::OK, &headers, true), Ok(None), "{one} {other}");
        let told = contract.warnings().iter().filter(|it| it.message.contains("no body of this status is judged"));
        assert_eq!(told.count(), 1, "{one} {other}");
    }
}

#[test]
fn texts_of_a_sequence_begin_with_a_record_separator() {
    for range in ["application/json-seq", "application/geo+json-seq"] {
        let text = document(&format!("{range}: {{itemSchema: {{type: array, items: {{type: integer}}}}}}"));
        let contract = compile(&text).unwrap();
        let bare = Err((400, "body: a JSON text of a sequence must begin with 0x1E (RFC 7464)"));
        for (body, expect) in [
            ("\u{1e}[1]\n\u{1e}[2]\n", Ok(())),
            ("\u{1e}\u{1e}[1,\n2]\n", Ok(())),
            ("\u{1e}[1]\n\u{1e}[true]\n", Err((422, "body: type at /0"))),
            ("[1]\n[2]\n", bare),
            (" \u{1e}[1]\n", bare),
        ] {
            check(&contract, &format!("POST /a\nContent-Type: {range}\n\n{body}"), expect);
        }
        // Two texts without a separator are no text.
        let verdict = judge(&contract, &format!("POST /a\nContent-Type: {range}\n\n\u{1e}[1]\n[2]\n"));
        assert_eq!(verdict.map_err(|(status, _)| status), Err(400));
    }
}
