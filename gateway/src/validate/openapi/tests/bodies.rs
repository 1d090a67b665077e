//! How much work bodies are worth, and the types of their parts.

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
