//! What another version of a document takes away.

use super::*;

const BEFORE: &str = "
openapi: 3.1.0
info: {title: Shop, version: '1'}
servers: [{url: /v1}]
security: [{bearer: [shop]}]
paths:
  /items:
    get:
      parameters: [{name: limit, in: query, schema: {type: integer}}, {name: X-Trace, in: header, schema: {type: string}}]
    post:
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Item'}}}}
  /items/{id}:
    delete:
      security: [{bearer: [shop, admin]}]
      x-gateway-permissions: [items:write]
      x-gateway-limits: [deletes]
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
  /open: {get: {security: []}}
components:
  schemas: {Item: {type: object}}
  securitySchemes: {bearer: {type: http, scheme: bearer}, key: {type: apiKey, in: header, name: X-Key}}
";

#[track_caller]
fn check(changes: &[(&str, &str)], expect: &[&str]) {
    let mut after = BEFORE.to_owned();
    for (from, to) in changes {
        assert!(after.contains(from), "{from}");
        after = after.replacen(from, to, 1);
    }
    let outline = |text: &str| compile(text).unwrap_or_else(|fault| panic!("{fault:?}: {text}")).outline();
    let losses = outline(BEFORE).losses(&outline(&after), true);
    assert_eq!(losses, expect, "{changes:?}");
}

#[test]
fn what_protects_less_is_told() {
    check(&[], &[]);
    let public = ["DELETE /items/{id} asks for fewer permissions"];
    check(&[("      x-gateway-permissions: [items:write]\n", "")], &public);
    check(
        &[("security: [{bearer: [shop, admin]}]\n      x-gateway-permissions: [items:write]", "security: []")],
        &["DELETE /items/{id} is public now"],
    );
    check(
        &[("      x-gateway-limits: [deletes]\n", "")],
        &["DELETE /items/{id} is not counted by limit.deletes any more"],
    );
    let fewer = ["DELETE /items/{id} asks for other or fewer schemes or scopes"];
    check(&[("[shop, admin]", "[shop]")], &fewer);
    check(&[("[{bearer: [shop, admin]}]", "[{bearer: [shop, admin]}, {key: []}]")], &fewer);
    check(&[("[{bearer: [shop, admin]}]", "[{key: []}]")], &fewer);
    check(
        &[("security: [{bearer: [shop]}]", "security: [{}]")],
        &["GET /items is public now", "POST /items is public now"],
    );
    check(
        &[("security: [{bearer: [shop]}]\n", "")],
        &[
            "GET /items has no `security` any more: nobody would have access",
            "POST /items has no `security` any more: nobody would have access",
        ],
    );
    check(&[("  /open: {get: {security: []}}\n", "")], &["GET /open is not declared any more"]);
    check(&[("type: http, scheme: bearer", "type: mutualTLS")], &["the security scheme \"bearer\" is another one"]);
    check(&[("type: object", "title: Item")], &["POST /items: not judged any more: bodies"]);
    check(&[("schema: {$ref: '#/components/schemas/Item'}", "")], &["POST /items: not judged any more: bodies"]);
    check(
        &[(", {name: X-Trace, in: header, schema: {type: string}}", "")],
        &["GET /items: not judged any more: header X-Trace"],
    );
    check(
        &[("required: true, schema: {type: integer}", "required: true")],
        &["DELETE /items/{id}: not judged any more: parameter 1 of the path"],
    );
    let moved = ["DELETE /items/{id}", "GET /items", "GET /open", "POST /items"]
        .map(|it| format!("{it} is not declared any more"));
    check(&[("url: /v1", "url: /v2")], &moved.each_ref().map(String::as_str));
}

#[test]
fn what_protects_as_much_is_not() {
    for change in [
        ("url: /v1", "url: /v1/"),
        ("{name: limit, in: query, schema: {type: integer}}, ", ""),
        ("[{bearer: [shop]}]", "[{bearer: [shop, more]}]"),
        ("[{bearer: [shop]}]", "[{bearer: [shop], key: []}]"),
        ("get: {security: []}", "get: {security: [{key: []}]}"),
        ("  /open:", "  /more: {get: {security: []}}\n  /open:"),
        ("type: object", "type: object, maxProperties: 5"),
    ] {
        check(&[change], &[]);
    }
    check(&[("/items/{id}:", "/items/{item}:"), ("{name: id,", "{name: item,")], &[]);
}

#[test]
fn a_document_that_was_cut_off_is_refused_where_it_would_be_public() {
    let place = "security: [{bearer: [shop, admin]}]";
    for (cut, says) in [
        ("security:", "\"security\" must be an array"),
        ("security: [~]", "a security requirement is an object"),
        ("security: [{bearer: }]", "scopes are an array of strings"),
        ("requestBody:", "\"requestBody\" must be an object"),
        ("parameters:", "\"parameters\" must be an array"),
    ] {
        let text = match cut {
            "parameters:" => {
                BEFORE.replace("parameters: [{name: id, in: path, required: true, schema: {type: integer}}]", cut)
            }
            cut => BEFORE.replace(place, cut),
        };
        let fault = compile(&text).unwrap_err();
        assert!(fault.message.contains(says) && fault.place.contains("/delete"), "{cut}: {fault:?}");
    }
    for (from, to, says) in [
        ("delete:\n      security", "delete: ~\n    x-b:\n      security", "an operation must be an object"),
        ("paths:\n", "paths:\nx-paths:\n", "\"paths\" must be an object"),
    ] {
        let fault = compile(&BEFORE.replace(from, to)).unwrap_err();
        assert!(fault.message.contains(says), "{fault:?}");
    }
}
