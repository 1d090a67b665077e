//! Which responses break the document.

use http::StatusCode;

use super::*;

const TEXT: &str = "
openapi: 3.0.0
info: {title: a, version: '1'}
paths:
  /a:
    get:
      responses:
        '200':
          description: ok
          headers: {X-Count: {required: true, schema: {type: integer, maximum: 9}}}
          content:
            application/json:
              schema:
                type: object
                required: [id, secret]
                properties: {id: {type: integer, readOnly: true}, secret: {type: string, writeOnly: true}}
            text/*: {schema: {type: string}}
        4XX: {description: no}
        '404': {$ref: '#/components/responses/Missing'}
components:
  responses: {Missing: {description: none, content: {application/problem+json: {schema: {type: object}}}}}
";

fn contract(responses: bool) -> Contract {
    let reading = DocumentReading { responses, ..DocumentReading::default() };
    compile_as(TEXT, &reading).unwrap()
}

/// What a response breaks: the rule and where.
#[track_caller]
fn check(status: u16, headers: &[(&'static str, &str)], body: &str, expect: Option<(&str, &str)>) {
    let contract = contract(true);
    let operation = contract.find(&Method::GET, "/a", "", &HeaderMap::new()).unwrap().operation;
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    let status = StatusCode::from_u16(status).unwrap();
    let judged = contract.judge_response(operation, status, &headers, !body.is_empty());
    let judged =
        judged.and_then(|schema| schema.map_or(Ok(()), |schema| contract.judge_response_body(schema, body.as_bytes())));
    let told = judged.err().map(|fault| (fault.rule, fault.place));
    assert_eq!(told.as_ref().map(|(rule, place)| (*rule, place.as_str())), expect, "{status} {headers:?} {body}");
}

#[test]
fn responses_are_held_against_the_document() {
    let json = ("content-type", "application/json; charset=utf-8");
    let one = ("x-count", "1");
    check(200, &[json, one], r#"{"id":1}"#, None);
    check(200, &[json, one], r#"{"id":"1"}"#, Some(("type", "body /id")));
    check(200, &[json, one], "{}", Some(("required", "body")));
    check(200, &[json, one], r#"{"id":1,"secret":"s"}"#, Some(("writeOnly", "body /secret")));
    check(200, &[json, one], "{", Some(("json", "body")));
    check(200, &[json], "{}", Some(("required", "header X-Count")));
    check(200, &[json, ("x-count", "10")], "{}", Some(("maximum", "header X-Count")));
    check(200, &[("content-type", "text/csv"), one], "a", None);
    check(
        200,
        &[("content-type", "image/png"), one],
        "a",
        Some(("content_type", "the Content-Type of status 200 is not declared")),
    );
    check(200, &[one], "a", Some(("content_type", "the Content-Type of status 200 is not declared")));
    check(200, &[one], "", None);
    check(404, &[("content-type", "application/problem+json")], "[]", Some(("type", "body")));
    check(403, &[], "", None);
    check(304, &[], "", None);
    check(500, &[], "", Some(("status", "status 500 is not declared")));
}

#[test]
fn responses_of_operations_that_nothing_tells_apart_are_not_judged() {
    let text = TEXT.replace("  /a:\n", "  /a#first:\n    get: {responses: {'500': {description: no}}}\n  /a:\n");
    let reading = DocumentReading { responses: true, ..DocumentReading::default() };
    let contract = compile_as(&text, &reading).unwrap();
    let operation = contract.find(&Method::GET, "/a", "", &HeaderMap::new()).unwrap().operation;
    assert_eq!(
        contract.judge_response(operation, StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new(), false),
        Ok(None)
    );
    assert_eq!(contract.unjudged_responses(), 1);
}

#[test]
fn what_a_document_says_of_responses_is_linted() {
    let text = "
openapi: 3.0.0
info: {title: a, version: '1'}
paths:
  /a:
    get:
      responses:
        '200':
          description: ok
          content:
            application/json:
              schema: {$ref: '#/components/schemas/A'}
              examples: {good: {value: {id: 1}}, bad: {value: {id: x}}, own: {value: {id: 1, secret: s}}}
  /b:
    get: {}
components:
  schemas:
    A:
      type: object
      required: [id]
      properties: {id: {type: integer, readOnly: true}, secret: {type: string, writeOnly: true}}
";
    let file = shop(text);
    let lint = |responses| {
        let reading = DocumentReading { responses, ..DocumentReading::default() };
        lint::lint(&file, &[], Formats::Annotate, &reading).unwrap()
    };
    let told = lint(true);
    let broken: Vec<&str> = told.broken.iter().filter_map(|fault| fault.place.rsplit('/').nth(1)).collect();
    assert_eq!((told.examples, broken.as_slice()), (3, ["bad", "own"].as_slice()));
    let warned = |lint: &lint::Lint| lint.contract.warnings().iter().map(|it| it.place.clone()).collect::<Vec<_>>();
    assert_eq!(warned(&told), ["shop.yaml#/paths/~1b/get"]);
    let operation = told.contract.find(&Method::GET, "/b", "", &HeaderMap::new()).unwrap().operation;
    let teapot = StatusCode::IM_A_TEAPOT;
    assert_eq!(told.contract.judge_response(operation, teapot, &HeaderMap::new(), true), Ok(None));
    let told = lint(false);
    assert_eq!((told.examples, warned(&told)), (0, Vec::new()));
}

#[test]
fn what_is_off_costs_nothing_and_what_is_told_is_bounded() {
    let off = contract(false);
    assert!(!off.judges_responses() && !off.begin_copy());
    let contract = contract(true);
    let operation = contract.find(&Method::GET, "/a", "", &HeaderMap::new()).unwrap().operation;
    let told: Vec<bool> = [5, 6, 64, 65, 70].map(|now| contract.note_response(operation, now)).into();
    assert_eq!(told, [true, false, false, true, false]);
    assert_eq!(contract.response_violations().collect::<Vec<_>>(), [("GET /a", 5)]);
    let copies = (0..1_000).filter(|_| contract.begin_copy()).count();
    assert_eq!(copies, 256);
    contract.end_copy();
    assert!(contract.begin_copy() && !contract.begin_copy());
}
