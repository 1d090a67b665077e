//! Where faults are said to be, and that each is told once.

use super::*;

#[test]
fn places_are_in_the_document() {
    let text = "openapi: 3.1.0
info: {title: a, version: '1'}
paths:
  /a/{id}:
    post:
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}, example: {x: 1}}}}
components:
  schemas:
    A: {type: object, properties: {b/c: {type: array, items: {type: string, format: odd}}, x: {type: string, maxLength: 1}}}
";
    let lint = lint::lint(&shop(text), &[], Formats::Annotate, &DocumentReading::default()).unwrap();
    let root: Value = yaml_serde::from_str(text).unwrap();
    let places: Vec<&str> =
        lint.holes.iter().chain(&lint.broken).chain(lint.contract.warnings()).map(|it| &*it.place).collect();
    assert!(places.len() >= 6, "{places:?}");
    for place in &places {
        let pointer = place.strip_prefix("shop.yaml#").unwrap();
        assert!(root.pointer(pointer).is_some(), "{place}");
    }
    for expect in [
        "#/paths/~1a~1{id}/post",
        "#/components/schemas/A/properties/b~1c",
        "#/paths/~1a~1{id}/post/parameters/0/schema",
    ] {
        assert!(places.iter().any(|place| place.strip_prefix("shop.yaml") == Some(expect)), "{expect}: {places:?}");
    }
}

/// A float keeps less of some than is written.
#[test]
fn limits_of_documents_count_as_they_are_written() {
    let above = Some("query a: maximum");
    for (rest, value, expect) in [
        ("schema: {type: integer, maximum: 18446744073709551615}", "18446744073709551616", above),
        ("schema: {type: integer, maximum: 18446744073709551616}", "18446744073709551616", None),
        ("schema: {type: integer, maximum: 18446744073709551616}", "18446744073709551617", above),
        ("schema: {type: number, maximum: +0.10000000000000000001}", "0.10000000000000000002", above),
        ("schema: {type: number, maximum: 1.7976931348623157E+308, multipleOf: 0.1}", "0.3", None),
        ("schema: {type: integer, minimum: -9223372036854775809}", "-9223372036854775810", Some("query a: minimum")),
        ("schema: {type: number, enum: [1, 0.10000000000000000001]}", "0.10000000000000000001", None),
        ("schema: {type: number, enum: [1, 0.10000000000000000001]}", "0.1", Some("query a: enum")),
        ("example: 123456789012345678901234567890, schema: {type: integer, default: 18446744073709551616}", "1", None),
    ] {
        let text = format!(
            "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    get:\n      security: []\n      \
             parameters: [{{name: a, in: query, {rest}}}]\n"
        );
        let contract = compile(&text).unwrap();
        check(&contract, &format!("GET /a?a={value}"), expect.map_or(Ok(()), |told| Err((400, told))));
    }
    let place = "shop.yaml#/paths/~1a/get/parameters/0/schema";
    for (keyword, expect) in [
        ("multipleOf: 0.10000000000000000001", "too many digits to divide by"),
        // As YAML has it, this is a text.
        ("maximum: 1e400", "not a value that this keyword takes"),
    ] {
        let text = format!(
            "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    get:\n      \
             parameters: [{{name: a, in: query, schema: {{{keyword}}}}}]\n"
        );
        let fault = compile(&text).unwrap_err();
        let name = keyword.split(':').next().unwrap();
        assert!(fault.message.contains(expect), "{fault:?}");
        assert_eq!(fault.place, format!("{place}/{name}"));
    }
}

/// A segment that begins with `;` is refused before any document is asked.
#[test]
fn parameters_of_the_style_matrix() {
    let matrix = |path: &str, style: &str| {
        let text = format!(
            "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths:\n  {path}:\n    get:\n      security: []\n      \
             parameters: [{{name: id, in: path, required: true, style: {style}, schema: {{type: integer}}}}]\n"
        );
        let contract = compile(&text).unwrap();
        let warned = contract.warnings().iter().filter(|warning| warning.message.contains("matrix")).count();
        (warned, contract.matrix_operation().map(str::to_owned))
    };
    for (path, style, expect) in [
        ("/items/{id}", "simple", (0, None)),
        ("/items/{id}", "label", (0, None)),
        ("/items/{id}", "matrix", (1, None)),
        ("/items{id}", "matrix", (0, Some("GET /items{id}"))),
    ] {
        assert_eq!(matrix(path, style), (expect.0, expect.1.map(str::to_owned)), "{path} {style}");
    }
    let text = "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths:\n  /items{id}:\n    get:\n      security: []\n      \
                parameters: [{name: id, in: path, required: true, style: matrix, schema: {type: integer}}]\n";
    check(&compile(text).unwrap(), "GET /items;id=5", Ok(()));
    check(&compile(text).unwrap(), "GET /items;id=x", Err((400, "path id: type")));
}

#[test]
fn where_an_api_is_served_is_said_once() {
    let text =
        "openapi: 3.1.0\ninfo: {title: a, version: '1'}\nservers: [{url: v1}]\npaths: {/a: {get: {security: []}}}\n";
    let reading = DocumentReading { base_path: Some("/v2"), ..DocumentReading::default() };
    let contract = compile_as(text, &reading).unwrap();
    check(&contract, "GET /v2/a", Ok(()));
}

#[test]
fn a_deep_object_has_one_fault() {
    let text = "openapi: 3.1.0
info: {title: a, version: '1'}
paths:
  /a:
    get:
      parameters:
        - {name: filter, in: query, required: true, style: deepObject, schema: {type: object, properties: {b: {type: string}}}}
";
    let contract = compile(text).unwrap();
    for (query, expect) in [
        ("filter[b]=x", Ok(())),
        ("filter[b]=x&filter[c]=y", Ok(())),
        ("", Err((400, "query filter: required"))),
        ("filter=x", Err((400, "query filter: style"))),
        ("filter[b][c]=x", Err((400, "query filter: style"))),
        ("filter[b=x", Err((400, "query filter: style"))),
        ("filter[b]=x&filter[c][d]=y", Err((400, "query filter: style"))),
        ("filter[b]=x&filters=y", Err((400, "query filters: unknown"))),
    ] {
        check(&contract, &format!("GET /a?{query}"), expect);
    }
}
