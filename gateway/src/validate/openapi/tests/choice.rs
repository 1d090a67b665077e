//! Which operation a request asks for, where headers or the query choose between those of one path.

use super::*;

#[test]
fn b07_what_chooses_an_operation_is_decoded_and_there_once() {
    let text = "openapi: 3.0.0
info: {title: a, version: '1'}
paths:
  /a:
    get: {operationId: list, responses: {}}
  /a?action=remove%20all:
    get: {operationId: remove, responses: {}}
  /b:
    get: {responses: {}}
  /b#X-Target=remove:
    get: {parameters: [{name: X-Target, in: header, schema: {type: string}}], responses: {}}
";
    let contract = compile(text).unwrap();
    for (request, expect) in [
        ("GET /a", "GET /a"),
        ("GET /a?action=remove+all", "GET /a?action=remove%20all"),
        ("GET /a?action=%72emove%20all", "GET /a?action=remove%20all"),
        ("GET /a?action=remove%20all&action=", "400 query action: once"),
        ("GET /b", "GET /b"),
        ("GET /b\nX-Target: remove", "GET /b#X-Target=remove"),
        ("GET /b\nX-Target: remove\nConnection: x-target", "400 header X-Target: connection"),
        ("GET /b\nX-Target: list\nX-Target: remove", "400 header X-Target: once"),
        ("GET /b\nX-Target: r\u{e9}move", "400 header X-Target: encoding"),
    ] {
        let (target, lines) = request.split_once('\n').unwrap_or((request, ""));
        let (path, query) = target[4..].split_once('?').unwrap_or((&target[4..], ""));
        let mut headers = HeaderMap::new();
        for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let told = match contract.find(&Method::GET, path, query, &headers) {
            Ok(found) => contract.name(found.operation).to_owned(),
            Err(NoOperation::Unclear(refusal)) => {
                format!("{} {}", refusal.reject.row().status.as_u16(), refusal.detail)
            }
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(told, expect, "{request}");
    }
}
