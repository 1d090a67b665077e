//! How much work bodies are worth, the types and headers of their parts, and what else a document does not declare.

use super::*;

#[test]
fn b06_lines_share_the_work_of_their_body() {
    let text = "openapi: 3.2.0
info: {title: a, version: '1'}
paths:
  /a:
    post:
      requestBody: {content: {application/jsonl: {itemSchema: {type: array, items: {type: integer}}}}}
      responses: {}
";
    let contract = compile(text).unwrap();
    let found = contract.find(&Method::POST, "/a", "", &HeaderMap::new()).unwrap();
    let content_type = HeaderValue::from_static("application/jsonl");
    let limits = schema::WorkLimits { steps: 100, depth: 128 };
    for (lines, expect) in [(1, None), (2, None), (1_000, Some(Reject::BodyTooComplex))] {
        let body = "[1, 2, 3]\n".repeat(lines);
        let judged = contract.judge_within(found.operation, Some(&content_type), body.as_bytes(), limits);
        assert_eq!(judged.err().map(|refusal| refusal.reject), expect, "{lines}");
    }
}

#[test]
fn b05_a_part_without_a_type_is_text_or_read_as_json() {
    let text = "openapi: 3.2.0
info: {title: a, version: '1'}
paths:
  /a:
    post:
      requestBody:
        content:
          multipart/form-data:
            schema:
              type: object
              properties:
                data: {type: object, required: [b]}
                note: {type: string}
                plain: {type: string}
                many: {type: array, items: {type: string}}
                scan: {type: string, format: binary}
            encoding:
              data: {contentType: application/json}
              note: {contentType: 'text/plain, text/markdown'}
              scan: {contentType: application/pdf}
      responses: {}
";
    let contract = compile(text).unwrap();
    let charset = Err((415, "charset of a part is not UTF-8"));
    for (name, content, expect) in [
        ("data", "{\"b\": 1}", Ok(())),
        ("data", "{}", Err((422, "body: required at /data"))),
        ("note", "hello", Ok(())),
        ("plain", "\"a\"", Ok(())),
        ("plain\"\r\nContent-Type: application/json\r\nX: \"", "\"a\"", Err((422, "body: contentType at /plain"))),
        ("plain\"\r\nContent-Type: text/plain; charset=utf-8\r\nX: \"", "a", Ok(())),
        ("plain\"\r\nContent-Type: text/plain; charset=us-ascii\r\nX: \"", "a", Ok(())),
        ("plain\"\r\nContent-Type: text/plain; charset=iso-8859-1\r\nX: \"", "a", charset),
        ("data\"\r\nContent-Type: application/json; charset=utf-16\r\nX: \"", "{\"b\": 1}", charset),
        ("scan\"\r\nContent-Type: application/pdf; charset=iso-8859-1\r\nX: \"", "%PDF-1.7", Ok(())),
        ("_charset_", "iso-8859-1", charset),
        ("_charset_", "UTF-8", Ok(())),
        ("many\"\r\nContent-Type: application/json\r\nX: \"", "[\"a\"]", Ok(())),
        ("scan", "%PDF-1.7", Err((422, "body: contentType at /scan"))),
        ("scan\"\r\nContent-Type: application/pdf\r\nX: \"", "%PDF-1.7", Ok(())),
        ("scan\"\r\nContent-Type: text/html\r\nX: \"", "%PDF-1.7", Err((422, "body: contentType at /scan"))),
    ] {
        let part = format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n--xx--\r\n");
        check(&contract, &format!("POST /a\nContent-Type: multipart/form-data; boundary=xx\n\n{part}"), expect);
    }
}

#[test]
fn b05_headers_of_parts() {
    let text = "openapi: 3.1.0
info: {title: a, version: '1'}
paths:
  /a:
    post:
      requestBody:
        content:
          multipart/form-data:
            schema: {type: object, properties: {scan: {type: string, format: binary}, note: {type: string}}}
            encoding:
              scan:
                contentType: application/pdf
                headers:
                  X-Page: {required: true, schema: {type: integer, minimum: 1}}
                  X-Tags: {schema: {type: array, items: {enum: [a, b]}}}
                  Content-Type: {required: true, schema: {const: ignored}}
                  X-Meta: {content: {application/json: {schema: {type: object, required: [by]}}}}
      responses: {}
";
    let contract = compile(text).unwrap();
    assert_eq!(contract.warnings(), []);
    for (head, expect) in [
        ("X-Page: 3", Ok(())),
        ("x-page:3\r\nX-Tags: a, b\r\nX-Meta: {\"by\": 1}", Ok(())),
        ("X-Other: 3", Err((422, "body: required at /scan"))),
        ("X-Page: 0", Err((422, "body: minimum at /scan"))),
        ("X-Page: three", Err((422, "body: type at /scan"))),
        ("X-Page: 3\r\nX-Page: 4", Err((422, "body: once at /scan"))),
        ("X-Page: 3\r\nX-Tags: a, c", Err((422, "body: enum at /scan"))),
        ("X-Page: 3\r\nX-Meta: {}", Err((422, "body: required at /scan"))),
        ("X-Page: 3\r\nX-Meta: {", Err((422, "body: json at /scan"))),
    ] {
        let disposition = "Content-Disposition: form-data; name=\"scan\"; filename=\"a.pdf\"";
        let part =
            format!("--xx\r\n{disposition}\r\nContent-Type: application/pdf\r\n{head}\r\n\r\n%PDF-1.7\r\n--xx--\r\n");
        check(&contract, &format!("POST /a\nContent-Type: multipart/form-data; boundary=xx\n\n{part}"), expect);
    }
    // A part that is not there needs no headers.
    let part = "--xx\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\na\r\n--xx--\r\n";
    check(&contract, &format!("POST /a\nContent-Type: multipart/form-data; boundary=xx\n\n{part}"), Ok(()));
    let wrong =
        compile(&text.replace("required: true, schema: {type: integer", "requierd: true, schema: {type: integer"));
    assert!(wrong.unwrap_err().message.contains("did you mean \"required\"?"));
}

#[test]
fn headers_and_cookies_that_nobody_declares() {
    let text = "openapi: 3.1.0
info: {title: a, version: '1'}
paths:
  /a:
    get:
      security: [{key: [], session: []}]
      parameters:
        - {name: X-Mode, in: header, schema: {type: string}}
        - {name: theme, in: cookie, schema: {type: string}}
      responses: {}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
    session: {type: apiKey, in: cookie, name: sid}
";
    let reading = DocumentReading {
        known_headers: Some(vec![HeaderName::from_static("x-tenant")]),
        refuses_unknown_cookies: true,
        ..DocumentReading::default()
    };
    let contract = compile_as(text, &reading).unwrap();
    for (line, expect) in [
        ("X-Mode: a", Ok(())),
        ("X-Key: a", Ok(())),
        ("X-Tenant: a", Ok(())),
        ("Accept: a", Ok(())),
        ("X-Debug: a", Err((400, "header x-debug: unknown"))),
        ("Cookie: theme=a; sid=b", Ok(())),
        ("Cookie: theme=a; other=b", Err((400, "cookie other: unknown"))),
    ] {
        check(&contract, &format!("GET /a\n{line}"), expect);
        check(&compile(text).unwrap(), &format!("GET /a\n{line}"), Ok(()));
    }
}
