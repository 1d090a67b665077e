//! Files in multipart bodies, and bodies that are files: which schemas are of them, and what they may ask.

use super::*;

const SCHEMAS: &str = "components:
  schemas:
    Blob: {type: string, format: binary}
    Form: {type: object, properties: {doc: {type: string, format: binary, maxLength: 10, pattern: '^h'}}}
";

fn document(version: &str, content: &str) -> String {
    format!(
        "openapi: {version}\ninfo: {{title: a, version: '1'}}\npaths:\n  /a:\n    post:\n      requestBody: {{content: \
         {{{content}}}}}\n      responses: {{}}\n{SCHEMAS}"
    )
}

fn form(version: &str, schema: &str) -> Contract {
    compile(&document(version, &format!("multipart/form-data: {{schema: {schema}}}"))).unwrap()
}

/// A request with files of these lengths as `doc`.
fn upload(lengths: &[usize]) -> String {
    let head =
        "Content-Disposition: form-data; name=\"doc\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream";
    let parts: String =
        lengths.iter().map(|length| format!("--xx\r\n{head}\r\n\r\n{}\r\n", "x".repeat(*length))).collect();
    format!("POST /a\nContent-Type: multipart/form-data; boundary=xx\n\n{parts}--xx--\r\n")
}

fn text() -> &'static str {
    "POST /a\nContent-Type: multipart/form-data; boundary=xx\n\n--xx\r\nContent-Disposition: form-data; \
     name=\"doc\"\r\n\r\nhello\r\n--xx--\r\n"
}

fn warnings(contract: &Contract, part: &str) -> usize {
    contract.warnings().iter().filter(|warning| warning.message.contains(part)).count()
}

#[test]
fn schemas_of_files() {
    let blob = "{$ref: '#/components/schemas/Blob'}";
    for (version, schema, is_file, is_mixed) in [
        ("3.0.3", "{type: string, format: binary, nullable: true}", true, false),
        ("3.0.3", "{allOf: [BLOB], description: a}", true, false),
        ("3.0.3", "{allOf: [{allOf: [BLOB]}, {description: a}]}", true, false),
        ("3.0.3", "{anyOf: [{allOf: [BLOB]}, {type: array, items: BLOB}]}", true, false),
        ("3.0.3", "{}", true, false),
        ("3.1.0", "{anyOf: [{type: string, format: binary}, {type: 'null'}]}", true, false),
        ("3.1.0", "{anyOf: [{type: array, items: {type: string, format: binary}}, {type: 'null'}]}", true, false),
        ("3.1.0", "{type: array, items: {anyOf: [BLOB, {type: 'null'}]}}", true, false),
        ("3.1.0", "{type: [array, 'null'], items: BLOB}", true, false),
        ("3.1.0", "{type: [string, 'null'], format: binary}", true, false),
        ("3.1.0", "{$ref: '#/components/schemas/Blob', description: a}", true, false),
        ("3.1.0", "{oneOf: [{type: string, format: binary, maxLength: 9}, BLOB]}", true, false),
        ("3.1.0", "{type: string, contentMediaType: application/octet-stream}", true, false),
        ("3.1.0", "{type: [string, 'null'], contentEncoding: base64}", true, false),
        ("3.1.0", "{anyOf: [BLOB, {type: string, format: uri}]}", false, true),
        ("3.1.0", "{oneOf: [{type: object}, BLOB]}", false, true),
        ("3.1.0", "{type: string}", false, false),
        ("3.1.0", "{anyOf: [{type: string}, {type: 'null'}]}", false, false),
        ("3.1.0", "{maxLength: 9}", false, false),
        ("3.1.0", "{type: array, items: {type: string}}", false, false),
    ] {
        let schema = schema.replace("BLOB", blob);
        let contract = form(version, &format!("{{type: object, properties: {{doc: {schema}}}}}"));
        let verdict = judge(&contract, &upload(&[5]));
        assert_eq!(verdict.is_ok(), is_file, "{schema}: {verdict:?}");
        assert_eq!(warnings(&contract, "a file by one alternative"), usize::from(is_mixed), "{schema}");
        if !is_file && !is_mixed {
            check(&contract, text(), Ok(()));
        }
    }
}

