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
        check_choice(&contract, request, expect);
    }
}

/// Which operation is found for a request.
#[track_caller]
fn check_choice(contract: &Contract, request: &str, expect: &str) {
    let (line, lines) = request.split_once('\n').unwrap_or((request, ""));
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let told = match contract.find(&method.parse().unwrap(), path, query, &headers) {
        Ok(found) => contract.name(found.operation).to_owned(),
        Err(NoOperation::Unclear(refusal)) => format!("{} {}", refusal.reject.row().status.as_u16(), refusal.detail),
        Err(other) => format!("{other:?}"),
    };
    assert_eq!(told, expect, "{request}");
}

const ALIKE: &str = "openapi: 3.1.0
info: {title: a, version: '1'}
paths:
  /countries/{code}:
    get:
      parameters:
        - {name: code, in: path, required: true, schema: {type: string, pattern: '^[A-Z]{2}$'}}
        - {name: names, in: query, schema: {type: boolean}}
  /countries/{id}:
    get: {parameters: [{name: id, in: path, required: true, schema: {type: string, format: uuid}}]}
  /pictures:
    post: {requestBody: {required: true, content: {application/json: {schema: {type: object, required: [url]}}}}}
  /pictures#overload=stream:
    post: {requestBody: {required: true, content: {image/*: {}, application/octet-stream: {}}}}
  /notes/{name}:
    put:
      parameters: [{name: name, in: path, required: true, schema: {type: string, maxLength: 3}}]
      requestBody: {$ref: '#/components/requestBodies/Note'}
  /notes/{number}:
    put:
      parameters: [{name: number, in: path, required: true, schema: {type: integer}}]
      requestBody: {$ref: '#/components/requestBodies/Note'}
components:
  requestBodies: {Note: {content: {application/json: {schema: {type: string}}}}}
";

#[test]
fn operations_of_one_path_are_told_apart_by_their_parameters_and_types_of_bodies() {
    let contract = compile(ALIKE).unwrap();
    let is_told = |warning: &DocumentFault| warning.message.contains("that keep the contract of either");
    assert_eq!(contract.warnings().iter().filter(|warning| is_told(warning)).count(), 3);
    for (request, expect) in [
        ("GET /countries/AT", "GET /countries/{code}"),
        ("GET /countries/AT?names=true", "GET /countries/{code}"),
        ("GET /countries/9f2b54c8-4d1e-4b8e-9a57-1c1f7c0f0f11", "GET /countries/{id}"),
        // What fits neither is judged by the first.
        ("GET /countries/9f2b54c8-4d1e-4b8e-9a57-1c1f7c0f0f11?names=true", "GET /countries/{code}"),
        ("GET /countries/at", "GET /countries/{code}"),
        ("POST /pictures\nContent-Type: application/json", "POST /pictures"),
        ("POST /pictures\nContent-Type: image/png", "POST /pictures#overload=stream"),
        ("POST /pictures\nContent-Type: text/plain", "POST /pictures"),
        ("POST /pictures", "POST /pictures"),
        ("PUT /notes/abc\nContent-Type: application/json", "PUT /notes/{name}"),
        ("PUT /notes/12345\nContent-Type: application/json", "PUT /notes/{number}"),
    ] {
        check_choice(&contract, request, expect);
    }
    let json = "Content-Type: application/json";
    for (request, expect) in [
        ("GET /countries/AT".to_owned(), Ok(())),
        ("GET /countries/at".to_owned(), Err((400, "path code: pattern"))),
        (format!("POST /pictures\n{json}\n\n{{}}"), Err((422, "body: required"))),
        ("POST /pictures\nContent-Type: image/png\n\n{}".to_owned(), Ok(())),
        ("POST /pictures\nContent-Type: text/plain\n\n{}".to_owned(), Err((415, "Content-Type is not declared"))),
        (format!("PUT /notes/12345\n{json}\n\n\"a\""), Ok(())),
        (format!("PUT /notes/12345\n{json}\n\n1"), Err((422, "body: type"))),
        (format!("PUT /notes/abcd\n{json}\n\n\"a\""), Err((400, "path name: maxLength"))),
    ] {
        check(&contract, &request, expect);
    }
}

#[test]
fn another_operation_of_a_path_that_lets_more_through_is_told() {
    let losses = |from: &str, to: &str| {
        assert!(ALIKE.contains(from), "{from}");
        let outline = |text: &str| compile(text).unwrap_or_else(|fault| panic!("{fault:?}: {text}")).outline();
        outline(ALIKE).losses(&outline(&ALIKE.replacen(from, to, 1)), true)
    };
    assert_eq!(losses("openapi: 3.1.0", "openapi: 3.1.1"), Vec::<String>::new());
    let open = "  /countries/{any}: {get: {}}\n  /pictures:";
    let lost = ["GET /countries/{code}: not judged any more: parameter 1 of the path"];
    assert_eq!(losses("  /pictures:", open), lost);
    let other = "  /countries/{any}:
    get: {parameters: [{name: any, in: path, required: true, schema: {type: integer}}]}
  /pictures:";
    assert_eq!(losses("  /pictures:", other), Vec::<String>::new());
    let unjudged = ["POST /pictures: not judged any more: bodies"];
    assert_eq!(losses("schema: {type: object, required: [url]}", "schema: {}"), unjudged);
    let gone = ALIKE.lines().skip_while(|line| !line.contains("{id}:")).take(2).collect::<Vec<_>>().join("\n");
    assert_eq!(losses(&gone, ""), ["GET /countries/{id} is not declared any more"]);
}
