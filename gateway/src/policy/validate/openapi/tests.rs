//! Which documents compile, and which requests keep their contracts.

use http::HeaderName;

use super::*;

mod bodies;
mod choice;
mod files;
mod keys;
mod losses;
mod nullable;
mod places;
mod read_only;
mod responses;
mod servers;
mod silent;

/// A document as a file.
fn shop(text: &str) -> NamedFile {
    NamedFile { path: "/api/shop.yaml".into(), bytes: text.as_bytes().into() }
}

/// Compiles a document.
fn compile(text: &str) -> Result<Contract, DocumentFault> {
    compile_as(text, &DocumentReading::default())
}

/// Compiles a document that is read so.
fn compile_as(text: &str, reading: &DocumentReading<'_>) -> Result<Contract, DocumentFault> {
    Contract::new(&shop(text), &[], Formats::Annotate, reading)
}

/// What a request is refused for: its status, and the violations as the log has them.
fn judge(contract: &Contract, request: &str) -> Result<(), (u16, String)> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let method: Method = method.parse().unwrap();
    let found = match contract.find(&method, path, query, &headers) {
        Ok(found) => found,
        Err(NoOperation::NotFound) => return Err((404, String::new())),
        Err(NoOperation::Unclear(refusal)) => {
            return Err((refusal.reject.row().status.as_u16(), refusal.detail.to_string()));
        }
        Err(NoOperation::Method(allow)) => {
            return Err((405, allow.map_or_else(String::new, |allow| allow.to_str().unwrap().to_owned())));
        }
    };
    let told = |refusal: Refusal| {
        let violations: Vec<String> = refusal.violations.iter().map(ToString::to_string).collect();
        let text = if violations.is_empty() { refusal.detail.to_string() } else { violations.join("; ") };
        (refusal.reject.row().status.as_u16(), text)
    };
    contract.judge_head(&found, query, &headers).map_err(told)?;
    let length = Some(body.len() as u64);
    match contract.reading(found.operation, &headers, length).map_err(told)? {
        BodyReading::Pass => Ok(()),
        BodyReading::Whole => {
            let content_type = headers.get(header::CONTENT_TYPE);
            contract.judge_body(found.operation, content_type, body.as_bytes()).map_err(told)
        }
    }
}

#[track_caller]
fn check(contract: &Contract, request: &str, expect: Result<(), (u16, &str)>) {
    let verdict = judge(contract, request);
    assert_eq!(verdict.as_ref().copied().map_err(|(status, text)| (*status, text.as_str())), expect, "{request}");
}

const SHOP: &str = r##"
openapi: 3.0.3
info: {title: Shop, version: '1'}
servers: [{url: 'https://shop.example/v1'}, {url: '/{stage}/v1', variables: {stage: {default: test, enum: [test, live]}}}]
security: [{bearer: [read]}]
paths:
  /items:
    parameters:
      - {name: X-Trace, in: header, schema: {type: integer, maximum: 9}}
    get:
      security: []
      parameters:
        - {name: limit, in: query, schema: {type: integer, format: int32, minimum: 1, maximum: 100}}
        - {name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}, maxItems: 3}}
        - {name: tag, in: query, schema: {type: array, items: {type: string, minLength: 2}}}
        - {name: filter, in: query, style: deepObject, schema: {type: object, properties: {age: {type: integer}, name: {type: string}}, additionalProperties: false}}
        - {name: where, in: query, content: {application/json: {schema: {type: object, required: [a], properties: {a: {type: boolean}}}}}}
        - {name: pipes, in: query, style: pipeDelimited, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: session, in: cookie, schema: {type: string, pattern: '^[a-f0-9]+$'}}
        - {name: flag, in: query, allowEmptyValue: true, schema: {type: boolean}}
        - {name: mode, in: query, schema: {type: string, enum: [fast, slow, '1']}}
      responses: {'200': {description: ok}}
    post:
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: '#/components/schemas/Item'}}
          application/x-www-form-urlencoded: {schema: {$ref: '#/components/schemas/Item'}}
          multipart/form-data:
            schema:
              type: object
              required: [meta, file]
              additionalProperties: false
              properties:
                meta: {type: object, required: [name], properties: {name: {type: string}}}
                count: {type: integer}
                file: {type: string, format: binary}
            encoding: {file: {contentType: 'image/png, image/jpeg, image/gif'}}
          text/plain: {schema: {type: string, maxLength: 5}}
          application/xml: {schema: {$ref: '#/components/schemas/Item'}}
          application/octet-stream: {schema: {type: string, format: binary}}
      responses: {'200': {description: ok}}
  /items/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string, format: uuid}}]
    get: {responses: {'200': {description: ok}}}
    patch:
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}
      responses: {'200': {description: ok}}
  /items/latest:
    get: {deprecated: true, responses: {'200': {description: ok}}}
  /reports/{name}.{format}:
    get:
      parameters:
        - {name: name, in: path, required: true, schema: {type: string}}
        - {name: format, in: path, required: true, schema: {enum: [csv, pdf]}}
      responses: {'200': {description: ok}}
  /points/{point}:
    get:
      parameters: [{name: point, in: path, required: true, schema: {type: array, items: {type: number}, minItems: 2}}]
      responses: {'200': {description: ok}}