#[test]
fn files_are_found_wherever_the_body_declares_them() {
    let doc = "{type: object, required: [doc], properties: {doc: {type: string, format: binary}}}";
    for (schema, is_file) in [
        (format!("{{allOf: [{{allOf: [{doc}]}}, {{type: object}}]}}"), true),
        (format!("{{oneOf: [{doc}, {{type: object, required: [url], properties: {{url: {{type: string}}}}}}]}}"), true),
        (format!("{{anyOf: [{doc}, {{type: object, properties: {{doc: {{type: string}}}}}}]}}"), false),
    ] {
        let contract = form("3.1.0", &schema);
        let verdict = judge(&contract, &upload(&[5]));
        assert_eq!(verdict.is_ok(), is_file, "{schema}: {verdict:?}");
        assert_eq!(warnings(&contract, "a file by one alternative"), usize::from(!is_file), "{schema}");
    }
}

#[test]
fn files_have_lengths_and_no_text() {
    let too_large = Err((422, "body: maxSize at /doc"));
    for (schema, lengths, expect, unchecked) in [
        ("{type: string, format: binary, minLength: 100}", &[100][..], Ok(()), 0),
        ("{type: string, format: binary, minLength: 100}", &[99], Err((422, "body: minSize at /doc")), 0),
        ("{type: string, format: binary, maxLength: 10}", &[10], Ok(()), 0),
        ("{type: string, format: binary, maxLength: 10.0}", &[11], too_large, 0),
        ("{anyOf: [{type: string, format: binary, maxLength: 10}, {type: 'null'}]}", &[11], too_large, 0),
        ("{allOf: [{$ref: '#/components/schemas/Blob'}, {maxLength: 10}]}", &[11], too_large, 0),
        ("{$ref: '#/components/schemas/Blob', maxLength: 10}", &[11], too_large, 0),
        ("{oneOf: [{format: binary, maxLength: 10}, {format: binary, maxLength: 20}]}", &[20], Ok(()), 0),
        ("{oneOf: [{format: binary, maxLength: 10}, {format: binary, maxLength: 20}]}", &[21], too_large, 0),
        ("{type: array, items: {format: binary, maxLength: 10}, maxItems: 2, uniqueItems: true}", &[5, 5], Ok(()), 1),
        ("{type: array, items: {format: binary, maxLength: 10}}", &[5, 11], too_large, 0),
        ("{type: array, items: {format: binary}, maxItems: 2}", &[5, 5, 5], Err((422, "body: maxItems at /doc")), 0),
        ("{type: string, format: binary, pattern: '^a', enum: [b], const: b}", &[5], Ok(()), 3),
        ("{format: binary, not: {maxLength: 10}}", &[5], Ok(()), 1),
    ] {
        let contract = form("3.1.0", &format!("{{type: object, properties: {{doc: {schema}}}}}"));
        check(&contract, &upload(lengths), expect);
        assert_eq!(warnings(&contract, "of a file is not checked"), unchecked, "{schema}: {:?}", contract.warnings());
    }
    let wrong = document("3.1.0", "application/octet-stream: {schema: {type: string, format: binary, maxLength: '5'}}");
    assert!(compile(&wrong).unwrap_err().message.contains("\"maxLength\" must be a whole number"));
}

/// Alternatives that leave a gap between their sizes, and two that are independent of each other.
#[test]
fn sizes_of_alternatives_are_judged_exactly() {
    let [too_small, too_large] = ["minSize", "maxSize"].map(|rule| Some(format!("body: {rule} at /doc")));
    let between = Some("body: size at /doc".to_owned());
    let two_choices = "anyOf: [{maxLength: 10}, {minLength: 20, maxLength: 30}], \
                       oneOf: [{minLength: 5, maxLength: 9}, {minLength: 25}]";
    for (schema, sizes) in [
        (
            "anyOf: [{maxLength: 10}, {minLength: 20, maxLength: 30}]",
            [(10, None), (11, between.clone()), (19, between.clone()), (20, None), (31, too_large.clone())].as_slice(),
        ),
        (
            two_choices,
            &[
                (4, too_small),
                (5, None),
                (9, None),
                (10, between.clone()),
                (24, between.clone()),
                (25, None),
                (30, None),
                (31, too_large),
            ],
        ),
        ("minLength: 2, maxLength: 1", &[(1, between.clone()), (2, between)]),
    ] {
        let part = form("3.1.0", &format!("{{type: object, properties: {{doc: {{format: binary, {schema}}}}}}}"));
        let whole = format!("application/octet-stream: {{schema: {{type: string, format: binary, {schema}}}}}");
        let whole = compile(&document("3.1.0", &whole)).unwrap();
        for (size, expect) in sizes {
            let told = judge(&part, &upload(&[*size])).err().map(|(_, detail)| detail);
            assert_eq!(told, *expect, "{schema}: {size}");
            let request = format!("POST /a\nContent-Type: application/octet-stream\n\n{}", "x".repeat(*size));
            let told = judge(&whole, &request).err().map(|(_, detail)| detail);
            let expect = expect.as_ref().map(|detail| detail.replace(" at /doc", ""));
            assert_eq!(told, expect, "{schema}: {size}");
        }
    }
}

