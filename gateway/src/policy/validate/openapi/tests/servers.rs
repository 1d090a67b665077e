//! Where the servers of a document say that it is.

use super::*;

/// A variable of a server stands for the values of its `enum`, or for any one segment.
#[test]
fn servers_have_variables() {
    for (server, path, is_there) in [
        ("url: '/{stage}/v1', variables: {stage: {default: test, enum: [test, live]}}", "/live/v1/a", true),
        ("url: '/{stage}/v1', variables: {stage: {default: test, enum: [test, live]}}", "/prod/v1/a", false),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "/test/v1/a", true),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "/prod/v1/a", true),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "/%70rod/v1/a", true),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "/a/b/v1/a", false),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "//v1/a", false),
        ("url: '/{stage}/v1', variables: {stage: {default: test}}", "/v1/a", false),
        ("url: '/x-{stage}', variables: {stage: {default: test}}", "/x-prod/a", true),
        ("url: '/x-{stage}', variables: {stage: {default: test}}", "/prod/a", false),
        ("url: '/{a}/{b}', variables: {a: {default: x}, b: {default: y}}", "/1/2/a", true),
        // A default that is no segment is what it is, beside any segment.
        ("url: '/{base}', variables: {base: {default: api/v2}}", "/api/v2/a", true),
        ("url: '/{base}', variables: {base: {default: api/v2}}", "/v3/a", true),
        ("url: '/{base}', variables: {base: {default: ''}}", "/a", true),
        // That of a host is no part of the path.
        ("url: 'https://{region}.example/v1', variables: {region: {default: eu}}", "/v1/a", true),
    ] {
        let text = format!(
            "openapi: 3.0.3\ninfo: {{title: a, version: '1'}}\nservers: [{{{server}}}]\npaths:\n  /a:\n    get:\n      \
             security: []\n      responses: {{}}\n"
        );
        let verdict = judge(&compile(&text).unwrap(), &format!("GET {path}"));
        assert_eq!(verdict.is_ok(), is_there, "{server} {path}: {verdict:?}");
    }
    let undeclared = "openapi: 3.0.3\ninfo: {title: a, version: '1'}\nservers: [{url: '/{stage}/v1'}]\n\
                      paths: {/a: {get: {security: [], responses: {}}}}\n";
    assert!(compile(undeclared).unwrap_err().message.contains("a variable that is not declared"));
    // The value goes to no parameter of the path, whatever the names.
    let text = "openapi: 3.0.3\ninfo: {title: a, version: '1'}\n\
                servers: [{url: '/{id}', variables: {id: {default: x}}}]\n\
                paths:\n  /a/{id}:\n    get:\n      security: []\n      responses: {}\n      \
                parameters: [{name: id, in: path, required: true, schema: {type: integer}}]\n";
    let contract = compile(text).unwrap();
    check(&contract, "GET /any/a/7", Ok(()));
    check(&contract, "GET /7/a/any", Err((400, "path id: type")));
}