components:
  securitySchemes: {bearer: {type: http, scheme: bearer}, key: {type: apiKey, in: query, name: key}}
  schemas:
    Item:
      type: object
      required: [name, id]
      properties:
        id: {type: string, readOnly: true}
        name: {type: string, minLength: 1}
        price: {type: number, minimum: 0, exclusiveMinimum: true}
        note: {type: string, nullable: true}
      additionalProperties: false
    Pet:
      oneOf: [{$ref: '#/components/schemas/Cat'}, {$ref: '#/components/schemas/Dog'}]
      discriminator: {propertyName: kind, mapping: {kitty: '#/components/schemas/Cat'}}
    Cat: {type: object, required: [kind], properties: {kind: {type: string}, lives: {type: integer, maximum: 9}}}
    Dog: {type: object, required: [kind, bark], properties: {kind: {type: string}, bark: {type: boolean}}}
"##;

#[test]
fn b07_paths_methods_and_parameters() {
    let contract = compile(SHOP).unwrap();
    for (request, expect) in [
        ("GET /v1/items", Ok(())),
        ("GET /live/v1/items", Ok(())),
        ("GET /prod/v1/items", Err((404, ""))),
        ("GET /items", Err((404, ""))),
        ("GET /v1/items/", Err((404, ""))),
        ("GET /v1/nothing", Err((404, ""))),
        ("DELETE /v1/items", Err((405, "GET, POST"))),
        ("GET /v1/items?limit=10", Ok(())),
        ("GET /v1/items?limit=0", Err((400, "query limit: minimum"))),
        ("GET /v1/items?limit=ten", Err((400, "query limit: type"))),
        ("GET /v1/items?limit=010", Err((400, "query limit: type"))),
        ("GET /v1/items?limit=1&limit=2", Err((400, "query limit: once"))),
        ("GET /v1/items?limit=", Err((400, "query limit: type"))),
        ("GET /v1/items?flag=", Ok(())),
        ("GET /v1/items?flag=maybe", Err((400, "query flag: type"))),
        ("GET /v1/items?debug=1&limit=101", Err((400, "query limit: maximum; query debug: unknown"))),
        ("GET /v1/items?ids=1,2,3", Ok(())),
        ("GET /v1/items?ids=1&ids=2", Err((400, "query ids: once"))),
        ("GET /v1/items?ids=1,2,3,4", Err((400, "query ids: maxItems"))),
        ("GET /v1/items?ids=1,x", Err((400, "query ids: type at /1"))),
        ("GET /v1/items?tag=aa&tag=bb", Ok(())),
        ("GET /v1/items?tag=aa&tag=b", Err((400, "query tag: minLength at /1"))),
        ("GET /v1/items?filter[age]=3&filter[name]=4", Ok(())),
        ("GET /v1/items?filter%5Bage%5D=x", Err((400, "query filter: type at /age"))),
        ("GET /v1/items?filter[size]=1", Err((400, "query filter: additionalProperties at /size"))),
        ("GET /v1/items?filter=age,3", Err((400, "query filter: style"))),
        ("GET /v1/items?where=%7B%22a%22%3Atrue%7D", Ok(())),
        ("GET /v1/items?where=%7B%22a%22%3A1%7D", Err((400, "query where: type at /a"))),
        ("GET /v1/items?where=%7B%22a%22%3A1,%22a%22:true%7D", Err((400, "query where: json"))),
        ("GET /v1/items?pipes=1|2", Ok(())),
        ("GET /v1/items?pipes=1%7C2", Ok(())),
        ("GET /v1/items?pipes=1,2", Err((400, "query pipes: type at /0"))),
        ("GET /v1/items?mode=1", Ok(())),
        ("GET /v1/items?mode=2", Err((400, "query mode: enum"))),
        ("GET /v1/items\nX-Trace: 9", Ok(())),
        ("GET /v1/items\nX-Trace: 10", Err((400, "header X-Trace: maximum"))),
        ("GET /v1/items\nX-Trace: 1\nConnection: close, x-trace", Err((400, "header X-Trace: connection"))),
        ("GET /v1/items\nX-Trace: 1\nConnection: close, x-other", Ok(())),
        ("GET /v1/items\nX-Trace: 1\nX-Trace: 2", Err((400, "header X-Trace: once"))),
        ("GET /v1/items\nCookie: a=1; session=beef", Ok(())),
        ("GET /v1/items\nCookie: session=no", Err((400, "cookie session: pattern"))),
        ("GET /v1/items/latest", Ok(())),
        ("GET /v1/items/123e4567-e89b-12d3-a456-426614174000", Ok(())),
        ("GET /v1/items/1", Err((400, "path id: format"))),
        ("GET /v1/reports/a.b.csv", Ok(())),
        ("GET /v1/reports/a.txt", Err((400, "path format: enum"))),
        ("GET /v1/reports/.csv", Err((404, ""))),
        ("GET /v1/points/1.5,2", Ok(())),
        ("GET /v1/points/1", Err((400, "path point: minItems"))),
    ] {
        check(&contract, request, expect);
    }
    let found = contract.find(&Method::GET, "/v1/items/latest", "", &HeaderMap::new()).unwrap();
    contract.note_call(found.operation);
    assert_eq!(contract.deprecated_calls().collect::<Vec<_>>(), [("GET /items/latest", 1)]);
    assert_eq!(contract.name(found.operation), "GET /items/latest");
}