/// Alternatives of the body say how large a file may be, and other members which of them holds.
#[test]
fn sizes_by_alternatives_of_the_body() {
    let doc = |rest: &str| format!("properties: {{doc: {{type: string, format: binary, {rest}}}}}");
    let kind = |kind: &str, rest: &str| {
        format!("{{required: [kind], properties: {{kind: {{const: {kind}}}, doc: {{format: binary, {rest}}}}}}}")
    };
    let (small, large) = (kind("small", "maxLength: 10"), kind("large", "minLength: 11, maxLength: 30"));
    let by_kind = format!("{{type: object, oneOf: [{small}, {large}]}}");
    let choice = |one: &str, other: &str| format!("{{{}}}, {{{}}}", doc(one), doc(other));
    let twice = format!(
        "{{type: object, anyOf: [{}], allOf: [{{anyOf: [{}]}}]}}",
        choice("maxLength: 10", "maxLength: 20"),
        choice("maxLength: 5", "maxLength: 100")
    );
    let if_small = "{type: object, properties: {doc: {type: string, format: binary}}, \
                    if: {properties: {doc: {maxLength: 10}}}, then: {required: [kind]}}";
    for (schema, kind, size, is_valid) in [
        (&*by_kind, Some("small"), 10, true),
        (&by_kind, Some("small"), 11, false),
        (&by_kind, Some("large"), 10, false),
        (&by_kind, Some("large"), 11, true),
        (&by_kind, Some("large"), 31, false),
        (&twice, None, 20, true),
        (&twice, None, 21, false),
        (if_small, None, 10, false),
        (if_small, None, 11, true),
        (if_small, Some("a"), 10, true),
    ] {
        let contract = form("3.1.0", schema);
        let text = |kind| format!("--xx\r\nContent-Disposition: form-data; name=\"kind\"\r\n\r\n{kind}\r\n");
        let request = upload(&[size]).replacen("--xx", &format!("{}--xx", kind.map(text).unwrap_or_default()), 1);
        let verdict = judge(&contract, &request);
        assert_eq!(verdict.is_ok(), is_valid, "{schema} {kind:?} {size}: {verdict:?}");
    }
}

/// As JSON, the member is a text.
#[test]
fn one_schema_of_files_and_of_json() {
    let schema = "{schema: {$ref: '#/components/schemas/Form'}}";
    let contract = compile(&document("3.0.3", &format!("multipart/form-data: {schema}, application/json: {schema}")));
    let contract = contract.unwrap();
    let json = |text: &str| format!("POST /a\nContent-Type: application/json\n\n{{\"doc\":\"{text}\"}}");
    check(&contract, &upload(&[10]), Ok(()));
    check(&contract, &upload(&[11]), Err((422, "body: maxSize at /doc")));
    check(&contract, &json("hello"), Ok(()));
    check(&contract, &json("xxxxx"), Err((422, "body: pattern at /doc")));
    check(&contract, &json("hello hello"), Err((422, "body: maxLength at /doc")));
}

#[test]
fn a_whole_body_that_is_a_file() {
    let content = "application/octet-stream: {schema: {type: string, format: binary, minLength: 2, maxLength: 5}}";
    let contract = compile(&document("3.0.3", content)).unwrap();
    let content_type = HeaderValue::from_static("application/octet-stream; charset=iso-8859-1");
    let operation = contract.find(&Method::POST, "/a", "", &HeaderMap::new()).unwrap().operation;
    let mut headers: HeaderMap = [(header::CONTENT_TYPE, content_type.clone())].into_iter().collect();
    for (body, expect) in
        [("hello", None), ("he", None), ("hello!", Some("body: maxSize")), ("h", Some("body: minSize"))]
    {
        // Of a known length, nobody has to read it.
        let told = |refusal: Refusal| refusal.detail.to_string();
        let known = contract.reading(operation, &headers, Some(body.len() as u64)).map_err(told);
        assert_eq!(known.as_ref().err().map(String::as_str), expect, "{body}");
        assert!(!matches!(known, Ok(BodyReading::Whole)), "{body}");
        assert!(matches!(contract.reading(operation, &headers, None), Ok(BodyReading::Whole)));
        let judged = contract.judge_body(operation, Some(&content_type), body.as_bytes()).map_err(told);
        assert_eq!(judged.err().as_deref(), expect, "{body}");
    }
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert!(matches!(contract.reading(operation, &headers, Some(600)), Ok(BodyReading::Whole)));
}
