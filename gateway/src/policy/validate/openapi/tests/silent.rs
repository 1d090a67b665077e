//! What would be lost without a word is refused, or told.

use super::*;

fn document(version: &str, item: &str) -> String {
    format!(
        "openapi: {version}\ninfo: {{title: a, version: '1'}}\npaths: {{/a: {item}}}\n\
         components: {{securitySchemes: {{bearer: {{type: http, scheme: bearer}}}}}}\n"
    )
}

#[test]
fn permissions_need_a_scheme() {
    for (security, is_refused) in [
        ("security: []", true),
        ("security: [{}]", true),
        ("security: [{}, {bearer: []}]", true),
        ("security: [{bearer: []}]", false),
    ] {
        let item = format!("{{get: {{{security}, x-gateway-permissions: [a], responses: {{}}}}}}");
        let compiled = compile(&document("3.1.0", &item));
        assert_eq!(compiled.is_err(), is_refused, "{security}");
        if let Err(fault) = compiled {
            assert_eq!(fault.place, "shop.yaml#/paths/~1a/get/x-gateway-permissions");
            assert!(fault.message.contains("permissions need a security scheme"), "{fault:?}");
        }
        // None are asked for.
        compile(&document("3.1.0", &item.replace("[a]", "[]"))).unwrap();
    }
}

#[test]
fn what_is_not_read_is_told_by_its_place() {
    let body = |media: &str| format!("{{post: {{requestBody: {{content: {{multipart/form-data: {media}}}}}}}}}");
    let header = |field: &str| {
        let header = format!("{{schema: {{type: string}}, {field}}}");
        body(&format!(
            "{{schema: {{type: object, properties: {{a: {{type: string}}}}}}, encoding: {{a: {{headers: {{X-A: \
             {header}}}}}}}}}"
        ))
    };
    let media = "post/requestBody/content/multipart~1form-data";
    let of_header = format!("{media}/encoding/a/headers/X-A");
    for (version, item, place) in [
        ("3.1.0", "{query: {responses: {}}}".to_owned(), Some("query")),
        ("3.2.0", "{query: {responses: {}}}".to_owned(), None),
        ("3.2.0", body("{schema: {type: object}, prefixEncoding: [{}]}"), Some("prefixEncoding")),
        ("3.2.0", body("{schema: {type: object}, itemEncoding: {}}"), Some("itemEncoding")),
        ("3.1.0", header("allowEmptyValue: true"), Some(&*of_header)),
        ("3.1.0", header("allowEmptyValue: false"), None),
        ("3.1.0", header("required: true"), None),
    ] {
        let contract = compile(&document(version, &item)).unwrap();
        let told: Vec<&str> = contract.warnings().iter().map(|warning| &*warning.place).collect();
        let place = place.map(|place| match place.ends_with("Encoding") {
            true => format!("shop.yaml#/paths/~1a/{media}/{place}"),
            false => format!("shop.yaml#/paths/~1a/{place}"),
        });
        assert_eq!(told, place.iter().map(String::as_str).collect::<Vec<_>>(), "{version} {item}");
    }
}

#[test]
fn an_empty_value_is_allowed_in_the_query_alone() {
    let parameter = |part: &str| {
        format!("{{name: a, in: {part}, required: true, allowEmptyValue: true, schema: {{type: integer}}}}")
    };
    for (part, request, expect) in [
        ("query", "GET /a?a=", Ok(())),
        ("header", "GET /a\na: ", Err((400, "header a: type"))),
        ("cookie", "GET /a\nCookie: a=", Err((400, "cookie a: type"))),
    ] {
        let item = format!("{{get: {{parameters: [{}], responses: {{}}}}}}", parameter(part));
        let contract = compile(&document("3.1.0", &item)).unwrap();
        check(&contract, request, expect);
        let told = contract.warnings().iter().filter(|warning| warning.message.contains("allowEmptyValue")).count();
        assert_eq!(told, usize::from(part != "query"), "{part}");
    }
}

#[test]
fn servers_of_too_many_paths() {
    let server = |count: usize| {
        let words: Vec<String> = (0..count).map(|word| format!("w{word}")).collect();
        let words = words.join(", ");
        let text = document("3.1.0", "{get: {responses: {}}}");
        format!("servers: [{{url: '/{{a}}', variables: {{a: {{default: w0, enum: [{words}]}}}}}}]\n{text}")
    };
    check(&compile(&server(64)).unwrap(), "GET /w63/a", Ok(()));
    let fault = compile(&server(65)).unwrap_err();
    assert!(fault.message.contains("more than 64 paths"), "{fault:?}");
    assert_eq!(fault.place, "shop.yaml#/servers/0");
    let reading = DocumentReading { base_path: Some("/v1"), ..DocumentReading::default() };
    compile_as(&server(65), &reading).unwrap();
}
