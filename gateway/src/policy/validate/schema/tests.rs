//! What schemas compile, and what bodies match.

use super::*;

mod formats;
mod hostile;
mod numbers;
mod same;
mod suite;

fn plain(draft: Draft) -> Dialect {
    Dialect { draft, formats: Formats::Annotate, openapi: None }
}

fn file(text: &str) -> NamedFile {
    NamedFile { path: "item.json".into(), bytes: text.as_bytes().into() }
}

#[track_caller]
fn check(schema: &str, body: &str, expect: Option<(Reject, &str)>) {
    let schema = Schema::new(&file(schema), Formats::Annotate).unwrap();
    let content_type = HeaderValue::from_static("application/json");
    let verdict = schema.validate_at_once(Some(&content_type), body.as_bytes());
    let verdict = verdict.unwrap_or_else(|| schema.validate(body.as_bytes()));
    let verdict = verdict.as_ref().err().map(|refusal| (refusal.reject, &*refusal.detail));
    assert_eq!(verdict, expect, "{}", body.get(..60).unwrap_or(body));
}

#[track_caller]
fn check_fault(schema: &str, expect: &str) {
    let diagnostic = Schema::new(&file(schema), Formats::Annotate).unwrap_err();
    assert_eq!(diagnostic.key, "schema");
    assert!(diagnostic.message.contains(expect), "{diagnostic}");
}

const ITEM: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "when": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true}
    },
    "required": ["name"],
    "additionalProperties": false
}"#;