#[test]
fn b07_bodies() {
    let contract = compile(SHOP).unwrap();
    let json = |body: &str| format!("POST /v1/items\nContent-Type: application/json\n\n{body}");
    let pet = |body: &str| {
        format!("PATCH /v1/items/123e4567-e89b-12d3-a456-426614174000\nContent-Type: application/json\n\n{body}")
    };
    let form = |body: &str| format!("POST /v1/items\nContent-Type: application/x-www-form-urlencoded\n\n{body}");
    for (request, expect) in [
        (json(r#"{"name":"a","price":0.5,"note":null}"#), Ok(())),
        (json(r#"{"name":"a","id":"1"}"#), Err((422, "body: readOnly at /id"))),
        (
            json(r#"{"name":"","price":0,"x":1}"#),
            Err((422, "body: minLength at /name; body: minimum at /price; body: additionalProperties at /x")),
        ),
        (json("{}"), Err((422, "body: required"))),
        (json("{"), Err((400, "body: EOF while parsing an object at line 1 column 1"))),
        (json(""), Err((422, "body: required"))),
        (form("name=a&price=2"), Ok(())),
        (form("name=a&price=x"), Err((422, "body: type at /price"))),
        (form("name=a&name=b"), Err((422, "body: once at /name"))),
        (form("name=%ff"), Err((422, "body: encoding at /name"))),
        (pet(r#"{"kind":"kitty","lives":9}"#), Ok(())),
        (pet(r#"{"kind":"Cat","lives":10}"#), Err((422, "body: maximum at /lives"))),
        (pet(r#"{"kind":"Dog"}"#), Err((422, "body: required"))),
        (pet(r#"{"kind":"Cow"}"#), Err((422, "body: discriminator"))),
        ("POST /v1/items\nContent-Type: text/plain\n\nhello".to_owned(), Ok(())),
        ("POST /v1/items\nContent-Type: text/plain\n\nhello!".to_owned(), Err((422, "body: maxLength"))),
        ("POST /v1/items\nContent-Type: application/octet-stream\n\nxx".to_owned(), Ok(())),
        (
            "POST /v1/items\nContent-Type: application/xml\n\n<a/>".to_owned(),
            Err((415, "the gateway cannot judge this Content-Type")),
        ),
        (
            "POST /v1/items\nContent-Type: application/yaml\n\na: 1".to_owned(),
            Err((415, "Content-Type is not declared")),
        ),
        ("POST /v1/items\n\n{}".to_owned(), Err((415, "no Content-Type"))),
        ("GET /v1/items\nContent-Type: application/json\n\n{}".to_owned(), Err((415, "the operation takes no body"))),
        ("PATCH /v1/items/123e4567-e89b-12d3-a456-426614174000".to_owned(), Ok(())),
    ] {
        check(&contract, &request, expect);
    }
}

#[test]
fn b05_multipart() {
    let contract = compile(SHOP).unwrap();
    let part = |name: &str, head: &str, content: &str| {
        format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"{head}\r\n\r\n{content}\r\n")
    };
    let png = "; filename=\"a.png\"\r\nContent-Type: image/png";
    let meta = part("meta", "\r\nContent-Type: application/json", r#"{"name":"a"}"#);
    let gif = part("file", "; filename=\"a.gif\"\r\nContent-Type: image/gif", "GIF89a");
    let jpeg = part("file", "; filename=\"a.jpg\"\r\nContent-Type: image/jpeg", "no image");
    for (parts, expect) in [
        (vec![meta.clone(), gif.clone()], Ok(())),
        // Without a type, a part is text, which is not declared for this one.
        (vec![meta.clone(), part("file", "", "x")], Err((422, "body: contentType at /file"))),
        (vec![meta.clone()], Err((422, "body: required"))),
        (vec![meta.clone(), meta.clone(), gif.clone()], Err((422, "body: once at /meta"))),
        (vec![meta.clone(), jpeg], Err((422, "body: contentType at /file"))),
        (vec![meta.clone(), part("file", png, "no image")], Err((422, "body: contentType at /file"))),
        (
            vec![meta.clone(), part("file", "\r\nContent-Type: text/html", "x")],
            Err((422, "body: contentType at /file")),
        ),
        (vec![meta.clone(), gif.clone(), part("count", "", "3")], Ok(())),
        (vec![meta.clone(), gif.clone(), part("count", "", "three")], Err((422, "body: type at /count"))),
        (vec![meta.clone(), gif.clone(), part("other", "", "3")], Err((422, "body: additionalProperties at /other"))),
        (vec![part("meta", "", "{"), gif], Err((422, "body: type at /meta"))),
        (
            vec![meta, part("file", "; filename=\"../a\"", "x")],
            Err((400, "body: filename: the name of a file must be one name of at most 255 bytes")),
        ),
    ] {
        let body = format!("{}--xx--\r\n", parts.concat());
        check(&contract, &format!("POST /v1/items\nContent-Type: multipart/form-data; boundary=xx\n\n{body}"), expect);
    }
}

#[test]
fn what_is_refused_at_load() {
    let with = |paths: &str| format!("openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths:\n{paths}\n");
    let get = |rest: &str| with(&format!("  /a:\n    get:\n      responses: {{}}\n      {rest}"));
    let parameter = |rest: &str| get(&format!("parameters: [{{name: a, in: query, {rest}}}]"));
    let body = |range: &str| format!("{{requestBody: {{content: {{'{range}': {{}}}}}}}}");
    for (document, place, message) in [
        ("swagger: '2.0'".to_owned(), "shop.yaml#", "Swagger 2"),
        ("openapi: 4.0.0".to_owned(), "shop.yaml#", "3.0, 3.1 and 3.2"),
        (String::new(), "/api/shop.yaml", "the document is empty"),
        ("# soon\n".to_owned(), "", "the document is empty"),
        ("openapi: 3.1.0\nservers: [{url: v1}]".to_owned(), "shop.yaml#/servers/0", "or --base-path"),
        ("a: [".to_owned(), "/api/shop.yaml", "not acceptable as YAML"),
        ("openapi: 3.1.0\nopenapi: 3.1.0".to_owned(), "/api/shop.yaml", "duplicate member"),
        ("openapi: 3.1.0\na: &a {b: 1}\nc: {<<: *a}".to_owned(), "/api/shop.yaml", "merge key"),
        (parameter("style: matrix, schema: {}"), "shop.yaml#/paths/~1a/get/parameters/0", "no style \"matrix\""),
        (parameter("schema: {$ref: 'other.yaml#/a'}"), "", "other.yaml"),
        (parameter("schema: {$ref: 'https://example.com/a'}"), "", "example.com"),
        (parameter("schema: {$ref: '#/components/schemas/None'}"), "", "None"),
        (parameter("schema: {type: strin}"), "", "strin"),
        (parameter("schema: {pattern: '(a)\\2(?=b)'}"), "", "looks around or back"),
        (
            parameter("schema: {properties: {a/b: {requierd: [a]}}}"),
            "shop.yaml#/paths/~1a/get/parameters/0/schema/properties/a~1b/requierd",
            "did you mean \"required\"",
        ),
        (parameter("requird: true, schema: {}"), "shop.yaml#/paths/~1a/get/parameters/0", "did you mean \"required\""),
        (parameter("content: {application/xml: {schema: {}}}"), "", "application/xml"),
        (get("parameters: [{$ref: '#/x'}]"), "shop.yaml#/paths/~1a/get/parameters/0", "leads nowhere"),
        (get("security: [{none: []}]"), "shop.yaml#/paths/~1a/get/security/0", "no security scheme"),
        (with("  a: {get: {}}"), "", "begins with a slash"),
        (with("  /{a}/{a}: {get: {}}"), "", "twice"),
        (
            with("  /{a}: {get: {}}\n  /{b}: {get: {security: []}}"),
            "",
            "no request tells it from \"GET /{a}\", and they do not ask for the same `security`",
        ),
        (with("  /{a}: {get: {}}\n  /{b}: {get: {x-gateway-limits: [few]}}"), "", "the same limits"),
        (
            with(&format!("  /{{a}}: {{put: {{}}}}\n  /{{b}}: {{put: {}}}", body("application/json"))),
            "",
            "their bodies differ",
        ),
        (
            with(&format!("  /{{a}}: {{put: {}}}\n  /{{b}}: {{put: {}}}", body("text/plain"), body("text/*"))),
            "",
            "their bodies differ",
        ),
    ] {
        let fault = compile(&document).err().unwrap_or_else(|| panic!("{document}"));
        assert!(fault.message.contains(message), "{fault:?}: {message}");
        assert!(place.is_empty() || fault.place == place, "{fault:?}: {place}");
    }
}

#[test]
fn b06_aliases_that_grow_are_refused() {
    let mut text = "openapi: 3.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(compile(&text).unwrap_err().message.contains("not acceptable as YAML"));
    let long = format!("openapi: 3.1.0\na: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1_000].join(", "));
    assert!(compile(&long).unwrap_err().message.contains("not acceptable as YAML"));
}

#[test]
fn versions_differ_as_they_say() {
    let document = |version: &str, schema: &str| {
        format!(
            "openapi: {version}\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    post:\n      requestBody:\n        \
             content: {{application/json: {{schema: {schema}}}}}\n      responses: {{}}\n"
        )
    };
    for (version, schema, body, is_valid) in [
        ("3.0.1", "{type: string, nullable: true}", "null", true),
        ("3.1.0", "{type: [string, 'null']}", "null", true),
        ("3.1.0", "{type: string}", "null", false),
        ("3.0.1", "{type: number, minimum: 1, exclusiveMinimum: true}", "1", false),
        ("3.1.0", "{type: number, exclusiveMinimum: 1}", "1", false),
        ("3.0.1", "{type: integer, format: int32}", "2147483648", false),
        ("3.2.0", "{const: 1}", "1", true),
        ("3.2.0", "{prefixItems: [{const: 1}], items: false}", "[1, 2]", false),
        ("3.0.1", "{type: string, format: byte}", "\"YQ==\"", true),
        ("3.0.1", "{type: string, format: byte}", "\"?\"", false),
    ] {
        let contract = compile(&document(version, schema)).unwrap();
        let verdict = judge(&contract, &format!("POST /a\nContent-Type: application/json\n\n{body}"));
        assert_eq!(verdict.is_ok(), is_valid, "{version} {schema} {body} {verdict:?}");
    }
}

#[test]
fn children_are_told_by_the_discriminator_of_their_parent() {
    let text = "openapi: 3.0.0
info: {title: a, version: '1'}
paths:
  /a:
    post:
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Base'}}}}
      responses: {}
components:
  schemas:
    Base: {type: object, required: [kind], properties: {kind: {type: string}}, discriminator: {propertyName: kind}}
    One: {allOf: [{$ref: '#/components/schemas/Base'}, {type: object, required: [a]}]}
    Two: {allOf: [{$ref: '#/components/schemas/Base'}, {type: object, properties: {b: {type: integer}}}]}
";
    let contract = compile(text).unwrap();
    for (body, expect) in [
        (r#"{"kind":"Base"}"#, Ok(())),
        (r#"{"kind":"One","a":1}"#, Ok(())),
        (r#"{"kind":"One"}"#, Err((422, "body: required"))),
        (r#"{"kind":"Two","b":"x"}"#, Err((422, "body: type at /b"))),
        (r#"{"kind":"Three"}"#, Err((422, "body: discriminator"))),
    ] {
        check(&contract, &format!("POST /a\nContent-Type: application/json\n\n{body}"), expect);
    }
}

#[test]
fn operations_of_one_path_are_told_apart_by_what_stands_behind_it() {
    let text = "openapi: 3.0.0
info: {title: a, version: '1'}
paths:
  /#Action=Create:
    get: {parameters: [{name: Action, in: query, required: true, schema: {type: string}}, {name: n, in: query, required: true, schema: {type: integer}}], responses: {}}
  /#Action=Delete:
    get: {parameters: [{name: Action, in: query, required: true, schema: {type: string}}], responses: {}}
";
    let contract = compile(text).unwrap();
    for (request, expect) in [
        ("GET /?Action=Create&n=1", Ok(())),
        ("GET /?Action=Create", Err((400, "query n: required"))),
        ("GET /?Action=Delete", Ok(())),
        ("GET /?Action=Other", Err((404, ""))),
        ("GET /?Action=%44elete", Ok(())),
        ("GET /?A%63tion=Delete", Ok(())),
        ("GET /?Action=Create&Action=Delete&n=1", Err((400, "query Action: once"))),
        ("GET /?Action=Delete&%41ction=Create", Err((400, "query Action: once"))),
        ("GET /?Action=Delete&a%zz=1", Err((400, "query Action: encoding"))),
        ("GET /?Action=%ff", Err((400, "query Action: encoding"))),
    ] {
        check(&contract, request, expect);
    }
}

#[test]
fn security_becomes_what_the_gateway_enforces() {
    use crate::settings::{
        auth::{Method, Methods},
        authz::Requirement,
    };
    let schemes = "components: {securitySchemes: {bearer: {type: http, scheme: bearer}, basic: {type: http, scheme: basic}, \
                   key: {type: apiKey, in: header, name: X-Key}, odd: {type: apiKey, in: query, name: k}, tls: {type: mutualTLS}}}";
    let methods = [Method::ApiKey, Method::Basic, Method::Certificate, Method::Jwt];
    let mapped = [("odd".to_owned(), Method::Jwt)];
    let any = |methods: &[Method]| Methods::Any(methods.to_vec());
    for (security, expect) in [
        ("[]", Ok((Requirement::Public, any(&methods), vec![]))),
        ("[{}, {bearer: []}]", Ok((Requirement::Public, any(&methods), vec![]))),
        ("[{bearer: [a, b]}]", Ok((Requirement::Authenticated, any(&[Method::Jwt]), vec!["a", "b"]))),
        ("[{key: []}, {basic: []}]", Ok((Requirement::Authenticated, any(&[Method::ApiKey, Method::Basic]), vec![]))),
        (
            "[{tls: [], bearer: [a]}]",
            Ok((Requirement::Authenticated, Methods::All(vec![Method::Jwt, Method::Certificate]), vec!["a"])),
        ),
        ("[{odd: []}]", Ok((Requirement::Authenticated, any(&[Method::Jwt]), vec![]))),
        ("[{bearer: [a]}, {key: []}]", Err("other scopes")),
        ("[{bearer: []}, {key: [], tls: []}]", Err("several schemes at once")),
        ("[{bearer: [], basic: []}]", Err("two credentials")),
    ] {
        let text = format!(
            "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths: {{/a: {{get: {{security: {security}, responses: {{}}}}}}}}\n{schemes}\n"
        );
        let contract = compile(&text).unwrap();
        let gateway = Gateway { methods: &methods, key_header: Some("x-key"), mapped: &mapped };
        let demand = contract.rules()[0].demand(contract.schemes(), &gateway);
        match (demand, expect) {
            (Ok(demand), Ok((requirement, methods, scopes))) => {
                assert_eq!((demand.requirement, demand.methods), (requirement, methods), "{security}");
                assert_eq!(demand.scopes, scopes, "{security}");
            }
            (Err(message), Err(expect)) => assert!(message.contains(expect), "{security}: {message}"),
            (demand, expect) => panic!("{security}: {demand:?} {expect:?}"),
        }
    }
    let none = [Method::Basic];
    let text = format!(
        "openapi: 3.1.0\ninfo: {{title: a, version: '1'}}\npaths: {{/a: {{get: {{security: [{{bearer: []}}], responses: {{}}}}}}}}\n{schemes}\n"
    );
    let contract = compile(&text).unwrap();
    let gateway = Gateway { methods: &none, key_header: None, mapped: &[] };
    assert!(contract.rules()[0].demand(contract.schemes(), &gateway).unwrap_err().contains("configure [jwt]"));
}
