//! `nullable` of OpenAPI 3.0: it widens the `type` beside it, and nothing else.

use super::*;

fn contract(version: &str, schema: &str) -> Contract {
    let text = format!(
        "openapi: {version}\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    post:\n      requestBody:\n        \
         content: {{application/json: {{schema: {schema}}}}}\n      responses: {{}}\n\
         components: {{schemas: {{Color: {{type: string, enum: [red]}}, Name: {{type: string, nullable: true}}}}}}\n"
    );
    compile(&text).unwrap()
}

#[test]
fn it_widens_the_type_beside_it() {
    for (version, schema, body, is_valid) in [
        ("3.0.3", "{nullable: true}", "null", true),
        ("3.0.3", "{type: string, nullable: true, minLength: 1, pattern: '^a'}", "null", true),
        ("3.0.3", "{type: integer, nullable: true, minimum: 1, multipleOf: 2}", "null", true),
        ("3.0.3", "{type: object, nullable: true, required: [a]}", "null", true),
        ("3.0.3", "{type: array, nullable: true, minItems: 1}", "null", true),
        ("3.0.3", "{type: string, nullable: true, enum: [a, b]}", "null", false),
        ("3.0.3", "{type: string, nullable: true, enum: [a, b]}", "\"a\"", true),
        ("3.0.3", "{type: string, nullable: true, enum: [a, null]}", "null", true),
        ("3.0.3", "{nullable: true, enum: [a]}", "null", false),
        ("3.0.3", "{nullable: true, enum: [a, null]}", "null", true),
        ("3.0.3", "{type: string, nullable: false, enum: [a, null]}", "null", false),
        ("3.0.3", "{nullable: true, allOf: [{$ref: '#/components/schemas/Color'}]}", "null", false),
        ("3.0.3", "{nullable: true, allOf: [{$ref: '#/components/schemas/Color'}]}", "\"red\"", true),
        ("3.0.3", "{type: string, nullable: true, allOf: [{$ref: '#/components/schemas/Color'}]}", "null", false),
        ("3.0.3", "{nullable: true, $ref: '#/components/schemas/Color'}", "null", false),
        ("3.0.3", "{nullable: true, allOf: [{$ref: '#/components/schemas/Name'}]}", "null", true),
        ("3.0.3", "{type: string, allOf: [{$ref: '#/components/schemas/Name'}]}", "null", false),
        ("3.0.3", "{type: string, nullable: true, allOf: [{enum: [a, null]}]}", "null", true),
        ("3.0.3", "{nullable: true, oneOf: [{type: string}, {type: integer}]}", "null", false),
        ("3.0.3", "{nullable: true, anyOf: [{type: string}, {type: integer, nullable: true}]}", "null", true),
        ("3.0.3", "{oneOf: [{$ref: '#/components/schemas/Color'}, {enum: [null]}]}", "null", true),
        ("3.0.3", "{type: string, nullable: true, not: {enum: [null]}}", "null", false),
        ("3.1.0", "{type: string, nullable: true}", "null", false),
    ] {
        let request = format!("POST /a\nContent-Type: application/json\n\n{body}");
        let verdict = judge(&contract(version, schema), &request);
        assert_eq!(verdict.is_ok(), is_valid, "{version} {schema} {body} {verdict:?}");
    }
}

#[test]
fn where_it_does_nothing_is_told() {
    for (version, schema, places) in [
        ("3.0.3", "{type: object, properties: {a: {nullable: true, allOf: [{type: string}]}}}", &["/properties/a"][..]),
        ("3.0.3", "{nullable: true, oneOf: [{nullable: true, anyOf: [{type: string}]}]}", &[""]),
        ("3.0.3", "{type: array, items: {nullable: true, $ref: '#/components/schemas/Color'}}", &["/items"]),
        ("3.0.3", "{type: string, nullable: true, allOf: [{enum: [a, null]}]}", &[]),
        ("3.0.3", "{nullable: true}", &[]),
        ("3.1.0", "{nullable: true, allOf: [{type: string}]}", &[]),
    ] {
        let contract = contract(version, schema);
        let warned = contract.warnings().iter().filter(|warning| warning.message.starts_with("`nullable` without"));
        let warned: Vec<_> =
            warned.filter_map(|warning| warning.place.split_once('#')).map(|(_, place)| place).collect();
        let start = "/paths/~1a/post/requestBody/content/application~1json/schema";
        let expect: Vec<_> = places.iter().map(|place| format!("{start}{place}")).collect();
        assert_eq!(warned, expect, "{version} {schema}");
    }
}