#[test]
fn what_matches() {
    let invalid = |detail| Some((Reject::InvalidBody, detail));
    for (body, expect) in [
        (r#"{"name":"a"}"#, None),
        (r#"{"name":"a","when":"2026-01-02T03:04:05Z","tags":["x","y"]}"#, None),
        ("{}", invalid("body: required")),
        ("[]", invalid("body: type")),
        (r#"{"name":1}"#, invalid("body: type at /name")),
        (r#"{"name":"A"}"#, invalid("body: pattern at /name")),
        (r#"{"name":"a","secret":"s"}"#, invalid("body: additionalProperties")),
        (r#"{"name":"a","when":"yesterday"}"#, invalid("body: format at /when")),
        (r#"{"name":"a","tags":["x",2]}"#, invalid("body: type at /tags/1")),
        (r#"{"name":"a","tags":["x","x"]}"#, invalid("body: uniqueItems at /tags")),
    ] {
        check(ITEM, body, expect);
    }
}

#[test]
fn b04_what_cannot_be_read_is_not_judged() {
    check(ITEM, r#"{"name":"a","name":"b"}"#, Some((Reject::BadRequest, "body: duplicate member at line 1 column 23")));
    check(ITEM, "", Some((Reject::BadRequest, "body: EOF while parsing a value at line 1 column 0")));
}

#[test]
fn b05_the_media_type_comes_first() {
    let schema = Schema::new(&file(ITEM), Formats::Annotate).unwrap();
    for content_type in [None, Some(HeaderValue::from_static("text/plain"))] {
        let refusal = schema.validate_at_once(content_type.as_ref(), b"not JSON").unwrap().unwrap_err();
        assert_eq!(refusal.reject, Reject::UnsupportedMediaType);
    }
}

#[test]
fn b06_what_is_no_schema() {
    for (schema, expect) in [
        ("", "not acceptable as JSON"),
        ("[]", "a schema is a JSON object"),
        ("true", "a schema is a JSON object"),
        (r#"{"type":"object","type":"array"}"#, "duplicate member"),
        (r#"{"type":"objekt"}"#, "objekt"),
        (r#"{"required":"name"}"#, "at /required"),
        (r#"{"$ref":"https://example.com/other.json"}"#, "example.com"),
        (r#"{"$ref":"file:///etc/passwd"}"#, "passwd"),
        (r#"{"$ref":"other.json"}"#, "other.json"),
        (r##"{"$ref":"#/$defs/none"}"##, "none"),
        (r#"{"$schema":"https://example.com/draft"}"#, "example.com"),
        (r#"{"pattern":"(a)\\2(?=b)"}"#, "looks around or back"),
        (r#"{"pattern":"(a"}"#, "no regular expression"),
        (r#"{"pattern":"(?=a)\\u{+41}"}"#, "no regular expression"),
        (r#"{"pattern":"((a{1000}){1000}){1000}"}"#, "too large"),
        (r#"{"items":{"multipleOf":0.10000000000000000001}}"#, "too many digits to divide by"),
        (r#"{"items":{"multipleOf":0.10000000000000000001}}"#, "at /items/multipleOf"),
        (r#"{"maximum":1e400}"#, "number out of range at line 1"),
        (r#"{"requierd":["name"]}"#, "unknown keyword at /requierd"),
        (r#"{"properties":{"a":{"items":[{"patern":"a"}]}}}"#, "unknown keyword at /properties/a/items/0/patern"),
        (r#"{"anyOf":[{"not":{"minimun":1}}]}"#, "unknown keyword at /anyOf/0/not/minimun"),
        (r#"{"$defs":{"a":{"additionalproperties":false}}}"#, "/$defs/a/additionalproperties"),
    ] {
        check_fault(schema, expect);
    }
    check_fault(&format!(r#"{{"description":"{}"}}"#, "x".repeat(MAX_SCHEMA)), "over 1048576 bytes");
}

#[test]
fn named_files_are_read_by_their_own_drafts() {
    let named = |name: &str, text: &str| NamedFile { path: format!("/{name}").into(), bytes: text.as_bytes().into() };
    // Draft 4 knows no `$id`, and 2020-12 has no arrays in `items`.
    let other = r#"{"$schema": "https://json-schema.org/draft/2019-09/schema", "items": [{"type": "integer"}],
        "$defs": {"inner": {"$id": "inner.json"}}, "properties": {"a": {"$ref": "inner.json"}}}"#;
    let others = [named("pair.json", other)];
    for (schema, body, is_valid) in [
        (r#"{"$schema": "http://json-schema.org/draft-04/schema#", "type": "array"}"#, "[7]", true),
        (r#"{"$ref": "pair.json"}"#, "[7]", true),
        (r#"{"$ref": "pair.json"}"#, "[true]", false),
    ] {
        let schema = Schema::beside(&named("item.json", schema), &others, Formats::Annotate).unwrap();
        assert_eq!(schema.validate(body.as_bytes()).is_ok(), is_valid, "{body}");
    }
}

#[test]
fn formats_that_nobody_knows() {
    for (schema, unknown) in [
        (r#"{"format":"date-tiem"}"#, &["date-tiem"][..]),
        (r#"{"items":{"format":"int32"},"anyOf":[{"format":"x"},{"format":"int32"}]}"#, &["int32", "x"]),
        (r#"{"anyOf":[{"format":"idn-email"},{"format":"idn-hostname"},{"format":"uuid"},{"format":"regex"}]}"#, &[]),
    ] {
        let annotated = Schema::new(&file(schema), Formats::Annotate).unwrap();
        assert_eq!(annotated.unknown_formats(), unknown);
        let strict = Schema::new(&file(schema), Formats::Strict);
        assert_eq!(strict.is_err(), !unknown.is_empty(), "{strict:?}");
        if let Err(diagnostic) = strict {
            assert!(diagnostic.message.contains("validate.formats is \"strict\""), "{diagnostic}");
        }
        let mismatch = unknown.is_empty().then_some((Reject::InvalidBody, "body: anyOf"));
        check(schema, r#""anything at all (""#, mismatch);
    }
    // Of a later draft, and checked all the same.
    let old = r#"{"$schema":"http://json-schema.org/draft-04/schema#","format":"uuid"}"#;
    check(old, r#""none""#, Some((Reject::InvalidBody, "body: format")));
}

#[test]
fn patterns_that_look_ahead_at_their_start() {
    let mismatch = Some((Reject::InvalidBody, "body: pattern"));
    for (pattern, text, expect) in [
        ("^(?!admin$)[a-z]+$", "admin", mismatch),
        ("^(?!admin$)[a-z]+$", "admins", None),
        ("^(?=.*[0-9])(?=.*[a-z])(?!.*[ ]).{3,}$", "a1b", None),
        ("^(?=.*[0-9])(?=.*[a-z])(?!.*[ ]).{3,}$", "abc", mismatch),
        ("^(?=.*[0-9])(?=.*[a-z])(?!.*[ ]).{3,}$", "a 1", mismatch),
        ("^(?![)|(])x", "x", None),
        ("^(?!a|b)", "b", mismatch),
        ("^(?!a|b)", "cb", None),
        ("^(?!a).b$|^c$", "ab", mismatch),
        ("^(?!a).b$|^c$", "bb", None),
        ("^(?!a).b$|^c$", "c", None),
        ("^[^\\\\000-\\\\037]+$", "a", None),
        ("^[^\\\\000-\\\\037]+$", "\t", mismatch),
    ] {
        check(&format!(r#"{{"pattern":"{pattern}"}}"#), &format!("{text:?}"), expect);
    }
    for (pattern, text, expect) in [
        ("(?!a)b", "ab", None),
        ("^a(?!b)", "ab", mismatch),
        ("^a(?!b)", "ac", None),
        ("(?<=a)b", "ab", None),
        ("(?<=a)b", "bb", mismatch),
        ("^(?!(a)\\\\1)[ab]*$", "aab", mismatch),
        ("^(?!(a)\\\\1)[ab]*$", "aba", None),
    ] {
        check(&format!(r#"{{"pattern":"{pattern}"}}"#), &format!("{text:?}"), expect);
    }
    // What nobody can tell of is refused, whichever way it is asked for.
    let (long, endless) = ("b".repeat(600), format!("{}d", "a".repeat(60)));
    for (schema, text) in [
        (r#"{"pattern":"a(?!b)"}"#, &long),
        (r#"{"not":{"pattern":"a(?!b)"}}"#, &long),
        (r#"{"anyOf":[{"pattern":"a(?!b)"},true]}"#, &long),
        (r#"{"not":{"pattern":"^(a|a)*\\1e"}}"#, &endless),
    ] {
        let schema = Schema::new(&file(schema), Formats::Annotate).unwrap();
        let refusal = schema.validate(format!("{text:?}").as_bytes()).unwrap_err();
        assert_eq!((refusal.reject, refusal.violations[0].rule), (Reject::InvalidBody, "pattern"), "{schema:?}");
        assert!(refusal.detail.contains("too long"), "{schema:?}: {}", refusal.detail);
    }
}

#[test]
fn names_of_members_and_values_are_no_keywords() {
    for schema in [
        r#"{"properties":{"requierd":{},"patern":true},"required":["requierd"]}"#,
        r#"{"enum":[{"requierd":1}],"const":{"patern":1},"default":{"minimun":1},"examples":[{"tpye":1}]}"#,
        r#"{"titles":[],"Description":"a","desription":"b","definition":{},"defs":{},"defualt":1}"#,
        r#"{"x-required":true,"x-internal":{"tpye":1},"owner":"us","nullable":true}"#,
    ] {
        Schema::new(&file(schema), Formats::Annotate).unwrap();
    }
}
