//! `readOnly` and `writeOnly` beside a `required` that stands in another schema of the same value.

use http::StatusCode;

use super::*;

fn document(version: &str, schema: &str) -> String {
    format!(
        "openapi: {version}
info: {{title: a, version: '1'}}
paths:
  /a:
    post:
      requestBody: {{content: {{application/json: {{schema: {schema}}}}}}}
      responses: {{'200': {{description: ok, content: {{application/json: {{schema: {schema}}}}}}}}}
components:
  schemas:
    Base:
      type: object
      properties:
        id: {{$ref: '#/components/schemas/Id'}}
        key: {{type: string, writeOnly: true}}
        name: {{type: string}}
    Id: {{type: string, readOnly: true}}
    Named: {{required: [id, key, name]}}
    Loop: {{allOf: [{{$ref: '#/components/schemas/Loop'}}, {{$ref: '#/components/schemas/Base'}}], required: [id]}}
"
    )
}

fn warned(contract: &Contract, keyword: &str) -> bool {
    let start = format!("`required` names a member that is `{keyword}`");
    contract.warnings().iter().any(|warning| warning.message.starts_with(&start))
}

#[test]
fn what_is_read_only_is_not_required_wherever_that_is_said() {
    let base = "{$ref: '#/components/schemas/Base'}";
    let (v3_0, v3_1) = ("3.0.3", "3.1.0");
    for (version, schema, body, is_valid, is_doubtful) in [
        (v3_0, "{allOf: [BASE, {required: [id, name]}]}", r#"{"name":"a"}"#, true, false),
        (v3_0, "{allOf: [BASE, {required: [id, name]}]}", "{}", false, false),
        (v3_0, "{allOf: [BASE, {required: [id, name]}]}", r#"{"id":"1","name":"a"}"#, false, false),
        (v3_0, "{allOf: [{required: [id]}, {type: object}, BASE]}", "{}", true, false),
        (v3_0, "{required: [id], allOf: [BASE]}", "{}", true, false),
        (v3_0, "{allOf: [{allOf: [BASE]}, {allOf: [{required: [id]}]}]}", "{}", true, false),
        (v3_0, "{allOf: [BASE, {$ref: '#/components/schemas/Named'}]}", r#"{"key":"k","name":"a"}"#, true, false),
        // The same schema asks for all three where nothing is read-only.
        (
            v3_0,
            "{type: object, properties: {a: {allOf: [BASE, {$ref: '#/components/schemas/Named'}]}, \
              b: {$ref: '#/components/schemas/Named'}}}",
            r#"{"a":{"key":"k","name":"a"},"b":{"key":"k","name":"a"}}"#,
            false,
            false,
        ),
        (v3_0, "{allOf: [BASE, {properties: {id: {type: string}}, required: [id]}]}", "{}", true, false),
        (v3_0, "{allOf: [{properties: {id: {type: string}}}, {required: [id]}]}", "{}", false, false),
        (v3_1, "{allOf: [BASE], dependentRequired: {name: [id]}}", r#"{"name":"a"}"#, true, false),
        (v3_1, "{$ref: '#/components/schemas/Base', required: [id]}", "{}", true, false),
        (v3_1, "{anyOf: [BASE, {type: 'null'}], required: [id]}", "{}", true, false),
        (v3_0, "{allOf: [BASE], anyOf: [{required: [id, name]}, {required: [x]}]}", r#"{"name":"a"}"#, true, false),
        (v3_0, "{allOf: [BASE], anyOf: [{required: [id, name]}, {required: [x]}]}", "{}", false, false),
        // Who sends a name means the second alternative: the first is not met by everything.
        (v3_0, "{allOf: [BASE], oneOf: [{required: [id]}, {required: [name]}]}", r#"{"name":"a"}"#, true, true),
        (v3_0, "{allOf: [BASE], not: {required: [id]}}", "{}", true, false),
        (v3_0, "{required: [id], oneOf: [BASE, {type: object, required: [b]}]}", r#"{"name":"a"}"#, false, true),
        (v3_0, "{required: [id], oneOf: [BASE, {type: object, required: [b]}]}", r#"{"id":"1","b":1}"#, true, true),
    ] {
        let contract = compile(&document(version, &schema.replace("BASE", base))).unwrap();
        let verdict = judge(&contract, &format!("POST /a\nContent-Type: application/json\n\n{body}"));
        assert_eq!(verdict.is_ok(), is_valid, "{schema} {body}: {verdict:?}");
        assert_eq!(warned(&contract, "readOnly"), is_doubtful, "{schema}: {:?}", contract.warnings());
    }
}

#[test]
fn schemas_that_lead_to_themselves_are_read_once() {
    compile(&document("3.0.3", "{$ref: '#/components/schemas/Loop'}")).unwrap();
    compile(&document("3.1.0", "{$ref: '#/components/schemas/Loop', required: [id]}")).unwrap();
}

/// Each child learns of its parent where it names it. If the parent told every child of all the others, there would be a
/// node for every set of them.
#[test]
fn many_children_of_one_parent_are_read_once_each() {
    let mut text = document("3.0.3", "{$ref: '#/components/schemas/Pet'}")
        + "    Pet: {type: object, required: [kind], properties: {kind: {type: string}}, \
           discriminator: {propertyName: kind}}\n";
    for nth in 0..24 {
        text += &format!(
            "    C{nth}: {{allOf: [{{$ref: '#/components/schemas/Pet'}}, \
             {{required: [m{nth}], properties: {{m{nth}: {{type: string, readOnly: true}}}}}}]}}\n"
        );
    }
    let contract = compile(&text).unwrap();
    for (body, is_valid) in [(r#"{"kind":"C7"}"#, true), (r#"{"kind":"C7","m7":"a"}"#, false)] {
        let verdict = judge(&contract, &format!("POST /a\nContent-Type: application/json\n\n{body}"));
        assert_eq!(verdict.is_ok(), is_valid, "{body}: {verdict:?}");
    }
}

#[test]
fn what_is_write_only_is_not_required_of_responses() {
    let base = "{$ref: '#/components/schemas/Base'}";
    for (schema, body, expect, is_doubtful) in [
        ("{allOf: [BASE, {required: [id, key]}]}", r#"{"id":"1"}"#, None, false),
        ("{allOf: [BASE, {required: [id, key]}]}", "{}", Some("required"), false),
        ("{allOf: [BASE, {required: [id, key]}]}", r#"{"id":"1","key":"k"}"#, Some("writeOnly"), false),
        ("{required: [key], oneOf: [BASE, {type: object, required: [b]}]}", r#"{"id":"1"}"#, Some("required"), true),
    ] {
        let reading = DocumentReading { responses: true, ..DocumentReading::default() };
        let contract = compile_as(&document("3.0.3", &schema.replace("BASE", base)), &reading).unwrap();
        let operation = contract.find(&Method::POST, "/a", "", &HeaderMap::new()).unwrap().operation;
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let schema = contract.judge_response(operation, StatusCode::OK, &headers, true).unwrap().unwrap();
        let fault = contract.judge_response_body(schema, body.as_bytes()).err();
        assert_eq!(fault.map(|fault| fault.rule), expect, "{body}");
        assert_eq!(warned(&contract, "writeOnly"), is_doubtful, "{:?}", contract.warnings());
    }
}
